"""The arguments of ``visual-rft predict``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft predict``."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="an image file")
    parser.add_argument("--ask", required=True, metavar="TEXT", help="what to find, or what kind of thing to name")
    parser.add_argument("--task", default="detection", help="detection (default), classification or grounding")
    parser.add_argument("--model", default="tiny", help="tiny, a folder (a checkpoint's model) or a hub id")
    parser.add_argument("--out", type=Path, help="where the drawn picture goes (default: IMAGE with .answer.png)")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Ask about one image, draw the answer and print it as JSON."""
    from visual_rft.evaluation.one_image import predict_image

    result = predict_image(arguments.image, arguments.ask, arguments.model, arguments.out, arguments.task)
    print(json.dumps(result, indent=2))
