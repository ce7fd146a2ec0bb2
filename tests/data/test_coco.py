"""COCO and LVIS folders: what is read, what is asked, and what is refused by its row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import picture

from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import PresentClasses
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import Detection


def samples_of(source: str, path: Path, **options):
    return load_samples([SourceConfig(source=source, path=str(path), **options)], Detection())


@pytest.fixture
def coco(tmp_path):
    """A folder of two images, and a function that writes its annotations with changes."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 80), (200, 200, 200)).save(tmp_path / "images" / "a.png")
    Image.new("RGB", (60, 60), (100, 100, 100)).save(tmp_path / "b.jpg")
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 2, "file_name": "b.jpg", "width": 60, "height": 60},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40]},
            {"id": 11, "image_id": 1, "category_id": 4, "bbox": [0, 0, 100.5, 80]},
            {"id": 12, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4]},
        ],
    }

    def write(change=lambda c: None):
        changed = json.loads(json.dumps(content))
        change(changed)
        (tmp_path / "annotations.json").write_text(json.dumps(changed))
        return tmp_path

    return write


def test_coco_folder(coco):
    dataset = load_coco(coco())
    images, classes = dataset.images, dataset.classes
    assert classes == ("cat", "dog")
    assert [i.id for i in images] == ["1", "2"]
    assert images[0].labels == ("cat", "dog")
    assert images[0].boxes == ((10, 20, 40, 60), (0, 0, 100, 80))
    assert images[0].image.load().size == (100, 80)
    (sample,) = [s for s in PresentClasses(images, classes) if s.id == "2/cat"]
    assert sample.truth == {"boxes": [[1, 2, 4, 6]], "image_size": [60, 60], "category": "cat"}


def test_a_crowd_is_no_object_and_not_asked_about(coco):
    def only_a_crowd(content):
        del content["images"][1], content["annotations"][1:]
        content["annotations"][0].update(iscrowd=1)

    images = load_coco(coco(lambda c: c["annotations"][0].update(iscrowd=1))).images
    assert images[0].labels == ("dog",)
    samples = samples_of("coco", coco(only_a_crowd), absent_rate=1.0)
    assert [s.question["category"] for s in samples] == ["dog"], "'No Objects' would be wrong for the crowd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "has no list 'images'"),
        (lambda c: c["images"][0].update(file_name="gone.png"), "image 1: no file 'gone.png'"),
        (lambda c: c["images"][0].update(width=110), "image 1: says 110 x 80, but"),
        (lambda c: c["images"][1].update(id=1), "images[1]: id 1 is used twice"),
        (lambda c: c["images"][1].pop("file_name"), "image 2: has no 'file_name'"),
        (lambda c: c["annotations"][0].update(bbox=[10, 20, 0, 40]), "annotation 10: bbox [10, 20, 0, 40] has no area"),
        (lambda c: c["annotations"][0].update(bbox=[10, 20, -5, 40]), "has no area"),
        (
            lambda c: c["annotations"][0].update(bbox=[90, 20, 30, 40]),
            "annotation 10: bbox [90, 20, 30, 40] is outside",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "is not four finite numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "is not four finite numbers"),
        (lambda c: c["annotations"][0].update(image_id=9), "annotation 10: image_id 9 is not in 'images'"),
        (lambda c: c["annotations"][0].update(category_id=9), "annotation 10: category_id 9 is not in"),
        (lambda c: c["annotations"][0].pop("bbox"), "annotation 10: has no 'bbox'"),
        (lambda c: c["annotations"][0].update(id=[10]), "annotation [10]: id [10] is not a number or text"),
    ],
)
def test_bad_coco_rows_are_named(coco, change, message):
    with pytest.raises(DataError) as caught:
        check_sizes(load_coco(coco(change)), Problems())
    assert message in str(caught.value)
    assert "annotations.json" in str(caught.value)


def test_broken_files_are_named(coco):
    folder = coco()
    (folder / "b.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read as an image"):
        check_sizes(load_coco(folder), Problems())
    (folder / "annotations.json").write_text("{")
    with pytest.raises(DataError, match=r"annotations\.json: not valid JSON"):
        load_coco(folder)
    (folder / "annotations.json").unlink()
    with pytest.raises(DataError, match=r"annotations\.json: no such file"):
        load_coco(folder)


def test_turned_photographs_are_upright(coco):
    folder = coco(lambda c: c["images"][1].update(width=60, height=40))
    picture = Image.new("RGB", (40, 60))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "b.jpg", exif=exif)
    images = check_sizes(load_coco(folder), Problems()).images
    assert images[1].size == images[1].image.load().size == (60, 40)


def test_images_without_objects_yield_no_question(coco):
    folder = coco(lambda c: c["annotations"].clear())
    with pytest.raises(DataError, match="yield no question"):
        load_samples([SourceConfig(source="coco", path=str(folder))], Detection())


LVIS = {
    "images": [
        {
            "id": 1, "coco_url": "http://images.cocodataset.org/train2017/000000000001.jpg", "width": 100, "height": 80,
            "neg_category_ids": [3, 4], "not_exhaustive_category_ids": [2],
        },
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 30, 40]},
    ],
    "categories": [{"id": i, "name": n} for i, n in enumerate(("die", "mug", "futon", "mallet", "omelet"), 1)],
}  # fmt: skip


@pytest.mark.parametrize("under", ["train2017", "."])
def test_lvis_asks_only_what_its_annotators_looked_at(tmp_path, under):
    (tmp_path / under).mkdir(exist_ok=True)
    picture(100, 80, 0).save(tmp_path / under / "000000000001.jpg")
    (tmp_path / "lvis.json").write_text(json.dumps(LVIS))
    dataset = load_coco(tmp_path, tmp_path / "lvis.json")
    (image,) = dataset.images
    assert image.present == ["die"]  # mug: not every one has a box
    assert image.absent(dataset.classes) == ["futon", "mallet"]  # omelet: nobody looked
    options = {"annotations": str(tmp_path / "lvis.json"), "absent_rate": 1.0}
    asked = {}
    for seed in range(20):
        for sample in samples_of("coco", tmp_path, seed=seed, **options):
            asked[sample.question["category"]] = sample.truth["boxes"]
    assert asked == {"die": [[10, 20, 40, 60]], "futon": [], "mallet": []}
    one = [samples_of("coco", tmp_path, seed=s, questions="one", **options)[0] for s in range(20)]
    assert {s.question["category"] for s in one} == {"futon", "mallet"}
