"""Between pixels of the original image and the space a model family speaks. Nothing else in the tree scales a box.

Decision: ground truth lives in pixels of the original image; a :class:`Frame` says how large that image is in the
model's own units. Qwen2-VL and Qwen3-VL speak 0..1000 whatever the image; Qwen2.5-VL speaks pixels of the image
*after* the processor's resize, so its frame is known only once the image has been processed.

>>> frame = Frame(image_size=(640, 480), extent=(1000, 1000))
>>> frame.from_pixels((64, 48, 320, 240))
(100, 100, 500, 500)
>>> frame.to_pixels((100, 100, 500, 500))
(64.0, 48.0, 320.0, 240.0)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from visual_rft.vision.boxes import Box


class CoordinateSpace(StrEnum):
    """The units in which a model family writes boxes."""

    RELATIVE_1000 = "relative_1000"
    """Integers 0..1000 across each axis, whatever the image size (Qwen2-VL, Qwen3-VL)."""
    PROCESSED_PIXELS = "processed_pixels"
    """Pixels of the image after the processor's resize (Qwen2.5-VL)."""
    PIXELS = "pixels"
    """Pixels of the original image."""
    LOCATION_TOKENS = "location_tokens"
    """``<loc0000>`` to ``<loc1023>``, each 1/1024 of an axis; four per box, y before x (PaliGemma)."""


@dataclass(frozen=True)
class Frame:
    """One image in two units.

    Attributes:
        image_size: (width, height) of the original image in pixels.
        extent: (width, height) of the same image in the model's units.
        tokens: whether the model has a token for each value, of which ``extent`` itself is none.
    """

    image_size: tuple[int, int]
    extent: tuple[int, int]
    tokens: bool = False

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
        if space is CoordinateSpace.LOCATION_TOKENS:
            return cls(image_size, (1024, 1024), tokens=True)
        if processed_size is None:
            raise ValueError("the space 'processed_pixels' needs the size of the image after the processor's resize")
        return cls(image_size, processed_size)

    def to_pixels(self, box: Box) -> Box:
        """A box from the model's units to pixels of the original image."""
        (width, height), (across, down) = self.image_size, self.extent
        x1, y1, x2, y2 = box
        return x1 * width / across, y1 * height / down, x2 * width / across, y2 * height / down

    def to_pixels_each(self, boxes: Iterable[Box]) -> list[list[float]]:
        """Each box as :meth:`to_pixels`, as lists: what an answer holds, JSON-able."""
        (width, height), (across, down) = self.image_size, self.extent
        return [[x1 * width / across, y1 * height / down, x2 * width / across, y2 * height / down]
                for x1, y1, x2, y2 in boxes]  # fmt: skip

    def from_pixels(self, box: Box) -> tuple[int, int, int, int]:
        """A box from pixels of the original image to the model's units, rounded to integers.

        A box thinner than one unit is widened to one unit, so that it stays a valid box. Where values are tokens, the
        last one stands for the far edge too, one unit beside it.
        """
        x1, x2 = self._interval(box[0], box[2], 0)
        y1, y2 = self._interval(box[1], box[3], 1)
        return x1, y1, x2, y2

    def point_to_pixels(self, point: tuple[float, float]) -> tuple[float, float]:
        """A point ``(x, y)`` from the model's units to pixels of the original image."""
        (width, height), (across, down) = self.image_size, self.extent
        return point[0] * width / across, point[1] * height / down

    def point_from_pixels(self, point: tuple[float, float]) -> tuple[int, int]:
        """A point from pixels of the original image to the model's units, rounded to integers inside the image."""
        units = zip(point, self.extent, self.image_size, strict=True)
        x, y = (min(max(round(v * extent / size), 0), extent - self.tokens) for v, extent, size in units)
        return x, y

    def _interval(self, low: float, high: float, axis: int) -> tuple[int, int]:
        extent, size = self.extent[axis], self.image_size[axis]
        most = extent - 1 if self.tokens else extent
        start = min(max(round(low * extent / size), 0), most - 1)
        return start, min(max(round(high * extent / size), start + 1), most)
