"""Whatever happens to a run or to its folder: it goes on and ends with the same weights, or says in one line what to
do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch
from support.runs import config, metrics, reward_the_letter, weights

from visual_rft.errors import ModelError, RunFolderError, RunStopped
from visual_rft.policy.policy import Policy
from visual_rft.policy.stored.places import DamagedCheckpointWarning, model_folder
from visual_rft.training import household
from visual_rft.training.household import Household
from visual_rft.training.learner import Learner
from visual_rft.training.rft import train
from visual_rft.training.run import checkpoint as checkpoints
from visual_rft.training.run import evaluating
from visual_rft.training.run.lock import LOCK, STALE_SECONDS, RunLock
from visual_rft.training.sft import train_supervised

STEPS = 4


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots and report are tested in test_tracking.py."""
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])


def settings(folder: Path, base: Path, **run):
    """A checkpoint after every step, and gradients that are not zero."""
    values = {"folder": str(folder), "steps": STEPS, "prompts_per_batch": 2, "checkpoint_every": 1, "rollouts_every": 0}
    return config(folder, base, run={**values, **run}, data={"evaluation": [{"source": "digits", "count": 1}]})


@pytest.fixture(scope="module")
def whole(model_folders, tmp_path_factory) -> Path:
    """A supervised run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(household, "write_artefacts", lambda folder: [])
        train_supervised(settings(folder, model_folders["qwen2_vl"]))
    return folder


def interrupted(whole: Path, folder: Path, after: int) -> Path:
    """A copy of the run as a crash after ``after`` steps leaves it."""
    shutil.copytree(whole, folder)
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) > after:
            shutil.rmtree(checkpoint)
    (folder / "summary.json").unlink()
    return folder


def assert_ends_like(folder: Path, whole: Path) -> None:
    """Bit by bit."""
    last = f"checkpoints/step-{STEPS:06d}/model"
    mine, other = weights(folder / last), weights(whole / last)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert [row["loss"] for row in metrics(folder)] == [row["loss"] for row in metrics(whole)]
    assert json.loads((folder / "summary.json").read_text())["evaluation"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zero(file: Path) -> None:
    """The second half, as a disk that lost power leaves it: the length is right."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def flip(file: Path) -> None:
    """One bit, three quarters into the file."""
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    file.write_bytes(bytes(content))


def lose(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("harm", [cut, empty, zero, flip, lose])
@pytest.mark.parametrize("name", ["model/model.safetensors", "trainer.pt", "model/config.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_goes_on_from_the_one_before(harm, name, whole, model_folders, tmp_path, capsys):
    folder = interrupted(whole, tmp_path / "run", after=3)
    harm(folder / "checkpoints/step-000003" / name)
    train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)
    assert f"step-000003 is damaged ({name}:" in capsys.readouterr().err.replace("; continuing from step-000002", "")
    assert_ends_like(folder, whole)


def test_without_a_whole_checkpoint_one_line_names_all(whole, model_folders, tmp_path):
    folder = interrupted(whole, tmp_path / "run", after=2)
    for number in (1, 2):
        flip(folder / f"checkpoints/step-{number:06d}/trainer.pt")
    with pytest.raises(RunFolderError, match=r"step-000002 is damaged .*step-000001 is damaged .*none is whole"):
        train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)


def test_a_model_of_a_run_is_its_newest_whole_checkpoint(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    flip(folder / "checkpoints/step-000004/model/model.safetensors")
    with pytest.warns(DamagedCheckpointWarning, match=r"model/model\.safetensors: .*; taking step-000003"):
        assert model_folder(str(folder)) == str(folder / "checkpoints/step-000003/model")
    for place in (folder / "checkpoints/step-000004", folder / "checkpoints/step-000004/model"):
        with pytest.raises(ModelError, match="step-000004 is damaged"):
            model_folder(str(place))


def test_a_run_that_died_before_its_summary_is_finished(whole, model_folders, tmp_path):
    folder = interrupted(whole, tmp_path / "run", after=STEPS)
    summary = train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)
    assert summary["evaluation"] == json.loads((whole / "summary.json").read_text())["evaluation"]
    assert_ends_like(folder, whole)
    with pytest.raises(RunFolderError, match="this run is finished"):
        train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)


