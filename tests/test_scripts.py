"""What is run by hand still runs: the fuzzers on a few inputs."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fuzz_scores_completions_and_reads_files(tmp_path):
    fuzz = script("fuzz")
    record = fuzz.Record(tmp_path / "fuzz.json")
    record.write(**fuzz.completions(300, random.Random(0)))
    target = fuzz.Files(tmp_path / "files", record)
    for number in range(len(target.names)):
        for seed in fuzz.SEEDS:
            target(bytes([number]) + seed)
    assert target.count == len(target.names) * len(fuzz.SEEDS)
    kept = json.loads((tmp_path / "fuzz.json").read_text())
    assert kept["completions"] == 300
    assert kept["slowest_reader"] in target.names


def test_fuzz_tells_an_error_that_is_not_ours(tmp_path):
    fuzz = script("fuzz")
    target = fuzz.Files(tmp_path, fuzz.Record(tmp_path / "fuzz.json"))
    target.readers[target.names[0]] = lambda content: 1 / 0
    with pytest.raises(ZeroDivisionError):
        target(b"\0x")
