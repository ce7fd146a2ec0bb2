"""The arguments of ``visual-rft score``. What it does is in :mod:`visual_rft.tasks.score`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft score``."""
    parser.add_argument(
        "--task",
        required=True,
        help="detection, many_classes, classification, grounding, counting, pointing, "
        "segmentation, vqa, or your own as FILE.py:Class",
    )
    parser.add_argument("--truth", required=True, metavar="JSON", help="the truth, boxes in pixels of the image")
    parser.add_argument("--completion", required=True, metavar="TEXT", help="the model's text; - reads standard input")
    parser.add_argument("--coordinates", choices=("relative", "pixels"), default="relative",
                        help="units of the completion's boxes: 0..1000 (default) or pixels of the image")  # fmt: skip
    parser.add_argument("--no-think", action="store_true", help="the right format has no think block")
    parser.add_argument("--weights", metavar="JSON", help="""factor of each reward, e.g. '{"iou_balanced": 1}'""")
    parser.add_argument("--options", metavar="JSON", help="""the task's options, e.g. '{"iou_threshold": 0.7}'""")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Print every reward part, the total, the parsed answer and why it failed as JSON."""
    from visual_rft.tasks.score import score_completion

    completion = sys.stdin.read() if arguments.completion == "-" else arguments.completion
    options = (arguments.coordinates, not arguments.no_think, arguments.weights, arguments.options)
    print(json.dumps(score_completion(arguments.task, arguments.truth, completion, *options), indent=2))
