"""What is in a data set: counts, sizes, classes, broken rows, images that are in two splits.

Decision: every image is decoded, because a truncated file has a sound header; rows that cannot be used are counted and
the first of each kind are quoted, whatever ``broken`` says, because this is where one looks for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visual_rft.config.sources import QuestionKind, SourceConfig
from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.duplicates import Fingerprint, fingerprint, near_duplicates
from visual_rft.data.formats.reading import Problems
from visual_rft.data.sources import load_dataset
from visual_rft.errors import DataError
from visual_rft.terminal.progress import Ticker
from visual_rft.vision.drawing import TRUTH, Mark, contact_sheet, draw_marks, save_picture

PICTURES = 12
"""Images drawn on the contact sheet."""
NAMED = 20
"""Broken images and near-duplicates that are named; all are counted."""


def describe(
    parts: Mapping[str, Sequence[tuple[SourceConfig, QuestionKind]]], sheet: Path | None = None
) -> dict[str, Any]:
    """What is in each part, and which images look the same.

    Args:
        parts: by name, sources and what will be asked about each.
        sheet: where a picture of the first part's images with their labels goes; None draws none.

    Returns:
        ``parts``: per part the numbers of :func:`_summary`. ``near_duplicates``: how many pairs there are ``within`` a
        part and ``across`` parts, and the first of them.

    Raises:
        DataError: if a source cannot be read at all.
    """
    prints: list[Fingerprint] = []
    owners: list[tuple[str, str]] = []
    summaries: dict[str, Any] = {}
    for name, sources in parts.items():
        problems = Problems(skip=True)
        images: list[AnnotatedImage] = []
        for source, questions in sources:
            dataset = load_dataset(source, questions, problems)
            images += dataset.images
        drawn = {i * len(images) // PICTURES for i in range(PICTURES)} if sheet and not summaries else set()
        pictures, broken = [], []
        with Ticker(len(images), f"looking at {name}") as ticker:
            for i, image in enumerate(images):
                ticker.update()
                try:
                    picture = image.image.load()
                except DataError as error:
                    broken.append(str(error))
                    continue
                prints.append(fingerprint(picture))
                owners.append((name, image.id))
                if i in drawn:
                    pictures.append(draw_marks(picture, _marks(image), TRUTH, least_side=384))
        if sheet and pictures:
            save_picture(contact_sheet(pictures, columns=4), sheet, "contact sheet")
        summaries[name] = _summary(images, problems, broken)
    with Ticker(len(prints), "looking for near-duplicates") as ticker:
        pairs = [(owners[i], owners[j]) for i, j in near_duplicates(prints, ticker.update)]
    across = [pair for pair in pairs if pair[0][0] != pair[1][0]]
    within = [pair for pair in pairs if pair[0][0] == pair[1][0]]
    return {
        "parts": summaries,
        "near_duplicates": {
            "across": len(across),
            "within": len(within),
            "pairs": [[f"{part}/{image}" for part, image in pair] for pair in (across + within)[:NAMED]],
        },
    }


def _summary(images: Sequence[AnnotatedImage], problems: Problems, broken: Sequence[str]) -> dict[str, Any]:
    """Counts, sizes as least, median and greatest, and per class the number of images and objects."""
    objects: Counter[str] = Counter(label for image in images for label in image.labels)
    holding: Counter[str] = Counter(label for image in images for label in set(image.labels))
    boxes = np.array([box for image in images for box in image.boxes], dtype=float).reshape(-1, 4)
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return {
        "images": len(images),
        "objects": sum(objects.values()),
        "expressions": sum(len(image.expressions) for image in images),
        "images_without_objects": sum(not image.labels for image in images),
        "crowd_regions": sum(len(image.crowds) for image in images),
        "width": _spread([image.size[0] for image in images]),
        "height": _spread([image.size[1] for image in images]),
        "box_side": _spread(sides.tolist()),
        "classes": {name: {"images": holding[name], "objects": count} for name, count in objects.most_common() if name},
        "left_out": dict(problems.counts),
        "left_out_examples": problems.examples,
        "unreadable_images": len(broken),
        "unreadable_examples": list(broken[:NAMED]),
    }


def _spread(values: Sequence[float]) -> list[float]:
    return [round(float(v), 1) for v in np.percentile(values, [0, 50, 100])] if len(values) else []


def _marks(image: AnnotatedImage) -> list[Mark]:
    if not image.boxes:
        return [(None, label) for label in image.labels] or [(None, "no object")]
    marks: list[Mark] = list(zip(image.boxes, image.labels, strict=True))
    marks += [(box, f"crowd: {label}") for label, box in image.crowds]
    return marks + [(None, text) for text, _ in image.expressions[:2]]
