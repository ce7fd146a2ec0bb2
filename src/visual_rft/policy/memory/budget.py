"""How much memory there is: of the card that a run is for, and free for activations when it starts.

Decision: what the first steps will allocate (gradients, the optimiser's averages, autocast's copies of the matrices) is
taken off what is free, but not what is there already: a resumed run has its averages before it asks, and averages of 8
bits take a quarter. Asked once, so that every step has the same plan.

    budget = Budget(EngineConfig(), optimizer)
    budget.limit_bytes(policy.model, copied_bytes)
"""

from __future__ import annotations

from typing import Any

import psutil
import torch
from torch.optim import Optimizer

from visual_rft.config.config import Config
from visual_rft.config.sections import EngineConfig

ACTIVATION_SHARE = 0.6
"""Share of the free memory that activations may take when no limit is given; the rest is for what is not counted."""
USABLE_SHARE = 0.97
"""Share of a card that tensors can have; the context of CUDA takes half a GB, and gaps between tensors the rest."""
AVERAGES_BYTES = {"adamw": 8.0, "adamw_8bit": 2.0}
"""Bytes of the two averages per parameter that learns, by ``optimizer.name``: float32 or 8 bits."""


class Budget:
    """Bytes that activations of a policy may take, and how much of it has turned out not to fit.

    Args:
        config: settings of the engine, which may give a limit.

    Attributes:
        optimizer: what changes the weights; None counts an AdamW that has not begun.
        most_completions: completions of an update at once, once memory has run out; None while it has not.
        most_answers: prompts answered at once in an evaluation, likewise.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.optimizer: Optimizer | None = None
        self.most_completions: int | None = None
        self.most_answers: int | None = None
        self._limit_bytes: float | None = None
        self._spared_bytes = 0.0

    def spare(self, spared_bytes: float) -> None:
        """Count on so many bytes more than what the model and its gradients would leave, because an update does without
        some of them."""
        self._spared_bytes, self._limit_bytes = spared_bytes, None

    def limit_bytes(self, model: Any, copied_bytes: float) -> float:
        """The limit of the config, or a share of what was free when it was first asked for.

        Args:
            model: the model that learns.
            copied_bytes: bytes of the matrices that autocast will copy.
        """
        if self._limit_bytes is None:
            given = self.config.memory_gib
            lost_bytes = copied_bytes - self._spared_bytes
            self._limit_bytes = given * 2**30 if given else free_memory(model, self.optimizer, lost_bytes)
        return self._limit_bytes

    def answer_bytes(self, device: torch.device) -> float:
        """What prompts that are answered at once may take now."""
        given = self.config.memory_gib
        return given * 2**30 if given else ACTIVATION_SHARE * free_bytes(device)


def free_memory(model: Any, optimizer: Optimizer | None = None, copied_bytes: float = 0.0) -> float:
    """Bytes that activations of ``model`` may take on its device: a share of what is free after the first steps."""
    parameters = list(model.parameters())
    return ACTIVATION_SHARE * max(
        0.0, free_bytes(parameters[0].device) - owed_bytes(model, optimizer) - copied_bytes
    )  # fmt: skip


def owed_bytes(model: Any, optimizer: Optimizer | None = None) -> float:
    """Bytes of the gradients and of the optimiser's state that the first steps will still allocate."""
    learning = [p for p in model.parameters() if p.requires_grad]
    gradients = float(sum(p.numel() * p.element_size() for p in learning if p.grad is None))
    averages = AVERAGES_BYTES["adamw_8bit" if type(optimizer).__name__ == "AdamW8bit" else "adamw"]
    state = [] if optimizer is None else [x for one in optimizer.state.values() for x in one.values()]
    held = sum(x.numel() * x.element_size() for x in state if torch.is_tensor(x) and x.numel() > 1)
    # What the optimiser works on, which may be a part of every weight, and elsewhere (parallel.strategy fsdp).
    owners = learning if optimizer is None else [p for group in optimizer.param_groups for p in group["params"]]
    if owners and owners[0].device != learning[0].device:
        return gradients
    return gradients + max(0.0, float(averages * sum(p.numel() for p in owners) - held))


def free_bytes(device: torch.device) -> float:
    """Bytes that can still be allocated on a device, what PyTorch keeps for itself included."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    return float(psutil.virtual_memory().available)


def card_bytes(config: Config) -> float | None:
    """Bytes that tensors can have on the card that a run is for: the one of the config, or this machine's; None without
    either."""
    if config.engine.card_gib is not None:
        return USABLE_SHARE * config.engine.card_gib * 2**30
    return USABLE_SHARE * torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
