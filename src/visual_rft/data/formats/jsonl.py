"""JSONL: one JSON object per line, which can hold everything this package knows about a labelled image.

Decision: a line is either a labelled image, asked about like any other, or a question of your own with its truth; a
file holds one kind. Images are named relative to the file. Boxes are ``[x1, y1, x2, y2]`` in pixels of the upright
image, continuous: a box from 0 to 10 is 10 wide.

    {"image": "a.jpg", "objects": [{"label": "cat", "box": [10, 20, 40, 60]}]}
    {"image": "b.jpg", "label": "red poppy", "synonyms": ["Papaver rhoeas"]}
    {"image": "c.jpg", "objects": [{"box": [10, 20, 40, 60], "expressions": ["the lens for photographing an ant"]}]}
    {"images": ["before.jpg", "after.jpg"], "question": {"problem": "Which thing is gone?"}, "truth": {"label": "cup"}}

The first may also say ``"crowds"`` (like objects), ``"incomplete"`` and ``"negatives"`` (names), as in
:class:`visual_rft.data.annotated.AnnotatedImage`; ``"problem"`` in a question is shown to the model as it is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from visual_rft.data.annotated import FACTS, AnnotatedImage, Dataset, facts_of, images_of
from visual_rft.data.formats.finding import Images
from visual_rft.data.formats.reading import (
    Problems,
    as_id,
    corners,
    field,
    header_size,
    numbered_lines,
    parse_json,
)  # fmt: skip
from visual_rft.data.formats.writing import NewFolder
from visual_rft.errors import DataError
from visual_rft.tasks.samples import Sample
from visual_rft.vision.boxes import Box
from visual_rft.vision.images import ImageFile

IMAGE_KEYS = ("id", "image", "objects", "label", *FACTS, "crowds", "incomplete", "negatives")
OBJECT_KEYS = ("label", "box", "expressions")
QUESTION_KEYS = ("id", "image", "images", "question", "truth")


def load_jsonl(file: Path, problems: Problems | None = None) -> Dataset:
    """Read a JSONL file.

    Args:
        file: one JSON object per line; a folder means its ``data.jsonl``.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if the file is missing or a line is not usable; the message names the line.
    """
    problems = problems or Problems()
    file = file / "data.jsonl" if file.is_dir() else file
    rows = [(f"{file}: line {number}", line) for number, line in numbered_lines(file)]
    parsed = [(where, parse_json(line, where)) for where, line in rows]
    if not parsed:
        raise DataError(f"{file}: holds no line")
    asks = isinstance(parsed[0][1], Mapping) and "question" in parsed[0][1]
    known = QUESTION_KEYS if asks else IMAGE_KEYS
    images: list[AnnotatedImage] = []
    samples: list[Sample] = []
    pictures = Images(file.parent, file.parent / "images")
    seen: set[str] = set()
    given = {str(as_id(row["id"])) for _, row in parsed if isinstance(row, Mapping) and "id" in row}
    for where, row in parsed:
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: is not a JSON object")
        unknown = sorted(set(row) - set(known))
        if unknown:
            kind = "asks a question" if asks else "describes an image"
            raise DataError(f"{where}: unknown field {unknown[0]!r}; the first line {kind}, so the fields are "
                            f"{', '.join(known)}")  # fmt: skip
        identity = _identity(row, where, given)
        if identity in seen:
            problems.add("id used twice", f"{where}: id {identity!r} is used twice")
            continue
        seen.add(identity)
        if asks:
            samples += _sample(pictures, identity, row, where, problems)
        else:
            images += _image(pictures, identity, row, where, problems)
    if not (samples if asks else images):
        raise problems.nothing_left(f"{file}: holds no line that can be used")
    if asks:
        images = images_of(samples)
        problems.note_placeholders(str(sample.question.get("problem", "")) for sample in samples)
    labels = {label for image in images for label in (*image.labels, *image.incomplete, *(image.negatives or ()))}
    labels |= {label for image in images for label, _ in image.crowds}
    classes = tuple(sorted(labels - {""}))
    return Dataset(images, classes, samples if asks else None, problems.counts)


def _identity(row: Mapping[str, Any], where: str, given: Container[str]) -> str:
    """What a row is called: its ``id``, or the number of its line where no other row is called so."""
    if "id" in row:
        identity = as_id(row["id"])
        if identity is None:
            raise DataError(f"{where}: id {row['id']!r} is not a number or text")
        return str(identity)
    made = where.rpartition(" ")[2]
    while made in given:
        made = f"line-{made}"
    return made


def _open(pictures: Images, name: Any, where: str, problems: Problems) -> tuple[ImageFile, tuple[int, int]] | None:
    if not isinstance(name, str):
        raise DataError(f"{where}: image {name!r} is not a file name")
    image = pictures.find((name,), where)
    if image is None:
        here, below = pictures.roots
        problems.add("missing image", f"{where}: no file {name!r} in {here} or {below}{pictures.hint(name)}")
        return None
    size = header_size(image, problems)
    return None if size is None else (image, size)


def _sample(pictures: Images, identity: str, row: Mapping[str, Any], where: str, problems: Problems) -> list[Sample]:
    names = row["images"] if "images" in row else [field(row, "image", where)]
    if not isinstance(names, list) or not names or ("images" in row and "image" in row):
        raise DataError(f"{where}: name one 'image', or a list of 'images'")
    opened = [_open(pictures, name, where, problems) for name in names]
    question, truth = field(row, "question", where), field(row, "truth", where)
    if not isinstance(question, Mapping) or not isinstance(truth, Mapping):
        raise DataError(f"{where}: 'question' and 'truth' are JSON objects")
    found = [pair for pair in opened if pair is not None]
    if len(found) < len(names):
        return []
    shown, size = tuple(image for image, _ in found), found[0][1]
    if truth.get("image_size", list(size)) != list(size):
        raise DataError(f"{where}: truth.image_size {truth['image_size']!r} is not that of {names[0]}, {list(size)}")
    if not _lie_inside(truth, size, where, problems):
        return []
    return [Sample(identity, shown, "", dict(question), {"image_size": list(size), **truth})]


def _lie_inside(truth: Mapping[str, Any], size: tuple[int, int], where: str, problems: Problems) -> bool:
    """Whether the boxes of a truth lie in its image; a field that holds no boxes at all is left to the task."""
    several = truth.get("boxes")
    boxes = [*(several if isinstance(several, list) else ()), *([truth["box"]] if "box" in truth else ())]
    return all(corners(box, size, problems, f"{where}: truth: box") is not None for box in boxes)


def _image(
    pictures: Images, identity: str, row: Mapping[str, Any], where: str, problems: Problems
) -> list[AnnotatedImage]:
    opened = _open(pictures, field(row, "image", where), where, problems)
    if opened is None:
        return []
    image, size = opened
    facts = facts_of(row, where)
    incomplete = set(_texts(row, "incomplete", where))
    negatives = tuple(_texts(row, "negatives", where)) if "negatives" in row else None
    if "label" in row:
        (label,) = _texts({"label": [row["label"]]}, "label", where)
        for key in ("objects", "crowds", "incomplete", "negatives"):
            if row.get(key):
                raise DataError(f"{where}: has both 'label' and {key!r}; a label belongs to the whole image")
        return [AnnotatedImage(identity, image, size, (label,), (), facts)]
    objects = _objects(row, "objects", size, where, problems, incomplete)
    crowds = _objects(row, "crowds", size, where, problems, incomplete)
    return [
        AnnotatedImage(
            id=identity,
            image=image,
            size=size,
            labels=tuple(label for label, _, _ in objects),
            boxes=tuple(box for _, box, _ in objects),
            facts=facts,
            crowds=tuple((label, box) for label, box, _ in crowds),
            incomplete=tuple(sorted(incomplete)),
            negatives=negatives,
            expressions=tuple((text, i) for i, (_, _, texts) in enumerate(objects) for text in texts),
        )
    ]


def _objects(
    row: Mapping[str, Any], key: str, size: tuple[int, int], where: str, problems: Problems, incomplete: set[str]
) -> list[tuple[str, Box, list[str]]]:
    values = row.get(key, [])
    if not isinstance(values, list):
        raise DataError(f"{where}: {key} is not a list of objects")
    found = []
    for i, value in enumerate(values):
        place = f"{where}: {key}[{i}]"
        box = corners(field(value, "box", place), size, problems, f"{place}: box")
        known = OBJECT_KEYS if key == "objects" else OBJECT_KEYS[:2]
        if unknown := sorted(set(value) - set(known)):
            raise DataError(f"{place}: unknown field {unknown[0]!r}; known are {', '.join(known)}")
        texts = list(dict.fromkeys(_texts(value, "expressions", place)))
        label = value.get("label", "")
        if not isinstance(label, str) or not (label.strip() or texts):
            raise DataError(f"{place}: label {label!r} is not a name")
        if box is None:
            incomplete.add(label.strip())
        else:
            found.append((label.strip(), box, texts))
    return found


def _texts(row: Mapping[str, Any], key: str, where: str) -> Sequence[str]:
    values = row.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{where}: {key} {values!r} is not a list of texts")
    return [v.strip() for v in values]


def write_jsonl(dataset: Dataset, folder: NewFolder) -> None:
    """Write ``data.jsonl`` and ``images/``, nothing left out."""
    if dataset.samples is not None:
        rows = [
            {
                "id": sample.id,
                "images": [folder.add_picture(image, "images") for image in sample.images],
                "question": dict(sample.question),
                "truth": dict(sample.truth),
            }
            for sample in dataset.samples
        ]
    else:
        rows = [_row(image, folder.add_image(image, "images")) for image in dataset.images]
    folder.write_json_lines("data.jsonl", rows)


def _row(image: AnnotatedImage, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": image.id, "image": name}
    if image.labels and not image.boxes:
        row["label"] = image.labels[0]
    else:
        row["objects"] = [{"label": label, "box": list(box)} if label else {"box": list(box)}
                          for label, box in zip(image.labels, image.boxes, strict=True)]  # fmt: skip
        for text, i in image.expressions:
            row["objects"][i].setdefault("expressions", []).append(text)
    row.update({key: image.facts[key] for key in FACTS if key in image.facts})
    if image.crowds:
        row["crowds"] = [{"label": label, "box": list(box)} for label, box in image.crowds]
    if image.incomplete:
        row["incomplete"] = list(image.incomplete)
    if image.negatives is not None:
        row["negatives"] = list(image.negatives)
    return row
