"""Each format read and written as its own documentation says, against numbers worked out by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import pytest
import yaml
from PIL import Image
from support.pictures import picture, tables_stay_here  # noqa: F401

from visual_rft.cli.data_sets import WRITERS
from visual_rft.cli.verbs.data import FORMATS, WRITTEN
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.imagefolder import load_imagefolder
from visual_rft.data.formats.jsonl import load_jsonl
from visual_rft.data.formats.lisa import load_lisa
from visual_rft.data.formats.parquet import category_of, load_parquet
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.formats.refcoco import load_refcoco
from visual_rft.data.formats.voc import corners_of, load_voc, read_corners
from visual_rft.data.formats.writing import NewFolder
from visual_rft.data.formats.yolo import line_of, load_yolo, read_line
from visual_rft.data.sources import READERS, load_dataset, load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import ImageFile, RenderedImage

pytestmark = pytest.mark.usefixtures("tables_stay_here")
DETECTION, CLASSIFICATION, GROUNDING = (load_task(n) for n in ("detection", "classification", "grounding"))


def samples_of(source: str, path: Path | str, task=DETECTION, **options):
    return load_samples([SourceConfig(source=source, path=str(path), **options)], task)


def save(file: Path, width: int = 100, height: int = 80, seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, seed).save(file)
    return file


def test_the_command_line_knows_every_format():
    assert set(FORMATS) == {*READERS, "shapes", "digits", "flowers"}
    assert set(WRITTEN) == {*WRITERS, "parquet"}


# The same object, the pixels of columns 10..39 and rows 20..59 counted from 0, in every convention of corners:
# continuous it goes from 10 to 40 and from 20 to 60.
SAME = (10.0, 20.0, 40.0, 60.0)


def test_one_object_in_every_convention(tmp_path):
    """COCO: corner and extent. VOC: first and last pixel counted from 1. YOLO: centre and extent as shares."""
    for name in ("coco", "voc", "yolo"):
        save(tmp_path / name / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "coco" / "annotations.json").write_text(json.dumps(content))
    save(tmp_path / "voc" / "JPEGImages" / "a.png")
    (tmp_path / "voc" / "Annotations").mkdir()
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.png</filename><size><width>100</width><height>80</height></size><object><name>cat"
        "</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("0 0.25 0.5 0.3 0.5\n")
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nnames: [cat]\n")
    for name in ("coco", "voc", "yolo"):
        (sample,) = samples_of(name, tmp_path / name)
        assert sample.truth == {"boxes": [list(SAME)], "image_size": [100, 80], "category": "cat"}, name
        assert sample.images[0].load().size == (100, 80)


@pytest.mark.parametrize(
    ("corner", "box"),
    [
        ((1, 1, 1, 1), (0, 0, 1, 1)),  # the top left pixel alone
        ((1, 1, 500, 375), (0, 0, 500, 375)),  # a whole image of 500 x 375
        ((48, 240, 195, 371), (47, 239, 195, 371)),  # the dog of VOC2007 image 000001
    ],
)
def test_voc_counts_pixels_from_1_and_both_corners_belong_to_the_box(corner, box):
    assert read_corners(corner) == box
    assert corners_of(box) == corner


def test_voc_writes_at_least_one_pixel():
    assert corners_of((10.2, 10.2, 10.4, 10.4)) == (11, 11, 11, 11)


@pytest.mark.parametrize(
    ("numbers", "size", "box"),
    [
        ((0.5, 0.5, 1, 1), (640, 480), (0, 0, 640, 480)),
        ((0.125, 0.75, 0.25, 0.5), (640, 480), (0, 240, 160, 480)),
        ((0.1, 0.2, 0.3, 0.2, 0.2, 0.6), (100, 50), (10, 10, 30, 30)),  # a triangle: the box around it
    ],
)
def test_yolo_lines(numbers, size, box):
    assert read_line(numbers, size) == pytest.approx(box)
    if len(numbers) == 4:
        assert [float(v) for v in line_of(box, size).split()] == pytest.approx(numbers, abs=5e-7)


def test_yolo_layouts(tmp_path):
    """Ultralytics' and Roboflow's data.yaml, a list of files, and labelImg's classes.txt."""
    save(tmp_path / "train" / "images" / "a.jpg")
    save(tmp_path / "train" / "images" / "empty.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n\n0 0.5 0.5 1 1\n")
    (tmp_path / "list.txt").write_text("./train/images/a.jpg\n")
    for train in ("train/images", "../train/images", "list.txt", "[train/images]"):
        (tmp_path / "data.yaml").write_text(f"train: {train}\nval: nowhere\nnames: {{0: cat, 1: dog}}\n")
        dataset = load_yolo(tmp_path)
        assert dataset.classes == ("cat", "dog")
        assert dataset.images[0].labels == ("dog", "cat")
        assert dataset.images[0].boxes == ((25, 20, 75, 60), (0, 0, 100, 80))
        assert len(dataset.images) == (1 if train == "list.txt" else 2)
    assert dataset.images[1].absent(dataset.classes) == ["cat", "dog"]
    for path in ("../datasets/coco128", "/datasets/coco128", ".", "nowhere"):
        (tmp_path / "data.yaml").write_text(f"path: {path}\ntrain: train/images\nval: nowhere\nnames: [cat, dog]\n")
        assert len(load_yolo(tmp_path).images) == 2
    (tmp_path / "data.yaml").write_text("path: train\ntrain: images\nval: nowhere\nnames: [cat, dog]\n")
    assert load_yolo(tmp_path).images[0].labels == ("dog", "cat")
    with pytest.raises(DataError, match=r"data\.yaml: val: there is no folder .*nowhere"):
        load_yolo(tmp_path, "val")
    with pytest.raises(DataError, match="names no split 'test'; it has train, val"):
        load_yolo(tmp_path, "test")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "train" / "classes.txt").write_text("cat\ndog\n")
    assert load_yolo(tmp_path / "train").images[0].labels == ("dog", "cat")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "has 3 numbers after the class"),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 5 numbers after the class"),
        ("cat 0.5 0.5 0.5 0.5", "is not a class number and four shares"),
        ("7 0.5 0.5 0.5 0.5", "class 7 is not in 'names' (0 to 1)"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 is not in 'names'"),
        ("0 0.5 0.5 nan 0.5", "is not four finite numbers"),
        ("0 0.5 0.5 0 0.5", "has no area"),
        ("0 50 50 20 20", "is outside its 100 x 80 image"),
    ],
)
def test_bad_yolo_lines_are_named(tmp_path, line, message):
    save(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    with pytest.raises(DataError) as caught:
        load_yolo(tmp_path)
    assert message in str(caught.value)
    assert "a.txt: line 2" in str(caught.value)


@pytest.mark.parametrize("content", ["names: 5", "names: {a: cat}", "names: [cat, '']", "train: x", "- 1", "{"])
def test_bad_data_yaml_is_named(tmp_path, content):
    (tmp_path / "data.yaml").write_text(content if "train" in content else f"{content}\n")
    with pytest.raises(DataError, match=r"data\.yaml: "):
        load_yolo(tmp_path)


def voc(folder: Path, objects: str, head: str = "<filename>a.jpg</filename>") -> Path:
    save(folder / "JPEGImages" / "a.jpg")
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{head}{objects}</annotation>", encoding="utf-8")
    return folder


BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox>"


def test_voc_splits_and_flat_folders(tmp_path):
    voc(tmp_path, f"<object><name>cat</name>{BOX}</object>")
    assert load_voc(tmp_path).classes == ("cat",)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a  1\n")
    assert [i.id for i in load_voc(tmp_path, "val").images] == ["a"]
    with pytest.raises(DataError, match=r"train\.txt: no such file"):
        load_voc(tmp_path, "train")
    flat = tmp_path / "flat"
    save(flat / "a.jpg")
    (flat / "a.xml").write_text((tmp_path / "Annotations" / "a.xml").read_text())
    assert load_voc(flat).images[0].boxes == (SAME,)


@pytest.mark.parametrize(
    ("objects", "head", "message"),
    [
        (f"<object>{BOX}</object>", "", "object 0: has no name"),
        ("<object><name>cat</name></object>", "", "object 0: bndbox"),
        (f"<object><name>cat</name>{BOX.replace('40', '9')}</object>", "", "has no area"),
        (f"<object><name>cat</name>{BOX.replace('40', '400')}</object>", "", "is outside its 100 x 80 image"),
        (
            f"<object><name>cat</name>{BOX}</object>",
            "<size><width>99</width><height>80</height></size>",
            "says 99 x 80",
        ),
        (f"<object><name>cat</name>{BOX}", "", "not valid XML"),
    ],
)
def test_bad_voc_files_are_named(tmp_path, objects, head, message):
    voc(tmp_path, objects, f"<filename>a.jpg</filename>{head}")
    with pytest.raises(DataError) as caught:
        check_sizes(load_voc(tmp_path), Problems())
    assert message in str(caught.value)
    assert "a.xml" in str(caught.value)


def test_voc_entities_are_not_expanded(tmp_path):
    voc(tmp_path, "")
    bomb = '<!DOCTYPE a [<!ENTITY x "cat"><!ENTITY y "&x;&x;">]><annotation><filename>&y;</filename></annotation>'
    (tmp_path / "Annotations" / "a.xml").write_text(bomb)
    with pytest.raises(DataError, match=r"a\.xml: not valid XML \(EntitiesForbidden"):
        load_voc(tmp_path)


def test_imagefolder(tmp_path):
    for name in ("rose/1.jpg", "rose/deep/2.png", "tulip/3.JPG", "tulip/notes.txt", "tulip/.hidden.jpg"):
        save(tmp_path / "data" / name) if "txt" not in name else (tmp_path / "data" / name).write_text("")
    dataset = load_imagefolder(tmp_path, "data")
    assert dataset.classes == ("rose", "tulip")
    assert [i.labels[0] for i in dataset.images] == ["rose", "rose", "tulip"]
    assert dataset.skipped == {"file that is not an image": 1}
    rows = [{"file_name": "rose/1.jpg", "label": "dog rose", "synonyms": ["Rosa canina"], "parents": ["rose"]}]
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = samples_of("imagefolder", tmp_path, CLASSIFICATION, split="data", subject="flower")
    assert samples[0].truth == {"label": "dog rose", "synonyms": ["Rosa canina"], "parents": ["rose"]}
    assert samples[0].question == {"subject": "flower"}
    assert "kind of flower" in CLASSIFICATION.prompt(samples[0].question, CoordinateSpace.RELATIVE_1000)
    with pytest.raises(DataError, match="'imagefolder' has labels but no boxes; ask it with --task classification"):
        samples_of("imagefolder", tmp_path, split="data")


def test_imagefolder_with_objects(tmp_path):
    save(tmp_path / "a.jpg")
    row = {"file_name": "a.jpg", "objects": {"bbox": [[10, 20, 30, 40]], "categories": ["cat"]}}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    (sample,) = samples_of("imagefolder", tmp_path)
    assert sample.truth["boxes"] == [list(SAME)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "no.jpg"}, "line 1: no file 'no.jpg'"),
        ({"file_name": "../a.jpg"}, "leads outside the folder"),
        ({"file_name": "a.jpg", "lable": "cat"}, "unknown field 'lable'"),
        ({"file_name": "a.jpg", "label": 3}, "label 3 is not a name"),
        ({"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [0]}}, "category 0 is not a name"),
        ({"file_name": "a.jpg", "objects": {"bbox": [], "categories": ["cat"]}}, "not two lists of equal length"),
        ({"label": "cat"}, "has no 'file_name'"),
    ],
)
def test_bad_metadata_is_named(tmp_path, row, message):
    save(tmp_path / "a.jpg")
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"metadata\.jsonl: line 1: ") as caught:
        load_imagefolder(tmp_path)
    assert message in str(caught.value)


