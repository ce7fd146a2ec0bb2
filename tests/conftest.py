"""Tiny random models of each supported family, and small helpers shared by the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from visual_rft.tiny.architecture import CHAT_TEMPLATE, SPECIAL, build_model, build_processor, build_tokenizer
from visual_rft.tiny.build import phrases

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors: a second thread costs more than it gives, and results do not depend on the machine."""
    torch.set_num_threads(1)


def _qwen2(kind: str) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(phrases())
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
    }
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 64, "patch_size": 14}
        config_class, model_class, processor_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    else:
        vision = {
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1],
        }  # fmt: skip
        config_class, model_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
        processor_class = Qwen2_5_VLProcessor
    torch.manual_seed(0)
    model = model_class(config_class(text_config=text, vision_config=vision, tie_word_embeddings=True, **tokens))
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    size = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}
    processor = processor_class(
        image_processor=Qwen2VLImageProcessor(patch_size=14, merge_size=2, size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=14, merge_size=2, size=size),
        chat_template=CHAT_TEMPLATE,
    )
    return model, processor


def random_model(kind: str) -> tuple[Any, Any]:
    """A tiny random model of a family, float32, in eval mode, and its processor."""
    if kind == "qwen3_vl":
        tokenizer = build_tokenizer(phrases())
        model, processor = build_model(tokenizer), build_processor(tokenizer)
    else:
        model, processor = _qwen2(kind)
    # Zero-initialised biases and small weights would hide errors: make every parameter matter.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.eval(), processor


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each family's tiny random model saved as a folder."""
    folders = {}
    for kind in FAMILIES:
        folders[kind] = tmp_path_factory.mktemp(kind)
        model, processor = random_model(kind)
        model.save_pretrained(folders[kind])
        processor.save_pretrained(folders[kind])
    return folders
