"""Copies of labelled questions in which the picture and its boxes are shifted and scaled: more to see per label.

Decision: a copy asks the same question about the same picture with all labelled objects in full view, so that boxes,
names and expressions about places stay true; of a mirrored or turned picture "left of" would not. Scales are drawn
between 1 / 1.25 and 1.25, alike in both directions, so that a square stays one and no object leaves the sizes it has
been seen in by much. Where a smaller picture leaves a margin, its edge is drawn out: a plain margin would give away
where the picture begins.

>>> from visual_rft.vision.images import RenderedImage
>>> picture = RenderedImage("a", lambda: Image.new("RGB", (100, 80), "red"))
>>> truth = {"box": [10.0, 10.0, 30.0, 30.0], "image_size": (100, 80)}
>>> copies = Moved([Sample("a/1", (picture,), "grounding", {"expression": "the circle"}, truth)], copies=2)
>>> [sample.id for sample in copies]
['a/1', 'a/1~1', 'a/1~2']
>>> [round(value) for value in copies[1].truth["box"]]
[9, 2, 32, 25]
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, log

import numpy as np
from PIL import Image

from visual_rft.data.lazy import LazySequence
from visual_rft.errors import DataError
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import labelled_boxes
from visual_rft.vision.images import ImageReference, RenderedImage

MOST_SCALED = 1.25
"""Largest scale of a copy, and the inverse of the smallest."""
AT_EDGE = 0.02
"""An object no farther from the edge of its picture, as a share of the width or height, touches it."""


@dataclass(frozen=True)
class Move:
    """Where a picture of width and height 1 lies in the picture that is shown.

    Attributes:
        scale: its width and height there.
        left, top: where its upper left corner is.
    """

    scale: float
    left: float
    top: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, objects: Sequence[float] | None = None) -> Move:
        """A random one.

        Args:
            rng: draws it.
            objects: ``(x1, y1, x2, y2)`` in [0, 1], what holds all objects and must stay in view. On a side that it
                touches there is no margin: the object would be drawn out with the edge. None keeps all of the picture.
        """
        x1, y1, x2, y2 = objects or (0.0, 0.0, 1.0, 1.0)
        scale = min(exp(rng.uniform(-log(MOST_SCALED), log(MOST_SCALED))), 1 / max(x2 - x1, y2 - y1))
        edge = AT_EDGE if objects else -1.0
        sides = [(first, last, first < edge, last > 1 - edge) for first, last in ((x1, x2), (y1, y2))]
        if any(at_start and at_end for *_, at_start, at_end in sides):
            scale = max(scale, 1.0)
        corner = []
        for first, last, at_start, at_end in sides:
            low, high = sorted((0.0, 1 - scale))  # a margin only where the picture is smaller
            low = max(low, -scale * first, 1 - scale if at_end else low)
            high = min(high, 1 - scale * last, 0.0 if at_start else high)
            corner.append(low + rng.random() * max(high - low, 0.0))
        return cls(scale, *corner)

    def box(self, box: Sequence[float], size: Sequence[float]) -> list[float]:
        """A box in pixels of a picture of this (width, height), moved."""
        moved = []
        for i, value in enumerate(box):
            length = size[i % 2]
            start = (self.left, self.top)[i % 2] * length
            moved.append(float(min(max(start + self.scale * value, 0.0), length)))
        return moved

    def picture(self, picture: Image.Image) -> Image.Image:
        """The picture, moved; of the same size."""
        width, height = picture.size
        window = np.array([-self.left * width, -self.top * height] * 2) / self.scale
        window[2:] += np.array([width, height]) / self.scale
        margin = max(0, ceil(max(-window[0], -window[1], window[2] - width, window[3] - height)))
        drawn_out = np.pad(np.asarray(picture), ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        there = tuple(float(value) for value in window + margin)
        return Image.fromarray(drawn_out).resize((width, height), Image.Resampling.BILINEAR, box=there)


class Moved(LazySequence[Sample]):
    """The same samples, each followed by its moved copies.

    Args:
        samples: with one picture each; those with several or none are repeated as they are. Other positions than
            ``truth["boxes"]`` and ``truth["box"]`` are not moved: ``truth["segmentation"]`` is left out of a copy, and
            a question must not say in numbers where something is.
        copies: how many besides the sample itself.
        seed: of the moves.
        objects: boxes of the objects that a picture shows besides those asked for, by the key of its image. They stay
            in view too: "left of the blue square" needs the square.

    Raises:
        DataError: on reading a copy, if its truth has boxes and no ``image_size``.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        copies: int,
        seed: int = 0,
        objects: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> None:
        super().__init__(len(samples) * (1 + copies))
        self.samples, self.copies, self.seed, self.objects = samples, copies, seed, objects or {}

    def item(self, index: int) -> Sample:
        which, copy = divmod(index, 1 + self.copies)
        sample = self.samples[which]
        if not copy:
            return sample
        name = f"{sample.id}~{copy}"
        if len(sample.images) != 1:
            return replace(sample, id=name)
        (image,) = sample.images
        truth = {key: value for key, value in sample.truth.items() if key != "segmentation"}
        boxes = labelled_boxes(truth)
        if boxes and not truth.get("image_size"):
            raise DataError(f"{sample.id}: its truth has boxes and no 'image_size', which 'copies' needs to move them")
        size = truth.get("image_size") or (0.0, 0.0)  # without boxes it may be unknown; all of the picture is seen then
        rng = np.random.default_rng((self.seed, zlib.crc32(sample.id.encode()), copy, 3))
        move = Move.drawn(rng, _extent([*boxes, *self.objects.get(image.key, ())], size))
        moved = [move.box(box, size) for box in boxes]
        if "boxes" in truth:
            truth["boxes"] = moved
        if "box" in truth:
            (truth["box"],) = moved
        return replace(sample, id=name, images=(_moved(image, move),), truth=truth)


def _extent(boxes: Sequence[Sequence[float]], size: Sequence[float]) -> tuple[float, float, float, float] | None:
    """What holds all boxes, as shares of the picture; None where there is no box or no size."""
    width, height = size
    if not boxes or not width:
        return None
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1) / width, min(y1) / height, max(x2) / width, max(y2) / height


def _moved(image: ImageReference, move: Move) -> ImageReference:
    """An image whose key names the move, so that equal keys still mean equal pixels."""
    key = f"{image.key} at {move.left:.6f} {move.top:.6f} scaled {move.scale:.6f}"
    return RenderedImage(key, lambda: move.picture(image.load()))
