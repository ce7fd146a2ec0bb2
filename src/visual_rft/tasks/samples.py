"""A labelled question, what an answer to it is worth, and both together: what passes between the rooms.

Decision: plain values, questions and truths as mappings that can be written as JSON, so that a reward can be called
from any trainer and a rollout can be logged as it is.

>>> Score({"iou": 0.5, "format": 1.0}, 1.5).failure is None
True
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from visual_rft.tasks.parsing.completion import has_tag_format
from visual_rft.vision.images import ImageReference


@dataclass(frozen=True)
class Sample:
    """One labelled question.

    Attributes:
        id: unique within its data set; used in file names, logs and error messages.
        images: the pictures the question is about, in the order they are shown.
        task: name of the kind of question (``detection``, ``classification``, ``grounding``); in a run of several tasks
            what its task is called there.
        question: what the task needs to write the prompt, e.g. ``{"category": "red circle"}``; ``problem`` is a whole
            prompt, shown as it is.
        truth: what the task needs to score an answer, in pixels of the original image, e.g.
            ``{"boxes": [[x1, y1, x2, y2]], "image_size": [width, height]}``; of several images, the first. ``space``
            names the units a ``problem`` asks for (``relative_1000`` or ``pixels``), if they are not the model's own.
        source: number of its source in the config.
    """

    id: str
    images: tuple[ImageReference, ...]
    task: str
    question: Mapping[str, Any]
    truth: Mapping[str, Any]
    source: int = 0


class Score(NamedTuple):
    """What one completion is worth.

    Attributes:
        parts: reward parts by name, before weights, the built-in ones in [0, 1]; None where a reward does not apply.
        total: weighted sum of the parts that apply.
        answer: the parsed answer, JSON-able, boxes in pixels of the original image; None if it could not be parsed.
        failure: why the completion could not be parsed, or None.
        notes: what the parser tolerated, repaired or dropped on the way, one short text each.
    """

    parts: Mapping[str, float | None]
    total: float
    answer: Any = None
    failure: str | None = None
    notes: Sequence[str] = ()


class Prediction(NamedTuple):
    """One answered question."""

    sample: Sample
    completion: str
    score: Score


def answer_rates(predictions: Sequence[Prediction], think: bool, bare: bool = False) -> dict[str, Any]:
    """Shares of answers in the right format and of answers that could be read, counts, and why others could not.

    Args:
        predictions: the answers; the shares of none are -1.
        think: whether the right format has a think block.
        bare: whether it has no tags at all.
    """
    count = len(predictions)
    return {
        "format_rate": sum(has_tag_format(p.completion, think, bare) for p in predictions) / count if count else -1.0,
        "parse_rate": sum(p.score.failure is None for p in predictions) / count if count else -1.0,
        "n_images": len({image.key for p in predictions for image in p.sample.images}),
        "n_questions": count,
        "failures": dict(Counter(p.score.failure for p in predictions if p.score.failure)),
    }
