"""Expressions that mean exactly one object of a scene and take a step of reasoning to resolve.

Decision: an expression is built from the labelled layout and checked against it, so that it is true of one object and
of no other, with a margin (a "largest" is 1.3 times as large as the next) that keeps it true for the eye.

>>> from pathlib import Path; from visual_rft.vision.images import ImageFile
>>> boxes = ((0, 0, 20, 20), (50, 50, 80, 80))
>>> image = AnnotatedImage("a", ImageFile(Path("a.png")), (90, 90), ("red circle", "blue square"), boxes)
>>> [text for text, target in expressions(image) if target == 0][:4]
['the red circle', 'the circle', 'the red shape', 'the smallest shape']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.lazy import LazySequence
from visual_rft.errors import DataError
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import GroundingTruth
from visual_rft.vision.boxes import Box, area

CLEARLY_LARGER = 1.3
"""Least ratio of areas between the largest (or smallest) object and the next."""
CLEARLY_APART = 8.0
"""Least distance in pixels between centres that are called left of, or above, each other."""


def expressions(image: AnnotatedImage) -> list[tuple[str, int]]:
    """Every expression this module knows that means exactly one object, with the index of that object.

    Args:
        image: objects labelled ``colour form``, e.g. ``red circle``.
    """
    return [pair for kind in KINDS.values() for pair in kind(image)]


def _words(image: AnnotatedImage) -> list[tuple[str, str]]:
    return [(colour, form) for colour, form in (label.split() for label in image.labels)]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _names(image: AnnotatedImage) -> list[tuple[str, int]]:
    """``the red circle``, ``the circle``, ``the red shape``, where there is only one."""
    texts: dict[str, list[int]] = {}
    for i, (colour, form) in enumerate(_words(image)):
        for text in (f"the {colour} {form}", f"the {form}", f"the {colour} shape"):
            texts.setdefault(text, []).append(i)
    return [(text, which[0]) for text, which in texts.items() if len(which) == 1]


def _superlatives(image: AnnotatedImage) -> list[tuple[str, int]]:
    """``the largest shape``, ``the leftmost circle``, ... among at least two."""
    words = _words(image)
    size = [math.log(area(box)) for box in image.boxes]
    x, y = zip(*map(_centre, image.boxes), strict=True)
    found = []
    for form in ("shape", *sorted({form for _, form in words})):
        group = [i for i, (_, own) in enumerate(words) if form in ("shape", own)]
        if len(group) < 2:
            continue
        for word, key, sign in (("largest", size, -1), ("smallest", size, 1), ("leftmost", x, 1),
                                ("rightmost", x, -1), ("topmost", y, 1), ("bottommost", y, -1)):  # fmt: skip
            first, second = sorted(group, key=lambda i: sign * key[i])[:2]
            margin = math.log(CLEARLY_LARGER) if word in ("largest", "smallest") else CLEARLY_APART
            if abs(key[first] - key[second]) >= margin:
                found.append((f"the {word} {form}", first))
    return found


def _relations(image: AnnotatedImage) -> list[tuple[str, int]]:
    """``the circle left of the blue square``, where the anchor and the object so placed are unique."""
    words = _words(image)
    centres = list(map(_centre, image.boxes))
    found = []
    for anchor, (colour, form) in enumerate(words):
        if image.labels.count(image.labels[anchor]) > 1:
            continue
        for text, axis, sign in (("left of", 0, -1), ("right of", 0, 1), ("above", 1, -1), ("below", 1, 1)):
            offset = [sign * (centre[axis] - centres[anchor][axis]) for centre in centres]
            there = [i for i in range(len(words)) if i != anchor and offset[i] >= CLEARLY_APART]
            unclear = [i for i in range(len(words)) if i != anchor and abs(offset[i]) < CLEARLY_APART]
            for wanted in ("shape", *sorted({words[i][1] for i in there})):
                fits = [i for i in there if wanted in ("shape", words[i][1])]
                if len(fits) == 1 and not any(wanted in ("shape", words[i][1]) for i in unclear):
                    found.append((f"the {wanted} {text} the {colour} {form}", fits[0]))
    return found


def _exceptions(image: AnnotatedImage) -> list[tuple[str, int]]:
    """``the only shape that is not red``, ``the only shape that is not a square``."""
    words = _words(image)
    found = []
    for place, article in ((0, ""), (1, "a ")):
        for word in sorted({w[place] for w in words}):
            others = [i for i, w in enumerate(words) if w[place] != word]
            if len(others) == 1:
                found.append((f"the only shape that is not {article}{word}", others[0]))
    return found


KINDS: Mapping[str, Callable[[AnnotatedImage], list[tuple[str, int]]]] = {
    "names": _names,
    "superlatives": _superlatives,
    "relations": _relations,
    "exceptions": _exceptions,
}
"""Superlatives and relations are about places and sizes, names and exceptions about colours and forms."""


class OneReferencePerImage(LazySequence[Sample]):
    """One expression about each image, its kind drawn first, so that no kind drowns the others.

    Args:
        images: scenes of shapes.
        seed: of the choice.
        kinds: names in :data:`KINDS`.
    """

    def __init__(self, images: Sequence[AnnotatedImage], seed: int = 0, kinds: Sequence[str] = tuple(KINDS)) -> None:
        super().__init__(len(images))
        self.images, self.seed, self.kinds = images, seed, kinds

    def item(self, index: int) -> Sample:
        image = self.images[index]
        rng = np.random.default_rng((self.seed, index, 2))
        options = [found for found in (KINDS[kind](image) for kind in self.kinds) if found]
        if not options:
            said = "" if len(self.kinds) == len(KINDS) else f" among {', '.join(self.kinds)}"
            raise DataError(f"image {image.id}: no expression{said} means exactly one of its objects")
        chosen = options[rng.integers(len(options))]
        text, target = chosen[rng.integers(len(chosen))]
        truth: GroundingTruth = {
            "box": list(image.boxes[target]),
            "image_size": list(image.size),
            "thought": f"a {image.labels[target]}",
        }
        return Sample(
            id=f"{image.id}/{text}",
            images=(image.image,),
            task="grounding",
            question={"expression": text},
            truth=truth,
        )
