"""The demonstration, shortened: the same code, the summary as promised."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from visual_rft.demo import run_demo
from visual_rft.errors import RunFolderError


def test_demo_writes_what_the_readme_promises(tmp_path, capsys):
    folder = tmp_path / "demo"
    flags = ["--run.steps", "2", "--run.prompts_per_batch", "2", "--rollout.group_size", "2",
             "--data.train.0.count", "4", "--data.evaluation.0.count", "4"]  # fmt: skip
    run_demo("detection", folder, seed=3, overrides=flags)
    summary = json.loads((folder / "summary.json").read_text())
    assert {"base", "rft", "seconds", "model"} <= summary.keys()
    for result in (summary["base"], summary["rft"]):
        assert {"AP", "AP50", "AP75", "mean_iou", "format_rate", "parse_rate", "n_images"} <= result.keys()
        assert result["n_images"] == 4
    out = capsys.readouterr().out
    assert "mean_iou" in out
    assert "step 2/2 |" in out
    with Image.open(folder / "before_after.png") as sheet:
        assert sheet.width == 800
    with pytest.raises(RunFolderError, match="exists already"):
        run_demo("detection", folder, seed=3, overrides=flags)
