"""Times and sizes as a person says them.

Decision: two units at most and no digits that nobody acts on; files keep seconds and bytes.

>>> duration(3.42), duration(245), duration(4_320), duration(190_000)
('3.4 s', '4 min 5 s', '1 h 12 min', '2 d 5 h')
>>> time_left(252), time_left(7), byte_size(3_420_000_000)
('about 4 min left', 'about 7 s left', '3.4 GB')
"""

from __future__ import annotations

from itertools import pairwise

_TIMES = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """A time in its two largest units; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for (unit, length), (finer, part) in pairwise(_TIMES):
        whole, rest = divmod(round(seconds / part), length // part)
        if whole:
            return f"{whole} {unit} {rest} {finer}" if rest else f"{whole} {unit}"
    return f"{seconds:.0f} s"


def time_left(seconds: float) -> str:
    """An estimate of the time that is left, in one unit: it is not known to the second."""
    for unit, length in _TIMES:
        if seconds >= 1.5 * length or length == 1:
            return f"about {max(1, round(seconds / length))} {unit} left"
    raise AssertionError  # the last unit is a second


def byte_size(count: float) -> str:
    """Bytes in powers of a thousand, as shops and file managers count.

    >>> byte_size(900), byte_size(15_000_000)
    ('900 B', '15 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.1f} {unit}" if count < 9.95 and unit != "B" else f"{count:.0f} {unit}"
        count /= 1000
    raise AssertionError
