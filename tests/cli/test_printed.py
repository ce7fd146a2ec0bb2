"""What verbs print for people: tables whose numbers are those of ``--json``."""

from __future__ import annotations

import json

import pytest
from support.box_sets import random_set
from support.pictures import coco_folder

from visual_rft.cli.main import main
from visual_rft.cli.printed import MAX_ROWS, answer_text, columns, files_text, info_text


def test_a_file_of_predictions_is_a_table(tmp_path, capsys):
    truth, results = random_set(5)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "pred.json").write_text(json.dumps(results))
    command = ["evaluate", "detection", "--annotations", str(tmp_path / "gt.json"), "--predictions",
               str(tmp_path / "pred.json"), "--report", str(tmp_path / "report.json")]  # fmt: skip
    assert main(command) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    report = json.loads((tmp_path / "report.json").read_text())
    low, high = report["intervals"]["AP"]
    assert ["AP", f"{report['AP']:.3f}", f"[{low:.3f}, {high:.3f}]"] in rows
    for name, ap in report["per_class"].items():
        assert [name, "undefined" if ap == -1 else f"{ap:.3f}"] in rows


def test_data_info_prints_the_counts_of_its_json(tmp_path, capsys):
    command = ["data", "info", "--format", "coco", "--path", str(coco_folder(tmp_path / "data"))]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    ((name, part),) = json.loads(capsys.readouterr().out)["parts"].items()
    assert printed.startswith(f"{name}\nimages ")
    rows = [line.split() for line in printed.splitlines()]
    for label, row in part["classes"].items():
        assert [*label.split(), str(row["images"]), str(row["objects"])] in rows
    assert not printed.lstrip().startswith("{")


def test_near_duplicates_and_broken_images_are_named():
    part = {
        "images": 2, "objects": 0, "expressions": 0, "images_without_objects": 2, "crowd_regions": 0, "width": [],
        "height": [], "box_side": [], "classes": {}, "left_out": {"box without area": 3},
        "left_out_examples": ["row 7"], "unreadable_images": 1, "unreadable_examples": ["a.jpg: truncated"],
    }  # fmt: skip
    alike = {"across": 1, "within": 0, "pairs": [["train/a.png", "evaluation/a.png"]]}
    text = info_text({"parts": {"train": part}, "near_duplicates": alike})
    for words in ("3 x box without area", "row 7", "a.jpg: truncated", "1 pairs across parts",
                  "train/a.png  =  evaluation/a.png"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("answer", "failure", "words"),
    [
        ({"boxes": [[1.4, 2, 30, 40]], "confidence": [0.5]}, None, "box 1, 2, 30, 40 (pixels)  confidence 0.50"),
        ({"boxes": [], "confidence": []}, None, "no objects"),
        ([1, 2, 30, 40], None, "box 1, 2, 30, 40 (pixels)"),
        ("poppy", None, "answer    poppy"),
        (None, "no answer block", "could not be read: no answer block"),
    ],
)
def test_an_answer_in_words(answer, failure, words):
    row = {"ask": "it", "text": "TEXT", "answer": answer, "failure": failure, "notes": [], "picture": "p.png"}
    text = answer_text(row)
    assert words in text
    assert text.endswith("TEXT")


def test_many_images_in_words():
    text = files_text({"images": 3, "questions": 6, "boxes": 4, "folder": "out", "unreadable": ["b.png: empty"],
                       "failures": {"no answer block": 2}})  # fmt: skip
    assert "no answer block" in text
    assert "b.png: empty" in text
    assert "out" in text


def test_a_long_table_says_what_it_leaves_out():
    text = columns(["class", "n"], [[f"c{n}", n] for n in range(MAX_ROWS + 5)])
    assert text.count("\n") == MAX_ROWS + 1
    assert text.endswith("... and 5 more (--json prints all)")
