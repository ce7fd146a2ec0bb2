"""Every built-in reward: a pure function of a comparison or of the text, with its formula, its source and its range.

Decision: each is in [0, 1] before weights, and none trusts the text further than
:mod:`visual_rft.tasks.parsing` has checked it. What each can and cannot be gamed by, with numbers, is in
docs/rewards.md.

>>> from visual_rft.vision.boxes import match_by_confidence
>>> truth = [(0, 0, 9, 9), (20, 0, 29, 9), (0, 20, 9, 29)]
>>> two_of_three = match_by_confidence(truth[:2], [1, 1], truth, 0.5)
>>> iou(two_of_three), round(iou_balanced(two_of_three), 3)
(1.0, 0.667)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from visual_rft.tasks.parsing.completion import Failure, Parsed, has_tag_format, normalized
from visual_rft.vision import boxes as geometry
from visual_rft.vision.boxes import Box, Matching

# Detection. In all of them: with nothing to find, predicting nothing is worth 1 and predicting anything 0, unless said
# otherwise; boxes beyond the parser's cap count as predicted and wrong.


def iou(matching: Matching, unread: int = 0) -> float:
    """``R_IoU``: sum of the matched IoUs over the number of *predicted* boxes (arXiv 2503.01785, section 3.2). [0, 1]

    Without a prediction it is 1 if there was nothing to find, else 0. One sure box of three earns 1.
    """
    predicted = len(matching.iou) + unread
    return sum(matching.iou) / predicted if predicted else float(matching.truth_count == 0)


def iou_balanced(matching: Matching, unread: int = 0) -> float:
    """Sum of the matched IoUs over ``max(predicted, true)``: missing boxes cost as much as wrong ones. [0, 1]"""
    most = max(len(matching.iou) + unread, matching.truth_count)
    return sum(matching.iou) / most if most else 1.0


def confidence(matching: Matching, unstated: Sequence[int] = ()) -> float:
    """``R_conf``: mean over the predicted boxes of ``c`` where matched, else ``1 - c`` (arXiv 2503.01785). [0, 1]

    Without a prediction it is 1 if there was nothing to find, else 0. It is linear in ``c``, so it always asks for 0
    or 1, and a wrong box with confidence 0 earns it in full. A box at a place in ``unstated``, written without a
    confidence, earns nothing.
    """
    if not matching.iou:
        return float(matching.truth_count == 0)
    total = 0.0
    for c, index in zip(matching.confidence, matching.truth_index, strict=True):
        total += c if index >= 0 else 1 - c
    for place in unstated:
        total -= matching.truth_index[place] >= 0
    return total / len(matching.iou)


def confidence_brier(matching: Matching, unstated: Sequence[int] = ()) -> float:
    """Sum over the predicted boxes of ``1 - (c - hit)^2`` over ``max(predicted, true)``. [0, 1]

    ``hit`` is 1 where matched, else 0. The Brier score (Brier 1950) is proper: the best ``c`` is the box's chance of
    being right. A missing box earns 0; a wrong box with confidence 0 earns 1, so weigh it beside ``iou_balanced``.
    Nothing to find, nothing predicted: 1. A box at a place in ``unstated``, without a confidence, earns 0.
    """
    most = max(len(matching.iou), matching.truth_count)
    hits = zip(matching.confidence, matching.truth_index, strict=True)
    earned = [1 - (c - (index >= 0)) ** 2 for c, index in hits]
    for place in unstated:
        earned[place] = 0.0
    return sum(earned) / most if most else 1.0


def count(matching: Matching, unread: int = 0) -> float:
    """``1 - |predicted - true| / max(predicted, true)``, 1 if both are 0. [0, 1]

    Looks at numbers only, not at places.
    """
    predicted = len(matching.iou) + unread
    most = max(predicted, matching.truth_count)
    return 1 - abs(predicted - matching.truth_count) / most if most else 1.0


def average_precision(matching: Matching) -> float:
    """Area under this image's precision-recall curve, precision made monotone (VOC 2010, all points). [0, 1]

    Among equal confidences the wrong boxes come first, so ties never pay.
    """
    if matching.truth_count == 0:
        return float(not matching.iou)
    hits = zip(matching.confidence, matching.truth_index, strict=True)
    ranked = [index >= 0 for _, index in sorted(hits, key=lambda pair: (-pair[0], pair[1] >= 0))]
    found, precision = 0, []
    for rank, hit in enumerate(ranked, start=1):
        found += hit
        if hit:
            precision.append(found / rank)
    best, total = 0.0, 0.0
    for value in reversed(precision):
        best = max(best, value)
        total += best
    return total / matching.truth_count


# Classification.


def accuracy(answer: str, label: str, synonyms: Sequence[str] = ()) -> float:
    """``R_acc``: 1 if the answer is the label or one of its synonyms after normalisation, else 0 (arXiv 2503.01785).

    Normalisation (:func:`visual_rft.tasks.parsing.completion.normalized`) removes case, punctuation, ``_``, spaces and
    a leading article, but no sign that tells names apart (``HER2+``). Never a substring: a list of every class is no
    class.
    """
    return float(normalized(answer) in {normalized(name) for name in (label, *synonyms)})


def hierarchy(answer: str, label: str, synonyms: Sequence[str] = (), parents: Sequence[str] = ()) -> float:
    """1 for the right class, ``2^-k`` for its k-th ancestor (k = 1 is the nearest), else 0. [0, 1]

    Naming "poppy" for a "red poppy" earns 1/2; a sibling, "blue poppy", earns 0.
    """
    if accuracy(answer, label, synonyms):
        return 1.0
    names = [normalized(parent) for parent in parents]
    said = normalized(answer)
    return 0.5 ** (1 + names.index(said)) if said in names else 0.0


# Reasoning grounding.


def box_iou(box: Box, truth: Box) -> float:
    """IoU of the one box with the true one (arXiv 2503.01785). [0, 1]"""
    return geometry.iou(box, truth)


def box_giou(box: Box, truth: Box) -> float:
    """``(GIoU + 1) / 2`` (arXiv 1902.09630). [0, 1]

    It rises before the boxes touch, but a wrong box earns up to 0.5. Boxes are validated before: with inverted
    corners GIoU leaves its range.
    """
    return (geometry.giou(box, truth) + 1) / 2


def box_hit(box: Box, truth: Box, threshold: float = 0.5) -> float:
    """1 if the boxes overlap with an IoU of at least ``threshold``, else 0."""
    overlap = geometry.iou(box, truth)
    return float(overlap >= threshold and overlap > 0)


def box_point(box: Box, truth: Box) -> float:
    """1 if the centre of the box lies in the true box, else 0. A dot and the whole image may both earn it."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return float(truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3])


