"""What the tiny models of the tests share: a chat template, the language model's config, the tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from visual_rft.tiny.architecture import build_tokenizer
from visual_rft.tiny.build import phrases

# As CHAT_TEMPLATE, the four places filled as the family writes them.
TEMPLATE = (
    "{%% for message in messages %%}%(start)s"
    "{%% if message['content'] is string %%}{{ message['content'] }}{%% else %%}"
    "{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'image' %%}%(image)s"
    "{%% elif part['type'] == 'text' %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}{%% endif %%}"
    "%(end)s{%% endfor %%}"
    "{%% if add_generation_prompt %%}%(answer)s{%% endif %%}"
)

VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14,
}  # fmt: skip


def text_config(tokenizer: Any, **other: Any) -> dict[str, Any]:
    """The language model's config, the same for all families of this file."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        **other,
    }


def tokenizer_of(named: dict[str, str], extra: list[str] | None = None, *, eos: str) -> PreTrainedTokenizerFast:
    """The embedded model's tokenizer with a family's special tokens, those of ``named`` also as attributes."""
    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(phrases()).backend_tokenizer,
        eos_token=eos,
        pad_token="<|endoftext|>",
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=extra or [],
        model_specific_special_tokens=named,
    )


def seeded(model_class: Any, config: Any, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    model = model_class(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
