"""Bootstrap intervals: weights against repeated images, coverage against a known distribution."""

from __future__ import annotations

import numpy as np
import pytest
from support.box_sets import SETS, lvis_set, random_set

from visual_rft.evaluation.resampling import bootstrap, interval
from visual_rft.evaluation.weighted_precision import WeightedPrecision
from visual_rft.tasks.metrics.coco import box_precision


@pytest.mark.parametrize("seed", range(len(SETS)))
def test_weights_of_one_give_the_library_s_numbers(seed):
    truth, results = random_set(seed, **SETS[seed])
    weighted = WeightedPrecision(truth, results)(np.ones(len(truth["images"])))
    numbers = box_precision(truth, results).numbers
    if numbers["AP"] == -1:
        assert all(np.isnan(value) for value in weighted.values())
    else:
        assert weighted == pytest.approx({name: numbers[name] for name in weighted}, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_weights_of_one_give_the_library_s_numbers_under_lvis_rules(seed):
    truth, results = lvis_set(seed)
    weighted = WeightedPrecision(truth, results, "lvis")(np.ones(len(truth["images"])))
    numbers = box_precision(truth, results, "lvis").numbers
    assert weighted == pytest.approx({name: numbers[name] for name in weighted}, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_a_weight_repeats_the_image(seed):
    truth, results = random_set(seed, crowded=0.2)
    rng = np.random.default_rng(seed)
    weights = np.bincount(rng.integers(0, 8, 8), minlength=8)
    repeated, found = {**truth, "images": [], "annotations": []}, []
    for row, weight in zip(truth["images"], weights.tolist(), strict=True):
        for copy in range(weight):
            # Ids that sort like the original: equal scores of different images keep their order.
            identity = row["id"] * 100 + copy
            repeated["images"].append({**row, "id": identity})
            for source, target in ((truth["annotations"], repeated["annotations"]), (results, found)):
                target += [{**a, "image_id": identity} for a in source if a["image_id"] == row["id"]]
    for number, annotation in enumerate(repeated["annotations"], 1):
        annotation["id"] = number
    numbers = box_precision(repeated, found).numbers
    weighted = WeightedPrecision(truth, results)(weights.astype(float))
    assert weighted == pytest.approx({name: numbers[name] for name in weighted}, abs=1e-9)


def mean_of(values):
    return lambda weights: {"mean": float(weights @ values / weights.sum())}


def test_the_interval_is_that_of_the_known_distribution():
    """Mean of 400 coin throws: the standard error is 1/40, and 95 % of a normal lie within 1.96 of them."""
    values = np.arange(400) % 2 * 1.0
    low, high = interval(bootstrap(mean_of(values), 400, draws=4000)["mean"])
    assert low == pytest.approx(0.5 - 1.96 / 40, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 / 40, abs=0.004)


def test_an_interval_holds_the_true_mean_as_often_as_it_says():
    """Of 200 samples of 60, about 95 % of the intervals hold the true mean; fewer than 90 % would be wrong."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        low, high = interval(bootstrap(mean_of(rng.normal(0.3, 1, 60)), 60, draws=300, seed=seed)["mean"])
        held += low <= 0.3 <= high
    assert 180 <= held <= 198


def test_paired_draws_narrow_the_difference():
    rng = np.random.default_rng(1)
    first = rng.normal(0, 1, 100)
    second = first + 0.1  # better by the same on every image: the difference is certain
    a, b = (bootstrap(mean_of(values), 100, draws=200)["mean"] for values in (first, second))
    assert interval(b - a) == pytest.approx([0.1, 0.1])
    assert interval(a)[1] - interval(a)[0] > 0.3


def test_a_number_that_is_mostly_undefined_has_no_interval():
    assert interval(np.array([0.1] * 94 + [np.nan] * 6)) is None
    assert interval(np.array([0.1] * 96 + [np.nan] * 4)) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.filterwarnings("ignore:Found annotation id 0")
def test_a_true_box_of_id_0_is_as_lost_as_in_the_library(crowd):
    boxes = [
        {"id": n, "image_id": n, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": crowd * (n == 0)} for n in (0, 1)
    ]
    truth = {"images": [{"id": 0}, {"id": 1}], "categories": [{"id": 7}], "annotations": boxes}
    found = [{"image_id": n, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.9} for n in (0, 1)]
    numbers, weighted = box_precision(truth, found).numbers, WeightedPrecision(truth, found)(np.ones(2))
    assert {name: weighted[name] for name in weighted} == pytest.approx({name: numbers[name] for name in weighted})
