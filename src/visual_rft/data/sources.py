"""From the ``data`` section of a config to samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from visual_rft.config import SourceConfig
from visual_rft.data.annotated import (
    AnnotatedImage,
    Imprecise,
    OneQuestionPerImage,
    questions_of_present_classes,
)
from visual_rft.data.coco import load_coco
from visual_rft.data.digits import Digits
from visual_rft.data.lazy import LazySequence
from visual_rft.data.shapes import Shapes
from visual_rft.errors import DataError
from visual_rft.tasks.base import Sample

DEFAULT_COUNT = 64
"""Images of a procedural source whose count is not given."""


def load_images(source: SourceConfig) -> tuple[Sequence[AnnotatedImage], Sequence[str]]:
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
        return Shapes(count, source.seed, source.max_objects or Shapes.most_objects), Shapes.classes
    most = source.max_objects or Digits.most_objects
    return Digits(count, source.split, source.seed, most), Digits.classes


def load_samples(sources: Sequence[SourceConfig]) -> Sequence[Sample]:
    """The questions of all sources, one after another.

    Raises:
        DataError: if a source is not usable or yields no question.
    """
    parts: list[Sequence[Sample]] = []
    for source in sources:
        images, classes = load_images(source)
        samples: Sequence[Sample]
        if source.questions == "one":
            samples = OneQuestionPerImage(images, classes, source.absent_rate, source.seed)
        else:
            samples = questions_of_present_classes(images, classes, source.absent_rate, source.seed)
        if source.imprecision > 0:
            samples = Imprecise(samples, source.imprecision, source.seed)
        parts.append(samples)
    joined = parts[0] if len(parts) == 1 else Joined(parts)
    if not parts or len(joined) == 0:
        raise DataError("the data sources yield no question (no image holds an object)")
    return joined


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
