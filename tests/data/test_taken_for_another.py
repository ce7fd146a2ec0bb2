"""What was once read as another truth than its author meant, or lost without a word: it is refused, read, or said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.pictures import coco_content, coco_folder, picture

from visual_rft.config.sources import SourceConfig
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.coco_results import read_ground_truth
from visual_rft.data.formats.imagefolder import load_imagefolder
from visual_rft.data.formats.jsonl import load_jsonl
from visual_rft.data.formats.lisa import load_lisa
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.formats.voc import load_voc
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.data.recognise import recognise
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task

OBJECT = {"label": "cat", "box": [10, 20, 40, 60]}
TARGET = {"label": "target", "points": [[10, 20], [40, 20], [40, 60]]}


def save(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(100, 80).save(file)
    return file


def write(file: Path, content) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return file


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# COCO


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["images"][0].update(width=1 << 70), "image 1: says 1180591620717411303424 x 80, but"),
        (lambda c: c["categories"][0].update(name=True), "categories[0]: the name True is no text"),
        (lambda c: c["categories"][0].update(name=float("nan")), "categories[0]: the name nan is no text"),
        (lambda c: c["annotations"][0].update(iscrowd=[]), "annotation 100: iscrowd [] is not 0 or 1"),
    ],
)
def test_coco_values_of_another_kind(tmp_path, edit, message):
    folder, content = coco_folder(tmp_path / "data"), coco_content()
    edit(content)
    write(folder / "annotations.json", content)
    with pytest.raises(DataError) as caught:
        check_sizes(load_coco(folder), Problems())
    assert message in one_line(caught)


def test_coco_ids_beyond_64_bits_are_ids(tmp_path):
    folder, content = coco_folder(tmp_path / "data"), coco_content()
    content["images"][2]["id"] = 1 << 70
    content["categories"].append({"id": 1 << 71, "name": "bird"})
    write(folder / "annotations.json", content)
    dataset = load_coco(folder)
    assert [image.labels for image in dataset.images] == [("cat", "dog"), ("cat", "stop sign"), ()]


def test_of_two_coco_images_with_one_id_neither_gets_the_boxes(tmp_path):
    """They were all given to the first."""
    folder, content = coco_folder(tmp_path / "data"), coco_content()
    content["images"][1]["id"] = 1
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] == 1]
    write(folder / "annotations.json", content)
    problems = Problems(skip=True)
    assert [image.id for image in load_coco(folder, problems=problems).images] == ["3"]
    assert problems.counts == {"image id used twice": 2, "annotation of an image that is not there": 2}
    content["images"][1] = content["images"][0]  # the same row twice takes nothing from anybody
    write(folder / "annotations.json", content)
    problems = Problems(skip=True)
    assert load_coco(folder, problems=problems).images[0].labels == ("cat", "dog")
    assert problems.counts == {"image id used twice": 1}


def test_a_key_that_stands_twice_in_json_is_refused(tmp_path):
    folder = coco_folder(tmp_path / "data")
    text = json.dumps(coco_content())
    write(folder / "annotations.json", text[:-1] + ', "annotations": []}')
    with pytest.raises(DataError, match=r"annotations\.json: an object has the key 'annotations' twice; keep one"):
        load_coco(folder)
    save(tmp_path / "a.png")
    file = write(tmp_path / "data.jsonl", '{"image": "a.png", "label": "cat", "label": "dog"}')
    with pytest.raises(DataError, match="line 1: an object has the key 'label' twice"):
        load_jsonl(file)


# YOLO, VOC, LISA

LINE = "0 0.5 0.5 0.2 0.2\n"


def yolo(folder: Path, labels: dict[str, str], yaml: str = "names: [cat, dog]\n", images=("a.png",)) -> Path:
    for name in images:
        save(folder / "images" / name)
    for name, text in labels.items():
        write(folder / "labels" / name, text)
    write(folder / "data.yaml", yaml + "train: images\n")
    return folder


def test_endings_in_capitals_are_endings(tmp_path):
    dataset = load_yolo(yolo(tmp_path / "yolo", {"a.txt": LINE, "b.TXT": LINE}, images=("a.png", "b.png")))
    assert [image.labels for image in dataset.images] == [("cat",), ("cat",)]
    corner = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    for name in ("a.xml", "b.XML"):
        image = save(tmp_path / "voc" / f"{name[0]}.png")
        text = f"<annotation><filename>{image.name}</filename><object><name>cat</name>{corner}</object></annotation>"
        write(tmp_path / "voc" / name, text)
    assert len(load_voc(tmp_path / "voc").images) == 2
    for name in ("1.json", "2.JSON"):
        save(tmp_path / "lisa" / f"{name[0]}.jpg")
        write(tmp_path / "lisa" / name, {"text": "it", "shapes": [TARGET]})
    assert len(load_lisa(tmp_path / "lisa").images) == 2


def test_lines_that_end_as_on_old_systems(tmp_path):
    """Three boxes were one polygon."""
    dataset = load_yolo(yolo(tmp_path, {"a.txt": f"{LINE}1 0.3 0.3 0.2 0.2\n{LINE}".replace("\n", "\r")}))
    assert dataset.images[0].labels == ("cat", "dog", "cat")


@pytest.mark.parametrize("shape", [[2, 2], [2, 3]])
def test_yolo_key_points_are_no_polygon(tmp_path, shape):
    points = " ".join(["0.4 0.4 2", "0.6 0.6 1"] if shape[1] == 3 else ["0.4 0.4", "0.6 0.6"])
    pose = f"names: [cat]\nkpt_shape: {shape}\n"
    dataset = load_yolo(yolo(tmp_path, {"a.txt": f"{LINE.strip()} {points}\n{LINE}"}, pose))
    assert dataset.images[0].boxes == ((40, 32, 60, 48),) * 2
    yolo(tmp_path, {"a.txt": f"{LINE.strip()} 0.1 0.1\n"}, pose)
    with pytest.raises(DataError, match=r"a\.txt: line 1: has 6 numbers after the class; a box has 4, and"):
        load_yolo(tmp_path)
    yolo(tmp_path, {"a.txt": LINE}, "names: [cat]\nkpt_shape: 17\n")
    with pytest.raises(DataError, match=r"data\.yaml: 'kpt_shape' 17 is not \[number of points, 2 or 3\]"):
        load_yolo(tmp_path)


@pytest.mark.parametrize(("names", "shown"), [("[yes, no]", "0 is True"), ("{0: cat, 1: }", "1 is None")])
def test_yolo_names_that_yaml_reads_as_something_else(tmp_path, names, shown):
    with pytest.raises(DataError) as caught:
        load_yolo(yolo(tmp_path, {"a.txt": LINE}, f"names: {names}\n"))
    assert f"'names': {shown}, which is no text; put the name in quotes" in one_line(caught)


def test_two_yolo_images_of_one_label_file(tmp_path):
    yolo(tmp_path, {"a.txt": LINE}, images=("a.jpg", "a.png"))
    with pytest.raises(DataError, match=r"a\.png: has the labels of a\.jpg beside it; rename one"):
        load_yolo(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: [images, images]\n")
    with pytest.raises(DataError, match=r"a\.png: is listed twice"):
        load_yolo(tmp_path)


def test_a_yolo_label_without_an_image_is_said(tmp_path):
    yolo(tmp_path, {"a.txt": LINE, "b.txt": LINE, "gone.txt": LINE, "classes.txt": "cat"}, images=("a.png", "b.png"))
    assert load_yolo(tmp_path).skipped == {"label file without an image": 1}
    write(tmp_path / "list.txt", "images/a.png\n")  # b is of another split
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: list.txt\n")
    problems = Problems()
    load_yolo(tmp_path, problems=problems)
    assert problems.examples == [str(tmp_path / "labels" / "gone.txt")]


@pytest.mark.parametrize("shapes", [None, 5, {"label": "target"}])
def test_lisa_shapes_that_are_no_list(tmp_path, shapes):
    save(tmp_path / "1.jpg")
    write(tmp_path / "1.json", {"text": "it", "shapes": shapes})
    with pytest.raises(DataError, match=r"1\.json: 'shapes' is .*, not a list"):
        load_lisa(tmp_path)


def test_a_folder_called_like_a_lisa_file(tmp_path):
    save(tmp_path / "1.jpg")
    (tmp_path / "1.json").mkdir()
    with pytest.raises(DataError, match=r"1\.json: cannot be read"):
        load_lisa(tmp_path)


# jsonl, imagefolder


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "cat", "crowds": [OBJECT]}, "line 1: has both 'label' and 'crowds'"),
        ({"label": "cat", "negatives": ["dog"]}, "line 1: has both 'label' and 'negatives'"),
        ({"objects": [{**OBJECT, "iscrowd": 1}]}, "objects[0]: unknown field 'iscrowd'; known are label, box, expr"),
        ({"objects": [{**OBJECT, "expression": "it"}]}, "objects[0]: unknown field 'expression'"),
        (
            {"crowds": [{**OBJECT, "expressions": ["it"]}]},
            "crowds[0]: unknown field 'expressions'; known are",
        ),
    ],
)
def test_jsonl_fields_that_were_passed_over(tmp_path, row, message):
    save(tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        load_jsonl(write(tmp_path / "data.jsonl", {"image": "a.png", **row}))
    assert message in one_line(caught)


def test_imagefolder_objects(tmp_path):
    save(tmp_path / "cat" / "a.png")
    row = {"file_name": "cat/a.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [" cat "]}}
    write(tmp_path / "metadata.jsonl", row)
    assert load_imagefolder(tmp_path).classes == ("cat",)
    for key, value in (("label", "dog"), ("synonyms", ["puss"])):
        write(tmp_path / "metadata.jsonl", {**row, key: value})
        with pytest.raises(DataError, match=f"line 1: has both 'objects' and '{key}'"):
            load_imagefolder(tmp_path)


# Rows and questions that contradict each other


def test_several_rows_about_one_picture_are_said(tmp_path, capsys):
    save(tmp_path / "a.png")
    rows = [{"image": "a.png", "objects": [one]} for one in (OBJECT, {"label": "dog", "box": [50, 50, 60, 60]})]
    file = write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    load_samples([SourceConfig(source="jsonl", path=str(file))], load_task("detection"))
    assert "a.png in '1' and '2'; to each row only its own objects are there" in capsys.readouterr().err


def test_an_expression_of_two_objects_is_said(tmp_path, capsys):
    save(tmp_path / "a.png")
    objects = [{**OBJECT, "expressions": ["it"]}, {"box": [50, 50, 60, 60], "expressions": ["it", "that"]}]
    file = write(tmp_path / "data.jsonl", {"image": "a.png", "objects": objects})
    source = SourceConfig(source="jsonl", path=str(file))
    assert len(load_samples([source], load_task("grounding"))) == 3
    assert "expressions that mean several objects of their picture: 1, e.g. 'it' in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "asked", "its"),
    [("detection", "refer", "present"), ("grounding", "present", "refer"), ("classification", "one", "name"),
     ("many_classes", "present", "every"), ("counting", "refer", "present")],
)  # fmt: skip
def test_questions_that_a_task_cannot_ask(name, asked, its):
    source = SourceConfig(source="shapes", questions=asked)
    with pytest.raises(DataError, match=f"the task '{name}' cannot ask questions '{asked}'; leave .* asks '{its}'"):
        load_samples([source], load_task(name))


def test_a_path_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "photos" / "cat" / "a.png")
    source = SourceConfig(source="imagefolder", path="~/photos")
    assert len(load_samples([source], load_task("classification"))) == 1
    with pytest.raises(DataError, match="~nobody-here/photos: there is no such folder"):
        load_samples([SourceConfig(source="imagefolder", path="~nobody-here/photos")], load_task("classification"))


# Recognising a format, ground truth of predictions


@pytest.mark.parametrize(
    ("name", "text", "format_"),
    [
        ("x.json", '{"categories": [], "images": {"a": 1}}', None),
        ("x.jsonl", '{"image": "a.png", "objects": 5}', "jsonl"),
        ("x.jsonl", "[" * 100_000, "jsonl"),
        ("data.yaml", "[" * 100_000, "yolo"),
    ],
    ids=["images that are no list", "objects that are no list", "deep json", "deep yaml"],
)
def test_a_format_is_told_of_broken_files(tmp_path, name, text, format_):
    write(tmp_path / name, text)
    if format_ is None:
        with pytest.raises(DataError, match="no format that is known"):
            recognise(tmp_path)
    else:
        assert recognise(tmp_path).format == format_


def test_ground_truth_that_coco_tools_would_pass_over(tmp_path):
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": -12}
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": [1.0]}
    content = {"images": [{"id": 1, **lists}], "annotations": [row], "categories": [{"id": 1, "frequency": "c"}]}
    with pytest.raises(DataError, match=r"annotations\[0\]: area -12 is not a number from 0"):
        read_ground_truth(write(tmp_path / "a.json", content))
    row["area"] = 12
    read = read_ground_truth(write(tmp_path / "a.json", content), "lvis")
    assert read["images"][0]["not_exhaustive_category_ids"] == [1]
    content["images"][0]["neg_category_ids"] = ["1"]
    with pytest.raises(DataError, match=r"images\[0\]: neg_category_ids holds '1', which is not the id of a category"):
        read_ground_truth(write(tmp_path / "a.json", content), "lvis")
