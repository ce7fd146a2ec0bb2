"""Warnings in words when a run is unhealthy, each with what to try.

Decision: a finding is a pure function of the metrics so far, so that each is a row of a table in the tests, the console
says it when it begins, and a report finds it again in a run that has long ended.
:class:`HealthWatch` says each once when it begins and again only after it had gone away, not at every step.

>>> rows = [{"step": n, "reward": 0.1, "zero_std_share": 1.0} for n in range(10)]
>>> [finding.name for finding in findings(rows)]
['equal rewards']
>>> findings(rows[:5])
[]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from visual_rft.config.config import Config

WINDOW = 10
"""Steps that are averaged: one batch of 8 questions says little, ten of them 80 questions."""
MEDIAN_STEPS = 50
"""Steps whose median the latest value is compared with."""
MAX_EQUAL_SHARE = 0.7
"""Share of groups with equal rewards: beyond it fewer than a third of the rollouts teach anything."""
MAX_FAILURE_SHARE = 0.3
"""Share of answers that cannot be read."""
MAX_TRUNCATED_SHARE = 0.2
"""Share of completions that reached the length limit."""
MAX_TIMES_MEDIAN = 10.0
"""A gradient norm or KL so many times its own median is a blow-up; healthy runs stay within a factor of 3 or 4."""
MIN_KL_NATS = 0.1
"""Nats per token; below it a KL is small whatever its factor."""
MAX_KL_NATS = 1.0
"""Nats per token; the policy writes something else than the reference, however slowly it got there."""
MIN_ENTROPY_SHARE = 0.1
"""Share of the first steps' entropy; with rewards that are also equal nothing new is tried any more."""

MAX_SAMPLER_NATS = 0.05
"""Mean absolute difference per token; two right engines in bfloat16 are within 0.02, a stale one was 0.96 off."""
MAX_MASKED_SHARE = 0.1
"""Share of tokens without weight, because their sampler was too far from the policy."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something unhealthy: its name, and a sentence that says what was measured and what to try."""

    name: str
    text: str


@dataclass
class HealthWatch:
    """Remembers a run's metrics and which findings were told.

    Args:
        config: config of the run, whose limits the advice names.
    """

    config: Config | None = None
    rows: list[Row] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def new(self, metrics: Row) -> list[str]:
        """What has begun to look wrong with this step."""
        self.rows.append(metrics)
        found = findings(self.rows, self.config)
        new = [finding.text for finding in found if finding.name not in self.told]
        self.told = {finding.name for finding in found}
        return new


def findings(rows: Sequence[Row], config: Config | None = None) -> list[Finding]:
    """What looks wrong.

    Args:
        rows: metrics of all steps so far, oldest first; what a run does not measure is not judged.
        config: config of the run, whose present values the advice names.
    """
    config = config or Config()
    found = [
        _not_finite(rows), _blown_up(rows, "grad_norm", 0.0, "the gradient norm", _SMALLER_STEPS), _kl(rows, config),
    ]  # fmt: skip
    if len(rows) >= WINDOW:
        found += [_sampler(rows), _equal(rows, config), _failed(rows), _cut(rows, config), _entropy(rows, config)]
    return [finding for finding in found if finding is not None]


_SMALLER_STEPS = "lower optimizer.learning_rate, or lengthen optimizer.warmup_steps"


def _recent(rows: Sequence[Row], name: str) -> float | None:
    """The mean of the last steps; None if one of them does not have it."""
    values = [row.get(name) for row in rows[-WINDOW:]]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _equal(rows: Sequence[Row], config: Config) -> Finding | None:
    share = _recent(rows, "zero_std_share")
    if share is None or share <= MAX_EQUAL_SHARE:
        return None
    return Finding(
        "equal rewards",
        f"in {share:.0%} of the groups of the last {WINDOW} steps all answers earned the same, and such groups teach "
        f"nothing. If the reward is low, the questions are too hard or the reward too coarse: try {_graded(config)}, a "
        "warm start by sft (objective.warm_start), or rollout.group_size above "
        f"{config.rollout.group_size}. If it is high, they are solved: stop, or add harder ones. Where only some are "
        "flat, rollout.extra asks others in their place, and rollout.rest_steps lets them rest.",
    )


_GRADED = {
    "detection": "a graded reward (task.weights: iou_soft, iou_balanced)",
    "grounding": "a graded reward (task.weights: giou)",
    "many_classes": "a graded reward (task.weights: iou_soft)",
    "counting": "a reward of where they are too (task.weights: points)",
    "pointing": "a graded reward (task.weights: near)",
    "segmentation": "a reward of the box besides (task.weights: box_iou)",
    "classification": "a graded reward (task.weights: hierarchy, where truths name parents; or one of your own)",
}
"""A reward that tells a nearly right answer from a wrong one, by task."""


