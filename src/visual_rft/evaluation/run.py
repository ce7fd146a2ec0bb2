"""Evaluate models on held-out questions and compare them.

Decision: an evaluation lives in a folder named after everything that decides its answers, so running the same command
again continues an interrupted one and a changed setting starts a new one:

    runs/coins-evaluation/tiny-present-3f9a1c20/
      settings.json      what was asked of which model      answers.jsonl      one line per image, appended
      annotations.json   ground truth (detection)           predictions.json   COCO results, for any COCO tool
      result.json        numbers, intervals, per class      confusion.png      (classification)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.answering.answering import Answerer, Journal, answer
from visual_rft.answering.class_list import class_list_numbers
from visual_rft.answering.predict import scored, warn_of_space
from visual_rft.answering.questions import ImageAnswers, ImageQuestions
from visual_rft.answering.served import ServedModel, refuse_scores
from visual_rft.answering.tiled import all_together, cut_up
from visual_rft.config.config import Config
from visual_rft.errors import DataError, printable
from visual_rft.evaluation.calibration import score_kinds
from visual_rft.evaluation.folders import claim, settings_digest, slug
from visual_rft.evaluation.mask_areas import mask_areas
from visual_rft.evaluation.measures import (
    ByImage,
    Measured,
    measure,
    measure_detection,
    measure_grounding,
    worst_images,
)
from visual_rft.evaluation.plan import Chosen, Plan, chosen_questions, refuse_for_several, settings_of
from visual_rft.evaluation.protocols import DetectionSet
from visual_rft.evaluation.resampling import Floats, bootstrap, interval
from visual_rft.evaluation.seen import seen_in_training
from visual_rft.evaluation.tables import confusion_picture
from visual_rft.files import write_json
from visual_rft.parallel.meetings import by_first
from visual_rft.parallel.processes import here
from visual_rft.policy.prompt import Prompt, task_for
from visual_rft.tasks import Task
from visual_rft.tasks.metrics.detection import asked_data_set, by_category
from visual_rft.tasks.patterns import label_names
from visual_rft.tasks.samples import answer_rates
from visual_rft.terminal.progress import Ticker
from visual_rft.vision.segmenter import load_segmenter


@dataclass(frozen=True)
class Evaluated:
    """One model's evaluation: what is written to ``result.json``, its main numbers, and these on every draw."""

    result: dict[str, Any]
    main: tuple[str, ...]
    draws: Mapping[str, Floats]


def evaluate(config: Config, plan: Plan | None = None) -> dict[str, Any]:
    """Evaluate ``config.model`` on ``config.data.evaluation``.

    Args:
        config: model, task and data.
        plan: the way to evaluate; default the questions of the config, and nothing written.

    Returns:
        What ``result.json`` holds: ``protocol``, ``model``, the numbers, ``intervals`` (95 %), ``per_class``,
        ``worst_images``; :func:`visual_rft.evaluation.tables.evaluation_text` makes tables of it. Where the sources ask
        several tasks, ``tasks`` holds one of each.

    Raises:
        VisualRFTError: if the data, model or folder cannot be used.
    """
    results = {called: one.result for called, one in _evaluate(config, plan or Plan()).items()}
    return next(iter(results.values())) if len(results) == 1 else {"tasks": results}


def compare(config: Config, models: Sequence[str], plan: Plan | None = None) -> dict[str, Any]:
    """Evaluate several models on the same images.

    Args:
        config: task and data.
        models: ``tiny``, folders or hub ids; each later one is compared with the first.
        plan: the way to evaluate; ``folder`` gets a folder per model.

    Returns:
        ``models`` (the results) and ``differences``: per later model and number its ``difference`` from the first and
        the 95 % ``interval`` of that over draws of the same images; of several tasks one of each, in ``tasks``.

    Raises:
        VisualRFTError: as :func:`evaluate`.
    """
    plan = plan or Plan()
    all_done = []
    for number, model in enumerate(models, 1):
        one = config.model_copy(update={"model": config.model.model_copy(update={"path": model, "lora": None})})
        where = None if plan.folder is None else plan.folder / f"{number}-{slug(model)}"
        all_done.append(_evaluate(one, replace(plan, folder=where)))
    compared = {called: _compared([done[called] for done in all_done]) for called in all_done[0]}
    return next(iter(compared.values())) if len(compared) == 1 else {"tasks": compared}


def _compared(all_done: Sequence[Evaluated]) -> dict[str, Any]:
    first, *others = all_done
    differences: list[dict[str, Any]] = [
        {"model": other.result["model"], "minus": first.result["model"]}
        | {name: _difference(first, other, name) for name in first.main}
        for other in others
    ]
    return {"models": [e.result for e in all_done], "differences": differences}


def _difference(first: Evaluated, other: Evaluated, name: str) -> dict[str, Any]:
    """How much more ``other`` has of a number, with its interval; None where the number is undefined (-1)."""
    if -1.0 in (first.result[name], other.result[name]):
        return {"difference": None, "interval": None}
    more = other.result[name] - first.result[name]
    return {"difference": more, "interval": interval(other.draws[name] - first.draws[name])}


class Coco(NamedTuple):
    """Ground truth and answers in COCO's form, where they are measured so."""

    truth: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]


def _evaluate(config: Config, plan: Plan) -> dict[str, Evaluated]:
    """The evaluation of every task that the sources of held-out questions ask, by what it is called."""
    here().wait_at_most(config.parallel.timeout)
    parts = {called: config.of_task(called) for called in config.tasks}
    parts = {called: part for called, part in parts.items() if part.data.evaluation}
    refuse_for_several(plan, list(parts))
    asked = {called: (task_for(part), part) for called, part in parts.items()}
    chosen = {called: chosen_questions(part, task, plan) for called, (task, part) in asked.items()}
    found = {}
    with _model(config, plan, [task for task, _ in asked.values()]) as model:
        for called, (task, part) in asked.items():
            where = plan if len(asked) == 1 else plan.of_task(called)
            found[called] = _evaluate_model(part, where, task, chosen[called], model)
    return found


