"""The detection protocols on a folder of three images, every number by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.fake_policy import FakePolicy

from visual_rft.answering.answering import answer
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import scored
from visual_rft.config.name_list import name_list
from visual_rft.config.sources import SourceConfig
from visual_rft.errors import ConfigError, DataError
from visual_rft.evaluation.measures import measure_detection
from visual_rft.evaluation.protocols import detection_set
from visual_rft.tasks import Detection
from visual_rft.tasks.samples import Prediction

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}, {"id": 5, "name": "cow"}]
BOXES = {  # image: class: boxes
    70: {"cat": [[0, 0, 50, 50]], "dog": [[50, 50, 40, 40]]},
    20: {"cat": [[10, 10, 80, 80]]},
    50: {},
}


def annotations() -> list[dict]:
    numbers = {row["name"]: row["id"] for row in CATEGORIES}
    rows = [
        {"image_id": image, "category_id": numbers[name], "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image, classes in BOXES.items()
        for name, boxes in classes.items()
        for box in boxes
    ]
    return [{"id": number, **row} for number, row in enumerate(rows, 1)]


def write_folder(folder: Path, rows: list[dict], **image_fields) -> list[SourceConfig]:
    folder.mkdir()
    for image in BOXES:
        Image.new("RGB", (100, 100)).save(folder / f"{image}.png")
    images = [
        {"id": i, "file_name": f"{i}.png", "width": 100, "height": 100, **{k: v[i] for k, v in image_fields.items()}}
        for i in BOXES
    ]
    content = {"images": images, "annotations": rows, "categories": CATEGORIES}
    (folder / "annotations.json").write_text(json.dumps(content))
    return [SourceConfig(source="coco", path=str(folder))]


def knows_cats(prompt) -> str:
    """Finds the cat of image 70 exactly, sees a cow in the empty image, and nothing else; names cats and cows."""
    image = Path(prompt.images[0].key).stem
    if prompt.text.startswith("Which"):
        return f"<think>x</think><answer>{'cow' if image == '50' else 'cat'}</answer>"
    found = {("70", "cat"): "[0, 0, 500, 500]", ("50", "cow"): "[0, 0, 300, 300]"}
    for (where, name), box in found.items():
        if image == where and f"Find every {name} " in prompt.text:
            return f"<think>x</think><answer>[{{'Position': {box}, 'Confidence': 0.80}}]</answer>"
    return "<think>x</think><answer>No Objects</answer>"


def evaluated(sources, protocol, classes=None, rules="coco"):
    data = detection_set(sources, classes, rules, lambda _: None)
    policy = FakePolicy(knows_cats)
    images = answer(LocalModel(policy), Detection(), data.questions(protocol))
    predictions = [scored(Detection(), row.answers) for row in images]
    results = data.results(predictions)
    asked = [(p.sample.images[0].key[-6:-4], p.sample.question["category"]) for row in predictions for p in row]
    return measure_detection(Detection(), data.truth, results, predictions, rules), results, asked


def test_present_asks_what_is_there(tmp_path):
    measured, results, asked = evaluated(write_folder(tmp_path / "d", annotations()), "present")
    assert asked == [("70", "cat"), ("70", "dog"), ("20", "cat")]
    assert results == [{"image_id": 70, "category_id": 3, "bbox": [0, 0, 50, 50], "score": 0.8}]
    # cat: one of two found, right: recall 1/2 at precision 1, 51 of 101 points. dog: none of one. cow: no true box.
    assert measured.numbers["AP"] == pytest.approx((51 / 101 + 0) / 2)
    assert measured.per_class == {
        "cat": {"AP": pytest.approx(51 / 101), "n_boxes": 2},
        "dog": {"AP": 0, "n_boxes": 1},
        "cow": {"AP": -1, "n_boxes": 0},
    }
    # The cat in image 20 is 0 here: the box of image 70 is another image's.
    assert measured.numbers["mean_iou"] == pytest.approx(1 / 3)
    assert (measured.numbers["n_images"], measured.numbers["n_questions"]) == (3, 3)
    assert (measured.numbers["n_boxes"], measured.numbers["n_predicted"]) == (3, 1)


def test_all_asks_everything(tmp_path):
    measured, results, asked = evaluated(write_folder(tmp_path / "d", annotations()), "all")
    assert asked == [(image, name) for image in ("70", "20", "50") for name in ("cat", "dog", "cow")]
    assert [(row["image_id"], row["category_id"]) for row in results] == [(70, 3), (50, 5)]
    assert measured.numbers["AP"] == pytest.approx(51 / 101 / 2), "cow has no true box: its false alarm has no AP"
    assert measured.numbers["n_questions"] == 9


def test_said_asks_what_the_model_says(tmp_path):
    measured, _, asked = evaluated(write_folder(tmp_path / "d", annotations()), "said")
    assert asked == [("70", "cat"), ("20", "cat"), ("50", "cow")], "the dog was not said, so it is missed"
    assert measured.numbers["AP"] == pytest.approx(51 / 101 / 2)
    assert measured.numbers["n_boxes"] == 3


def test_only_some_classes(tmp_path):
    sources = write_folder(tmp_path / "d", annotations())
    measured, _, asked = evaluated(sources, "all", ["dog", "cow"])
    assert {name for _, name in asked} == {"dog", "cow"}
    assert measured.numbers["AP"] == 0
    assert set(measured.per_class) == {"dog", "cow"}
    with pytest.raises(ConfigError, match="--classes: there is no class 'horse'"):
        evaluated(sources, "all", ["horse"])


def test_a_crowd_is_no_object_to_be_found(tmp_path):
    """A crowd of cows in image 50: not asked for as present, and no true box."""
    crowd = {"id": 9, "image_id": 50, "category_id": 5, "bbox": [0, 0, 60, 60], "area": 2000, "iscrowd": 1}
    cow = {"id": 10, "image_id": 20, "category_id": 5, "bbox": [0, 0, 30, 30], "area": 900, "iscrowd": 0}
    sources = write_folder(tmp_path / "d", [*annotations(), crowd, cow])
    measured, _, asked = evaluated(sources, "present")
    assert ("50", "cow") not in asked
    assert measured.numbers["n_boxes"] == 4
    measured, results, _ = evaluated(sources, "all")
    assert {"image_id": 50, "category_id": 5, "bbox": [0, 0, 30, 30], "score": 0.8} in results
    assert measured.per_class["cow"] == {"AP": 0, "n_boxes": 1}
    assert measured.numbers["AR1"] == pytest.approx((0.5 + 0 + 0) / 3)


def test_the_files_own_areas_count(tmp_path):
    """The same boxes with the area of a thin mask: small instead of medium."""
    medium, _, _ = evaluated(write_folder(tmp_path / "a", annotations()), "present")
    small, _, _ = evaluated(write_folder(tmp_path / "b", [{**a, "area": 500} for a in annotations()]), "present")
    assert (medium.numbers["APs"], small.numbers["APm"]) == (-1, -1)
    assert medium.numbers["APm"] >= 0
    assert small.numbers["APs"] >= 0


def test_lvis_asks_what_was_looked_for(tmp_path):
    negatives, none = {70: [], 20: [5], 50: [3]}, {image: [] for image in BOXES}
    sources = write_folder(tmp_path / "d", annotations(), neg_category_ids=negatives, not_exhaustive_category_ids=none)
    file = tmp_path / "d" / "annotations.json"
    content = json.loads(file.read_text())
    for row in content["categories"]:
        row["frequency"] = "r"
    file.write_text(json.dumps(content))
    measured, _, asked = evaluated(sources, "all", rules="lvis")
    assert asked == [("70", "cat"), ("70", "dog"), ("20", "cat"), ("20", "cow"), ("50", "cat")]
    assert measured.numbers["APr"] == measured.numbers["AP"] == pytest.approx(51 / 101 / 2)


def test_lvis_rules_need_lvis_annotations(tmp_path):
    with pytest.raises(DataError, match=r"images\[0\]: neg_category_ids is None; --rules lvis needs a list"):
        evaluated(write_folder(tmp_path / "d", annotations()), "all", rules="lvis")
    with pytest.raises(ConfigError, match="--rules lvis needs one COCO folder"):
        evaluated([SourceConfig(source="shapes", count=2)], "all", rules="lvis")


def test_sources_without_a_file_are_numbered(tmp_path):
    sources = [SourceConfig(source="shapes", count=2), SourceConfig(source="digits", count=1, split="test")]
    data = detection_set(sources, None, "coco", lambda _: None)
    assert [row["id"] for row in data.truth["images"]] == [1, 2, 3]
    assert len(data.truth["categories"]) == 40
    names = {row["id"]: row["name"] for row in data.truth["categories"]}
    for number, image in enumerate(data.images, 1):
        rows = [a for a in data.truth["annotations"] if a["image_id"] == number]
        assert [names[a["category_id"]] for a in rows] == list(image.labels)
        assert [(a["bbox"][0], a["bbox"][0] + a["bbox"][2]) for a in rows] == [
            pytest.approx((x1, x2)) for x1, _, x2, _ in image.boxes
        ]


def test_two_ids_of_one_name_are_one_class_and_asked_about_once(tmp_path):
    """A gold answer earns AP 1; with a class per id half of the true boxes could never be found."""
    sources = write_folder(tmp_path / "d", annotations())
    file = tmp_path / "d" / "annotations.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": " cat "}]
    boxes = [[0, 0, 50, 50], [50, 50, 40, 40]]
    content["annotations"] = [
        {"id": n, "image_id": 70, "category_id": n, "bbox": box, "area": 1600, "iscrowd": "0"}
        for n, box in enumerate(boxes, 1)
    ]
    file.write_text(json.dumps(content))
    data = detection_set(sources, None, "coco", lambda _: None)
    assert [row["id"] for row in data.truth["categories"]] == [1]
    asked = [sample for questions in data.questions("all") for sample in questions.samples]
    assert [sample.id for sample in asked] == ["70/cat", "20/cat", "50/cat"]
    task = Detection()
    predictions = [
        [Prediction(s, task.gold(s.truth), task.score(task.gold(s.truth), s.truth)) for s in questions.samples]
        for questions in data.questions("all")
    ]
    measured = measure_detection(task, data.truth, data.results(predictions), predictions, "coco")
    assert measured.numbers["AP"] == 1.0


def test_the_heading_of_other_categories_is_not_asked_about_under_any_protocol(tmp_path):
    sources = write_folder(tmp_path / "d", annotations())
    file = tmp_path / "d" / "annotations.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 0, "name": "animals", "supercategory": "none"},
                             *({**row, "supercategory": "animals"} for row in content["categories"])]  # fmt: skip
    file.write_text(json.dumps(content))
    data = detection_set(sources, None, "coco", lambda _: None)
    assert {s.question["category"] for q in data.questions("all") for s in q.samples} == {"cat", "dog", "cow"}


BROKEN = {
    "outside": lambda rows: rows[0].update(bbox=[90, 0, 50, 50]),
    "no box": lambda rows: rows[0].pop("bbox"),
    "no area": lambda rows: rows[0].update(bbox=[0, 0, 0, 50]),
    "not a number": lambda rows: rows[0].update(bbox=[0, 0, float("nan"), 50]),
    "negative": lambda rows: rows[0].update(bbox=[0, 0, -5, 50]),
    "text": lambda rows: rows[0].update(bbox="0 0 50 50"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_broken_skip_leaves_out_is_neither_truth_nor_asked_about(tmp_path, name):
    """Of two cats in image 70 one has no box: whoever finds both must not be punished, so it is no question there."""
    rows = [*annotations(), {"id": 9, "image_id": 70, "category_id": 3, "bbox": [60, 0, 20, 20], "iscrowd": 0}]
    crowd = {"id": 10, "image_id": 20, "category_id": 8, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    BROKEN[name](rows)
    (source,) = write_folder(tmp_path / "d", [*rows, crowd])
    with pytest.raises(DataError, match="annotation 1"):
        detection_set([source], None, "coco", lambda _: None)
    notes: list[str] = []
    data = detection_set([source.model_copy(update={"broken": "skip"})], None, "coco", notes.append)
    assert ["left out (broken: skip)" in note for note in notes] == [True]
    names = {row["id"]: row["name"] for row in data.truth["categories"]}
    files = {row["id"]: Path(row["file_name"]).stem for row in data.truth["images"]}
    kept = [(files[a["image_id"]], names[a["category_id"]], a["bbox"], a["iscrowd"]) for a in data.truth["annotations"]]
    assert sorted(kept) == [("20", "cat", [10, 10, 80, 80], 0), ("20", "dog", [0, 0, 9, 9], 1),
                            ("70", "dog", [50, 50, 40, 40], 0)]  # fmt: skip
    asked = {q: [s.id for one in data.questions(q) for s in one.samples] for q in ("present", "all")}
    assert asked["present"] == ["70/dog", "20/cat"]
    assert asked["all"] == ["70/cow", "70/dog", "20/cat", "20/cow", "20/dog", "50/cat", "50/cow", "50/dog"]
    task = Detection()
    predictions = [
        [Prediction(s, task.gold(s.truth), task.score(task.gold(s.truth), s.truth)) for s in questions.samples]
        for questions in data.questions("all")
    ]
    measured = measure_detection(task, data.truth, data.results(predictions), predictions, "coco")
    assert measured.numbers["AP"] == 1.0
    with pytest.raises(ConfigError, match="of which nothing is left out"):
        detection_set([source.model_copy(update={"broken": "skip"})], None, "lvis", notes.append)


def test_a_class_whose_name_holds_a_comma_is_named_in_quotes(tmp_path):
    (source,) = write_folder(tmp_path / "d", annotations())
    file = tmp_path / "d" / "annotations.json"
    file.write_text(file.read_text().replace('"cow"', '"mouse, computer"'))
    data = detection_set([source], name_list('"mouse, computer", dog'), "coco", lambda _: None)
    assert [row["name"] for row in data.truth["categories"]] == ["dog", "mouse, computer"]
    with pytest.raises(ConfigError, match=r"no class 'mouse' .*; quote a name that holds a comma: '.mouse, computer.'"):
        detection_set([source], name_list("mouse, computer"), "coco", lambda _: None)
    chosen = SourceConfig(source="coco", path=str(tmp_path / "d"), classes='dog,"mouse, computer"')
    assert chosen.classes == ("dog", "mouse, computer")