def jsonl(folder: Path, *rows) -> Path:
    save(folder / "a.jpg")
    save(folder / "b.jpg", 60, 50, 1)
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "data.jsonl"


def test_jsonl_of_images(tmp_path):
    file = jsonl(
        tmp_path,
        {"image": "a.jpg", "objects": [{"label": "cat", "box": list(SAME), "expressions": ["the sleepy one\u2028"]}]},
        {"image": "b.jpg", "objects": [{"box": [0, 0, 9, 9], "expressions": ["it", "it"]}], "negatives": ["dog"]},
    )
    samples = samples_of("jsonl", file)
    assert [(s.question["category"], s.truth["boxes"]) for s in samples] == [("cat", [list(SAME)])]
    samples = samples_of("jsonl", file, GROUNDING)
    assert [(s.question["expression"], s.truth["box"]) for s in samples] == [
        ("the sleepy one", list(SAME)), ("it", [0, 0, 9, 9])
    ]  # fmt: skip
    assert samples[0].truth["thought"] == "a cat"
    file = jsonl(tmp_path, {"image": "a.jpg", "label": "poppy", "thought": "red"})
    assert samples_of("jsonl", file, CLASSIFICATION)[0].truth == {"label": "poppy", "thought": "red"}


def test_jsonl_of_questions_with_several_images(tmp_path):
    file = jsonl(tmp_path, {"images": ["a.jpg", "b.jpg"], "question": {"problem": "Which is gone?"},
                            "truth": {"label": "cup"}})  # fmt: skip
    (sample,) = samples_of("jsonl", file, CLASSIFICATION)
    assert [image.load().size for image in sample.images] == [(100, 80), (60, 50)]
    assert CLASSIFICATION.prompt(sample.question, CoordinateSpace.PIXELS) == "Which is gone?"
    assert sample.task == "classification"
    with pytest.raises(DataError, match=r"question 1: does not fit the task 'detection': truth\.boxes: is missing"):
        samples_of("jsonl", file)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image": "a.jpg", "boxes": []}], "line 1: unknown field 'boxes'"),
        ([{"image": "a.jpg", "objects": []}, {"image": "a.jpg", "question": {}}], "line 2: unknown field 'question'"),
        ([{"objects": []}], "line 1: has no 'image'"),
        ([{"image": "c.jpg"}], "line 1: no file 'c.jpg'"),
        ([{"image": 5}], "image 5 is not a file name"),
        ([{"image": "a.jpg", "objects": [{"label": "cat"}]}], "objects[0]: has no 'box'"),
        ([{"image": "a.jpg", "objects": [{"box": [1, 2, 3, 4]}]}], "objects[0]: label '' is not a name"),
        ([{"image": "a.jpg", "objects": [{"label": "cat", "box": [1, 2, 1, 4]}]}], "has no area"),
        ([{"image": "a.jpg", "label": ""}], "label [''] is not a list of texts"),
        ([{"image": "a.jpg", "question": {}, "truth": 1}], "'question' and 'truth' are JSON objects"),
        ([{"images": [], "question": {}, "truth": {}}], "name one 'image', or a list of 'images'"),
        ([{"id": 1, "image": "a.jpg"}, {"id": "1", "image": "b.jpg"}], "line 2: id '1' is used twice"),
        ([5], "line 1: is not a JSON object"),
        ([], "holds no line"),
    ],
)
def test_bad_jsonl_lines_are_named(tmp_path, rows, message):
    with pytest.raises(DataError) as caught:
        load_jsonl(jsonl(tmp_path, *rows))
    assert message in str(caught.value)


