"""What every reader of files shares: text, sizes of images, boxes, and rows that cannot be used.

Decision: a row that cannot be used is an error that names it, because a bad box found at step 300 costs the run. Who
knows that some rows are bad sets ``broken: skip``; they are then left out and counted by reason. A box that is left
out makes its class "incomplete" in that image, so that finding the object is never punished. A file whose structure
is wrong (not JSON, a missing list) is an error in any case.

>>> problems = Problems(skip=True)
>>> corners([5, 5, 5, 9], (20, 20), problems, "a.json: row 1")  # no area: None, and counted
>>> problems.counts
Counter({'box without area': 1})
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box, is_four_numbers
from visual_rft.vision.images import ImageFile

EDGE_TOLERANCE = 1.0
"""Pixels by which a box may stick out of its image (rounding of annotation tools); it is cut at the edge."""


MOST_SIDE = 1 << 31
"""Pixels a side that are believed without a look at the image; no image has so many."""


class Problems:
    """What happens to rows that cannot be used.

    Args:
        skip: leave them out, count them in ``counts`` and keep the first messages of each kind in ``examples``;
            otherwise the first one raises.

    Attributes:
        counts: how many were left out, by reason.
        examples: the first three messages of each reason.
        notes: what is worth a remark though nothing was left out.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.notes: list[str] = []
        self._first: dict[str, str] = {}

    def add(self, reason: str, message: str) -> None:
        """Report one row.

        Args:
            reason: a short phrase under which such rows are counted.
            message: names the file and the row, and says what is wrong.

        Raises:
            DataError: unless such rows are skipped.
        """
        if not self.skip:
            raise DataError(f"{message}; 'broken: skip' (--skip-broken) leaves such rows out and counts them")
        self.leave_out(reason, message)

    def leave_out(self, reason: str, message: str) -> None:
        """Count and remember something that is left out in any case, e.g. a file that is no image."""
        self.counts[reason] += 1
        self._first.setdefault(reason, message)
        if self.counts[reason] <= 3:
            self.examples.append(message)

    def note_placeholders(self, questions: Iterable[str]) -> None:
        """Remark on questions that hold ``<image>``, the place of a picture in other tools: here it is only text."""
        found = sum("<image>" in question for question in questions)
        if found:
            self.notes.append(f"{found} questions hold the text '<image>', which the model is shown as it stands: "
                              "pictures come before the question; take it out of 'problem'")  # fmt: skip

    def lines(self) -> list[str]:
        """What was left out, one line per reason, each with the first message; then what is worth a remark."""
        left_out = [f"left out: {count} x {reason}, e.g. {self._first[reason]}"
                    for reason, count in sorted(self.counts.items())]  # fmt: skip
        return left_out + self.notes

    def nothing_left(self, message: str) -> DataError:
        """The error that nothing can be used, with what was left out and why."""
        reasons = [f"{count} x {reason}, e.g. {self._first[reason]}" for reason, count in self.counts.items()]
        return DataError("; ".join([message, *(["left out: " + "; ".join(reasons)] if reasons else [])]))


def read_bytes(file: Path, hint: str = "") -> bytes:
    """A file as it is.

    Args:
        file: what to read.
        hint: added to the message if there is no such file.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file{hint}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None


def read_text(file: Path, hint: str = "") -> str:
    """A UTF-8 text file; a byte order mark is dropped.

    Args:
        file: what to read.
        hint: added to the message if there is no such file.

    Raises:
        DataError: if the file cannot be read or is not UTF-8; the message names the line.
    """
    content = read_bytes(file, hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}: line {line}: not UTF-8 (byte {content[error.start]:#04x}); save it as UTF-8"
        ) from None


def numbered_lines(file: Path, hint: str = "") -> list[tuple[int, str]]:
    """The lines of a UTF-8 file that are not blank, with their numbers from 1; errors as :func:`read_text`."""
    # Not splitlines: JSON text may hold U+2028 and the like, at which it would cut. Some old tools end lines with \r.
    lines = enumerate(re.split(r"\r\n|\r|\n", read_text(file, hint)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_json(file: Path, hint: str = "") -> Any:
    """A UTF-8 JSON file; errors as :func:`read_text`, and if it is not JSON."""
    return parse_json(read_text(file, hint), str(file))


def parse_json(text: str, where: str) -> Any:
    """JSON text.

    Raises:
        DataError: if it is not JSON, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_keys_once)
    except (DataError, ValueError, RecursionError) as error:
        what = error if isinstance(error, DataError) else f"not valid JSON ({error})"
        raise DataError(f"{where}: {what}") from None


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; the library would take the last of two values of a key and lose the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise DataError(f"an object has the key {twice!r} twice; keep one of them")
    return found


def field(row: Any, key: str, where: str) -> Any:
    """``row[key]``.

    Raises:
        DataError: if the row is no object or lacks it.
    """
    if not isinstance(row, Mapping) or key not in row:
        raise DataError(f"{where}: has no {key!r}")
    return row[key]


