"""Held-out images that are training images, or look the same: what is measured on them is not held out.

Decision: looked for at every start, so it has a limit of seconds and says how far it came. In three ways, from free to
dear: equal names (also through links), files of equal size and equal content, and near-duplicates by their fingerprints
(``duplicates.py``), of pictures decoded small. Where the limit comes first, the held-out images go before the training
images, spread over the data. Pictures that are made (procedural data, moved copies) are compared by their keys, which
name their pixels.

    leakage = find_leakage(load_samples(config.data.train, task), load_samples(config.data.evaluation, task))
    leakage.line()      # '2 of 8 held-out images are training images or look the same: b/1.png is a/1.png; ...'
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.data.annotated import PresentClasses
from visual_rft.data.duplicates import Fingerprint, across, fingerprint
from visual_rft.data.lazy import Asked, Completed, LabelsAlone
from visual_rft.errors import DataError
from visual_rft.tasks.samples import Sample
from visual_rft.vision.images import ImageFile, ImageReference, RenderedImage, load_small

SECONDS = 10.0
"""Limit of the search: a few thousand small pictures, or some hundred photographs."""
SIDE = 64
"""Pixels at which a picture is decoded: four times the thumbnail that is compared."""
MAX_QUESTIONS = 200_000
"""Questions whose images are looked at, spread over the data; the names of so many take a second."""
MAX_NAMED = 20
"""Pairs that are kept; the others are counted."""


class Pair(NamedTuple):
    """A held-out image and a training image.

    Attributes:
        held_out: name of the image in the evaluation data.
        training: name of the image in the training data.
        same: whether they are the same picture; else they look the same.
    """

    held_out: str
    training: str
    same: bool


@dataclass(frozen=True)
class Leakage:
    """What was found.

    Attributes:
        pairs: a pair for each held-out image that has one.
        compared: number of held-out and of training images whose looks were compared.
        images: number of held-out and of training images there are.
        seconds: how long it took.
    """

    pairs: Sequence[Pair]
    compared: tuple[int, int]
    images: tuple[int, int]
    seconds: float

    def line(self, named: int = 5) -> str:
        """One sentence that names the first pairs."""
        if not self.pairs:
            return f"no held-out image is among the training images or looks like one ({self._extent()})"
        shown = "; ".join(
            f"{pair.held_out} {'is' if pair.same else 'looks like'} "
            f"{'trained on' if pair.training == pair.held_out else pair.training}"
            for pair in self.pairs[:named]
        )
        more = f"; and {len(self.pairs) - named} more" if len(self.pairs) > named else ""
        return (
            f"leakage: {len(self.pairs)} of {self.images[0]} held-out images are training images or look the same, so "
            f"their numbers are not held out: {shown}{more} ({self._extent()}); name other images in data.evaluation, "
            "or hold some out (part: train and part: held_out)"
        )

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, pairs up to :data:`MAX_NAMED`."""
        return {
            "held_out_images": self.images[0],
            "training_images": self.images[1],
            "compared": list(self.compared),
            "leaked": len(self.pairs),
            "same": sum(pair.same for pair in self.pairs),
            "pairs": [pair._asdict() for pair in self.pairs[:MAX_NAMED]],
            "seconds": round(self.seconds, 2),
        }

    def _extent(self) -> str:
        pairs = zip(self.compared, self.images, strict=True)
        held_out, training = (f"{n:,}" if n == of else f"{n:,} of {of:,}" for n, of in pairs)
        return f"{held_out} compared with {training} training images in {self.seconds:.1f} s"


