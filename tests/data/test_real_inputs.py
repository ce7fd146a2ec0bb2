"""Inputs that people really have: what every other tool reads is read, what cannot be read is named, nothing vanishes.

A row or a test per kind, with its right value. Rows that are broken in one way each are in ``test_corrupt_inputs.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import coco_content, coco_folder, picture

from visual_rft.config.sources import SourceConfig
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.coco_results import read_ground_truth
from visual_rft.data.formats.imagefolder import load_imagefolder
from visual_rft.data.formats.jsonl import load_jsonl
from visual_rft.data.formats.lisa import load_lisa
from visual_rft.data.formats.parquet import load_parquet
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.formats.refcoco import load_refcoco
from visual_rft.data.formats.voc import load_voc
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task

DETECTION = load_task("detection")
CLASSIFICATION = load_task("classification")


def save(file: Path, width: int = 100, height: int = 80, kind: str | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height).save(file, kind)
    return file


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "data")


def change(folder, edit) -> Path:
    content = coco_content()
    edit(content)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def read(folder: Path, problems: Problems | None = None):
    problems = problems or Problems()
    return check_sizes(load_coco(folder, problems=problems), problems)


# COCO: how ids, numbers and flags are written.

SAME_DATA = {
    "ids as floats, from pandas": lambda c: [row.update(id=float(row["id"])) for row in c["images"] + c["categories"]],
    "image_id as a float": lambda c: [row.update(image_id=float(row["image_id"])) for row in c["annotations"]],
    "category_id as text": lambda c: [row.update(category_id=str(row["category_id"])) for row in c["annotations"]],
    "image_id as text": lambda c: [row.update(image_id=str(row["image_id"])) for row in c["annotations"]],
    "ids of images as text, image_id as numbers": lambda c: [row.update(id=str(row["id"])) for row in c["images"]],
    "sizes as text": lambda c: [row.update(width=str(row["width"]), height=f"{row['height']}.0") for row in c["images"]],  # noqa: E501
    "sizes as floats": lambda c: [row.update(width=float(row["width"])) for row in c["images"]],
    "no sizes": lambda c: [row.pop("width") and row.pop("height") for row in c["images"]],
    "iscrowd '0'": lambda c: [row.update(iscrowd="0") for row in c["annotations"]],
    "iscrowd false": lambda c: [row.update(iscrowd=False) for row in c["annotations"]],
    "iscrowd 'false'": lambda c: [row.update(iscrowd="False") for row in c["annotations"]],
    "iscrowd 0.0": lambda c: [row.update(iscrowd=0.0) for row in c["annotations"]],
    "iscrowd null": lambda c: [row.update(iscrowd=None) for row in c["annotations"]],
    "iscrowd empty": lambda c: [row.update(iscrowd="") for row in c["annotations"]],
    "annotations without ids": lambda c: [row.pop("id") for row in c["annotations"]],
    "backslashes": lambda c: [row.update(file_name=f"images\\{row['file_name']}") for row in c["images"]],
    "a dot and a backslash": lambda c: [row.update(file_name=f".\\images\\{row['file_name']}") for row in c["images"]],
    "category names in spaces": lambda c: [row.update(name=f" {row['name']} ") for row in c["categories"]],
    "polygons and areas": lambda c: [row.update(segmentation=[[1, 2, 3, 4, 5, 6]], area=3) for row in c["annotations"]],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_DATA)
def test_the_same_data_written_otherwise(folder, name):
    plain = read(folder)
    other = read(change(folder, SAME_DATA[name]))
    assert [(i.size, i.labels, i.boxes, i.crowds, i.image) for i in other.images] == [
        (i.size, i.labels, i.boxes, i.crowds, i.image) for i in plain.images
    ]
    assert [i.id for i in other.images] == [i.id for i in plain.images]
    assert (other.classes, other.skipped) == (plain.classes, {})


@pytest.mark.parametrize("value", ["1", 1, True, "true", 1.0])
def test_a_crowd_has_one_meaning_everywhere(folder, value):
    change(folder, lambda c: c["annotations"][0].update(iscrowd=value))
    assert read(folder).images[0].crowds == (("cat", (10, 20, 40, 60)),)
    assert read_ground_truth(folder / "annotations.json")["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize("value", ["maybe", 2, [1], "2", -1, {"a": 1}])
def test_a_crowd_flag_that_means_nothing_is_named(folder, value):
    change(folder, lambda c: c["annotations"][0].update(iscrowd=value))
    for look in (load_coco, lambda f: read_ground_truth(f / "annotations.json")):
        with pytest.raises(DataError, match=r"annotation.*: iscrowd .* is not 0 or 1"):
            look(folder)


ODD = ([1], {"a": 1}, None, True, 1.5, float("nan"))
ODD_PLACES = {
    "annotation id": ("annotations", "id"),
    "image_id": ("annotations", "image_id"),
    "category_id": ("annotations", "category_id"),
    "image id": ("images", "id"),
    "category id": ("categories", "id"),
    "file_name": ("images", "file_name"),
    "neg_category_ids": ("images", "neg_category_ids"),
    "an item of neg_category_ids": ("images", "neg_category_ids", "list"),
    "category name": ("categories", "name"),
}


@pytest.mark.parametrize("value", ODD, ids=map(str, ODD))
@pytest.mark.parametrize("place", ODD_PLACES)
def test_an_id_that_is_none_is_one_line_with_file_and_row(folder, place, value):
    part, key, *inner = ODD_PLACES[place]
    if (place, value) == ("annotation id", None) or (key == "name" and isinstance(value, (int, float))):
        pytest.skip("an id may be left out, and a name may be a number")
    change(folder, lambda c: c[part][0].update({key: [value] if inner else value}))
    with pytest.raises(DataError, match=r"annotations\.json: (annotation|image|categories)") as caught:
        load_coco(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
@pytest.mark.parametrize("row", [5, "a", None, [1]])
def test_a_row_that_is_no_object_is_one_line(folder, part, row):
    change(folder, lambda c: c[part].insert(0, row))
    with pytest.raises(DataError, match=r"annotations\.json: .*has no '(id|image_id)'"):
        load_coco(folder)


def test_a_row_without_a_box_is_left_out_and_its_class_is_unclear(folder):
    change(folder, lambda c: c["annotations"][0].pop("bbox"))
    problems = Problems(skip=True)
    image = read(folder, problems).images[0]
    assert problems.counts == {"annotation without a box": 1}
    assert (image.present, image.incomplete) == (["dog"], ("cat",))


def test_the_heading_of_other_categories_is_never_asked_about(folder, capsys):
    """Roboflow writes a category 0 that is the ``supercategory`` of the others and has no object."""

    def export(content):
        for row in content["categories"]:
            row["supercategory"] = "animals"
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})

    dataset = read(change(folder, export))
    assert dataset.classes == ("cat", "dog", "stop sign")
    for seed in range(10):
        source = SourceConfig(source="coco", path=str(folder), absent_rate=1, seed=seed)
        assert "animals" not in {s.question["category"] for s in load_samples([source], DETECTION)}
    assert capsys.readouterr().err.count("never asked about: animals") == 10, "once per reading"
    assert read(change(folder, lambda c: [export(c), c["annotations"][0].update(category_id=0)])).classes == (
        "animals", "cat", "dog", "stop sign"
    ), "it has an object"  # fmt: skip
    only = {"id": 0, "name": "zebra", "supercategory": "none"}
    assert "zebra" in read(change(folder, lambda c: c["categories"].append(only))).classes, "absent, and no heading"


def test_annotations_before_images_and_categories(folder):
    """The order of a JSON object means nothing."""
    plain = read(folder)
    content = coco_content()
    (folder / "annotations.json").write_text(json.dumps(dict(sorted(content.items()))))
    assert read(folder).images == plain.images


# Names of files.

NAMES = {
    "as a URL": ("my photo.png", "my%20photo.png"),
    "accent as two characters on disk": ("cafe\u0301.png", "caf\u00e9.png"),
    "accent as one character on disk": ("caf\u00e9.png", "cafe\u0301.png"),
    "a percent sign that is meant": ("50%25.png", "50%25.png"),
    "backslash in a folder": ("sub/a.png", "sub\\a.png"),
    "a backslash that is meant": ("a\\b.png", "a\\b.png"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_found_however_its_name_is_written(tmp_path, name):
    on_disk, written = NAMES[name]
    save(tmp_path / on_disk)
    rows = {"images": [{"id": 1, "file_name": written}], "annotations": [], "categories": []}
    (tmp_path / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "data.jsonl").write_text(json.dumps({"image": written, "label": "x"}))
    (tmp_path / "a.xml").write_text(f"<annotation><filename>{written}</filename></annotation>", encoding="utf-8")
    for dataset in (load_coco(tmp_path), load_jsonl(tmp_path), load_voc(tmp_path)):
        assert dataset.images[0].image.path == tmp_path / on_disk


def test_an_absolute_path_inside_the_data_folder_is_read(folder, tmp_path):
    def absolute(root):
        return lambda c: [row.update(file_name=str(root / "images" / row["file_name"])) for row in c["images"]]

    plain = read(folder)
    assert read(change(folder, absolute(folder))).images == plain.images
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert read(change(folder, absolute(link))).images == plain.images, "the same folder by another name"
    change(folder, absolute(Path("/home/somebody/project")))
    with pytest.raises(DataError, match=r"leads outside the folder .*; did you mean '.*0001\.jpg'"):
        load_coco(folder)


def test_a_name_in_another_case_or_with_another_ending_is_suggested(folder):
    for name in ("0001.JPG", "0001.png", "train/0001.jpg"):
        change(folder, lambda c, name=name: c["images"][0].update(file_name=name))
        with pytest.raises(DataError, match=r"no file '.*' in .*; did you mean '.*images/0001\.jpg'\?"):
            load_coco(folder)


def test_a_class_folder_that_is_a_link_is_read(tmp_path):
    save(tmp_path / "elsewhere" / "1.jpg")
    save(tmp_path / "data" / "rose" / "1.jpg")
    (tmp_path / "data" / "tulip").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "rose" / "up").symlink_to(tmp_path / "data")  # a loop
    dataset = load_imagefolder(tmp_path / "data")
    assert [i.labels[0] for i in dataset.images] == ["rose", "tulip"]


def test_yolo_images_in_a_linked_folder_are_read(tmp_path):
    save(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "labels" / "more").mkdir(parents=True)
    (tmp_path / "labels" / "more" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    assert load_yolo(tmp_path).images[0].labels == ("cat",)


@pytest.mark.parametrize(
    ("name", "kind"), [("4.jfif", "JPEG"), ("4.jpe", "JPEG"), ("4", "PNG"), ("4.dat", "WEBP"), ("4.jpg", "PNG")]
)
def test_images_are_known_by_their_content(tmp_path, name, kind):
    save(tmp_path / "daisy" / name, kind=kind)
    problems = Problems()
    assert [i.labels for i in load_imagefolder(tmp_path, problems=problems).images] == [("daisy",)]
    assert not problems.counts


def test_a_file_that_is_no_image_is_named(tmp_path, capsys):
    save(tmp_path / "rose" / "1.jpg")
    (tmp_path / "daisy").mkdir()
    (tmp_path / "daisy" / "4.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    source = SourceConfig(source="imagefolder", path=str(tmp_path))
    load_samples([source], CLASSIFICATION)
    assert f"left out: 1 x file that is not an image, e.g. {tmp_path}/daisy/4.heic" in capsys.readouterr().err


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "valid", "test"), ("train",)])
def test_parts_that_are_taken_for_classes_are_remarked(tmp_path, capsys, parts):
    for part in parts:
        save(tmp_path / part / "rose" / "1.jpg")
    source = SourceConfig(source="imagefolder", path=str(tmp_path))
    load_samples([source], CLASSIFICATION)
    assert f"the classes are called {', '.join(sorted(parts))}: " in (said := capsys.readouterr().err)
    assert "'split', e.g. split: " in said
    load_samples([source.model_copy(update={"split": "train"})], CLASSIFICATION)
    assert not capsys.readouterr().err


def test_classes_that_are_called_like_parts_are_no_matter_where_images_lie_in_them(tmp_path, capsys):
    for name in ("test", "train"):
        save(tmp_path / name / "1.jpg")
    load_samples([SourceConfig(source="imagefolder", path=str(tmp_path))], CLASSIFICATION)
    assert not capsys.readouterr().err


def test_hidden_files_are_passed_over_in_every_format(tmp_path):
    """macOS leaves ``._a.xml`` beside ``a.xml`` on disks of others."""
    junk = b"\x00\x05\x16\x07\xb0\xff"
    save(tmp_path / "Annotations" / "a.jpg")
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><filename>a.jpg</filename></annotation>")
    (tmp_path / "Annotations" / "._a.xml").write_bytes(junk)
    assert [i.id for i in load_voc(tmp_path).images] == ["a"]
    save(tmp_path / "lisa" / "1.jpg")
    shape = {"label": "target", "points": [[1, 1], [9, 9]]}
    (tmp_path / "lisa" / "1.json").write_text(json.dumps({"text": "it", "shapes": [shape]}))
    (tmp_path / "lisa" / "._1.json").write_bytes(junk)
    assert len(load_lisa(tmp_path / "lisa").images) == 1
    save(tmp_path / "yolo" / "images" / "a.jpg")
    (tmp_path / "yolo" / "images" / "._a.jpg").write_bytes(junk)
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "classes.txt").write_text("cat")
    assert len(load_yolo(tmp_path / "yolo").images) == 1


# YOLO.


@pytest.mark.parametrize("kind", ["0", "0.0", "00", "0e0", "0.000000"])
def test_a_class_number_written_as_a_float(tmp_path, kind):
    assert yolo(tmp_path, f"{kind} 0.5 0.5 0.5 0.5").images[0].labels == ("cat",)


@pytest.mark.parametrize("kind", ["0.5", "nan", "inf", "cat"])
def test_a_class_number_that_is_none(tmp_path, kind):
    with pytest.raises(DataError, match=r"a\.txt: line 1: .* is not a class number and four shares"):
        yolo(tmp_path, f"{kind} 0.5 0.5 0.5 0.5")


def yolo(folder: Path, line: str):
    save(folder / "images" / "a.jpg")
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text(line)
    (folder / "data.yaml").write_text("train: images\nnames: [cat]\n")
    return load_yolo(folder)


@pytest.mark.parametrize("name", ["Labels", "label", "annotations", None])
def test_images_of_which_none_has_a_label_file_are_no_data_without_objects(tmp_path, name):
    yolo(tmp_path, "0 0.5 0.5 0.5 0.5")
    (tmp_path / "labels").rename(tmp_path / name) if name else (tmp_path / "labels" / "a.txt").unlink()
    for skip in (False, True):
        with pytest.raises(DataError, match=r"none of the 1 images has a label file; they were looked for in .*labels"):
            load_yolo(tmp_path, problems=Problems(skip))


# VOC.


def voc(folder: Path, content: bytes) -> str:
    save(folder / "a.jpg")
    (folder / "a.xml").write_bytes(content)
    return load_voc(folder).images[0].labels[0]


XML = (
    "<annotation><filename>a.jpg</filename><object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object></annotation>"
)
ENCODED = {
    "none declared": ("", "utf-8", "café"),
    "UTF-8": ('<?xml version="1.0" encoding="UTF-8"?>', "utf-8", "café 猫"),
    "UTF-8 with a mark": ("<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n", "utf-8-sig", "café"),
    "a mark alone": ("", "utf-8-sig", "café"),
    "no encoding named": ('<?xml version="1.0"?>', "utf-8", "猫"),
    "ISO-8859-1": ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1", "café"),
    "Windows-1252": ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252", "“café”"),
    "Windows-1251": ('<?xml version="1.0" encoding="windows-1251"?>', "cp1251", "кошка"),
    "GB2312": ('<?xml version="1.0" encoding="gb2312"?>', "gb2312", "猫"),
    "GB2312, ASCII alone": ('<?xml version="1.0" encoding="gb2312"?>', "ascii", "cat"),
    "GB2312 declared, GBK written": ('<?xml version="1.0" encoding="GB2312"?>', "gbk", "鎔"),
    "Big5": ('<?xml version="1.0" encoding="big5"?>', "big5", "貓"),
    "Shift-JIS": ('<?xml version="1.0" encoding="Shift_JIS"?>', "cp932", "猫①"),
    "EUC-KR": ('<?xml version="1.0" encoding="euc-kr"?>', "euc-kr", "고양이"),
    "UTF-16": ('<?xml version="1.0" encoding="utf-16"?>', "utf-16", "猫"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_the_encoding_that_an_xml_file_declares_is_honoured(tmp_path, name):
    head, encoding, label = ENCODED[name]
    assert voc(tmp_path, (head + XML.format(label)).encode(encoding)) == label


@pytest.mark.parametrize(
    ("head", "encoding", "message"),
    [
        (
            '<?xml version="1.0" encoding="ISO-8859-1"?>',
            "utf-8",
            "declares ISO-8859-1, but is UTF-8; correct the first",
        ),
        ('<?xml version="1.0" encoding="UTF-8"?>', "latin-1", "declares UTF-8, but line 1 is not UTF-8 (byte 0xe9)"),
        ("", "latin-1", "line 1: not UTF-8 (byte 0xe9); save it as UTF-8, or declare the encoding"),
        ('<?xml version="1.0" encoding="gb2312"?>', "latin-1", "declares gb2312, but line 1 is not GB18030"),
        ('<?xml version="1.0" encoding="klingon"?>', "utf-8", "declares the encoding 'klingon', which is not known"),
        ('<?xml version="1.0" encoding="hex"?>', "utf-8", "declares the encoding 'hex', which is not known"),
    ],
)
def test_a_declaration_that_contradicts_the_bytes_is_named(tmp_path, head, encoding, message):
    with pytest.raises(DataError) as caught:
        voc(tmp_path, (head + XML.format("café")).encode(encoding))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/a.xml: ")


@pytest.mark.parametrize(
    ("stem", "line"),
    [("my pic", "my pic"), ("my pic", "my pic  1"), ("my pic 1", "my pic 1"), ("a", "a -1"), ("a", "a 0")],
)
def test_a_line_of_a_voc_split_is_a_whole_stem(tmp_path, stem, line):
    save(tmp_path / "JPEGImages" / f"{stem}.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / f"{stem}.xml").write_text("<annotation/>")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text(f"{line}\n")
    assert [i.id for i in load_voc(tmp_path, "val").images] == [stem]


# JSONL and tables.


def lines(folder: Path, *rows) -> Path:
    save(folder / "a.jpg")
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_given_ids_never_clash_with_made_ones(tmp_path):
    row = {"image": "a.jpg", "label": "x"}
    ids = [i.id for i in load_jsonl(lines(tmp_path, {**row, "id": "2"}, row, {**row, "id": 4.0}, row)).images]
    assert ids == ["2", "line-2", "4", "line-4"]
    with pytest.raises(DataError, match=r"line 2: id '1' is used twice"):
        load_jsonl(lines(tmp_path, {**row, "id": 1}, {**row, "id": 1.0}))


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, True, 1.5])
def test_an_id_of_a_line_that_is_none_is_named(tmp_path, value):
    with pytest.raises(DataError, match=r"line 1: id .* is not a number or text"):
        load_jsonl(lines(tmp_path, {"image": "a.jpg", "label": "x", "id": value}))


def test_a_place_for_an_image_in_a_question_is_remarked(tmp_path, capsys):
    row = {"image": "a.jpg", "question": {"problem": "<image>\nWhat is it?"}, "truth": {"label": "cat"}}
    (sample,) = load_samples([SourceConfig(source="jsonl", path=str(lines(tmp_path, row)))], CLASSIFICATION)
    assert sample.question["problem"].startswith("<image>"), "shown as it stands"
    assert "1 questions hold the text '<image>'" in capsys.readouterr().err


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    (tmp_path / "tables" / "flowers").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"tables/flower: no such parquet file or folder in tables.*did you mean 'flowers'"
    ):
        load_parquet("tables/flower", "present")


def test_labels_that_read_the_same_are_named(tmp_path, capsys):
    for name in ("t-shirt", "T shirt", "HER2+", "HER2-", "rose"):
        save(tmp_path / name / "1.jpg")
    load_samples([SourceConfig(source="imagefolder", path=str(tmp_path))], CLASSIFICATION)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the labels 'T shirt' and 't-shirt' differ in case or punctuation alone" in said


# Every row bad.


def test_when_nothing_is_left_the_reasons_are_told(folder, tmp_path):
    for file in (folder / "images").iterdir():
        file.write_bytes(b"")
    change(folder, lambda c: [row.pop("width") for row in c["images"]])
    with pytest.raises(DataError, match=r"left out: 3 x image that cannot be opened, e\.g\. .*the file is empty"):
        load_coco(folder, problems=Problems(skip=True))
    for name, load in (("voc", load_voc), ("folder", load_imagefolder), ("lisa", load_lisa)):
        place = tmp_path / name
        (place / "cat").mkdir(parents=True)
        (place / "cat" / "a.jpg").write_bytes(b"")
        (place / "a.xml").write_text("<annotation><filename>a.jpg</filename></annotation>")
        (place / "a.json").write_text(json.dumps({"text": "it", "shapes": []}))
        with pytest.raises(DataError, match=r"left out: .*1 x (image that cannot be opened|missing image)"):
            load(place, problems=Problems(skip=True))
    (tmp_path / "data.jsonl").write_text('{"image": "no.jpg", "label": "x"}')
    with pytest.raises(DataError, match=r"holds no line that can be used; left out: 1 x missing image, e\.g\. "):
        load_jsonl(tmp_path / "data.jsonl", Problems(skip=True))


def test_when_no_question_is_left_the_reasons_are_told(folder, capsys):
    change(folder, lambda c: [row.update(bbox=[1, 1, 0, 0]) for row in c["annotations"]])
    source = SourceConfig(source="coco", path=str(folder), broken="skip")
    with pytest.raises(DataError, match=r"yield no question: .*4 x box without area"):
        load_samples([source], DETECTION)
    change(folder, lambda c: [row.update(iscrowd=1) for row in c["annotations"]])
    with pytest.raises(DataError, match=r"yield no question: .*4 crowd regions"):
        load_samples([source], DETECTION)
    change(folder, lambda c: c["annotations"].clear())
    with pytest.raises(DataError, match=r"yield no question: no image holds an object"):
        load_samples([source], DETECTION)


def test_annotations_with_a_byte_order_mark_are_read_everywhere(folder):
    plain = read_ground_truth(folder / "annotations.json")
    file = folder / "annotations.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_ground_truth(file) == plain
    assert len(load_coco(folder).images) == 3


def test_ids_of_tables_in_referring_expressions(folder):
    os.rename(folder / "annotations.json", folder / "instances.json")
    row = {"image_id": 1.0, "ann_id": "100", "split": "val", "sentences": ["the left one"]}
    (folder / "refs.json").write_text(json.dumps([row]))
    assert load_refcoco(folder, "val").images[0].expressions == (("the left one", 0),)
    (folder / "refs.json").write_text(json.dumps([{**row, "ann_id": [1]}]))
    with pytest.raises(DataError, match=r"refs\.json: row 0: ann_id \[1\] is not a number or text"):
        load_refcoco(folder)


def test_a_turned_tiff_has_one_size(tmp_path):
    scan = Image.new("RGB", (120, 80))
    exif = scan.getexif()
    exif[0x0112] = 6
    scan.save(tmp_path / "a.tif", exif=exif)
    rows = {"images": [{"id": 1, "file_name": "a.tif"}], "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}]}  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    (sample,) = load_samples([SourceConfig(source="coco", path=str(tmp_path))], DETECTION)
    assert tuple(sample.truth["image_size"]) == sample.images[0].load().size == (80, 120)
