"""Rewards of a group to advantages, by name (GRPO, arXiv 2402.03300, section 4.1.1, and its kin).

Decision: pure functions of the rewards ``[B, G]`` and their parts ``[B, G, R]``, in one plain dict
(:data:`ADVANTAGES`). Whatever the name, a completion that earned what all of its group earned in every part has
advantage 0 and is skipped.

>>> import torch
>>> [round(a, 3) for a in group_advantages(torch.tensor([[0.0, 1.0, 2.0]]))[0].tolist()]
[-1.0, 0.0, 1.0]
>>> leave_one_out(Rewards(torch.tensor([[0.0, 1.0, 2.0]])))[0].tolist()
[-1.5, 0.0, 1.5]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.tasks.plugins import load_function
from visual_rft.training.losses import checked_tensor

EPSILON = 1e-4
"""Keeps a group with nearly equal rewards finite; TRL and the paper's public code use the same value."""


@dataclass(frozen=True)
class Rewards:
    """What a batch of groups earned.

    Attributes:
        total: ``[B, G]``, any range, finite; G >= 2.
        parts: ``[B, G, R]``, each reward before its weight, NaN where it does not apply; None if only totals are known.
        weights: of the R parts.
        earlier: ``[N, R]`` parts of completions of earlier steps; None if there are none.
        tasks: of the B groups, in a run of several; empty where there is one.
        of_task: the task that each of the R parts belongs to; empty means all.

    Raises:
        ValueError: if the shape is another or a total is not finite.
    """

    total: Tensor
    parts: Tensor | None = None
    weights: Sequence[float] = (1.0,)
    earlier: Tensor | None = None
    tasks: tuple[str, ...] = ()
    of_task: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.total.ndim != 2 or self.total.shape[1] < 2:
            raise ValueError(
                f"rewards must be [B, G] with G >= 2 to compare within a group, got {list(self.total.shape)}"
            )
        if not torch.isfinite(self.total).all():
            raise ValueError("a reward is not finite")

    def alone(self, groups: list[int]) -> Rewards:
        """Some groups of one task, with its own parts."""
        task = self.tasks[groups[0]]
        parts = [place for place, of in enumerate(self.of_task) if of in ("", task)]
        return Rewards(
            self.total[groups],
            None if self.parts is None else self.parts[groups][..., parts],
            tuple(self.weights[place] for place in parts),
            None if self.earlier is None else self.earlier[:, parts],
        )

    def summed(self, compare: Callable[[Tensor], Tensor]) -> Tensor:
        """``[B, G]``: each part compared within its group, times its weight, summed; 0 where it does not apply."""
        parts = self.total[..., None] if self.parts is None else self.parts
        compared = [weight * compare(part) for weight, part in zip(self.weights, parts.unbind(-1), strict=True)]
        return torch.stack([torch.nan_to_num(part, nan=0.0) for part in compared]).sum(0)


Advantages = Callable[[Rewards], Tensor]
"""``[B, G]`` from the rewards."""


def group_advantages(rewards: Tensor) -> Tensor:
    """``A = (r - mean) / (std + 1e-4)`` within each group, with the unbiased standard deviation.

    Args:
        rewards: ``[B, G]``, any range, finite.

    Returns:
        ``[B, G]``, mean 0 in each group; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: if G < 2 or a reward is not finite.
    """
    return within_group(Rewards(rewards))


def within_group(rewards: Rewards) -> Tensor:
    """``(r - mean of the group) / (std of the group + 1e-4)``: GRPO."""
    return _normalised(rewards.total)


def within_batch(rewards: Rewards) -> Tensor:
    """``(r - mean of the group) / (std of the batch + 1e-4)``: a group that hardly differs teaches less (arXiv
    2508.08221)."""
    return _centred(rewards.total) / (rewards.total.std() + EPSILON)


def without_scale(rewards: Rewards) -> Tensor:
    """``r - mean of the group``: Dr. GRPO (arXiv 2503.20783, eq. 3)."""
    return _centred(rewards.total)


def leave_one_out(rewards: Rewards) -> Tensor:
    """``r - mean of the others of the group``: RLOO (arXiv 2402.14740, eq. 7), ``G / (G - 1)`` times the centred."""
    group = rewards.total.shape[1]
    return _centred(rewards.total) * group / (group - 1)


