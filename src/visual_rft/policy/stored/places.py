"""Which folder a model's name means, and which run it came out of. Light: no torch.

model_folder("runs/coins")        # runs/coins/checkpoints/step-000200/model
run_config_file("runs/coins")     # runs/coins/config.yaml
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from functools import cache
from pathlib import Path

from visual_rft.errors import ModelError, printable
from visual_rft.files import at_home
from visual_rft.policy.stored.manifest import MANIFEST, damage

EMBEDDED = Path(__file__).parent.parent.parent / "tiny" / "base"
"""The folder of the embedded default model."""
CHECKPOINT = re.compile(r"step-\d+")
"""Name of a checkpoint's folder."""
RUN_CONFIG = "config.yaml"
"""A run's config in its folder."""
EXPORTED_CONFIG = "visual_rft.yaml"
"""The same in an exported model, where ``config.json`` is the model's."""


class DamagedCheckpointWarning(UserWarning):
    """The newest checkpoint of a run is damaged, and an older one is taken."""


def model_folder(path: str) -> str:
    """The folder or hub id behind a model's name.

    Args:
        path: ``tiny`` (the embedded default), a folder or a hub id. A run folder stands for its newest checkpoint, and
            a checkpoint for its model.

    Returns:
        The folder or hub id. Of a run whose newest checkpoint is damaged it is the newest whole one, with a warning.

    Raises:
        ModelError: if the name looks like a folder and there is no model, or no whole one.
    """
    if path == "tiny":
        return str(EMBEDDED)
    folder = at_home(path)
    for place in (folder, folder / "model"):
        if any((place / name).is_file() for name in ("config.json", "adapter_config.json")):
            checkpoint = place.parent if place.parent.name else Path(os.path.abspath(place)).parent
            problem = _damage_of_model(checkpoint) if CHECKPOINT.fullmatch(checkpoint.name) else None
            if problem is not None:
                raise ModelError(f"model.path: {checkpoint} is damaged ({problem}); take another checkpoint")
            return str(place)
    found: list[str] = []
    for checkpoint in reversed(checkpoints_of(folder)):
        problem = _damage_of_model(checkpoint)
        if problem is None:
            for damaged in found:
                warnings.warn(printable(f"{damaged}; taking {checkpoint.name}"), DamagedCheckpointWarning, stacklevel=2)
            return str(checkpoint / "model")
        found.append(f"{checkpoint} is damaged ({problem})")
    if found:
        raise ModelError(f"model.path: no checkpoint of the run {path!r} is whole: {'; '.join(found)}")
    if (folder / RUN_CONFIG).is_file():
        raise ModelError(f"model.path: the run {path!r} has no checkpoint yet")
    if folder.is_dir() or path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ModelError(f"model.path: {path!r} is not a model folder (use 'tiny', a folder or a hub id)")
    return path


def checkpoints_of(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    found = [place for place in (run / "checkpoints").glob("step-*") if CHECKPOINT.fullmatch(place.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Steps that a checkpoint, or the weights of an evaluation, have behind them."""
    return int(checkpoint.stem.removeprefix("step-"))


def base_of(path: str) -> str:
    """``path``, but the checkpoint's model behind a run folder: the run may write more of them, and its name then means
    another model."""
    return model_folder(path) if run_config_file(path) is not None else path


@cache
def weights_fingerprint(path: str) -> str:
    """16 hex digits of the weights of a local model, so that results say which model they are of.

    Args:
        path: as of :func:`model_folder`.

    Returns:
        The first 16 hex digits of the SHA-256 of its ``safetensors`` files, in the order of their names.

    Raises:
        ModelError: if there is no such model.
    """
    checksum = hashlib.sha256()
    for file in sorted(Path(model_folder(path)).glob("*.safetensors")):
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                checksum.update(block)
    return checksum.hexdigest()[:16]


def _damage_of_model(checkpoint: Path) -> str | None:
    manifest = checkpoint / MANIFEST
    return _damage_once(checkpoint, manifest.stat().st_mtime_ns if manifest.is_file() else 0)


@cache
def _damage_once(checkpoint: Path, written: int) -> str | None:
    """Checksums of a model of 16 GB take ten seconds, and one command asks for its folder several times."""
    return damage(checkpoint, "model")


def run_config_file(path: str) -> Path | None:
    """The config of the run that a model came out of, or None.

    Args:
        path: a run folder, one of its checkpoints or their models, or an exported model. A ``config.yaml`` somewhere
            above another model is somebody's own, and none of a run.
    """
    folder = at_home(path)
    if not folder.is_dir():
        return None
    places = [folder / EXPORTED_CONFIG, *([] if (folder / "config.json").is_file() else [folder / RUN_CONFIG])]
    above = Path(os.path.abspath(folder))
    checkpoint = above.parent if above.name == "model" else above
    for parent in above.parents[:3]:
        of_a_run = CHECKPOINT.fullmatch(checkpoint.name) and checkpoint.parent == parent / "checkpoints"
        if of_a_run or above == parent / "checkpoints" or (parent / "environment.json").is_file():
            places.append(parent / RUN_CONFIG)
    return next((place for place in places if place.is_file()), None)
