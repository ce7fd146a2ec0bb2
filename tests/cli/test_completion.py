"""A shell completes verbs, flags, fields, configs and run folders; a start without it costs what it did."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.run_folders import make_run

from visual_rft.cli.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder to type in: two configs, data, a run in runs/ and one elsewhere."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("coins.yaml", "cats.yml", "notes.txt"):
        (folder / name).write_text("")
    for run in ("runs/coins", "old/first"):
        make_run(folder / run)
        (folder / run / "checkpoints").mkdir()
    (folder / "photos").mkdir()
    return folder


def completed(line: str, place: Path) -> list[str]:
    """What the shell is told for what is typed so far."""
    out = place / "told"
    out.unlink(missing_ok=True)
    about = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
             "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "visual_rft"], env={**os.environ, **about}, cwd=place, check=False)
    assert done.returncode == 0
    return [word.strip() for word in out.read_text().split("\n") if word]


TYPED = {
    "": ("train sft check report", "--run.steps"),
    "tr": ("train", "sft"),
    "data co": ("convert", "info"),
    "train ": ("coins.yaml cats.yml photos/ qwen2-vl-2b/few-shot-coco", "notes.txt --dry-run --run.steps"),
    "train qwen2-vl-2b/few": ("qwen2-vl-2b/few-shot-coco", "qwen2-vl-7b/few-shot-coco"),
    "train coins.yaml --": ("--resume --run.steps --data.train.0.source", "--SECTION.FIELD --data.train.0"),
    "train coins.yaml --run.st": ("--run.steps", "--run.seed --resume"),
    "train coins.yaml --run.steps 3 --optimizer.schedule ": ("constant linear cosine", "coins.yaml"),
    "train coins.yaml --objective.advantages g": ("group gdpo", "batch"),
    "train coins.yaml --task ": ("detection classification grounding", "coins.yaml"),
    "train coins.yaml --model.path ": ("tiny runs/coins photos/", "coins.yaml notes.txt"),
    "train coins.yaml --data.train.0.path ph": ("photos/", "coins.yaml"),
    "report ": ("runs/coins old/", "old/first coins.yaml"),
    "report old/": ("old/first", "runs/coins"),
    "export runs/c": ("runs/coins", "coins.yaml"),
    "evaluate --model runs/": ("runs/coins", "coins.yaml"),
    "evaluate --protocol ": ("asked present all said", "coins.yaml"),
    "evaluate de": ("detection", "coins.yaml"),
    "data info --format y": ("yolo", "coco"),
    "predict photos --model ti": ("tiny", "photos"),
    "train coins.yaml --run.steps ": ("", "coins.yaml --resume"),
}
"""What is typed, with words that are then offered and words that are not."""


@pytest.mark.parametrize("typed", TYPED)
def test_what_may_follow_is_offered(place, typed):
    offered = completed(f"visual-rft {typed}", place)
    wanted, others = (words.split() for words in TYPED[typed])
    assert [word for word in wanted if word not in offered] == []
    assert [word for word in others if word in offered] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_takes_what_is_printed(place, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--completion", "bash"])
    assert caught.value.code == 0
    command = tmp_path / "visual-rft"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m visual_rft "$@"\n')
    command.chmod(0o755)
    (tmp_path / "code.sh").write_text(capsys.readouterr().out)
    script = (
        f"source {tmp_path}/code.sh; cd {place}; COMP_LINE='visual-rft report ru'; COMP_POINT=${{#COMP_LINE}}; "
        "COMP_TYPE=9; COMP_WORDS=(visual-rft report ru); COMP_CWORD=2; COMP_WORDBREAKS=$' \\t\\n'; "
        '$(complete -p visual-rft | sed "s/.*-F \\([^ ]*\\) .*/\\1/") visual-rft ru report; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    about = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=about, capture_output=True, text=True, check=False)
    assert sorted(done.stdout.split()) == ["runs/", "runs/coins"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_code_of_their_own(shell, capsys):
    with pytest.raises(SystemExit):
        main(["--completion", shell])
    assert "visual-rft" in capsys.readouterr().out


def test_a_plain_start_knows_nothing_of_it():
    code = (
        "import sys; from visual_rft.cli.main import make_parser; make_parser(); sys.exit('argcomplete' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
