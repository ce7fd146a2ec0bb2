"""Pascal VOC: one XML file per image.

Decision: VOC counts pixels from 1 and both corners belong to the box (PASCAL VOC development kit, "xmin is the
leftmost pixel"). The box from the first to the third pixel, ``xmin = 1, xmax = 3``, is three pixels wide: in
continuous coordinates 0 to 3. So 1 is taken off ``xmin`` and ``ymin``, and nothing off ``xmax`` and ``ymax``. Writing
does the opposite and rounds to whole pixels, as the format wants. ``difficult`` objects are objects like any other.

Images are ``JPEGImages/NAME`` (or lie beside the XML files), annotations ``Annotations/*.xml`` (or the folder
itself), a split is ``ImageSets/Main/SPLIT.txt``.

>>> read_corners((1, 1, 3, 5))
(0.0, 0.0, 3.0, 5.0)
>>> corners_of((0.0, 0.0, 3.0, 5.0))
(1, 1, 3, 5)
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.finding import Images, files_ending, inside
from visual_rft.data.formats.reading import Problems, as_number, corners, numbered_lines, read_bytes, usable_size
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import SUFFIXES

HINT = "; a VOC folder holds Annotations/*.xml and JPEGImages/"
_FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?\bencoding\s*=\s*[\"']([^\"'>]+)[\"']")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949", "ks_c_5601-1987": "cp949"}
"""Encodings that tools declare although they write the larger one that has grown out of it."""
_SINGLE_BYTE = frozenset({"iso8859-1", "iso8859-15", "cp1252", "cp1250", "cp1251", "iso8859-2", "koi8-r", "ascii"})
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_corners(corner: Sequence[float]) -> Box:
    """VOC's ``(xmin, ymin, xmax, ymax)``, counted from 1 and inclusive, as continuous pixels."""
    x1, y1, x2, y2 = corner
    return float(x1) - 1, float(y1) - 1, float(x2), float(y2)


def corners_of(box: Box) -> tuple[int, int, int, int]:
    """A box in pixels as VOC writes it: whole pixels, counted from 1, inclusive; at least one pixel."""
    x1, y1, x2, y2 = box
    left, top = round(x1), round(y1)
    return left + 1, top + 1, max(round(x2), left + 1), max(round(y2), top + 1)


def load_voc(folder: Path, split: str | None = None, problems: Problems | None = None) -> Dataset:
    """Read a Pascal VOC folder. Sizes of images are believed where they are stated; ``check_sizes`` looks at them.

    Args:
        folder: holds ``Annotations`` and ``JPEGImages``, or both kinds of file itself.
        split: reads the images that ``ImageSets/Main/SPLIT.txt`` names; default all.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if a file is missing or broken or a box is not usable; the message names file and object.
    """
    problems = problems or Problems()
    place = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    if split is not None:
        listing = inside(folder, f"ImageSets/Main/{split}.txt", "data: split")
        files = [_annotation(place, line, str(listing)) for _, line in numbered_lines(listing, HINT)]
    else:
        files = list(files_ending(place, ".xml"))
    pictures = Images(folder / "JPEGImages", place, folder)
    stated: dict[str, str] = {}
    read = (_read(pictures, file, problems, stated) for file in files)
    images = [image for image in read if image is not None]
    if not images:
        raise problems.nothing_left(f"{place}: holds no annotation{HINT}")
    labels = {label for image in images for label in (*image.labels, *image.incomplete)}
    return Dataset(images, tuple(sorted(labels)), skipped=problems.counts, sizes_stated=stated)


def _annotation(place: Path, line: str, listing: str) -> Path:
    """The file that a line of a split names: the whole line, but for the flag in which VOC's lists of a class end."""
    whole = inside(place, f"{line}.xml", listing)
    flagged = _FLAGGED.fullmatch(line)
    return inside(place, f"{flagged[1]}.xml", listing) if flagged and not whole.is_file() else whole


def read_xml(file: Path, hint: str = "") -> Any:
    """The root element of an XML file, in whatever encoding it declares.

    Raises:
        DataError: if the file cannot be read, is no XML, declares entities, or is not in the encoding that it declares.
    """
    content = read_bytes(file, hint)
    try:
        return fromstring(_xml_text(content, file).encode())
    except (ParseError, DefusedXmlException) as error:
        raise DataError(f"{file}: not valid XML ({error})") from None


