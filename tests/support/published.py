"""Shapes of published checkpoints, as their ``config.json`` says: enough to count what a run holds without a weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

from support.tiny_models.qwen import _token_ids, qwen2, qwen3

_VISION_2 = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14}
_VISION_25 = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
_VISION_3 = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
    "deepstack_visual_indexes": [5, 11, 17],
}  # fmt: skip
_VISION_3_8B = {
    **_VISION_3, "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
SHAPES: dict[str, tuple[type[Any], dict[str, Any], tuple[int, ...], bool]] = {
    # config, vision tower, (width, feed-forward, layers, query heads, key/value heads, vocabulary), tied embeddings
    "qwen2-vl-2b": (Qwen2VLConfig, _VISION_2, (1536, 8960, 28, 12, 2, 151_936), True),
    "qwen2-vl-7b": (Qwen2VLConfig, _VISION_2, (3584, 18_944, 28, 28, 4, 152_064), False),
    "qwen2.5-vl-3b": (Qwen2_5_VLConfig, _VISION_25, (2048, 11_008, 36, 16, 2, 151_936), True),
    "qwen2.5-vl-7b": (Qwen2_5_VLConfig, _VISION_25, (3584, 18_944, 28, 28, 4, 152_064), False),
    "qwen3-vl-2b": (Qwen3VLConfig, _VISION_3, (2048, 6144, 28, 16, 8, 151_936), True),
    "qwen3-vl-4b": (Qwen3VLConfig, _VISION_3, (2560, 9728, 36, 32, 8, 151_936), True),
    "qwen3-vl-8b": (Qwen3VLConfig, _VISION_3_8B, (4096, 12_288, 36, 32, 8, 151_936), False),
}


def save_shape(name: str, folder: Path) -> None:
    """Config and processor of a model, without weights; its tokens are those of the tiny models."""
    kind, vision, (width, wide, layers, heads, key_value, vocabulary), tied = SHAPES[name]
    processor = qwen3()[1] if kind is Qwen3VLConfig else qwen2("qwen2_vl")[1]
    last = {"hidden_size": width} if kind is Qwen2VLConfig else {"out_hidden_size": width}
    text: dict[str, Any] = {
        "hidden_size": width, "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_value, "vocab_size": vocabulary, "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "pad_token_id": processor.tokenizer.pad_token_id, "bos_token_id": None,
        "eos_token_id": processor.tokenizer.eos_token_id,
    }  # fmt: skip
    if kind is Qwen3VLConfig:
        text["head_dim"] = 128
    config = kind(
        text_config=text, vision_config={**vision, **last}, tie_word_embeddings=tied, dtype="bfloat16",
        **_token_ids(processor.tokenizer),
    )  # fmt: skip
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
