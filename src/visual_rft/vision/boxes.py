"""Boxes as arrays ``[N, 4]`` of ``(x1, y1, x2, y2)``, float64, in any one unit; IoU and matching.

Decision: plain NumPy on tiny arrays (an answer holds a handful of boxes), so that rewards need no torch and can be
called from any trainer. The boxes are continuous: a box from 0 to 10 is 10 wide.

>>> iou_matrix(as_boxes([[0, 0, 10, 10]]), as_boxes([[0, 0, 10, 5], [20, 20, 30, 30]])).tolist()
[[0.5, 0.0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def as_boxes(values: Sequence[Sequence[float]] | npt.ArrayLike) -> FloatArray:
    """Turn a list of four-number boxes (possibly empty) into an array ``[N, 4]``.

    Raises:
        ValueError: if an entry does not hold exactly four numbers.
    """
    boxes = np.asarray(values, dtype=np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be a list of [x1, y1, x2, y2], got an array of shape {boxes.shape}")
    return boxes


def area(boxes: FloatArray) -> FloatArray:
    """Areas ``[N]`` of boxes ``[N, 4]``, in squared units of the boxes; an inverted box has area 0."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: FloatArray = sides[:, 0] * sides[:, 1]
    return product


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of every box of ``a [N, 4]`` with every box of ``b [M, 4]``: ``[N, M]`` in [0, 1]."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(-1)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    ious: FloatArray = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return ious


@dataclass(frozen=True)
class Matching:
    """Which predicted box found which true box.

    Attributes:
        truth_index: ``[N]`` index of the matched true box per predicted box, -1 where there is none.
        iou: ``[N]`` IoU with the matched true box in [0, 1], 0 where there is none.
    """

    truth_index: npt.NDArray[np.int64]
    iou: FloatArray

    @property
    def matched(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether each predicted box has a match."""
        return self.truth_index >= 0


def match_by_confidence(predicted: FloatArray, confidence: FloatArray, truth: FloatArray, threshold: float) -> Matching:
    """Match predicted boxes to true boxes, the most confident prediction first (arXiv 2503.01785, section 3.2).

    Each prediction takes the best true box nobody has taken yet; below ``threshold`` it takes none and leaves that
    box to others. Among equal confidences the one with the higher best IoU goes first, then the smaller coordinates,
    so the order in which the boxes were written never matters.

    Args:
        predicted: boxes ``[N, 4]``.
        confidence: ``[N]``, any range.
        truth: boxes ``[M, 4]`` in the same unit.
        threshold: least IoU of a match, in [0, 1].
    """
    ious = iou_matrix(predicted, truth)
    count = len(predicted)
    truth_index = np.full(count, -1, dtype=np.int64)
    matched_iou = np.zeros(count)
    if len(truth) == 0 or count == 0:
        return Matching(truth_index, matched_iou)
    # lexsort: the last key is the first criterion.
    order = np.lexsort((*predicted.T[::-1], -ious.max(1), -confidence))
    free = np.ones(len(truth), dtype=bool)
    for i in order:
        best = int(np.argmax(np.where(free, ious[i], -1.0)))
        if free[best] and ious[i, best] >= threshold and ious[i, best] > 0:
            truth_index[i], matched_iou[i], free[best] = best, ious[i, best], False
    return Matching(truth_index, matched_iou)
