"""COCO and LVIS: one JSON file with ``images``, ``annotations`` and ``categories``, and a folder of images.

Decision: everything is checked when the file is read, each error names the file, the annotation and the remedy.
Images are looked for in the folder and under its ``images/``. Crowd regions are not objects one can point at with a
single box, so an image that holds one is not asked about that class. LVIS names images by URL, and says per image
which classes were looked for and not found (``neg_category_ids``) or not all boxed (``not_exhaustive_category_ids``);
both are kept, and nothing is asked that the annotators did not look at.

A box is ``[x, y, width, height]`` in pixels from the image's top left corner, continuous: no pixel is added.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40]}],
     "categories": [{"id": 3, "name": "cat"}]}
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.coco_rows import (
    Annotations,
    CocoId,
    ObjectPlace,
    Regions,
    identity_of,
    regions_of,
)
from visual_rft.data.formats.finding import Images
from visual_rft.data.formats.reading import Problems, as_id, known_id, usable_size
from visual_rft.data.formats.reading import field as field_of
from visual_rft.data.formats.streaming import no_collection, read_json_rows
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.data.lazy import PackedBoxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.images import ImageFile


class _ImageRow(TypedDict, total=False):
    """What is kept of a row of ``images``."""

    id: Any
    file_name: Any
    coco_url: Any
    width: Any
    height: Any
    neg_category_ids: Any
    not_exhaustive_category_ids: Any


_ROWS = msgspec.json.Decoder(list[_ImageRow])
FILES = ("annotations.json", "_annotations.coco.json")
"""What the annotation file of a folder may be called."""


class _Image(NamedTuple):
    """An image that is there: its (width, height) in pixels, whether that is only stated, and LVIS's two lists."""

    file: ImageFile
    size: tuple[int, int]
    stated: bool
    negatives: tuple[str, ...] | None
    not_exhaustive: tuple[str, ...]


def annotations_file(folder: Path) -> Path:
    """The annotation file of a COCO folder; the usual name where there is none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), folder / FILES[0])


def load_coco(folder: Path, annotations: Path | None = None, problems: Problems | None = None) -> Dataset:
    """Read a COCO or LVIS file. Sizes of images are believed where they are stated; ``check_sizes`` looks at them.

    Args:
        folder: holds the images.
        annotations: the JSON file; default ``annotations.json`` in ``folder``.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if the file is missing or broken, an image is missing, or a box is not usable.
    """
    with no_collection():
        return _read(folder, annotations or annotations_file(folder), problems or Problems(), None)[0]


def read_coco(folder: Path, annotations: Path | None, problems: Problems) -> tuple[Dataset, dict[CocoId, ObjectPlace]]:
    """As :func:`load_coco`, with the place of each annotation's object, by the annotation's id."""
    with no_collection():
        return _read(folder, annotations or annotations_file(folder), problems, {})


def _read(
    folder: Path, file: Path, problems: Problems, places: dict[CocoId, ObjectPlace] | None
) -> tuple[Dataset, dict[CocoId, ObjectPlace]]:
    hint = "; a COCO-format folder holds annotations.json and the images"
    content = read_json_rows(file, {"annotations": Annotations, "images": _ImageRows}, hint)
    if not isinstance(content, dict):
        raise DataError(f"{file}: the top level is a {type(content).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), (list, Annotations)):
            raise DataError(f"{file}: has no list {key!r}; a COCO file has 'images', 'annotations' and 'categories'")
    names = _categories(content["categories"], file)
    listed = len(content["images"])
    found = _images(content.pop("images"), names, folder, file, problems)
    sizes = {identity: image.size for identity, image in found.items()}
    regions, ids = regions_of(content.pop("annotations"), names, sizes, file, problems, places)
    classes = {names[number] for number in ids}
    headings = _headings(content["categories"], names, classes)
    if headings:
        problems.notes.append(f"never asked about: {', '.join(headings)} (without any object, and only the heading of "
                              "other categories)")  # fmt: skip
    images, nothing = [], Regions()
    stated = _Stated(file, {str(identity): identity for identity, image in found.items() if image.stated})
    for identity in list(found):  # what is no longer needed goes at once: it is a quarter of the greatest memory
        image, inside = found.pop(identity), regions.pop(identity, nothing)
        images.append(
            AnnotatedImage(
                id=str(identity),
                image=image.file,
                size=image.size,
                labels=tuple(inside.labels),
                boxes=inside.boxes if isinstance(inside.boxes, PackedBoxes) else tuple(inside.boxes),
                crowds=tuple(inside.crowds or ()),
                incomplete=tuple(sorted({*(inside.incomplete or ()), *image.not_exhaustive})),
                negatives=image.negatives,
            )
        )
    if not images:
        raise problems.nothing_left(f"{file}: lists no images" + (" that can be used" if listed else ""))
    dataset = Dataset(
        images,
        tuple(sorted(set(names.values()) - set(headings))),
        skipped=problems.counts,
        category_ids={name: number for number, name in names.items() if type(number) is int and name not in headings},
        sizes_stated=stated,
    )
    return dataset, places or {}


class _Stated(Mapping[str, str]):
    """Where the size of an image stands, by the image's id: a text that is made when somebody asks."""

    def __init__(self, file: Path, ids: Mapping[str, CocoId]) -> None:
        self._file, self._ids = file, ids

    def __getitem__(self, name: str) -> str:
        return f"{self._file}: image {self._ids[name]!r}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def _categories(rows: Sequence[Any], file: Path) -> dict[CocoId, str]:
    """Class name by id. Two ids may share a name: they are then one class."""
    names: dict[CocoId, str] = {}
    for i, row in enumerate(rows):
        where = f"{file}: categories[{i}]"
        number, name = identity_of(field_of(row, "id", where), "id", where), field_of(row, "name", where)
        if number in names:
            raise DataError(f"{where}: id {number!r} is used twice")
        if not (isinstance(name, str) or is_finite_number(name)) or not str(name).strip():
            raise DataError(f"{where}: the name is empty" if name == "" else f"{where}: the name {name!r} is no text")
        names[number] = str(name).strip()
    return names


