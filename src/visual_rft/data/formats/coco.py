"""COCO and LVIS: one JSON file with ``images``, ``annotations`` and ``categories``, and a folder of images.

Decision: everything is checked when the file is read, each error names the file, the annotation and the remedy.
Images are looked for in the folder and under its ``images/``. Crowd regions are not objects one can point at with a
single box, so an image that holds one is not asked about that class. LVIS names images by URL, and says per image
which classes were looked for and not found (``neg_category_ids``) or not all boxed (``not_exhaustive_category_ids``);
both are kept, and nothing is asked that the annotators did not look at.

A box is ``[x, y, width, height]`` in pixels from the image's top left corner, continuous: no pixel is added.

>>> read_boxes([10, 20, 30, 40])
(10.0, 20.0, 40.0, 60.0)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.reading import Problems, corners, find_image, read_json, usable_size
from visual_rft.data.formats.reading import field as field_of
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_four_numbers
from visual_rft.vision.images import ImageFile

FILES = ("annotations.json", "_annotations.coco.json")
"""What the annotation file of a folder may be called."""
CocoId = int | str
"""What images, annotations and categories are called; numbers in COCO, sometimes text elsewhere."""


class ObjectPlace(NamedTuple):
    """Where the object of an annotation is found: the id of its image, and its place among that image's objects."""

    image: str
    number: int


class _Image(NamedTuple):
    """An image that is there: its (width, height) in pixels, whether that is only stated, and its row."""

    file: ImageFile
    size: tuple[int, int]
    stated: bool
    row: Mapping[str, Any]


@dataclass
class _Regions:
    """What the annotations say about one image: class and box in pixels, and classes of which a box was left out."""

    objects: list[tuple[str, Box]] = field(default_factory=list)
    crowds: list[tuple[str, Box]] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)


