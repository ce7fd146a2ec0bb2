"""The arguments of ``visual-rft train`` and ``visual-rft sft``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visual_rft.parallel.launch import launched, start

if TYPE_CHECKING:
    from visual_rft.config.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of both verbs."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="what the run is")
    parser.add_argument("--resume", action="store_true", help="continue from the run folder's last whole checkpoint")
    text = "continue although the data are not those that the run was started with"
    parser.add_argument("--resume-anyway", action="store_true", help=text)
    text = "print the resolved config, parameters, tokens, steps and memory; train and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Train by reinforcement, or on the gold answers."""
    from visual_rft.config.config import load_config

    config = load_config(arguments.config, overrides, needs=("train", "evaluation"))
    resume: bool = arguments.resume or arguments.resume_anyway
    if arguments.dry_run:
        from visual_rft.inspection.dry_run import dry_run

        dry_run(config, supervised=arguments.verb == "sft")
    elif config.run.processes > 1 and launched() == 1:
        return start(config.run.processes, sys.argv[1:])
    elif arguments.verb == "train":
        from visual_rft.training.rft import train

        _say_goodbye(config, train(config, resume=resume, anyway=arguments.resume_anyway), "RFT")
    else:
        from visual_rft.training.sft import train_supervised

        summary = train_supervised(config, resume=resume, anyway=arguments.resume_anyway)
        _say_goodbye(config, summary, "SFT")
    return 0


def _say_goodbye(config: Config, summary: Mapping[str, Any], kind: str) -> None:
    """Before and after, where everything is, and the next three commands."""
    from visual_rft.policy.prompt import tasks_for
    from visual_rft.report.ending import ending

    if summary:  # that of the first process
        print(ending(summary, Path(config.run.folder), tasks_for(config).headline, kind))
