"""The embedded default: loads with plain transformers, knows the answer format, and its handwriting is unseen."""

from __future__ import annotations

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.config import Config
from visual_rft.data.digits import CLASSES as DIGITS
from visual_rft.data.shapes import CLASSES as SHAPES
from visual_rft.evaluation.run import evaluate
from visual_rft.policy.loading import EMBEDDED


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


def test_the_base_finds_handwriting_roughly():
    config = Config.model_validate(
        {"data": {"evaluation": [{"source": "digits", "split": "test", "count": 50, "max_objects": 1, "seed": 1}]}}
    )
    result = evaluate(config)
    assert result["format_rate"] >= 0.95
    assert result["parse_rate"] >= 0.95
    assert 0.35 <= result["mean_iou"] <= 0.65
