"""The command ``visual-rft predict``: one image, or files, folders and patterns.

Decision: one question about one image prints its answer and draws it in the folder ``answers``; anything more goes
into a folder of its own (``predict_files.py``), and a summary is printed: for people, or with ``--json`` as one JSON
object. Nothing is written beside the images, where it would become data.

    visual-rft predict a.png --ask "red circle"
    visual-rft predict photos more/*.jpg --ask cat --ask dog --model runs/pets --out found
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visual_rft.cli.arguments import (
    add_asking,
    add_checkpoint,
    add_server_arguments,
    add_tiles,
    refuse_server_model,
    tiling,
)
from visual_rft.cli.printed import answer_text, files_text
from visual_rft.errors import ConfigError, printable
from visual_rft.parallel.launch import launched
from visual_rft.policy.stored.checkpoints import chosen

if TYPE_CHECKING:
    from visual_rft.answering.asking import Asker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft predict``."""
    parser.add_argument(
        "image", nargs="+", metavar="IMAGE", help="image files, folders or quoted patterns ('a/**/*.jpg')"
    )
    parser.add_argument("--ask", action="append", required=True, metavar="TEXT",
                        help="what to find, or what kind of thing to name; may be given several times")  # fmt: skip
    parser.add_argument("--task", help="detection, classification, grounding, ... (docs/tasks.md) or FILE.py:Class "
                        "(default: that of the model's run, or detection)")  # fmt: skip
    parser.add_argument("--model", default="tiny", help="tiny (default), a run folder, a checkpoint, a model folder "
                        "or a hub id")  # fmt: skip
    add_checkpoint(parser)
    add_server_arguments(parser)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights (default: that of the model's "
                        "run, or float32)")  # fmt: skip
    add_asking(parser)
    parser.add_argument("--constrained", action="store_true", help="let answers follow the task's form and nothing "
                        "else (detection, grounding)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="one image: the drawn picture (default: answers/IMAGE.answer.png); "
                        "several: a folder that does not exist yet (default: predictions)")  # fmt: skip
    parser.add_argument("--annotations", type=Path, metavar="FILE",
                        help="COCO annotations whose image and category ids the predictions shall bear")  # fmt: skip
    add_tiles(parser)
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures and questions at once (default 8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of words")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Ask, draw and print; 1 if an image could not be read."""
    if arguments.batch < 1:
        raise ConfigError(f"--batch: {arguments.batch} is not at least 1")
    from visual_rft.answering.image_files import Numbering, find_images

    model = chosen(arguments.model, arguments.checkpoint)
    files, asks = find_images(arguments.image), list(dict.fromkeys(arguments.ask))
    one = len(asks) == 1 and len(arguments.image) == 1 and Path(arguments.image[0]).is_file()
    if one and not arguments.annotations:
        from visual_rft.answering.asking import predict_image

        result = predict_image(files[0], asks[0], out=arguments.out, asker=_asker(arguments, model))
        text = json.dumps(result, indent=2) if arguments.json else answer_text(result)
        print(printable(text, lines=True, limit=None))
        return 0
    numbering = Numbering(files, asks, arguments.annotations)
    out = arguments.out or Path("predictions")
    if launched() == 1 and out.exists():
        raise ConfigError(f"{out}: exists already; choose another --out, or delete it")
    from visual_rft.answering.predict_files import predict_files
    from visual_rft.terminal.progress import Ticker

    asker = _asker(arguments, model)
    with Ticker(len(files), asker.model.name) as ticker:
        result = predict_files(asker, files, asks, out, numbering, arguments.batch, ticker.update)
    text = json.dumps(result, indent=2) if arguments.json else files_text(result)
    print(printable(text, lines=True, limit=None))
    return 1 if result["unreadable"] else 0


def _asker(arguments: argparse.Namespace, model: str) -> Asker:
    """The model that answers: ``model``, or the one behind servers, asked as ``model`` would be."""
    from visual_rft.answering.asking import Asker

    refuse_server_model(arguments)
    if arguments.server and arguments.dtype:
        raise ConfigError("--dtype: the weights are the server's")
    asked = (arguments.scores, arguments.style, arguments.think)
    if arguments.server:
        asker = Asker.served(arguments.server, arguments.server_model, model, arguments.task, *asked)
    else:
        asker = Asker.load(model, arguments.task, arguments.dtype, *asked)
    if arguments.constrained:
        asker.model.constrain(asker.task, ())
    return replace(asker, tiles=tiling(arguments))
