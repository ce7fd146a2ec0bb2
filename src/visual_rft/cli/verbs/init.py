"""``visual-rft init``: a config to edit, of one's own data or of the package.

Decision: what is written is a whole config that depends on no other file, and begins with the command that runs it.
With ``--data`` a folder is looked at first (:mod:`visual_rft.inspection.first_config`).

    visual-rft init --data photos --model Qwen/Qwen2.5-VL-3B-Instruct
    visual-rft init qwen2-vl-2b/few-shot-coco --out cats.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.config.compose import Composed, compose
from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft init``."""
    text = "a config of the package, e.g. qwen2-vl-2b/few-shot-coco; visual-rft configs lists all"
    parser.add_argument("name", nargs="?", metavar="NAME", help=text)
    text = "a folder or file of your data, whose format, classes and splits are found (coco, yolo, voc, imagefolder, "
    text += "jsonl, refcoco, lisa, parquet)"
    parser.add_argument("--data", type=Path, metavar="PATH", help=text)
    text = "with --data: the model to train, a folder or hub id (default: tiny, the embedded one)"
    parser.add_argument("--model", metavar="MODEL", help=text)
    text = "what to write (default: EXPERIMENT.yaml here, or named after the data)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write a config as a file to edit.

    Raises:
        ConfigError: if there is no such config, or the file exists or cannot be written.
        DataError: if the data cannot be used.
    """
    if (arguments.name is None) == (arguments.data is None):
        raise ConfigError("init: name your data (--data PATH) or a config of the package (see visual-rft configs)")
    if arguments.data is not None:
        _of_data(arguments)
        return
    if arguments.model is not None:
        raise ConfigError("init: --model goes with --data; the model of a config of the package is part of its name")
    from visual_rft.config.config import load_config

    composed = compose(arguments.name)
    if composed is None:
        raise ConfigError(f"{arguments.name}: is no config of the package (visual-rft configs lists them)")
    file: Path = arguments.out or Path(f"{composed.name.split('/')[1]}.yaml")
    load_config(composed.name)  # nothing that does not run is written
    _write(file, written(composed, str(file)))
    print(f"{file}: {composed.line}\n  needs {composed.needs}\n  {composed.command(str(file))}")


def _of_data(arguments: argparse.Namespace) -> None:
    data: Path = arguments.data
    file: Path = arguments.out or Path(f"{data.resolve().name.removesuffix(data.suffix) or 'data'}.yaml")
    _refuse_existing(file)  # before the data are read
    from visual_rft.inspection.first_config import first_config

    made = first_config(data, arguments.model or "tiny", file)
    _write(file, made.text)
    print("\n".join(made.lines))


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise ConfigError(f"{file}: exists already and is not overwritten; name another with --out")


def _write(file: Path, text: str) -> None:
    _refuse_existing(file)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from None


def written(composed: Composed, file: str) -> str:
    """A config of the package as the text of ``file``: commands, what to know, every value explained."""
    from visual_rft.config.describe import as_comment, commented

    head = [
        composed.command(file),
        f"{composed.command(file)} --dry-run       looks at it without training",
        f"visual-rft sft {file} --run.folder {composed.values['run']['folder']}-sft       the supervised baseline",
    ]
    head += ["", f"{composed.name}: {composed.line}.", f"Needs {composed.needs}."]
    head += list(composed.notes)
    if composed.published:
        head.append("The paper reports, to be compared only with the same model, data and protocol:")
    for row in composed.published:
        before = ", ".join(f"{name} {value:g}" for name, value in (("base", row.base), ("SFT", row.sft)) if value)
        head.append(f"  {row.measure}, {row.setting}: {before}, RFT {row.rft:g}")
    head.append("visual-rft train --fields lists every field there is.")
    text = "\n".join(line for part in head for line in as_comment(part))
    return f"{text}\n\n{commented(composed.values)}\n"
