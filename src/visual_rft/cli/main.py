"""The command line: one verb, one function call.

Decision: a verb is a line of the table below and a light module next to what it does, with its arguments
(``add_arguments``) and its call (``run``). Errors the user can mend are one line on standard error and exit code 2 (two
where a task or reward of the user's own failed); anything else is a bug with its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

from visual_rft.cli.arguments import DescribeFields, Parser, split_fields
from visual_rft.cli.verbs import (
    app,
    check,
    configs,
    data,
    demo,
    evaluate,
    export,
    init,
    play,
    predict,
    report,
    reproduce,
    score,
    train,
    view,
)  # fmt: skip
from visual_rft.errors import ConfigError, RunStopped, VisualRFTError, printable
from visual_rft.parallel.launch import launched


class Command(Protocol):
    """What the module of a verb holds."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Add what the verb can be told."""

    def run(self, arguments: argparse.Namespace, overrides: Sequence[str], /) -> int | None:
        """Do it; ``overrides`` are the ``--section.field value`` flags. Returns the exit code, None meaning 0."""


class Verb(NamedTuple):
    """One verb.

    Attributes:
        command: module of the verb.
        line: one sentence on what it does.
        example: a command that works in a checkout.
        fields: whether any field of a config can be given as a flag.
        interrupted: words on what to do after Ctrl-C.
        shared: whether several processes that a launcher started do it together.
    """

    command: Command
    line: str
    example: str
    fields: bool = False
    interrupted: str = ""
    shared: bool = False


_RESUME = "; continue with --resume"
VERBS: dict[str, Verb] = {
    "demo": Verb(
        demo, "Few-shot reinforcement with the embedded model, before and after.",
        "visual-rft demo --task grounding --seed 1", fields=True, shared=True,
    ),
    "train": Verb(
        train, "Train by reinforcement (GRPO with verifiable rewards).",
        "visual-rft train examples/coco.yaml --model.path tiny --data.train.0.count 16",
        fields=True, interrupted=_RESUME, shared=True,
    ),
    "sft": Verb(
        train, "Train on gold answers: the supervised baseline.",
        "visual-rft sft examples/coco.yaml --run.folder runs/coins-sft", fields=True, interrupted=_RESUME,
        shared=True,
    ),
    "check": Verb(
        check, "Check a run before training: data, coordinates, rewards, token counts, memory.",
        "visual-rft check examples/coco.yaml --samples 50", fields=True, shared=True,
    ),
    "play": Verb(
        play, "Answer a question of a run yourself: see its rewards, the parsed answer and the boxes.",
        "visual-rft play examples/coco.yaml --sample 3 --gold", fields=True,
    ),
    "evaluate": Verb(
        evaluate, "Evaluate models on held-out questions, or score predictions that are in a file.",
        "visual-rft evaluate examples/coco.yaml --protocol all", fields=True,
        interrupted="; the same command continues", shared=True,
    ),
    "predict": Verb(
        predict, "Ask about images, draw the answers and write them in COCO format.",
        "visual-rft predict coins/0001.png --ask coin", shared=True,
    ),
    "app": Verb(
        app, "A page in the browser: drop a picture, ask, and compare models side by side (needs gradio).",
        "visual-rft app --model tiny --model runs/demo",
    ),
    "export": Verb(
        export, "Write a trained model with its processor and model card, and how to serve it.",
        "visual-rft export runs/demo --out my-model",
    ),
    "report": Verb(
        report, "Make one HTML file of a run, or of several compared: curves, and every rollout with its boxes drawn.",
        "visual-rft report runs/demo --out demo.html",
    ),
    "view": Verb(
        view, "Look at a run while it goes on, in a browser on this machine.", "visual-rft view runs/demo --port 8765"
    ),
    "score": Verb(
        score, "Score one completion; prints every reward part, the total, the parsed answer and why it failed.",
        """visual-rft score --task classification --truth '{"label": "cat"}' --completion '<answer>cat</answer>'""",
    ),
    "configs": Verb(
        configs, "List the configs that come with the package: the paper's experiments on each model.",
        "visual-rft configs 2b few-shot",
    ),
    "init": Verb(
        init, "Look at your data and write a commented config for them; or copy a config of the package to edit.",
        "visual-rft init --data photos --out photos.yaml",
    ),
    "reproduce": Verb(
        reproduce, "The paper's experiments in miniature: base, supervised and reinforcement fine-tuning.",
        "visual-rft reproduce few-shot-detection --seeds 1 --shots 4", interrupted="; the same command continues",
        shared=True,
    ),
    "data": Verb(data, "Build, convert and look at data sets.", "visual-rft data few-shot --help"),
}  # fmt: skip
"""Every verb, in the order of ``visual-rft --help``."""


