"""A question of a run with its picture, truth and answers, as a notebook shows it.

Decision: whatever a model or a data set wrote is text in the page and never markup; pictures are embedded small,
because a notebook keeps what it has shown.

    question = run.rollouts(1)[0]
    question.picture, question.truth, question.completions[0]["total"]
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from visual_rft.report.pictures import COLOURS, annotated, open_picture
from visual_rft.report.questions import clipped
from visual_rft.report.reading import Row, Run
from visual_rft.report.titles import title_of

MAX_SIDE_PIXELS = 480
"""Longer side of a picture that is shown; about 30 kB as JPEG."""
MAX_TEXT_CHARACTERS = 600
"""Characters of an answer that are shown."""


class Question:
    """One question.

    Attributes:
        id: of the question.
        title: what was asked, in a few words.
        prompt: the text that was shown to the model.
        question: what the prompt was made from, e.g. ``{"category": "red circle"}``.
        truth: the right answer, boxes in pixels of the original image.
        size: (width, height) of the original image in pixels, as far as it is known.
        completions: the answers as docs/run-folder.md lists their fields: ``text``, ``rewards``, ``total``, ``answer``,
            ``failure``; of a rollout also ``advantage``.
    """

    def __init__(self, run: Run, row: Row, completions: Sequence[Row]) -> None:
        self._files = [file for name in row.get("images", []) if (file := run.image(str(name))) is not None]
        self.id = str(row.get("id", ""))
        self.prompt = str(row.get("prompt", ""))
        self.question: Mapping[str, Any] = row.get("question") or {}
        self.title = title_of(self.question, self.prompt)
        self.truth: Mapping[str, Any] = row.get("truth") or {}
        size = row.get("image_size") or self.truth.get("image_size")
        self.size: tuple[int, int] | None = (int(size[0]), int(size[1])) if size else None
        self.completions = tuple(completions)

    @property
    def picture(self) -> Image.Image | None:
        """The first image, RGB, as the run stored it: perhaps smaller than the original. None where there is none.

        Raises:
            OSError: if the stored file cannot be read.
        """
        return open_picture(self._files[0]) if self._files else None

    def drawn(self) -> Image.Image | None:
        """The picture with the truth in green and each answer in the colour of its place in the group."""
        picture = self.picture
        if picture is None:
            return None
        return annotated(picture, self.truth, [row.get("answer") for row in self.completions], self.size)

    def __repr__(self) -> str:
        totals = ", ".join(_number(row.get("total")) for row in self.completions)
        return f"<question {self.title!r}: rewards {totals}>"

    def _repr_png_(self) -> bytes | None:
        picture = self._small()
        return None if picture is None else small_png(picture)

    def _repr_html_(self) -> str:
        picture = self._small()
        rows = [self._row(place, row) for place, row in enumerate(self.completions)]
        lines = [f"<p><b>{escaped(self.title)}</b></p>"]
        if picture is not None:
            lines.append(f'<img src="{as_uri(_encoded(picture, "JPEG"), "jpeg")}" alt="truth green, answers coloured">')
        head = "".join(f"<th>{name}</th>" for name in ("reward", "parts", "answer"))
        return "\n".join([*lines, f"<table><tr>{head}</tr>{''.join(rows)}</table>"])

    def _row(self, place: int, completion: Row) -> str:
        parts = ", ".join(f"{name} {_number(value)}" for name, value in (completion.get("rewards") or {}).items())
        said = clipped(str(completion.get("text", "")), MAX_TEXT_CHARACTERS)
        failure = completion.get("failure")
        cells = (_number(completion.get("total")), parts, said + (f" [not readable: {failure}]" if failure else ""))
        style = f"border-left: 4px solid {COLOURS[place % len(COLOURS)]}; text-align: left; white-space: pre-wrap"
        return f'<tr style="{style}">{"".join(f"<td>{escaped(cell)}</td>" for cell in cells)}</tr>'

    def _small(self) -> Image.Image | None:
        picture = self.drawn()
        if picture is not None:
            picture.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS))
        return picture


def escaped(text: Any) -> str:
    """Text of whatever origin as text of a page."""
    return html.escape(str(text))


def as_uri(content: bytes, kind: str) -> str:
    """A picture's file as the address of an ``img`` element."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def small_png(picture: Image.Image) -> bytes:
    """A picture as PNG of 64 colours: a fifth of the size."""
    return _encoded(picture.convert("RGB").quantize(64, dither=Image.Dither.NONE), "PNG")


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 80} if kind == "JPEG" else {"optimize": True}))
    return file.getvalue()


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else "-"
