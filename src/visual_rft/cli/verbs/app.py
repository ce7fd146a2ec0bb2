"""The command ``visual-rft app``. What it does is in :mod:`visual_rft.app.page`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from visual_rft.cli.arguments import add_asking
from visual_rft.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft app``."""
    parser.add_argument("--model", action="append", metavar="MODEL",
                        help="as in predict (default tiny); several answer side by side")  # fmt: skip
    parser.add_argument("--task", help="the task that is chosen at first (default: that of the first model's run)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"),
                        help="of the weights (default: that of each model's run, or float32)")  # fmt: skip
    add_asking(parser)
    parser.add_argument("--host", default="127.0.0.1", help="where the page is served (default 127.0.0.1: to this "
                        "computer alone)")  # fmt: skip
    parser.add_argument("--port", type=int, default=7860, help="at which port (default 7860)")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Serve the page until it is interrupted.

    Raises:
        ConfigError: if gradio is not installed.
    """
    try:
        from visual_rft.app.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ConfigError("app needs the package gradio; install it with: pip install 'gradio>=6.0'") from None
    from visual_rft.app.answers import Models

    models = Models.load(
        arguments.model or ["tiny"], arguments.dtype, arguments.scores, arguments.style, arguments.think
    )
    serve(models, arguments.task, arguments.host, arguments.port)
