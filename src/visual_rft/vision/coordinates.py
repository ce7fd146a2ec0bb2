"""Between pixels of the original image and the space a model family speaks. Nothing else in the tree scales a box.

Decision: ground truth lives in pixels of the original image; a :class:`Frame` says how large that image is in the
model's own units. Qwen2-VL and Qwen3-VL speak 0..1000 whatever the image; Qwen2.5-VL speaks pixels of the image
*after* the processor's resize, so its frame is known only once the image has been processed.

>>> import numpy as np
>>> frame = Frame(image_size=(640, 480), extent=(1000, 1000))
>>> frame.from_pixels(np.array([[64.0, 48.0, 320.0, 240.0]])).tolist()
[[100, 100, 500, 500]]
>>> frame.to_pixels(np.array([[100, 100, 500, 500]])).tolist()
[[64.0, 48.0, 320.0, 240.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from visual_rft.vision.boxes import FloatArray


class CoordinateSpace(StrEnum):
    """The units in which a model family writes boxes."""

    RELATIVE_1000 = "relative_1000"
    """Integers 0..1000 across each axis, whatever the image size (Qwen2-VL, Qwen3-VL)."""
    PROCESSED_PIXELS = "processed_pixels"
    """Pixels of the image after the processor's resize (Qwen2.5-VL)."""
    PIXELS = "pixels"
    """Pixels of the original image."""


@dataclass(frozen=True)
class Frame:
    """One image in two units.

    Attributes:
        image_size: (width, height) of the original image in pixels.
        extent: (width, height) of the same image in the model's units.
    """

    image_size: tuple[int, int]
    extent: tuple[int, int]

    @classmethod
    def of(
        cls, space: CoordinateSpace, image_size: tuple[int, int], processed_size: tuple[int, int] | None = None
    ) -> Frame:
        """The frame of an image for a model that speaks ``space``.

        Args:
            space: the model's units.
            image_size: (width, height) of the original image in pixels.
            processed_size: (width, height) after the processor's resize; needed for ``PROCESSED_PIXELS`` only.

        Raises:
            ValueError: if ``processed_size`` is needed and missing.
        """
        if space is CoordinateSpace.RELATIVE_1000:
            return cls(image_size, (1000, 1000))
        if space is CoordinateSpace.PIXELS:
            return cls(image_size, image_size)
        if processed_size is None:
            raise ValueError("the space 'processed_pixels' needs the size of the image after the processor's resize")
        return cls(image_size, processed_size)

    def to_pixels(self, boxes: npt.ArrayLike) -> FloatArray:
        """Boxes ``[N, 4]`` from the model's units to pixels of the original image."""
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * self._scale()

    def from_pixels(self, boxes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Boxes ``[N, 4]`` from pixels of the original image to the model's units, rounded to integers.

        A box thinner than one unit is widened to one unit, so that it stays a valid box.
        """
        extent = np.array(self.extent)
        units = np.rint(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) / self._scale()).astype(np.int64)
        low = np.clip(units[:, :2], 0, extent - 1)
        high = np.minimum(np.maximum(units[:, 2:], low + 1), extent)
        return np.concatenate([low, high], axis=1)

    def _scale(self) -> FloatArray:
        per_axis = np.array(self.image_size, dtype=np.float64) / np.array(self.extent, dtype=np.float64)
        return np.concatenate([per_axis, per_axis])
