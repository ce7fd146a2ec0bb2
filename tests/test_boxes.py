import numpy as np
import pytest

from visual_rft.vision.boxes import as_boxes, iou_matrix, match_by_confidence


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([0, 0, 10, 10], [0, 0, 10, 10], 1.0, id="same"),
        pytest.param([0, 0, 10, 10], [5, 0, 15, 10], 50 / 150, id="half over"),
        pytest.param([0, 0, 10, 10], [10, 0, 20, 10], 0.0, id="touching"),
        pytest.param([0, 0, 10, 10], [2, 2, 4, 4], 4 / 100, id="inside"),
        pytest.param([10, 10, 0, 0], [0, 0, 10, 10], 0.0, id="inverted"),
        pytest.param([3, 3, 3, 3], [3, 3, 3, 3], 0.0, id="no area"),
    ],
)
def test_iou_by_hand(a, b, expected):
    assert iou_matrix(as_boxes([a]), as_boxes([b]))[0, 0] == pytest.approx(expected)


def test_iou_equals_pycocotools_on_random_boxes():
    from pycocotools import mask

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 80, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (50, 2))], axis=1)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    expected = mask.iou(xywh[:20], xywh[20:], [0] * 30)
    np.testing.assert_allclose(iou_matrix(boxes[:20], boxes[20:]), expected, atol=1e-12)


def test_as_boxes_refuses_other_shapes():
    with pytest.raises(ValueError, match="x1, y1, x2, y2"):
        as_boxes([[1, 2, 3]])


def test_most_confident_prediction_chooses_first():
    truth = as_boxes([[0, 0, 10, 10]])
    predicted = as_boxes([[0, 0, 10, 10], [0, 0, 10, 8]])
    matching = match_by_confidence(predicted, np.array([0.5, 0.9]), truth, 0.5)
    assert matching.truth_index.tolist() == [-1, 0]
    assert matching.iou.tolist() == [0.0, 0.8]


def test_a_match_below_the_threshold_leaves_the_true_box_to_others():
    truth = as_boxes([[0, 0, 10, 10]])
    predicted = as_boxes([[0, 0, 10, 4], [0, 0, 10, 10]])
    matching = match_by_confidence(predicted, np.array([0.9, 0.1]), truth, 0.5)
    assert matching.truth_index.tolist() == [-1, 0]


def test_order_of_equally_confident_boxes_does_not_matter():
    rng = np.random.default_rng(1)
    for _ in range(200):
        corner = rng.uniform(0, 20, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (6, 2))], axis=1)
        truth, predicted = boxes[:2], boxes[2:]
        confidence = np.full(4, 0.5)
        order = rng.permutation(4)
        one = match_by_confidence(predicted, confidence, truth, 0.1)
        other = match_by_confidence(predicted[order], confidence[order], truth, 0.1)
        assert one.truth_index[order].tolist() == other.truth_index.tolist()
