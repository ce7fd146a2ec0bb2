"""Policy losses by name: pure functions from log-probabilities and advantages to a loss per token.

Decision: a name is a function and the average that its paper takes; both stand in one plain dict (:data:`LOSSES`). A
function sees whole completions, so a ratio of a sequence is a ratio of a sequence in micro-batches too, and returns one
number per token (or per completion, which then counts for each of its tokens). The weights of the average are fixed by
the whole batch before anything is scored (``objective.py``), so the shares of micro-batches add up to the loss.

Shapes: n completions, T tokens. ``w = exp(logprobs - old_logprobs)`` is the ratio, ``A`` the advantage.

>>> import torch
>>> rows = LossInputs(torch.tensor([[0.3, -0.1]]).log1p(), torch.zeros(1, 2), torch.tensor([[2.0]]), torch.ones(1, 2))
>>> [round(value, 3) for value in clipped_ratio(rows).loss[0].tolist()]     # w = 1.3 is cut to 1.2, 0.9 is not
[-2.4, -1.8]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.errors import ConfigError
from visual_rft.tasks.plugins import load_function

Aggregation = Literal["sequence_mean", "token_mean", "constant", "sequence_sum"]
"""How tokens are averaged: mean over each completion, then over completions; mean over all tokens; sum over all tokens
by completions times the longest length there can be; sum over each completion, mean over completions."""


@dataclass(frozen=True)
class LossInputs:
    """What a loss is made of.

    Attributes:
        logprobs: ``[n, T]`` of the policy, with gradient.
        old_logprobs: ``[n, T]`` of the policy that sampled.
        advantages: ``[n, 1]``.
        mask: ``[n, T]``, 1 for a token and 0 for padding.
        clip_low: the ratio is clipped below ``1 - clip_low``.
        clip_high: the ratio is clipped above ``1 + clip_high``.
        delta: where the advantage is negative, a ratio above it counts as ``delta`` (two-sided clipping); None bounds
            nothing.
        temperatures: of SAPO's gate, for positive and for negative advantages.
        max_difference: of probabilities, of DPPO's mask.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    clip_low: float = 0.2
    clip_high: float = 0.2
    delta: float | None = None
    temperatures: tuple[float, float] = (1.0, 1.05)
    max_difference: float = 0.2

    @property
    def log_ratio(self) -> Tensor:
        """``log w``, ``[n, T]``, 0 in padding."""
        return (self.logprobs - self.old_logprobs) * self.mask

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values [n, T]`` over the tokens of each completion, ``[n, 1]``."""
        return (values * self.mask).sum(-1, keepdim=True) / self.mask.sum(-1, keepdim=True).clamp(min=1)


class TokenLoss(NamedTuple):
    """What a loss says about some completions.

    Attributes:
        loss: ``[n, T]`` or ``[n, 1]``, to be minimised.
        clipped: ``[n, T]`` or ``[n, 1]``: whether clipping or masking has taken the gradient away.
    """

    loss: Tensor
    clipped: Tensor


Loss = Callable[[LossInputs], TokenLoss]


def _clip(ratio: Tensor, rows: LossInputs) -> TokenLoss:
    advantages = rows.advantages
    bounded = ratio if rows.delta is None else ratio.clamp(max=rows.delta)
    cut = ratio.clamp(1 - rows.clip_low, 1 + rows.clip_high)
    outside = ((ratio < 1 - rows.clip_low) & (advantages < 0)) | ((ratio > 1 + rows.clip_high) & (advantages > 0))
    return TokenLoss(-torch.minimum(bounded * advantages, cut * advantages), outside)


def clipped_ratio(rows: LossInputs) -> TokenLoss:
    """``-min(w A, clip(w, 1 - low, 1 + high) A)`` per token: PPO's clipped surrogate (arXiv 1707.06347, eq. 7), GRPO's
    (2402.03300, eq. 3), DAPO's with ``high > low`` (2503.14476, eq. 8), Dr. GRPO's (2503.20783, eq. 3)."""
    return _clip(rows.log_ratio.exp(), rows)


def sequence_ratio(rows: LossInputs) -> TokenLoss:
    """The same with one ratio per completion, ``w = exp(mean log-ratio)``: GSPO (arXiv 2507.18071, eq. 5 to 7) and,
    summed over the tokens, LUSPO (2602.05261)."""
    return _clip(rows.mean(rows.log_ratio).exp(), rows)


def geometric_mean(rows: LossInputs) -> TokenLoss:
    """``-A exp(mean of clipped log-ratios)``: GMPO (arXiv 2507.20673, eq. 4); log-ratios are clipped to
    ``[-low, high]``, on the side on which the surrogate is. The paper's range is 0.4 either way."""
    log_ratio, positive = rows.log_ratio, rows.advantages > 0
    cut = log_ratio.clamp(-rows.clip_low, rows.clip_high)
    one_sided = torch.where(positive, torch.minimum(log_ratio, cut), torch.maximum(log_ratio, cut))
    outside = torch.where(positive, log_ratio > rows.clip_high, (log_ratio < -rows.clip_low) & (rows.advantages < 0))
    return TokenLoss(-rows.advantages * rows.mean(one_sided).exp(), outside)


