"""The GRPO loss against a hand-computed table and against TRL's own loss on the same tensors."""

from __future__ import annotations

import math

import pytest
import torch

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.policy.engine.prefix import Completions
from visual_rft.training.losses import kl_per_token
from visual_rft.training.objective import GroupLoss, token_weights


def group_loss(new, old, reference, advantages, mask, **settings) -> GroupLoss:
    completions = Completions(torch.zeros_like(mask, dtype=torch.long), mask, old, [], mask[..., 0])
    return GroupLoss(completions, advantages, reference, ObjectiveConfig(**settings))


def test_by_hand():
    # One prompt, two completions of 2 and 1 tokens. Ratios: e^0.1, e^-0.5 | e^0.3; advantages 1 | -1.
    old = torch.tensor([[[-1.0, -1.0], [-2.0, 0.0]]])
    new = torch.tensor([[[-0.9, -1.5], [-1.7, 0.0]]], requires_grad=True)
    reference = torch.tensor([[[-1.0, -1.2], [-1.7, 0.0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    stats = group_loss(new, old, reference, torch.tensor([[1.0, -1.0]]), mask, beta=0.5).stats(new.detach())
    kl_1 = math.exp(-0.1) + 0.1 - 1
    kl_2 = math.exp(0.3) - 0.3 - 1
    first = (-math.exp(0.1) + 0.5 * kl_1 + -math.exp(-0.5) + 0.5 * kl_2) / 2  # not clipped: min is the smaller gain
    second = math.exp(0.3)  # A < 0: the unclipped, worse side counts
    assert stats.loss == pytest.approx((first + second) / 2, abs=1e-6)
    assert stats.kl == pytest.approx((kl_1 + kl_2) / 3, abs=1e-6)
    assert stats.clipped == 0


def test_clipping_stops_the_gradient():
    new = torch.tensor([[[math.log(1.5)], [math.log(0.5)]]], requires_grad=True)
    mask = torch.ones(1, 2, 1, dtype=torch.bool)
    whole = group_loss(new, torch.zeros(1, 2, 1), None, torch.tensor([[1.0, -1.0]]), mask, beta=0.0)
    loss, stats = whole.share(new.flatten(0, 1), torch.arange(2)), whole.stats(new.detach())
    loss.backward()
    assert loss.item() == pytest.approx((-1.2 + 0.8) / 2)
    assert new.grad is not None
    assert (new.grad == 0).all()
    assert stats.clipped == 1


def test_averages_differ_as_stated():
    values = torch.tensor([[[1.0, 1.0, 1.0], [5.0, 0.0, 0.0]]])
    mask = torch.tensor([[[True, True, True], [True, False, False]]])
    assert (values * token_weights(mask, "sequence_mean")).sum().item() == pytest.approx(3)
    assert (values * token_weights(mask, "token_mean")).sum().item() == pytest.approx(2)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
def test_shares_add_up_to_the_whole(aggregation):
    torch.manual_seed(0)
    old, new, reference = -torch.rand(3, 2, 3, 4)
    mask = torch.arange(4) < torch.tensor([[1, 4, 2], [3, 3, 1]])[..., None]
    whole = group_loss(new, old, reference, torch.randn(2, 3), mask, beta=0.1, aggregation=aggregation)
    # each part is trimmed to its longest completion, as the policy gives it
    parts = [(torch.tensor([0, 2]), 2), (torch.tensor([1]), 4), (torch.tensor([3, 4, 5]), 3)]
    total = sum(whole.share(new.flatten(0, 1)[chosen, :length], chosen).item() for chosen, length in parts)
    assert total == pytest.approx(whole.stats(new).loss, abs=1e-6)


def test_k3_is_zero_at_equality_and_positive_elsewhere():
    assert kl_per_token(torch.tensor(-1.0), torch.tensor(-1.0), "k3") == 0
    assert (kl_per_token(torch.linspace(-4, 0, 9), torch.tensor(-2.0), "k3") >= 0).all()


def test_beta_needs_a_reference():
    x = torch.zeros(1, 2, 1)
    loss = group_loss(x, x, None, torch.zeros(1, 2), torch.ones(1, 2, 1, dtype=torch.bool), beta=0.1)
    with pytest.raises(ValueError, match="reference_logprobs"):
        loss.share(x.flatten(0, 1), torch.arange(2))


def test_truncated_completions_have_no_weight_but_count_in_the_average():
    """As TRL's mask_truncated_completions: the completion's tokens are masked, the mean is still over all four."""
    old = -torch.rand(2, 2, 3)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    truncated = torch.tensor([[True, False], [False, False]])
    completions = Completions(torch.zeros(2, 2, 3), mask, old, [], truncated)
    loss = GroupLoss(completions, torch.tensor([[1.0, -1.0], [2.0, -2.0]]), None,
                     ObjectiveConfig(beta=0.0, truncated="mask"))  # fmt: skip
    leaf = old.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.share(leaf.flatten(0, 1), torch.arange(4)), leaf)
    weight = torch.tensor([[0.0, 1.0], [-2.0, 2.0]]) / 4 / 3
    torch.testing.assert_close(gradient, weight[..., None].expand(2, 2, 3))
    assert loss.needed == [1, 2, 3]
