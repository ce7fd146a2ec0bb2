"""The demonstration, shortened: the same code, the summary as promised."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from visual_rft.config.config import load_config
from visual_rft.demo.run import DEMOS, demo_config, run_demo
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.tasks import TASKS
from visual_rft.tiny.questions import TAUGHT
from visual_rft.training.rft import train


def test_demo_writes_what_the_readme_promises(tmp_path, capsys):
    folder = tmp_path / "demo"
    flags = ["--run.steps", "2", "--run.prompts_per_batch", "2", "--rollout.group_size", "2",
             *(f"--data.{part}.{i}.count=2" for part in ("train", "evaluation") for i in (0, 1))]  # fmt: skip
    run_demo("detection", demo_config("detection", folder, 3, flags))
    summary = json.loads((folder / "summary.json").read_text())
    assert {"base", "rft", "seconds", "model"} <= summary.keys()
    for result in (summary["base"], summary["rft"]):
        assert {"AP", "AP50", "AP75", "mean_iou", "format_rate", "parse_rate", "n_images"} <= result.keys()
        assert result["n_images"] == 4
        assert result["n_questions"] >= 4
    assert (folder / "report.html").stat().st_size > 20_000
    assert (folder / "plots" / "learning_curve.png").is_file()
    out = capsys.readouterr().out
    assert "mean IoU" in out
    assert "step 2/2 |" in out
    with Image.open(folder / "plots" / "before_after.png") as sheet:
        assert sheet.width == 6 * 256  # a column per question
        assert sheet.height > 2 * 256
    with pytest.raises(ConfigError, match=r"run.processes is 2, but 1 was started; visual-rft train"):
        train(demo_config("detection", folder, 3, [*flags, "--run.processes", "2"]))
    with pytest.raises(RunFolderError, match="exists already"):
        run_demo("detection", demo_config("detection", folder, 3, flags))


@pytest.mark.parametrize(("task", "numbers"), [("classification", {"accuracy", "mean_class_accuracy"}),
                                               ("grounding", {"mean_iou", "hit_rate"})])  # fmt: skip
def test_demos_of_the_other_tasks(task, numbers, tmp_path, capsys):
    sources = range(len(load_config(DEMOS / f"{task}.yaml").data.train))
    flags = ["--run.steps=1", "--run.prompts_per_batch=2", "--rollout.group_size=2",
             *(f"--data.{part}.{i}.count=2" for part in ("train", "evaluation") for i in sources)]  # fmt: skip
    summary = run_demo(task, demo_config(task, tmp_path / "demo", 0, flags))
    assert numbers <= summary["base"].keys()
    assert numbers <= summary["rft"].keys()
    assert "after RFT" in capsys.readouterr().out
    assert (tmp_path / "demo" / "plots" / "before_after.png").is_file()


def test_there_is_a_demo_of_every_task_that_the_embedded_model_was_taught_and_of_no_other(tmp_path):
    assert {file.stem for file in DEMOS.glob("*.yaml")} == set(TAUGHT) <= set(TASKS)
    with pytest.raises(ConfigError, match="choose from classification, detection, grounding"):
        demo_config("counting", tmp_path / "demo", seed=0)
