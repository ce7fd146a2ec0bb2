"""Run cells, one after another or several at once, each written when it is finished.

Decision: a cell's file appears whole (written under another name and renamed) and holds the digest of what was run, so
the same command continues after an interruption and runs no cell twice. The training itself is that of
``visual-rft train`` and ``visual-rft sft``; its run folder is deleted once the cell is evaluated. A cell computes on
one thread: more cores are used by more processes, and change no number but those of the arm whose budget is time.
That holds for the processes of a launcher, too: each takes the next cells that belong together and runs them alone.

    runs/evidence/few-shot-detection/
      cells/handwriting-k4-seed0-rft.json      numbers, draws of the bootstrap, steps and CPU seconds
      cells/handwriting-k4-seed0-rft.log       what the training printed
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from visual_rft.answering.local import best_device
from visual_rft.config.config import Config
from visual_rft.errors import RunFolderError
from visual_rft.evidence.cells import Cell
from visual_rft.evidence.experiments.description import ARMS
from visual_rft.evidence.measuring import evaluate
from visual_rft.files import write_whole
from visual_rft.parallel.meetings import by_first, taken
from visual_rft.parallel.processes import alone, here
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.training.rft import reinforce
from visual_rft.training.run.environment import SOURCE, git_commit
from visual_rft.training.session import Session
from visual_rft.training.sft import imitate
from visual_rft.training.starting import prepare_process

Curves = dict[str, list[float | None]]
"""The course of numbers over the steps of a run, by name."""


def run_cells(cells: Sequence[Cell], metrics: Sequence[str], folder: Path, jobs: int = 1) -> None:
    """Run the cells that have not been run.

    Args:
        cells: in an order in which matched cells come first.
        metrics: names of the numbers to keep.
        folder: where ``cells/`` is.
        jobs: cells that are run at once, each in a process of its own where there are several.

    Raises:
        VisualRFTError: if a cell cannot be run or written; those that run beside it are finished first.
    """
    if here().size > 1:
        _run_divided(cells, metrics, folder)
        return
    results = {cell.name: result for cell in cells if (result := finished(cell, folder)) is not None}
    waiting = [cell for cell in cells if cell.name not in results]
    running: dict[Future[dict[str, Any]], Cell] = {}
    every = 0.5 if sys.stderr.isatty() else 30.0
    with (
        tqdm(total=len(cells), initial=len(results), unit="run", mininterval=every, file=sys.stderr, dynamic_ncols=True)
        as bar,
        _executor(min(jobs, len(waiting))) as executor,
    ):  # fmt: skip
        while waiting or running:
            ready = [cell for cell in waiting if all(other.name in results for other in cell.matched)]
            assert ready or running, "a cell is matched with one that is not among the cells"
            for cell in ready[: jobs - len(running)]:
                names = ", ".join(other.name for other in (*running.values(), cell))
                bar.set_description(f"{cell.experiment}: {names}")
                matched = [results[other.name] for other in cell.matched]
                running[executor.submit(_run_and_write, cell, metrics, folder, matched)] = cell
                waiting.remove(cell)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results[running.pop(future).name] = future.result()
                bar.update()


def _run_divided(cells: Sequence[Cell], metrics: Sequence[str], folder: Path) -> None:
    """Run the cells in the processes of a launcher."""

    def names_left() -> list[list[str]]:
        return [
            [cell.name for cell in family] for family in families(cells) if any(not finished(c, folder) for c in family)
        ]

    left = by_first(names_left, "which runs are left")
    by_name = {cell.name: cell for cell in cells}
    for number in taken(len(left), "the end of the runs"):
        with alone():
            run_cells([by_name[name] for name in left[number]], metrics, folder)


def families(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells, each with those that it is matched with."""
    found: list[list[Cell]] = []
    for cell in cells:
        names = {other.name for other in cell.matched}
        near = [family for family in found if any(other.name in names for other in family)]
        found = [family for family in found if all(family is not one for one in near)]
        found.append([*(other for family in near for other in family), cell])
    return found


class _Here(Executor):
    """Runs a call in this process before :meth:`submit` returns."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """The future of a call that has been made; what it raises is raised here."""
        future: Future[Any] = Future()
        future.set_result(call(*arguments, **more))
        return future


@contextlib.contextmanager
def _executor(jobs: int) -> Iterator[Executor]:
    """Where cells are run; other processes end at once when this one is interrupted."""
    if jobs < 2:
        yield _Here()
        return
    # Not forked: PyTorch's threads do not survive that. An interrupt ends them without a traceback of each.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_DFL)) as executor:
        try:
            yield executor
        except BrokenProcessPool:
            raise RunFolderError(
                "a run was ended from outside, which is how a machine without memory left does it; the same command "
                f"with fewer --jobs than {jobs} continues"
            ) from None
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The result of a cell that has been run as it is described now, else None."""
    file = file_of(cell, folder)
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: cannot be read ({error}); delete it to run it again") from None
    return result if result.get("digest") == cell.digest else None


