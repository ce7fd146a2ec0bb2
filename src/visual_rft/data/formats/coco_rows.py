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
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from visual_rft.data.formats.reading import Problems, as_id, as_number, corners, is_crowd, known_id
from visual_rft.data.lazy import PackedBoxes
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
    boxes: list[Box] | PackedBoxes = field(default_factory=list)
    crowds: list[tuple[str, Box]] | None = None
    incomplete: set[str] | None = None

    def leave_out(self, label: str) -> None:
        self.incomplete = {*(self.incomplete or ()), label}

    def add(self, label: str, box: Box, *, crowd: bool) -> None:
        if crowd:
            self.crowds = [*(self.crowds or ()), (label, box)]
        else:
            assert isinstance(self.boxes, list)
            self.labels.append(label)
            self.boxes.append(box)


_MISSING = object()
_Whole = Annotated[int, msgspec.Meta(gt=-(1 << 62), lt=1 << 62)]
_Place = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
_Side = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]


class _UsualRow(msgspec.Struct, gc=False):
    """What nearly every row of ``annotations`` is; the decoder refuses any other, and passes over what is not named."""

    id: _Whole
    image_id: _Whole
    category_id: _Whole
    bbox: tuple[_Place, _Place, _Side, _Side]
    iscrowd: _Whole = 0


_USUAL_ROWS = msgspec.json.Decoder(list[_UsualRow])
_NUMBERS_OF, _BOX_OF = attrgetter("id", "image_id", "category_id", "iscrowd"), attrgetter("bbox")


def read_boxes(bbox: Sequence[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``, in pixels."""
    x, y, w, h = (float(v) for v in bbox)
    return x, y, x + w, y + h


class Annotations:
    """The rows of ``annotations``, a collector: nearly all in columns, 64 bytes each.

    Attributes:
        odd: the other rows by their place in the file, as :class:`Row` where they are objects.
    """

    def __init__(self) -> None:
        self._numbers = array("q")  # id, image, category and crowd flag of each usual row
        self._boxes = array("d")
        self.odd: dict[int, Any] = {}
        self._length = 0

    def append(self, row: Any) -> None:
        """Take one row, of whatever type."""
        place, self._length = self._length, self._length + 1
        if type(row) is not dict:
            self.odd[place] = row
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
        self.odd[place] = Row(*kept)

    def take(self, text: str) -> bool:
        """Take the rows of a JSON list, where all are usual; else none of them, and False."""
        try:
            rows = _USUAL_ROWS.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return False
        self._length += len(rows)
        self._numbers.extend(chain.from_iterable(map(_NUMBERS_OF, rows)))
        self._boxes.extend(chain.from_iterable(map(_BOX_OF, rows)))
        return True

    def columns(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Of the usual rows ``[N, 4]``: id, image, category and crowd flag; ``[x, y, width, height]`` in pixels."""
        numbers, boxes = np.frombuffer(self._numbers, np.int64), np.frombuffer(self._boxes, np.float64)
        return numbers.reshape(-1, 4), boxes.reshape(-1, 4)

    def __iter__(self) -> Iterator[Any]:
        """Each row as a :class:`Row`, in the order of the file; one that is no object as it stands."""
        odd, numbers, boxes = self.odd, iter(self._numbers), iter(self._boxes)
        for place in range(self._length):
            if place in odd:
                yield odd[place]
            else:
                number, image, category, crowd = next(numbers), next(numbers), next(numbers), next(numbers)
                yield Row(number, image, category, [next(boxes), next(boxes), next(boxes), next(boxes)], crowd)


def identity_of(value: Any, key: str, where: str) -> CocoId:
    identity = as_id(value)
    if identity is None:
        raise DataError(f"{where}: {key} {value!r} is not a number or text")
    return identity


def regions_of(
    rows: Iterable[Any], names: Mapping[CocoId, str], sizes: Mapping[CocoId, Size], file: Path, problems: Problems,
    places: dict[CocoId, ObjectPlace] | None,
) -> tuple[dict[CocoId, Regions], set[CocoId]]:  # fmt: skip
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
    numbered: Iterable[tuple[int, Any]] = enumerate(rows)
    if places is None and isinstance(rows, Annotations) and not rows.odd:
        regions, categories, left = _by_columns(rows, names, sizes)
        numbered = ((i, row) for i, row in enumerate(rows) if left[i]) if left.any() else ()
    for i, row in numbered:
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
        else:
            crowded = crowd != 0 and is_crowd(crowd, _place(file, i, number))
            if number is not None and places is not None and not crowded:
                places[number] = ObjectPlace(str(image), len(here.boxes))
            here.add(label, box, crowd=crowded)
    return regions, categories


def _by_columns(
    rows: Annotations, names: Mapping[CocoId, str], sizes: Mapping[CocoId, Size]
) -> tuple[dict[CocoId, Regions], set[CocoId], npt.NDArray[np.bool_]]:
    """Regions and classes of the images in whose rows is nothing to explain, and which rows ``[N]`` are left to be read
    one by one: those of all other images."""
    numbers, boxes = rows.columns()
    if not len(numbers) or not all(type(i) is int and abs(i) < 1 << 62 for i in (*sizes, *names)):
        return {}, set(), np.ones(len(numbers), bool)
    left = np.isin(numbers[:, 1], numbers[~_are_usual(numbers, boxes, names, sizes), 1])
    order = np.flatnonzero(~left)[np.argsort(numbers[~left, 1], kind="stable")]
    packed = boxes[order]
    packed[:, 2:] += packed[:, :2]
    kinds, crowd = numbers[order, 2].tolist(), numbers[order, 3].tolist()
    held, starts = np.unique(numbers[order, 1], return_index=True)
    regions: dict[CocoId, Regions] = {}
    ends = [*starts[1:].tolist(), len(order)]
    for image, start, end in zip(held.tolist(), starts.tolist(), ends[: len(held)], strict=True):
        labels, found = [names[kind] for kind in kinds[start:end]], PackedBoxes(packed, start, end)
        flags = crowd[start:end]
        if 1 not in flags:
            regions[image] = Regions(labels, found)
            continue
        here = regions[image] = Regions()
        for label, box, flag in zip(labels, found, flags, strict=True):
            here.add(label, box, crowd=flag)
    return regions, {*kinds}, left


def _are_usual(
    numbers: npt.NDArray[np.int64], boxes: npt.NDArray[np.float64], names: Mapping[CocoId, str],
    sizes: Mapping[CocoId, Size],
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Which rows ``[N]`` have an id of their own, a known image and class, a flag of 0 or 1 and a box in the image."""
    images = np.array(sorted(sizes), np.int64)
    place = np.searchsorted(images, numbers[:, 1]).clip(max=max(len(images) - 1, 0))
    limits = np.array([sizes[i] for i in images.tolist()] or [(0, 0)], np.int64)[place]
    ids = np.sort(numbers[:, 0])
    far = boxes[:, :2] + boxes[:, 2:]
    usual: npt.NDArray[np.bool_] = (
        np.isin(numbers[:, 1], images) & np.isin(numbers[:, 2], list(names)) & np.isin(numbers[:, 3], (0, 1))
        & ~np.isin(numbers[:, 0], ids[1:][ids[1:] == ids[:-1]])
        & (boxes[:, :2] < far).all(1) & (far <= limits).all(1)
    )  # fmt: skip
    return usual


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
