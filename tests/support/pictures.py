"""Small pictures and a COCO file made of plain rectangles, for the tests of data formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZES = {1: (100, 80), 2: (61, 47), 3: (120, 33)}
"""(width, height) of the pictures of :func:`coco_folder`, by image id."""
BOXES = {
    1: [("cat", [10, 20, 30, 40]), ("dog", [0, 0, 100, 80])],
    2: [("cat", [1.25, 2.5, 3.5, 4.75]), ("stop sign", [20, 10, 40, 36])],
    3: [],
}
"""Class and ``[x, y, width, height]`` of every object, by image id."""


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture like no other: coarse coloured noise."""
    coarse = np.random.default_rng((seed, width, height)).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def tables_stay_here(tmp_path, monkeypatch):
    """What ``datasets`` copies goes to the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def coco_content() -> dict[str, Any]:
    """The annotations of :func:`coco_folder`."""
    categories = {"cat": 17, "dog": 18, "stop sign": 13}
    annotations = [
        {"image_id": image, "category_id": categories[name], "bbox": box}
        for image, objects in BOXES.items()
        for name, box in objects
    ]
    return {
        "images": [{"id": i, "file_name": f"{i:04d}.jpg", "width": w, "height": h} for i, (w, h) in SIZES.items()],
        "annotations": [{"id": 100 + i, **row} for i, row in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }


def coco_folder(folder: Path) -> Path:
    """Three pictures, four objects of three classes; the third picture is empty."""
    (folder / "images").mkdir(parents=True)
    for i, (width, height) in SIZES.items():
        picture(width, height, i).save(folder / "images" / f"{i:04d}.jpg")
    (folder / "annotations.json").write_text(json.dumps(coco_content()))
    return folder