def test_refcoco(tmp_path):
    save(tmp_path / "images" / "COCO_1.jpg")
    instances = {
        "images": [{"id": 7, "file_name": "COCO_1.jpg"}],
        "annotations": [
            {"id": 70, "image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20]},
            {"id": 71, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40]},
        ],
        "categories": [{"id": 1, "name": "umbrella"}],
    }
    refs = [
        {"ref_id": 1, "image_id": 7, "ann_id": 71, "split": "val", "sentences": [{"sent": "big"}, {"sent": "red one"}]},
        {"ref_id": 2, "image_id": 7, "ann_id": 70, "split": "train", "sentences": ["small"]},
    ]
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    samples = samples_of("refcoco", tmp_path, GROUNDING, split="val")
    assert [(s.question["expression"], s.truth["box"]) for s in samples] == [
        ("big", list(SAME)),
        ("red one", list(SAME)),
    ]
    assert samples[0].truth["thought"] == "an umbrella"
    assert len({s.id for s in samples_of("refcoco", tmp_path, GROUNDING)}) == 3
    with pytest.raises(DataError, match=r"no row of split 'testA'; it has \['train', 'val'\]"):
        load_refcoco(tmp_path, "testA")
    refs[0]["ann_id"] = 99
    (tmp_path / "refs.json").write_text(json.dumps(refs))
    with pytest.raises(DataError, match=r"refs\.json: row 0: annotation 99 of image 7 is not a box"):
        load_refcoco(tmp_path)
    (tmp_path / "refs.json").unlink()
    with pytest.raises(DataError, match="not the pickle"):
        load_refcoco(tmp_path)


