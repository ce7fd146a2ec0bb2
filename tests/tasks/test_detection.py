"""Detection: every reward beside a table made by hand, options, prompt and metrics."""

from __future__ import annotations

import numpy as np
import pytest

from visual_rft.errors import ConfigError
from visual_rft.tasks import Detection, Prediction, Sample, load_task
from visual_rft.tasks.metrics.coco import average_precision
from visual_rft.vision.coordinates import CoordinateSpace
from visual_rft.vision.images import RenderedImage

TWO = {"boxes": [[0, 0, 50, 50], [50, 50, 100, 100]], "image_size": [100, 100]}
A, B, WRONG = (0, 0, 500, 500), (500, 500, 1000, 1000), (600, 0, 900, 300)
REWARDS = ("iou", "confidence", "iou_balanced", "iou_soft", "confidence_brier", "count", "average_precision")


def boxes(*rows):
    items = ", ".join(f"{{'Position': {list(r[:4])}, 'Confidence': {r[4]}}}" for r in rows)
    return f"<think>x</think><answer>[{items}]</answer>"


def wrap(answer):
    return f"<think>x</think><answer>{answer}</answer>"


# One row per case: the total with the task's own weights (iou, confidence, format), and each of REWARDS, all by hand.
@pytest.mark.parametrize(
    ("text", "total", "parts"),
    [
        pytest.param(boxes((*A, 1), (*B, 1)), 3, (1, 1, 1, 1, 1, 1, 1), id="both"),
        pytest.param(boxes((*A, 1), (*B, 0.5)), 2.75, (1, 0.75, 1, 1, 0.875, 1, 1), id="both, unsure of one"),
        pytest.param(
            boxes((*A, 1)), 3, (1, 1, 0.5, 0.5, 0.5, 0.5, 0.5), id="one of two: the method's formula pays it in full"
        ),
        pytest.param(
            boxes((*A, 0.8), (*WRONG, 0.4)), 0.5 + 0.7 + 1, (0.5, 0.7, 0.5, 0.5, (0.96 + 0.84) / 2, 1, 0.5),
            id="one right, one wrong",
        ),
        pytest.param(
            boxes((*A, 0.4), (*WRONG, 0.8)), 0.5 + 0.3 + 1, (0.5, 0.3, 0.5, 0.5, (0.64 + 0.36) / 2, 1, 0.25),
            id="surer of the wrong one",
        ),
        pytest.param(
            boxes((*A, 0.5), (*WRONG, 0.5)), 2, (0.5, 0.5, 0.5, 0.5, 0.75, 1, 0.25), id="a tie counts against"
        ),
        pytest.param(boxes((0, 0, 500, 400, 0.5)), 2.3, (0.8, 0.5, 0.4, 0.4, 0.375, 0.5, 0.5), id="loose"),
        pytest.param(boxes((0, 0, 500, 200, 1)), 1, (0, 0, 0, 0.2, 0, 0.5, 0), id="below the threshold"),
        pytest.param(
            boxes((0, 0, 500, 200, 0.5)), 1.5, (0, 0.5, 0, 0.2, 0.375, 0.5, 0), id="below the threshold and unsure"
        ),
        pytest.param(boxes((*A, 1), (*A, 1)), 2, (0.5, 0.5, 0.5, 0.5, 0.5, 1, 0.25), id="the same box twice"),
        pytest.param(
            boxes((*A, 1), (*A, 1), (*B, 1)), 1 + 4 / 3, (*[2 / 3] * 6, None), id="the same box twice, and the other"
        ),
        pytest.param(wrap("No Objects"), 1, (0,) * 7, id="nothing"),
        pytest.param("no tags", 0, (0,) * 7, id="unreadable"),
    ],
)  # fmt: skip
def test_rewards_by_hand(text, total, parts):
    assert Detection().score(text, TWO).total == pytest.approx(total)
    found = Detection(weights=dict.fromkeys(REWARDS, 1.0)).score(text, TWO).parts
    for name, expected in zip(REWARDS, parts, strict=True):
        if expected is not None:
            assert found[name] == pytest.approx(expected), name


def test_only_weighted_rewards_count():
    assert Detection(weights={"iou": 2.0}).score(boxes((*A, 1), (*B, 1)), TWO).total == 2.0


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("<think>x</think><answer>No Objects</answer>", 3.0),
        (boxes((*A, 1)), 1.0),
        (boxes((*A, 0.25)), 1.75),
        ("No Objects", 0.0),
    ],
)
def test_nothing_to_find(text, total):
    assert Detection().score(text, {"boxes": [], "image_size": [100, 100]}).total == pytest.approx(total)


def test_answer_is_in_pixels_of_the_original_image():
    score = Detection().score(boxes((100, 200, 300, 400, 0.5)), {"boxes": [], "image_size": [200, 50]})
    np.testing.assert_allclose(score.answer["boxes"], [[20, 10, 60, 20]])


