"""Labels, file names and completions reach a terminal as text that can be seen, and never as commands to it."""

from __future__ import annotations

import io
import json
import re
import shutil
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from visual_rft.cli.main import main
from visual_rft.errors import DataError, printable
from visual_rft.training.run.console import RunConsole

EVIL = "cat\x1b[2J\x1b]0;owned\x07\nwarning: all is well\r\x9b31m\u202eevil\u2066"
"""Clears the screen, renames the window, imitates a line of ours, starts a line anew, colours, turns the writing."""


def assert_harmless(text: str) -> None:
    raw = {c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in "\u202e\u2066\ufeff"}
    assert raw <= {"\n", "\t"}
    assert not re.search(r"^warning: all is well", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("Büro, 日本語 👩‍👩‍👧", "Büro, 日本語 👩‍👩‍👧"),
        ("a\x1b[0m\n\x9b", r"a\x1b[0m\n\x9b"),
        ("\udcff\u2028\u202e", r"\udcff\u2028\u202e"),
        ("x" * 3000, "x" * 2000 + "... (1,000 more characters)"),
    ],
)
def test_what_is_shown(text, shown):
    assert printable(text) == shown


def test_lines_may_stay():
    assert printable("a\n\tb\r\x1b", lines=True, limit=None) == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_says_nothing_raw(terminal, capsys):
    output = io.StringIO()
    console = RunConsole(5, output=Console(file=output, force_terminal=terminal, color_system=None, highlight=False))
    console.say(EVIL)
    console.warn(EVIL)
    if not terminal:  # a live line moves the cursor itself
        console.step({"step": 0, "loss": 1.0, "grad_norm": 1.0, "samples_per_second": 1.0})
    console.close()
    assert_harmless(output.getvalue() + capsys.readouterr().err)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Data whose every name is hostile."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "plain.png")
    name = EVIL.replace("/", "") + ".png"
    shutil.copyfile(tmp_path / "plain.png", tmp_path / name)
    rows = [{"image": name, "objects": [{"label": EVIL, "box": [5, 5, 30, 30]}], "id": EVIL + str(n)} for n in range(2)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [{"source": "jsonl", "path": "data.jsonl"}]
    run = {"folder": "run", "steps": 1, "prompts_per_batch": 1}
    values = {"data": {"train": source, "evaluation": source}, "run": run, "rollout": {"max_new_tokens": 4}}
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["check", "run.yaml"],
        ["train", "run.yaml", "--dry-run"],
        ["train", "run.yaml", "--data.train.0.path", EVIL],
        ["train", "run.yaml", "--model.path", EVIL],
        ["train", "run.yaml", "--task.name", EVIL],
        ["train", EVIL],
        ["evaluate", "run.yaml"],
        ["evaluate", "run.yaml", "--model", EVIL],
        ["predict", EVIL + ".png", "--ask", EVIL],
        ["predict", "plain.png", EVIL + ".png", "--ask", EVIL, "--ask", "dog"],
        ["report", EVIL],
        ["export", EVIL],
        ["play", "run.yaml", "--gold"],
        ["data", "info", "run.yaml"],
        ["score", "--task", "classification", "--truth", json.dumps({"label": EVIL}), "--completion", EVIL],
    ],
    ids=lambda words: "-".join(words[:3]).encode("ascii", "ignore").decode().replace("\x1b", "")[:20],
)
def test_no_verb_prints_them_raw(words, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with suppress(SystemExit):  # the parser's own refusal
        main(words)
    said = capsys.readouterr()
    assert said.out + said.err
    assert_harmless(said.out.replace("\r", "") + re.sub(r"^\r?.*(%|it|image)\|.*$", "", said.err, flags=re.MULTILINE))


def test_an_error_with_a_long_name_is_cut(folder, capsys):
    assert main(["evaluate", "run.yaml", "--protocol", "all", "--classes", "x" * 5000]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("visual-rft: ")
    assert max(map(len, lines)) < 2200


def test_the_error_itself_keeps_what_it_names():
    """A program that catches it sees the name as it is."""
    assert "\x1b" in str(DataError(EVIL))
