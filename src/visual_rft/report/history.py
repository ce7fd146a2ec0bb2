"""What became of every question over a run, from ``history.jsonl``: the hardest ones, and those that teach nothing.

Decision: one table, hardest first, of at most :data:`MAX_QUESTIONS` rows; a question is as hard as its newest answers
earned little. The file may come from a stranger, so whatever is not what it should be is left out.

    history_of(read_run(Path("runs/demo")))["asked"]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from visual_rft.report.questions import short
from visual_rft.report.reading import Run, read_lines
from visual_rft.vision.boxes import is_finite_number

MAX_QUESTIONS = 40
"""Rows of the table; a page of them is read, a thousand are not."""


def history_of(run: Run) -> dict[str, Any] | None:
    """How many questions were asked, the share that was ``flat`` (all answers equal) when last asked, and the hardest.

    Each row has ``id``, ``times`` it was asked, the mean reward when ``first`` and ``last`` asked, and how often it was
    ``flat``; None without a history.
    """
    lines, problem = read_lines(run.path / "history.jsonl")
    run.remember(problem)
    questions: dict[str, dict[str, Any]] = {}
    for line in lines:
        for name, mean, spread in _answers(line.get("questions")):
            row = questions.setdefault(name, {"id": name, "times": 0, "first": mean, "flat": 0})
            row.update(times=row["times"] + 1, last=mean, flat=row["flat"] + (spread == 0), settled=spread == 0)
    if not questions:
        return None
    hardest = sorted(questions.values(), key=lambda row: (row["last"], row["id"]))[:MAX_QUESTIONS]
    return {
        "asked": len(questions),
        "flat": sum(row["settled"] for row in questions.values()),
        "hardest": [{key: value for key, value in row.items() if key != "settled"} for row in hardest],
    }


def _answers(questions: Any) -> Iterator[tuple[str, float, float]]:
    """Id, mean and spread of each question of a line."""
    for name, values in questions.items() if isinstance(questions, dict) else ():
        if isinstance(values, list) and len(values) == 2 and all(map(is_finite_number, values)):
            mean, spread = values
            yield name, short(float(mean)), spread
