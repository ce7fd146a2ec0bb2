"""From a YOLO folder nobody has seen to a trained, evaluated, drawn model: five commands, and no file is edited."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from PIL import Image
from support.pictures import picture

from visual_rft.cli.main import main


def yolo_folder(folder: Path) -> Path:
    """Ten pictures of bolts and nuts as an exporter writes them: two splits, a picture without objects, a polygon."""
    for split, count in (("train", 7), ("valid", 3)):
        for i in range(count):
            name = f"IMG {i:03d}_{split}"
            for kind in ("images", "labels"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            picture(120 + i, 90, 100 * count + i).save(folder / split / "images" / f"{name}.jpg")
            lines = [f"{i % 2} 0.4 0.5 0.3 0.4", "1 0.7 0.2 0.9 0.2 0.8 0.4"][: 1 + i % 2] if i != 2 else []
            (folder / split / "labels" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    content = {"train": "../train/images", "val": "../valid/images", "nc": 2, "names": ["bolt", "nut"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    (folder / "README.roboflow.txt").write_text("exported")
    return folder


def test_five_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    yolo_folder(tmp_path / "screws")

    # 1: a config of what is there. The flags of 3 only make the training short.
    assert main(["init", "--data", "screws"]) == 0
    said = capsys.readouterr().out
    assert "a YOLO data set; 2 classes: bolt, nut" in said
    assert "split train" in said
    assert "split val" in said
    written = Path("screws.yaml").read_text()

    # 2: it is sound.
    assert main(["check", "screws.yaml"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "no violation"
    assert "no held-out image is among the training images" in shown.out
    with Image.open("check.png") as sheet:
        assert sheet.width == 1600

    # 3: trained, and measured before and after.
    short = ["--run.steps", "2", "--run.prompts_per_batch", "2", "--rollout.group_size", "2"]
    assert main(["train", "screws.yaml", *short, "--rollout.max_new_tokens", "24"]) == 0
    said = capsys.readouterr().out
    assert "held-out images                 base  after RFT   change" in said
    assert Path("runs/screws/report.html").is_file()
    summary = json.loads(Path("runs/screws/summary.json").read_text())
    assert summary["base"]["n_images"] == summary["evaluation"]["n_images"] == 2, "one of three shows no object"

    # 4: compared with its base on the held-out images.
    assert main(["evaluate", "--model", "tiny", "--model", "runs/screws", "--rollout.max_new_tokens", "24"]) == 0
    capsys.readouterr()
    results = sorted(Path("runs").glob("screws-evaluation/*/result.json"))
    assert len(results) == 2
    assert all(json.loads(file.read_text())["n_images"] == 2 for file in results)

    # 5: drawn on the pictures.
    assert main(["predict", "screws/valid/images", "--ask", "bolt", "--ask", "nut", "--model", "runs/screws"]) == 0
    drawn = sorted(Path("predictions/pictures").iterdir())
    assert [file.name for file in drawn] == [f"IMG {i:03d}_valid.png" for i in range(3)]
    assert len(json.loads(Path("predictions/annotations.json").read_text())["images"]) == 3

    assert Path("screws.yaml").read_text() == written
    assert len(list(Path("screws").rglob("*.jpg"))) == 10
    assert not list(Path("screws").rglob("*.png")), "nothing is written among the data"
