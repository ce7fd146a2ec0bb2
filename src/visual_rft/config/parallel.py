"""How the processes of a run share it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visual_rft.config.sections import Section


class ParallelConfig(Section):
    """What several processes share, and how long they wait for each other (docs/scaling.md)."""

    strategy: Literal["replicated", "fsdp"] = "replicated"
    """Every process holds everything and gradients are summed; or weights in float32, gradients and the optimiser's
    averages are cut into shards, a part per process, and computing goes on with gathered weights."""
    shard_within: int | None = Field(None, ge=1)
    """Processes of a group inside which shards lie, for example those of a machine; groups hold the same (HSDP). Null
    cuts over all processes."""
    timeout: float = Field(1800.0, gt=0)
    """Seconds that processes wait for each other at one place before the run ends, naming the place and the missing."""
