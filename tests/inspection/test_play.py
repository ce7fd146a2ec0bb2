"""Playing a run by hand: rounds by flags and a conversation through standard input."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.cli.main import main
from visual_rft.config.config import load_config
from visual_rft.errors import DataError
from visual_rft.inspection.play import Game, play
from visual_rft.vision.drawing import PREDICTED, TRUTH


@pytest.fixture
def config(tmp_path, model_folders):
    """A run on a COCO-format folder with one image of 200 x 100 pixels and one box."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (200, 100), (250, 250, 250)).save(photos / name)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in (1, 2)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 10, 60, 50]} for i in (1, 2)],
        "categories": [{"id": 1, "name": "coin"}],
    }
    (photos / "annotations.json").write_text(json.dumps(content))
    source = [{"source": "coco", "path": str(photos)}]
    values = {
        "model": {"path": str(model_folders["qwen3_vl"])},
        "data": {"train": source, "evaluation": source},
        "task": {"weights": {"iou": 2.0, "format": 0.5}},
    }
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(values))
    return file


def one_round(capsys, config: Path, *flags: str) -> dict:
    assert main(["play", str(config), *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_gold_answer_has_full_marks(config, tmp_path, capsys):
    result = one_round(capsys, config, "--gold", "--out", str(tmp_path / "p.png"))
    assert result["sample"] == "1/coin"
    assert result["rewards"] == {"iou": 1.0, "format": 1.0}
    assert result["total"] == 2.5  # weights 2 and 0.5
    assert "coin" in result["prompt"]
    with Image.open(tmp_path / "p.png") as picture:
        factor = picture.width // 200
        assert picture.height == 100 * factor >= 512


def test_truth_and_answer_are_drawn_where_they_are(config, tmp_path, capsys):
    """Truth [20, 10, 80, 60] and answer [120, 50, 180, 90] in pixels; the answer is 600..900, 500..900 of 1000."""
    text = "<think>x</think><answer>[{'Position': [600, 500, 900, 900], 'Confidence': 0.9}]</answer>"
    result = one_round(capsys, config, "--completion", text, "--out", str(tmp_path / "p.png"))
    assert result["answer"]["boxes"] == [[120.0, 50.0, 180.0, 90.0]]
    assert result["rewards"] == {"iou": 0.0, "format": 1.0}
    assert result["failure"] is None
    with Image.open(tmp_path / "p.png") as picture:
        factor = picture.width // 200
        assert picture.getpixel((20 * factor, 35 * factor)) == TRUTH
        assert picture.getpixel((120 * factor, 70 * factor)) == PREDICTED
        assert picture.getpixel((100 * factor, 70 * factor)) == (250, 250, 250)


def test_a_completion_from_standard_input_and_why_it_failed(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("I see\na coin"))
    flags = ["--sample", "2/coin", "--completion", "-", "--out", str(tmp_path / "p.png")]
    result = one_round(capsys, config, *flags)
    assert (result["sample"], result["completion"]) == ("2/coin", "I see\na coin")
    assert (result["total"], result["answer"], result["failure"]) == (0.0, None, "no answer tag")


def conversation(config: Path, tmp_path: Path, *lines: str) -> str:
    sink = io.StringIO()
    game = Game.load(load_config(config), tmp_path / "p.png")
    play(game, io.StringIO("\n".join(lines)), sink, random.Random(0))
    return sink.getvalue()


def test_a_conversation(config, tmp_path):
    lines = [":gold", ":next", ":next", ":previous", ":prompt", "<think>one", "two</think>", "",
             "<answer>No Objects</answer>", ".", ":wrong", ":quit", ":gold"]  # fmt: skip
    said = conversation(config, tmp_path, *lines)
    shown = [line for line in said.splitlines() if line.startswith("question")]
    assert [line.split(":")[0] for line in shown] == [f"question {n} of 2" for n in (1, 2, 1, 2)]  # round the end
    assert "image 200 x 100 pixels, answered in units of 1000 x 1000" in said
    assert "weight 2\n" in said
    totals = [line for line in said.splitlines() if line.removeprefix("> ").replace(". ", "").startswith("total")]
    assert [line.split("total ")[1] for line in totals] == ["2.500", "0.500"]  # nothing after :quit
    assert "whole image: total 0.500" in said
    assert (tmp_path / "p.png").is_file()


def test_the_input_may_end_inside_a_completion(config, tmp_path):
    said = conversation(config, tmp_path, "<answer>[{'Position': [100, 100, 400, 600], 'Confidence': 1.0}]</answer>")
    assert "total 2.000" in said  # the box is right, the think block is missing


def test_what_is_wrong_is_said_and_the_game_goes_on(config, tmp_path):
    said = conversation(config, tmp_path, ":sample 3", ":sample 2/coin", ":sample 0", ":nonsense", ":random")
    assert "there is no question '3'; use a number from 1 to 2, or an id" in said
    assert "there is no question '0'" in said
    assert "question 2 of 2: 2/coin" in said
    assert said.count(":sample N ") == 2  # the help at the start and again


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample", "none", "--gold"], "there is no question 'none'"),
        (["--completion", "x", "--gold"], "give one of them"),
        (["--gold", "--out", "no/such/folder/p.png"], "cannot write the picture"),
    ],
)
def test_mistakes_are_one_line(flags, message, config, capsys):
    assert main(["play", str(config), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_boxes_are_read_in_the_units_of_the_family(config, tmp_path, model_folders, family):
    """The gold answer is written in the model's own units and still covers the true box."""
    game = Game.load(load_config(config, ["--model.path", str(model_folders[family])]), tmp_path / "p.png")
    assert game.score(game.gold()).parts["iou"] > 0.9
    frame = game.frame()
    assert frame.image_size == (200, 100)
    assert (frame.extent == (1000, 1000)) == (family == "internvl")


def test_held_out_questions_and_other_tasks(tmp_path, model_folders, capsys):
    file = tmp_path / "run.yaml"
    data = {"train": [{"source": "flowers", "count": 2}], "evaluation": [{"source": "digits", "count": 3}]}
    values = {"model": {"path": str(model_folders["qwen3_vl"])}, "task": {"name": "classification"}, "data": data}
    file.write_text(json.dumps(values))
    picture = ["--out", str(tmp_path / "p.png")]
    assert one_round(capsys, file, "--gold", *picture)["total"] == 2.0
    held_out = one_round(capsys, file, "--gold", "--held-out", "--sample", "3", *picture)
    assert "digit" in held_out["prompt"]
    game = Game.load(load_config(file), tmp_path / "p.png")
    with pytest.raises(DataError, match="from 1 to 2"):
        game.choose("3")
