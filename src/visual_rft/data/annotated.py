"""The common form of every data set of labelled images, and how it becomes questions.

Decision: a source (procedural scenes, handwriting, a COCO file, a YOLO folder, ...) yields a :class:`Dataset` of
:class:`AnnotatedImage`; what is *asked* about it is decided in one place, so that every source trains and evaluates
under the same protocol. What a data set does not know is not asked: a class whose objects are not all boxed (crowd
regions, LVIS "not exhaustive") gives no question about that image, neither "find every" nor "No Objects".

>>> from pathlib import Path; from visual_rft.vision.images import ImageFile
>>> boxes = ((0, 0, 9, 9), (5, 5, 20, 20))
>>> image = AnnotatedImage("a", ImageFile(Path("a.png")), (100, 80), ("cat", "dog"), boxes, incomplete=("dog",))
>>> [s.question["category"] for s in PresentClasses([image], ("bird", "cat", "dog"))]
['cat']
>>> image.absent(("bird", "cat", "dog"))
['bird']
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visual_rft.data.lazy import LazySequence
from visual_rft.errors import DataError
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import ClassificationTruth, DetectionTruth, GroundingTruth, ManyClassTruth
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import ImageReference


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with its labelled objects.

    Attributes:
        id: unique within the data set.
        image: the picture, opened late.
        size: (width, height) in pixels of the upright picture.
        labels: class name of each object; empty text where an object has only expressions.
        boxes: in pixels, in the order of ``labels``; none at all where a label belongs to the whole image.
        facts: more about the object of a one-object image: the fields of :class:`~visual_rft.tasks.truth.ObjectFacts`.
        crowds: class and box, in pixels, of regions that hold many objects of a class.
        incomplete: classes of which objects may be in the image without a box.
        negatives: classes known not to be in the image; None where every class without a label is.
        expressions: texts that mean one object, each with the object's index.
    """

    id: str
    image: ImageReference
    size: tuple[int, int]
    labels: tuple[str, ...]
    boxes: Sequence[Box]
    facts: Mapping[str, Any] = field(default_factory=dict)
    crowds: tuple[tuple[str, Box], ...] = ()
    incomplete: tuple[str, ...] = ()
    negatives: tuple[str, ...] | None = None
    expressions: tuple[tuple[str, int], ...] = ()

    @property
    def present(self) -> list[str]:
        """The classes one can ask to find: labelled, and every object of them has its box. Sorted."""
        return sorted(set(self.labels) - self._unclear - {""})

    def absent(self, classes: Iterable[str]) -> list[str]:
        """Those of ``classes`` that are known not to be in the image. Sorted."""
        known = set(classes) if self.negatives is None else set(classes) & set(self.negatives)
        return sorted(known - set(self.labels) - self._unclear)

    @property
    def _unclear(self) -> set[str]:
        return {*self.incomplete, *(label for label, _ in self.crowds)}

    def ask(self, category: str) -> Sample:
        """The question "find every ``category``", with its true boxes (none if the class is absent).

        Raises:
            DataError: if the objects have no boxes.
        """
        if len(self.boxes) != len(self.labels):
            raise DataError(f"image {self.id}: has a label but no box; only classification can ask about it")
        boxes = [list(box) for label, box in zip(self.labels, self.boxes, strict=True) if label == category]
        truth: DetectionTruth = {"boxes": boxes, "image_size": list(self.size), "category": category}
        return Sample(
            id=f"{self.id}/{category}",
            images=(self.image,),
            task="detection",
            question={"category": category},
            truth=truth,
        )

    def ask_all(self, classes: Sequence[str]) -> Sample:
        """The question "find every object of these classes", with all true boxes and their classes.

        Raises:
            DataError: if the objects have no boxes.
        """
        if len(self.boxes) != len(self.labels):
            raise DataError(f"image {self.id}: has a label but no box; only classification can ask about it")
        rows = [(list(box), label) for label, box in zip(self.labels, self.boxes, strict=True) if label in classes]
        truth: ManyClassTruth = {
            "boxes": [box for box, _ in rows],
            "labels": [label for _, label in rows],
            "categories": list(classes),
            "image_size": list(self.size),
        }
        question = {"categories": list(classes), "category": ", ".join(classes)}
        return Sample(f"{self.id}/every", (self.image,), "many_classes", question, truth)

    def name(self, subject: str) -> Sample:
        """The question "name the kind of ``subject``" about an image of one class.

        Raises:
            DataError: if the image holds no named object, or objects of several classes.
        """
        names = sorted(set(self.labels) - {""})
        if len(names) != 1:
            what = f"objects of {len(names)} classes ({', '.join(names[:5])})" if names else "no object to name"
            raise DataError(f"image {self.id}: has {what}; classification asks about images of one class")
        truth: ClassificationTruth = {"label": names[0]}
        return Sample(f"{self.id}/name", (self.image,), "classification", {"subject": subject}, {**truth, **self.facts})

    def refer(self, expression: str, target: int) -> Sample:
        """The question "find ``expression``" whose answer is object number ``target``."""
        label = self.labels[target]
        truth: GroundingTruth = {"box": list(self.boxes[target]), "image_size": list(self.size)}
        if label:
            truth["thought"] = f"{'an' if label[0].lower() in 'aeiou' else 'a'} {label}"
        name = f"{self.id}/{target}/{expression}"
        return Sample(name, (self.image,), "grounding", {"expression": expression}, truth)


FACTS = ("synonyms", "parents", "thought")
"""What may be known about an object besides its name."""


