"""What a step is measured by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.inputs import Inputs
from visual_rft.tasks import Sample, Score
from visual_rft.training.objective import ObjectiveStats


@dataclass(frozen=True)
class Rollouts:
    """What a policy sampled for one batch of prompts, and what it is worth.

    Attributes:
        samples: the B questions.
        inputs: their prompts after the processor.
        completions: ``[B, G, T]``.
        scores: one per completion, ``[B][G]``.
        rewards: totals of the scores, ``[B, G]``.
        advantages: of the rewards within their group, ``[B, G]``.
    """

    samples: Sequence[Sample]
    inputs: Inputs
    completions: Completions
    scores: Sequence[Sequence[Score]]
    rewards: Tensor
    advantages: Tensor


@dataclass(frozen=True)
class BatchResult:
    """What one batch of a step gave.

    Attributes:
        rollouts: what is learned from.
        stats: what the objective made of them.
        drawn: prompts that were answered besides, in the place of some that teach nothing.
        seen: rewards of all completions, of the others too, by the question's id.
        gold_loss: mean negative log-probability of the gold answers learned beside; None without any.
    """

    rollouts: Rollouts
    stats: ObjectiveStats
    drawn: int
    seen: Mapping[str, Sequence[float]]
    gold_loss: float | None = None


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


@dataclass
class Clock:
    """Where the time of a run goes.

    Attributes:
        started: when the session started, seconds of ``time.monotonic``.
        evaluation: seconds spent on evaluation.
        cpu: CPU seconds of this process in steps, without evaluations and checkpoints; what two methods cost can be
            compared by it on a busy machine.
    """

    started: float = field(default_factory=time.monotonic)
    evaluation: float = 0.0
    cpu: float = 0.0
    _step_started: float = 0.0

    def start_step(self) -> None:
        """A step begins."""
        self._step_started = time.process_time()

    def end_step(self) -> None:
        """The step has been learned from; what follows is not counted as its cost."""
        self.cpu += time.process_time() - self._step_started

    def seconds(self) -> dict[str, float]:
        """Seconds of training, of evaluation, and of both."""
        total = time.monotonic() - self.started
        return {"train": total - self.evaluation, "evaluation": self.evaluation, "total": total}


def _mean_where_applied(values: Sequence[float | None]) -> float | None:
    """The mean without the None of rewards that did not apply; None if none applied."""
    applied = [value for value in values if value is not None]
    return sum(applied) / len(applied) if applied else None


def _sampler_metrics(results: Sequence[BatchResult]) -> dict[str, float]:
    """How far the engine that sampled is from the policy; nothing where the policy sampled."""
    found = [r.stats.mismatch for r in results if r.stats.mismatch is not None]
    if not found:
        return {}
    return {
        "sampler/mean_difference": sum(one.mean for one in found) / len(found),
        "sampler/largest_difference": max(one.largest for one in found),
        "sampler/masked_share": sum(one.masked for one in found) / len(found),
        "sampler/lag": max(r.rollouts.completions.lag for r in results),
    }


def step_metrics(
    step: int, results: Sequence[BatchResult], grad_norm: float, learning_rate: float, watch: Stopwatch
) -> dict[str, Any]:
    """One flat line for ``metrics.jsonl`` from the batches of a step.

    ``reward_std`` is the mean over groups of the standard deviation within the group; ``zero_std_share`` the share
    of groups whose rewards are all equal (they teach nothing); ``extra_share`` how many prompts were answered besides,
    over those of the step; ``length`` is in tokens. ``entropy_estimate`` is the
    mean negative log-probability of the sampled tokens, in nats: what was sampled from the policy estimates its entropy
    per token, at the temperature of the rollout.
    """
    batches = [r.rollouts for r in results]
    rewards = torch.cat([b.rewards for b in batches])
    scores = [score for b in batches for group in b.scores for score in group]
    lengths = torch.cat([b.completions.lengths.flatten() for b in batches])
    surprise = -sum(b.completions.logprobs.detach().sum().item() for b in batches)
    truncated = torch.cat([b.completions.truncated.flatten() for b in batches])
    names = scores[0].parts
    return {
        "step": step,
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(1).mean().item(),
        "zero_std_share": (rewards == rewards[:, :1]).all(1).float().mean().item(),
        "extra_share": sum(r.drawn for r in results) / len(rewards),
        **{f"reward/{name}": _mean_where_applied([s.parts[name] for s in scores]) for name in names},
        "parse_failure_share": sum(s.failure is not None for s in scores) / len(scores),
        "truncated_share": truncated.float().mean().item(),
        "length": lengths.float().mean().item(),
        "entropy_estimate": surprise / max(1, int(lengths.sum())),
        "kl": sum(r.stats.kl for r in results) / len(results),
        "clipped_share": sum(r.stats.clipped for r in results) / len(results),
        "loss": sum(r.stats.loss for r in results) / len(results),
        **_sampler_metrics(results),
        **({} if (gold := _mean_where_applied([r.gold_loss for r in results])) is None else {"sft_loss": gold}),
        "grad_norm": grad_norm,
        "learning_rate": learning_rate,
        "tokens_per_second": lengths.sum().item() / watch.total,
        **{f"seconds/{name}": seconds for name, seconds in watch.seconds.items()},
        "seconds/step": watch.total,
    }
