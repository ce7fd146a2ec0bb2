"""The GRPO loss as pure tensor functions (arXiv 2402.03300, equations 3 and 4).

Shapes: B prompts, G completions per prompt, T tokens.

>>> import torch
>>> lp = torch.log(torch.tensor([[[0.5, 0.5]]]))
>>> mask = torch.ones(1, 1, 2, dtype=torch.bool)
>>> loss, _ = grpo_loss(lp, lp, None, torch.tensor([[2.0]]), mask, beta=0.0)
>>> round(loss.item(), 6)
-2.0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["sequence_mean", "token_mean"]


@dataclass(frozen=True)
class ObjectiveStats:
    """What to log about a loss: mean k3 KL per token (0 without reference) and share of clipped tokens."""

    kl: float
    clipped: float


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Per-token KL estimate ``exp(ref - lp) - (ref - lp) - 1`` (Schulman's k3), >= 0; any shape."""
    difference = reference_logprobs - logprobs
    return difference.exp() - difference - 1


def aggregate(per_token: Tensor, mask: Tensor, how: Aggregation) -> Tensor:
    """Scalar mean of ``per_token [B, G, T]`` over the true positions of ``mask [B, G, T]``.

    ``sequence_mean`` takes the mean of each completion first, as the method states; ``token_mean`` gives every token
    the same weight.
    """
    weight = mask.to(per_token.dtype)
    if how == "sequence_mean":
        return ((per_token * weight).sum(-1) / weight.sum(-1).clamp(min=1)).mean()
    return (per_token * weight).sum() / weight.sum().clamp(min=1)


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    beta: float,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence_mean",
) -> tuple[Tensor, ObjectiveStats]:
    """``-min(ratio * A, clip(ratio, 1 - low, 1 + high) * A) + beta * KL``, averaged over tokens.

    Args:
        logprobs: ``[B, G, T]`` of the policy, with gradient.
        old_logprobs: ``[B, G, T]`` of the policy that sampled.
        reference_logprobs: ``[B, G, T]`` of the reference, or None if ``beta`` is 0.
        advantages: ``[B, G]``.
        mask: ``[B, G, T]`` bool, true for completion tokens.
        beta: weight of the KL term, >= 0.
        clip_low: the ratio is clipped below ``1 - clip_low``.
        clip_high: the ratio is clipped above ``1 + clip_high``.
        aggregation: see :func:`aggregate`.

    Returns:
        The scalar loss and what to log.

    Raises:
        ValueError: if ``beta`` is not 0 and there is no reference.
    """
    if beta != 0 and reference_logprobs is None:
        raise ValueError("beta is not 0, so reference_logprobs are needed")
    ratio = (logprobs - old_logprobs).exp()
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    advantage = advantages[..., None].to(logprobs.dtype)
    per_token = -torch.minimum(ratio * advantage, clipped_ratio * advantage)
    kl = 0.0
    if beta != 0 and reference_logprobs is not None:
        divergence = k3(logprobs, reference_logprobs)
        per_token = per_token + beta * divergence
        kl = aggregate(divergence.detach(), mask, "token_mean").item()
    is_clipped = ((ratio < 1 - clip_low) & (advantage < 0)) | ((ratio > 1 + clip_high) & (advantage > 0))
    clipped = aggregate(is_clipped.to(logprobs.dtype), mask, "token_mean").item()
    return aggregate(per_token, mask, aggregation), ObjectiveStats(kl, clipped)