def file_of(cell: Cell, folder: Path) -> Path:
    """Where the result of a cell is."""
    return folder / "cells" / f"{cell.name}.json"


def matched_steps(rft: Mapping[str, Any], sft: Mapping[str, Any]) -> int:
    """Optimiser steps of supervised training that take the CPU seconds of a reinforcement run, at least 1.

    >>> matched_steps({"cpu_seconds": 90.0}, {"cpu_seconds": 12.0, "optimizer_steps": 200})
    1500
    """
    per_step = float(sft["cpu_seconds"]) / int(sft["optimizer_steps"])
    return max(1, round(float(rft["cpu_seconds"]) / per_step))


def _run_and_write(
    cell: Cell, metrics: Sequence[str], folder: Path, matched: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    result = _run(cell, metrics, folder, matched)
    write_whole(file_of(cell, folder), json.dumps(result), make_folder=True)
    return result


def _run(cell: Cell, metrics: Sequence[str], folder: Path, matched: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    config, seconds, start = cell.config, 0.0, time.monotonic()
    curves: Curves = {}
    if cell.matched:
        config = config.model_copy(update={"run": config.run.model_copy(update={"steps": matched_steps(*matched)})})
    if cell.arm == "base":
        prepare_process(config)
        policy = load_policy(config.model, config.rollout, engine=config.engine).to(best_device())
    else:
        policy, seconds, curves = _train(cell.arm, config, folder / "cells" / f"{cell.name}.run")
    numbers, draws, images = evaluate(policy, config, metrics)
    return {
        "digest": cell.digest,
        **cell.labels(),
        "numbers": numbers,
        "images": images,
        "optimizer_steps": _optimizer_steps(ARMS[cell.arm][0], config),
        "cpu_seconds": round(seconds, 2),
        "wall_seconds": round(time.monotonic() - start, 1),
        "machine": machine(),
        "commit": commit(),
        "curves": curves,
        "draws": {name: [round(float(v), 5) for v in values] for name, values in draws.items()},
    }


def _optimizer_steps(method: str, config: Config) -> int:
    """How often a run changes the weights; a step of warm start does it once."""
    if method == "base":
        return 0
    warm = config.run.steps if method == "sft" else config.objective.warm_start
    return warm + (config.run.steps - warm) * config.objective.updates_per_rollout


def _train(arm: str, config: Config, run: Path) -> tuple[Policy, float, Curves]:
    """Train in the folder ``run``, which is deleted; returns the policy, the CPU seconds of the steps and the
    course of every number.

    The run's own evaluation is of one image: the cell is evaluated afterwards, with intervals.
    """
    one = config.data.evaluation[0].model_copy(update={"count": 1, "classes": None})
    data = config.data.model_copy(update={"evaluation": (one,)})
    loop = config.run.model_copy(update={"folder": str(run), "evaluate_base": False})
    reinforced = ARMS[arm][0] == "rft"
    shutil.rmtree(run, ignore_errors=True)  # of an interrupted command
    run.parent.mkdir(parents=True, exist_ok=True)
    whole = config.model_copy(update={"data": data, "run": loop})
    with (
        run.with_suffix(".log").open("w", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        Session.start(whole, resume=False, supervised=not reinforced) as session,
    ):
        (reinforce if reinforced else imitate)(session)
    curves = _curves(run / "metrics.jsonl")
    shutil.rmtree(run)
    return session.learner.policy, session.household.clock.cpu, curves


def _curves(file: Path) -> Curves:
    """Each number that a run's last step has over all of its steps; None where a step has it not (a warm start)."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    names = [name for name, value in rows[-1].items() if isinstance(value, float) and "seconds" not in name]
    return {name: [None if row.get(name) is None else round(row[name], 4) for row in rows] for name in names}


def machine() -> dict[str, Any]:
    """What the runs ran on."""
    names = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def commit() -> str:
    """The commit of the code, ``+`` added where it is changed; the version of the package outside a checkout."""
    git = git_commit(SOURCE)
    return version("visual-rft") if git is None else f"{git['commit'][:10]}{'+' if git['changed'] else ''}"
