"""The command ``visual-rft export``. What it does is in :mod:`visual_rft.export.export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.cli.arguments import add_checkpoint, add_sending
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
    pushing.add_argument("--push", metavar="NAMESPACE/NAME", help="say what would be sent; an exported folder of these "
                         "weights that is there already is taken as it is")  # fmt: skip
    add_sending(pushing)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write the folder, print how to use it, and send it where that is confirmed."""
    if not arguments.push and (arguments.confirm or arguments.public):
        raise ConfigError("--confirm and --public are about sending; say where to with --push NAMESPACE/NAME")
    from visual_rft.export.export import export_run, is_exported, target_of

    target = target_of(arguments.run, arguments.out)
    source = Path(chosen(str(arguments.run), arguments.checkpoint))
    if not (arguments.push and is_exported(source, target, arguments.adapter, arguments.dtype)):
        exported = export_run(source, target, arguments.adapter, arguments.dtype)
        print(f"exported {exported.folder}: {exported.what}, processor and model card (README.md)\n")
        print(f"serve it:\n\n    {exported.serve}\n")
        print(f"or in Python:\n\n{exported.snippet}")
    if arguments.push:
        from visual_rft.export.push import offered

        print(offered(target, arguments.push, arguments.public, arguments.confirm))
