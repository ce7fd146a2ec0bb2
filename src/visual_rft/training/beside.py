"""What a completion's reward is compared with: its group, all groups of its question, or the batch of all processes.

Decision: which rewards stand beside which is settled here, so that the advantages (``advantages.py``) stay functions
of one table of rewards.

    advantages = beside_all(rewards, ADVANTAGES["group"], ["a", "b", "a"])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from visual_rft.parallel.meetings import gather, rows_of_all
from visual_rft.training.advantages import Advantages, Rewards


def beside_all(rewards: Rewards, advantages: Advantages, questions: Sequence[str] | None) -> Tensor:
    """Advantages of these rewards beside those of the same batch on all processes: some take the spread of a batch."""
    total, own = rows_of_all(rewards.total, "the rewards")
    parts = None if rewards.parts is None else rows_of_all(rewards.parts, "the parts of the rewards")[0]
    if questions is not None:
        questions = [name for part in gather(list(questions), "the questions of a batch") for name in part]
    return as_one_group(replace(rewards, total=total, parts=parts), advantages, questions)[own]


def as_one_group(rewards: Rewards, advantages: Advantages, questions: Sequence[str] | None) -> Tensor:
    """Advantages ``[B, G]`` where groups of the same question are one larger group.

    >>> from visual_rft.training.advantages import ADVANTAGES
    >>> twice = Rewards(torch.tensor([[0.0, 1.0], [4.0, 6.0], [2.0, 3.0]]))
    >>> as_one_group(twice, ADVANTAGES["none"], ["a", "b", "a"]).tolist()
    [[-1.5, -0.5], [-1.0, 1.0], [0.5, 1.5]]
    """
    if questions is None or len(set(questions)) == len(questions):
        return advantages(rewards)
    result = torch.empty_like(rewards.total)
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question, []).append(place)
    for size in {len(rows) for rows in places.values()}:
        rows = torch.tensor([rows for rows in places.values() if len(rows) == size])  # [questions, size]
        parts = None if rewards.parts is None else rewards.parts[rows].flatten(1, 2)
        pooled = Rewards(rewards.total[rows].flatten(1), parts, rewards.weights, rewards.earlier)
        result[rows] = advantages(pooled).view(*rows.shape, -1).to(result.dtype)
    return result
