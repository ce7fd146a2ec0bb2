"""Answers that follow the task's form: in sampling and in scoring, on both engines."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.runs import config, metrics, weights
from support.tiny_models import random_model

from visual_rft.config.config import parse_config
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.errors import ConfigError
from visual_rft.policy.constrained import constrain
from visual_rft.policy.engine.constraint import Constraint
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.samplers.replies import decoding_of
from visual_rft.tasks import Detection, load_task
from visual_rft.tasks.parsing.completion import Failure, Parsed
from visual_rft.tasks.patterns import completion_pattern, pattern_of
from visual_rft.training.rft import train
from visual_rft.vision.coordinates import CoordinateSpace, Frame

RELATIVE = CoordinateSpace.RELATIVE_1000
TRUTHS = {
    "detection": {"boxes": [[10, 10, 50, 50], [0, 0, 100, 99]], "image_size": [100, 100]},
    "grounding": {"box": [10, 10, 50, 50], "image_size": [100, 100]},
    "classification": {"label": "red poppy (wild)"},
}


@pytest.mark.parametrize("think", [True, False])
@pytest.mark.parametrize("name", TRUTHS)
def test_the_gold_answer_follows_the_pattern_and_another_form_does_not(name, think):
    task = load_task(name, think=think)
    pattern = pattern_of(task, RELATIVE, ["red poppy (wild)", "lily"])
    gold = task.gold(TRUTHS[name])
    assert re.fullmatch(pattern, gold), gold
    assert not re.fullmatch(pattern, gold.replace("</answer>", " or so</answer>"))
    assert not re.fullmatch(pattern, gold + " ")


def test_the_gold_answer_without_objects():
    assert re.fullmatch(pattern_of(Detection(), RELATIVE), Detection().gold({"boxes": [], "image_size": [9, 9]}))


def test_what_has_no_pattern_is_said():
    with pytest.raises(ConfigError, match="need the class names"):
        pattern_of(load_task("classification"), RELATIVE)
    with pytest.raises(ConfigError, match="location tokens"):
        pattern_of(load_task("grounding"), CoordinateSpace.LOCATION_TOKENS)
    with pytest.raises(ConfigError, match="form of style method alone"):
        pattern_of(load_task("detection", style="plain"), RELATIVE)
    with pytest.raises(ConfigError, match="gold answer with a longer thought"):
        parse_config({"rollout": {"constrained": True}, "objective": {"sft_weight": 0.1}}, "test")


@pytest.fixture(params=["shared", "repeated"])
def policy(request):
    made = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=24, temperature=0.7))
    if request.param == "repeated":
        made.fall_back("it is tested")
    return made


def short(policy: Policy, pattern: str = completion_pattern("(a|bc)[0-9]{1,3}", think=False)) -> None:
    size = policy.core.get_output_embeddings().weight.shape[0]
    policy.constraint = Constraint.of(pattern, policy.processor.tokenizer, size, policy.end_ids)


def test_every_completion_follows_the_pattern_and_is_scored_as_it_was_sampled(policy):
    short(policy)
    prefix = policy.encode(prompts_of_mixed_size(2))
    drawn = policy.sample(prefix, 8, Draws(0))
    texts = [text for group in drawn.text for text in group]
    assert not drawn.truncated.any()
    assert all(re.fullmatch(r"<answer>(a|bc)[0-9]{1,3}</answer>", text) for text in texts), texts
    assert len(set(texts)) > 4
    torch.testing.assert_close(drawn.logprobs, policy.logprobs(prefix, drawn), atol=2e-5, rtol=1e-5)


def test_each_completion_follows_the_pattern_of_its_prompts_task(policy):
    answers = {"letters": "[ab]{1,3}", "numbers": "[0-9]{1,3}"}
    patterns = {task: completion_pattern(answer, think=False) for task, answer in answers.items()}
    size = policy.core.get_output_embeddings().weight.shape[0]
    policy.constraint = Constraint.of(patterns, policy.processor.tokenizer, size, policy.end_ids)
    asked = [replace(p, task=task) for p, task in zip(prompts_of_mixed_size(2), answers, strict=True)]
    prefix = policy.encode(asked)
    drawn = policy.sample(prefix, 6, Draws(0))
    for texts, pattern in zip(drawn.text, patterns.values(), strict=True):
        assert all(re.fullmatch(pattern, text) for text in texts), texts
    torch.testing.assert_close(drawn.logprobs, policy.logprobs(prefix, drawn), atol=2e-5, rtol=1e-5)
    bodies = [decoding_of(policy.sampling, 2, policy, task).body("m", "t", []) for task in answers]
    grammars = [policy.constraint.grammar(task) for task in answers]
    assert grammars[0] != grammars[1]
    assert [body["structured_outputs"]["grammar"] for body in bodies] == grammars


def test_probabilities_are_those_of_the_tokens_that_are_left(policy):
    """The oracle renormalises the free distribution by hand, over the tokens that a regular expression lets go on."""
    short(policy, "[ab]")
    prefix = policy.encode(prompts_of_mixed_size(1))
    drawn = policy.sample(prefix, 6, Draws(1))
    policy.constraint = None
    free = policy.logprobs(prefix, drawn)[0, :, 0]
    ids = policy.processor.tokenizer.convert_tokens_to_ids(["a", "b"])
    both = []
    for token in ids:
        one = drawn.ids.clone()
        one[:, :, 0] = token
        both.append(policy.logprobs(prefix, type(drawn)(one, drawn.mask, drawn.logprobs, [], drawn.truncated))[0, 0, 0])
    total = torch.stack(both).logsumexp(0)
    torch.testing.assert_close(drawn.logprobs[0, :, 0], free - total, atol=2e-5, rtol=1e-4)
    assert set(drawn.ids[0, :, 0].tolist()) == set(ids)


def test_the_tasks_answers_can_be_read(policy):
    constrain(policy, load_task("detection", think=False))
    policy.sampling = Sampling(max_new_tokens=400)
    drawn = policy.sample(policy.encode(prompts_of_mixed_size(1)), 3, Draws(0))
    truth = {"boxes": [], "image_size": [100, 100]}
    for text, cut in zip(drawn.text[0], drawn.truncated[0], strict=True):
        found = Detection().parse(text, truth, Frame((100, 100), (1000, 1000)))
        turned = isinstance(found, Failure) and found.reason.startswith("no valid item (")  # a corner before the other
        assert cut or turned or isinstance(found, Parsed), text


def test_a_server_is_told_the_same_pattern():
    policy = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=8))
    assert "structured_outputs" not in decoding_of(policy.sampling, 2, policy).body("m", "t", [])
    constrain(policy, load_task("grounding"))
    body = decoding_of(policy.sampling, 2, policy).body("m", "t", [])
    ours = policy.constraint.grammar("grounding")
    assert body["structured_outputs"] == {"grammar": ours}, "the masks of our own sampler"


def test_training_on_the_distribution_that_is_left(tmp_path, model_folders):
    """With the reference, which is constrained too: at the first step the KL divergence is 0."""
    flowers = [{"source": "flowers", "count": 6}]
    run = config(
        tmp_path / "run", model_folders["qwen2_vl"],
        task={"name": "classification", "think": False}, data={"train": flowers, "evaluation": flowers},
        rollout={"constrained": True, "max_new_tokens": 40}, objective={"beta": 0.04},
    )  # fmt: skip
    train(run)
    rows = metrics(tmp_path / "run")
    assert rows[0]["parse_failure_share"] == 0
    assert rows[0]["truncated_share"] == 0
    assert abs(rows[0]["kl"]) < 1e-5
    trained = weights(tmp_path / "run" / "checkpoints" / "step-000002" / "model")
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())


def test_the_embedded_model_is_constrained_too():
    policy = load_policy(ModelConfig(), RolloutConfig(max_new_tokens=96))
    constrain(policy, load_task("detection"))
    drawn = policy.sample(policy.encode(prompts_of_mixed_size(1)), 1, greedy=True)
    assert drawn.truncated.all() or re.fullmatch(policy.constraint.patterns["detection"], drawn.text[0][0])
