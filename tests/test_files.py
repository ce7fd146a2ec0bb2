"""Text files and JSON as they are written everywhere in the package."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from visual_rft.config.yaml_text import read_yaml
from visual_rft.errors import DataError, RunFolderError
from visual_rft.files import append_json_lines, at_home, parse_json, write_json, write_whole


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    write_whole(tmp_path / "a.txt", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(RunFolderError, match="is no text"):
        write_whole(tmp_path / "a.txt", "half of it \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_link_or_a_pipe_is_written_through(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_whole(tmp_path / "pipe", "text")
    reader.join(timeout=10)
    assert heard == ["text"]
    assert (tmp_path / "pipe").is_fifo()


def test_an_object_is_indented_and_a_list_is_one_line(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"AP": 0.5}, DataError)
    assert (tmp_path / "new" / "a.json").read_text() == '{\n  "AP": 0.5\n}\n'
    write_json(tmp_path / "b.json", [{"score": 1}, {"score": 2}], DataError)
    assert (tmp_path / "b.json").read_text() == '[{"score": 1}, {"score": 2}]\n'


def test_lines_are_appended(tmp_path):
    for rows in ([{"a": 1}, {"a": "ü\n"}], [], [{"a": 3}]):
        append_json_lines(tmp_path / "new" / "a.jsonl", rows, DataError, make_folder=True)
    lines = (tmp_path / "new" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [1, "ü\n", 3]


@pytest.mark.parametrize("error", [DataError, RunFolderError])
def test_the_error_is_the_callers_and_names_the_file(tmp_path, error):
    (tmp_path / "a").mkdir()
    with pytest.raises(error, match=r"/a: cannot be written \(Is a directory\)"):
        write_whole(tmp_path / "a", "text", error)
    with pytest.raises(error, match=r"/a: cannot be written \(Is a directory\)"):
        write_json(tmp_path / "a", {}, error)
    with pytest.raises(error, match=r"/a: cannot be written \(Is a directory\)"):
        append_json_lines(tmp_path / "a", [{}], error)
    with pytest.raises(error, match=r"/a.jsonl: cannot be written \(No such file or directory\)"):
        append_json_lines(tmp_path / "none" / "a.jsonl", [{}], error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_yaml_is_read_in_the_encoding_that_it_states(tmp_path, encoding):
    (tmp_path / "a.yaml").write_text("model: {path: tiný}\n", encoding=encoding)
    assert read_yaml(tmp_path / "a.yaml", DataError) == {"model": {"path": "tiný"}}


def test_an_empty_yaml_file_is_none(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml", DataError) is None


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 5000, "is nested too deeply"),
        (b"a: &a [*a]", "is nested too deeply, or holds itself"),
        (LAUGHS.encode(), "stands for more than 200,000 values once its aliases are written out"),
        (b"a" * 4_000_001, "has more than 4,000,000 bytes"),
        (b"\xff\xfea\x00\n", "cannot be read as text"),
        (b"a: \xff", "cannot be read as text; save it as UTF-8"),
        (b"a: [", "not valid YAML"),
        (b"a: \x00", "not valid YAML"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"a: 2001-99-99", "not valid YAML"),
    ],
)
def test_hostile_yaml_is_one_line_that_names_the_file(tmp_path, content, message):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.yaml: .*{message}") as raised:
        read_yaml(tmp_path / "a.yaml", DataError)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 61 + "]" * 61, "[" * 100_000, '{"a":' * 70 + "1" + "}" * 70])
def test_json_that_is_nested_too_deeply_is_none(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text)
    assert parse_json("[" * 60 + "]" * 60) is not None


def test_nothing_unfinished_stays(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_whole(tmp_path / "a.txt", "text", DataError)
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_is_one_line(tmp_path):
    """Of a file's name that is no UTF-8, as the shell passes it."""
    with pytest.raises(DataError, match=r"/a: cannot be written \('\\udcff' is no text\)"):
        write_whole(tmp_path / "a", "run \udcff", DataError)
    assert not list(tmp_path.iterdir())


def test_home_is_that_of_the_user_and_nobodys_is_a_name(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(at_home("~/photos")) == "/home/me/photos"
    assert str(at_home("~no-such-user/photos")) == "~no-such-user/photos"
