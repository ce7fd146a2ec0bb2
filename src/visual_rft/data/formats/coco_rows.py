"""The rows of a COCO file's ``annotations``: what is kept of each while the file is read, and what they say together.

Decision: a row is 64 bytes of columns from the moment it is read until its box goes to its image: the 851,109 rows of
train2017 are never in memory as objects.

>>> read_boxes([10, 20, 30, 40])
(10.0, 20.0, 40.0, 60.0)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.data.formats.reading import Problems, as_id, as_number, corners, is_crowd, known_id
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_four_numbers

Size = tuple[int, int]
_NUMBERS = frozenset({int, float})
CocoId = int | str
"""What images, annotations and categories are called; numbers in COCO, sometimes text elsewhere."""


class ObjectPlace(NamedTuple):
    """Where the object of an annotation is found: the id of its image, and its place among that image's objects."""

    image: str
    number: int


class Row(NamedTuple):
    """What is kept of an annotation's row while the file is read; MISSING where the row says nothing."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    iscrowd: Any


@dataclass(slots=True)
class Regions:
    """What the annotations say about one image: class and box in pixels, and classes of which a box was left out."""

    labels: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    crowds: list[tuple[str, Box]] | None = None
    incomplete: set[str] | None = None

    def leave_out(self, label: str) -> None:
        self.incomplete = {*(self.incomplete or ()), label}


_MISSING = object()
_IMAGE_FIELDS = ("id", "file_name", "coco_url", "width", "height", "neg_category_ids", "not_exhaustive_category_ids")


def read_boxes(bbox: Sequence[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``, in pixels."""
    x, y, w, h = (float(v) for v in bbox)
    return x, y, x + w, y + h


class Annotations:
    """The rows of ``annotations``, a collector: nearly all in columns, 64 bytes each, the others as :class:`Row`."""

    def __init__(self) -> None:
        self._numbers = array("q")  # id, image, category and crowd flag of each usual row
        self._boxes = array("d")
        self._odd: dict[int, Any] = {}
        self._length = 0

    def append(self, row: Any) -> None:
        """Take one row, of whatever type."""
        place, self._length = self._length, self._length + 1
        if type(row) is not dict:
            self._odd[place] = row
            return
        get = row.get
        kept = (
            get("id"),
            get("image_id", _MISSING),
            get("category_id", _MISSING),
            get("bbox", _MISSING),
            get("iscrowd", 0),
        )
        number, image, category, bbox, crowd = kept
        if (
            type(number) is int and type(image) is int and type(category) is int and type(crowd) is int
            and type(bbox) is list and len(bbox) == 4
        ):  # fmt: skip
            x, y, w, h = bbox
            if (
                type(x) in _NUMBERS and type(y) in _NUMBERS and type(w) in _NUMBERS and type(h) in _NUMBERS
                and 0 <= x < 1e9 and 0 <= y < 1e9 and 0 < w < 1e9 and 0 < h < 1e9
                and max(abs(number), abs(image), abs(category), abs(crowd)) < 1 << 62
            ):  # fmt: skip
                self._numbers.extend((number, image, category, crowd))
                self._boxes.extend(bbox)
                return
        self._odd[place] = Row(*kept)

    def __iter__(self) -> Iterator[Any]:
        """Each row as a :class:`Row`, in the order of the file; one that is no object as it stands."""
        odd, numbers, boxes = self._odd, iter(self._numbers), iter(self._boxes)
        for place in range(self._length):
            if place in odd:
                yield odd[place]
            else:
                number, image, category, crowd = next(numbers), next(numbers), next(numbers), next(numbers)
                yield Row(number, image, category, [next(boxes), next(boxes), next(boxes), next(boxes)], crowd)


class ImageRows(list[Any]):
    """The rows of ``images``, a collector: of each the fields that are asked for."""

    def append(self, row: Any) -> None:
        if type(row) is dict:
            row = {key: row[key] for key in _IMAGE_FIELDS if key in row}
            if "file_name" in row:
                row.pop("coco_url", None)
        super().append(row)


def identity_of(value: Any, key: str, where: str) -> CocoId:
    identity = as_id(value)
    if identity is None:
        raise DataError(f"{where}: {key} {value!r} is not a number or text")
    return identity