def _graded(config: Config) -> str:
    own = "a reward that gives a nearly right answer a part (docs/extend.md)"
    return _GRADED.get(config.task.name, own)


def _failed(rows: Sequence[Row]) -> Finding | None:
    share = _recent(rows, "parse_failure_share")
    if share is None or share <= MAX_FAILURE_SHARE:
        return None
    return Finding(
        "parse failures",
        f"{share:.0%} of the answers of the last {WINDOW} steps could not be read; the report shows why, one by one. "
        "Try a warm start by sft, more weight on the format reward, or another wording of the question.",
    )


def _cut(rows: Sequence[Row], config: Config) -> Finding | None:
    share = _recent(rows, "truncated_share")
    if share is None or share <= MAX_TRUNCATED_SHARE:
        return None
    return Finding(
        "truncations",
        f"{share:.0%} of the completions of the last {WINDOW} steps were cut off at the length limit: raise "
        f"rollout.max_new_tokens above {config.rollout.max_new_tokens}, or reward brevity (task.weights: length, "
        "repetition).",
    )


def _sampler(rows: Sequence[Row]) -> Finding | None:
    mean, masked = _recent(rows, "sampler/mean_difference"), _recent(rows, "sampler/masked_share")
    if mean is None or masked is None or (mean <= MAX_SAMPLER_NATS and masked <= MAX_MASKED_SHARE):
        return None
    return Finding(
        "sampler differs",
        f"over the last {WINDOW} steps the log-probabilities of the server that samples differed by {mean:.2g} nats "
        f"per token from the policy's, and {masked:.0%} of the tokens were left out for it. Use one number type on "
        "both sides (bfloat16 or float32), rollout.ahead 0, or a lower optimizer.learning_rate.",
    )


def _not_finite(rows: Sequence[Row]) -> Finding | None:
    bad = [name for name in ("loss", "grad_norm") if name in rows[-1] and rows[-1][name] is None]
    bad += [name for name in ("loss", "grad_norm") if (v := rows[-1].get(name)) is not None and v - v != 0]
    if not bad:
        return None
    return Finding(
        "not finite",
        f"{' and '.join(bad)} {'are' if len(bad) > 1 else 'is'} not finite, so nothing was learned in this "
        f"step. If it comes again, {_SMALLER_STEPS}; with model.dtype bfloat16 try float32 weights and model.autocast "
        "bfloat16.",
    )


def _blown_up(rows: Sequence[Row], name: str, least: float, what: str, advice: str) -> Finding | None:
    """The latest value beside the median of those before."""
    before = [value for row in rows[-MEDIAN_STEPS - 1 : -1] if (value := row.get(name)) is not None]
    now = rows[-1].get(name)
    if now is None or now - now != 0 or len(before) < WINDOW or now <= max(least, MAX_TIMES_MEDIAN * median(before)):
        return None
    return Finding(f"{name} blew up", f"{what} is {now:.3g}, its median was {median(before):.3g}: {advice}.")


def _kl(rows: Sequence[Row], config: Config) -> Finding | None:
    advice = f"{_SMALLER_STEPS}, or raise objective.beta above {config.objective.beta}"
    mean = _recent(rows, "kl")
    if len(rows) >= WINDOW and mean is not None and mean > MAX_KL_NATS:
        text = f"the KL to the reference was {mean:.2f} nats per token over the last {WINDOW} steps: {advice}."
        return Finding("kl blew up", text)
    return _blown_up(rows, "kl", MIN_KL_NATS, "the KL to the reference (nats per token)", advice)


def _entropy(rows: Sequence[Row], config: Config) -> Finding | None:
    now = _recent(rows, "entropy_estimate")
    first = _recent(rows[:WINDOW], "entropy_estimate")
    equal = _recent(rows, "zero_std_share")
    if now is None or not first or now > MIN_ENTROPY_SHARE * first or (equal is not None and equal <= 0.5):
        return None
    return Finding(
        "entropy collapse",
        f"the entropy of what is sampled fell from {first:.2g} to {now:.2g} nats per token: the policy hardly tries "
        f"anything else. {_SMALLER_STEPS[0].upper()}{_SMALLER_STEPS[1:]}, raise rollout.temperature above "
        f"{config.rollout.temperature}, or raise objective.beta above {config.objective.beta}.",
    )
