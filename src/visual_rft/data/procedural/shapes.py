"""Procedural scenes: coloured shapes on varied backgrounds with clutter and overlaps, deterministic by seed.

Decision: a scene's *layout* (what and where) is drawn from ``(seed, index)`` at once and its *pixels* only when the
image is opened, so a data set of 100,000 scenes costs nothing until it is read.

>>> scene = Shapes(count=10, seed=3)[0]
>>> scene.image.load().size == scene.size
True
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.lazy import LazySequence
from visual_rft.data.procedural.backgrounds import background
from visual_rft.vision.boxes import Box, iou
from visual_rft.vision.images import RenderedImage

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "orange": (245, 130, 30),
}
FORMS = ("circle", "square", "triangle", "star", "cross")
CLASSES = tuple(f"{colour} {form}" for colour in COLOURS for form in FORMS)
SIZES = ((96, 96), (128, 96), (96, 128), (128, 128))
"""(width, height) in pixels of the scenes; all are multiples of the 32 pixels one image token covers."""


class Shapes(LazySequence[AnnotatedImage]):
    """``count`` scenes with ``min_objects`` to ``max_objects`` shapes.

    Args:
        count: number of scenes.
        seed: scenes of different seeds are unrelated.
        max_objects: most objects in a scene, at least 1.
        min_objects: fewest objects that are tried; a crowded scene may hold fewer, but at least one.
    """

    classes = CLASSES
    most_objects = 6

    def __init__(self, count: int, seed: int = 0, max_objects: int = most_objects, min_objects: int = 1) -> None:
        super().__init__(count)
        self.seed, self.max_objects, self.min_objects = seed, max_objects, min_objects

    def item(self, index: int) -> AnnotatedImage:
        rng = np.random.default_rng((self.seed, index))
        width, height = SIZES[rng.integers(len(SIZES))]
        count = 1 + int(rng.choice(6, p=(0.3, 0.25, 0.18, 0.12, 0.09, 0.06)))
        count = max(self.min_objects, min(self.max_objects, count))
        labels: list[str] = []
        boxes: list[Box] = []
        for _ in range(count):
            box = place(rng, width, height, boxes)
            if box is None:
                continue
            # A repeated class makes the answer a list; without this only 1 question in 12 had two boxes.
            repeat = labels and rng.random() < 0.25
            labels.append(labels[rng.integers(len(labels))] if repeat else CLASSES[rng.integers(len(CLASSES))])
            boxes.append(box)
        name = f"shapes-{self.seed}-{index}"
        render = partial(_render, (self.seed, index, 1), width, height, tuple(labels), tuple(boxes))
        return AnnotatedImage(name, RenderedImage(name, render), (width, height), tuple(labels), tuple(boxes))


def place(
    rng: np.random.Generator,
    width: int,
    height: int,
    taken: Sequence[Box],
    smallest: float = 16,
    largest: float = 52,
    most_overlap: float = 0.12,
) -> Box | None:
    """A box inside the image whose IoU with each taken box is at most ``most_overlap``; None after 20 tries."""
    for _ in range(20):
        w = float(rng.uniform(smallest, largest))
        h = float(np.clip(w * rng.uniform(0.75, 1.33), smallest, largest))
        x, y = float(rng.uniform(1, width - w - 1)), float(rng.uniform(1, height - h - 1))
        box = (x, y, x + w, y + h)
        if all(iou(box, other) <= most_overlap for other in taken):
            return box
    return None


def _render(
    seed: tuple[int, ...],
    width: int,
    height: int,
    labels: tuple[str, ...],
    boxes: tuple[Box, ...],
) -> Image.Image:
    rng = np.random.default_rng(seed)
    grey = rng.uniform(30, 225)
    base = np.clip(grey + rng.uniform(-25, 25, 3), 0, 255)
    pixels = np.clip(background(rng, width, height, base), 0, 255).astype(np.uint8)
    scale = 2  # drawn at twice the size and reduced: smooth edges
    picture = Image.fromarray(pixels).resize((width * scale, height * scale), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 6)):  # clutter: short grey strokes
        x, y = rng.uniform(0, width * scale), rng.uniform(0, height * scale)
        tone = int(rng.uniform(20, 235))
        end = (x + rng.uniform(-30, 30), y + rng.uniform(-30, 30))
        draw.line((x, y, *end), fill=(tone, tone, tone), width=int(rng.integers(1, 4)))
    for label, box in zip(labels, boxes, strict=True):
        colour_name, form = label.split()
        colour = np.clip(np.array(COLOURS[colour_name]) + rng.uniform(-18, 18, 3), 0, 255)
        fill = tuple(int(v) for v in colour)
        edge = tuple(int(v * 0.55) for v in colour)
        x1, y1, x2, y2 = (v * scale for v in box)
        outline = edge if rng.random() < 0.5 else fill
        points = _points(form, x1, y1, x2, y2)
        if points is None:
            draw.ellipse((x1, y1, x2 - 1, y2 - 1), fill=fill, outline=outline, width=2)
        else:
            draw.polygon(points, fill=fill, outline=outline, width=2)
        if rng.random() < 0.25:  # texture: a few darker bars across the middle
            for t in (0.42, 0.52, 0.62):
                y = y1 + t * (y2 - y1)
                draw.line((x1 + 0.42 * (x2 - x1), y, x1 + 0.58 * (x2 - x1), y), fill=edge, width=2)
    return picture.resize((width, height), Image.Resampling.BOX)


def _points(form: str, x1: float, y1: float, x2: float, y2: float) -> list[tuple[float, float]] | None:
    """Corners of a form that touch all four sides of its box; None for a circle."""
    unit: npt.NDArray[np.float64]
    if form == "circle":
        return None
    if form == "square":
        unit = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.float64)
    elif form == "triangle":
        unit = np.array([(0.5, 0), (1, 1), (0, 1)], dtype=np.float64)
    elif form == "cross":
        a, b = 1 / 3, 2 / 3
        corners = [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]
        unit = np.array(corners, dtype=np.float64)
    else:
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
        unit = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1)
        unit = (unit - unit.min(0)) / np.ptp(unit, axis=0)
    return [(x1 + u * (x2 - x1 - 1), y1 + v * (y2 - y1 - 1)) for u, v in unit.tolist()]
