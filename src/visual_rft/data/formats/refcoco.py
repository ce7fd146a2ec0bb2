"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that mean one object of a COCO image.

Decision: ``refs.json`` and ``instances.json`` are read, not the published ``refs(unc).p``: that is a pickle, which can
run any code when it is opened. Whoever trusts theirs writes it as JSON once:

    python -c "import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], 'rb')), open('refs.json', 'w'))" refs.p

A row of ``refs.json`` is as published: ``image_id``, ``ann_id``, ``split`` and ``sentences`` (``{"sent": text}`` or
text). The box is the annotation's ``bbox`` in ``instances.json``, ``[x, y, width, height]`` in pixels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.coco import read_coco
from visual_rft.data.formats.coco_rows import identity_of
from visual_rft.data.formats.reading import Problems, field, known_id, read_json
from visual_rft.errors import DataError

HINT = "; a RefCOCO folder holds refs.json (not the pickle refs(unc).p), instances.json and the images"


def load_refcoco(folder: Path, split: str | None = None, problems: Problems | None = None) -> Dataset:
    """Read a folder of referring expressions.

    Args:
        folder: holds ``refs.json``, ``instances.json`` (COCO format) and the images.
        split: keeps the rows whose ``split`` is this (``train``, ``val``, ``testA``, ...); default all.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if a file is missing or broken, or a row names an annotation that is not there.
    """
    problems = problems or Problems()
    file = folder / "refs.json"
    rows = read_json(file, HINT)
    if not isinstance(rows, list):
        raise DataError(f"{file}: the top level is a {type(rows).__name__}, not a list of rows")
    instances = folder / "instances.json"
    dataset, places = read_coco(folder, instances, problems)
    images = {image.id: image for image in dataset.images}
    expressions: dict[str, dict[tuple[str, int], None]] = {}
    known_splits = set()
    for i, row in enumerate(rows):
        where = f"{file}: row {i}"
        known_splits.add(str(field(row, "split", where)) if split is not None else "")
        if split is not None and row["split"] != split:
            continue
        annotation = identity_of(field(row, "ann_id", where), "ann_id", where)
        place = places.get(known_id(annotation, places))
        if place is None or place[0] != str(identity_of(field(row, "image_id", where), "image_id", where)):
            problems.add("row of an object that is not there", f"{where}: annotation {row['ann_id']!r} of image "
                         f"{row['image_id']!r} is not a box in {instances}")  # fmt: skip
            continue
        for text in _sentences(row, where):
            expressions.setdefault(place[0], {})[text, place[1]] = None
    if not expressions:
        raise problems.nothing_left(
            f"{file}: holds no row{f' of split {split!r}; it has {sorted(known_splits)}' if split else ''}"
        )
    found: list[AnnotatedImage] = [replace(images[i], expressions=tuple(texts)) for i, texts in expressions.items()]
    return replace(dataset, images=found)


def _sentences(row: Any, where: str) -> list[str]:
    values = field(row, "sentences", where)
    if not isinstance(values, list) or not values:
        raise DataError(f"{where}: 'sentences' is not a list of expressions")
    texts = []
    for value in values:
        text = value.get("sent", value.get("raw")) if isinstance(value, dict) else value
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: the expression {text!r} is not a text")
        texts.append(text.strip())
    return texts
