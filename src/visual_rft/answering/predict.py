"""Answering held-out questions and what the answers are worth.

Decision: greedy decoding, all questions about an image in one batch; what the answers are worth is the task's own
business (``Task.metrics``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from visual_rft.answering.answering import BATCH, Answerer, answer
from visual_rft.answering.questions import Answer, group_by_image
from visual_rft.answering.scores import ranked
from visual_rft.report.series import label_of
from visual_rft.tasks.base import Task
from visual_rft.tasks.metrics.calibration import unstated_text
from visual_rft.tasks.mixture import Tasks
from visual_rft.tasks.samples import Prediction, Sample
from visual_rft.tasks.spaces import MAX_QUESTIONS_LOOKED_AT, Answered, wrong_space_hint
from visual_rft.terminal.notes import warn


def predict(
    model: Answerer,
    tasks: Tasks,
    samples: Sequence[Sample],
    batch: int = BATCH,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Prediction]:
    """Answer every question greedily; predictions in the order of the questions.

    Args:
        model: what answers.
        tasks: write the prompts and read the answers; of several, one after another.
        samples: the questions.
        batch: greatest number of questions answered at once.
        progress: called with the number of images that are newly done; what it raises ends the work.
    """
    samples = list(samples)  # a lazy sequence makes a new sample at every look
    places = {id(sample): n for n, sample in enumerate(samples)}
    predictions: list[Prediction] = []
    for task in tasks.each.values():
        asked = [sample for sample in samples if tasks.of(sample) is task]
        images = answer(model, task, group_by_image(asked), batch, progress=progress)
        answers = [row for image in images for row in image.answers]
        warn_of_space(task, answers)
        predictions += scored(task, answers)
    return sorted(predictions, key=lambda one: places[id(one.sample)])


def warn_of_space(task: Task, answers: Sequence[Answer]) -> None:
    """Say so on standard error where boxes miss in the units they are read in, but meet in others."""
    answered = [Answered(row.text, row.sample.truth, row.frame) for row in answers[:MAX_QUESTIONS_LOOKED_AT]]
    hint = wrong_space_hint(task, answered)
    warn([hint] if hint else [])


def scored(task: Task, answers: Iterable[Answer]) -> list[Prediction]:
    """What each answer is worth; boxes with the numbers by which they are ranked."""

    def one(row: Answer) -> Prediction:
        score = task.score(row.text, row.sample.truth, row.frame)
        return Prediction(row.sample, row.text, ranked(score, task.scores, row))

    return [one(row) for row in answers]


def evaluation_line(tasks: Tasks, metrics: Mapping[str, Any]) -> str:
    """The main numbers of ``tasks.metrics`` in one line; of several tasks those that have questions."""
    numbers = " ".join(f"{label_of(name)} {metrics[name]:.3f}" for name in tasks.headline if name in metrics)
    return (
        f"{numbers} format {metrics['format_rate']:.0%} parsed {metrics['parse_rate']:.0%} "
        f"({metrics['n_images']} images, {metrics['n_questions']} questions)"
        f"{'; ' + unstated_text(metrics['unstated']) if 'unstated' in metrics else ''}"
    )