def test_lisa(tmp_path):
    save(tmp_path / "train" / "1.jpg")
    shapes = [
        {"label": "target", "points": [[10, 30], [25, 20], [40, 31]]},
        {"label": "target", "points": [[12, 40], [20, 60], [30, 50]]},
        {"label": "ignore", "points": [[0, 0], [99, 0], [99, 79]]},
    ]
    content = {"text": ["the part that\u2019s used", "what steers"], "is_sentence": True, "shapes": shapes}
    file = tmp_path / "train" / "1.json"
    for encoding in ("utf-8", "cp1252"):  # some of the published files are Windows-1252
        file.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
        samples = samples_of("lisa", tmp_path, GROUNDING, split="train")
        assert [s.truth["box"] for s in samples] == [list(SAME)] * 2
        assert samples[0].question["expression"] == "the part that\u2019s used"
    file.write_text(json.dumps({**content, "shapes": shapes[2:]}))
    with pytest.raises(DataError, match=r"1\.json: has no shape labelled 'target'"):
        load_lisa(tmp_path / "train")
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has expressions but no classes; ask it with --task grounding"):
        samples_of("lisa", tmp_path / "train")


PROBLEM = ("Detect all objects belonging to the category 'stop sign' in the image, and provide the bounding boxes "
           "(between 0 and 1000, integer) and confidence.\n  Odd   spacing, and an end  ")  # fmt: skip
