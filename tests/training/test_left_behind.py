"""What crashes leave in a run folder, and disks and systems that lack something."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.runs import config, metrics
from training.test_reliability import lock_file

from visual_rft.config.config import Config, dump_config
from visual_rft.errors import RunFolderError
from visual_rft.policy.stored import manifest
from visual_rft.policy.stored.manifest import damage, write_manifest
from visual_rft.policy.stored.places import model_folder
from visual_rft.training import household
from visual_rft.training.run import checkpoint as checkpoints
from visual_rft.training.run import folder as folders
from visual_rft.training.run.checkpoint import prune_checkpoints
from visual_rft.training.run.continuing import changed_since
from visual_rft.training.run.folder import RunFolder
from visual_rft.training.run.lock import LOCK, RunLock
from visual_rft.training.sft import train_supervised


def test_a_lock_on_a_disk_without_hard_links(tmp_path, monkeypatch):
    def link(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with RunLock.take(tmp_path):
        assert [file.name for file in tmp_path.iterdir()] == [LOCK]
        with pytest.raises(RunFolderError, match=f"is being written by process {os.getpid()}"):
            RunLock.take(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_ended_and_is_not_yet_buried_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
        lock_file(tmp_path / "run", pid=child.pid, process_started=process.create_time())
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        RunLock.take(tmp_path / "run").release()


def test_checkpoints_are_ordered_by_number_and_strangers_are_none(tmp_path):
    for name in (
        "step-999999",
        "step-1000000",
        "step-000010",
        "step-000011.unfinished",
        "step-x9",
        "step-12.unfinished-old",
    ):
        (tmp_path / "checkpoints" / name / "model").mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "model/config.json").write_text("{}")
        write_manifest(tmp_path / "checkpoints" / name)
    names = [place.name for place in RunFolder(tmp_path).checkpoints()]
    assert names == ["step-000010", "step-999999", "step-1000000"]
    assert model_folder(str(tmp_path)) == str(tmp_path / "checkpoints/step-1000000/model")


def test_what_a_killed_process_was_writing_is_deleted_when_the_run_goes_on(model_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])
    folder = tmp_path / "run"
    run = config(folder, model_folders["qwen2_vl"], run={"folder": str(folder), "checkpoint_every": 1})
    train_supervised(run)
    (folder / "summary.json").unlink()
    shutil.copytree(folder / "checkpoints/step-000001", folder / "checkpoints/step-000007.unfinished")
    (folder / "checkpoints/step-000002").rename(folder / "checkpoints/step-000002.unfinished-old")
    (folder / "images").mkdir(exist_ok=True)
    for name in ("summary.json.unfinished", "evaluation/step-000002.json.unfinished", "images/unfinished-a.png"):
        (folder / name).write_text("half")
    train_supervised(run, resume=True)
    assert not list(folder.rglob("*unfinished*"))
    assert len(metrics(folder)) == 2


def test_a_run_folder_that_cannot_be_filled_is_not_left_behind(model_folders, tmp_path, monkeypatch):
    def full(config):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders, "data_of", full)
    with pytest.raises(OSError, match="No space left"):
        train_supervised(config(tmp_path / "run", model_folders["qwen2_vl"]))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_cannot_be_deleted_stays(tmp_path, monkeypatch):
    def busy(checkpoint):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(checkpoints, "delete_checkpoint", busy)
    said: list[str] = []
    prune_checkpoints([tmp_path / "step-000001", tmp_path / "step-000002"], 1, None, said.append)
    assert said == [f"{tmp_path / 'step-000001'}: cannot be deleted (Device or resource busy); it stays"]


def test_a_manifest_that_leads_outside_is_none(tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": {"/dev/zero": {"bytes": 0, "sha256": "a"}}}')
    assert damage(tmp_path) == "manifest.json: is not what was written"
    (tmp_path / "manifest.json").write_text('{"files": {"../a": {"bytes": 0, "sha256": "a"}}}')
    assert damage(tmp_path) == "manifest.json: is not what was written"


def test_where_folders_cannot_be_opened_they_are_not_synced(tmp_path, monkeypatch):
    """Windows, as far as it can be told here: a file has to be open for writing, a folder cannot be opened at all."""
    opened: list[tuple[Path, int]] = []
    real = os.open

    def noted(path, flags):
        opened.append((Path(path), flags))
        return real(path, flags)

    (tmp_path / "file").write_text("a")
    monkeypatch.setattr(manifest.os, "open", noted)
    monkeypatch.setattr(manifest, "WINDOWS", True)
    try:
        manifest.sync(tmp_path / "file")
        manifest.sync(tmp_path)
    finally:
        monkeypatch.undo()
    assert opened == [(tmp_path / "file", os.O_RDWR)]


def test_a_damaged_folder_is_gone_on_with_and_what_was_lost_is_named(tmp_path, capsys):
    """Lines without a step, copies by hand, and JSON of another kind: each was a traceback of --resume."""
    run = tmp_path / "run"
    for name in ("rollouts", "evaluation"):
        (run / name).mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(Config()))
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"loss": 1}\n{"step": "2"}\n{"step": 3}\n')
    (run / "environment.json").write_text('{"resumed": 3}')
    (run / "data.json").write_text('{"train": 5, "evaluation": []}')
    own = ("evaluation/step-000009-copy.json", "rollouts/step-000009 (1).jsonl", "evaluation/step-9 b.answers.jsonl")
    made = ("evaluation/step-000004.json", "evaluation/step-000004.answers.jsonl", "rollouts/step-000003.jsonl")
    kept = ("evaluation/step-000003.json", "evaluation/step-000003.answers.jsonl", "rollouts/step-000002.jsonl")
    for name in (*own, *made, *kept):
        (run / name).write_text("{}\n")
    data, others = changed_since(run, Config())
    assert data == []
    assert others == [f"{run / 'data.json'}: does not say what the files of data.train were, so nobody knows whether "
                      "they are the same"]  # fmt: skip
    RunFolder(run).reopen(Config(), 3)
    there = [name for name in (*own, *made, *kept) if (run / name).exists()]
    assert there == [*own, *kept]
    assert (run / "metrics.jsonl").read_text() == '{"step": 1}\n'
    said = capsys.readouterr().err
    assert f"{run / 'metrics.jsonl'}: 2 lines name no step; left out" in said
    assert f"{run / 'environment.json'}: cannot be read; written anew" in said
    assert json.loads((run / "environment.json").read_text())["resumed"][0]["after_steps"] == 3
