"""Learning curves: what is read from a run folder, and that it is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.errors import RunFolderError
from visual_rft.plots import _evaluations, _metrics, _rewards, _shares, learning_curve, smoothed


def run_folder(folder: Path, rows: list[dict]) -> Path:
    (folder / "evaluation").mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rft_row(step: int, **other) -> dict:
    return {"step": step, "reward": 1.0, "reward/iou": 0.1 * step, "reward/format": 1.0, "zero_std_share": 0.5,
            "parse_failure_share": 0.0, "truncated_share": 0.25, **other}  # fmt: skip


def test_what_is_drawn(tmp_path):
    run = run_folder(tmp_path, [rft_row(0), rft_row(1, **{"reward/iou": None}), rft_row(2)])
    (run / "evaluation" / "step-000003.json").write_text('{"AP": 0.5, "mean_iou": 0.75, "n_images": 9}')
    (run / "summary.json").write_text('{"base": {"AP": 0.25, "mean_iou": 0.5}}')
    rows = _metrics(run / "metrics.jsonl")
    assert _rewards(rows)[1] == {"iou": [(1, 0.0), (3, 0.2)], "format": [(1, 1.0), (2, 1.0), (3, 1.0)]}
    assert _evaluations(run)[1] == {"AP": [(0, 0.25), (3, 0.5)], "mean_iou": [(0, 0.5), (3, 0.75)]}
    assert _shares(rows)[1]["groups of equal rewards"] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    file = learning_curve(run)
    assert file == run / "plots" / "learning_curve.png"
    with Image.open(file) as picture:
        assert picture.size == (3 * 440, 352)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_supervised_training_and_tasks_of_ones_own(tmp_path):
    run = run_folder(tmp_path, [{"step": 0, "loss": 2.5}, {"step": 1, "loss": 1.5}])
    (run / "evaluation" / "step-000002.json").write_text('{"exact": 0.5, "n_images": 3, "failures": {}}')
    title, curves = _rewards(_metrics(run / "metrics.jsonl"))
    assert (title, curves) == ("loss (training)", {"loss": [(1, 2.5), (2, 1.5)]})
    assert _evaluations(run)[1] == {"exact": [(2, 0.5)]}
    with Image.open(learning_curve(run)) as picture:
        assert picture.size == (2 * 440, 352)  # no shares


def test_a_run_that_goes_on_or_was_cut_off(tmp_path):
    run = run_folder(tmp_path, [rft_row(step) for step in range(40)])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "rew')
    assert len(_metrics(run / "metrics.jsonl")) == 40
    assert learning_curve(run).is_file()


def test_moving_average():
    assert smoothed([(i, float(i)) for i in range(1, 13)])[-1] == (12, 7.5)  # mean of 3..12


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is this a run folder"), ("", "holds no step yet"), ('{"step": 0}\nnonsense\n', "line 2 is not JSON")],
)
def test_mistakes(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(RunFolderError, match=message):
        learning_curve(tmp_path)
    assert not (tmp_path / "plots").exists()
