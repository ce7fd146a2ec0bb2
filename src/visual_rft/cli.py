"""The command line: one verb, one function call.

Errors the user can mend are one line on standard error and exit code 2; anything else is a bug with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visual_rft.data.arguments import add_verbs as add_data_verbs
from visual_rft.errors import VisualRFTError
from visual_rft.evaluation import command as evaluation
from visual_rft.report import command as report

Verb = Callable[[argparse.Namespace, list[str]], int | None]


def _train(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.config import load_config
    from visual_rft.training.rft import train

    train(load_config(arguments.config, overrides), resume=arguments.resume)


def _sft(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.config import load_config
    from visual_rft.training.sft import train_supervised

    train_supervised(load_config(arguments.config, overrides), resume=arguments.resume)


def _predict(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.evaluation.one_image import predict_image

    result = predict_image(arguments.image, arguments.ask, arguments.model, arguments.out, arguments.task)
    print(json.dumps(result, indent=2))


def _score(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.tasks.command import score_completion

    completion = sys.stdin.read() if arguments.completion == "-" else arguments.completion
    options = (arguments.coordinates, not arguments.no_think, arguments.weights, arguments.options)
    print(json.dumps(score_completion(arguments.task, arguments.truth, completion, *options), indent=2))


def _check(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from visual_rft.config import load_config
    from visual_rft.evaluation.check import check_run

    return 0 if check_run(load_config(arguments.config, overrides), arguments.samples, arguments.sheet) else 1


def _data(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.data.command import run

    run(arguments)


def _demo(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from visual_rft.demo import run_demo

    folder = arguments.folder or ("runs/demo" if arguments.task == "detection" else f"runs/demo-{arguments.task}")
    run_demo(arguments.task, Path(folder), arguments.seed, overrides)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Verb]]:
    parser = argparse.ArgumentParser(
        prog="visual-rft",
        description="Visual reinforcement fine-tuning.",
        epilog="example: visual-rft demo",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    table: dict[str, Verb] = {}

    def add(name: str, run: Verb, help_line: str, example: str, **options: Any) -> argparse.ArgumentParser:
        table[name] = run
        return verbs.add_parser(
            name,
            help=help_line,
            description=help_line,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    for name, run, line in (
        ("train", _train, "Train by reinforcement (GRPO with verifiable rewards)."),
        ("sft", _sft, "Train on gold answers: the supervised baseline."),
    ):
        verb = add(name, run, line, f"visual-rft {name} examples/coco.yaml --model.path tiny --data.train.0.count 16")
        verb.usage = f"visual-rft {name} CONFIG.yaml [--section.field value ...]"
        verb.add_argument("config", type=Path, metavar="CONFIG.yaml")
        verb.add_argument("--fields", action=_DescribeFields, nargs=0, help="list every field of a config and exit")
        verb.add_argument("--resume", action="store_true", help="continue from the run folder's last checkpoint")

    line = "Evaluate models on held-out questions, or score predictions that are in a file; prints JSON."
    verb = add("evaluate", evaluation.run, line, "visual-rft evaluate examples/coco.yaml --protocol all")
    evaluation.add_arguments(verb)
    verb.add_argument("--fields", action=_DescribeFields, nargs=0, help="list every field of a config and exit")

    line = "Check a run before training: data, coordinates, rewards, token counts, memory."
    verb = add("check", _check, line, "visual-rft check examples/coco.yaml --samples 50")
    verb.usage = "visual-rft check CONFIG.yaml [--samples N] [--sheet FILE] [--section.field value ...]"
    verb.add_argument("config", type=Path, metavar="CONFIG.yaml")
    verb.add_argument("--samples", type=int, default=100, metavar="N", help="check this many training questions")
    verb.add_argument("--sheet", type=Path, default=Path("check.png"), help="picture of the first 12 with their truth")

    line = "Score one completion; prints every reward part, the total, the parsed answer and why it failed as JSON."
    example = (
        """visual-rft score --task classification --truth '{"label": "cat"}' --completion '<answer>cat</answer>'"""
    )
    verb = add("score", _score, line, example)
    verb.add_argument(
        "--task", required=True, help="detection, classification, grounding, or your own as FILE.py:Class"
    )
    verb.add_argument("--truth", required=True, metavar="JSON", help="the truth, boxes in pixels of the image")
    verb.add_argument("--completion", required=True, metavar="TEXT", help="the model's text; - reads standard input")
    verb.add_argument("--coordinates", choices=("relative", "pixels"), default="relative",
                      help="units of the completion's boxes: 0..1000 (default) or pixels of the image")  # fmt: skip
    verb.add_argument("--no-think", action="store_true", help="the right format has no think block")
    verb.add_argument("--weights", metavar="JSON", help="""factor of each reward, e.g. '{"iou_balanced": 1}'""")
    verb.add_argument("--options", metavar="JSON", help="""the task's options, e.g. '{"iou_threshold": 0.7}'""")

    line = "Ask about one image and draw the answer."
    verb = add("predict", _predict, line, 'visual-rft predict a.png --ask "red circle"')
    verb.add_argument("image", type=Path, metavar="IMAGE")
    verb.add_argument("--ask", required=True, metavar="TEXT", help="what to find, or what kind of thing to name")
    verb.add_argument("--task", default="detection", help="detection (default), classification or grounding")
    verb.add_argument("--model", default="tiny", help="tiny, a folder (a checkpoint's model) or a hub id")
    verb.add_argument("--out", type=Path, help="where the drawn picture goes (default: IMAGE with .answer.png)")

    line = "Make one HTML file of a run (or several, compared): curves, and every rollout with its boxes drawn."
    report.add_report_arguments(add("report", report.run_report, line, "visual-rft report runs/demo --out demo.html"))
    line = "Look at a run while it goes on, in a browser on this machine."
    report.add_view_arguments(add("view", report.run_view, line, "visual-rft view runs/demo --port 8765"))

    verb = add("data", _data, "Build, convert and look at data sets.", "visual-rft data few-shot --help")
    add_data_verbs(verb)

    line = "Few-shot reinforcement with the embedded model, before and after."
    verb = add("demo", _demo, line, "visual-rft demo --task grounding --seed 1")
    verb.add_argument("--task", default="detection", help="detection (default), classification or grounding")
    verb.add_argument("--folder", help="run folder; must not exist yet (default: runs/demo, or runs/demo-TASK)")
    verb.add_argument("--seed", type=int, default=0, help="seed of the training images, batch order and sampling")
    return parser, table


class _DescribeFields(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from visual_rft.config import describe

        print(describe())
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 a check failed, 2 the user can mend it)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the prefetch thread would make it warn at every fork
    parser, table = _parser()
    arguments, rest = parser.parse_known_args(argv)
    takes_fields = arguments.verb in {"train", "sft", "evaluate", "check", "demo"}
    if rest and not takes_fields:
        parser.error(f"{arguments.verb} does not know {rest[0]!r}")
    try:
        return table[arguments.verb](arguments, rest) or 0
    except VisualRFTError as error:
        print(f"visual-rft: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        how = "the same command continues" if arguments.verb == "evaluate" else "continue with --resume"
        print(f"visual-rft: interrupted; {how}", file=sys.stderr)
        return 130


def entry_point() -> None:
    """The installed command."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
