"""What numbers that rank boxes are worth, by hand."""

from __future__ import annotations

import pytest

from visual_rft.evaluation.calibration import score_kinds
from visual_rft.evaluation.tables import evaluation_text
from visual_rft.tasks import Detection
from visual_rft.tasks.metrics.calibration import expected_calibration_error, reliability
from visual_rft.tasks.metrics.detection import asked_data_set
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
