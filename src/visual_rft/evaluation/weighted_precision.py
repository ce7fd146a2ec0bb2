"""Average precision as a function of how often each image counts: what the bootstrap draws again and again.

Decision: matching boxes does not depend on the weights, so it is done once by COCO's rules (those of pycocotools for
boxes of every size); a draw then only sums up. With all weights 1 the numbers are those of
:func:`visual_rft.tasks.metrics.coco.box_precision`, and with weights 0, 1, 2, ... those of a data set in which the
images are repeated (tests hold both). The library's own classes give no access to the matches.

>>> truth = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 7}], "annotations": [
...     {"id": n, "image_id": n, "category_id": 7, "bbox": [0, 0, 10, 10]} for n in (1, 2)]}
>>> found = [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 6], "score": 0.9}]
>>> weighted = WeightedPrecision(truth, found)
>>> [round(weighted(np.array(w))["AP50"], 3) for w in ([1.0, 1.0], [2.0, 0.0], [0.0, 2.0])]
[0.505, 1.0, 0.0]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visual_rft.evaluation.resampling import Floats
from visual_rft.tasks.metrics.coco import LVIS_LIMIT, Rules, federated

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
"""COCO counts the most confident 100 predictions per image and class."""


@dataclass(frozen=True)
class _Class:
    """Predictions of one class in order of falling confidence, and its true boxes.

    Attributes:
        image: ``[D]`` index of each prediction's image.
        right, wrong: ``[10, D]`` true where it is right or wrong at an IoU threshold; neither where it is ignored.
        truth: ``[I]`` true boxes per image.
    """

    image: Any
    right: Any
    wrong: Any
    truth: Floats


class WeightedPrecision:
    """AP, AP50 and AP75 for weights per image, each in [0, 1], NaN where no true box is drawn.

    Args:
        truth, predictions, rules: as in :func:`visual_rft.tasks.metrics.coco.box_precision`.

    Attributes:
        images: I, and their order: weights are in the order of ``truth["images"]``.
    """

    def __init__(
        self, truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], rules: Rules = "coco"
    ) -> None:
        self.images = len(truth["images"])
        place = {row["id"]: n for n, row in enumerate(truth["images"])}
        open_ended: set[tuple[Any, Any]] = set()
        if rules == "lvis":
            predictions, open_ended = federated(truth, predictions)
        true: dict[tuple[Any, Any], list[Any]] = defaultdict(list)
        found: dict[tuple[Any, Any], list[Any]] = defaultdict(list)
        for row in truth["annotations"]:
            true[row["category_id"], row["image_id"]].append(row)
        for row in predictions:
            found[row["category_id"], row["image_id"]].append(row)
        crowd, limit = ("ignore", LVIS_LIMIT) if rules == "lvis" else ("iscrowd", MAX_DETECTIONS)
        self.classes: list[_Class] = []
        for category in (row["id"] for row in truth["categories"]):
            counts = np.zeros(self.images)
            scores, images, rights, wrongs = [], [], [], []
            for identity in sorted(place):  # equal scores stay in the order of the image ids, as in pycocotools
                boxes = true.get((category, identity), [])
                ignored = [bool(row.get(crowd, 0)) for row in boxes]
                counts[place[identity]] = len(boxes) - sum(ignored)
                rows = sorted(found.get((category, identity), []), key=lambda row: -row["score"])[:limit]
                if rows:
                    right, wrong = _matched(rows, boxes, ignored, rules, (identity, category) in open_ended)
                    scores += [row["score"] for row in rows]
                    images += [place[identity]] * len(rows)
                    rights.append(right)
                    wrongs.append(wrong)
            if counts.any():
                empty = np.zeros((len(THRESHOLDS), 0), dtype=bool)
                order = np.argsort(-np.array(scores), kind="stable") if scores else np.zeros(0, dtype=np.int64)
                image = np.array(images, dtype=np.int64)[order]
                right, wrong = (np.concatenate([empty, *part], axis=1)[:, order] for part in (rights, wrongs))
                self.classes.append(_Class(image, right, wrong, counts))

    def __call__(self, weights: Floats) -> dict[str, float]:
        """The numbers if image i counts ``weights[i]`` times, weights ``[I]`` >= 0."""
        rows = [_precision(one, weights) for one in self.classes if one.truth @ weights > 0]
        if not rows:
            return dict.fromkeys(("AP", "AP50", "AP75"), float("nan"))
        mean = np.mean(rows, axis=0)  # [10]
        return {"AP": float(mean.mean()), "AP50": float(mean[0]), "AP75": float(mean[5])}


def _precision(one: _Class, weights: Floats) -> Floats:
    """AP of one class at each threshold, ``[10]``."""
    weight = weights[one.image]
    right, wrong = np.cumsum(one.right * weight, axis=1), np.cumsum(one.wrong * weight, axis=1)
    recall = right / (one.truth @ weights)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    # The best precision at this recall or a higher one, read off at 101 recalls; 0 where it is never reached.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(THRESHOLDS), 1))], axis=1)
    return np.array([best[t, np.searchsorted(recall[t], RECALLS, side="left")].mean() for t in range(len(THRESHOLDS))])


def _matched(
    rows: Sequence[Any], boxes: Sequence[Any], ignored: Sequence[bool], rules: Rules, open_ended: bool
) -> tuple[Any, Any]:
    """Which predictions of one class in one image are right and which wrong at each threshold, ``[10, D]`` each.

    The most confident prediction chooses first, the true box with the highest IoU that is still free; an ignored box
    is taken only if no other will do, and a crowd region may be taken many times.
    """
    right = np.zeros((len(THRESHOLDS), len(rows)), dtype=bool)
    wrong = np.full(right.shape, not open_ended)
    if not boxes:
        return right, wrong
    overlaps = _overlaps(rows, boxes, ignored if rules == "coco" else [False] * len(boxes))
    order = sorted(range(len(boxes)), key=lambda j: ignored[j])
    for t, threshold in enumerate(THRESHOLDS):
        taken: set[int] = set()
        for d in range(len(rows)):
            best, chosen = min(threshold, 1 - 1e-10), -1
            for j in order:
                if j in taken and not (ignored[j] and rules == "coco"):
                    continue
                if chosen >= 0 and ignored[j] and not ignored[chosen]:
                    break
                if overlaps[d, j] >= best:
                    best, chosen = overlaps[d, j], j
            if chosen >= 0:
                taken.add(chosen)
                # In the originals an id of 0 says "unmatched", so what finds that box is as wrong as what finds none.
                lost = boxes[chosen].get("id") == 0 and not ignored[chosen]
                right[t, d] = not (ignored[chosen] or lost)
                wrong[t, d] = lost and not open_ended
    return right, wrong


def _overlaps(rows: Sequence[Any], boxes: Sequence[Any], crowds: Sequence[bool]) -> Floats:
    """IoU ``[D, G]``; with a crowd region the share of the prediction that lies in it."""
    found = np.array([row["bbox"] for row in rows], dtype=np.float64)[:, None]
    true = np.array([row["bbox"] for row in boxes], dtype=np.float64)[None]
    across, down = (
        np.minimum(found[..., k] + found[..., k + 2], true[..., k] + true[..., k + 2])
        - np.maximum(found[..., k], true[..., k])
        for k in (0, 1)
    )
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    sizes = found[..., 2] * found[..., 3]
    union = np.where(np.array(crowds)[None], sizes, sizes + true[..., 2] * true[..., 3] - shared)
    overlaps: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps
