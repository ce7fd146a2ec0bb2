"""An error in one process ends all, with its one line and exit code 2; nobody hangs, nobody speaks beside it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from support.forked import run_apart, small_files_of_the_first
from support.shared_runs import run_settings

REWARD = """
import os
import time

def own(completion, truth, answer):
    if os.environ["RANK"] == "1":
        {fault}
    return 1.0
"""


def written(folder: Path, base: Path, name: str = "run", **sections: Any) -> str:
    values = run_settings(folder / "run", base, **{"run": {"steps": 1, "prompts_per_batch": 2}, **sections})
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


def reward(folder: Path, fault: str) -> dict[str, Any]:
    """A reward of the user's own that fails in the second process."""
    (folder / "own.py").write_text(REWARD.format(fault=fault))
    return {"weights": {f"{folder / 'own.py'}:own": 1}}


def one_line(ends: list, speaks: tuple[int, ...], lines: int = 1) -> str:
    """What was said, by one of the processes that may have been the first to speak."""
    assert [end.code for end in ends] == [2] * len(ends), ends
    (who,) = [rank for rank, end in enumerate(ends) if end.said]
    assert who in speaks
    assert ends[who].said.count("\n") == lines, ends[who].said
    assert ends[who].said.startswith("visual-rft: ")
    return ends[who].said


def test_a_config_that_is_broken_for_one(model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    words = [
        ["train", written(tmp_path, base)],
        ["train", written(tmp_path, base, "b", rollout={"group_sice": 3})],
    ]
    assert "group_sice" in one_line(run_apart(words, tmp_path), (1,))
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_missing_for_one(model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    words = [["train", written(tmp_path, base)], ["train", str(tmp_path / "none.yaml")]]
    assert "none.yaml" in one_line(run_apart(words, tmp_path), (1,))


def test_configs_that_differ(model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    words = [
        ["train", written(tmp_path, base)],
        ["train", written(tmp_path, base, "b"), "--optimizer.learning_rate", "0.5"],
    ]
    said = one_line(run_apart(words, tmp_path), (0, 1))
    assert "process 1 has another config than process 0: optimizer.learning_rate is 0.5 there and 1e-05 here" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("verb", "text"), [("train", "data.train: "), ("check", "data.train: ")])
def test_data_that_differ(model_folders, tmp_path, verb, text):
    words = []
    for name, label in (("a", "cat"), ("b", "dog")):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"image": f"{n}.png", "objects": [{"label": label, "box": [1, 2, 20, 30]}]} for n in range(4)]
        for row in rows:
            Image.new("RGB", (40, 40), (90, 20, 30)).save(folder / row["image"])
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = {"train": [{"source": "jsonl", "path": str(folder / "data.jsonl")}]}
        words.append([verb, written(tmp_path, model_folders["qwen2_vl"], name, data=data)])
    said = one_line(run_apart(words, tmp_path), (0, 1))
    assert f"process 1 has other data than process 0: {text}{tmp_path}/b/data.jsonl: data.jsonl has other" in said


def test_a_folder_that_is_missing_for_one(model_folders, tmp_path):
    base, data = model_folders["qwen2_vl"], {"train": [{"source": "imagefolder", "path": str(tmp_path / "gone")}]}
    words = [["train", written(tmp_path, base)], ["train", written(tmp_path, base, "b", data=data)]]
    assert f"{tmp_path}/gone" in one_line(run_apart(words, tmp_path), (1,))


@pytest.mark.parametrize(
    ("fault", "said", "lines"),
    [
        ("raise ValueError('no reward')", "no reward", 2),  # the second is the user's own line
        ("raise MemoryError('of the reward')", "MemoryError: of the reward", 2),
        ("time.sleep(600)", "a look at the weights: waited 2 s for process 1; if that one only is slow", 1),
    ],
)
def test_a_reward_that_fails_in_one(model_folders, tmp_path, fault, said, lines):
    words = ["train", written(tmp_path, model_folders["qwen2_vl"], task=reward(tmp_path, fault),
                              parallel={"timeout": 2.0 if "sleep" in fault else 100.0})]  # fmt: skip
    speaks = 0 if "sleep" in fault else 1
    assert said in one_line(run_apart([words, words], tmp_path), (speaks,), lines)
    assert not (tmp_path / "run").exists()


def raises(error: Exception, who: int, rank: int) -> None:
    """What reads the data raises in one of the processes."""
    from visual_rft.training import session

    def load(*arguments: object) -> None:
        raise error

    if rank == who:
        session.load_samples = load


@pytest.mark.parametrize(
    ("who", "error", "said"),
    [
        (0, OSError(28, "No space left on device", "a.png"), "a.png: No space left"),
        (1, MemoryError("30 GB"), "out of memory (30 GB)"),
    ],
)
def test_an_error_of_the_machine_in_one(model_folders, tmp_path, who, error, said):
    words = ["train", written(tmp_path, model_folders["qwen2_vl"])]
    assert said in one_line(run_apart([words, words], tmp_path, partial(raises, error, who)), (who,))


def test_a_bug_in_one_has_its_traceback(model_folders, tmp_path):
    words = ["train", written(tmp_path, model_folders["qwen2_vl"])]
    first, second = run_apart([words, words], tmp_path, partial(raises, IndexError("a bug"), 1))
    assert (first, second.code) == ((1, ""), 1)
    assert second.said.startswith("process 1 of 2:\n")
    assert "Traceback" in second.said
    assert second.said.endswith("IndexError: a bug\n")


def test_a_disk_that_is_full_for_the_first(model_folders, tmp_path):
    words = ["train", written(tmp_path, model_folders["qwen2_vl"])]
    ends = run_apart([words, words], tmp_path, small_files_of_the_first)
    assert "cannot write this checkpoint" in one_line(ends, (0, 1))
    assert not list((tmp_path / "run").rglob("*unfinished*"))
    # There is room again: the run goes on.
    assert [end.code for end in run_apart([[*words, "--resume"]] * 2, tmp_path)] == [0, 0]


def test_verbs_of_one_process_say_so(tmp_path):
    said = one_line(run_apart([["report", str(tmp_path)]] * 2, tmp_path), (0, 1))
    assert "visual-rft report runs in one process; call it without the launcher" in said
