"""Large pictures in parts: where the tiles lie, one tile as a picture, and what of a box is in it.

Decision: tiles have one size and are spread evenly from edge to edge, so that none is thinner than the others and the
overlap is never less than asked for; a picture that is no larger than a tile is its own only tile. A tile of one size
is what a model sees at one scale, whatever the size of the picture.

>>> Tiling(100, overlap=0.2).windows(250, 90)
[(0, 0, 100, 90), (75, 0, 175, 90), (150, 0, 250, 90)]
>>> visible((60, 10, 100, 20), (75, 0, 175, 90)), cut((60, 10, 100, 20), (75, 0, 175, 90))
(0.625, (0, 10, 25, 20))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from PIL import Image

from visual_rft.errors import ConfigError
from visual_rft.vision.boxes import Box, area
from visual_rft.vision.images import ImageReference

Window = tuple[int, int, int, int]
"""``(x1, y1, x2, y2)`` in whole pixels of a picture."""
LEAST_SIZE = 32
"""Fewest pixels a side; less is no picture to any vision tower."""


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    Attributes:
        size: pixels a side of a tile, at least :data:`LEAST_SIZE`.
        overlap: least share of its side that a tile has in common with the next one, in [0, 0.9]. An object no larger
            than this is whole in one of them.

    Raises:
        ConfigError: if a value is out of range.
    """

    size: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.size < LEAST_SIZE:
            raise ConfigError(f"tiles: a size of {self.size} is below {LEAST_SIZE} pixels")
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"tiles: an overlap of {self.overlap} is not in [0, 0.9]")

    def windows(self, width: int, height: int) -> list[Window]:
        """The tiles of a picture of this size, row by row."""
        return [(x, y, min(x + self.size, width), min(y + self.size, height))
                for y in self._starts(height) for x in self._starts(width)]  # fmt: skip

    def _starts(self, length: int) -> list[int]:
        room = length - self.size
        if room <= 0:
            return [0]
        steps = ceil(room / (self.size * (1 - self.overlap)))
        return [round(step * room / steps) for step in range(steps + 1)]


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture, as a picture.

    Attributes:
        image: the whole.
        window: the part.
    """

    image: ImageReference
    window: Window

    @property
    def key(self) -> str:
        return f"{self.image.key}@{','.join(map(str, self.window))}"

    def load(self) -> Image.Image:
        image: Any = self.image  # a protocol, which does not say that it can be a key
        whole: Image.Image = _whole(image)
        return whole.crop(self.window)

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        x1, y1, x2, y2 = self.window
        return x2 - x1, y2 - y1


@lru_cache(maxsize=2)
def _whole(image: Any) -> Image.Image:
    """Tiles of one picture follow each other; decoding 12 megapixels for each takes as long as answering it."""
    whole: Image.Image = image.load()
    return whole


def visible(box: Box, window: Window) -> float:
    """Share of a box that lies in a window, in [0, 1]."""
    x1, y1, x2, y2 = _common(box, window)
    return max(x2 - x1, 0) * max(y2 - y1, 0) / (area(box) or 1)


def cut(box: Box, window: Window) -> Box:
    """The part of a box that lies in a window, in pixels of the tile."""
    x1, y1, x2, y2 = _common(box, window)
    left, top = window[:2]
    return x1 - left, y1 - top, x2 - left, y2 - top


def moved_back(box: Box, window: Window) -> Box:
    """A box in pixels of a tile, in those of the picture."""
    left, top = window[:2]
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def _common(box: Box, window: Window) -> Box:
    return max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])
