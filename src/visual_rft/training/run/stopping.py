"""Asked to stop: the step ends, a checkpoint is written, and the exit code says what happened.

Decision: a signal only leaves a note, which the run reads between two steps, so that nothing is ever half done. A
second signal ends the process at once; every file is whole or not there, so that does no harm either. A cluster's time
limit is the same note, left by the clock: ``run.save_before`` seconds before the end that ``run.end_time`` or the
scheduler states.

    with StopWatch(config.run) as stop:
        if stop.reason: ...
"""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import datetime
from types import FrameType
from typing import NamedTuple, Self

from visual_rft.config.loop import LoopConfig
from visual_rft.parallel.processes import here

SIGNALS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)}
"""What asks a run to stop; SIGUSR1 is what a scheduler can be told to send before the time is up."""
OUT_OF_TIME = 75
"""Exit code at the time limit: ``EX_TEMPFAIL`` of sysexits.h, "try again later"."""

LAUNCHER_SECONDS = 10.0
"""After a signal in which another is the same one, where a launcher started several processes."""


class Stop(NamedTuple):
    """Why a run stops.

    Attributes:
        why: in words, e.g. ``SIGTERM``.
        exit_code: 128 + the signal's number, or :data:`OUT_OF_TIME`.
    """

    why: str
    exit_code: int


class StopWatch:
    """Remembers that the run was asked to stop. Signals are listened to inside ``with``, in the main thread only.

    Args:
        loop: states the time limit, if any.
    """

    def __init__(self, loop: LoopConfig) -> None:
        self._asked: Stop | None = None
        self._noted = 0.0
        self._process = os.getpid()
        self._before: dict[int, object] = {}
        end = end_of_time(loop)
        self._deadline = None if end is None else end - loop.save_before

    @property
    def asked(self) -> Stop | None:
        """Why the run is to stop, or None."""
        if self._asked is None and self._deadline is not None and time.time() >= self._deadline:
            self._asked = Stop("the time limit", OUT_OF_TIME)
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS.values():
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # nohup: a hang-up is none
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process and number == signal.SIGINT:
            return  # Ctrl-C reaches the processes that prepare images too; the step that ends still needs them
        if here().size > 1 and self._asked is not None and time.monotonic() - self._noted < LAUNCHER_SECONDS:
            return  # the launcher passes on what the terminal has sent to all already
        if self._asked is not None or os.getpid() != self._process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked, self._noted = Stop(signal.Signals(number).name, 128 + number), time.monotonic()


def end_of_time(loop: LoopConfig) -> float | None:
    """When the run has to be over, seconds since 1970: as the config states it, or as Slurm does; None if nobody
    does."""
    if loop.end_time is not None:
        return datetime.fromisoformat(loop.end_time).timestamp()
    stated = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(stated) if stated.isdecimal() else None
