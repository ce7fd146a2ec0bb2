"""COCO average precision by faster-coco-eval (the same twelve numbers as pycocotools, several times faster)."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def average_precision(truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The twelve COCO numbers, each in [0, 1], or -1 where undefined (no true box of that size).

    Args:
        truth: a COCO data set (``images``, ``annotations``, ``categories``).
        predictions: COCO results: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score``.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    if not predictions:
        # loadRes refuses an empty list; without predictions every defined number is 0.
        return dict.fromkeys(NAMES, 0.0 if truth["annotations"] else -1.0)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ground_truth = COCO(dict(truth))
        evaluator = COCOeval_faster(ground_truth, ground_truth.loadRes(list(predictions)), iouType="bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: float(value) for name, value in zip(NAMES, evaluator.stats[:12], strict=True)}