# Counting.


def count_exact(said: float, true: int) -> float:
    """1 if the number is the true one, else 0."""
    return float(said == true)


def count_close(said: float, true: int) -> float:
    """``1 - |said - true| / max(said, true)``, 1 if both are 0, 0 for a negative number. [0, 1]

    One too many of two earns 2/3, one too many of twenty 20/21.
    """
    most = max(said, true)
    return max(0.0, 1 - abs(said - true) / most) if most > 0 else float(said == true)


# Pointing.


def point_hits(hits: int, points: int, places: int) -> float:
    """Places that were hit, each by a point of its own, over ``max(points, places)``. [0, 1]

    Points beside every place, and a second one on the same, cost as much as a missing one. Nothing to point to, no
    point: 1. With one place and one point this is the hit rate of GUI grounding (arXiv 2401.10935).
    """
    most = max(points, places)
    return hits / most if most else 1.0


def point_near(point: tuple[float, float], centre: tuple[float, float], reach: float) -> float:
    """``max(0, 1 - d / reach)``, d the distance of the point from the centre of its place. [0, 1]

    It rises before the place is hit: ``reach`` is half the diagonal of the image.
    """
    x, y = point[0] - centre[0], point[1] - centre[1]
    return max(0.0, 1 - math.hypot(x, y) / reach)


# Text, for every task.


def tag_format(text: str, think: bool = True, bare: bool = False) -> float:
    """``R_format``: 1 if the text is one think block (if ``think``) and one answer block and nothing else, else 0.

    Of a ``bare`` answer, asked for without tags, it is 1 if the text holds none of them and is not empty.
    """
    return float(has_tag_format(text, think, bare))


def strict_format(text: str, parsed: Parsed[object] | Failure, think: bool = True, bare: bool = False) -> float:
    """1 if the tags are right *and* the answer follows the asked schema to the letter, else 0.

    Anything the parser tolerated, repaired or dropped (another key, a code fence, a cut list, a bad item) makes it 0.
    """
    return float(isinstance(parsed, Parsed) and not parsed.notes and has_tag_format(text, think, bare))


def length_window(text: str, fewest: int, most: int) -> float:
    """1 for ``fewest`` to ``most`` words, falling linearly to 0 at no words and at twice ``most``. [0, 1]"""
    words = len(text.split())
    if words < fewest:
        return words / fewest
    return max(0.0, 1 - max(0, words - most) / most)


def no_repetition(text: str, n: int = 4) -> float:
    """Share of distinct runs of ``n`` words among all of them, 1 for a text of fewer words. [0, 1]"""
    words = text.split()
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def not_truncated(text: str) -> float:
    """1 if the text ends with a closed answer tag, else 0: an answer cut off by the length limit does not."""
    return float(text.rstrip().lower().endswith("</answer>"))
