"""The arguments of ``visual-rft check``. What it does is in :mod:`visual_rft.inspection.check`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft check``."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="the run to look at")
    parser.add_argument("--samples", type=int, default=100, metavar="N", help="check this many training questions")
    parser.add_argument(
        "--sheet", type=Path, default=Path("check.png"), help="picture of the first 12 with their truth"
    )


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Check the run; 1 if a violation was found."""
    from visual_rft.config.config import load_config
    from visual_rft.inspection.check import check_run

    if arguments.samples < 1:
        raise ConfigError(f"--samples: {arguments.samples} is not at least 1, and nothing would be checked")
    config = load_config(arguments.config, overrides, needs=("train",))
    return 0 if check_run(config, arguments.samples, arguments.sheet) else 1
