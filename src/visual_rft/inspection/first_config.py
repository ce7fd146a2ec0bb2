"""The first config of one's own data: ``visual-rft init --data PATH``.

Decision: what is written is what ``check`` would ask for. The data are read as a run reads them, rows that cannot be
used are left out only if there are some (and counted), the longest gold answer sets the length of completions, and
images are held out where the data name no split. Everything that was found stands as a comment in the file, above
values that a person can change.

    written = first_config(Path("photos"), "tiny", Path("photos.yaml"))
    written.text                 # the file
    "\\n".join(written.lines)     # what to tell
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visual_rft.config.config import Config, parse_config
from visual_rft.config.describe import as_comment, commented
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import Dataset
from visual_rft.data.formats.reading import Problems
from visual_rft.data.recognise import Found, recognise
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.errors import DataError, ModelError
from visual_rft.inspection.look import spread
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import Sample, Task, load_task, task_of

MAX_HELD_OUT = 200
"""Images that an evaluation asks about; more make every evaluation of a first run longer and say little more."""
MAX_ANSWERS = 5000
"""Gold answers whose length is measured, spread over the data."""
MARGIN = 1.25
"""Room above the longest gold answer: reasoning of the model's own is longer than the gold one's."""
CHARACTERS_PER_TOKEN = 2.0
"""Of an answer of boxes, where the model's tokenizer is not at hand; digits are often a token each."""
MAX_CLASSES_NAMED = 12


@dataclass(frozen=True)
class Written:
    """A config and what is said about it.

    Attributes:
        text: content of the file.
        lines: what was found, and the next commands.
        config: the same as values.
    """

    text: str
    lines: Sequence[str]
    config: Config


