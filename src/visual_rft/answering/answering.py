"""Questions answered image by image: one vision pass per image, and nothing answered twice.

Decision: the image is the unit, as the group is in training. All questions about an image go into one batch if they
fit, and the weights are promised to stay, so a model keeps what its vision tower said about an image until its last
question; decoding is greedy. Answered images are appended to a journal (one JSON line each), so an interrupted
evaluation continues where it stopped.

    questions = group_by_image(samples)
    images = answer(model, task, questions, batch=96, journal=Journal(Path("answers.jsonl")))
    images[0].answers[0].text      # the completion of the first question about the first image
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from visual_rft.answering.box_questions import asked_about_boxes
from visual_rft.answering.class_list import AsksForClasses, said_classes
from visual_rft.answering.questions import Answer, ImageAnswers, ImageQuestions
from visual_rft.errors import DataError, RunFolderError
from visual_rft.files import append_json_lines, parse_json
from visual_rft.parallel.meetings import by_first, gather
from visual_rft.parallel.processes import here
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks.base import Task
from visual_rft.tasks.samples import Sample
from visual_rft.vision.boxes import is_finite_number
from visual_rft.vision.coordinates import CoordinateSpace, Frame

BATCH = 96
"""Questions answered at once: COCO's 80 classes about one image fit."""
IMAGES_AT_ONCE = 32
"""Most images in a batch, and images that are planned ahead."""
NAMES_AT_ONCE = 100
"""A longer list of classes is asked in parts."""


class Written(NamedTuple):
    """A completion as it came out of the model; the fields are those of :class:`Answer`."""

    text: str
    frame: Frame | None
    numbers: Sequence[float] | None = None


class Answerer(Protocol):
    """What answers questions greedily: a model in this process (``local.py``), or behind a server (``served.py``)."""

    @property
    def name(self) -> str:
        """What it is called in results."""

    @property
    def folder(self) -> str:
        """The folder or hub id of its weights; empty where that is not known from here."""

    @property
    def space(self) -> CoordinateSpace:
        """The units in which it writes boxes."""

    def held_still(self) -> AbstractContextManager[Any]:
        """Inside, it is promised to stay as it is."""

    def constrain(self, task: Task, names: Iterable[str]) -> None:
        """From now on it writes answers of the task's form, one of ``names`` where that is the answer.

        Raises:
            ConfigError: if the answers have no pattern.
        """

    def verify(self, prompt: Prompt) -> None:
        """Whatever can be found out with one prompt before anything is asked."""

    def check(self, prompt: Prompt) -> None:
        """Find out whether it takes a prompt's images, as far as that is known before it is asked.

        Raises:
            DataError: if it does not.
        """

    def ask(self, groups: Sequence[Sequence[Prompt]], batch: int) -> Iterator[list[Written]]:
        """What it writes about every prompt, group after group; ``batch`` at once where more would cost memory."""

    def shares_of_yes(self, prompts: Sequence[Prompt], batch: int) -> list[float]:
        """How far it answers each prompt with *Yes* and not with *No*, in [0, 1]."""


class AskedToStop(Exception):
    """What ``progress`` raises to end the work; then it is raised in every process."""


