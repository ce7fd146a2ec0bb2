"""Boxes drawn on pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont

from visual_rft.vision.boxes import FloatArray

PREDICTED = (255, 64, 64)
TRUTH = (40, 200, 90)


def draw_boxes(
    image: Image.Image,
    boxes: Iterable[Sequence[float]] | FloatArray,
    labels: Sequence[str] = (),
    colour: tuple[int, int, int] = PREDICTED,
    least_side: int = 512,
) -> Image.Image:
    """A copy of ``image`` with boxes and labels drawn, small pictures enlarged first so that labels stay readable.

    Args:
        image: RGB picture.
        boxes: ``[N, 4]`` in pixels of ``image``.
        labels: one text per box, or none.
        colour: RGB, 0..255.
        least_side: the shorter side of the result is at least this many pixels (whole-number enlargement).
    """
    factor = max(1, -(-least_side // min(image.size)))
    picture = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    size = max(12, min(picture.size) // 32)
    font = ImageFont.load_default(size=size)
    width = max(2, min(picture.size) // 200)
    for index, box in enumerate(boxes):
        x1, y1, x2, y2 = (float(v) * factor for v in box)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=width)
        if index < len(labels) and labels[index]:
            left, top, right, bottom = draw.textbbox((0, 0), labels[index], font=font)
            height = bottom - top + 4
            at = y1 - height if y1 >= height else y1
            draw.rectangle((x1, at, x1 + right - left + 6, at + height), fill=colour)
            draw.text((x1 + 3 - left, at + 2 - top), labels[index], fill=(255, 255, 255), font=font)
    return picture