SOLUTION = "<answer>[{'Position': [100, 250, 400, 750], 'Confidence': 1}]</answer>"


def png(seed: int = 0, size: tuple[int, int] = (100, 80)) -> bytes:
    buffer = io.BytesIO()
    picture(*size, seed).save(buffer, "PNG")
    return buffer.getvalue()


def published(file: Path, *rows: tuple[str, str], images=None) -> Path:
    images = images or [{"bytes": png(), "path": None}] * len(rows)
    columns = {"image": images, "problem": [r[0] for r in rows], "solution": [r[1] for r in rows]}
    text = datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "problem": text, "solution": text})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(file))
    return file


def test_a_published_question_reaches_the_model_as_it_is(tmp_path):
    file = published(tmp_path / "a.parquet", (PROBLEM, SOLUTION), (PROBLEM, "<answer>No Objects</answer>"))
    first, second = samples_of("parquet", file)
    for space in CoordinateSpace:
        assert DETECTION.prompt(first.question, space) == PROBLEM
    assert first.truth["boxes"] == [list(SAME)]
    assert second.truth["boxes"] == []
    assert first.question["category"] == first.truth["category"] == "stop sign"
    assert first.images[0].key == second.images[0].key  # the same bytes: one pass of the vision tower
    assert first.images[0].load().size == (100, 80)


def test_a_published_question_asks_for_0_to_1000_of_every_model(tmp_path):
    """Qwen2.5-VL speaks pixels of the resized image, but the question's own text says 0..1000."""
    (sample,) = samples_of("parquet", published(tmp_path / "a.parquet", (PROBLEM, SOLUTION)))
    frame = Frame((100, 80), (112, 84))
    assert DETECTION.score("<think>x</think>" + SOLUTION, sample.truth, frame).parts["iou"] == 1
    assert "[100, 250, 400, 750]" in DETECTION.gold(sample.truth, frame)


