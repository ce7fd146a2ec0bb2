"""The command line: one verb, one function call.

Errors the user can mend are one line on standard error and exit code 2; anything else is a bug with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visual_rft.errors import VisualRFTError

Verb = Callable[[argparse.Namespace, list[str]], None]


def _train(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.config import load_config
    from visual_rft.training.rft import train

    train(load_config(arguments.config, overrides), resume=arguments.resume)


def _sft(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.config import load_config
    from visual_rft.training.sft import train_supervised

    train_supervised(load_config(arguments.config, overrides), resume=arguments.resume)


def _evaluate(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.config import load_config
    from visual_rft.evaluation.run import evaluate

    print(json.dumps(evaluate(load_config(arguments.config, overrides)), indent=2))


def _predict(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.evaluation.run import predict_image

    result = predict_image(arguments.image, arguments.ask, arguments.model, arguments.out)
    print(json.dumps(result, indent=2))


def _demo(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.demo import run_demo

    run_demo(Path(arguments.folder), arguments.seed, overrides)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Verb]]:
    parser = argparse.ArgumentParser(
        prog="visual-rft",
        description="Visual reinforcement fine-tuning.",
        epilog="example: visual-rft demo",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    table: dict[str, Verb] = {}

    def add(name: str, run: Verb, help_line: str, example: str, **options: Any) -> argparse.ArgumentParser:
        table[name] = run
        return verbs.add_parser(
            name,
            help=help_line,
            description=help_line,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    for name, run, line in (
        ("train", _train, "Train by reinforcement (GRPO with verifiable rewards)."),
        ("sft", _sft, "Train on gold answers: the supervised baseline."),
        ("evaluate", _evaluate, "Evaluate a model on held-out questions; prints JSON."),
    ):
        verb = add(name, run, line, f"visual-rft {name} examples/coco.yaml --model.path tiny --data.train.0.count 16")
        verb.usage = f"visual-rft {name} CONFIG.yaml [--section.field value ...]"
        verb.add_argument("config", type=Path, metavar="CONFIG.yaml")
        verb.add_argument("--fields", action=_DescribeFields, nargs=0, help="list every field of a config and exit")
        if name != "evaluate":
            verb.add_argument("--resume", action="store_true", help="continue from the run folder's last checkpoint")

    verb = add(
        "predict", _predict, "Find objects in one image and draw them.", 'visual-rft predict a.png --ask "red circle"'
    )
    verb.add_argument("image", type=Path, metavar="IMAGE")
    verb.add_argument("--ask", required=True, metavar="CATEGORY", help="what to look for")
    verb.add_argument("--model", default="tiny", help="tiny, a folder (a checkpoint's model) or a hub id")
    verb.add_argument("--out", type=Path, help="where the drawn picture goes (default: IMAGE with .boxes.png)")

    verb = add(
        "demo", _demo, "Few-shot reinforcement on real handwriting with the embedded model.", "visual-rft demo --seed 1"
    )
    verb.add_argument("--folder", default="runs/demo", help="run folder; must not exist yet")
    verb.add_argument("--seed", type=int, default=0, help="seed of the training images, batch order and sampling")
    return parser, table


class _DescribeFields(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from visual_rft.config import describe

        print(describe())
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 the user can mend it)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the prefetch thread would make it warn at every fork
    parser, table = _parser()
    arguments, rest = parser.parse_known_args(argv)
    takes_fields = arguments.verb in {"train", "sft", "evaluate", "demo"}
    if rest and not takes_fields:
        parser.error(f"{arguments.verb} does not know {rest[0]!r}")
    try:
        table[arguments.verb](arguments, rest)
    except VisualRFTError as error:
        print(f"visual-rft: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("visual-rft: interrupted; continue with --resume", file=sys.stderr)
        return 130
    return 0


def entry_point() -> None:
    """The installed command."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
