"""Questions about large pictures asked tile by tile, and the boxes put together again.

Decision: a tile is a picture of its own to the model, so that everything below (batches, journal, vision passes) stays
as it is; what belongs together is known by the order. Boxes of one question are merged in pixels of the whole picture
by non-maximum suppression (torchvision), the highest score first, but a box that ends at the cut between two tiles
after all others: it is a part of an object. It is dropped, too, where another answered box holds most of it, which
suppression by IoU alone would not see.

    asked = [cut_up(one, Tiling(640)) for one in questions]
    answers = answer(policy, task, [tile for one in asked for tile in one.tiles])
    whole = all_together(task, asked, [scored(task, row.answers) for row in answers])
    prediction = whole[0][0]                  # the first question about the first picture
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visual_rft.answering.questions import ImageQuestions
from visual_rft.answering.scores import FROM_TOKENS
from visual_rft.errors import ConfigError
from visual_rft.tasks.base import Task
from visual_rft.tasks.samples import Prediction, Sample, Score
from visual_rft.tasks.truth import image_size_of
from visual_rft.vision.boxes import Box, area
from visual_rft.vision.tiles import Tile, Tiling, Window, moved_back

SAME_IOU = 0.5
"""Boxes of one class that overlap so far are one object."""
HELD = 0.7
"""Share of a box at a cut that another box must hold, for it to be a part of that object."""
RANKS = ("scores", "token_scores", "asked_scores")
"""Numbers of an answer, one for each box, beside its confidence."""
AT_CUT_PIXELS = 2.0
"""A box that ends so near to a cut ends there: one unit of 0..1000 is 0.6 pixels of a tile of 640."""


@dataclass(frozen=True)
class CutUp:
    """The questions about one picture, asked about its tiles.

    Attributes:
        whole: the questions.
        windows: the tiles.
        tiles: the questions about each tile, in the order of ``windows``.
    """

    whole: ImageQuestions
    windows: tuple[Window, ...]
    tiles: tuple[ImageQuestions, ...]


def check_tiles(task: Task) -> None:
    """Raises ConfigError if the answers of a task cannot be put together from tiles."""
    if task.measured_as != "coco" or task.questions == "every":
        raise ConfigError(f"--tiles: the answers of {task.name!r} cannot be put together from parts of a picture")


def cut_up(questions: ImageQuestions, tiling: Tiling) -> CutUp:
    """The same questions about every tile of the picture; of several pictures, of the first.

    Raises:
        DataError: if a truth does not say how large the picture is.
    """
    if not questions.samples:
        return CutUp(questions, (), ())
    width, height = image_size_of(questions.samples[0].truth)
    windows = tuple(tiling.windows(int(width), int(height)))
    return CutUp(questions, windows, tuple(_about(questions, window) for window in windows))


def _about(questions: ImageQuestions, window: Window) -> ImageQuestions:
    x1, y1, x2, y2 = window

    def one(sample: Sample) -> Sample:
        truth = {**sample.truth, "boxes": [], "image_size": [x2 - x1, y2 - y1]}
        return replace(sample, id=f"{sample.id}@{x1},{y1}", images=(Tile(sample.images[0], window),), truth=truth)

    return replace(questions, samples=tuple(one(sample) for sample in questions.samples))


def all_together(task: Task, asked: Sequence[CutUp], tiles: Sequence[Sequence[Prediction]]) -> list[list[Prediction]]:
    """The answers about whole pictures, in the order of the questions.

    Args:
        task: the task that asked.
        asked: what was asked, picture by picture.
        tiles: what was answered about each tile, with the numbers that rank its boxes
            (:func:`visual_rft.answering.predict.scored`); those of a picture follow each other.

    Returns:
        Each with the merged boxes as its answer and, as completion, what would say them in one text. An answer that
        could be read of no tile is a failure.
    """
    rows = iter(tiles)
    return [_put_together(task, one, [next(rows) for _ in one.tiles]) for one in asked]


def _put_together(task: Task, asked: CutUp, tiles: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    return [
        _whole(task, sample, [(row[n], window) for row, window in zip(tiles, asked.windows, strict=True)])
        for n, sample in enumerate(asked.whole.samples)
    ]


def _whole(task: Task, sample: Sample, parts: Sequence[tuple[Prediction, Window]]) -> Prediction:
    rows: list[dict[str, Any]] = []
    notes: set[str] = set()
    failures = []
    for part, window in parts:
        if part.score.answer is None:
            failures.append(part)
            continue
        rows += _rows(part.score.answer, window, image_size_of(sample.truth))
        notes.update(note for note in part.score.notes if note == FROM_TOKENS)
    if len(failures) == len(parts):
        return failures[0]._replace(sample=sample)
    scores = [row.get("scores", row["confidence"]) for row in rows]
    kept = [rows[n] for n in merged([row["boxes"] for row in rows], scores, [row["at_cut"] for row in rows])]
    found = {"boxes": [list(row["boxes"]) for row in kept], "confidence": [row["confidence"] for row in kept]}
    text = task.gold({**sample.truth, **found})
    score = task.score(text, sample.truth)
    known = {name: [row[name] for row in kept] for name in RANKS if kept and all(name in row for row in kept)}
    without = [n for n, row in enumerate(kept) if row["unstated"]]
    said = [f"put together from {len(parts)} tiles", *notes]
    said += [f"{len(failures)} of them could not be read"] if failures else []
    ranks = [row.get("scores", row["confidence"]) for row in kept]
    answer = {**found, **known, "scores": ranks, **({"unstated": without} if without else {})}
    return Prediction(sample, text, Score(score.parts, score.total, answer, None, said))


def _rows(answer: Mapping[str, Any], window: Window, size: tuple[float, float]) -> list[dict[str, Any]]:
    """What an answer about a tile says of each of its boxes, these in pixels of the whole picture."""
    without = frozenset(answer.get("unstated", ()))
    rows = []
    for n, box in enumerate(answer["boxes"]):
        said = {name: answer[name][n] for name in ("confidence", *RANKS) if name in answer}
        here = {"boxes": moved_back(box, window), "at_cut": _at_cut(box, window, size), "unstated": n in without}
        rows.append({**said, **here})
    return rows


def merged(boxes: Sequence[Box], scores: Sequence[float], at_cut: Sequence[bool]) -> list[int]:
    """Which boxes stay, the highest score first.

    Args:
        boxes: N boxes of one class in pixels of the whole picture.
        scores: N numbers.
        at_cut: N marks of boxes that end at a cut between tiles.
    """
    if not boxes:
        return []
    import torch  # here: a served model is asked without torch until boxes are put together
    from torchvision.ops import nms

    whole_first = [score - part for score, part in zip(scores, at_cut, strict=True)]  # scores are at most 1
    places = torch.tensor(boxes, dtype=torch.float64)
    kept = nms(places, torch.tensor(whole_first, dtype=torch.float64), SAME_IOU).tolist()
    kept = [n for n in kept if not (at_cut[n] and any(_holds(boxes[k], boxes[n]) for k in kept if k != n))]
    return sorted(kept, key=lambda n: -scores[n])


def _holds(large: Box, part: Box) -> bool:
    """Whether a box holds most of a smaller one."""
    width = min(large[2], part[2]) - max(large[0], part[0])
    height = min(large[3], part[3]) - max(large[1], part[1])
    return area(large) > area(part) and max(width, 0) * max(height, 0) >= HELD * area(part)


def _at_cut(box: Sequence[float], window: Window, size: tuple[float, float]) -> bool:
    """Whether a box, in pixels of its tile, ends where the tile does and the picture does not."""
    x1, y1, x2, y2 = window
    width, height = x2 - x1, y2 - y1
    return (
        (x1 > 0 and box[0] <= AT_CUT_PIXELS)
        or (y1 > 0 and box[1] <= AT_CUT_PIXELS)
        or (x2 < size[0] and box[2] >= width - AT_CUT_PIXELS)
        or (y2 < size[1] and box[3] >= height - AT_CUT_PIXELS)
    )
