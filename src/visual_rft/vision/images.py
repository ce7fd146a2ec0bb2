"""Images opened late: a dataset of a million rows holds a million small references, not pixels.

Decision: a reference knows its ``key`` (equal keys mean equal pixels, so the policy runs the vision tower once per
key) and how to ``load`` itself as an upright RGB picture. Whatever the file holds becomes 8-bit RGB by one rule:
EXIF orientation is applied, transparency is laid on white, CMYK and palettes are converted, 16-bit grey is scaled
(Pillow alone would cut everything above 255 off to white); pixels without a known range (32-bit integers, floats) are
refused. Only the raster formats of :data:`FORMATS` are ever opened, whatever a file's name says: Pillow also knows
formats that are programs, and would start one (``gs``) to draw a PostScript file that is called ``photo.png``.

>>> as_rgb(Image.new("I;16", (1, 1), 65535 // 2)).getpixel((0, 0))
(127, 127, 127)
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps, UnidentifiedImageError

from visual_rft.errors import DataError

MOST_PIXELS = 89_478_485
"""Largest image, in pixels: Pillow's own limit for files that may be decompression bombs (256 MiB as RGB)."""
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
})  # fmt: skip
"""File names that end so are images."""
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP",
           *(("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()))  # fmt: skip
"""What is opened, by Pillow's names. Of a JPEG of two pictures, as telephones write it (MPO), the first is taken."""
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ",
               b"\xff\x4f\xff\x51")  # fmt: skip
_JPEG_HEAD_BYTES = 2048
"""A camera's or COCO's JPEG without EXIF has its tables and size in the first 700."""
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 0x0112, 256, 257


class ImageReference(Protocol):
    """Something that can be opened as an image."""

    @property
    def key(self) -> str:
        """Equal keys mean equal pixels."""

    def load(self) -> Image.Image:
        """The picture, RGB, upright.

        Raises:
            DataError: if the image is missing or cannot be decoded; the message names it.
        """


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image on disk; EXIF orientation is applied on load."""

    path: Path

    @property
    def key(self) -> str:
        return str(self.path)

    def load(self) -> Image.Image:
        return _load(self.path, str(self.path))

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of the upright picture, from the file's header alone.

        Raises:
            DataError: as :meth:`load`, as far as the header tells.
        """
        return _plain_jpeg_size(self.path) or _size(self.path, str(self.path))

    def content(self) -> bytes:
        """The file as it is."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class EncodedImage:
    """An image file that is a value of a table, e.g. of a parquet file.

    Attributes:
        key: a digest of the bytes, so that rows with the same picture share it.
        where: names the image in error messages.
        read: fetches the bytes.
    """

    key: str
    where: str = field(compare=False)
    read: Callable[[], bytes] = field(compare=False)

    def load(self) -> Image.Image:
        return _load(io.BytesIO(self.read()), self.where)

    def size(self) -> tuple[int, int]:
        """As :meth:`ImageFile.size`."""
        return _size(io.BytesIO(self.read()), self.where)

    def content(self) -> bytes:
        """The encoded image as it is."""
        return self.read()

    def format(self) -> str:
        """How it is encoded, e.g. ``JPEG`` or ``PNG``."""
        try:
            with open_image(io.BytesIO(self.read())) as image:
                return str(image.format)
        except _UNREADABLE as error:
            raise _explained(error, io.BytesIO(self.read()), self.where) from error


@dataclass(frozen=True)
class RenderedImage:
    """An image that a function draws when it is needed (procedural data).

    Attributes:
        key: names the pixels; the same key must always draw the same picture.
        render: draws the RGB picture.
    """

    key: str
    render: Callable[[], Image.Image] = field(compare=False)

    def load(self) -> Image.Image:
        return self.render()


def is_image(file: Path) -> bool:
    """Whether a file is one to be opened: by its name, or by its first bytes where the name says nothing.

    A file that is called like an image is one here, whatever it holds, so that a broken one is named and not lost.
    """
    if file.suffix.lower() in SUFFIXES:
        return file.is_file()
    try:
        with file.open("rb") as opened:
            start = opened.read(12)
    except OSError:
        return False
    riff, brand = start[:4] == b"RIFF" and start[8:] == b"WEBP", start[4:12]
    return start.startswith(_BEGINNINGS) or riff or brand in (b"ftypavif", b"ftypavis")


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Pillow's ``Image.open`` for :data:`FORMATS` alone, within :data:`MOST_PIXELS`.

    Raises:
        OSError: if it is none of them, or cannot be read.
        Image.DecompressionBombError: if it claims more pixels.
    """
    image = Image.open(source, formats=FORMATS)
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise Image.DecompressionBombError(f"it claims {width} x {height} pixels")
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as 8-bit RGB, by the rule of the module docstring.

    Raises:
        ValueError: if the range of its pixels is not known.
    """
    if image.mode in {"I", "F"}:
        raise ValueError(f"32-bit pixels (mode {image.mode}) have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        import numpy as np  # here, because a reward needs this module but no NumPy

        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def load_small(image: ImageReference, least_side: int) -> Image.Image:
    """The picture as :meth:`ImageReference.load` gives it, but decoded small where its file can be: of a JPEG a share
    of the pixels, in an eighth of the time.

    Args:
        image: what to open.
        least_side: sides of the result are at least so many pixels, if the picture's are.

    Raises:
        DataError: if the image is missing or cannot be decoded; the message names it.
    """
    if not isinstance(image, ImageFile):
        return image.load()
    try:
        with open_image(image.path) as opened:
            opened.draft("RGB", (least_side, least_side))
            return as_rgb(ImageOps.exif_transpose(opened))
    except _UNREADABLE as error:
        raise _explained(error, image.path, str(image.path)) from error


def _load(source: Path | io.BytesIO, where: str) -> Image.Image:
    try:
        with open_image(source) as image:
            return as_rgb(ImageOps.exif_transpose(image))
    except _UNREADABLE as error:
        raise _explained(error, source, where) from error


def _size(source: Path | io.BytesIO, where: str) -> tuple[int, int]:
    try:
        with open_image(source) as image:
            width, height = image.size
            if image.format == "TIFF":  # Pillow has turned this size already, as it does only for this format
                tags = image.getexif()
                width, height = int(tags.get(_TIFF_WIDTH, width)), int(tags.get(_TIFF_HEIGHT, height))
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # shown turned by a quarter
            return (height, width) if turned else (width, height)
    except _UNREADABLE as error:
        raise _explained(error, source, where) from error


def _plain_jpeg_size(file: Path) -> tuple[int, int] | None:
    """(width, height) of a JPEG that says nothing of its orientation, from its first segments; None for any other file.

    Pillow takes 0.1 ms to open a file, of which a data set may have a hundred thousand; this takes a sixth of it.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            head = opened.read(_JPEG_HEAD_BYTES)
    except OSError:
        return None  # said by whoever opens it
    if head[:2] != b"\xff\xd8":
        return None
    size, at = None, 2
    while at + 9 < len(head) and head[at] == 0xFF:
        kind = head[at + 1]
        length = int.from_bytes(head[at + 2 : at + 4])
        if kind == 0xDA:  # the picture begins behind this: all that Pillow looks at has been seen
            return size if 2 <= length <= len(head) - at - 2 else None
        if kind == 0xE1 or not 0xC0 <= kind <= 0xFE or 0xD0 <= kind <= 0xD9:  # EXIF or XMP may turn it; not usual
            return None
        if 0xC0 <= kind <= 0xC2:
            height, width, layers = (
                int.from_bytes(head[at + 5 : at + 7]),
                int.from_bytes(head[at + 7 : at + 9]),
                head[at + 9],
            )
            if head[at + 4] != 8 or layers not in (1, 3, 4) or size or not 0 < width * height <= MOST_PIXELS:
                return None
            size = width, height
        elif 0xC3 <= kind <= 0xCF and kind != 0xC4:
            return None
        at += 2 + length
    return None


# Broken files make decoders raise any of these (SyntaxError: a broken PNG chunk).
_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError,
               Image.DecompressionBombError, Image.DecompressionBombWarning)  # fmt: skip


def _explained(error: Exception | Warning, source: Path | io.BytesIO, where: str) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{where}: no such image file")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return DataError(
            f"{where}: too large to open ({error}); the limit is {MOST_PIXELS / 1e6:.0f} million pixels: shrink it"
        )
    if isinstance(error, UnidentifiedImageError):
        empty = source.getbuffer().nbytes == 0 if isinstance(source, io.BytesIO) else source.stat().st_size == 0
        return DataError(f"{where}: cannot be read as an image ({'the file is empty' if empty else 'unknown format'})")
    return DataError(f"{where}: cannot be read as an image ({error})")
