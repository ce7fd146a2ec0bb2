"""The GRPO loss against a hand-computed table and against TRL's own loss on the same tensors."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from visual_rft.config.sections import ObjectiveConfig
from visual_rft.policy.engine.prefix import Completions
from visual_rft.training.objective import GroupLoss, grpo_loss, k3, token_weights


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
    assert k3(torch.tensor(-1.0), torch.tensor(-1.0)) == 0
    assert (k3(torch.linspace(-4, 0, 9), torch.tensor(-2.0)) >= 0).all()


def test_on_policy_gradient_is_the_policy_gradient():
    torch.manual_seed(0)
    new = torch.randn(2, 3, 4, requires_grad=True)
    advantages = torch.randn(2, 3)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    grpo_loss(new, new.detach(), None, advantages, token_weights(mask, "sequence_mean"), beta=0.0).backward()
    torch.testing.assert_close(new.grad, -advantages[..., None].expand(2, 3, 4) / (4 * 6))


def test_beta_needs_a_reference():
    x = torch.zeros(1, 2, 1)
    with pytest.raises(ValueError, match="reference_logprobs"):
        grpo_loss(x, x, None, torch.zeros(1, 2), x, beta=0.1)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(("aggregation", "loss_type"), [("sequence_mean", "grpo"), ("token_mean", "bnpo")])
def test_equal_to_trl(aggregation, loss_type, beta):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns about its own optional dependencies
        from trl import GRPOTrainer

    torch.manual_seed(1)
    prompts, group, tokens = 3, 4, 6
    shape = (prompts, group, tokens)
    old = -torch.rand(shape) * 3
    # far enough from the old policy that part of the tokens is clipped
    new = (old + torch.randn(shape) * 0.4).requires_grad_()
    reference = old + torch.randn(shape) * 0.2
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (prompts, group, 1))
    advantages = torch.randn(prompts, group)

    whole = group_loss(new, old, reference, advantages, mask, beta=beta, aggregation=aggregation)
    stats = whole.stats(new.detach())
    ours = whole.share(new.flatten(0, 1), torch.arange(prompts * group))
    assert ours.item() == pytest.approx(stats.loss)
    (gradient,) = torch.autograd.grad(ours, new)

    flat = (prompts * group, tokens)
    theirs_new = new.detach().reshape(flat).requires_grad_()
    trainer = GRPOTrainer.__new__(GRPOTrainer)
    trainer.__dict__.update(
        loss_type=loss_type,
        beta=beta,
        epsilon_low=0.2,
        epsilon_high=0.2,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _entropy_bonus_adaptive=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=tokens,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, **_: x, num_processes=1),
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (theirs_new, torch.zeros(flat), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(flat[0], 1, dtype=torch.long),
        "prompt_mask": torch.ones(flat[0], 1, dtype=torch.long),
        "completion_ids": torch.zeros(flat, dtype=torch.long),
        "completion_mask": mask.reshape(flat).long(),
        "advantages": advantages.reshape(-1),
        "old_per_token_logps": old.reshape(flat),
        "ref_per_token_logps": reference.reshape(flat),
    }
    theirs = trainer._compute_loss(trainer.model, inputs)
    (their_gradient,) = torch.autograd.grad(theirs, theirs_new)

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient.reshape(flat), their_gradient)
    assert 0.05 < stats.clipped < 0.95
