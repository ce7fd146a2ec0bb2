"""The command ``visual-rft evaluate``: predictions from a file, one model, or several models side by side.

Decision: standard output holds a table for people, or with ``--json`` one JSON object and nothing else; progress and
notes go to standard error.
Scoring a file needs no model, and this module imports neither torch nor transformers for it.

    visual-rft evaluate detection --annotations gt.json --predictions pred.json
    visual-rft evaluate CONFIG.yaml --protocol all
    visual-rft evaluate CONFIG.yaml --model tiny --model runs/coins/checkpoints/step-000040/model
    visual-rft evaluate CONFIG.yaml --server http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.cli.arguments import (
    add_checkpoint,
    add_server_arguments,
    add_tiles,
    refuse_server_model,
    tiling,
)
from visual_rft.config.name_list import names_of_flag
from visual_rft.errors import ConfigError, DataError, printable
from visual_rft.files import write_json
from visual_rft.policy.stored.checkpoints import chosen_of

FILES = ("annotations", "predictions", "report")
"""Flags of ``evaluate detection`` alone."""
MODELS = (
    "model",
    "checkpoint",
    "protocol",
    "classes",
    "batch",
    "folder",
    "segmenter",
    "server",
    "server_model",
    "tiles",
)
"""Flags of an evaluation of models alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft evaluate``."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="CONFIG.yaml | detection",
        help="a config whose data.evaluation is asked about (default: that of the run the first --model is from), or "
        "the word detection to score a file of predictions",
    )
    models = parser.add_argument_group("evaluating models")
    models.add_argument("--model", action="append", metavar="MODEL",
                        help="tiny, a folder or a hub id instead of the config's; given more than once, all are "
                        "compared with the first on the same images")  # fmt: skip
    add_checkpoint(models)
    add_server_arguments(models)
    models.add_argument("--protocol", choices=("asked", "present", "all", "said"),
                        help="detection: ask as the config says (default), each class that is present, all classes, or "
                        "those the model says are there")  # fmt: skip
    models.add_argument(
        "--classes",
        metavar="A,B,...",
        help="evaluate these classes only; needs a --protocol; a name with a comma in double quotes",
    )
    models.add_argument("--batch", type=int, metavar="N", help="questions answered at once (default 96)")
    models.add_argument("--folder", type=Path, metavar="DIR",
                        help="where answers and results go (default: one named after the settings in "
                        "RUN_FOLDER-evaluation); the same command continues there after an interruption")  # fmt: skip
    models.add_argument("--segmenter", metavar="MODEL", help="a SAM model: compares masks in grounding, too")
    add_tiles(models)
    files = parser.add_argument_group("scoring a file (detection)")
    files.add_argument("--annotations", type=Path, metavar="FILE", help="ground truth in COCO format")
    files.add_argument("--predictions", type=Path, metavar="FILE", help="COCO results")
    files.add_argument("--report", type=Path, metavar="FILE", help="also write AP per class and 95 %% intervals here")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--rules", choices=("coco", "lvis"), default="coco", help="whose AP (default: coco)")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Run the command.

    Raises:
        VisualRFTError: if something cannot be used as given.
    """
    if arguments.what == "detection":
        _refuse(arguments, MODELS, "evaluate detection scores a file and asks no model")
        if overrides:
            raise ConfigError(f"{overrides[0]}: evaluate detection scores a file and reads no config")
        scored = score_files(arguments.annotations, arguments.predictions, arguments.rules, arguments.report)
        from visual_rft.evaluation.tables import precision_text

        text = json.dumps(scored.numbers, indent=2) if arguments.json else precision_text(*scored)
        print(printable(text, lines=True, limit=None))
        return
    _refuse(arguments, FILES, "only 'evaluate detection' scores a file")
    result = _models(arguments, overrides)
    from visual_rft.evaluation.tables import comparison_text, evaluation_text

    one = next(iter(result["tasks"].values())) if "tasks" in result else result
    told = comparison_text if "models" in one else evaluation_text
    print(printable(json.dumps(result, indent=2) if arguments.json else told(result), lines=True, limit=None))


class ScoredFile(NamedTuple):
    """Predictions out of a file, scored.

    Attributes:
        numbers: COCO's twelve numbers (LVIS's thirteen), 0..1, -1 where undefined.
        intervals: their 95 % intervals; empty where none were asked for.
        per_class: AP by the name of the class.
    """

    numbers: dict[str, float]
    intervals: Mapping[str, Any]
    per_class: Mapping[str, float]


def score_files(
    annotations: Path | None, predictions: Path | None, rules: Any = "coco", report: Path | None = None
) -> ScoredFile:
    """Score predictions in a file.

    Args:
        annotations: ground truth in COCO or LVIS format.
        predictions: COCO results.
        rules: ``coco`` or ``lvis``.
        report: file for the numbers with AP per class and 95 % intervals.

    Raises:
        ConfigError: if a file is not named.
        DataError: if a file cannot be read, written or is not valid.
    """
    if annotations is None or predictions is None:
        raise ConfigError("evaluate detection needs --annotations gt.json and --predictions pred.json")
    from visual_rft.data.formats.coco_results import read_ground_truth, read_predictions
    from visual_rft.evaluation.resampling import bootstrap, interval
    from visual_rft.evaluation.weighted_precision import WeightedPrecision
    from visual_rft.tasks.metrics.coco import box_precision

    truth = read_ground_truth(annotations, rules, _note)
    results = read_predictions(predictions, truth, _note)
    numbers, per_class = box_precision(truth, results, rules)
    names = {row["id"]: str(row.get("name", row["id"])) for row in truth["categories"]}
    named = {names[identity]: ap for identity, ap in per_class.items()}
    intervals: Mapping[str, Any] = {}
    if report is not None:
        weighted = WeightedPrecision(truth, results, rules)
        intervals = {name: interval(values) for name, values in bootstrap(weighted, weighted.images).items()}
        write_json(report, {"rules": rules, **numbers, "intervals": intervals, "per_class": named}, DataError)
    return ScoredFile(numbers, intervals, named)


def _models(arguments: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    models = chosen_of(arguments.model or [], arguments.checkpoint)
    if arguments.checkpoint and not models:
        raise ConfigError("--checkpoint chooses among those of a run folder; name it with --model")
    file = Path(arguments.what) if arguments.what else _config_of_run(models)
    from visual_rft.config.config import load_config

    config = load_config(file, overrides, needs=("evaluation",))
    if arguments.batch is not None and arguments.batch < 1:
        raise ConfigError(f"--batch: {arguments.batch} is not at least 1")
    if arguments.server and models:
        raise ConfigError("--server and --model: a server's model is asked; --model.path says how, see docs/serving.md")
    refuse_server_model(arguments)
    from visual_rft.evaluation.plan import Plan
    from visual_rft.evaluation.run import compare, evaluate

    classes = names_of_flag("--classes", arguments.classes)
    plan = Plan(
        protocol=arguments.protocol or "asked",
        classes=None if classes is None else tuple(classes),
        rules=arguments.rules,
        folder=arguments.folder,
        below=Path(f"{config.run.folder}-evaluation"),
        segmenter=arguments.segmenter,
        server=tuple(arguments.server or ()),
        server_model=arguments.server_model,
        tiles=tiling(arguments),
        **({"batch": arguments.batch} if arguments.batch else {}),
    )
    if len(models) > 1:
        return compare(config, models, plan)
    if models:
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": models[0], "lora": None})})
    return evaluate(config, plan)


def _config_of_run(models: Sequence[str]) -> Path:
    """The config of the run that one of the models was trained in."""
    from visual_rft.policy.stored.places import run_config_file

    file = next((file for file in map(run_config_file, models) if file), None)
    if file is None:
        raise ConfigError(
            "evaluate needs a CONFIG.yaml that says on which data, or a --model out of a run folder, or 'detection' "
            "with --annotations and --predictions"
        )
    return file


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    given = next((name for name in names if getattr(arguments, name) is not None), None)
    if given is not None:
        raise ConfigError(f"--{given.replace('_', '-')}: {why}")


def _note(text: str) -> None:
    print(printable(text), file=sys.stderr)
