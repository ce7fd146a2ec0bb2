"""A picture of 4,000 x 3,000 pixels with 60 objects: AP and time of ``predict --tiles`` against the whole picture.

Objects and background are those that the embedded model knows, at the size it knows (16 to 52 pixels), so that the
tiles differ from its scenes in nothing but the objects that they cut. Both go through the command line, the boxes are
scored by ``evaluate detection``.

    python benchmarks/tiles.py [--size 128] [--overlap 0.35]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation import cpu

from visual_rft.cli.main import main as command
from visual_rft.cli.verbs.evaluate import score_files
from visual_rft.data.procedural.shapes import _render, place
from visual_rft.tasks.metrics.detection import xywh
from visual_rft.vision.boxes import Box
from visual_rft.vision.tiles import Tiling

WIDTH, HEIGHT, OBJECTS = 4000, 3000, 60
CLASSES = ("red circle", "blue square", "yellow star")


def draw(folder: Path, seed: int) -> tuple[Path, Path]:
    """The picture and its annotations."""
    rng = np.random.default_rng(seed)
    boxes: list[Box] = []
    while len(boxes) < OBJECTS:
        box = place(rng, WIDTH, HEIGHT, boxes, most_overlap=0.0)
        boxes += [] if box is None else [box]
    labels = tuple(CLASSES[n % len(CLASSES)] for n in range(OBJECTS))
    picture, annotations = folder / "large.png", folder / "annotations.json"
    _render((seed, 0, 1), WIDTH, HEIGHT, labels, tuple(boxes)).save(picture)
    content = {
        "images": [{"id": 1, "file_name": "large.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": CLASSES.index(label) + 1, "bbox": xywh(box), "iscrowd": 0,
             "area": (box[2] - box[0]) * (box[3] - box[1])}
            for n, (label, box) in enumerate(zip(labels, boxes, strict=True), 1)
        ],
    }  # fmt: skip
    annotations.write_text(json.dumps(content))
    return picture, annotations


def asked(folder: Path, picture: Path, annotations: Path, flags: list[str]) -> dict[str, Any]:
    """AP, boxes and seconds of one way."""
    asks = [word for name in CLASSES for word in ("--ask", name)]
    started = time.monotonic()
    command(["predict", str(picture), *asks, "--annotations", str(annotations), "--out", str(folder), "--batch", "96",
             *flags])  # fmt: skip
    seconds = time.monotonic() - started
    numbers = score_files(annotations, folder / "predictions.json").numbers
    boxes = len(json.loads((folder / "predictions.json").read_text()))
    return {"AP": round(numbers["AP"], 4), "AP50": round(numbers["AP50"], 4), "boxes": boxes, "seconds": round(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.35)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tiles.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place_of_all:
        folder = Path(place_of_all)
        picture, annotations = draw(folder, given.seed)
        tiles = ["--tiles", str(given.size), "--overlap", str(given.overlap)]
        tiled = asked(folder / "tiled", picture, annotations, tiles)
        whole = asked(folder / "whole", picture, annotations, [])
    windows = len(Tiling(given.size, given.overlap).windows(WIDTH, HEIGHT))
    result = {
        "picture": [WIDTH, HEIGHT], "objects": OBJECTS, "classes": len(CLASSES), "tile": given.size,
        "overlap": given.overlap, "tiles": windows, "tiled": tiled, "whole": whole, "processor": cpu(), "threads": 1,
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
