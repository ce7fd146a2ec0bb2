"""``make gpu`` rehearsed: the script that a borrowed GPU runs once has run here, in every part, on tiny shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
STAGES = {"images", "encode", "sample", "score", "reference", "backward", "optimizer"}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def test_every_part_of_the_rehearsal_leaves_its_figures(tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--rehearsal", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert {"machine", "torch", "transformers", "trl", "commit", "work"} <= result.keys()
    parts = {part["name"]: part for part in result["parts"]}
    assert {part["status"] for part in parts.values()} == {"done"}
    assert parts["tests"]["result"]["failures"] == parts["tests"]["result"]["errors"] == 0
    for shape in ("qwen2-vl toy", "qwen2.5-vl toy"):
        for tuning in ("full", "LoRA"):
            found = parts[f"{shape}, {tuning}"]["result"]
            assert (found["shape"], found["tuning"]) == (shape, tuning)
            assert {f"stage/{stage}" for stage in STAGES} | {"step", "rollout", "update"} == found["seconds"].keys()
            assert found["estimated_gib"] > 0
            assert found["milliseconds_per_token"] > 0
            assert (found["trainable"] == found["parameters"]) == (tuning == "full")
    for way in ("fsdp", "fsdp by layer, offloaded"):
        found = parts[f"qwen2-vl toy, {way}"]["result"]
        assert {f"stage/{stage}" for stage in STAGES} <= found["seconds"].keys()
        assert found["trainable"] == found["parameters"]
        assert found["held_beside_activations_gib"] > 0
    for shape in ("qwen2-vl toy", "qwen2.5-vl toy"):
        assert parts[f"{shape}, TRL"]["result"]["seconds"]["step"] > 0


def test_a_part_that_takes_too_long_or_fails_leaves_a_line(script):
    slow = script.in_box(["tests"], 0.01, rehearsal=True)
    assert slow["status"].startswith("took longer than its")
    broken = script.in_box(["step", "no such shape", "full"], 300, rehearsal=True)
    assert broken["status"].startswith("failed with 1: KeyError: 'no such shape'")


def test_the_parts_fit_into_eight_minutes(script):
    assert sum(script.BOX_SECONDS[box] for _, box, _ in script.parts_of(rehearsal=False) if box != "vllm") <= 600
    assert script.BUDGET_SECONDS <= 480  # a part gets what is left of it


@pytest.mark.skipif(torch.cuda.is_available(), reason="would run for minutes")
def test_without_a_gpu_it_says_so(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert script.main() == 2
    assert "there is no CUDA GPU here; --rehearsal" in capsys.readouterr().err