def _headings(rows: Sequence[Mapping[str, Any]], names: Mapping[CocoId, str], seen: Container[str]) -> list[str]:
    """Categories that only head others (their ``supercategory``) and have no object: an export habit of Roboflow's."""
    heads = {str(row.get("supercategory")).strip() for row in rows if str(row.get("name")).strip() not in ("", "None")
             and str(row.get("supercategory")).strip() != str(row.get("name")).strip()}  # fmt: skip
    return sorted(name for name in set(names.values()) if name in heads and name not in seen)


class _ImageRows(list[Any]):
    """The rows of ``images``, a collector: of each the fields that are asked for."""

    def append(self, row: Any) -> None:
        """Take one row, of whatever type."""
        super().append({key: row[key] for key in _ImageRow.__annotations__ if key in row} if type(row) is dict else row)

    def take(self, text: str) -> bool:
        """Take the rows of a JSON list, where all are objects; else none of them, and False."""
        try:
            self.extend(_ROWS.decode(text))
        except (msgspec.MsgspecError, RecursionError):
            return False
        return True


def _images(
    rows: Sequence[Any], names: Mapping[CocoId, str], folder: Path, file: Path, problems: Problems
) -> dict[CocoId, _Image]:
    """The images that are there, by id."""
    seen: dict[CocoId, Any] = {}  # file names by id
    found: dict[CocoId, _Image] = {}
    pictures = Images(folder, folder / "images")
    sizes: dict[tuple[int, int], tuple[int, int]] = {}  # the same few again and again
    for i, row in enumerate(rows):
        identity = as_id(row.get("id")) if isinstance(row, Mapping) else None
        if identity is None:
            where = f"{file}: images[{i}]"
            identity_of(field_of(row, "id", where), "id", where)  # raises
        if identity in seen:
            problems.add("image id used twice", f"{file}: images[{i}]: id {identity!r} is used twice")
            if row.get("file_name") != seen[identity] and found.pop(identity, None) is not None:
                # Whose the annotations of this id are, nobody can say.
                problems.leave_out("image id used twice", f"{file}: image {identity!r}: another row has its id")
            continue
        seen[identity] = row.get("file_name")  # type: ignore[index]  # None has raised
        where = f"{file}: image {identity!r}"
        called = _file_names(row, where)
        image = pictures.find(called, where)
        if image is None:
            message = f"{where}: no file {called[0]!r} in {folder} or {folder / 'images'}{pictures.hint(called[0])}"
            problems.add("missing image", message)
            continue
        sized = usable_size(image, (row.get("width"), row.get("height")), problems, where)
        if sized is not None:
            unboxed = _classes(row, "not_exhaustive_category_ids", names, where) or ()
            size = sizes.setdefault(sized[0], sized[0])
            found[identity] = _Image(image, size, sized[1], _classes(row, "neg_category_ids", names, where), unboxed)  # type: ignore[index]
    return found


