"""An evaluation for looking: the kept held-out questions with their first and last answers, and what is wrong in them.

Decision: the first and the last evaluation that kept answers are shown, because what changed is what one looks for.
Numbers are of all kept answers; the questions that do not fit into the page with their pictures are left out evenly and
counted.

    (gallery,) = galleries_of(read_run(folder), 0, pictures, ["detection"])
    gallery["kinds"]["missed"]         # [30, 12]: before, after
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visual_rft.report.held_out.measured import Judged, calibration, class_numbers, confusion, judged, precision_recall
from visual_rft.report.held_out.mistakes import KINDS
from visual_rft.report.marks import of_truth
from visual_rft.report.questions import Pictures, answer_of, question_of, short
from visual_rft.report.reading import Row, Run
from visual_rft.tasks.metrics.calibration import unstated, unstated_text
from visual_rft.vision.boxes import is_finite_number

TEXT_BUDGET, PICTURE_BUDGET = 3_000_000, 6_000_000
"""Characters of texts and of pictures that a run's gallery may take in a page."""
MAX_TEXT_CHARACTERS = 600
"""Of an answer in the gallery; the whole is in the run folder."""
SIZES = (("small", 32.0**2), ("medium", 96.0**2), ("large", float("inf")))
"""COCO's sizes of a box: areas below this many square pixels."""


def galleries_of(run: Run, number: int, pictures: Pictures, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """What the page shows of a run's held-out answers, a gallery for each of its tasks; [] where none were kept.

    Args:
        run: the run.
        number: of the run in the page.
        pictures: collection of the page's pictures, filled on the way.
        tasks: what its tasks are called.
    """
    kept = [(row["step"], rows) for row in run.evaluations if (rows := run.answers(row["step"]))]
    if len(tasks) < 2:
        return [_gallery(run, number, pictures, kept, "")] if kept else []
    found = []
    for task in tasks:
        own = [(step, [row for row in rows if row.get("task") == task]) for step, rows in kept]
        own = [(step, rows) for step, rows in own if rows]
        found += [{"task": task, **_gallery(run, number, pictures, own, f"{task}/", len(tasks))}] if own else []
    return found


def _gallery(
    run: Run, number: int, pictures: Pictures, kept: Sequence[tuple[int, list[Row]]], prefix: str, share: int = 1
) -> dict[str, Any]:
    """The gallery of the answers of one task, whose numbers have ``prefix`` in front, in a ``share`` of the page."""
    chosen = [kept[0], kept[-1]] if len(kept) > 1 else kept
    answers = [judged(rows) for _, rows in chosen]
    classes = [class_numbers(one) for one in answers]
    names = sorted(classes[-1], key=lambda name: -classes[-1][name][0])
    questions = _questions(run, number, pictures, answers, share)
    asked: Any = run.evaluations[-1].get(f"{prefix}n_questions")
    asked = asked if is_finite_number(asked) else len(answers[-1])
    said = [f"{len(answers[-1])} of {asked} held-out questions kept their answers"] if asked > len(answers[-1]) else []
    without = unstated([one.row["completion"].get("answer") for one in answers[-1]])
    said += [unstated_text(without["unstated"])] if without else []
    if len(questions) < len(answers[-1]):
        said.append(f"{len(questions)} of the {len(answers[-1])} with kept answers fit into this page")
    return {
        "steps": [step for step, _ in chosen],
        "kinds": {
            kind: [sum(one.kinds[kind] for one in found) for found in answers]
            for kind in KINDS
            if any(one.kinds[kind] for found in answers for one in found)
        },
        "measure": "AP" if any(one.matched for one in answers[-1]) else "share of right answers",
        "classes": [
            {
                "name": name,
                "count": classes[-1][name][1],
                "values": [short(c[name][0]) if name in c else None for c in classes],
            }
            for name in names
        ],
        "precision_recall": [[[short(v) for v in point] for point in precision_recall(one)] for one in answers],
        "calibration": [[[short(v) for v in point] for point in calibration(one)] for one in answers],
        "confusion": confusion(answers[-1]),
        "questions": questions,
        "left_out": "; ".join(said) or None,
    }


def _questions(
    run: Run, number: int, pictures: Pictures, answers: Sequence[Sequence[Judged]], share: int
) -> list[dict[str, Any]]:
    """The questions of the last evaluation, evenly thinned until they fit."""
    before = {str(one.row.get("id")): one for one in answers[0]} if len(answers) > 1 else {}
    last, start = answers[-1], pictures.used
    made: dict[int, dict[str, Any]] = {}
    text = 0
    for place in _evenly(len(last)):
        one = last[place]
        both = [before.get(str(one.row.get("id"))), one] if before else [one]
        shown = {
            **question_of(run, number, pictures, one.row),
            "class": one.name,
            "sizes": _sizes(one),
            "answers": [_answer(answer) for answer in both],
        }
        text += sum(len(answer["text"]) + 300 for answer in shown["answers"] if answer)
        if made and (text > TEXT_BUDGET // share or pictures.used - start > PICTURE_BUDGET // share):
            break
        made[place] = shown
    return [made[place] for place in sorted(made)]


def _evenly(size: int) -> list[int]:
    """All places in an order whose every beginning is spread over the whole: steps of the golden section.

    >>> _evenly(5)
    [0, 2, 4, 1, 3]
    """
    return sorted(range(size), key=lambda n: (n * 0.6180339887498949) % 1)


def _answer(one: Judged | None) -> dict[str, Any] | None:
    if one is None:
        return None
    whole = answer_of(one.row["completion"], MAX_TEXT_CHARACTERS)
    names = ("text", "total", "boxes", "labels", "words", "failure")
    return {**{name: whole[name] for name in names}, "kinds": dict(one.kinds)}


def _sizes(one: Judged) -> list[str]:
    """Sizes of the true boxes, in pixels of the original image."""
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in of_truth(one.row.get("truth") or {}).boxes]
    return sorted({next((name for name, below in SIZES if area < below), SIZES[-1][0]) for area in areas})
