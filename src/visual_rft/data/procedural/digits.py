"""Real handwriting: scikit-learn's 1,797 UCI digit scans pasted into paper and blackboard scenes.

Decision: the *scans* are split, not the scenes, so that handwriting in the test scenes was never seen by anything
that trains, the embedded base model included: 1,000 scans to teach the base, 297 for few-shot training, 500 to test.
Where hyper-parameters are chosen, the 297 are split once more: 197 ``shots`` to train on, 100 for ``validation``.
The scans are 8 x 8 with 17 grey levels (UCI ML hand-written digits, bundled with scikit-learn).

>>> len(scans("base")[0]), len(scans("train")[0]), len(scans("test")[0])
(1000, 297, 500)
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.lazy import LazySequence
from visual_rft.data.procedural.backgrounds import background
from visual_rft.data.procedural.shapes import SIZES, place
from visual_rft.errors import ConfigError
from visual_rft.tasks.truth import ObjectFacts
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import RenderedImage

CLASSES = tuple(f"digit {i}" for i in range(10))
LOOK_ALIKES = {f"digit {a}": f"digit {b}" for a, b in ((1, 7), (2, 0), (3, 8), (4, 9), (5, 6))}
"""What a digit is taken for by an imprecise annotator."""
_SPLITS = {
    "base": slice(0, 1000),
    "train": slice(1000, 1297),
    "shots": slice(1000, 1197),
    "validation": slice(1197, 1297),
    "test": slice(1297, 1797),
}


@cache
def scans(split: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scans ``[N, 8, 8]`` with ink in 0..1, and their digits ``[N]``, of one split (``base``, ``train``, ``test``,
    or the parts ``shots`` and ``validation`` of ``train``).

    Raises:
        ConfigError: if there is no such split.
    """
    if split not in _SPLITS:
        raise ConfigError(f"data: digits has no split {split!r}; choose from {', '.join(_SPLITS)}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(20250303).permutation(len(bunch.target))[_SPLITS[split]]
    return bunch.images[order] / 16.0, bunch.target[order].astype(np.int64)


class Digits(LazySequence[AnnotatedImage]):
    """``count`` scenes with ``min_objects`` to ``max_objects`` handwritten digits.

    Args:
        count: number of scenes.
        split: which scans are used, as in :func:`scans`.
        seed: scenes of different seeds are unrelated.
        max_objects: most digits in a scene, at least 1.
        min_objects: fewest digits that are tried; a crowded scene may hold fewer, but at least one.
    """

    classes = CLASSES
    most_objects = 4

    def __init__(
        self, count: int, split: str, seed: int = 0, max_objects: int = most_objects, min_objects: int = 1
    ) -> None:
        scans(split)
        super().__init__(count)
        self.split, self.seed, self.max_objects, self.min_objects = split, seed, max_objects, min_objects

    def item(self, index: int) -> AnnotatedImage:
        _, digits = scans(self.split)
        rng = np.random.default_rng((self.seed, index, len(digits)))
        width, height = SIZES[rng.integers(len(SIZES))]
        cells: list[Box] = []
        chosen: list[int] = []
        boxes: list[Box] = []
        count = 1 + int(rng.choice(4, p=(0.3, 0.35, 0.2, 0.15)))
        for _ in range(max(self.min_objects, min(self.max_objects, count))):
            cell = place(rng, width, height, cells, smallest=24, largest=56, most_overlap=0.05)
            if cell is None:
                continue
            scan = int(rng.integers(len(digits)))
            if chosen and rng.random() < 0.2:
                scan = int(rng.choice(np.flatnonzero(digits == digits[chosen[rng.integers(len(chosen))]])))
            cells.append(cell)
            chosen.append(scan)
            boxes.append(_ink_box(self.split, scan, cell))
        name = f"digits-{self.split}-{self.seed}-{index}"
        seed = (self.seed, index, len(digits), 1)
        render = partial(_render, seed, self.split, width, height, tuple(chosen), tuple(cells))
        labels = tuple(f"digit {digits[i]}" for i in chosen)
        picture = RenderedImage(name, render)
        return AnnotatedImage(name, picture, (width, height), labels, tuple(boxes), _facts(labels[0]))


def _facts(label: str) -> ObjectFacts:
    facts: ObjectFacts = {"thought": "handwriting", "synonyms": [label.removeprefix("digit ")]}
    if label in LOOK_ALIKES:
        facts["look_alike"] = LOOK_ALIKES[label]
    return facts


def _pixel_cell(cell: Box) -> tuple[int, int, int, int]:
    """Left, top, width and height of a cell in whole pixels."""
    x1, y1, x2, y2 = cell
    return int(x1), int(y1), max(8, int(x2 - x1)), max(8, int(y2 - y1))


@cache
def _ink(split: str, scan: int, width: int, height: int) -> npt.NDArray[np.float64]:
    """One scan enlarged to ``[height, width]``, ink in 0..1."""
    image = Image.fromarray((scans(split)[0][scan] * 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 255


def _ink_box(split: str, scan: int, cell: Box) -> Box:
    """The tight box around the visible ink (more than 30 % dark) of a scan pasted at ``cell``, in pixels."""
    left, top, width, height = _pixel_cell(cell)
    rows, columns = np.nonzero(_ink(split, scan, width, height) > 0.3)
    return (
        float(left + columns.min()),
        float(top + rows.min()),
        float(left + columns.max() + 1),
        float(top + rows.max() + 1),
    )


def _render(
    seed: tuple[int, ...],
    split: str,
    width: int,
    height: int,
    chosen: tuple[int, ...],
    cells: tuple[Box, ...],
) -> Image.Image:
    rng = np.random.default_rng(seed)
    board = rng.random() < 0.3
    paper = rng.uniform(25, 70) if board else rng.uniform(185, 245)
    picture = background(rng, width, height, np.clip(paper + rng.uniform(-12, 12, 3), 0, 255))
    for scan, cell in zip(chosen, cells, strict=True):
        colour = rng.uniform(200, 255, 3) if board else rng.uniform((0, 0, 0), (110, 80, 130))
        left, top, w, h = _pixel_cell(cell)
        ink = np.clip(_ink(split, scan, w, h) * 1.15, 0, 1)[..., None]
        area = picture[top : top + h, left : left + w]
        picture[top : top + h, left : left + w] = area * (1 - ink) + colour * ink
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 3)):  # clutter: thin strokes in a tone near the paper's
        tone = int(np.clip(paper + rng.uniform(-60, 60), 0, 255))
        start = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        end = (start[0] + float(rng.uniform(-40, 40)), start[1] + float(rng.uniform(-8, 8)))
        draw.line((*start, *end), fill=(tone, tone, tone), width=1)
    return image
