"""The section ``optimizer`` of a config.

>>> OptimizerConfig().learning_rate, OptimizerConfig().schedule
(1e-06, 'linear')
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from visual_rft.config.sections import Section

_Share = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    name: Literal["adamw", "adamw_8bit"] = "adamw"
    """``adamw_8bit`` keeps its averages in 8 bits: a quarter of the memory. Needs a CUDA GPU and bitsandbytes."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Decay after the warm-up, to 0 at the last step (or none)."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    """AdamW's averaging constants."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay, on matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_skipped: int = Field(5, ge=1)
    """Steps in a row that may be skipped because their gradient is not finite; one more and the run stops."""
