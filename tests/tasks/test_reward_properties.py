"""What must hold for every completion, whatever the model wrote: random and mutated texts against random truths.

``VISUAL_RFT_EXAMPLES`` sets the examples per test (``make nightly``); each is at least one completion, and there are
10 tests. Without it the same examples are drawn every time, so that an unrelated change never fails here by chance.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as st

from visual_rft.tasks import (
    Classification,
    Counting,
    Detection,
    Grounding,
    ManyClasses,
    Pointing,
    Segmentation,
    Vqa,
    base,
)
from visual_rft.vision.coordinates import Frame

# Hypothesis keeps tables of Unicode and of constants even without a database; the working tree is not the place.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "visual-rft-hypothesis")

EXAMPLES = settings(
    max_examples=int(os.environ.get("VISUAL_RFT_EXAMPLES", "300")),
    derandomize="VISUAL_RFT_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
)
KINDS = (Detection, ManyClasses, Classification, Grounding, Counting, Pointing, Segmentation, Vqa)
TASKS = pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
MATCHING = pytest.mark.parametrize("matching", ["confidence", "hungarian"])

LABELS = ("red poppy", "Audi A4 2012", "bird's nest", "Boeing 737-800", "caf\u00e9", "7", "St. Bernard (dog)")
ODD = (
    "<think>", "</think>", "<answer>", "</answer>", "<ANSWER>", "</Answer>", "</", "<answer", "```json\n", "```",
    "{", "}", "[", "]", "(", ")", "[[", "]]", "{}", "[]", "[{", "}]", ",", ",,", ":", ";", "'", '"', "\\", "\\'", "`",
    "NaN", "-Infinity", "Infinity", "1e999", "-1e999", "1e-999", "-0", "0x10", "1_000", "007", "1+1j", "True", "null",
    "None", "...", "9" * 400, "9" * 5000, "-50", "0.9", "'0.9'", "\x00", "\n", "\r\n", "\t", " " * 300, "\u00a0",
    "\u200b", "\u202e", "\ud800", "\U0001f33a", "\uff11", "\u0661", "\u00b2", "\uff0c", "\u2019", "\u0130", "\ufdfa",
    "No Objects", "no objects.", "'Position'", '"bbox_2d"', "Confidence", "label", "'label': 'dog'", "{'a': " * 60,
    "[" * 200, "-" * 300, "(1,1)" + " " * 200, "(0,0),(9,9)", "[0, 0, 9, 9]", "<|box_start|>", "<|box_end|>",
    "lambda: 0", "__import__('os')", "9**9**9", "f'{x}'", "b'x'", "#", "and", "a ", "the ",
)  # fmt: skip


@st.composite
def unit_boxes(draw: st.DrawFn, extent: tuple[int, int] = (1000, 1000)) -> tuple[int, int, int, int]:
    x1, y1 = draw(st.integers(0, extent[0] - 1)), draw(st.integers(0, extent[1] - 1))
    return x1, y1, draw(st.integers(x1 + 1, extent[0])), draw(st.integers(y1 + 1, extent[1]))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    size = draw(st.tuples(st.integers(8, 3000), st.integers(8, 3000)))
    processed = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda p: (28 * p[0], 28 * p[1])))
    return Frame(size, draw(st.sampled_from([(1000, 1000), size, processed])))


@st.composite
def truths(draw: st.DrawFn, task: type[base.Task], frame: Frame | None = None) -> dict[str, object]:
    """A truth whose boxes are whole numbers in the model's units, so that a perfect answer exists."""
    frame = frame or Frame((100, 100), (1000, 1000))
    boxes = unit_boxes(frame.extent).map(lambda box: list(frame.to_pixels(box)))
    size = list(frame.image_size)
    if task is Detection:
        return {"boxes": draw(st.lists(boxes, max_size=5)), "image_size": size, "category": "dog"}
    if task is Grounding:
        return {"box": draw(boxes), "image_size": size, "thought": draw(st.sampled_from(["", "the left one"]))}
    if task is ManyClasses:
        names = draw(st.lists(st.sampled_from(LABELS), min_size=1, unique=True))
        found = draw(st.lists(boxes, max_size=5))
        labels = [draw(st.sampled_from(names)) for _ in found]
        return {"boxes": found, "labels": labels, "categories": names, "image_size": size}
    if task is Counting:
        return {"boxes": draw(st.lists(boxes, max_size=5)), "image_size": size}
    if task is Pointing:  # two units wide, so that the middle in whole units is inside
        x, y = (draw(st.integers(0, most - 2)) for most in frame.extent)
        return {"box": list(frame.to_pixels((x, y, x + 2, y + 2))), "image_size": size}
    if task is Segmentation:
        if draw(st.integers(0, 3)) == 0:
            return {"segmentation": None, "image_size": size}
        x, y = draw(st.integers(0, 60)), draw(st.integers(0, 60))
        wide, high = draw(st.integers(8, 30)), draw(st.integers(8, 30))
        corners = [x, y, x + wide, y, x + wide, y + high, x, y + high]
        return {"segmentation": [corners], "image_size": [100, 100]}
    label, *others = draw(st.permutations(LABELS))
    if task is Vqa:
        kinds: list[dict[str, object]] = [
            {"answer": label, "synonyms": others[:2]},
            {"choice": label, "choices": [label, *others]},
            {"number": draw(st.integers(-999, 999)), "tolerance": draw(st.sampled_from([0, 0.5])), "unit": "cm"},
        ]
        return draw(st.sampled_from(kinds))
    return {"label": label, "synonyms": others[:2], "parents": others[2:4]}


