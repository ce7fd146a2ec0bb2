"""Image files: which are opened at all, and that each is upright with one size, whatever its format."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from visual_rft.errors import DataError
from visual_rft.report.pictures import data_uri
from visual_rft.vision.images import FORMATS, SUFFIXES, EncodedImage, ImageFile, _plain_jpeg_size, is_image

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n0 0 60 40 rectfill\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program ``gs`` in PATH that leaves a mark when it is run."""
    mark = tmp_path / "it ran"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # what an earlier look may have remembered
    return mark


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.eps"])
def test_a_picture_that_is_postscript_runs_no_program(tmp_path, ghostscript, name):
    file = tmp_path / name
    file.write_bytes(POSTSCRIPT)
    encoded = EncodedImage("a", "row 1", lambda: POSTSCRIPT)
    for look in (ImageFile(file).load, ImageFile(file).size, encoded.load, encoded.size, encoded.format):
        with pytest.raises(DataError, match=r"cannot be read as an image \(unknown format\)"):
            look()
    with pytest.raises(OSError, match="cannot identify"):
        data_uri(file, 64)
    assert not ghostscript.exists()


def test_without_the_list_of_formats_the_program_would_run(tmp_path, ghostscript):
    """The test above can fail: Pillow alone runs ``gs`` for this very file."""
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / "photo.png") as opened, contextlib.suppress(OSError):
        opened.load()
    assert ghostscript.exists()


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "PDF", "SGI", "ICNS"])
def test_other_formats_are_not_opened_though_pillow_could(tmp_path, kind):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", kind)
    with pytest.raises(DataError, match="unknown format"):
        ImageFile(tmp_path / "a.png").load()


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_every_documented_format_is_read_by_its_content(tmp_path, kind):
    if kind == "MPO":
        Image.new("RGB", (16, 24)).save(tmp_path / "a", kind, append_images=[Image.new("RGB", (16, 24))], save_all=True)
    else:
        Image.new("RGB", (16, 24)).save(tmp_path / "a", kind)
    image = ImageFile(tmp_path / "a")
    assert image.size() == image.load().size == (16, 24)
    assert is_image(image.path) or kind in ("BMP", "PPM"), "two letters may begin a text as well"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_one_size_the_upright_one(tmp_path, kind, orientation):
    """Pillow turns the size of a TIFF itself; values that EXIF does not know turn nothing."""
    if kind not in FORMATS:
        pytest.skip(f"this Pillow has no {kind}")
    picture = Image.new("RGB", (120, 80))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a", kind, exif=exif)
    image = ImageFile(tmp_path / "a")
    upright = (80, 120) if orientation in (5, 6, 7, 8) else (120, 80)
    assert image.size() == image.load().size == upright
    content = (tmp_path / "a").read_bytes()
    assert EncodedImage("a", "row 1", lambda: content).size() == upright


def test_a_text_is_no_image_and_a_file_called_like_an_image_is_one(tmp_path):
    for name, content, wanted in (
        ("a.txt", b"0 0.5 0.5 0.5 0.5", False),
        ("a", b"", False),
        ("broken.jpg", b"<html>", True),
        ("b.txt", png(), True),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_image(tmp_path / name) is wanted, name
    (tmp_path / "folder.jpg").mkdir()
    assert not is_image(tmp_path / "folder.jpg")
    assert not is_image(Path("nowhere.jpg"))
    assert {".jfif", ".jpe"} <= SUFFIXES


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def jpegs(folder: Path) -> list[Path]:
    """JPEGs of every kind whose first segments differ, and some that are broken."""
    folder.mkdir()
    rgb, exif = Image.new("RGB", (31, 17)), Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict]] = {
        "baseline": (rgb, {}),
        "progressive": (rgb, {"progressive": True}),
        "restart markers": (rgb, {"restart_marker_rows": 1}),
        "grey": (rgb.convert("L"), {}),
        "CMYK": (rgb.convert("CMYK"), {}),
        "comment": (rgb, {"comment": b"hello" * 20}),
        "long comment": (rgb, {"comment": b"h" * 9000}),
        "turned": (rgb, {"exif": exif}),
        "XMP": (rgb, {"xmp": b'<x:xmpmeta xmlns:tiff="x"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'}),
        "colour profile": (rgb, {"icc_profile": b"\0" * 3000}),
        "resolution": (rgb, {"dpi": (300, 300)}),
        "one pixel": (Image.new("RGB", (1, 1)), {}),
    }
    for name, (image, options) in kinds.items():
        image.save(folder / f"{name}.jpg", "JPEG", **options)
    Image.new("RGB", (31, 17)).save(folder / "two.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    whole = (folder / "baseline.jpg").read_bytes()
    for cut in range(0, len(whole), 7):
        (folder / f"cut {cut:04d}.jpg").write_bytes(whole[:cut])
    for place in range(2, 700, 5):
        (folder / f"changed {place:04d}.jpg").write_bytes(whole[:place] + b"\x07" + whole[place + 1 :])
    (folder / "not a JPEG.jpg").write_bytes(b"\xff\xd8\xff\xd8")
    return sorted(folder.iterdir())


def test_the_quick_look_at_a_jpeg_sees_what_pillow_sees(tmp_path):
    """Sizes and errors are the same as through Pillow, of whole files and of broken ones."""
    quick = 0
    for file in jpegs(tmp_path / "jpegs"):
        seen = [outcome(look) for look in (ImageFile(file).size, lambda file=file: slow_size(file))]
        assert seen[0] == seen[1], file
        quick += _plain_jpeg_size(file) is not None
    assert quick > 50


def slow_size(file: Path) -> tuple[int, int]:
    return EncodedImage("a", str(file), file.read_bytes).size()


def outcome(look) -> object:
    try:
        return look()
    except DataError as error:
        return str(error)
