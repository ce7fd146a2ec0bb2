"""Whether numbers given to boxes are chances: in ten bins of equal width, and in one number; and which boxes have none.

Decision: one way to fill the bins for the tables of an evaluation and the drawing of a report.

>>> bins = reliability([(0.9, True), (0.95, False), (0.1, False)])
>>> [(round(b.score, 3), b.right, b.boxes) for b in bins], round(expected_calibration_error(bins), 3)
([(0.1, 0.0, 1), (0.925, 0.5, 2)], 0.317)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

BINS = 10


class Bin(NamedTuple):
    """Boxes whose number lies in one tenth of [0, 1].

    Attributes:
        score: their mean number.
        right: share of them that is right.
        boxes: how many they are, at least 1.
    """

    score: float
    right: float
    boxes: int


def reliability(boxes: Iterable[tuple[float, bool]]) -> list[Bin]:
    """The bins that hold any box, of the number of each box (in [0, 1]) and whether it is right."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for score, right in boxes:
        bins[min(BINS - 1, int(score * BINS))].append((score, right))
    return [
        Bin(sum(score for score, _ in rows) / len(rows), sum(right for _, right in rows) / len(rows), len(rows))
        for _, rows in sorted(bins.items())
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between number and share of right boxes, in [0, 1]; -1 without a box."""
    boxes = sum(one.boxes for one in bins)
    return sum(one.boxes * abs(one.score - one.right) for one in bins) / boxes if boxes else -1.0


def unstated(answers: Iterable[Any]) -> dict[str, dict[str, int]]:
    """Boxes that were answered without a confidence: ``boxes``, and how many of them are ranked ``by_tokens``.

    Args:
        answers: as in :class:`visual_rft.tasks.Score`.

    Returns:
        ``{"unstated": ...}``; {} where every box states one.
    """
    boxes = by_tokens = 0
    for answer in answers:
        if not isinstance(answer, Mapping) or "asked_scores" in answer:  # which then rank every box
            continue
        places = answer.get("unstated", ())
        ranks = answer.get("token_scores") if places else None
        boxes += len(places)
        by_tokens += sum(ranks[n] >= 0 for n in places) if ranks else 0
    return {"unstated": {"boxes": boxes, "by_tokens": by_tokens}} if boxes else {}


def unstated_text(counts: Mapping[str, int]) -> str:
    """The same in words.

    >>> unstated_text({"boxes": 3, "by_tokens": 2})
    '3 boxes without a confidence: 2 ranked by their tokens, 1 as sure, because nothing is known of its tokens'
    """
    known, rest = counts["by_tokens"], counts["boxes"] - counts["by_tokens"]
    ways = [f"{known} ranked by {'its' if known == 1 else 'their'} tokens"] if known else []
    ways += [f"{rest} as sure, because nothing is known of {'its' if rest == 1 else 'their'} tokens"] if rest else []
    return f"{counts['boxes']} box{'es' * (counts['boxes'] != 1)} without a confidence: {', '.join(ways)}"
