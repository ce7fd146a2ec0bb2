"""What a checkpoint holds, by size and checksum, so that a damaged one is known before it is used.

Decision: a renamed folder proves that writing ended, not that the bytes are still there: a disk that fills, a cut copy
or a flipped bit leave a folder that loads, with other weights. So the last file of a checkpoint lists all others with
their SHA-256 (about 1.5 GB a second on one core), and whoever reads a checkpoint compares.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> _ = (folder / "weights").write_bytes(b"1234")
>>> write_manifest(folder)
>>> damage(folder) is None
True
>>> _ = (folder / "weights").write_bytes(b"1204")
>>> damage(folder)
'weights: its content is not what was written'
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

fcntl: Any = None
with suppress(ImportError):  # Windows
    import fcntl

MANIFEST = "manifest.json"
WINDOWS = os.name == "nt"


def write_manifest(folder: Path) -> None:
    """List every file below ``folder`` in ``manifest.json``, and bring all of them to the disk.

    Raises:
        OSError: if a file cannot be read, written or synced.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    rows = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _digest(file)} for file in files
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": rows}, indent=2) + "\n", encoding="utf-8")
    for path in (*files, manifest, *(place for place in folder.rglob("*") if place.is_dir()), folder):
        sync(path)


def damage(checkpoint: Path, part: str = "") -> str | None:
    """What is wrong with a checkpoint, naming the file; None if every byte is as it was written.

    Args:
        checkpoint: a folder with a manifest.
        part: only files below this folder of it, e.g. ``model``; the empty text means all.
    """
    try:
        content = json.loads((checkpoint / MANIFEST).read_bytes())
        rows: dict[str, dict[str, Any]] = content["files"]
        wanted = {name: (int(row["bytes"]), str(row["sha256"])) for name, row in rows.items()}
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in wanted):
            raise ValueError("a name that leads outside")
    except FileNotFoundError:
        return f"{MANIFEST}: is missing"
    except OSError as error:
        return f"{MANIFEST}: cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST}: is not what was written"
    for name, (size, digest) in wanted.items():
        if part and not name.startswith(f"{part}/"):
            continue
        file = checkpoint / name
        try:
            if file.stat().st_size != size:
                return f"{name}: has {file.stat().st_size:,} bytes instead of {size:,}"
            if _digest(file) != digest:
                return f"{name}: its content is not what was written"
        except FileNotFoundError:
            return f"{name}: is missing"
        except OSError as error:
            return f"{name}: cannot be read ({error.strerror})"
    return None


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk.

    Raises:
        OSError: if the file system reports that it could not.
    """
    if WINDOWS and path.is_dir():  # which cannot be opened there; NTFS keeps a journal of names
        return
    handle = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the disk's own cache
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)
    finally:
        os.close(handle)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
