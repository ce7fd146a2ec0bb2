"""The command ``visual-rft reproduce``.

Decision: a call says how long it will take before it runs anything, and the same call continues after an interruption.

    visual-rft reproduce few-shot-detection --seeds 1 --shots 4
    visual-rft reproduce all --tune                           # learning rates on validation first, then everything
    visual-rft reproduce tables --out docs/evidence --page docs/evidence.md
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.published import published, targets
from visual_rft.files import write_whole
from visual_rft.parallel.launch import launched

if TYPE_CHECKING:
    from visual_rft.evidence.reproduction import Plan

NAMES = tuple(EXPERIMENTS)
"""The experiments."""
JOBS = min(2, os.cpu_count() or 1)
"""Runs at once where nothing is said: more take more memory than a laptop may have left."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visual-rft reproduce``."""
    parser.add_argument(
        "what",
        choices=(*NAMES, "all", "tables"),
        metavar="WHAT",
        help=f"{', '.join(NAMES)}, all of these, or tables: Markdown and pictures from the results in --out",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each arm, seeds 0 to N - 1")
    parser.add_argument("--shots", metavar="1,4", help="labelled images per class (default: all of the experiment)")
    parser.add_argument("--methods", metavar="base,sft,rft,recipes", help="which methods (default: all)")
    parser.add_argument("--domains", metavar="A,B", help="kinds of pictures (default: all of the experiment)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where results go; the same command continues there (default: runs/evidence, with --quick "
                        "runs/evidence-quick)")  # fmt: skip
    parser.add_argument("--page", type=Path, metavar="FILE",
                        help="tables: the page whose tables are replaced (default: a file per result)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N",
                        help=f"runs at once, each on one thread and in about 1.5 GB (default: {JOBS})")  # fmt: skip
    parser.add_argument("--tune", action="store_true",
                        help="first try learning rates and recipes on validation, then take the best")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="2 steps and 8 images a run: does everything work?")
    parser.add_argument("--scale", choices=("tiny", "real"), default="tiny",
                        help="real: print the configs of real models and the published numbers only")  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> None:
    """Run the command.

    Raises:
        VisualRFTError: if something cannot be used as given.
    """
    names = NAMES if arguments.what in ("all", "tables") else (arguments.what,)
    if arguments.page and arguments.what != "tables":
        raise ConfigError("--page needs 'reproduce tables'")
    if arguments.scale == "real":
        print("\n\n".join([*(published(name) for name in names), *([targets()] if len(names) > 1 else [])]))
        return
    folder = arguments.out or Path("runs/evidence-quick" if arguments.quick else "runs/evidence")
    if arguments.what == "tables":
        write_tables(folder, arguments.page)
        return
    from visual_rft.evidence.reproduction import reproduce

    jobs = launched() if launched() > 1 else arguments.jobs or JOBS
    reproduce([_plan(name, arguments) for name in names], folder, jobs)


def write_tables(folder: Path, page: Path | None = None) -> list[Path]:
    """Write the tables and the picture of every result in ``folder`` beside it, and into a page.

    Returns:
        The files that were written.

    Raises:
        RunFolderError: if there is no result, or a file cannot be read or written.
        ConfigError: if the page has no place for a table.
    """
    from visual_rft.evidence.plots import plot, plot_curves
    from visual_rft.evidence.tables import fill_page, markdown

    files = sorted(file for file in folder.glob("*.json") if is_result(file))
    results = {file.stem: read_result(file) for file in files}
    if not results:
        raise RunFolderError(f"{folder}: holds no result; run 'visual-rft reproduce all --out {folder}' first")
    written = []
    tables = {name: markdown(result) for name, result in results.items()}
    if page is None:
        for name, text in tables.items():
            written.append(folder / f"{name}.md")
            write_whole(written[-1], text + "\n", make_folder=True)
    else:
        written.append(page)
        write_whole(page, fill_page(_read(page), tables, str(page)))
    for name, result in results.items():
        if all("/" not in metric for metric in result["metrics"]):  # rankings and several tasks are a table each
            written.append(folder / f"{name}.svg")
            plot(result, written[-1])
        if result.get("curves"):
            written.append(folder / f"{name}-curves.svg")
            plot_curves(result, written[-1])
    for file in written:
        print(file)
    return written


def is_result(file: Path) -> bool:
    """Whether a JSON file is a result of this command, which other measurements beside it are not."""
    try:
        return "experiment" in json.loads(_read(file))
    except ValueError:
        raise RunFolderError(f"{file}: not valid JSON") from None


def read_result(file: Path) -> dict[str, Any]:
    """A result file.

    Raises:
        RunFolderError: if it is not one.
    """
    try:
        result: dict[str, Any] = json.loads(_read(file))
        missing = [key for key in ("experiment", "base", "rows", "means", "differences", "commit") if key not in result]
    except ValueError as error:
        raise RunFolderError(f"{file}: not valid JSON ({error})") from None
    if missing:
        raise RunFolderError(f"{file}: no result of 'visual-rft reproduce' ({missing[0]!r} is missing)")
    return result


def _plan(name: str, arguments: argparse.Namespace) -> Plan:
    """What is run of an experiment.

    Raises:
        ConfigError: if an argument does not fit.
    """
    from visual_rft.evidence.cells import grid, tuning_grid
    from visual_rft.evidence.experiments.description import ARMS, WITH_RECIPES
    from visual_rft.evidence.reproduction import Plan

    experiment = EXPERIMENTS[name]
    if arguments.tune and experiment.rates_of and arguments.what != "all":
        raise ConfigError(f"--tune: {name} takes the learning rates of the {experiment.rates_of}")
    for flag in ("seeds", "jobs"):
        given = getattr(arguments, flag)
        if given is not None and given < 1:
            raise ConfigError(f"--{flag} {given}: at least 1")
    if launched() > 1 and arguments.jobs is not None:
        raise ConfigError(
            f"--jobs: each of the {launched()} processes that were started runs one at a time; leave it out"
        )
    shots: Sequence[int | None] = experiment.shots
    if arguments.shots and experiment.shots != (None,):
        try:
            shots = [int(text) for text in arguments.shots.split(",")]
        except ValueError:
            raise ConfigError(f"--shots {arguments.shots!r}: numbers separated by commas, e.g. 1,4") from None
        if min(k or 0 for k in shots) < 1 or max(k or 0 for k in shots) > 16:
            raise ConfigError(f"--shots {arguments.shots!r}: from 1 to 16")
        if arguments.what == "all":
            shots = [k for k in shots if k in experiment.shots] or experiment.shots
    methods = _listed("--methods", arguments.methods, ("base", "sft", "rft", "recipes"))
    domains = _listed("--domains", arguments.domains, tuple(experiment.domains), skip=arguments.what == "all")
    arms = [arm for arm, (method, _) in ARMS.items() if ("recipes" if arm in WITH_RECIPES else method) in methods]
    return Plan(
        name,
        lambda choices: grid(
            name, experiment, choices, shots=shots, seeds=range(arguments.seeds), arms=arms, domains=domains,
            quick=arguments.quick,
        ),
        tuning_grid(name, experiment, arguments.quick) if arguments.tune else (),
    )  # fmt: skip


def _listed(flag: str, text: str | None, known: Sequence[str], skip: bool = False) -> list[str]:
    """The names in ``text``; all where there is none, and, with ``skip``, where none of them is known."""
    if text is None:
        return list(known)
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown and not skip:
        raise ConfigError(f"{flag}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
    return [name for name in known if name in names] or list(known)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{file}: cannot be read ({error.strerror})") from None
