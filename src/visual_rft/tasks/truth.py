"""The fields of a truth: which there are, and how they are read and checked.

Decision: a truth is a plain mapping that anybody may have written, so each field is checked where it is read, and what
is wrong is one line that names the field. A task reads its truths through these functions only; the sizes and boxes
that they return can be trusted. What we write ourselves is declared (:class:`DetectionTruth` and so on), so that the
type checker finds a misspelt field; it is the same plain mapping.

>>> box_of({"box": [10, 20, 30, 40]})
(10, 20, 30, 40)
>>> boxes_of({"box": [10, 20, 30, 40]})
Traceback (most recent call last):
    ...
visual_rft.errors.DataError: truth.boxes: is missing; write {"boxes": [[x1, y1, x2, y2], ...], ...}, [] for none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from visual_rft.errors import DataError
from visual_rft.tasks.parsing.completion import normalized
from visual_rft.vision.boxes import Box, as_box, as_boxes, is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame


class ObjectFacts(TypedDict, total=False):
    """What is known about the object of an image of one class, besides its name."""

    thought: str
    """What is seen: the reasoning of the gold answer."""
    synonyms: Sequence[str]
    """Other names that are right."""
    parents: Sequence[str]
    """More general names, the nearest first."""
    look_alike: str
    """The name it is mistaken for, where labels are made imprecise."""


class ClassificationTruth(ObjectFacts, total=False):
    """The truth of ``classification``."""

    label: Required[str]
    """The right name."""
    image_size: Sequence[float]
    """(width, height) of the image in pixels, where it is known."""


class DetectionTruth(TypedDict, total=False):
    """The truth of ``detection``; without ``space`` a question asks for the model's own units."""

    boxes: Required[Sequence[Sequence[float]]]
    """N boxes ``[x1, y1, x2, y2]`` in pixels of the image; N may be 0."""
    image_size: Required[Sequence[float]]
    """(width, height) of the image in pixels."""
    category: str
    """The class that was asked for; an item of an answer that names another is dropped."""
    confidence: Sequence[float]
    """N numbers in [0, 1] that the gold answer gives; default 1 each."""
    space: Literal["relative_1000", "pixels"]
    """The units that a question's own text (``problem``) asks for."""


class GroundingTruth(TypedDict, total=False):
    """The truth of ``grounding``; ``space`` as in :class:`DetectionTruth`."""

    box: Required[Sequence[float]]
    """``[x1, y1, x2, y2]`` in pixels of the image."""
    image_size: Required[Sequence[float]]
    """(width, height) of the image in pixels."""
    thought: str
    """What is meant: the reasoning of the gold answer."""
    segmentation: Any
    """The mask as COCO writes it, polygons in pixels or an RLE, for evaluation with a segmenter."""
    space: Literal["relative_1000", "pixels"]


class ManyClassTruth(TypedDict, total=False):
    """The truth of ``many_classes``; ``space`` as in :class:`DetectionTruth`."""

    boxes: Required[Sequence[Sequence[float]]]
    """N boxes ``[x1, y1, x2, y2]`` in pixels of the image; N may be 0."""
    labels: Required[Sequence[str]]
    """N names, the class of each box."""
    categories: Required[Sequence[str]]
    """The classes that were asked for; an item of an answer that names another is dropped."""
    image_size: Required[Sequence[float]]
    """(width, height) of the image in pixels."""
    space: Literal["relative_1000", "pixels"]


class CountingTruth(TypedDict, total=False):
    """The truth of ``counting``: a number, or boxes that are counted."""

    count: int
    """How many there are, at least 0."""
    boxes: Sequence[Sequence[float]]
    """The objects; needed where points are asked for."""
    image_size: Sequence[float]
    """(width, height) of the image in pixels; needed where points are asked for."""


class PointingTruth(TypedDict, total=False):
    """The truth of ``pointing``: where a point is a hit, in pixels of the image; one of the three."""

    box: Sequence[float]
    """The one place."""
    boxes: Sequence[Sequence[float]]
    """The places, a point in each; [] for none."""
    segmentation: Any
    """The one place as a mask: COCO's polygons in pixels, or an RLE."""
    image_size: Required[Sequence[float]]
    """(width, height) of the image in pixels."""


class SegmentationTruth(TypedDict, total=False):
    """The truth of ``segmentation``."""

    segmentation: Required[Any]
    """The mask: COCO's polygons in pixels, or an RLE; null where the thing is not in the image."""
    image_size: Required[Sequence[float]]
    """(width, height) of the image in pixels."""
    image: str
    """The image's file, which a segmenter looks at; a data source adds it."""


class VqaTruth(TypedDict, total=False):
    """The truth of ``vqa``: one of ``choice``, ``number`` and ``answer``, with what belongs to it."""

    choice: str
    """The right choice, by its letter (A for the first) or its text."""
    choices: Sequence[str]
    """The texts of the choices, in the order of the question."""
    number: float
    """The right number."""
    tolerance: float
    """How far a right number may be off; default 0."""
    relative_tolerance: float
    """The same as a share of the right number; the larger of the two counts. Default 0."""
    unit: str
    """A unit that may follow the number."""
    answer: str
    """The right text."""
    synonyms: Sequence[str]
    """Other texts that are right."""


def image_size_of(truth: Mapping[str, Any]) -> tuple[int, int]:
    """``truth["image_size"]``, checked.

    Raises:
        DataError: if it is missing or not two positive numbers.
    """
    size = truth.get("image_size")
    if isinstance(size, (list, tuple)) and len(size) == 2:
        width, height = size
        if is_finite_number(width) and is_finite_number(height) and width > 0 and height > 0:
            return width, height
    raise DataError(f"truth.image_size: {size!r} is not [width, height] in pixels")


