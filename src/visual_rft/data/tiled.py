"""Labelled pictures cut into tiles, with the labels that are still true of each.

Decision: of an object that a tile cuts, the part that is seen is its box there, if that is at least ``keep`` of it (a
quarter, unless said otherwise); less is not labelled, as nobody would name it. Of a class of which a tile shows such a
scrap and nothing else, nothing is asked there: it is neither in the picture nor not. Expressions are left out, because
"the largest" may lie in another tile.

>>> from visual_rft.vision.images import RenderedImage
>>> picture = RenderedImage("a", lambda: None)
>>> boxes = ((10, 0, 40, 30), (70, 0, 130, 40), (95, 50, 197, 90))
>>> wide = AnnotatedImage("a", picture, (200, 100), ("cat", "cat", "dog"), boxes)
>>> left, right = tiles_of(wide, Tiling(100, overlap=0.0))
>>> left.id, left.labels, left.boxes, left.incomplete
('a@0,0', ('cat', 'cat'), ((10, 0, 40, 30), (70, 0, 100, 40)), ('dog',))
>>> right.id, right.labels, right.boxes, right.incomplete
('a@100,0', ('cat', 'dog'), ((0, 0, 30, 40), (0, 50, 97, 90)), ())
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box
from visual_rft.vision.tiles import Tile, Tiling, Window, cut, visible

KEEP = 0.25
"""Least share of an object that is seen in a tile, for it to be labelled there."""


def tiled(dataset: Dataset, tiling: Tiling, keep: float = KEEP) -> Dataset:
    """The same data, each picture cut into tiles.

    Args:
        dataset: with boxes.
        tiling: where the tiles lie.
        keep: least share of an object that is labelled, in (0, 1].

    Raises:
        DataError: if the data come with questions of their own, label whole pictures, or do not say how large one is.
    """
    if dataset.samples is not None:
        raise DataError("tiles: these data come with their own questions, which may be about the whole picture")
    bare = next((image.id for image in dataset.images if len(image.boxes) != len(image.labels)), None)
    if bare is not None:
        raise DataError(f"tiles: image {bare} has a label and no box, so it is not known which tile shows it")
    unknown = next((image.id for image in dataset.images if 0 in image.size), None)
    if unknown is not None:
        raise DataError(f"tiles: the size of image {unknown} is not known")
    parts = [part for image in dataset.images for part in tiles_of(image, tiling, keep)]
    return replace(dataset, images=parts, sizes_stated={})


def tiles_of(image: AnnotatedImage, tiling: Tiling, keep: float = KEEP) -> list[AnnotatedImage]:
    """One labelled picture, cut; itself where it is no larger than a tile."""
    windows = tiling.windows(*image.size)
    return [image] if len(windows) == 1 else [_part(image, window, keep) for window in windows]


def _part(image: AnnotatedImage, window: Window, keep: float) -> AnnotatedImage:
    labels: list[str] = []
    boxes: list[Box] = []
    scraps: set[str] = set()
    for label, box in zip(image.labels, image.boxes, strict=True):
        share = visible(box, window)
        if share >= keep:
            labels.append(label)
            boxes.append(cut(box, window))
        elif share > 0:
            scraps.add(label)
    x1, y1, x2, y2 = window
    return AnnotatedImage(
        id=f"{image.id}@{x1},{y1}",
        image=Tile(image.image, window),
        size=(x2 - x1, y2 - y1),
        labels=tuple(labels),
        boxes=tuple(boxes),
        crowds=tuple((label, cut(box, window)) for label, box in image.crowds if visible(box, window) > 0),
        incomplete=tuple(sorted({*image.incomplete, *(scraps - set(labels))})),
        negatives=image.negatives,
    )


def size_for(images: Sequence[AnnotatedImage], most_boxes: int, least: int = 128) -> int | None:
    """The largest tile of which none shows more than so many objects of one class.

    Args:
        images: with boxes.
        most_boxes: boxes that an answer can hold, at least 1.
        least: no smaller tile is proposed.

    Returns:
        Pixels a side, a multiple of 32; None if even the smallest tile shows more.
    """
    size = max((max(image.size) for image in images), default=0) // 32 * 32
    while size >= least:
        parts = (part for image in images for part in tiles_of(image, Tiling(size)))
        if all(part.labels.count(label) <= most_boxes for part in parts for label in set(part.labels)):
            return size
        size = size * 3 // 4 // 32 * 32
    return None
