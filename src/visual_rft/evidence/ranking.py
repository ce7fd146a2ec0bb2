"""AP of the same boxes in another order: how much of it is confidence?

Decision: the order alone changes, so the two bound what a better confidence could add: ``AP_constant`` gives every box
the same score, ``AP_by_iou`` the IoU with the best true box of its class in its image, which no model knows.

>>> truth = {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}]}
>>> found = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 5], "score": 0.9}]
>>> [row["score"] for row in by_iou(truth, found)], [row["score"] for row in constant(truth, found)]
([0.5], [1.0])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visual_rft.vision.boxes import Box, iou

Results = Sequence[Mapping[str, Any]]


def constant(truth: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """The boxes with the same score each."""
    return [{**row, "score": 1.0} for row in results]


def by_iou(truth: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """The boxes, scored by the IoU with the best true box of the same class in the same image; 0 where there is none.

    Args:
        truth: a COCO data set.
        results: COCO results.
    """
    true: dict[tuple[Any, Any], list[Box]] = defaultdict(list)
    for row in truth["annotations"]:
        true[row["image_id"], row["category_id"]].append(_corners(row["bbox"]))
    return [
        {**row, "score": max((iou(_corners(row["bbox"]), box) for box in true[row["image_id"], row["category_id"]]),
                             default=0.0)}
        for row in results
    ]  # fmt: skip


def _corners(box: Sequence[float]) -> Box:
    x, y, width, height = box
    return (x, y, x + width, y + height)


RANKINGS: dict[str, Callable[[Mapping[str, Any], Results], list[dict[str, Any]]]] = {
    "AP_constant": constant,
    "AP_by_iou": by_iou,
}
"""Names of numbers besides those of an evaluation, and the order that each ranks boxes in."""