def facts_of(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The facts that a row, or a truth, states.

    Raises:
        DataError: if one is no text, or no list of texts; ``where`` begins the message.
    """
    facts = {key: row[key] for key in FACTS if key in row}
    for key, value in facts.items():
        texts = [value] if key == "thought" else value
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: {key} {value!r} is not a {'text' if key == 'thought' else 'list of texts'}")
    return facts


@dataclass(frozen=True)
class Dataset:
    """What a source holds.

    Attributes:
        images: the labelled images.
        classes: all class names, sorted.
        samples: questions that come with the data and are asked as they are; None where they are made from ``images``.
        skipped: how many rows were left out, by reason.
        category_ids: the number of each class in the source's own file, where it has one.
        sizes_stated: file and row that state the size of an image, by the image's id, where the size was believed and
            the image's own header is still to be looked at (:func:`visual_rft.data.formats.reading.check_sizes`).
    """

    images: Sequence[AnnotatedImage]
    classes: tuple[str, ...]
    samples: Sequence[Sample] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    category_ids: Mapping[str, int] = field(default_factory=dict)
    sizes_stated: Mapping[str, str] = field(default_factory=dict)


def images_of(samples: Iterable[Sample]) -> list[AnnotatedImage]:
    """Ready-made questions gathered by the image they are about (the first, where a question has several).

    A class that was asked about and has no box is known to be absent; about any other nothing is known.
    """
    gathered: dict[str, list[Sample]] = {}
    for sample in samples:
        gathered.setdefault(sample.images[0].key, []).append(sample)
    images = []
    for rows in gathered.values():
        labels: list[str] = []
        boxes: list[Box] = []
        absent: list[str] = []
        expressions: list[tuple[str, int]] = []
        for row in rows:
            truth = row.truth
            category = str(row.question.get("category", ""))
            if "boxes" in truth:
                labels += [category] * len(truth["boxes"])
                boxes += [tuple(box) for box in truth["boxes"]]
                absent += [] if truth["boxes"] else [category]
            elif "box" in truth:
                expressions += [(str(row.question["expression"]), len(labels))] if "expression" in row.question else []
                labels.append("")
                boxes.append(tuple(truth["box"]))
            elif "label" in truth:
                labels.append(truth["label"])
        first = rows[0]
        width, height = first.truth.get("image_size", (0, 0))
        images.append(
            AnnotatedImage(
                id=first.id,
                image=first.images[0],
                size=(width, height),
                labels=tuple(labels),
                boxes=tuple(boxes),
                negatives=tuple(dict.fromkeys(absent)),
                expressions=tuple(expressions),
            )
        )
    return images


class PresentClasses(LazySequence[Sample]):
    """One question per image and class that is in it, and sometimes one about a class that is not.

    An image without an object whose absent classes are named (``negatives``) is a negative example and is always
    asked about one of these.

    Args:
        images: the data set.
        classes: all class names; absent ones are drawn from these.
        absent_rate: chance per image of one question whose answer is "No Objects", in [0, 1].
        seed: of the draw of absent classes.

    Raises:
        DataError: if an image has a label without a box.
    """

    def __init__(
        self, images: Sequence[AnnotatedImage], classes: Sequence[str], absent_rate: float = 0.0, seed: int = 0
    ) -> None:
        self.images = images
        # Numbers of image and class per question: the 344,000 samples of COCO's training images would take half a
        # gigabyte.
        self._asked, self._classes = array("q"), list(classes)
        number_of = {name: number for number, name in enumerate(classes)}
        for index, image in enumerate(images):
            names = image.present
            if names and len(image.boxes) != len(image.labels):
                image.ask(names[0])  # raises
            example = bool(image.negatives) and not image.labels
            if absent_rate > 0 or example:
                rng = np.random.default_rng((seed, index))
                absent = image.absent(classes)
                if absent and (rng.random() < absent_rate or example):
                    names.append(str(rng.choice(absent)))
            for name in names:
                if name not in number_of:  # of an image, but not of the list
                    number_of[name] = len(self._classes)
                    self._classes.append(name)
                self._asked.extend((index, number_of[name]))
        super().__init__(len(self._asked) // 2)

    def item(self, index: int) -> Sample:
        image, name = self._asked[2 * index : 2 * index + 2]
        return self.images[image].ask(self._classes[name])

    def pictures(self) -> Iterator[ImageReference]:
        """The picture of every image that is asked about, once; making the questions takes ten times as long."""
        for image in dict.fromkeys(self._asked[::2]):
            yield self.images[image].image


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
        present, absent = image.present, image.absent(self.classes)
        ask_absent = absent and (not present or rng.random() < self.absent_rate)
        return image.ask(str(rng.choice(absent if ask_absent else present)))


class EveryClass(LazySequence[Sample]):
    """One question about each image: the objects of all classes that the data know everything about there.

    Args:
        images: the data set; those of which no class is known in full are passed over.
        classes: all class names, in the order of the question.
    """

    def __init__(self, images: Sequence[AnnotatedImage], classes: Sequence[str]) -> None:
        self.images, self.classes = images, tuple(name for name in classes if name)
        self.asked = [n for n, image in enumerate(images) if self._known(image)]
        super().__init__(len(self.asked))

    def item(self, index: int) -> Sample:
        image = self.images[self.asked[index]]
        return image.ask_all(self._known(image))

    def _known(self, image: AnnotatedImage) -> tuple[str, ...]:
        known = {*image.present, *image.absent(self.classes)}
        return tuple(name for name in self.classes if name in known)
