"""``visual-rft init --data``: what is found in a folder, and that what is written passes ``check``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.pictures import coco_content, coco_folder, picture, tables_stay_here  # noqa: F401

from visual_rft.cli.main import main
from visual_rft.config.config import load_config
from visual_rft.config.sources import SourceConfig
from visual_rft.data.recognise import recognise
from visual_rft.data.sources import load_dataset
from visual_rft.errors import DataError

pytestmark = pytest.mark.usefixtures("tables_stay_here")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Drawn scenes and flowers in every format that can be written."""
    folder = tmp_path_factory.mktemp("data")
    shapes, flowers = ("--format", "shapes", "--count", "7"), ("--format", "flowers", "--count", "48")
    for source, to, name in (
        (shapes, "coco", "coco"), (shapes, "jsonl", "jsonl"), (shapes, "parquet", "parquet"),
        (flowers, "imagefolder", "imagefolder"), (flowers, "parquet", "names"),
    ):  # fmt: skip
        assert main(["data", "convert", *source, "--to", to, "--out", str(folder / name)]) == 0
    for to in ("yolo", "voc"):
        command = ["data", "convert", "--format", "coco", "--path", str(folder / "coco"), "--to", to]
        assert main([*command, "--out", str(folder / to)]) == 0
    return folder


def init(capsys, *arguments: str) -> str:
    """What it prints."""
    capsys.readouterr()
    assert main(["init", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "format", "task"),
    [
        ("coco", "coco", "detection"),
        ("yolo", "yolo", "detection"),
        ("yolo/data.yaml", "yolo", "detection"),
        ("voc", "voc", "detection"),
        ("jsonl", "jsonl", "detection"),
        ("imagefolder", "imagefolder", "classification"),
        ("names", "parquet", "classification"),
        ("parquet/data.parquet", "parquet", "detection"),
    ],
)
def test_every_format_is_found_and_what_is_written_passes_check(
    data, tmp_path, monkeypatch, capsys, name, format, task
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "data")
    said = init(capsys, "--data", f"data/{name}", "--out", "mine.yaml")
    assert said.startswith("mine.yaml: written\n")
    assert said.splitlines()[-3:] == [
        "  visual-rft check mine.yaml", "  visual-rft train mine.yaml", "  visual-rft report runs/mine"
    ]  # fmt: skip
    config = load_config("mine.yaml", needs=("train", "evaluation"))
    assert (config.data.train[0].format, config.task.name) == (format, task)
    assert (config.data.train[0].part, config.data.evaluation[0].part) == ("train", "held_out")
    assert Path("mine.yaml").read_text().startswith("# visual-rft train mine.yaml\n# visual-rft check mine.yaml ")
    assert main(["check", "mine.yaml", "--samples", "1000"]) == 0, capsys.readouterr().out
    assert main(["init", "--data", f"data/{name}", "--out", "mine.yaml"]) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "questions"), [("coco", "present"), ("parquet", "present"), ("names", "name")])
