"""Detection on held-out questions: COCO AP and mean IoU.

Decision: the protocol "asked": a true box counts in AP only if its image was asked about its class, so AP is defined
for any list of questions. With the questions ``present`` every true box is asked for.

* ``AP``, ``AP50``, ``AP75``: COCO average precision over the asked classes, 0..1, confidence as the score; -1 where
  there is no true box.
* ``mean_iou``: mean over true boxes of the IoU with the best predicted box, 0 where there is none. 0..1.
* ``n_boxes``: true boxes.
* ``unstated``: answered boxes without a confidence of their own, and how many of them their tokens rank; only where
  there are any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from visual_rft.tasks.metrics.calibration import unstated
from visual_rft.tasks.metrics.coco import average_precision
from visual_rft.vision.boxes import Box, area, as_boxes, iou

if TYPE_CHECKING:
    from visual_rft.tasks.samples import Prediction


def detection_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The numbers of the module docstring."""
    truth, results = asked_data_set(predictions)
    ap = average_precision(truth, results)
    ious = best_ious(truth, results)
    return {
        **{name: ap[name] for name in ("AP", "AP50", "AP75")},
        "mean_iou": sum(ious.values()) / len(ious) if ious else -1.0,
        "n_boxes": len(ious),
        "protocol": "asked",
        **unstated(p.score.answer for p in predictions),
    }


def by_category(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """The predictions, each about many classes as one about each of its classes."""
    for p in predictions:
        if "categories" not in p.sample.truth:
            yield p
            continue
        for name in p.sample.truth["categories"]:
            kept = [n for n, label in enumerate(p.sample.truth["labels"]) if label == name]
            truth = {key: value for key, value in p.sample.truth.items() if key not in ("categories", "labels")}
            truth["boxes"] = [p.sample.truth["boxes"][n] for n in kept]
            sample = replace(p.sample, question={**p.sample.question, "category": name}, truth=truth)
            answer = p.score.answer
            if answer is not None:
                said = [n for n, label in enumerate(answer["labels"]) if label == name]
                without = set(answer.get("unstated", ()))
                rest = {key: values for key, values in answer.items() if key != "unstated"}
                lists = {key: values for key, values in rest.items() if len(_listed(values)) == len(answer["boxes"])}
                answer = {**rest, **{key: [values[n] for n in said] for key, values in lists.items()}}
                places = [place for place, n in enumerate(said) if n in without]
                answer |= {"unstated": places} if places else {}
            yield p._replace(sample=sample, score=p.score._replace(answer=answer))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def asked_data_set(predictions: Sequence[Prediction]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The questions as a COCO data set and the answers as COCO results; images numbered as they first appear."""
    images: dict[str, int] = {}
    categories: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for p in by_category(predictions):
        image = p.sample.images[0].key
        if image not in images:
            images[image] = len(images) + 1
            width, height = p.sample.truth["image_size"]
            rows.append({"id": images[image], "width": width, "height": height, "file_name": image})
        category = categories.setdefault(p.sample.question["category"], len(categories) + 1)
        place = {"image_id": images[image], "category_id": category}
        for box in as_boxes(p.sample.truth["boxes"]):
            annotation = {"id": len(annotations) + 1, "bbox": xywh(box), "area": area(box), "iscrowd": 0}
            annotations.append({**place, **annotation})
        results += results_of(p, place["image_id"], category)
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": rows, "annotations": annotations, "categories": listed}, results


def results_of(prediction: Prediction, image_id: Any, category_id: Any) -> list[dict[str, Any]]:
    """One answer as COCO results, ranked by its ``scores`` or else its confidence; none if it could not be read."""
    answer = prediction.score.answer or {"boxes": [], "confidence": []}
    return [
        {"image_id": image_id, "category_id": category_id, "bbox": xywh(box), "score": score}
        for box, score in zip(answer["boxes"], answer.get("scores", answer["confidence"]), strict=True)
    ]


def best_ious(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[Any, float]:
    """For each true box (annotation id) that is no crowd, the IoU with the best predicted box of its class, else 0."""
    found: dict[tuple[Any, Any], list[Box]] = defaultdict(list)
    for row in results:
        found[row["image_id"], row["category_id"]].append(corners(row["bbox"]))
    return {
        a["id"]: max((iou(corners(a["bbox"]), box) for box in found[a["image_id"], a["category_id"]]), default=0.0)
        for a in truth["annotations"]
        if not a.get("iscrowd")
    }


def xywh(box: Sequence[float]) -> list[float]:
    """``(x1, y1, x2, y2)`` as COCO's ``[x, y, width, height]``."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def corners(bbox: Sequence[float]) -> Box:
    """COCO's ``[x, y, width, height]`` as ``(x1, y1, x2, y2)``."""
    x, y, w, h = bbox
    return x, y, x + w, y + h
