"""From the ``data`` section of a config to samples.

Decision: a format is one module with one function that reads it; which one is a name in a plain dict. What is asked
is decided here, the same for all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from visual_rft.config.paths import hint
from visual_rft.config.sources import PROCEDURAL, QuestionKind, SourceConfig
from visual_rft.data.annotated import (
    AnnotatedImage,
    Dataset,
    EveryClass,
    OneQuestionPerImage,
    PresentClasses,
    facts_of,
)
from visual_rft.data.builders import select_images
from visual_rft.data.duplicates import remarks
from visual_rft.data.formats.coco import load_coco
from visual_rft.data.formats.foreign import recognised
from visual_rft.data.formats.imagefolder import load_imagefolder
from visual_rft.data.formats.jsonl import load_jsonl
from visual_rft.data.formats.lisa import load_lisa
from visual_rft.data.formats.parquet import load_parquet
from visual_rft.data.formats.reading import Problems, check_sizes
from visual_rft.data.formats.refcoco import load_refcoco
from visual_rft.data.formats.voc import load_voc
from visual_rft.data.formats.yolo import load_yolo
from visual_rft.data.imprecise import Imprecise
from visual_rft.data.lazy import Asked, Completed, Joined, LabelsAlone, LazySequence
from visual_rft.data.moved import Moved
from visual_rft.data.parts import part_of
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.flowers import Flowers
from visual_rft.data.procedural.referring import KINDS, OneReferencePerImage
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.data.tiled import tiled
from visual_rft.errors import DataError, printable
from visual_rft.files import at_home
from visual_rft.tasks.base import Task
from visual_rft.tasks.mixture import Tasks
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.truth import check_question
from visual_rft.vision.coordinates import CoordinateSpace
from visual_rft.vision.tiles import Tiling

SUBJECTS = {"flowers": "flower", "digits": "handwritten digit", "shapes": "shape"}
"""What is named in a classification question about a source, where it is not ``object``."""
DEFAULT_COUNT = 64
"""Images of a procedural source whose count is not given."""


def path_of(source: SourceConfig) -> Path:
    """The file or folder of a source.

    Raises:
        DataError: if it is not there.
    """
    path = at_home(str(source.path))
    if not path.exists():
        raise DataError(f"{path}: there is no such {'file' if source.format == 'jsonl' else 'folder'}{hint(path)}")
    return path


def _annotations_of(source: SourceConfig) -> Path | None:
    """The annotation file that a source names, if any; a missing one is an error, as in :func:`path_of`."""
    file = at_home(source.annotations) if source.annotations else None
    if file is not None and not file.exists():
        raise DataError(f"{file}: no such file{hint(file)}")
    return file


Reader = Callable[[SourceConfig, QuestionKind, Problems], Dataset]
"""Reads a source: where it is, what will be asked, and what happens to rows that cannot be used."""


def _reader(load: Callable[[Path, str | None, Problems], Dataset]) -> Reader:
    """The reader of a format that is told its folder and split, and nothing else."""
    return lambda source, _questions, problems: load(path_of(source), source.split, problems)


def _read_coco(source: SourceConfig, _questions: QuestionKind, problems: Problems) -> Dataset:
    return load_coco(path_of(source), _annotations_of(source), problems)


def _read_jsonl(source: SourceConfig, _questions: QuestionKind, problems: Problems) -> Dataset:
    return load_jsonl(path_of(source), problems)


def _read_parquet(source: SourceConfig, questions: QuestionKind, problems: Problems) -> Dataset:
    return load_parquet(os.path.expanduser(str(source.path)), questions, source.split, problems)  # a hub id is no path


READERS: Mapping[str, Reader] = {
    "coco": _read_coco,
    "yolo": _reader(load_yolo),
    "voc": _reader(load_voc),
    "imagefolder": _reader(load_imagefolder),
    "jsonl": _read_jsonl,
    "refcoco": _reader(load_refcoco),
    "lisa": _reader(load_lisa),
    "parquet": _read_parquet,
}
"""How each format is read."""


def load_dataset(source: SourceConfig, questions: QuestionKind, problems: Problems | None = None) -> Dataset:
    """The images of one source, or its ready-made questions.

    Args:
        source: where they come from.
        questions: what will be asked.
        problems: what happens to rows that cannot be used; default as ``source.broken`` says, and what was left out or
            is worth a remark is printed on standard error.

    Raises:
        DataError: if a file, image or box of the source is not usable.
    """
    if source.tiles is not None and questions not in ("present", "one"):
        raise DataError("data: 'tiles' cut pictures apart; only 'find every CLASS' can be asked about a part")
    if source.format in PROCEDURAL:
        return _cut(_selected(_procedural(source, questions), source), source)
    said = problems is None
    problems = problems or Problems(skip=source.broken == "skip")
    try:
        dataset = READERS[source.format](source, questions, problems)
    except DataError as error:
        raise _explained(error, source) from None
    if source.part is not None:
        dataset = part_of(dataset, source.part)
    samples = None if dataset.samples is None else dataset.samples[: source.count]
    images = dataset.images[: source.count] if samples is None else dataset.images
    dataset = check_sizes(_selected(replace(dataset, images=images, samples=samples), source), problems)
    problems.notes += remarks(dataset, questions)
    for line in problems.lines() if said else []:
        print(printable(f"data: {source.path}: {line}"), file=sys.stderr)
    return _cut(dataset, source)


def _cut(dataset: Dataset, source: SourceConfig) -> Dataset:
    """The data with their pictures in tiles, where the source says so."""
    tiles = source.tiles
    return dataset if tiles is None else tiled(dataset, Tiling(tiles.size, tiles.overlap), tiles.keep)


def _explained(error: DataError, source: SourceConfig) -> DataError:
    """The error of a reader, or what the data are instead, where they are another tool's."""
    path = at_home(str(source.path))
    if not path.exists():
        return error
    found = recognised(path, at_home(source.annotations) if source.annotations else None)
    if found is None or found[1].remedy.startswith(f"read it with source: {source.format}"):
        return error
    file, kind = found
    return DataError(f"{file}: this is {kind.name}, not {source.format}; {kind.remedy} ({error})")


