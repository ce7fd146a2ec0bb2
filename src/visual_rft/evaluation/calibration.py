"""What the numbers by which boxes are ranked are worth: AP under each, and whether they are chances.

Decision: every evaluation of boxes measures all the numbers that its answers have (``written``, ``tokens``, ``asked``;
:mod:`visual_rft.answering.scores`), because the answers are the same and only the order changes. A number is a chance
if of the boxes with 0.7 seven in ten are right; the expected calibration error (arXiv 1706.04599) is the mean distance
from that, in ten bins of equal width, each weighted by its boxes. Right is an IoU of at least 0.5 with a true box that
no box of a higher number has taken.

    kinds = score_kinds(predictions, results, truth)
    kinds["tokens"]["ece"]      # 0.12
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from visual_rft.tasks.metrics.calibration import expected_calibration_error, reliability
from visual_rft.tasks.metrics.coco import Rules, box_precision
from visual_rft.tasks.metrics.detection import corners
from visual_rft.tasks.samples import Prediction
from visual_rft.vision.boxes import Box, match_by_confidence

RIGHT_IOU = 0.5
KINDS = {"written": "confidence", "tokens": "token_scores", "asked": "asked_scores"}
"""The field of an answer that holds each kind of number."""


def score_kinds(
    predictions: Sequence[Sequence[Prediction]],
    results: Callable[[Sequence[Sequence[Prediction]]], Sequence[Mapping[str, Any]]],
    truth: Mapping[str, Any],
    rules: Rules = "coco",
) -> dict[str, dict[str, Any]]:
    """What each kind of number is worth, for the kinds that every answered box has.

    Args:
        predictions: the answers, image by image.
        results: makes COCO results of them.
        truth: COCO data set.
        rules: COCO's or LVIS's.

    Returns:
        Per kind ``AP``, ``AP50``, ``ece`` (expected calibration error, 0..1; -1 without a box) and ``reliability``
        (``score``, ``right`` and ``boxes`` of each bin that holds any).
    """
    found = {}
    for kind, field in KINDS.items():
        by_kind = [[_by(prediction, field) for prediction in row] for row in predictions]
        if any(prediction is None for row in by_kind for prediction in row):
            continue
        rows = results([[prediction for prediction in row if prediction is not None] for row in by_kind])
        numbers = box_precision(truth, rows, rules).numbers
        bins = reliability(_judged(truth, rows))
        found[kind] = {
            "AP": numbers["AP"],
            "AP50": numbers["AP50"],
            "ece": expected_calibration_error(bins),
            "reliability": [one._asdict() for one in bins],
        }
    return found


def _by(prediction: Prediction, field: str) -> Prediction | None:
    """The same answer ranked by another number; None if it has boxes without one."""
    answer = prediction.score.answer
    if not (isinstance(answer, Mapping) and answer.get("boxes")):
        return prediction
    scores = answer.get(field)
    if scores is None or min(scores) < 0:
        return None
    return prediction._replace(score=prediction.score._replace(answer={**answer, "scores": list(scores)}))


def _judged(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Iterable[tuple[float, bool]]:
    """The number of each answered box and whether it is right; crowds are not looked at."""
    true: dict[Any, list[Box]] = defaultdict(list)
    answered: dict[Any, list[tuple[Box, float]]] = defaultdict(list)
    for row in truth["annotations"]:
        if not row.get("iscrowd"):
            true[row["image_id"], row["category_id"]].append(corners(row["bbox"]))
    for row in results:
        answered[row["image_id"], row["category_id"]].append((corners(row["bbox"]), row["score"]))
    for place, rows in answered.items():
        boxes, scores = zip(*rows, strict=True)
        matching = match_by_confidence(boxes, scores, true[place], RIGHT_IOU)
        yield from zip(scores, (n >= 0 for n in matching.truth_index), strict=True)
