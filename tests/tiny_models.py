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
from transformers import (
    CLIPImageProcessor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from visual_rft.tiny.architecture import CHAT_TEMPLATE, SPECIAL, build_model, build_processor, build_tokenizer
from visual_rft.tiny.build import phrases

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families with three position axes and image patches of any number per image."""
OTHER_FAMILIES = ("smolvlm", "internvl", "llava")
"""Families with one position axis and images (or tiles) of one fixed size."""

# As CHAT_TEMPLATE, the four places filled as the family writes them.
_TEMPLATE = (
    "{%% for message in messages %%}%(start)s"
    "{%% if message['content'] is string %%}{{ message['content'] }}{%% else %%}"
    "{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'image' %%}%(image)s"
    "{%% elif part['type'] == 'text' %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}{%% endif %%}"
    "%(end)s{%% endfor %%}"
    "{%% if add_generation_prompt %%}%(answer)s{%% endif %%}"
)

_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14,
}  # fmt: skip


def random_model(kind: str) -> tuple[Any, Any]:
    """A tiny random model of a family, float32, in eval mode, and its processor."""
    model, processor = _BUILDERS[kind]()
    # Zero-initialised biases and small weights would hide errors: make every parameter matter.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.eval(), processor


def chat(processor: Any, text: str, images: int = 1) -> str:
    """The prompt of one user message: ``images`` images, then ``text``, then the start of the answer."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _qwen3() -> tuple[Any, Any]:
    tokenizer = build_tokenizer(phrases())
    return build_model(tokenizer), build_processor(tokenizer)


def _qwen2(kind: str) -> tuple[Any, Any]:
    tokenizer = build_tokenizer(phrases())
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    text = _text(tokenizer, rope_parameters=rope)
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
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
    return _seeded(model_class, config, tokenizer), processor


def _smolvlm() -> tuple[Any, Any]:
    """Tiles of 56 x 56 pixels in a grid of at most 2 x 2 and the whole image, 4 tokens each."""
    cells = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer = _tokenizer(
        {"fake_image_token": "<fake_token_around_image>", "image_token": "<image>",
         "end_of_utterance_token": "<end_of_utterance>", "global_image_token": "<global-img>"},
        extra=cells, eos="<end_of_utterance>",
    )  # fmt: skip
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config={**_VISION, "image_size": 56},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    sizes = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(
            **sizes, video_sampling={"max_frames": 2, "fps": 1, "video_size": {"longest_edge": 56}}
        ),
        image_seq_len=4,
        chat_template=_TEMPLATE
        % {
            "start": "<|im_start|>{{ message['role'] | capitalize }}:",
            "image": "<image>",
            "end": "<end_of_utterance>\n",
            "answer": "Assistant:",
        },
    )
    return _seeded(SmolVLMForConditionalGeneration, config, tokenizer), processor


def _internvl() -> tuple[Any, Any]:
    """Tiles of 56 x 56 pixels, at most 4 and the whole image, 4 tokens each."""
    tokenizer = _tokenizer(
        {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
         "video_token": "<video>"},
        eos="<|im_end|>",
    )  # fmt: skip
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={**_VISION, "image_size": 56, "attention_bias": True},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=True,
    )
    size = {"height": 56, "width": 56}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=_TEMPLATE
        % {
            "start": "<|im_start|>{{ message['role'] }}\n",
            "image": "<IMG_CONTEXT>\n",
            "end": "<|im_end|>\n",
            "answer": "<|im_start|>assistant\n",
        },
    )
    return _seeded(InternVLForConditionalGeneration, config, tokenizer), processor


def _llava() -> tuple[Any, Any]:
    """The centre 56 x 56 pixels of each image, 16 tokens. As by default, the last vision layer is not used."""
    tokenizer = _tokenizer({"image_token": "<image>"}, eos="<|im_end|>")
    config = LlavaConfig(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **_VISION, "image_size": 56},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE
        % {
            "start": "{{ message['role'] | upper }}: ",
            "image": "<image>\n",
            "end": "{% if message['role'] == 'assistant' %}<|im_end|>{% else %} {% endif %}",
            "answer": "ASSISTANT:",
        },
    )
    return _seeded(LlavaForConditionalGeneration, config, tokenizer), processor


def _text(tokenizer: Any, **other: Any) -> dict[str, Any]:
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


def _tokenizer(named: dict[str, str], extra: list[str] | None = None, *, eos: str) -> PreTrainedTokenizerFast:
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


def _seeded(model_class: Any, config: Any, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    model = model_class(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": lambda: _qwen2("qwen2_vl"),
    "qwen2_5_vl": lambda: _qwen2("qwen2_5_vl"),
    "qwen3_vl": _qwen3,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
    "llava": _llava,
}
