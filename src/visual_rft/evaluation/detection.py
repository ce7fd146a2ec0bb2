"""Detection on held-out questions: COCO AP, mean IoU, and whether answers could be read.

Decision: greedy decoding, and the protocol "asked": a true box counts in AP only if its image was asked about its
class, so AP is defined for any list of questions. With the questions ``present`` every true box is asked for.

* ``AP``, ``AP50``, ``AP75``: COCO average precision over the asked classes, 0..1, confidence as the score.
* ``mean_iou``: mean over true boxes of the IoU with the best predicted box, 0 where there is none. 0..1.
* ``format_rate``: share of answers with exactly the asked tags. ``parse_rate``: share from which an answer was read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from visual_rft.evaluation.coco_metrics import average_precision
from visual_rft.policy.policy import Policy
from visual_rft.policy.prefix import Prompt
from visual_rft.tasks.base import Sample, Score, Task
from visual_rft.vision.boxes import area, as_boxes, iou_matrix


@dataclass(frozen=True)
class Prediction:
    """One answered question."""

    sample: Sample
    completion: str
    score: Score


def predict(
    policy: Policy,
    task: Task,
    samples: Sequence[Sample],
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Answer every question greedily.

    Args:
        policy: the model.
        task: writes the prompts and reads the answers.
        samples: the questions.
        batch: questions answered at once.
        progress: called with (done, all) after each batch.
    """
    predictions: list[Prediction] = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            chunk = samples[start : start + batch]
            prefix = policy.encode([Prompt.of(task, sample, policy.space) for sample in chunk])
            completions = policy.sample(prefix, 1, greedy=True)
            for sample, frame, (text,) in zip(chunk, prefix.frames, completions.text, strict=True):
                predictions.append(Prediction(sample, text, task.score(text, sample.truth, frame)))
            if progress is not None:
                progress(len(predictions), len(samples))
    return predictions


def detection_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The numbers of the module docstring, with counts and the reasons of parse failures."""
    images: dict[str, int] = {}
    categories: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    best: list[float] = []
    for p in predictions:
        image = p.sample.images[0].key
        if image not in images:
            images[image] = len(images) + 1
            width, height = p.sample.truth["image_size"]
            rows.append({"id": images[image], "width": width, "height": height, "file_name": image})
        category = categories.setdefault(p.sample.question["category"], len(categories) + 1)
        place = {"image_id": images[image], "category_id": category}
        truth = as_boxes(p.sample.truth["boxes"])
        found = as_boxes(p.score.answer["boxes"] if p.score.answer else [])
        for box, size in zip(truth.tolist(), area(truth).tolist(), strict=True):
            annotations.append({**place, "id": len(annotations) + 1, "bbox": _xywh(box), "area": size, "iscrowd": 0})
        if p.score.answer:
            for box, confidence in zip(found.tolist(), p.score.answer["confidence"], strict=True):
                results.append({**place, "bbox": _xywh(box), "score": confidence})
        if len(truth):
            best += iou_matrix(truth, found).max(1, initial=0).tolist()
    truth_set = {
        "images": rows,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    ap = average_precision(truth_set, results)
    count = len(predictions)
    return {
        **{name: ap[name] for name in ("AP", "AP50", "AP75")},
        "mean_iou": float(np.mean(best)) if best else -1.0,
        "format_rate": sum(p.score.parts["format"] for p in predictions) / count,
        "parse_rate": sum(p.score.failure is None for p in predictions) / count,
        "n_images": len(images),
        "n_questions": count,
        "n_boxes": len(annotations),
        "failures": dict(Counter(p.score.failure for p in predictions if p.score.failure)),
        "protocol": "asked",
    }


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def evaluation_line(result: Mapping[str, Any]) -> str:
    """The main numbers of :func:`detection_metrics` in one line."""
    return (
        f"AP {result['AP']:.3f} AP50 {result['AP50']:.3f} AP75 {result['AP75']:.3f} "
        f"mean IoU {result['mean_iou']:.3f} format {result['format_rate']:.0%} parsed {result['parse_rate']:.0%} "
        f"({result['n_images']} images, {result['n_questions']} questions)"
    )