def _selected(dataset: Dataset, source: SourceConfig) -> Dataset:
    """What ``classes``, ``novel`` and ``shots`` of a source select."""
    if (source.classes, source.novel, source.shots) == (None, None, None):
        return dataset
    return select_images(dataset, source.classes, source.novel, source.shots, source.seed)


def _procedural(source: SourceConfig, questions: QuestionKind) -> Dataset:
    count = source.count or DEFAULT_COUNT
    if source.format == "shapes":
        fewest = source.min_objects or (2 if questions == "refer" else 1)  # one object needs no reasoning
        return Dataset(Shapes(count, source.seed, source.max_objects or Shapes.most_objects, fewest), Shapes.classes)
    if source.format == "flowers":
        return Dataset(Flowers(count, source.seed), Flowers.classes)
    most = source.max_objects or Digits.most_objects
    fewest = source.min_objects or 1
    return Dataset(Digits(count, source.split or "train", source.seed, most, fewest), Digits.classes)


def load_samples(sources: Sequence[SourceConfig], tasks: Tasks) -> Sequence[Sample]:
    """The questions of all sources, one after another.

    Args:
        sources: where the images come from; ``questions`` says what is asked about them.
        tasks: say it where a source does not; of several, a source that names none asks the main one.

    Raises:
        DataError: if a source is not usable or yields no question.
    """
    parts: list[Sequence[Sample]] = []
    why: list[str] = []
    for number, source in enumerate(sources):
        called, task = tasks.asked_in(source)
        questions = source.questions or task.questions
        dataset = load_dataset(source, questions)
        if dataset.samples is not None:
            samples: Sequence[Sample] = [ready_made(sample, questions, task) for sample in dataset.samples]
        else:
            samples = Completed(questions_about(dataset, source, questions), task)
            if questions != task.questions and len(samples):
                _check_answerable(samples, questions, task)
        if len(samples) == 0:
            why += _reasons(dataset)
        if not source.reasoning:
            samples = LabelsAlone(samples)
        if source.imprecision > 0:
            samples = Imprecise(samples, source.imprecision, source.imprecision, source.seed)
        if source.copies > 0:
            objects = {image.image.key: image.boxes for image in dataset.images}
            samples = Moved(samples, source.copies, source.seed, objects)
        parts.append(samples if called is None and not number else Asked(samples, number, called))
    joined = parts[0] if len(parts) == 1 else Joined(parts)
    if not parts or len(joined) == 0:
        raise DataError(f"the data sources yield no question: {'; '.join(why) or 'no image holds an object'}")
    return joined


