"""With which options a vLLM samples for a run, on the command line or in this process.

Decision: log-probabilities of the distribution that is sampled, nothing out of the checkpoint's ``generation_config``
(Qwen2.5-VL's divides what was said once by 1.05), weights through the backend of ``vllm_folder.py`` or as adapters.

>>> options = rollout_options(ModelConfig(), "bfloat16")
>>> options["dtype"], options["logprobs_mode"]
('bfloat16', 'processed_logprobs')
>>> flags({"dtype": "float32", "enable_lora": True, "weight_transfer_config": {"backend": "folder"}})
['--dtype', 'float32', '--enable-lora', '--weight-transfer-config', '{"backend": "folder"}']
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from visual_rft.config.sections import ModelConfig

SERVER_VARIABLES = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
"""Without them a server takes no weights and no adapters."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes as --max-lora-rank."""


def rollout_options(model: ModelConfig, dtype: str, *, constrained: bool = False) -> dict[str, Any]:
    """Options by vLLM's own names in Python.

    Args:
        model: that is trained.
        dtype: type that it computes in, e.g. ``bfloat16``.
        constrained: whether completions have to follow a form.
    """
    options: dict[str, Any] = {
        "dtype": dtype,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "limit_mm_per_prompt": {"video": 0},
    }
    if constrained:  # the same masks as ours; xgrammar, the default, cuts text into tokens that llguidance keeps whole
        options["structured_outputs_config"] = {"backend": "guidance"}
    if model.trust_remote_code:
        options["trust_remote_code"] = True
    pixels = {name: getattr(model, name) for name in ("min_pixels", "max_pixels") if getattr(model, name) is not None}
    if pixels:
        options["mm_processor_kwargs"] = pixels
    if model.lora is None:
        return {**options, "weight_transfer_config": {"backend": "folder"}}
    tower = {"enable_tower_connector_lora": True} if model.lora.vision else {}
    return {**options, "enable_lora": True, "max_lora_rank": lora_rank(model.lora.rank), **tower}


def lora_rank(rank: int) -> int:
    """The least ``--max-lora-rank`` that has room for a rank; the rank itself where vLLM knows none so large."""
    return next((one for one in LORA_RANKS if one >= rank), rank)


def flags(options: Mapping[str, Any]) -> list[str]:
    """The same on a command line."""
    words: list[str] = []
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(value if isinstance(value, str) else json.dumps(value))
    return words
