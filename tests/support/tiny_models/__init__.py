"""Tiny random models of each supported family with the family's own processor, built in code without any download.

Decision: the stock model and processor classes with small configs and the embedded model's tokenizer, so that a test
meets what each family does differently (positions, tiles, nested images) and costs milliseconds. An image costs at
most 64 tokens.

>>> from PIL import Image
>>> model, processor = random_model("internvl")
>>> text = chat(processor, "Find every red circle.")
>>> processor(text=[text], images=[Image.new("RGB", (112, 56))], return_tensors="pt")["pixel_values"].shape
torch.Size([3, 3, 56, 56])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from support.tiny_models import gemma, qwen, tiles

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families with three position axes and image patches of any number per image."""
SHARED = (*QWEN, "qwen3_vl_moe", "smolvlm", "idefics3", "internvl", "llava", "llava_onevision")
"""Families whose prompts are read causally throughout: the shared prefix is exact."""
REPEATED = ("qwen3_5", "qwen3_5_moe", "gemma3", "paligemma")
"""Families with linear layers, sliding windows or prompts read both ways: every completion repeats its prompt."""
FAMILIES = (*SHARED, *REPEATED)
UNLISTED = "glm4v"
"""A family that the package does not know."""


def random_model(kind: str) -> tuple[Any, Any]:
    """A tiny random model of a family, float32, in eval mode, and its processor."""
    model, processor = BUILDERS[kind]()
    # Zero-initialised biases and small weights would hide errors: make every parameter matter.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.eval(), processor


def chat(processor: Any, text: str, images: int = 1) -> str:
    """The prompt of one user message: ``images`` images, then ``text``, then the start of the answer.

    PaliGemma knows no messages: its processor adds what it needs to a text that starts with the images.
    """
    if processor.chat_template is None:
        return processor.image_token * images + text
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": lambda: qwen.qwen2("qwen2_vl"),
    "qwen2_5_vl": lambda: qwen.qwen2("qwen2_5_vl"),
    "qwen3_vl": qwen.qwen3,
    "qwen3_vl_moe": qwen.qwen3_moe,
    "qwen3_5": lambda: qwen.qwen3_5("qwen3_5"),
    "qwen3_5_moe": lambda: qwen.qwen3_5("qwen3_5_moe"),
    "smolvlm": lambda: tiles.idefics("smolvlm"),
    "idefics3": lambda: tiles.idefics("idefics3"),
    "internvl": tiles.internvl,
    "llava": tiles.llava,
    "llava_onevision": tiles.llava_onevision,
    "glm4v": qwen.glm4v,
    "gemma3": gemma.gemma3,
    "paligemma": gemma.paligemma,
}
