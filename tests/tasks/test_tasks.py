"""What all tasks share (gold answers, text rewards, the user's own), and classification and grounding by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import TASKS, Classification, Detection, Grounding, Prediction, Sample, load_task
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import RenderedImage

ROOT = Path(__file__).parent.parent.parent
COUNTING = f"{ROOT / 'examples' / 'counting.py'}:Counting"
TWO = {"boxes": [[0, 0, 50, 50], [50, 50, 100, 100]], "image_size": [100, 100]}
A, B = (0, 0, 500, 500), (500, 500, 1000, 1000)


def boxes(*rows):
    items = ", ".join(f"{{'Position': {list(r[:4])}, 'Confidence': {r[4]}}}" for r in rows)
    return f"<think>x</think><answer>[{items}]</answer>"


def wrap(answer):
    return f"<think>x</think><answer>{answer}</answer>"


FLOWER = {"label": "red poppy", "synonyms": ["Papaver rhoeas"], "parents": ["poppy", "flower"]}


@pytest.mark.parametrize(
    ("answer", "accuracy", "hierarchy"),
    [
        ("red poppy", 1, 1),
        ("Red_Poppy.", 1, 1),
        ("papaver  rhoeas", 1, 1),
        ("a poppy", 0, 0.5),
        ("flower", 0, 0.25),
        ("blue poppy", 0, 0),
        ("red poppy, blue poppy", 0, 0),
        ("red", 0, 0),
        ("", 0, 0),
    ],
)
def test_classification_by_hand(answer, accuracy, hierarchy):
    task = Classification(weights={"accuracy": 1, "hierarchy": 1})
    assert task.score(wrap(answer), FLOWER).parts == {"accuracy": accuracy, "hierarchy": hierarchy}


@pytest.mark.parametrize(
    ("label", "same", "other"),
    [
        ("काला", "काला.", "कील"),  # Hindi: black and nail, which differ in their vowel signs alone
        ("หมู", "หมู", "หมี"),  # Thai: pig and bear
        ("உப்பு", "\u201cஉப்பு\u201d", "உப்பி"),  # Tamil
        ("कुत्ता-बिल्ली", "कुत्ता बिल्ली", "कुत्ता"),
        ("x\u0302+", "X\u0302+", "x+"),
        ("\u2764\ufe0f", "\u2764", "\u2660"),  # a heart as a picture, and as a letter
        ("caf\u00e9", "cafe\u0301", "cafe"),
    ],
)
def test_vowel_signs_tell_names_apart(label, same, other):
    task = Classification(weights={"accuracy": 1})
    assert task.score(wrap(same), {"label": label}).total == 1
    assert task.score(wrap(other), {"label": label}).total == 0
    choices = {"choices": [label, other], "choice": "B"}
    assert load_task("vqa", weights={"accuracy": 1}).score(wrap(other), choices).total == 1


BOX = {"box": [10, 10, 50, 50], "image_size": [100, 100]}


@pytest.mark.parametrize(
    ("answer", "iou", "giou", "hit", "point"),
    [
        ("(100,100),(500,500)", 1, 1, 1, 1),
        ("(100,100),(500,300)", 0.5, 0.75, 1, 1),
        ("(100,100),(500,260)", 0.4, 0.7, 0, 1),
        ("(100,500),(500,900)", 0, 0.5, 0, 0),  # touching: GIoU 0
        ("(600,100),(1000,500)", 0, (1 - 1 / 9) / 2, 0, 0),  # apart: hull 90 x 40, a gap of 10 x 40
        ("(500,500),(100,100)", 0, 0, 0, 0),  # inverted
        ("(100,100),(500,500),(0,0),(9,9)", 0, 0, 0, 0),
        ("nothing", 0, 0, 0, 0),
    ],
)
def test_grounding_by_hand(answer, iou, giou, hit, point):
    parts = Grounding(weights=dict.fromkeys(("iou", "giou", "hit", "point"), 1)).score(wrap(answer), BOX).parts
    assert list(parts.values()) == pytest.approx([iou, giou, hit, point])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("length", wrap("two words"), 1 / 2),  # 2 words, 4 wanted
        ("length", " ".join(["w"] * 6), 1),
        ("length", " ".join(["w"] * 9), 1 - 1 / 8),
        ("length", " ".join(["w"] * 99), 0),
        ("repetition", "one two three", 1),
        ("repetition", "a b a b a b a b", 2 / 5),
        ("truncation", wrap("x"), 1),
        ("truncation", "<think>x</think><answer>x", 0),
        ("strict_format", wrap("cat"), 1),
        ("strict_format", wrap("'cat'"), 0),
        ("strict_format", "<answer>cat</answer>", 0),
    ],
)
def test_text_rewards_by_hand(name, text, value):
    task = Classification(weights={name: 1.0}, length_window=(4, 8))
    assert task.score(text, {"label": "cat"}).parts[name] == pytest.approx(value)


SOURCES = [
    ("detection", {"source": "shapes", "absent_rate": 0.5}),
    ("detection", {"source": "digits", "absent_rate": 0.5}),
    ("detection", {"source": "flowers"}),
    ("classification", {"source": "flowers"}),
    ("classification", {"source": "digits", "max_objects": 1}),
    ("grounding", {"source": "shapes", "max_objects": 3}),
    (COUNTING, {"source": "shapes", "absent_rate": 0.5}),
]


@pytest.mark.parametrize("space", list(CoordinateSpace))
@pytest.mark.parametrize("think", [True, False])
@pytest.mark.parametrize(("name", "source"), SOURCES, ids=lambda v: str(v).rpartition(":")[2])
def test_gold_is_full_and_wrong_is_less_for_every_task_and_source(name, source, think, space):
    task = load_task(name, think=think)
    named = 0
    for sample in load_samples([SourceConfig(count=40, seed=5, **source)], task):
        width, height = sample.truth.get("image_size", (96, 96))
        # Twice the picture's size: coarse pixels of a tiny picture cannot hold IoU 0.9.
        frame = Frame.of(space, (width, height), (width * 2, height * 2))
        gold = task.score(task.gold(sample.truth, frame), sample.truth, frame)
        assert gold.failure is None
        assert gold.notes == ()
        assert min(gold.parts.values()) > 0.9
        assert all(value == 1 for key, value in gold.parts.items() if key != "iou")
        for completion in task.wrong(sample.truth, frame).values():
            assert task.score(completion, sample.truth, frame).total < gold.total
            named += 1
        assert task.prompt(sample.question, space)
    assert named >= 40


def prediction(task, question, truth, text):
    sample = Sample("i", (RenderedImage("i", lambda: None),), task.name, question, truth)
    return Prediction(sample, text, task.score(text, truth))


def test_metrics_of_classification_by_hand():
    task = Classification()
    rows = [("cat", "cat"), ("cat", "Cat."), ("cat", "dog"), ("dog", "cow")]
    answers = [prediction(task, {"subject": "pet"}, {"label": true}, wrap(said)) for true, said in rows]
    answers.append(prediction(task, {"subject": "bird"}, {"label": "owl"}, "no idea"))
    result = task.metrics(answers)
    assert result["accuracy"] == pytest.approx(2 / 5)
    assert result["mean_class_accuracy"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert result["accuracy/pet"] == pytest.approx(2 / 4)
    assert result["accuracy/bird"] == 0
    assert result["confused"] == [["cat", "dog", 1], ["dog", "cow", 1]]
    assert result["parse_rate"] == pytest.approx(4 / 5)
    assert result["failures"] == {"no answer tag": 1}


def test_metrics_of_grounding_by_hand():
    task = Grounding()
    answers = [prediction(task, {"expression": "it"}, BOX, wrap(text))
               for text in ("(100,100),(500,500)", "(100,100),(500,260)", "(9,9)")]  # fmt: skip
    result = task.metrics(answers)
    assert result["mean_iou"] == pytest.approx((1 + 0.4 + 0) / 3)
    assert result["hit_rate"] == pytest.approx(1 / 3)
    assert result["format_rate"] == 1


@pytest.mark.parametrize(
    ("task", "truth", "message"),
    [
        ("detection", {"image_size": [9, 9]}, "truth.boxes: is missing"),
        ("detection", {"boxes": [[0, 0, 5]], "image_size": [9, 9]}, "truth.boxes: box 0: a box is four"),
        ("detection", {"boxes": [[5, 0, 0, 5]], "image_size": [9, 9]}, "truth.boxes: box 0: a box has x1 < x2"),
        ("detection", {"boxes": 5, "image_size": [9, 9]}, "truth.boxes"),
        ("detection", {"boxes": [], "image_size": [9, 9], "category": 3}, "truth.category: 3 is not a name"),
        ("detection", {"boxes": []}, r"truth.image_size: None is not \[width, height\]"),
        ("detection", {"boxes": [], "image_size": [0, 9]}, "truth.image_size"),
        ("classification", {}, "truth.label: None is not a name"),
        ("classification", {"label": "??"}, "truth.label: '\\?\\?' is not a name"),
        ("classification", {"label": "cat", "synonyms": "kitty"}, "truth.synonyms: 'kitty' is not a list"),
        ("grounding", {"image_size": [9, 9]}, "truth.box: is missing"),
        ("grounding", {"box": [0, 0, 0, 0], "image_size": [9, 9]}, "truth.box: a box has x1 < x2"),
    ],
)
@pytest.mark.parametrize("text", ["", wrap("No Objects"), wrap("(1,1),(2,2)")])
def test_a_broken_truth_is_an_error_whatever_the_model_wrote(task, truth, message, text):
    with pytest.raises(DataError, match=message):
        load_task(task).score(text, truth)


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "def short(completion, truth, answer):\n    return float(len(completion) < 60)\n"
        "def only_if_read(completion, truth, answer):\n    return None if answer is None else len(answer['boxes'])\n"
        "def broken(completion, truth, answer):\n    return 'much'\n"
        "iou = short\nnumber = 5\n"
    )
    return file


def test_rewards_of_the_users_own(own):
    task = load_task("detection", weights={"iou": 1, f"{own}:short": 0.5, f"{own}:only_if_read": 0.1})
    score = task.score(boxes((*A, 1), (*B, 1)), TWO)
    assert score.parts == {"iou": 1.0, "short": 0.0, "only_if_read": 2.0}
    assert score.total == pytest.approx(1.2)
    unread = task.score("no", TWO)
    assert unread.parts == {"iou": 0.0, "short": 1.0, "only_if_read": None}
    assert unread.total == 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"FILE:nothing": 1}, "defines no 'nothing'"),
        ({"FILE:number": 1}, "is not a function"),
        ({"FILE:iou": 1, "iou": 1}, "two rewards are called 'iou'"),
        ({"none.py:f": 1}, "there is no file none.py"),
        ({"no_such_module:f": 1}, "No module named 'no_such_module'"),
        ({"a:": 1}, "write package.module:name or path/to/file.py:name"),
        ({"iuo": 1}, "unknown reward 'iuo'"),
        ({"iou": float("nan")}, "task.weights.iou: nan is not a finite number"),
    ],
)
def test_weights_that_cannot_be_used(own, weights, message):
    with pytest.raises(ConfigError, match=message):
        load_task("detection", weights={name.replace("FILE", str(own)): value for name, value in weights.items()})


def test_an_unknown_way_of_measuring_is_named():
    @dataclass(frozen=True, kw_only=True)
    class Misspelt(Detection):
        measured_as = "cocoo"

    with pytest.raises(
        ConfigError, match="task 'detection': measured_as is 'cocoo'; choose from coco, box, label, own"
    ):
        Misspelt()


def test_a_reward_that_returns_no_number_is_named(own):
    with pytest.raises(ConfigError, match="broken' returned 'much'"):
        load_task("detection", weights={f"{own}:broken": 1}).score("x", TWO)


def test_a_task_of_the_users_own():
    task = load_task(COUNTING)
    assert task.score(wrap("2"), TWO).parts == {"exact": 1, "close": 1, "format": 1}
    assert task.score(wrap("4"), TWO).parts["close"] == pytest.approx(1 / 3)
    assert task.score(wrap("two"), TWO).failure == "not a whole number"
    with pytest.raises(ConfigError, match="is not a class derived from"):
        load_task(f"{ROOT / 'examples' / 'counting.py'}:dataclass")


def test_unknown_names_have_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'grounding'"):
        load_task("groundig")
    with pytest.raises(ConfigError, match="did you mean 'detection'"):
        load_task("detectoin")
    with pytest.raises(ConfigError, match="detection has no option 'iou_treshold'; did you mean 'iou_threshold'"):
        load_task("detection", iou_treshold=0.5)
    with pytest.raises(ConfigError, match="length_window"):
        load_task("detection", length_window=[5, 2])


def test_truth_and_score_are_json(tmp_path):
    for task in TASKS.values():
        for truth in (TWO, FLOWER, BOX):
            try:
                score = task().score(task().gold(truth), truth)
            except (DataError, KeyError):
                continue
            assert json.loads(json.dumps(score.answer)) == score.answer