def detections(boxes: list[tuple[int, int, int, int]], confidence: list[float]) -> str:
    rows = zip(boxes, confidence, strict=True)
    items = ", ".join(f"{{'Position': {list(box)}, 'Confidence': {c}}}" for box, c in rows)
    return f"<think>x</think><answer>[{items}]</answer>"


@st.composite
def completions(draw: st.DrawFn, task: type[base.Task], truth: dict[str, object]) -> list[str]:
    """The gold answer or another usual one and the same after one to eight mutations; or a soup of odd tokens."""
    usual = [
        task().gold(truth),
        task(think=False).gold(truth),
        *task().wrong(truth).values(),
        "<think>x</think><answer>No Objects</answer>",
        "<think>x</think><answer>[]</answer>",
        "<answer>```json\n" + json.dumps([{"bbox_2d": [1, 2, 300, 400], "confidence": 0.5, "label": "dog"}]) + "\n```",
        '<think>x</think><answer>{"label": "red poppy"}</answer>',
        "<think>x</think><answer>3: (10,20), (300,400)</answer>",
        "<think>x</think><answer>B) 12 cm</answer>",
        '<answer>{"bbox_2d": [1, 2, 300, 400], "points": [[5, 6]], "point_2d": [7, 8], "label": "dog"}</answer>',
        "x</think><answer><|box_start|>(1,2),(300,400)<|box_end|></answer>",
        "",
    ]
    if draw(st.integers(0, 7)) == 0:
        soup = draw(st.lists(st.sampled_from(ODD) | st.text(max_size=9), max_size=12))
        return ["".join(soup), f"<think>x</think><answer>{''.join(soup)}</answer>"]
    text = draw(st.sampled_from(usual))
    texts = [text]
    places = st.integers(0, 10_000)
    for _ in range(draw(st.integers(0, 8))):
        start, end = sorted(draw(places) % (len(text) + 1) for _ in range(2))
        match draw(st.sampled_from(["delete", "insert", "repeat", "swap", "splice"])):
            case "delete":
                text = text[:start] + text[min(end, start + draw(st.integers(1, 12))) :]
            case "insert":
                text = text[:start] + draw(st.sampled_from(ODD)) + text[start:]
            case "repeat":
                text = text[:end] + text[start:end] + text[end:]
            case "swap":
                middle = (start + end) // 2
                text = text[:start] + text[middle:end] + text[start:middle] + text[end:]
            case "splice":
                other = draw(st.sampled_from(usual))
                cut = draw(places) % (len(other) + 1)
                text = text[:start] + other[cut:] + text[end:]
        texts.append(text)
    return texts


def every_reward(task: type[base.Task]) -> list[str]:
    return [*task.rewards, *base.TEXT_REWARDS]


