"""The training loop that all stages of :mod:`visual_rft.tiny.train` share: counted steps, and going on after a break.

Decision: what a step learns is a function of its number (:data:`StepLoss`), and so is the learning rate, so a stage
that was interrupted and goes on ends where the uninterrupted one ends. Every few minutes the parameters, the two
moments of AdamW and the seconds spent are written to one safetensors file.

>>> schedule = Rate(peak=1e-3, warmup=10, flat=0.5, steps=100)
>>> [round(schedule.at(step), 5) for step in (0, 9, 50, 75, 99)]
[0.0001, 0.001, 0.001, 0.0005, 2e-05]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

StepLoss = Callable[[int], tuple[torch.Tensor, Mapping[str, float]]]
"""Step number to its loss and to figures worth printing."""
CHECKPOINT_SECONDS = 180


@dataclass(frozen=True)
class Rate:
    """A learning rate that rises for ``warmup`` steps, stays for a share ``flat`` of all, and falls linearly to 0."""

    peak: float
    warmup: int
    flat: float
    steps: int

    def at(self, step: int) -> float:
        """The rate of step ``step``, counted from 0."""
        left = (self.steps - step) / (self.steps * (1 - self.flat))
        return self.peak * min((step + 1) / self.warmup, 1.0, left)


def device() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learn(
    folder: Path,
    groups: Sequence[tuple[nn.Module, float]],
    rate: Rate,
    step_loss: StepLoss,
    *,
    name: str,
    every: int = 100,
    watch: Callable[[], str] | None = None,
    watch_every: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Train, going on from the checkpoint in ``folder`` if there is one.

    Args:
        folder: where the checkpoint lies while the stage runs.
        groups: modules that learn, each with its factor of the learning rate.
        rate: the schedule, and how many steps there are.
        step_loss: the loss of a step.
        name: of the stage, for the printed lines.
        every: steps between printed lines.
        watch: measures something on held-out scenes and returns a few words about it.
        watch_every: steps between its calls.
        say: takes the lines.

    Returns:
        Steps, and seconds of wall and processor time over all attempts.
    """
    parameters = [[p for p in module.parameters() if p.requires_grad] for module, _ in groups]
    flat = [p for group in parameters for p in group]
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in parameters], betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    file = folder / f"{name}.unfinished.safetensors"
    first, wall, processor = _restore(file, flat, optimizer) if file.exists() else (0, 0.0, 0.0)
    if first:
        say(f"{name} | goes on after step {first}")
    started, busy, saved = time.monotonic(), time.process_time(), time.monotonic()
    figures: dict[str, list[float]] = {}
    for step in range(first, rate.steps):
        for group, (_, factor) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = rate.at(step) * factor
        loss, seen = step_loss(step)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(flat, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        for key, value in {"loss": loss.item(), **seen}.items():
            figures.setdefault(key, []).append(value)
        done = step + 1
        spent = wall + time.monotonic() - started
        if done % every == 0 or done == rate.steps:
            means = " ".join(f"{key} {sum(values) / len(values):.3f}" for key, values in figures.items())
            used = processor + time.process_time() - busy
            say(f"{name} | {done}/{rate.steps} | {spent / 60:.1f} min, {used / 60:.1f} of a core | {means}")
            figures.clear()
        if watch and (done % watch_every == 0 or done == rate.steps):
            say(f"{name} | {done}/{rate.steps} | held out: {watch()}")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            spent, used = wall + time.monotonic() - started, processor + time.process_time() - busy
            _save(file, flat, optimizer, (done, spent, used))
            saved = time.monotonic()
    wall, processor = wall + time.monotonic() - started, processor + time.process_time() - busy
    _save(file, flat, optimizer, (rate.steps, wall, processor))
    return {"steps": rate.steps, "wall_seconds": round(wall, 1), "cpu_seconds": round(processor, 1)}


def _save(
    file: Path, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, spent: tuple[int, float, float]
) -> None:
    tensors = {}
    for number, parameter in enumerate(parameters):
        tensors[f"{number}.value"] = parameter.detach().contiguous()
        state: Mapping[str, Any] = optimizer.state.get(parameter, {})
        tensors |= {f"{number}.{key}": value.contiguous() for key, value in state.items()}
    unfinished = file.with_suffix(".writing")
    save_file(tensors, unfinished, {"spent": json.dumps(spent)})
    unfinished.rename(file)


def _restore(
    file: Path, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[int, float, float]:
    """Put values and moments back; returns the steps done and the seconds of wall and processor time they took."""
    with safe_open(file, "pt") as kept, torch.no_grad():
        for name in kept.keys():  # noqa: SIM118
            number, key = name.split(".")
            parameter = parameters[int(number)]
            value = kept.get_tensor(name)
            if key == "value":
                parameter.copy_(value)
            else:
                optimizer.state[parameter][key] = value.to(parameter.device)
        step, wall, processor = json.loads(kept.metadata()["spent"])
    return step, wall, processor
