"""The notebooks of examples/ run as they stand, and what is stored in them holds pictures and stays small."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


def pictures(notebook) -> int:
    """Pictures that the outputs hold."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_what_is_stored_has_pictures_and_is_small(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert pictures(notebook) >= 3
    assert file.stat().st_size < 300_000
    text = file.read_text(encoding="utf-8")
    folders = [f"/{name}/" for name in ("home", "root", "tmp", "work")]
    assert not [word for word in (*folders, "Traceback", "site-packages") if word in text]
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the kernel's own libraries
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs(file, monkeypatch, tmp_path):
    """In a kernel of this Python; the notebooks write into a temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(file, as_version=4)
    stored = pictures(notebook)
    before = set(os.listdir(file.parent))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(file.parent)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    assert pictures(notebook) == stored
    assert set(os.listdir(file.parent)) == before, "nothing is left beside it"


def test_there_are_two():
    assert [file.stem for file in NOTEBOOKS] == ["own_data", "quickstart"]
