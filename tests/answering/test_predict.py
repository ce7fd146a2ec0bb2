"""Asking about files, folders and patterns: what is found, drawn, written and counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from support.fake_policy import FakePolicy

from visual_rft.answering.asking import Asker
from visual_rft.answering.image_files import Numbering, find_images
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict_files import predict_files
from visual_rft.cli.main import main
from visual_rft.cli.verbs.evaluate import score_files
from visual_rft.config.config import Config, dump_config
from visual_rft.data.formats.imagefolder import load_imagefolder
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.errors import ConfigError, DataError, ModelError
from visual_rft.policy.stored.manifest import write_manifest
from visual_rft.policy.stored.places import EMBEDDED, model_folder, run_config_file
from visual_rft.tasks import load_task
from visual_rft.vision.drawing import PREDICTED, save_picture
from visual_rft.vision.images import ImageFile

BOXES = {"cat": "[{'Position': [250, 500, 750, 1000], 'Confidence': 0.8}]", "dog": "No Objects"}


def picture(file: Path, size=(200, 100)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (250, 250, 250)).save(file)
    return file


def detector() -> Asker:
    """Finds the same box of a cat in every picture, never a dog."""
    task = load_task("detection")
    answer = {task.prompt({"category": name}, FakePolicy.space): text for name, text in BOXES.items()}
    return Asker(LocalModel(FakePolicy(lambda prompt: f"<think>x</think><answer>{answer[prompt.text]}</answer>")), task)


def test_files_folders_and_patterns_each_image_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.JPG", "b/deep/3.png", "b/1.png", "b/1.answer.png", "c/x.png", "c/y.png"):
        picture(Path(name))
    Path("b/notes.txt").write_text("")
    found = find_images(["c/y.png", "b", "c/*.png", "b/**/3.png"])
    assert [str(file) for file in found] == ["c/y.png", "b/1.png", "b/2.JPG", "b/deep/3.png", "c/x.png"]
    assert find_images(["b/notes.txt"]) == [Path("b/notes.txt")]  # named by hand: opening it tells what is wrong
    for name, message in (("d.png", "d.png: no such image file"), ("d/*.png", "holds no image")):
        with pytest.raises(DataError, match=message):
            find_images([name])


@pytest.mark.parametrize("name", ["1.answer.png", "drawn.png", "1.answer.jpg.answer.png"])
def test_drawn_answers_among_the_data_are_no_data(tmp_path, name):
    """One that is read would be an image more, without labels: a false negative of every object in it."""
    yolo = tmp_path / "yolo"
    picture(yolo / "images" / "1.png")
    (yolo / "labels").mkdir()
    (yolo / "labels" / "1.txt").write_text("0 0.5 0.5 0.2 0.2")
    (yolo / "classes.txt").write_text("cat\n")
    classes = tmp_path / "classes"
    picture(classes / "cat" / "1.png")
    for folder in (yolo / "images", classes / "cat"):
        save_picture(ImageFile(folder / "1.png").load(), folder / name)
        assert find_images([str(folder)]) == [folder / "1.png"]
        assert find_images([str(folder / "*.png")]) == [folder / "1.png"]
    assert [image.id for image in load_yolo(yolo).images] == ["images/1"]
    assert load_yolo(yolo).skipped == {}
    assert [image.id for image in load_imagefolder(classes).images] == ["cat/1.png"]
    assert find_images([str(classes / "cat" / name)]) == [classes / "cat" / name]  # named by hand


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    file = picture(tmp_path / "a[1].png")
    assert find_images([str(file)]) == [file]


def test_everything_is_written_and_a_broken_image_is_counted(tmp_path, capsys):
    good = [picture(tmp_path / "a" / "1.png"), picture(tmp_path / "b" / "1.png", (90, 300))]
    broken = tmp_path / "a" / "2.png"
    broken.write_bytes(good[0].read_bytes()[:60])
    files, out, done = [good[0], broken, good[1]], tmp_path / "out", []
    numbering = Numbering(files, ["cat", "dog"], None)
    result = predict_files(detector(), files, ["cat", "dog"], out, numbering, batch=2, progress=done.append)
    assert (result["images"], result["questions"], result["boxes"], result["failures"]) == (2, 4, 2, {})
    assert len(result["unreadable"]) == 1
    assert str(broken) in result["unreadable"][0]
    assert str(broken) in capsys.readouterr().err
    assert sum(done) == 3
    assert sorted(file.name for file in (out / "pictures").iterdir()) == ["1-2.png", "1.png"]
    rows = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(good[0]), str(good[1])]
    assert [reply["ask"] for reply in rows[0]["answers"]] == ["cat", "dog"]
    # 250..750 of 1000 across 200 pixels, 500..1000 down 100 pixels, as [x, y, width, height]
    assert json.loads((out / "predictions.json").read_text()) == [
        {"image_id": 1, "category_id": 1, "bbox": [50.0, 50.0, 100.0, 50.0], "score": 0.8},
        {"image_id": 3, "category_id": 1, "bbox": [22.5, 150.0, 45.0, 150.0], "score": 0.8},
    ]
    with Image.open(out / "pictures" / "1.png") as drawn:
        factor = drawn.width // 200
        assert drawn.getpixel((50 * factor, 75 * factor)) == PREDICTED
        assert drawn.getpixel((45 * factor, 75 * factor)) == (250, 250, 250)
    with pytest.raises(DataError, match="exists already"):
        predict_files(detector(), files, ["cat"], out, numbering)


def test_predictions_of_own_annotations_are_scored(tmp_path):
    """The box of the model is the true one, so AP is 1 whatever the ids of the user's file."""
    files = [picture(tmp_path / "photos" / name) for name in ("p.png", "q.png")]
    truth = {
        "images": [{"id": 71 + i, "file_name": f"photos/{f.name}", "width": 200, "height": 100}
                   for i, f in enumerate(files)],
        "annotations": [{"id": i + 1, "image_id": 71 + i, "category_id": 9, "bbox": [50, 50, 100, 50], "area": 5000,
                         "iscrowd": 0} for i in range(2)],
        "categories": [{"id": 9, "name": "cat"}],
    }  # fmt: skip
    annotations = tmp_path / "gt.json"
    annotations.write_text(json.dumps(truth))
    out = tmp_path / "out"
    predict_files(detector(), files, ["cat"], out, Numbering(files, ["cat"], annotations))
    assert score_files(annotations, out / "predictions.json")[0]["AP"] == pytest.approx(1.0)
    with pytest.raises(DataError, match="'dog': is not a category"):
        Numbering(files, ["dog"], annotations)
    with pytest.raises(DataError, match="is not among the images"):
        Numbering([picture(tmp_path / "other.png")], ["cat"], annotations)


