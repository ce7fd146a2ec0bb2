"""The tiny models of the tests themselves: each family reads ragged batches and survives saving and loading."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_models import FAMILIES, chat, random_model
from transformers import AutoModelForImageTextToText, AutoProcessor

KINDS = tuple(kind for kind in FAMILIES if kind != "paligemma")
"""PaliGemma's processor takes no text without an image; test_families.py loads and saves it."""
QUESTIONS = ("Find every red circle.", "digit 7?", "Say where the blue star is, and nothing else.")
SIZES = (((100, 60),), (), ((40, 112), (50, 50)))
"""Width and height of the images of each question: one, none, two."""


def images() -> list[list[Image.Image]]:
    noise = np.random.default_rng(0)
    return [[Image.fromarray(noise.integers(0, 256, (h, w, 3), np.uint8)) for w, h in row] for row in SIZES]


def batch(processor):
    texts = [chat(processor, question, len(row)) for question, row in zip(QUESTIONS, SIZES, strict=True)]
    return processor(text=texts, images=images(), padding=True, padding_side="left", return_tensors="pt")


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_padded_row_reads_as_it_does_alone(kind):
    model, processor = random_model(kind)
    together = batch(processor)
    logits = model(**together).logits
    lengths = together["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) == 3
    assert together["attention_mask"][:, -1].all(), "padding must be on the left"
    for row, (question, pictures) in enumerate(zip(QUESTIONS, images(), strict=True)):
        alone = processor(
            text=[chat(processor, question, len(pictures))], images=[pictures] if pictures else None,
            return_tensors="pt",
        )  # fmt: skip
        expected = model(**alone).logits[0]
        assert len(expected) == lengths[row]
        assert expected.isfinite().all()
        # float32 rounding of another batch shape: seen up to 5e-6 (qwen3_vl), below 4e-7 in the others
        torch.testing.assert_close(logits[row, -lengths[row] :], expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_image_matters_and_costs_few_tokens(kind):
    model, processor = random_model(kind)
    inputs = batch(processor)
    tokens = (inputs["input_ids"] == model.config.image_token_id).sum(1).tolist()
    assert tokens[1] == 0
    assert 0 < tokens[0] <= 64
    assert 0 < tokens[2] <= 128
    logits = model(**inputs).logits[:, -1]
    inputs["pixel_values"] = inputs["pixel_values"].flip(-1)
    change = (model(**inputs).logits[:, -1] - logits).abs().amax(-1)
    assert change[0] > 1e-5
    assert change[1] < 1e-5
    assert change[2] > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_changes_nothing(kind, model_folders):
    model, processor = random_model(kind)
    loaded = AutoModelForImageTextToText.from_pretrained(model_folders[kind]).eval()
    again = AutoProcessor.from_pretrained(model_folders[kind])
    assert type(loaded) is type(model)
    assert type(again) is type(processor)
    assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert loaded.generation_config.pad_token_id == processor.tokenizer.pad_token_id
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    inputs, inputs_again = batch(processor), batch(again)
    assert inputs.keys() == inputs_again.keys()
    for name, tensor in inputs.items():
        assert torch.equal(inputs_again[name], tensor), name
    # Copied, since where a file's weights lie in memory changes the sums of grouped experts by 2e-7 on some processors.
    copied = copy.deepcopy(loaded)
    with torch.no_grad():
        assert torch.equal(copied(**inputs_again).logits, model(**inputs).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_no_parameter_hides_an_error(kind):
    model, _ = random_model(kind)
    assert not model.training
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert parameter.std() > 1e-3, f"{name} is constant"
