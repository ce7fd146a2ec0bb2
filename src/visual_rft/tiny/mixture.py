"""All three tasks in one, for teaching the embedded model: ``task.name: visual_rft.tiny.mixture:Mixture``.

Decision: what is asked follows from the question itself (``category``, ``subject`` or ``expression``), so one run
mixes the tasks as its data sources do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from visual_rft.tasks import TASKS, Prediction, Score, Task
from visual_rft.tasks.parsing.completion import Failure, Parsed
from visual_rft.vision.coordinates import CoordinateSpace, Frame


@dataclass(frozen=True, kw_only=True)
class Mixture(Task):
    """Asks and scores each question by its own task."""

    name = "mixture"
    questions = "one"
    default_weights: ClassVar[Mapping[str, float]] = {}
    rewards: ClassVar[Mapping[str, Any]] = {}
    headline = ("detection/mean_iou", "classification/accuracy", "grounding/mean_iou")

    @cached_property
    def _tasks(self) -> Mapping[str, Task]:
        return {name: task(think=self.think) for name, task in TASKS.items()}

    def prompt(self, question: Mapping[str, Any], space: CoordinateSpace) -> str:
        kinds = {"category": "detection", "subject": "classification", "expression": "grounding"}
        (kind,) = (name for key, name in kinds.items() if key in question)
        return self._tasks[kind].prompt(question, space)

    def gold(self, truth: Mapping[str, Any], frame: Frame | None = None) -> str:
        return self._task(truth).gold(truth, frame)

    def parse(self, completion: str, truth: Mapping[str, Any], frame: Frame | None) -> Parsed[Any] | Failure:
        return self._task(truth).parse(completion, truth, frame)

    def compare(self, answer: Any, truth: Mapping[str, Any]) -> Any:
        return self._task(truth).compare(answer, truth)

    def score(self, completion: str, truth: Mapping[str, Any], frame: Frame | None = None) -> Score:
        return self._task(truth).score(completion, truth, frame)

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """The metrics of each task under its name."""
        result = self._rates(predictions)
        for name, task in self._tasks.items():
            own = [p for p in predictions if p.sample.task == name]
            if own:
                result |= {f"{name}/{key}": value for key, value in task.metrics(own).items()}
        return result

    def _task(self, truth: Mapping[str, Any]) -> Task:
        return self._tasks["classification" if "label" in truth else "grounding" if "box" in truth else "detection"]
