"""Rewards of a group to advantages (GRPO, arXiv 2402.03300, section 4.1.1).

>>> import torch
>>> [round(a, 3) for a in group_advantages(torch.tensor([[0.0, 1.0, 2.0]]))[0].tolist()]
[-1.0, 0.0, 1.0]
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-4
"""Keeps a group with nearly equal rewards finite; TRL and the paper's public code use the same value."""


def group_advantages(rewards: Tensor) -> Tensor:
    """``A = (r - mean) / (std + 1e-4)`` within each group, with the unbiased standard deviation.

    Args:
        rewards: ``[B, G]``, any range, finite.

    Returns:
        ``[B, G]``, mean 0 in each group; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: if G < 2 or a reward is not finite.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards must be [B, G] with G >= 2 to compare within a group, got {list(rewards.shape)}")
    if not torch.isfinite(rewards).all():
        raise ValueError("a reward is not finite")
    centred = rewards - rewards.mean(1, keepdim=True)
    equal = (rewards == rewards[:, :1]).all(1, keepdim=True)
    return torch.where(equal, 0.0, centred / (rewards.std(1, keepdim=True) + EPSILON))
