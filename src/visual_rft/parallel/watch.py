"""The watch over the other processes: who is there, where everybody is, and whose error ends the run.

Decision: a thread of every process writes a line into the store that the launcher keeps (a number that rises, and the
meeting it is in), and reads the others'. So an error reaches a process that waits inside a collective, where no
exception could; a process that died is known by its silence, and a meeting that lasts too long names the ones who are
not there. The first to fail is the one who speaks; the others end silently with its exit code.

Time is that in which this process was awake: whoever is stopped and let go on (``scontrol suspend``) with all others
goes on. A second thread needs no store, and ends a process whose store does not answer.

A process that has to end while it waits for others ends at once (``os._exit``): every file is whole or not there, so
nothing is lost by it; what must be put away all the same is in :attr:`Watch.at_abort`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch.distributed as dist

from visual_rft.errors import VisualRFTError, printable

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 60.0
"""After which a process that says nothing counts as dead: longer than Python holds its lock for anything."""
GRACE_SECONDS = 5.0
"""That a process has to end by itself once another has failed."""
PATIENCE_SECONDS = 1800.0
"""For a meeting to be complete, unless ``parallel.timeout`` says otherwise."""


class Place(NamedTuple):
    """Where a process is: meetings it has been in, the name of the one it is in ("" in none), since when, and whether
    the others may take as long as they like."""

    meetings: int
    name: str
    since: float
    patient: bool = False


class OthersFailed(VisualRFTError):
    """Another process has failed, and has said why."""


class Watch:
    """Watches over all processes of a run, from inside one of them.

    Args:
        store: of the group, used by this watch alone.
        rank: number of this process.
        size: number of processes.

    Attributes:
        patience: seconds for a meeting to be complete.
        at_abort: functions that are called before this process is ended because of another.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size, self.patience = rank, size, PATIENCE_SECONDS
        self.at_abort: list[Callable[[], object]] = []
        self._store, self._lock = store, threading.Lock()
        self._clock, self._looks, self._ending = 0.0, 0, False
        self._place = Place(0, "", self._clock)
        self._heard: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=keep, name=keep.__name__.strip("_"), daemon=True)
            for keep in (self._keep_watch, self._keep_time)
        ]
        for thread in self._threads:
            thread.start()

    @contextmanager
    def meeting(self, name: str, *, patient: bool = False) -> Iterator[None]:
        """Around a collective, which all processes have to come to; ``patient`` waits for as long as they are there.

        Raises:
            OthersFailed: if another process has failed.
        """
        self._place = Place(self._place.meetings + 1, name, self._clock, patient)
        try:
            yield
        except (RuntimeError, dist.DistBackendError) as error:  # gloo says at once that a connection is gone
            if isinstance(error, NotImplementedError):
                raise
            self._wait_for_failure(name, error)
        finally:
            self._place = Place(self._place.meetings, "", self._clock)

    @contextmanager
    def fate(self, exit_code: Callable[[BaseException], int | None]) -> Iterator[None]:
        """Around everything that this process does: the first error of any process is that of all.

        Args:
            exit_code: with which an error ends the process that it is caught in; None for a bug, which ends it with 1
                and a traceback.
        """
        try:
            yield
        except OthersFailed:
            self._end(self._failure()[1])
        except BaseException as error:
            code = exit_code(error)
            if isinstance(error, SystemExit) and not error.code:
                raise
            self._ending = True
            if not self._speaks(1 if code is None else code):
                self._end(self._failure()[1])
            self._let_others_hear()
            sys.stderr = sys.__stderr__
            if self.rank > 0 and code is None:
                print(f"process {self.rank} of {self.size}:", file=sys.stderr)
            raise

    def take(self, row: str) -> int:
        """The next of the numbers 0, 1, 2, ... that no process has taken from a row of this name."""
        with self._lock:
            return int(self._store.add(row, 1)) - 1

    @property
    def meetings(self) -> int:
        """How many this process has been in; between two of them the same in all."""
        return self._place.meetings

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _speaks(self, code: int) -> bool:
        """Whether this process is the first that failed."""
        mine = json.dumps([self.rank, code])
        with self._lock, suppress(RuntimeError):
            return bool(self._store.compare_set("failed", "", mine).decode() == mine)
        return True  # the store is gone, and with it whoever could have spoken

    def _failure(self) -> tuple[int, int]:
        """Who failed first, and its exit code."""
        with self._lock, suppress(RuntimeError):
            if self._store.check(["failed"]):
                rank, code = json.loads(self._store.get("failed"))
                self._store.set(f"heard/{self.rank}", "")
                return int(rank), int(code)
        return -1, 2

    def _let_others_hear(self) -> None:
        """Where no launcher keeps the store, it goes with the first process: so that one stays until the others know
        that it has spoken, or they would, too."""
        if self.rank > 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            return
        others = [f"heard/{rank}" for rank in range(1, self.size)]
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            with self._lock, suppress(RuntimeError):
                if self._store.check(others):
                    return
            time.sleep(BEAT_SECONDS / 5)

    def _wait_for_failure(self, name: str, error: Exception) -> None:
        """A collective broke: because another process failed, which will be known in a moment, or because it died."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if self._failure()[0] >= 0:
                raise OthersFailed("another process has failed") from error
            time.sleep(BEAT_SECONDS / 2)
        missing = self._missing()
        who = f"; waiting for {_named(missing)}" if missing else ""
        said = " ".join(str(error).split())[:200]
        raise VisualRFTError(f"a process of this run is gone: {name} broke off{who} ({said})") from error

    def _missing(self) -> list[int]:
        """The processes that are not yet in the meeting that this one is in."""
        here = self._place.meetings
        return [rank for rank in range(self.size) if rank != self.rank and self._seen(rank) < here]

    def _seen(self, rank: int) -> int:
        said = self._heard.get(rank)
        return int(json.loads(said[0])[1]) if said else -1

    def _keep_watch(self) -> None:
        before, lost = time.monotonic(), -1.0
        while not self._ended.wait(BEAT_SECONDS):
            now = time.monotonic()
            self._clock += min(now - before, BEAT_SECONDS + GRACE_SECONDS)  # not while it was stopped
            before = now
            try:
                self._look()
                self._looks, lost = self._looks + 1, -1.0
            except RuntimeError as error:  # of the store
                self._looks += 1
                lost = self._clock if lost < 0 else lost
                if self._clock - lost > GRACE_SECONDS and not self._ended.is_set():
                    self._fail(f"the launcher of this run, or its first process, is gone ({str(error)[:100]})")

    def _keep_time(self) -> None:
        """End this process if it waits, for others or to end, and the store has not answered for a minute."""
        looks, ticks = -1, 0
        while not self._ended.wait(BEAT_SECONDS):
            looks, ticks = self._looks, ticks + 1 if looks == self._looks else 0
            if ticks * BEAT_SECONDS > SILENCE_SECONDS and (self._place.name or self._ending):
                where = f", in {self._place.name}" if self._place.name else ""
                self._say(f"the launcher of this run, or its first process, does not answer any more{where}")
                self._end(2)

    def _look(self) -> None:
        now, place = self._clock, self._place
        with self._lock:
            self._store.set(f"beat/{self.rank}", json.dumps([self._looks, place.meetings, place.name]))
            failed = self._store.check(["failed"])
            for rank in range(self.size):
                if rank != self.rank and self._store.check([f"beat/{rank}"]):
                    said = self._store.get(f"beat/{rank}").decode()
                    if self._heard.get(rank, ("", 0.0))[0] != said:
                        self._heard[rank] = (said, now)
        if failed:
            self._failure()
            self._ended.wait(GRACE_SECONDS if not place.name else BEAT_SECONDS)
            if not self._ended.is_set() and self._failure()[0] != self.rank:
                self._end(self._failure()[1])
            return
        silent = [rank for rank, (_, when) in self._heard.items() if now - when > SILENCE_SECONDS]
        if silent and place.name:
            self._fail(f"{_named(silent)} is not heard of any more, in {place.name}: killed, or its machine is gone")
        if place.name and not place.patient and now - place.since > self.patience:
            missing = self._missing() or [rank for rank in range(self.size) if rank != self.rank]
            self._fail(
                f"{place.name}: waited {self.patience:.0f} s for {_named(missing)}; if that one only is slow, raise "
                "parallel.timeout"
            )

    def _fail(self, text: str) -> None:
        """End this process, and so all, from the watch's thread."""
        if self._speaks(2):
            self._say(text)
            self._let_others_hear()
        self._end(2)

    def _say(self, text: str) -> None:
        print(f"visual-rft: {printable(text)}", file=sys.__stderr__, flush=True)

    def _end(self, code: int) -> None:
        for function in reversed(self.at_abort):
            with suppress(OSError, VisualRFTError):
                function()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _named(ranks: list[int]) -> str:
    return ("process " if len(ranks) == 1 else "processes ") + ", ".join(str(rank) for rank in ranks)
