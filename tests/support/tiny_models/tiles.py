"""Tiny models with one position axis that see images, or tiles of them, of one fixed size."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from support.tiny_models.common import TEMPLATE, VISION, seeded, text_config, tokenizer_of


def idefics(kind: str) -> tuple[Any, Any]:
    """SmolVLM or Idefics3: tiles of 56 x 56 pixels, at most 2 x 2 and the whole image, 4 tokens each."""
    cells = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer = tokenizer_of(
        {"fake_image_token": "<fake_token_around_image>", "image_token": "<image>",
         "end_of_utterance_token": "<end_of_utterance>", "global_image_token": "<global-img>"},
        extra=cells, eos="<end_of_utterance>",
    )  # fmt: skip
    sizes = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    chat_template = TEMPLATE % {
        "start": "<|im_start|>{{ message['role'] | capitalize }}:",
        "image": "<image>",
        "end": "<end_of_utterance>\n",
        "answer": "Assistant:",
    }
    config_class: Any
    model_class: Any
    processor: Any
    if kind == "smolvlm":
        config_class, model_class = SmolVLMConfig, SmolVLMForConditionalGeneration
        sampling = {"max_frames": 2, "fps": 1, "video_size": {"longest_edge": 56}}
        processor = SmolVLMProcessor(
            SmolVLMImageProcessor(**sizes), tokenizer, SmolVLMVideoProcessor(**sizes, video_sampling=sampling),
            image_seq_len=4, chat_template=chat_template,
        )  # fmt: skip
    else:
        config_class, model_class = Idefics3Config, Idefics3ForConditionalGeneration
        processor = Idefics3Processor(
            Idefics3ImageProcessor(**sizes), tokenizer, image_seq_len=4, chat_template=chat_template
        )
    config = config_class(
        text_config={"model_type": "llama", **text_config(processor.tokenizer)},
        vision_config={**VISION, "image_size": 56},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    return seeded(model_class, config, tokenizer), processor


def internvl() -> tuple[Any, Any]:
    """Tiles of 56 x 56 pixels, at most 4 and the whole image, 4 tokens each."""
    tokenizer = tokenizer_of(
        {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
         "video_token": "<video>"},
        eos="<|im_end|>",
    )  # fmt: skip
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **text_config(tokenizer)},
        vision_config={**VISION, "image_size": 56, "attention_bias": True},
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
        chat_template=TEMPLATE
        % {
            "start": "<|im_start|>{{ message['role'] }}\n",
            "image": "<IMG_CONTEXT>\n",
            "end": "<|im_end|>\n",
            "answer": "<|im_start|>assistant\n",
        },
    )
    return seeded(InternVLForConditionalGeneration, config, tokenizer), processor


def llava() -> tuple[Any, Any]:
    """The centre 56 x 56 pixels of each image, 16 tokens. As by default, the last vision layer is not used."""
    tokenizer = tokenizer_of({"image_token": "<image>"}, eos="<|im_end|>")
    config = LlavaConfig(
        text_config={"model_type": "llama", **text_config(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 56},
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
        chat_template=TEMPLATE
        % {
            "start": "{{ message['role'] | upper }}: ",
            "image": "<image>\n",
            "end": "{% if message['role'] == 'assistant' %}<|im_end|>{% else %} {% endif %}",
            "answer": "ASSISTANT:",
        },
    )
    return seeded(LlavaForConditionalGeneration, config, tokenizer), processor


def llava_onevision() -> tuple[Any, Any]:
    """The whole image and up to 2 tiles of 56 x 56 pixels, 16 tokens each, one more per row; several images untiled."""
    tokenizer = tokenizer_of({"image_token": "<image>", "video_token": "<video>"}, eos="<|im_end|>")
    pinpoints = [[56, 56], [56, 112], [112, 56]]
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text_config(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "image_size": 56, "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=True,
    )
    size = {"height": 56, "width": 56}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=TEMPLATE
        % {
            "start": "<|im_start|>{{ message['role'] }} ",
            "image": "<image>\n",
            "end": "<|im_end|>",
            "answer": "<|im_start|>assistant\n",
        },
    )
    return seeded(LlavaOnevisionForConditionalGeneration, config, tokenizer), processor
