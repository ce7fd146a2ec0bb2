"""Importance correction, every number by hand."""

from __future__ import annotations

import math

import pytest
import torch

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.policy.engine.prefix import Completions
from visual_rft.samplers.mismatch import importance, mismatch
from visual_rft.training.objective import GroupLoss

POLICY = torch.tensor([[[-1.0, -2.0, -1.0], [-1.0, -1.0, 0.0]]])
SAMPLER = torch.tensor([[[-1.5, -1.0, -3.0], [-1.0, -1.2, 0.0]]])
MASK = torch.tensor([[[True, True, True], [True, True, False]]])
FIRST = math.exp(0.5 - 1.0 + 2.0)  # of the whole completion, 4.48
SECOND = math.exp(0.2)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("none", [[1, 1, 1], [1, 1, 1]]),
        ("token_truncate", [[math.exp(0.5), math.exp(-1), 3], [1, SECOND, 1]]),
        ("token_mask", [[math.exp(0.5), math.exp(-1), 0], [1, SECOND, 1]]),
        ("sequence_truncate", [[3, 3, 3], [SECOND] * 3]),
        ("sequence_mask", [[0, 0, 0], [SECOND] * 3]),
    ],
)
def test_weights_by_hand(how, wanted):
    torch.testing.assert_close(importance(POLICY, SAMPLER, MASK, how, 3.0), torch.tensor([wanted], dtype=torch.float))


def test_what_is_logged():
    found = mismatch(POLICY, SAMPLER, MASK, importance(POLICY, SAMPLER, MASK, "sequence_mask", 3.0))
    assert found == pytest.approx(((0.5 + 1 + 2 + 0 + 0.2) / 5, 2.0, 3 / 5))


def group_loss(sampled, **config):
    truncated = torch.zeros(1, 2, dtype=torch.bool)
    drawn = Completions(torch.zeros(1, 2, 3), MASK, POLICY, [], truncated, sampled=sampled)
    return GroupLoss(drawn, torch.tensor([[1.0, -1.0]]), None, ObjectiveConfig(beta=0.0, **config))


def test_the_loss_is_weighted():
    """At the old policy the ratio is 1, so the loss is minus the weighted mean of the advantages."""
    rows, numbers = POLICY[0], torch.tensor([0, 1])
    plain = group_loss(None).share(rows, numbers).item()
    assert plain == pytest.approx(0)
    assert group_loss(SAMPLER).share(rows, numbers).item() == pytest.approx((0 + SECOND) / 2)
    truncated = group_loss(SAMPLER, correction="sequence_truncate").share(rows, numbers).item()
    assert truncated == pytest.approx((-3 + SECOND) / 2)
    assert group_loss(SAMPLER, correction="none").share(rows, numbers).item() == pytest.approx(0)
    assert group_loss(POLICY).share(rows, numbers).item() == pytest.approx(0), "nothing to correct"
    assert group_loss(None).stats(POLICY).mismatch is None
    assert group_loss(SAMPLER).stats(POLICY).mismatch.largest == 2.0
