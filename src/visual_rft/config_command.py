"""``visual-rft configs`` and ``visual-rft init``: the configs of the package, listed and copied.

Decision: an entry per experiment, because seven models times ten experiments are seventy entries that say the same;
``--json`` has all. What ``init`` writes is a whole config that depends on no other file.

    visual-rft configs few-shot
    visual-rft init qwen2-vl-2b/few-shot-coco --out cats.yaml
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from visual_rft.config import load_config
from visual_rft.configs.compose import Composed, compose, names
from visual_rft.describe import as_comment, commented
from visual_rft.errors import ConfigError


def add_configs_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft configs``."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="only names that contain every word, e.g. 7b coco")
    parser.add_argument("--json", action="store_true", help="every config as JSON, with the published numbers")


def add_init_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft init``."""
    parser.add_argument("name", metavar="NAME", help="e.g. qwen2-vl-2b/few-shot-coco; visual-rft configs lists all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="what to write (default: EXPERIMENT.yaml here)")


def list_configs(arguments: argparse.Namespace) -> None:
    """Print the configs of the package.

    Raises:
        ConfigError: if no name contains the words.
    """
    chosen = [name for name in names() if all(word in name for word in arguments.words)]
    if not chosen:
        raise ConfigError(f"no config is called {' '.join(arguments.words)!r}; visual-rft configs lists all")
    found = [config for name in chosen if (config := compose(name)) is not None]
    if arguments.json:
        print(json.dumps([{**asdict(config), "command": config.command()} for config in found], indent=2))
        return
    experiments = dict.fromkeys(config.name.split("/")[1] for config in found)
    print("\n".join(line for experiment in experiments for line in _entry(experiment, found)))


def _entry(experiment: str, found: list[Composed]) -> Iterator[str]:
    """The lines about one experiment: what it is, the data it needs, its command, and the models that it is for."""
    same = [config for config in found if config.name.split("/")[1] == experiment]
    models = [config.name.split("/")[0] for config in same]
    command = same[0].command()
    yield f"{experiment}: {same[0].line}"
    yield f"  needs   {same[0].needs}"
    yield f"  run     {command if len(models) == 1 else command.replace(models[0], 'MODEL')}"
    if len(models) > 1:
        yield f"  MODEL   {', '.join(models)}"
    yield ""


def init(arguments: argparse.Namespace) -> None:
    """Write a config of the package as a file to edit.

    Raises:
        ConfigError: if there is no such config, or the file exists or cannot be written.
    """
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
    head = [composed.command(file)]
    if composed.verb == "train":
        head += [
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
