"""Ground truth and predictions in COCO's JSON, read and checked.

Decision: what cannot be right (an unknown image, a box of NaN) is an error that names file and row; what COCO's own
tools silently pass over (a prediction of a class that the annotations do not list) is left out as there, counted and
said. Boxes are ``[x, y, width, height]`` in pixels, in both files.

    {"images": [{"id": 1, ...}], "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 10]}],
     "categories": [{"id": 3, "name": "cat"}]}
    [{"image_id": 1, "category_id": 3, "bbox": [4, 5, 22, 10], "score": 0.8}]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from visual_rft.data.formats.reading import as_id, is_crowd, read_json
from visual_rft.errors import DataError
from visual_rft.tasks.metrics.coco import Rules
from visual_rft.vision.boxes import is_finite_number, is_four_numbers

Note = Callable[[str], None]
"""Told about everything that was left out or filled in, one line each."""


def read_ground_truth(file: Path, rules: Rules = "coco", note: Note = lambda _: None) -> dict[str, Any]:
    """A COCO or LVIS annotations file.

    Args:
        file: JSON with ``images``, ``annotations`` and ``categories``.
        rules: ``lvis`` also wants each image's ``neg_category_ids`` and ``not_exhaustive_category_ids`` and each
            category's ``frequency``.
        note: told what was filled in.

    Raises:
        DataError: if the file cannot be read or is not valid; the message names the row.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: the top level is a {type(content).__name__}; ground truth is an object with 'images', "
            "'annotations' and 'categories'"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{file}: has no list {key!r}; ground truth has 'images', 'annotations' and 'categories'")
    images, categories = _ids(content["images"], file, "images"), _ids(content["categories"], file, "categories")
    _ids(content["annotations"], file, "annotations")
    if not images:
        raise DataError(f"{file}: lists no images")
    needed = {"images": ("neg_category_ids", "not_exhaustive_category_ids"), "categories": ("frequency",)}
    for part, keys in needed.items() if rules == "lvis" else ():
        for number, row in enumerate(content[part]):
            for key in keys:
                value = row.get(key)
                if not (value in ("r", "c", "f") if key == "frequency" else isinstance(value, list)):
                    wanted = "r, c or f" if key == "frequency" else "a list"
                    raise DataError(f"{file}: {part}[{number}]: {key} is {value!r}; --rules lvis needs {wanted}")
                if key != "frequency":
                    row[key] = [as_id(identity) for identity in value]
                    for stated, identity in zip(value, row[key], strict=True):
                        if identity not in categories:
                            where = f"{file}: {part}[{number}]: {key}"
                            raise DataError(f"{where} holds {stated!r}, which is not the id of a category")
    without_area = 0
    for number, row in enumerate(content["annotations"]):
        where = f"{file}: annotations[{number}]"
        _check_place(row, where, images)
        if "iscrowd" in row:
            row["iscrowd"] = int(is_crowd(row["iscrowd"], where))
        if row["category_id"] not in categories:
            raise DataError(f"{where}: category_id {row['category_id']!r} is not in 'categories'")
        if "area" not in row:
            without_area += 1
        elif not is_finite_number(row["area"]) or row["area"] < 0:
            raise DataError(f"{where}: area {row['area']!r} is not a number from 0")
    if without_area:
        note(f"{file}: {without_area} annotations have no area; that of their box is taken")
    if any(row["id"] == 0 for row in content["annotations"]):
        note(f"{file}: an annotation has id 0, which COCO's rules count as never found; number them from 1")
    if rules == "coco" and any("neg_category_ids" in row for row in content["images"]):
        note(f"{file}: looks like LVIS; --rules lvis applies its federated rules")
    return content


def read_predictions(file: Path, truth: Mapping[str, Any], note: Note = lambda _: None) -> list[dict[str, Any]]:
    """Predictions in COCO's results format, about the images of ``truth``.

    Raises:
        DataError: if the file cannot be read or is not valid; the message names the row.
    """
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(
            f"{file}: the top level is a {type(content).__name__}; predictions are a list of "
            '{"image_id", "category_id", "bbox", "score"}'
        )
    images = {row["id"] for row in truth["images"]}
    categories = {row["id"] for row in truth["categories"]}
    unknown: Counter[Any] = Counter()
    for number, row in enumerate(content):
        where = f"{file}: row {number}"
        _check_place(row, where, images)
        if not is_finite_number(row.get("score")):
            raise DataError(f"{where}: score {row.get('score')!r} is not a finite number")
        if row["category_id"] not in categories:
            unknown[row["category_id"]] += 1
    if unknown:
        most = ", ".join(str(identity) for identity, _ in unknown.most_common(5))
        note(f"{file}: {unknown.total()} predictions left out: the annotations list no category {most}"
             + (" ..." if len(unknown) > 5 else ""))  # fmt: skip
    return [row for row in content if row["category_id"] in categories]


def _ids(rows: Sequence[Any], file: Path, part: str) -> set[Any]:
    """The ids of a part: all whole numbers or all texts, none twice."""
    seen: set[Any] = set()
    for number, row in enumerate(rows):
        where = f"{file}: {part}[{number}]"
        stated = row.get("id") if isinstance(row, dict) else None
        identity = as_id(stated)
        if identity is None:
            raise DataError(f"{where}: id {stated!r} is not a whole number or a text")
        row["id"] = identity
        if identity in seen:
            raise DataError(f"{where}: id {identity!r} is used twice")
        seen.add(identity)
    if len({type(identity) for identity in seen}) > 1:
        raise DataError(f"{file}: {part}: some ids are numbers and some texts; they could not be told apart or sorted")
    return seen


def _check_place(row: Any, where: str, images: set[Any]) -> None:
    """That a row names a known image, a category and a box of no negative size; ids like ``1.0`` become ``1`` in it."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: is {row!r}, not an object")
    for key in ("image_id", "category_id", "bbox"):
        if key not in row:
            raise DataError(f"{where}: has no {key!r}")
        if key != "bbox":
            identity = as_id(row[key])
            if identity is None:
                raise DataError(f"{where}: {key} {row[key]!r} is not a whole number or a text")
            row[key] = identity
    if row["image_id"] not in images:
        raise DataError(f"{where}: image_id {row['image_id']!r} is not among the annotated images")
    box = row["bbox"]
    if not is_four_numbers(box):
        raise DataError(f"{where}: bbox {box!r} is not four finite numbers [x, y, width, height]")
    if box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: bbox {box!r} has a negative size; COCO boxes are [x, y, width, height]")
