"""What is wrong with an answer, in the kinds of TIDE (arXiv 2008.08115), for one question about one class.

Decision: an answered box is right where it overlaps a true box of its class that no more confident box has taken, by an
IoU of at least ``RIGHT_IOU``. Every other box has one kind, the first that fits: ``duplicate`` (the true box is taken),
``badly placed`` (IoU from ``NEAR_IOU``), ``other class`` (it is right on a box of a class that was not asked for), or
``false positive``. A true box is ``missed`` where no box is right on it or badly placed on it.

>>> found = match([(0, 0, 10, 10), (50, 50, 60, 60)], [(0, 0, 10, 10), (0, 0, 10, 9), (0, 5, 10, 15)], [0.9, 0.8, 0.7])
>>> found.kinds, found.missed
(['right', 'duplicate', 'badly placed'], [1])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visual_rft.vision.boxes import Box, as_boxes, iou

RIGHT_IOU, NEAR_IOU = 0.5, 0.1
"""TIDE's foreground and background thresholds."""
KINDS = ("missed", "badly placed", "duplicate", "other class", "false positive", "wrong", "not readable")
"""Kinds of mistake, in the order in which they are shown; ``wrong`` is of answers that are no boxes."""
Boxes = Sequence[Sequence[float]]


class Matched(NamedTuple):
    """Answered and true boxes compared.

    Attributes:
        kinds: of each answered box, in their order: ``right`` or a kind of mistake.
        missed: places of the true boxes that were missed.
        called: place among ``others`` of the box that an answered box is right on, for those of ``other class``.
    """

    kinds: list[str]
    missed: list[int]
    called: list[int]


def match(truth: Boxes, boxes: Boxes, confidence: Sequence[float], others: Boxes = ()) -> Matched:
    """Compare boxes as the module's docstring says.

    Args:
        truth: true boxes of the class that was asked for, ``[x1, y1, x2, y2]`` in pixels.
        boxes: answered boxes.
        confidence: of each answered box; the most confident chooses first, the earlier of equal ones.
        others: true boxes of the other classes in the image.
    """
    true, answered, rest = as_boxes(truth), as_boxes(boxes), as_boxes(others)
    kinds = [""] * len(answered)
    taken: set[int] = set()
    near: set[int] = set()
    called: list[int] = []
    for n in sorted(range(len(answered)), key=lambda n: -confidence[n]):
        ious = [iou(box, answered[n]) for box in true]
        free = [i for i in range(len(true)) if i not in taken and ious[i] >= RIGHT_IOU]
        best = max(range(len(true)), key=lambda i: ious[i], default=None)
        if free:
            taken.add(max(free, key=lambda i: ious[i]))
            kinds[n] = "right"
        elif best is not None and ious[best] >= RIGHT_IOU:
            kinds[n] = "duplicate"
        elif best is not None and ious[best] >= NEAR_IOU:
            near.add(best)
            kinds[n] = "badly placed"
        else:
            on = _right_on(answered[n], rest)
            kinds[n] = "false positive" if on is None else "other class"
            called += [] if on is None else [on]
    return Matched(kinds, [i for i in range(len(true)) if i not in taken | near], called)


def _right_on(box: Box, others: Sequence[Box]) -> int | None:
    best = max(range(len(others)), key=lambda i: iou(others[i], box), default=None)
    return best if best is not None and iou(others[best], box) >= RIGHT_IOU else None
