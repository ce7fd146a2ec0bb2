"""The flags of ``visual-rft data``.

Decision: apart from what they do, so that ``visual-rft --help`` imports no reader. Every verb reads any format by the
same flags.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visual_rft.cli.arguments import add_sending
from visual_rft.data.presets import PRESETS

FORMATS = (
    "coco", "yolo", "voc", "imagefolder", "jsonl", "refcoco", "lisa", "parquet", "shapes", "digits", "flowers",
)  # fmt: skip
"""What can be read."""
WRITTEN = ("coco", "yolo", "voc", "imagefolder", "jsonl", "parquet")
"""What can be written."""


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Do what the verb says and print what was done."""
    from visual_rft.cli import data_sets as command

    command.run(arguments)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs with their flags."""
    verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="VERB")

    def add(name: str, line: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example: visual-rft data {name} {example}"
        made = verbs.add_parser(name, help=line, description=line, epilog=epilog)
        made.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
        return made

    line = "Choose K images per class into a COCO-format folder; the set of fewer shots is part of it."
    example = "--format coco --annotations a.json --images photos --classes cat,dog --shots 4 --out cats4"
    verb = add("few-shot", line, example)
    _add_source(verb)
    _add_target(verb)
    verb.add_argument("--classes", metavar="A,B", help="class names, separated by commas; default all")
    verb.add_argument("--preset", choices=sorted(PRESETS), help="class names of a published split")
    verb.add_argument("--shots", type=int, metavar="K", help="images per class")
    verb.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice (default 0)")
    text = "images without any of the classes to add, as a share of the others (default 0)"
    verb.add_argument("--negatives", type=float, default=0.0, metavar="RATE", help=text)

    line = "Split into OUT/train, images of base classes without any novel object, and OUT/novel, images of novel ones."
    example = "--preset coco-65-15 --format coco --annotations a.json --images photos --out open"
    verb = add("open-vocabulary", line, example)
    _add_source(verb)
    _add_target(verb)
    verb.add_argument("--base", metavar="A,B", help="classes to train on; default all that are not novel")
    verb.add_argument("--novel", metavar="C,D", help="classes that training must not see")
    named = sorted(name for name, preset in PRESETS.items() if preset.open_vocabulary)
    verb.add_argument("--preset", choices=named, help="novel classes of a published split")
    verb.add_argument("--shots", type=int, metavar="K", help="keep K images per base class only")
    verb.add_argument("--seed", type=int, default=0, metavar="S", help="of their choice (default 0)")

    line = "Write the data in another format."
    verb = add("convert", line, "--format voc --path voc2007 --to coco --out coco2007")
    _add_source(verb)
    _add_target(verb)
    verb.add_argument("--to", choices=WRITTEN, required=True, help="format to write")
    verb.add_argument("--classes", metavar="A,B", help="keep the labels of these classes only; every image stays")
    text = "leave out images with crowd regions or unboxed objects, which yolo and voc cannot say"
    verb.add_argument("--drop-unclear", action="store_true", help=text)

    line = "Cut large pictures into overlapping tiles, with the labels that are true of each."
    verb = add("tile", line, "--format coco --path aerial --size 640 --out aerial640")
    _add_source(verb)
    _add_target(verb)
    verb.add_argument("--size", type=int, default=640, metavar="N", help="pixels a side of a tile (default 640)")
    text = "least share of its side that a tile has in common with the next one (default 0.2)"
    verb.add_argument("--overlap", type=float, default=0.2, metavar="SHARE", help=text)
    text = "least share of an object that must be seen for it to be labelled in a tile (default 0.25)"
    verb.add_argument("--keep", type=float, default=0.25, metavar="SHARE", help=text)
    text = "leave out tiles without an object"
    verb.add_argument("--drop-empty", action="store_true", help=text)

    line = "Count images, objects and classes, decode every image, find near-duplicates within and across parts."
    verb = add("info", line, "--format yolo --path folder --split train val --sheet sheet.png")
    text = "look at the training and evaluation data of a run"
    verb.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml", help=text)
    _add_source(verb, several=True)
    verb.add_argument("--sheet", type=Path, metavar="FILE", help="picture of 12 images with their labels")

    line = "Say what of a written data set would be sent to a hub; --confirm sends it."
    verb = add("push", line, "cats4 someone/cats --confirm")
    verb.add_argument("folder", type=Path, metavar="FOLDER", help="made by another verb, with its README.md")
    verb.add_argument("name", metavar="NAMESPACE/NAME", help="of the data set there")
    add_sending(verb)


def _add_source(verb: argparse.ArgumentParser, several: bool = False) -> None:
    """What is read; ``several`` lets a flag name the parts that are compared."""
    many: dict[str, Any] = {"nargs": "+"} if several else {}
    text = f"how the data are stored: {', '.join(FORMATS)}"
    verb.add_argument("--format", choices=FORMATS, required=not several, metavar="NAME", help=text)
    text = "folder or file of the data; of coco, the folder of the images"
    verb.add_argument("--path", "--images", metavar="DIR", help=text, **many)
    verb.add_argument("--annotations", metavar="FILE", help="JSON file of coco (default: in the folder)", **many)
    verb.add_argument("--split", metavar="NAME", help="part of the data, e.g. train or val", **many)
    verb.add_argument("--count", type=int, metavar="N", help="the first N images only")
    tasks = ("detection", "classification", "grounding")
    verb.add_argument("--task", choices=tasks, help="what the data are about; default by format")


def _add_target(verb: argparse.ArgumentParser) -> None:
    text = "leave rows that cannot be used out, and count them"
    verb.add_argument("--skip-broken", action="store_true", help=text)
    verb.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder to make")
    text = "of pictures and labels, for the card (README.md), e.g. cc-by-4.0; default left to be filled in"
    verb.add_argument("--licence", metavar="NAME", help=text)
    verb.add_argument("--link", action="store_true", help="symbolic links to the images instead of copies")
