"""Inputs that are broken in one way each: what is said, or what is done instead.

With ``broken: refuse`` (the default) a COCO folder with one such row is refused by a message that names it; with
``broken: skip`` the row is left out and counted. Pictures of unusual kinds are opened as 8-bit RGB.
"""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.pictures import coco_content, coco_folder, picture

from visual_rft.cli.main import main
from visual_rft.config.sources import SourceConfig
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.finding import inside
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task
from visual_rft.vision.images import MOST_PIXELS, ImageFile


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "data")


def change(folder, edit):
    content = coco_content()
    edit(content)
    (folder / "annotations.json").write_text(json.dumps(content))


def refused(folder, message):
    with pytest.raises(DataError) as caught:
        check_sizes(load_coco(folder), Problems())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def skipped(folder, reason, images=3, objects=4):
    """Exactly one row is left out, for this reason; the rest is whole."""
    problems = Problems(skip=True)
    dataset = check_sizes(load_coco(folder, problems=problems), problems)
    assert dataset.skipped[reason] == 1
    assert (len(dataset.images), sum(len(i.labels) for i in dataset.images)) == (images, objects)
    return dataset


def test_truncated_jpeg(folder, capsys):
    """The header is sound, so reading passes; opening names the file, and ``data info`` finds it beforehand."""
    file = folder / "images" / "0001.jpg"
    file.write_bytes(file.read_bytes()[:-400])
    image = load_coco(folder).images[0]
    with pytest.raises(DataError, match=r"0001\.jpg: cannot be read as an image \(.*truncated"):
        image.image.load()
    assert main(["data", "info", "--format", "coco", "--path", str(folder), "--json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"].values()
    assert part["unreadable_images"] == 1
    assert "0001.jpg" in part["unreadable_examples"][0]


def test_empty_file(folder):
    (folder / "images" / "0001.jpg").write_bytes(b"")
    refused(folder, "0001.jpg: cannot be read as an image (the file is empty)")
    skipped(folder, "image that cannot be opened", images=2, objects=2)


def test_not_an_image(folder):
    (folder / "images" / "0001.jpg").write_bytes(b"<html>404</html>")
    refused(folder, "0001.jpg: cannot be read as an image (unknown format)")
    skipped(folder, "image that cannot be opened", images=2, objects=2)


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red = ImageFile(tmp_path / "a.jpg").load()
    assert red.mode == "RGB"
    r, g, b = red.getpixel((4, 4))
    assert r > 240 > 20 > max(g, b)


def test_16_bit_grey_is_scaled_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    loaded = np.asarray(ImageFile(tmp_path / "a.png").load())
    assert loaded.shape == (8, 8, 3)
    assert np.abs(loaded[..., 0] - ramp / 257.0).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused(tmp_path, mode):
    Image.new(mode, (4, 4), 70000).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: cannot be read as an image \(32-bit pixels"):
        ImageFile(tmp_path / "a.tif").load()


def test_transparent_is_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "b.png", transparency=0)
    for name in ("a.png", "b.png"):
        assert ImageFile(tmp_path / name).load().getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_one_pixel_is_an_image(tmp_path, size):
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "a.png")
    image = ImageFile(tmp_path / "a.png")
    assert image.size() == image.load().size == size


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 10_000])
def test_a_claim_of_20000_x_20000_is_not_opened(folder, side):
    """10,000 x 10,000 is where Pillow itself only warns."""
    assert side * side > MOST_PIXELS
    (folder / "images" / "0001.jpg").write_bytes(bomb(side, side))
    refused(folder, "0001.jpg: too large to open")
    refused(folder, "the limit is 89 million pixels: shrink it")
    skipped(folder, "image that cannot be opened", images=2, objects=2)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname", "images/../../secret.jpg", "a\0.jpg"])
def test_a_path_outside_the_root_is_not_opened(folder, name):
    picture(100, 80).save(folder.parent / "secret.jpg")
    change(folder, lambda c: c["images"][0].update(file_name=name))
    refused(folder, "leads outside the folder")
    with pytest.raises(DataError, match="leads outside the folder"):  # never skipped: somebody meant it
        load_coco(folder, problems=Problems(skip=True))


