"""What a row of a table is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trick:
    """A completion that tries to earn more than it deserves.

    Attributes:
        worth: its exact total under the method's own weights, where "less than the gold answer" would say too little.
        gamed: the same, if the method's own formula pays it as much as the gold answer.
    """

    name: str
    truth: Mapping[str, Any]
    completion: str
    worth: float | None = None
    gamed: float | None = None


def say(answer: object, thought: str = "one") -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


@dataclass(frozen=True)
class Row:
    """A completion and what it is worth.

    Attributes:
        parts: values of the rewards that ``NAMES`` lists for the task.
        note: what the parser must have noted, somewhere in its notes; None if nothing may be noted.
    """

    name: str
    truth: Mapping[str, Any]
    completion: str
    parts: tuple[float, ...]
    note: str | None = None
