"""The rooms import in one direction only, and the light ones never import torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "visual_rft"
# Lower rooms first; a room may import itself and those of a lower number.
LEVELS = {
    "errors": 0, "files": 0.1, "overrides": 0.3, "configs": 0.4, "sections": 0.4, "config": 0.5, "describe": 0.6,
    "arguments": 0.7, "configs_command": 0.7, "init_command": 0.7, "vision": 1, "tasks": 2, "data": 3, "report": 3,
    "policy": 4, "tiny": 5, "evaluation": 5, "training": 6, "app": 7, "export": 7, "demo": 7, "demo_command": 7.5,
    "evidence": 7, "cli": 8, "__init__": 8,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_downwards(file):
    here = room(file)
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("visual_rft."):
                there = name.split(".")[1]
                assert here == there or LEVELS[there] < LEVELS[here], f"{here} must not import {there}"


def test_every_room_has_a_level():
    assert {room(f) for f in FILES} == set(LEVELS)


def test_every_module_says_what_it_is():
    for file in FILES:
        if file.stat().st_size:
            assert ast.get_docstring(ast.parse(file.read_text())), file


@pytest.mark.parametrize(
    "module",
    ["visual_rft", "visual_rft.vision.drawing", "visual_rft.tasks", "visual_rft.report.view", "visual_rft.cli"],
)
def test_light_rooms_never_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names():
    code = (
        "import visual_rft, sys\n"
        "assert 'torch' not in sys.modules\n"
        "task = visual_rft.load_task('detection')\n"
        "assert task.score('x', {'boxes': [], 'image_size': [9, 9]}).total == 0\n"
        "assert 'torch' not in sys.modules\n"
        "assert callable(visual_rft.train) and set(visual_rft.__all__) <= set(dir(visual_rft))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_training_loop_stays_one_readable_file():
    assert len((SOURCE / "training" / "rft.py").read_text().splitlines()) <= 250
