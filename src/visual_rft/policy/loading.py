"""A policy from a config: model, processor, and what of it learns.

Decision: stock ``AutoModelForImageTextToText`` and ``AutoProcessor``; the embedded model is only a folder name.
Dropout is off (``eval`` mode) also in training: the policy that is scored must be the one that sampled.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
)
from transformers.utils import is_flash_attn_2_available

from visual_rft.config.sections import EngineConfig, ModelConfig, RolloutConfig
from visual_rft.config.yaml_text import read_yaml
from visual_rft.errors import ConfigError, ModelError, printable
from visual_rft.files import at_home
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import Family, PixelLayout, family_of
from visual_rft.policy.policy import Policy
from visual_rft.policy.requirements import require_cuda
from visual_rft.policy.stored.hub import reachable
from visual_rft.policy.stored.places import EMBEDDED, model_folder, run_config_file
from visual_rft.policy.stored.weights import ADAPTER_CONFIG, adapter_base, is_adapter, load_model, read
from visual_rft.policy.trainable import trainable

transformers.utils.logging.disable_progress_bar()  # a run prints one line per step, and nothing else


class UnseenMarginWarning(UserWarning):
    """The processor cuts off what lies beside the centre of an image (LLaVA)."""


def sampling_of(rollout: RolloutConfig, *, entropies: bool = False) -> Sampling:
    """The sampling fields of a config; ``entropies`` as there."""
    return Sampling(rollout.max_new_tokens, rollout.temperature, rollout.top_k, rollout.top_p, entropies)


def base_of_adapter(folder: str) -> str:
    """The folder or hub id of the base under an adapter, wherever this is called from.

    Args:
        folder: the adapter's.

    Returns:
        What the adapter's config names, if it is there; else what the config of its run names, which can be edited when
        a base has moved (a checkpoint's own files have checksums).

    Raises:
        ModelError: if the base is a folder that is gone.
    """
    recorded = adapter_base(folder)
    places = [at_home(recorded), *(parent / recorded for parent in Path(folder).absolute().parents)]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    if found is not None:
        return str(found)
    if Path(recorded).parts[-3:] == EMBEDDED.parts[-3:]:  # of another installation of this package
        return str(EMBEDDED)
    local = recorded.startswith((".", "~", "/")) or Path(recorded).is_absolute() or recorded.count("/") > 1
    if not local:
        return recorded
    file = run_config_file(folder)
    if file is not None:
        section = (read_yaml(file, ModelError) or {}).get("model") or {}
        named = str(section.get("path", "tiny"))
        if named == "tiny" or (at_home(named) / "config.json").is_file():
            return model_folder(named)
    where = (
        f"model.path in {file}" if file is not None else f"base_model_name_or_path in {Path(folder) / ADAPTER_CONFIG}"
    )
    raise ModelError(
        f"model.path: {folder} is an adapter, and its base {recorded} is gone; put it back, or give its new place: "
        f"{where}"
    )


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
        config: settings that say which model, and which part of it is trained.
        rollout: settings of sampling.
        weights: a checkpoint's model folder to continue from; None starts from ``config.path``.
        engine: settings of the computation; None takes the defaults.
        empty: whether to leave the weights out (meta device): enough to prepare prompts and to count parameters.

    Raises:
        ModelError: if the model cannot be loaded or its family is unknown.
        ConfigError: if a setting needs a GPU that is not there, or the processor ignores it.
    """
    config = config.model_copy(update={"autocast": autocast_of(config, engine if empty else None)})
    base = reachable(model_folder(config.path))
    source = str(weights) if weights is not None and config.lora is None else base
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if not empty:
        _require(config)
    processor = read(config.path, lambda: AutoProcessor.from_pretrained(source, **options))
    options |= {"dtype": getattr(torch, config.dtype), "attn_implementation": None if empty else _attention(config)}
    below = base_of_adapter(source) if is_adapter(source) else None
    if empty:
        model = read(config.path, lambda: _without_weights(below or source, options))
    else:
        model = load_model(source, below, **options, **_quantized(config, below or base))
    family = family_of(model.config.model_type, config.family)
    _limit_pixels(processor, family, config, source)
    if getattr(processor.image_processor, "do_center_crop", False):
        warnings.warn(
            f"{printable(config.path)}: the processor cuts images to their centre square, so the model cannot see "
            "objects beside it, which then only lower the rewards; train on square images, or choose another family",
            UnseenMarginWarning,
            stacklevel=2,
        )
    model = trainable(model, family, config, weights if config.lora is not None else None)
    if config.lora is not None and Path(base).is_dir():  # or it would be looked for from another working directory
        for adapter in model.peft_config.values():
            adapter.base_model_name_or_path = str(Path(base).absolute())
    model.eval()
    autocast = None if config.autocast == "no" else getattr(torch, config.autocast)
    return Policy(model, processor, sampling_of(rollout), autocast, engine, family)


def autocast_of(config: ModelConfig, engine: EngineConfig | None = None) -> str:
    """``no`` or ``bfloat16``: what the config says, or what this machine, or the card that ``engine`` names, is best
    asked for.

    >>> autocast_of(ModelConfig(), EngineConfig(card_gib=80)), autocast_of(ModelConfig(autocast="no"))
    ('bfloat16', 'no')
    """
    if config.autocast != "auto":
        return config.autocast
    on_gpu = torch.cuda.is_available() or (engine is not None and engine.card_gib is not None)
    return "bfloat16" if on_gpu and (config.dtype == "float32" or config.lora is not None) else "no"


def _without_weights(source: str, options: dict[str, Any]) -> Any:
    shape = AutoConfig.from_pretrained(source, trust_remote_code=options["trust_remote_code"])
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(shape, **options)


def _require(config: ModelConfig) -> None:
    """Refuse what cannot run on this machine."""
    if config.quantization != "none":
        require_cuda(
            "model.quantization", config.quantization, package="bitsandbytes",
            instead="none, with model.lora and model.dtype bfloat16",
        )  # fmt: skip
    if config.attention.startswith("flash"):
        module = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}[config.attention]
        require_cuda("model.attention", config.attention, package=module, instead="auto")


