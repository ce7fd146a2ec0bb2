"""Whatever a file holds that a verb is given, the answer is one line and exit code 2."""

from __future__ import annotations

import pytest
from PIL import Image

from visual_rft.cli.main import main

LONG = "x" * 300


@pytest.mark.parametrize("verb", ["train", "sft", "check", "evaluate"])
@pytest.mark.parametrize(
    "content", [b"[" * 5000, b"\xff\xfer\x00\n", b"run: \xff", b"\x00", b"a: &a [*a]", b"- 1", b"7"],
)  # fmt: skip
def test_a_config_that_is_none(verb, content, tmp_path, capsys):
    (tmp_path / "run.yaml").write_bytes(content)
    assert main([verb, str(tmp_path / "run.yaml")]) == 2
    assert_one_line(capsys, "run.yaml")


@pytest.mark.parametrize(
    "words",
    [
        ["train", LONG],
        ["check", LONG],
        ["evaluate", LONG],
        ["export", LONG],
        ["report", LONG],
        ["predict", LONG, "--ask", "cat"],
        ["predict", "PICTURE", "--ask", "cat", "--model", f"./{LONG}"],
        ["train", "--model.path", f"./{LONG}"],
    ],
    ids=lambda words: words[0],
)
def test_a_name_longer_than_a_file_system_takes(words, tmp_path, capsys):
    if words[1].startswith("--"):
        sources = "[{source: digits}]"
        text = f"data: {{train: {sources}, evaluation: {sources}}}\nrun: {{folder: {tmp_path / 'run'}}}"
        (tmp_path / "run.yaml").write_text(text)
        words = [words[0], str(tmp_path / "run.yaml"), *words[1:]]
    if words[1] == "PICTURE":
        Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
        words = [words[0], str(tmp_path / "a.png"), *words[2:]]
    assert main(words) == 2
    assert_one_line(capsys, "xxx")


def assert_one_line(capsys: pytest.CaptureFixture[str], name: str) -> None:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("visual-rft: ")
    assert name in lines[0]
