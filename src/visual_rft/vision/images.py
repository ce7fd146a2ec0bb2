"""Images opened late: a dataset of a million rows holds a million small references, not pixels.

Decision: a reference knows its ``key`` (equal keys mean equal pixels, so the policy runs the vision tower once per
key) and how to ``load`` itself as an upright RGB picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps, UnidentifiedImageError

from visual_rft.errors import DataError


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
        try:
            with Image.open(self.path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except FileNotFoundError:
            raise DataError(f"{self.path}: no such image file") from None
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{self.path}: cannot be read as an image ({error})") from error


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
