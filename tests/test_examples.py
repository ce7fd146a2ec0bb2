"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
MODULES = sorted(
    ".".join(f.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for f in SOURCE.rglob("*.py")
    if ">>>" in f.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"load_task": importlib.import_module("visual_rft.tasks").load_task})
    assert result.attempted > 0
    assert result.failed == 0
