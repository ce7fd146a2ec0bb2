"""The folder of an evaluation: one for the same settings, so that an interrupted one is found again.

claim(Path("runs/demo-evaluation/tiny-asked-0a1b2c3d"), settings)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.errors import RunFolderError
from visual_rft.files import parse_json, write_json
from visual_rft.policy.stored.places import model_folder


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or find it made for the same settings.

    Raises:
        RunFolderError: if it is another evaluation's or cannot be written.
    """
    file = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            before, now = parse_json(file.read_bytes()), json.loads(json.dumps(settings))
            if not isinstance(before, dict):
                raise ValueError("not an object")
            # A setting that only one of them names (tiles, constrained) is another one, too.
            changed = [key for key in (*now, *before) if before.get(key) != now.get(key)]
            if changed:
                raise RunFolderError(
                    f"{folder}: holds an evaluation with another {changed[0]!r}; choose another --folder, or delete it"
                )
        elif (folder / "answers.jsonl").exists() or any(folder.iterdir()):
            raise RunFolderError(f"{folder}: is not empty and holds no evaluation; choose another --folder")
        else:
            write_json(file, settings, RunFolderError)
    except ValueError:
        raise RunFolderError(f"{file}: not what an evaluation writes; choose another --folder, or delete it") from None
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be used ({error.strerror})") from None


def slug(model: str) -> str:
    """The last parts of a model's path as a file name."""
    parts = [part for part in Path(model).parts if part not in ("/", "..", ".", "model")]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts[-2:])) or "model"


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Eight characters that stand for settings, for the name of their folder."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def weights_of(path: str) -> list[list[Any]]:
    """Name, size and time of every weights file of a local model: a model trained again is another model.

    Empty for a model that is not in a folder.
    """
    folder = Path(model_folder(path))
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
