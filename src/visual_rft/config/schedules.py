"""Numbers that change over a run: ``{from: 0.5, to: 0.9, shape: linear}`` in the place of a number.

Decision: one mechanism for every number that is read anew at each step (thresholds and weights of a task, the
temperature, what the loss is made of). A section is validated with its values at the start; what changes is kept
beside them and put back where the config is written. So every reader of a config sees plain numbers.

>>> values, schedules = lifted({"beta": {"from": 0.1, "to": 0.0, "until": 0.5}, "loss": "grpo"})
>>> values, [round(value, 3) for value in (schedules["beta",].at(p) for p in (0, 0.25, 0.5, 1))]
({'beta': 0.1, 'loss': 'grpo'}, [0.1, 0.05, 0.0, 0.0])
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

SHAPES = ("linear", "cosine")
PARTLY = 0.37
"""A share of the run at which no schedule is at an end: whole numbers are told from others there."""

Path = tuple[str, ...]
"""Names that lead to a number: ``("weights", "iou")``."""
Schedules = Mapping[Path, "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """A number over the run.

    Attributes:
        start: value at the first step.
        end: value from the share ``until`` of the run on.
        shape: ``linear``, or ``cosine`` (half a wave, which begins and ends flat).
        until: share of the run, in (0, 1].
    """

    start: float
    end: float
    shape: str = "linear"
    until: float = 1.0

    @classmethod
    def parse(cls, value: Mapping[str, Any], name: str) -> Schedule:
        """A schedule as a config says it.

        Raises:
            ValueError: naming what is wrong with it.
        """
        unknown = value.keys() - {"from", "to", "shape", "until"}
        if unknown:
            raise ValueError(f"{name}: a schedule has from, to, shape and until, not {min(unknown)!r}")
        schedule = cls(value["from"], value["to"], value.get("shape", "linear"), value.get("until", 1.0))
        for field, number in (("from", schedule.start), ("to", schedule.end), ("until", schedule.until)):
            # A comparison, because math.isfinite overflows on an int of 400 digits.
            finite = isinstance(number, (int, float)) and abs(number) <= sys.float_info.max
            if isinstance(number, bool) or not finite:
                raise ValueError(f"{name}.{field}: {number!r} is not a number")
        if schedule.shape not in SHAPES:
            raise ValueError(f"{name}.shape: {schedule.shape!r} is not known; choose from {', '.join(SHAPES)}")
        if not 0 < schedule.until <= 1:
            raise ValueError(f"{name}.until: {schedule.until!r} is not a share of the run above 0 and up to 1")
        return schedule

    def at(self, progress: float) -> float:
        """The value after a share ``progress`` in [0, 1] of the run."""
        done = min(1.0, progress / self.until)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * done

    def as_written(self) -> dict[str, Any]:
        """As it stands in a config."""
        return {"from": self.start, "to": self.end, "shape": self.shape, "until": self.until}


def is_schedule(value: Any) -> bool:
    """Whether a value of a config is a schedule, well written or not."""
    return isinstance(value, Mapping) and {"from", "to"} <= value.keys()


def lifted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Path, Schedule]]:
    """``values`` with each schedule in its place at the start, and the schedules by path; two levels deep.

    Raises:
        ValueError: naming what is wrong with a schedule.
    """
    schedules: dict[Path, Schedule] = {}
    for name, value in values.items():
        if is_schedule(value):
            schedules[(name,)] = Schedule.parse(value, name)
        elif isinstance(value, Mapping):
            for inner, deep in value.items():
                if is_schedule(deep):
                    schedules[(name, inner)] = Schedule.parse(deep, f"{name}.{inner}")
    return put({**values}, {path: schedule.start for path, schedule in schedules.items()}), schedules


def put(values: dict[str, Any], changes: Mapping[Path, Any]) -> dict[str, Any]:
    """A copy of ``values`` with other values at some paths."""
    changed = dict(values)
    for (name, *inner), value in changes.items():
        changed[name] = {**changed.get(name, {}), inner[0]: value} if inner else value
    return changed


def values_at(schedules: Schedules, progress: float) -> dict[Path, float]:
    """The value of each schedule after a share ``progress`` in [0, 1] of the run."""
    return {path: schedule.at(progress) for path, schedule in schedules.items()}


def check_numbers(value: Any, annotation: Any) -> None:
    """Refuse ``true`` and ``false`` where a number belongs: to Python they are 1 and 0.

    Args:
        value: of a config, not validated yet; looked into where it is a list or mapping.
        annotation: of the field, e.g. ``tuple[float, float] | None``.

    Raises:
        ValueError: if it is one, or holds one.
    """
    kinds = _kinds(annotation)
    if bool in kinds or not kinds & {int, float}:
        return
    items = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {"": value}
    for name, item in items.items():
        if isinstance(item, bool):
            wanted = "a number" if float in kinds else "a whole number"
            raise ValueError(f"{name} is {str(item).lower()}, but must be {wanted}".lstrip())


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}
