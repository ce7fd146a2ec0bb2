"""80 classes asked about each image at once, against one by one, on the embedded model, side by side in one run.

Both go through the same evaluation code on the same questions. Asked at once, an image runs through the vision tower
once; asked one by one, in a call of its own each, 80 times. Repetitions alternate, so that a
drift of the machine's speed meets both; the ratio of the medians is what counts.

    python benchmarks/evaluation.py [--images 3] [--repetitions 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from visual_rft.answering.answering import answer
from visual_rft.answering.local import LocalModel
from visual_rft.answering.questions import ImageQuestions
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import load_task

CLASSES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking
meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie,
suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis
racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog,
pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
"""COCO's 80."""


def cpu() -> str:
    """Model name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evaluation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    task, policy = load_task("detection"), load_policy(ModelConfig(), RolloutConfig())
    names = " ".join(CLASSES.split()).split(", ")
    scenes = Shapes(arguments.images, seed=7)
    questions = [ImageQuestions(tuple(scene.ask(name) for name in names)) for scene in scenes]
    passes = 0

    def count(_: Any, inputs: Any, keywords: Any) -> None:
        nonlocal passes
        passes += len(keywords["grid_thw"] if "grid_thw" in keywords else inputs[1])

    policy.core.model.visual.register_forward_pre_hook(count, with_kwargs=True)
    ways = {
        "at_once": [questions],
        "one_by_one": [[ImageQuestions((sample,))] for one in questions for sample in one.samples],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    vision: dict[str, int] = {}
    texts: dict[str, list[str]] = {}
    answer(LocalModel(policy), task, [ImageQuestions(questions[0].samples[:4])])  # warms up
    for _ in range(arguments.repetitions):
        for name, calls in ways.items():
            passes, start = 0, time.perf_counter()
            images = [row for asked in calls for row in answer(LocalModel(policy), task, asked)]
            texts[name] = [one.text for row in images for one in row.answers]
            times[name].append(time.perf_counter() - start)
            vision[name] = passes
    same = sum(a == b for a, b in zip(*texts.values(), strict=True)) / len(texts["at_once"])
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "what": "detection of 80 classes per image by the embedded model, greedy, float32",
        "images": arguments.images,
        "classes": len(names),
        "one_by_one_over_at_once": medians["one_by_one"] / medians["at_once"],
        "median_seconds": medians,
        "repetitions": times,
        "images_through_the_vision_tower": vision,
        "share_of_equal_answers": same,
        "threads": arguments.threads,
        "machine": f"{cpu()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{arguments.images} images, {len(names)} classes each: one by one {medians['one_by_one']:.2f} s "
        f"({vision['one_by_one']} vision passes), at once {medians['at_once']:.2f} s ({vision['at_once']}), "
        f"ratio {result['one_by_one_over_at_once']:.1f}; {same:.1%} of the answers are the same"
    )


if __name__ == "__main__":
    main()
