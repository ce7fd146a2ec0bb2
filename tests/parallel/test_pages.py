"""What the pages say of several processes is what was measured, and the bytes are those of the page's own table."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
ENDINGS = ("equal", "refused", "different", "traceback", "hangs")


def part(page: str, name: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0].strip()


def test_kills_of_one_process_are_those_of_the_last_run():
    found = {}
    for line in part("reliability.md", "chaos of ranks").splitlines()[2:]:
        kind, trials, *counts, slowest = (cell.strip() for cell in line.strip("|").split("|"))
        found[kind] = (int(trials), [int(count) for count in counts], slowest)
    file = RESULTS / "chaos_ranks.json"
    result = json.loads(file.read_text())
    slowest = result["seconds until the others had ended, at most"]
    assert found == {
        kind: (sum(ends.values()), [ends.get(ending, 0) for ending in ENDINGS], f"{slowest[kind]:.0f} s")
        for kind, ends in result["results"].items()
    }
    killed = [ends for kind, ends in result["results"].items() if "killed" in kind]
    assert sum(sum(ends.values()) for ends in killed) >= 20


def test_weak_scaling_is_what_was_measured():
    said = " ".join(part("scaling.md", "scaling").split())
    file = RESULTS / "scaling.json"
    if not file.is_file():
        assert said.endswith("not measured yet.")
        return
    result = json.loads(file.read_text())
    seconds = result["median_seconds"]
    for ratio, over, under in (
        ("together_over_one", "together", "one"),
        ("apart_over_one", "apart", "one"),
        ("together_over_apart", "together", "apart"),
    ):
        assert abs(result[ratio] - seconds[over] / seconds[under]) < 1e-9
        assert f" {result[ratio]:.2f}" in said
    assert f"{seconds['one']:.2f} s in one process and {seconds['together']:.2f} s in 2" in said
    # "All-reduce: 2 P (N - 1) / N", P 4 bytes a parameter; and the gradients go out of both over the same device.
    size, summed = result["processes"], result["bytes_out_of_a_process_a_step"]["the sum of the gradients"]
    assert summed == 4 * result["learning_parameters"] * result["optimiser_steps_a_step"] * 2 * (size - 1) / size
    assert f"{summed / 1e6:.2f} MB of gradients" in said
    assert result["bytes_over_loopback_a_step"] > size * summed