def test_more_steps_may_be_asked_for(whole, model_folders, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    summary = train_supervised(settings(folder, model_folders["qwen2_vl"], steps=STEPS + 1), resume=True)
    assert summary["steps"] == STEPS + 1
    assert [row["step"] for row in metrics(folder)] == list(range(STEPS + 1))
    with pytest.raises(RunFolderError, match=r"run\.steps is 4, but this run was started with 5"):
        train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)


def test_the_folder_may_be_spelled_otherwise_or_have_moved(whole, model_folders, tmp_path, monkeypatch):
    folder = interrupted(whole, tmp_path / "elsewhere", after=3)
    monkeypatch.chdir(tmp_path)
    train_supervised(settings(Path("./elsewhere/"), model_folders["qwen2_vl"]), resume=True)
    assert_ends_like(folder, whole)


@contextmanager
def listened_to(number: int) -> Iterator[None]:
    """The signal is not ignored, as it is for a shell's background job (SIGINT) and under nohup (SIGHUP)."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_ends_the_step_and_keeps_it(name, whole, model_folders, tmp_path, monkeypatch):
    folder, number = tmp_path / "run", getattr(signal, name)
    run = settings(folder, model_folders["qwen2_vl"], checkpoint_every=0)
    real = Learner.optimize

    def signalled(self):
        if not metrics_of_two_steps(folder):
            os.kill(os.getpid(), number)
        return real(self)

    with monkeypatch.context() as patch, listened_to(number):
        patch.setattr(Learner, "optimize", signalled)
        with pytest.raises(RunStopped, match=rf"by {name} after 2 of 4 steps; .*step-000002 is written") as stopped:
            train_supervised(run)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is not None
    assert not (folder / LOCK).exists()
    train_supervised(run, resume=True)
    assert_ends_like(folder, whole)


def metrics_of_two_steps(folder: Path) -> bool:
    """Whether the step that goes on is not the second."""
    return not (folder / "metrics.jsonl").exists() or len(metrics(folder)) != 1


def test_a_signal_in_an_evaluation_leaves_it_for_later(whole, model_folders, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run = settings(folder, model_folders["qwen2_vl"], checkpoint_every=0)

    def signalled(*arguments, progress, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        progress(1)

    with monkeypatch.context() as patch:
        patch.setattr(evaluating, "predict", signalled)
        with pytest.raises(RunStopped, match="after 0 of 4 steps; nothing was trained yet"):
            train_supervised(run)
    summary = train_supervised(run, resume=True)
    assert "base" in summary
    assert_ends_like(folder, whole)


def test_the_time_limit_is_met(model_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 100))
    folder = tmp_path / "run"
    with pytest.raises(RunStopped, match="stopped by the time limit after 0 of 4 steps") as stopped:
        train_supervised(settings(folder, model_folders["qwen2_vl"], save_before=120.0))
    assert stopped.value.exit_code == 75
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 10_000))
    assert train_supervised(settings(folder, model_folders["qwen2_vl"], save_before=120.0), resume=True)["steps"] == 4


def test_the_command_ends_with_the_exit_code_of_the_signal(model_folders, tmp_path):
    """A process of its own: the second signal ends it at once, and the run still goes on from what there is."""
    values = settings(tmp_path / "run", model_folders["qwen2_vl"], steps=2000).model_dump(mode="json")
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    command = [sys.executable, "-m", "visual_rft", "sft", str(tmp_path / "run.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 1/"):
                process.terminate()
                break
        _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert error.splitlines()[-1].startswith("visual-rft: stopped by SIGTERM after ")
    assert "Traceback" not in error


def test_two_of_one_run_at_once_are_refused(whole, model_folders, tmp_path):
    folder = interrupted(whole, tmp_path / "run", after=3)
    run = settings(folder, model_folders["qwen2_vl"])
    with RunLock.take(folder), pytest.raises(RunFolderError, match=f"is being written by process {os.getpid()} on"):
        train_supervised(run, resume=True)
    train_supervised(run, resume=True)
    assert_ends_like(folder, whole)


def lock_file(folder: Path, **changed) -> Path:
    """A lock that somebody left."""
    folder.mkdir(exist_ok=True)
    own = psutil.Process()
    holder = {"host": socket.gethostname(), "pid": own.pid, "process_started": own.create_time(), "locked": "then"}
    (folder / LOCK).write_text(json.dumps({**holder, **changed}))
    return folder / LOCK


@pytest.mark.parametrize(
    ("changed", "age", "stale"),
    [
        ({}, 0, False),
        ({}, 10_000, False),  # this process lives, however long ago it took the lock
        ({"pid": 2**22 + 1}, 0, True),
        ({"process_started": 5.0}, 0, True),  # the number belongs to another process by now
        ({"host": "elsewhere"}, STALE_SECONDS - 60, False),
        ({"host": "elsewhere"}, STALE_SECONDS + 60, True),
    ],
)
def test_stale_locks_are_recognised(changed, age, stale, tmp_path):
    file = lock_file(tmp_path / "run", **changed)
    then = time.time() - age
    os.utime(file, (then, then))
    if stale:
        with RunLock.take(tmp_path / "run"):
            assert json.loads(file.read_text())["pid"] == os.getpid()
        assert list((tmp_path / "run").iterdir()) == []
    else:
        with pytest.raises(RunFolderError, match="wait for it or stop it"):
            RunLock.take(tmp_path / "run")
        assert list((tmp_path / "run").iterdir()) == [file]


def test_a_broken_lock_is_waited_for_and_then_taken(tmp_path):
    """A crash while a lock is made leaves none, so one that says nothing was cut by a disk."""
    file = lock_file(tmp_path / "run")
    file.write_text("")
    with pytest.raises(RunFolderError, match="unknown"):
        RunLock.take(tmp_path / "run")
    then = time.time() - STALE_SECONDS - 60
    os.utime(file, (then, then))
    RunLock.take(tmp_path / "run").release()


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: set[int], folder: Path) -> None:
    """Gradients of these steps hold one value that is not finite."""
    real = Policy.backward

    def backward(self, *arguments, **options):
        result = real(self, *arguments, **options)
        done = len(metrics(folder)) if (folder / "metrics.jsonl").exists() else 0
        if done in steps:
            next(p for p in self.model.parameters() if p.grad is not None).grad.view(-1)[0] = float("nan")
        return result

    monkeypatch.setattr(Policy, "backward", backward)


@pytest.mark.parametrize("loop", [train, train_supervised])
def test_a_step_without_a_finite_gradient_is_skipped_and_named(loop, model_folders, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    reward_the_letter(monkeypatch)
    poisoned(monkeypatch, {1}, folder)
    summary = loop(settings(folder, model_folders["qwen2_vl"]))
    states = [weights(folder / f"checkpoints/step-{n:06d}/model") for n in (1, 2, 3, 4)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    if loop is train_supervised:
        assert not all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert all(bool(torch.isfinite(value).all()) for state in states for value in state.values())
    error = capsys.readouterr().err
    assert "step 2: skipped, its gradient is not finite (questions: digits-train-0-" in error
    assert summary["steps_skipped"] == 1


def test_too_many_of_them_in_a_row_end_the_run(model_folders, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    poisoned(monkeypatch, {1, 2, 3}, folder)
    run = settings(folder, model_folders["qwen2_vl"])
    run = run.model_copy(update={"optimizer": run.optimizer.model_copy(update={"max_skipped": 1})})
    with pytest.raises(ModelError, match=r"step 3: 2 steps in a row had no finite .*Last checkpoint: .*step-000002"):
        train_supervised(run)


def test_weights_that_are_not_finite_are_never_saved(whole, model_folders, tmp_path, monkeypatch):
    real = Learner.optimize

    def lost(self):
        with torch.no_grad():
            next(self.policy.model.parameters()).view(-1)[0] = float("inf")
        return real(self)

    monkeypatch.setattr(Learner, "optimize", lost)
    with pytest.raises(RunFolderError, match=r"the weights are lost: .* is not finite"):
        train_supervised(settings(tmp_path / "run", model_folders["qwen2_vl"], checkpoint_every=0))
    assert not list((tmp_path / "run").glob("checkpoints/*"))


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
NO_SPACE_FOR_TORCH = RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file")


@pytest.mark.parametrize("error", [NO_SPACE, NO_SPACE_FOR_TORCH], ids=["system", "torch"])
def test_a_full_disk_costs_one_checkpoint(error, whole, model_folders, tmp_path, monkeypatch, capsys):
    real = torch.save

    def full(state, file):
        if state["step"] in (2, 3):
            file.write_bytes(b"half")
            raise error
        real(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    folder = tmp_path / "run"
    train_supervised(settings(folder, model_folders["qwen2_vl"]))
    assert sorted(place.name for place in (folder / "checkpoints").iterdir()) == ["step-000001", "step-000004"]
    assert capsys.readouterr().err.count("cannot write this checkpoint") == 2
    assert_ends_like(folder, whole)
    with pytest.raises(RunFolderError, match="step-000002: cannot write this checkpoint"):
        train_supervised(settings(tmp_path / "told", model_folders["qwen2_vl"], checkpoint_failure="stop"))


def test_old_checkpoints_go_when_a_newer_one_is_whole(model_folders, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    values = iter([0.1, 0.9, 0.3, 0.2, 0.4])  # before the first step, and after each
    real = Household.evaluate

    def evaluate(self, done):
        real(self, done)
        file = folder / f"evaluation/step-{done:06d}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "AP": next(values)}))

    monkeypatch.setattr(Household, "evaluate", evaluate)
    run = settings(folder, model_folders["qwen2_vl"], evaluate_every=1, checkpoint_keep=2, best="AP")
    train_supervised(run)
    kept = sorted(place.name for place in (folder / "checkpoints").iterdir())
    assert kept == ["step-000001", "step-000003", "step-000004"]


def test_changed_data_are_named_and_refused(model_folders, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    row = {"image": "a.png", "objects": [{"label": "cat", "box": [5, 5, 30, 30]}]}
    other = {"image": "a.png", "objects": [{"label": "cat", "box": [5, 5, 31, 30]}]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    folder = tmp_path / "run"
    source = [{"source": "jsonl", "path": str(tmp_path / "data.jsonl")}]
    run = config(
        folder, model_folders["qwen2_vl"], data={"train": source, "evaluation": source},
        run={"folder": str(folder), "steps": 2, "prompts_per_batch": 1, "checkpoint_every": 1},
    )  # fmt: skip
    train_supervised(run)
    shutil.rmtree(folder / "checkpoints/step-000002")
    (folder / "summary.json").unlink()
    (tmp_path / "data.jsonl").write_text(json.dumps(other) + "\n")
    with pytest.raises(RunFolderError, match=r"data\.train: .*data\.jsonl has other content.*--resume-anyway"):
        train_supervised(run, resume=True)
    capsys.readouterr()
    train_supervised(run, resume=True, anyway=True)
    assert "data.jsonl has other content" in capsys.readouterr().err


def test_another_version_of_a_package_is_named(whole, model_folders, tmp_path, capsys):
    folder = interrupted(whole, tmp_path / "run", after=3)
    file = folder / "environment.json"
    content = json.loads(file.read_text())
    content["packages"]["torch"] = "1.0"
    file.write_text(json.dumps(content))
    train_supervised(settings(folder, model_folders["qwen2_vl"]), resume=True)
    assert f"torch is {version('torch')}, this run was started with 1.0" in capsys.readouterr().err


def test_a_run_folder_as_a_model_means_one_checkpoint_for_ever(whole, model_folders, tmp_path):
    """The run that is built on goes on meanwhile; the base of the second run stays what it was."""
    first = interrupted(whole, tmp_path / "first", after=3)
    second = settings(tmp_path / "second", first, steps=1)
    train_supervised(second)
    stored = json.dumps(str(first / "checkpoints/step-000003/model"))[1:-1]
    assert stored in (tmp_path / "second/config.yaml").read_text()
    train_supervised(settings(first, model_folders["qwen2_vl"]), resume=True)
    (tmp_path / "second/summary.json").unlink()
    train_supervised(second, resume=True)
    assert stored in (tmp_path / "second/config.yaml").read_text()