def _file_names(row: Mapping[str, Any], where: str) -> list[str]:
    """Where the image may be: ``file_name``, or the last two parts, or the last, of LVIS's ``coco_url``."""
    if "file_name" not in row and "coco_url" in row:
        parts = str(row["coco_url"]).rsplit("/", 2)
        return ["/".join(parts[-2:]), parts[-1]]
    name = field_of(row, "file_name", where)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: file_name {name!r} is not the name of a file")
    return [name]


def _classes(row: Mapping[str, Any], key: str, names: Mapping[CocoId, str], where: str) -> tuple[str, ...] | None:
    """Class names of a list of ids in an image's row, None if it has no such list."""
    if key not in row:
        return None
    numbers = row[key] if isinstance(row[key], list) else [row[key]]
    known = [None if as_id(n) is None else known_id(identity_of(n, key, where), names) for n in numbers]
    unknown = [n for n, identity in zip(numbers, known, strict=True) if identity not in names]
    if unknown or not isinstance(row[key], list):
        raise DataError(f"{where}: {key} holds {(unknown or numbers)[0]!r}, which is not in 'categories'")
    return tuple(sorted({names[identity] for identity in known if identity is not None}))


def write_coco(dataset: Dataset, folder: NewFolder, description: str = "") -> None:
    """Write ``annotations.json`` and ``images/``.

    Image and category ids are those of the source where it has numbers. ``area`` is the area of the box; ids are
    counted from 1. Classes known to be absent, and those not all boxed, go into LVIS's two lists. ``description`` says
    how the set was made.
    """
    require_boxes(dataset, "coco")
    numbers = dict(dataset.category_ids) if set(dataset.classes) <= set(dataset.category_ids) else {}
    numbers = numbers or {name: i for i, name in enumerate(dataset.classes, 1)}
    ids = [image.id for image in dataset.images]
    numeric = all(i.isdigit() for i in ids) and len({int(i) for i in ids}) == len(ids)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, image in enumerate(dataset.images, 1):
        key = int(image.id) if numeric else place
        width, height = image.size
        row = {"id": key, "file_name": folder.add_image(image, "images"), "width": width, "height": height}
        if image.negatives is not None:
            row["neg_category_ids"] = [numbers[name] for name in image.negatives if name in numbers]
        if image.incomplete:
            row["not_exhaustive_category_ids"] = [numbers[name] for name in image.incomplete if name in numbers]
        images.append(row)
        objects = [(label, box, 0) for label, box in zip(image.labels, image.boxes, strict=True)]
        for label, box, crowd in [*objects, *((label, box, 1) for label, box in image.crowds)]:
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": key,
                    "category_id": numbers[label],
                    "bbox": [_short(v) for v in (x1, y1, x2 - x1, y2 - y1)],
                    "area": _short((x2 - x1) * (y2 - y1)),
                    "iscrowd": crowd,
                }
            )
    categories = [{"id": numbers[name], "name": name} for name in dataset.classes]
    content = {"info": {"description": description}, "images": images, "annotations": annotations}
    folder.write_json("annotations.json", {**content, "categories": categories})


def _short(value: float) -> float:
    """At most six decimals, which is a millionth of a pixel."""
    return round(value, 6)
