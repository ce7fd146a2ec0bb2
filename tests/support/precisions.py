"""Every way in which numbers can be held and computed, for which the estimate of memory is tested."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "autocast": {"autocast": "bfloat16"},
    "LoRA on float32": {"lora": {"rank": 4}},
    "LoRA on float32, autocast": {"lora": {"rank": 4}, "autocast": "bfloat16"},
    "LoRA on bfloat16": {"lora": {"rank": 4}, "dtype": "bfloat16"},
    "LoRA on bfloat16, autocast": {"lora": {"rank": 4}, "dtype": "bfloat16", "autocast": "bfloat16"},
}
"""Fields of ``model``; those of the configs that come with the package are among them (``tests/config``)."""
