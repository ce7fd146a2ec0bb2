"""What ``visual-rft data`` does: few-shot, open-vocabulary, convert, tile, info and push.

Decision: every verb reads any format by the same flags, prints a table for people, or with ``--json`` one JSON object,
and writes a folder that did not exist before, with a card.

    visual-rft data few-shot --format coco --annotations a.json --images photos --classes cat,dog --shots 4 --out cats4
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visual_rft.cli.printed import info_text, made_text
from visual_rft.config.config import load_config
from visual_rft.config.explain import explain
from visual_rft.config.name_list import names_of_flag
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import Dataset, images_of
from visual_rft.data.builders import check_unseen, few_shot, open_vocabulary, restrict
from visual_rft.data.card import CARD, dataset_card
from visual_rft.data.formats.coco import load_coco, write_coco
from visual_rft.data.formats.imagefolder import write_imagefolder
from visual_rft.data.formats.jsonl import write_jsonl
from visual_rft.data.formats.parquet import write_parquet
from visual_rft.data.formats.reading import Problems
from visual_rft.data.formats.voc import write_voc
from visual_rft.data.formats.writing import NewFolder, is_plain
from visual_rft.data.formats.yolo import write_yolo
from visual_rft.data.info import describe
from visual_rft.data.presets import Preset, check_base_count, preset
from visual_rft.data.sources import load_dataset, path_of, questions_about, ready_made
from visual_rft.data.tiled import tiled
from visual_rft.errors import ConfigError, printable
from visual_rft.tasks import load_task
from visual_rft.vision.tiles import Tiling

WRITERS: dict[str, Callable[[Dataset, NewFolder], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "imagefolder": write_imagefolder,
    "jsonl": write_jsonl,
}


PRINTED: dict[str, Callable[[Mapping[str, Any]], str]] = {"info": info_text, "push": lambda result: result["said"]}
"""What is printed for people, of the verbs that make no data set."""


def run(arguments: argparse.Namespace) -> None:
    """Run the verb that was chosen.

    Raises:
        VisualRFTError: if the data cannot be used as asked.
    """
    verbs = {
        "few-shot": _few_shot, "open-vocabulary": _open_vocabulary, "convert": _convert, "tile": _tile, "info": _info,
        "push": _push,
    }  # fmt: skip
    result = verbs[arguments.data_verb](arguments)
    if arguments.json:
        text = json.dumps(result, indent=2, ensure_ascii=False)
    else:
        text = PRINTED.get(arguments.data_verb, made_text)(result)
    print(printable(text, lines=True, limit=None))


def _few_shot(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen = _preset(arguments, open_vocabulary=False)
    named = names_of_flag("--classes", arguments.classes)
    classes = named or (list(chosen.classes) if chosen else None)
    shots = arguments.shots if arguments.shots is not None else chosen.shots if chosen else None
    if shots is None:
        raise ConfigError("name the images per class with --shots, e.g. --shots 4")
    _, dataset = _read(arguments)
    wanted = dataset.classes if classes is None else classes
    small = few_shot(dataset, wanted, shots, arguments.seed, arguments.negatives)
    text = f"few-shot: {shots} images per class, seed {arguments.seed}, negatives {arguments.negatives:g}"
    boxed = any(image.boxes for image in small.images)
    with NewFolder.at(arguments.out, arguments.link) as folder:
        if boxed:
            write_coco(small, folder, text)
        else:
            write_imagefolder(small, folder)
        kind = "coco" if boxed else "imagefolder"
        _card(arguments, folder, kind, {"": small}, text, dataset.skipped)
    return {"out": str(arguments.out), "format": kind, **_counts(small), "left_out": dict(dataset.skipped)}


def _open_vocabulary(arguments: argparse.Namespace) -> dict[str, Any]:
    chosen = _preset(arguments, open_vocabulary=True)
    novel = list(chosen.classes) if chosen else names_of_flag("--novel", arguments.novel)
    if not novel:
        raise ConfigError("name the classes that training must not see with --novel a,b or a --preset")
    _, dataset = _read(arguments)
    train, test = open_vocabulary(dataset, names_of_flag("--base", arguments.base) or [], novel)
    if chosen:
        check_base_count(arguments.preset, len(train.classes))
    if arguments.shots is not None:
        train = few_shot(train, train.classes, arguments.shots, arguments.seed)
    unsure = check_unseen(dataset, train.images, novel)
    text = f"open vocabulary: {len(train.classes)} base and {len(novel)} novel classes"
    with NewFolder.at(arguments.out, arguments.link) as folder:
        for name, part in (("train", train), ("novel", test)):
            write_coco(part, NewFolder(folder.path / name, arguments.link), f"{text}; {name}")
        _card(arguments, folder, "coco", {"train": train, "novel": test}, text, dataset.skipped)
    if unsure:
        print(f"visual-rft: of {unsure} training images the annotations do not say whether every novel class is absent",
              file=sys.stderr)  # fmt: skip
    return {
        "out": str(arguments.out),
        "train": _counts(train),
        "novel": _counts(test),
        "training_images_not_verified": unsure,
        "left_out": dict(dataset.skipped),
    }


def _convert(arguments: argparse.Namespace) -> dict[str, Any]:
    source, dataset = _read(arguments)
    classes = names_of_flag("--classes", arguments.classes)
    if classes is not None:
        dataset = restrict(dataset, classes)
    unclear = 0
    if arguments.drop_unclear:
        clear = [image for image in dataset.images if is_plain(image, dataset.classes)]
        unclear = len(dataset.images) - len(clear)
        dataset = replace(dataset, images=clear)
    left_out = {**dataset.skipped, **({"image not fully boxed": unclear} if arguments.drop_unclear else {})}
    with NewFolder.at(arguments.out, arguments.link) as folder:
        if arguments.to == "parquet":
            task = load_task(_task(arguments), think=False)
            asked = questions_about(dataset, source, task.questions) if dataset.samples is None else dataset.samples
            write_parquet([ready_made(sample, task.questions, task) for sample in asked], task, folder)
            dataset = replace(dataset, images=images_of(asked))  # one that nothing is asked about is not written
        else:
            WRITERS[arguments.to](dataset, folder)
        _card(arguments, folder, arguments.to, {"": dataset}, f"converted from {source.format}", left_out)
    return {"out": str(arguments.out), "format": arguments.to, **_counts(dataset), "left_out": left_out}


def _tile(arguments: argparse.Namespace) -> dict[str, Any]:
    if not 0 < arguments.keep <= 1:
        raise ConfigError(f"--keep: {arguments.keep:g} is not in (0, 1]")
    _, dataset = _read(arguments)
    cut = tiled(dataset, Tiling(arguments.size, arguments.overlap), arguments.keep)
    empty = sum(not image.labels for image in cut.images)
    if arguments.drop_empty:
        cut = replace(cut, images=[image for image in cut.images if image.labels])
    left_out = {**dataset.skipped, **({"tile without an object": empty} if arguments.drop_empty else {})}
    text = f"tiles of {arguments.size} pixels, overlap {arguments.overlap:g}, objects from {arguments.keep:g} on"
    with NewFolder.at(arguments.out, arguments.link) as folder:
        write_coco(cut, folder, text)
        _card(arguments, folder, "coco", {"": cut}, text, left_out)
    return {"out": str(arguments.out), "format": "coco", **_counts(cut), "left_out": left_out}


def _info(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.config is not None:
        if arguments.format:
            raise ConfigError("name a config or a --format, not both")
        config = load_config(arguments.config)
        sections = {"train": config.data.train, "evaluation": config.data.evaluation}
        parts = {
            name: [(s, s.questions or load_task((s.task or config.task).name).questions) for s in sources]
            for name, sources in sections.items()
        }
        return describe(parts, arguments.sheet)
    if not arguments.format:
        raise ConfigError("name what to look at: a CONFIG.yaml, or --format and --path")
    questions = load_task(_task(arguments)).questions
    parts = {}
    for path, file, split in _aligned(arguments.path, arguments.annotations, arguments.split):
        source = _source(arguments, path, file, split)
        named = [text for text in (path, file, split) if text]
        parts[" ".join(named) or arguments.format] = [(source, questions)]
    return describe(parts, arguments.sheet)


def _push(arguments: argparse.Namespace) -> dict[str, Any]:
    from visual_rft.export.push import offered

    said = offered(arguments.folder, arguments.name, arguments.public, arguments.confirm, "dataset")
    return {"folder": str(arguments.folder), "name": arguments.name, "sent": arguments.confirm, "said": said}


def _card(
    arguments: argparse.Namespace, folder: NewFolder, form: str, parts: Mapping[str, Dataset], made: str,
    left_out: Mapping[str, int],
) -> None:  # fmt: skip
    folder.write_text(CARD, dataset_card(arguments.out.name, form, parts, made, left_out, arguments.licence))


def _aligned(*flags: Sequence[str] | None) -> list[tuple[str | None, ...]]:
    """Several values of one flag beside one, or as many, of the others."""
    count = max(len(values or ()) for values in flags) or 1
    columns: list[Sequence[str | None]] = []
    for values in flags:
        given: Sequence[str | None] = values or [None]
        if len(given) not in (1, count):
            raise ConfigError(f"give --path, --annotations and --split one value each, or {count}")
        columns.append(given if len(given) == count else [*given] * count)
    return list(zip(*columns, strict=True))


def _read(arguments: argparse.Namespace) -> tuple[SourceConfig, Dataset]:
    source = _source(arguments, arguments.path, arguments.annotations, arguments.split)
    if source.format == "coco":
        # Headers of all images would be opened for a handful that is chosen; those are looked at when they are copied.
        annotations = Path(source.annotations) if source.annotations else None
        dataset = load_coco(path_of(source), annotations, Problems(source.broken == "skip"))
        return source, replace(dataset, images=dataset.images[: source.count])
    return source, load_dataset(source, load_task(_task(arguments)).questions)


def _source(
    arguments: argparse.Namespace, path: str | None, annotations: str | None, split: str | None
) -> SourceConfig:
    values = {"source": arguments.format, "path": path, "annotations": annotations, "split": split}
    try:
        broken = "skip" if getattr(arguments, "skip_broken", True) else "refuse"  # info always counts
        return SourceConfig.model_validate({**values, "count": arguments.count, "broken": broken})
    except ValidationError as error:
        raise ConfigError(f"command line: {explain(error, SourceConfig)}") from None


def _task(arguments: argparse.Namespace) -> str:
    """What the data are about, where it is not said."""
    usual = {"imagefolder": "classification", "flowers": "classification", "refcoco": "grounding", "lisa": "grounding"}
    return str(arguments.task or usual.get(arguments.format, "detection"))


def _preset(arguments: argparse.Namespace, open_vocabulary: bool) -> Preset | None:
    if not arguments.preset:
        return None
    chosen = preset(arguments.preset)
    if open_vocabulary and not chosen.open_vocabulary:
        raise ConfigError(f"preset {arguments.preset} is a few-shot list of classes; use data few-shot")
    return chosen


def _counts(dataset: Dataset) -> dict[str, Any]:
    holding = Counter(label for image in dataset.images for label in set(image.labels) if label)
    return {
        "images": len(dataset.images),
        "objects": sum(len(image.labels) for image in dataset.images),
        "images_per_class": {name: holding[name] for name in dataset.classes},
    }
