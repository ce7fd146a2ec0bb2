"""Patch embeddings as products: the same numbers and gradients as the convolution, under the same names."""

from __future__ import annotations

import copy

import pytest
import torch
from support.tiny_models import FAMILIES, random_model
from torch import nn

from visual_rft.policy.families import family_of
from visual_rft.policy.patches import PatchProjection, multiply_patches
from visual_rft.policy.policy import Policy

PATCHES = [kind for kind in FAMILIES if family_of(kind).pixels == "patches"]


@pytest.mark.parametrize("kind", PATCHES)
def test_no_tower_of_patches_calls_a_convolution(kind, monkeypatch):
    model, processor = random_model(kind)
    plain = copy.deepcopy(model)
    Policy(model, processor)
    embed, wanted = model.model.visual.patch_embed, plain.model.visual.patch_embed
    assert type(embed.proj) is PatchProjection
    assert type(wanted.proj) is nn.Conv3d
    assert model.state_dict().keys() == plain.state_dict().keys()
    patches = torch.randn(6, wanted.proj.weight[0].numel())
    expected = wanted(patches)
    (expected * torch.linspace(-1, 1, expected.shape[-1])).sum().backward()
    monkeypatch.setattr(nn.Conv3d, "forward", None)
    got = embed(patches)
    (got * torch.linspace(-1, 1, got.shape[-1])).sum().backward()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(embed.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1}, {"groups": 3}, {"dilation": 2}], ids=str)
def test_what_is_no_product_stays_a_convolution(options):
    core = nn.Sequential(nn.Conv3d(3, 6, 4, **{"stride": 4, **options}))
    multiply_patches(core)
    assert type(core[0]) is nn.Conv3d


def test_an_input_of_several_patches_is_convolved():
    conv = nn.Conv3d(3, 4, (2, 4, 4), stride=(2, 4, 4))
    video = torch.randn(1, 3, 4, 8, 8)
    expected = conv(video)
    multiply_patches(nn.Sequential(conv))
    torch.testing.assert_close(conv(video), expected)
