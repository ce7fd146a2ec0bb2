"""The arguments of ``visual-rft score``. What it does is in :mod:`visual_rft.tasks.score`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from visual_rft.cli.arguments import STYLES


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
    parser.add_argument("--coordinates", choices=("relative", "pixels", "tokens"), help="units of the completion's "
                        "boxes: 0..1000 (default), pixels of the image or location tokens")  # fmt: skip
    parser.add_argument("--style", choices=STYLES, default="method", help="in whose words boxes are asked for "
                        "(default: the method's)")  # fmt: skip
    parser.add_argument("--notation", metavar="NAME", help="for --style native: box_tokens (Qwen2-VL), bbox_2d (later "
                        "Qwen), ref_tags (InternVL), location_tokens (PaliGemma) or lists")  # fmt: skip
    parser.add_argument("--no-think", action="store_true", help="the right format has no think block")
    parser.add_argument("--weights", metavar="JSON", help="""factor of each reward, e.g. '{"iou_balanced": 1}'""")
    parser.add_argument("--options", metavar="JSON", help="""the task's options, e.g. '{"iou_threshold": 0.7}'""")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Print every reward part, the total, the parsed answer and why it failed as JSON."""
    from visual_rft.tasks.score import score_completion

    completion = sys.stdin.read() if arguments.completion == "-" else arguments.completion
    options = (arguments.coordinates, not arguments.no_think, arguments.weights, arguments.options)
    style = (arguments.style, arguments.notation)
    print(json.dumps(score_completion(arguments.task, arguments.truth, completion, *options, *style), indent=2))
