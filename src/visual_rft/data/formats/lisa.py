"""LISA's ReasonSeg: an image with a JSON file beside it that holds an expression and polygons.

Decision: the box is the smallest one around all polygons labelled ``target``, in pixels, continuous; polygons
labelled ``ignore`` are left out. Each text is a question of its own. Some of the published files are Windows-1252
and not UTF-8, so these files, and only these, are read as that where UTF-8 fails.

    0001.jpg
    0001.json    {"text": ["the part that steers"], "shapes": [{"label": "target", "points": [[1, 2], [4, 6], ...]}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.formats.finding import Images, files_ending, inside
from visual_rft.data.formats.reading import Problems, corners, field, header_size, parse_json, read_bytes
from visual_rft.errors import DataError
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.images import SUFFIXES


def load_lisa(folder: Path, split: str | None = None, problems: Problems | None = None) -> Dataset:
    """Read a ReasonSeg folder.

    Args:
        folder: holds images with a JSON file of the same name beside each.
        split: reads the subfolder of this name; default ``folder`` itself.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if there is no such pair, or a file is not usable; the message names it.
    """
    problems = problems or Problems()
    root = folder if split is None else inside(folder, split, "data: split")
    files, pictures = files_ending(root, ".json"), Images(root)
    images = [image for image in (_read(file, pictures, problems) for file in files) if image is not None]
    if not images:
        raise problems.nothing_left(
            f"{root}: holds no JSON file beside an image; a ReasonSeg folder holds 1.jpg and 1.json"
        )
    return Dataset(images, (), skipped=problems.counts)


def _read(file: Path, pictures: Images, problems: Problems) -> AnnotatedImage | None:
    content = _json(file)
    image = pictures.find((file.stem + suffix for suffix in sorted(SUFFIXES)), str(file))
    if image is None:
        problems.add("missing image", f"{file}: no image {file.stem}.jpg beside it")
        return None
    size = header_size(image, problems)
    if size is None:
        return None
    texts = field(content, "text", str(file))
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise DataError(f"{file}: text {texts!r} is not an expression or a list of them")
    points: list[Any] = []
    shapes = field(content, "shapes", str(file))
    if not isinstance(shapes, list):
        raise DataError(f"{file}: 'shapes' is {shapes!r}, not a list")
    for i, shape in enumerate(shapes):
        if field(shape, "label", f"{file}: shapes[{i}]") == "target":
            points += _points(shape, f"{file}: shapes[{i}]")
    if not points:
        problems.add("expression without a target", f"{file}: has no shape labelled 'target'")
        return None
    x, y = zip(*points, strict=True)
    width, height = size
    # Polygons are drawn by hand and may run over the edge by any amount: what is seen of them counts.
    seen = (max(min(x), 0), max(min(y), 0), min(max(x), width), min(max(y), height))
    box = corners(list(seen), size, problems, f"{file}: the box around the target")
    if box is None:
        return None
    expressions = tuple((text, 0) for text in dict.fromkeys(text.strip() for text in texts))
    return AnnotatedImage(file.stem, image, size, ("",), (box,), expressions=expressions)


def _points(shape: Mapping[str, Any], where: str) -> list[Any]:
    points = field(shape, "points", where)
    good = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(is_finite_number, point)) for point in points
    )
    if not good:
        raise DataError(f"{where}: points are not a list of [x, y]")
    return list(points)


def _json(file: Path) -> Any:
    content = read_bytes(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    return parse_json(text, str(file))
