"""The optimiser in a checkpoint: its averages whole, or in shards beside masters, and from the one to the other.

Decision: a run may go on on other processes and with another strategy, so both forms are read by both. Whole averages
stand in ``trainer.pt`` with the schedule; shards are files of their own, one per process (``parallel/shards.py``), and
``trainer.pt`` then only counts the optimiser's steps.

    averages = Averages(optimizer, shards)
    averages.checkpoint = checkpoint          # before load_state_dict, which may need its shards
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from visual_rft.errors import RunFolderError
from visual_rft.parallel.meetings import by_first
from visual_rft.parallel.shards import Shards
from visual_rft.training.masters import MasterAdamW

SHARDS = "shards"
"""Folder of the shards in a checkpoint."""
NAMES = ("exp_avg", "exp_avg_sq")


@dataclass
class Averages:
    """The state of an optimiser, as a checkpoint holds it.

    Attributes:
        optimizer: over the weights, or over the parts of their masters.
        named: names and weights that learn, in the optimiser's order.
        shards: the masters; None where the optimiser works on the weights themselves.
        checkpoint: that is read.
    """

    optimizer: Optimizer
    named: Sequence[tuple[str, Tensor]]
    shards: Shards | None
    checkpoint: Path | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything, or without what the shards hold."""
        if self.shards is None:
            return dict(self.optimizer.state_dict())
        return {"steps": self._steps(), "rates": [group["lr"] for group in self.optimizer.param_groups]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict` of either form.

        Raises:
            ValueError: if the number of weights is another.
        """
        if "steps" not in state and self.shards is None:
            self.optimizer.load_state_dict(dict(state))
        elif "steps" in state:
            self._from_shards(state)
        else:
            self._into_shards(state)

    def save(self, folder: Path) -> None:
        """Write the shards, in every process.

        Raises:
            RunFolderError: if they cannot be written.
        """
        assert self.shards is not None
        shards = self.shards
        by_first(lambda: shutil.rmtree(folder, ignore_errors=True), "room for the shards")
        parts = shards.parts
        columns = {name: [self.optimizer.state[p].get(name, torch.zeros_like(p)) for p in parts] for name in NAMES}
        _guarded(folder, partial(shards.save, folder, columns))

    def _steps(self) -> int:
        return max((int(state["step"]) for state in self.optimizer.state.values() if "step" in state), default=0)

    def _from_shards(self, state: Mapping[str, Any]) -> None:
        """From the shards of the checkpoint: into masters, or into the weights themselves."""
        assert self.checkpoint is not None
        folder, shards = self.checkpoint / SHARDS, self.shards or Shards(self.named)
        columns = {name: [torch.zeros_like(part) for part in shards.parts] for name in NAMES}
        _guarded(folder, partial(shards.load, folder, columns))
        owners: Sequence[Tensor] = shards.parts
        if self.shards is None:
            owners = [weight for _, weight in self.named]
            columns = {name: shards.whole(parts) for name, parts in columns.items()}
            if isinstance(self.optimizer, MasterAdamW):
                owners = self.optimizer.masters
                for master, whole in zip(owners, shards.whole(shards.parts), strict=True):
                    master.data.copy_(whole.view_as(master))
        self._set(owners, columns, int(state["steps"]))
        for group, rate in zip(self.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate

    def _into_shards(self, state: Mapping[str, Any]) -> None:
        """From whole averages; the masters have been cut out of the weights that were loaded."""
        assert self.shards is not None
        rows, parts = state["state"], self.shards.parts
        if rows and len(rows) != len(parts):
            raise ValueError(f"{len(rows)} tensors are not {len(parts)}")
        if "masters" in state:
            for part, master in zip(parts, self.shards.cut(state["masters"]), strict=True):
                part.data.copy_(master)
            self.shards.spread()
        for group, saved in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            group["lr"] = saved["lr"]
        if rows:
            columns = {name: self.shards.cut([rows[i][name] for i in range(len(rows))]) for name in NAMES}
            self._set(parts, columns, int(rows[0]["step"]))

    def _set(self, owners: Sequence[Tensor], columns: Mapping[str, Sequence[Tensor]], steps: int) -> None:
        for owner, *values in zip(owners, *columns.values(), strict=True):
            count = torch.tensor(float(steps), device=owner.device)
            moved = [value.to(owner.device, owner.dtype).view_as(owner) for value in values]
            self.optimizer.state[owner] = {"step": count, **dict(zip(columns, moved, strict=True))}


def _guarded(folder: Path, call: Callable[[], object]) -> None:
    try:
        call()
    except (OSError, CheckpointException) as error:
        raise RunFolderError(f"{folder}: the shards failed ({' '.join(str(error).split())[:200]})") from error
