"""Windows and images of a vision tower in one call per layer: equal to the library's loop, and counted."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import FAMILIES, random_model

from visual_rft.policy.engine.attention import windows
from visual_rft.policy.engine.attention.windows import WINDOWED_ATTENTION, attend_in_windows, parts_of
from visual_rft.policy.families import family_of
from visual_rft.policy.policy import Policy

PATCHES = [kind for kind in FAMILIES if family_of(kind).pixels == "patches"]
ALIKE, UNLIKE = [[1, 8, 12], [1, 8, 12]], [[1, 8, 12], [1, 4, 4], [1, 20, 14]]
MOST_LENGTHS = 8
"""Of the windows at the edges of three images."""


def outcome(model, pixels, grid):
    """Features of the images and the gradient of every weight of the tower."""
    tower = model.model.visual
    tower.zero_grad()
    said = tower(pixels.clone(), grid_thw=grid)
    features = said.pooler_output if getattr(said, "pooler_output", None) is not None else said[0]
    features = torch.cat(list(features)) if isinstance(features, (list, tuple)) else features
    (features * torch.linspace(-1, 1, features.shape[-1])).sum().backward()
    return features.detach(), {name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("images", [ALIKE, UNLIKE], ids=["alike", "unlike"])
@pytest.mark.parametrize("kind", PATCHES)
def test_equal_to_the_librarys_loop_in_few_calls(kind, images, monkeypatch):
    model, _ = random_model(kind)
    vision, grid = model.config.vision_config, torch.tensor(images)
    pixels = torch.randn(
        int(grid.prod(1).sum()), vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert vision._attn_implementation == "sdpa"
    wanted, wanted_grads = outcome(model, pixels, grid)
    attend_in_windows(model, family_of(kind))
    calls = []
    attention = windows.scaled_dot_product_attention
    monkeypatch.setattr(
        windows,
        "scaled_dot_product_attention",
        lambda *rows, **options: (calls.append(1), attention(*rows, **options))[1],
    )
    got, grads = outcome(model, pixels, grid)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
    assert grads.keys() == wanted_grads.keys()
    for name, gradient in wanted_grads.items():
        assert (grads[name] - gradient).norm() <= 1e-5 * max(gradient.norm(), 1e-3), name
    layers = len(model.model.visual.blocks)
    lengths = len({tuple(row) for row in images}) if kind != "qwen2_5_vl" else MOST_LENGTHS
    assert len(calls) <= layers * lengths


@pytest.mark.parametrize("kind", PATCHES)
def test_an_image_is_the_same_to_the_bit_whatever_is_beside_it(kind):
    model, _ = random_model(kind)
    attend_in_windows(model, family_of(kind))
    vision, grid = model.config.vision_config, torch.tensor(UNLIKE)
    pixels = torch.randn(
        int(grid.prod(1).sum()), vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    together, _ = outcome(model, pixels, grid)
    first = int(grid[0].prod())
    alone, _ = outcome(model, pixels[:first], grid[:1])
    assert torch.equal(together[: len(alone)], alone)


def test_every_policy_of_patches_uses_it():
    model, processor = random_model("qwen2_5_vl")
    policy = Policy(model, processor)
    assert policy.core.config.vision_config._attn_implementation == WINDOWED_ATTENTION
    other, processor = random_model("llava")
    assert Policy(other, processor).core.config.vision_config._attn_implementation == "sdpa"


def test_every_token_is_in_one_call():
    parts = parts_of(torch.tensor([0, 100, 160, 160, 170, 230]))
    assert [tuple(part.places.shape) for part in parts] == [(1, 100), (2, 60), (1, 10)]
    assert sorted(torch.cat([part.tokens for part in parts]).tolist()) == list(range(230))


def test_boundaries_are_looked_into_once(monkeypatch):
    boundaries = torch.tensor([0, 4, 8])
    first = parts_of(boundaries)
    monkeypatch.setattr(windows, "_part", None)
    assert parts_of(boundaries) is first
