"""What the embedded model is taught on: procedural scenes, drawn once, kept as the patches its vision tower takes.

Decision: drawing a scene costs about 10 ms and learning from it 40, so a scene is drawn once and asked about two or
three times, with other questions. The *layout* of a scene (what is where) is a function of its number and costs
nothing, so only pixels are kept. Digits come from the split ``base`` alone, and every seed is one that no demo,
evaluation or test uses.

>>> to_patches(np.zeros((96, 128, 3), np.uint8)).shape  # 48 patches in 12 image tokens
(48, 768)
>>> SOURCES["shapes"][0][7].present
['blue triangle', 'orange circle', 'purple circle', 'red triangle', 'yellow circle']
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.flowers import Flowers
from visual_rft.data.procedural.shapes import Shapes

PATCH = 16
"""Pixels a side of one patch; an image token covers 2 x 2."""
MAX_PATCHES = 64
"""Patches of the largest scene, 128 x 128 pixels."""
PER_FILE = 1000
"""Scenes in one file, 49 MB: drawing that was interrupted goes on with the file it was at."""

SOURCES: Mapping[str, tuple[Sequence[AnnotatedImage], int]] = {
    "shapes": (Shapes(10**6, seed=90_101, min_objects=2), 24_000),
    "shape": (Shapes(10**6, seed=90_102, max_objects=1), 6_000),
    "digits": (Digits(10**6, "base", seed=90_103), 40_000),
    "flowers": (Flowers(10**6, seed=90_104), 14_000),
}
"""Each kind of scene, and how many are drawn. Of the scenes of digits 3 in 10 hold one digit alone."""


def to_patches(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """``[H, W, 3]`` as ``[N, 768]``: the processor's order of patches and of the values in each, before scaling."""
    height, width, _ = pixels.shape
    rows, columns = height // PATCH, width // PATCH
    blocks = pixels.reshape(rows // 2, 2, PATCH, columns // 2, 2, PATCH, 3)
    return np.ascontiguousarray(blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3 * PATCH * PATCH))


def grid_of(image: AnnotatedImage) -> tuple[int, int, int]:
    """(1, rows, columns) of its patches, as the processor's ``image_grid_thw``."""
    width, height = image.size
    return 1, height // PATCH, width // PATCH


def draw(folder: Path, counts: Mapping[str, int] | None = None, say: Callable[[str], None] = print) -> int:
    """Draw the scenes that ``folder`` lacks; returns how many scenes there are in all.

    Args:
        folder: where the files go, one per :data:`PER_FILE` scenes.
        counts: scenes of each source; default as in :data:`SOURCES`.
        say: takes one line of progress per file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {name: count for name, (_, count) in SOURCES.items()} if counts is None else counts
    for name, count in counts.items():
        source, _ = SOURCES[name]
        for first in range(0, count, PER_FILE):
            file = _file(folder, name, first)
            if file.exists():
                continue
            started = time.monotonic()
            numbers = range(first, min(count, first + PER_FILE))
            drawn = np.zeros((len(numbers), MAX_PATCHES, 3 * PATCH * PATCH), dtype=np.uint8)
            for row, number in zip(drawn, numbers, strict=True):
                patches = to_patches(np.asarray(source[number].image.load()))
                row[: len(patches)] = patches
            unfinished = file.with_suffix(".unfinished")
            with unfinished.open("wb") as stream:
                np.save(stream, drawn)
            unfinished.rename(file)
            rate = len(numbers) / (time.monotonic() - started)
            say(f"draw | {name} {first + len(numbers)}/{count} | {rate:.0f} scenes/s")
    return sum(counts.values())


def _file(folder: Path, name: str, first: int) -> Path:
    return folder / f"{name}-{first // PER_FILE:03d}.npy"


class Scenes:
    """The drawn scenes of a folder, read from disk when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            name: [np.load(file, mmap_mode="r") for file in sorted(folder.glob(f"{name}-*.npy"))] for name in SOURCES
        }

    def count(self, name: str) -> int:
        """How many scenes of a source are drawn."""
        return sum(len(file) for file in self._files[name])

    def layout(self, name: str, number: int) -> AnnotatedImage:
        """What is where in scene ``number``."""
        return SOURCES[name][0][number]

    def patches(self, name: str, number: int) -> npt.NDArray[np.uint8]:
        """Its pixels as ``[N, 768]``."""
        _, rows, columns = grid_of(self.layout(name, number))
        return np.asarray(self._files[name][number // PER_FILE][number % PER_FILE, : rows * columns])

    def turn(self, cycle: Sequence[str], position: int) -> tuple[str, int]:
        """Source and number of scene number ``position`` of an endless series that repeats ``cycle``.

        Each source is gone through from its first scene to its last, and then again.
        """
        rounds, place = divmod(position, len(cycle))
        name = cycle[place]
        return name, (rounds * cycle.count(name) + cycle[:place].count(name)) % self.count(name)
