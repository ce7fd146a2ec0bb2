"""Progress in a log: nothing of what is short, a line every so often of what is long."""

from __future__ import annotations

import pytest

from visual_rft.terminal.progress import Ticker
from visual_rft.terminal.units import byte_size, duration, time_left


def lines(seconds_each: float, total: int, known: int = 0) -> list[str]:
    said: list[str] = []
    now = [0.0]
    with Ticker(total, "reading", say=said.append, clock=lambda: now[0]) as ticker:
        ticker.update(known)
        for _ in range(total - known):
            now[0] += seconds_each
            ticker.update()
    return said


def test_what_is_short_says_nothing():
    assert lines(0.01, 100) == []


def test_what_is_long_says_how_long_it_still_takes():
    said = lines(1.0, 61)
    assert said[0] == "reading: 2 of 61 images, about 59 s left"
    assert [int(line.split()[1]) for line in said] == [2, 12, 22, 32, 42, 52]
    assert said[-1] == "reading: 52 of 61 images, about 9 s left"


def test_what_was_done_before_took_no_time():
    """Half of it was there: the rest takes a second each, not half a second."""
    assert lines(1.0, 100, known=50)[0] == "reading: 52 of 100 images, about 48 s left"


@pytest.mark.parametrize(
    ("seconds", "text", "left"),
    [
        (0.04, "0.0 s", "about 1 s left"),
        (9.96, "10 s", "about 10 s left"),
        (61, "1 min 1 s", "about 61 s left"),
        (240, "4 min", "about 4 min left"),
        (5_400, "1 h 30 min", "about 2 h left"),
        (259_200, "3 d", "about 3 d left"),
    ],
)
def test_times_as_a_person_says_them(seconds, text, left):
    assert (duration(seconds), time_left(seconds)) == (text, left)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1_500, "1.5 kB"), (999_600, "1.0 MB"), (2.5e9, "2.5 GB")])
def test_sizes_as_a_person_says_them(count, text):
    assert byte_size(count) == text
