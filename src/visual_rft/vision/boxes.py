"""Boxes ``(x1, y1, x2, y2)`` in any one unit: IoU, GIoU and matching.

Decision: plain Python numbers. An answer holds a handful of boxes, for which one NumPy call costs as much as the whole
comparison, and a reward is called thousands of times per second. Boxes are continuous: a box from 0 to 10 is 10 wide.

>>> iou((0, 0, 10, 10), (0, 0, 10, 5)), iou((0, 0, 10, 10), (20, 20, 30, 30))
(0.5, 0.0)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

Box = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)`` with x to the right and y down."""


_MOST = sys.float_info.max
_USUAL = frozenset({int, float})


def is_finite_number(value: object) -> bool:
    """Whether ``value`` is an int or float (no bool) that is neither infinite nor NaN, nor too large for a float."""
    # A comparison, because math.isfinite overflows on an int of 400 digits.
    return isinstance(value, (int, float)) and value is not True and value is not False and -_MOST <= value <= _MOST


def is_four_numbers(value: object) -> TypeGuard[Sequence[float]]:
    """Whether ``value`` is a list or tuple of four finite numbers."""
    return isinstance(value, (list, tuple)) and len(value) == 4 and all(map(is_finite_number, value))


def as_box(value: object) -> Box:
    """A list of four finite numbers as a box.

    Raises:
        ValueError: if it is anything else, or has no area (x2 <= x1 or y2 <= y1).
    """
    if type(value) is list and len(value) == 4:  # the usual box in one look: every truth passes here for every score
        x1, y1, x2, y2 = value
        usual = type(x1) in _USUAL and type(y1) in _USUAL and type(x2) in _USUAL and type(y2) in _USUAL
        if usual and -_MOST <= x1 < x2 <= _MOST and -_MOST <= y1 < y2 <= _MOST:
            return x1, y1, x2, y2
    if not is_four_numbers(value):
        raise ValueError(f"a box is four finite numbers [x1, y1, x2, y2], this is {value!r}")
    x1, y1, x2, y2 = value
    if x1 < x2 and y1 < y2:
        return x1, y1, x2, y2
    raise ValueError(f"a box has x1 < x2 and y1 < y2, this is {value!r}")


def as_boxes(values: Iterable[object]) -> tuple[Box, ...]:
    """A list of boxes, each as :func:`as_box`.

    Raises:
        ValueError: naming the first entry that is not a box.
    """
    boxes: list[Box] = []
    try:
        for value in values:
            boxes.append(as_box(value))
    except ValueError as error:
        raise ValueError(f"box {len(boxes)}: {error}") from None
    return tuple(boxes)


def area(box: Box) -> float:
    """Area in squared units of the box; an inverted box has area 0."""
    x1, y1, x2, y2 = box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def iou(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]; 0 for boxes without area."""
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection)


def giou(a: Box, b: Box) -> float:
    """Generalised IoU (arXiv 1902.09630), in [-1, 1]: IoU minus the empty share of the smallest box around both.

    Only for boxes with x1 < x2 and y1 < y2: an inverted box can exceed the range.
    """
    hull = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    overlap = iou(a, b)
    union = (area(a) + area(b)) / (1 + overlap)  # |A| + |B| = |A or B| + |A and B| = |A or B| (1 + IoU)
    return overlap - (area(hull) - union) / area(hull)


class Matching(NamedTuple):
    """Which predicted box found which true box.

    Attributes:
        iou: per predicted box, IoU with its true box in [0, 1]; 0 where it has none.
        truth_index: per predicted box, index of its true box; -1 where it has none.
        confidence: per predicted box, in [0, 1].
        truth_count: number of true boxes.
    """

    iou: tuple[float, ...]
    truth_index: tuple[int, ...]
    confidence: tuple[float, ...]
    truth_count: int


def match_by_confidence(
    predicted: Sequence[Box], confidence: Sequence[float], truth: Sequence[Box], threshold: float
) -> Matching:
    """Match predicted boxes to true boxes, the most confident prediction first (arXiv 2503.01785, section 3.2).

    Each prediction takes the best true box nobody has taken yet; below ``threshold`` it takes none and leaves that
    box to others. Among equal confidences the one with the higher best IoU goes first, then the smaller coordinates,
    so the order in which the boxes were written never matters.

    Args:
        predicted: N boxes.
        confidence: N numbers.
        truth: M boxes in the same unit.
        threshold: least IoU of a match, in [0, 1]; boxes that do not overlap never match.
    """
    count = len(predicted)
    index, matched = [-1] * count, [0.0] * count
    if truth:
        # A row per prediction that can match: (-confidence, -best IoU, box, place, IoUs), in the order of choosing.
        ranked = []
        for i, box in enumerate(predicted):
            x1, y1, x2, y2 = box
            ious = [0.0] * len(truth)
            best_iou = 0.0
            for j, other in enumerate(truth):  # most pairs lie apart: seen at once, without a call
                if x1 < other[2] and other[0] < x2 and y1 < other[3] and other[1] < y2:
                    ious[j] = value = iou(box, other)
                    if value > best_iou:
                        best_iou = value
            if best_iou > 0 and best_iou >= threshold:
                ranked.append((-confidence[i], -best_iou, box, i, ious))
        ranked.sort()
        taken = [False] * len(truth)
        for _, _, _, i, ious in ranked:
            best, best_iou = -1, 0.0
            for j, value in enumerate(ious):
                if value > best_iou and not taken[j]:
                    best, best_iou = j, value
            if best >= 0 and best_iou >= threshold:
                index[i], matched[i], taken[best] = best, best_iou, True
    return Matching(tuple(matched), tuple(index), tuple(confidence), len(truth))


def match_hungarian(
    predicted: Sequence[Box], confidence: Sequence[float], truth: Sequence[Box], threshold: float
) -> Matching:
    """Match so that the sum of IoU is greatest (Hungarian method), whatever the confidences.

    Pairs below ``threshold`` are not considered, so a poor pair never costs a good one its true box. Arguments and
    result as in :func:`match_by_confidence`.
    """
    from scipy.optimize import linear_sum_assignment

    count = len(predicted)
    index, matched = [-1] * count, [0.0] * count
    if count and truth:
        table = [[v if (v := iou(box, other)) >= threshold else 0.0 for other in truth] for box in predicted]
        for i, j in zip(*(axis.tolist() for axis in linear_sum_assignment(table, maximize=True)), strict=True):
            if table[i][j] > 0:
                index[i], matched[i] = j, table[i][j]
    return Matching(tuple(matched), tuple(index), tuple(confidence), len(truth))
