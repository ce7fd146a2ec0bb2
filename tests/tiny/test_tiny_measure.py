"""What is taught and what is measured: gold answers read back, boxes told apart by the object they lie on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.tasks import TASKS
from visual_rft.tasks.parsing.completion import Failure
from visual_rft.tiny import native
from visual_rft.tiny.architecture import build_tokenizer
from visual_rft.tiny.build import phrases
from visual_rft.tiny.measure import Case, box_figures, lies_on, read_boxes
from visual_rft.tiny.questions import STYLES, TAUGHT, Question, Style, ask, blurred
from visual_rft.tiny.scenes import SOURCES
from visual_rft.tiny.tokens import Writer, marks
from visual_rft.vision.boxes import iou
from visual_rft.vision.images import ImageFile

BOXES = ((0, 0, 20, 20), (40, 40, 80, 80), (70, 0, 90, 20))
SCENE = AnnotatedImage("a", ImageFile(Path("a.png")), (100, 100), ("red star", "blue star", "red star"), BOXES)


def case(label, style=Style.THINK):
    return Case(SCENE, Question(SCENE.ask(label), style, tuple(i for i, x in enumerate(SCENE.labels) if x == label)))


@pytest.fixture(scope="module")
def taught():
    rng = np.random.default_rng(4)
    return [q for source, _ in SOURCES.values() for i in range(60) for q in ask(source[i], 4, rng)]


def test_every_gold_answer_is_read_back(taught):
    assert {question.style for question in taught} == set(STYLES)
    assert {question.sample.task for question in taught} == set(TAUGHT)
    for question in [*taught, *blurred(taught, 1.0, 0.5, seed=3)]:
        truth = question.sample.truth
        if question.sample.task == "classification":
            assert TASKS["classification"]().score(question.gold, truth).parts["accuracy"] == 1
            continue
        true = truth["boxes"] if "boxes" in truth else [truth["box"]]
        read = read_boxes(Case(SCENE, question), question.gold)
        assert read is not None
        assert len(read) == len(true)
        assert all(max(iou(tuple(box), other) for other in read) > 0.85 for box in true)
        if question.style is not Style.NATIVE:
            parsed = TASKS[question.sample.task](think=question.style is Style.THINK).parse(question.gold, truth, None)
            assert not isinstance(parsed, Failure)
            assert parsed.notes == ()


def test_native_answers_are_as_the_family_writes_them():
    gold = case("red star", Style.NATIVE).question.gold
    assert gold == ('```json\n[\n\t{"bbox_2d": [0, 0, 200, 200], "label": "red star"},\n'
                    '\t{"bbox_2d": [700, 0, 900, 200], "label": "red star"}\n]\n```')  # fmt: skip
    assert native.read(native.answer([])) == []
    assert native.read("I see none") is None
    assert native.read('```json\n[{"bbox_2d": "here"}]\n```') is None


def test_what_a_token_is_about_is_the_object_it_writes(taught):
    writer = Writer(build_tokenizer(phrases()))
    for question in taught:
        exchange = writer.write(question)
        assert writer.text(exchange.answer[-1]) == "<|im_end|>"
        assert "".join(map(writer.text, exchange.answer[:-1])) == question.gold
        about = [numbers for numbers in exchange.about if len(numbers) == 1]
        assert {number for (number,) in about} == set(question.objects)
        assert all(weight > 0 for weight in exchange.weights)
        short = exchange.until_last_place(writer.places)
        assert short.answer == exchange.answer[: len(short.answer)]
        if question.style is Style.THINK and question.objects:
            assert short.answer[-1] in writer.places
        asked = writer.text(exchange.prompt[exchange.asked]).strip()
        words = question.sample.question
        assert (words.get("category") or words.get("subject") or words["expression"]).endswith(asked)


def test_repeats_and_first_digits_weigh_more():
    one, _ = marks(["<think>", "1", " found: ", "top left"], [0])
    two, about = marks(["<think>", "2", " found: ", "top left", ", ", "top right"], [3, 5])
    assert two[1] > one[1] > two[0]
    assert about == [(), (3, 5), (), (3,), (), (5,)]
    weights, _ = marks(["<answer>(", "1", "2", "3", ",", "4"], [0])
    assert weights[1] > weights[2] > weights[3]
    assert weights[5] == weights[1]


def test_a_box_belongs_to_the_object_it_covers_best_or_is_nearest_to():
    assert lies_on((30, 30, 60, 60), BOXES) == 1
    assert lies_on((22, 0, 30, 10), BOXES) == 0


def test_figures_of_a_hand_made_case():
    cases = [case("red star"), case("blue star"), case("blue star")]
    figures = box_figures(cases, [[BOXES[0], (0, 0, 10, 20)], [BOXES[2]], None])
    assert figures["scenes"] == 3
    assert figures["right_object_share"] == pytest.approx(2 / 3, abs=1e-3)
    assert figures["mean_iou"] == pytest.approx((1 + 0 + 0 + 0) / 4)
    assert figures["found_at_0.5"] == pytest.approx(1 / 4)
    assert figures["count_right"] == pytest.approx(2 / 3, abs=1e-3)
    assert figures["readable"] == pytest.approx(2 / 3, abs=1e-3)
    assert figures["chance"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3, abs=1e-3)
