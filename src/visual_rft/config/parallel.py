"""How the processes of a run share it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from visual_rft.config.sections import Section


class ParallelConfig(Section):
    """What several processes share, and how long they wait for each other (docs/scaling.md)."""

    strategy: Literal["replicated", "fsdp"] = "replicated"
    """Every process holds everything and gradients are summed; or weights in float32, gradients and the optimiser's
    averages are cut into shards, a part per process."""
    gather: Literal["auto", "step", "layer"] = "auto"
    """With fsdp, when weights are whole: throughout a step; or while answers are sampled, and in the update only those
    of the decoder layer that computes. Auto is step, unless the estimate says that only layer fits on the card."""
    reduce: Literal["auto", "step", "micro_batch"] = "auto"
    """With fsdp, when the decoder layers' gradients of all processes are summed: once per step, or as soon as a
    micro-batch has gone back through the layer, so that none stay whole. Auto is micro_batch where gather is layer."""
    offload: Literal["none", "optimizer"] = "none"
    """With fsdp, what lies in the memory of the CPU: nothing, or the masters, their gradients and the optimiser's
    averages, where AdamW then computes too."""
    shard_within: int | None = Field(None, ge=1)
    """Processes of a group inside which shards lie, for example those of a machine; groups hold the same (HSDP). Null
    cuts over all processes."""
    timeout: float = Field(1800.0, gt=0)
    """Seconds that processes wait for each other at one place before the run ends, naming the place and the missing."""

    @property
    def by_layer(self) -> bool:
        """Whether an update gathers weights layer by layer."""
        return self.strategy == "fsdp" and self.gather == "layer"

    @property
    def at_once(self) -> bool:
        """Whether the gradients of a layer are summed in every backward pass."""
        return self.strategy == "fsdp" and (self.reduce == "micro_batch" or (self.reduce == "auto" and self.by_layer))

    @model_validator(mode="after")
    def _parts_fit(self) -> ParallelConfig:
        if self.strategy != "fsdp":
            for name, plain in (("gather", "step"), ("reduce", "step"), ("offload", "none")):
                if getattr(self, name) not in ("auto", plain):
                    raise ValueError(f"{name} {getattr(self, name)} is of shards; set strategy fsdp too")
        return self
