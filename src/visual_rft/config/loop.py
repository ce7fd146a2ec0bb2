"""The section ``run`` of a config: the loop, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visual_rft.config.sections import Section


class LoopConfig(Section):
    """The loop and what it leaves behind."""

    folder: str = "runs/train"
    """Run folder; must not exist yet."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Seed of batch order and sampling."""
    steps: int = Field(200, ge=1)
    """Steps of the loop; one optimiser step each, times ``updates_per_rollout``."""
    prompts_per_batch: int = Field(8, ge=1)
    """Prompts of a step, times ``accumulation``; supervised training encodes so many at once."""
    accumulation: int = Field(1, ge=1)
    """Batches per optimiser step. A rollout answers all of them at once, see ``rollout.prompts_at_once``."""
    evaluate_base: bool = True
    """Evaluate before the first step too, which everything after is compared with."""
    evaluate_every: int = Field(0, ge=0)
    """Evaluate every this many steps; 0 evaluates at the end only."""
    evaluation_examples: int = Field(8, ge=0)
    """Held-out questions whose answers every evaluation keeps, for before and after; always the same ones."""
    evaluation_answers: int = Field(1000, ge=0)
    """Held-out questions of whose answers every evaluation keeps a line, for the report's gallery, with a picture of at
    most 256 pixels; evenly spread, always the same ones. 0 keeps none."""
    checkpoint_every: int = Field(0, ge=0)
    """Write a checkpoint every this many steps; 0 writes one at the end only."""
    checkpoint_keep: int = Field(0, ge=0)
    """Keep the newest so many checkpoints; 0 keeps all. An old one goes only when a newer one is whole."""
    best: str | None = None
    """Held-out number by which the best checkpoint is known, e.g. AP, or detection/AP where a run has several tasks: an
    evaluation that is the best so far leaves a checkpoint, which is kept. The greatest is best, of ``mean_error`` the
    least; a minus in front (-loss) means the least of a number of your own. Null does not look."""
    patience: int = Field(0, ge=0)
    """Evaluations in a row that are no better than the best one so far, after which the run stops; 0 goes on to the
    last step."""
    checkpoint_failure: Literal["continue", "stop"] = "continue"
    """What a checkpoint that cannot be written means (a full disk): go on to the next one, or stop. The last one must
    be written in any case."""
    end_time: str | None = None
    """When the run has to be over, e.g. 2026-12-01T08:00; null takes what Slurm says (SLURM_JOB_END_TIME), if
    anything."""
    save_before: float = Field(120.0, ge=0)
    """Seconds before that end at which the run writes a checkpoint and stops, after the step that is going on."""
    rollouts_every: int = Field(1, ge=0)
    """Write the completions of every this many steps; 0 writes none."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Send metrics to these too, e.g. [tensorboard]; each is a package of its own."""
    images_every: int = Field(0, ge=0)
    """Send a few annotated pictures to the trackers every this many steps; 0 sends none."""
    max_unusable: int = Field(100, ge=0)
    """Training questions whose image turns out to be unreadable that are left out, where the sources say ``broken:
    skip``; one more and the run stops."""
    workers: int = Field(0, ge=0)
    """Processes that open and process the images of coming batches; 0 uses a thread."""
    processes: int = Field(1, ge=1)
    """Processes that train together on this machine, one per GPU; a launcher such as torchrun starts more than one of
    them itself, on several machines too."""
    threads: int = Field(0, ge=0)
    """CPU threads of PyTorch; 0 leaves its default."""

    @property
    def prompts_per_step(self) -> int:
        """Prompts of an optimiser step."""
        return self.prompts_per_batch * self.accumulation

    @model_validator(mode="before")
    @classmethod
    def _as_older_runs_have_it(cls, values: Any) -> Any:
        """Every config in a run folder of before has ``checkpoint_best``, which is ``best`` now."""
        if not isinstance(values, Mapping) or "checkpoint_best" not in values:
            return values
        best = values.get("best", values["checkpoint_best"])
        return {**{name: value for name, value in values.items() if name != "checkpoint_best"}, "best": best}

    @model_validator(mode="after")
    def _patience_needs_a_number(self) -> LoopConfig:
        if self.patience and not (self.best and self.evaluate_every):
            raise ValueError(
                "patience counts evaluations without a better number: set best (e.g. AP) and evaluate_every too"
            )
        return self

    @field_validator("end_time")
    @classmethod
    def _a_time(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{value!r} is not a time such as 2026-12-01T08:00") from None
        return value
