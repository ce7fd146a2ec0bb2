"""The shared prefix against a plain forward pass of every row on its own, and the sampler against the scorer."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILIES, random_model

from visual_rft.data.shapes import Shapes
from visual_rft.errors import ModelError, PromptTooLongError
from visual_rft.policy.families import family_of
from visual_rft.policy.policy import Policy
from visual_rft.policy.prefix import Completions, Prompt
from visual_rft.policy.sampling import Sampling, _draw
from visual_rft.vision.coordinates import CoordinateSpace

SCENES = Shapes(count=40, seed=11)


def prompts_of_mixed_size(count: int) -> list[Prompt]:
    """Prompts of different length about images of different size."""
    by_size = {}
    for scene in SCENES:
        by_size.setdefault(scene.size, scene)
    scenes = list(by_size.values())[:count]
    texts = ["Find every red circle.", "Find every blue star in the image, and say where.", "digit 7?"]
    return [Prompt(f"p{i}", texts[i], (scenes[i].image,)) for i in range(count)]


def random_completions(policy: Policy, prompts: int, group: int, length: int) -> Completions:
    generator = torch.Generator().manual_seed(3)
    allowed = torch.tensor([i for i in range(7, 300) if i not in policy.forbidden.tolist()])
    ids = allowed[torch.randint(len(allowed), (prompts, group, length), generator=generator)]
    lengths = torch.randint(1, length + 1, (prompts, group, 1), generator=generator)
    mask = torch.arange(length) < lengths
    mask[0, 0] = True
    return Completions(ids, mask, torch.zeros(ids.shape), [], torch.zeros(prompts, group))


def repeated_rows_logprobs(policy: Policy, prompts: list[Prompt], completions: Completions) -> torch.Tensor:
    """The oracle: each completion with its whole prompt and image, alone, without padding or cache."""
    result = torch.zeros(completions.ids.shape)
    rows = []
    for b, prompt in enumerate(prompts):
        content = [{"type": "image"}, {"type": "text", "text": prompt.text}]
        chat = policy.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        inputs = policy.processor(text=[chat], images=[prompt.images[0].load()], return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        for g in range(completions.ids.shape[1]):
            keep = int(completions.mask[b, g].sum())
            row = completions.ids[b, g, :keep][None]
            ids = torch.cat([inputs["input_ids"], row], dim=1)
            types = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(row)], dim=1)
            logits = policy.core(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=types,
                pixel_values=inputs["pixel_values"],
                image_grid_thw=inputs["image_grid_thw"],
            ).logits[:, length - 1 : -1]
            logits = logits.index_fill(-1, policy.forbidden, -torch.inf)
            logprobs = logits.log_softmax(-1).gather(2, row[..., None])[0, :, 0]
            rows.append((b, g, keep, logprobs))
    for b, g, keep, logprobs in rows:
        result[b, g, :keep] = logprobs
    return result


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", FAMILIES)
def test_logprobs_and_gradients_equal_repeated_rows(kind, count):
    policy = Policy(*random_model(kind))
    prompts = prompts_of_mixed_size(count)
    completions = random_completions(policy, count, group=3, length=9)
    weight = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(5))

    expected = repeated_rows_logprobs(policy, prompts, completions)
    (expected * weight).sum().backward()
    expected_gradients = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()

    got = policy.logprobs(policy.encode(prompts), completions)
    (got * weight).sum().backward()

    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    gradients = {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected_gradients.keys()
    assert len(gradients) == len(list(policy.model.parameters()))
    # Relative to the gradient as a whole: a single small tensor may be all cancellation (the key biases, exactly).
    scale = torch.cat([g.flatten() for g in expected_gradients.values()]).norm()
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm() / max(expected_gradients[name].norm(), 1e-3 * scale)
        assert error <= 1e-5, f"{name}: {error}"
        if not name.endswith("k_proj.bias"):
            assert gradient.norm() > 0, name


@pytest.mark.parametrize("kind", FAMILIES)
def test_sampled_logprobs_are_the_scored_ones(kind):
    policy = Policy(*random_model(kind), Sampling(max_new_tokens=12, temperature=0.7))
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 4, torch.Generator().manual_seed(0))
    assert completions.ids.shape[:2] == (3, 4)
    torch.testing.assert_close(completions.logprobs, policy.logprobs(prefix, completions), atol=2e-5, rtol=1e-5)


def test_greedy_sampling_equals_generate():
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=10))
    for prompt in prompts_of_mixed_size(3):
        prefix = policy.encode([prompt])
        ours = policy.sample(prefix, 1, greedy=True)
        expected = model.generate(
            **prefix.inputs.tensors, max_new_tokens=10, do_sample=False, suppress_tokens=policy.forbidden.tolist()
        )[0, prefix.mask.shape[1] :]
        assert ours.ids[0, 0].tolist() == expected.tolist()


def test_dropping_finished_rows_changes_nothing():
    """Rows end at different steps; each must read the same as alone."""
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=30))
    # many end tokens, so that rows end early and at different times
    policy.end_ids = list(range(7, 60))
    prompts = prompts_of_mixed_size(3)
    prefix = policy.encode(prompts)
    completions = policy.sample(prefix, 6, torch.Generator().manual_seed(2))
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
    completions = policy.sample(policy.encode(prompts_of_mixed_size(2)), 16, torch.Generator().manual_seed(0))
    assert len(policy.forbidden) == 4
    assert not torch.isin(completions.ids[completions.mask], policy.forbidden).any()


def test_vision_tower_runs_once_per_image_and_language_model_once_per_prompt():
    model, processor = random_model("qwen3_vl")
    policy = Policy(model, processor, Sampling(max_new_tokens=5))
    image = SCENES[0].image
    patches, tokens = [], []
    model.model.visual.register_forward_pre_hook(lambda _, a: patches.append(a[0].shape[0]))
    model.model.language_model.register_forward_pre_hook(
        lambda _, __, k: tokens.append(tuple(k["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    prompts = [Prompt(f"p{i}", f"Find every digit {i}.", (image,)) for i in range(3)]
    prefix = policy.encode(prompts)
    width, height = SCENES[0].size
    assert patches == [width * height // 256]
    assert tokens == [prefix.mask.shape]
    completions = policy.sample(prefix, 8, torch.Generator().manual_seed(0))
    policy.logprobs(prefix, completions)
    assert len(patches) == 1
    assert all(length < 8 for _, length in tokens[1:])
    separate = torch.stack([policy.encode([p]).first_logits[0] for p in prompts])
    torch.testing.assert_close(prefix.first_logits, separate, atol=1e-5, rtol=1e-5)


def test_logits_only_at_completion_positions():
    model, processor = random_model("qwen2_vl")
    policy = Policy(model, processor)
    rows = []
    model.lm_head.register_forward_pre_hook(lambda _, a: rows.append(tuple(a[0].shape[:2])))
    prefix = policy.encode(prompts_of_mixed_size(2))
    policy.logprobs(prefix, random_completions(policy, 2, group=3, length=9))
    assert rows == [(2, 1), (6, 8)]


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
    alone = torch.cat([policy.encode([p]).first_logits for p in mixed])
    torch.testing.assert_close(together.first_logits, alone, atol=1e-5, rtol=1e-5)
    assert together.frames[1] is None


def test_frames_follow_the_processed_size():
    policy = Policy(*random_model("qwen2_5_vl"))
    scene = next(s for s in SCENES if s.size == (128, 96))
    (frame,) = policy.encode([Prompt("a", "b", (scene.image,))]).frames
    assert frame.image_size == (128, 96)
    assert frame.extent == (140, 84)  # multiples of 28 nearest to 128 x 96 below the limit of 140 x 140 pixels
    assert policy.space is CoordinateSpace.PROCESSED_PIXELS


def test_unknown_family_is_refused():
    with pytest.raises(ModelError, match="'bert' is not supported"):
        family_of("bert")


def test_top_k_and_top_p_cut_the_tail():
    logprobs = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, 4)
    generator = torch.Generator().manual_seed(0)

    def share(**cut):
        return torch.bincount(_draw(logprobs, Sampling(**cut), generator), minlength=4) / 4000

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
    sampled = mixed.sample(prefix, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sampled.logprobs, mixed.logprobs(prefix, sampled), atol=0.1, rtol=0.05)
