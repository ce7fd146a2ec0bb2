"""Why the curve is flat: boxes in another order, and the course of what a run logs."""

from __future__ import annotations

import pytest
from support.evidence import cells_of

from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.plots import plot_curves
from visual_rft.evidence.ranking import RANKINGS
from visual_rft.tasks.metrics.coco import box_precision


def test_ap_in_another_order_bounds_what_confidence_is_worth():
    """Two boxes of one true box, the worse with the greater confidence: ranked by IoU, AP is 1 at IoU 0.5."""
    true = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [true],
    }
    place = {"image_id": 1, "category_id": 1}
    found = [{**place, "bbox": [10, 10, 5, 5], "score": 0.9}, {**place, "bbox": [0, 0, 10, 10], "score": 0.1}]
    ap = {name: box_precision(truth, rank(truth, found))[0]["AP"] for name, rank in RANKINGS.items()}
    assert box_precision(truth, found)[0]["AP"] == pytest.approx(0.5)
    assert ap["AP_by_iou"] == pytest.approx(1.0)
    assert ap["AP_constant"] in (pytest.approx(0.5), pytest.approx(1.0))
    assert [row["score"] for row in RANKINGS["AP_by_iou"](truth, found)] == [0.0, 1.0]


def test_step_sizes_are_factors_of_the_tuned_rate():
    rates = {c.variant: c.config.optimizer.learning_rate for c in cells_of("why-flat", arms=("rft",), shots=(2,))}
    assert rates["step size: half the learning rate"] == rates["unchanged"] / 2
    assert rates["step size: twice the learning rate"] == rates["unchanged"] * 2


def test_curves_of_the_unchanged_runs_are_drawn(tmp_path):
    cells = cells_of("why-flat", arms=("rft",))
    curves = [
        {**cell.labels(), "metric": name, "values": [0.1 * step for step in range(9)]}
        for cell in cells
        for name in EXPERIMENTS["why-flat"].curves
    ]
    plot_curves({"curves": curves}, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f">{name}<" in drawn for name in (*EXPERIMENTS["why-flat"].curves, "2 shots", "16 shots"))
