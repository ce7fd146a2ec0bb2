"""Every policy loss against TRL's own code where it has the same form, against a table by hand elsewhere."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from visual_rft.config.objective import LOSSES as NAMES
from visual_rft.config.objective import OF_SEQUENCES, OVER_TOKENS, USED_BY, ObjectiveConfig
from visual_rft.errors import ConfigError
from visual_rft.policy.engine.prefix import Completions
from visual_rft.training.losses import LOSSES, LossInputs, entropy_per_token, kl_per_token, probability_mask
from visual_rft.training.objective import GroupLoss

PROMPTS, GROUP, TOKENS = 3, 4, 6


def random_batch():
    """Log-probabilities far enough from the old ones that part of the tokens is clipped."""
    torch.manual_seed(1)
    shape = (PROMPTS, GROUP, TOKENS)
    old = -torch.rand(shape) * 3
    new = old + torch.randn(shape) * 0.4
    reference = old + torch.randn(shape) * 0.2
    mask = torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (PROMPTS, GROUP, 1))
    return new, old, reference, mask, torch.randn(PROMPTS, GROUP)


ENTROPIES = torch.rand(PROMPTS, GROUP, TOKENS, generator=torch.Generator().manual_seed(2))


def group_loss(old, reference, mask, advantages, **settings) -> GroupLoss:
    completions = Completions(torch.zeros_like(mask, dtype=torch.long), mask, old, [], mask[..., 0], ENTROPIES * mask)
    return GroupLoss(completions, advantages, reference, ObjectiveConfig(**settings), longest=TOKENS)


def trl_loss(
    new, old, reference, mask, advantages, loss_type, beta=0.0, delta=None, level="token", corrected=False, top=1.0
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns about its own optional dependencies
        from trl import GRPOTrainer
        from trl.experimental.gmpo import GMPOTrainer

    kind = GMPOTrainer if loss_type == "gmpo" else GRPOTrainer
    flat = (PROMPTS * GROUP, TOKENS)
    leaf = new.reshape(flat).clone().requires_grad_()
    trainer = kind.__new__(kind)
    args = SimpleNamespace(
        use_bias_correction_kl=corrected, delta=delta, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
        steps_per_generation=1,
    )  # fmt: skip
    trainer.__dict__.update(
        loss_type=loss_type, beta=beta, epsilon_low=0.2, epsilon_high=1.2 if loss_type == "cispo" else 0.2,
        importance_sampling_level=level, top_entropy_quantile=top, off_policy_mask_threshold=None, use_vllm=False,
        aux_loss_enabled=False, _entropy_bonus_enabled=False, _entropy_bonus_adaptive=False,
        current_gradient_accumulation_steps=1, max_completion_length=TOKENS, args=args,
        model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
        accelerator=SimpleNamespace(
            gather=lambda x: x, pad_across_processes=lambda x, **_: x, reduce=lambda x, **_: x, num_processes=1
        ),
        _get_per_token_logps_and_entropies=lambda *a, **k: (leaf, ENTROPIES.view(flat), None),
    )  # fmt: skip
    loss = trainer._compute_loss(trainer.model, {
        "prompt_ids": torch.zeros(flat[0], 1, dtype=torch.long),
        "prompt_mask": torch.ones(flat[0], 1, dtype=torch.long),
        "completion_ids": torch.zeros(flat, dtype=torch.long),
        "completion_mask": mask.reshape(flat).long(),
        "advantages": advantages.reshape(-1),
        "old_per_token_logps": old.reshape(flat),
        "ref_per_token_logps": reference.reshape(flat),
        "num_items_in_batch": mask.sum(),
    })  # fmt: skip
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss, gradient


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"loss": "grpo"}, {"loss_type": "grpo"}),
        ({"loss": "grpo", "beta": 0.04}, {"loss_type": "grpo", "beta": 0.04}),
        ({"loss": "grpo", "beta": 0.04, "kl": "k3_corrected"},
         {"loss_type": "grpo", "beta": 0.04, "corrected": True}),
        ({"loss": "grpo", "delta": 1.3}, {"loss_type": "grpo", "delta": 1.3}),
        ({"loss": "bnpo", "beta": 0.04}, {"loss_type": "bnpo", "beta": 0.04}),
        ({"loss": "dapo"}, {"loss_type": "dapo"}),
        ({"loss": "dr_grpo", "beta": 0.04}, {"loss_type": "dr_grpo", "beta": 0.04}),
        ({"loss": "gspo"}, {"loss_type": "grpo", "level": "sequence"}),
        ({"loss": "luspo"}, {"loss_type": "luspo", "level": "sequence"}),
        ({"loss": "cispo"}, {"loss_type": "cispo"}),
        ({"loss": "sapo", "beta": 0.04}, {"loss_type": "sapo", "beta": 0.04}),
        ({"loss": "grpo", "top_entropy": 0.3, "beta": 0.04}, {"loss_type": "grpo", "top": 0.3, "beta": 0.04}),
        ({"loss": "dapo", "top_entropy": 0.5}, {"loss_type": "dapo", "top": 0.5}),
        ({"loss": "gmpo"}, {"loss_type": "gmpo"}),
        ({"loss": "gmpo", "beta": 0.04}, {"loss_type": "gmpo", "beta": 0.04}),
    ],
    ids=str,
)  # fmt: skip
def test_equal_to_trl(settings, theirs):
    new, old, reference, mask, advantages = random_batch()
    leaf = new.clone().requires_grad_()
    ours = group_loss(old, reference, mask, advantages, **{"beta": 0.0, **settings}).share(
        leaf.flatten(0, 1), torch.arange(PROMPTS * GROUP)
    )
    (gradient,) = torch.autograd.grad(ours, leaf)
    expected, expected_gradient = trl_loss(new, old, reference, mask, advantages, **theirs)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient.reshape(expected_gradient.shape), expected_gradient, atol=1e-6, rtol=1e-5)
    assert expected_gradient.abs().max() > 0


def test_dppo_by_hand():
    """p_old 0.5, 0.1, 0.5; p 0.8, 0.25, 0.2: the first rises by more than 0.2, the second by 0.15 only though its ratio
    is 2.5, the third falls by 0.3."""
    old = torch.tensor([[0.5, 0.1, 0.5]]).log()
    for advantage, masked in ((1.0, [True, False, False]), (-1.0, [False, False, True])):
        new = torch.tensor([[0.8, 0.25, 0.2]]).log().requires_grad_()
        got = probability_mask(LossInputs(new, old, torch.tensor([[advantage]]), torch.ones(1, 3)))
        assert got.clipped[0].tolist() == masked
        torch.testing.assert_close(got.loss.detach(), -advantage * torch.tensor([[1.6, 2.5, 0.4]]))
        (gradient,) = torch.autograd.grad(got.loss.sum(), new)
        assert (gradient[0] == 0).tolist() == masked


def test_reinforce_plus_plus_is_the_clipped_ratio_over_all_tokens():
    assert LOSSES["reinforce++"] == LOSSES["dapo"]


def test_estimates_of_the_divergence_by_hand():
    logprobs, reference = torch.tensor(math.log(0.5)), torch.tensor(math.log(0.25))
    d = math.log(2)
    for how, expected in (("k1", d), ("k2", d * d / 2), ("k3", 0.5 - 1 + d)):
        assert kl_per_token(logprobs, reference, how).item() == pytest.approx(expected)
    assert kl_per_token(logprobs, reference, "k3_corrected", torch.tensor(0.3)).item() == pytest.approx(
        (0.5 - 1 + d) * math.exp(0.3)
    )


@pytest.mark.parametrize(
    "more",
    [{"beta": 0.0}, {"beta": 0.1}, {"beta": 0.0, "top_entropy": 0.3}, {"beta": 0.0, "entropy_weight": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("name", NAMES)
def test_shares_of_micro_batches_add_up_with_their_gradients(name, more):
    new, old, reference, mask, advantages = random_batch()
    advantages[1] = 0
    whole = group_loss(old, reference, mask, advantages, loss=name, **more)
    leaf = new.clone().requires_grad_()
    everything = whole.share(leaf.flatten(0, 1), torch.arange(PROMPTS * GROUP))
    (expected,) = torch.autograd.grad(everything, leaf)
    parted = new.clone().requires_grad_()
    total = torch.zeros(())
    for numbers in (torch.tensor([0, 5, 2]), torch.tensor([1]), torch.tensor([11, 10, 9, 8, 7, 6, 4, 3])):
        kept = [i for i in numbers.tolist() if i in set(whole.needed)]
        if kept:
            index = torch.tensor(kept)
            length = int(mask.flatten(0, 1)[index].sum(-1).max())
            total = total + whole.share(parted.flatten(0, 1)[index, :length], index)
    (gradient,) = torch.autograd.grad(total, parted)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)
    everything_moves = more["beta"] or "entropy_weight" in more
    assert set(whole.needed) == (set(range(12)) if everything_moves else set(range(12)) - {4, 5, 6, 7})


@pytest.mark.parametrize("moved", [0.0, 0.5])
def test_the_gradient_of_the_entropy_bonus_is_exact_in_expectation(moved):
    """Over every token that could have been drawn, weighted by its probability under the policy that draws."""
    torch.manual_seed(0)
    before = torch.randn(7)
    logits = (before + moved * torch.randn(7)).requires_grad_()
    old, new = before.log_softmax(-1), logits.log_softmax(-1)
    entropy_before, entropy = (torch.special.entr(x.exp()).sum() for x in (old, new))
    rows = LossInputs(new[:, None], old[:, None], torch.zeros(7, 1), torch.ones(7, 1))
    term = entropy_per_token(rows, entropy_before.expand(7, 1))
    (got,) = torch.autograd.grad((term[:, 0] * old.exp()).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-entropy, logits)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(term.detach()[:, 0], new.detach())


def test_the_entropy_bonus_is_a_mean_over_all_tokens_whatever_the_average_of_the_loss():
    new, old, reference, mask, advantages = random_batch()
    everything = torch.arange(12)
    for name in ("grpo", "dr_grpo", "dapo", "gspo"):
        with_it, without = (
            group_loss(old, reference, mask, advantages, loss=name, beta=0.0, entropy_weight=weight).share(
                new.flatten(0, 1), everything
            )
            for weight in (0.5, 0.0)
        )
        torch.testing.assert_close(with_it - without, 0.5 * new[mask].mean())


@pytest.mark.parametrize("name", NAMES)
def test_on_the_policy_that_sampled_every_loss_is_the_policy_gradient(name):
    """At w = 1 the gradient is -A times a weight per token: that of the loss's own average."""
    _, old, reference, mask, advantages = random_batch()
    loss = group_loss(old, reference, mask, advantages, loss=name, beta=0.0)
    leaf = old.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.share(leaf.flatten(0, 1), torch.arange(PROMPTS * GROUP)), leaf)
    weights = loss._weights.view_as(gradient)
    if name in OF_SEQUENCES:  # each token moves the mean of its completion
        weights = weights.sum(-1, keepdim=True) * mask / mask.sum(-1, keepdim=True)
    torch.testing.assert_close(gradient, -advantages[..., None] * weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "gpo"}, "unknown loss 'gpo'"),
        ({"loss": "gspo", "aggregation": "token_mean"}, "the ratio of gspo belongs to a whole completion"),
        ({"loss": "gmpo", "aggregation": "constant"}, "the ratio of gmpo belongs to a whole completion"),
        ({"kl": "k1"}, "0 in expectation"),
        ({"loss": "sapo", "delta": 2.0}, "delta has no effect on loss sapo"),
        ({"loss": "cispo", "clip_low": 0.1}, "clip_low has no effect on loss cispo"),
        ({"loss": "dppo", "clip_high": {"from": 0.2, "to": 0.4}}, "clip_high has no effect on loss dppo"),
        ({"sapo_temperatures": (1.0, 2.0)}, "sapo_temperatures has no effect on loss grpo"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason(settings, message):
    with pytest.raises(ValidationError, match=message):
        ObjectiveConfig(**settings)


def test_a_loss_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def plain(rows):\n    return -rows.advantages * rows.logprobs\n"
        "def wrong(rows):\n    return rows.logprobs.sum()\n"
    )
    new, old, reference, mask, advantages = random_batch()
    leaf = new.clone().requires_grad_()
    mine = group_loss(old, reference, mask, advantages, loss=f"{tmp_path / 'mine.py'}:plain", beta=0.0)
    (gradient,) = torch.autograd.grad(mine.share(leaf.flatten(0, 1), torch.arange(12)), leaf)
    torch.testing.assert_close(gradient, -advantages[..., None] * mask / mask.sum(-1, keepdim=True) / 12)
    wrong = group_loss(old, reference, mask, advantages, loss=f"{tmp_path / 'mine.py'}:wrong", beta=0.0)
    with pytest.raises(
        ConfigError, match=r"mine\.py:wrong gave \[\]; it has to give a tensor \[12, 6\], one per token"
    ):
        wrong.share(new.flatten(0, 1), torch.arange(12))


