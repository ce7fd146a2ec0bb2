"""Near-duplicate images: the same photograph resized, recompressed or slightly recoloured.

Decision: a difference hash finds candidates (is each cell of a 9 x 9 grey thumbnail brighter than its right and its
lower neighbour: 144 bits), and two 16 x 16 colour thumbnails must agree, because scenes with a plain background share
their hash by chance. Cropped or mirrored copies are not found.

>>> picture = Image.linear_gradient("L").convert("RGB")
>>> near_duplicates([fingerprint(picture), fingerprint(picture.resize((90, 70))), fingerprint(picture.rotate(90))])
[(0, 1)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from visual_rft.config.sources import QuestionKind
from visual_rft.data.annotated import Dataset
from visual_rft.tasks.parsing.completion import normalized

MOST_BITS = 30
"""Most of the 144 bits in which two near-duplicates differ."""
MOST_DIFFERENCE = 8.0
"""Most mean difference of their thumbnails, of 255."""
_COMPARED_AT_ONCE = 1_000_000
"""Pairs whose bits are in memory together, 33 MB."""
_WORDS = 3
"""64-bit words that hold 144 bits: counted in a sixth of the time of 18 bytes."""


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


def near_duplicates(
    prints: Sequence[Fingerprint], update: Callable[[int], object] = lambda _: None
) -> list[tuple[int, int]]:
    """Pairs ``(i, j)``, i < j, of images that look the same, in their order.

    Of images with equal fingerprints each is paired with the first alone: a thousand black pictures are 999 pairs.

    Args:
        prints: fingerprint of each image.
        update: function that is told of how many more images all pairs are known.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for j, one in enumerate(prints):
        i = first.setdefault(one.bits.tobytes() + one.thumbnail.tobytes(), j)
        if i != j:
            pairs.append((i, j))
    update(len(pairs))
    different = list(first.values())
    chosen = [prints[i] for i in different]
    pairs += [(different[i], different[j]) for i, j in _alike(chosen, chosen, update) if i < j]
    return sorted(pairs)


def across(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs ``(i, j)`` of an image of ``first`` and one of ``second`` that look the same."""
    return list(_alike(first, second))


def _alike(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint], update: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[int, int]]:
    """Pairs that look the same; where both are one, each pair once."""
    if not first or not second:
        return
    words, others = _words(first), _words(second)
    rows = max(1, _COMPARED_AT_ONCE // len(second))
    for start in range(0, len(first), rows):
        left = start if first is second else 0
        differing = sum(
            np.bitwise_count(a[start : start + rows, None] ^ b[left:]) for a, b in zip(words, others, strict=True)
        )
        for i, j in np.argwhere(differing <= MOST_BITS).tolist():
            if _difference(first[i + start], second[j + left]) <= MOST_DIFFERENCE:
                yield i + start, j + left
        update(min(rows, len(first) - start))


def remarks(dataset: Dataset, questions: QuestionKind) -> list[str]:
    """What is worth a remark of a data set: labels, expressions and rows of which one contradicts another.

    Args:
        dataset: what was read, before anything is asked.
        questions: what will be asked.
    """
    if questions == "name":
        return _same_names(dataset.classes)
    if dataset.samples is not None:
        return []
    if questions == "refer":
        meant: dict[tuple[str, str], set[tuple[float, ...]]] = {}
        for image in dataset.images:
            for text, target in image.expressions:
                meant.setdefault((image.image.key, text), set()).add(tuple(image.boxes[target]))
        unclear = [pair for pair, boxes in meant.items() if len(boxes) > 1]
        return [f"expressions that mean several objects of their picture: {len(unclear)}, e.g. {text!r} in {key}; each "
                "is asked for as if it were the only one" for key, text in unclear[:1]]  # fmt: skip
    first: dict[str, str] = {}
    again = [(image.image.key, first[image.image.key], image.id) for image in dataset.images
             if first.setdefault(image.image.key, image.id) != image.id]  # fmt: skip
    return [f"rows about a picture that another row is about: {len(again)}, e.g. {key} in {one!r} and {other!r}; to "
            "each row only its own objects are there: join them" for key, one, other in again[:1]]  # fmt: skip


def _same_names(classes: Sequence[str]) -> list[str]:
    """A remark for the labels that read the same: an answer that is right for one is right for the other."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(normalized(name), []).append(name)
    return [f"the labels {' and '.join(map(repr, names))} differ in case or punctuation alone, so that an answer of "
            "one is right for the other; rename one" for names in alike.values() if len(names) > 1]  # fmt: skip


def _words(prints: Sequence[Fingerprint]) -> npt.NDArray[np.uint64]:
    """The bits of each image, ``[3, N]``."""
    filled = np.zeros((len(prints), 8 * _WORDS), np.uint8)
    filled[:, :18] = [p.bits for p in prints]
    return np.ascontiguousarray(filled.view(np.uint64).T)


def _difference(a: Fingerprint, b: Fingerprint) -> float:
    return float(np.abs(a.thumbnail - b.thumbnail).mean())
