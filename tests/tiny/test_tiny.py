"""The embedded default: loads with plain transformers, knows the answer format, and its handwriting is unseen."""

from __future__ import annotations

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.config.config import Config
from visual_rft.config.sources import SourceConfig
from visual_rft.data.procedural.digits import CLASSES as DIGITS
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.shapes import CLASSES as SHAPES
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.data.sources import load_samples
from visual_rft.evaluation.run import evaluate
from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.tasks import load_task
from visual_rft.tiny.measure import Measure, box_figures, several
from visual_rft.tiny.questions import TAUGHT, Style
from visual_rft.vision.coordinates import CoordinateSpace


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(EMBEDDED)


def test_loads_with_plain_transformers_and_is_small(processor):
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED)
    assert model.config.model_type == "qwen3_vl"
    assert type(model).__module__.startswith("transformers.")
    assert next(model.parameters()).dtype.is_floating_point
    assert 3e6 <= sum(p.numel() for p in model.parameters()) <= 8e6
    assert sum(f.stat().st_size for f in EMBEDDED.iterdir()) <= 16 * 2**20


def test_digits_are_single_tokens_and_text_survives(processor):
    tokenizer = processor.tokenizer
    thought = "<think>2 found: top left, bottom right</think>"
    text = f"{thought}<answer>[{{'Position': [10, 203, 999, 1000], 'Confidence': 0.87}}]</answer>"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert all(len(p) == 1 for p in pieces if p.isdigit())
    assert len(ids) < 45
    for name in (*SHAPES, *DIGITS):
        assert tokenizer.decode(tokenizer(name).input_ids) == name


@pytest.mark.parametrize(
    ("task", "source", "number", "least", "most"),
    [
        ("detection", {"source": "digits", "split": "test", "max_objects": 1}, "mean_iou", 0.35, 0.65),
        ("classification", {"source": "flowers"}, "accuracy", 0.35, 0.75),
        ("classification", {"source": "digits", "split": "test", "max_objects": 1}, "accuracy", 0.2, 0.85),
        ("grounding", {"source": "shapes", "max_objects": 2}, "mean_iou", 0.2, 0.6),
    ],
)
def test_the_base_knows_every_format_and_leaves_something_to_learn(task, source, number, least, most):
    config = Config.model_validate(
        {"task": {"name": task}, "data": {"evaluation": [{**source, "count": 48, "seed": 1}]}}
    )
    result = evaluate(config)
    assert result["format_rate"] >= 0.95
    assert result["parse_rate"] >= 0.85  # boxes enlarged at random leave the image now and then
    assert least <= result[number] <= most


@pytest.fixture(scope="module")
def asked():
    return Measure(EMBEDDED, scenes=40)


@pytest.mark.parametrize(
    "source",
    [Shapes(400, seed=31, min_objects=2, max_objects=5), Digits(400, "test", seed=31)],
    ids=["shapes", "digits"],
)
def test_the_base_finds_what_was_asked_for_among_several(source, asked):
    """Boxes by chance on the right object: 0.42; imprecise on purpose, so IoU is left to be learnt."""
    cases = asked.cases(source, several)
    figures = box_figures(cases, asked.boxes(cases))
    assert figures["right_object_share"] >= 0.7
    assert 0.25 <= figures["mean_iou"] <= 0.6


def test_the_base_answers_in_the_words_of_its_family_and_without_thinking(asked):
    source = Shapes(400, seed=32, min_objects=2, max_objects=4)
    for style in (Style.NATIVE, Style.PLAIN):
        cases = asked.cases(source, several, style=style)
        figures = box_figures(cases, asked.boxes(cases))
        assert figures["readable"] >= 0.9
        assert figures["right_object_share"] >= 0.65


@pytest.mark.parametrize("task", TAUGHT)
def test_a_prompt_is_a_few_tokens_and_a_gold_answer_survives_the_tokenizer(task, processor):
    """A class name cut into pieces across its words was never bound to what was seen."""
    sources = {"detection": ["shapes", "digits", "flowers"], "classification": ["flowers", "digits"]}
    tokenizer = processor.tokenizer
    for source in sources.get(task, ["shapes"]):
        most = 1 if (task, source) == ("classification", "digits") else None
        for sample in load_samples([SourceConfig(source=source, count=30, max_objects=most)], load_task(task)):
            prompt = load_task(task).prompt(sample.question, CoordinateSpace.RELATIVE_1000)
            assert len(tokenizer(prompt).input_ids) <= 10
            gold = load_task(task).gold({"image_size": [96, 96], **sample.truth})
            assert tokenizer.decode(tokenizer(gold).input_ids) == gold
