"""Writing a data set: a new folder that appears whole or not at all, with the images copied as they are.

Decision: files are written beside the target and moved at the end, so that an interrupted command leaves nothing
that looks finished. Image bytes are copied unchanged (EXIF orientation included); only procedural pictures are encoded.

    with NewFolder.at(Path("out")) as folder:
        folder.write_text("a.txt", "hello")
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.errors import DataError
from visual_rft.vision.images import EncodedImage, ImageFile, ImageReference
from visual_rft.vision.tiles import Tile

_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}


@dataclass
class NewFolder:
    """A folder that is being filled.

    Attributes:
        path: where files are written.
        link: make symbolic links to image files instead of copies.
    """

    path: Path
    link: bool = False
    _names: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def at(cls, target: Path, link: bool = False) -> Iterator[NewFolder]:
        """A folder that becomes ``target`` at the end, or disappears if anything is raised.

        Raises:
            DataError: if ``target`` exists already or cannot be written.
        """
        if target.exists():
            raise DataError(f"{target}: exists already; name a new folder, or delete it")
        partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
        try:
            partial.mkdir(parents=True)
            yield cls(partial, link)
            partial.rename(target)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror or error})") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def add_image(self, image: AnnotatedImage, under: str) -> str:
        """Put an image into the subfolder ``under`` and return its file name there; the same image is put once.

        Raises:
            DataError: if it cannot be opened or is not as large as the data set says.
        """
        picture = image.image
        if isinstance(picture, (ImageFile, EncodedImage)) and image.size != (0, 0) and picture.size() != image.size:
            width, height = picture.size()
            raise DataError(
                f"image {image.id}: the data say {image.size[0]} x {image.size[1]}, but {picture.key} is {width} x "
                f"{height} (upright); boxes would be in the wrong place"
            )
        return self.add_picture(picture, under)

    def add_picture(self, picture: ImageReference, under: str) -> str:
        """As :meth:`add_image`, without a size to compare."""
        place = f"{under}/{picture.key}"
        if place not in self._names:
            self._names[place] = self._copy(picture, under)
        return self._names[place]

    def _copy(self, picture: ImageReference, under: str) -> str:
        folder = self.path / under
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, ImageFile):
            name = self._free(under, picture.path.stem, picture.path.suffix)
            if self.link:
                (folder / name).symlink_to(picture.path.resolve())
            else:
                shutil.copyfile(picture.path, folder / name)
        elif isinstance(picture, EncodedImage):
            name = self._free(under, picture.key, _SUFFIX.get(picture.format(), ".img"))
            (folder / name).write_bytes(picture.content())
        else:
            key = picture.key
            if isinstance(picture, Tile) and isinstance(picture.image, ImageFile):
                key = f"{picture.image.path.stem}-{picture.window[0]}-{picture.window[1]}"
            name = self._free(under, "".join(c if c.isalnum() else "-" for c in key), ".png")
            picture.load().save(folder / name)
        return name

    def _free(self, under: str, stem: str, suffix: str) -> str:
        """A name that no other image has, not even with another ending: labels are found by the stem."""
        candidate, number = stem, 1
        while f"{under}/{candidate}" in self._taken:
            number += 1
            candidate = f"{stem}-{number}"
        self._taken.add(f"{under}/{candidate}")
        return candidate + suffix

    def encoded(self, picture: ImageReference) -> bytes:
        """The bytes of an image as they are; a procedural one as PNG."""
        if isinstance(picture, (ImageFile, EncodedImage)):
            return picture.content()
        buffer = io.BytesIO()
        picture.load().save(buffer, "PNG")
        return buffer.getvalue()

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file; ``name`` may hold folders."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON."""
        self.write_text(name, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def write_json_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one JSON object per line."""
        self.write_text(name, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def is_plain(image: AnnotatedImage, classes: Sequence[str]) -> bool:
    """Whether boxes alone say everything: each object has its box, and a class without a box is absent."""
    told = image.negatives is None or set(classes) <= {*image.labels, *image.negatives}
    return told and not image.crowds and not image.incomplete


def require_boxes(dataset: Dataset, form: str, plain: bool = False) -> None:
    """Refuse images that a format of boxes cannot hold.

    Args:
        dataset: what is to be written.
        form: the format, for the message.
        plain: the format can only say "here is an object"; in it, a class without a box is absent.

    Raises:
        DataError: if a label has no box, an object no class name, or (if ``plain``) an image is not plain.
    """
    for image in dataset.images:
        if len(image.boxes) != len(image.labels):
            raise DataError(f"image {image.id}: has a label but no box, which {form} needs; write imagefolder or jsonl")
        if "" in image.labels:
            raise DataError(f"image {image.id}: an object has no class name, which {form} needs; write jsonl")
        if plain and not is_plain(image, dataset.classes):
            raise DataError(
                f"image {image.id}: not every object has a box of its own (crowd, or not exhaustive), and {form} "
                "cannot say so; write coco or jsonl, or leave such images out with --drop-unclear"
            )
