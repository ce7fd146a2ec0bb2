"""AdamW with decay on matrices only, and its schedule."""

from __future__ import annotations

from typing import Any

import torch
from transformers import get_scheduler

from visual_rft.config.sections import OptimizerConfig
from visual_rft.errors import ModelError
from visual_rft.policy.requirements import require_cuda


def make_optimizer(model: Any, config: OptimizerConfig, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser over the trainable parameters, and a schedule of ``steps`` optimiser steps.

    Raises:
        ModelError: if nothing is trainable, or the model is an adapter that was loaded as a model.
        ConfigError: if the optimiser needs a GPU that is not there.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "model.path: is an adapter, which can be evaluated but not trained on; merge it first (visual-rft export "
            "RUN --out FOLDER) and train from that folder"
        )
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ModelError("no parameter is trainable; check model.freeze_vision and model.lora")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    common: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "weight_decay": 0.0}
    used = [group for group in groups if group["params"]]
    if config.name == "adamw_8bit":
        require_cuda("optimizer.name", config.name, package="bitsandbytes", instead="adamw")
        import bitsandbytes

        optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(used, **common)
    else:
        optimizer = torch.optim.AdamW(used, **common, fused=True)  # one kernel for all tensors
    schedule = get_scheduler(config.schedule, optimizer, config.warmup_steps, max(steps, config.warmup_steps + 1))
    return optimizer, schedule
