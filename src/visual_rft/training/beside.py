"""What a completion's reward is compared with: its group, all groups of its question, or the batch of all processes.

Decision: which rewards stand beside which is settled here, so that the advantages (``advantages.py``) stay functions
of one table of rewards, that of one task.

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
    tasks = rewards.tasks
    if questions is not None:
        questions = [name for part in gather(list(questions), "the questions of a batch") for name in part]
    if tasks:
        tasks = tuple(task for part in gather(tasks, "the tasks of a batch") for task in part)
    return within_task(replace(rewards, total=total, parts=parts, tasks=tasks), advantages, questions)[own]


def within_task(rewards: Rewards, advantages: Advantages, questions: Sequence[str] | None) -> Tensor:
    """Advantages ``[B, G]`` where each group is compared with those of its own task alone: rewards of two tasks have
    other parts and another range."""
    if not rewards.tasks:
        return as_one_group(rewards, advantages, questions)
    result = torch.empty_like(rewards.total)
    for task in dict.fromkeys(rewards.tasks):
        rows = [place for place, other in enumerate(rewards.tasks) if other == task]
        asked = None if questions is None else [questions[place] for place in rows]
        result[rows] = as_one_group(rewards.alone(rows), advantages, asked).to(result.dtype)
    return result


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
