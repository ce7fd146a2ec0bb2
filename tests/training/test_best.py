"""The best checkpoint, stopping early, and going on for longer than a run was meant to be."""

from __future__ import annotations

import json

import pytest
import torch
from support.runs import config, interrupt, metrics, weights

from visual_rft.config.config import load_config, parse_config
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.policy.stored.checkpoints import best_of, chosen
from visual_rft.training.household import Household
from visual_rft.training.run.best import Standing, standing
from visual_rft.training.run.continuing import continued
from visual_rft.training.sft import train_supervised

VALUES = {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.4, 4: 0.3, 5: 0.9, 6: 0.8}
"""Held-out numbers after so many steps: the best of the first five is after step 1."""


@pytest.fixture(autouse=True)
def _measured(monkeypatch):
    """Evaluations have the numbers of VALUES, whatever was answered."""
    real = Household.evaluate

    def evaluate(self, done):
        real(self, done)
        file = self.folder.path / f"evaluation/step-{done:06d}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "AP": VALUES[done]}))

    monkeypatch.setattr(Household, "evaluate", evaluate)


def settings(folder, base, **loop):
    loop = {"steps": 6, "evaluate_every": 1, "best": "AP", **loop}
    return config(folder, base, run={"folder": str(folder), "prompts_per_batch": 2, **loop})


def checkpoints(folder):
    return sorted(int(place.name.removeprefix("step-")) for place in (folder / "checkpoints").iterdir())


