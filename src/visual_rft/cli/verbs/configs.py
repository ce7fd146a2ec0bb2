"""``visual-rft configs``: the configs of the package, listed.

Decision: an entry per experiment, because seven models times ten experiments are seventy entries that say the same;
``--json`` has all.

    visual-rft configs few-shot
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from visual_rft.config.compose import Composed, compose, names, recipes
from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft configs``."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="only names that contain every word, e.g. 7b coco")
    parser.add_argument("--json", action="store_true", help="every config as JSON, with the published numbers")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
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
    for name, tasks in recipes().items():
        print(f"--recipe {name}: other fields than the method's, beside any config")
        print("\n".join(f"  {task}: {line}" for task, line in tasks.items()))


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
