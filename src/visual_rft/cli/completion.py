"""What a shell completes: verbs, flags, fields of a config with their values, configs and run folders.

Decision: argcomplete asks the parser itself, so there is no second list of flags. The shell calls ``visual-rft`` with
``_ARGCOMPLETE`` in the environment; only then is anything of this imported, and a plain start costs what it did.

    eval "$(visual-rft --completion bash)"      # in ~/.bashrc; zsh and fish likewise
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from visual_rft.cli.arguments import Parser
from visual_rft.config.compose import names
from visual_rft.config.describe import fields
from visual_rft.config.objective import ADVANTAGES, LOSSES
from visual_rft.config.paths import is_kept_by_a_run
from visual_rft.tasks import TASKS

Completer = Callable[..., Iterable[str]]
"""Given what is typed of a word, the words that it may become."""
SHELLS = ("bash", "zsh", "fish")
_files, _folders = FilesCompleter(), DirectoriesCompleter()
_yaml = FilesCompleter(allowednames=("yaml", "yml", "json"))


def shell_code(shell: str) -> str:
    """What a shell has to run for the command to be completed.

    Args:
        shell: one of :data:`SHELLS`.
    """
    return shellcode(["visual-rft"], shell=shell)


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that called, and end the process."""
    prepare(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)  # 150 fields only where a flag is begun


def prepare(parser: argparse.ArgumentParser) -> None:
    """Give every argument of all verbs what completes it, and make flags of the fields that a verb takes."""
    if isinstance(parser, Parser):
        parser.checks_words = False
        if parser.takes_fields:
            _add_fields(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                prepare(inner)
        elif "--SECTION.FIELD" in action.option_strings:
            action.help = argparse.SUPPRESS  # a placeholder, for --help
        elif not action.choices and not hasattr(action, "completer"):
            action.completer = _COMPLETERS.get(action.dest) or _of_metavar(action)  # type: ignore[attr-defined]


def _words(known: Iterable[str]) -> Completer:
    return lambda **_: known


def runs(prefix: str, **_: object) -> Iterator[str]:
    """Run folders that begin so, those in ``runs`` without a prefix too, and the folders on the way to others."""
    base = prefix[: prefix.rfind("/") + 1]
    for place in dict.fromkeys((base, "runs/") if not base else (base,)):
        try:
            entries = sorted(entry.name for entry in os.scandir(place or ".") if entry.is_dir())
        except OSError:
            continue
        for name in entries:
            if is_kept_by_a_run(Path(place, name, "config.yaml")):
                yield f"{place}{name}"
            elif place == base and not name.startswith("."):
                yield f"{place}{name}/"


def models(prefix: str, **_: object) -> Iterator[str]:
    """The embedded model, run folders, and folders."""
    yield from ("tiny", *runs(prefix))


def configs(prefix: str, **_: object) -> Iterator[str]:
    """Config files, and the names of the package's."""
    yield from _yaml(prefix)
    yield from names()


_COMPLETERS: dict[str, Completer] = {
    "config": configs, "what": lambda prefix, **_: ("detection", *configs(prefix)), "name": lambda **_: names(),
    "run": runs, "runs": runs, "model": models, "task": _words(TASKS), "task_name": _words(TASKS),
}  # fmt: skip
"""By the name of an argument, which means the same in every verb."""


_NAMES = {"--task.name": TASKS, "--objective.loss": LOSSES, "--objective.advantages": ADVANTAGES}
"""Fields that take a name of ours or something of the user's."""


def _of_metavar(action: argparse.Action) -> Completer:
    """Files or folders where the name of the value says so, or its type; nothing for numbers and words."""
    if action.metavar in ("DIR", "OUT"):
        return _folders
    if action.metavar in ("FILE", "PATH", "IMAGE") or action.type is Path:
        return _files
    return _words(())


def _add_fields(parser: Parser) -> None:
    known = {flag for action in parser._actions for flag in action.option_strings}
    for field in fields():
        if field.flag not in known and not field.is_list:
            parser.add_argument(field.flag, help=field.meaning.replace("%", "%%"), metavar="VALUE").completer = (  # type: ignore[attr-defined]
                _of_field(field.flag, field.values)
            )


def _of_field(flag: str, values: tuple[str, ...]) -> Completer:
    if flag == "--model.path":
        return models
    if flag in _NAMES:
        return _words(_NAMES[flag])
    return _files if flag.endswith((".path", ".annotations", ".folder")) else _words(values)
