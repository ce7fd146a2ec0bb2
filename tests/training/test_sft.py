"""Gold answers before reinforcement and beside it."""

from __future__ import annotations

import pytest
import torch
from support.runs import config, interrupt, metrics, reward_the_letter

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.samplers.interface import OwnSampler
from visual_rft.tasks import load_task
from visual_rft.training import household
from visual_rft.training.metrics import Stopwatch
from visual_rft.training.rft import train
from visual_rft.training.rollout import Answering
from visual_rft.training.session import Questions
from visual_rft.training.sft import teach_beside, train_supervised


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])


def gradients(policy) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    return found


@pytest.mark.parametrize(("prompts", "chosen"), [("all", [0, 1, 2]), ("unsolved", [0, 2])])
def test_the_gold_answers_of_the_chosen_prompts_are_a_term_of_their_own(model_folders, prompts, chosen):
    """Its gradient is that of -w log p(gold), the mean over the tokens of those chosen, times their share."""
    task = load_task("detection")
    samples = load_samples((SourceConfig(source="digits", count=3, max_objects=1),), task)[:3]
    settings = RolloutConfig(group_size=2, max_new_tokens=4)
    policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"])), settings)
    inputs = policy.prepare([Prompt.of(task, sample, policy.space) for sample in samples])
    rollout = Answering(policy, task, settings, Stopwatch(), OwnSampler(policy))(Questions(samples, inputs, Draws(0)))
    solved = task.score(task.gold(samples[1].truth, inputs.frames[1]), samples[1].truth, inputs.frames[1])
    rollout.scores[1][0] = solved
    config = ObjectiveConfig(sft_weight=0.3, sft_prompts=prompts)
    loss = teach_beside(policy, task, rollout, config, scale=0.5)
    got = gradients(policy)

    asked = [Prompt.of(task, samples[place], policy.space) for place in chosen]
    gold = policy.completions_of([task.gold(samples[place].truth, inputs.frames[place]) for place in chosen])
    logprobs = policy.logprobs(policy.encode(asked), gold)
    mean = -(logprobs * gold.mask).sum() / gold.mask.sum()
    (mean * 0.3 * 0.5 * len(chosen) / 3).backward()
    expected = gradients(policy)
    assert loss == pytest.approx(mean.item(), rel=1e-5)
    assert got.keys() == expected.keys()
    for name in got:
        torch.testing.assert_close(got[name], expected[name], atol=1e-6, rtol=1e-3)


def test_a_warm_start_is_sft_and_then_rft_in_one_run_and_resumes_in_either(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    whole, parts = (
        config(tmp_path / name, model_folders["qwen2_vl"],
               objective={"beta": 0.0, "warm_start": 2, "sft_weight": {"from": 0.5, "to": 0.0}},
               run={"folder": str(tmp_path / name), "steps": 4, "checkpoint_every": 1, "prompts_per_batch": 2})
        for name in ("whole", "parts")
    )  # fmt: skip
    train(whole)
    lines = metrics(tmp_path / "whole")
    assert ["reward" in line for line in lines] == [False, False, True, True]
    assert ["sft_loss" in line for line in lines] == [False, False, True, True]
    assert lines[1]["loss"] < lines[0]["loss"]
    interrupt(train, parts, 2)
    interrupt(lambda settings: train(settings, resume=True), parts, 4)
    train(parts, resume=True)
    assert [line["loss"] for line in metrics(tmp_path / "parts")] == [line["loss"] for line in lines]


@pytest.mark.parametrize(("loop", "warm_start"), [(train, 0), (train, 1), (train_supervised, 0)])
def test_the_learning_rate_ends_with_the_run_however_many_updates_a_step_has(model_folders, tmp_path, loop, warm_start):
    loop(config(tmp_path / "run", model_folders["qwen2_vl"],
                objective={"beta": 0.0, "updates_per_rollout": 2, "warm_start": warm_start},
                optimizer={"schedule": "linear", "learning_rate": 1e-3},
                run={"folder": str(tmp_path / "run"), "steps": 2, "evaluate_base": False}))  # fmt: skip
    first, last = (line["learning_rate"] for line in metrics(tmp_path / "run"))
    assert first > 0
    assert last == pytest.approx(0)


def test_a_warm_start_with_a_reference_is_refused():
    with pytest.raises(ConfigError, match="the reference of beta would be the base before it"):
        config("x", "tiny", objective={"warm_start": 2, "beta": 0.1})
