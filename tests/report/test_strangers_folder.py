"""A run folder that comes from a stranger: the report is made, bounded, and names what it left out."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path

import psutil
import pytest
from support.run_folders import answer, group, make_run

from visual_rft.cli.main import main
from visual_rft.report.page import write_report
from visual_rft.report.reading import read_run
from visual_rft.report.view import LiveRuns


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_run(tmp_path / "run")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB that claims so many black pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def named(folder: Path) -> str:
    """What the report and the live page say was left out; both are made."""
    run = read_run(folder)
    write_report([run], folder / "report.html")
    json.dumps(LiveRuns([folder], ["run"]).current()[1])
    return " ".join(run.problems)


def test_nothing_is_said_of_a_good_folder(folder):
    assert named(folder) == ""


@pytest.mark.parametrize("size", [(12_000, 12_000), (200_000, 1), (60_000, 60_000)])
def test_a_picture_bomb_is_named_and_not_opened(size, folder):
    (folder / "images/a.png").write_bytes(bomb(*(size if size[1] < 60_000 else (60_000, 2_000))))
    before, started = psutil.Process().memory_info().rss, time.monotonic()
    said = named(folder)
    if size[1] > 1:
        assert "a.png: cannot be shown as a picture (has " in said or "exceeds limit" in said
    assert psutil.Process().memory_info().rss - before < 200e6
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "content", [b"", b"%!PS\n(%pipe%touch /tmp/owned) (w) file", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(9)]
)
def test_a_picture_that_is_none_is_named(content, folder):
    (folder / "images/a.png").write_bytes(content)
    assert "a.png: cannot be shown as a picture" in named(folder)


DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "environment.json", "evaluation/step-000003.json",
                                  "rollouts/step-000001.jsonl"])  # fmt: skip
@pytest.mark.parametrize(
    "content", [DEEP, '{"step": ' + DEEP + "}", '{"step": 1' + "0" * 400 + "}", '{"a": 1' + "0" * 5000 + "}"]
)
def test_json_that_is_deep_or_holds_huge_numbers_is_named(name, content, folder):
    (folder / name).write_text(content + "\n")
    assert str(folder / name) in named(folder)


@pytest.mark.parametrize(
    "content",
    [
        "a: &a [*a]",
        "[" * 5000,
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
        "!!python/object/apply:os.system [touch /tmp/owned]",
    ],
    ids=["within itself", "brackets", "aliases", "code"],
)
def test_hostile_yaml_is_one_line(content, folder, capsys):
    (folder / "config.yaml").write_text(content)
    assert main(["report", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder / 'config.yaml'}: " in line


WRONG = (7, "text", [1], {"a": 1}, True)


@pytest.mark.parametrize("field", ["images", "image_size", "prompt", "question", "truth", "completions", "id", "step"])
@pytest.mark.parametrize("value", [*WRONG, None, [[]], [0, 0], [-1, "a"], ["x" * 9999], ["a\x00"]])
def test_rows_of_any_shape_are_shown_or_named(field, value, folder):
    rows = [group(1), {**group(1), field: value}]
    (folder / "rollouts/step-000001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = {**group(0), "completion": answer(), field: value}
    (folder / "evaluation/step-000003.json").write_text(json.dumps({"AP": 0.1, "examples": [example]}))
    named(folder)


@pytest.mark.parametrize("field", ["images", "image_size", "prompt", "question", "truth", "completion", "id", "task"])
@pytest.mark.parametrize(
    "value",
    [*WRONG, None, [[]], {"boxes": [[9, 9, 1, 1]]}, {"boxes": [[0, 0, 1e200, 1e200]]}, {"labels": [3]},
     {"answer": {"boxes": [[1, 2, 3, 4]], "confidence": [7]}}, {"answer": {"boxes": [[1, 2, 3, 4]], "unstated": [5]}},
     {"answer": {"boxes": [[1, 2, 3, 4]], "unstated": 5}}, {"rewards": [1]}, {"rewards": {"accuracy": "x"}},
     {"answer": {"boxes": [[9, 9, 1, 1]], "confidence": [float("nan")]}}],
    ids=str,
)  # fmt: skip
def test_held_out_answers_of_any_shape_are_shown_or_named(field, value, folder):
    good = {**group(0), "completion": answer()}
    rows = [good, {**good, field: value}]
    file = folder / "evaluation/step-000003.answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = json.loads((folder / "evaluation/step-000003.json").read_text())
    (folder / "evaluation/step-000003.json").write_text(json.dumps({**content, "n_questions": "many"}))
    said = named(folder)
    assert len(read_run(folder).answers(3)) == 2 or f"{file}: 1 rows are no answers; left out" in said


@pytest.mark.parametrize(
    "value", [*WRONG, None, {"leaked": "x"}, {"leaked": 2, "pairs": 5}, {"leaked": 2, "pairs": [5]}]
)
def test_a_leakage_of_any_shape_is_shown_or_left_out(value, folder):
    (folder / "data.json").write_text(json.dumps({"leakage": value}))
    assert named(folder) == ""


@pytest.mark.parametrize("field", ["rewards", "total", "answer", "notes", "failure", "advantage", "tokens", "text"])
@pytest.mark.parametrize("value", [*WRONG, {"boxes": 3}, {"boxes": [[1, 2, 3, 4]], "confidence": ["x"]}])
def test_completions_of_any_shape_are_shown_or_named(field, value, folder):
    row = group(1, answers=[answer(), answer(**{field: value})])
    (folder / "rollouts/step-000001.jsonl").write_text(json.dumps(row) + "\n")
    named(folder)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("environment.json", "git"), ("environment.json", "packages"), ("environment.json", "command"),
        ("environment.json", "device"), ("summary.json", "seconds"), ("evaluation/step-000003.json", "examples"),
        ("evaluation/step-000003.json", "AP"), ("metrics.jsonl", "reward"), ("metrics.jsonl", "kl"),
    ],
)  # fmt: skip
def test_fields_of_any_shape_are_shown_or_named(name, field, value, folder):
    (folder / name).write_text(json.dumps({"step": 1, field: value}) + "\n")
    named(folder)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("section", ["run", "task", "model", "objective", "data", "anything"])
def test_sections_of_any_shape_are_shown_or_named(section, value, folder):
    (folder / "config.yaml").write_text(json.dumps({section: value}))
    named(folder)


def test_a_pipe_is_not_waited_for(folder):
    (folder / "metrics.jsonl").unlink()
    os.mkfifo(folder / "metrics.jsonl")
    assert "metrics.jsonl: is not an ordinary file" in named(folder)


def test_a_file_that_is_too_large_is_named(folder):
    with (folder / "summary.json").open("wb") as file:
        file.truncate(600_000_000)  # no block of it is on the disk
    assert "summary.json: has 600,000,000 bytes" in named(folder)
