"""Warnings on standard error, a line each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from visual_rft.errors import printable


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr, flush=True)
