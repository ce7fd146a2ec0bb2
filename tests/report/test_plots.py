"""Learning curves: what is read from a run folder, and that it is drawn."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from visual_rft.report.plots import learning_curve, panels_of, smoothed
from visual_rft.report.reading import Run, read_run


def run_of(folder: Path, rows: list[dict], **evaluations: dict) -> Run:
    (folder / "evaluation").mkdir()
    (folder / "config.yaml").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step, numbers in evaluations.items():
        (folder / "evaluation" / f"step-{step.removeprefix('after_').zfill(6)}.json").write_text(json.dumps(numbers))
    return read_run(folder)


def rft_row(step: int, **other) -> dict:
    return {"step": step, "reward": 1.0, "reward/iou": 0.1 * step, "reward/format": 1.0, "zero_std_share": 0.5,
            "parse_failure_share": 0.0, "truncated_share": 0.25, **other}  # fmt: skip


def test_what_is_drawn(tmp_path):
    base, last = {"AP": 0.25, "mean_iou": 0.5}, {"AP": 0.5, "AP75": -1.0, "mean_iou": 0.75, "n_images": 9}
    rows = [rft_row(0), rft_row(1, **{"reward/iou": None}), rft_row(2)]
    run = run_of(tmp_path, rows, after_0=base, after_3=last)
    rewards, held_out, shares = panels_of(run)
    assert rewards[1] == {"iou": [(1, 0.0), (3, 0.2)], "format": [(1, 1.0), (2, 1.0), (3, 1.0)]}
    assert held_out[1] == {"AP": [(0, 0.25), (3, 0.5)], "mean IoU": [(0, 0.5), (3, 0.75)]}
    assert shares[1]["groups with equal rewards"] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert learning_curve(run, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (3 * 440, 352)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_supervised_training_and_tasks_of_ones_own(tmp_path):
    rows = [{"step": 0, "loss": 2.5}, {"step": 1, "loss": 1.5}]
    run = run_of(tmp_path, rows, after_2={"exact": 0.5, "n_images": 3, "failures": {}})
    loss, held_out, shares = panels_of(run)
    assert loss == ("loss (training)", {"loss": [(1, 2.5), (2, 1.5)]})
    assert held_out[1] == {"exact": [(2, 0.5)]}
    assert shares[1] == {}
    assert learning_curve(run, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 440, 352)  # no shares


def test_a_run_that_has_not_begun_has_no_curve(tmp_path):
    assert not learning_curve(run_of(tmp_path, []), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_moving_average():
    assert smoothed([(i, float(i)) for i in range(1, 13)])[-1] == (12, 7.5)  # mean of 3..12
