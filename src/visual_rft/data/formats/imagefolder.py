"""ImageFolder: one subfolder per class, and optionally a ``metadata.jsonl`` with more about each image.

Decision: the subfolder's name is the label, as in torchvision and Hugging Face. A line of ``metadata.jsonl`` names a
file relative to the folder and may hold ``label`` (instead of the subfolder's name), ``synonyms``, ``parents`` and
``thought``, or ``objects`` for detection: ``{"bbox": [[x, y, width, height], ...], "categories": ["cat", ...]}``, in
pixels, as Hugging Face writes them.

    flowers/rose/001.jpg
    flowers/tulip/007.jpg
    flowers/metadata.jsonl      {"file_name": "rose/001.jpg", "synonyms": ["Rosa gallica"]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import FACTS, AnnotatedImage, Dataset, facts_of
from visual_rft.data.formats.coco_rows import read_boxes
from visual_rft.data.formats.finding import images_under, inside
from visual_rft.data.formats.reading import (
    Problems,
    corners,
    field,
    header_size,
    numbered_lines,
    parse_json,
)  # fmt: skip
from visual_rft.data.formats.writing import NewFolder
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_four_numbers
from visual_rft.vision.images import ImageFile

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})
"""Names of folders that part a data set and are hardly classes."""
KNOWN = ("file_name", "label", "objects", *FACTS)


def load_imagefolder(folder: Path, split: str | None = None, problems: Problems | None = None) -> Dataset:
    """Read a folder of classes.

    Args:
        folder: holds a subfolder per class.
        split: reads the subfolder of this name, which holds the classes; default ``folder`` itself.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if there is no image, an image has no label, or the metadata is not usable.
    """
    problems = problems or Problems()
    root = folder if split is None else inside(folder, split, "data: split")
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    if (root / "metadata.csv").exists():
        raise DataError(f"{root / 'metadata.csv'}: only metadata.jsonl is read; convert it, one JSON object per line")
    metadata = _metadata(root / "metadata.jsonl", problems)
    images = []
    for path in images_under(root, problems):
        name = path.relative_to(root).as_posix()
        row, where = metadata.get(name, ({}, str(path)))
        size = header_size(ImageFile(path), problems)
        if size is not None:
            image = _image(path, name, size, row, where, problems)
            images += [] if image is None else [image]
    if not images:
        raise problems.nothing_left(f"{root}: holds no image in a folder of its class, e.g. {root / 'cat' / '1.jpg'}")
    labels = {label for image in images for label in (*image.labels, *image.incomplete)}
    if split is None and labels <= SPLITS and any(len(Path(image.id).parts) > 2 for image in images):
        names = sorted(labels)
        problems.notes.append(f"the classes are called {', '.join(names)}: if these are the parts of the data, name "
                              f"one as 'split', e.g. split: {names[0]}")  # fmt: skip
    return Dataset(images, tuple(sorted(labels)), skipped=problems.counts)


def _metadata(file: Path, problems: Problems) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Row, and where it stands, by file name."""
    rows: dict[str, tuple[Mapping[str, Any], str]] = {}
    for number, line in numbered_lines(file) if file.exists() else []:
        where = f"{file}: line {number}"
        row = parse_json(line, where)
        name = str(field(row, "file_name", where))
        path = inside(file.parent, name, where)
        unknown = sorted(set(row) - set(KNOWN))
        if unknown:
            raise DataError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(KNOWN)}")
        key = path.relative_to(file.parent).as_posix()
        if key in rows:
            problems.add("image named twice", f"{where}: {name!r} is in line {rows[key][1].rpartition(' ')[2]} already")
        elif not path.is_file():
            problems.add("missing image", f"{where}: no file {name!r} in {file.parent}")
        else:
            rows[key] = row, where
    return rows


def _image(
    path: Path, name: str, size: tuple[int, int], row: Mapping[str, Any], where: str, problems: Problems
) -> AnnotatedImage | None:
    if "objects" in row:
        for key in ("label", *FACTS):
            if key in row:
                raise DataError(f"{where}: has both 'objects' and {key!r}, which belongs to the whole image")
        return _with_objects(path, name, size, row["objects"], where, problems)
    label = row.get("label", Path(name).parts[0] if "/" in name else None)
    if not isinstance(label, str) or not label.strip():
        problems.add("image without a label", f"{where}: label {label!r} is not a name; put the image into a folder of "
                     "its class, or name the label in metadata.jsonl")  # fmt: skip
        return None
    facts = facts_of(row, where)
    return AnnotatedImage(name, ImageFile(path), size, (label.strip(),), (), facts)


def _with_objects(
    path: Path, name: str, size: tuple[int, int], objects: Any, where: str, problems: Problems
) -> AnnotatedImage:
    bboxes, categories = field(objects, "bbox", f"{where}: objects"), field(objects, "categories", f"{where}: objects")
    if not (isinstance(bboxes, list) and isinstance(categories, list) and len(bboxes) == len(categories)):
        raise DataError(f"{where}: objects: bbox and categories are not two lists of equal length")
    labels: list[str] = []
    boxes: list[Box] = []
    incomplete: set[str] = set()
    for i, (bbox, label) in enumerate(zip(bboxes, categories, strict=True)):
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{where}: objects: category {label!r} is not a name")
        moved = read_boxes(bbox) if is_four_numbers(bbox) else bbox
        box = corners(moved, size, problems, f"{where}: object {i}: bbox", bbox, "x, y, width, height")
        if box is None:
            incomplete.add(label.strip())
        else:
            labels.append(label.strip())
            boxes.append(box)
    return AnnotatedImage(
        name, ImageFile(path), size, tuple(labels), tuple(boxes), incomplete=tuple(sorted(incomplete))
    )


def write_imagefolder(dataset: Dataset, folder: NewFolder) -> None:
    """Write a folder per class, and ``metadata.jsonl`` with what a folder's name cannot say.

    Raises:
        DataError: if an image does not have exactly one class, or its class cannot be the name of a folder.
    """
    lines = []
    for image in dataset.images:
        truth = image.name("object").truth
        label = str(truth["label"])
        safe = "/" not in label and "\0" not in label and not label.startswith(".")
        name = folder.add_image(image, label if safe else "other")
        facts = {key: truth[key] for key in FACTS if key in truth}
        row = {"file_name": f"{label if safe else 'other'}/{name}", **({} if safe else {"label": label}), **facts}
        if len(row) > 1:
            lines.append(row)
    if lines:
        folder.write_json_lines("metadata.jsonl", lines)