def boxes_of(truth: Mapping[str, Any]) -> tuple[Box, ...]:
    """``truth["boxes"]``, checked.

    Raises:
        DataError: if it is missing or holds something else than boxes.
    """
    if "boxes" not in truth:
        raise DataError('truth.boxes: is missing; write {"boxes": [[x1, y1, x2, y2], ...], ...}, [] for none')
    boxes = truth["boxes"]
    if not isinstance(boxes, (list, tuple)):
        raise DataError(f"truth.boxes: {boxes!r} is not a list of boxes")
    try:
        return as_boxes(boxes)
    except ValueError as error:
        raise DataError(f"truth.boxes: {error}") from None


def box_of(truth: Mapping[str, Any]) -> Box:
    """``truth["box"]``, checked.

    Raises:
        DataError: if it is missing or no box.
    """
    try:
        return as_box(truth["box"])
    except KeyError:
        raise DataError('truth.box: is missing; write {"box": [x1, y1, x2, y2], ...}') from None
    except ValueError as error:
        raise DataError(f"truth.box: {error}") from None


def labelled_boxes(truth: Mapping[str, Any]) -> tuple[Box, ...]:
    """``truth["boxes"]``, or ``truth["box"]`` alone, checked; none where the truth has neither.

    Raises:
        DataError: if one of them holds something else than boxes.
    """
    if "boxes" in truth:
        return boxes_of(truth)
    return (box_of(truth),) if "box" in truth else ()


def confidence_of(truth: Mapping[str, Any], boxes: Sequence[Box]) -> tuple[float, ...]:
    """``truth["confidence"]``, checked: what the gold answer gives each box; 1 where the truth has no such field.

    Raises:
        DataError: if it is not a number in [0, 1] for each box.
    """
    if "confidence" not in truth:
        return (1.0,) * len(boxes)
    given = truth["confidence"]
    if not isinstance(given, (list, tuple)) or not all(is_finite_number(c) and 0 <= c <= 1 for c in given):
        raise DataError(f"truth.confidence: {given!r} is not a list of numbers from 0 to 1")
    if len(given) != len(boxes):
        raise DataError(f"truth.confidence: has {len(given)} numbers, truth.boxes {len(boxes)} boxes")
    return tuple(given)


def label_of(truth: Mapping[str, Any]) -> str:
    """``truth["label"]``, checked.

    Raises:
        DataError: if it is missing or no name.
    """
    label = truth.get("label")
    if not isinstance(label, str) or not normalized(label):
        raise DataError(f'truth.label: {label!r} is not a name; write {{"label": "name"}}')
    return label


def names_of(truth: Mapping[str, Any], key: str, of: str = "truth") -> tuple[str, ...]:
    """``truth[key]`` as a list of names, checked; none where the truth has no such field.

    Args:
        truth: or a question.
        key: the field.
        of: which of the two it is, for the message.

    Raises:
        DataError: if it is something else.
    """
    names = truth.get(key, ())
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{of}.{key}: {names!r} is not a list of names")
    return tuple(names)


def check_question(question: Mapping[str, Any]) -> None:
    """Look at the fields of a question that somebody wrote.

    Raises:
        DataError: if one that is known is no text, or no list of names; the message names it.
    """
    for key in ("problem", "category", "subject", "expression", "question", "unit"):
        text = question.get(key, "a text")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"question.{key}: {text!r} is not a text")
    for key in ("categories", "choices"):
        names_of(question, key, "question")


def count_of(truth: Mapping[str, Any]) -> int:
    """``truth["count"]``, or the number of its boxes, checked.

    Raises:
        DataError: if it is no whole number from 0, or differs from the number of boxes.
    """
    if "count" not in truth:
        return len(boxes_of(truth))
    count = truth["count"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise DataError(f"truth.count: {count!r} is not a whole number from 0")
    if "boxes" in truth and len(boxes_of(truth)) != count:
        raise DataError(f"truth.count: {count} differs from the {len(boxes_of(truth))} boxes of truth.boxes")
    return count


def frame_of(truth: Mapping[str, Any], frame: Frame | None) -> Frame:
    """The units of an answer: those of ``truth["space"]`` where a ready-made question names its own, or ``frame``.

    Without either, 0..1000 on ``truth["image_size"]``.

    Raises:
        DataError: if ``truth["space"]`` is neither ``relative_1000`` nor ``pixels``.
    """
    if "space" in truth:
        if truth["space"] not in (CoordinateSpace.RELATIVE_1000, CoordinateSpace.PIXELS):
            raise DataError(f"truth.space: {truth['space']!r} is not relative_1000 or pixels")
        return Frame.of(CoordinateSpace(truth["space"]), image_size_of(truth))
    return frame or Frame(image_size_of(truth), (1000, 1000))


def ready_made(question: Mapping[str, Any]) -> str | None:
    """The prompt of a question that came with its own text (``problem``), which is shown as it is."""
    return question.get("problem")


def place_of(box: Box, truth: Mapping[str, Any]) -> str:
    """Roughly where a box is in its image, e.g. ``top left``: what the reasoning of a gold answer says."""
    width, height = image_size_of(truth)
    column = min(2, int(3 * (box[0] + box[2]) / 2 / width))
    row = min(2, int(3 * (box[1] + box[3]) / 2 / height))
    return f"{('top', 'middle', 'bottom')[row]} {('left', 'centre', 'right')[column]}"
