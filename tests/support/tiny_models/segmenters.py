"""Tiny random segmenters of the SAM family with their processors, built in code without any download.

>>> model, processor = sam()
>>> sum(parameter.numel() for parameter in model.parameters()) < 100_000
True
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)

DECODER = {
    "hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "iou_head_hidden_dim": 16,
}  # fmt: skip


def sam() -> tuple[SamModel, SamProcessor]:
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
            "output_channels": 16, "num_pos_feats": 8, "mlp_dim": 16, "global_attn_indexes": [0],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8},
        mask_decoder_config=DECODER,
    )  # fmt: skip
    size, pad = {"longest_edge": 64}, {"height": 64, "width": 64}
    return SamModel(config), SamProcessor(SamImageProcessor(size=size, pad_size=pad, mask_size=size, mask_pad_size=pad))


def sam2() -> tuple[Sam2Model, Sam2Processor]:
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64],
        "blocks_per_stage": [1, 2, 2, 2], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [2, 2, 2, 2],
        "global_attention_blocks": [], "window_positional_embedding_background_size": [2, 2],
    }  # fmt: skip
    config = Sam2Config(
        vision_config={
            "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16},
        mask_decoder_config=DECODER,
    )  # fmt: skip
    size = {"height": 64, "width": 64}
    return Sam2Model(config), Sam2Processor(Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16}))


def save_segmenter(folder: Path, family: Callable[[], tuple[Any, Any]] = sam) -> Path:
    """A segmenter in a folder, as a user would name it; its weights are the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in family():
            part.save_pretrained(folder)
    return folder
