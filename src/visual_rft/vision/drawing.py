"""Boxes and captions drawn on pictures, and pictures side by side.

Decision: a picture that was drawn says so in its first bytes, so that whatever reads a folder of images tells it from
an image: an answer drawn beside the data was once counted as one more image without objects.

    save_picture(draw_marks(picture, [((10, 20, 60, 80), "cat 0.9")]), Path("answers/a.answer.png"))
    is_drawn(Path("answers/a.answer.png"))      # True
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from visual_rft.errors import DataError, printable

PREDICTED = (255, 64, 64)
TRUTH = (40, 200, 90)
MAX_LABEL = 200
"""Characters of a label that are drawn."""
MAX_ENLARGED = 8192
"""Longer side in pixels to which a small picture is enlarged; one of 4,000 x 2 would become 2 million wide."""

DRAWN_SUFFIX = ".answer.png"
"""Ending of the names of drawn answers; older ones have nothing else that tells them from an image."""
_SOFTWARE = "visual-rft"
_HEAD_BYTES = 128
"""Where a PNG's text stands that was given when it was saved: behind its signature (8) and header (25)."""

Mark = tuple[Sequence[float] | None, str]
"""A box in pixels with its label, or None with a caption for the whole picture."""


def draw_marks(
    image: Image.Image, marks: Sequence[Mark], colour: tuple[int, int, int] = PREDICTED, least_side: int = 512
) -> Image.Image:
    """A copy of ``image`` with marks drawn, small pictures enlarged first so that labels stay readable.

    Args:
        image: RGB picture.
        marks: boxes in pixels of ``image``, and captions; captions are written under each other at the bottom.
        colour: RGB, 0..255.
        least_side: the shorter side of the result is at least this many pixels (whole-number enlargement).
    """
    factor = max(1, min(-(-least_side // min(image.size)), MAX_ENLARGED // max(image.size)))
    picture = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(12, min(picture.size) // 24))
    width = max(2, min(picture.size) // 200)
    bottom = picture.height
    _, top, _, low = draw.textbbox((0, 0), "Ag", font=font)  # the same height for every label
    height = low - top + 4
    for box, said in marks:
        label = printable(said, limit=MAX_LABEL)  # a line break has no length, and a control character no shape
        right = draw.textlength(label, font=font)
        if box is None:
            bottom -= height
            left, at = 0.0, float(bottom)
        else:
            left, at, x2, y2 = (float(v) * factor for v in box)
            draw.rectangle((left, at, x2, y2), outline=colour, width=width)
            at -= height if at >= height else 0
        if label:
            draw.rectangle((left, at, left + right + 6, at + height), fill=colour)
            draw.text((left + 3, at + 2 - top), label, fill=(255, 255, 255), font=font)
    return picture


def contact_sheet(pictures: Sequence[Image.Image], columns: int, cell: int = 400) -> Image.Image:
    """Pictures in rows of ``columns``, each shrunk to fit a square of ``cell`` pixels."""
    sheet = Image.new("RGB", (columns * cell, -(-len(pictures) // columns) * cell), (255, 255, 255))
    for number, picture in enumerate(pictures):
        shrunk = picture.copy()
        shrunk.thumbnail((cell - 8, cell - 8))
        sheet.paste(shrunk, (number % columns * cell + 4, number // columns * cell + 4))
    return sheet


def save_picture(picture: Image.Image, file: Path, what: str = "picture", *, make_folder: bool = False) -> None:
    """Write a picture that was drawn; :func:`is_drawn` knows it again.

    Args:
        picture: RGB picture.
        file: path of the picture; its ending says the format.
        what: noun for the picture in the message of an error.
        make_folder: make the folders above it where they are missing; else a missing folder is an error.

    Raises:
        DataError: if it cannot be written.
    """
    about = PngInfo()
    about.add_text("Software", _SOFTWARE)
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file, **({"pnginfo": about} if file.suffix.lower() == ".png" else {}))
    except ValueError:
        raise DataError(f"{file}: a {what} needs a name that says its format, such as {file.name}.png") from None
    except OSError as error:
        raise DataError(f"{file}: cannot write the {what} ({error})") from None


def is_drawn(file: Path) -> bool:
    """Whether an image file is one of :func:`save_picture`'s, told by its name or its first bytes; no data, that is."""
    if file.name.endswith(DRAWN_SUFFIX):
        return True
    if file.suffix.lower() != ".png":
        return False
    try:
        with file.open("rb") as opened:
            return f"Software\0{_SOFTWARE}".encode() in opened.read(_HEAD_BYTES)
    except OSError:  # whoever opens it says what is wrong
        return False
