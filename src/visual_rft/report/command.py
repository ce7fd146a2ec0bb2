"""``visual-rft report`` and ``visual-rft view``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from visual_rft.errors import ConfigError

PORT = 8765


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``visual-rft report``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; several are compared")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the first run folder")


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``visual-rft view``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; several are compared")
    parser.add_argument("--port", type=int, default=PORT, help=f"of 127.0.0.1 (default {PORT}; 0 takes any)")


def run_report(arguments: argparse.Namespace, overrides: list[str]) -> None:
    """Write the page and say how large it is.

    Raises:
        RunFolderError: if a folder holds no run or the file cannot be written.
    """
    from visual_rft.report.page import write_report
    from visual_rft.report.reading import read_run

    start = time.monotonic()
    runs = [read_run(path, name) for path, name in zip(arguments.runs, names_of(arguments.runs), strict=True)]
    file = arguments.out or arguments.runs[0] / "report.html"
    size = write_report(runs, file)
    for problem in (problem for run in runs for problem in run.problems):
        print(f"warning: {problem}")
    print(f"{file}: {size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s")


def run_view(arguments: argparse.Namespace, overrides: list[str]) -> None:
    """Serve the page until interrupted.

    Raises:
        RunFolderError: if a folder holds no run.
        ConfigError: if the port cannot be used.
    """
    from visual_rft.report.view import serve

    serve(arguments.runs, names_of(arguments.runs), arguments.port)


def names_of(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the folders' paths that tell them apart.

    >>> names_of([Path("/runs/a"), Path("/runs/b")]), names_of([Path("/x/demo"), Path("/y/demo")])
    (['a', 'b'], ['x/demo', 'y/demo'])

    Raises:
        ConfigError: if a folder is named twice.
    """
    whole = [folder.resolve().parts for folder in folders]
    if len(set(whole)) < len(whole):
        raise ConfigError("the same run folder is named twice")
    for length in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have different endings")