def test_two_files_are_never_one_image_of_own_annotations(tmp_path, monkeypatch):
    """The boxes of both would be scored as those of one picture."""
    monkeypatch.chdir(tmp_path)
    files = [picture(Path(name)) for name in ("train/1.png", "val/1.png")]
    rows = [{"id": 7, "file_name": "1.png", "width": 200, "height": 100}]
    truth = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    Path("gt.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"^val/1.png: is called as train/1.png is in gt.json; ask about one of them"):
        Numbering(files, ["cat"], Path("gt.json"))
    rows[0] = {**rows[0], "file_name": "train/1.png"}
    Path("gt.json").write_text(json.dumps({**truth, "images": [*rows, {**rows[0], "id": 8, "file_name": "val/1.png"}]}))
    assert list(Numbering(files, ["cat"], Path("gt.json")).images.values()) == [7, 8]
    assert find_images(["train/1.png", str(files[0].resolve()), "val/../train/1.png", "train"]) == [files[0]]


def test_a_config_of_somebodys_own_is_that_of_no_run(tmp_path, monkeypatch):
    """A project with a config.yaml and a model in a folder below it, which no run of ours has made."""
    (tmp_path / "config.yaml").write_text("lr: 1\n")
    for model in ("models/qwen", "checkpoints/qwen", "qwen"):
        (tmp_path / model).mkdir(parents=True)
        (tmp_path / model / "config.json").write_text("{}")
        assert run_config_file(str(tmp_path / model)) is None
    (tmp_path / "qwen" / "config.yaml").write_text("a: hub's own\n")
    assert run_config_file(str(tmp_path / "qwen")) is None
    copied = tmp_path / "checkpoints" / "step-000040" / "model"
    copied.mkdir(parents=True)
    monkeypatch.chdir(copied)
    for name in (".", "..", str(copied)):
        assert run_config_file(name) == tmp_path / "config.yaml"
    (tmp_path / "environment.json").write_text("{}")  # a run, and a checkpoint that somebody has called best
    assert run_config_file(str(tmp_path / "qwen")) == tmp_path / "config.yaml"


def test_the_name_on_a_server_without_a_server_is_refused(tmp_path, capsys):
    file = picture(tmp_path / "a.png")
    assert main(["predict", str(file), "--ask", "cat", "--server-model", "x"]) == 2
    assert "--server-model is the name on a server; say which with --server URL" in capsys.readouterr().err


def test_damage_is_seen_from_inside_of_a_checkpoint(tmp_path, monkeypatch):
    model = tmp_path / "checkpoints" / "step-000040" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    write_manifest(model.parent)
    (model / "config.json").write_text("{ }")
    for folder in (model, model.parent):
        monkeypatch.chdir(folder)
        with pytest.raises(ModelError, match="is damaged"):
            model_folder(".")


@pytest.mark.parametrize(
    ("task", "answer", "boxes"),
    [
        ("grounding", "(0,0),(500,500)", [[0.0, 0.0, 100.0, 50.0]]),
        ("classification", "red poppy", []),
        ("detection", "nonsense", []),
    ],
)
def test_the_other_tasks(task, answer, boxes, tmp_path):
    file = picture(tmp_path / "1.png")
    asker = Asker(LocalModel(FakePolicy(lambda _: f"<think>x</think><answer>{answer}</answer>")), load_task(task))
    result = predict_files(asker, [file], ["it"], tmp_path / "out", Numbering([file], ["it"], None))
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["bbox"] for row in found] == boxes
    assert all(row["score"] == 1.0 for row in found)
    assert sum(result["failures"].values()) == (task == "detection")
    assert (tmp_path / "out" / "pictures" / "1.png").is_file()


