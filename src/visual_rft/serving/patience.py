"""How much is asked of servers at once, and how long they are waited for.

>>> retry_after("3", longest=30.0), retry_after("Wed, 21 Oct 2026 07:28:00 GMT", longest=30.0)
(3.0, 0.0)
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How much is asked at once, and how long an answer is waited for.

    Attributes:
        in_flight: most requests at once, over all servers.
        tries: of one request.
        first_pause: seconds before the second try; doubles with each, with a random half so that not all come back at
            the same moment.
        longest_pause: seconds.
        connect: seconds until a server that does not take the connection counts as not there.
        answer: seconds until one that says nothing counts as hanging.
    """

    in_flight: int = 64
    tries: int = 6
    first_pause: float = 0.5
    longest_pause: float = 30.0
    connect: float = 10.0
    answer: float = 600.0

    def pause(self, tried: int) -> float:
        """Seconds before the next try, after ``tried`` ones."""
        longest: float = min(self.longest_pause, self.first_pause * 2.0 ** (tried - 1))
        return longest * random.uniform(0.5, 1)  # noqa: S311 - no secret


def retry_after(value: str | None, longest: float) -> float:
    """Seconds that a server asks to wait, at most ``longest``; a date counts as none."""
    try:
        return min(longest, max(0.0, float(value or 0)))
    except ValueError:
        return 0.0
