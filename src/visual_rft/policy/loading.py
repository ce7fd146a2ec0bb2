"""A policy from a config: model, processor, frozen parts, LoRA.

Decision: stock ``AutoModelForImageTextToText`` and ``AutoProcessor``; the embedded model is only a folder name.
Dropout is off (``eval`` mode) also in training: the policy that is scored must be the one that sampled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from visual_rft.config import EngineConfig, ModelConfig, RolloutConfig
from visual_rft.errors import ModelError
from visual_rft.policy.families import family_of
from visual_rft.policy.policy import Policy
from visual_rft.policy.sampling import Sampling

transformers.utils.logging.disable_progress_bar()  # a run prints one line per step, and nothing else

EMBEDDED = Path(__file__).parent.parent / "tiny" / "base"
"""The folder of the embedded default model."""
RUN_CONFIG = "config.yaml"
"""A run's config in its folder."""
EXPORTED_CONFIG = "visual_rft.yaml"
"""The same in an exported model, where ``config.json`` is the model's."""


def sampling_of(rollout: RolloutConfig) -> Sampling:
    """The sampling fields of a config."""
    return Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_k, rollout.top_p)


def model_folder(path: str) -> str:
    """The folder or hub id behind a model's name.

    Args:
        path: ``tiny`` (the embedded default), a folder or a hub id. A run folder stands for its newest checkpoint, and
            a checkpoint for its model.

    Raises:
        ModelError: if the name looks like a folder and there is no model.
    """
    if path == "tiny":
        return str(EMBEDDED)
    folder = Path(path).expanduser()
    checkpoints = sorted((folder / "checkpoints").glob("step-*[0-9]"))
    for place in (folder, folder / "model", *(checkpoint / "model" for checkpoint in checkpoints[-1:])):
        if any((place / name).is_file() for name in ("config.json", "adapter_config.json")):
            return str(place)
    if (folder / RUN_CONFIG).is_file():
        raise ModelError(f"model.path: the run {path!r} has no checkpoint yet")
    if folder.is_dir() or path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ModelError(f"model.path: {path!r} is not a model folder (use 'tiny', a folder or a hub id)")
    return path


def run_config_file(path: str) -> Path | None:
    """The config of the run that a model came out of, or None.

    Args:
        path: a run folder, one of its checkpoints or their models, or an exported model.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return None
    places = [folder / EXPORTED_CONFIG, *(p / RUN_CONFIG for p in [folder, *folder.absolute().parents[:3]])]
    return next((place for place in places if place.is_file()), None)


def load_policy(
    config: ModelConfig,
    rollout: RolloutConfig,
    weights: Path | None = None,
    *,
    engine: EngineConfig | None = None,
    empty: bool = False,
) -> Policy:
    """Load a model and its processor as a policy.

    Args:
        config: which model, and which part of it is trained.
        rollout: how it samples.
        weights: a checkpoint's model folder to continue from; None starts from ``config.path``.
        engine: how it computes; None takes the defaults.
        empty: leave the weights out (meta device): enough to prepare prompts and to count parameters.

    Raises:
        ModelError: if the model cannot be loaded or its family is unknown.
    """
    base = model_folder(config.path)
    source = str(weights) if weights is not None and config.lora is None else base
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    pixels = {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    try:
        # Pixel limits are given at construction: set later, some methods of the image processor do not see them.
        processor = AutoProcessor.from_pretrained(
            source, **options, **{key: value for key, value in pixels.items() if value is not None}
        )
        dtype = getattr(torch, config.dtype)
        if empty:
            with torch.device("meta"):
                shape = AutoConfig.from_pretrained(source, **options)
                model = AutoModelForImageTextToText.from_config(shape, dtype=dtype, **options)
        else:
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path: cannot load {config.path!r} ({' '.join(str(error).split())})") from error
    family = family_of(model.config.model_type)
    if config.freeze_vision:
        for name, parameter in model.named_parameters():
            if family.is_vision(name):
                parameter.requires_grad_(False)
    if config.lora is not None:
        model = _with_lora(model, config, weights)
    model.eval()
    autocast = None if config.autocast == "no" else getattr(torch, config.autocast)
    return Policy(model, processor, sampling_of(rollout), autocast, engine)


def _with_lora(model: Any, config: ModelConfig, weights: Path | None) -> Any:
    """The model under a LoRA adapter on the language model's linear layers, never on the vision tower."""
    import peft

    assert config.lora is not None
    if weights is not None:
        return peft.PeftModel.from_pretrained(model, str(weights), is_trainable=True)
    family = family_of(model.config.model_type)
    targets = [
        name
        for name, module in model.named_modules()
        if name.split(".")[-1] in family.lora_targets
        and isinstance(module, torch.nn.Linear)
        and not family.is_vision(name)
    ]
    adapter = peft.LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=targets)
    return peft.get_peft_model(model, adapter)