def test_average_precision_equals_coco_ap50_without_ties():
    """COCO interpolates at 101 recall points, we at all: equal within a hundredth on distinct confidences."""
    rng = np.random.default_rng(0)
    task = Detection(weights={"average_precision": 1.0})
    checked = 0
    for _ in range(60):
        corner = rng.uniform(0, 60, (4, 2))
        true = np.concatenate([corner, corner + rng.uniform(15, 40, (4, 2))], axis=1)
        found = np.clip(np.concatenate([true[:3] + rng.normal(0, 3, (3, 4)), rng.permutation(true)[:1] + 25]), 0, 100)
        confidence = rng.permutation(np.arange(1, 5) / 5)
        if (found[:, 2:] - found[:, :2] < 1).any():
            continue
        ten = [[float(v * 10) for v in box] for box in found]
        text = boxes(*((*box, c) for box, c in zip(ten, confidence, strict=True)))
        ours = task.score(text, {"boxes": true.tolist(), "image_size": [100, 100]}).total
        wide = {"id": 1, "width": 100, "height": 100, "file_name": "a"}
        rows = [{"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [*b[:2], *(b[2:] - b[:2])], "iscrowd": 0,
                 "area": float(np.prod(b[2:] - b[:2]))} for i, b in enumerate(true)]  # fmt: skip
        for row in rows:
            row["bbox"] = [float(v) for v in row["bbox"]]
        results = [{"image_id": 1, "category_id": 1, "bbox": [float(v) for v in (*b[:2], *(b[2:] - b[:2]))],
                    "score": float(c)} for b, c in zip(found, confidence, strict=True)]  # fmt: skip
        truth = {"images": [wide], "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
        assert ours == pytest.approx(average_precision(truth, results)["AP50"], abs=0.01)
        checked += 1
    assert checked > 40


def test_matching_and_threshold_are_options():
    loose = boxes((0, 0, 500, 300, 1))  # IoU 0.6 with the first box
    assert Detection().score(loose, TWO).parts["iou"] == pytest.approx(0.6)
    assert Detection(iou_threshold=0.7).score(loose, TWO).parts["iou"] == 0
    scheduled = load_task("detection", iou_threshold={"from": 0.5, "to": 0.9})
    assert [scheduled.at(p).score(loose, TWO).parts["iou"] for p in (0, 0.2, 0.3)] == pytest.approx([0.6, 0.6, 0])
    assert Detection().at(0.5) == Detection()
    greedy = boxes((0, 0, 500, 1000, 1), (*A, 0.5))
    truth = {"boxes": [[0, 0, 50, 50], [0, 0, 50, 80]], "image_size": [100, 100]}
    assert load_task("detection", matching="hungarian").score(greedy, truth).parts["iou"] == pytest.approx(0.9)
    with pytest.raises(ConfigError, match="matching: 'best' is not one of confidence, hungarian"):
        Detection(matching="best")
    with pytest.raises(ConfigError, match=r"iou_threshold: 2 is not in \[0, 1\]"):
        Detection(iou_threshold=2)


def test_an_item_of_another_label_is_dropped():
    text = wrap("[{'Position': [0, 0, 500, 500], 'Confidence': 1, 'label': 'dog'}]")
    score = Detection().score(text, {**TWO, "category": "cat"})
    assert score.failure == "no valid item (another label than the one asked for)"
    assert Detection().score(text, {**TWO, "category": "Dog"}).parts["iou"] == 1


def test_prompt_names_category_and_units():
    task = Detection()
    question = {"category": "red circle"}
    assert "red circle" in task.prompt(question, CoordinateSpace.RELATIVE_1000)
    assert "1000" in task.prompt(question, CoordinateSpace.RELATIVE_1000)
    assert "pixels" in task.prompt(question, CoordinateSpace.PROCESSED_PIXELS)
    assert "<think>" not in Detection(think=False).prompt(question, CoordinateSpace.PIXELS)


def prediction(name: str, category: str, true, text: str) -> Prediction:
    truth = {"boxes": true, "image_size": [100, 100]}
    image = RenderedImage(name, lambda: None)
    sample = Sample(f"{name}/{category}", (image,), "detection", {"category": category}, truth)
    return Prediction(sample, text, Detection().score(text, truth))


def test_metrics_by_hand():
    result = Detection().metrics(
        [
            prediction("i", "cat", [[0, 0, 50, 50]], boxes((0, 0, 500, 500, 0.9))),
            prediction("i", "dog", [[50, 50, 100, 100], [0, 50, 50, 100]], boxes((500, 500, 1000, 750, 0.9))),
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
    right = prediction("i", "cat", [[0, 0, 50, 50]], boxes((0, 0, 500, 500, 0.9)))
    alarm = prediction("j", "cat", [], boxes((0, 0, 500, 500, 1)))
    silent = prediction("j", "cat", [], "<think>x</think><answer>No Objects</answer>")
    assert Detection().metrics([right, silent])["AP"] == pytest.approx(1)
    assert Detection().metrics([right, alarm])["AP"] == pytest.approx(0.5)