@contextmanager
def _model(config: Config, plan: Plan, tasks: Sequence[Task]) -> Iterator[Answerer]:
    """What answers: the model of the config, or the one behind servers."""
    if plan.server:
        for task in tasks:
            refuse_scores(task)
        with ServedModel.open(config, plan.server, plan.server_model) as served:
            yield served
        return
    from visual_rft.answering.local import LocalModel  # here: a served model needs no torch

    yield LocalModel.load(config.model, config.rollout, config.engine)


def _evaluate_model(config: Config, plan: Plan, task: Task, chosen: Chosen, model: Answerer) -> Evaluated:
    data, questions = chosen
    asked = [sample for one in questions for sample in one.samples]
    if config.rollout.constrained:
        model.constrain(task, label_names(task, asked))
    for sample in asked[:1]:
        model.verify(Prompt.of(task, sample, model.space))
    seen = seen_in_training(model.folder, config.data.evaluation, asked)

    # The folder of these settings, which may hold answers already.
    settings = settings_of(config, plan, task, questions, model)
    folder = plan.folder
    if folder is None and plan.below is not None:
        folder = plan.below / f"{slug(model.name)}-{plan.protocol}-{settings_digest(settings)}"
    if folder is not None:
        by_first(partial(claim, folder, settings), "the folder of the evaluation")

    # The answers and what they are worth.
    cut = [cut_up(one, plan.tiles) for one in questions] if plan.tiles else None
    parts = questions if cut is None else [tile for one in cut for tile in one.tiles]
    images = _asked(plan, task, parts, model, folder)
    predictions = [scored(task, row.answers) for row in images]
    tiles = (
        {} if plan.tiles is None else {"tiles": {**asdict(plan.tiles), "n": len(images)}, **_form(task, predictions)}
    )
    predictions = predictions if cut is None else all_together(task, cut, predictions)
    measured, coco = _measured(task, plan, predictions, data)
    draws = bootstrap(measured.statistic, measured.images)

    # What is said and written of it.
    result = {
        "model": model.name,
        "task": config.task.label or task.name,
        "protocol": plan.protocol,
        **({"rules": plan.rules} if coco is not None else {}),
        **measured.numbers,
        **tiles,
        **({"classes": class_list_numbers(questions, images)} if plan.protocol == "said" else {}),
        "intervals": {name: interval(values) for name, values in draws.items()},
        "per_class": measured.per_class,
        "worst_images": worst_images(predictions),
        **({"leakage": seen} if seen is not None else {}),
        **({"folder": str(folder)} if folder is not None else {}),
    }
    if folder is not None and here().first:
        _written(folder, result, measured, coco)
    return Evaluated(result, measured.main, draws)


def _form(task: Task, predictions: ByImage) -> dict[str, Any]:
    """How the answers about tiles were written; those about whole pictures are put together by us."""
    rates = answer_rates([one for row in predictions for one in row], task.think, task.bare)
    return {name: rates[name] for name in ("format_rate", "parse_rate", "failures")}


def _asked(
    plan: Plan, task: Task, questions: Sequence[ImageQuestions], model: Answerer, folder: Path | None
) -> list[ImageAnswers]:
    """The answers image by image; those that ``folder`` holds are not asked for again."""
    journal = None if folder is None else Journal(folder / "answers.jsonl")
    if journal is not None and journal.rows:
        print(f"{printable(str(folder))}: {len(journal.rows)} of {len(questions)} images were answered before; delete "
              "the folder to ask again", file=sys.stderr)  # fmt: skip
    with Ticker(len(questions), model.name) as ticker:
        images = answer(model, task, questions, plan.batch, journal, ticker.update)
    warn_of_space(task, [one for row in images for one in row.answers])
    return images


def _measured(task: Task, plan: Plan, predictions: ByImage, data: DetectionSet | None) -> tuple[Measured, Coco | None]:
    """The worth of the answers, and what was measured where COCO's rules apply."""
    flat = [prediction for row in predictions for prediction in row]
    if task.measured_as == "coco":
        coco = _coco(predictions, data)
        measured = measure_detection(task, coco.truth, coco.results, predictions, plan.rules)
        split = [list(by_category(row)) for row in predictions]
        kinds = score_kinds(split, lambda rows: _coco(rows, data).results, coco.truth, plan.rules)
        return replace(measured, numbers={**measured.numbers, "scores": kinds}), coco
    if plan.segmenter:
        segmenter = load_segmenter(plan.segmenter)
        return measure_grounding(task, predictions, [mask_areas(segmenter, one) for one in flat]), None
    return measure(task, predictions), None


def _coco(predictions: ByImage, data: DetectionSet | None) -> Coco:
    """The answers in COCO's form, and the ground truth: that of the data, or else of the questions alone."""
    if data is None:
        return Coco(*asked_data_set([prediction for row in predictions for prediction in row]))
    return Coco(data.truth, data.results(predictions))


def _written(folder: Path, result: Mapping[str, Any], measured: Measured, coco: Coco | None) -> None:
    """Write what the module's docstring lists, but for settings and answers.

    Raises:
        DataError: if a file cannot be written.
    """
    write_json(folder / "result.json", result, DataError)
    if coco is not None:
        write_json(folder / "annotations.json", coco.truth, DataError)
        write_json(folder / "predictions.json", coco.results, DataError)
    if measured.confusion:
        title = f"{result['model']}: rows are true, columns are named"
        confusion_picture(measured.confusion, title).save(folder / "confusion.png")