def read_boxes(bbox: Sequence[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``, in pixels."""
    x, y, w, h = (float(v) for v in bbox)
    return x, y, x + w, y + h


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
    return read_coco(folder, annotations, problems or Problems())[0]


def read_coco(folder: Path, annotations: Path | None, problems: Problems) -> tuple[Dataset, dict[CocoId, ObjectPlace]]:
    """As :func:`load_coco`, with the place of each annotation's object, by the annotation's id."""
    file = annotations or annotations_file(folder)
    content = read_json(file, "; a COCO-format folder holds annotations.json and the images")
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: the top level is a {type(content).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{file}: has no list {key!r}; a COCO file has 'images', 'annotations' and 'categories'")
    names = _categories(content["categories"], file)
    found = _images(content["images"], folder, file, problems)
    regions, places = _regions(content["annotations"], names, found, file, problems)
    images = []
    for identity, image in found.items():
        where, inside = f"{file}: image {identity!r}", regions[identity]
        unboxed = inside.incomplete | set(_classes(image.row, "not_exhaustive_category_ids", names, where) or ())
        images.append(
            AnnotatedImage(
                id=str(identity),
                image=image.file,
                size=image.size,
                labels=tuple(label for label, _ in inside.objects),
                boxes=tuple(box for _, box in inside.objects),
                crowds=tuple(inside.crowds),
                incomplete=tuple(sorted(unboxed)),
                negatives=_classes(image.row, "neg_category_ids", names, where),
            )
        )
    if not images:
        raise DataError(f"{file}: lists no images")
    numbers = {name: number for number, name in names.items() if type(number) is int}
    dataset = Dataset(
        images,
        tuple(sorted(set(names.values()))),
        skipped=problems.counts,
        category_ids=numbers,
        sizes_stated={str(key): f"{file}: image {key!r}" for key, image in found.items() if image.stated},
    )
    return dataset, places


def _categories(rows: Sequence[Any], file: Path) -> dict[CocoId, str]:
    """Class name by id. Two ids may share a name: they are then one class."""
    names: dict[CocoId, str] = {}
    for i, row in enumerate(rows):
        where = f"{file}: categories[{i}]"
        number, name = _identity(row, "id", where), str(field_of(row, "name", where)).strip()
        if number in names:
            raise DataError(f"{where}: id {number!r} is used twice")
        if not name:
            raise DataError(f"{where}: the name is empty")
        names[number] = name
    return names


def _identity(row: Any, key: str, where: str) -> CocoId:
    value = field_of(row, key, where)
    if not isinstance(value, (int, str)):
        raise DataError(f"{where}: {key} {value!r} is not a number or text")
    return value


def _images(rows: Sequence[Any], folder: Path, file: Path, problems: Problems) -> dict[CocoId, _Image]:
    """The images that are there, by id."""
    seen: set[CocoId] = set()
    found: dict[CocoId, _Image] = {}
    for i, row in enumerate(rows):
        identity = _identity(row, "id", f"{file}: images[{i}]")
        if identity in seen:
            problems.add("image id used twice", f"{file}: images[{i}]: id {identity!r} is used twice")
            continue
        seen.add(identity)
        where = f"{file}: image {identity!r}"
        names = _file_names(row, where)
        image = find_image((folder, folder / "images"), names, where)
        if image is None:
            problems.add("missing image", f"{where}: no file {names[0]!r} in {folder} or {folder / 'images'}")
            continue
        sized = usable_size(image, (row.get("width"), row.get("height")), problems, where)
        if sized is not None:
            found[identity] = _Image(image, *sized, row)
    return found


def _file_names(row: Mapping[str, Any], where: str) -> list[str]:
    """Where the image may be: ``file_name``, or the last two parts, or the last, of LVIS's ``coco_url``."""
    if "file_name" not in row and "coco_url" in row:
        parts = str(row["coco_url"]).rsplit("/", 2)
        return ["/".join(parts[-2:]), parts[-1]]
    return [str(field_of(row, "file_name", where))]


def _regions(
    rows: Sequence[Any], names: Mapping[CocoId, str], images: Mapping[CocoId, _Image], file: Path, problems: Problems
) -> tuple[Mapping[CocoId, _Regions], dict[CocoId, ObjectPlace]]:
    """What is in each image, by its id (nothing where no annotation is), and the place of each annotation's object."""
    regions: dict[CocoId, _Regions] = defaultdict(_Regions)
    places: dict[CocoId, ObjectPlace] = {}
    seen: set[CocoId | None] = set()
    for i, row in enumerate(rows):
        number = row.get("id") if isinstance(row, Mapping) else None
        where = f"{file}: annotation {f'number {i}' if number is None else number}"
        if isinstance(number, (list, dict)):
            raise DataError(f"{where}: id is not a number or text")
        image = _identity(row, "image_id", where)
        category = _identity(row, "category_id", where)
        if category not in names:
            raise DataError(f"{where}: category_id {category!r} is not in 'categories'")
        if image not in images:
            if not problems.skip:
                raise DataError(f"{where}: image_id {image!r} is not in 'images'")
            problems.counts["annotation of an image that is not there"] += 1
            continue
        label = names[category]
        bbox = field_of(row, "bbox", where)
        moved = read_boxes(bbox) if is_four_numbers(bbox) else bbox
        if number is not None and number in seen:
            problems.add("annotation id used twice", f"{where}: this id is used twice")
            regions[image].incomplete.add(label)
            continue
        seen.add(number)
        box = corners(moved, images[image].size, problems, f"{where}: bbox", bbox, "x, y, width, height")
        if box is None:
            regions[image].incomplete.add(label)
        elif row.get("iscrowd"):
            regions[image].crowds.append((label, box))
        else:
            if number is not None:
                places[number] = ObjectPlace(str(image), len(regions[image].objects))
            regions[image].objects.append((label, box))
    return regions, places


def _classes(row: Mapping[str, Any], key: str, names: Mapping[CocoId, str], where: str) -> tuple[str, ...] | None:
    """Class names of a list of ids in an image's row, None if it has no such list."""
    if key not in row:
        return None
    numbers = row[key]
    unknown = [n for n in numbers if n not in names] if isinstance(numbers, list) else [numbers]
    if unknown:
        raise DataError(f"{where}: {key} holds {unknown[0]!r}, which is not in 'categories'")
    return tuple(sorted({names[n] for n in numbers}))


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
