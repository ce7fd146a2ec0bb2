"""Models with the proportions of published ones, a twelfth as wide: what they keep for a backward pass, per token and
layer, is in proportion."""

from __future__ import annotations

from functools import cache
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from support.tiny_models.common import seeded, text_config
from support.tiny_models.qwen import _token_ids, qwen2

WIDTHS: dict[str, tuple[str, int, int, int, int]] = {
    # width, feed-forward, query heads, key/value heads of 16 values each; published: eight times as many values
    "qwen2-vl-2b": ("qwen2_vl", 192, 1120, 12, 2),
    "qwen2.5-vl-3b": ("qwen2_5_vl", 256, 1376, 16, 2),
    "qwen2.5-vl-7b": ("qwen2_5_vl", 448, 2368, 28, 4),
}


@cache
def _processor(kind: str) -> Any:
    return qwen2(kind)[1]


def model_in_proportion(name: str, depth: int = 2) -> tuple[Any, Any]:
    """A random model of so many layers in language model and vision tower, which is 160 wide (published: 1280), and its
    processor."""
    kind, width, wide, heads, key_value = WIDTHS[name]
    processor = _processor(kind)
    tokenizer = processor.tokenizer
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    text = text_config(
        tokenizer, hidden_size=width, intermediate_size=wide, num_attention_heads=heads, num_key_value_heads=key_value,
        num_hidden_layers=depth, rope_parameters=rope,
    )  # fmt: skip
    common = {"depth": depth, "num_heads": 10, "patch_size": 14}
    vision: dict[str, Any]
    if kind == "qwen2_vl":
        config_class, model_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration
        vision = {**common, "embed_dim": 160, "mlp_ratio": 4, "hidden_size": width}
    else:
        config_class, model_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
        vision = {
            **common, "hidden_size": 160, "intermediate_size": 428, "out_hidden_size": width, "window_size": 56,
            "fullatt_block_indexes": [1],
        }  # fmt: skip
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer))
    return seeded(model_class, config, tokenizer), processor
