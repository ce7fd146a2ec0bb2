import itertools

import numpy as np
import pytest

from visual_rft.vision.boxes import as_boxes, giou, iou, match_by_confidence, match_hungarian


@pytest.mark.parametrize(
    ("a", "b", "overlap", "generalised"),
    [
        pytest.param((0, 0, 10, 10), (0, 0, 10, 10), 1.0, 1.0, id="same"),
        pytest.param((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150, 50 / 150, id="half over"),
        pytest.param((0, 0, 10, 10), (10, 0, 20, 10), 0.0, 0.0, id="touching"),
        pytest.param((0, 0, 10, 10), (20, 0, 30, 10), 0.0, -1 / 3, id="apart"),
        pytest.param((0, 0, 10, 10), (2, 2, 4, 4), 4 / 100, 4 / 100, id="inside"),
        pytest.param((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175, 25 / 175 - 50 / 225, id="corner over"),
    ],
)
def test_iou_and_giou_by_hand(a, b, overlap, generalised):
    assert iou(a, b) == iou(b, a) == pytest.approx(overlap)
    assert giou(a, b) == pytest.approx(generalised)


@pytest.mark.parametrize("box", [(10, 10, 0, 0), (3, 3, 3, 3), (0, 5, 9, 5)])
def test_iou_of_a_box_without_area_is_0(box):
    assert iou(box, (0, 0, 10, 10)) == iou((0, 0, 10, 10), box) == iou(box, box) == 0


def random_boxes(rng, count: int, most: float = 80):
    corner = rng.uniform(0, most, (count, 2))
    return as_boxes(np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1).tolist())


def test_iou_and_giou_equal_pycocotools_and_torchvision_on_random_boxes():
    import torch
    from pycocotools import mask
    from torchvision.ops import generalized_box_iou

    boxes = random_boxes(np.random.default_rng(0), 50)
    xywh = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
    expected = mask.iou(np.array(xywh[:20]), np.array(xywh[20:]), [0] * 30)
    table = [[iou(a, b) for b in boxes[20:]] for a in boxes[:20]]
    np.testing.assert_allclose(table, expected, atol=1e-12)
    generalised = generalized_box_iou(*(torch.tensor(part, dtype=torch.float64) for part in (boxes[:20], boxes[20:])))
    np.testing.assert_allclose([[giou(a, b) for b in boxes[20:]] for a in boxes[:20]], generalised, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2, 3]], "box 0: a box is four finite numbers"),
        ([[0, 0, 1, 1], [0, 0, 1, float("nan")]], "box 1: a box is four"),
        ([[0, 0, 1, 10**400]], "four finite numbers"),
        ([[0, 0, True, 1]], "four finite numbers"),
        ([[5, 0, 5, 9]], "x1 < x2 and y1 < y2"),
    ],
)
def test_what_is_no_box_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        as_boxes(values)


BOTH = pytest.mark.parametrize("match", [match_by_confidence, match_hungarian])


def test_most_confident_prediction_chooses_first():
    matching = match_by_confidence([(0, 0, 10, 10), (0, 0, 10, 8)], [0.5, 0.9], [(0, 0, 10, 10)], 0.5)
    assert matching.truth_index == (-1, 0)
    assert matching.iou == (0.0, 0.8)
    assert matching.truth_count == 1


def test_hungarian_matching_looks_at_the_whole():
    # Greedy gives the first truth to the sure box and leaves the other with IoU 0.25, below the threshold.
    predicted, truth = [(0, 0, 10, 10), (0, 0, 10, 9)], [(0, 0, 10, 10), (0, 0, 10, 20)]
    greedy = match_by_confidence(predicted, [0.9, 0.5], truth, 0.5)
    assert greedy.truth_index == (0, -1)
    assert match_hungarian(predicted, [0.9, 0.5], truth, 0.5).truth_index == (1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_hungarian_matching_is_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    predicted, truth = random_boxes(rng, 4, most=20), random_boxes(rng, 3, most=20)
    table = [[v if (v := iou(a, b)) >= 0.3 else 0 for b in truth] for a in predicted]
    best = max(sum(table[i][j] for j, i in enumerate(chosen)) for chosen in itertools.permutations(range(4), 3))
    assert sum(match_hungarian(predicted, [0.5] * 4, truth, 0.3).iou) == pytest.approx(best)


@BOTH
def test_a_match_below_the_threshold_leaves_the_true_box_to_others(match):
    matching = match([(0, 0, 10, 4), (0, 0, 10, 10)], [0.9, 0.1], [(0, 0, 10, 10)], 0.5)
    assert matching.truth_index == (-1, 0)


@BOTH
def test_order_of_equally_confident_boxes_does_not_matter(match):
    rng = np.random.default_rng(1)
    for _ in range(200):
        boxes = random_boxes(rng, 6, most=20)
        truth, predicted = boxes[:2], boxes[2:]
        order = rng.permutation(4)
        one = match(predicted, [0.5] * 4, truth, 0.1)
        other = match([predicted[i] for i in order], [0.5] * 4, truth, 0.1)
        assert tuple(one.truth_index[i] for i in order) == other.truth_index
