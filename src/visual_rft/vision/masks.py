"""Masks ``[height, width]`` of truth: COCO's polygons and run lengths, their boxes, and points that lie in them.

Decision: a mask is an array of truth values of the size of its image, decoded by faster-coco-eval where it is used.

>>> mask = true_mask([[2, 1, 6, 1, 6, 4, 2, 4]], (10, 8), "a")
>>> mask.shape, box_of_mask(mask), inner_point(mask)
((8, 10), (2.0, 1.0, 6.0, 4.0), (3.5, 2.5))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_finite_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
else:
    Mask = Any  # numpy is imported where a mask is made: rewards without masks do without it
MAX_PIXELS = 1 << 30
"""Pixels of a mask that is read, a byte each."""
DEEPEST = 64
"""Pixels from the edge beyond which a point is not sought deeper inside a mask."""


def true_mask(segmentation: Any, size: tuple[int, int], where: str) -> Mask:
    """COCO's polygons or RLE as a mask ``[height, width]`` of an image of ``size`` (width, height).

    Raises:
        DataError: if it is neither, or empty; ``where`` begins the message.
    """
    import numpy as np
    from faster_coco_eval import mask as masks

    try:
        width, height = (_whole(side) for side in size)
        if width * height > MAX_PIXELS:
            raise ValueError(f"an image of {width} x {height} has more pixels than one is read of")
        if isinstance(segmentation, list) and segmentation:
            polygons = [_polygon(row, (width, height)) for row in segmentation]
            rle = masks.merge(masks.frPyObjects(polygons, height, width))
        elif isinstance(segmentation, dict):
            rle = _run_lengths(segmentation, (width, height))
            rle = masks.frPyObjects(rle, height, width) if isinstance(rle["counts"], list) else rle
        else:
            raise ValueError("neither polygons nor an RLE")
        mask = np.asarray(masks.decode(rle), dtype=bool)
        if mask.shape != (height, width):
            raise ValueError(f"it is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}")
        if not mask.any():
            raise ValueError("it is empty")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: truth.segmentation cannot be read as a mask ({said})") from None
    return mask


def _whole(value: Any) -> int:
    if not is_finite_number(value) or value != int(value):
        raise ValueError(f"the image's size {value!r} is no whole number")
    return int(value)


def _polygon(row: Any, size: tuple[int, int]) -> list[float]:
    """The corners of one polygon, ``[x1, y1, x2, y2, ...]`` in pixels.

    The library takes four numbers for a box, and walks along every side pixel by pixel, however long it is.
    """
    if not isinstance(row, list) or len(row) < 6 or len(row) % 2 or not all(is_finite_number(v) for v in row):
        raise ValueError("a polygon is a list of at least three corners [x1, y1, x2, y2, x3, y3, ...]")
    if not all(-side <= v <= 2 * side for v, side in zip(row, size * (len(row) // 2), strict=True)):
        raise ValueError(f"a corner is far outside of the {size[0]} x {size[1]} image")
    return [float(v) for v in row]


def _run_lengths(rle: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """An RLE of an image of this size; looked at before it is decoded, which reserves what it says."""
    if rle.get("size") != [size[1], size[0]]:
        raise ValueError(f"its size {rle.get('size')!r} is not [height, width] of the image, {[size[1], size[0]]}")
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        return rle
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("its counts are no text, and no list of whole numbers from 0")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"its counts add up to {sum(counts)}, not to the {size[0] * size[1]} pixels of the image")
    return rle


def box_of_mask(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty, in pixels."""
    ys, xs = mask.nonzero()
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def box_as_mask(box: Box, size: tuple[int, int]) -> Mask:
    """The pixels, of an image of ``size`` (width, height), whose centres lie in a box."""
    import numpy as np

    x1, y1, x2, y2 = box
    width, height = size
    xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside: Mask = ((ys >= y1) & (ys < y2))[:, None] & ((xs >= x1) & (xs < x2))[None, :]
    return inside


def inner_point(mask: Mask) -> tuple[float, float]:
    """The centre ``(x, y)`` of a pixel deep inside a mask that is not empty: of the deepest ones that nearest to their
    mean.
    """
    import numpy as np

    deep = mask
    for _ in range(DEEPEST):
        padded = np.pad(deep, 1)
        across = padded[:, :-2] & padded[:, 1:-1] & padded[:, 2:]
        inner = across[:-2] & across[1:-1] & across[2:]
        if not inner.any():
            break
        deep = inner
    ys, xs = np.nonzero(deep)
    nearest = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
    return float(xs[nearest]) + 0.5, float(ys[nearest]) + 0.5


def holds(mask: Mask, point: tuple[float, float]) -> bool:
    """Whether a point in pixels lies on a pixel of the mask; the far edge of the image belongs to the last pixel."""
    height, width = mask.shape
    x, y = min(int(point[0]), width - 1), min(int(point[1]), height - 1)
    return bool(min(x, y) >= 0 and mask[y, x])


def mask_iou(a: Mask, b: Mask) -> float:
    """Shared pixels over the pixels of either, in [0, 1]; 0 where both are empty."""
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 0.0
