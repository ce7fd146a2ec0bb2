"""Images opened late: a dataset of a million rows holds a million small references, not pixels.

Decision: a reference knows its ``key`` (equal keys mean equal pixels, so the policy runs the vision tower once per
key) and how to ``load`` itself as an upright RGB picture. Whatever the file holds becomes 8-bit RGB by one rule:
EXIF orientation is applied, transparency is laid on white, CMYK and palettes are converted, 16-bit grey is scaled
(Pillow alone would cut everything above 255 off to white); pixels without a known range (32-bit integers, floats) are
refused.

>>> as_rgb(Image.new("I;16", (1, 1), 65535 // 2)).getpixel((0, 0))
(127, 127, 127)
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps, UnidentifiedImageError

from visual_rft.errors import DataError

MOST_PIXELS = 89_478_485
"""Largest image, in pixels: Pillow's own limit for files that may be decompression bombs (256 MiB as RGB)."""
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
"""File names that end so are images."""


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


@dataclass(frozen=True)
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
        return _size(self.path, str(self.path))

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
            with _open(io.BytesIO(self.read())) as image:
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
        with _open(image.path) as opened:
            opened.draft("RGB", (least_side, least_side))
            return as_rgb(ImageOps.exif_transpose(opened))
    except _UNREADABLE as error:
        raise _explained(error, image.path, str(image.path)) from error


def _open(source: Path | io.BytesIO) -> Image.Image:
    image = Image.open(source)
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise Image.DecompressionBombError(f"it claims {width} x {height} pixels")
    return image


def _load(source: Path | io.BytesIO, where: str) -> Image.Image:
    try:
        with _open(source) as image:
            return as_rgb(ImageOps.exif_transpose(image))
    except _UNREADABLE as error:
        raise _explained(error, source, where) from error


def _size(source: Path | io.BytesIO, where: str) -> tuple[int, int]:
    try:
        with _open(source) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientation: shown turned by a quarter
            return (height, width) if turned else (width, height)
    except _UNREADABLE as error:
        raise _explained(error, source, where) from error


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
