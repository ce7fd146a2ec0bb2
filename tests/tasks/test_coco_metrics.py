"""Average precision against pycocotools and the lvis package, on random sets that hold every special case."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import types

import numpy as np
import pytest
from support.box_sets import SETS, lvis_set, random_set

from visual_rft.tasks.metrics.coco import LVIS_NAMES, NAMES, average_precision, box_precision


def pycocotools_says(truth, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        data, found = COCO(), COCO()
        data.dataset = copy.deepcopy(truth)
        data.createIndex()
        if results:
            found = data.loadRes(copy.deepcopy(results))
        else:  # loadRes refuses an empty list
            found.dataset = {**copy.deepcopy(truth), "annotations": []}
            found.createIndex()
        evaluator = COCOeval(data, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    per_class = {}
    for k, category in enumerate(evaluator.params.catIds):
        values = evaluator.eval["precision"][:, :, k, 0, 2]
        per_class[category] = float(values[values > -1].mean()) if (values > -1).any() else -1.0
    return dict(zip(NAMES, evaluator.stats.tolist(), strict=True)), per_class


@pytest.mark.parametrize("seed", range(len(SETS)))
def test_equal_to_pycocotools(seed):
    truth, results = random_set(seed, **SETS[seed])
    kept = copy.deepcopy((truth, results))
    ours = box_precision(truth, results)
    numbers, per_class = pycocotools_says(truth, results)
    assert ours.numbers == pytest.approx(numbers, abs=1e-6)
    assert ours.per_class == pytest.approx(per_class, abs=1e-6)
    assert tuple(ours.numbers) == NAMES
    assert (truth, results) == kept, "the caller's data are left as they were"


def test_the_random_sets_hold_the_special_cases():
    sets = [random_set(seed, **options) for seed, options in enumerate(SETS)]
    assert len(sets) >= 50
    assert any(a["iscrowd"] for truth, _ in sets for a in truth["annotations"])
    areas = [a["area"] for truth, _ in sets for a in truth["annotations"]]
    assert min(areas) < 32**2 < 96**2 < max(areas)
    annotated = [{a["image_id"] for a in truth["annotations"]} for truth, _ in sets]
    assert any(
        {row["id"] for row in truth["images"]} - there for (truth, _), there in zip(sets, annotated, strict=True)
    )
    scores = [[row["score"] for row in results] for _, results in sets]
    assert any(len(set(row)) < len(row) for row in scores)
    assert any(numbers != -1 and numbers not in (0, 1) for numbers in
               (box_precision(*one).numbers["APs"] for one in sets))  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_no_predictions_at_all(seed):
    truth, _ = random_set(seed, crowded=0.2 * (seed % 2))
    numbers, per_class = pycocotools_says(truth, [])
    ours = box_precision(truth, [])
    assert ours.numbers == numbers
    assert ours.per_class == per_class
    assert ours.numbers["AP"] == 0


def test_no_true_box_is_undefined():
    truth, results = random_set(0)
    empty = {**truth, "annotations": []}
    assert set(average_precision(empty, results).values()) == {-1.0}
    assert set(average_precision(empty, []).values()) == {-1.0}
    tiny = {**truth, "annotations": [{**truth["annotations"][0], "bbox": [0, 0, 9, 9], "area": 81}]}
    assert average_precision(tiny, [])["APs"] == 0
    assert average_precision(tiny, [])["APl"] == -1


def test_equal_scores_keep_the_order_of_the_file():
    """Two boxes of one score, the right one first or last: AP 1 or 1/2, as in pycocotools."""
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}],
             "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]}]}  # fmt: skip
    right = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
    wrong = {**right, "bbox": [100, 100, 50, 50]}
    assert average_precision(truth, [right, wrong])["AP"] == pytest.approx(1)
    assert average_precision(truth, [wrong, right])["AP"] == pytest.approx(0.5)


def test_ids_may_be_texts():
    truth, results = random_set(3, ties=True)
    named = copy.deepcopy(truth), copy.deepcopy(results)
    for row in named[0]["images"]:
        row["id"] = f"{row['id']:04d}"
    for row in named[0]["categories"]:
        row["id"] = f"c{row['id']}"
    for row in [*named[0]["annotations"], *named[1]]:
        row["image_id"], row["category_id"] = f"{row['image_id']:04d}", f"c{row['category_id']}"
    for row in named[0]["annotations"]:
        row["id"] = f"a{row['id']}"
    plain = box_precision(truth, results)
    assert box_precision(*named).numbers == plain.numbers
    assert box_precision(*named).per_class == {f"c{c}": ap for c, ap in plain.per_class.items()}


def lvis_says(truth, results, monkeypatch):
    """The numbers of the lvis package, which was written for numpy below 1.24 and imports drawing libraries."""
    for name in ("cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["matplotlib.patches"], "Polygon", None, raising=False)
    monkeypatch.setattr(np, "float", float, raising=False)
    monkeypatch.setattr(logging.Logger, "warn", logging.Logger.warning, raising=False)
    from lvis import LVIS, LVISEval, LVISResults

    data = LVIS.__new__(LVIS)
    data.logger = logging.getLogger("lvis")
    data.dataset = copy.deepcopy(truth)
    data._create_index()
    evaluator = LVISEval(data, LVISResults(data, copy.deepcopy(results)), "bbox")
    evaluator.run()
    says = {k.replace("AR@300", "AR300").replace("@300", ""): float(v) for k, v in evaluator.get_results().items()}
    return {name: says[name] for name in LVIS_NAMES}


@pytest.mark.parametrize("seed", range(24))
def test_equal_to_the_lvis_package(seed, monkeypatch):
    truth, results = lvis_set(seed)
    ours = box_precision(truth, results, "lvis").numbers
    assert ours == pytest.approx(lvis_says(truth, results, monkeypatch), abs=1e-6)
    assert tuple(ours) == LVIS_NAMES


def test_federated_rules_make_a_difference():
    pairs = [
        (box_precision(*lvis_set(s), "lvis").numbers["AP"], average_precision(*lvis_set(s))["AP"]) for s in range(24)
    ]
    assert sum(lvis != coco for lvis, coco in pairs) > 18


def test_federated_rules_by_hand():
    """A false alarm counts where the class is known to be absent, and nowhere else."""
    category = {"id": 1, "name": "a", "frequency": "r"}
    box = {"category_id": 1, "bbox": [0, 0, 50, 50]}

    def ap(neg: list[int], open_ended: list[int], alarm_in: int) -> float:
        images = [{"id": 1, "neg_category_ids": [], "not_exhaustive_category_ids": open_ended},
                  {"id": 2, "neg_category_ids": neg, "not_exhaustive_category_ids": []}]  # fmt: skip
        truth = {"images": images, "categories": [category], "annotations": [{"id": 1, "image_id": 1, **box}]}
        alarm = {**box, "image_id": alarm_in, "bbox": [200, 200, 50, 50], "score": 0.9}
        return box_precision(truth, [alarm, {**box, "image_id": 1, "score": 0.5}], "lvis").numbers["AP"]

    assert ap([], [], 2) == pytest.approx(1), "nobody looked for the class in image 2"
    assert ap([1], [], 2) == pytest.approx(0.5), "image 2 is known to hold none"
    assert ap([], [], 1) == pytest.approx(0.5), "image 1 is annotated exhaustively"
    assert ap([], [1], 1) == pytest.approx(1), "image 1 may hold more"
