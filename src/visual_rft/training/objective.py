"""The GRPO loss as pure tensor functions (arXiv 2402.03300, equations 3 and 4).

Decision: averaging is a weight per token, fixed by the whole batch before anything is scored. A loss is then a plain
sum over tokens, and the shares of any completions, computed apart in micro-batches, add up to the loss of the batch.

Shapes: B prompts, G completions per prompt, T tokens; n some of the B * G completions.

>>> import torch
>>> lp = torch.log(torch.tensor([[[0.5, 0.5]]]))
>>> weights = token_weights(torch.ones(1, 1, 2, dtype=torch.bool), "sequence_mean")
>>> round(grpo_loss(lp, lp, None, torch.tensor([[2.0]]), weights, beta=0.0).item(), 6)
-2.0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from visual_rft.config.sections import ObjectiveConfig
from visual_rft.policy.engine.prefix import Completions

Aggregation = Literal["sequence_mean", "token_mean"]


@dataclass(frozen=True)
class ObjectiveStats:
    """What to log about a loss: its value, mean k3 KL per token (0 without reference), share of clipped tokens."""

    loss: float
    kl: float
    clipped: float


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Per-token KL estimate ``exp(ref - lp) - (ref - lp) - 1`` (Schulman's k3), >= 0; any shape."""
    difference = reference_logprobs - logprobs
    return difference.exp() - difference - 1


def token_weights(mask: Tensor, how: Aggregation) -> Tensor:
    """Weight ``[B, G, T]`` (float32) of each token of ``mask [B, G, T]`` in the loss; they sum to 1.

    ``sequence_mean`` gives every completion the same weight, as the method states (a completion without tokens has
    none, and the sum is less than 1); ``token_mean`` gives every token the same weight.
    """
    weight = mask.float()
    if how == "sequence_mean":
        return weight / weight.sum(-1, keepdim=True).clamp(min=1) / mask[..., 0].numel()
    return weight / weight.sum().clamp(min=1)


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor | None,
    advantages: Tensor,
    weights: Tensor,
    *,
    beta: float,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Tensor:
    """``-min(ratio * A, clip(ratio, 1 - low, 1 + high) * A) + beta * KL``, summed with a weight per token.

    Args:
        logprobs: ``[..., T]`` of the policy, with gradient.
        old_logprobs: ``[..., T]`` of the policy that sampled.
        reference_logprobs: ``[..., T]`` of the reference, or None if ``beta`` is 0.
        advantages: ``[...]``.
        weights: ``[..., T]`` of :func:`token_weights`; 0 in padding.
        beta: weight of the KL term, >= 0.
        clip_low: the ratio is clipped below ``1 - clip_low``.
        clip_high: the ratio is clipped above ``1 + clip_high``.

    Raises:
        ValueError: if ``beta`` is not 0 and there is no reference.
    """
    ratio = (logprobs - old_logprobs).exp()
    advantage = advantages[..., None].to(logprobs.dtype)
    per_token = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    if beta != 0:
        if reference_logprobs is None:
            raise ValueError("beta is not 0, so reference_logprobs are needed")
        per_token = per_token + beta * k3(logprobs, reference_logprobs)
    return (per_token * weights).sum()


@dataclass(frozen=True)
class GroupLoss:
    """The loss of a batch of groups, ready to be computed in shares: a :class:`~visual_rft.policy.loss.Loss`.

    Attributes:
        completions: what was sampled, ``[B, G, T]``, with the log-probabilities of the policy that sampled.
        advantages: ``[B, G]``.
        reference_logprobs: ``[B, G, T]``, or None if ``beta`` is 0.
        config: beta, clipping and averaging.
        scale: factor of the whole loss (one over the number of accumulated batches).
    """

    completions: Completions
    advantages: Tensor
    reference_logprobs: Tensor | None
    config: ObjectiveConfig
    scale: float = 1.0

    def share(self, logprobs: Tensor, numbers: Tensor) -> Tensor:
        """The share of completions ``numbers [n]`` (among all B * G), from their ``logprobs [n, T or fewer]``."""
        length = logprobs.shape[-1]
        weights = token_weights(self.completions.mask, self.config.aggregation) * self.scale
        reference = self.reference_logprobs
        return grpo_loss(
            logprobs,
            self.completions.logprobs.flatten(0, 1)[numbers, :length],
            None if reference is None else reference.flatten(0, 1)[numbers, :length],
            self.advantages.flatten()[numbers],
            weights.flatten(0, 1)[numbers, :length],
            beta=self.config.beta,
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
        )

    @property
    def needed(self) -> list[int]:
        """Numbers of the completions that move the policy.

        Without a KL term a group whose advantages are all 0 has no gradient. It keeps its tokens in the average, so
        leaving it out changes nothing but the time.
        """
        everything = torch.arange(self.advantages.numel(), device=self.advantages.device)
        if self.config.beta != 0:
            return list(everything.tolist())
        moved = (self.advantages != 0).any(1, keepdim=True).expand_as(self.advantages)
        return list(everything[moved.flatten()].tolist())

    def stats(self, logprobs: Tensor) -> ObjectiveStats:
        """What to log, from ``logprobs [B, G, T]`` of the policy before its step."""
        old, mask, reference = self.completions.logprobs, self.completions.mask, self.reference_logprobs
        everything = torch.arange(self.advantages.numel(), device=logprobs.device)
        advantage = self.advantages[..., None]
        ratio = (logprobs - old).exp()
        clipped = ((ratio < 1 - self.config.clip_low) & (advantage < 0)) | (
            (ratio > 1 + self.config.clip_high) & (advantage > 0)
        )
        tokens = token_weights(mask, "token_mean")
        kl = 0.0 if reference is None else (k3(logprobs, reference) * tokens).sum().item()
        loss = self.share(logprobs.flatten(0, 1), everything).item() / self.scale
        return ObjectiveStats(loss, kl, (clipped * tokens).sum().item())