@pytest.mark.parametrize("form", ["file", "folder", "save_to_disk", "dict", "plain bytes"])
def test_tables_are_read_from_every_place(tmp_path, form):
    place = tmp_path / "set"
    place.mkdir()
    file = published(place / "data.parquet", (PROBLEM, SOLUTION))
    path: Path = file
    if form == "folder":  # a clone of a hub repository
        (place / "README.md").write_text("---\nlicense: mit\n---\n")
        path = place
    elif form in ("save_to_disk", "dict"):
        path = tmp_path / "saved"
        table = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
        (table if form == "save_to_disk" else datasets.DatasetDict({"train": table})).save_to_disk(str(path))
    elif form == "plain bytes":  # written by another library: a struct or bytes without datasets' own notes
        import pyarrow
        import pyarrow.parquet

        rows = {"image": [{"bytes": png(), "path": "a.png"}], "problem": [PROBLEM], "solution": [SOLUTION]}
        pyarrow.parquet.write_table(pyarrow.table(rows), file)
    (sample,) = samples_of("parquet", path)
    assert sample.truth["boxes"] == [list(SAME)]


def test_published_classification_and_grounding(tmp_path):
    file = published(tmp_path / "a.parquet", ("What flower is this?", "<answer>sweet pea</answer>"))
    (sample,) = samples_of("parquet", file, CLASSIFICATION)
    assert sample.truth["label"] == "sweet pea"
    assert CLASSIFICATION.prompt(sample.question, CoordinateSpace.PIXELS) == "What flower is this?"
    file = published(tmp_path / "b.parquet", ("Where is it?", "<answer>(100,250),(400,750)</answer>"))
    (sample,) = samples_of("parquet", file, GROUNDING)
    assert sample.truth["box"] == list(SAME)


def test_a_column_of_several_images(tmp_path):
    text = datasets.Value("string")
    kinds = {"images": datasets.List(datasets.Image()), "problem": text, "solution": text}
    pair = [{"bytes": png(i), "path": None} for i in range(2)]
    rows = {"images": [pair], "problem": ["Which is gone?"], "solution": ["<answer>cup</answer>"]}
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).to_parquet(str(file))
    (sample,) = samples_of("parquet", file, CLASSIFICATION)
    assert len({image.key for image in sample.images}) == 2


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("[{'Position': [1, 2, 3, 4], 'Confidence': 1}]", "no answer tag"),
        ("<answer>__import__('os').system('true')</answer>", "solution: "),
        ("<answer>[{'Position': [1, 2, 1, 4], 'Confidence': 1}]</answer>", "no valid item"),
        (
            "<answer>[{'Position': [1, 2, 3, 4], 'Confidence': 1}, {'Position': [1], 'Confidence': 1}]</answer>",
            "item 2",
        ),
    ],
)
def test_a_solution_that_cannot_be_read_is_named(tmp_path, solution, message):
    file = published(tmp_path / "a.parquet", (PROBLEM, SOLUTION), (PROBLEM, solution))
    with pytest.raises(DataError, match=r"a\.parquet: row 1: solution: ") as caught:
        load_parquet(str(file), "present")
    assert message in str(caught.value)
    assert len(samples_of("parquet", file, broken="skip")) == 1


def test_tables_that_are_no_questions_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"image": ["x"], "problem": ["y"]}).to_parquet(str(file))
    with pytest.raises(DataError, match=r"has no column 'solution'; .* this has image, problem"):
        load_parquet(str(file), "present")
    file = tmp_path / "c.parquet"
    datasets.Dataset.from_dict({"image": ["x"], "problem": ["y"], "solution": ["z"]}).to_parquet(str(file))
    with pytest.raises(DataError, match=r"the column 'image' holds .*, not images"):
        load_parquet(str(file), "present")
    (tmp_path / "b.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read by datasets"):
        load_parquet(str(tmp_path / "b.parquet"), "present")
    with pytest.raises(DataError, match="no such parquet file or folder"):
        load_parquet(str(tmp_path / "none.parquet"), "present")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds neither a parquet file nor what save_to_disk writes"):
        load_parquet(str(tmp_path / "empty"), "present")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="nobody/nothing: cannot be read by datasets"):
        load_parquet("nobody/nothing", "present")


