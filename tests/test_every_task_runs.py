"""Each task from the command line, on data of a JSONL file: scored, checked, trained, evaluated, asked and played."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from support.pictures import picture
from support.tiny_models.segmenters import save_segmenter

from visual_rft.cli.main import main
from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import load_samples
from visual_rft.tasks import load_task
from visual_rft.vision.images import ImageFile
from visual_rft.vision.masks import inner_point, true_mask
from visual_rft.vision.segmenter import Segmenter


class Case(NamedTuple):
    """A task and its data.

    Attributes:
        lines: of the file besides ``image``, for each picture of 96 x 96 pixels.
        metric: a number of its evaluation.
        total: greatest total reward.
    """

    lines: list[dict[str, Any]]
    metric: str
    total: float
    options: Mapping[str, Any] = MappingProxyType({})
    weights: dict[str, float] | None = None


PETS = [
    {"label": "cat", "box": [12, 12, 48, 48], "expressions": ["the left one"]},
    {"label": "dog", "box": [60, 60, 84, 84], "expressions": ["the right one"]},
]
SQUARE = [[24, 24, 72, 24, 72, 72, 24, 72]]
MASKS = [
    {"question": {"expression": "the square"}, "truth": {"segmentation": SQUARE}},
    {"question": {"expression": "the dog"}, "truth": {"segmentation": None}},
]
CASES = {
    "many_classes": Case([{"objects": PETS}, {"objects": PETS[:1]}], "AP", 3),
    "counting": Case([{"objects": PETS}, {"objects": PETS[:1]}], "accuracy", 2.5),
    "counting with points": Case(
        [{"objects": PETS}, {"objects": PETS[:1]}], "accuracy", 3, weights={"exact": 1, "points": 1, "format": 1}
    ),
    "pointing": Case([{"objects": PETS}], "hit_rate", 2),
    "pointing to every one": Case([{"objects": PETS}], "hit_rate", 2, {"every": True}),
    "segmentation": Case(MASKS, "mask_iou", 2),
    "vqa": Case(
        [
            {"question": {"question": "What is it?", "choices": ["a cup", "a cat"]}, "truth": {"choice": "B"}},
            {"question": {"question": "How long is it?"}, "truth": {"number": 12, "tolerance": 1, "unit": "cm"}},
            {"question": {"question": "What does it say?"}, "truth": {"answer": "stop", "synonyms": ["halt"]}},
        ],
        "accuracy",
        2,
    ),
}


def config_of(folder: Path, name: str, case: Case) -> Path:
    rows = []
    for number in range(2):
        for line, content in enumerate(case.lines):
            image = f"{number}-{line}.png"
            picture(96, 96, 10 * number + line).save(folder / image)
            rows.append(json.dumps({"image": image, **content}) + "\n")
    half = len(rows) // 2
    for file, part in (("train.jsonl", rows[:half]), ("test.jsonl", rows[half:])):
        (folder / file).write_text("".join(part))
    task = {"name": name.split(" ")[0], "options": dict(case.options), "weights": case.weights}
    values = {
        "model": {"path": "tiny"},
        "task": task,
        "data": {
            "train": [{"source": "jsonl", "path": "train.jsonl"}],
            "evaluation": [{"source": "jsonl", "path": "test.jsonl"}],
        },
        "rollout": {"group_size": 2, "max_new_tokens": 120},
        "run": {"folder": "run", "steps": 3, "prompts_per_batch": 2},
    }
    (folder / "run.yaml").write_text(json.dumps(values))
    return folder / "run.yaml"


@pytest.mark.parametrize("name", CASES)
def test_a_task_runs_from_the_command_line(name, tmp_path, monkeypatch, capsys):
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    config = str(config_of(tmp_path, name, case))
    assert main(["check", config]) == 0
    said = capsys.readouterr().out
    assert f"gold {case.total:.2f}" in said
    assert said.splitlines()[-1] == "no violation"
    run_every_other_verb(name, case, config, case.total, capsys)


def test_segmentation_is_trained_with_a_segmenter_from_the_command_line(tmp_path, monkeypatch, capsys):
    """Its random masks are of no use, so what they are worth is worked out beside the command line."""
    monkeypatch.chdir(tmp_path)
    folder = save_segmenter(tmp_path / "sam")
    case = Case(MASKS, "mask_iou", 2, {"segmenter": str(folder)})
    config = str(config_of(tmp_path, "segmentation", case))
    segmenter, truth = Segmenter.load(str(folder)), true_mask(SQUARE, (96, 96), "the square")
    middle = [round(v * 1000 / 96) * 96 / 1000 for v in inner_point(truth)]  # as the model's units can say it
    made = segmenter.mask(ImageFile(tmp_path / "0-0.png").load(), (24, 24, 72, 72), [middle])
    worth = 1 + float((made & truth).sum() / (made | truth).sum())  # and 1 for the format
    assert 1 < worth < 2

    sound = main(["check", config]) == 0
    said = capsys.readouterr().out
    assert f"gold {(worth + 2) / 2:.2f}" in said, "where nothing is meant, no mask is made"
    assert sound == ("scores" not in said), "a wrong answer may be worth more to a random segmenter"
    run_every_other_verb("segmentation", case, config, worth, capsys)
    assert "mask_iou" in Path("run/metrics.jsonl").read_text()


def run_every_other_verb(name: str, case: Case, config: str, total: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Play, score, train, evaluate and predict; ``total`` is that of the gold answer to the first question."""
    assert main(["play", config, "--gold"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert played["total"] == pytest.approx(total)
    assert Path("play.png").is_file()

    weights = [] if case.weights is None else ["--weights", json.dumps(case.weights)]
    task = load_task(name.split(" ")[0], weights=case.weights, **case.options)
    truth = load_samples([SourceConfig(source="jsonl", path="train.jsonl")], task)[0].truth
    asked = ["score", "--task", task.name, "--options", json.dumps(dict(case.options)), *weights]
    assert main([*asked, "--truth", json.dumps(truth), "--completion", played["completion"]]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == pytest.approx(total)

    assert main(["train", config, "--rollout.max_new_tokens", "12"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 3
    assert case.metric in summary["evaluation"]
    capsys.readouterr()

    assert main(["evaluate", "--model", "run", "--rollout.max_new_tokens", "12"]) == 0
    capsys.readouterr()
    (result,) = Path(".").glob("*-evaluation/*/result.json")
    numbers = json.loads(result.read_text())
    assert case.metric in numbers
    assert case.metric in numbers["intervals"]

    assert main(["predict", "0-0.png", "--ask", "cat, dog", "--model", "run", "--json"]) == 0
    answered = json.loads(capsys.readouterr().out)
    assert (answered["answer"] is None) == (answered["failure"] is not None)
    assert Path(answered["picture"]).is_file()