def regions_of(
    rows: Iterable[Any], names: Mapping[CocoId, str], sizes: Mapping[CocoId, Size], file: Path, problems: Problems,
    places: dict[CocoId, ObjectPlace] | None,
) -> tuple[Mapping[CocoId, Regions], set[CocoId]]:  # fmt: skip
    """What is in each image, and the ids of the classes that have a row.

    Args:
        rows: the annotations.
        names: class names by id.
        sizes: (width, height) in pixels of the images that are there, by id.
        file: names the file in messages.
        problems: what happens to rows that cannot be used.
        places: filled with the place of each annotation's object, by the annotation's id; None where nobody asks.

    Returns:
        Regions by the image's id, none for an image without annotation; ids of classes.

    Raises:
        DataError: if a row cannot be used; the message names the annotation.
    """
    regions: dict[CocoId, Regions] = {}
    categories: set[CocoId] = set()
    seen: set[CocoId] = set()
    for i, row in enumerate(rows):
        if type(row) is not Row:
            raise DataError(f"{file}: annotation number {i}: has no 'image_id'")
        number, image, category, bbox, crowd = row
        if not (
            type(number) is int and number not in seen and type(image) is int and image in sizes
            and type(category) is int and category in names
        ):  # fmt: skip
            where = _place(file, i, number)
            number = None if number is None else identity_of(number, "id", where)
            image = known_id(identity_of(_given(image, "image_id", where), "image_id", where), sizes)
            category = known_id(identity_of(_given(category, "category_id", where), "category_id", where), names)
            if category not in names:
                raise DataError(f"{where}: category_id {category!r} is not in 'categories'")
            if image not in sizes:
                if not problems.skip:
                    raise DataError(f"{where}: image_id {image!r} is not in 'images'")
                problems.leave_out("annotation of an image that is not there", f"{where}: image_id {image!r}")
                categories.add(category)
                continue
        categories.add(category)
        label = names[category]
        here = regions.get(image)
        if here is None:
            here = regions[image] = Regions()
        if number in seen:
            problems.add("annotation id used twice", f"{_place(file, i, number)}: this id is used twice")
            here.leave_out(label)
            continue
        if number is not None:
            seen.add(number)
        box = _usual_box(bbox, sizes[image]) or _box(bbox, sizes[image], problems, _place(file, i, number))
        if box is None:
            here.leave_out(label)
        elif crowd and is_crowd(crowd, _place(file, i, number)):
            here.crowds = [*(here.crowds or ()), (label, box)]
        else:
            if number is not None and places is not None:
                places[number] = ObjectPlace(str(image), len(here.boxes))
            here.labels.append(label)
            here.boxes.append(box)
    return regions, categories


def _given(value: Any, key: str, where: str) -> Any:
    if value is _MISSING:
        raise DataError(f"{where}: has no {key!r}")
    return value


def _place(file: Path, i: int, number: Any) -> str:
    """What row ``i`` is called in messages."""
    return f"{file}: annotation {f'number {i}' if number is None else number}"


def _usual_box(bbox: Any, size: Size) -> Box | None:
    """The box of nearly every row, four numbers inside the image, about which there is nothing to explain."""
    if type(bbox) is list and len(bbox) == 4:
        x, y, w, h = bbox
        if type(x) in _NUMBERS and type(y) in _NUMBERS and type(w) in _NUMBERS and type(h) in _NUMBERS:
            x1, y1, x2, y2 = float(x), float(y), float(x) + float(w), float(y) + float(h)
            if 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]:
                return x1, y1, x2, y2
    return None


def _box(bbox: Any, size: Size, problems: Problems, where: str) -> Box | None:
    """COCO's box in pixels; None if it cannot be used and such rows are left out."""
    if bbox is _MISSING:
        problems.add("annotation without a box", f"{where}: has no 'bbox'")
        return None
    if not is_four_numbers(bbox):
        return corners(bbox, size, problems, f"{where}: bbox", bbox, "x, y, width, height")
    shown = [
        as_number(value) if abs(value) < 1e9 else value for value in bbox
    ]  # columns hold floats, files mostly whole numbers
    return corners(read_boxes(bbox), size, problems, f"{where}: bbox", shown, "x, y, width, height")
