"""Text files that are there whole or not at all, and JSON and YAML in them.

Decision: what others read while a run goes on (status, metrics, the report, a finished run of the evidence) is written
under another name beside it and then renamed, so that a reader or a crash never meets half of it. What grows line by
line is appended and closed, so that a crash loses no line. The caller names the error that its users know. What is
read may come from a stranger: nesting, size and repetition (YAML's aliases) are bounded.

    write_whole(Path("runs/demo/status.json"), "{}")
    write_json(Path("out/result.json"), {"AP": 0.5}, DataError)
    append_json_lines(Path("out/answers.jsonl"), [{"id": "a"}], DataError)
    read_yaml(Path("runs/demo/config.yaml"), ConfigError)
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from visual_rft.errors import RunFolderError, VisualRFTError

MAX_YAML_BYTES = 4_000_000
"""A config has about ten thousand; YAML is read at about half a million bytes a second."""
MAX_YAML_VALUES = 200_000
"""Values of a YAML file once its aliases are written out; nine lines of aliases can stand for a billion."""
MAX_YAML_DEPTH = 200
"""Open brackets of a YAML file, those in quotes too: the time that its reader takes rises with their square."""
MAX_NUMBER = 2**1023
"""Greatest integer of a JSON file; a float holds it."""
MAX_DEPTH = 60
"""Lists and objects within each other; what this package writes has about ten."""


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


def read_yaml(file: Path, error: type[VisualRFTError]) -> Any:
    """What a YAML file holds, as plain values; UTF-8, or UTF-16 if it says so (a redirection in PowerShell does).

    Raises:
        VisualRFTError: of the class ``error``, if the file cannot be read, is no YAML, is nested too deeply, or stands
            for more values than a config can have.
    """
    import yaml  # here, because a reward needs this module but no YAML

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise error(f"{file}: has more than {MAX_YAML_BYTES:,} bytes; a config is a few lines of text")
        text = _text(content)
        depth = 0
        for bracket in re.finditer(r"[\[\]{}]", text):
            depth = max(0, depth + (1 if bracket[0] in "[{" else -1))
            if depth > MAX_YAML_DEPTH:
                raise RecursionError
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > MAX_YAML_VALUES:
                raise error(f"{file}: stands for more than {MAX_YAML_VALUES:,} values once its aliases are written out")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise error(f"{file}: is nested too deeply, or holds itself; a config has a few levels") from None
    except OSError as cause:
        raise error(f"{file}: cannot be read ({cause.strerror})") from None
    except UnicodeError:
        raise error(f"{file}: cannot be read as text; save it as UTF-8") from None
    except (ValueError, yaml.YAMLError) as cause:
        raise error(f"{file}: not valid YAML ({' '.join(str(cause).split())})") from None


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _values(node: Any, known: dict[int, int]) -> int:
    """Values below a YAML node, each alias counted as what it stands for; a node within itself recurses."""
    if id(node) not in known:
        pairs = node.value if isinstance(node.value, list) else []
        inner = [part for pair in pairs for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]


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
