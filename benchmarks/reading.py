"""How long a COCO file of the size of train2017 takes to become questions, beside pycocotools, in one run.

The file is made: 118,287 images, 851,109 annotations with polygons of the usual length, about 273 MB; its images are
hard links to a few JPEGs, one for each size. Each row is a process of its own, so that its CPU seconds (user and
system) and its greatest memory are its own.

    python benchmarks/reading.py [--folder DIR] [--repetitions 1] [--small]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES, ANNOTATIONS = 118_287, 851_109
"""Of COCO's train2017."""
SIZES = ((640, 480), (640, 427), (480, 640), (640, 640), (500, 375), (427, 640), (612, 612), (640, 360))
CORNERS = 9
"""Corners of a polygon on average, which make the file 273 MB long."""
CLASSES = 80
READING = """
from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import load_samples
from visual_rft.tasks import load_task
samples = load_samples([SourceConfig(source="coco", path=r"{folder}")], load_task("detection"))
print(len(samples), samples[len(samples) // 2].truth["boxes"])
"""
VERBS = {
    "pycocotools: COCO(file)": ["-c", "from pycocotools.coco import COCO; COCO(r'{folder}/annotations.json')"],
    "json.load alone": ["-c", "import json; json.load(open(r'{folder}/annotations.json'))"],
    "visual_rft: questions": ["-c", READING],
    "visual-rft train --dry-run": ["-m", "visual_rft", "train", "{config}", "--dry-run"],
    "visual-rft check": ["-m", "visual_rft", "check", "{config}", "--sheet", "{out}"],
    "nothing: import torch and transformers": ["-c", "import torch, transformers.models.qwen3_vl, visual_rft.cli.main"],
}
MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.perf_counter() - start,
                  "peak_mb": used.ru_maxrss / 1000, "code": done.returncode, "said": done.stdout[-600:]}))
"""


def make(folder: Path, images: int, annotations: int) -> None:
    """The data set: ``annotations.json`` and ``images/``."""
    rng = random.Random(0)
    (folder / "images").mkdir(parents=True)
    models = []
    for number, (width, height) in enumerate(SIZES):
        model = folder / f"model-{number}.jpg"
        Image.new("RGB", (width, height), (120, 130, 140)).save(model)
        models.append(model)
    sizes = [rng.randrange(len(SIZES)) for _ in range(images)]
    rows: list[dict[str, Any]] = []
    links = [0] * len(models)
    for number, kind in enumerate(sizes):
        name = f"{number:012d}.jpg"
        if links[kind] == 60_000:  # ext4 allows 65,000 names of a file
            models[kind] = models[kind].with_suffix(f".{number}.jpg")
            Image.new("RGB", SIZES[kind], (120, 130, 140)).save(models[kind])
            links[kind] = 0
        os.link(models[kind], folder / "images" / name)
        links[kind] += 1
        width, height = SIZES[kind]
        rows.append(
            {
                "license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": height, "width": width, "date_captured": "2013-11-14 11:18:45",
                "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg", "id": number,
            }
        )  # fmt: skip
    with (folder / "annotations.json").open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made, of the size of train2017"}, "licenses": [], "images": ')
        file.write(json.dumps(rows))
        file.write(', "annotations": [')
        for number in range(annotations):
            image = number if number < images * 0.99 else rng.randrange(images)
            image = image if image < images else rng.randrange(images)
            width, height = SIZES[sizes[image]]
            w, h = round(rng.uniform(10, width / 2), 2), round(rng.uniform(10, height / 2), 2)
            x, y = round(rng.uniform(0, width - w - 1), 2), round(rng.uniform(0, height - h - 1), 2)
            count = max(3, round(rng.expovariate(1 / CORNERS)))
            polygon = [round(v, 2) for _ in range(count) for v in (x + rng.random() * w, y + rng.random() * h)]
            row = {
                "segmentation": [polygon], "area": round(w * h * 0.6, 4), "iscrowd": int(number % 85 == 0),
                "image_id": image, "bbox": [x, y, w, h], "category_id": 1 + rng.randrange(CLASSES), "id": number + 1,
            }  # fmt: skip
            file.write((", " if number else "") + json.dumps(row))
        categories = [{"supercategory": "thing", "id": n + 1, "name": f"class {n}"} for n in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def measure(command: list[str]) -> dict[str, Any]:
    """CPU and wall seconds, greatest memory and last words of a Python process."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the data set is made, or lies already")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="a hundredth of it, to try the script")
    parser.add_argument("--only", nargs="*", help="rows to measure, by a part of their name")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "reading.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place) / "data"
        if not folder.exists():
            make(folder, IMAGES // (100 if arguments.small else 1), ANNOTATIONS // (100 if arguments.small else 1))
        config = Path(place) / "run.yaml"
        source = {"source": "coco", "path": str(folder.absolute())}
        held_out = {"source": "shapes", "count": 8}
        settings = {"task": {"name": "detection"}, "data": {"train": [source], "evaluation": [held_out]}}
        config.write_text(json.dumps({**settings, "run": {"folder": f"{place}/run", "steps": 1}}), encoding="utf-8")
        names = {"folder": folder, "config": config, "out": Path(place) / "check.png"}
        rows = []
        for name, command in VERBS.items():
            if arguments.only and not any(part in name for part in arguments.only):
                continue
            filled = command
            for key, value in names.items():
                filled = [part.replace("{" + key + "}", str(value)) for part in filled]
            runs = [measure(filled) for _ in range(arguments.repetitions)]
            best = min(runs, key=lambda run: run["cpu_s"])
            rows.append({"what": name, **best})
            print(f"{name:40} {best['cpu_s']:7.1f} CPU s {best['peak_mb']:7.0f} MB  code {best['code']}", flush=True)
            if best["code"]:
                print(best["said"])
            rows[-1] = {key: value for key, value in rows[-1].items() if key != "said"}  # it names places here
        size = (folder / "annotations.json").stat().st_size
        report = {
            "what": "a COCO file of the size of train2017 read, a process per row, CPU seconds (user and system)",
            "images": len(os.listdir(folder / "images")), "file_mb": round(size / 1e6), "rows": rows,
            "python": platform.python_version(), "pycocotools": version("pycocotools"), "pillow": version("pillow"),
        }  # fmt: skip
        if not arguments.small and not arguments.only:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
