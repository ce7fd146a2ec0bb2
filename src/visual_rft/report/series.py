"""Which numbers of a run are curves, in which order, and how they are called.

>>> label_of("top1_strict"), label_of("accuracy"), label_of("hit_rate")
('accuracy', 'accuracy', 'hits at IoU 0.5')
>>> label_of("zero_std_share"), label_of("reward/iou"), label_of("seconds/update")
('groups with equal rewards', 'reward: iou', 'seconds: update')
>>> label_of("find/mean_iou"), label_of("find/reward/iou")
('find: mean IoU', 'find: reward: iou')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visual_rft.report.reading import Row, Run, step_number

MAX_POINTS = 1_000
"""Points of a curve; a longer one is averaged, because no screen shows more."""
LABELS = {
    "reward": "reward",
    "reward_std": "reward spread within a group",
    "zero_std_share": "groups with equal rewards",
    "parse_failure_share": "answers not readable",
    "truncated_share": "completions cut off",
    "length": "length (tokens)",
    "kl": "KL to the reference (nats/token)",
    "entropy_estimate": "entropy, estimated (nats/token)",
    "grad_norm": "gradient norm",
    "loss": "loss",
    "clipped_share": "tokens clipped",
    "learning_rate": "learning rate",
    "tokens_per_second": "tokens per second",
    "samples_per_second": "samples per second",
}
"""In the order in which they are shown; parts of the reward come after the reward, seconds last."""

METRIC_LABELS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "mean_iou": "mean IoU",
    "giou": "mean IoU",
    "ciou": "cumulative IoU",
    "mask_giou": "mean IoU of masks",
    "mask_ciou": "cumulative IoU of masks",
    "hit_rate": "hits at IoU 0.5",
    "acc50": "hits at IoU 0.5",
    "acc75": "hits at IoU 0.75",
    "accuracy": "accuracy",
    "top1_strict": "accuracy",
    "top1_lenient": "accuracy, lenient",
    "mean_class_accuracy": "accuracy, mean over classes",
    "format_rate": "answers in the right format",
    "parse_rate": "answers that could be read",
}
"""Held-out numbers by their names in files; two names of one thing have one label. Also in docs/evaluation.md."""


@dataclass(frozen=True)
class Curve:
    """One number over steps.

    Attributes:
        name: key in ``metrics.jsonl`` or, of an evaluation, in ``evaluation/*.json``.
        label: name for people.
        of: ``training`` or ``evaluation``.
        steps: optimiser steps done: a value of training is at the number of its step (the first is 1), an evaluation at
            the steps its weights had taken (0 is the base).
        values: None where a value is missing or was not finite.
    """

    name: str
    label: str
    of: str
    steps: Sequence[float]
    values: Sequence[float | None]


def curves_of(run: Run) -> list[Curve]:
    """Every curve of a run: evaluation, reward and its parts, health, speed.

    Without a reference (``objective.beta`` 0) there is no KL, and its zeros are no curve.
    """
    curves = _curves(run.evaluations, "evaluation") + _curves(run.metrics, "training")
    no_reference = (run.config.get("objective") or {}).get("beta") == 0
    return [
        curve
        for curve in curves
        if any(value is not None for value in curve.values) and not (no_reference and curve.name == "kl")
    ]


def _curves(rows: Sequence[Row], of: str) -> list[Curve]:
    steps, columns = columns_of(rows, of)
    return [Curve(name, label_of(name), of, *thinned(steps, values)) for name, values in columns.items()]


def columns_of(rows: Sequence[Row], of: str) -> tuple[list[int], dict[str, list[float | None]]]:
    """Every number of the lines of metrics, or of the evaluations, with all its values.

    Args:
        rows: ``run.metrics`` or ``run.evaluations``.
        of: ``training`` or ``evaluation``, as in :class:`Curve`.

    Returns:
        The steps as in :class:`Curve`, and by name the values, None where one is missing or was not finite.
    """
    names = {name: None for row in rows for name, value in row.items() if _is_number(value) and not _is_count(name)}
    ordered = sorted(names, key=_place) if of == "training" else list(names)
    steps = [step_number(row) if of == "training" else row["step"] for row in rows]
    undefined = -1.0 if of == "evaluation" else None  # COCO's word for a number without any truth behind it
    return steps, {name: [_value(row.get(name), undefined) for row in rows] for name in ordered}


def thinned(steps: Sequence[int], values: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most ``MAX_POINTS`` points: means of neighbours, where there are more.

    >>> steps, values = thinned(list(range(3000)), [1.0] * 3000)
    >>> len(steps), steps[:2], values[0]
    (1000, [1.0, 4.0], 1.0)
    """
    size = -(-len(steps) // MAX_POINTS)
    if size <= 1:
        return [float(step) for step in steps], list(values)
    places = range(0, len(steps), size)
    means = ([v for v in values[i : i + size] if v is not None] for i in places)
    return (
        [sum(steps[i : i + size]) / len(steps[i : i + size]) for i in places],
        [sum(known) / len(known) if known else None for known in means],
    )


def label_of(name: str) -> str:
    """The name of a number for people."""
    group, _, part = name.partition("/")
    of_task = "/" in part or part in LABELS or part in METRIC_LABELS
    if of_task and group not in ("reward", "seconds", "sampler"):
        return f"{group}: {label_of(part)}"  # of one of several tasks
    return f"{group}: {part}" if part else LABELS.get(name) or METRIC_LABELS.get(name, name.replace("_", " "))


def _place(name: str) -> tuple[int, int]:
    known = list(LABELS)
    if name.startswith("reward/"):
        return 0, 1
    if name.startswith("seconds/"):
        return 2, 0
    return (0, 0) if name == "reward" else (1, known.index(name) if name in known else len(known))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(name: str) -> bool:
    """How many there are of something, which is no measure."""
    return name == "step" or name.startswith("n_")


def _value(value: Any, undefined: float | None) -> float | None:
    return float(value) if _is_number(value) and value - value == 0 and value != undefined else None