def test_a_run_ends_when_nothing_got_better_and_says_what_was_best(model_folders, tmp_path, capsys):
    folder = tmp_path / "run"
    run = settings(folder, model_folders["qwen2_vl"], patience=3)
    summary = train_supervised(run)
    assert [row["step"] for row in metrics(folder)] == [0, 1, 2, 3]
    assert summary["steps"] == 4
    why = "after 4 of 6 steps: AP was best after 1 (0.400), and the 3 evaluations since were no better (run.patience)"
    assert summary["ended"] == why
    assert f"ended {why}" in capsys.readouterr().out
    best = folder / "checkpoints/step-000001"
    assert summary["best"] == {"metric": "AP", "value": 0.4, "step": 1, "checkpoint": str(best)}
    assert summary["checkpoint"] == str(folder / "checkpoints/step-000004")
    assert checkpoints(folder) == [1, 4]  # only the best and the last, though none was asked for every so many steps
    assert chosen(str(folder), "best") == str(best)
    with pytest.raises(RunFolderError, match=r"this run ended after 4 of 6 steps.*raise run\.patience"):
        train_supervised(run, resume=True)
    more = settings(folder, model_folders["qwen2_vl"], patience=4)
    longer = train_supervised(more, resume=True)
    assert (longer["steps"], "ended" in longer, longer["best"]["step"]) == (6, False, 5)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(model_folders, tmp_path):
    whole = tmp_path / "whole"
    train_supervised(settings(whole, model_folders["qwen2_vl"], patience=3))
    cut = tmp_path / "cut"
    interrupt(train_supervised, settings(cut, model_folders["qwen2_vl"], patience=3, checkpoint_every=2), last=4)
    summary = train_supervised(settings(cut, model_folders["qwen2_vl"], patience=3, checkpoint_every=2), resume=True)
    expected = json.loads((whole / "summary.json").read_text())
    assert [summary[name] for name in ("steps", "ended")] == [expected[name] for name in ("steps", "ended")]
    assert summary["best"]["step"] == expected["best"]["step"] == 1
    one, other = (weights(folder / "checkpoints/step-000004/model") for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_is_resumed_after_its_last_evaluation_ends_at_once(model_folders, tmp_path):
    folder = tmp_path / "run"
    run = settings(folder, model_folders["qwen2_vl"], patience=3)
    train_supervised(run)
    (folder / "summary.json").unlink()  # killed between the last checkpoint and the summary
    summary = train_supervised(run, resume=True)
    assert summary["steps"] == 4
    assert summary["ended"].startswith("after 4 of 6 steps")
    assert summary["checkpoint"] == str(folder / "checkpoints/step-000004")
    assert len(metrics(folder)) == 4


def test_more_steps_go_on_with_the_schedule_of_the_longer_run(model_folders, tmp_path, capsys):
    folder = tmp_path / "run"
    base = model_folders["qwen2_vl"]
    train_supervised(settings(folder, base, steps=2, checkpoint_every=1))
    first = [row["learning_rate"] for row in metrics(folder)]
    capsys.readouterr()
    longer = settings(folder, base, steps=4, checkpoint_every=1)
    train_supervised(longer, resume=True)
    rates = [row["learning_rate"] for row in metrics(folder)]
    peak = longer.optimizer.learning_rate  # linear to 0 at the last step; a line states the rate of the next one
    assert first == pytest.approx([peak / 2, 0.0])
    assert rates == pytest.approx([peak / 2, 0.0, peak / 4, 0.0])
    before, after = (weights(folder / f"checkpoints/step-{n:06d}/model") for n in (2, 3))
    assert any(not torch.equal(before[name], after[name]) for name in before)  # the first of the new steps teaches
    said = capsys.readouterr().err
    assert "this run was one of 2 steps and goes on to 4" in said
    assert f"the learning rate is {peak / 2:.3g}" in said
    noted = json.loads((folder / "environment.json").read_text())["resumed"][-1]
    assert (noted["after_steps"], noted["run_steps"]) == (2, [2, 4])
    assert load_config(folder / "config.yaml").run.steps == 4
    assert json.loads((folder / "summary.json").read_text())["steps"] == 4


def test_a_number_that_no_evaluation_has_is_refused_before_anything_is_made(model_folders, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"run\.best: 'APP' is no number of an evaluation; did you mean 'AP'"):
        train_supervised(settings(folder, model_folders["qwen2_vl"], best="APP"))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("metric", "numbers", "expected"),
    [
        ("AP", [0.1, 0.3, 0.3, 0.2], Standing(1, 0.3, 2)),
        ("mean_error", [2.0, 1.5, 1.7], Standing(1, 1.5, 1)),
        ("counting/mean_error", [2.0, 1.5, 1.0], Standing(2, 1.0, 0)),
        ("-own", [2.0, 1.5, 1.7], Standing(1, 1.5, 1)),
        ("AP", [0.1, None, None], Standing(0, 0.1, 2)),
        ("AP", [None], None),
    ],
)
def test_the_best_is_the_greatest_or_the_least(tmp_path, metric, numbers, expected):
    (tmp_path / "evaluation").mkdir()
    for step, value in enumerate(numbers):
        row = {"step": step, metric.removeprefix("-"): value}
        (tmp_path / f"evaluation/step-{step:06d}.json").write_text(json.dumps(row))
        (tmp_path / f"checkpoints/step-{step:06d}").mkdir(parents=True)
    assert standing(tmp_path, metric) == expected
    best = best_of(tmp_path, metric)
    assert (best and (int(best.checkpoint.name[5:]), best.value)) == (expected and expected[:2])


def test_patience_needs_to_know_what_is_best():
    with pytest.raises(ConfigError, match="patience counts evaluations"):
        parse_config({"run": {"patience": 2}}, "test")
    with pytest.raises(ConfigError, match="patience counts evaluations"):
        parse_config({"run": {"patience": 2, "best": "AP"}}, "test")


def test_the_name_of_before_is_still_read():
    assert parse_config({"run": {"checkpoint_best": "AP"}}, "test").run.best == "AP"
    assert parse_config({"run": {"checkpoint_best": None}}, "test").run.best is None


@pytest.mark.parametrize(("was", "now", "allowed"), [(2, 3, True), (2, 0, True), (2, 1, False), (0, 2, False)])
def test_patience_may_grow(tmp_path, was, now, allowed):
    from visual_rft.config.config import dump_config

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(settings(folder, "tiny", patience=was)))
    given = settings(folder, "tiny", patience=now)
    if allowed:
        assert continued(folder, given) == given
    else:
        with pytest.raises(RunFolderError, match=r"run\.patience is"):
            continued(folder, given)
