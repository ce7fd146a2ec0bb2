"""Pictures of a report: small copies as data URIs, and annotated ones for plots and trackers."""

from __future__ import annotations

import base64
import io
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from visual_rft.report.marks import Marks, of_answer, of_truth
from visual_rft.report.reading import Row, Run
from visual_rft.vision.drawing import PREDICTED, TRUTH, Mark, contact_sheet, draw_marks

COLOURS = ("#3b82f6", "#f97316", "#a855f7", "#ec4899", "#06b6d4", "#eab308", "#ef4444", "#a16207")
"""Of the completions of a group, in their order; also in page.css. None of them is the truth's green."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""What a page can show; a run stores the first two."""
MAX_PICTURE_PIXELS = 17_000_000
"""Of a stored picture; a run stores at most 1280 x 1280. A file of 10 kB can claim 100 million, 300 MB in memory."""
MAX_PICTURE_BYTES = 20_000_000
"""Of a stored picture; the largest that a run stores has four million."""
UNREADABLE = (ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError,
              Image.DecompressionBombWarning)  # fmt: skip
"""What Pillow raises besides ``OSError`` for a picture that is none or too large."""
MIN_SIDE_PIXELS = 384
"""An annotated picture is enlarged to at least this many pixels a side (whole-number enlargement)."""
CELL_PIXELS = 256
"""Pixels a side of a picture of before and after; drawn at about this size, so that lines stay visible."""
MIN_CELL_PIXELS = 192
"""The shorter side at which such a picture is drawn."""
MAX_QUESTIONS = 6
"""Questions in it."""


def data_uri(file: Path, side: int) -> str:
    """A picture as a data URI, its longer side at most ``side`` pixels; a small file is taken as it is.

    Raises:
        OSError: if it cannot be read as a picture, or has more pixels or bytes than a run stores.
    """
    if file.stat().st_size > MAX_PICTURE_BYTES:
        raise OSError(f"{file}: has more than {MAX_PICTURE_BYTES:,} bytes")
    content = file.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _encoded(content, side)
    except UNREADABLE as error:
        raise OSError(f"{file}: {error}") from error


def open_picture(file: Path) -> Image.Image:
    """A stored picture, RGB.

    Raises:
        OSError: as :func:`data_uri`.
    """
    size = size_of(file)
    if size is None or size[0] * size[1] > MAX_PICTURE_PIXELS or file.stat().st_size > MAX_PICTURE_BYTES:
        raise OSError(f"{file}: is no picture that a run stores")
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise OSError(f"{file}: {error}") from error


def size_of(file: Path) -> tuple[int, int] | None:
    """(width, height) of a stored picture in pixels; None if it is none."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            return int(width), int(height)
    except (OSError, *UNREADABLE):
        return None


def _encoded(content: bytes, side: int) -> str:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        kind, size = image.format or "", image.size
        if size[0] * size[1] > MAX_PICTURE_PIXELS:
            raise OSError(f"has {size[0]} x {size[1]} pixels")
        if max(size) > side or len(content) > 150_000:
            image.draft("RGB", (side, side))  # a JPEG is decoded at a fraction of its size
            picture = image.convert("RGB")
            picture.thumbnail((side, side))
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=80)
            content, kind = buffer.getvalue(), "JPEG"
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"


def annotated(
    picture: Image.Image, truth: Mapping[str, Any], answers: Sequence[Any], size: Sequence[int] | None = None
) -> Image.Image:
    """A picture with its truth in green and each answer in the colour of its place in the group.

    Args:
        picture: RGB.
        truth: truth of the question.
        answers: parsed answers, None where one could not be read.
        size: (width, height) of the original in pixels, in which boxes are; default that of the picture.
    """
    size = size or picture.size
    for i, answer in enumerate(answers):
        picture = _drawn(picture, of_answer(answer), ImageColor.getrgb(COLOURS[i % len(COLOURS)])[:3], size)
    return _drawn(picture, of_truth(truth), TRUTH, size)


def before_after(run: Run) -> Image.Image | None:
    """Fixed evaluation questions, one a column: first evaluation above, last below; truth green, answer red.

    Returns:
        None where there are not two evaluations with the same questions and pictures.
    """
    if len(run.evaluations) < 2:
        return None
    first, last = run.evaluations[0], run.evaluations[-1]
    after = {row["id"]: row for row in last.get("examples", [])}
    above: list[Image.Image] = []
    below: list[Image.Image] = []
    for row in first.get("examples", []):
        file = run.image(row["images"][0]) if row.get("images") else None
        if file is None or row["id"] not in after or len(above) == MAX_QUESTIONS:
            continue
        picture = open_picture(file)
        size = row.get("image_size") or picture.size
        above.append(_example(picture, size, row))
        below.append(_example(picture, size, after[row["id"]]))
    if not above:
        return None
    titles = ["before" if one["step"] == 0 else f"after {one['step']} steps" for one in (first, last)]
    rows = [contact_sheet(cells, columns=len(cells), cell=CELL_PIXELS) for cells in (above, below)]
    height = CELL_PIXELS // 10
    both = Image.new("RGB", (rows[0].width, 2 * (CELL_PIXELS + height)), (255, 255, 255))
    for number, (row_, title) in enumerate(zip(rows, titles, strict=True)):
        top = number * (CELL_PIXELS + height)
        font = ImageFont.load_default(size=height - 8)
        ImageDraw.Draw(both).text((6, top + 3), title, fill=(0, 0, 0), font=font)
        both.paste(row_, (0, top + height))
    return both


def _example(picture: Image.Image, size: Sequence[int], row: Row) -> Image.Image:
    truth, answer = of_truth(row["truth"]), of_answer(row["completion"]["answer"])
    if row["completion"]["answer"] is None:
        answer = Marks([], [], "no answer")
    if truth.text is not None:
        truth = Marks([], [], f"truth: {truth.text}")
    return _drawn(_drawn(picture, truth, TRUTH, size, MIN_CELL_PIXELS), answer, PREDICTED, size, MIN_CELL_PIXELS)


def _drawn(
    picture: Image.Image,
    marks: Marks,
    colour: tuple[int, ...],
    size: Sequence[int],
    least: int = MIN_SIDE_PIXELS,
) -> Image.Image:
    """``picture``, an enlarged or shrunk copy of one of ``size`` pixels, with marks; enlarged first if it is small."""
    factor = -(-least // min(picture.size))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    across, down = picture.width / size[0], picture.height / size[1]
    placed: list[Mark] = [
        ([x1 * across, y1 * down, x2 * across, y2 * down], label)
        for (x1, y1, x2, y2), label in zip(marks.boxes, marks.labels, strict=True)
        if x1 <= x2 and y1 <= y2
    ]
    if marks.text is not None:
        placed.append((None, marks.text))
    return draw_marks(picture, placed, (colour[0], colour[1], colour[2]), least_side=1)
