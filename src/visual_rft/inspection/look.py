"""What can be said about the data and prompts of a run before anything is computed.

Decision: the three mistakes that cost most runs are looked for at every start: boxes in other units than said, a prompt
that does not fit the model's context, images that are shrunk until their objects vanish. Sizes come from the truth or
from the headers of files, so thousands of images cost seconds; only the few prompts that are likely to be the longest
go through the processor. A prompt that is longer all the same is an error when its batch is prepared.

>>> shrunk_images([((2000, 1000), [(0, 0, 40, 40)])], limit=500_000, cell=28)[:47]
'1 of 1 images have more than 500,000 pixels and'
>>> shrunk_images([((640, 480), [(0, 0, 40, 40)])], limit=500_000, cell=28) is None
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import median
from typing import Any

from visual_rft.policy.families import PixelLayout
from visual_rft.policy.inputs import Inputs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import Sample, Tasks
from visual_rft.tasks.spaces import MAX_QUESTIONS_LOOKED_AT, gold_space_hint
from visual_rft.tasks.truth import labelled_boxes
from visual_rft.terminal.units import byte_size
from visual_rft.vision.boxes import Box

MAX_QUESTIONS_PER_EXTREME = 3
"""Questions that are prepared of each kind of extreme: most pixels, most characters, longest side against the other."""
ROUNDING = 1.05
"""Share by which an image may exceed the limit before it counts as shrunk: sides are rounded to whole patches."""
Size = tuple[int, int]


def spread(size: int, count: int) -> list[int]:
    """``count`` places (or all), evenly spread over ``size``, so that every joined source has its share.

    >>> spread(10, 4), spread(3, 8)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(size, count)
    return [i * size // count for i in range(count)]


def look_at_data(policy: Policy, tasks: Tasks, samples: Sequence[Sample]) -> list[str]:
    """Warnings about training questions, each naming its remedy.

    Args:
        policy: the model, with or without its weights.
        tasks: that ask.
        samples: all training questions.

    Raises:
        PromptTooLongError: if a prompt and a completion of full length do not fit the model's context.
        DataError: if an image cannot be opened.
    """
    looked = [samples[i] for i in spread(len(samples), MAX_QUESTIONS_LOOKED_AT)]
    sizes = [size_of_image(sample) for sample in looked]
    for sample in likely_longest(policy, tasks, looked, sizes):
        policy.prepare([Prompt.of(tasks, sample, policy.space)])
    found: list[str | None] = []
    boxed = [sample.truth for sample in looked if tasks.of(sample).answers_boxes]
    if boxed:
        found.append(gold_space_hint(boxed))
    limit = pixel_limit(policy)
    if limit is not None:
        pictures = {
            s.images[0].key: (size, labelled_boxes(s.truth)) for s, size in zip(looked, sizes, strict=True) if size
        }
        found.append(shrunk_images(list(pictures.values()), limit, token_side(policy)))
    return [warning for warning in found if warning]


def size_of_image(sample: Sample) -> Size | None:
    """(width, height) in pixels of the first image, from the truth or the file's header; None if it is drawn."""
    if "image_size" in sample.truth:
        width, height = sample.truth["image_size"]
        return int(width), int(height)
    read = getattr(sample.images[0], "size", None) if sample.images else None
    return None if read is None else read()


def likely_longest(
    policy: Policy, tasks: Tasks, samples: Sequence[Sample], sizes: Sequence[Size | None]
) -> list[Sample]:
    """The questions that may have the longest prompts: most pixels, most text, most stretched images, most images."""
    texts = [len(tasks.of(sample).worded(sample.question, policy.space)) for sample in samples]
    pixels = [
        size[0] * size[1] * len(sample.images) if size else 0 for sample, size in zip(samples, sizes, strict=True)
    ]
    shapes = [max(size) / max(min(size), 1) if size else 0.0 for size in sizes]
    chosen: dict[int, None] = {}
    for values in (pixels, texts, shapes):
        chosen |= dict.fromkeys(sorted(range(len(samples)), key=lambda i: -values[i])[:MAX_QUESTIONS_PER_EXTREME])
    return [samples[i] for i in chosen]


def pixel_limit(policy: Policy) -> int | None:
    """Pixels above which the processor shrinks an image; None where it brings every image to one size."""
    if policy.family.pixels is not PixelLayout.PATCHES:
        return None
    return int(policy.processor.image_processor.size["longest_edge"])


def token_side(policy: Policy) -> int:
    """Pixels across one image token."""
    processor = policy.processor.image_processor
    return int(processor.patch_size) * int(processor.merge_size)


def shrunk_images(images: Sequence[tuple[Size, Sequence[Box]]], limit: int, cell: int) -> str | None:
    """How many images are shrunk, by how much, and what becomes of their boxes; None if none is.

    Args:
        images: (width, height) and true boxes of each, in pixels.
        limit: pixels that an image may have.
        cell: pixels across one image token, below which an object is hard to see.
    """
    shares, boxes, lost = [], 0, 0
    for (width, height), found in images:
        if width * height <= limit * ROUNDING:
            continue
        share = sqrt(limit / (width * height))
        shares.append(share)
        for x1, y1, x2, y2 in found:
            side = min(x2 - x1, y2 - y1)
            boxes += 1
            lost += side >= cell > side * share
    if not shares:
        return None
    small = (
        f"{lost} of the {boxes} boxes in them become narrower than {cell} pixels, one image token, and are hard to "
        "see; raise model.max_pixels, which costs tokens, or cut the images into parts"
        if lost
        else "no box in them becomes narrower than an image token; model.max_pixels is the limit"
    )
    return (
        f"{len(shares)} of {len(images)} images have more than {limit:,} pixels and are shrunk to {min(shares):.0%} of "
        f"their sides at least, {median(shares):.0%} in the median: {small}"
    )


class TokenCounts:
    """Tokens of real prompts, and the longest of them.

    Args:
        policy: the model, which prepares the prompts.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.counts: dict[str, list[int]] = {"prompt": [], "image": [], "gold answer": []}
        self.longest: Inputs | None = None

    def add(self, inputs: Inputs, gold: str) -> int:
        """Count one prompt and its gold answer; returns the tokens of the answer."""
        ids = inputs.tensors["input_ids"]
        if self.longest is None or inputs.lengths > self.longest.lengths:
            self.longest = inputs
        self.counts["prompt"].append(ids.shape[1])
        self.counts["image"].append(int((ids == self.policy.model_config.image_token_id).sum()))
        self.counts["gold answer"].append(int(self.policy.completions_of([gold]).ids.shape[-1]))
        return self.counts["gold answer"][-1]

    def join(self, counts: Mapping[str, Sequence[int]], longest: Inputs | None) -> None:
        """Add what another process counted."""
        for name, values in counts.items():
            self.counts[name].extend(values)
        if longest is not None and (self.longest is None or longest.lengths > self.longest.lengths):
            self.longest = longest

    def lines(self) -> list[str]:
        """One line per kind of text: least, median and most."""
        return [
            f"tokens per {name}: {min(values)} to {max(values)}, median {median(values):g}"
            for name, values in self.counts.items()
            if values
        ]


def memory_text(parts: Mapping[str, float]) -> str:
    """Bytes by name as one line, the largest first.

    >>> memory_text({"weights": 4.5e9, "activations": 12e9, "reference": 0})
    '16 GB (activations 12 GB, weights 4.5 GB)'
    """
    ordered: list[tuple[str, Any]] = sorted(parts.items(), key=lambda part: -part[1])
    each = ", ".join(f"{name} {byte_size(count)}" for name, count in ordered if count)
    return f"{byte_size(sum(parts.values()))} ({each})"
