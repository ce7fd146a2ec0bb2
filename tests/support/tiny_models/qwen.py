"""Tiny Qwen-VL models: three position axes, image patches of any number per image."""

from __future__ import annotations

from typing import Any

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from support.tiny_models.common import TEMPLATE, seeded, text_config, tokenizer_of
from visual_rft.tiny.architecture import CHAT_TEMPLATE, build_model, build_processor, build_tokenizer
from visual_rft.tiny.build import phrases


def qwen3() -> tuple[Any, Any]:
    tokenizer = build_tokenizer(phrases())
    return build_model(tokenizer), build_processor(tokenizer)


def qwen2(kind: str) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(phrases())
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    text = text_config(tokenizer, rope_parameters=rope)
    tokens = _token_ids(tokenizer)
    vision: dict[str, Any]
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
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=True, **tokens)
    size = {"shortest_edge": 56 * 56, "longest_edge": 140 * 140}
    processor = processor_class(
        image_processor=Qwen2VLImageProcessor(patch_size=14, merge_size=2, size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=14, merge_size=2, size=size),
        chat_template=CHAT_TEMPLATE,
    )
    return seeded(model_class, config, tokenizer), processor


def qwen3_moe() -> tuple[Any, Any]:
    """As the embedded model, with four experts of which two are used."""
    tokenizer = build_tokenizer(phrases())
    config = Qwen3VLMoeConfig(
        text_config=text_config(
            tokenizer, head_dim=16, rope_parameters=_ROPE, num_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=32,
        ),
        vision_config=_VISION_3,
        tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )  # fmt: skip
    return seeded(Qwen3VLMoeForConditionalGeneration, config, tokenizer), build_processor(tokenizer)


def qwen3_5(kind: str) -> tuple[Any, Any]:
    """Three layers of linear attention, one of full attention; with or without experts."""
    tokenizer = build_tokenizer(phrases())
    linear = {
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    }  # fmt: skip
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
               "shared_expert_intermediate_size": 32}  # fmt: skip
    rope = {**_ROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25}
    text = text_config(tokenizer, num_hidden_layers=4, head_dim=16, rope_parameters=rope, **linear)
    dense = kind == "qwen3_5"
    config_class: Any = Qwen3_5Config if dense else Qwen3_5MoeConfig
    model_class = Qwen3_5ForConditionalGeneration if dense else Qwen3_5MoeForConditionalGeneration
    vision = {name: value for name, value in _VISION_3.items() if name != "deepstack_visual_indexes"}
    config = config_class(
        text_config=text if dense else {**text, **experts}, vision_config=vision, tie_word_embeddings=True,
        **_token_ids(tokenizer),
    )  # fmt: skip
    return seeded(model_class, config, tokenizer), build_processor(tokenizer)


def glm4v() -> tuple[Any, Any]:
    """GLM-4V, which is built like Qwen2-VL and stands for a family that nobody listed."""
    tokenizer = tokenizer_of(
        {"image_token": "<|image|>", "video_token": "<|video|>"},
        extra=["<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"], eos="<|user|>",
    )  # fmt: skip
    text = text_config(tokenizer, rope_parameters={**_ROPE, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5})
    text["rope_parameters"].pop("mrope_interleaved")
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14, "image_size": 140,
        "out_hidden_size": 64,
    }  # fmt: skip
    names = {"image": "image", "video": "video", "image_start": "begin_of_image", "image_end": "end_of_image",
             "video_start": "begin_of_video", "video_end": "end_of_video"}  # fmt: skip
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    config = Glm4vConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    size = {"shortest_edge": 56 * 56 * 2, "longest_edge": 140 * 140 * 2}  # counted over two frames
    template = TEMPLATE % {
        "start": "<|{{ message['role'] }}|>\n",
        "image": "<|begin_of_image|><|image|><|end_of_image|>",
        "end": "\n",
        "answer": "<|assistant|>\n",
    }
    processor = Glm4vProcessor(
        Glm4vImageProcessor(size=size), tokenizer, Glm4vVideoProcessor(size=size), chat_template=template
    )
    return seeded(Glm4vForConditionalGeneration, config, tokenizer), processor


_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
_VISION_3 = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 16, "spatial_merge_size": 2,
    "temporal_patch_size": 1, "out_hidden_size": 64, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
}  # fmt: skip


def _token_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>") for name, text in names.items()}
