"""Which checkpoint of a run is meant: the last, the best, or one by name. Light: no torch.

Decision: *best* is what the run itself was told to look at (``run.best``), on its own evaluations, so that
the same word means the same checkpoint to ``export``, ``predict`` and ``evaluate``; the number is never picked anew.

    chosen("runs/coins", "best")             # runs/coins/checkpoints/step-000120
    chosen("runs/coins", "step-40")          # runs/coins/checkpoints/step-000040
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.config.yaml_text import read_yaml
from visual_rft.errors import ConfigError, ModelError
from visual_rft.files import at_home, json_or_nothing
from visual_rft.policy.stored.places import CHECKPOINT, RUN_CONFIG, checkpoints_of, step_of

_WHICH = re.compile(r"(?:step-)?(\d+)")


LOWER_IS_BETTER = frozenset({"mean_error"})
"""Held-out numbers of which the least is the best; of all others it is the greatest."""


class Best(NamedTuple):
    """The checkpoint with the best number.

    Attributes:
        checkpoint: its folder.
        metric: name of the number, as in ``evaluation/step-N.json``.
        value: the number.
    """

    checkpoint: Path
    metric: str
    value: float


def evaluation_of(run: Path, step: int) -> dict[str, Any]:
    """The numbers of ``evaluation/step-N.json``, {} if there is none."""
    content = json_or_nothing(run / "evaluation" / f"step-{step:06d}.json")
    return {name: value for name, value in content.items() if name not in ("step", "examples")}


def evaluations_of(run: Path) -> list[int]:
    """The steps after which there is an evaluation, ascending."""
    return sorted(step_of(file) for file in (run / "evaluation").glob("step-*.json") if CHECKPOINT.fullmatch(file.stem))


def direction_of(metric: str) -> tuple[str, int]:
    """The name of the number that ``run.best`` means, and 1 where the greatest is the best, -1 where the least is.

    >>> direction_of("detection/AP"), direction_of("counting/mean_error"), direction_of("-loss")
    (('detection/AP', 1), ('counting/mean_error', -1), ('loss', -1))
    """
    name = metric.removeprefix("-")
    lower = name != metric or name.rpartition("/")[2] in LOWER_IS_BETTER
    return name, -1 if lower else 1


def best_of(run: Path, metric: str) -> Best | None:
    """The checkpoint whose evaluation has the best ``metric``; the earlier of equal ones, None without any.

    Args:
        run: the folder.
        metric: as ``run.best`` names it.
    """
    name, sign = direction_of(metric)
    found = []
    for place in checkpoints_of(run):
        value = evaluation_of(run, step_of(place)).get(name)
        if isinstance(value, (int, float)):
            found.append(Best(place, name, value))
    return max(found, key=lambda best: sign * best.value, default=None)


def chosen(model: str, which: str | None) -> str:
    """The model's name with a checkpoint chosen.

    Args:
        model: a run folder; with ``which`` None whatever names a model.
        which: ``last``, ``best``, or a checkpoint by name or number (``step-000040``, ``40``).

    Returns:
        ``model`` itself for None and ``last``, else the folder of the checkpoint.

    Raises:
        ModelError: if ``model`` is no run folder, or has no such checkpoint; those it has are named.
        ConfigError: if ``which`` is none of these, or the run was not told what is best.
    """
    if which is None:
        return model
    run = at_home(model)
    if not (run / RUN_CONFIG).is_file():
        raise ModelError(f"--checkpoint {which}: {model!r} is not a run folder, so there is nothing to choose from")
    if which == "last":
        return model
    if which == "best":
        return str(_best(run))
    asked = _WHICH.fullmatch(which)
    if asked is None:
        raise ConfigError(f"--checkpoint: {which!r} is not last, best or a step such as step-000040")
    place = run / "checkpoints" / f"step-{int(asked[1]):06d}"
    if place not in checkpoints_of(run):
        raise ModelError(f"--checkpoint: {run} has no {place.name} (there are: {_names(run)})")
    return str(place)


def chosen_of(models: Sequence[str], which: str | None) -> list[str]:
    """The same for several models; one that is no run folder, such as the base they are compared with, stays as it is.

    Raises:
        ModelError, ConfigError: as :func:`chosen`; if none of them is a run folder, too.
    """
    runs = [model for model in models if (at_home(model) / RUN_CONFIG).is_file()]
    return [chosen(model, which) if model in runs or not runs else model for model in models]


def _best(run: Path) -> Path:
    settings = read_yaml(run / RUN_CONFIG, ConfigError)
    loop = settings.get("run") if isinstance(settings, dict) else None
    metric = (loop.get("best") or loop.get("checkpoint_best")) if isinstance(loop, dict) else None  # of before
    if not isinstance(metric, str):
        raise ConfigError(
            f"--checkpoint best: {run} was not told what is best (run.best, e.g. AP); choose a step "
            f"instead: {_names(run)}"
        )
    best = best_of(run, metric)
    if best is None:
        raise ModelError(f"--checkpoint best: no checkpoint of {run} has an evaluation with {metric!r} ({_names(run)})")
    return best.checkpoint


def _names(run: Path) -> str:
    return ", ".join(place.name for place in checkpoints_of(run)) or "none"
