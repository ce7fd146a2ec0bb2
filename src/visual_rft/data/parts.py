"""A data set without splits, cut in two: what is trained on, and what is held out.

Decision: every fifth image is held out, in the order in which the data are read, of those with labels and of those
without. So nothing has to be moved or written, and a folder sorted by class gives every class its share. The image is
the unit: all questions about one stand on one side, and so does a question that shows it beside others.

>>> from pathlib import Path; from visual_rft.data.annotated import AnnotatedImage
>>> from visual_rft.vision.images import ImageFile
>>> dataset = Dataset([AnnotatedImage(str(i), ImageFile(Path(f"{i}.png")), (9, 9), (), ()) for i in range(11)], ())
>>> [image.id for image in part_of(dataset, "held_out").images], len(part_of(dataset, "train").images)
(['4', '9'], 9)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from visual_rft.data.annotated import Dataset

EVERY = 5
"""One image of so many is held out: a fifth."""


def part_of(dataset: Dataset, part: Literal["train", "held_out"]) -> Dataset:
    """Its images that are trained on, or those that are held out; of fewer than five the last is held out.

    Args:
        dataset: images, or ready-made questions and the images that these show.
        part: which of the two.
    """
    labelled = {image.image.key: bool(image.labels) for image in dataset.images}
    held: set[str] = set()
    for kind in (True, False):
        keys = [key for key, has_labels in labelled.items() if has_labels == kind]
        # An image without labels may give no question, so at least one with labels is held out where there is one.
        held |= set(keys[EVERY - 1 :: EVERY] or (keys[-1:] if not held else ()))

    def wanted(shown: set[str]) -> bool:
        return bool(shown & held) == (part == "held_out")

    images = [image for image in dataset.images if wanted({image.image.key})]
    if dataset.samples is None:
        return replace(dataset, images=images)
    samples = [sample for sample in dataset.samples if wanted({image.key for image in sample.images})]
    return replace(dataset, images=images, samples=samples)
