"""COCO to YOLO to VOC to COCO and every other way: boxes move by no more than a format's own rounding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.pictures import BOXES, SIZES, coco_content, coco_folder, picture, tables_stay_here  # noqa: F401

from visual_rft.cli.data_sets import WRITERS
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.jsonl import load_jsonl
from visual_rft.data.formats.parquet import load_parquet, write_parquet
from visual_rft.data.formats.reading import Problems
from visual_rft.data.formats.voc import load_voc
from visual_rft.data.formats.writing import NewFolder, is_plain
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.data.sources import READERS, load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task
from visual_rft.vision.images import ImageFile

pytestmark = pytest.mark.usefixtures("tables_stay_here")


def passed_through(dataset: Dataset, form: str, folder: Path) -> Dataset:
    """The data set written in a format and read again."""
    with NewFolder.at(folder) as new:
        WRITERS[form](dataset, new)
    path = folder / "data.jsonl" if form == "jsonl" else folder
    return READERS[form](SourceConfig(source=form, path=str(path)), "present", Problems())


def content(dataset: Dataset) -> list[tuple[bytes, list[tuple[str, tuple[float, ...]]]]]:
    """Pixels and objects of every image, in an order that does not depend on names."""
    rows = [
        (image.image.load().tobytes(), sorted(zip(image.labels, image.boxes, strict=True))) for image in dataset.images
    ]
    return sorted(rows)


def assert_same(first: Dataset, second: Dataset, tolerance: float) -> None:
    for (pixels, objects), (other_pixels, others) in zip(content(first), content(second), strict=True):
        assert pixels == other_pixels
        assert [label for label, _ in objects] == [label for label, _ in others]
        for (_, box), (_, other) in zip(objects, others, strict=True):
            assert np.abs(np.subtract(box, other)).max() <= tolerance


@pytest.fixture
def many(tmp_path):
    """Forty objects at random places, many classes with awkward names, sizes that do not divide evenly."""
    rng = np.random.default_rng(0)
    names = ("stop sign", "café", "a,b", "x<y&z", "停止")
    images = []
    for i in range(10):
        width, height = (int(v) for v in rng.integers(30, 700, 2))
        picture(width, height, i).save(tmp_path / f"p{i}.png")
        x, y = np.sort(rng.uniform(0, width, (4, 2))), np.sort(rng.uniform(0, height, (4, 2)))
        x[:, 1], y[:, 1] = np.minimum(x[:, 1] + 2, width), np.minimum(y[:, 1] + 2, height)
        boxes = tuple((float(a), float(c), float(b), float(d)) for (a, b), (c, d) in zip(x, y, strict=True))
        labels = tuple(str(name) for name in rng.choice(names, 4))
        images.append(AnnotatedImage(str(i), ImageFile(tmp_path / f"p{i}.png"), (width, height), labels, boxes))
    return Dataset(images, tuple(sorted(names)))


# COCO: six decimals. JSONL: as they are. YOLO: half a millionth of 700 pixels, of centre and half of the extent.
# VOC: half a pixel.
ROUNDING = {"coco": 2e-6, "jsonl": 0.0, "yolo": 0.75e-6 * 700, "voc": 0.5}


@pytest.mark.parametrize("form", ROUNDING)
def test_there_and_back(many, tmp_path, form):
    back = passed_through(many, form, tmp_path / form)
    assert_same(many, back, ROUNDING[form] + 1e-9)
    assert set(back.classes) == {label for image in many.images for label in image.labels} | (
        set(many.classes) if form in ("coco", "yolo") else set()
    )


def test_coco_to_yolo_to_voc_to_coco(many, tmp_path):
    dataset = many
    for i, form in enumerate(("coco", "yolo", "voc", "coco")):
        dataset = passed_through(dataset, form, tmp_path / f"{i}-{form}")
    assert_same(many, dataset, sum(ROUNDING.values()))


def test_whole_pixels_survive_every_format(tmp_path):
    """Where no format has to round, nothing moves at all, by any number of passes."""
    picture(100, 80).save(tmp_path / "a.png")
    boxes = ((0.0, 0.0, 1.0, 1.0), (99.0, 79.0, 100.0, 80.0), (10.0, 20.0, 40.0, 60.0), (0.0, 0.0, 100.0, 80.0))
    image = AnnotatedImage("1", ImageFile(tmp_path / "a.png"), (100, 80), ("cat",) * 4, boxes)
    first = dataset = Dataset([image], ("cat",))
    for i, form in enumerate(("yolo", "voc", "coco", "jsonl", "voc", "yolo", "voc")):
        dataset = passed_through(dataset, form, tmp_path / f"{i}-{form}")
    assert_same(first, dataset, 1e-4)
    last = passed_through(dataset, "voc", tmp_path / "last")
    assert content(last) == content(first)


def test_through_the_command_line(tmp_path):
    from visual_rft.cli.main import main

    coco_folder(tmp_path / "0")
    for i, (form, to) in enumerate((("coco", "yolo"), ("yolo", "voc"), ("voc", "coco"))):
        path, out = tmp_path / str(i), tmp_path / str(i + 1)
        assert main(["data", "convert", "--format", form, "--path", str(path), "--to", to, "--out", str(out)]) == 0
    written = json.loads((tmp_path / "3" / "annotations.json").read_text())
    names = {c["id"]: c["name"] for c in written["categories"]}
    ids = {row["id"]: int(row["file_name"].removesuffix(".jpg")) for row in written["images"]}
    found = [(ids[a["image_id"]], names[a["category_id"]], a["bbox"]) for a in written["annotations"]]
    expected = [(image, name, box) for image, objects in BOXES.items() for name, box in objects]
    assert [row[:2] for row in sorted(found)] == [row[:2] for row in sorted(expected)]
    for (_, _, box), (_, _, true) in zip(sorted(found), sorted(expected), strict=True):
        assert np.abs(np.subtract(box, true)).max() <= 1.0  # two corners, each rounded by half a pixel
    assert {ids[row["id"]]: (row["width"], row["height"]) for row in written["images"]} == SIZES


def test_a_written_coco_file_is_read_by_pycocotools(many, tmp_path, capsys):
    from pycocotools.coco import COCO

    with NewFolder.at(tmp_path / "out") as folder:
        WRITERS["coco"](many, folder)
    oracle = COCO(str(tmp_path / "out" / "annotations.json"))
    assert len(oracle.getAnnIds()) == 40
    (category,) = oracle.loadCats(oracle.getCatIds(catNms=["café"]))
    boxes = [oracle.anns[i]["bbox"] for i in oracle.getAnnIds(catIds=[category["id"]])]
    expected = [box for i in many.images for name, box in zip(i.labels, i.boxes, strict=True) if name == "café"]
    assert len(boxes) == len(expected) > 0
    assert np.allclose([(x, y, x + w, y + h) for x, y, w, h in boxes], expected, atol=1e-5)


def test_what_only_coco_and_jsonl_can_say_is_kept_there_and_refused_elsewhere(tmp_path):
    folder = coco_folder(tmp_path / "data")
    whole = coco_content()
    whole["annotations"][0]["iscrowd"] = 1
    whole["images"][1].update(neg_category_ids=[18], not_exhaustive_category_ids=[13])
    (folder / "annotations.json").write_text(json.dumps(whole))
    dataset = load_coco(folder)
    assert dataset.category_ids == {"cat": 17, "dog": 18, "stop sign": 13}
    for form in ("coco", "jsonl"):
        back = passed_through(dataset, form, tmp_path / form)
        for image, other in zip(dataset.images, back.images, strict=True):
            for name in ("id", "labels", "boxes", "crowds", "incomplete", "negatives", "size"):
                assert getattr(image, name) == getattr(other, name), (form, name)
        assert form == "jsonl" or back.category_ids == dataset.category_ids
    for form in ("yolo", "voc"):
        with pytest.raises(DataError, match=r"image 1: not every object has a box of its own.*--drop-unclear"):
            passed_through(dataset, form, tmp_path / form)
        assert not list(tmp_path.glob(f"*{form}*")), "nothing half-written is left"
    assert [is_plain(image, dataset.classes) for image in dataset.images] == [False, False, True]


def test_labels_without_boxes(tmp_path):
    """ImageFolder and JSONL hold them; a format of boxes refuses them."""
    facts = {"synonyms": ["Rosa canina"], "parents": ["rose"], "thought": "pink"}
    images = []
    for i, name in enumerate(("dog rose", "and/or", "dog rose")):
        picture(40, 30, i).save(tmp_path / f"{i}.png")
        image = ImageFile(tmp_path / f"{i}.png")
        images.append(AnnotatedImage(str(i), image, (40, 30), (name,), (), facts if i == 0 else {}))
    dataset = Dataset(images, ("and/or", "dog rose"))
    for form in ("imagefolder", "jsonl"):
        back = passed_through(dataset, form, tmp_path / form)
        assert sorted(i.labels for i in back.images) == sorted(i.labels for i in images)
        assert [i.facts for i in back.images if i.facts] == [facts]
        assert {i.image.load().tobytes() for i in back.images} == {i.image.load().tobytes() for i in images}
    with pytest.raises(DataError, match="image 0: has a label but no box, which yolo needs"):
        passed_through(dataset, "yolo", tmp_path / "yolo")


def test_expressions_pass_through_jsonl(tmp_path):
    picture(40, 30).save(tmp_path / "a.png")
    boxes = ((0.5, 0.0, 9.0, 9.0), (10.0, 10.0, 20.0, 20.0))
    image = AnnotatedImage("7", ImageFile(tmp_path / "a.png"), (40, 30), ("", "cat"), boxes,
                           expressions=(("the lens", 0), ("the pet", 1), ("it", 1)))  # fmt: skip
    dataset = Dataset([image], ("cat",))
    (back,) = passed_through(dataset, "jsonl", tmp_path / "jsonl").images
    assert (back.labels, back.boxes, back.expressions) == (image.labels, boxes, image.expressions)
    with pytest.raises(DataError, match="image 7: an object has no class name, which coco needs; write jsonl"):
        passed_through(dataset, "coco", tmp_path / "coco")


@pytest.mark.parametrize(("name", "source"), [("detection", "shapes"), ("classification", "flowers"),
                                              ("grounding", "shapes")])  # fmt: skip
def test_questions_pass_through_a_published_table(tmp_path, name, source):
    """The same prompts, the same truth but for rounding to 0..1000, the same pixels."""
    task = load_task(name, think=False)
    asked = load_samples([SourceConfig(source=source, count=6, absent_rate=0.5)], task)
    with NewFolder.at(tmp_path / "out") as folder:
        write_parquet(asked, task, folder)
    again = load_samples([SourceConfig(source="parquet", path=str(tmp_path / "out" / "data.parquet"))], task)
    assert len(asked) == len(again)
    for first, second in zip(asked, again, strict=True):
        assert task.prompt(first.question, "relative_1000") == second.question["problem"]
        assert first.images[0].load().tobytes() == second.images[0].load().tobytes()
        if name == "classification":
            assert first.truth["label"] == second.truth["label"]
            continue
        boxes = [sorted(s.truth["boxes"]) if "boxes" in s.truth else [s.truth["box"]] for s in (first, second)]
        assert len(boxes[0]) == len(boxes[1])
        for box, other in zip(*boxes, strict=True):
            assert np.abs(np.subtract(box, other)).max() <= max(first.truth["image_size"]) / 1000 / 2 + 1e-9


def test_a_table_becomes_a_coco_folder_that_claims_no_more_than_it_knows(tmp_path):
    """Each row asks about one class: of the others the table says nothing, neither does the folder."""
    task = load_task("detection", think=False)
    scenes = [image for image in Shapes(30, seed=2) if len(set(image.labels)) > 1][:5]
    asked = [image.ask(image.labels[0]) for image in scenes] + [scenes[0].ask("no such thing")]
    with NewFolder.at(tmp_path / "table") as folder:
        write_parquet(asked, task, folder)
    table = load_parquet(str(tmp_path / "table" / "data.parquet"), "present")
    assert len(table.images) == 5
    assert table.images[0].negatives == ("no such thing",)
    assert [image.present for image in table.images] == [[image.labels[0]] for image in scenes]
    back = passed_through(replace(table, samples=None), "coco", tmp_path / "coco")
    assert all(image.negatives is not None and len(image.present) == 1 for image in back.images)


def test_questions_with_several_images_pass_through_jsonl(tmp_path):
    for i in range(2):
        picture(40, 30, i).save(tmp_path / f"{i}.png")
    row = {"id": "q", "images": ["0.png", "1.png"], "question": {"problem": "Which?"}, "truth": {"label": "cup"}}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    dataset = load_jsonl(tmp_path)
    back = passed_through(dataset, "jsonl", tmp_path / "out")
    assert back.samples is not None
    assert [i.load().tobytes() for i in back.samples[0].images] == [
        picture(40, 30, i).tobytes() for i in range(2)
    ]  # fmt: skip
    assert (back.samples[0].question, back.samples[0].truth) == (dataset.samples[0].question, dataset.samples[0].truth)


def test_two_images_of_one_name_are_two_files(tmp_path):
    images = []
    for i, name in enumerate(("x/a.png", "y/a.png", "z/a.jpg")):
        (tmp_path / name).parent.mkdir()
        picture(40, 30, i).save(tmp_path / name)
        images.append(AnnotatedImage(name, ImageFile(tmp_path / name), (40, 30), ("cat",), ((i, 0, 9, 9),)))
    dataset = Dataset(images, ("cat",))
    for form, load in (("yolo", load_yolo), ("voc", load_voc), ("coco", load_coco)):
        with NewFolder.at(tmp_path / form) as folder:
            WRITERS[form](dataset, folder)
        assert_same(dataset, load(tmp_path / form), ROUNDING[form] + 1e-9)


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    def interrupted():
        with NewFolder.at(tmp_path / "out") as folder:
            folder.write_text("a.txt", "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out: exists already"), NewFolder.at(tmp_path / "out"):
        raise AssertionError("never reached")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), NewFolder.at(tmp_path / "file" / "out"):
        raise AssertionError("never reached")


def test_linked_images_are_links(tmp_path):
    folder = coco_folder(tmp_path / "data")
    with NewFolder.at(tmp_path / "out", link=True) as new:
        WRITERS["coco"](load_coco(folder), new)
    linked = tmp_path / "out" / "images" / "0001.jpg"
    assert linked.is_symlink()
    assert linked.resolve() == (folder / "images" / "0001.jpg").resolve()
    assert content(load_coco(tmp_path / "out")) == content(load_coco(folder))
