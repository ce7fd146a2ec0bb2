"""A handful of what ``make chaos`` does: processes that are killed end, gone on with, with the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_killed_processes_end_with_the_same_weights(tmp_path):
    out = tmp_path / "chaos.json"
    some = ["--points", "1", "--kills", "1", "--files", "0", "--signals", "", "--no-disk", "--ranks", "1",
            "--raises", "0", "--stops", "0", "--out", str(out)]  # fmt: skip
    command = [sys.executable, str(ROOT / "scripts/chaos.py"), *some]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.read_text())["results"]
    assert sum(results["killed at an operation on a file"].values()) == 1
    assert sum(results["killed at a random moment"].values()) == 1
    ranks = json.loads((tmp_path / "chaos_ranks.json").read_text())["results"]
    assert sum(ranks["the first killed at a random moment"].values()) == 1
    assert {ending for ends in (*results.values(), *ranks.values()) for ending in ends} <= {"equal", "refused"}
