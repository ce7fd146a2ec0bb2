"""Images that cannot be used: an error that names them, or left out and counted where the source says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.runs import config, metrics

from visual_rft.cli.main import main
from visual_rft.errors import DataError
from visual_rft.training import household
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(household, "write_artefacts", lambda folder: [])


def data_of(folder: Path, *, narrow: int = 0, rotten: int = 0, good: int = 6) -> dict:
    """JSONL questions: some about images of 4,200 x 20, some about images whose pixels are gone, and good ones."""
    rows = []
    for number in range(narrow + rotten + good):
        size = (4200, 20) if number < narrow else (64, 64)
        name = f"{number}.jpg"
        Image.effect_noise(size, 90).convert("RGB").save(folder / name, "JPEG")
        if narrow <= number < narrow + rotten:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: len(content) // 2])  # the header is whole
        row = {"id": f"q{number}", "image": name, "objects": [{"label": "cat", "box": [5, 5, 18, 18]}]}
        rows.append(json.dumps(row) + "\n")
    (folder / "data.jsonl").write_text("".join(rows))
    return {"source": "jsonl", "path": str(folder / "data.jsonl")}


def settings(folder: Path, base: Path, source: dict, **run):
    values = {"folder": str(folder / "run"), "steps": 3, "prompts_per_batch": 4, **run}
    held_out = [{"source": "digits", "count": 1}]
    return config(folder / "run", base, run=values, data={"train": [source], "evaluation": held_out})


@pytest.mark.parametrize("kind", ["narrow", "rotten"])
def test_by_default_it_is_an_error_that_names_the_image(kind, model_folders, tmp_path):
    source = data_of(tmp_path, **{kind: 1})
    said = (
        r"0\.jpg: .* 4200 x 20 pixels, sides 1 to 210 " if kind == "narrow" else r"0\.jpg: cannot be read as an image"
    )
    with pytest.raises(DataError, match=said):
        train_supervised(settings(tmp_path, model_folders["qwen2_vl"], source))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("loop", [train, train_supervised])
def test_under_skip_they_are_left_out_and_counted(loop, workers, model_folders, tmp_path, capsys):
    source = {**data_of(tmp_path, narrow=2, rotten=2), "broken": "skip"}
    run = settings(tmp_path, model_folders["qwen2_vl"], source, workers=workers)
    summary = loop(run)
    said = capsys.readouterr().err
    assert "2 of 10 questions are left out, their image cannot be used; the first: sample 'q0/cat': " in said
    for name in ("2.jpg", "3.jpg"):
        assert said.count(f"left out, another question takes its place: {tmp_path / name}: cannot be read as") == 1
    assert summary["questions_left_out"] == 2
    assert len(metrics(tmp_path / "run")) == 3
    if loop is train:
        files = sorted((tmp_path / "run/rollouts").iterdir())
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        assert len(rows) == 12
        assert {row["id"] for row in rows} == {f"q{n}/cat" for n in range(4, 10)}


def test_a_batch_is_the_same_whenever_it_is_made(model_folders, tmp_path):
    """So a resumed run meets the questions that it would have met."""
    from visual_rft.training.session import Session

    source = {**data_of(tmp_path, rotten=3), "broken": "skip"}
    with Session.start(settings(tmp_path, model_folders["qwen2_vl"], source), resume=False) as session:
        first = [[sample.id for sample in session.prepare(n).samples] for n in range(3)]
        again = [[sample.id for sample in session.prepare(n).samples] for n in (2, 1, 0)]
    assert first == again[::-1]
    assert all(len(batch) == 4 for batch in first)


def test_beyond_the_limit_the_run_stops(model_folders, tmp_path):
    source = {**data_of(tmp_path, rotten=3), "broken": "skip"}
    message = r"3 training questions had to be left out, run\.max_unusable is 2; mend the data. Last checkpoint: none"
    with pytest.raises(DataError, match=message):
        train_supervised(settings(tmp_path, model_folders["qwen2_vl"], source, steps=9, max_unusable=2))


@pytest.mark.parametrize("kind", ["narrow", "rotten"])
def test_nothing_usable_is_said_at_the_start(kind, model_folders, tmp_path):
    source = {**data_of(tmp_path, good=0, **{kind: 2}), "broken": "skip"}
    with pytest.raises(DataError, match=r"none of (the )?2 questions"):
        train_supervised(settings(tmp_path, model_folders["qwen2_vl"], source))
    assert not (tmp_path / "run").exists()


def test_other_verbs_name_a_narrow_image_in_one_line(model_folders, tmp_path, capsys):
    source = data_of(tmp_path, narrow=1, good=1)
    run = settings(tmp_path, model_folders["qwen2_vl"], source).model_dump(mode="json")
    run["data"]["evaluation"] = run["data"]["train"]
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    assert main(["check", str(tmp_path / "run.yaml"), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert "VIOLATION" in capsys.readouterr().out
    model = ["--model", str(model_folders["qwen2_vl"])]
    for words in (
        ["evaluate", str(tmp_path / "run.yaml")],
        ["predict", str(tmp_path / "0.jpg"), "--ask", "cat", *model],
    ):
        assert main(words) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("visual-rft: sample ")
        assert "0.jpg: the model's processor does not take this image of 4200 x 20 pixels" in last


def test_predict_counts_a_narrow_image_among_the_unreadable(model_folders, tmp_path, capsys):
    data_of(tmp_path, narrow=1, good=1)
    files = [str(tmp_path / name) for name in ("0.jpg", "1.jpg")]
    words = ["--ask", "cat", "--model", str(model_folders["qwen2_vl"]), "--out", str(tmp_path / "out"), "--json"]
    assert main(["predict", *files, *words]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 1
    assert len(result["unreadable"]) == 1
