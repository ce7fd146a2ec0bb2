"""Tiny Gemma 3 and PaliGemma: square images, and prompts (or the images in them) that are read both ways."""

from __future__ import annotations

from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from support.tiny_models.common import TEMPLATE, VISION, seeded, text_config, tokenizer_of

_SIZE = {"height": 56, "width": 56}
_SIGLIP = {"model_type": "siglip_vision_model", **VISION, "image_size": 56, "vision_use_head": False}


def gemma3() -> tuple[Any, Any]:
    """Images of 56 x 56 pixels, 4 tokens each; one layer with a window of 48 tokens, one that sees everything."""
    tokenizer = tokenizer_of(
        {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
        extra=["<start_of_turn>", "<end_of_turn>", "<bos>"], eos="<end_of_turn>",
    )  # fmt: skip
    start = tokenizer.convert_tokens_to_ids("<bos>")
    tokenizer.bos_token = "<bos>"
    # As the published tokenizer, which adds the start token that the chat template writes too.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", start)])
    text = text_config(
        tokenizer, head_dim=16, sliding_window=48, layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
    )  # fmt: skip
    text.pop("rope_parameters")
    config = Gemma3Config(
        text_config=text,
        vision_config=_SIGLIP,
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=True,
    )
    template = TEMPLATE % {
        "start": "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n",
        "image": "<start_of_image>",
        "end": "<end_of_turn>\n",
        "answer": "<start_of_turn>model\n",
    }
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=_SIZE), tokenizer, chat_template="<bos>" + template, image_seq_length=4
    )
    return seeded(Gemma3ForConditionalGeneration, config, tokenizer), processor


def paligemma() -> tuple[Any, Any]:
    """Images of 56 x 56 pixels, 16 tokens each; no chat template; location tokens."""
    tokenizer = tokenizer_of({"image_token": "<image>"}, extra=["<bos>"], eos="<eos>")
    tokenizer.bos_token = "<bos>"
    processor = PaliGemmaProcessor(SiglipImageProcessor(size=_SIZE, image_seq_length=16), tokenizer)
    text = text_config(tokenizer, head_dim=16)
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", **text, "bos_token_id": tokenizer.bos_token_id},
        vision_config=_SIGLIP,
        image_token_index=tokenizer.image_token_id,
        projection_dim=64,
        hidden_size=64,
        tie_word_embeddings=True,
    )
    return seeded(PaliGemmaForConditionalGeneration, config, tokenizer), processor
