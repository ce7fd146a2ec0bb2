"""Packed questions: the model says what it would say if each were asked alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.flowers import Flowers
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.tiny.architecture import build_model, build_processor, build_tokenizer
from visual_rft.tiny.bind import draw_exchanges, forward, make_batch
from visual_rft.tiny.build import phrases
from visual_rft.tiny.packing import covered_tokens
from visual_rft.tiny.scenes import to_patches
from visual_rft.tiny.see import quicken, scaled
from visual_rft.tiny.tokens import Writer


@pytest.fixture(scope="module")
def processor():
    return build_processor(build_tokenizer(phrases()))


@pytest.fixture(scope="module")
def model(processor):
    return build_model(processor.tokenizer).eval()


@pytest.fixture(scope="module")
def images():
    several = [Shapes(20, seed=5, min_objects=3)[i] for i in range(3)]
    single = Digits(20, "train", seed=5, max_objects=1)[1]
    return [*several, Digits(20, "train", seed=5)[0], single, Flowers(9, seed=5)[0]]


def pixels(image):
    return np.asarray(image.image.load())


def test_patches_are_the_processors(processor, images):
    ours = scaled([to_patches(pixels(image)) for image in images], torch.device("cpu"))
    theirs = processor.image_processor(images=[image.image.load() for image in images], return_tensors="pt")
    torch.testing.assert_close(ours, theirs["pixel_values"], atol=1e-6, rtol=0)


def test_packed_questions_have_the_logits_of_questions_asked_one_by_one(model, processor, images):
    writer = Writer(processor.tokenizer)
    exchanges = draw_exchanges(images, writer, np.random.default_rng(1), whole=True)
    exchanges[0] = draw_exchanges(images[:1], writer, np.random.default_rng(2), whole=False)[0]
    assert max(map(len, exchanges)) > 1
    batch = make_batch(images, [to_patches(pixels(image)) for image in images], exchanges, writer, model)
    with torch.no_grad():
        packed = model.lm_head(forward(model, batch)[0])
        for row, (image, asked) in enumerate(zip(images, exchanges, strict=True)):
            column = int((batch.packed.image[row]).sum()) + len(writer.before) + len(writer.after)
            for exchange in asked:
                text = "".join(map(writer.text, exchange.prompt + exchange.answer))
                before = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
                inputs = processor(text=[before + text], images=[image.image.load()], return_tensors="pt")
                length = len(exchange.prompt) + len(exchange.answer)
                alone = model(**inputs).logits[0, -length:]
                torch.testing.assert_close(packed[row, column : column + length], alone, atol=2e-4, rtol=1e-4)
                column += length


def test_the_prompt_is_what_the_chat_template_writes(processor, images):
    writer = Writer(processor.tokenizer)
    exchange = draw_exchanges(images[:1], writer, np.random.default_rng(1), whole=True)[0][0]
    text = "".join(map(writer.text, exchange.prompt))
    question = text.removesuffix("<|im_end|>\n<|im_start|>assistant\n")
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    whole = processor.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert whole == "".join(map(writer.text, (*writer.before, *processor.tokenizer("<|image_pad|>").input_ids,
                                              *writer.after))) + text  # fmt: skip


def test_the_matrix_product_is_the_patch_embedding(processor, images):
    slow = build_model(processor.tokenizer)
    patches = scaled([to_patches(pixels(images[0]))], torch.device("cpu"))
    with torch.no_grad():
        wanted = slow.model.visual.patch_embed(patches)
        quicken(slow)
        torch.testing.assert_close(slow.model.visual.patch_embed(patches), wanted, atol=1e-5, rtol=1e-5)


def test_an_object_is_pointed_at_where_its_box_is(images):
    for image in images:
        shares = covered_tokens(image)
        width, height = image.size
        assert shares.sum(1) == pytest.approx(1)
        assert not shares[:, (width // 32) * (height // 32) :].any()
        x1, y1, x2, y2 = image.boxes[0]
        inside = int((y1 + y2) / 2 // 32) * (width // 32) + int((x1 + x2) / 2 // 32)
        assert shares[0, inside] == shares[0].max() or shares[0, inside] > 0