def test_names_inside_the_root_are_found_however_they_are_written(folder):
    for name in ("./images/0001.jpg", "images/../images/0001.jpg", str(folder / "images" / "0001.jpg")):
        assert inside(folder, name, "x").read_bytes() == (folder / "images" / "0001.jpg").read_bytes()
    linked = folder.parent / "linked"
    linked.mkdir()
    (linked / "images").symlink_to(folder / "images")  # the user's own link
    (linked / "annotations.json").write_text((folder / "annotations.json").read_text())
    assert len(load_coco(linked).images) == 3


def test_annotation_for_a_missing_image(folder):
    change(folder, lambda c: c["annotations"][0].update(image_id=99))
    refused(folder, "annotation 100: image_id 99 is not in 'images'")
    skipped(folder, "annotation of an image that is not there", objects=3)


def test_missing_image_file(folder):
    (folder / "images" / "0002.jpg").unlink()
    refused(folder, "image 2: no file '0002.jpg'")
    skipped(folder, "missing image", images=2, objects=2)


@pytest.mark.parametrize(
    ("bbox", "message", "reason"),
    [
        ([float("nan"), 20, 30, 40], "is not four finite numbers", "box that is not four numbers"),
        ([float("inf"), 20, 30, 40], "is not four finite numbers", "box that is not four numbers"),
        ([1e200, 20, 1e200, 40], "is outside its", "box outside its image"),
        ([True, 20, 30, 40], "is not four finite numbers", "box that is not four numbers"),
        (["1", 20, 30, 40], "is not four finite numbers", "box that is not four numbers"),
        ([10, 20, 0, 40], "has no area", "box without area"),
        ([100.5, 20, 0.4, 40], "is outside its", "box outside its image"),
        (None, "is not four finite numbers", "box that is not four numbers"),
    ],
)
def test_nan_box_and_its_kin(folder, bbox, message, reason):
    change(folder, lambda c: c["annotations"][0].update(bbox=bbox))
    refused(folder, f"annotation 100: bbox {bbox!r} {message}")
    dataset = skipped(folder, reason, objects=3)
    assert dataset.images[0].present == ["dog"]
    assert dataset.images[0].absent(dataset.classes) == ["stop sign"], "the cat is there, without its box"


def test_duplicate_ids(folder):
    change(folder, lambda c: c["images"][1].update(id=1))
    refused(folder, "images[1]: id 1 is used twice")
    change(folder, lambda c: c["annotations"][1].update(id=100))
    refused(folder, "annotation 100: this id is used twice")
    skipped(folder, "annotation id used twice", objects=3)
    change(folder, lambda c: c["categories"][1].update(id=17))
    refused(folder, "categories[1]: id 17 is used twice")


def test_two_ids_of_one_name_are_one_class(folder):
    change(folder, lambda c: c["categories"][1].update(name="cat"))
    dataset = load_coco(folder)
    assert dataset.classes == ("cat", "stop sign")
    assert dataset.images[0].labels == ("cat", "cat")


def test_non_utf_8_label(folder, tmp_path):
    text = json.dumps(coco_content()).replace("stop sign", "caf\xe9")
    (folder / "annotations.json").write_bytes(text.encode("latin-1"))
    refused(folder, "annotations.json: line 1: not UTF-8 (byte 0xe9); save it as UTF-8")
    yolo = tmp_path / "yolo"
    (yolo / "images").mkdir(parents=True)
    (yolo / "classes.txt").write_bytes(b"cat\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"classes\.txt: line 2: not UTF-8"):
        load_yolo(yolo)


def test_labels_of_any_script_are_kept(folder):
    (folder / "annotations.json").write_text(
        "\ufeff" + json.dumps(coco_content(), ensure_ascii=False).replace("stop sign", "停止 café"), encoding="utf-8"
    )  # with the byte order mark that Windows editors write
    assert "停止 café" in load_coco(folder).classes


def test_left_out_rows_are_reported_before_training(folder, capsys):
    change(folder, lambda c: c["annotations"][0].update(bbox=[10, 20, 0, 40]))
    source = SourceConfig(source="coco", path=str(folder), broken="skip")
    samples = load_samples([source], load_task("detection"))
    assert [s.question["category"] for s in samples] == ["dog", "cat", "stop sign"]
    assert f"data: {folder}: left out: 1 x box without area" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"images": 5}', '{"images": [], "annotations": []}'])
def test_a_file_of_another_structure_is_refused_in_any_case(folder, text):
    (folder / "annotations.json").write_text(text)
    for skip in (False, True):
        with pytest.raises(DataError, match=r"annotations\.json: "):
            load_coco(folder, problems=Problems(skip))
