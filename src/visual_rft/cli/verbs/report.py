"""The arguments of ``visual-rft report``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from visual_rft.errors import ConfigError, printable
from visual_rft.terminal.units import byte_size, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft report``."""
    add_runs(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the first run folder")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """The run folders that are shown."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; several are compared")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Write the page and say how large it is.

    Raises:
        RunFolderError: if a folder holds no run or the file cannot be written.
    """
    from visual_rft.report.page import write_report
    from visual_rft.report.reading import read_run

    start = time.monotonic()
    runs = [read_run(path, name) for path, name in zip(arguments.runs, names_of(arguments.runs), strict=True)]
    file = arguments.out or arguments.runs[0] / "report.html"
    written = write_report(runs, file)
    for problem in (problem for one in runs for problem in one.problems):
        print(f"warning: {printable(problem)}", file=sys.stderr)
    print(f"{printable(str(file))}: {byte_size(written)}, {duration(time.monotonic() - start)}")


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
