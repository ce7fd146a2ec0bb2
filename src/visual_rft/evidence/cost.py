"""How long cells take, before they are run.

Decision: seconds per sampled answer, per answer of an update, per gold answer and per question asked afterwards,
measured on one core of a shared Xeon, times what a config says. Once cells of the folder are finished, the rest is
scaled by what these took beside their own estimate: the next machine is another.

>>> scaled(100.0, []), scaled(100.0, [(10.0, 20.0), (30.0, 60.0)])    # (estimated, taken) of finished cells
(100.0, 200.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visual_rft.evidence.cells import Cell
from visual_rft.terminal.units import duration


@dataclass(frozen=True)
class Seconds:
    """What one thing takes.

    Attributes:
        sampled: an answer that is sampled.
        learned: an answer in one update.
        gold: a gold answer in one step.
        asked: an image of the evaluation, with all its questions.
    """

    sampled: float
    learned: float
    gold: float
    asked: float


TASKS = {
    "detection": Seconds(sampled=0.0070, learned=0.0088, gold=0.028, asked=0.060),
    "grounding": Seconds(sampled=0.0026, learned=0.0053, gold=0.021, asked=0.013),
    "classification": Seconds(sampled=0.0019, learned=0.0024, gold=0.022, asked=0.012),
}
"""By task, on the embedded model."""
START = 4.0
"""Seconds of loading, checking and writing, per cell."""


def seconds_of(cell: Cell) -> float:
    """Estimated seconds of a cell on one core."""
    config, cost = cell.config, TASKS[cell.config.task.name]
    asked = START + cost.asked * (config.data.evaluation[0].count or 0)
    if cell.arm == "base":
        return asked
    if cell.matched:  # as long as the run whose time it has
        return asked + _steps(cell.matched[0])
    return asked + _steps(cell)


def _steps(cell: Cell) -> float:
    config, cost = cell.config, TASKS[cell.config.task.name]
    loop, objective = config.run, config.objective
    gold_step = cost.gold * loop.prompts_per_step
    if cell.arm.startswith("sft"):
        return loop.steps * gold_step
    group = (config.rollout.at(0.0).group_size + config.rollout.at(1.0).group_size) / 2
    answers = loop.prompts_per_step * group * (1 + config.rollout.extra / 2)
    step = answers * cost.sampled + answers * cost.learned * objective.updates_per_rollout
    step += gold_step * (objective.ever("sft_weight") > 0)
    return objective.warm_start * gold_step + (loop.steps - objective.warm_start) * step


def scaled(seconds: float, finished: Sequence[tuple[float, float]]) -> float:
    """An estimate in the light of cells that are finished: what each was estimated and took."""
    guessed = sum(guess for guess, _ in finished)
    return seconds * sum(took for _, took in finished) / guessed if guessed else seconds


def estimate(cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]]) -> float:
    """Seconds on one core of the cells that are not among the results."""
    done = [(seconds_of(cell), float(results[cell.name]["wall_seconds"])) for cell in cells if cell.name in results]
    return scaled(sum(seconds_of(cell) for cell in cells if cell.name not in results), done)


def announcement(left: int, total: int, seconds: float, jobs: int) -> str:
    """What is said before cells are run.

    >>> announcement(3, 4, 3600.0, 2)
    '3 of 4 runs are to be made: about 1 h of one core, 30 min with 2 at once'
    """
    if not left:
        return f"all {total} runs have been made"
    at_once = f", {duration(seconds / jobs)} with {jobs} at once" if jobs > 1 else ""
    return f"{left} of {total} runs are to be made: about {duration(seconds)} of one core{at_once}"
