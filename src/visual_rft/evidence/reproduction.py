"""An experiment from its description to its result file: learning rates first where asked, then every cell.

Decision: one JSON file per experiment holds everything that tables and pictures are made from; it is written again
after every call from the cells asked for, an interrupted call included, and names the weights it is of. What each call
took is a line of ``reproduce.jsonl`` beside them.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from visual_rft.evidence.cells import Cell, tuning_grid
from visual_rft.evidence.choices import COMMITTED, Choices, Tuned
from visual_rft.evidence.cost import announcement, estimate
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.results import means_of, over_shots, rows_of
from visual_rft.evidence.runner import finished, run_cells
from visual_rft.evidence.tables import markdown
from visual_rft.evidence.tuning import best_of, first_round, second_round
from visual_rft.files import write_whole
from visual_rft.parallel.meetings import by_first
from visual_rft.parallel.processes import here
from visual_rft.policy.stored.places import weights_fingerprint
from visual_rft.terminal.notes import warn

CALLS = "reproduce.jsonl"
"""A line per call: what was asked for, when, how long it took and whether it was interrupted."""


@dataclass(frozen=True)
class Plan:
    """What is run of an experiment.

    Attributes:
        name: of the experiment.
        cells: those that are measured, given learning rates and recipes.
        tuning: those that may choose them (:mod:`visual_rft.evidence.tuning`); empty unless asked for.
    """

    name: str
    cells: Callable[[Choices], list[Cell]]
    tuning: Sequence[Cell] = ()

    def tries(self, folder: Path) -> list[Cell]:
        """Those of ``tuning`` that are run, as far as the finished ones in a folder of results say."""
        results = _finished(self.tuning, folder / self.name)
        second = second_round(self.tuning, results, EXPERIMENTS[self.name].metrics[0])
        return [*first_round(self.tuning), *second]


def tuned_of(folder: Path) -> Tuned:
    """The choices beside the results; the committed ones before anything was tuned there."""
    own = folder / "tuned.json"
    return Tuned.read(own if own.is_file() else COMMITTED)


def reproduce(plans: Sequence[Plan], folder: Path, jobs: int) -> None:
    """Run what has not been run, experiment by experiment, and write the results.

    Args:
        plans: in the order in which they are run.
        folder: where results go.
        jobs: runs at once.

    Raises:
        VisualRFTError: if a cell cannot be run or written.
    """
    _say_what_it_takes(plans, folder, jobs)
    started, start, ended = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), "interrupted"
    made = 0
    try:
        for plan in plans:
            made += _one(plan, folder, jobs)
        ended = "finished"
    finally:
        seconds = round(time.monotonic() - start, 1)
        call = {"command": _command(), "started": started, "wall_seconds": seconds, "jobs": jobs, "runs": made}
        if here().first:
            _append(folder / CALLS, {**call, "ended": ended, "base": weights_fingerprint("tiny")})


def _append(file: Path, row: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(row) + "\n")


def _say_what_it_takes(plans: Sequence[Plan], folder: Path, jobs: int) -> None:
    left = total = 0
    seconds = 0.0
    tuned = tuned_of(folder)
    for plan in plans:
        cells = [*plan.tries(folder), *plan.cells(tuned.choices(plan.name)[0])]
        results = _finished(cells, folder / plan.name)
        left, total = left + len(cells) - len(results), total + len(cells)
        seconds += estimate(cells, results)
    if here().first:
        print(announcement(left, total, seconds, jobs), flush=True)


def _one(plan: Plan, folder: Path, jobs: int) -> int:
    """Run an experiment; the result is written after an interruption as well. Returns how many runs were made."""
    metrics, place = EXPERIMENTS[plan.name].metrics, folder / plan.name
    before = len(_finished([*plan.tuning, *plan.cells(tuned_of(folder).choices(plan.name)[0])], place))
    try:
        if plan.tuning:
            run_cells(first_round(plan.tuning), metrics, place, jobs)
            run_cells(plan.tries(folder), metrics, place, jobs)
            by_first(lambda: _keep_best(plan, folder), "the learning rates")
        choices, guessed = tuned_of(folder).choices(plan.name)
        _warn(plan.name, guessed, tuned_of(folder))
        cells = plan.cells(choices)
        run_cells(cells, metrics, place, jobs)
    finally:
        tuned = tuned_of(folder)
        cells = plan.cells(tuned.choices(plan.name)[0])
        result = _result(plan, cells, tuned, place)
        if result["rows"] and here().first:
            write_whole(folder / f"{plan.name}.json", dump_result(result), make_folder=True)
    if here().first:
        print(markdown(result))
        print(f"\n{folder / plan.name}.json", flush=True)
    return len(_finished([*plan.tuning, *cells], place)) - before


def _keep_best(plan: Plan, folder: Path) -> None:
    tuned, today = tuned_of(folder), weights_fingerprint("tiny")
    if tuned.base != today:  # what was best on another base is not known to be best on this one
        tuned = Tuned(today, {})
    results = _finished(plan.tuning, folder / plan.name)
    tuned.experiments[plan.name] = best_of(plan.tuning, results, EXPERIMENTS[plan.name].metrics[0])
    tuned.write(folder / "tuned.json")


def _warn(name: str, guessed: Sequence[str], tuned: Tuned) -> None:
    if not here().first:
        return
    if guessed:
        said = f"no learning rate was tuned for {', '.join(guessed)}, so the second try is taken; --tune tries them"
    elif tuned.base != weights_fingerprint("tiny"):
        said = f"the learning rates were tuned on another base (weights {tuned.base}); --tune chooses anew"
    else:
        return
    warn([f"{name}: {said}"])


def _finished(cells: Sequence[Cell], place: Path) -> dict[str, dict[str, Any]]:
    return {cell.name: done for cell in cells if (done := finished(cell, place)) is not None}


def _result(plan: Plan, cells: Sequence[Cell], tuned: Tuned, place: Path) -> dict[str, Any]:
    """What is known of the cells asked for, and of the learning rates that were tried."""
    experiment = EXPERIMENTS[plan.name]
    tuning = plan.tuning or tuning_grid(plan.name, experiment)
    results = _finished([*cells, *tuning], place)
    asked, tried = ([cell for cell in some if cell.name in results] for some in (cells, tuning))
    choices, guessed = tuned.choices(plan.name)
    means, differences = means_of(asked, results, experiment.metrics)
    return {
        "experiment": plan.name,
        "title": experiment.title,
        "metrics": list(experiment.metrics),
        "base": weights_fingerprint("tiny"),
        "choices": {key: asdict(choice) for key, choice in choices.items()},
        "not_tuned": guessed,
        "wall_seconds": round(sum(done["wall_seconds"] for done in results.values())),
        "rows": rows_of([*asked, *tried], results, experiment.metrics),
        "means": means,
        "differences": differences,
        **({"over_shots": pooled} if (pooled := over_shots(asked, results, experiment.metrics)) else {}),
        **({"curves": _curves(asked, results, experiment.curves)} if experiment.curves else {}),
        "machine": next((done["machine"] for done in results.values()), {}),
        "commit": ", ".join(sorted({done["commit"] for done in results.values()})),
        "command": _command(),
    }


def _curves(
    cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The course of some numbers over the steps of each run that has them."""
    return [
        {**cell.labels(), "metric": name, "values": results[cell.name]["curves"][name]}
        for cell in cells
        for name in names
        if name in results[cell.name]["curves"]
    ]


def _command() -> str:
    return shlex.join(["visual-rft", *sys.argv[1:]])


def dump_result(result: dict[str, Any]) -> str:
    """JSON with one row per line, so that a change of one number is a change of one line."""
    lines = []
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("    " + json.dumps(row) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
