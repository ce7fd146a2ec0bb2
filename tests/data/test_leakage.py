"""Held-out images that are training images are named: by check, at the start of a run, and by evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import picture
from support.runs import config as run_config

from visual_rft.cli.main import main
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import PresentClasses
from visual_rft.data.lazy import LabelsAlone
from visual_rft.data.leakage import _pictures, find_leakage
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.data.sources import load_samples
from visual_rft.tasks import Sample, load_task
from visual_rft.training.rft import train
from visual_rft.vision.images import ImageFile


def samples(*files: Path) -> list[Sample]:
    """A question about each file."""
    return [Sample(str(file), (ImageFile(file),), "classification", {}, {"label": "a"}) for file in files]


def pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{i}.jpg" for i in range(first, first + count)]
    for i, file in enumerate(files, first):
        picture(90, 70, i).save(file, quality=92)
    return files


def found(training: list[Path], held_out: list[Path]) -> list[tuple[str, str, bool]]:
    leakage = find_leakage(samples(*training), samples(*held_out))
    assert leakage.images == leakage.compared == (len(held_out), len(training))
    return [(Path(pair.held_out).name, Path(pair.training).name, pair.same) for pair in leakage.pairs]


def test_images_that_differ_are_not_leakage(tmp_path):
    training, held_out = pictures(tmp_path / "a", 20), pictures(tmp_path / "b", 6, first=20)
    assert found(training, held_out) == []
    line = find_leakage(samples(*training), samples(*held_out)).line()
    assert line.startswith("no held-out image is among the training images or looks like one (6 compared with 20 tra")


def test_the_same_file_a_link_a_copy_and_what_looks_the_same_are_named(tmp_path):
    training = pictures(tmp_path / "a", 6)
    other = tmp_path / "b"
    other.mkdir()
    (other / "link.jpg").symlink_to(training[1])
    shutil.copy(training[2], other / "copy.jpg")
    with Image.open(training[3]) as opened:
        opened.resize((45, 35)).save(other / "smaller.png")
        opened.transpose(Image.Transpose.ROTATE_90).save(other / "turned.png")
    held_out = [training[0], *(other / name for name in ("link.jpg", "copy.jpg", "smaller.png", "turned.png"))]
    assert found(training, held_out) == [
        ("0.jpg", "0.jpg", True),
        ("link.jpg", "1.jpg", True),
        ("copy.jpg", "2.jpg", True),
        ("smaller.png", "3.jpg", False),
    ]
    line = find_leakage(samples(*training), samples(*held_out)).line(named=2)
    assert line.startswith("leakage: 4 of 5 held-out images are training images or look the same, so their numbers are")
    assert f"{training[0]} is trained on; {other / 'link.jpg'} is {training[1]}; and 2 more" in line


def test_pictures_that_are_made_are_compared_by_key():
    task = load_task("detection")
    first, again, other = (
        load_samples([SourceConfig(source="shapes", count=5, seed=seed)], task) for seed in (0, 0, 1)
    )
    assert len(find_leakage(first, again).pairs) == 5
    assert find_leakage(first, other).pairs == []
    moved = load_samples([SourceConfig(source="shapes", count=5, copies=2)], task)
    assert len(find_leakage(moved, again).pairs) == 5


def test_the_limit_of_seconds_is_kept_and_said(tmp_path):
    training, held_out = pictures(tmp_path / "a", 8), pictures(tmp_path / "b", 4, first=20)
    leakage = find_leakage(samples(*training), samples(*held_out), seconds=0.0)
    assert leakage.pairs == []
    assert leakage.images == (4, 8)
    assert leakage.compared == (0, 0)
    assert "(0 of 4 compared with 0 of 8 training images in " in leakage.line()


def test_an_image_that_cannot_be_opened_is_left_to_its_reader(tmp_path):
    training = pictures(tmp_path / "a", 3)
    training[1].write_bytes(b"broken")
    leakage = find_leakage(samples(*training), samples(tmp_path / "none.png", training[0]))
    assert [pair.training for pair in leakage.pairs] == [str(training[0])]


@pytest.fixture
def classes(tmp_path) -> Path:
    """Training and evaluation data of two classes; one held-out image is a training image, saved anew."""
    for i, label in enumerate(("cat", "dog")):
        pictures(tmp_path / "data" / "train" / label, 3, first=10 * i)
        pictures(tmp_path / "data" / "val" / label, 2, first=100 + 10 * i)
    with Image.open(tmp_path / "data" / "train" / "cat" / "1.jpg") as opened:
        opened.save(tmp_path / "data" / "val" / "cat" / "again.png")
    return tmp_path / "data"


def run_on(data: Path, folder: Path, model: Path):
    sources = {part: [{"source": "imagefolder", "path": str(data), "split": split}]
               for part, split in (("train", "train"), ("evaluation", "val"))}  # fmt: skip
    return run_config(folder, model, data=sources, task={"name": "classification"}, run={"steps": 1})


def test_check_train_and_evaluate_name_it(classes, tmp_path, model_folders, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = run_on(classes, tmp_path / "run", model_folders["qwen3_vl"])
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(settings.model_dump(mode="json")))
    named = (
        f"leakage: 1 of 5 held-out images are training images or look the same, so their numbers are not held out: "
        f"{classes / 'val' / 'cat' / 'again.png'} looks like {classes / 'train' / 'cat' / '1.jpg'} (5 compared with 6"
    )
    assert main(["check", str(file), "--rollout.max_new_tokens", "100"]) == 0
    assert f"warning: {named}" in capsys.readouterr().err
    assert main(["train", str(file)]) == 0
    assert f"warning: {named}" in capsys.readouterr().err
    noted = json.loads((tmp_path / "run" / "data.json").read_text())["leakage"]
    assert (noted["leaked"], noted["same"], noted["held_out_images"], noted["training_images"]) == (1, 0, 5, 6)
    assert noted["pairs"][0]["training"].endswith("train/cat/1.jpg")
    assert main(["evaluate", "--model", "run"]) == 0
    shown = capsys.readouterr().err
    assert "warning: run: leakage: 1 of 5 images were trained on or look like those that were" in shown
    assert "again.png" in shown
    # Other data than the run's own: its training data are read again.
    assert main(["evaluate", "run.yaml", "--model", "run", "--data.evaluation.0.split", "train"]) == 0
    assert "warning: run: leakage: 6 of 6 held-out images are training images" in capsys.readouterr().err
    # A model that no run is behind has seen nothing that anybody knows of.
    assert main(["evaluate", "run.yaml", "--model", str(model_folders["qwen3_vl"])]) == 0
    assert "leakage" not in capsys.readouterr().err
    shutil.rmtree(classes / "train")
    assert main(["evaluate", "run.yaml", "--model", "run", "--data.evaluation.0.count", "2"]) == 0
    assert "whether these images were trained on is not known" in capsys.readouterr().err


def test_a_run_without_leakage_says_nothing_and_notes_it(classes, tmp_path, model_folders, capsys):
    (classes / "val" / "cat" / "again.png").unlink()
    settings = run_on(classes, tmp_path / "run", model_folders["qwen3_vl"])
    train(settings)
    assert "leakage" not in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "data.json").read_text())["leakage"]["leaked"] == 0
    train(settings.model_copy(update={"run": settings.run.model_copy(update={"steps": 2})}), resume=True)


def test_the_pictures_of_the_questions_are_those_of_the_images():
    samples = PresentClasses(Shapes(7, seed=2), Shapes.classes, absent_rate=0.5)
    wanted = list(dict.fromkeys(sample.images[0].key for sample in samples))
    assert [image.key for image in samples.pictures()] == wanted
    assert [image.key for image in _pictures(LabelsAlone(samples))] == wanted
    assert [image.key for image in _pictures(list(samples))][:1] == wanted[:1]
