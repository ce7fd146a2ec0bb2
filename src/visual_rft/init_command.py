"""``visual-rft init``: a config of the package as a commented file to edit.

Decision: what is written is a whole config that depends on no other file, and begins with the command that runs it.

    visual-rft init qwen2-vl-2b/few-shot-coco --out cats.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.configs.compose import Composed, compose
from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft init``."""
    parser.add_argument("name", metavar="NAME", help="e.g. qwen2-vl-2b/few-shot-coco; visual-rft configs lists all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="what to write (default: EXPERIMENT.yaml here)")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write a config of the package as a file to edit.

    Raises:
        ConfigError: if there is no such config, or the file exists or cannot be written.
    """
    from visual_rft.config import load_config

    composed = compose(arguments.name)
    if composed is None:
        raise ConfigError(f"{arguments.name}: is no config of the package (visual-rft configs lists them)")
    file: Path = arguments.out or Path(f"{composed.name.split('/')[1]}.yaml")
    load_config(composed.name)  # nothing that does not run is written
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(written(composed, str(file)))
    except FileExistsError:
        raise ConfigError(f"{file}: exists already and is not overwritten; name another with --out") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from None
    print(f"{file}: {composed.line}\n  needs {composed.needs}\n  {composed.command(str(file))}")


def written(composed: Composed, file: str) -> str:
    """A config of the package as the text of ``file``: commands, what to know, every value explained."""
    from visual_rft.describe import as_comment, commented

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
