"""The loss of a batch of groups: a policy loss, an average, and the KL divergence to the reference.

Decision: averaging is a weight per token, fixed by the whole batch before anything is scored. A loss is then a plain
sum over tokens, and the shares of any completions, computed apart in micro-batches, add up to the loss of the batch.
Which policy loss is a name (``losses.py``); how rewards become advantages is another (``advantages.py``).

Shapes: B prompts, G completions per prompt, T tokens; n some of the B * G completions.

>>> import torch
>>> lp = torch.log(torch.tensor([[[0.5, 0.5]]]))
>>> mask = torch.ones(1, 1, 2, dtype=torch.bool)
>>> completions = Completions(torch.zeros(1, 1, 2), mask, lp, [], mask[..., 0])
>>> loss = GroupLoss(completions, torch.tensor([[2.0]]), None, ObjectiveConfig(beta=0.0))
>>> round(loss.share(lp[0], torch.tensor([0])).item(), 6)
-2.0
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.parallel.meetings import gather, total
from visual_rft.parallel.processes import here
from visual_rft.policy.engine.prefix import Completions
from visual_rft.samplers.mismatch import Mismatch, importance, mismatch
from visual_rft.tasks import Score
from visual_rft.training.advantages import Rewards, named_advantages
from visual_rft.training.beside import beside_all
from visual_rft.training.losses import Aggregation, LossInputs, Named, entropy_per_token, kl_per_token, named_loss


@dataclass(frozen=True)
class ObjectiveStats:
    """What to log about a loss: its value, mean k3 KL per token (0 without reference), share of clipped tokens, and how
    far the engine that sampled is from the policy (None where the policy sampled)."""

    loss: float
    kl: float
    clipped: float
    mismatch: Mismatch | None = None


def rewards_of(
    scores: Sequence[Sequence[Score]],
    weights: Mapping[str, float],
    earlier: Sequence[Sequence[float]],
    device: torch.device,
    labels: Sequence[str] = (),
) -> Rewards:
    """The totals and parts of scores as tensors.

    Args:
        scores: one per completion, ``[B][G]``.
        weights: of the parts, by name.
        earlier: parts of completions of earlier steps, in the same order; may be empty.
        device: where the tensors are made.
        labels: what the task of each of the B questions is called, which the names of its parts then begin with; empty
            where there is one task.
    """
    total = torch.tensor([[score.total for score in group] for group in scores], device=device)
    several = labels or [""] * len(scores)
    parts = [
        [[math.nan if part is None else part for part in part_values(score, weights, label)] for score in group]
        for label, group in zip(several, scores, strict=True)
    ]
    before = torch.tensor(earlier, device=device) if earlier else None
    of_task = tuple(name.partition("/")[0] for name in weights) if labels else ()
    return Rewards(total, torch.tensor(parts, device=device), tuple(weights.values()), before, tuple(labels), of_task)


def part_values(score: Score, names: Iterable[str], label: str = "") -> list[float | None]:
    """The parts of a score by name; None where one does not apply, or belongs to another task than ``label``."""
    if not label:
        return [score.parts[name] for name in names]
    whole = {f"{label}/{name}": value for name, value in score.parts.items()}
    return [whole.get(name) for name in names]


def advantages_of(
    rewards: Rewards,
    config: ObjectiveConfig,
    completions: Completions,
    reference_logprobs: Tensor | None,
    questions: Sequence[str] | None = None,
) -> Tensor:
    """Advantages ``[B, G]`` as the config wants them; with ``kl_in: reward`` the divergence is one more reward.

    Args:
        rewards: of the batch.
        config: names the advantages, and where the KL divergence goes.
        completions: what was rewarded, with the log-probabilities of the policy that sampled.
        reference_logprobs: ``[B, G, T]``, or None without a reference.
        questions: ids of the B questions; groups of the same one are compared as one. None takes all as different.
    """
    if config.kl_in == "reward" and config.beta != 0 and reference_logprobs is not None:
        kl = (kl_per_token(completions.logprobs, reference_logprobs, "k1") * completions.mask).sum(-1)
        total = rewards.total - config.beta * kl
        parts = rewards.parts
        if parts is not None:
            parts = torch.cat([parts, kl[..., None].to(parts.dtype)], -1)
        earlier = rewards.earlier  # in which nothing is known of the divergence
        if earlier is not None:
            earlier = torch.nn.functional.pad(earlier, (0, 1), value=math.nan)
        weights = (*rewards.weights, -config.beta)
        of_task = (*rewards.of_task, "") if rewards.of_task else ()
        rewards = replace(rewards, total=total, parts=parts, weights=weights, earlier=earlier, of_task=of_task)
    advantages = beside_all(rewards, named_advantages(config), questions)
    limit = config.advantage_limit
    return advantages if limit is None else advantages.clamp(-limit, limit)


def token_weights(mask: Tensor, how: Aggregation, longest: int = 1, tokens: float | None = None) -> Tensor:
    """Weight ``[B, G, T]`` (float32) of each token of ``mask [B, G, T]`` in the loss.

    ``sequence_mean`` gives every completion the same weight, as the method states (a completion without tokens has
    none); ``token_mean`` gives every token the same weight; the weights of both sum to 1. ``constant`` gives a token
    ``1 / (B * G * longest)``, ``longest`` being the greatest length a completion can have, so that a longer answer
    weighs more; ``sequence_sum`` gives it ``1 / (B * G)``. ``tokens`` counts as the number of tokens in ``token_mean``
    where it is given (:func:`tokens_of_batch`).
    """
    weight = mask.float()
    completions = mask[..., 0].numel()
    if how == "sequence_mean":
        return weight / weight.sum(-1, keepdim=True).clamp(min=1) / completions
    if how == "token_mean":
        return weight / (weight.sum().clamp(min=1) if tokens is None else tokens)
    return weight / completions / (longest if how == "constant" else 1)


def tokens_of_batch(tokens: float, prompts: int) -> float:
    """Tokens of a batch, of which other processes have a part; as many as fall on these prompts if they were alike.

    Args:
        tokens: of this process's part.
        prompts: of this process's part.

    A loss divided by it is a part of the mean over all tokens of the batch, once it is weighed by the share of its
    prompts, as every loss here is.
    """
    if here().size == 1:
        return max(tokens, 1.0)
    of_all = total(tokens, "the tokens of a batch"), total(prompts, "the prompts of a batch")
    return max(of_all[0], 1.0) * prompts / max(of_all[1], 1.0)


@dataclass(frozen=True)
class GroupLoss:
    """The loss of a batch of groups, ready to be computed in shares: a :class:`~visual_rft.policy.loss.Loss`.

    Attributes:
        completions: what was sampled, ``[B, G, T]``, with the log-probabilities of the policy that sampled.
        advantages: ``[B, G]``.
        reference_logprobs: ``[B, G, T]``, or None if ``beta`` is 0.
        config: beta, clipping and averaging.
        scale: factor of the whole loss (one over the number of accumulated batches).
        longest: greatest number of tokens a completion can have, for the average ``constant``.
    """

    completions: Completions
    advantages: Tensor
    reference_logprobs: Tensor | None
    config: ObjectiveConfig
    scale: float = 1.0
    longest: int = 1

    def __post_init__(self) -> None:
        # Here, where every process comes by: one whose groups all have equal rewards asks for no share later.
        assert self._weights.isfinite().all()
        if self.config.top_entropy < 1:
            assert self._uncertain.dtype == torch.bool
        if self.config.entropy_weight != 0:
            assert self._mean.isfinite().all()

    @cached_property
    def _named(self) -> Named:
        return named_loss(self.config)

    @cached_property
    def _counts(self) -> Tensor:
        """``[B, G, T]`` bool: tokens that are learned from."""
        if self.config.truncated == "keep":
            return self.completions.mask
        return self.completions.mask & ~self.completions.truncated[..., None]

    @cached_property
    def _weights(self) -> Tensor:
        how = self.config.aggregation or self._named.aggregation
        tokens = tokens_of_batch(float(self._counts.sum()), len(self._counts)) if how == "token_mean" else None
        weights = token_weights(self._counts, how, self.longest, tokens)
        return (weights if self._importance is None else weights * self._importance).flatten(0, 1)

    @cached_property
    def _mean(self) -> Tensor:
        """``[B * G, T]``: the weights of a mean over all tokens of the batch."""
        tokens = tokens_of_batch(float(self._counts.sum()), len(self._counts))
        return token_weights(self._counts, "token_mean", tokens=tokens).flatten(0, 1)

    @cached_property
    def _importance(self) -> Tensor | None:
        """``[B, G, T]`` correction of what another engine sampled; None where the policy did."""
        drawn, config = self.completions, self.config
        if drawn.sampled is None:
            return None
        return importance(drawn.logprobs, drawn.sampled, drawn.mask, config.correction, config.correction_limit)

    @property
    def _entropies(self) -> Tensor:
        if self.completions.entropies is None:
            raise ValueError("entropy_weight or top_entropy is set, so completions need their entropies")
        return self.completions.entropies

    @cached_property
    def _uncertain(self) -> Tensor:
        """``[B * G, T]`` bool: drawn from one of the greatest entropies of the whole batch (arXiv 2506.01939)."""
        everything = torch.cat(gather(self._entropies[self._counts].float().cpu(), "the entropies"))
        if not len(everything):
            return self._counts.flatten(0, 1)
        least = torch.quantile(everything, 1 - self.config.top_entropy).to(self._entropies.device)
        return (self._counts & (self._entropies >= least)).flatten(0, 1)

    def share(self, logprobs: Tensor, numbers: Tensor) -> Tensor:
        """The share of completions ``numbers [n]`` (among all B * G), from their ``logprobs [n, T or fewer]``."""
        rows = self._rows(logprobs, numbers)
        length = logprobs.shape[-1]
        per_token = self._named.loss(rows).loss
        if self.config.top_entropy < 1:
            per_token = per_token * self._uncertain[numbers, :length]
        if self.config.beta != 0 and self.config.kl_in == "loss":
            per_token = per_token + self.config.beta * self._kl(rows, numbers)
        loss = (per_token * self._weights[numbers, :length]).sum()
        if self.config.entropy_weight != 0:
            entropies = self._entropies.flatten(0, 1)[numbers, :length]
            terms = entropy_per_token(rows, entropies) * self._mean[numbers, :length]
            loss = loss + self.config.entropy_weight * terms.sum()
        return loss * self.scale

    @property
    def needed(self) -> list[int]:
        """Numbers of the completions that move the policy.

        A completion without weight has no gradient, and without a KL term or entropy bonus neither has one whose
        advantage is 0 (a loss of the user's own may do with it what it likes). It keeps its place in the average, so
        leaving it out changes nothing but the time.
        """
        moved = self._counts.any(-1)
        by_advantage_alone = self.config.entropy_weight == 0 and (
            self.config.beta == 0 or self.config.kl_in == "reward"
        )
        if by_advantage_alone and ":" not in self.config.loss:
            moved = moved & (self.advantages != 0)
        return list(moved.flatten().nonzero().flatten().tolist())

    def stats(self, logprobs: Tensor) -> ObjectiveStats:
        """What to log, from ``logprobs [B, G, T]`` of the policy before its step."""
        everything = torch.arange(self.advantages.numel(), device=logprobs.device)
        rows = self._rows(logprobs.flatten(0, 1), everything)
        tokens = token_weights(self.completions.mask, "token_mean").flatten(0, 1)
        kl = 0.0
        if self.reference_logprobs is not None:
            kl = (kl_per_token(rows.logprobs, self.reference_logprobs.flatten(0, 1), "k3") * tokens).sum().item()
        loss = self.share(logprobs.flatten(0, 1), everything).item() / self.scale
        drawn, apart = self.completions, None
        if drawn.sampled is not None and self._importance is not None:
            apart = mismatch(drawn.logprobs, drawn.sampled, drawn.mask, self._importance)
        return ObjectiveStats(loss, kl, (self._named.loss(rows).clipped * tokens).sum().item(), apart)

    def _rows(self, logprobs: Tensor, numbers: Tensor) -> LossInputs:
        length, config = logprobs.shape[-1], self.config
        return LossInputs(
            logprobs=logprobs,
            old_logprobs=self.completions.logprobs.flatten(0, 1)[numbers, :length],
            advantages=self.advantages.flatten()[numbers, None].to(logprobs.dtype),
            mask=self.completions.mask.flatten(0, 1)[numbers, :length].to(logprobs.dtype),
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            delta=config.delta,
            temperatures=config.sapo_temperatures,
            max_difference=config.dppo_difference,
        )

    def _kl(self, rows: LossInputs, numbers: Tensor) -> Tensor:
        if self.reference_logprobs is None:
            raise ValueError("beta is not 0, so reference_logprobs are needed")
        reference = self.reference_logprobs.flatten(0, 1)[numbers, : rows.logprobs.shape[-1]]
        return kl_per_token(rows.logprobs, reference, self.config.kl, rows.log_ratio)
