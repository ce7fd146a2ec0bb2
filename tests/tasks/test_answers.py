"""Answers that cannot be read, and why; those that are read in an unusual form are in ``test_not_lost.py``."""

from __future__ import annotations

import json

import pytest

from visual_rft.tasks import Classification, Detection, Grounding, load_task
from visual_rft.tasks.parsing.answers import parse_box, parse_label
from visual_rft.tasks.parsing.completion import Failure, Parsed, Reason, answer_text, has_tag_format
from visual_rft.tasks.parsing.detections import MOST_BOXES, parse_detections
from visual_rft.tasks.parsing.numbers import parse_number
from visual_rft.vision.coordinates import Frame

BOX = "{'Position': [10, 20, 110, 220], 'Confidence': 0.9}"
POINTED, POINTED_FRAME = {"box": [0, 0, 9, 9], "image_size": [100, 100]}, Frame((100, 100), (1000, 1000))
ONE = ((10.0, 20.0, 110.0, 220.0),)


def parse(body: str):
    return parse_detections(body, (1000, 1000))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no answer tag", id="empty"),
        pytest.param(f"<think>[{BOX}]", "no answer tag", id="never answered"),
        pytest.param(f"<think><answer>[{BOX}]</answer>", "no answer tag", id="only inside think"),
        pytest.param("<answer>a cat</answer>", "not a list", id="prose"),
        pytest.param("<answer>5</answer>", "not a list", id="number"),
        pytest.param("<answer>[{'Position': [3", "truncated", id="cut in the first box"),
        pytest.param("<answer>[1, 2, 3]</answer>", "no valid item (not an object)", id="bare numbers"),
        pytest.param("<answer>[1, 2, 3, 4, 5]</answer>", "no valid item (not an object)", id="five bare numbers"),
        pytest.param("<answer>" + "[" * 30_000 + "</answer>", "answer too long", id="huge"),
        pytest.param("<answer>" + "[" * 15_000 + "</answer>", "not a list", id="deeply nested"),
        pytest.param("<answer>[{'Position': [0, 0, 9, 9], 'Confidence': 9**9}]</answer>", "not a list", id="code"),
    ],
)
def test_answers_that_cannot_be_read_have_a_reason(text, reason):
    assert parse(text) == Failure(reason)


@pytest.mark.parametrize(
    ("item", "note"),
    [
        ("{'Position': [110, 20, 10, 220], 'Confidence': 1}", "x2 <= x1"),
        ("{'Position': [10, 220, 110, 20], 'Confidence': 1}", "y2 <= y1"),
        ("{'Position': [10, 20, 1200, 220], 'Confidence': 1}", "outside the image"),
        ("{'Position': [10, 20, 110], 'Confidence': 1}", "position is not four finite numbers"),
        ("{'Position': [10, 20, 110, '220'], 'Confidence': 1}", "position is not four finite numbers"),
        ("{'Position': [10, 20, 110, 1e999], 'Confidence': 1}", "position is not four finite numbers"),
        ("{'Position': [10, 20, 110, True], 'Confidence': 1}", "position is not four finite numbers"),
        ("{'Position': [10, 20, 110, 220], 'Confidence': 7}", "confidence is not a number in [0, 1]"),
        ("{'Position': [10, 20, 110, 220], 'Confidence': -50}", "confidence is not a number in [0, 1]"),
        ("{'Position': [10, 20, 110, 220], 'Confidence': '0.9'}", "confidence is not a number in [0, 1]"),
        ("{'Position': [[10, 20], [110]], 'Confidence': 1}", "position is not four finite numbers"),
        ("{'x1': 10, 'y1': 20, 'x2': 110, 'Confidence': 1}", "no position"),
        ("{'Confidence': 1}", "no position"),
        ("'cat'", "not an object"),
    ],
)
def test_bad_items_are_dropped_and_named_and_good_ones_kept(item, note):
    answer = parse(f"<answer>[{BOX}, {item}]</answer>")
    assert isinstance(answer, Parsed)
    assert answer.value.boxes == ONE
    assert answer.notes == (f"item 2: {note}",)


def test_nan_confidence_is_dropped():
    text = '<answer>[{"Position": [10, 20, 110, 220], "Confidence": NaN}]</answer>'
    assert parse(text) == Failure("no valid item (confidence is not a number in [0, 1])")


def test_boxes_are_capped():
    answer = parse("<answer>[" + ",".join(["{'box':[1,2,3,4],'score':1}"] * 150) + "]</answer>")
    assert isinstance(answer, Parsed)
    assert len(answer.value.boxes) == MOST_BOXES


@pytest.mark.parametrize(
    ("text", "think", "expected"),
    [
        ("<think>a</think><answer>b</answer>", True, True),
        (" <think>a\nb</think>\n<answer>b</answer>\n", True, True),
        ("<answer>b</answer>", True, False),
        ("<answer>b</answer>", False, True),
        ("<think>a</think><answer>b</answer> so", True, False),
        ("<think>a</think><answer>b</answer><answer>c</answer>", True, False),
        ("<think><answer>x</answer></think><answer>b</answer>", True, False),
        ("<answer>b</answer><think>a</think>", True, False),
    ],
)
def test_tag_format(text, think, expected):
    assert has_tag_format(text, think) is expected


