"""Launching several processes by the command itself, and what happens when one of them fails or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from support.shared_runs import run_settings

from visual_rft.errors import ConfigError
from visual_rft.parallel.launch import launched


def command(folder: Path, base: Path, **run) -> list[str]:
    """A run of two processes; its config is written into ``folder``."""
    values = run_settings(folder / "run", base, run={"processes": 2, **run})
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "visual_rft", "train", str(folder / "run.yaml")]


def test_deepspeed_and_a_broken_launcher_are_refused(monkeypatch):
    assert launched() == 1
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 'many'"):
        launched()
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert launched() == 8
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match="DeepSpeed is not supported"):
        launched()


def test_an_error_is_one_line_and_leaves_no_folder(model_folders, tmp_path):
    words = command(tmp_path, model_folders["qwen2_vl"], prompts_per_batch=1)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "a batch of 1 prompts cannot be shared by 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_when_one_dies_all_end_and_the_line_names_it(model_folders, tmp_path):
    words = command(tmp_path, model_folders["qwen2_vl"], steps=10_000)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        deadline = time.monotonic() + 300
        while not (tmp_path / "run" / "metrics.jsonl").is_file():
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        second = [p for p in psutil.Process(launcher.pid).children() if p.environ().get("RANK") == "1"]
        os.kill(second[0].pid, signal.SIGKILL)
        _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 128 + signal.SIGKILL
    assert "process 1" in said
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
