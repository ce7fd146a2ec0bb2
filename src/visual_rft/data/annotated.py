"""The common form of every detection data set, and how it becomes questions.

Decision: a source (procedural scenes, handwriting, a COCO folder) yields :class:`AnnotatedImage`; what is *asked*
about it is decided in one place, so that every source trains and evaluates under the same protocol.

>>> image = AnnotatedImage("a", ImageFile(Path("a.png")), (100, 80), ("cat", "dog"), as_boxes([[0, 0, 9, 9], [5, 5, 20, 20]]))
>>> [s.question["category"] for s in questions_of_present_classes([image], ("bird", "cat", "dog"))]
['cat', 'dog']
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visual_rft.data.lazy import LazySequence
from visual_rft.tasks.base import Sample
from visual_rft.vision.boxes import FloatArray, as_boxes
from visual_rft.vision.images import ImageFile, ImageReference

__all__ = [
    "AnnotatedImage",
    "ImageFile",
    "Imprecise",
    "OneQuestionPerImage",
    "Path",
    "as_boxes",
    "questions_of_present_classes",
]


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its labelled objects.

    Attributes:
        id: unique within the data set.
        image: the picture, opened late.
        size: (width, height) in pixels.
        labels: class name of each object.
        boxes: ``[N, 4]`` in pixels, in the order of ``labels``.
    """

    id: str
    image: ImageReference
    size: tuple[int, int]
    labels: tuple[str, ...]
    boxes: FloatArray

    def ask(self, category: str) -> Sample:
        """The question "find every ``category``", with its true boxes (none if the class is absent)."""
        chosen = [i for i, label in enumerate(self.labels) if label == category]
        return Sample(
            id=f"{self.id}/{category}",
            images=(self.image,),
            task="detection",
            question={"category": category},
            truth={"boxes": self.boxes[chosen].tolist(), "image_size": list(self.size)},
        )


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


class Imprecise(LazySequence[Sample]):
    """The same samples with deliberately imprecise labels: how the embedded base stays a *base*.

    Each true box grows about its centre by its own random factor between 1 and ``1 + amount`` per axis (cut at the
    image edge) and gets a random confidence between 0.05 and 0.95. Never used for reinforcement or evaluation.

    Args:
        samples: exact samples.
        amount: largest enlargement, e.g. 0.45 for up to 45 %.
        seed: of the noise.
    """

    def __init__(self, samples: Sequence[Sample], amount: float, seed: int = 0) -> None:
        super().__init__(len(samples))
        self.samples, self.amount, self.seed = samples, amount, seed

    def item(self, index: int) -> Sample:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, index, 1))
        boxes = as_boxes(sample.truth["boxes"])
        width, height = sample.truth["image_size"]
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        half = (boxes[:, 2:] - boxes[:, :2]) / 2 * rng.uniform(1, 1 + self.amount, (len(boxes), 2))
        grown = np.concatenate([centre - half, centre + half], axis=1)
        grown = np.clip(grown, 0, [width, height, width, height])
        confidence = rng.uniform(0.05, 0.95, len(boxes)).tolist()
        truth = {**sample.truth, "boxes": grown.tolist(), "confidence": confidence}
        return replace(sample, truth=truth)
