"""The command ``visual-rft export``. What it does is in :mod:`visual_rft.export.export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.cli.arguments import add_checkpoint
from visual_rft.policy.stored.checkpoints import chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder (its newest checkpoint) or a checkpoint")
    add_checkpoint(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make (default: RUN-model beside the run)")
    parser.add_argument("--adapter", action="store_true", help="of a LoRA run the adapter alone, not merged")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                        help="of the weights (default: that of the run)")  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write the folder and print how to use it."""
    from visual_rft.export.export import export_run

    source = Path(chosen(str(arguments.run), arguments.checkpoint))
    exported = export_run(source, arguments.out, arguments.adapter, arguments.dtype)
    print(f"exported {exported.folder}: {exported.what}, processor and model card (README.md)\n")
    print(f"serve it:\n\n    {exported.serve}\n")
    print(f"or in Python:\n\n{exported.snippet}")
