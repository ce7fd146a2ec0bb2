from __future__ import annotations

import pytest

from visual_rft.tasks import Detection, Prediction, Sample
from visual_rft.vision.images import RenderedImage


def prediction(name: str, category: str, boxes, text: str) -> Prediction:
    truth = {"boxes": boxes, "image_size": [100, 100]}
    image = RenderedImage(name, lambda: None)
    sample = Sample(f"{name}/{category}", (image,), "detection", {"category": category}, truth)
    return Prediction(sample, text, Detection().score(text, truth))


def answer(*boxes):
    items = ", ".join(f"{{'Position': {list(b)}, 'Confidence': 0.9}}" for b in boxes)
    return f"<think>x</think><answer>[{items}]</answer>"


def test_metrics_by_hand():
    result = Detection().metrics(
        [
            prediction("i", "cat", [[0, 0, 50, 50]], answer((0, 0, 500, 500))),
            prediction("i", "dog", [[50, 50, 100, 100], [0, 50, 50, 100]], answer((500, 500, 1000, 750))),
            prediction("j", "cat", [], "<think>x</think><answer>No Objects</answer>"),
            prediction("j", "dog", [[0, 0, 10, 10]], "no idea"),
        ]
    )
    assert result["n_images"] == 2
    assert result["n_questions"] == 4
    assert result["n_boxes"] == 4
    assert result["mean_iou"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert result["format_rate"] == 0.75
    assert result["parse_rate"] == 0.75
    assert result["failures"] == {"no answer tag": 1}
    # cat: AP 1. dog: one of three true boxes found, at IoU 0.5 exactly.
    assert result["AP50"] == pytest.approx((1 + 34 / 101) / 2, abs=1e-3)
    assert result["AP75"] == pytest.approx(0.5)


def test_a_false_alarm_on_an_absent_class_lowers_ap():
    right = prediction("i", "cat", [[0, 0, 50, 50]], answer((0, 0, 500, 500)))
    alarm = prediction("j", "cat", [], answer((0, 0, 500, 500)).replace("0.9", "1.0"))
    silent = prediction("j", "cat", [], "<think>x</think><answer>No Objects</answer>")
    assert Detection().metrics([right, silent])["AP"] == pytest.approx(1)
    assert Detection().metrics([right, alarm])["AP"] == pytest.approx(0.5)
