"""Truths and questions that somebody wrote wrongly: each is told in one line, and none is taken for another truth.

Every field of a right truth is replaced by every strange value; nothing but the package's own errors may come of it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from support.pictures import picture

from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import load_samples, ready_made
from visual_rft.errors import DataError, VisualRFTError
from visual_rft.tasks import Sample, load_task
from visual_rft.vision.images import RenderedImage
from visual_rft.vision.masks import true_mask

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
SIZE = [96, 96]
SQUARE = [[24, 24, 72, 24, 72, 72, 24, 72]]


def rle(counts: Any, size: Any = SIZE) -> dict[str, Any]:
    return {"size": size, "counts": counts}


STRANGE = [
    None, True, 0, -1, 1.5, NAN, INF, HUGE, 1e308, "", "x", "A", "\u505c\u202e", "\ud800", "9" * 400, "\0",
    [], {}, [[]], [{}], [None], [1, 2], [1, 2, 3, 4], [[1, 2, 3, 4]], [[4, 3, 2, 1]], [[NAN] * 4], [[INF, 0, 1, 2]],
    [[HUGE] * 8], [[1e308, -1e308, 3, 4, 5, 6]], [["1"] * 6], [[True] * 8], [[900, 900, 950, 900, 950, 950]],
    [[0, 0, 0, 0, 0, 0]], [[0, 0, 1e9, 0, 1e9, 1e9]], ["a", "a"], ["a", "b"], [" "], [1], ["\ud800", "b"], ["a"] * 30,
    rle([0, 25], [5, 5]), rle([0, 25]), rle([-5, 9221]), rle([NAN]), rle([HUGE]), rle([2**32, 9216]), rle([0, 10**12]),
    rle([]), rle(["a"]), rle([0.5, 9215.5]), rle("garbage"), rle("\ud800"), rle(""), rle("0" * 500), rle("~~~~"),
    rle(b"PPPP"), rle(None), rle([0, 9216], "96"), rle([0, 10**18], [10**9, 10**9]), rle([0], [0, 0]),
    {"counts": [0, 9216]}, {"size": SIZE}, [0, 0], [1e9, 1e9], [96, 96.5], [HUGE, 1], ["96", "96"], [True, True],
]  # fmt: skip


class Right(NamedTuple):
    """A question and a truth that fit the task, and the task's options."""

    question: dict[str, Any]
    truth: dict[str, Any]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


BOX, BOXES = [12, 12, 48, 48], [[12, 12, 48, 48]]
POINTS = {"weights": {"exact": 1, "points": 1}}
NEAR = {"weights": {"hit": 1, "near": 1}}
MASKS = {"weights": {"mask_iou": 1, "box_iou": 1, "points": 1}}
RIGHT = {
    "many_classes": Right(
        {"categories": ["cat", "dog"]},
        {"boxes": BOXES, "labels": ["cat"], "categories": ["cat", "dog"], "image_size": SIZE, "confidence": [1]},
    ),
    "counting": Right({"category": "cat"}, {"boxes": BOXES, "image_size": SIZE, "count": 1}),
    "counting, points": Right({"category": "cat"}, {"boxes": BOXES, "image_size": SIZE}, POINTS),
    "pointing": Right({"expression": "cat"}, {"box": BOX, "image_size": SIZE, "thought": "a cat"}, NEAR),
    "pointing, every": Right({"category": "cat"}, {"boxes": BOXES, "image_size": SIZE}, {"every": True, **NEAR}),
    "pointing, mask": Right({"expression": "cat"}, {"segmentation": SQUARE, "image_size": SIZE}, NEAR),
    "segmentation": Right(
        {"expression": "cat"}, {"segmentation": SQUARE, "image_size": SIZE, "thought": "a cat"}, MASKS
    ),
    "vqa, choice": Right({"question": "What?", "choices": ["a", "c"]}, {"choice": "B", "choices": ["a", "c"]}),
    "vqa, number": Right(
        {"question": "What?"}, {"number": 12, "tolerance": 1, "relative_tolerance": 0.1, "unit": "cm"}
    ),
    "vqa, text": Right({"question": "What?"}, {"answer": "stop", "synonyms": ["halt"], "thought": "a sign"}),
    "detection": Right(
        {"category": "cat"}, {"boxes": BOXES, "category": "cat", "image_size": SIZE, "confidence": [1.0]}
    ),
    "grounding": Right({"expression": "cat"}, {"box": BOX, "image_size": SIZE, "thought": "a cat"}),
    "classification": Right(
        {"subject": "animal"}, {"label": "cat", "synonyms": ["kitty"], "parents": ["pet"], "thought": "ears"}
    ),
}


