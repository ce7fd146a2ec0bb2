"""A user's own data: a folder with ``annotations.json`` in COCO format and the images.

Decision: everything is checked when the folder is read, because a bad box found at step 300 costs the run; each error
names the file, the annotation and the remedy. Images are looked for beside the annotations and under ``images/``.
Crowd regions are not objects one can point at with a single box, so images that hold one are left out of training
questions about that class.

>>> read_boxes([10, 20, 30, 40])  # COCO writes x, y, width, height
(10.0, 20.0, 40.0, 60.0)
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import ImageFile

EDGE_TOLERANCE = 1.0
"""Pixels by which a box may stick out of its image (rounding of annotation tools); it is cut at the edge."""


def read_boxes(bbox: list[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``, in pixels."""
    x, y, w, h = (float(v) for v in bbox)
    return x, y, x + w, y + h


def load_coco(folder: Path) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Read a COCO-format folder.

    Args:
        folder: holds ``annotations.json`` (``images``, ``annotations``, ``categories``) and the images.

    Returns:
        The images in file order, and all class names.

    Raises:
        DataError: if the file is missing or broken, an image is missing, or a box is not usable.
    """
    file = folder / "annotations.json"
    content = _read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{file}: has no list {key!r}; a COCO file has 'images', 'annotations' and 'categories'")
    names = {_field(c, "id", file, f"categories[{i}]"): str(_field(c, "name", file, f"categories[{i}]"))
             for i, c in enumerate(content["categories"])}  # fmt: skip
    rows = {}
    for i, row in enumerate(content["images"]):
        identity = _field(row, "id", file, f"images[{i}]")
        if identity in rows:
            raise DataError(f"{file}: images[{i}]: id {identity!r} is used twice")
        rows[identity] = row
    by_image: dict[Any, list[tuple[str, Box]]] = defaultdict(list)
    sizes = {identity: _image_size(folder, file, row) for identity, row in rows.items()}
    crowds: dict[Any, set[str]] = defaultdict(set)
    for i, annotation in enumerate(content["annotations"]):
        where = f"annotation {annotation.get('id', f'number {i}') if isinstance(annotation, Mapping) else i}"
        image = _field(annotation, "image_id", file, where)
        category = _field(annotation, "category_id", file, where)
        if image not in rows:
            raise DataError(f"{file}: {where}: image_id {image!r} is not in 'images'")
        if category not in names:
            raise DataError(f"{file}: {where}: category_id {category!r} is not in 'categories'")
        box = _checked_box(_field(annotation, "bbox", file, where), sizes[image], file, where)
        if annotation.get("iscrowd"):
            crowds[image].add(names[category])
        else:
            by_image[image].append((names[category], box))
    images = []
    for identity, row in rows.items():
        objects = [(label, box) for label, box in by_image[identity] if label not in crowds[identity]]
        images.append(
            AnnotatedImage(
                id=str(identity),
                image=ImageFile(_image_path(folder, file, row)),
                size=sizes[identity],
                labels=tuple(label for label, _ in objects),
                boxes=tuple(box for _, box in objects),
            )
        )
    if not images:
        raise DataError(f"{file}: lists no images")
    return images, tuple(sorted(names.values()))


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; a COCO-format folder holds annotations.json and the images") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: the top level is a {type(content).__name__}, not an object")
    return content


def _field(row: Any, key: str, file: Path, where: str) -> Any:
    if not isinstance(row, Mapping) or key not in row:
        raise DataError(f"{file}: {where}: has no {key!r}")
    return row[key]


def _image_path(folder: Path, file: Path, row: Mapping[str, Any]) -> Path:
    name = str(_field(row, "file_name", file, f"image {row.get('id')!r}"))
    for path in (folder / name, folder / "images" / name):
        if path.is_file():
            return path
    raise DataError(f"{file}: image {row.get('id')!r}: no file {name!r} in {folder} or {folder / 'images'}")


def _image_size(folder: Path, file: Path, row: Mapping[str, Any]) -> tuple[int, int]:
    """Upright (width, height) from the image's own header; the annotations must agree with it."""
    path = _image_path(folder, file, row)
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # EXIF orientation: shown turned by a quarter
                width, height = height, width
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    stated = (row.get("width", width), row.get("height", height))
    if stated != (width, height):
        raise DataError(
            f"{file}: image {row.get('id')!r}: says {stated[0]} x {stated[1]}, but {path} is {width} x {height} "
            "(upright); boxes would be in the wrong place"
        )
    return width, height


def _checked_box(bbox: Any, size: tuple[int, int], file: Path, where: str) -> Box:
    numbers = (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in bbox)
    )
    if not numbers:
        raise DataError(f"{file}: {where}: bbox {bbox!r} is not four finite numbers [x, y, width, height]")
    x1, y1, x2, y2 = read_boxes(bbox)
    width, height = size
    if x2 <= x1 or y2 <= y1:
        raise DataError(f"{file}: {where}: bbox {bbox!r} has no area (width and height must be > 0)")
    slack = EDGE_TOLERANCE
    if x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack:
        raise DataError(f"{file}: {where}: bbox {bbox!r} is outside its {width} x {height} image")
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
