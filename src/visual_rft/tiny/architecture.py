"""The embedded default, untrained: a Qwen3-VL of a few million parameters with its own tokenizer and processor.

Decision: a real architecture with a small config, so that the code path is the one of the large models. Qwen3-VL
rather than Qwen2-VL: its vision tower has learned position embeddings, without which a model this small did not learn
to localise. Digits are single tokens (numbers keep their order); the fixed phrases of the tasks are learned whole, so
a prompt costs about 30 text tokens.

>>> tokenizer = build_tokenizer(["Find every", " red", " circle"])
>>> tokenizer.convert_ids_to_tokens(tokenizer("Find every red circle 427").input_ids)
['Find every', ' red', ' circle', 'Ġ', '4', '2', '7']
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INITIAL_SCALE = 0.1
"""Standard deviation of the initial weights, near 1 / sqrt(width); 0.02 suits models ten times as wide."""
LARGEST_IMAGE = 160 * 160
"""Pixels above which the processor shrinks an image; the model was taught on 96..128 pixels a side."""


def build_tokenizer(phrases: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes that knows each of ``phrases`` as one token; the longest one that fits is taken.

    A learned byte-pair vocabulary cut ``blue circle`` into eight pieces that ran across the words, and the model never
    learned to bind a class name to what it saw.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in dict.fromkeys(phrases) if len(phrase) > 1])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """The Qwen3-VL processor around ``tokenizer``: patches of 16 pixels, 2 x 2 patches per image token."""
    size = {"shortest_edge": 64 * 64, "longest_edge": LARGEST_IMAGE}
    options: dict[str, Any] = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 1, "size": size}
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**options, **statistics),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**options, **statistics),
        chat_template=CHAT_TEMPLATE,
    )


def _fourier_positions(side: int, width: int) -> torch.Tensor:
    """``[side * side, width]`` sines and cosines of row and column, amplitude 0.5.

    A random table of scale 0.02 is drowned by patch contents of scale 0.3: no localisation after 18,000 scenes.
    """
    place = (torch.arange(side) + 0.5) / side
    frequency = torch.pi * 2.0 ** torch.linspace(-1, 2.5, width // 4)
    wave = torch.cat([torch.sin(place[:, None] * frequency), torch.cos(place[:, None] * frequency)], dim=1)
    rows, columns = wave[:, None].expand(side, side, -1), wave[None].expand(side, side, -1)
    return 1.5 * torch.cat([rows, columns], dim=-1).reshape(side * side, width)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """The randomly initialised model, float32."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "pad_token_id": ids["<|endoftext|>"],
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "tie_word_embeddings": True,
            "initializer_range": INITIAL_SCALE,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 1,
            "out_hidden_size": 192,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [1],
            "initializer_range": INITIAL_SCALE,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        table = model.model.visual.pos_embed.weight
        table.copy_(_fourier_positions(int(table.shape[0] ** 0.5), table.shape[1]))
        for merger in model.model.visual.deepstack_merger_list:  # else 3 times as large as the image tokens it adds to
            merger.linear_fc2.weight.mul_(0.1)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model
