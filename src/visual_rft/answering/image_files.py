"""Which image files are meant, and what they are called in what is written about them. Imports no torch.

>>> free_names([Path("a/1.jpg"), Path("b/1.jpg")]).values()
dict_values(['1.png', '1-2.png'])
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visual_rft.data.formats.coco_results import read_ground_truth
from visual_rft.errors import DataError
from visual_rft.vision.drawing import is_drawn
from visual_rft.vision.images import SUFFIXES


def find_images(names: Sequence[str]) -> list[Path]:
    """Image files by file, folder (with all below it) or pattern, each once, folders and patterns sorted.

    Answers that were drawn before are passed over, unless they are named themselves.

    Raises:
        DataError: if a file is not there, or a folder or pattern holds no image.
    """
    found: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_image(file))
        elif path.exists():
            files = [path]
        elif glob.has_magic(name):
            files = sorted(file for file in map(Path, glob.glob(name, recursive=True)) if _is_image(file))
        else:
            raise DataError(f"{name}: no such image file")
        if not files:
            raise DataError(f"{name}: holds no image ({', '.join(sorted(SUFFIXES))})")
        found |= {place: file for file in files if (place := os.path.abspath(file)) not in found}
    return list(found.values())


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file() and not is_drawn(file)


class Numbering:
    """COCO ids of files and categories: counted from 1, or those of the user's annotations.

    Raises:
        DataError: if a file or category is not in the annotations, or two files are the same image of them.
    """

    def __init__(self, files: Sequence[Path], asks: Sequence[str], annotations: Path | None) -> None:
        self.images: dict[Path, Any] = {file: number for number, file in enumerate(files, 1)}
        self.categories: dict[str, Any] = {ask: number for number, ask in enumerate(asks, 1)}
        if annotations is None:
            return
        truth = read_ground_truth(annotations)
        names = {str(row.get("file_name")): row["id"] for row in truth["images"]}
        known = {str(row.get("name")): row["id"] for row in truth["categories"]}
        taken: dict[Any, Path] = {}
        for file in files:
            parts = file.resolve().parts
            tails = ("/".join(parts[i:]) for i in range(len(parts)))
            identity = next((names[tail] for tail in tails if tail in names), None)
            if identity is None:
                raise DataError(f"{file}: is not among the images of {annotations}")
            if identity in taken:
                raise DataError(
                    f"{file}: is called as {taken[identity]} is in {annotations}; ask about one of them, or write "
                    "file_name there with its folder"
                )
            self.images[file], taken[identity] = identity, file
        for ask in asks:
            if ask not in known:
                raise DataError(f"--ask {ask!r}: is not a category of {annotations} ({', '.join(list(known)[:10])})")
            self.categories[ask] = known[ask]


def free_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name of its own for each picture: its file's stem, numbered where several are equal."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.lower())
        names[file] = f"{name}.png"
    return names
