"""Which evaluation of a run is the best so far, and how long ago: what keeps a checkpoint and ends a run early.

Decision: read from the files of ``evaluation/`` alone, of which a resumed run forgets what it makes again, so that it
stops where an uninterrupted one would have. The base counts: what never gets better than it stops too.

    found = standing(Path("runs/coins"), "AP")
    found.step, found.value, found.without     # (120, 0.41, 3): three evaluations since were no better
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.config.loop import LoopConfig
from visual_rft.errors import ConfigError, did_you_mean
from visual_rft.policy.stored.checkpoints import best_of, direction_of, evaluation_of, evaluations_of
from visual_rft.policy.stored.places import step_of
from visual_rft.tasks import Sample, Tasks
from visual_rft.tasks.mixture import numbers_of
from visual_rft.tasks.samples import Prediction
from visual_rft.vision.boxes import is_finite_number


class Standing(NamedTuple):
    """The best evaluation.

    Attributes:
        step: steps after which it was made; the earlier of equal ones.
        value: its number.
        without: evaluations since, none of which is better.
    """

    step: int
    value: float
    without: int


def standing(run: Path, metric: str) -> Standing | None:
    """The best evaluation of a run folder by ``run.best``; None if no evaluation has the number."""
    name, sign = direction_of(metric)
    best: Standing | None = None
    for step in evaluations_of(run):
        value: Any = evaluation_of(run, step).get(name)
        if is_finite_number(value) and (best is None or sign * value > sign * best.value):
            best = Standing(step, value, 0)
        elif best is not None:
            best = best._replace(without=best.without + 1)
    return best


def out_of_patience(loop: LoopConfig, found: Standing | None, done: int) -> str | None:
    """Why the run ends after ``done`` steps; None if it goes on, or was at its last step anyhow."""
    if found is None or not loop.patience or found.without < loop.patience or done >= loop.steps:
        return None
    return (
        f"after {done} of {loop.steps} steps: {direction_of(str(loop.best))[0]} was best after {found.step} "
        f"({found.value:.3f}), and the {found.without} evaluations since were no better (run.patience)"
    )


def best_checkpoint(run: Path, metric: str | None) -> dict[str, Any]:
    """What ``summary.json`` says of the best checkpoint; {} where the run was not told what is best, or has none."""
    best = best_of(run, metric) if metric else None
    if best is None:
        return {}
    told = {"metric": best.metric, "value": best.value, "step": step_of(best.checkpoint)}
    return {"best": {**told, "checkpoint": str(best.checkpoint)}}


def refuse_unknown_number(metric: str | None, task: Tasks, held_out: Sequence[Sample]) -> None:
    """Make sure that evaluations will have the number that ``run.best`` names, by measuring a gold answer.

    Raises:
        ConfigError: if they will not, naming those they have.
    """
    if metric is None:
        return
    name, _ = direction_of(metric)
    numbers = numbers_of(task, [_perfect(task, sample) for sample in _one_of_each(task, held_out)])
    known = [key for key, value in numbers.items() if is_finite_number(value) and not key.startswith("n_")]
    if name not in known:
        raise ConfigError(
            f"run.best: {name!r} is no number of an evaluation{did_you_mean(name, known)} (there are: "
            f"{', '.join(known)})"
        )


def _one_of_each(tasks: Tasks, samples: Sequence[Sample]) -> list[Sample]:
    """The first question of every task that has one."""
    found: dict[int, Sample] = {}
    for sample in samples:
        found.setdefault(id(tasks.of(sample)), sample)
        if len(found) == len(tasks.each):
            break
    return list(found.values())


def _perfect(tasks: Tasks, sample: Sample) -> Prediction:
    task = tasks.of(sample)
    gold = task.gold(sample.truth)
    return Prediction(sample, gold, task.score(gold, sample.truth))
