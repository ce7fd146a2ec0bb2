"""How far something is and how long it still takes, on a terminal and in a log.

Decision: a terminal gets a bar that is redrawn. A pipe or a log gets a line after ``FIRST_SECONDS`` and then every
``EVERY_SECONDS``, so that something short says nothing and something long says so without filling the log:

    evaluating: 120 of 400 images, about 2 min left

    with Ticker(len(files), "reading") as ticker:
        for file in files:
            read(file)
            ticker.update()
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Self

from visual_rft.terminal.units import time_left

FIRST_SECONDS, EVERY_SECONDS = 2.0, 10.0
"""What takes less than two seconds needs no progress; ten seconds are the patience of somebody who watches a log."""


class Ticker:
    """Progress of one thing.

    Args:
        total: number of units.
        what: what is done, e.g. ``evaluating``.
        unit: name of a unit, singular, or a measure in capitals (``MB``).
        say: function that is given the lines; None writes to standard error, where a terminal gets a bar.
        clock: seconds since any moment.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str = "image",
        say: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done = 0
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._clock = clock
        self._started = clock()
        self._due = self._started + FIRST_SECONDS
        self._known = 0
        self._bar: Any = None
        if say is None and sys.stderr.isatty():
            from tqdm import tqdm  # here, because a log needs none of it

            self._bar = tqdm(total=total, desc=what, unit=unit, mininterval=0.5, file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1) -> None:
        """So many units more are done."""
        first = self.done == 0
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = self._clock()
        if first and now - self._started < FIRST_SECONDS / 20:
            self._known = self.done  # was there before (an evaluation that continues), and took no time
        if now < self._due or self.done >= self.total:
            return
        self._due = now + EVERY_SECONDS
        new = self.done - self._known
        left = f", {time_left((now - self._started) / new * (self.total - self.done))}" if new else ""
        units = self.unit if self.unit.isupper() else f"{self.unit}s"
        self._say(f"{self.what}: {self.done} of {self.total} {units}{left}")