@pytest.mark.parametrize(
    ("problem", "category"),
    [
        ("Detect all objects belonging to the category 'dog' in the image.", "dog"),
        ("the category 'horse_buggy'.", "horse_buggy"),
        ('of the category "driver\'s cap" please', "driver's cap"),
        ("the category 'driver's cap' in the image", "driver's cap"),
        ("Find every red circle in the image. Write inside", "red circle"),
        ("What is this?", "object"),
    ],
)
def test_the_quoted_category(problem, category):
    assert category_of(problem) == category


def test_a_source_without_a_path_or_with_a_wrong_field_is_refused():
    for values, message in (
        ({"source": "yolo"}, "a yolo source needs 'path', a folder with data.yaml"),
        ({"source": "voc", "path": "x", "annotations": "y"}, "a voc source has 'path' only"),
    ):
        with pytest.raises(ValueError, match=message):
            SourceConfig.model_validate(values)


def test_yaml_of_a_written_folder_is_plain(tmp_path):
    """What ``data.yaml`` says must not depend on this package's reader."""
    from visual_rft.data.annotated import AnnotatedImage, Dataset
    from visual_rft.data.formats.writing import NewFolder
    from visual_rft.data.formats.yolo import write_yolo
    from visual_rft.vision.images import ImageFile

    image = AnnotatedImage("a", ImageFile(save(tmp_path / "a.jpg")), (100, 80), ("cat",), (SAME,))
    with NewFolder.at(tmp_path / "out") as folder:
        write_yolo(Dataset([image], ("cat", "dog")), folder)
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert content == {"train": "images/train", "names": {0: "cat", 1: "dog"}}
    assert (tmp_path / "out" / "labels" / "train" / "a.txt").read_text() == "0 0.250000 0.500000 0.300000 0.500000\n"
    with Image.open(tmp_path / "out" / "images" / "train" / "a.jpg") as copied:
        assert copied.size == (100, 80)


@pytest.mark.parametrize("source", sorted(set(READERS) - {"parquet"}))
def test_a_path_that_is_not_there_is_named(tmp_path, source):
    with pytest.raises(DataError, match="none: there is no such f"):
        samples_of(source, tmp_path / "none")


@pytest.mark.parametrize("source", ["coco", "voc"])
def test_sizes_are_compared_for_the_images_that_are_wanted(source, tmp_path, monkeypatch):
    """Of five images that a file describes two are wanted: two headers are opened, and a wrong third is no matter."""
    images = [
        AnnotatedImage(f"{i}", RenderedImage(f"{i}", lambda: Image.new("RGB", (60, 40))), (60, 40), ("cat",),
                       ((0, 0, 20, 20),)) for i in range(1, 6)
    ]  # fmt: skip
    folder = tmp_path / "data"
    with NewFolder.at(folder) as new:
        WRITERS[source](Dataset(images, ("cat",)), new)
    opened: list[str] = []
    size = ImageFile.size
    monkeypatch.setattr(ImageFile, "size", lambda self: opened.append(self.path.name) or size(self))
    load_dataset(SourceConfig(source=source, path=str(folder), count=2), "present")
    assert len(opened) == 2
    pictures = (folder / ("images" if source == "coco" else "JPEGImages")).iterdir()
    wrong = next(file for file in pictures if "5" in file.stem)
    Image.new("RGB", (60, 41)).save(wrong)
    load_dataset(SourceConfig(source=source, path=str(folder), count=2), "present")
    with pytest.raises(DataError, match=r"says 60 x 40, but .* is 60 x 41 \(upright\)"):
        load_dataset(SourceConfig(source=source, path=str(folder)), "present")
    skipped = load_dataset(SourceConfig(source=source, path=str(folder), broken="skip"), "present")
    assert len(skipped.images) == 4
    assert skipped.skipped == {"image of another size than stated": 1}
