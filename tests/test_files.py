"""Text files and JSON as they are written everywhere in the package."""

from __future__ import annotations

import json
import os
import threading

import pytest

from visual_rft.errors import DataError, RunFolderError
from visual_rft.files import append_json_lines, write_json, write_whole


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    write_whole(tmp_path / "a.txt", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "new")]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
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