def test_no_image_is_in_both_parts_and_none_is_lost(data, name, questions):
    source = SourceConfig(source="coco" if name == "coco" else "parquet", path=str(data / name))
    whole, train, held_out = (
        {image.image.key for image in load_dataset(source.model_copy(update={"part": part}), questions).images}
        for part in (None, "train", "held_out")
    )
    assert not train & held_out
    assert train | held_out == whole
    assert len(held_out) == max(1, len(whole) // 5)


def test_a_question_about_several_images_is_on_one_side(tmp_path):
    for i in range(10):
        picture(20, 20, i).save(tmp_path / f"{i}.png")
    rows = [{"images": [f"{i}.png", f"{i + 1}.png"], "question": {"problem": "?"}, "truth": {"label": "a"}}
            for i in range(9)]  # fmt: skip
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = SourceConfig(source="jsonl", path=str(file))
    shown = []
    for part in ("train", "held_out"):
        samples = load_dataset(source.model_copy(update={"part": part}), "name").samples
        shown.append({sample.id for sample in samples})
    assert not shown[0] & shown[1]
    assert len(shown[0]) + len(shown[1]) == 9
    assert shown[1] == {"4", "5"}, "those that show the fifth picture, 4.png"


@pytest.mark.parametrize("layout", ["roboflow yolo", "roboflow coco", "instances", "classes in splits", "voc lists"])
def test_splits_are_found(tmp_path, layout, capsys, monkeypatch):
    """Of train, val and test it trains on the first and holds out the second, and says that it leaves the third."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    for number, split in enumerate(("train", "valid", "test")):
        if layout == "roboflow yolo":
            for i in range(2):
                file = root / split / "images" / f"{split}{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(60, 50, 10 * number + i).save(file)
                (root / split / "labels").mkdir(exist_ok=True)
                (root / split / "labels" / f"{split}{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
            names = {"train": "../train/images", "val": "../valid/images", "test": "../test/images", "names": ["cat"]}
            (root / "data.yaml").write_text(yaml.safe_dump(names))
        elif layout == "roboflow coco":
            folder = coco_folder(root / split)
            (folder / "annotations.json").rename(folder / "_annotations.coco.json")
        elif layout == "instances":
            folder = coco_folder(tmp_path / f"made-{split}")
            shutil.copytree(folder / "images", root / f"{split.replace('valid', 'val')}2017")
            (root / "annotations").mkdir(exist_ok=True)
            file = root / "annotations" / f"instances_{split.replace('valid', 'val')}2017.json"
            file.write_text(json.dumps(coco_content()))
            (root / "annotations" / f"captions_{split}2017.json").write_text("{}")
        elif layout == "classes in splits":
            for label in ("cat", "dog"):
                (root / split / label).mkdir(parents=True)
                picture(40, 40, number).save(root / split / label / "1.png")
        else:
            for kind in ("Annotations", "JPEGImages", "ImageSets/Main"):
                (root / kind).mkdir(parents=True, exist_ok=True)
            picture(60, 50, number).save(root / "JPEGImages" / f"{split}.png")
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
            content = f"<annotation><object><name>cat</name>{box}</object></annotation>"
            (root / "Annotations" / f"{split}.xml").write_text(content)
            (root / "ImageSets" / "Main" / f"{split.replace('valid', 'val')}.txt").write_text(f"{split}\n")
            (root / "ImageSets" / "Main" / f"cat_{split}.txt").write_text(f"{split} 1\n")
    said = init(capsys, "--data", "set")
    assert "split train" in said
    assert "not used: test" in said
    config = load_config("set.yaml", needs=("train", "evaluation"))
    files = [{image.image.key for image in load_dataset(source, "present").images}
             for source in (config.data.train[0], config.data.evaluation[0])]  # fmt: skip
    assert all("train" in key for key in files[0])
    assert all("val" in key for key in files[1])
    assert main(["check", "set.yaml"]) == 0, capsys.readouterr().out


def test_rows_that_cannot_be_used_are_left_out_and_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = coco_folder(tmp_path / "set")
    content = coco_content()
    content["annotations"][0]["bbox"] = [900, 900, 5, 5]
    (folder / "annotations.json").write_text(json.dumps(content))
    said = init(capsys, "--data", "set")
    assert "left out (broken: skip): 1 x " in said
    assert "annotations.json: " in said, "an example"
    assert load_config("set.yaml").data.train[0].broken == "skip"
    assert main(["check", "set.yaml"]) == 0, capsys.readouterr().out


def test_long_answers_get_the_room_they_need(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = coco_folder(tmp_path / "set")
    content = coco_content()
    content["annotations"] += [{"id": i, "image_id": 2, "category_id": 17, "bbox": [i, i, 20, 20]} for i in range(25)]
    (folder / "annotations.json").write_text(json.dumps(content))
    init(capsys, "--data", "set")
    assert load_config("set.yaml").rollout.max_new_tokens > 400
    assert main(["check", "set.yaml"]) == 0, capsys.readouterr().out


def test_paths_lead_from_the_config_to_the_data(tmp_path, capsys, monkeypatch):
    coco_folder(tmp_path / "photos")
    (tmp_path / "configs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    init(capsys, "--data", "photos", "--out", "configs/mine.yaml")
    assert "path: ../photos\n" in Path("configs/mine.yaml").read_text()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Path(load_config("../configs/mine.yaml").data.train[0].path) == tmp_path / "photos"


def test_what_a_zip_archive_leaves_and_what_is_no_data_set(tmp_path):
    coco_folder(tmp_path / "outer" / "inner")
    assert recognise(tmp_path / "outer").splits == {"all": {"path": str(tmp_path / "outer" / "inner")}}
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.jpg")
    with pytest.raises(DataError, match=r"no format that is known; it holds 1 x \.jpg\. Read are COCO"):
        recognise(tmp_path / "photos")
    with pytest.raises(DataError, match="there is no such file or folder"):
        recognise(tmp_path / "none")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match="is no data set; name a folder"):
        recognise(tmp_path / "a.csv")


def test_init_wants_data_or_a_name(capsys):
    assert main(["init"]) == 2
    assert "name your data (--data PATH) or a config of the package" in capsys.readouterr().err
    assert main(["init", "qwen2-vl-2b/lisa", "--model", "x"]) == 2
    assert "--model goes with --data" in capsys.readouterr().err