class _PrintCompletion(argparse.Action):
    """``--completion SHELL``: print what the shell has to run, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: object, shell: Any, _flag: object = None) -> None:
        from visual_rft.cli.completion import shell_code

        print(shell_code(shell))
        parser.exit()


def make_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="visual-rft", description="Visual reinforcement fine-tuning.", epilog="example: visual-rft demo"
    )
    parser.add_argument("--version", action="version", version=f"visual-rft {version('visual-rft')}")
    text = 'print what makes the shell complete this command: eval "$(visual-rft --completion bash)"'
    parser.add_argument("--completion", action=_PrintCompletion, choices=("bash", "zsh", "fish"), help=text)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, verb in VERBS.items():
        made = verbs.add_parser(name, help=verb.line, description=verb.line, epilog=f"example: {verb.example}")
        verb.command.add_arguments(made)
        if verb.fields:
            _add_fields(made)
    return parser


def _add_fields(parser: Parser) -> None:
    parser.takes_fields = True
    group = parser.add_argument_group("fields of the config")
    group.add_argument("--fields", action=DescribeFields, nargs=0, help="list them all, with their defaults, and exit")
    group.add_argument("--SECTION.FIELD", dest="_", metavar="VALUE", help="any of them, e.g. --run.steps 10")
    if "task" not in {action.dest for action in parser._actions}:
        group.add_argument("--task", dest="task_name", metavar="NAME", help="short for --task.name")
    text = "images per class of every training source; the run folder is named after it"
    group.add_argument("--shots", dest="shots", metavar="K", help=text)
    text = "the fields of a recipe in the place of the method's, e.g. gold-first (docs/configs.md)"
    group.add_argument("--recipe", dest="recipe", metavar="NAME", help=text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 a check failed, 2 the user can mend it)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the prefetch thread would make it warn at every fork
    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        from visual_rft.cli.completion import complete

        complete(parser)
    fields: list[str] = []
    if words and words[0] in VERBS and VERBS[words[0]].fields:
        words, fields = split_fields(words)
    arguments = parser.parse_args(words)
    if arguments.verb is None:
        parser.print_help()
        return 0
    verb = VERBS[arguments.verb]
    if getattr(arguments, "task_name", None):
        fields = ["--task.name", arguments.task_name, *fields]
    if verb.fields and arguments.shots is not None:
        fields = [*fields, "--shots", arguments.shots]
    if verb.fields and arguments.recipe is not None:
        fields = [*fields, "--recipe", arguments.recipe]
    try:
        if launched() == 1:
            return verb.command.run(arguments, fields) or 0
        return _together(verb, arguments, fields)
    except BrokenPipeError:  # the reader has seen enough: visual-rft ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
        return 1
    except (Exception, KeyboardInterrupt) as error:
        known = _verdict(error, verb)
        if known is None:
            raise  # ours
        print(f"visual-rft: {known.line}", file=sys.stderr)
        return known.exit_code


class _Verdict(NamedTuple):
    """What is said about an error, and how the command ends."""

    line: str
    exit_code: int


def _verdict(error: BaseException, verb: Verb) -> _Verdict | None:
    """The verdict on an error that the user can mend; None on a bug, whose traceback is wanted."""
    if isinstance(error, KeyboardInterrupt):
        return _Verdict(f"interrupted{verb.interrupted}", 130)
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):  # the second is torch's
        said = printable(str(error), limit=200)
        return _Verdict(f"out of memory ({said}); take less at once{verb.interrupted}", 2)
    from visual_rft.tasks.plugins import blame

    told = blame(error) if isinstance(error, Exception) else None
    if isinstance(error, VisualRFTError):
        return _Verdict(told or printable(str(error)), error.exit_code if isinstance(error, RunStopped) else 2)
    if isinstance(error, OSError):  # a name of 300 characters, a folder that may not be listed, a disk that went away
        return _Verdict(told or printable(_os_error(error)), 2)
    return None if told is None else _Verdict(told, 2)


def _together(verb: Verb, arguments: argparse.Namespace, fields: Sequence[str]) -> int:
    """The same in every process that a launcher started.

    Raises:
        ConfigError: if one process does all that the verb does.
    """
    # The store of a first process that is gone is warned of by a page per try; what is to be said is said in a line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from visual_rft.parallel.processes import together

    def exit_code(error: BaseException) -> int | None:
        known = _verdict(error, verb)
        return None if known is None else known.exit_code

    with together(exit_code):
        if not verb.shared:
            raise ConfigError(f"visual-rft {arguments.verb} runs in one process; call it without the launcher")
        return verb.command.run(arguments, fields) or 0


def _os_error(error: OSError) -> str:
    """What the operating system says, and of which file."""
    said = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{str(error.filename)[:200]}: {said}" if error.filename else said


def entry_point() -> None:
    """The installed command."""
    sys.exit(main())
