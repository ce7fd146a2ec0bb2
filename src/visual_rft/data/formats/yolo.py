"""YOLO: one text file of boxes per image, class names in ``data.yaml`` (Ultralytics) or ``classes.txt`` (labelImg).

Decision: the layout is the usual one: ``data.yaml`` names the folder (or a list) of images of each split, and the
labels lie where the last ``images`` of the path reads ``labels``. ``path`` in it counts only if it is a folder inside
the one that was given. An image without a label file shows no object; a label file without an image is left out and
named. A line with more than four numbers is a polygon, of which the box around it is taken, unless ``kpt_shape`` says
that they are key points behind a box.

A line is ``class centre-x centre-y width height``, class counted from 0, the rest as shares 0..1 of the image's width
and height, continuous: no pixel is added.

>>> read_line([0.5, 0.5, 0.5, 0.25], (200, 100))
(50.0, 37.5, 150.0, 62.5)
>>> line_of((50.0, 37.5, 150.0, 62.5), (200, 100))
'0.500000 0.500000 0.500000 0.250000'
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from visual_rft.config.yaml_text import read_yaml
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.finding import OUR_FILES, files_ending, images_under, inside
from visual_rft.data.formats.reading import (
    Problems,
    as_number,
    corners,
    header_size,
    numbered_lines,
)
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import ImageFile

HINT = "; a YOLO folder holds data.yaml (or classes.txt), images/ and labels/"


def read_line(numbers: Sequence[float], size: tuple[int, int]) -> Box:
    """``centre-x centre-y width height`` as shares of the image, or a polygon's ``x y x y x y ...``, in pixels.

    Args:
        numbers: four, or six or more in pairs.
        size: (width, height) of the image in pixels.
    """
    width, height = size
    if len(numbers) > 4:
        across, down = [v * width for v in numbers[::2]], [v * height for v in numbers[1::2]]
        return min(across), min(down), max(across), max(down)
    x, y, w, h = numbers
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def line_of(box: Box, size: tuple[int, int]) -> str:
    """A box in pixels as YOLO writes it, with six decimals."""
    x1, y1, x2, y2 = box
    width, height = size
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(f"{share:.6f}" for share in shares)


def load_yolo(folder: Path, split: str | None = None, problems: Problems | None = None) -> Dataset:
    """Read a YOLO folder.

    Args:
        folder: holds ``data.yaml`` or ``classes.txt``.
        split: ``train``, ``val`` or ``test`` of ``data.yaml``; default ``train``.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if a file is missing or broken, or a label is not usable; the message names file and line.
    """
    problems = problems or Problems()
    names, points, paths = _layout(folder, split, problems)
    images, labelled = [], 0
    labels = _LabelFiles(folder)
    for path in paths:
        image, (file, other) = ImageFile(path), labels.of(path)
        if other is not None:
            what = "is listed twice" if other == path else f"has the labels of {other.name} beside it; rename one"
            problems.add("image named twice", f"{path}: {what}")
            continue
        labelled += file is not None
        size = header_size(image, problems)
        if size is not None:
            images.append(_image(folder, image, file, size, names, points, problems))
    for file in labels.without_image():
        problems.leave_out("label file without an image", str(file))
    if not images:
        raise problems.nothing_left(f"{folder}: holds no image{f' of split {split!r}' if split else ''}{HINT}")
    if not labelled:  # hardly a data set without any object: rather a folder of another name
        places = ", ".join(map(str, labels.folders[:3]))
        raise DataError(
            f"{folder}: none of the {len(images)} images has a label file; they were looked for in {places}"
        )
    numbers = {name: i for i, name in reversed(names.items())}
    return Dataset(images, tuple(sorted(set(names.values()))), skipped=problems.counts, category_ids=numbers)


def _layout(folder: Path, split: str | None, problems: Problems) -> tuple[dict[int, str], int, Iterator[Path]]:
    """Class names by number, how many numbers of key points stand behind a box, and the images of the split."""
    file = folder / "data.yaml"
    if not file.is_file():
        if split is not None:
            raise DataError(f"{file}: no such file, which names the images of the split {split!r}")
        names = {number - 1: line for number, line in numbered_lines(folder / "classes.txt", HINT)}
        return names, 0, images_under(folder / "images", problems)
    content = read_yaml(file, DataError)
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: is not a mapping with 'names' and 'train'")
    wanted = split or "train"
    if not content.get(wanted):
        known = ", ".join(k for k in ("train", "val", "valid", "test") if content.get(k))
        raise DataError(f"{file}: names no split {wanted!r}; it has {known or 'none'}")
    entries = content[wanted] if isinstance(content[wanted], list) else [content[wanted]]
    # Ultralytics' own files name a place on their author's machine; then the folder that was given is meant.
    below = Path(os.path.normpath(str(content.get("path") or ".")))
    inner = not below.is_absolute() and ".." not in below.parts and (folder / below).is_dir()
    root = folder / below if inner else folder
    images = _split_images(folder, root, entries, file, wanted, problems)
    return _names(content.get("names"), file), _points(content.get("kpt_shape"), file), images


def _names(value: Any, file: Path) -> dict[int, str]:
    rows = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(rows, Mapping) or not rows or not all(type(k) is int and str(v).strip() for k, v in rows.items()):
        raise DataError(f"{file}: 'names' is not a list of class names, nor a mapping from number to name")
    for number, name in rows.items():
        if not isinstance(name, (str, int, float)) or isinstance(name, bool):  # as YAML reads no, yes, and nothing
            raise DataError(f"{file}: 'names': {number} is {name!r}, which is no text; put the name in quotes")
    return {number: str(name).strip() for number, name in rows.items()}


def _points(shape: Any, file: Path) -> int:
    """Numbers of key points in a line: ``kpt_shape`` is how many there are, and 2 or 3 numbers of each."""
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(v) is int and v > 0 for v in shape):
        raise DataError(f"{file}: 'kpt_shape' {shape!r} is not [number of points, 2 or 3]")
    return int(shape[0] * shape[1])


def _split_images(
    folder: Path, root: Path, entries: Sequence[Any], file: Path, split: str, problems: Problems
) -> Iterator[Path]:
    """The images of a split: everything under a folder, or the lines of a text file."""
    for entry in map(str, entries):
        # Roboflow writes ../train/images for a folder that lies beside data.yaml, as Ultralytics reads it too.
        name = entry[3:] if entry.startswith("../") and (root / entry[3:]).exists() else entry
        place = inside(folder, str(root.relative_to(folder) / name), f"{file}: {split}")
        if place.suffix == ".txt":
            for number, line in numbered_lines(place):
                path = inside(folder, str(root.relative_to(folder) / line), f"{place}: line {number}")
                if path.is_file():
                    yield path
                else:
                    problems.add("missing image", f"{place}: line {number}: no file {path}")
        elif place.is_dir():
            yield from images_under(place, problems)
        else:
            raise DataError(f"{file}: {split}: there is no folder {place}")


def _image(
    folder: Path, image: ImageFile, file: Path | None, size: tuple[int, int], names: Mapping[int, str], points: int,
    problems: Problems,
) -> AnnotatedImage:  # fmt: skip
    labels: list[str] = []
    boxes: list[Box] = []
    incomplete: set[str] = set()
    for number, line in numbered_lines(file) if file is not None else []:
        where = f"{file}: line {number}:"
        kind, shares = _numbers(line, where, points)
        if kind not in names:
            raise DataError(f"{where} class {kind} is not in 'names' (0 to {max(names)})")
        finite = all(map(math.isfinite, shares))
        box = corners(read_line(shares, size) if finite else None, size, problems, where, line,
                      "class, centre x, centre y, width, height")  # fmt: skip
        if box is None:
            incomplete.add(names[kind])
        else:
            labels.append(names[kind])
            boxes.append(box)
    name = image.path.relative_to(folder).with_suffix("").as_posix()
    return AnnotatedImage(
        name, image, size, tuple(labels), tuple(boxes), incomplete=tuple(sorted(incomplete))
    )  # fmt: skip


def _numbers(line: str, where: str, points: int) -> tuple[int, list[float]]:
    words = line.split()
    try:
        kind, shares = as_number(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        kind, shares = None, []
    if not isinstance(kind, int):
        raise DataError(f"{where} {line!r} is not a class number and four shares 0..1")
    if points:
        if len(shares) not in (4, 4 + points):
            raise DataError(
                f"{where} has {len(shares)} numbers after the class; a box has 4, and {4 + points} with the points of "
                "'kpt_shape'"
            )
        return kind, shares[:4]
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        raise DataError(
            f"{where} has {len(shares)} numbers after the class; a box has 4 (centre x, centre y, width, height), a "
            "polygon 6 or more in pairs"
        )
    return kind, shares


class _LabelFiles:
    """The text files of images: where the last ``images`` of an image's path reads ``labels``.

    Args:
        folder: of the data set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[Path, dict[str, Path]] = {}  # by stem, of each folder
        self._images: dict[Path, Path] = {}  # by where its labels would be, without an ending
        self._beside: dict[Path, set[Path]] = {}  # folders of images, by that of their labels

    @property
    def folders(self) -> list[Path]:
        """Where labels were looked for."""
        return list(self._listed)

    def of(self, image: Path) -> tuple[Path | None, Path | None]:
        """The label file of an image, and an image that was asked about before and has the same one; None for none."""
        parts = list(image.relative_to(self._folder).with_suffix("").parts)
        places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
        if places:
            parts[places[-1]] = "labels"
        place = self._folder.joinpath(*parts)
        other = self._images.setdefault(place, image)
        self._beside.setdefault(place.parent, set()).add(image.parent)
        if place.parent not in self._listed:
            files = files_ending(place.parent, ".txt")  # a.TXT before a.txt, which counts where there are both
            self._listed[place.parent] = {file.stem: file for file in files if file.is_file()}
        return self._listed[place.parent].get(place.name), None if other is image else other

    def without_image(self) -> list[Path]:
        """Label files beside whose image there is none, in this split or another."""
        found: list[Path] = []
        for folder, files in self._listed.items():
            if folder in self._beside[folder]:
                continue  # labels beside images, among files of any kind
            stems = {os.path.splitext(name)[0] for beside in self._beside[folder] for name in os.listdir(beside)}
            found += [file for stem, file in files.items() if stem not in stems and file.name not in OUR_FILES]
        return sorted(found)


def write_yolo(dataset: Dataset, folder: NewFolder) -> None:
    """Write ``data.yaml``, ``images/train`` and ``labels/train``.

    Raises:
        DataError: if an image has a label without a box, or something that YOLO cannot say (crowd regions, classes
            that are not all boxed): these would read as "there is none".
    """
    require_boxes(dataset, "yolo", plain=True)
    numbers = {name: i for i, name in enumerate(dataset.classes)}
    for image in dataset.images:
        name = folder.add_image(image, "images/train")
        pairs = zip(image.labels, image.boxes, strict=True)
        lines = [f"{numbers[label]} {line_of(box, image.size)}\n" for label, box in pairs]
        folder.write_text(f"labels/train/{Path(name).stem}.txt", "".join(lines))
    names = dict(enumerate(dataset.classes))
    content = {"train": "images/train", "names": names}
    folder.write_text("data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