def _xml_text(content: bytes, file: Path) -> str:
    """The text of an XML file without its declaration. Decoded here, because the parser knows no Asian encoding."""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    found = None if wide else _DECLARATION.match(content)
    declared = found[1].decode("ascii", "replace") if found else ""
    name = "utf-16" if wide else _SUPERSETS.get(declared.lower(), declared or "utf-8")
    name = "utf-8" if content.startswith(b"\xef\xbb\xbf") else name
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode(name)
    except LookupError:
        raise DataError(f"{file}: declares the encoding {declared!r}, which is not known; save it as UTF-8") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"declares {declared}, but line {line} is" if declared else f"line {line}:"
        raise DataError(
            f"{file}: {what} not {name.upper()} (byte {content[error.start]:#04x}); save it as UTF-8, or declare the "
            "encoding that it is in"
        ) from None
    # Bytes above 127 are UTF-8 by chance in no text of a single-byte encoding: somebody has saved it anew.
    if declared and codecs.lookup(name).name in _SINGLE_BYTE and not content.isascii() and _is_utf8(content):
        raise DataError(f'{file}: declares {declared}, but is UTF-8; correct the first line (encoding="UTF-8")')
    # A text of two bytes each has its declaration where the pattern for bytes cannot see it.
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read(pictures: Images, file: Path, problems: Problems, stated: dict[str, str]) -> AnnotatedImage | None:
    """The image of one annotation file; where its size is only stated, that is noted in ``stated``."""
    root = read_xml(file, HINT)
    named = root.findtext("filename", "").strip()
    names = [*([named] if named else []), *(file.stem + suffix for suffix in sorted(SUFFIXES))]
    image = pictures.find(names, str(file))
    if image is None:
        wanted = named or f"{file.stem}.jpg"
        message = f"{file}: no image {wanted!r} in {pictures.roots[0]} or beside it{pictures.hint(wanted)}"
        problems.add("missing image", message)
        return None
    width, height = (as_number(root.findtext(f"size/{side}", "0").strip()) for side in ("width", "height"))
    sized = usable_size(image, (width, height), problems, str(file))
    if sized is None:
        return None
    size, believed = sized
    if believed:
        stated[file.stem] = str(file)
    labels: list[str] = []
    boxes: list[Box] = []
    incomplete: set[str] = set()
    for i, element in enumerate(root.iterfind("object")):
        where = f"{file}: object {i}"
        label = element.findtext("name", "").strip()
        if not label:
            raise DataError(f"{where}: has no name")
        shown = [element.findtext(f"bndbox/{corner}", "") for corner in CORNERS]
        box = corners(_moved(shown), size, problems, f"{where}: bndbox", shown, "xmin, ymin, xmax, ymax")
        if box is None:
            incomplete.add(label)
        else:
            labels.append(label)
            boxes.append(box)
    return AnnotatedImage(file.stem, image, size, tuple(labels), tuple(boxes), incomplete=tuple(sorted(incomplete)))


def _moved(texts: Sequence[str]) -> Any:
    try:
        return read_corners([float(text) for text in texts])
    except ValueError:
        return None


def write_voc(dataset: Dataset, folder: NewFolder) -> None:
    """Write ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/train.txt``; boxes are rounded to whole pixels.

    Raises:
        DataError: if an image has a label without a box, or something that VOC cannot say (crowd regions, classes
            that are not all boxed): these would read as "there is none".
    """
    require_boxes(dataset, "voc", plain=True)
    stems = []
    for image in dataset.images:
        name = folder.add_image(image, "JPEGImages")
        stems.append(Path(name).stem)
        width, height = image.size
        objects = []
        for label, box in zip(image.labels, image.boxes, strict=True):
            corner = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(CORNERS, corners_of(box), strict=True))
            objects.append(f"  <object><name>{escape(label)}</name><bndbox>{corner}</bndbox></object>\n")
        folder.write_text(
            f"Annotations/{stems[-1]}.xml",
            f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{escape(name)}</filename>\n"
            f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
            f"{''.join(objects)}</annotation>\n",
        )
    folder.write_text("ImageSets/Main/train.txt", "".join(f"{stem}\n" for stem in stems))
