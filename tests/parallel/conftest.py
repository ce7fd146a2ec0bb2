"""Four processes for all tests of this folder; two are everywhere (tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.pool import Pool


@pytest.fixture(scope="session")
def four() -> Iterator[Pool]:
    with Pool(4) as pool:
        yield pool
