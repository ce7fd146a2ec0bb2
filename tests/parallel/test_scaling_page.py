"""docs/scaling.md says what benchmarks/scaling.py has measured, and the bytes are those of its table."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "scaling.json"
TEXT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
PART = " ".join(TEXT.split("<!-- scaling -->")[1].split("<!-- end of scaling -->")[0].split())


def test_weak_scaling_is_what_was_measured():
    if not RESULT.is_file():
        assert PART.endswith("not measured yet.")
        return
    result = json.loads(RESULT.read_text())
    seconds = result["median_seconds"]
    for ratio, over, under in (
        ("together_over_one", "together", "one"),
        ("apart_over_one", "apart", "one"),
        ("together_over_apart", "together", "apart"),
    ):
        assert abs(result[ratio] - seconds[over] / seconds[under]) < 1e-9
        assert f" {result[ratio]:.2f}" in PART
    assert f"{seconds['one']:.2f} s in one process and {seconds['together']:.2f} s in 2" in PART
    # "All-reduce: 2 P (N - 1) / N", P 4 bytes a parameter; and the gradients go out of both over the same device.
    size, summed = result["processes"], result["bytes_out_of_a_process_a_step"]["the sum of the gradients"]
    assert summed == 4 * result["learning_parameters"] * result["optimiser_steps_a_step"] * 2 * (size - 1) / size
    assert f"{summed / 1e6:.2f} MB of gradients" in PART
    assert result["bytes_over_loopback_a_step"] > size * summed
