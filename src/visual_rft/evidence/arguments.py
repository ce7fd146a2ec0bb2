"""The flags of ``visual-rft reproduce``, apart from what it does, so that ``visual-rft --help`` imports no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

NAMES = (
    "few-shot-detection", "few-shot-classification", "open-vocabulary", "reasoning-grounding", "ablations",
)  # fmt: skip
"""The experiments."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft reproduce``."""
    parser.add_argument(
        "what",
        choices=(*NAMES, "all", "tables"),
        metavar="WHAT",
        help=f"{', '.join(NAMES)}, all of these, or tables: Markdown and pictures from the results in --out",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each arm, seeds 0 to N - 1")
    parser.add_argument("--shots", metavar="1,4", help="labelled images per class (default: all of the experiment)")
    parser.add_argument("--methods", metavar="base,sft,rft", help="which methods (default: all)")
    parser.add_argument("--domains", metavar="A,B", help="kinds of pictures (default: all of the experiment)")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), metavar="DIR",
                        help="where results go; the same command continues there (default: runs/evidence)")  # fmt: skip
    parser.add_argument("--page", type=Path, metavar="FILE",
                        help="tables: a Markdown page whose tables are replaced, too")  # fmt: skip
    parser.add_argument("--tune", action="store_true",
                        help="run the learning rates of each arm on validation instead of the experiment")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="2 steps and 8 images a run: does everything work?")
    parser.add_argument("--scale", choices=("tiny", "real"), default="tiny",
                        help="real: print the configs of real models and the published numbers only")  # fmt: skip
