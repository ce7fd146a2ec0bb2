from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from visual_rft.tasks import Detection, Prediction, Sample
from visual_rft.tasks.coco_metrics import NAMES, average_precision
from visual_rft.vision.images import RenderedImage


def random_set(seed: int):
    rng = np.random.default_rng(seed)
    images = [{"id": i + 1, "width": 200, "height": 200, "file_name": f"{i}"} for i in range(5)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 4)):
            x, y = rng.uniform(0, 100, 2)
            w, h = rng.uniform(5, 100, 2)
            category = int(rng.integers(1, 3))
            box = [float(v) for v in (x, y, w, h)]
            place = {"image_id": image["id"], "category_id": category}
            annotations.append(
                {**place, "id": len(annotations) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
            if rng.random() < 0.8:
                noisy = [float(v + rng.normal(0, 5)) for v in box]
                results.append({**place, "bbox": [*noisy[:2], abs(noisy[2]), abs(noisy[3])],
                                "score": float(np.round(rng.random(), 1))})  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }, results


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_pycocotools(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = random_set(seed)
    ours = average_precision(truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = truth
        data.createIndex()
        evaluator = COCOeval(data, data.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert ours == pytest.approx(dict(zip(NAMES, evaluator.stats, strict=True)), abs=1e-6)


def test_no_predictions_is_zero_and_no_truth_is_undefined():
    truth, _ = random_set(0)
    assert set(average_precision(truth, []).values()) == {0.0}
    assert set(average_precision({**truth, "annotations": []}, []).values()) == {-1.0}


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
