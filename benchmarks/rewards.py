"""How many completions one core scores: text in, reward parts out, nothing cached between completions.

Each task scores a list of different completions again and again; the fastest repeat counts, because everything else on
the machine only ever makes it slower. Microseconds per box should not grow with the number of boxes.

    python benchmarks/rewards.py [--completions 500] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import cpu

from visual_rft.tasks import Classification, Detection, Grounding, Task

RECOMMENDED = {"iou_balanced": 1.0, "confidence_brier": 1.0, "format": 1.0}
NUMBERS_OF_BOXES = (1, 5, 10, 20, 50, 100)
THREE = {"boxes": [[64, 48, 192, 144], [256, 192, 384, 336], [448, 96, 576, 240]], "image_size": [640, 480]}
FLOWER = {"label": "red poppy", "synonyms": ["Papaver rhoeas"]}
PLACE = {"box": [64, 48, 320, 240], "image_size": [640, 480]}


def detections(rng: random.Random, completions: int, boxes: int) -> list[str]:
    """Completions with ``boxes`` boxes each: the first ones near the true boxes, the rest anywhere."""
    near = [(100, 100, 300, 300), (400, 400, 600, 700), (700, 200, 900, 500)]
    texts = []
    for _ in range(completions):
        rows = []
        for number in range(boxes):
            if number < len(near):
                x1, y1, x2, y2 = (v + rng.randint(-20, 20) for v in near[number])
            else:
                x1, y1 = rng.randint(0, 800), rng.randint(0, 800)
                x2, y2 = x1 + rng.randint(20, 200), y1 + rng.randint(20, 200)
            rows.append(f"{{'Position': [{x1}, {y1}, {x2}, {y2}], 'Confidence': {rng.random():.2f}}}")
        texts.append(f"<think>{boxes} found</think><answer>[{', '.join(rows)}]</answer>")
    return texts


def seconds(task: Task, texts: Sequence[str], truth: Mapping[str, Any]) -> float:
    """CPU time to score every text once."""
    start = time.process_time()
    for text in texts:
        task.score(text, truth)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completions", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    rng = random.Random(0)
    count = arguments.completions
    names = [f"<think>4 petals</think><answer>{rng.choice(('red poppy', 'Tulip.'))}</answer>" for _ in range(count)]
    corners = [
        f"<think>the left one</think><answer>({rng.randint(0, 400)},{rng.randint(0, 400)}),(500,500)</answer>"
        for _ in range(count)
    ]
    five = detections(rng, count, 5)
    rows: list[tuple[str, Task, list[str], Mapping[str, Any], int]] = [
        ("detection, the method's weights", Detection(), five, THREE, 5),
        ("detection, recommended weights", Detection(weights=RECOMMENDED), five, THREE, 5),
        ("classification", Classification(), names, FLOWER, 0),
        ("grounding", Grounding(), corners, PLACE, 1),
        *(
            (f"detection, {boxes} boxes", Detection(), detections(rng, count, boxes), THREE, boxes)
            for boxes in NUMBERS_OF_BOXES
        ),
    ]
    # Repeats go round the rows, so that a drift of the machine's speed meets all of them.
    best = [float("inf")] * len(rows)
    for _ in range(arguments.repeats):
        for number, (_, task, texts, truth, _) in enumerate(rows):
            best[number] = min(best[number], seconds(task, texts, truth))

    results = []
    print(f"{'':36}{'completions/s':>14}{'us/completion':>15}{'us/box':>9}")
    for (what, _, texts, _, boxes), taken in zip(rows, best, strict=True):
        each = 1e6 * taken / len(texts)
        per_box = each / boxes if boxes else None
        print(f"{what:36}{1e6 / each:14,.0f}{each:15.1f}{'' if per_box is None else f'{per_box:9.1f}'}")
        results.append({"what": what, "per_second": 1e6 / each, "us_per_completion": each, "us_per_box": per_box})
    if arguments.json:
        result = {
            "what": "completions scored on one core, 3 true boxes, CPU time, best of the repeats",
            "completions": count,
            "repeats": arguments.repeats,
            "rows": results,
            "machine": cpu(),
            "python": platform.python_version(),
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
