"""What numbers that rank boxes are worth, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visual_rft.answering.predict import evaluation_line
from visual_rft.evaluation.calibration import measure_ranks, score_kinds
from visual_rft.evaluation.measures import measure_detection
from visual_rft.evaluation.tables import evaluation_text
from visual_rft.tasks import Detection
from visual_rft.tasks.metrics.calibration import expected_calibration_error, reliability
from visual_rft.tasks.metrics.detection import asked_data_set, detection_metrics
from visual_rft.tasks.samples import Prediction, Sample, Score
from visual_rft.vision.images import RenderedImage

RIGHT, WRONG = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def answered(number: int, **fields) -> Prediction:
    truth = {"boxes": [RIGHT], "image_size": [100, 100]}
    sample = Sample(f"{number}", (RenderedImage(f"{number}", lambda: None),), "detection", {"category": "cat"}, truth)
    return Prediction(sample, "", Score({}, 0.0, fields or None))


def kinds_of(*predictions: Prediction):
    rows = [[prediction] for prediction in predictions]
    flat = lambda by_image: asked_data_set([p for row in by_image for p in row])  # noqa: E731
    return score_kinds(rows, lambda by_image: flat(by_image)[1], flat(rows)[0])


def test_ap_and_calibration_error_under_each_number():
    """One right and one wrong box. Written, the wrong one is surer: precision at the only recall is 1/2."""
    found = kinds_of(answered(1, boxes=[WRONG, RIGHT], confidence=[0.9, 0.8], token_scores=[0.15, 0.6]))
    assert found["written"]["AP"] == pytest.approx(0.5)
    assert found["tokens"]["AP"] == pytest.approx(1.0)
    assert found["written"]["ece"] == pytest.approx((abs(0.9 - 0) + abs(0.8 - 1)) / 2)
    assert found["tokens"]["ece"] == pytest.approx((0.15 + 0.4) / 2)
    assert found["tokens"]["reliability"][1] == {"score": 0.6, "right": 1.0, "boxes": 1}
    assert "asked" not in found


def test_a_second_box_on_one_object_is_not_right():
    found = kinds_of(answered(1, boxes=[RIGHT, RIGHT], confidence=[0.9, 0.9]))
    assert found["written"]["reliability"] == [{"score": 0.9, "right": 0.5, "boxes": 2}]


def test_a_number_that_one_box_lacks_ranks_nothing():
    known = answered(1, boxes=[RIGHT], confidence=[0.9], token_scores=[0.5])
    assert set(kinds_of(known, answered(2, boxes=[RIGHT], confidence=[0.9], token_scores=[-1.0]))) == {"written"}
    assert set(kinds_of(known, answered(2, boxes=[RIGHT], confidence=[0.9]))) == {"written"}
    assert set(kinds_of(known, answered(2, boxes=[], confidence=[]), answered(3))) == {"written", "tokens"}


def test_a_box_without_a_confidence_is_ranked_by_its_tokens_and_where_none_has_one_nothing_is_written():
    fields = {"boxes": [WRONG, RIGHT], "confidence": [1.0, 0.8], "token_scores": [0.15, 0.6], "unstated": [0]}
    found = kinds_of(answered(1, **fields))
    assert found["written"]["AP"] == pytest.approx(1.0), "0.15 and 0.8; not 1.0 and 0.8"
    assert found["written"]["ece"] == pytest.approx((0.15 + 0.2) / 2)
    assert set(kinds_of(answered(1, **{**fields, "unstated": [0, 1]}))) == {"tokens"}
    fields.pop("token_scores")
    assert kinds_of(answered(1, **fields)) == {}, "nothing ranks them"


def test_boxes_without_a_confidence_are_counted_and_said():
    known = {"boxes": [WRONG, RIGHT], "confidence": [1.0, 1.0], "unstated": [0, 1]}
    rows = [answered(1, **known, token_scores=[0.15, -1.0]), answered(2, boxes=[], confidence=[]), answered(3)]
    numbers = detection_metrics(rows)
    assert numbers["unstated"] == {"boxes": 2, "by_tokens": 1}
    truth, results = asked_data_set(rows)
    task = Detection()
    measured = measure_detection(task, truth, results, [[row] for row in rows])
    assert measured.numbers["unstated"] == {"boxes": 2, "by_tokens": 1}
    said = "2 boxes without a confidence: 1 ranked by its tokens, 1 as sure, because nothing is known of its tokens"
    assert said in evaluation_line(task, {**numbers, **task.metrics(rows)})
    empty = {"intervals": {}, "per_class": {}, "worst_images": [], "model": "m", "protocol": "asked"}
    assert said in evaluation_text({**empty, "n_images": 3, "n_questions": 3, **numbers})
    assert "unstated" not in detection_metrics([answered(1, boxes=[RIGHT], confidence=[0.5])])
    asked = answered(1, **known, asked_scores=[0.2, 0.9])
    assert "unstated" not in detection_metrics([asked]), "a second question ranks them"


def test_ranks_of_the_same_answers_by_hand():
    """Two pictures: in the first both numbers rank rightly, in the second only the tokens do."""
    rows = {"written": ([0.9, 0.1], [0.9, 0.8]), "tokens": ([0.6, 0.2], [0.15, 0.6])}
    boxes = ([RIGHT, WRONG], [WRONG, RIGHT])
    by_kind = {
        kind: [[answered(n, boxes=boxes[n], confidence=[1.0, 1.0], scores=scores[n])] for n in (0, 1)]
        for kind, scores in rows.items()
    }
    measured = measure_ranks(by_kind)
    assert measured.images == 2
    assert measured.numbers["ECE/written"] == pytest.approx(sum(
        (abs(0.9 - 0.5) * 2 / 4, abs(0.1 - 0.0) / 4, abs(0.8 - 1.0) / 4)), abs=1e-9)  # fmt: skip
    assert measured.numbers["ECE/tokens"] == pytest.approx((0.15 + 0.2 + 2 * 0.4) / 4)
    assert measured.numbers["AP/tokens"] == pytest.approx(1.0)
    assert measured.numbers["AP/written"] < 1
    # Drawn twice, the first picture alone is left: precision is 1 in both, and the errors are those of its boxes.
    first = measured.statistic(np.array([2.0, 0.0]))
    assert (first["AP/written"], first["AP/tokens"], first["AP/tokens - written"]) == pytest.approx((1, 1, 0))
    assert first["ECE/written"] == pytest.approx((0.1 + 0.1) / 2)
    assert first["ECE/tokens"] == pytest.approx((0.4 + 0.2) / 2)
    assert math.isnan(measure_ranks({"written": [[answered(1)]], "tokens": [[answered(1)]]}).numbers["ECE/tokens"])


def test_nothing_answered():
    found = kinds_of(answered(1))
    assert found["written"] == {"AP": 0.0, "AP50": 0.0, "ece": -1.0, "reliability": []}
    assert expected_calibration_error(reliability([])) == -1


def test_the_table_names_what_ranks():
    result = {
        "model": "m", "protocol": "asked", "n_images": 1, "n_questions": 1, "intervals": {}, "per_class": {},
        "worst_images": [], "scores": kinds_of(answered(1, boxes=[RIGHT], confidence=[0.5], token_scores=[0.75])),
    }  # fmt: skip
    assert "| tokens          | 1.000 | 1.000 | 0.250             |" in evaluation_text(result)
    assert Detection().scores == "written"
