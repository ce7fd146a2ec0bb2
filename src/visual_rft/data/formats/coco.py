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
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.reading import Problems, corners, field, find_image, header_size, read_json
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_four_numbers
from visual_rft.vision.images import ImageFile

FILES = ("annotations.json", "_annotations.coco.json")
"""What the annotation file of a folder may be called."""
_Objects = dict[Any, list[tuple[str, Box]]]


def read_boxes(bbox: Sequence[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``, in pixels."""
    x, y, w, h = (float(v) for v in bbox)
    return x, y, x + w, y + h


def annotations_file(folder: Path) -> Path:
    """The annotation file of a COCO folder; the usual name where there is none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), folder / FILES[0])


def load_coco(
    folder: Path, annotations: Path | None = None, problems: Problems | None = None, headers: bool = True
) -> Dataset:
    """Read a COCO or LVIS file.

    Args:
        folder: holds the images.
        annotations: the JSON file; default ``annotations.json`` in ``folder``.
        problems: what happens to rows that cannot be used; default the first one raises.
        headers: open every image's header and compare its size with the file's; otherwise the stated size is believed
            where there is one.

    Raises:
        DataError: if the file is missing or broken, an image is missing, or a box is not usable.
    """
    return read_coco(folder, annotations, problems or Problems(), headers)[0]


def read_coco(
    folder: Path, annotations: Path | None, problems: Problems, headers: bool = True
) -> tuple[Dataset, dict[Any, tuple[str, int]]]:
    """As :func:`load_coco`, with the image id and the place among its objects of each annotation id."""
    file = annotations or annotations_file(folder)
    content = read_json(file, "; a COCO-format folder holds annotations.json and the images")
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: the top level is a {type(content).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{file}: has no list {key!r}; a COCO file has 'images', 'annotations' and 'categories'")
    names = _categories(content["categories"], file)
    found = _images(content["images"], folder, file, problems, headers)
    sizes = {identity: size for identity, (_, size, _) in found.items()}
    objects, crowds, incomplete, places = _objects(content["annotations"], names, sizes, file, problems)
    images = []
    for identity, (image, size, row) in found.items():
        where = f"{file}: image {identity!r}"
        unboxed = incomplete[identity] | set(_classes(row, "not_exhaustive_category_ids", names, where) or ())
        images.append(
            AnnotatedImage(
                id=str(identity),
                image=image,
                size=size,
                labels=tuple(label for label, _ in objects[identity]),
                boxes=tuple(box for _, box in objects[identity]),
                crowds=tuple(crowds[identity]),
                incomplete=tuple(sorted(unboxed)),
                negatives=_classes(row, "neg_category_ids", names, where),
            )
        )
    if not images:
        raise DataError(f"{file}: lists no images")
    numbers = {name: number for number, name in names.items() if type(number) is int}
    dataset = Dataset(images, tuple(sorted(set(names.values()))), skipped=problems.counts, category_ids=numbers)
    return dataset, places


def _categories(rows: Sequence[Any], file: Path) -> dict[Any, str]:
    """Class name by id. Two ids may share a name: they are then one class."""
    names: dict[Any, str] = {}
    for i, row in enumerate(rows):
        where = f"{file}: categories[{i}]"
        number, name = _identity(row, "id", where), str(field(row, "name", where)).strip()
        if number in names:
            raise DataError(f"{where}: id {number!r} is used twice")
        if not name:
            raise DataError(f"{where}: the name is empty")
        names[number] = name
    return names


def _identity(row: Any, key: str, where: str) -> Any:
    value = field(row, key, where)
    if not isinstance(value, (int, str)):
        raise DataError(f"{where}: {key} {value!r} is not a number or text")
    return value


def _images(
    rows: Sequence[Any], folder: Path, file: Path, problems: Problems, headers: bool
) -> dict[Any, tuple[ImageFile, tuple[int, int], Mapping[str, Any]]]:
    """Image file, (width, height) and row by image id."""
    seen: set[Any] = set()
    found: dict[Any, tuple[ImageFile, tuple[int, int], Mapping[str, Any]]] = {}
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
        stated = (row.get("width"), row.get("height"))
        if not headers and all(type(side) is int and side > 0 for side in stated):
            found[identity] = image, stated, row
            continue
        size = header_size(image, problems)
        if size is not None and _same_size(stated, size, image, problems, where):
            found[identity] = image, size, row
    return found


def as_stated(image: AnnotatedImage, problems: Problems) -> bool:
    """Whether an image that was read without its header has the size that the file states.

    Raises:
        DataError: if not, unless such images are skipped.
    """
    assert isinstance(image.image, ImageFile)
    size = header_size(image.image, problems)
    return size is not None and _same_size(image.size, size, image.image, problems, f"image {image.id}")


def _same_size(
    stated: tuple[Any, Any], size: tuple[int, int], image: ImageFile, problems: Problems, where: str
) -> bool:
    if (stated[0] or size[0], stated[1] or size[1]) == size:
        return True
    problems.add(
        "image of another size than stated",
        f"{where}: says {stated[0]} x {stated[1]}, but {image.path} is {size[0]} x {size[1]} (upright); boxes would be "
        "in the wrong place",
    )
    return False


def _file_names(row: Mapping[str, Any], where: str) -> list[str]:
    """Where the image may be: ``file_name``, or the last two parts, or the last, of LVIS's ``coco_url``."""
    if "file_name" not in row and "coco_url" in row:
        parts = str(row["coco_url"]).rsplit("/", 2)
        return ["/".join(parts[-2:]), parts[-1]]
    return [str(field(row, "file_name", where))]


def _objects(
    rows: Sequence[Any], names: Mapping[Any, str], sizes: Mapping[Any, tuple[int, int]], file: Path, problems: Problems
) -> tuple[_Objects, _Objects, dict[Any, set[str]], dict[Any, tuple[str, int]]]:
    """By image id: objects, crowd regions, and classes of which a box was left out; by annotation id: its place."""
    objects: _Objects = defaultdict(list)
    crowds: _Objects = defaultdict(list)
    places: dict[Any, tuple[str, int]] = {}
    incomplete: dict[Any, set[str]] = defaultdict(set)
    seen: set[Any] = set()
    for i, row in enumerate(rows):
        number = row.get("id") if isinstance(row, Mapping) else None
        where = f"{file}: annotation {f'number {i}' if number is None else number}"
        image = _identity(row, "image_id", where)
        category = _identity(row, "category_id", where)
        if category not in names:
            raise DataError(f"{where}: category_id {category!r} is not in 'categories'")
        if image not in sizes:
            if not problems.skip:
                raise DataError(f"{where}: image_id {image!r} is not in 'images'")
            problems.counts["annotation of an image that is not there"] += 1
            continue
        label = names[category]
        bbox = field(row, "bbox", where)
        moved = read_boxes(bbox) if is_four_numbers(bbox) else bbox
        if number is not None and number in seen:
            problems.add("annotation id used twice", f"{where}: this id is used twice")
            incomplete[image].add(label)
            continue
        seen.add(number)
        box = corners(moved, sizes[image], problems, f"{where}: bbox", bbox, "x, y, width, height")
        if box is None:
            incomplete[image].add(label)
        elif row.get("iscrowd"):
            crowds[image].append((label, box))
        else:
            places[number] = str(image), len(objects[image])
            objects[image].append((label, box))
    return objects, crowds, incomplete, places


def _classes(row: Mapping[str, Any], key: str, names: Mapping[Any, str], where: str) -> tuple[str, ...] | None:
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