def clipped_weight(rows: LossInputs) -> TokenLoss:
    """``-sg(min(w, 1 + high)) A log p``: CISPO (arXiv 2506.13585, eq. 4 and 5). Every token keeps its gradient;
    only its weight is bounded."""
    ratio = rows.log_ratio.exp().detach()
    weight = ratio.clamp(max=1 + rows.clip_high)
    return TokenLoss(-weight * rows.advantages * rows.logprobs, torch.zeros_like(ratio, dtype=torch.bool))


def soft_gate(rows: LossInputs) -> TokenLoss:
    """``-(4 / t) sigmoid(t (w - 1)) A``, ``t`` by the sign of A: SAPO (arXiv 2511.20347, eq. 5 and 6): no token is cut
    off, those far from ``w = 1`` fade."""
    ratio = rows.log_ratio.exp()
    positive, negative = rows.temperatures
    gate = torch.where(rows.advantages > 0, positive, negative)
    loss = -torch.sigmoid(gate * (ratio - 1)) * 4 / gate * rows.advantages
    return TokenLoss(loss, torch.zeros_like(ratio, dtype=torch.bool))


def probability_mask(rows: LossInputs) -> TokenLoss:
    """``-w A`` where the step does not lead further away: DPPO (arXiv 2602.04879), with the difference of the sampled
    token's probabilities as the distance (binary total variation). A token with ``A > 0`` and ``p - p_old`` above
    ``max_difference``, or ``A < 0`` and below minus that, has no gradient. A rare token may grow by a large ratio."""
    difference = (rows.logprobs.exp() - rows.old_logprobs.exp()).detach()
    away = ((rows.advantages > 0) & (difference > rows.max_difference)) | (
        (rows.advantages < 0) & (difference < -rows.max_difference)
    )
    surrogate = -rows.log_ratio.exp() * rows.advantages
    return TokenLoss(torch.where(away, surrogate.detach(), surrogate), away)


class Named(NamedTuple):
    """A loss and the average that its paper takes.

    Attributes:
        loss: the function.
        aggregation: the paper's average.
        of_sequences: whether the ratio belongs to a whole completion, so that only averages of completions make sense.
    """

    loss: Loss
    aggregation: Aggregation
    of_sequences: bool = False


LOSSES: Mapping[str, Named] = {
    "grpo": Named(clipped_ratio, "sequence_mean"),
    "dr_grpo": Named(clipped_ratio, "constant"),
    "dapo": Named(clipped_ratio, "token_mean"),
    "bnpo": Named(clipped_ratio, "token_mean"),
    "reinforce++": Named(clipped_ratio, "token_mean"),
    "gspo": Named(sequence_ratio, "sequence_mean", of_sequences=True),
    "luspo": Named(sequence_ratio, "sequence_sum", of_sequences=True),
    "gmpo": Named(geometric_mean, "sequence_mean", of_sequences=True),
    "cispo": Named(clipped_weight, "token_mean"),
    "sapo": Named(soft_gate, "sequence_mean"),
    "dppo": Named(probability_mask, "token_mean"),
}
"""By the name of ``objective.loss``."""


