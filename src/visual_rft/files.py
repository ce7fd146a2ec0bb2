"""Text files that are there whole or not at all, and JSON in them.

Decision: what others read while a run goes on (status, metrics, the report, a finished run of the evidence) is written
under another name beside it and then renamed, so that a reader or a crash never meets half of it. What grows line by
line is appended and closed, so that a crash loses no line. The caller names the error that its users know. What is
read may come from a stranger: nesting and size are bounded.

    write_whole(Path("runs/demo/status.json"), "{}")
    write_json(Path("out/result.json"), {"AP": 0.5}, DataError)
    append_json_lines(Path("out/answers.jsonl"), [{"id": "a"}], DataError)
    json_or_nothing(Path("runs/demo/summary.json"))
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from visual_rft.errors import RunFolderError, VisualRFTError

MAX_NUMBER = 2**1023
"""Greatest integer of a JSON file; a float holds it."""
MAX_DEPTH = 60
"""Lists and objects within each other; what this package writes has about ten."""


def at_home(path: str | Path) -> Path:
    """A path whose ``~`` is the home folder; one of a user that there is not stays as it is, where pathlib raises."""
    return Path(os.path.expanduser(path))


def write_whole(
    file: Path, text: str, error: type[VisualRFTError] = RunFolderError, *, make_folder: bool = False
) -> None:
    """Write a file in UTF-8; what was there before stays until the new one is complete.

    Args:
        file: path of the file; a link, pipe or device is written through, not replaced.
        text: what the file will hold.
        error: class of the error that is raised.
        make_folder: make the folders above it where they are missing; else a missing folder is an error.

    Raises:
        VisualRFTError: of the class ``error``, if the file cannot be written.
    """
    replaceable = not file.is_symlink() and (file.is_file() or not file.exists())
    unfinished = file.with_name(file.name + ".unfinished") if replaceable else file
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8") as opened:
            opened.write(text)
            if replaceable:  # or a loss of power leaves the new name with nothing in it
                opened.flush()
                os.fsync(opened.fileno())
        if replaceable:
            unfinished.replace(file)
    except OSError as cause:
        raise error(f"{file}: cannot be written ({cause.strerror})") from cause
    except UnicodeEncodeError as cause:  # of a file's name that is no UTF-8, or half a character of a model's text
        raise error(f"{file}: cannot be written ({cause.object[cause.start : cause.end]!r} is no text)") from cause
    finally:
        if replaceable:
            with suppress(OSError):  # half a file keeps a full disk full
                unfinished.unlink(missing_ok=True)


def write_json(file: Path, content: Any, error: type[VisualRFTError]) -> None:
    """Write JSON as :func:`write_whole` does, with the folders above it: an object indented, a list on one line.

    Args:
        file: path of the file.
        content: JSON-able value.
        error: class of the error that is raised.

    Raises:
        VisualRFTError: of the class ``error``, if the file cannot be written.
    """
    text = json.dumps(content, indent=None if isinstance(content, list) else 2) + "\n"
    write_whole(file, text, error, make_folder=True)


def append_json_lines(
    file: Path, rows: Sequence[Mapping[str, Any]], error: type[VisualRFTError], *, make_folder: bool = False
) -> None:
    """Append one line per row and close the file.

    Args:
        file: path of the file; made if it is missing.
        rows: JSON-able objects.
        error: class of the error that is raised.
        make_folder: make the folders above it where they are missing; else a missing folder is an error.

    Raises:
        VisualRFTError: of the class ``error``, if the file cannot be written.
    """
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write("".join(json.dumps(row) + "\n" for row in rows))
    except OSError as cause:
        raise error(f"{file}: cannot be written ({cause.strerror})") from cause


def parse_json(text: bytes | str) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: if it is none, is nested more than :data:`MAX_DEPTH` deep, or holds an integer that no float can
            hold: either would stop whoever works with it.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return value
        values = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in values if isinstance(inner, (dict, list))]
        if any(isinstance(inner, int) and not -MAX_NUMBER <= inner <= MAX_NUMBER for inner in values):
            raise ValueError("a number that is too large")
    raise ValueError("nested too deeply")


def json_or_nothing(file: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none or it cannot be read, because what it holds is not needed."""
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
