"""The command ``visual-rft play``. What it does is in :mod:`visual_rft.inspection.play`.

Decision: with a completion it is one round printed as JSON, without one it is a conversation.

    visual-rft play run.yaml
    visual-rft play run.yaml --sample 3 --gold
    visual-rft play run.yaml --sample 3 --completion - < completion.txt
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft play``."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="the run whose questions are played")
    parser.add_argument("--sample", metavar="N", help="question number N (from 1) or the one of id N")
    parser.add_argument("--held-out", action="store_true", help="play data.evaluation instead of data.train")
    parser.add_argument("--completion", metavar="TEXT", help="play one round, print JSON; - reads standard input")
    parser.add_argument("--gold", action="store_true", help="the same with the answer that deserves full marks")
    parser.add_argument("--out", type=Path, default=Path("play.png"), metavar="FILE",
                        help="picture with the truth in green and the answer in red (default play.png)")  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Play one round, or until the input ends."""
    if arguments.completion is not None and arguments.gold:
        raise ConfigError("--completion and --gold: give one of them")
    from visual_rft.config.config import load_config

    config = load_config(arguments.config, overrides, needs=("evaluation" if arguments.held_out else "train",))
    from visual_rft.inspection.play import Game, play

    game = Game.load(config, arguments.out, arguments.held_out)
    if arguments.sample is not None:
        game.choose(arguments.sample)
    if arguments.gold:
        print(json.dumps(game.as_json(game.gold()), indent=2))
    elif arguments.completion is not None:
        completion = sys.stdin.read() if arguments.completion == "-" else arguments.completion
        print(json.dumps(game.as_json(completion), indent=2))
    else:
        play(game, sys.stdin, sys.stdout)
