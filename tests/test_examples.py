"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from visual_rft.cli.main import main

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


def test_the_photographs_are_labelled_as_their_files_are(monkeypatch, capsys, tmp_path):
    """Sizes, boxes, units, rewards and lengths of the hand-made labels, by the tool's own check."""
    monkeypatch.chdir(SOURCE.parent)
    assert main(["check", "examples/photos.yaml", "--sheet", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "8 training questions, 8 checked" in out
    assert "no violation" in out
