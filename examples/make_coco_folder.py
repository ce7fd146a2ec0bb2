"""Make a small COCO-format folder of coins and buttons to train on: your own data looks like this.

    python examples/make_coco_folder.py coins
    visual-rft train examples/coco.yaml

The folder holds ``annotations.json`` (``images``, ``annotations`` with ``bbox`` as x, y, width, height in pixels, and
``categories``) and the images.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

CATEGORIES = {1: "coin", 2: "button"}


def make_coco_folder(folder: Path, images: int = 40, seed: int = 0) -> None:
    """Write ``images`` pictures of 1 to 3 objects and their annotations to ``folder``."""
    rng = random.Random(seed)  # noqa: S311  (pictures, not secrets)
    folder.mkdir(parents=True)
    rows: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, images + 1):
        width, height = rng.choice([(128, 96), (112, 128)])
        picture = Image.new("RGB", (width, height), (rng.randint(90, 130), 90, 70))
        draw = ImageDraw.Draw(picture)
        column = width // 3
        for place in range(rng.randint(1, 3)):
            size = rng.randint(18, column - 4)
            x, y = place * column + rng.randint(0, column - size), rng.randint(0, height - size)
            kind = rng.choice(list(CATEGORIES))
            fill = (212, 175, 55) if kind == 1 else (70, 130, 180)
            draw.ellipse((x, y, x + size - 1, y + size - 1), fill=fill, outline=(30, 30, 30))
            if kind == 2:
                for dx in (0.35, 0.6):
                    draw.ellipse(
                        (x + dx * size, y + 0.45 * size, x + dx * size + 3, y + 0.45 * size + 3), fill=(20, 20, 20)
                    )
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": kind, "bbox": [x, y, size, size]}
            )
        name = f"{number:04d}.png"
        picture.save(folder / name)
        rows.append({"id": number, "file_name": name, "width": width, "height": height})
    categories = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
    content = {"images": rows, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_coco_folder.py FOLDER")
    made = Path(sys.argv[1])
    if made.exists():
        sys.exit(f"{made}: exists already; name a folder that does not")
    make_coco_folder(made)
    content = json.loads((made / "annotations.json").read_text(encoding="utf-8"))
    names = ", ".join(category["name"] for category in content["categories"])
    print(
        f"{made}: {len(content['images'])} images with {len(content['annotations'])} boxes of {len(CATEGORIES)} "
        f"classes ({names})\nannotations in {made / 'annotations.json'}\nnext:\n  visual-rft init --data {made}\n"
        f"  visual-rft check {made.name}.yaml"
    )
