"""A call of somebody else's Python code that may take so long and no longer.

Decision: a thread cannot be killed, and a process of its own costs more than most rewards. So the code runs where it is
called, and is interrupted there: in the main thread by a timer's signal, which also ends a wait of the system; in any
other thread (where batches are prepared ahead) and on Windows by an exception that is laid into the thread, which takes
effect at its next line of Python. It comes again every second, so that an ``except:`` in the code does not swallow it
for good. What no exception reaches, an endless loop in a library of C, hangs.

>>> within(5.0, lambda: 1 + 1)
2
>>> within(0.05, lambda: [None for _ in iter(int, 1)])
Traceback (most recent call last):
    ...
visual_rft.tasks.time_limit.OutOfTimeError: took more than 0.05 seconds
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

AGAIN_SECONDS = 1.0
"""After which code that has caught the interruption is interrupted again."""
T = TypeVar("T")


class OutOfTimeError(Exception):
    """A call took longer than it may."""


class _TimeIsUp(BaseException):
    """Leaves the code; no ``except Exception`` catches it, and it never leaves this module."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """``call()``, interrupted after so many seconds.

    Args:
        seconds: greatest duration, above 0.
        call: function without arguments; whatever it raises is passed on.

    Raises:
        OutOfTimeError: if it takes longer.
    """
    in_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    try:
        with _by_signal(seconds) if in_main else _by_exception(seconds):
            return call()
    except _TimeIsUp:
        raise OutOfTimeError(f"took more than {seconds:g} seconds") from None


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if running:
            raise _TimeIsUp

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)  # another timer may be running
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _by_exception(seconds: float) -> Iterator[None]:
    thread, lock = threading.get_ident(), threading.Lock()
    over = threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    _lay(thread, _TimeIsUp)
            wait = AGAIN_SECONDS

    watcher = threading.Thread(target=watch, name="time-limit", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while not over.is_set():
            with suppress(_TimeIsUp), lock:
                over.set()
        _lay(thread, None)  # one that has been laid and not yet taken effect


def _lay(thread: int, exception: type[BaseException] | None) -> None:
    value = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)
