"""Several tasks in one run: each question is asked, scored and measured by its own.

Decision: a question bears the name of its task (``Sample.task``), and whoever asks or scores looks the task up by it
(``tasks.of(sample)``); a run of one task answers itself. So nothing is learned of tasks but where they differ: reward
parts are compared within the task, and numbers bear its name in front.

>>> from visual_rft.tasks import load_task
>>> both = Mixture({"find": load_task("detection"), "name": load_task("classification")})
>>> both.of(Sample("a", (), "name", {}, {})).name, both.name, both.headline[-1]
('classification', 'find + name', 'name/mean_class_accuracy')
>>> list(both.part_weights)
['find/iou', 'find/confidence', 'find/format', 'name/accuracy', 'name/format']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visual_rft.config.sources import SourceConfig
from visual_rft.tasks.base import Task
from visual_rft.tasks.samples import Prediction, Sample, answer_rates


@dataclass(frozen=True)
class Mixture:
    """The tasks of a run that has several.

    Attributes:
        each: the tasks by what they are called (``task.label`` or name), no two the same.
        main: what that of a source is called which names none.
    """

    each: Mapping[str, Task]
    main: str = ""

    def of(self, sample: Sample) -> Task:
        """The task of a question."""
        return self.each[sample.task]

    def asked_in(self, source: SourceConfig) -> tuple[str, Task]:
        """What is asked about a source: what it is called, and the task."""
        called = self.main if source.task is None else source.task.called
        return called, self.each[called]

    def labels(self, samples: Sequence[Sample]) -> list[str]:
        """What the task of each question is called."""
        return [sample.task for sample in samples]

    def at(self, progress: float) -> Mixture:
        """The tasks as they are after a share ``progress`` in [0, 1] of the training."""
        return replace(self, each={name: task.at(progress) for name, task in self.each.items()})

    @property
    def name(self) -> str:
        """All of them in one word."""
        return " + ".join(self.each)

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the metrics that are printed."""
        return tuple(f"{name}/{number}" for name, task in self.each.items() for number in task.headline)

    @property
    def part_weights(self) -> dict[str, float]:
        """The factor of each reward part, by the task and the name that it has in :class:`~visual_rft.tasks.Score`."""
        return {f"{name}/{part}": w for name, task in self.each.items() for part, w in task.part_weights.items()}

    def metrics(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """The numbers of every task that has answers, its name in front, and of all of them what all tasks have.

        ``format_rate`` and ``parse_rate`` are shares of all answers.
        """
        found: dict[str, Any] = {}
        rates = {"format_rate": 0.0, "parse_rate": 0.0}
        failures: dict[str, int] = {}
        for name, task in self.each.items():
            own = [p for p in predictions if p.sample.task == name]
            if not own:
                continue
            numbers = numbers_of(task, own)
            found |= {f"{name}/{key}": value for key, value in numbers.items()}
            for key in rates:
                rates[key] += numbers[key] * len(own) / len(predictions)
            for reason, times in numbers["failures"].items():
                failures[reason] = failures.get(reason, 0) + times
        images = {image.key for p in predictions for image in p.sample.images}
        return {**found, **rates, "n_images": len(images), "n_questions": len(predictions), "failures": failures}


Tasks = Task | Mixture
"""What a run asks: one task, or several."""


def numbers_of(tasks: Tasks, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The numbers of answers: ``metrics``, and the rates and counts that a task of the user's own leaves out."""
    rates = {} if isinstance(tasks, Mixture) else answer_rates(predictions, tasks.think, tasks.bare)
    return {**rates, **tasks.metrics(predictions)}
