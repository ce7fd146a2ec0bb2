"""Which parameters learn: everything, less what is frozen, or an adapter.

Decision: LoRA is given the full names of the layers it adapts, found by the family's facts, so that it never attaches
to a vision tower that happens to use the same names (SmolVLM's and LLaVA's have ``q_proj`` too).
Weights that are not quantised stay in the type they were loaded in: made float32, as peft's preparation does, they
would give queries and keys in float32, for which there is no flash attention.

    model = trainable(model, family, ModelConfig(lora=LoraConfig(rank=16)))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from visual_rft.config.sections import ModelConfig
from visual_rft.errors import ModelError
from visual_rft.policy.families import Family
from visual_rft.policy.stored.weights import load_adapter


def trainable(model: Any, family: Family, config: ModelConfig, weights: Path | None = None) -> Any:
    """``model`` with the parameters that do not learn frozen, under an adapter if there is to be one.

    Args:
        model: the model as it was loaded.
        family: facts about its family.
        config: settings of what is trained.
        weights: an adapter's folder to continue from.

    Raises:
        ModelError: if a part that is to be frozen or adapted is not found, or the model is an adapter already.
    """
    if config.lora is not None:
        adapted = _adapted(model, family, config, weights)
        if config.autocast == "bfloat16":
            _without_copies(adapted)
        return adapted
    projector = config.freeze_vision if config.freeze_projector is None else config.freeze_projector
    for part, places, frozen in (
        ("vision tower", family.tower, config.freeze_vision),
        ("projector", family.projector, projector),
    ):
        if not frozen:
            continue
        found = [
            parameter
            for name, parameter in model.named_parameters()
            if family.is_vision(name) and family.is_projector(name) == (part == "projector")
        ]
        if places and not found:
            raise ModelError(
                f"the {part} is to be frozen, but no parameter of {model.config.model_type!r} is within "
                f"{', '.join(places)}; see model.family"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    return model


def _adapted(model: Any, family: Family, config: ModelConfig, weights: Path | None) -> Any:
    import peft

    assert config.lora is not None
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "model.path: is an adapter already, and model.lora would put another on top; merge it first (visual-rft "
            "export RUN --out FOLDER) and train from that folder, or continue its run with --resume"
        )
    if weights is not None:
        return load_adapter(model, str(weights), learns=True)
    targets = adapted_layers(model, family, vision=config.lora.vision)
    if not targets:
        raise ModelError(
            f"no linear layer of {model.config.model_type!r} is named {', '.join(family.lora_targets)}, so LoRA has "
            "nothing to adapt; set model.family.lora_targets"
        )
    return peft.get_peft_model(
        model, peft.LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=targets)
    )


def _without_copies(adapted: Any) -> None:
    """Leave out the float32 copy that every adapted layer makes of its input: under autocast it is only rounded back to
    the values that it was made of."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


def adapted_layers(model: Any, family: Family, *, vision: bool) -> list[str]:
    """Full names of the layers that LoRA adapts: the family's in the language model, with ``vision`` also all of the
    vision tower and projector."""
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        if vision if family.is_vision(name) else name.split(".")[-1] in family.lora_targets:
            found.append(name)
    return found
