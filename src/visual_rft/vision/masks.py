"""Masks ``[height, width]`` of truth: COCO's polygons and run lengths, their boxes, and points that lie in them.

Decision: a mask is an array of truth values of the size of its image, decoded by faster-coco-eval where it is used.

>>> mask = true_mask([[2, 1, 6, 1, 6, 4, 2, 4]], (10, 8), "a")
>>> mask.shape, box_of_mask(mask), inner_point(mask)
((8, 10), (2.0, 1.0, 6.0, 4.0), (3.5, 2.5))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
else:
    Mask = Any  # numpy is imported where a mask is made: rewards without masks do without it
DEEPEST = 64
"""Pixels from the edge beyond which a point is not sought deeper inside a mask."""


def true_mask(segmentation: Any, size: tuple[int, int], where: str) -> Mask:
    """COCO's polygons or RLE as a mask ``[height, width]`` of an image of ``size`` (width, height).

    Raises:
        DataError: if it is neither, or empty; ``where`` begins the message.
    """
    import numpy as np
    from faster_coco_eval import mask as masks

    width, height = size
    try:
        if isinstance(segmentation, list) and segmentation:
            rle = masks.merge(masks.frPyObjects([[float(v) for v in row] for row in segmentation], height, width))
        elif isinstance(segmentation, dict):
            uncompressed = isinstance(segmentation.get("counts"), list)
            rle = masks.frPyObjects(segmentation, height, width) if uncompressed else segmentation
        else:
            raise ValueError("neither polygons nor an RLE")
        mask = np.asarray(masks.decode(rle), dtype=bool)
        if mask.shape != (height, width):
            raise ValueError(f"it is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}")
        if not mask.any():
            raise ValueError("it is empty")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DataError(f"{where}: truth.segmentation cannot be read as a mask ({error})") from None
    return mask


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
