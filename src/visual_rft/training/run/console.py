"""What a run says while it goes on: one line that lives on a terminal, a line every so often in a pipe.

Decision: the numbers are the same in both; only a terminal is redrawn, by rich. A log gets the first and the last step
and in between a line every ten seconds, with the time that is left: every step is in ``metrics.jsonl``. Everything that
is said once (an evaluation, a warning) stays above the live line. All of it may quote labels and completions, so all is
made printable.

>>> progress_line({"step": 4, "loss": 0.25, "grad_norm": 1.5, "samples_per_second": 32.0}, steps=10)
'step 5/10 | loss 0.2500 | grad norm 1.50 | 32 samples/s'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visual_rft.errors import printable
from visual_rft.terminal.progress import EVERY_SECONDS
from visual_rft.terminal.units import duration, time_left


class RunConsole:
    """Says what happens in a run.

    Args:
        steps: of the whole run.
        first_step: steps done before.
        output: where to; default standard output (warnings go to standard error in a pipe).
        clock: seconds since any moment.
    """

    def __init__(
        self,
        steps: int,
        first_step: int = 0,
        output: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps = steps
        self.first_step = first_step
        self.output = output or Console(highlight=False)
        self._live: Progress | None = None
        self._bar: TaskID | None = None
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._due = 0.0

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Report one step."""
        if not self.output.is_terminal:
            now, done = self._clock(), metrics["step"] + 1
            self._first = self._first or (now, done)
            if done != self._first[1] and done != self.steps and now < self._due:
                return
            self._due = now + EVERY_SECONDS
            line = progress_line(metrics, self.steps) + self._pace(metrics, now, done)
            print(printable(line), file=self.output.file, flush=True)
            return
        _, _, numbers = progress_line(metrics, self.steps).partition(" | ")
        if self._live is None:
            self._live = Progress(
                TextColumn("step {task.completed}/{task.total}"), BarColumn(16), TextColumn("{task.description}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.output,
            )  # fmt: skip
            self._bar = self._live.add_task("", total=self.steps, completed=self.first_step)
            self._live.start()
        assert self._bar is not None
        self._live.update(
            self._bar, completed=metrics["step"] + 1, description=escape(printable(_short(metrics) or numbers))
        )

    def _pace(self, metrics: Mapping[str, Any], now: float, done: int) -> str:
        """Time of a step, and what is left of the run, without the evaluations that are still to come."""
        assert self._first is not None
        start, first = self._first
        each = (now - start) / (done - first) if done > first else metrics.get("seconds/step")
        if each is None:
            return ""
        left = f", {time_left(each * (self.steps - done))}" if done < self.steps else ""
        return f" | {duration(each)} a step{left}"

    def say(self, text: str) -> None:
        """Something that stays."""
        if self.output.is_terminal:
            self.output.print(escape(printable(text)))
        else:
            print(printable(text), file=self.output.file, flush=True)

    def warn(self, text: str) -> None:
        """Something to act on."""
        if self.output.is_terminal:
            self.output.print(f"[yellow]warning:[/yellow] {escape(printable(text))}")
        else:
            print(f"warning: {printable(text)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the live line as it is and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_line(metrics: Mapping[str, Any], steps: int) -> str:
    """One step in one line."""
    if "reward" not in metrics:
        return (
            f"step {metrics['step'] + 1}/{steps} | loss {_number(metrics['loss'], 4)} | "
            f"grad norm {_number(metrics['grad_norm'])} | {_number(metrics['samples_per_second'], 0)} samples/s"
        )
    parts = " ".join(
        f"{k.removeprefix('reward/')} {_number(v)}" for k, v in metrics.items() if k.startswith("reward/")
    )  # fmt: skip
    tasks = "".join(f" {k.removesuffix('/reward')} {_number(v)}" for k, v in metrics.items() if k.endswith("/reward"))
    return (
        f"step {metrics['step'] + 1}/{steps} | {parts} | total {_number(metrics['reward'])} ± "
        f"{_number(metrics['reward_std'])}{f' ({tasks.strip()})' if tasks else ''} "
        f"equal {metrics['zero_std_share']:.0%} | kl {_number(metrics['kl'], 4)} | "
        f"length {metrics['length']:.0f} cut {metrics['truncated_share']:.0%} | "
        f"{metrics['tokens_per_second']:.0f} tok/s"
    )


def _short(metrics: Mapping[str, Any]) -> str:
    """What fits beside a bar."""
    if "reward" not in metrics:
        return ""
    return (
        f"reward {_number(metrics['reward'])} ± {_number(metrics['reward_std'])} "
        f"equal {metrics['zero_std_share']:.0%} kl {_number(metrics['kl'], 3)} length {metrics['length']:.0f} "
        f"{metrics['tokens_per_second']:.0f} tok/s"
    )


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
