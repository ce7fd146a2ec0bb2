"""The rooms import in one direction only, no two files import each other, and the light rooms never import torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "visual_rft"
FLOORS = (
    ("errors",), ("files", "parallel", "terminal"), ("config",), ("vision",), ("tasks",),
    ("data", "report", "serving"), ("policy",), ("inspection", "tiny", "samplers"), ("answering",),
    ("evaluation",), ("training",), ("app", "demo", "evidence", "export", "notebook"),
    ("__init__",), ("cli",), ("__main__",),
)  # fmt: skip
"""From the ground up: a room may import itself and the rooms of the floors below it."""
SUB_ROOMS = (
    # within a room, from the ground up, like FLOORS; files that are not named stand above all that are
    ("data", ("annotated", "lazy", "imprecise", "moved", "presets", "duplicates"), ("formats", "procedural")),
    ("policy", ("families", "prompt", "requirements", "tower", "inputs", "stored"), ("engine",)),
    (
        "tasks", ("parsing", "time_limit"), ("rewards", "truth", "plugins", "samples", "wording"), ("base",),
        ("patterns",), ("metrics", "kinds"),
    ),
    ("cli", ("printed",), ("verbs", "data_sets", "arguments")),
    (
        "training", ("advantages", "losses", "beside", "masters", "batches", "usable", "prompts"),
        ("run", "metrics", "objective"),
    ),
)  # fmt: skip
MOST_FILES, MOST_LINES = 16, 330
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, the deepest that exists of each."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "visual_rft":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "visual_rft"]
        for name in names:
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in MODULES:
                parts.pop()
            yield ".".join(parts) or "__init__"


@cache
def graph() -> dict[str, frozenset[str]]:
    return {module: frozenset(imported(file)) - {module} for module, file in MODULES.items()}


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if module.split(".")[0] in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    for other in graph()[module]:
        if other.split(".")[0] != module.split(".")[0]:
            assert floor_of(other) < floor_of(module), f"{module} must not import {other}"


@pytest.mark.parametrize("room", SUB_ROOMS, ids=lambda room: room[0])
def test_imports_within_a_room_point_downwards(room):
    name, *floors = room
    for module in MODULES:
        if not module.startswith(f"{name}."):
            continue
        here = next((n for n, part in enumerate(floors) if module.split(".")[1] in part), len(floors))
        for other in graph()[module]:
            if other.startswith(f"{name}."):
                there = next((n for n, part in enumerate(floors) if other.split(".")[1] in part), len(floors))
                assert there <= here, f"{module} must not import {other}"


def test_no_circle_between_files():
    try:
        tuple(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"these files import each other in a circle: {' -> '.join(error.args[1])}")


def test_the_repeated_path_takes_nothing_from_the_engine_that_it_checks():
    assert not graph()["policy.engine.repeated"] & {"policy.engine.shared", "policy.engine.attention.decoding"}


def test_every_room_has_a_floor():
    assert {module.split(".")[0] for module in MODULES} == {room for rooms in FLOORS for room in rooms}


def test_the_root_holds_only_what_every_room_needs():
    files = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "errors.py", "files.py", "py.typed"}


def test_rooms_and_files_stay_small():
    for folder in {file.parent for file in FILES}:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder
    for file in FILES:
        assert len(file.read_text().splitlines()) <= MOST_LINES, file


def test_every_module_says_what_it_is():
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_verbs_have_a_file_each_in_one_place():
    assert not [file for file in FILES if re.search(r"(^|_)command$", file.stem)]


def test_the_page_about_the_house_names_every_room_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.split("## The rooms")[1].split("\n## ")[0]
    rooms = {
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*") if path.is_dir() and "__pycache__" not in path.parts
    }
    rooms -= {str(path.relative_to(SOURCE)) for path in (SOURCE / "configs").rglob("*") if path.is_dir()}  # data
    named = set(re.findall(r"^\s+((?:[a-z_]+/)+)(?=\s)", drawn, re.MULTILINE))
    assert {name.rstrip("/") for name in named} == rooms | {"configs"}
    for file in FILES:
        if file.stem != "__init__" and "verbs" not in file.parts:
            assert re.search(rf"\b{file.stem}\b", drawn), f"docs/architecture.md does not name {file}"


@pytest.mark.parametrize(
    "module",
    [
        "visual_rft", "visual_rft.vision.drawing", "visual_rft.tasks", "visual_rft.report.view", "visual_rft.cli.main",
        "visual_rft.serving.client", "visual_rft.policy.prompt", "visual_rft.policy.stored.places",
    ],
)  # fmt: skip
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


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "visual_rft", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("visual-rft ")


def test_the_training_loop_stays_one_readable_file():
    assert len((SOURCE / "training" / "rft.py").read_text().splitlines()) <= 90