def test_answer_text_is_the_last_complete_one():
    assert answer_text("<answer>a</answer><answer>b") == ("a", False)


def test_every_reason_is_given_for_some_answer():
    """None is left over, and each is plain text, so that a count of them is the same JSON and YAML as ever."""
    one, item = "[10, 20, 110, 220]", "[{{'Position': {}, 'Confidence': {}}}]"
    lists = [
        "a cat", "[{'Position': [3", "[" * 30_000, f"None of 'No Objects' [{BOX}", "[7]",
        "[{'Confidence': 1}]", f"[{{'Position': {one}, 'bbox': {one}, 'Confidence': 1}}]",
        item.format(one, 7), item.format([1, 2, 3], 1), item.format([5, 20, 2000, 220], 1),
        item.format([110, 20, 10, 220], 1), item.format([10, 220, 110, 20], 1),
        f"[{{'label': 'dog', 'Position': {one}, 'Confidence': 1}}]",
    ]  # fmt: skip
    given = [parse_detections(f"<answer>{body}", (1000, 1000), "cat") for body in lists]
    given += [parse_detections(f"<answer>{body}</answer>", (1000, 1000), "cat") for body in lists]
    given += [parse_label(f"<answer>{body}</answer>") for body in ("", "['a', 'b']", "[1.5]")]
    given += [parse_box(f"<answer>{body}</answer>", (1000, 1000)) for body in ("there", f"{one} {one}")]
    given.append(parse_box("no tag", (1000, 1000)))
    given += [parse_detections(f"<answer>[{BOX}]</answer>", (1000, 1000), classes=("cat",))]
    given += [parse_number(f"<answer>{body}</answer>") for body in ("many", "3 or 4")]
    given.append(load_task("pointing").parse("<answer>there</answer>", POINTED, POINTED_FRAME))
    given.append(load_task("pointing").parse("<answer>(1, 2) (3, 4)</answer>", POINTED, POINTED_FRAME))
    given.append(load_task("vqa").parse("<answer>E</answer>", {"choices": ["a", "b"], "choice": "A"}, None))
    reasons = [answer.reason for answer in given if isinstance(answer, Failure)]
    assert {type(reason) for reason in reasons} == {str}
    seen = {part for reason in reasons for part in (reason, *reason.rstrip(")").split(" (", 1))}
    assert set(Reason) <= seen, set(Reason) - seen


ENDLESS = {
    "hexadecimal": "0x" + "f" * 5000,
    "octal": "0o" + "7" * 9000,
    "binary": "0b" + "1" * 18_000,
    "hexadecimal, small enough to be written as text": "0x" + "f" * 300,
    "hexadecimal in groups": "0x" + "_".join(["ffff"] * 1000),
    "decimal": "9" * 4000,
    "decimal, beyond what Python reads": "9" * 5000,
    "negative": "-0x" + "f" * 5000,
    "complex": "1+" + "9" * 4000 + "j",
    "exponent": "1e" + "9" * 4000,
}
PLACES = {
    "as a value": "[{{'Position': [{0}, 20, 110, 220], 'Confidence': 0.9}}]",
    "as a confidence": "[{{'Position': [10, 20, 110, 220], 'Confidence': {0}}}]",
    "as a key": "[{{{0}: 1, 'Position': [10, 20, 110, 220], 'Confidence': 0.9}}]",
    "as a label": "[{{'label': {0}, 'Position': [10, 20, 110, 220], 'Confidence': 0.9}}]",
    "as a label in a list": "[{{'label': [{0}], 'Position': [10, 20, 110, 220], 'Confidence': 0.9}}]",
    "as a box": "[{0}, 20, 110, 220]",
    "as corners": "({0},20),(110,220)",
    "as the only value of an object": "{{'answer': {0}}}",
    "as the answer": "{0}",
    "in a set": "{{{0}}}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", ENDLESS)
def test_a_number_of_thousands_of_digits_never_raises(number, place):
    """Such an answer is worth no more than an unreadable one, in every task; whatever was read can be written down."""
    text = f"<think>one</think><answer>{PLACES[place].format(ENDLESS[number])}</answer>"
    for task, truth in (
        (Detection(), {"boxes": [[1, 2, 11, 22]], "image_size": [100, 100], "category": "cat"}),
        (Classification(), {"label": "cat"}),
        (Grounding(), {"box": [1, 2, 11, 22], "image_size": [100, 100]}),
    ):
        score = task.score(text, truth)
        assert all(value is None or 0 <= value <= 1 for value in score.parts.values())
        json.dumps([score.answer, score.failure, list(score.notes)], allow_nan=False)


def test_one_endless_number_does_not_take_the_good_items_with_it():
    answer = parse(f"<answer>[{BOX}, {{'Position': [0, 0, 0x{'f' * 5000}, 9], 'Confidence': 1}}]</answer>")
    assert isinstance(answer, Parsed)
    assert answer.value.boxes == ONE
