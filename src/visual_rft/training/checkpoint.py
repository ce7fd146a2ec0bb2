"""Checkpoints: a model folder that plain transformers (or peft) loads, and the optimiser beside it.

Decision: batch order and sampling depend on the seed and the step alone, so a checkpoint holds no generator state; the
optimiser is read with ``weights_only``, which runs no code from the file. A checkpoint is written under another name
and renamed when it is complete, so one that exists is whole.
"""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from visual_rft.errors import RunFolderError
from visual_rft.policy.policy import Policy
from visual_rft.training.tracking import RunFolder


def save_checkpoint(folder: RunFolder, policy: Policy, optimizer: Any, schedule: Any, step: int) -> Path:
    """Write ``checkpoints/step-N`` after ``step`` steps; returns its path.

    Raises:
        RunFolderError: if it cannot be written.
    """
    final = folder.path / "checkpoints" / f"step-{step:06d}"
    unfinished = final.with_name(final.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        policy.model.save_pretrained(unfinished / "model")
        policy.processor.save_pretrained(unfinished / "model")
        state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "step": step}
        torch.save(state, unfinished / "trainer.pt")
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
    except OSError as error:
        raise RunFolderError(f"{final}: cannot write this checkpoint ({error.strerror})") from error
    return final


def load_trainer(checkpoint: Path, optimizer: Any, schedule: Any) -> int:
    """Restore optimiser and schedule; returns the number of steps done.

    Raises:
        RunFolderError: if the file is missing or broken.
    """
    file = checkpoint / "trainer.pt"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"{file}: cannot be read ({error})") from error
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])
