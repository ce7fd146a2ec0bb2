"""The shared prefix against a plain forward pass of every row on its own, and the sampler against the scorer."""

from __future__ import annotations

import pytest
import torch
from support.oracles import SCENES, prompts_of_mixed_size, random_completions
from support.tiny_models import FAMILIES, random_model

from visual_rft.config.sections import EngineConfig
from visual_rft.errors import PromptTooLongError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.sampling import Sampling, _draw
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.coordinates import CoordinateSpace


@pytest.mark.parametrize("kind", FAMILIES)
def test_sampled_logprobs_are_the_scored_ones(kind):
    policy = Policy(*random_model(kind), Sampling(max_new_tokens=12, temperature=0.7))
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 4, Draws(0))
    assert completions.ids.shape[:2] == (3, 4)
    torch.testing.assert_close(completions.logprobs, policy.logprobs(prefix, completions), atol=2e-5, rtol=1e-5)


def test_greedy_sampling_equals_generate():
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=10))
    for prompt in prompts_of_mixed_size(3):
        prefix = policy.encode([prompt])
        ours = policy.sample(prefix, 1, greedy=True)
        assert prefix.inputs.pixels is not None
        expected = model.generate(
            **prefix.inputs.tensors,
            **prefix.inputs.pixels.tensors,
            max_new_tokens=10,
            do_sample=False,
            suppress_tokens=policy.forbidden.tolist(),
        )[0, prefix.lengths[0] :]
        assert ours.ids[0, 0].tolist() == expected.tolist()


def test_dropping_finished_rows_changes_nothing():
    """Rows end at different steps; each must read the same as alone."""
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=30))
    # many end tokens, so that rows end early and at different times
    policy.end_ids = list(range(7, 60))
    prompts = prompts_of_mixed_size(3)
    prefix = policy.encode(prompts)
    completions = policy.sample(prefix, 6, Draws(2))
    lengths = completions.lengths
    assert lengths.min() < lengths.max()
    torch.testing.assert_close(completions.logprobs, policy.logprobs(prefix, completions), atol=2e-5, rtol=1e-5)
    for b in range(3):
        for g in range(6):
            row = completions.ids[b, g, : lengths[b, g]].tolist()
            assert all(token not in policy.end_ids for token in row[:-1])
            assert (row[-1] in policy.end_ids) != bool(completions.truncated[b, g])


def test_placeholders_are_never_sampled():
    model, processor = random_model("qwen2_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=40, temperature=50.0))  # nearly uniform
    completions = policy.sample(policy.encode(prompts_of_mixed_size(2)), 16, Draws(0))
    assert len(policy.forbidden) == 4
    assert not torch.isin(completions.ids[completions.mask], policy.forbidden).any()


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "repeated"])
def test_a_completion_is_the_same_whoever_shares_its_batch(shared):
    engine = EngineConfig(shared_prefix=shared)
    policy = Policy(*random_model("qwen3_vl"), Sampling(max_new_tokens=12), engine=engine)
    prompts = prompts_of_mixed_size(3)
    together = policy.sample(policy.encode(prompts), 3, Draws(7, 5))
    assert len({tuple(row) for row in together.ids.flatten(0, 1).tolist()}) > 5  # each has numbers of its own
    for number, prompt in enumerate(prompts):
        alone = policy.sample(policy.encode([prompt]), 3, Draws(7, 5, (number,)))
        assert alone.text[0] == together.text[number]
        torch.testing.assert_close(alone.lengths[0], together.lengths[number])
    for other in (Draws(7, 6), Draws(8, 5), Draws(7, 5, (3, 4, 5))):
        assert policy.sample(policy.encode(prompts), 3, other).text != together.text
    fewer = policy.sample(policy.encode(prompts), 2, Draws(7, 5))
    assert [row[:2] for row in together.text] == fewer.text


