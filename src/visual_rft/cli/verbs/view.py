"""The arguments of ``visual-rft view``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from visual_rft.cli.verbs.report import add_runs, names_of

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft view``."""
    add_runs(parser)
    parser.add_argument("--port", type=int, default=PORT, help=f"of 127.0.0.1 (default {PORT}; 0 takes any)")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Serve the page until interrupted.

    Raises:
        RunFolderError: if a folder holds no run.
        ConfigError: if the port cannot be used.
    """
    from visual_rft.report.view import serve

    serve(arguments.runs, names_of(arguments.runs), arguments.port)
