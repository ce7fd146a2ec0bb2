"""Every family's own words: asked for, answered, read whatever was asked for, and noted where they differ."""

from __future__ import annotations

import pytest

from visual_rft.config.config import parse_config
from visual_rft.errors import ConfigError
from visual_rft.policy.families import FAMILIES
from visual_rft.policy.prompt import Prompt, task_for
from visual_rft.tasks import Detection, load_task
from visual_rft.tasks.parsing.notations import NOTATIONS
from visual_rft.tasks.samples import Sample
from visual_rft.tiny import native
from visual_rft.vision.coordinates import CoordinateSpace, Frame

ONE = {"boxes": [[10, 20, 40, 60]], "image_size": [100, 100], "category": "cat"}
NONE = {**ONE, "boxes": []}
TWO = {**ONE, "boxes": [[10, 20, 40, 60], [50, 50, 90, 90]]}
PLACE = {"box": [10, 20, 40, 60], "image_size": [100, 100], "thought": "a cat"}
PETS = {"boxes": TWO["boxes"], "labels": ["cat", "dog"], "categories": ["cat", "dog"], "image_size": [100, 100]}
RELATIVE = Frame((100, 100), (1000, 1000))
TOKENS = Frame.of(CoordinateSpace.LOCATION_TOKENS, (128, 128))

# what a model of the family writes of the one box, by hand
WRITTEN = {
    "bbox_2d": '```json\n[\n\t{"bbox_2d": [100, 200, 400, 600], "label": "cat"}\n]\n```',
    "box_tokens": "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(100,200),(400,600)<|box_end|>",
    "ref_tags": "<ref>cat</ref><box>[[100, 200, 400, 600]]</box>",
    "location_tokens": "<loc0160><loc0080><loc0480><loc0320> cat",
    "lists": "[[100, 200, 400, 600]]",
}


def frame_of(notation: str) -> Frame:
    return TOKENS if notation == "location_tokens" else RELATIVE


def truth_of(notation: str, truth: dict) -> dict:
    """The truth in an image in which each number of the notation is a whole number of pixels."""
    return {**truth, "image_size": list(frame_of(notation).image_size)}


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("think", [True, False])
@pytest.mark.parametrize("truth", [ONE, TWO, NONE], ids=["one", "two", "none"])
def test_the_gold_answer_is_written_in_the_familys_words(notation, think, truth):
    weights = dict.fromkeys(("iou", "iou_balanced", "format", "strict_format", "truncation"), 1.0)
    task = load_task("detection", think=think, style="native", notation=notation, weights=weights)
    truth, frame = truth_of(notation, truth), frame_of(notation)
    gold = task.gold(truth, frame)
    body = gold.partition("<answer>")[2].removesuffix("</answer>") if think else gold
    assert ("<answer>" in gold) == think
    if len(truth["boxes"]) == 1:
        assert body == WRITTEN[notation]
    score = task.score(gold, truth, frame)
    assert score.notes == ()
    assert score.total == 5
    for name, text in task.wrong(truth, frame).items():
        assert task.score(text, truth, frame).total < 5, name


@pytest.mark.parametrize("notation", NOTATIONS)
def test_grounding_in_the_familys_words(notation):
    task = load_task("grounding", style="native", notation=notation, think=False)
    truth, frame = truth_of(notation, PLACE), frame_of(notation)
    assert task.gold(truth, frame) == WRITTEN[notation].replace("[[", "[[")
    assert task.score(task.gold(truth, frame), truth, frame).total == 2
    prompt = task.prompt({"expression": "the left cat"}, CoordinateSpace.RELATIVE_1000)
    assert "the left cat" in prompt
    assert "<answer>" not in prompt


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("style", ["method", "native", "plain"])
@pytest.mark.parametrize("think", [True, False])
def test_every_style_is_read_whatever_was_asked(notation, style, think):
    """A row per family in the suite of lost answers: the box counts, and what differs from what was asked is noted."""
    asked = "bbox_2d" if notation != "bbox_2d" else "ref_tags"  # another than the one that is written
    task = load_task("detection", style=style, think=think, notation=asked if style == "native" else None,
                     weights={"iou": 1, "format": 1, "strict_format": 1})  # fmt: skip
    truth, frame = truth_of(notation, ONE), frame_of(notation)
    tags = f"<think>x</think><answer>{WRITTEN[notation]}</answer>" if think else f"<answer>{WRITTEN[notation]}</answer>"
    score = task.score(tags, truth, frame)
    assert score.parts["iou"] == 1
    exact = style == "plain" and notation == "lists"
    assert (score.notes == ()) == exact
    assert score.parts["format"] == (not task.bare)
    assert score.parts["strict_format"] == exact
    if notation != "lists":  # without tags, as a base model writes it
        bare = task.score(WRITTEN[notation], truth, frame)
        assert bare.parts["iou"] == 1
        assert bare.notes
        assert bare.parts["strict_format"] == 0


