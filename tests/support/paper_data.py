"""Fake data of every format that the paper's experiments read, in the folders where their configs look for it.

Decision: pictures of 60 x 40 pixels and as few as each experiment needs (4 per class of COCO, 10 with all classes of
LVIS), so that seventy runs are looked at in seconds.

    data/coco/{train2017, val2017, annotations}   data/lvis   data/mg   data/ReasonSeg   data/SET/test, SET.parquet
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from visual_rft.data.presets import PRESETS

SIZE = (60, 40)
SETS = ("flowers102", "pets37", "fgvc-aircraft", "cars196")
FEW = PRESETS["coco-8"].classes
NOVEL = PRESETS["coco-65-15"].classes
_SEEN = [name for name in FEW if name not in NOVEL]
COCO = [*NOVEL, *_SEEN, *(f"thing {i}" for i in range(65 - len(_SEEN)))]
"""80 classes, the 15 novel ones among them."""
LVIS = sorted({*PRESETS["lvis-6"].classes, *PRESETS["lvis-13"].classes, "banana"})


def make_paper_data(root: Path) -> None:
    """Write ``root/data``."""
    coco = root / "data" / "coco"
    (coco / "annotations").mkdir(parents=True)
    train = [[name] for name in FEW for _ in range(4)] + [[_SEEN[0], NOVEL[0]], ["thing 3"]]
    for split, rows in (("train2017", train), ("val2017", [[FEW[0], "thing 1"], [NOVEL[1]], ["thing 2"]])):
        _coco(coco / split, coco / "annotations" / f"instances_{split}.json", rows, COCO)
    lvis = root / "data" / "lvis"
    lvis.mkdir()
    _lvis(lvis / "lvis_v1_train.json", coco / "train2017", [PRESETS["lvis-6"].classes] * 10)
    _lvis(lvis / "lvis_v1_val.json", coco / "val2017", [PRESETS["lvis-6"].classes[:2], PRESETS["lvis-13"].classes[:3]])
    for split in ("train", "val"):
        folder = root / "data" / "mg" / split
        _coco(
            folder,
            folder / "annotations.json",
            [[f"figure {i % 5}"] for i in range(20)],
            [f"figure {i}" for i in range(5)],
        )
        _reason(root / "data" / "ReasonSeg" / split)
    for name in SETS:
        for label in ("first kind", "second kind"):
            place = root / "data" / name / "test" / label
            place.mkdir(parents=True)
            _picture().save(place / "1.png")
        _parquet(root / "data" / f"{name}.parquet", ["first kind"] * 4 + ["second kind"] * 4)


def _picture(shade: int = 200) -> Image.Image:
    return Image.new("RGB", SIZE, (shade, 255 - shade, 90))


def _coco(folder: Path, file: Path, rows: list[list[str]], names: list[str]) -> None:
    folder.mkdir(parents=True)
    images, annotations = [], []
    for i, labels in enumerate(rows, 1):
        _picture(i).save(folder / f"{i:012d}.png")
        images.append({"id": i, "file_name": f"{i:012d}.png", "width": SIZE[0], "height": SIZE[1]})
        annotations += _objects(len(annotations), i, labels, names)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": _categories(names)}))


def _lvis(file: Path, folder: Path, rows: list[Any]) -> None:
    """Images of COCO, named by their URL, with the two lists that LVIS has."""
    images, annotations = [], []
    for i, labels in enumerate(rows, 1):
        images.append({
            "id": i, "coco_url": f"http://images/{folder.name}/{i:012d}.png", "width": SIZE[0], "height": SIZE[1],
            "neg_category_ids": [LVIS.index("banana") + 1], "not_exhaustive_category_ids": [],
        })  # fmt: skip
        annotations += _objects(len(annotations), i, labels, LVIS)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": _categories(LVIS)}))


def _objects(count: int, image: int, labels: Any, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"id": count + n, "image_id": image, "category_id": names.index(label) + 1, "bbox": [5 + 2 * n, 6, 30, 20],
         "area": 600, "iscrowd": 0}
        for n, label in enumerate(labels, 1)
    ]  # fmt: skip


def _categories(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in enumerate(names, 1)]


def _reason(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i in range(3):
        _picture(i).save(folder / f"{i}.jpg")
        shape = {"label": "target", "points": [[5, 5], [30, 8], [20, 30]]}
        content = {"text": ["the thing one sits on"], "is_sentence": True, "shapes": [shape]}
        (folder / f"{i}.json").write_text(json.dumps(content))


def _parquet(file: Path, labels: list[str]) -> None:
    rows: dict[str, list[Any]] = {"image": [], "problem": [], "solution": []}
    for i, label in enumerate(labels):
        content = io.BytesIO()
        _picture(i).save(content, "PNG")
        rows["image"].append({"bytes": content.getvalue(), "path": None})
        rows["problem"].append("What is shown in this image? Think, then answer in <answer> </answer>.")
        rows["solution"].append(f"<answer>{label}</answer>")
    pyarrow.parquet.write_table(pyarrow.table(rows), file)
