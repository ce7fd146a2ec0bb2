"""What is drawn into a run folder when a run ends: plots and the report.

Decision: they are only views of files that are complete already, so nothing that goes wrong here may end a run: it is
told, and ``visual-rft report`` makes the page again.
"""

from __future__ import annotations

from pathlib import Path

from visual_rft.report.page import write_report
from visual_rft.report.pictures import before_after
from visual_rft.report.plots import learning_curve
from visual_rft.report.reading import read_run


def write_artefacts(folder: Path) -> list[str]:
    """Write ``plots/`` and ``report.html`` of a run folder; returns what went wrong, one sentence each."""
    problems = []
    for what, write in (("plots", _plots), ("report.html", _report)):
        try:
            write(folder)
        # Any exception: hours of training are not to end in a traceback because of a picture.
        except Exception as error:  # noqa: BLE001
            problems.append(f"{folder}/{what} could not be written ({type(error).__name__}: {error}); the run is whole")
    return problems


def _plots(folder: Path) -> None:
    run = read_run(folder)
    (folder / "plots").mkdir(exist_ok=True)
    learning_curve(run, folder / "plots" / "learning_curve.png")
    sheet = before_after(run)
    if sheet is not None:
        sheet.save(folder / "plots" / "before_after.png")


def _report(folder: Path) -> None:
    write_report([read_run(folder)], folder / "report.html")