def find_leakage(training: Sequence[Sample], held_out: Sequence[Sample], seconds: float = SECONDS) -> Leakage:
    """Look for held-out images among the training images. An image that cannot be opened is left to its reader.

    Args:
        training: questions that are trained on.
        held_out: questions that are evaluated on.
        seconds: limit of the search.
    """
    start = time.monotonic()
    tested = _images(held_out, start + seconds / 4)
    trained = _images(training, start + seconds / 2)
    found = {key: Pair(_name(tested[key]), _name(trained[key]), True) for key in tested.keys() & trained.keys()}
    left = {key: image for key, image in tested.items() if key not in found and not isinstance(image, RenderedImage)}
    others = {key: image for key, image in trained.items() if not isinstance(image, RenderedImage)}
    for key, twin in _equal_files(left, others).items():
        found[key] = Pair(_name(left.pop(key)), _name(others[twin]), True)
    # Looks: the held-out images first, as they are fewer; whatever is left of the time goes to the training images.
    middle = time.monotonic() + (start + seconds - time.monotonic()) / 2
    prints = dict(_fingerprints(left, middle))
    known = dict(_fingerprints(others, start + seconds)) if prints else {}
    names, twins = list(prints), list(known)
    for i, j in across(list(prints.values()), list(known.values())):
        found.setdefault(names[i], Pair(_name(left[names[i]]), _name(others[twins[j]]), False))
    settled = len(tested) - len(left)  # by name, content or key
    return Leakage(
        pairs=[found[key] for key in tested if key in found],
        compared=(settled + len(prints), len(trained) - len(others) + len(known) if left else len(trained)),
        images=(len(tested), len(trained)),
        seconds=time.monotonic() - start,
    )


def _images(samples: Sequence[Sample], deadline: float) -> dict[str, ImageReference]:
    """Each distinct image by its key; a file by its real path, because two sources may name it in two ways."""
    found: dict[str, ImageReference] = {}
    folders: dict[Path, str] = {}
    for place, image in enumerate(_pictures(samples)):
        if place % 256 == 255 and time.monotonic() > deadline:
            break
        key = _without_links(image.path, folders) if isinstance(image, ImageFile) else image.key
        found.setdefault(key, image)
    return found


def _pictures(samples: Sequence[Sample]) -> Iterator[ImageReference]:
    """The pictures of the questions; where each question has to be made for its, at most :data:`MAX_QUESTIONS` of them,
    evenly spread."""
    while isinstance(samples, (Asked, Completed, LabelsAlone)):  # other questions about the same pictures
        samples = samples.samples
    if isinstance(samples, PresentClasses):
        yield from samples.pictures()
        return
    count = min(len(samples), MAX_QUESTIONS)
    for place in range(count):
        yield from samples[place * len(samples) // count].images


def _without_links(path: Path, folders: dict[Path, str]) -> str:
    """``os.path.realpath``, which asks for each folder above a file; a hundred thousand files have the same."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder = folders.get(path.parent)
    if folder is None:
        folder = folders[path.parent] = os.path.realpath(path.parent)
    return os.path.join(folder, path.name)


def _equal_files(tested: dict[str, ImageReference], trained: dict[str, ImageReference]) -> dict[str, str]:
    """Keys of held-out files with the key of a training file of the same content; only equal sizes are read."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for key, image in trained.items():
        if (size := _size(image)) is not None:
            by_size[size].append(key)
    equal: dict[str, str] = {}
    digests: dict[str, str] = {}
    for key, image in tested.items():
        size = _size(image)
        for twin in by_size.get(size, ()) if size is not None else ():
            if _digest(key, image, digests) == _digest(twin, trained[twin], digests):
                equal[key] = twin
                break
    return equal


def _size(image: ImageReference) -> int | None:
    try:
        return image.path.stat().st_size if isinstance(image, ImageFile) else None
    except OSError:  # its reader says what is wrong
        return None


def _digest(key: str, image: ImageReference, known: dict[str, str]) -> str:
    assert isinstance(image, ImageFile)
    if key not in known:
        try:
            known[key] = hashlib.blake2b(image.content(), digest_size=16).hexdigest()
        except OSError:
            known[key] = key  # equal to nothing
    return known[key]


def _fingerprints(images: dict[str, ImageReference], deadline: float) -> Iterator[tuple[str, Fingerprint]]:
    """The fingerprint of each image until the time is over, spread over the data: every source has its share."""
    keys = list(images)
    stride = max(1, round(len(keys) ** 0.5))
    for key in (keys[i] for first in range(stride) for i in range(first, len(keys), stride)):
        if time.monotonic() > deadline:
            return
        try:
            yield key, fingerprint(load_small(images[key], SIDE))
        except DataError:  # its reader says what is wrong
            continue


def _name(image: ImageReference) -> str:
    return str(getattr(image, "where", image.key))
