"""``visual-rft check`` as it is called from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.cli.main import main
from visual_rft.config.config import Config
from visual_rft.config.sections import EngineConfig, ModelConfig, RolloutConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.footprint import Footprint
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.drawing import TRUTH

ROOT = Path(__file__).parent.parent.parent


def config(tmp_path: Path, model: Path | str, **sections) -> str:
    file = tmp_path / "run.yaml"
    values = {"model": {"path": str(model)}, "data": {"train": [{"source": "shapes", "count": 8}]}}
    file.write_text(json.dumps({**values, **sections}))
    return str(file)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(("task", "source"), [("detection", "shapes"), ("classification", "flowers"),
                                              ("grounding", "shapes")])  # fmt: skip
def test_a_sound_run_has_no_violation(tmp_path, model_folders, capsys, kind, task, source):
    file = config(tmp_path, model_folders[kind])
    sheet = tmp_path / "sheet.png"
    flags = ["--samples", "5", "--sheet", str(sheet), "--task", task, "--data.train.0.source", source,
             "--rollout.max_new_tokens", "200"]  # fmt: skip
    most = ["--data.train.0.max_objects", "3"] if source == "shapes" else []
    assert main(["check", file, *flags, *most]) == 0
    out = capsys.readouterr().out
    assert "no violation" in out
    assert "tokens per prompt" in out
    assert "memory, roughly" in out
    assert f"boxes in {'processed_pixels' if kind == 'qwen2_5_vl' else 'relative_1000'}" in out
    with Image.open(sheet) as picture:
        assert picture.size == (1600, 800)


def test_violations_are_named_and_exit_with_1(tmp_path, model_folders, capsys):
    own = tmp_path / "own.py"
    own.write_text("def likes_nothing(completion, truth, answer):\n    return float(not answer['boxes'])\n")
    file = config(tmp_path, model_folders["qwen3_vl"])
    flags = ["--sheet", str(tmp_path / "s.png"), "--task.weights", f"{{'{own}:likes_nothing': 1}}"]
    assert main(["check", file, *flags]) == 1
    out = capsys.readouterr().out
    assert "the wrong answer 'empty' scores 1.000, the gold one 0.000" in out
    assert "violations" in out.splitlines()[-1]
    assert main(["check", file, "--sheet", str(tmp_path / "s.png"), "--rollout.max_new_tokens", "5"]) == 1
    assert "a right answer would be cut off" in capsys.readouterr().out
    one = ["--samples", "1", "--rollout.max_new_tokens", "5"]
    assert main(["check", file, "--sheet", str(tmp_path / "s.png"), *one]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 violation"
    assert main(["check", file, "--sheet", str(tmp_path / "s.png"), "--task.options", "{length_window: [50, 60]}",
                 "--task.weights", "{iou: 1, length: 1}"]) == 1  # fmt: skip
    assert "the gold answer is not full: length" in capsys.readouterr().out


def test_tiles_are_proposed_for_a_dense_picture_and_its_answers_then_fit(tmp_path, capsys):
    """48 objects, each half of a grid of 80 pixels; what is proposed is tried."""
    places = [(x, y) for x in range(0, 640, 80) for y in range(0, 480, 80)]
    content = {
        "images": [{"id": 1, "file_name": "dense.png", "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "coin"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": [x + 20, y + 20, 40, 40]}
                        for n, (x, y) in enumerate(places, 1)],
    }  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (640, 480)).save(folder / "dense.png")
    (folder / "annotations.json").write_text(json.dumps(content))
    file = config(tmp_path, "tiny", data={"train": [{"source": "coco", "path": "data"}]})
    flags = ["--sheet", str(tmp_path / "s.png"), "--rollout.max_new_tokens", "400"]
    assert main(["check", file, *flags]) == 1
    said = capsys.readouterr().out
    proposed = re.search(r"of its 48 boxes about (\d+) fit, .* tiles: \{size: (\d+)\} in the source", said)
    assert proposed, said
    assert 1 <= int(proposed[1]) < 48
    assert f"evaluate --tiles {proposed[2]}" in said
    assert main(["check", file, *flags, "--data.train.0.tiles", f"{{size: {proposed[2]}}}"]) == 0
    assert "cut off" not in capsys.readouterr().out


def test_a_box_that_rounding_destroys_is_a_violation(tmp_path, model_folders, capsys):
    """A box 2 pixels wide on a picture 6,000 wide is a third of a unit of 0..1000."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (6000, 60)).save(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [3001, 10, 2, 30]}],
        "categories": [{"id": 1, "name": "pole"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    file = config(tmp_path, model_folders["qwen3_vl"], data={"train": [{"source": "coco", "path": str(folder)}]})
    assert main(["check", file, "--sheet", str(tmp_path / "s.png")]) == 1
    assert "after rounding to the model's units; enlarge the image" in capsys.readouterr().out


def test_a_question_without_boxes_has_no_loss_by_rounding(tmp_path, model_folders, capsys):
    """It comes after one whose box is destroyed: that loss is reported once, for the question that has it."""
    Image.new("RGB", (6000, 60)).save(tmp_path / "a.png")
    rows = [
        {"images": ["a.png"], "question": {"category": "pole"}, "id": name,
         "truth": {"boxes": boxes, "image_size": [6000, 60]}}
        for name, boxes in (("thin", [[3001, 10, 3003, 40]]), ("none", []))
    ]  # fmt: skip
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"source": "jsonl", "path": str(tmp_path / "data.jsonl")}
    file = config(tmp_path, model_folders["qwen3_vl"], data={"train": [source]})
    assert main(["check", file, "--sheet", str(tmp_path / "s.png")]) == 1
    out = capsys.readouterr().out
    assert "VIOLATION thin: a true box keeps only IoU" in out
    assert "VIOLATION none" not in out


@pytest.mark.parametrize(
    "truth", [{"boxes": [[20, 20, 60, 50]]}, {"box": [20, 20, 60, 50]}, {"points": [[40, 30]]}, {"point": [40, 30]}]
)
def test_the_sheet_shows_where_the_truth_of_a_task_of_ones_own_is(tmp_path, model_folders, capsys, truth):
    """It answers with a word and does not say how that is drawn; the labels it comes from are drawn all the same."""
    own = tmp_path / f"own_{next(iter(truth))}.py"
    source = (ROOT / "examples" / "counting.py").read_text()
    own.write_text(source.replace("len(boxes_of(truth))", "1"))
    Image.new("RGB", (100, 80), (9, 9, 9)).save(tmp_path / "a.png")
    row = {"images": ["a.png"], "question": {"category": "pole"}, "truth": {**truth, "image_size": [100, 80]}}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    data = {"train": [{"source": "jsonl", "path": str(tmp_path / "data.jsonl")}]}
    file = config(tmp_path, model_folders["qwen3_vl"], data=data, task={"name": f"{own}:Counting"})
    assert main(["check", file, "--sheet", str(tmp_path / "s.png")]) == 0, capsys.readouterr()
    with Image.open(tmp_path / "s.png") as sheet:
        # The picture of 500 x 400 is in a cell of 400 x 400; its middle, without the caption at the bottom.
        inner = sheet.crop((60, 60, 340, 260)).getcolors(1 << 20)
    assert any(max(TRUTH[i] - colour[i] for i in range(3)) < 40 and colour[1] > 150 for _, colour in inner)


def test_an_image_that_disappears_is_a_violation_and_the_rest_is_checked(tmp_path, model_folders, capsys):
    import runpy

    runpy.run_path(str(ROOT / "examples" / "make_coco_folder.py"))["make_coco_folder"](tmp_path / "coins", images=3)
    file = config(tmp_path, model_folders["qwen3_vl"],
                  data={"train": [{"source": "coco", "path": str(tmp_path / "coins")}]})  # fmt: skip
    (tmp_path / "coins" / "0002.png").write_bytes(b"\x89PNG broken")
    assert main(["check", file, "--sheet", str(tmp_path / "s.png")]) == 2  # the folder itself is refused
    assert "0002.png: cannot be read as an image" in capsys.readouterr().err


def test_the_weights_are_not_loaded(model_folders):
    policy = load_policy(ModelConfig(path=str(model_folders["qwen3_vl"])), RolloutConfig(), empty=True)
    assert all(parameter.is_meta for parameter in policy.model.parameters())


def test_memory_estimate_counts_weights_exactly(model_folders):
    settings = Config.model_validate({"model": {"path": str(model_folders["qwen3_vl"])}, "objective": {"beta": 0}})
    policy = load_policy(settings.model, settings.rollout, empty=True)
    inputs = policy.prepare([Prompt("a", "Find every cat.", (Shapes(1)[0].image,))])
    whole = Footprint.of(settings, policy, inputs)
    loaded = load_policy(settings.model, settings.rollout)
    assert whole.held["weights"] == sum(p.numel() * 4 for p in loaded.model.parameters())
    assert whole.update["gradients"] == whole.held["weights"]
    assert whole.held["optimiser"] == 2 * whole.held["weights"]
    one_at_a_time = settings.model_copy(update={"engine": EngineConfig(micro_batch=1)})
    small = Footprint.of(one_at_a_time, policy, inputs)
    assert small.update["completions"] == whole.update["completions"] / 64
    checkpointed = settings.model_copy(update={"engine": EngineConfig(checkpoint_prompts=1)})
    assert Footprint.of(checkpointed, policy, inputs).update["prompts with graph"] < whole.update["prompts with graph"]


def test_the_sheet_must_be_writable(tmp_path, model_folders, capsys):
    file = config(tmp_path, model_folders["qwen3_vl"])
    assert main(["check", file, "--samples", "1", "--sheet", str(tmp_path / "none" / "s.png")]) == 2
    assert "cannot write the contact sheet" in capsys.readouterr().err
