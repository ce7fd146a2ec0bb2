"""A task or reward of the user's own that fails: which object, on which sample, and the user's own line.

Each test names its file by the whole path: an object is loaded once in a process by its name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from visual_rft.cli.main import main
from visual_rft.errors import ConfigError
from visual_rft.tasks import load_task

ROOT = Path(__file__).parent.parent.parent
COUNTING = (ROOT / "examples" / "counting.py").read_text()
GOLD = '        return self._wrap("counted", str(len(boxes_of(truth))))'


def write_run(tmp_path: Path, task: dict) -> str:
    values = {
        "model": {"path": "tiny"},
        "task": task,
        "data": {part: [{"source": "shapes", "count": 2, "seed": i}] for i, part in enumerate(("train", "evaluation"))},
        "rollout": {"group_size": 2, "max_new_tokens": 8},
        "run": {"folder": "run", "steps": 1, "prompts_per_batch": 2},
    }
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(values))
    return str(file)


def told(capsys, *command: str) -> list[str]:
    """The lines of an error with exit code 2."""
    capsys.readouterr()
    assert main(list(command)) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text[text.index("visual-rft: ") :].splitlines()  # behind warnings and a progress bar


@pytest.mark.parametrize("verb", ["check", "train", "train --run.evaluate_base false", "evaluate"])
def test_a_reward_that_raises(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "reward_of_mine.py"
    own.write_text("def helper(boxes):\n    return 1 / 0\n\n\ndef mine(completion, truth, answer):\n"
                   "    return helper(truth['boxes'])\n")  # fmt: skip
    file = write_run(tmp_path, {"name": "detection", "weights": {f"{own}:mine": 1.0}})
    first, second = told(capsys, *verb.split(), file)
    assert first.startswith(f"visual-rft: '{own}:mine' failed on sample ")
    assert first.endswith(": ZeroDivisionError: division by zero")
    assert "/" in first.partition("on sample ")[2], "the id of a question about shapes"
    assert second == "  reward_of_mine.py:2 in helper: return 1 / 0"


@pytest.mark.parametrize(
    ("line", "changed", "function"),
    [
        (GOLD, "        return truth['none']", "Counting.gold"),
        ("        return answer, len(boxes_of(truth))", "        return answer.none", "Counting.compare"),
        ('        "exact": lambda pair: float(pair[0] == pair[1]),', '        "exact": lambda pair: pair[7],',
         "Counting.<lambda>"),
    ],
)  # fmt: skip
def test_a_task_that_raises(tmp_path, monkeypatch, capsys, line, changed, function):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "counting.py"
    assert line in COUNTING
    own.write_text(COUNTING.replace(line, changed))
    first, second = told(capsys, "check", write_run(tmp_path, {"name": f"{tmp_path}/counting.py:Counting"}))
    assert first.startswith(f"visual-rft: '{tmp_path}/counting.py:Counting' failed on sample ")
    number = own.read_text().splitlines().index(changed) + 1
    assert second == f"  counting.py:{number} in {function}: {changed.strip()}"


def test_an_error_of_metrics_has_no_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = '            "accuracy": sum(said == true for said, true in pairs) / len(pairs),'
    assert line in COUNTING
    (tmp_path / "counting.py").write_text(COUNTING.replace(line, '            "accuracy": pairs.none,'))
    first, second = told(capsys, "train", write_run(tmp_path, {"name": f"{tmp_path}/counting.py:Counting"}))
    assert first.startswith(f"visual-rft: '{tmp_path}/counting.py:Counting' failed: AttributeError: 'list' object has")
    assert second.endswith('in Counting.metrics: "accuracy": pairs.none,')


@pytest.mark.parametrize(
    ("removed", "lacks"),
    [
        ('    questions = "present"\n', "lacks questions;"),
        ('    headline = ("accuracy", "mean_error")\n', "lacks headline;"),
        ("    def compare(", "lacks compare();"),
    ],
)
def test_a_task_that_is_not_complete_is_one_line(tmp_path, monkeypatch, capsys, removed, lacks):
    monkeypatch.chdir(tmp_path)
    assert removed in COUNTING
    replacement = "    def other(" if "def" in removed else ""
    (tmp_path / "counting.py").write_text(COUNTING.replace(removed, replacement))
    (line,) = told(capsys, "check", write_run(tmp_path, {"name": f"{tmp_path}/counting.py:Counting"}))
    assert line.startswith(
        f"visual-rft: task.name: '{tmp_path}/counting.py:Counting' {lacks} examples/counting.py is a complete"
    )


def test_questions_of_an_unknown_kind_are_one_line(tmp_path):
    (tmp_path / "own.py").write_text(COUNTING.replace('questions = "present"', 'questions = "presnt"'))
    with pytest.raises(ConfigError, match="questions is 'presnt'; choose from present, one, name, every, own, refer"):
        load_task(f"{tmp_path / 'own.py'}:Counting")


def test_an_error_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "counting.py", tmp_path)
    monkeypatch.setattr("visual_rft.inspection.check.check_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["check", write_run(tmp_path, {"name": f"{tmp_path}/counting.py:Counting"})])