def per_reward(rewards: Rewards) -> Tensor:
    """Each reward normalised within its group, summed by weight, the sum normalised over the batch: GDPO (arXiv
    2601.05242). A reward of small spread so counts as much as one of large spread."""
    summed = rewards.summed(_normalised)
    return torch.where(_all_equal(summed), 0.0, (summed - summed.mean()) / (summed.std() + EPSILON))


def ranks(rewards: Rewards) -> Tensor:
    """The rank of each reward within its group, from -1 (lowest) to 1 (highest), ties sharing their mean; the mean over
    the rewards by weight.

    Ranks do not care how a reward is scaled, so a coarse and a fine one, or one with outliers, can be mixed.
    """
    return rewards.summed(_ranked) / sum(abs(weight) for weight in rewards.weights)


def ranks_in_history(rewards: Rewards) -> Tensor:
    """The share of earlier and present completions that earned less in each reward (ties count half), mean over the
    rewards by weight; from it the group's mean is taken, times 2, so that the range is that of :func:`ranks`.

    Unlike the rank in the group it keeps how far answers are apart, measured by how often such a step is made: an IoU
    of 0.9 beside 0.89 differs little, beside answers that mostly earn 0.2 much.
    """
    parts = rewards.total[..., None] if rewards.parts is None else rewards.parts
    present = parts.flatten(0, 1)
    known = present if rewards.earlier is None else torch.cat([rewards.earlier.to(present), present])
    summed = torch.zeros_like(parts[..., 0])
    for weight, part, among in zip(rewards.weights, parts.unbind(-1), known.unbind(-1), strict=True):
        summed = summed + weight * torch.nan_to_num(_centred(_share_below(part, among[~among.isnan()])), nan=0.0)
    return 2 * summed / sum(abs(weight) for weight in rewards.weights)


ADVANTAGES: Mapping[str, Advantages] = {
    "group": within_group,
    "batch": within_batch,
    "none": without_scale,
    "rloo": leave_one_out,
    "gdpo": per_reward,
    "rank": ranks,
    "history_rank": ranks_in_history,
}
"""By the name of ``objective.advantages``."""


def named_advantages(config: ObjectiveConfig) -> Advantages:
    """The advantages of a config: one of :data:`ADVANTAGES`, or the user's own.

    Raises:
        ConfigError: if the user's function cannot be loaded.
    """
    if ":" not in config.advantages:
        return ADVANTAGES[config.advantages]
    function = load_function("objective.advantages", config.advantages)

    def own(rewards: Rewards) -> Tensor:
        found = function(rewards)
        shape = {"completion": rewards.total.shape}
        return checked_tensor("objective.advantages", config.advantages, found, shape, finite=True)

    return own


def _centred(values: Tensor) -> Tensor:
    """Minus the mean of the group; exactly 0 where all of a group are equal; NaN stays NaN and counts for nothing."""
    return torch.where(_all_equal(values), 0.0, values - values.nanmean(1, keepdim=True))


def _normalised(values: Tensor) -> Tensor:
    centred = _centred(values)
    count = (~values.isnan()).sum(1, keepdim=True)
    return centred / ((centred.square().nansum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt() + EPSILON)


def _ranked(values: Tensor) -> Tensor:
    """Ranks of ``[B, G]`` within the groups, scaled to -1 .. 1; NaN where the value is."""
    below = (values[:, :, None] > values[:, None]).float().sum(2)
    same = (values[:, :, None] == values[:, None]).float().sum(2)
    others = ((~values.isnan()).sum(1, keepdim=True) - 1).clamp(min=1)
    return torch.where(values.isnan(), torch.nan, 2 * (below + (same - 1) / 2) / others - 1)


def _share_below(values: Tensor, among: Tensor) -> Tensor:
    """Share of ``among [N]`` that is less than each value, ties counting half; NaN where the value is."""
    ordered = among.sort().values
    below, upto = (torch.searchsorted(ordered, values.contiguous(), right=right) for right in (False, True))
    return torch.where(values.isnan(), torch.nan, (below + upto) / 2 / max(1, len(among)))


def _all_equal(values: Tensor) -> Tensor:
    return (values == values[:, :1]).all(1, keepdim=True)
