"""What became of every question so far: how often it was asked, and what its newest answers earned.

Decision: a plain record per question, part of the learning state (it is in every checkpoint), because what is asked
next may depend on it; and the parts of the newest rewards, with which new ones can be compared. A line per step in
``history.jsonl`` of the run folder says what each question earned to people.

>>> history = History()
>>> history.note(3, {"a": [0.0, 1.0], "b": [2.0, 2.0]})
{'a': [0.5, 1.0], 'b': [2.0, 0.0]}
>>> history.reward("a"), history.flat_since("a"), history.flat_since("b"), history.reward("c")
(0.5, None, 3, None)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WINDOW = 1024
"""Completions whose reward parts are kept: 16 steps of 8 prompts with 8 completions, in which rewards hardly drift."""


class Record(NamedTuple):
    """One question.

    Attributes:
        asked: steps in which it was asked.
        step: the newest of them.
        mean: mean reward of its completions then.
        spread: greatest less least reward then; 0 where all completions earned the same.
    """

    asked: int
    step: int
    mean: float
    spread: float


@dataclass
class History:
    """What was answered.

    Attributes:
        records: of all questions that were asked, by id.
        parts: reward parts of the newest completions, oldest first, each part at its place; NaN where one does not
            apply.
    """

    records: dict[str, Record] = field(default_factory=dict)
    parts: list[list[float]] = field(default_factory=list)

    def note(self, step: int, rewards: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Remember what the completions of a step's questions earned.

        Args:
            step: number of the step, from 0.
            rewards: of all completions of each question, by its id.

        Returns:
            ``[mean, spread]`` of each, for the run folder.
        """
        noted = {}
        for name, values in rewards.items():
            # Exact, so that it does not matter in which order processes tell what the completions earned.
            mean, spread = math.fsum(values) / len(values), max(values) - min(values)
            before = self.records.get(name)
            self.records[name] = Record(before.asked + 1 if before else 1, step, mean, spread)
            noted[name] = [mean, spread]
        return noted

    def note_parts(self, rows: Sequence[Sequence[float | None]]) -> None:
        """Remember the reward parts of a step's completions; None where one does not apply."""
        new = [[math.nan if value is None else value for value in row] for row in rows]
        self.parts = [*self.parts, *new][-WINDOW:]

    def reward(self, name: str) -> float | None:
        """Mean reward when the question was last asked; None if it never was."""
        record = self.records.get(name)
        return None if record is None else record.mean

    def flat_since(self, name: str) -> int | None:
        """The step at which all answers to the question earned the same, if that was the newest; else None."""
        record = self.records.get(name)
        return record.step if record is not None and record.spread == 0 else None

    def state_dict(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {"records": {name: list(record) for name, record in self.records.items()}, "parts": self.parts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.records = {name: Record(*record) for name, record in state["records"].items()}
        self.parts = [list(row) for row in state["parts"]]