def test_all_broken_is_an_error(tmp_path):
    file = tmp_path / "1.png"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 1 images could be read; the first: .*the file is empty"):
        predict_files(detector(), [file], ["cat"], tmp_path / "out", Numbering([file], ["cat"], None))


def test_the_command_goes_on_and_ends_with_1(tmp_path, model_folders, capsys):
    model = str(model_folders["qwen3_vl"])
    picture(tmp_path / "in" / "1.png")
    (tmp_path / "in" / "2.png").write_bytes(b"\x89PNG\r\n")
    line = ["predict", str(tmp_path / "in"), "--ask", "cat", "--model", model, "--json", "--out",
            str(tmp_path / "out")]  # fmt: skip
    assert main(line) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == 1
    assert "warning: " in captured.err
    assert main(line) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "in" / "2.png").unlink()
    assert main([*line[:-1], str(tmp_path / "again")]) == 0


def test_a_task_that_needs_more_than_a_name(tmp_path):
    file = picture(tmp_path / "1.png")
    (tmp_path / "mine.py").write_text(
        "from visual_rft.tasks import Detection\n"
        "class Mine(Detection):\n"
        "    def prompt(self, question, space):\n"
        "        return question['language']\n"
    )
    asker = Asker(LocalModel(FakePolicy(lambda _: "")), load_task(f"{tmp_path}/mine.py:Mine"))
    with pytest.raises(ConfigError, match="needs question\\['language'\\]"):
        asker.ask([("1", ImageFile(file).load())], ["cat"])


def test_a_run_stands_for_its_newest_checkpoint(tmp_path, model_folders):
    """A model is found by its run, its checkpoint or itself, and so is the config of its run."""
    run = tmp_path / "run"
    run.mkdir()
    config = Config().model_copy(update={"task": Config().task.model_copy(update={"name": "grounding"})})
    (run / "config.yaml").write_text(dump_config(config))
    with pytest.raises(ModelError, match="has no checkpoint yet"):
        model_folder(str(run))
    for name in ("step-000005", "step-000010", "step-000020.unfinished"):
        shutil.copytree(model_folders["qwen3_vl"], run / "checkpoints" / name / "model")
        write_manifest(run / "checkpoints" / name)
    newest = run / "checkpoints" / "step-000010"
    for name in (run, newest, newest / "model"):
        assert model_folder(str(name)) == str(newest / "model")
        assert run_config_file(str(name)) == run / "config.yaml"
    assert model_folder(str(run / "checkpoints" / "step-000005")).endswith("step-000005/model")
    assert model_folder("tiny") == str(EMBEDDED)
    assert model_folder("some/hub-id") == "some/hub-id"
    assert run_config_file("tiny") is None
    assert Asker.load(str(run)).task.name == "grounding"
    assert Asker.load(str(run), "classification").task.name == "classification"
    asked = Asker.load(str(run), "detection", style="native", scores="tokens").task
    assert (asked.style, asked.notation, asked.scores) == ("native", "bbox_2d", "tokens")
    assert Asker.load(str(run), style="plain").task.style == "plain"
    with pytest.raises(ConfigError, match="classification answers without boxes in a notation"):
        Asker.load(str(run), "classification", style="plain")
    with pytest.raises(ModelError, match="is not a model folder"):
        model_folder(str(tmp_path))
