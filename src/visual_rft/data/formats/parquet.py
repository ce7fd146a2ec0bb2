"""Hub and local tables with the columns ``image``, ``problem`` and ``solution``: the published ViRFT sets.

Decision: the text of ``problem`` is shown to the model exactly as it is. The solution is read like an answer of the
model's, with the same parser and no ``eval``: boxes or ``No Objects`` for detection, a name for classification,
``(x1,y1),(x2,y2)`` for grounding. Its boxes are 0..1000 of the image, and so are the boxes that the question asks
for, whatever the model family speaks otherwise: the truth says so (``space``). A column ``images`` may hold several
pictures per question. The tables are read by ``datasets``: a hub id, a parquet file, a folder of parquet files, or a
folder made by ``save_to_disk``. Nothing is fetched unless ``path`` is a hub id.

    - {source: parquet, path: laolao77/ViRFT_COCO_8_cate_4_shot}

>>> category_of("Detect all objects belonging to the category 'stop sign' in the image, and provide")
'stop sign'
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from visual_rft.config.sources import QuestionKind
from visual_rft.data.annotated import Dataset, images_of
from visual_rft.data.formats.reading import Problems
from visual_rft.data.formats.writing import NewFolder
from visual_rft.errors import DataError, did_you_mean
from visual_rft.tasks.base import Task
from visual_rft.tasks.parsing.answers import parse_box, parse_label
from visual_rft.tasks.parsing.completion import Failure, Reason
from visual_rft.tasks.parsing.detections import parse_detections
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import ClassificationTruth, DetectionTruth, GroundingTruth
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import EncodedImage

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
EXTENT = (1000, 1000)
"""(width, height) of an image in the units of a published solution."""
HINT = "a published set has the columns image, problem and solution"
_ASKED = re.compile(r"Find every (.+?) in the image\.")
_CATEGORY = re.compile(r"categor(?:y|ies)\s*(?:of\s*)?(['\"])(.+?)\1(?=[\s.,;:?!]|$)", re.IGNORECASE)


def category_of(problem: str) -> str:
    """The category a question quotes, or this package's own question names; ``object`` if there is none.

    It names the question in tables and pictures and is no part of the prompt.
    """
    own, found = _ASKED.match(problem), _CATEGORY.search(problem)
    return own[1] if own else found[2] if found else "object"


def load_parquet(
    path: str, questions: QuestionKind, split: str | None = None, problems: Problems | None = None
) -> Dataset:
    """Read a table of questions.

    Args:
        path: a parquet file, a folder of parquet files, a folder made by ``save_to_disk``, or a hub id.
        questions: ``name`` reads solutions as names, ``refer`` as one box, anything else as detections.
        split: which split; may be left out where there is only one, or one called ``train``.
        problems: what happens to rows that cannot be used; default the first one raises.

    Raises:
        DataError: if the table cannot be read, a column is missing, or a row cannot be used; the message names it.
    """
    problems = problems or Problems()
    table = _table(path, split)
    columns = table.column_names
    picture = next((name for name in ("images", "image") if name in columns), None)
    missing = [name for name in ("problem", "solution") if name not in columns] + ([] if picture else ["image"])
    if picture is None or missing:
        raise DataError(f"{path}: has no column {missing[0]!r}; {HINT}, this has {', '.join(columns)}")
    encoded = _undecoded(table, picture, path)
    texts = table.select_columns(["problem", "solution"])
    read = _READERS.get(questions, _detections)
    samples = []
    for index, row in enumerate(texts):
        where = f"{path}: row {index}"
        opened = _pictures(encoded, picture, index, where, problems)
        if not opened:
            continue
        if not isinstance(row["problem"], str) or not row["problem"].strip():
            problems.add("row without a question", f"{where}: problem {row['problem']!r} is not a text")
            continue
        answer = read(str(row["solution"]), row["problem"], opened[0][1])
        if isinstance(answer, Failure):
            shown = repr(str(row["solution"])[:120])
            if Reason.OUTSIDE_THE_IMAGE in answer.reason:
                shown += " (boxes of a solution are 0..1000 of the image; in pixels, use a coco or jsonl source)"
            problems.add("solution that cannot be read", f"{where}: solution: {answer.reason}: {shown}")
            continue
        pictures = tuple(image for image, _ in opened)
        samples.append(Sample(f"{Path(path).stem}-{index}", pictures, "", *answer))
    if not samples:
        raise problems.nothing_left(f"{path}: holds no row that can be used")
    problems.note_placeholders(str(sample.question["problem"]) for sample in samples)
    images = images_of(samples)
    classes = tuple(sorted({name for image in images for name in (*image.labels, *(image.negatives or ()))} - {""}))
    return Dataset(images, classes, samples, problems.counts)


def _table(path: str, split: str | None) -> Any:
    """The ``datasets.Dataset`` of one split."""
    import datasets
    import pyarrow

    local = Path(path)
    try:
        if (local / "state.json").is_file() or (local / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(path)
        elif local.is_dir():
            if not any(local.rglob("*.parquet")):
                raise DataError(f"{path}: holds neither a parquet file nor what save_to_disk writes")
            loaded = datasets.load_dataset(path)
        elif local.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": path})
        elif HUB_ID.fullmatch(path) and not path.endswith(".parquet"):
            if local.parent.is_dir():  # mistyped: the hub would be asked for half a minute, or send something else
                raise DataError(f"{path}: no such parquet file or folder in {local.parent}, a folder here and no owner "
                                f"on the hub{did_you_mean(local.name, os.listdir(local.parent))}")  # fmt: skip
            loaded = datasets.load_dataset(path)
        else:
            raise DataError(f"{path}: no such parquet file or folder, and it is not a hub id (owner/name)")
    except (OSError, ValueError, RuntimeError, pyarrow.ArrowException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, (OSError, ValueError, pyarrow.ArrowException)) else error
        reason = " ".join(str(cause).split())[:200]
        raise DataError(f"{path}: cannot be read by datasets ({reason})") from error
    if not isinstance(loaded, Mapping):
        return loaded
    wanted = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
    if wanted not in loaded:
        raise DataError(f"{path}: has no split {wanted!r}; name one of {', '.join(loaded)} as 'split'")
    return loaded[wanted]


def _undecoded(table: Any, picture: str, path: str) -> Any:
    """The pictures' column alone, as encoded bytes."""
    from datasets import Image, List

    feature = table.features[picture]
    several = isinstance(feature, (list, List))
    inner = (feature[0] if isinstance(feature, list) else feature.feature) if several else feature
    plain = isinstance(inner, Mapping) and {"bytes", "path"} <= set(inner)  # written without datasets
    if not (isinstance(inner, Image) or plain or getattr(inner, "dtype", "") in ("binary", "large_binary")):
        raise DataError(f"{path}: the column {picture!r} holds {inner}, not images")
    column = table.select_columns([picture])
    if isinstance(inner, Image):
        column = column.cast_column(picture, List(Image(decode=False)) if several else Image(decode=False))
    return column


