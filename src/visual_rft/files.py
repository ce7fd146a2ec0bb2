"""A text file that is there whole or not at all.

Decision: what others read while a run goes on (status, metrics, the report, a finished run of the evidence) is written
under another name beside it and then renamed, so that a reader or a crash never meets half of it.

    write_whole(Path("runs/demo/status.json"), "{}")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visual_rft.errors import RunFolderError


def write_whole(file: Path, text: str, *, make_folder: bool = False) -> None:
    """Write a file in UTF-8; what was there before stays until the new one is complete.

    Args:
        file: to write.
        text: what it will hold.
        make_folder: make the folders above it where they are missing; else a missing folder is an error.

    Raises:
        RunFolderError: if it cannot be written.
    """
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise RunFolderError(f"{file}: cannot be written ({error.strerror})") from error


def json_or_nothing(file: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none or it cannot be read, because what it holds is not needed."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
