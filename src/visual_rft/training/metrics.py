"""What a step is measured by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visual_rft.parallel.meetings import gather
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
        labels: what the task of each question is called; empty where the run has one.
    """

    samples: Sequence[Sample]
    inputs: Inputs
    completions: Completions
    scores: Sequence[Sequence[Score]]
    rewards: Tensor
    advantages: Tensor
    labels: Sequence[str] = ()


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


def _sampler_metrics(batches: Sequence[BatchNumbers]) -> dict[str, float]:
    """How far the engine that sampled is from the policy; nothing where the policy sampled."""
    found = [b.stats.mismatch for b in batches if b.stats.mismatch is not None]
    if not found:
        return {}
    return {
        "sampler/mean_difference": sum(one.mean for one in found) / len(found),
        "sampler/largest_difference": max(one.largest for one in found),
        "sampler/masked_share": sum(one.masked for one in found) / len(found),
        "sampler/lag": max(b.lag for b in batches),
    }


@dataclass(frozen=True)
class BatchNumbers:
    """What the metrics of a step need to know of one batch on one process, small enough to be told to the others.

    Attributes:
        rewards: totals, ``[B, G]``.
        lengths: tokens of each completion, ``[B, G]``.
        truncated: whether each was cut off, ``[B, G]``.
        parts: reward parts by name, of every completion.
        failed: whether each completion could not be read.
        labels: what the task of each question is called; empty where the run has one.
        surprise: negative log-probabilities of all tokens, summed up.
        stats: what the objective made of them.
        drawn: prompts that were answered besides.
        lag: optimiser steps between the weights that sampled and those that learn.
        gold_loss: mean negative log-probability of the gold answers that were taught besides; None if none were.
    """

    rewards: Tensor
    lengths: Tensor
    truncated: Tensor
    parts: list[dict[str, float | None]]
    failed: list[bool]
    labels: list[str]
    surprise: float
    stats: ObjectiveStats
    drawn: int
    lag: int
    gold_loss: float | None

    @classmethod
    def of(cls, result: BatchResult) -> BatchNumbers:
        rollouts, completions = result.rollouts, result.rollouts.completions
        scores = [score for group in rollouts.scores for score in group]
        return cls(
            rewards=rollouts.rewards.cpu(),
            lengths=completions.lengths.cpu(),
            truncated=completions.truncated.cpu(),
            parts=[dict(score.parts) for score in scores],
            failed=[score.failure is not None for score in scores],
            labels=list(rollouts.labels),
            surprise=-completions.logprobs.detach().sum().item(),
            stats=result.stats,
            drawn=result.drawn,
            lag=completions.lag,
            gold_loss=result.gold_loss,
        )


def step_metrics(
    step: int, results: Sequence[BatchResult], grad_norm: float, learning_rate: float, watch: Stopwatch
) -> dict[str, Any]:
    """One flat line for ``metrics.jsonl`` from the batches of a step on all processes; seconds are the slowest one's.

    ``reward_std`` is the mean over groups of the standard deviation within the group; ``zero_std_share`` the share
    of groups whose rewards are all equal (they teach nothing); ``extra_share`` how many prompts were answered besides,
    over those of the step; ``length`` is in tokens. ``entropy_estimate`` is the
    mean negative log-probability of the sampled tokens, in nats: what was sampled from the policy estimates its entropy
    per token, at the temperature of the rollout.
    """
    told = gather(([BatchNumbers.of(r) for r in results], watch.seconds, watch.total), "the metrics")
    batches = [b for together in zip(*(numbers for numbers, _, _ in told), strict=True) for b in together]
    slowest = max(total for _, _, total in told)
    rewards = torch.cat([b.rewards for b in batches])
    parts = [part for b in batches for part in b.parts]
    lengths = torch.cat([b.lengths.flatten() for b in batches])
    prompts, tokens = [len(b.rewards) for b in batches], [int(b.lengths.sum()) for b in batches]
    return {
        "step": step,
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(1).mean().item(),
        "zero_std_share": (rewards == rewards[:, :1]).all(1).float().mean().item(),
        "extra_share": sum(b.drawn for b in batches) / len(rewards),
        **_part_means(parts, "reward"),
        **_by_task(batches),
        "parse_failure_share": sum(sum(b.failed) for b in batches) / len(parts),
        "truncated_share": torch.cat([b.truncated.flatten() for b in batches]).float().mean().item(),
        "length": lengths.float().mean().item(),
        "entropy_estimate": sum(b.surprise for b in batches) / max(1, sum(tokens)),
        "kl": _weighted([b.stats.kl for b in batches], tokens),
        "clipped_share": _weighted([b.stats.clipped for b in batches], tokens),
        "loss": _weighted([b.stats.loss for b in batches], prompts),
        **_sampler_metrics(batches),
        **({} if (gold := _mean_where_applied([b.gold_loss for b in batches])) is None else {"sft_loss": gold}),
        "grad_norm": grad_norm,
        "learning_rate": learning_rate,
        "tokens_per_second": sum(tokens) / slowest,
        **{f"seconds/{name}": max(seconds[name] for _, seconds, _ in told) for name in watch.seconds},
        "seconds/step": slowest,
    }


def _part_means(parts: Sequence[Mapping[str, float | None]], prefix: str) -> dict[str, float | None]:
    """The mean of each reward part over the completions that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {f"{prefix}/{name}": _mean_where_applied([part.get(name) for part in parts]) for name in names}


def _by_task(batches: Sequence[BatchNumbers]) -> dict[str, Any]:
    """Of every task that a step asked its share of the questions, reward and parts, equal groups, unread answers."""
    labels = [label for b in batches for label in b.labels]
    if not labels:
        return {}
    rewards = torch.cat([b.rewards for b in batches])
    group = rewards.shape[1]
    parts, failed = [part for b in batches for part in b.parts], [one for b in batches for one in b.failed]
    found: dict[str, Any] = {}
    for task in sorted(set(labels)):
        rows = [place for place, label in enumerate(labels) if label == task]
        own = [place * group + n for place in rows for n in range(group)]
        earned = rewards[rows]
        found[f"{task}/questions_share"] = len(rows) / len(labels)
        found[f"{task}/reward"] = earned.mean().item()
        found |= _part_means([parts[place] for place in own], f"{task}/reward")
        found[f"{task}/zero_std_share"] = (earned == earned[:, :1]).all(1).float().mean().item()
        found[f"{task}/parse_failure_share"] = sum(failed[place] for place in own) / len(own)
    return found


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    """The mean of values that count as much as their weights; 0 without any weight."""
    return sum(v * w for v, w in zip(values, weights, strict=True)) / max(1, sum(weights))