def told(act: Any) -> bool:
    """Whether it ends without an error; one of the package's own is one line."""
    try:
        act()
    except VisualRFTError as error:
        lines = str(error).count("\n")
    else:
        return True
    assert not lines
    return False


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_strange_ends_in_a_traceback(name):
    question, truth, options = RIGHT[name]
    task = load_task(name.split(",")[0], **options)
    image = RenderedImage("a", lambda: None)

    def sample(question: dict, truth: dict) -> Sample:
        return Sample("a", (image,), task.name, question, truth)

    whole = ready_made(sample(question, truth), task.questions, task)
    gold = task.gold(whole.truth)
    assert task.score(gold, whole.truth).failure is None
    loaded = 0
    for key in (*question, "problem", "kind", "unit"):
        for value in STRANGE:
            loaded += told(lambda: ready_made(sample({**question, key: value}, truth), task.questions, task))  # noqa: B023
        told(lambda: ready_made(sample({k: v for k, v in question.items() if k != key}, truth), task.questions, task))  # noqa: B023
    for key in (*truth, "space", "thought"):
        for changed in [{**truth, key: value} for value in STRANGE] + [{k: v for k, v in truth.items() if k != key}]:
            loaded += told(lambda: ready_made(sample(question, changed), task.questions, task))  # noqa: B023
            for act in (task.gold, task.wrong, lambda truth: task.score(gold, truth)):
                told(lambda: act(changed))  # noqa: B023
    assert loaded < 0.6 * len(STRANGE) * (len(question) + len(truth) + 5), "most of it is refused"


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("vqa, text", "question"),
        ("grounding", "expression"),
        ("pointing", "expression"),
        ("segmentation", "expression"),
        ("detection", "category"),
        ("counting", "category"),
        ("counting, points", "category"),
        ("pointing, every", "category"),
        ("many_classes", "category"),
    ],
)
def test_a_question_without_what_the_task_asks_for_is_refused(name, missing):
    """Without a text it would ask about "object"; a text of its own is shown instead."""
    _, truth, options = RIGHT[name]
    task = load_task(name.split(",")[0], **options)
    sample = Sample("q7", (RenderedImage("a", lambda: None),), task.name, {}, truth)
    with pytest.raises(DataError, match=rf"question q7: does not fit the task '{task.name}': it has no '{missing}'"):
        ready_made(sample, task.questions, task)
    whole = ready_made(replace(sample, question={"problem": "Which?"}), task.questions, task)
    assert whole.question[missing] == ("object" if missing == "category" else "Which?"), "as tables call it"