def _attention(config: ModelConfig) -> str | None:
    """What transformers is asked for: flash attention where it can run; None leaves the choice to the library."""
    if config.attention != "auto":
        return config.attention
    can = torch.cuda.is_available() and config.dtype == "bfloat16" and is_flash_attn_2_available()
    return "flash_attention_2" if can else None


def _quantized(config: ModelConfig, base: str) -> dict[str, Any]:
    """The base in few bits, less what sees: a vision tower is small, and boxes rest on its precision."""
    if config.quantization == "none":
        return {}
    shape = read(base, lambda: AutoConfig.from_pretrained(base, trust_remote_code=config.trust_remote_code))
    family = family_of(shape.model_type, config.family)
    kept = [*family.tower, *family.projector, "lm_head"]
    bits: dict[str, Any] = {"load_in_8bit": True}
    if config.quantization == "nf4":
        bits = {
            "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }  # fmt: skip
    return {"quantization_config": BitsAndBytesConfig(**bits, llm_int8_skip_modules=kept), "device_map": {"": 0}}


def _limit_pixels(processor: Any, family: Family, config: ModelConfig, source: str) -> None:
    """Give the image processor the limits of the config.

    At construction: set later, some of its methods do not see them. Those of families with images of one size would
    take them without a word and ignore them.
    """
    size = dict(processor.image_processor.size)
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        limit = getattr(config, name)
        if limit is None:
            continue
        if family.pixels is not PixelLayout.PATCHES:
            kind = type(processor.image_processor).__name__
            raise ConfigError(
                f"model.{name}: {kind} cuts or resizes every image to {size} and knows no limit of pixels; leave "
                f"model.{name} out"
            )
        size[edge] = limit
    if config.min_pixels is not None or config.max_pixels is not None:
        if config.min_pixels is None and size["shortest_edge"] >= size["longest_edge"]:
            # The checkpoint's own lower limit is above the new upper one: down to one token.
            size["shortest_edge"] = (processor.image_processor.patch_size * processor.image_processor.merge_size) ** 2
        processor.image_processor = AutoImageProcessor.from_pretrained(
            source, size=size, trust_remote_code=config.trust_remote_code
        )
