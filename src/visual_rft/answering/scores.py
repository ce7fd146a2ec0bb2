"""By which number an answered box is ranked: as the model wrote it, as sure as it was of the box, or as it says asked.

Decision: average precision needs a number per box that ranks, and written ones are poor: they are text, learned or made
up. So three can be chosen (``task.scores``), for the same answers:

* ``written``: the confidence that stands in the answer; where none does, that of the tokens.
* ``tokens``: how likely the model found the tokens of the box's own coordinates while it wrote them.
* ``asked``: a second question per box, whether the thing lies there; the share of *Yes* against *No*.

Numbers are found in the text and in the tokens by the same pattern, and only if both give the same ones do the
log-probabilities count, so that no box is ever given those of another one.

>>> pieces, logprobs = ["[", "10", ",", " 3", "0", "]"], [0, -0.1, 0, -0.3, -0.1, 0]
>>> [round(n, 1) for n in number_logprobs("[10, 30]", pieces, logprobs)]
[-0.1, -0.4]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from visual_rft.answering.questions import Answer
from visual_rft.tasks.samples import Score
from visual_rft.vision.boxes import Box
from visual_rft.vision.coordinates import Frame

NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""A token that stands for one byte, in vocabularies of SentencePiece; its name holds digits that nobody wrote."""
FROM_TOKENS = "confidence taken from the tokens"
"""Note on an answer with a box that states none."""
SAME_PIXELS = 1e-3
"""Corners that differ by less are the same: the reader computes with the numbers that are written."""


def number_logprobs(text: str, pieces: Sequence[str], logprobs: Sequence[float]) -> list[float] | None:
    """Log-probability of each number that stands in ``text``, in order: the sum over its tokens.

    Args:
        text: the completion.
        pieces: T tokens as the vocabulary spells them, special ones left out.
        logprobs: T log-probabilities.

    Returns:
        One number, at most 0, per match of :data:`NUMBER`; None if the tokens do not spell the numbers of the text.
    """
    spelled, owner = "", []
    for place, piece in enumerate(pieces):
        piece = _BYTE.sub(" ", piece)
        spelled += piece
        owner += [place] * len(piece)
    found = list(NUMBER.finditer(spelled))
    if [m.group() for m in found] != NUMBER.findall(text):
        return None
    return [sum(logprobs[i] for i in sorted(set(owner[m.start() : m.end()]))) for m in found]


def token_scores(text: str, frame: Frame, logprobs: Sequence[float], boxes: Sequence[Sequence[float]]) -> list[float]:
    """How likely each box was: the geometric mean of the probabilities of its four coordinates.

    The mean and not the product, so that it does not depend on how many tokens a vocabulary needs for a number; the
    product ranks alike. The lowest of the four ranked a little better on handwriting and worse on shapes (validation,
    a run of 4 shots each), so nothing speaks for it.

    Args:
        text: the completion.
        frame: units of its coordinates.
        logprobs: what :func:`number_logprobs` gives for the text.
        boxes: N boxes that were read of it, ``[x1, y1, x2, y2]`` in pixels, in the order of the text.

    Returns:
        N numbers in [0, 1]; -1 for a box whose four numbers do not stand together in the text.
    """
    numbers = [(m.start(), float(m.group())) for m in NUMBER.finditer(text)]
    opened = text.lower().rfind("<answer>")
    place = next((n for n, (start, _) in enumerate(numbers) if start > opened), len(numbers))
    scores = []
    for box in boxes:
        ends = (n for n in range(place, len(numbers) - 3) if _is(numbers[n : n + 4], box, frame))
        first = next(ends, None)
        if first is None:
            scores.append(-1.0)
        else:
            scores.append(math.exp(sum(logprobs[first : first + 4]) / 4))
            place = first + 4
    return scores


def _is(numbers: Sequence[tuple[int, float]], box: Sequence[float], frame: Frame) -> bool:
    """Whether four written numbers are this box, whichever corner comes first, and cut at the edge of the image."""
    a, b, c, d = (value for _, value in numbers)
    written: Box = (b, a, d, c) if frame.tokens else (a, b, c, d)
    x1, y1, x2, y2 = frame.to_pixels(written)
    width, height = frame.image_size
    corners = (*_ordered(x1, x2, width), *_ordered(y1, y2, height))
    return all(
        abs(one - other) < SAME_PIXELS for one, other in zip(corners, (box[0], box[2], box[1], box[3]), strict=True)
    )


def _ordered(one: float, other: float, most: float) -> tuple[float, float]:
    return min(one, other, most), min(max(one, other), most)


def ranked(score: Score, choice: str, given: Answer) -> Score:
    """The same score, its answer with ``scores``, the number by which each box is ranked, and those it has besides.

    Args:
        score: of an answer with ``boxes`` and ``confidence``; another one is given back as it is.
        choice: ``written``, ``tokens`` or ``asked``.
        given: the answer that was scored.

    Returns:
        The answer then has ``token_scores`` (-1 where unknown) and ``asked_scores`` where these are known.
    """
    answer = score.answer
    if not (isinstance(answer, Mapping) and answer.get("boxes") and "confidence" in answer):
        return score
    written: list[float] = list(answer["confidence"])
    unstated = frozenset(answer.get("unstated", ()))
    known: dict[str, list[float]] = {}
    if given.numbers is not None and given.frame is not None:
        known["token_scores"] = token_scores(given.text, given.frame, given.numbers, answer["boxes"])
    if given.asked is not None:
        known["asked_scores"] = list(given.asked)
    tokens = known.get("token_scores", [-1.0] * len(written))
    if choice == "asked" and given.asked is not None:
        scores, taken = list(given.asked), False
    else:
        places = range(len(written)) if choice == "tokens" else unstated
        instead = {n for n in places if tokens[n] >= 0}
        scores = [tokens[n] if n in instead else sure for n, sure in enumerate(written)]
        taken = choice == "written" and bool(instead)
    notes = [*score.notes, FROM_TOKENS] if taken else score.notes
    return score._replace(answer={**answer, **known, "scores": scores}, notes=notes)