@pytest.mark.parametrize(
    ("text", "style", "read"),
    [
        ("I see a cat", "native", False),
        ("", "native", False),
        ("[[100, 200, 400, 600]]", "method", False),
        ("(100,200),(400,600)", "method", False),
        ("It is <ref>cat</ref><box>[[100, 200, 400, 600]]</box>", "method", False),
        ("<think>" + WRITTEN["bbox_2d"] + "</think>", "method", False),
        ("<think></think>\n" + WRITTEN["bbox_2d"], "native", True),
        ("(100,200),(400,600)", "native", True),
        (WRITTEN["bbox_2d"] + " or not", "native", True),
    ],
)
def test_what_is_no_answer_in_anybodys_words_is_not_read(text, style, read):
    task = load_task("detection", style=style, think=False, notation="bbox_2d" if style == "native" else None)
    score = task.score(text, ONE)
    assert (score.failure is None) == read
    assert (score.notes == ()) == (text == "<think></think>\n" + WRITTEN["bbox_2d"] or not read)


def test_a_style_without_confidence_rewards_none():
    task = load_task("detection", style="plain")
    assert task.part_weights == {"iou": 1, "format": 1}
    with pytest.raises(ConfigError, match=r"task\.weights\.confidence: the style 'plain' writes no confidence"):
        load_task("detection", style="plain", weights={"iou": 1, "confidence": 1})
    score = task.score(task.gold(TWO), TWO)
    assert (score.total, score.notes) == (2, ())
    assert score.answer["unstated"] == [0, 1], "an evaluation ranks these boxes by their tokens"


def test_many_classes_are_labelled_in_the_familys_words():
    task = load_task("many_classes", style="native", notation="bbox_2d", think=False)
    gold = task.gold(PETS)
    assert gold.count('"label": "cat"') == gold.count('"label": "dog"') == 1
    assert task.score(gold, PETS).total == 2
    with pytest.raises(ConfigError, match="style: 'plain' cannot be asked for; many_classes knows method, native"):
        load_task("many_classes", style="plain")


def test_a_family_is_asked_as_it_was_taught(tmp_path):
    taught = {name: family.notation for name, family in FAMILIES.items()}
    assert taught["qwen2_vl"] == "box_tokens"
    assert taught["qwen2_5_vl"] == taught["qwen3_vl"] == taught["qwen3_5"] == "bbox_2d"
    assert (taught["internvl"], taught["paligemma"]) == ("ref_tags", "location_tokens")
    assert set(taught.values()) == set(NOTATIONS)
    values = {"model": {"path": "tiny"}, "task": {"style": "native", "think": False}}
    task = task_for(parse_config(values, "test"))
    sample = Sample("a", (), "detection", {"category": "red circle"}, {})
    text = Prompt.of(task, sample, CoordinateSpace.RELATIVE_1000).text
    assert text == native.prompt("every red circle"), "the very words that the embedded model was taught"
    values["model"]["family"] = {"notation": "ref_tags"}
    assert task_for(parse_config(values, "test")).notation == "ref_tags"


def test_a_task_without_boxes_has_one_style():
    with pytest.raises(ConfigError, match=r"task\.style: 'native' cannot be asked for; vqa answers without boxes"):
        load_task("vqa", style="native", notation="bbox_2d")
    with pytest.raises(ConfigError, match=r"task\.style: native needs to know how the family writes boxes"):
        load_task("detection", style="native")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Where is it?", r"holds neither \{prompt\} nor what is asked for"),
        ("{categroy}", r"\{categroy\} is no plain field"),
        ("{category!r}", "is no plain field"),
        ("{category:>9}", "is no plain field"),
        ("{category.name}", r"\{category.name\} is no plain field"),
        ("{category", "a brace that is meant is written twice"),
    ],
)
def test_a_template_is_checked_when_it_is_read(template, message):
    with pytest.raises(ConfigError, match=message):
        load_task("detection", template=template)


def test_a_template_words_the_question():
    space, question = CoordinateSpace.RELATIVE_1000, {"category": "cat"}
    own = Detection().prompt(question, space)
    assert load_task("detection", template="{prompt} Be brief.").worded(question, space) == f"{own} Be brief."
    task = load_task("detection", template='Any {category}? Answer as {{"bbox_2d": ...}}.')
    assert task.worded(question, space) == 'Any cat? Answer as {"bbox_2d": ...}.'
    assert task.worded({"category": "cat", "problem": "Look."}, space) == "Look."
    with pytest.raises(ConfigError, match="the question has no 'expression'; it has category, prompt"):
        load_task("detection", template="{expression}").worded(question, space)
