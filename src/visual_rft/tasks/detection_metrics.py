"""Detection on held-out questions: COCO AP and mean IoU.

Decision: the protocol "asked": a true box counts in AP only if its image was asked about its class, so AP is defined
for any list of questions. With the questions ``present`` every true box is asked for.

* ``AP``, ``AP50``, ``AP75``: COCO average precision over the asked classes, 0..1, confidence as the score; -1 where
  there is no true box.
* ``mean_iou``: mean over true boxes of the IoU with the best predicted box, 0 where there is none. 0..1.
* ``n_boxes``: true boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visual_rft.tasks.coco_metrics import average_precision
from visual_rft.vision.boxes import area, as_boxes, iou

if TYPE_CHECKING:
    from visual_rft.tasks.base import Prediction


def detection_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The numbers of the module docstring."""
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
        answer = p.score.answer or {"boxes": [], "confidence": []}
        found = as_boxes(answer["boxes"])
        for box in as_boxes(p.sample.truth["boxes"]):
            size = area(box)
            annotations.append({**place, "id": len(annotations) + 1, "bbox": _xywh(box), "area": size, "iscrowd": 0})
            best.append(max((iou(box, other) for other in found), default=0.0))
        for box, confidence in zip(found, answer["confidence"], strict=True):
            results.append({**place, "bbox": _xywh(box), "score": confidence})
    truth_set = {
        "images": rows,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    ap = average_precision(truth_set, results)
    return {
        **{name: ap[name] for name in ("AP", "AP50", "AP75")},
        "mean_iou": sum(best) / len(best) if best else -1.0,
        "n_boxes": len(annotations),
        "protocol": "asked",
    }


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