@TASKS
@EXAMPLES
@given(data=st.data())
def test_any_completion_gets_parts_in_range_and_their_weighted_sum(task, data):
    truth = data.draw(truths(task))
    names, turn = every_reward(task), data.draw(st.integers(0, 4))
    weights = {name: (0.0, 0.5, 1.0, 2.0, -1.0)[(place + turn) % 5] for place, name in enumerate(names)}
    options = {"matching": data.draw(st.sampled_from(["confidence", "hungarian"]))} if task is Detection else {}
    scorer = task(weights=weights, think=data.draw(st.booleans()), **options)
    for text in data.draw(completions(task, truth)):
        score = scorer.score(text, truth)
        assert list(score.parts) == names
        assert {name: value for name, value in score.parts.items() if not 0 <= value <= 1} == {}, text
        assert score.total == pytest.approx(math.fsum(weights[name] * score.parts[name] for name in names))
        assert (score.answer is None) == (score.failure is not None)
        assert scorer.score(text, truth) == score
        json.dumps([score.answer, score.notes], allow_nan=False)  # a rollout is logged as JSON


@TASKS
@EXAMPLES
@given(data=st.data())
def test_the_gold_answer_has_full_marks(task, data):
    frame = data.draw(frames())
    truth = data.draw(truths(task, frame))
    # The gold reasoning repeats "top left" for every object there, so this is the one reward it need not fill.
    names = [name for name in every_reward(task) if name != "repetition"]
    frame = None if task is Segmentation else frame  # its masks are of whole pixels, ten units each
    for think in (True, False):
        scorer = task(weights=dict.fromkeys(names, 1.0), think=think)
        score = scorer.score(scorer.gold(truth, frame), truth, frame)
        assert score.failure is None
        assert score.notes == ()
        assert score.parts == pytest.approx(dict.fromkeys(names, 1.0))


@st.composite
def predictions(draw: st.DrawFn, truth: list[tuple[int, int, int, int]], most: int = 6) -> list[tuple]:
    """Boxes near true ones or anywhere, each with one of a few confidences, so that ties are frequent."""
    rows = []
    for _ in range(draw(st.integers(0, most))):
        if truth and draw(st.booleans()):
            x1, y1, x2, y2 = draw(st.sampled_from(truth))
            by = draw(st.integers(-40, 40))
            box = (min(max(x1 + by, 0), x2 - 1), y1, x2, y2)
        else:
            box = draw(unit_boxes())
        rows.append((box, draw(st.sampled_from([0.0, 0.5, 0.5, 1.0]))))
    return rows


@MATCHING
@EXAMPLES
@given(data=st.data())
def test_the_order_of_the_boxes_does_not_matter(matching, data):
    units = data.draw(st.lists(unit_boxes(), max_size=4))
    truth = {"boxes": [list(box) for box in units], "image_size": [1000, 1000]}
    rows = data.draw(predictions(units))
    shuffled = data.draw(st.permutations(rows))
    # The Hungarian method fixes the sum of IoU; where two assignments tie, which boxes matched is open.
    names = list(Detection.rewards) if matching == "confidence" else ["iou", "iou_balanced", "iou_soft", "count"]
    task = Detection(weights=dict.fromkeys(names, 1.0), matching=matching)
    one, other = (
        task.score(detections([box for box, _ in order], [c for _, c in order]), truth) for order in (rows, shuffled)
    )
    assert one.parts == pytest.approx(other.parts)


@MATCHING
@EXAMPLES
@given(data=st.data())
def test_a_wrong_box_never_raises_iou_balanced(matching, data):
    # True boxes in the left half, the wrong box in the right half: they never overlap.
    left = unit_boxes((500, 1000))
    units = data.draw(st.lists(left, max_size=4))
    truth = {"boxes": [list(box) for box in units], "image_size": [1000, 1000]}
    rows = data.draw(predictions(units))
    x1, y1, x2, y2 = data.draw(left)
    wrong = ((x1 + 500, y1, x2 + 500, y2), data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    place = data.draw(st.integers(0, len(rows)))
    task = Detection(weights={"iou_balanced": 1.0}, matching=matching)
    before, after = (
        task.score(detections([box for box, _ in order], [c for _, c in order]), truth).total
        for order in (rows, [*rows[:place], wrong, *rows[place:]])
    )
    assert after <= before + 1e-12
