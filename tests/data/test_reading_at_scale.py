"""A large COCO file read in chunks, typed and by columns says the same as the same file read row by row."""

from __future__ import annotations

import json
import pickle
import random

import numpy as np
import pytest
from support.pictures import picture

from visual_rft.data.annotated import PresentClasses
from visual_rft.data.formats import coco_rows, streaming
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.coco_rows import Annotations
from visual_rft.data.formats.reading import Problems
from visual_rft.data.formats.streaming import read_json_rows
from visual_rft.data.lazy import PackedBoxes
from visual_rft.errors import DataError

ODD = {
    "nothing": lambda rng, row: row,
    "a box outside": lambda rng, row: {**row, "bbox": [90, 10, 40, 10]},
    "a box without area": lambda rng, row: {**row, "bbox": [10, 10, 0, 10]},
    "an id twice": lambda rng, row: {**row, "id": 7},
    "a crowd": lambda rng, row: {**row, "iscrowd": 1},
    "an id as text": lambda rng, row: {**row, "image_id": str(row["image_id"])},
    "an id as a float": lambda rng, row: {**row, "category_id": float(row["category_id"])},
    "an image that is not there": lambda rng, row: {**row, "image_id": 999},
    "no box": lambda rng, row: {key: value for key, value in row.items() if key != "bbox"},
    "a box at the edge": lambda rng, row: {**row, "bbox": [90.5, 10, 10, 10]},
    "a number that is none": lambda rng, row: {**row, "bbox": [float("nan"), 1, 2, 3]},
    "text with braces": lambda rng, row: {**row, "note": '}, {"id": 1}, {', "parts": [{"a": 1}, {"b": [{}, {}]}]},
}


def content(odd: str, count: int = 400) -> dict:
    rng = random.Random(odd)
    rows = []
    for number in range(1, count):
        row = {"segmentation": [[1.5, 2, 3]], "id": number, "image_id": rng.randrange(1, 13),
               "category_id": rng.choice([1, 2, 5]), "iscrowd": 0,
               "bbox": [rng.uniform(0, 40), rng.randrange(30), rng.uniform(1, 50), rng.randrange(1, 40)]}  # fmt: skip
        rows.append(ODD[odd](rng, row) if rng.random() < 0.03 else row)
    images = [{"id": i, "file_name": "a.png", "width": 100, "height": 80, "license": 1} for i in range(1, 13)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 5, "name": "cat"}]
    return {"images": images, "annotations": rows, "categories": categories}


def read(folder, monkeypatch, *, at_once: bool):
    with monkeypatch.context() as patch:
        if not at_once:
            patch.setattr(Annotations, "take", lambda self, text: False)
            nothing = lambda rows, names, sizes: ({}, set(), np.ones(len(rows.columns()[0]), bool))  # noqa: E731
            patch.setattr(coco_rows, "_by_columns", nothing)
        problems = Problems(skip=True)
        data = load_coco(folder, problems=problems)
    return [(i.id, i.size, i.labels, i.boxes, i.crowds, i.incomplete) for i in data.images], problems.lines()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t ", ":")], ids=["dense", "usual", "wide"])
def test_rows_taken_at_once_are_the_rows_one_by_one(tmp_path, monkeypatch, odd, separators):
    picture(100, 80).save(tmp_path / "a.png")
    (tmp_path / "annotations.json").write_text(json.dumps(content(odd), separators=separators))
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 2001)  # a dozen rows
    taken = []
    take = Annotations.take
    monkeypatch.setattr(Annotations, "take", lambda self, text: bool(taken.append(take(self, text)) or taken[-1]))
    found = read(tmp_path, monkeypatch, at_once=True)
    assert True in taken, "or this compares a thing with itself"
    assert found == read(tmp_path, monkeypatch, at_once=False)
    assert sum(len(labels) for _, _, labels, *_ in found[0]) > 300


def test_the_first_bad_row_is_named_wherever_it_stands(tmp_path):
    picture(100, 80).save(tmp_path / "a.png")
    bad = content("nothing", 3000)
    bad["annotations"][2500]["bbox"] = [1, 2, 300, 4]
    bad["annotations"][2600]["bbox"] = [1, 2, 0, 4]
    (tmp_path / "annotations.json").write_text(json.dumps(bad))
    with pytest.raises(DataError, match=r"annotation 2501: bbox \[1, 2, 300, 4\] is outside its 100 x 80 image"):
        load_coco(tmp_path)


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_values_are_those_of_the_json_module(tmp_path, monkeypatch, chunk):
    """Other keys, escapes, numbers of every kind, and rows that are no objects."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", chunk)
    rows = [{"a": "}, {", "b": [1e3, -0.0, 10**30, 1.5e-7]}, {"ü": None}, 3, [{}, {}], {"a": {"b": [{}, {"c": "\\"}]}}]
    whole = {"first": [{"x": 1}, {"y": 2}], "rows": rows, "last": {"é": [True, False, None]}}
    (tmp_path / "a.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")

    class Rows(list):
        def take(self, text: str) -> bool:
            try:
                found = json.loads(text)
            except ValueError:
                return False
            self.extend(found)
            return True

    assert read_json_rows(tmp_path / "a.json", {"rows": Rows}) == whole


def test_packed_boxes_are_a_tuple_of_boxes():
    numbers = np.random.default_rng(0).uniform(0, 100, (6, 4))
    packed, plain = PackedBoxes(numbers, 2, 5), tuple(map(tuple, numbers[2:5].tolist()))
    assert packed == plain
    assert plain == packed
    assert packed != plain[:2]
    assert hash(packed) == hash(plain)
    assert list(packed) == list(plain)
    assert packed[1:] == list(plain[1:])
    assert packed[-1] == plain[-1]
    assert pickle.loads(pickle.dumps(packed)) == plain
    assert len(pickle.dumps(PackedBoxes(np.zeros((10_000, 4)), 0, 1))) < 200, "an image takes its own boxes along"
    assert not PackedBoxes(numbers, 3, 3)
    with pytest.raises(IndexError):
        packed[3]


def test_questions_name_classes_that_the_list_of_classes_lacks(tmp_path):
    picture(100, 80).save(tmp_path / "a.png")
    (tmp_path / "annotations.json").write_text(json.dumps(content("nothing")))
    images = load_coco(tmp_path).images
    named = [sample.question["category"] for sample in PresentClasses(images, ["dog"])]
    assert named == ["cat", "dog"] * 12


def test_a_large_file_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    picture(100, 80).save(tmp_path / "a.png")
    (tmp_path / "annotations.json").write_text(json.dumps(content("nothing", 30_000)))
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 500_000)
    monkeypatch.setattr("visual_rft.terminal.progress.FIRST_SECONDS", 0.0)
    load_coco(tmp_path)
    assert capsys.readouterr().err == "", "a small one does not"
    monkeypatch.setattr(streaming, "SHOWN_BYTES", 1_000_000)
    load_coco(tmp_path)
    size = (tmp_path / "annotations.json").stat().st_size // 1_000_000
    assert f"reading annotations.json: 0 of {size} MB" in capsys.readouterr().err
