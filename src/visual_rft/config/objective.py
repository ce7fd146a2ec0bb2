"""The section ``objective`` of a config: the policy loss, and how rewards become advantages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visual_rft.config.sections import Section

LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "reinforce++", "gspo", "luspo", "gmpo", "cispo", "sapo", "dppo")
Correction = Literal["none", "token_truncate", "sequence_truncate", "token_mask", "sequence_mask"]
OF_SEQUENCES = ("gspo", "luspo", "gmpo")
"""Losses whose ratio belongs to a whole completion."""
OVER_TOKENS = ("dapo", "bnpo", "reinforce++", "cispo", "dppo")
"""Losses whose own average is over all tokens."""
CLIPPED = ("grpo", "dr_grpo", "dapo", "bnpo", "reinforce++", "gspo", "luspo")
"""Losses that take the smaller of two surrogates."""
USED_BY = {
    "clip_low": (*CLIPPED, "gmpo"),
    "clip_high": (*CLIPPED, "gmpo", "cispo"),
    "delta": CLIPPED,
    "sapo_temperatures": ("sapo",),
    "dppo_difference": ("dppo",),
}
"""Fields that some losses have no use for."""
ADVANTAGES = ("group", "batch", "none", "rloo", "gdpo", "rank", "history_rank")
BY_PARTS = ("gdpo", "rank", "history_rank")
"""Advantages that compare each reward by itself."""

_Positive = Annotated[float, Field(gt=0)]


class ObjectiveConfig(Section):
    """The policy loss, and how rewards become advantages (docs/objectives.md)."""

    may_change = (
        "advantage_limit", "beta", "clip_low", "clip_high", "delta", "dppo_difference", "entropy_weight", "sft_weight",
        "top_entropy",
    )  # fmt: skip

    loss: str = "grpo"
    """grpo, dr_grpo, dapo, bnpo, reinforce++, gspo, luspo, gmpo, cispo, sapo, dppo, or your own as file.py:function."""
    aggregation: Literal["sequence_mean", "token_mean", "constant", "sequence_sum"] | None = None
    """Mean over the tokens of each completion first, over all tokens of a batch at once, over the longest length there
    can be, or their sum; null takes what the loss's paper does (grpo: sequence_mean)."""
    advantages: str = "group"
    """A reward beside its group: group (by its spread, the method), batch (by the batch's), none, rloo (beside the mean
    of the others), gdpo (each reward on its own scale before they are summed), rank, history_rank (rank among what was
    earned lately), or your own as file.py:function."""
    advantage_limit: float | None = Field(None, gt=0)
    """Advantages are cut to this size; null cuts none."""
    beta: float = Field(0.04, ge=0)
    """Weight of the KL divergence to the reference; 0 keeps no reference."""
    kl: Literal["k1", "k2", "k3", "k3_corrected"] = "k3"
    """Its estimate per token; k3_corrected multiplies k3 by the ratio to the policy that sampled."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Added to the loss, or taken off the reward (as k1, summed over the tokens) before advantages are computed."""
    clip_low: float = Field(0.2, ge=0)
    """The ratio is clipped below 1 - clip_low (gmpo: its logarithm below -clip_low)."""
    clip_high: float = Field(0.2, ge=0)
    """The ratio is clipped above 1 + clip_high (gmpo: its logarithm above clip_high; cispo: the weight)."""
    delta: float | None = Field(None, gt=1)
    """Where the advantage is negative a ratio above this counts as this (two-sided clipping); null bounds nothing."""
    sapo_temperatures: tuple[_Positive, _Positive] = (1.0, 1.05)
    """Of sapo's gate, for positive and for negative advantages."""
    dppo_difference: float = Field(0.2, gt=0, lt=1)
    """Change of a token's probability beyond which dppo does not push it further."""
    entropy_weight: float = Field(0.0, ge=0)
    """Weight of the policy's entropy, the mean over all tokens, which is taken off the loss: it goes on trying."""
    top_entropy: float = Field(1.0, gt=0, le=1)
    """Share of a step's tokens that the policy loss learns from, those drawn from the greatest entropy; 1 takes all."""
    updates_per_rollout: int = Field(1, ge=1)
    """Optimiser steps on each set of completions."""
    warm_start: int = Field(0, ge=0)
    """Steps at the start of the run, out of run.steps, that learn the gold answers instead, as ``visual-rft sft``."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of the gold answers' mean negative log-probability, added to the loss; may fall over the run."""
    sft_prompts: Literal["all", "unsolved"] = "all"
    """Whose gold answers: those of all prompts, or of those whose answers all earned less than the gold one."""
    truncated: Literal["keep", "mask"] = "keep"
    """Completions that reached the length limit: learned from like others, or without weight in the loss (they still
    count in their group's mean)."""

    correction: Correction = "sequence_mask"
    """Where another engine samples (rollout.engine): weight of a token or a whole completion by how much more likely
    the policy finds it than the sampler did, cut at correction_limit or 0 beyond it. Without another engine it is 1."""
    correction_limit: float = Field(3.0, gt=1)
    """Greatest such ratio."""

    def _is_set(self, field: str) -> bool:
        """Whether a field has another value than its default, now or later."""
        return (field,) in self._schedules or getattr(self, field) != type(self).model_fields[field].default

    @property
    def compares_parts(self) -> bool:
        """Whether completions that earned the same in all can still differ in their advantages."""
        return self.advantages in BY_PARTS or ":" in self.advantages

    @property
    def averages_tokens(self) -> bool:
        """Whether the loss is an average over all tokens of a step, not first over those of each completion."""
        return (self.aggregation or ("token_mean" if self.loss in OVER_TOKENS else None)) == "token_mean"

    @property
    def needs_entropies(self) -> bool:
        """Whether the entropy of every distribution is needed that a token is drawn from, now or later."""
        return self.ever("entropy_weight") > 0 or self.top_entropy < 1 or ("top_entropy",) in self._schedules

    @model_validator(mode="after")
    def _fits_together(self) -> ObjectiveConfig:
        if ":" not in self.loss and self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; choose from {', '.join(LOSSES)}, or name a file.py:function")
        if ":" not in self.advantages and self.advantages not in ADVANTAGES:
            raise ValueError(
                f"unknown advantages {self.advantages!r}; choose from {', '.join(ADVANTAGES)}, or name a "
                "file.py:function"
            )
        for field, losses in USED_BY.items():
            if ":" not in self.loss and self.loss not in losses and self._is_set(field):
                raise ValueError(
                    f"{field} has no effect on loss {self.loss} (it is for {', '.join(losses)}); leave it out"
                )
        if self.loss in OF_SEQUENCES and self.aggregation in ("token_mean", "constant"):
            raise ValueError(
                f"aggregation {self.aggregation!r} averages tokens, but the ratio of {self.loss} belongs to a whole "
                "completion; use sequence_mean or sequence_sum, or leave it null"
            )
        if self.warm_start and self.ever("beta") > 0:
            raise ValueError(
                "with warm_start the reference of beta would be the base before it, to which the policy would be led "
                "back; set beta 0, or run visual-rft sft first and start from that run's model"
            )
        if self.kl == "k1" and self.kl_in == "loss" and self.ever("beta") > 0:
            raise ValueError(
                "the gradient of kl 'k1' is 0 in expectation, so in the loss it only adds noise; use k2 or k3, or "
                "kl_in 'reward'"
            )
        return self