def _reasons(dataset: Dataset) -> list[str]:
    """Why a data set may yield no question: what was left out, and what cannot be asked about."""
    crowds = sum(len(image.crowds) for image in dataset.images)
    reasons = [f"left out: {count} x {reason}" for reason, count in sorted(dataset.skipped.items())]
    if crowds:
        reasons.append(f"{crowds} crowd regions (iscrowd 1), which are not asked about, and no object of its own")
    return reasons


def questions_about(dataset: Dataset, source: SourceConfig, questions: QuestionKind) -> Sequence[Sample]:
    """The questions of one kind about the images of a source.

    Raises:
        DataError: if the source does not hold what is asked for.
    """
    images, classes, name = dataset.images, dataset.classes, source.format
    made = name in PROCEDURAL
    if questions == "own":
        raise DataError(f"data: source {name!r} has no questions of its own; write them as lines of a jsonl source, "
                        '{"image": ..., "question": {"question": "..."}, "truth": {...}}')  # fmt: skip
    if questions == "refer":
        if name == "shapes":
            return OneReferencePerImage(images, source.seed, source.expressions or tuple(KINDS))
        if made or not any(image.expressions for image in images):
            raise DataError(f"data: source {name!r} has no referring expressions; 'shapes', 'refcoco' and 'lisa' have")
        return [image.refer(text, target) for image in images for text, target in image.expressions]
    if questions == "name":
        named = OneNamePerImage(images, source.subject or SUBJECTS.get(name, "object"))
        return named if made else list(named)
    if not made and all(not image.boxes for image in images) and any(image.labels for image in images):
        raise DataError(f"data: source {name!r} has labels but no boxes; ask it with --task classification")
    if not made and not classes and any(image.expressions for image in images):
        raise DataError(f"data: source {name!r} has expressions but no classes; ask it with --task grounding")
    if questions == "every":
        return EveryClass(images, classes)
    if questions == "one":
        known = images if made else [image for image in images if image.present or image.absent(classes)]
        return OneQuestionPerImage(known, classes, source.absent_rate, source.seed)
    return PresentClasses(images, classes, source.absent_rate, source.seed)


_NAMED_BY: Mapping[QuestionKind, str] = {
    "present": "category",
    "one": "category",
    "every": "category",
    "name": "subject",
    "own": "question",
    "refer": "expression",
}
"""What tables and pictures call a question by, whatever its own text says."""


def ready_made(sample: Sample, questions: QuestionKind, task: Task) -> Sample:
    """A question that came with the data, as the task needs it.

    Raises:
        DataError: if its truth is not what the task needs; the message names the sample.
    """
    problem = sample.question.get("problem")
    # "Name the object" is a question; "find every object" is one that nobody asked, so a category is never made up.
    name = problem if questions in ("refer", "own") or (problem is None and questions != "name") else "object"
    question = {**({} if name is None else {_NAMED_BY[questions]: name}), **sample.question}
    try:
        check_question(question)
        facts_of(sample.truth, "truth")
        complete = task.completed(replace(sample, task=task.name, question=question))
        sample = complete
        task.worded(sample.question, CoordinateSpace.RELATIVE_1000)
        task.score(task.gold(sample.truth), sample.truth)
    except DataError as error:
        raise DataError(f"question {sample.id}: does not fit the task {task.name!r}: {error}") from None
    except KeyError as error:
        raise DataError(f"question {sample.id}: does not fit the task {task.name!r}: it has no {error}") from None
    return complete


def _check_answerable(samples: Sequence[Sample], questions: QuestionKind, task: Task) -> None:
    """Refuse questions of another kind than a task's own that it can neither put nor score."""
    try:
        sample = samples[0]
        task.worded(sample.question, CoordinateSpace.RELATIVE_1000)
        task.score(task.gold(sample.truth), sample.truth)
    except (DataError, KeyError):
        raise DataError(
            f"data: the task {task.name!r} cannot ask questions {questions!r}; leave 'questions' at null, which asks "
            f"{task.questions!r}"
        ) from None


class OneNamePerImage(LazySequence[Sample]):
    """The question "name the kind of ``subject``" about each image."""

    def __init__(self, images: Sequence[AnnotatedImage], subject: str) -> None:
        super().__init__(len(images))
        self.images, self.subject = images, subject

    def item(self, index: int) -> Sample:
        return self.images[index].name(self.subject)