class Journal:
    """Answers on disk, one line per image; a line that was cut off by an interruption is dropped.

    Every process of several writes a file of its own beside the first one's, and :meth:`merge` makes one of them.

    Raises:
        RunFolderError: if the file cannot be read or written, or a line is not what this class writes.
    """

    def __init__(self, file: Path) -> None:
        rank = here().rank
        self.file = file if rank == 0 else file.with_name(f"{file.stem}-{rank}{file.suffix}")
        self.rows: dict[int, Mapping[str, Any]] = by_first(lambda: self._read(file), "the answers of before")

    def _read(self, first: Path) -> dict[int, Mapping[str, Any]]:
        """The lines of all processes of the time before."""
        rows: dict[int, Mapping[str, Any]] = {}
        for file in (first, *sorted(first.parent.glob(f"{first.stem}-*{first.suffix}"))):
            rows |= self._read_one(file)
        return rows

    def _read_one(self, file: Path) -> dict[int, Mapping[str, Any]]:
        rows: dict[int, Mapping[str, Any]] = {}
        try:
            lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
            if lines[-1]:
                with file.open("rb+") as opened:
                    opened.truncate(sum(len(line) + 1 for line in lines[:-1]))
        except OSError as error:
            raise RunFolderError(f"{file}: cannot be read ({error.strerror})") from None
        for number, line in enumerate(lines[:-1], 1):
            try:
                row = parse_json(line)
                rows[_image_of(row)] = row
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RunFolderError(f"{file}: line {number} is broken; delete the file to start anew") from None
        return rows

    def merge(self) -> None:
        """Put the lines of all processes into the first one's file; in that one, when all are done."""
        for file in sorted(self.file.parent.glob(f"{self.file.stem}-*{self.file.suffix}")):
            new = [row for image, row in self._read_one(file).items() if image not in self._read_one(self.file)]
            append_json_lines(self.file, new, RunFolderError)
            file.unlink()

    def append(self, image: int, answers: ImageAnswers) -> None:
        """Write what was answered about image number ``image``."""
        row = {
            "image": image,
            "answers": [
                {
                    "id": a.sample.id,
                    "text": a.text,
                    "frame": a.frame and [*a.frame.image_size, *a.frame.extent, *([True] if a.frame.tokens else [])],
                    "numbers": a.numbers and [round(n, 5) for n in a.numbers],
                    "asked": a.asked and [round(n, 5) for n in a.asked],
                }
                for a in answers.answers
            ],
            "class_lists": answers.class_lists,
        }
        append_json_lines(self.file, [row], RunFolderError)
        self.rows[image] = row

    def answers(self, image: int, questions: ImageQuestions) -> ImageAnswers | None:
        """What is known about an image; None if nothing is.

        Raises:
            RunFolderError: if other questions were asked about it.
        """
        row = self.rows.get(image)
        if row is None:
            return None
        by_id = {sample.id: sample for sample in questions.samples}
        found = []
        for known in row["answers"]:
            if known["id"] not in by_id:
                raise RunFolderError(f"{self.file}: image {image} was asked {known['id']!r}, which is not asked now")
            frame = known["frame"] and Frame(tuple(known["frame"][:2]), tuple(known["frame"][2:4]), *known["frame"][4:])
            rest = known.get("numbers"), known.get("asked")
            found.append(Answer(by_id[known["id"]], known["text"], frame or None, *rest))
        return ImageAnswers(found, row["class_lists"])


def _image_of(row: Mapping[str, Any]) -> int:
    """The number of the image that a line of the journal is about; what is no such line raises what it meets first."""
    for known in row["answers"]:
        frame, numbers = known["frame"] or (1,) * 4, [*(known.get("numbers") or ()), *(known.get("asked") or ())]
        texts = isinstance(known["id"], str) and isinstance(known["text"], str)
        if not texts or len(frame) not in (4, 5) or not all(map(is_finite_number, [*frame[:4], *numbers])):
            raise ValueError("no answer")
    if type(row["image"]) is not int or not all(isinstance(text, str) for text in row["class_lists"] or ()):
        raise ValueError("no answers about an image")
    return row["image"]