def first_config(data: Path, model: str, file: Path) -> Written:
    """A config that trains on a folder or file of data.

    Args:
        data: as :func:`visual_rft.data.recognise.recognise` takes it.
        model: ``tiny``, a folder or a hub id; it need not be there.
        file: where the config will be; paths in it are relative to its folder.

    Raises:
        DataError: if the format is not known or the data cannot be used.
        ConfigError: if the model's path is not one.
    """
    found = recognise(data)
    if found.format == "parquet":
        found = replace(found, task=_task_of_table(found))
    task = load_task(found.task)
    name = found.training
    train = _source(found, name, "train" if found.held_out is None else None)
    held_out = _source(found, found.held_out or name, "held_out" if found.held_out is None else None)
    whole, problems = _read(train, task)
    measured, more = _read(held_out, task)
    for source, met in ((train, problems), (held_out, more)):
        if met.counts_that_matter:
            source["broken"] = "skip"
    _shorten(held_out, measured, found.task)
    values = _values(found, train, held_out, model, file)
    config = parse_config(values, str(data))
    asked = load_samples(config.data.train, task), load_samples(config.data.evaluation, task)
    longest, measured_by = _longest_answer(config, asked)
    values["rollout"]["max_new_tokens"] = max(values["rollout"]["max_new_tokens"], -(-int(longest * MARGIN) // 32) * 32)

    # The same sentences in the file and on the screen.
    facts = [
        f"{_FORMATS[found.format]}; {_classes(whole, measured)}",
        f"training: {_size(whole, asked[0])}, {_where(found, name, train)}",
        f"held out: {_size(measured, asked[1])}, {_where(found, found.held_out or name, held_out)}",
        *(f"left out (broken: skip): {text}" for met in (problems, more) for text in met.reasons),
        f"the longest right answer has about {longest} tokens ({measured_by})",
    ]
    if model == "tiny":
        facts.append("the embedded model is for trying this out; name a real one with --model.path")
    config_file = str(file)
    next_commands = [
        f"visual-rft check {config_file}",
        f"visual-rft train {config_file}",
        f"visual-rft report {values['run']['folder']}",
    ]
    head = [
        next_commands[1],
        f"{next_commands[0]}       looks at it without training",
        "",
        *facts,
        "Paths are relative to the folder of this file. visual-rft train --fields lists every field there is.",
    ]
    comment = "\n".join(line for part in head for line in as_comment(part))
    text = f"{comment}\n\n{commented(_as_written(values, file))}\n"
    lines = [*(f"  {fact}" for fact in facts), "next:", *(f"  {command}" for command in next_commands)]
    return Written(text, [f"{file}: written", *lines], parse_config(values, str(file)))


_FORMATS: Mapping[str, str] = {
    "coco": "COCO annotations",
    "yolo": "a YOLO data set",
    "voc": "Pascal VOC annotations",
    "imagefolder": "a folder per class",
    "jsonl": "JSON lines",
    "refcoco": "RefCOCO expressions",
    "lisa": "LISA expressions",
    "parquet": "a table of questions",
}


class _Met(Problems):
    """Problems that were met; files that are nobody's data are no reason to leave anything out."""

    @property
    def counts_that_matter(self) -> dict[str, int]:
        harmless = ("file that is not an image", "label file without an image")
        return {reason: count for reason, count in self.counts.items() if reason not in harmless}

    @property
    def reasons(self) -> list[str]:
        """Each reason that matters with its count and an example."""
        return [
            f"{count} x {reason}, e.g. {self._first[reason]}"
            for reason, count in sorted(self.counts_that_matter.items())
        ]


def _source(found: Found, split: str, part: str | None) -> dict[str, Any]:
    return {"source": found.format, **found.splits[split], **({"part": part} if part else {})}


def _read(source: Mapping[str, Any], task: Task) -> tuple[Dataset, _Met]:
    """The data, with everything that cannot be used left out and counted."""
    problems = _Met(skip=True)
    dataset = load_dataset(SourceConfig.model_validate(source), task.questions, problems)
    if not dataset.images:
        raise DataError(f"{source['path']}: no image can be used; {'; '.join(problems.reasons)}")
    return dataset, problems


def _task_of_table(found: Found) -> str:
    """The task whose answers the solutions of a table are; a name can be anything, so that is tried last."""
    source = SourceConfig.model_validate(_source(found, found.training, None))
    for name in ("detection", "grounding"):
        problems = Problems(skip=True)
        try:
            load_dataset(source, load_task(name).questions, problems)
        except DataError:  # no row can be read so; if the table itself cannot, the last reader says why
            continue
        if "solution that cannot be read" not in problems.counts:
            return name
    return "classification"


def _shorten(source: dict[str, Any], dataset: Dataset, task: str) -> None:
    """Ask about fewer held-out images: the first ones, or as many of each class where they are sorted by class."""
    if len(dataset.images) <= MAX_HELD_OUT:
        return
    if task == "classification" and dataset.samples is None:
        source["shots"] = max(1, MAX_HELD_OUT // len(dataset.classes))
    elif dataset.samples is None:
        source["count"] = MAX_HELD_OUT


def _values(
    found: Found, train: Mapping[str, Any], held_out: Mapping[str, Any], model: str, file: Path
) -> dict[str, Any]:
    tiny = model == "tiny"
    negatives = {"absent_rate": 0.1} if found.task == "detection" and found.format != "parquet" else {}
    return {
        "model": {"path": model, **({} if tiny else {"dtype": "bfloat16", "lora": {"rank": 16}})},
        "task": {"name": found.task},
        "data": {"train": [{**train, **negatives}], "evaluation": [dict(held_out)]},
        "rollout": {"group_size": 8, "max_new_tokens": 160 if tiny else 256},
        "objective": {"beta": 0.01 if tiny else 0.04},
        "optimizer": {"learning_rate": 1e-4 if tiny else 1e-5, "warmup_steps": 5 if tiny else 10},
        "run": {
            "folder": f"runs/{file.stem}",
            "steps": 40 if tiny else 200,
            "prompts_per_batch": 8,
            "evaluate_every": 0 if tiny else 50,
        },
    }


def _longest_answer(config: Config, parts: Sequence[Sequence[Sample]]) -> tuple[int, str]:
    """Tokens of the longest gold answer, and by what they were counted."""
    task = task_of(config.task)
    chosen = [samples[i] for samples in parts for i in spread(len(samples), MAX_ANSWERS)]
    answers = sorted((task.gold(sample.truth) for sample in chosen), key=len)[-20:]  # tokens go with characters
    try:
        policy = load_policy(config.model, config.rollout, empty=True)
    except ModelError as error:  # it may be on another machine
        return round(len(answers[-1]) / CHARACTERS_PER_TOKEN), f"estimated; the model is not at hand: {error}"
    tokenizer = policy.processor.tokenizer
    return max(len(tokenizer(answer)["input_ids"]) for answer in answers), f"by the tokenizer of {config.model.path}"


def _classes(*datasets: Dataset) -> str:
    names = sorted({name for dataset in datasets for name in dataset.classes})
    if not names:
        return "expressions, no classes"
    shown = ", ".join(names[:MAX_CLASSES_NAMED]) + (", ..." if len(names) > MAX_CLASSES_NAMED else "")
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'}: {shown}"


def _size(dataset: Dataset, asked: Sequence[Sample]) -> str:
    images, objects = len(dataset.images), sum(len(image.labels) for image in dataset.images)
    return f"{images:,} images with {objects:,} labels, {len(asked):,} questions"


def _where(found: Found, split: str, source: Mapping[str, Any]) -> str:
    if "part" in source:
        return "every fifth image (part: held_out)" if source["part"] == "held_out" else "the others (part: train)"
    limit = "".join(f" (of these {key}: {source[key]})" for key in ("count", "shots") if key in source)
    others = [name for name in found.splits if name not in (found.training, found.held_out)]
    return f"split {split}{limit}" + (f"; not used: {', '.join(others)}" if others and limit == "" else "")


def _as_written(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The values with paths as they stand in the file: relative to its folder where they are near."""
    data = {
        part: [
            {key: _near(value, file) if key in ("path", "annotations") else value for key, value in source.items()}
            for source in sources
        ]
        for part, sources in values["data"].items()
    }
    model = dict(values["model"])
    if Path(model["path"]).is_dir():
        model["path"] = _near(model["path"], file)
    return {**values, "model": model, "data": data}


def _near(path: str, file: Path) -> str:
    if Path(path).is_absolute():
        return path
    relative = os.path.relpath(path, file.parent)
    return os.path.abspath(path) if relative.startswith(os.path.join("..", "..")) else relative
