"""A large JSON file read row by row: of the 273 MB of COCO's train2017, 230 are polygons that nobody here asks for.

Decision: the rows of the lists that are named are given to a collector as they are read, and what it does not keep is
gone before the next come. Thousands of whole rows at once are offered as text, which a typed decoder reads without
making what nobody asks for (a third of the seconds); rows that it does not take are decoded by the standard library's
own scanner, so that the values, and what is no JSON, are the same as by ``json.loads``. Where the file is anything but
an object with such lists, or is broken, the plain reader has the word and the message.

    content = read_json_rows(Path("annotations.json"), {"annotations": Annotations})
    content["annotations"]                      # an Annotations; other keys as json.loads gives them
"""

from __future__ import annotations

import codecs
import gc
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from json.scanner import make_scanner
from pathlib import Path
from typing import Any, Protocol

from visual_rft.data.formats.reading import read_json
from visual_rft.terminal.progress import Ticker

CHUNK_BYTES = 1 << 22
"""Read at once: a few thousand rows. An unfinished row at the end of a chunk is scanned twice."""
SHOWN_BYTES = 50_000_000
"""From this size on the progress is shown: a second."""
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN_ROWS = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*\{")
TAIL = 1 << 16
"""Characters at the end of a chunk in which the end of its last whole row is looked for."""


class Collector(Protocol):
    """What takes the rows of a list and keeps of each what is needed."""

    def append(self, row: Any, /) -> None:
        """Take one row, of whatever type."""

    def take(self, text: str, /) -> bool:
        """Take all rows of a JSON list; False takes none, and each is then given to :meth:`append`."""


@contextmanager
def no_collection() -> Iterator[None]:
    """No search for reference cycles meanwhile: a million new rows, none of which refers back, cost seconds of it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_json_rows(file: Path, rows: Mapping[str, Callable[[], Collector]], hint: str = "") -> Any:
    """A UTF-8 JSON file as ``read_json`` gives it, but each list named in ``rows`` as the collector that took its rows.

    Args:
        file: what to read.
        rows: by key of the file's object, what makes the collector of a list.
        hint: added to the message if there is no such file.

    Raises:
        DataError: as ``read_json``.
    """
    with no_collection():
        try:
            with file.open("rb") as opened, _progress(file) as read:
                return _Text(opened, read).document(rows)
        except (OSError, ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
            content = read_json(file, hint)  # raises with line and column, unless it is JSON of another shape
        if isinstance(content, dict):
            for key in rows.keys() & content.keys():
                if isinstance(content[key], list):
                    collector = rows[key]()
                    for row in content[key]:
                        collector.append(row)
                    content[key] = collector
        return content


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], object]]:
    """Progress of reading a file that takes seconds; a function that is told where in the file reading is, in bytes."""
    size = file.stat().st_size
    if size < SHOWN_BYTES:
        yield lambda place: None
        return
    with Ticker(size // 1_000_000, f"reading {file.name}", unit="MB") as ticker:
        yield lambda place: ticker.update(place // 1_000_000 - ticker.done)


class _Text:
    """The text of a file, of which only what is being read is in memory."""

    def __init__(self, opened: Any, read: Callable[[int], object]) -> None:
        self._opened, self._read = opened, read
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # the stubs want a scanner
        self._text, self._at, self._ended = "", 0, False
        self._passed = 0  # characters of the file before the text

    def document(self, rows: Mapping[str, Callable[[], Collector]]) -> dict[str, Any]:
        """The object that the whole file is; raises ValueError if it is anything else."""
        content: dict[str, Any] = {}
        self._take("{")
        more = self._next() != "}"
        while more:
            key = self._value()
            if not isinstance(key, str):
                raise ValueError("a key is text")
            if key in content:
                raise ValueError("a key stands twice")  # the plain reader says which
            self._take(":")
            content[key] = self._rows(rows[key]()) if key in rows and self._next() == "[" else self._value()
            more = self._next() == ","
            if more:
                self._take(",")
        self._take("}")
        if self._next():
            raise ValueError("text after the end")
        return content

    def _rows(self, found: Collector) -> Collector:
        self._take("[")
        more = self._next() != "]"
        refused = 0  # rows that begin before this character of the file go one by one
        while more:
            end = self._end_of_rows() if self._passed + self._at >= refused else 0
            if end and found.take(f"[{self._text[self._at : end]}]"):
                self._at = end
            else:
                refused = max(refused, self._passed + end)
                found.append(self._value())
            if self._text.startswith((", {", ",{"), self._at):  # as all tools write it
                self._at = self._text.index("{", self._at)
                continue
            more = self._next() == ","
            if more:
                self._take(",")
        self._take("]")
        return found

    def _end_of_rows(self) -> int:
        """Where the last row that is whole ends in the text, probably; 0 where that is not seen.

        A brace may also stand in a text or deeper. Then what comes before it is no JSON by itself, and is not taken.
        """
        if not self._text.startswith("{", self._at):
            return 0
        ends = [match.start() for match in _BETWEEN_ROWS.finditer(self._text, max(self._at, len(self._text) - TAIL))]
        return ends[-1] + 1 if ends else 0

    def _take(self, mark: str) -> None:
        if self._next() != mark:
            raise ValueError(f"no {mark}")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _value(self) -> Any:
        if not self._text.startswith("{", self._at):
            self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number may go on in the next chunk
                    self._at = end
                    return value
            except (StopIteration, ValueError):
                if self._ended:
                    raise ValueError("no value") from None
            self._more()

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        # Twice what is left, so that one value of many chunks is not scanned once per chunk.
        content = self._opened.read(max(CHUNK_BYTES, 2 * (len(self._text) - self._at)))
        self._ended = not content
        self._read(self._opened.tell())
        self._passed += self._at
        self._text, self._at = self._text[self._at :] + self._decoder.decode(content, self._ended), 0
        return True