def answer(
    model: Answerer,
    task: Task,
    questions: Sequence[ImageQuestions],
    batch: int = BATCH,
    journal: Journal | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[ImageAnswers]:
    """Answer every question greedily; several processes take their share of the images, and all know all answers.

    Args:
        model: what answers.
        task: the task that writes the prompts.
        questions: the questions of each image.
        batch: greatest number of questions answered at once.
        journal: file of answers; what it knows is not asked again, what is new is appended.
        progress: function that is called with the number of images that are newly done.

    Returns:
        What was answered, image by image.

    Raises:
        AskedToStop: if ``progress`` raised it in one of the processes.
        DataError: if the processes have different questions.
    """
    if here().size > 1:
        _check_alike(questions)
    known = [journal.answers(i, asked) if journal else None for i, asked in enumerate(questions)]
    answers = {i: row for i, row in enumerate(known) if row is not None}
    waiting = [i for i in range(len(questions)) if i not in answers][here().rank :: here().size]
    new: dict[int, ImageAnswers] = {}

    def note(image: int, row: ImageAnswers) -> None:
        new[image] = row
        if journal is not None:
            journal.append(image, row)
        progress(1)

    stopped = None
    try:
        progress(len(answers))
        _answered(model, task, questions, waiting, batch, note)
    except AskedToStop as asked:
        stopped = asked
    told = gather(None if stopped else _packed_up(questions, new), "the answers")
    if stopped or None in told:
        raise stopped or AskedToStop
    if journal is not None and here().first:
        journal.merge()
    for part in told:
        answers |= _unpacked(questions, part or {})
    return [answers[i] for i in range(len(questions))]


def _check_alike(questions: Sequence[ImageQuestions]) -> None:
    """An answer goes from process to process by its number, so that all have to count the same questions."""
    digest = hashlib.sha256()
    for one in questions:
        rows = [[sample.id, sample.question] for sample in one.samples]
        digest.update(json.dumps([rows, one.choose], sort_keys=True, default=str).encode())
    told = gather((len(questions), digest.hexdigest()), "a look at the questions")
    for rank, other in enumerate(told):
        if other != told[0]:
            raise DataError(
                f"process {rank} has other questions than process 0, about {other[0]:,} images there and "
                f"{told[0][0]:,} here; give all machines the same files"
            )


def _answered(
    model: Answerer,
    task: Task,
    questions: Sequence[ImageQuestions],
    waiting: Sequence[int],
    batch: int,
    note: Callable[[int, ImageAnswers], object],
) -> None:
    """Answer the questions about the images with these numbers; each is noted when it is done."""
    with model.held_still():
        for start in range(0, len(waiting), IMAGES_AT_ONCE):
            chunk = waiting[start : start + IMAGES_AT_ONCE]
            asked, said = _chosen(model, task, [questions[i] for i in chunk], batch)
            for n, written in enumerate(model.ask([_prompts(model, task, one) for one in asked], batch)):
                rows = [Answer(sample, *one) for sample, one in zip(asked[n].samples, written, strict=True)]
                if task.scores == "asked":
                    rows = asked_about_boxes(model.shares_of_yes, task, rows, batch)
                note(chunk[n], ImageAnswers(rows, said[n]))


Packed = dict[int, tuple[list[tuple[Any, ...]], Sequence[str] | None]]
"""Answers by image, each with the number of its question: a question may hold what only its own process has."""


def _packed_up(questions: Sequence[ImageQuestions], answers: Mapping[int, ImageAnswers]) -> Packed:
    packed: Packed = {}
    for image, row in answers.items():
        numbers = {id(sample): n for n, sample in enumerate(questions[image].samples)}
        packed[image] = [(numbers[id(a.sample)], *a[1:]) for a in row.answers], row.class_lists
    return packed


def _unpacked(questions: Sequence[ImageQuestions], packed: Packed) -> dict[int, ImageAnswers]:
    return {
        image: ImageAnswers([Answer(questions[image].samples[n], *rest) for n, *rest in rows], said)
        for image, (rows, said) in packed.items()
    }


def _chosen(
    model: Answerer, task: Task, questions: Sequence[ImageQuestions], batch: int
) -> tuple[list[ImageQuestions], list[list[str] | None]]:
    """The questions that are left once the model has said which classes are there, and its words."""
    prompts = [_class_prompts(task, one.samples) if one.choose else [] for one in questions]
    left: list[ImageQuestions] = []
    said: list[list[str] | None] = []
    for one, written in zip(questions, model.ask(prompts, batch), strict=True):
        if not one.choose:
            left.append(one)
            said.append(None)
            continue
        texts = [one.text for one in written]
        names = said_classes(texts, [str(sample.question["category"]) for sample in one.samples])
        left.append(replace(one, samples=tuple(s for s in one.samples if s.question["category"] in names)))
        said.append(texts)
    return left, said


def _class_prompts(task: Task, samples: Sequence[Sample]) -> list[Prompt]:
    assert isinstance(task, AsksForClasses)  # checked where the protocol is chosen
    names = [str(sample.question["category"]) for sample in samples]
    parts = [names[start : start + NAMES_AT_ONCE] for start in range(0, len(names), NAMES_AT_ONCE)]
    return [Prompt(f"{samples[0].id} (which classes)", task.classes_prompt(part), samples[0].images) for part in parts]


def _prompts(model: Answerer, task: Task, questions: ImageQuestions) -> list[Prompt]:
    return [Prompt.of(task, sample, model.space) for sample in questions.samples]
