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

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.reading import (
    Problems,
    corners,
    find_image,
    inside,
    numbered_lines,
    read_text,
    usable_size,
)
from visual_rft.data.formats.writing import NewFolder, require_boxes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import SUFFIXES

HINT = "; a VOC folder holds Annotations/*.xml and JPEGImages/"
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
        stems = [line.split()[0] for _, line in numbered_lines(listing, HINT)]
        files = [inside(place, f"{stem}.xml", str(listing)) for stem in stems]
    else:
        files = sorted(place.glob("*.xml"))
    stated: dict[str, str] = {}
    images = [image for image in (_read(folder, file, problems, stated) for file in files) if image is not None]
    if not images:
        raise DataError(f"{place}: holds no annotation{HINT}")
    labels = {label for image in images for label in (*image.labels, *image.incomplete)}
    return Dataset(images, tuple(sorted(labels)), skipped=problems.counts, sizes_stated=stated)


def _read(folder: Path, file: Path, problems: Problems, stated: dict[str, str]) -> AnnotatedImage | None:
    """The image of one annotation file; where its size is only stated, that is noted in ``stated``."""
    try:
        root = fromstring(read_text(file, HINT).encode())
    except (ParseError, DefusedXmlException) as error:
        raise DataError(f"{file}: not valid XML ({error})") from None
    named = root.findtext("filename", "").strip()
    names = [*([named] if named else []), *(file.stem + suffix for suffix in sorted(SUFFIXES))]
    image = find_image((folder / "JPEGImages", file.parent, folder), names, str(file))
    if image is None:
        wanted = named or f"{file.stem}.jpg"
        problems.add("missing image", f"{file}: no image {wanted!r} in {folder / 'JPEGImages'} or beside it")
        return None
    said = [root.findtext(f"size/{side}", "0").strip() for side in ("width", "height")]
    width, height = (int(side) if side.isdecimal() else side for side in said)
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
