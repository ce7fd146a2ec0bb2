"""The command ``visual-rft export``. What it does is in :mod:`visual_rft.export.export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.cli.arguments import add_checkpoint
from visual_rft.errors import ConfigError
from visual_rft.policy.stored.checkpoints import chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder (its newest checkpoint) or a checkpoint")
    add_checkpoint(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make (default: RUN-model beside the run)")
    parser.add_argument("--adapter", action="store_true", help="of a LoRA run the adapter alone, not merged")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                        help="of the weights (default: the one in which the run computed)")  # fmt: skip
    pushing = parser.add_argument_group("sending it to a model hub")
    pushing.add_argument("--push", metavar="NAMESPACE/NAME", help="say what would be sent; an exported folder that is "
                         "there already is taken as it is")  # fmt: skip
    pushing.add_argument("--confirm", action="store_true", help="send it")
    pushing.add_argument("--public", action="store_true", help="a new model there can be seen by everybody")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write the folder, print how to use it, and send it where that is confirmed."""
    if not arguments.push and (arguments.confirm or arguments.public):
        raise ConfigError("--confirm and --public are about sending; say where to with --push NAMESPACE/NAME")
    from visual_rft.export.export import export_run, target_of

    target = target_of(arguments.run, arguments.out)
    if not (arguments.push and target.exists()):
        source = Path(chosen(str(arguments.run), arguments.checkpoint))
        exported = export_run(source, target, arguments.adapter, arguments.dtype)
        print(f"exported {exported.folder}: {exported.what}, processor and model card (README.md)\n")
        print(f"serve it:\n\n    {exported.serve}\n")
        print(f"or in Python:\n\n{exported.snippet}")
    if arguments.push:
        _push(arguments, target)


def _push(arguments: argparse.Namespace, folder: Path) -> None:
    from visual_rft.export.push import plan_push, push

    plan = plan_push(folder, arguments.push, arguments.public)
    print("\n".join(plan.lines()))
    if arguments.confirm:
        print(f"sent: {push(plan)}")
    else:
        print("nothing was sent; the same command with --confirm sends it")