@pytest.mark.parametrize(
    ("task", "truth", "message"),
    [
        ("detection", {"boxes": "", "image_size": SIZE}, "truth.boxes: '' is not a list of boxes"),
        ("detection", {"boxes": {}, "image_size": SIZE}, "truth.boxes: {} is not a list of boxes"),
        ("detection", {"boxes": BOXES, "image_size": SIZE, "confidence": [0.5, 0.5]}, "has 2 numbers, truth.boxes 1"),
        ("detection", {"boxes": BOXES, "image_size": SIZE, "confidence": [7]}, "is not a list of numbers from 0 to 1"),
        ("classification", {"label": "cat", "synonyms": [" "]}, "is not a list of names"),
        ("classification", {"label": "cat", "thought": None}, "thought None is not a text"),
        ("vqa", {"number": 5, "relative_tolerance": 5}, "would let 0 be right; 5 per cent are 0.05"),
        ("vqa", {"choice": "A", "choices": None}, "truth.choices: None is not a list of names"),
    ],
)
def test_a_wrong_truth_is_refused(task, truth, message):
    loaded = load_task(task)
    question = {"question": "What?", "category": "cat"}
    sample = Sample("a", (RenderedImage("a", lambda: None),), task, question, truth)
    with pytest.raises(DataError) as error:
        ready_made(sample, loaded.questions, loaded)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("segmentation", "size", "message"),
    [
        ([[10, 10, 30, 30]], (96, 96), "at least three corners"),  # COCO's library would take it for a box
        ([[10, 10, 30, 30, 20]], (96, 96), "at least three corners"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], (96, 96), "far outside of the 96 x 96 image"),
        ([[0, 0, NAN, 0, 9, 9]], (96, 96), "at least three corners"),
        ([[200, 200, 250, 200, 250, 250]], (96, 96), "far outside"),
        ([[100, 100, 150, 100, 150, 150]], (96, 96), "it is empty"),
        (rle([0, 25]), (96, 96), "its counts add up to 25, not to the 9216 pixels"),
        (rle([0, 9216], [48, 192]), (96, 96), r"its size \[48, 192\] is not \[height, width\]"),
        (rle([0, 6400], [80, 80]), (96, 96), "its size"),
        (SQUARE, (96, 96.5), "the image's size 96.5 is no whole number"),
        (SQUARE, (1e6, 1e6), "more pixels than one is read of"),
    ],
)
def test_a_mask_that_is_none_of_its_image_is_refused(segmentation, size, message):
    with pytest.raises(DataError, match=rf"a: truth\.segmentation cannot be read as a mask \(.*{message}"):
        true_mask(segmentation, size, "a")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"truth": {"box": [50, 50, 200, 200]}}, r"truth: box \[50, 50, 200, 200\] is outside its 96 x 96 image"),
        ({"truth": {"box": BOX, "image_size": [500, 500]}}, r"truth.image_size \[500, 500\] is not that of a.png"),
        ({"truth": {"box": BOX, "image_size": "large"}}, "truth.image_size 'large' is not that of a.png"),
        ({"truth": {"box": BOX}, "question": {"expression": 7}}, "question.expression: 7 is not a text"),
        ({"truth": {"box": BOX}, "question": {"expression": " "}}, "question.expression: ' ' is not a text"),
    ],
)
def test_a_row_of_a_jsonl_file_is_named_with_what_is_wrong(row, message, tmp_path):
    picture(96, 96, 1).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": {"expression": "cat"}, "truth": {"box": BOX}}]
    rows.append({"image": "a.png", "question": {"expression": "dog"}, **row})
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    source = {"source": "jsonl", "path": str(file)}
    with pytest.raises(DataError, match=message) as error:
        load_samples([SourceConfig.model_validate(source)], load_task("pointing"))
    assert "line 2" in str(error.value) or "question 2" in str(error.value)
    if "outside" in message:
        assert (
            len(load_samples([SourceConfig.model_validate({**source, "broken": "skip"})], load_task("pointing"))) == 1
        )


def test_facts_of_a_row_are_looked_at(tmp_path):
    picture(96, 96, 1).save(tmp_path / "a.png")
    for fact, message in (({"synonyms": "kitty"}, "synonyms 'kitty' is not a list of texts"),
                          ({"thought": 5}, "thought 5 is not a text")):  # fmt: skip
        (tmp_path / "data.jsonl").write_text(json.dumps({"image": "a.png", "label": "cat", **fact}) + "\n")
        with pytest.raises(DataError, match=f"line 1: {message}"):
            load_samples([SourceConfig(source="jsonl", path=str(tmp_path))], load_task("classification"))
