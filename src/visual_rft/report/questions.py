"""A question with its pictures, truth and answers, as the page shows them.

Decision: boxes stay in pixels of the original image, and a picture is in the page once, whoever shows it.

>>> answer_of({"text": "<answer>cat</answer>", "answer": "cat", "total": 2.0})["words"]
'cat'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visual_rft.report.marks import of_answer, of_truth
from visual_rft.report.pictures import size_of
from visual_rft.report.reading import Row, Run
from visual_rft.report.titles import title_of

MAX_TEXT_CHARACTERS = 4_000
"""Characters of a prompt or completion that are shown."""


@dataclass
class Pictures:
    """The pictures of a page, each once.

    Args:
        source: function from a file to the address of its ``img`` element; called once per file.
    """

    source: Callable[[Path], str]
    images: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    used: int = 0

    def key(self, run: Run, number: int, name: str) -> str | None:
        """The key of a stored picture; None if it is not there or no picture."""
        key = f"{number}/{name}"
        if key not in self.images:
            file = run.image(name)
            if file is None:
                return None
            try:
                self.images[key] = self.source(file)
            except OSError as error:
                run.remember(f"{file}: cannot be shown as a picture ({error}); left out")
                return None
            self.files[key] = file
            self.used += len(self.images[key])
        return key


def example_of(run: Run, number: int, pictures: Pictures, row: Row) -> dict[str, Any]:
    """A question with its one greedy answer."""
    return {**question_of(run, number, pictures, row), "answers": [answer_of(row.get("completion") or {})]}


def question_of(run: Run, number: int, pictures: Pictures, row: Row) -> dict[str, Any]:
    """A question without its answers.

    Args:
        run: of which it is.
        number: of the run in the page.
        pictures: collection of the page's pictures, filled on the way.
        row: a line of the rollouts or of an evaluation.
    """
    names = map(str, row.get("images", []))
    keys = [key for name in names if (key := pictures.key(run, number, name)) is not None]
    truth = row.get("truth") or {}
    marks = of_truth(truth)
    size = row.get("image_size") or truth.get("image_size")
    if not size and keys:
        size = size_of(pictures.files[keys[0]])
    return {
        "id": str(row.get("id", "")),
        "images": keys,
        "size": list(size) if size else None,
        "prompt": clipped(str(row.get("prompt", ""))),
        "asked": title_of(row.get("question") or {}, str(row.get("prompt", ""))),
        "truth": {"boxes": rounded(marks.boxes), "text": marks.text},
    }


def answer_of(completion: Row, characters: int = MAX_TEXT_CHARACTERS) -> dict[str, Any]:
    """One answer, its text cut after so many characters."""
    marks = of_answer(completion.get("answer"))
    rewards = completion.get("rewards") or {}
    return {
        "text": clipped(str(completion.get("text", "")), characters),
        "rewards": {name: short(value) for name, value in rewards.items()},
        "total": short(completion.get("total")),
        "advantage": short(completion.get("advantage")),
        "truncated": bool(completion.get("truncated")),
        "tokens": completion.get("tokens"),
        "boxes": rounded(marks.boxes),
        "labels": marks.labels,
        "words": marks.text,
        "failure": completion.get("failure"),
        "notes": [str(note) for note in completion.get("notes") or []],
    }


def clipped(text: str, characters: int = MAX_TEXT_CHARACTERS) -> str:
    """The beginning of a text; what is missing is said."""
    more = len(text) - characters
    return f"{text[:characters]} … ({more} more characters)" if more > 0 else text


def short(value: Any) -> Any:
    """A number with the digits that a page can show; None if it is not finite."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if value - value == 0 else None


def rounded(boxes: Sequence[Sequence[float]]) -> list[list[float]]:
    """Boxes to a hundredth of a pixel."""
    return [[round(v, 2) for v in box] for box in boxes]