def _pictures(
    table: Any, picture: str, index: int, where: str, problems: Problems
) -> list[tuple[EncodedImage, tuple[int, int]]]:
    """Each picture of a row with its (width, height); none if one cannot be opened and such rows are skipped."""
    values = _values(table, picture, index)
    opened = []
    for number, value in enumerate(values):
        place = f"{where}: {picture}" + (f"[{number}]" if len(values) > 1 else "")
        content = value if isinstance(value, bytes) else (value or {}).get("bytes")
        if content is None:
            problems.add("row without an image", f"{place}: holds no image bytes")
            return []
        key = hashlib.blake2b(content, digest_size=16).hexdigest()
        image = EncodedImage(key, place, partial(_bytes, table, picture, index, number))
        try:
            opened.append((image, image.size()))
        except DataError as error:
            problems.add("image that cannot be opened", str(error))
            return []
    if not opened:
        problems.add("row without an image", f"{where}: holds no image")
    return opened


def _values(table: Any, picture: str, index: int) -> Sequence[Any]:
    value = table[index][picture]
    return value if isinstance(value, list) else [value]


def _bytes(table: Any, picture: str, index: int, number: int) -> bytes:
    value = _values(table, picture, index)[number]
    return bytes(value if isinstance(value, bytes) else value["bytes"])


_Answer = tuple[dict[str, Any], Mapping[str, Any]] | Failure
"""Question and truth of a row."""


def _detections(solution: str, problem: str, size: tuple[int, int]) -> _Answer:
    category = category_of(problem)
    parsed = parse_detections(solution, EXTENT)
    if isinstance(parsed, Failure):
        return parsed
    lost = [note for note in parsed.notes if note.startswith("item ")]
    if lost or parsed.value.unread:
        return Failure(lost[0] if lost else f"{parsed.value.unread} boxes too many")
    boxes = Frame(size, EXTENT).to_pixels_each(parsed.value.boxes)
    truth: DetectionTruth = {"image_size": list(size), "space": "relative_1000", "boxes": boxes}
    if category != "object":
        truth["category"] = category
    return {"problem": problem, "category": category}, truth


def _label(solution: str, problem: str, size: tuple[int, int]) -> _Answer:
    parsed = parse_label(solution)
    if isinstance(parsed, Failure):
        return parsed
    truth: ClassificationTruth = {"image_size": list(size), "label": parsed.value}
    return {"problem": problem, "subject": "object"}, truth


def _one_box(solution: str, problem: str, size: tuple[int, int]) -> _Answer:
    parsed = parse_box(solution, EXTENT)
    if isinstance(parsed, Failure):
        return parsed
    box = list(Frame(size, EXTENT).to_pixels(parsed.value))
    truth: GroundingTruth = {"image_size": list(size), "space": "relative_1000", "box": box}
    return {"problem": problem, "expression": problem}, truth


_READERS: Mapping[QuestionKind, Callable[[str, str, tuple[int, int]], _Answer]] = {"name": _label, "refer": _one_box}


def write_parquet(samples: Sequence[Sample], task: Task, folder: NewFolder) -> None:
    """Write ``data.parquet`` with the columns image (or images), problem and solution; boxes are 0..1000.

    Args:
        samples: the questions.
        task: writes ``problem`` and, without reasoning, ``solution``.
        folder: where the file goes.
    """
    import datasets

    several = any(len(sample.images) > 1 for sample in samples)
    rows: dict[str, list[Any]] = {"images" if several else "image": [], "problem": [], "solution": []}
    for sample in samples:
        content = [{"bytes": folder.encoded(image), "path": None} for image in sample.images]
        rows["images" if several else "image"].append(content if several else content[0])
        rows["problem"].append(task.prompt(sample.question, CoordinateSpace.RELATIVE_1000))
        gold = task.gold(sample.truth)
        rows["solution"].append(gold[gold.index("<answer>") :])
    picture = datasets.Image(decode=False)
    kinds = {"images": datasets.List(picture)} if several else {"image": picture}
    features = datasets.Features({**kinds, "problem": datasets.Value("string"), "solution": datasets.Value("string")})
    table = datasets.Dataset.from_dict(rows, features=features)
    shown = datasets.List(datasets.Image()) if several else datasets.Image()
    table.cast_column("images" if several else "image", shown).to_parquet(str(folder.path / "data.parquet"))
