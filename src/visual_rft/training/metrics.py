"""What a step is measured by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.prefix import Completions
from visual_rft.tasks import Score
from visual_rft.training.objective import ObjectiveStats

BatchResult = tuple[Tensor, Sequence[Sequence[Score]], Completions, float, ObjectiveStats]
"""Rewards ``[B, G]``, scores, completions, loss and objective statistics of one batch."""


class Stopwatch:
    """Seconds per named part of a step; parts of the same name add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start

    @property
    def total(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.monotonic() - self.started


def step_metrics(
    step: int, parts: Sequence[BatchResult], grad_norm: float, learning_rate: float, watch: Stopwatch
) -> dict[str, Any]:
    """One flat line for ``metrics.jsonl`` from the batches of a step.

    ``reward_std`` is the mean over groups of the standard deviation within the group; ``zero_std_share`` the share
    of groups whose rewards are all equal (they teach nothing); ``length`` is in tokens.
    """
    rewards = torch.cat([p[0] for p in parts])
    scores = [score for p in parts for group in p[1] for score in group]
    lengths = torch.cat([p[2].lengths.flatten() for p in parts])
    names = scores[0].parts
    return {
        "step": step,
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(1).mean().item(),
        "zero_std_share": (rewards == rewards[:, :1]).all(1).float().mean().item(),
        **{f"reward/{name}": sum(s.parts[name] for s in scores) / len(scores) for name in names},
        "parse_failure_share": sum(s.failure is not None for s in scores) / len(scores),
        "truncated_share": torch.cat([p[2].truncated.flatten() for p in parts]).float().mean().item(),
        "length": lengths.float().mean().item(),
        "kl": sum(p[4].kl for p in parts) / len(parts),
        "clipped_share": sum(p[4].clipped for p in parts) / len(parts),
        "loss": sum(p[3] for p in parts) / len(parts),
        "grad_norm": grad_norm,
        "learning_rate": learning_rate,
        "tokens_per_second": lengths.sum().item() / watch.total,
        **{f"seconds/{name}": seconds for name, seconds in watch.seconds.items()},
    }
