"""Whether the data of a run are still those it was started with.

Decision: cheap enough for every start. Names and sizes of all files count, and the content of everything that is not a
picture (annotations, tables, lists) up to :data:`MAX_HASHED_BYTES` a file: 118,287 pictures take a second, their
273 MB of annotations another. Times do not count, because a copy of a folder has others.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> _ = (folder / "train.jsonl").write_text("{}")
>>> before = fingerprint([SourceConfig(source="jsonl", path=str(folder / "train.jsonl"))])
>>> _ = (folder / "train.jsonl").write_text("[]")
>>> [change.replace(str(folder), "data") for change in changes(before, fingerprint([
...     SourceConfig(source="jsonl", path=str(folder / "train.jsonl"))]))]
['data/train.jsonl: train.jsonl has other content']
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from visual_rft.config.sources import SourceConfig
from visual_rft.errors import DataError
from visual_rft.files import at_home
from visual_rft.vision.images import SUFFIXES

MAX_HASHED_BYTES = 2**29
"""A larger file counts by its size alone; half a GiB takes about a third of a second."""
MAX_NAMED = 200
"""Files whose own checksum is kept, so that a changed one can be named."""


def fingerprint(sources: Sequence[SourceConfig]) -> list[dict[str, Any]]:
    """What the files of each source look like; {} for a source that is made or lies on the hub.

    Raises:
        DataError: if a file cannot be read.
    """
    return [_of(source) for source in sources]


def changes(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for every source that is not what it was; none where nothing has changed."""
    found = []
    nothing: Mapping[str, Any] = {}
    for was, has in zip_longest(before, now, fillvalue=nothing):
        if was == has:
            continue
        path = has.get("path") or was.get("path")
        named = [
            f"{name} {'is gone' if name not in has['content'] else 'has other content'}"
            for name, digest in was.get("content", {}).items()
            if has and has["content"].get(name) != digest
        ]
        if not has or not was:
            what = "is gone" if was else "was not there"
        elif named:
            what = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        elif (was["files"], was["bytes"]) != (has["files"], has["bytes"]):
            what = f"had {was['files']:,} files of {was['bytes']:,} bytes, now {has['files']:,} of {has['bytes']:,}"
        else:
            what = "holds files of other names, sizes or content"
        found.append(f"{path}: {what}")
    return found


def is_fingerprint(row: Any) -> bool:
    """Whether a value of a file is what :func:`fingerprint` says of one source."""
    kinds = (("files", int), ("bytes", int), ("content", dict))
    return isinstance(row, dict) and (not row or all(isinstance(row.get(name), kind) for name, kind in kinds))


def _of(source: SourceConfig) -> dict[str, Any]:
    places = [at_home(text) for text in (source.path, source.annotations) if text]
    if not places or not all(place.exists() for place in places):
        return {}
    count, size = 0, 0
    content: dict[str, str] = {}
    listing = hashlib.sha256()
    try:
        for name, file in _files(places):
            length = file.stat().st_size
            count, size = count + 1, size + length
            listing.update(json.dumps([name, length]).encode())
            if file.suffix.lower() not in SUFFIXES and length <= MAX_HASHED_BYTES:
                with file.open("rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                listing.update(digest.encode())
                if len(content) < MAX_NAMED:
                    content[name] = digest
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return {"path": str(source.path), "files": count, "bytes": size, "all": listing.hexdigest(), "content": content}


def _files(places: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for place in places:
        if place.is_file():
            yield place.name, place
        else:
            yield from ((str(file.relative_to(place)), file) for file in sorted(place.rglob("*")) if file.is_file())
