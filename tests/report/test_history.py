"""What a report says of the questions of training."""

from __future__ import annotations

import json

from report.test_report import make_run

from visual_rft.report.history import MAX_QUESTIONS, history_of
from visual_rft.report.payload import embedded, payload
from visual_rft.report.reading import read_run


def written(folder, *lines):
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(folder)


def test_the_hardest_come_first(tmp_path):
    run = written(
        make_run(tmp_path / "run"),
        {"step": 0, "questions": {"a": [1.0, 0.0], "b": [0.2, 0.1]}},
        {"step": 1, "questions": {"b": [0.5, 0.0], "c": [0.9, 0.4]}},
    )
    assert history_of(run) == {
        "asked": 3,
        "flat": 2,
        "hardest": [
            {"id": "b", "times": 2, "first": 0.2, "last": 0.5, "flat": 1},
            {"id": "c", "times": 1, "first": 0.9, "last": 0.9, "flat": 0},
            {"id": "a", "times": 1, "first": 1.0, "last": 1.0, "flat": 1},
        ],
    }
    assert payload([run], embedded([run]))["runs"][0]["history"]["asked"] == 3


def test_what_is_not_there_or_broken_is_left_out(tmp_path):
    folder = make_run(tmp_path / "run")
    assert history_of(read_run(folder)) is None
    strange = {"a": [0.5, 0.1], "b": "x", "c": [1], "d": [None, 0.0], "e": [0.1, "x"], "f": [True, 0]}
    run = written(folder, {"step": 0, "questions": strange}, {"step": 1, "questions": [1]}, {"step": 2})
    assert [row["id"] for row in history_of(run)["hardest"]] == ["a"]
    many = {str(number): [float(number), 1.0] for number in range(200)}
    found = history_of(written(folder, {"step": 0, "questions": many}))
    assert (found["asked"], len(found["hardest"]), found["hardest"][0]["id"]) == (200, MAX_QUESTIONS, "0")
