"""Few-shot and open-vocabulary data sets cut out of larger ones.

Decision: a smaller set is always contained in a larger one of the same seed, so that a curve over shots compares the
number of examples and nothing else. Images are taken in rounds: in round r each class that is in fewer than r chosen
images takes its next one, in an order fixed by the seed and the class, those first that hold no other wanted class
which has enough, and of these the ones that hold fewest wanted classes. So a class is in exactly k images wherever
the data allow it, no label is ever removed from an image to get there, and the rounds before the last are the smaller
sets.

>>> from pathlib import Path; from visual_rft.vision.images import ImageFile
>>> def image(name, *labels):
...     return AnnotatedImage(name, ImageFile(Path(name)), (9, 9), labels, ((0, 0, 5, 5),) * len(labels))
>>> images = [image("a", "cat"), image("b", "cat", "dog"), image("c", "dog"), image("d", "cat")]
>>> data = Dataset(images, ("cat", "dog"))
>>> [i.id for i in few_shot(data, ("cat", "dog"), shots=1, seed=0).images]
['c', 'a']
"""

from __future__ import annotations

import difflib
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from visual_rft.config.name_list import comma_hint
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.presets import check_base_count, class_names
from visual_rft.errors import ConfigError, DataError


def restrict(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The same images with the labels of ``classes`` only.

    Raises:
        ConfigError: if a class is not in the data set, naming the nearest that is.
    """
    _check_known(dataset, classes)
    wanted = set(classes)
    images = [_restricted(image, wanted) for image in dataset.images]
    return replace(dataset, images=images, classes=tuple(sorted(wanted)), samples=None)


def few_shot(dataset: Dataset, classes: Sequence[str], shots: int, seed: int, negatives: float = 0.0) -> Dataset:
    """Images such that each class is in ``shots`` of them.

    The set of k shots contains the set of fewer shots with the same seed, classes and rate of negatives.

    Args:
        dataset: what to choose from.
        classes: the classes that count; labels of others are dropped.
        shots: k, at least 1.
        seed: of the order in which images are taken.
        negatives: images without any of the classes to add, as a share of the chosen ones, at least 0; each is asked
            about one of them, and the answer is "No Objects".

    Raises:
        ConfigError: if a class is not in the data, or a number is out of range.
        DataError: if there are not enough images.
    """
    if shots < 1 or not 0 <= negatives < float("inf"):  # NaN is neither
        raise ConfigError(f"shots {shots} must be at least 1, and negatives {negatives} at least 0")
    limited = restrict(dataset, classes)
    chosen = _in_rounds(limited.images, limited.classes, shots, seed)
    chosen += negative_examples(limited, round(negatives * len(chosen)), seed) if negatives else []
    return replace(limited, images=chosen)


def _in_rounds(images: Sequence[AnnotatedImage], classes: Sequence[str], shots: int, seed: int) -> list[AnnotatedImage]:
    holds = [set(image.present) & set(classes) for image in images]
    queues = {name: _shuffled([i for i, names in enumerate(holds) if name in names], seed, name) for name in classes}
    for name, queue in queues.items():
        if len(queue) < shots:
            raise DataError(f"class {name!r} is in {len(queue)} usable images, but {shots} shots were asked for")
    # A class that hardly comes alone chooses first: what it takes along then still counts for the others.
    alone = Counter(name for names in holds if len(names) == 1 for name in names)
    order = sorted(classes, key=lambda name: (alone[name], name))
    taken: dict[int, None] = {}
    count = dict.fromkeys(classes, 0)
    for round_number in range(1, shots + 1):
        for name in order:
            if count[name] >= round_number:
                continue
            free = [i for i in queues[name] if i not in taken]
            full = {other for other, times in count.items() if times >= round_number}
            best = min(free, key=lambda i: (len(holds[i] & full), len(holds[i])))
            taken[best] = None
            for other in holds[best]:
                count[other] += 1
    return [images[i] for i in taken]


def _shuffled(indices: Sequence[int], seed: int, name: str) -> list[int]:
    """A permutation that depends on the seed and the class, not on which other classes are wanted."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return [indices[i] for i in rng.permutation(len(indices))]


def negative_examples(dataset: Dataset, count: int, seed: int) -> list[AnnotatedImage]:
    """``count`` images that are known to hold none of the classes, each naming the absent classes.

    Raises:
        DataError: if there are not so many.
    """
    empty = [i for i, image in enumerate(dataset.images) if image.absent(dataset.classes) and not _holds(image)]
    if len(empty) < count:
        raise DataError(f"{count} images without any of the classes were asked for, but there are {len(empty)}")
    chosen = [dataset.images[i] for i in _shuffled(empty, seed, "")[:count]]
    return [replace(image, negatives=tuple(image.absent(dataset.classes))) for image in chosen]


def _holds(image: AnnotatedImage) -> bool:
    return bool(image.labels or image.crowds or image.incomplete)


def open_vocabulary(dataset: Dataset, base: Sequence[str], novel: Sequence[str]) -> tuple[Dataset, Dataset]:
    """A training set of base classes in which no novel object is seen, and a test set of the novel ones.

    Args:
        dataset: what to choose from.
        base: classes to train on; an empty list takes every class that is not novel.
        novel: classes that training must not see.

    Returns:
        The images with a base object and without any sign of a novel one (box, crowd region, or a note that not all
        are boxed), labels of base classes only; and the images with a novel object, labels of novel classes only.

    Raises:
        ConfigError: if a class is not in the data, or is both.
        DataError: if either set is empty.
    """
    without = without_novel(dataset, base, novel)
    test = [image for image in restrict(dataset, novel).images if image.present]
    if not test:
        raise DataError("no image has a novel object")
    return without, replace(dataset, images=test, classes=tuple(sorted(novel)), samples=None)


def without_novel(dataset: Dataset, base: Sequence[str], novel: Sequence[str]) -> Dataset:
    """The training set of :func:`open_vocabulary` alone; errors as there."""
    base = list(base) or [name for name in dataset.classes if name not in novel]
    both = sorted(set(base) & set(novel))
    if both:
        raise ConfigError(f"class {both[0]!r} is base and novel")
    _check_known(dataset, [*base, *novel])
    hidden = set(novel)
    train = [image for image in restrict(dataset, base).images if image.present]
    seen = {image.id for image in dataset.images if _signs(image) & hidden}
    # The same picture may stand in the data twice, once without its novel label.
    keys = {image.image.key for image in dataset.images if image.id in seen}
    train = [image for image in train if image.id not in seen and image.image.key not in keys]
    if not train:
        raise DataError("no image has a base object and no novel one")
    return replace(dataset, images=train, classes=tuple(sorted(base)), samples=None)


def select_images(
    dataset: Dataset, classes: Sequence[str] | None, novel: Sequence[str] | None, shots: int | None, seed: int
) -> Dataset:
    """The part of a data set that a config names; of ready-made questions, those about the chosen images.

    Args:
        dataset: what to choose from.
        classes: of the images only those that hold an object of these classes, with the labels of these; names, or one
            published split; None keeps all.
        novel: classes that no image may show, names or one published split; None allows all.
        shots: images per class; None takes all.
        seed: of the choice of images.

    Raises:
        ConfigError: if a class is not in the data.
        DataError: if there are not enough images, or not as many base classes as the published split has.
    """
    asked = None if dataset.samples is None else {sample.images[0].key for sample in dataset.samples}
    images = dataset.images if asked is None else [image for image in dataset.images if image.image.key in asked]
    part = replace(dataset, images=images)
    if novel is not None:
        part = without_novel(part, class_names(classes or ()), class_names(novel))
        check_base_count(novel[0], len(part.classes))
    elif classes is not None:
        part = restrict(part, class_names(classes))
        part = replace(part, images=[image for image in part.images if image.labels])
    if shots is not None:
        part = few_shot(part, part.classes, shots, seed)
    if dataset.samples is None:
        return part
    keys, kept = {image.image.key for image in part.images}, set(part.classes)
    # A question of detection names its class; an image of one class is asked about that alone.
    samples = [s for s in dataset.samples if s.images[0].key in keys and s.truth.get("category", "") in {"", *kept}]
    if not samples:
        raise DataError("no question is about the chosen classes")
    return replace(part, samples=samples)


def check_unseen(dataset: Dataset, train: Iterable[AnnotatedImage], novel: Sequence[str]) -> int:
    """Look every training image up in the full data and refuse one that shows a novel object.

    Returns:
        For how many of them the data do not say that every novel class is absent (LVIS annotates some classes per
        image only): there the split trusts that nothing was overlooked.

    Raises:
        DataError: naming the image and the class.
    """
    full = {image.id: image for image in dataset.images}
    unsure = 0
    for image in train:
        original = full[image.id]
        shown = sorted(_signs(original) & set(novel))
        if shown:
            raise DataError(f"image {image.id}: shows the novel class {shown[0]!r} but is in the training set")
        unsure += len(original.absent(novel)) < len(set(novel))
    return unsure


def _signs(image: AnnotatedImage) -> set[str]:
    """Every class of which something may be seen."""
    return {*image.labels, *image.incomplete, *(label for label, _ in image.crowds)}


def _restricted(image: AnnotatedImage, wanted: set[str]) -> AnnotatedImage:
    kept = [i for i, label in enumerate(image.labels) if label in wanted]
    place = {old: new for new, old in enumerate(kept)}
    return replace(
        image,
        labels=tuple(image.labels[i] for i in kept),
        boxes=tuple(image.boxes[i] for i in kept) if image.boxes else (),
        crowds=tuple(pair for pair in image.crowds if pair[0] in wanted),
        incomplete=tuple(name for name in image.incomplete if name in wanted),
        negatives=None if image.negatives is None else tuple(n for n in image.negatives if n in wanted),
        expressions=tuple((text, place[i]) for text, i in image.expressions if i in place),
    )


def _check_known(dataset: Dataset, classes: Sequence[str]) -> None:
    for name in classes:
        if name not in dataset.classes:
            close = difflib.get_close_matches(name, dataset.classes, n=1)
            known = ", ".join(dataset.classes[:10]) + (", ..." if len(dataset.classes) > 10 else "")
            hint = f"; did you mean {close[0]!r}?" if close else f" (it has {known})"
            hint = comma_hint(name, dataset.classes) or hint
            raise ConfigError(f"the data have no class {name!r}{hint}")
    if not classes:
        raise ConfigError("name at least one class")
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise ConfigError(f"class {twice[0]!r} is named twice")
