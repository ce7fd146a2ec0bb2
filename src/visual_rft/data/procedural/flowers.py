"""Procedural flowers of 24 kinds that differ in detail: number, form and colour of the petals. Fine-grained on purpose.

Decision: the kind is the product of a genus (how many petals, round or pointed) and a colour, so that every kind has
look-alikes that differ in one detail, as species do. Deterministic by seed; pixels are drawn when an image is opened.

>>> flower = Flowers(count=10, seed=3)[0]
>>> flower.labels[0] in Flowers.classes, len(Flowers.classes)
(True, 24)
"""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.lazy import LazySequence
from visual_rft.data.procedural.backgrounds import background
from visual_rft.data.procedural.shapes import SIZES
from visual_rft.tasks.truth import ObjectFacts
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import RenderedImage

GENERA: dict[str, tuple[int, str]] = {
    "poppy": (4, "round"),
    "clematis": (4, "pointed"),
    "buttercup": (5, "round"),
    "columbine": (5, "pointed"),
    "anemone": (6, "round"),
    "lily": (6, "pointed"),
    "cosmos": (8, "round"),
    "dahlia": (8, "pointed"),
}
"""Petals and their form."""
COLOURS: dict[str, tuple[int, int, int]] = {"red": (214, 40, 50), "yellow": (240, 205, 40), "purple": (140, 70, 190)}
CLASSES = tuple(f"{colour} {genus}" for colour in COLOURS for genus in GENERA)


class Flowers(LazySequence[AnnotatedImage]):
    """``count`` pictures of one flower each.

    Args:
        count: number of pictures.
        seed: pictures of different seeds are unrelated.
    """

    classes = CLASSES

    def __init__(self, count: int, seed: int = 0) -> None:
        super().__init__(count)
        self.seed = seed

    def item(self, index: int) -> AnnotatedImage:
        rng = np.random.default_rng((self.seed, index, 24))
        # Every kind equally often, so that a few shots per kind are a few shots of every kind.
        order = np.random.default_rng((self.seed, index // len(CLASSES), 25)).permutation(len(CLASSES))
        label = CLASSES[order[index % len(CLASSES)]]
        width, height = SIZES[rng.integers(len(SIZES))]
        radius = float(rng.uniform(28, 44))
        x, y = (float(rng.uniform(radius + 2, side - radius - 2)) for side in (width, height))
        centre = (x, y)
        turn = float(rng.uniform(0, 2 * np.pi))
        box = _petal_box(label, centre, radius, turn)
        name = f"flowers-{self.seed}-{index}"
        render = partial(_render, (self.seed, index, 26), width, height, label, centre, radius, turn)
        return AnnotatedImage(name, RenderedImage(name, render), (width, height), (label,), (box,), _facts(label))


def _facts(label: str) -> ObjectFacts:
    """What is seen on a flower of this kind, its genus, and the kind it is most easily taken for.

    The look-alike of a kind with pointed petals has round ones, in the same colour and number.
    """
    colour, genus = label.split()
    count, form = GENERA[genus]
    facts: ObjectFacts = {"thought": f"{count} {form} petals, {colour}", "parents": [genus]}
    if form == "pointed":
        twin = next(other for other, described in GENERA.items() if described == (count, "round"))
        facts["look_alike"] = f"{colour} {twin}"
    return facts


def _petals(label: str, centre: tuple[float, float], radius: float, turn: float) -> list[list[tuple[float, float]]]:
    """Outline of each petal, in pixels."""
    count, form = GENERA[label.split()[1]]
    t = np.linspace(0, 1, 25)
    # Half width along the petal; its greatest value leaves a gap between neighbours.
    half = np.tan(np.pi / count) * 0.42 if count > 4 else 0.34
    if form == "round":
        profile = half * np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, None))
        tip = half * np.sqrt(np.clip(1 - ((t - 0.6) / 0.4) ** 2, 0, None))
        profile = np.where(t > 0.6, np.maximum(profile, tip), profile)
    else:
        profile = half * np.where(t < 0.4, t / 0.4, (1 - t) / 0.6)
    outline = np.concatenate([np.stack([t, profile], 1), np.stack([t, -profile], 1)[::-1]]) * radius
    petals = []
    for k in range(count):
        angle = turn + 2 * np.pi * k / count
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        petals.append([(float(x), float(y)) for x, y in outline @ rotation + np.array(centre)])
    return petals


def _petal_box(label: str, centre: tuple[float, float], radius: float, turn: float) -> Box:
    points = np.array([p for petal in _petals(label, centre, radius, turn) for p in petal])
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def _render(
    seed: tuple[int, ...],
    width: int,
    height: int,
    label: str,
    centre: tuple[float, float],
    radius: float,
    turn: float,
) -> Image.Image:
    rng = np.random.default_rng(seed)
    meadow = np.array([rng.uniform(30, 110), rng.uniform(90, 170), rng.uniform(30, 110)])
    pixels = np.clip(background(rng, width, height, meadow), 0, 255).astype(np.uint8)
    scale = 3  # drawn at three times the size and reduced: smooth edges
    picture = Image.fromarray(pixels).resize((width * scale, height * scale), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 6)):  # clutter: blades of grass
        x, y = rng.uniform(0, width * scale), rng.uniform(0, height * scale)
        green = (int(rng.uniform(20, 90)), int(rng.uniform(80, 190)), int(rng.uniform(20, 90)))
        draw.line((x, y, x + rng.uniform(-40, 40), y + rng.uniform(-90, 0)), fill=green, width=int(rng.integers(2, 6)))
    colour = np.clip(np.array(COLOURS[label.split()[0]]) + rng.uniform(-20, 20, 3), 0, 255)
    fill, edge = tuple(int(v) for v in colour), tuple(int(v * 0.6) for v in colour)
    for petal in _petals(label, centre, radius, turn):
        draw.polygon([(x * scale, y * scale) for x, y in petal], fill=fill, outline=edge, width=2)
    r = radius * float(rng.uniform(0.14, 0.22))
    heart = tuple(int(v) for v in (rng.uniform(60, 120), rng.uniform(40, 80), rng.uniform(10, 40)))
    x, y = centre
    draw.ellipse([v * scale for v in (x - r, y - r, x + r, y + r)], fill=heart)
    return picture.resize((width, height), Image.Resampling.BOX)