def as_id(value: Any) -> int | str | None:
    """A number or text that stands for something; None if it is neither. ``1.0``, as tables write it, is 1.

    >>> as_id(1.0), as_id("a"), as_id([1])
    (1, 'a', None)
    """
    if type(value) is int or type(value) is str:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def known_id(value: int | str, known: Container[int | str]) -> int | str:
    """``value`` as it is in ``known``, also where one of the two is text; itself if it is not there."""
    if value in known:
        return value
    other: int | str = str(value)
    if isinstance(value, str):
        other = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else value
    return other if other in known else value


def as_number(value: Any) -> Any:
    """A number that is written as text, or a float without a fraction, as that number; anything else as it is.

    >>> as_number("120"), as_number(120.0), as_number("wide")
    (120, 120, 'wide')
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_crowd(value: Any, where: str) -> bool:
    """What COCO's ``iscrowd`` says: 0 or 1, also written as text or as a truth value; nothing is 0.

    Raises:
        DataError: if it is anything else. ``"0"`` is true to Python and 0 to COCO's own tools, so nothing is guessed.
    """
    number = as_number(value)
    if number is None or number == "":
        return False
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(number, int) or number not in (0, 1):
        raise DataError(f"{where}: iscrowd {value!r} is not 0 or 1")
    return bool(number)


def header_size(image: ImageFile, problems: Problems) -> tuple[int, int] | None:
    """(width, height) of the upright image; None if it cannot be opened and such images are skipped."""
    try:
        return image.size()
    except DataError as error:
        problems.add("image that cannot be opened", str(error))
        return None


def usable_size(
    image: ImageFile, stated: tuple[Any, Any], problems: Problems, where: str
) -> tuple[tuple[int, int], bool] | None:
    """The size of an image that a file may state, and whether it was believed without a look at the image.

    Args:
        image: the image, whose header is opened only where no whole size is stated.
        stated: what the file says of (width, height); None or 0 where it says nothing.
        problems: what happens to an image that cannot be opened or has another size.
        where: file and row, for messages.

    Returns:
        ((width, height) in pixels, believed); None if the image cannot be used and such images are skipped. What was
        believed goes into ``Dataset.sizes_stated``, for :func:`check_sizes`.
    """
    width, height = stated
    if type(width) is int and type(height) is int and 0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE:
        return (width, height), True
    if stated != (as_number(width), as_number(height)):
        return usable_size(image, (as_number(width), as_number(height)), problems, where)
    size = header_size(image, problems)
    return (size, False) if size is not None and _same_size(stated, size, image, problems, where) else None


def check_sizes(dataset: Dataset, problems: Problems) -> Dataset:
    """The images of a data set that are as large as the files say, after what is wanted of it has been selected.

    Headers of images are opened here and not when the annotations are read: of 100,000 listed images a few may be
    chosen.

    Raises:
        DataError: if an image cannot be opened or has another size, unless such images are skipped; names the image,
            and file and row that state its size.
    """
    if not dataset.sizes_stated:
        return dataset
    images = [image for image in dataset.images if _as_stated(image, dataset.sizes_stated.get(image.id), problems)]
    return replace(dataset, images=images, sizes_stated={})


def _as_stated(image: AnnotatedImage, where: str | None, problems: Problems) -> bool:
    if where is None or not isinstance(image.image, ImageFile):
        return True  # its header has been looked at
    size = header_size(image.image, problems)
    return size is not None and _same_size(image.size, size, image.image, problems, where)


def _same_size(
    stated: tuple[Any, Any], size: tuple[int, int], image: ImageFile, problems: Problems, where: str
) -> bool:
    if (stated[0] or size[0], stated[1] or size[1]) == size:
        return True
    problems.add(
        "image of another size than stated",
        f"{where}: says {stated[0]} x {stated[1]}, but {image.path} is {size[0]} x {size[1]} (upright); boxes would be "
        "in the wrong place",
    )
    return False


def corners(
    value: Any, size: tuple[int, int], problems: Problems, where: str, shown: Any = None, form: str = "x1, y1, x2, y2"
) -> Box | None:
    """Four numbers as a box inside its image; None if they are not and such boxes are skipped.

    Args:
        value: ``[x1, y1, x2, y2]`` in pixels.
        size: (width, height) of the image in pixels.
        problems: what to do about a bad box.
        where: names the file and row.
        shown: the box as it stands in the file, for messages; default ``value``.
        form: how the file writes a box, for messages.
    """
    shown = value if shown is None else shown
    if not is_four_numbers(value):
        problems.add("box that is not four numbers", f"{where} {shown!r} is not four finite numbers [{form}]")
        return None
    x1, y1, x2, y2 = (float(v) for v in value)
    width, height = size
    if x2 <= x1 or y2 <= y1:
        problems.add("box without area", f"{where} {shown!r} has no area (width and height must be > 0)")
        return None
    slack = EDGE_TOLERANCE
    if x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack:
        problems.add("box outside its image", f"{where} {shown!r} is outside its {width} x {height} image")
        return None
    box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if box[2] <= box[0] or box[3] <= box[1]:
        problems.add("box outside its image", f"{where} {shown!r} is outside its {width} x {height} image")
        return None
    return box
