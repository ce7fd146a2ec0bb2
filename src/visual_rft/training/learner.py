"""The learning state of a run: the policy, and what changes its weights.

Decision: AdamW with decay on matrices only; the schedule counts optimiser steps, so several updates of one rollout are
several steps of it. Clipping, stepping and the schedule are one call, because no loop wants one without the others.

    learner = Learner.of(policy, config, accelerator)
    learner.policy.backward(prefix, completions, loss)
    norm = learner.optimize()
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler

from visual_rft.config.config import Config
from visual_rft.config.optimizer import OptimizerConfig
from visual_rft.config.parallel import ParallelConfig
from visual_rft.errors import ConfigError, ModelError
from visual_rft.parallel.gathering import ByLayer, layers_of
from visual_rft.parallel.meetings import by_first, sum_gradients
from visual_rft.parallel.processes import here
from visual_rft.parallel.shards import Shards
from visual_rft.policy.policy import Policy
from visual_rft.policy.requirements import require_cuda
from visual_rft.training.masters import MasterAdamW
from visual_rft.training.prompts.history import History
from visual_rft.training.run.averages import Averages
from visual_rft.training.run.checkpoint import load_trainer, save_checkpoint
from visual_rft.training.run.folder import RunFolder


@dataclass
class Learner:
    """The policy and what changes its weights.

    Attributes:
        policy: the model that learns, on this process's device.
        accelerator: knows the trackers.
        optimizer: over the trainable parameters.
        schedule: of the learning rate, in optimiser steps.
        max_grad_norm: length to which a longer gradient is cut.
        shards: the masters, with the strategy fsdp; the optimiser then works on them.
        history: what became of every question, on which it may depend what is asked next.
    """

    policy: Policy
    accelerator: Accelerator
    optimizer: Optimizer
    schedule: LRScheduler
    max_grad_norm: float
    shards: Shards | None = None
    history: History = field(default_factory=History)

    @classmethod
    def of(cls, policy: Policy, config: Config, accelerator: Accelerator, *, supervised: bool = False) -> Learner:
        """Move a policy to its device and make its optimiser, whose schedule ends with the run.

        Args:
            policy: learns.
            config: the whole run.
            accelerator: as it is.
            supervised: whether gold answers are learned, with one update a step whatever ``objective`` says.

        Raises:
            ModelError: if nothing is trainable, or the model is an adapter that was loaded as a model.
            ConfigError: if the optimiser needs a GPU that is not there.
        """
        # Nothing is wrapped: the policy is called outside a ``forward``, and gradients are summed in ``optimize``.
        # Moved first, because an optimiser with copies of the weights makes them where they are.
        policy.to(here().device)
        taught = config.run.steps if supervised else min(config.objective.warm_start, config.run.steps)
        updates = taught + (config.run.steps - taught) * config.objective.updates_per_rollout
        shards = None
        if config.parallel.strategy == "fsdp":
            if config.optimizer.name != "adamw":
                raise ConfigError(f"optimizer.name {config.optimizer.name}: parallel.strategy fsdp shards adamw")
            offload = config.parallel.offload == "optimizer"
            shards = Shards(_learning(policy.model), config.parallel.shard_within, offload=offload)
        optimizer, schedule = make_optimizer(policy.model, config.optimizer, updates, shards)
        policy.budget.optimizer = optimizer
        return cls(policy, accelerator, optimizer, schedule, config.optimizer.max_grad_norm, shards)

    def go_by_layer(self, config: ParallelConfig) -> None:
        """From now on, gather weights and reduce gradients layer by layer in every update, where the config says so.

        Raises:
            ModelError: if the decoder layers are not found.
        """
        if self.shards is not None and (config.by_layer or config.at_once):
            layers = layers_of(self.policy.core)
            by_layer = ByLayer(layers, self.shards, gather=config.by_layer, reduce=config.at_once)
            self.policy.by_layer = by_layer
            self.policy.budget.spare(by_layer.spared_bytes)

    @property
    def device(self) -> torch.device:
        """Where the policy computes."""
        return here().device

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that learn."""
        return [parameter for parameter in self.policy.model.parameters() if parameter.requires_grad]

    @property
    def learning_rate(self) -> float:
        """Of the next optimiser step."""
        return float(self.schedule.get_last_lr()[0])

    @property
    def summary(self) -> str:
        """The model, how much of it learns, where, and how prompts are computed."""
        parameters = list(self.policy.model.parameters())
        return (
            f"{self.policy.model_config.model_type}, {_millions(parameters)} parameters, "
            f"{_millions([p for p in parameters if p.requires_grad])} of them trained, on {self.device}, "
            f"{self.policy.engine_summary}"
        )

    def optimize(self) -> float:
        """One optimiser step on the gradients of all processes, clipped; returns their norm before clipping.

        Where the norm is not finite the weights and the optimiser's averages stay as they are: one such step would make
        all of them NaN. The schedule goes on, so that it ends with the run.
        """
        norm = self._clipped()
        if math.isfinite(norm):
            self.optimizer.step()
            if self.shards is not None:
                self.shards.spread()
            self.policy.updates += 1
        self.optimizer.zero_grad()
        with warnings.catch_warnings():
            # A schedule that starts with a skipped step says that it came before the optimiser.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step\\(\\)`")
            self.schedule.step()
        return norm

    def _clipped(self) -> float:
        """Sum the gradients of all processes and cut their length; returns what it was."""
        if self.shards is None:
            sum_gradients(self.trained)
            return float(torch.nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm))
        norm = self.shards.reduce()
        if math.isfinite(norm) and norm > self.max_grad_norm:
            self.shards.scale(self.max_grad_norm / (norm + 1e-6))  # as torch.nn.utils.clip_grad_norm_
        return norm

    def save(self, folder: RunFolder, steps_done: int) -> Path:
        """Write a checkpoint, in every process; returns its folder.

        Raises:
            RunFolderError: if it cannot be written.
        """
        shards = None
        if self.shards is not None:
            shards = folder.path / "checkpoints" / f"step-{steps_done:06d}.unfinished-shards"
            self.averages.save(shards)
        state = {name: part.state_dict() for name, part in self._state.items()}
        made = partial(save_checkpoint, folder, self.policy, state, steps_done)
        return by_first(made if shards is None else partial(made, shards), "the checkpoint")

    def restore(self, checkpoint: Path) -> int:
        """Go on with what a checkpoint holds besides the policy, which was loaded from it; returns the steps done.

        The learning rate is that of this run's schedule after those steps: where more steps were asked for than the
        checkpoint's run had, that of the longer one.

        Raises:
            RunFolderError: if the checkpoint is broken.
        """
        self.averages.checkpoint = checkpoint
        done = load_trainer(checkpoint, self._state)
        assert isinstance(self.schedule, LambdaLR)
        done_updates, peaks = self.schedule.last_epoch, self.schedule.base_lrs
        rates = [peak * share(done_updates) for peak, share in zip(peaks, self.schedule.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.schedule._last_lr = rates
        return done

    @property
    def _state(self) -> dict[str, Any]:
        return {"optimizer": self.averages, "schedule": self.schedule, "history": self.history}

    @cached_property
    def averages(self) -> Averages:
        """The optimiser, as checkpoints hold it."""
        return Averages(self.optimizer, _learning(self.policy.model), self.shards)


def make_optimizer(
    model: Any, config: OptimizerConfig, steps: int, shards: Shards | None = None
) -> tuple[Optimizer, LRScheduler]:
    """The optimiser over the trainable parameters, and a schedule of ``steps`` optimiser steps.

    Args:
        model: whose parameters learn.
        config: how.
        steps: optimiser steps of the run.
        shards: masters of the parameters, on which the optimiser works instead.

    Raises:
        ModelError: if nothing is trainable, or the model is an adapter that was loaded as a model.
        ConfigError: if the optimiser needs a GPU that is not there, or would lose the updates.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "model.path: is an adapter, which can be evaluated but not trained on; merge it first (visual-rft export "
            "RUN --out FOLDER) and train from that folder"
        )
    trainable = [weight for _, weight in _learning(model)]
    if not trainable:
        raise ModelError("no parameter is trainable; check model.freeze_vision and model.lora")
    owners = trainable if shards is None else shards.parts
    matrices = [owner for owner, weight in zip(owners, trainable, strict=True) if weight.ndim >= 2]
    vectors = [owner for owner, weight in zip(owners, trainable, strict=True) if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    common: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "weight_decay": 0.0}
    used = [group for group in groups if group["params"]]
    coarse = shards is None and any(p.element_size() < 4 for p in trainable)
    if config.name == "adamw_8bit":
        if coarse:
            raise ConfigError(
                "optimizer.name: 'adamw_8bit' would lose updates of 1e-6 in bfloat16 weights; use adamw, which keeps "
                "them in float32 too, or model.dtype float32"
            )
        require_cuda("optimizer.name", config.name, package="bitsandbytes", instead="adamw")
        import bitsandbytes

        optimizer: Optimizer = bitsandbytes.optim.AdamW8bit(used, **common)
    else:
        kind = MasterAdamW if coarse else torch.optim.AdamW
        optimizer = kind(used, **common, fused=True)  # one kernel for all tensors
    schedule = get_scheduler(config.schedule, optimizer, config.warmup_steps, max(steps, config.warmup_steps + 1))
    return optimizer, schedule


def _learning(model: Any) -> list[tuple[str, Tensor]]:
    """Names and parameters that learn, in the order of the optimiser: matrices, then vectors."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return sorted(named, key=lambda pair: pair[1].ndim < 2)


def _millions(parameters: Sequence[Tensor]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"
