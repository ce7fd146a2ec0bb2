"""The questions about one image, and what a model wrote about them.

Decision: the image is the unit, as the group is in training: its questions share a vision pass and a journal line.

>>> from pathlib import Path; from visual_rft.vision.images import ImageFile
>>> image = ImageFile(Path("a.png"))
>>> samples = [Sample(name, (image,), "detection", {"category": name}, {}) for name in ("cat", "dog")]
>>> [len(questions.samples) for questions in group_by_image(samples)]
[2]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from visual_rft.tasks.samples import Sample
from visual_rft.vision.coordinates import Frame


class Answer(NamedTuple):
    """What the model wrote about one question.

    Attributes:
        sample: the question.
        text: the completion.
        frame: units of its coordinates; None if there is no image.
        numbers: log-probability of each number in the text (:mod:`visual_rft.answering.scores`); None if unknown.
        asked: for each box that was read, how far the model says *Yes* to it; None if that was not asked.
    """

    sample: Sample
    text: str
    frame: Frame | None
    numbers: Sequence[float] | None = None
    asked: Sequence[float] | None = None


class ImageAnswers(NamedTuple):
    """What the model wrote about one image.

    Attributes:
        answers: its answers in the order of the questions.
        class_lists: its words on which classes are in the image; None if that was not asked.
    """

    answers: Sequence[Answer]
    class_lists: Sequence[str] | None


@dataclass(frozen=True)
class ImageQuestions:
    """The questions about one image (or one tuple of images).

    Attributes:
        samples: the questions.
        choose: whether the model is first asked which of the questions' classes are in the image; only those classes
            are then asked for.
    """

    samples: tuple[Sample, ...]
    choose: bool = False


def group_by_image(samples: Iterable[Sample]) -> list[ImageQuestions]:
    """Questions about the same image together, images in the order in which they first appear."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(" ".join(image.key for image in sample.images), []).append(sample)
    return [ImageQuestions(tuple(group)) for group in groups.values()]