def named_loss(config: ObjectiveConfig) -> Named:
    """The policy loss of a config with its average: one of :data:`LOSSES`, or the user's own.

    Raises:
        ConfigError: if the user's function cannot be loaded.
    """
    if ":" not in config.loss:
        return LOSSES[config.loss]
    function = load_function("objective.loss", config.loss)

    def own(rows: LossInputs) -> TokenLoss:
        shapes = {"token": rows.logprobs.shape, "completion": rows.advantages.shape}
        loss = checked_tensor("objective.loss", config.loss, function(rows), shapes)
        return TokenLoss(loss, torch.zeros_like(rows.logprobs, dtype=torch.bool))

    return Named(own, "sequence_mean")


def checked_tensor(field: str, name: str, found: Any, shapes: Mapping[str, torch.Size], finite: bool = False) -> Tensor:
    """What a function of the user's gave, if it is a tensor of one of these shapes.

    Args:
        field: of the config, for messages.
        name: where the function is.
        found: what it gave.
        shapes: those that are allowed, by what each number is for.
        finite: whether every number has to be; a step whose loss is not is skipped by itself.

    Raises:
        ConfigError: if it is not; the message says what is wanted.
    """
    fits = isinstance(found, Tensor) and found.shape in shapes.values()
    if fits and (not finite or bool(found.isfinite().all())):
        return cast(Tensor, found)
    shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    wanted = " or ".join(f"{list(size)}, one per {what}" for what, size in shapes.items())
    raise ConfigError(
        f"{field}: {name} gave {shape}; it has to give a tensor {wanted}{' of finite numbers' if finite else ''}"
    )


def kl_per_token(logprobs: Tensor, reference_logprobs: Tensor, how: str, log_ratio: Tensor | None = None) -> Tensor:
    """An estimate of the KL divergence from the reference, per sampled token; any shape.

    With ``d = logprobs - reference_logprobs``: ``k1`` is ``d``, ``k2`` is ``d^2 / 2``, ``k3`` is ``exp(-d) - 1 + d``
    (http://joschu.net/blog/kl-approx.html); ``k3_corrected`` multiplies k3 by the ratio to the policy that sampled, so
    that its gradient is that of the divergence after several updates too (arXiv 2512.02556).

    Args:
        logprobs: of the policy.
        reference_logprobs: of the reference.
        how: which estimate.
        log_ratio: ``logprobs - old_logprobs``, for ``k3_corrected``.
    """
    difference = logprobs - reference_logprobs
    if how == "k1":
        return difference
    if how == "k2":
        return difference.square() / 2
    k3 = (-difference).exp() - 1 + difference
    return k3 * log_ratio.exp() if how == "k3_corrected" and log_ratio is not None else k3


def entropy_per_token(rows: LossInputs, entropies: Tensor) -> Tensor:
    """A loss per token that falls as the policy's entropy rises, from the tokens that were drawn; ``[n, T]``.

    Its value is the sampled token's log-probability, whose mean is minus the entropy. Its gradient is ``w (log p + H)``
    times that of ``log p``, with the ratio ``w`` and the entropy ``H`` of the distribution drawn from as numbers: over
    the tokens that could have been drawn, its mean is the exact gradient of minus the entropy (REINFORCE with ``log p``
    as the reward and its mean as the baseline, Williams 1992), without the logits of any token but the drawn one.

    Args:
        rows: as of a policy loss.
        entropies: ``[n, T]``, nats.
    """
    surprise = (rows.logprobs + entropies).detach() * rows.log_ratio.exp().detach()
    slope = surprise * rows.logprobs
    return rows.logprobs.detach() + slope - slope.detach()
