"""Which files are the images of a data set: names written in it looked up in its folders, and folders walked through.

Decision: a folder is listed once, so that a hundred thousand names cost one look at the disk. A name that is not there
as it is written is tried as other tools and systems write it (``images\\a.png``, ``my%20photo.png``, an accent as one
character or two). A name that leads out of the folders is refused, because data come from strangers; symbolic links
are followed, because they are the user's own. Hidden files (``.DS_Store``, ``._a.jpg``) are nobody's data.

>>> Images(Path("nowhere")).find(["a.png"], "a.json: image 1") is None
True
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from visual_rft.data.formats.reading import Problems
from visual_rft.errors import DataError
from visual_rft.vision.drawing import is_drawn
from visual_rft.vision.images import ImageFile, is_image

OUR_FILES = ("metadata.jsonl", "metadata.csv", "Thumbs.db", "desktop.ini", "classes.txt")
"""Files beside images that are no images and that nobody misses."""


def inside(root: Path, name: str, where: str) -> Path:
    """The file ``name`` of a data set in the folder ``root``.

    Raises:
        DataError: if the name leads out of the folder (``../x``, ``/etc/x``).
    """
    path = _below(os.path.abspath(root), name)
    if path is None:
        raise DataError(f"{where}: the name {name!r} leads outside the folder {root}; only images inside it are opened")
    return root / path


def _below(top: str, name: str) -> str | None:
    """``name`` relative to the absolute path ``top``; None if it leads out of it."""
    path = os.path.normpath(os.path.join(top, name))
    if "\0" in name or not (path == top or path.startswith(top.rstrip(os.sep) + os.sep)):
        return None
    return os.path.relpath(path, top)


class Images:
    """The image files below some folders, by the names that a data set gives them.

    Args:
        roots: where names may begin, the likeliest first; the whole data set lies in these.
    """

    def __init__(self, *roots: Path) -> None:
        self.roots = roots
        self._tops = [os.path.abspath(root) for root in roots]
        self._listed: dict[str, frozenset[str]] = {}
        self._same: dict[str, dict[str, str]] = {}
        self._nearly: dict[str, dict[str, str]] = {}

    def find(self, names: Iterable[str], where: str) -> ImageFile | None:
        """The first of ``names`` that is a file, or None.

        Raises:
            DataError: if a name leads out of every folder; the message begins with ``where``.
        """
        names = list(names)
        for name in names:
            if (found := self._exactly(name, where)) is not None:
                return found
        for name in names:
            if (found := self._otherwise(name)) is not None:
                return found
        return None

    def hint(self, name: str) -> str:
        """The end of a message about a name that was not found: the file of nearly this name, if there is one."""
        base = os.path.basename(name.replace("\\", "/"))
        for root, top in zip(self.roots, self._tops, strict=True):
            if top not in self._nearly:
                files = sorted(self._files(top), reverse=True)
                self._nearly[top] = {os.path.splitext(file)[0].casefold(): file for file in files}
                self._nearly[top] |= {file.casefold(): file for file in files}
            nearly = self._nearly[top]
            close = nearly.get(base.casefold()) or nearly.get(os.path.splitext(base)[0].casefold())
            if close is not None:
                return f"; did you mean {str(root / close)!r}?"
        return ""

    def _exactly(self, name: str, where: str) -> ImageFile | None:
        # Nearly every name is a file of a folder: nothing to normalise, and nowhere to lead to.
        plain = "/" not in name and "\0" not in name and name not in ("", ".", "..")
        outside = True
        for root, top in zip(self.roots, self._tops, strict=True):
            if plain:
                if name in self._files(top):
                    return ImageFile(root / name)
                outside = False
                continue
            path = _below(top, name)
            outside = outside and path is None
            if path is not None and self._holds(top, path):
                return ImageFile(root / path)
        if outside and os.path.isabs(name):  # the same folder by another spelling, e.g. through a link
            real = os.path.realpath(name)
            for root, top in zip(self.roots, self._tops, strict=True):
                path = _below(os.path.realpath(top), real)
                if path is not None and "\0" not in name and self._holds(top, path):
                    return ImageFile(root / path)
        if outside:
            raise DataError(
                f"{where}: the name {name!r} leads outside the folder {self.roots[0]}; only images inside it are opened"
                + self.hint(name)
            )
        return None

    def _otherwise(self, name: str) -> ImageFile | None:
        """The file that is meant by a name of another system, or written as in a URL."""
        for spelled in dict.fromkeys((name, unquote(name), name.replace("\\", "/"), unquote(name.replace("\\", "/")))):
            for root, top in zip(self.roots, self._tops, strict=True):
                path = _below(top, spelled)
                if path is None:
                    continue
                if self._holds(top, path):
                    return ImageFile(root / path)
                folder, base = os.path.split(path)
                same = self._names(os.path.join(top, folder)).get(unicodedata.normalize("NFC", base))
                if same is not None:
                    return ImageFile(root / folder / same)
        return None

    def _holds(self, top: str, path: str) -> bool:
        folder, base = os.path.split(path)
        return base in self._files(os.path.join(top, folder) if folder else top)

    def _files(self, folder: str) -> frozenset[str]:
        """Names of the files of a folder, none if there is no such folder; looked up once."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = frozenset(entry.name for entry in entries if entry.is_file())
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

    def _names(self, folder: str) -> dict[str, str]:
        """The same by their composed form (NFC), for the names that have another."""
        if folder not in self._same:
            files = sorted(self._files(folder))
            self._same[folder] = {unicodedata.normalize("NFC", name): name for name in files if not name.isascii()}
        return self._same[folder]


def files_under(folder: Path) -> Iterator[Path]:
    """Every file in a folder and its subfolders, sorted; links are followed, each folder once; hidden ones passed over.

    A link that leads nowhere is passed over as well.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return iter(sorted(path for path in found if path.is_file()))


def images_under(folder: Path, problems: Problems) -> Iterator[Path]:
    """Every image file in a folder and its subfolders, sorted; other files are counted and named.

    Pictures that this package drew (answers, contact sheets) are no data and passed over.
    """
    for path in files_under(folder):
        if is_image(path):
            if not is_drawn(path):
                yield path
        elif path.name not in OUR_FILES:
            problems.leave_out("file that is not an image", str(path))


def files_ending(folder: Path, suffix: str) -> Sequence[Path]:
    """What lies in a folder and ends in ``suffix``, in capitals too, sorted; nothing where there is no such folder.

    Hidden files are passed over: macOS leaves ``._a.xml`` beside ``a.xml`` on disks of others.
    """
    inner = folder.iterdir() if folder.is_dir() else ()
    return sorted(file for file in inner if file.suffix.lower() == suffix and not file.name.startswith("."))
