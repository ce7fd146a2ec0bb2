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

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from visual_rft.config.sections import ScoreKind
from visual_rft.evaluation.measures import Measured
from visual_rft.evaluation.resampling import Floats
from visual_rft.evaluation.weighted_precision import WeightedPrecision
from visual_rft.tasks.metrics.calibration import expected_calibration_error, reliability
from visual_rft.tasks.metrics.coco import Rules, box_precision
from visual_rft.tasks.metrics.detection import asked_data_set, corners
from visual_rft.tasks.samples import Prediction
from visual_rft.vision.boxes import Box, match_by_confidence

RIGHT_IOU = 0.5
KINDS: Mapping[ScoreKind, str] = {"written": "confidence", "tokens": "token_scores", "asked": "asked_scores"}
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
    found: dict[str, dict[str, Any]] = {}
    kinds = list(KINDS) if _any_stated(predictions) else [kind for kind in KINDS if kind != "written"]
    for kind in kinds:
        by_kind = [[_by(prediction, kind) for prediction in row] for row in predictions]
        if any(prediction is None for row in by_kind for prediction in row):
            continue
        rows = results([[prediction for prediction in row if prediction is not None] for row in by_kind])
        numbers = box_precision(truth, rows, rules).numbers
        bins = reliability(box for _, box in _judged(truth, rows))
        found[kind] = {
            "AP": numbers["AP"],
            "AP50": numbers["AP50"],
            "ece": expected_calibration_error(bins),
            "reliability": [one._asdict() for one in bins],
        }
    return found


def _any_stated(predictions: Sequence[Sequence[Prediction]]) -> bool:
    """Whether any answered box has a confidence of its own, or none was answered."""
    answers = [p.score.answer for row in predictions for p in row if isinstance(p.score.answer, Mapping)]
    boxes = sum(len(answer.get("boxes", ())) for answer in answers)
    return not boxes or sum(len(answer.get("unstated", ())) for answer in answers) < boxes


def _by(prediction: Prediction, kind: ScoreKind) -> Prediction | None:
    """The same answer ranked by another number; None if it has boxes without one.

    A box whose confidence was not written is ranked by its tokens among those that were, as ``written`` does.
    """
    answer = prediction.score.answer
    if not (isinstance(answer, Mapping) and answer.get("boxes")):
        return prediction
    scores = answer.get(KINDS[kind])
    if kind == "written" and scores is not None and answer.get("unstated"):
        tokens = answer.get("token_scores") or [-1.0] * len(scores)
        scores = [tokens[n] if n in answer["unstated"] else sure for n, sure in enumerate(scores)]
    if scores is None or min(scores) < 0:
        return None
    return prediction._replace(score=prediction.score._replace(answer={**answer, "scores": list(scores)}))


def measure_ranks(by_kind: Mapping[ScoreKind, Sequence[Sequence[Prediction]]]) -> Measured:
    """AP and expected calibration error of the same answers, ranked by each kind of number, with what intervals need.

    Args:
        by_kind: the answers, image by image, with the ``scores`` of a kind, by its name.

    Returns:
        ``AP/KIND`` and ``ECE/KIND`` for each kind, and ``AP/tokens - written``.
    """
    flat = {kind: [p for row in rows for p in row] for kind, rows in by_kind.items()}
    truth = asked_data_set(next(iter(flat.values())))[0]
    place = {row["id"]: n for n, row in enumerate(truth["images"])}
    results = {kind: asked_data_set(rows)[1] for kind, rows in flat.items()}
    precision = {kind: WeightedPrecision(truth, rows) for kind, rows in results.items()}
    judged = {kind: [(place[image], box) for image, box in _judged(truth, rows)] for kind, rows in results.items()}

    def statistic(weights: Floats) -> dict[str, float]:
        numbers = {f"AP/{kind}": precision[kind](weights)["AP"] for kind in by_kind}
        numbers |= {f"ECE/{kind}": _weighted_error(judged[kind], weights) for kind in by_kind}
        return {**numbers, "AP/tokens - written": numbers["AP/tokens"] - numbers["AP/written"]}

    numbers = statistic(np.ones(len(place)))
    return Measured(numbers, tuple(numbers), statistic, len(place))


def _weighted_error(boxes: Sequence[tuple[int, tuple[float, bool]]], weights: Floats) -> float:
    """The expected calibration error where each image counts as often as its weight says; NaN without a box."""
    drawn = (box for image, box in boxes for _ in range(int(weights[image])))
    error = expected_calibration_error(reliability(drawn))
    return error if error >= 0 else math.nan


def _judged(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Any, tuple[float, bool]]]:
    """Of each answered box its image, and its number and whether it is right; crowds are not looked at."""
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
        yield from ((place[0], (score, n >= 0)) for score, n in zip(scores, matching.truth_index, strict=True))