def test_vision_tower_runs_once_per_image_and_language_model_once_per_prompt():
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=5))
    image = SCENES[0].image
    patches, tokens = [], []
    model.model.visual.register_forward_pre_hook(lambda _, a: patches.append(a[0].shape[0]))
    model.model.language_model.register_forward_pre_hook(
        lambda _, __, k: tokens.append(tuple(k.get("input_ids", k.get("inputs_embeds")).shape[:2])), with_kwargs=True
    )
    prompts = [Prompt(f"p{i}", f"Find every digit {i}.", (image,)) for i in range(3)]
    prefix = policy.encode(prompts)
    width, height = SCENES[0].size
    assert patches == [width * height // 256]
    assert tokens == [(1, sum(prefix.lengths))]
    completions = policy.sample(prefix, 8, Draws(0))
    policy.logprobs(prefix, completions)
    assert len(patches) == 1
    # Every token of the 24 completions but the last of each is read once in sampling and once in scoring, and one that
    # several completions have after the same tokens is one.
    rows = [
        (prompt, tuple(ids[:length]))
        for prompt, (group, lengths) in enumerate(
            zip(completions.ids.tolist(), completions.lengths.tolist(), strict=True)
        )
        for ids, length in zip(group, lengths, strict=True)
    ]
    read = len({(prompt, ids[:n]) for prompt, ids in rows for n in range(1, len(ids))})
    assert sum(length for _, length in tokens[1:-1]) == read
    assert tokens[-1] == (1, read)
    separate = torch.cat([policy.encode([p]).last_hidden for p in prompts])
    torch.testing.assert_close(prefix.last_hidden, separate, atol=1e-5, rtol=1e-5)


def test_logits_only_at_completion_positions():
    model, processor = random_model("qwen2_vl")
    policy = Policy(model, processor)
    rows = []
    model.lm_head.register_forward_pre_hook(lambda _, a: rows.append(len(a[0])))
    prefix = policy.encode(prompts_of_mixed_size(2))
    completions = random_completions(policy, 2, group=3, length=9)
    policy.logprobs(prefix, completions)
    # Once for what follows each prompt, and once after every token that another one follows.
    assert rows == [2 + int((completions.lengths - 1).sum())]


def test_too_long_a_prompt_is_refused_and_named():
    model, processor = random_model("qwen2_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=100))
    prompt = Prompt("long/one", "word " * 600, (SCENES[0].image,))
    with pytest.raises(PromptTooLongError, match=r"'long/one'.*context is 512"):
        policy.encode([prompt])


def test_several_images_and_no_image():
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=5))
    a, b = SCENES[0].image, SCENES[1].image
    mixed = [Prompt("two", "Same?", (a, b)), Prompt("none", "Hello", ()), Prompt("one", "What?", (b,))]
    together = policy.encode(mixed)
    alone = torch.cat([policy.encode([p]).last_hidden for p in mixed])
    torch.testing.assert_close(together.last_hidden, alone, atol=1e-5, rtol=1e-5)
    assert together.frames[1] is None


def test_frames_follow_the_processed_size():
    policy = Policy(*random_model("qwen2_5_vl"))
    scene = next(s for s in SCENES if s.size == (128, 96))
    (frame,) = policy.encode([Prompt("a", "b", (scene.image,))]).frames
    assert frame.image_size == (128, 96)
    assert frame.extent == (140, 84)  # multiples of 28 nearest to 128 x 96 below the limit of 140 x 140 pixels
    assert policy.space is CoordinateSpace.PROCESSED_PIXELS


def test_top_k_and_top_p_cut_the_tail():
    logprobs = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, 4)
    uniform = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def share(**cut):
        return torch.bincount(_draw(logprobs, Sampling(**cut), uniform), minlength=4) / 4000

    torch.testing.assert_close(share(), torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)
    torch.testing.assert_close(share(top_k=2), torch.tensor([0.625, 0.375, 0, 0]), atol=0.03, rtol=0)
    torch.testing.assert_close(share(top_p=0.6), torch.tensor([0.625, 0.375, 0, 0]), atol=0.03, rtol=0)
    assert share(top_p=0.01)[0] == 1


def test_autocast_computes_in_bfloat16_and_learns():
    model, processor = random_model("qwen3_vl")
    exact = Policy(model, processor)
    mixed = Policy(model, processor, autocast=torch.bfloat16)
    prompts = prompts_of_mixed_size(3)
    completions = random_completions(exact, 3, group=2, length=9)
    prefix = mixed.encode(prompts)
    got = mixed.logprobs(prefix, completions)
    expected = exact.logprobs(exact.encode(prompts), completions)
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < 0.2
    got.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    sampled = mixed.sample(prefix, 2, Draws(0))
    torch.testing.assert_close(sampled.logprobs, mixed.logprobs(prefix, sampled), atol=0.1, rtol=0.05)


def test_entropies_are_those_of_the_distributions_that_tokens_were_drawn_from():
    policy = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=6, temperature=0.7, entropies=True))
    prefix = policy.encode(prompts_of_mixed_size(2))
    sampled = policy.sample(prefix, 3, Draws(0))
    distribution = policy.head(prefix.last_hidden)
    expected = -(distribution.exp() * distribution.clamp(min=-1e9)).sum(-1)  # of the first token; -inf never counts
    torch.testing.assert_close(sampled.entropies[:, :, 0], expected[:, None].expand(2, 3))
    assert (sampled.entropies[sampled.mask] > 0).all()
    assert (sampled.entropies[~sampled.mask] == 0).all()
