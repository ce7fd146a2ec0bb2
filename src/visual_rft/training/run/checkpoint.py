"""Checkpoints: a model folder that plain transformers (or peft) loads, and the optimiser beside it.

Decision: batch order and sampling depend on the seed and the step alone, so a checkpoint holds no generator state; the
optimiser is read with ``weights_only``, which runs no code from the file. A checkpoint is written under another name,
listed with checksums (``policy/stored/manifest.py``), brought to the disk and then renamed. Whoever goes on from one
compares the checksums first, and takes the newest that is whole.

    save_checkpoint(folder, policy, {"optimizer": optimizer, "schedule": schedule}, step=40)  # checkpoints/step-000040
    newest_whole(folder.checkpoints(), print)
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from visual_rft.errors import RunFolderError
from visual_rft.policy.policy import Policy
from visual_rft.policy.stored.manifest import damage, sync, write_manifest
from visual_rft.training.run.folder import RunFolder


def save_checkpoint(
    folder: RunFolder, policy: Policy, learning: Mapping[str, Any], step: int, shards: Path | None = None
) -> Path:
    """Write ``checkpoints/step-N`` after ``step`` steps; returns its path.

    Args:
        folder: of the run.
        policy: whose weights are written.
        learning: state of whatever else decides how the run goes on, by name.
        step: steps done.
        shards: folder of shards that all processes have written; it becomes a part of the checkpoint.

    Raises:
        RunFolderError: if it cannot be written, in which case nothing of it stays on the disk, or if a weight is not
            finite.
    """
    final = folder.path / "checkpoints" / f"step-{step:06d}"
    for name, parameter in policy.model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise RunFolderError(f"{final}: not written, the weights are lost: {name} is not finite")
    unfinished = final.with_name(final.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        policy.model.save_pretrained(unfinished / "model")
        policy.processor.save_pretrained(unfinished / "model")
        torch.save({**learning, "step": step}, unfinished / "trainer.pt")
        if shards is not None:
            shards.rename(unfinished / "shards")
        write_manifest(unfinished)
        if final.exists():
            delete_checkpoint(final)
        unfinished.rename(final)
        sync(final.parent)
        sync(folder.path)  # in which the first checkpoint has made the folder of all
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise RunFolderError(f"{final}: cannot write this checkpoint ({why}); nothing of it was left") from error
    return final


def newest_whole(checkpoints: Sequence[Path], say: Callable[[str], object]) -> Path | None:
    """The newest checkpoint without damage; None if there is none at all.

    Args:
        checkpoints: oldest first.
        say: told about every damaged one, and what is done instead.

    Raises:
        RunFolderError: if there are checkpoints and none is whole.
    """
    found: list[str] = []
    for checkpoint in reversed(checkpoints):
        problem = damage(checkpoint)
        if problem is None:
            for damaged in found:
                say(f"{damaged}; continuing from {checkpoint.name}")
            return checkpoint
        found.append(f"{checkpoint.name} is damaged ({problem})")
    if found:
        raise RunFolderError(
            f"{checkpoints[0].parent}: {'; '.join(found)}: none is whole; restore one from a copy, or delete "
            "the folder 'checkpoints' and --resume to begin at the base again"
        )
    return None


def prune_checkpoints(checkpoints: Sequence[Path], keep: int, best: Path | None, say: Callable[[str], object]) -> None:
    """Delete all but the newest ``keep`` checkpoints and the best one.

    Args:
        checkpoints: oldest first; the newest has just been written whole.
        keep: how many stay; 0 means all.
        best: stays besides.
        say: told about one that cannot be deleted; it stays, because the newest is whole and the run can go on.
    """
    for checkpoint in checkpoints[:-keep] if keep else ():
        if checkpoint != best:
            try:
                delete_checkpoint(checkpoint)
            except OSError as error:
                say(f"{checkpoint}: cannot be deleted ({error.strerror}); it stays")


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint; half of one never bears its name."""
    doomed = checkpoint.with_name(checkpoint.name + ".unfinished-old")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def load_trainer(checkpoint: Path, learning: Mapping[str, Any]) -> int:
    """Restore the parts of :func:`save_checkpoint`; returns the number of steps done.

    Raises:
        RunFolderError: if the file is missing or broken.
    """
    file = checkpoint / "trainer.pt"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        for name, part in learning.items():
            part.load_state_dict(state[name])
        return int(state["step"])
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise RunFolderError(f"{file}: cannot be read ({' '.join(str(error).split())[:200]})") from error
