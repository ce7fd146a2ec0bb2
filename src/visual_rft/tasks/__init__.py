"""What is asked, how an answer is read, and what it is worth. This room never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from visual_rft.config.schedules import lifted
from visual_rft.config.sections import ScoreKind, StyleKind, TaskConfig
from visual_rft.config.sources import QuestionKind
from visual_rft.errors import ConfigError, did_you_mean
from visual_rft.tasks.base import Task
from visual_rft.tasks.kinds.classification import Classification
from visual_rft.tasks.kinds.counting import Counting
from visual_rft.tasks.kinds.detection import Detection
from visual_rft.tasks.kinds.grounding import Grounding
from visual_rft.tasks.kinds.many_classes import ManyClasses
from visual_rft.tasks.kinds.pointing import Pointing
from visual_rft.tasks.kinds.segmentation import Segmentation
from visual_rft.tasks.kinds.vqa import Vqa
from visual_rft.tasks.mixture import Mixture, Tasks
from visual_rft.tasks.plugins import load_object
from visual_rft.tasks.samples import Prediction, Sample, Score

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (Detection, Classification, Grounding, ManyClasses, Counting, Pointing, Segmentation, Vqa)
}


NO_OPTIONS = ("think", "weights", "scores", "style", "notation", "template", "schedules")
"""Fields of every task that are no options of one."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option that is a field of the task itself, before :func:`load_task` is given both.

    Raises:
        ConfigError: naming it.
    """
    for option in ("name", *NO_OPTIONS):
        if option in options:
            raise ConfigError(f"task.options: {option!r} is no option of a task; it is said beside the options")


def load_task(
    name: str,
    *,
    think: bool = True,
    weights: Mapping[str, Any] | None = None,
    scores: ScoreKind = "written",
    style: StyleKind = "method",
    notation: str | None = None,
    template: str | None = None,
    **options: Any,
) -> Task:
    """The task called ``name``, or a task of your own: ``module:Class`` or ``file.py:Class``.

    Args:
        name: one of :data:`TASKS`, or where your own class is.
        think: ask for reasoning before the answer.
        weights: factor of each reward by name; None takes the task's own.
        scores: by which number held-out boxes are ranked, as in :class:`Task`.
        style: in whose words it is asked, as in :class:`Task`.
        notation: the family's own way, for ``style="native"``.
        template: the user's wording.
        options: what else the task can be told, e.g. ``iou_threshold=0.7``. An option or weight may follow a schedule,
            ``{"from": 0.5, "to": 0.9}``; :meth:`Task.at` gives the task as it is later.

    Raises:
        ConfigError: if there is no such task, or it does not know an option or reward.
    """
    if ":" in name:
        task = load_object(name)
        if not (isinstance(task, type) and issubclass(task, Task)):
            raise ConfigError(f"task.name: {name!r} is not a class derived from visual_rft.Task")
        _check_complete(name, task)
    elif name in TASKS:
        task = TASKS[name]
    else:
        raise ConfigError(
            f"task.name: unknown task {name!r}{did_you_mean(name, TASKS)} (known: {', '.join(sorted(TASKS))}, or your "
            "own as module:Class or file.py:Class)"
        )
    known = [field.name for field in fields(task) if field.name not in NO_OPTIONS]
    for option in options:
        if option == "iou_threshold_end":
            raise ConfigError(
                "task.options: iou_threshold_end is now written as a schedule: iou_threshold: {from: 0.5, to: "
                f"{options[option]}}}"
            )
        if option not in known:
            raise ConfigError(
                f"task.options: {task.name} has no option {option!r}{did_you_mean(option, known)} "
                f"(known: {', '.join(known)})"
            )
    try:
        start, schedules = lifted({"weights": weights, **options})
    except ValueError as error:
        raise ConfigError(f"task.options: {error}") from None
    loaded: Task = task(
        think=think, scores=scores, style=style, notation=notation, template=template, **start, schedules=schedules
    )
    return loaded


def _check_complete(name: str, task: type[Task]) -> None:
    """Refuse a task of the user's that lacks what every task has; found here, it is one line, later a traceback."""
    missing = [field for field in ("name", "questions", "default_weights", "rewards", "headline")
               if not hasattr(task, field)]  # fmt: skip
    missing += [f"{method}()" for method in sorted(getattr(task, "__abstractmethods__", ()))]
    if missing:
        raise ConfigError(
            f"task.name: {name!r} lacks {', '.join(missing)}; examples/counting.py is a complete task (docs/extend.md)"
        )
    if task.questions not in get_args(QuestionKind):
        known = ", ".join(get_args(QuestionKind))
        raise ConfigError(f"task.name: {name!r}: questions is {task.questions!r}; choose from {known}")


def task_of(config: TaskConfig, notation: str | None = None) -> Task:
    """The task that a config's ``task`` section describes; errors as in :func:`load_task`.

    Args:
        config: the section.
        notation: how the model's family writes boxes, for ``style: native``
            (:func:`visual_rft.policy.prompt.task_for` looks it up).
    """
    written = config.model_dump()
    check_options(written["options"])
    return load_task(
        config.name,
        think=config.think,
        weights=written["weights"],
        scores=config.scores,
        style=config.style,
        notation=notation,
        template=config.template,
        **written["options"],
    )


__all__ = [
    "TASKS",
    "Classification",
    "Counting",
    "Detection",
    "Grounding",
    "ManyClasses",
    "Mixture",
    "Pointing",
    "Prediction",
    "Sample",
    "Score",
    "Segmentation",
    "Task",
    "Tasks",
    "Vqa",
    "load_task",
    "task_of",
]