@pytest.mark.parametrize("field", USED_BY)
@pytest.mark.parametrize("name", NAMES)
def test_a_field_changes_the_losses_that_it_is_said_to_be_for_and_no_other(name, field):
    new, old, _, mask, advantages = random_batch()
    everything = torch.arange(PROMPTS * GROUP)
    one, other = (
        GroupLoss(group_loss(old, None, mask, advantages).completions, advantages, None, settings, longest=TOKENS)
        for base in [ObjectiveConfig(loss=name, beta=0.0)]
        for settings in (base, base.model_copy(update={field: OTHER[field]}))
    )

    def gradient(loss: GroupLoss) -> torch.Tensor:
        # moved, so that ratios, of sequences too, lie beyond every limit on both sides
        leaves = [(new + by).requires_grad_() for by in (-0.5, 0.0, 0.5)]
        shares = [loss.share(leaf.flatten(0, 1), everything) for leaf in leaves]
        return torch.stack(torch.autograd.grad(sum(shares), leaves))

    assert torch.equal(gradient(one), gradient(other)) == (name not in USED_BY[field])


OTHER = {"clip_low": 0.02, "clip_high": 0.02, "delta": 1.05, "sapo_temperatures": (2.0, 3.0), "dppo_difference": 0.01}


def test_every_name_of_the_config_is_a_loss():
    assert set(NAMES) == set(LOSSES)
    assert set(OVER_TOKENS) == {name for name, named in LOSSES.items() if named.aggregation == "token_mean"}
    assert set(OF_SEQUENCES) == {name for name, named in LOSSES.items() if named.of_sequences}
