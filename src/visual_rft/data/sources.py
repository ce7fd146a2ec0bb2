"""From the ``data`` section of a config to samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from visual_rft.config import SourceConfig
from visual_rft.data.annotated import (
    AnnotatedImage,
    OneQuestionPerImage,
    questions_of_present_classes,
)
from visual_rft.data.coco import load_coco
from visual_rft.data.digits import Digits
from visual_rft.data.flowers import Flowers
from visual_rft.data.imprecise import Imprecise
from visual_rft.data.lazy import LazySequence
from visual_rft.data.referring import OneReferencePerImage
from visual_rft.data.shapes import Shapes
from visual_rft.errors import DataError
from visual_rft.tasks.base import Sample, Task

SUBJECTS = {"flowers": "flower", "digits": "handwritten digit", "shapes": "shape", "coco": "object"}
"""What is named in a classification question about a source."""
DEFAULT_COUNT = 64
"""Images of a procedural source whose count is not given."""


def load_images(source: SourceConfig, questions: str) -> tuple[Sequence[AnnotatedImage], Sequence[str]]:
    """The images of one source and all its class names.

    Raises:
        DataError: if a file, image or box of the source is not usable.
    """
    if source.source == "coco":
        assert source.path is not None  # checked by the config
        images, classes = load_coco(Path(source.path))
        return images[: source.count], classes
    count = source.count or DEFAULT_COUNT
    if source.source == "shapes":
        fewest = 2 if questions == "refer" else 1  # one object needs no reasoning
        return Shapes(count, source.seed, source.max_objects or Shapes.most_objects, fewest), Shapes.classes
    if source.source == "flowers":
        return Flowers(count, source.seed), Flowers.classes
    most = source.max_objects or Digits.most_objects
    return Digits(count, source.split, source.seed, most), Digits.classes


def load_samples(sources: Sequence[SourceConfig], task: Task) -> Sequence[Sample]:
    """The questions of all sources, one after another.

    Args:
        sources: where the images come from; ``questions`` says what is asked about them.
        task: says it where a source does not.

    Raises:
        DataError: if a source is not usable or yields no question.
    """
    parts: list[Sequence[Sample]] = []
    for source in sources:
        questions = source.questions or task.questions
        if questions == "refer" and source.source != "shapes":
            raise DataError(f"data: source {source.source!r} has no referring expressions; 'shapes' has")
        images, classes = load_images(source, questions)
        samples: Sequence[Sample]
        if questions == "one":
            samples = OneQuestionPerImage(images, classes, source.absent_rate, source.seed)
        elif questions == "name":
            samples = OneNamePerImage(images, SUBJECTS[source.source])
        elif questions == "refer":
            samples = OneReferencePerImage(images, source.seed)
        else:
            samples = questions_of_present_classes(images, classes, source.absent_rate, source.seed)
        if source.imprecision > 0:
            samples = Imprecise(samples, source.imprecision, source.seed)
        parts.append(samples)
    joined = parts[0] if len(parts) == 1 else Joined(parts)
    if not parts or len(joined) == 0:
        raise DataError("the data sources yield no question (no image holds an object)")
    return joined


class OneNamePerImage(LazySequence[Sample]):
    """The question "name the kind of ``subject``" about each image."""

    def __init__(self, images: Sequence[AnnotatedImage], subject: str) -> None:
        super().__init__(len(images))
        self.images, self.subject = images, subject

    def item(self, index: int) -> Sample:
        return self.images[index].name(self.subject)


class Joined(LazySequence[Sample]):
    """Several sequences of samples as one."""

    def __init__(self, parts: Sequence[Sequence[Sample]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))
        super().__init__(self.ends[-1] if self.ends else 0)

    def item(self, index: int) -> Sample:
        for part, end in zip(self.parts, self.ends, strict=True):
            if index < end:
                return part[index - end + len(part)]
        raise IndexError(index)
