"""The arguments of ``visual-rft demo``. What it does is in :mod:`visual_rft.demo.run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from visual_rft.parallel.launch import launched, start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft demo``."""
    parser.add_argument("--task", default="detection", help="detection (default), classification or grounding")
    parser.add_argument("--folder", help="run folder; must not exist yet (default: runs/demo, or runs/demo-TASK)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training images, batch order and sampling")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Evaluate the base, train it, and evaluate again."""
    from visual_rft.demo.run import demo_config, run_demo

    folder = arguments.folder or ("runs/demo" if arguments.task == "detection" else f"runs/demo-{arguments.task}")
    config = demo_config(arguments.task, Path(folder), arguments.seed, overrides)
    if config.run.processes > 1 and launched() == 1:
        return start(config.run.processes, sys.argv[1:])
    run_demo(arguments.task, config)
    return 0
