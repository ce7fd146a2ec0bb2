"""The common form of every detection data set, and how it becomes questions.

Decision: a source (procedural scenes, handwriting, a COCO folder) yields :class:`AnnotatedImage`; what is *asked*
about it is decided in one place, so that every source trains and evaluates under the same protocol.

>>> from pathlib import Path; from visual_rft.vision.images import ImageFile
>>> boxes = ((0, 0, 9, 9), (5, 5, 20, 20))
>>> image = AnnotatedImage("a", ImageFile(Path("a.png")), (100, 80), ("cat", "dog"), boxes)
>>> [s.question["category"] for s in questions_of_present_classes([image], ("bird", "cat", "dog"))]
['cat', 'dog']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visual_rft.data.lazy import LazySequence
from visual_rft.errors import DataError
from visual_rft.tasks.base import Sample
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import ImageReference


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its labelled objects.

    Attributes:
        id: unique within the data set.
        image: the picture, opened late.
        size: (width, height) in pixels.
        labels: class name of each object.
        boxes: in pixels, in the order of ``labels``.
        facts: more about the object of a one-object image: ``thought`` (what is seen), ``synonyms``, ``parents``.
    """

    id: str
    image: ImageReference
    size: tuple[int, int]
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, category: str) -> Sample:
        """The question "find every ``category``", with its true boxes (none if the class is absent)."""
        boxes = [list(box) for label, box in zip(self.labels, self.boxes, strict=True) if label == category]
        return Sample(
            id=f"{self.id}/{category}",
            images=(self.image,),
            task="detection",
            question={"category": category},
            truth={"boxes": boxes, "image_size": list(self.size), "category": category},
        )

    def name(self, subject: str) -> Sample:
        """The question "name the kind of ``subject``" about the first object.

        Raises:
            DataError: if the image holds no object.
        """
        if not self.labels:
            raise DataError(f"image {self.id}: has no object to name")
        truth: dict[str, Any] = {"label": self.labels[0], **self.facts}
        return Sample(f"{self.id}/name", (self.image,), "classification", {"subject": subject}, truth)


def questions_of_present_classes(
    images: Sequence[AnnotatedImage], classes: Sequence[str], absent_rate: float = 0.0, seed: int = 0
) -> list[Sample]:
    """One question per image and class that is in it, and sometimes one about a class that is not.

    Args:
        images: the data set.
        classes: all class names; absent ones are drawn from these.
        absent_rate: chance per image of one question whose answer is "No Objects", in [0, 1].
        seed: of the draw of absent classes.
    """
    samples = []
    for index, image in enumerate(images):
        samples += [image.ask(label) for label in sorted(set(image.labels))]
        rng = np.random.default_rng((seed, index))
        absent = sorted(set(classes) - set(image.labels))
        if absent and rng.random() < absent_rate:
            samples.append(image.ask(str(rng.choice(absent))))
    return samples


class OneQuestionPerImage(LazySequence[Sample]):
    """One question about each image, made when it is read: for procedural data of any length.

    Args:
        images: the data set.
        classes: all class names.
        absent_rate: chance that the question is about a class that is not in the image, in [0, 1].
        seed: of the choice of class.
    """

    def __init__(
        self, images: Sequence[AnnotatedImage], classes: Sequence[str], absent_rate: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(len(images))
        self.images, self.classes, self.absent_rate, self.seed = images, classes, absent_rate, seed

    def item(self, index: int) -> Sample:
        image = self.images[index]
        rng = np.random.default_rng((self.seed, index))
        present = sorted(set(image.labels))
        absent = sorted(set(self.classes) - set(image.labels))
        ask_absent = absent and (not present or rng.random() < self.absent_rate)
        return image.ask(str(rng.choice(absent if ask_absent else present)))
