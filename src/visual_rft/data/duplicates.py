"""Near-duplicate images: the same photograph resized, recompressed or slightly recoloured.

Decision: a difference hash finds candidates (is each cell of a 9 x 9 grey thumbnail brighter than its right and its
lower neighbour: 144 bits), and two 16 x 16 colour thumbnails must agree, because scenes with a plain background share
their hash by chance. Cropped or mirrored copies are not found.

>>> picture = Image.linear_gradient("L").convert("RGB")
>>> near_duplicates([fingerprint(picture), fingerprint(picture.resize((90, 70))), fingerprint(picture.rotate(90))])
[(0, 1)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

MOST_BITS = 30
"""Most of the 144 bits in which two near-duplicates differ."""
MOST_DIFFERENCE = 8.0
"""Most mean difference of their thumbnails, of 255."""
_ROWS = 256


class Fingerprint(NamedTuple):
    """What is compared of an image: 144 bits ``[18]`` uint8, and a thumbnail ``[16, 16, 3]`` int16."""

    bits: npt.NDArray[np.uint8]
    thumbnail: npt.NDArray[np.int16]


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB picture."""
    grey = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.BOX), dtype=np.int16)
    brighter = np.concatenate([(grey[:, :-1] > grey[:, 1:]).ravel(), (grey[:-1] > grey[1:]).ravel()])
    thumbnail = np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.int16)
    return Fingerprint(np.packbits(brighter), thumbnail)


def near_duplicates(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs ``(i, j)``, i < j, of images that look the same."""
    if not prints:
        return []
    bits = np.stack([p.bits for p in prints])
    pairs = []
    for start in range(0, len(prints), _ROWS):
        differing = np.bitwise_count(bits[start : start + _ROWS, None] ^ bits[None]).sum(-1, dtype=np.int64)
        for i, j in zip(*np.nonzero(differing <= MOST_BITS), strict=True):
            first, second = int(i) + start, int(j)
            if first < second and _difference(prints[first], prints[second]) <= MOST_DIFFERENCE:
                pairs.append((first, second))
    return pairs


def across(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs ``(i, j)`` of an image of ``first`` and one of ``second`` that look the same."""
    if not first or not second:
        return []
    bits, others = np.stack([p.bits for p in first]), np.stack([p.bits for p in second])
    pairs = []
    for start in range(0, len(first), _ROWS):
        differing = np.bitwise_count(bits[start : start + _ROWS, None] ^ others[None]).sum(-1, dtype=np.int64)
        for i, j in zip(*np.nonzero(differing <= MOST_BITS), strict=True):
            if _difference(first[int(i) + start], second[int(j)]) <= MOST_DIFFERENCE:
                pairs.append((int(i) + start, int(j)))
    return pairs


def _difference(a: Fingerprint, b: Fingerprint) -> float:
    return float(np.abs(a.thumbnail - b.thumbnail).mean())
