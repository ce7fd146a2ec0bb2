"""From Python and notebooks: a run trained from a dict or keywords, and any run folder opened with its pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from support.run_folders import HOSTILE, answer, group, make_run

import visual_rft
from visual_rft.config.config import Config, load_config, parse_config
from visual_rft.errors import ConfigError, RunFolderError
from visual_rft.report.pictures import COLOURS

DIGITS = {"data": {"train": [{"source": "digits", "count": 4}],
                   "evaluation": [{"source": "digits", "split": "test", "count": 2}]}}  # fmt: skip
SHORT = {"rollout": {"group_size": 2, "max_new_tokens": 24}, "optimizer": {"learning_rate": 1e-4}}


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "run")


def png(content: bytes | None) -> Image.Image:
    assert content is not None
    return Image.open(io.BytesIO(content), formats=["PNG"]).convert("RGB")


def test_a_run_is_trained_from_a_dict_and_keywords_and_comes_back_opened(tmp_path):
    sizes = {"steps": 2, "prompts_per_batch": 2}
    run = visual_rft.train(DIGITS | SHORT, run={"folder": str(tmp_path / "run"), **sizes})
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    curves = run.curves()
    assert curves["step"].tolist() == [1, 2]
    assert curves["reward"].tolist() == [row["reward"] for row in written]
    assert run.summary["evaluation"]["AP"] == run.evaluations[-1]["AP"] == run.curves("evaluation")["AP"][-1]
    assert run.config["run"]["steps"] == 2
    rollouts = run.rollouts(run.rollout_steps[-1])
    assert [len(question.completions) for question in rollouts] == [2, 2]
    assert rollouts[0].picture.mode == "RGB"
    assert rollouts[0].picture.size == rollouts[0].size
    assert len(run.answers()) == len(run.answers(0)) == run.summary["evaluation"]["n_questions"]
    assert run.before_after().width > 200
    assert "after 2 steps" in run._repr_html_()
    # The same from a config, a file, and on gold answers; the keywords win.
    config = load_config(DIGITS | SHORT, run={"folder": str(tmp_path / "sft"), **sizes})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(DIGITS | SHORT))
    same = load_config(file, run={"folder": str(tmp_path / "sft"), **sizes})
    assert (
        same == config == load_config(parse_config(DIGITS | SHORT, ""), run={"folder": str(tmp_path / "sft"), **sizes})
    )
    supervised = visual_rft.train_supervised(config, run={"steps": 1})
    assert supervised.curves()["loss"].shape == (1,)
    assert supervised.rollout_steps == []
    with pytest.raises(RunFolderError, match="has no rollouts that was kept"):
        supervised.rollouts()


def test_what_is_changed_is_checked_like_a_file(tmp_path):
    values = {**DIGITS, "run": {"steps": 5, "seed": 3}}
    changed = load_config(values, run={"steps": 7}, data={"train": [{"source": "shapes"}]})
    assert (changed.run.steps, changed.run.seed, len(changed.data.train)) == (7, 3, 1)
    assert changed.data.train[0].source == "shapes"
    assert values["run"]["steps"] == 5, "what was given is not changed"
    assert load_config(Config(), run={"steps": 7}).run.steps == 7
    for bad, message in (
        ({"run": {"stepz": 1}}, r"^keywords: run.stepz: unknown key; did you mean 'steps'\?"),
        ({"runs": {"steps": 1}}, r"^keywords: runs: unknown key; did you mean 'run'\?"),
        ({"run": 3}, r"^keywords: run: "),
        ({"rollout": {"group_size": 1}}, r"^keywords: rollout: group_size is 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(values, **bad)
    with pytest.raises(ConfigError, match=r"^config: run.stepz: unknown key"):
        load_config({**DIGITS, "run": {"stepz": 1}})
    with pytest.raises(ConfigError, match=r"^config: names no data; e\.g\. data: \{train"):
        visual_rft.train({"run": {"folder": str(tmp_path / "never")}})
    with pytest.raises(ConfigError, match=r"^config: names no data.evaluation; "):
        visual_rft.train({"data": {"train": [{"source": "shapes"}]}, "run": {"folder": str(tmp_path / "never")}})
    assert not (tmp_path / "never").exists()


def test_curves_hold_every_value_and_nan_where_there_is_none(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "reward": 4.5, "kl": 0.25, "new": 1}) + "\n")
    run = visual_rft.open_run(str(folder))
    curves = run.curves()
    assert curves["step"].tolist() == [1, 2, 3, 4]
    assert curves["reward"].tolist() == [1.0, 2.0, 3.0, 4.5]
    assert np.isnan(curves["kl"][:3]).all()
    assert np.isnan(curves["new"][0])
    assert curves["kl"][3] == 0.25
    held_out = run.curves("evaluation")
    assert held_out["step"].tolist() == [0, 3]
    assert held_out["AP"].tolist() == [0.1, 0.4]
    assert np.isnan(held_out["AP75"]).all(), "COCO's -1 is no value"
    frame = run.frame()
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame["reward"].iloc[-1] == 4.5
    assert run.frame("evaluation").loc[3, "AP"] == 0.4
    with pytest.raises(ValueError, match="'training' and of 'evaluation'"):
        run.curves("rewards")


def test_a_long_curve_is_whole(folder):
    rows = [json.dumps({"step": step, "reward": step / 7}) for step in range(2345)]
    (folder / "metrics.jsonl").write_text("".join(row + "\n" for row in rows))
    assert visual_rft.open_run(folder).curves()["reward"].tolist() == [step / 7 for step in range(2345)]


def test_questions_come_with_pictures_truth_and_answers(folder):
    run = visual_rft.open_run(folder)
    assert run.rollout_steps == [1, 2, 3]
    assert [question.id for question in run.rollouts(2)] == ["a-1", "b-1"], "step 2 is the file of one step done"
    question = run.rollouts()[0]
    assert question.id == "a-2"
    assert (question.title, question.truth["boxes"]) == ("cat", [[1, 2, 21, 31]])
    assert question.picture.getpixel((0, 0)) == (10, 20, 30)
    colours = {colour for _, colour in question.drawn().getcolors(1 << 20)}
    assert {(40, 200, 90), tuple(bytes.fromhex(COLOURS[1][1:]))} <= colours, "the truth's green and the last answer's"
    assert max(png(question._repr_png_()).size) == 480, "enlarged to be seen, and no larger"
    assert "iou 0.50" in question._repr_html_()
    assert repr(question) == "<question 'cat': rewards 1.50, 0.50>"
    base = run.answers(0)
    assert [q.completions[0]["total"] for q in base] == [0.5]
    assert [q.completions[0]["total"] for q in run.answers()] == [2.0]
    for step, what in ((7, "rollouts of step 7; there are 1, 2, 3"), (0, "rollouts of step 0")):
        with pytest.raises(RunFolderError, match=what):
            run.rollouts(step)
    with pytest.raises(RunFolderError, match="evaluation of step 2; there are 0, 3"):
        run.answers(2)


def test_the_run_shows_itself(folder):
    run = visual_rft.open_run(folder)
    page = run._repr_html_()
    assert "<td>AP</td><td>0.100</td><td>0.400</td>" in page
    assert "<th>base</th><th>after 3 steps</th>" in page
    assert page.count("data:image/png;base64,") == 1
    assert png(run._repr_png_()).width > 300
    assert repr(run) == f"<run {folder}: 3 of 3 steps, finished>"
    assert len(page) < 200_000


def test_nothing_that_was_written_is_markup(tmp_path):
    folder = make_run(tmp_path / "run", steps=1)
    row = {
        **group(0, answers=[answer(HOSTILE, failure=HOSTILE, rewards={HOSTILE: 1.0})]),
        "question": {"category": HOSTILE},
    }
    (folder / "rollouts" / "step-000000.jsonl").write_text(json.dumps(row) + "\n")
    leakage = {"leaked": 1, "held_out_images": 4, "pairs": [{"held_out": HOSTILE}]}
    (folder / "data.json").write_text(json.dumps({"leakage": leakage}))
    run = visual_rft.open_run(folder)
    for page in (run._repr_html_(), run.rollouts()[0]._repr_html_()):
        assert "<script" not in page
        assert "onerror=alert(2)&gt;" in page


def test_a_run_that_goes_on_or_holds_little_is_opened(tmp_path):
    (tmp_path / "config.yaml").write_text("run: {steps: 9}\n")
    run = visual_rft.open_run(tmp_path)
    assert (run.summary, run.evaluations, run.rollout_steps, run.before_after()) == ({}, (), [], None)
    assert run.curves()["step"].tolist() == []
    assert run._repr_png_() is None
    assert "0 of 9 steps, not finished" in run._repr_html_()
    with pytest.raises(RunFolderError, match="no run here"):
        visual_rft.open_run(tmp_path / "elsewhere")


def test_a_stored_picture_that_is_none_is_an_error_and_one_that_is_gone_is_none(folder):
    (folder / "images" / "a.png").write_text("%!PS")
    with pytest.raises(OSError, match=r"a\.png: is no picture"):
        _ = visual_rft.open_run(folder).rollouts()[0].picture
    (folder / "images" / "a.png").unlink()
    question = visual_rft.open_run(folder).rollouts()[0]
    assert (question.picture, question.drawn(), question._repr_png_()) == (None, None, None)
    assert "iou 0.50" in question._repr_html_()


def test_opening_a_run_needs_neither_torch_nor_pandas(folder):
    code = (
        f"import sys, visual_rft; run = visual_rft.open_run({str(folder)!r}); run.curves(); run._repr_html_(); "
        "run.rollouts()[0]._repr_html_(); sys.exit(bool({'torch', 'pandas', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
