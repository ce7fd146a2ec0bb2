"""The evidence in miniature: every arm end to end, continued after an interruption, budgets, splits and intervals."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from support.evidence import cells_of, tries_of

from visual_rft.cli import main as cli
from visual_rft.cli.verbs.reproduce import is_result, read_result
from visual_rft.config.compose import compose, names
from visual_rft.errors import ModelError, RunFolderError
from visual_rft.evidence import reproduction, runner
from visual_rft.evidence.choices import COMMITTED, Choice, Tuned, key_of
from visual_rft.evidence.experiments.budgets import UNSURE
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.experiments.description import ARMS, TUNING_SEED, WITH_RECIPES
from visual_rft.evidence.plots import plot
from visual_rft.evidence.published import CONFIGS, TARGETS, targets
from visual_rft.evidence.reproduction import dump_result
from visual_rft.evidence.results import means_of, over_seeds, over_shots, pick_seeds, rows_of
from visual_rft.evidence.tables import NAMES, markdown
from visual_rft.evidence.tuning import best_of
from visual_rft.policy.stored.places import weights_fingerprint

TODAY = {"base": weights_fingerprint("tiny")}
SHORT = ["reproduce", "few-shot-detection", "--quick", "--seeds", "1", "--shots", "1", "--domains", "handwriting",
         "--jobs", "1"]  # fmt: skip


def test_every_arm_and_no_run_twice_after_an_interruption(tmp_path, monkeypatch, capsys):
    done: Counter[str] = Counter()
    real, stop = runner._run, {"handwriting-k1-seed0-sft"}

    def counted(cell, *rest):
        if cell.name in stop:
            stop.clear()
            raise KeyboardInterrupt
        result = real(cell, *rest)
        done[cell.name] += 1
        return result

    monkeypatch.setattr(runner, "_run", counted)
    Tuned(None, {}).write(tmp_path / "nothing.json")
    monkeypatch.setattr(reproduction, "COMMITTED", tmp_path / "nothing.json")  # as before anything was tuned
    out = tmp_path / "out"
    command = [*SHORT, "--out", str(out)]
    assert cli.main(command) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert list(done) == ["handwriting-base", "handwriting-k1-seed0-rft"]
    early = read_result(out / "few-shot-detection.json")
    check_schema(early)
    assert {row["method"] for row in early["rows"]} == {"base", "rft"}
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    arms = ["handwriting-base", *(f"handwriting-k1-seed0-{arm}" for arm in ("rft", "sft", "sft-time", *WITH_RECIPES))]
    assert done == Counter(dict.fromkeys(arms, 1))
    said = capsys.readouterr()
    assert "RFT - SFT, equal time" in said.out
    assert "RFT, best recipe - SFT, best recipe" in said.out
    assert "5 of 7 runs are to be made: about" in said.out
    assert "all 7 runs have been made" in said.out
    assert "no learning rate was tuned for rft, sft, sft-time" in said.err
    calls = [json.loads(line) for line in (out / "reproduce.jsonl").read_text().splitlines()]
    assert [(call["ended"], call["runs"]) for call in calls] == [("interrupted", 0), ("finished", 5), ("finished", 0)]

    result = read_result(out / "few-shot-detection.json")
    check_schema(result)
    by_arm = {row["arm"]: row for row in result["rows"] if row["metric"] == "AP"}
    assert set(by_arm) == set(ARMS) - {"sft-reasoning"}  # boxes come without any
    assert by_arm["rft"]["optimizer_steps"] == by_arm["sft"]["optimizer_steps"] == 4
    assert by_arm["rft-recipe"]["optimizer_steps"] == by_arm["sft-recipe"]["optimizer_steps"] == 4
    assert by_arm["warm-rft"]["optimizer_steps"] == 3  # one of warm start, two of reinforcement
    assert by_arm["sft-time"]["optimizer_steps"] > 4
    assert all(row["images"] == 8 for row in result["rows"])
    cells = out / "few-shot-detection" / "cells"
    assert not list(cells.glob("*.run"))
    logged = {arm: json.loads((cells / f"handwriting-k1-seed0-{arm}.json").read_text())["curves"] for arm in ARMS
              if arm in by_arm and arm != "base"}  # fmt: skip
    assert {arm for arm, curves in logged.items() if "reward" in curves} == {"rft", "rft-recipe", "warm-rft"}
    assert None not in logged["rft-recipe"]["reward"]
    first, second = logged["warm-rft"]["reward"]
    assert first is None  # gold answers
    assert second > 0
    assert "step 2/2" in (cells / "handwriting-k1-seed0-rft.log").read_text()

    broken = cells / "handwriting-base.json"
    broken.write_text("{")
    assert cli.main(command) == 2
    assert "handwriting-base.json: cannot be read" in capsys.readouterr().err


def test_the_same_answers_are_ranked_by_three_numbers(tmp_path, capsys):
    out = ["--quick", "--seeds", "1", "--domains", "handwriting", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(["reproduce", "scores", "--methods", "base", *out]) == 0
    table = capsys.readouterr().out
    assert "| handwriting, 1 seed | written | tokens | asked | tokens - written |" in table
    assert "| AP, base |" in table
    assert "| calibration error, base |" in table
    rows = {row["metric"]: row["value"] for row in read_result(tmp_path / "scores.json")["rows"]}
    assert rows.keys() == set(EXPERIMENTS["scores"].metrics)
    assert rows["AP/tokens - written"] == pytest.approx(rows["AP/tokens"] - rows["AP/written"], abs=2e-4)


def test_styles_and_thinking_are_one_grid_under_the_same_rewards():
    changes = [
        variant.changes for variant in EXPERIMENTS["ablations"].variants.values() if variant.arms[:1] == ("base",)
    ]
    assert "confidence" not in UNSURE, "the method's words alone ask for one"
    unsure = [change for change in changes if change.get("task.weights") == UNSURE]
    found = Counter((change["task.style"], change["task.think"]) for change in unsure)
    assert found == Counter((style, think) for style in ("method", "native", "plain") for think in (True, False))


def test_several_runs_at_once_wait_for_those_they_are_matched_with(tmp_path, monkeypatch):
    """Threads for processes and no training: at most three at once, steps of equal time from finished runs."""
    lock, running, most, matches = Lock(), set(), [], {}

    def run(cell, metrics, folder, matched):
        with lock:
            running.add(cell.name)
            most.append(len(running))
        time.sleep(0.01)
        with lock:
            running.remove(cell.name)
        matches[cell.name] = [result["name"] for result in matched]
        return {"name": cell.name}

    monkeypatch.setattr(runner, "_executor", ThreadPoolExecutor)
    monkeypatch.setattr(runner, "_run_and_write", run)
    cells = cells_of("few-shot-detection", seeds=(0, 1))
    runner.run_cells(cells, ("AP",), tmp_path, jobs=3)
    assert matches == {cell.name: [other.name for other in cell.matched] for cell in cells}
    assert max(most) == 3


def test_other_processes_come_to_the_same_numbers_and_one_that_fails_spoils_none(tmp_path):
    base, rft = cells_of("few-shot-detection", shots=(1,), arms=("base", "rft"),
                     domains=("handwriting",), quick=True)  # fmt: skip
    model = rft.config.model.model_copy(update={"path": "nowhere"})
    lost = replace(rft, config=rft.config.model_copy(update={"model": model}))
    with pytest.raises(ModelError, match="nowhere"):
        runner.run_cells([lost, base], ("AP",), tmp_path / "two", jobs=2)
    runner.run_cells([base], ("AP",), tmp_path / "here")
    files = [sorted((tmp_path / name / "cells").glob("*.json")) for name in ("two", "here")]
    assert [[file.name for file in some] for some in files] == [["handwriting-base.json"]] * 2
    results = [json.loads(some[0].read_text()) for some in files]
    assert all(result.pop("wall_seconds") > 0 for result in results)
    assert results[0] == results[1]


def check_schema(result):
    assert {"experiment", "base", "rows", "means", "differences", "machine", "commit", "command"} <= result.keys()
    assert re.fullmatch(r"[0-9a-f]{16}", result["base"])
    assert {"processor", "cores", "threads", "torch"} <= result["machine"].keys()
    assert result["rows"]
    for row in result["rows"]:
        assert (row["method"], row["budget"]) == ARMS[row["arm"]]
        assert row["method"] in ("base", "sft", "rft")
        assert row["metric"] in result["metrics"]
        assert {"shots", "seed", "domain", "budget", "split", "images", "optimizer_steps", "cpu_seconds"} <= row.keys()
        least = -1 if "-" in row["metric"] else 0  # a metric may be a difference: AP/tokens-written
        assert least <= row["value"] <= 1
        assert row["low"] is None or least <= row["low"] <= row["high"] <= 1
    for row in (*result["means"], *result["differences"]):
        assert {"method", "shots", "domain", "metric", "seeds", "value", "low", "high"} <= row.keys()


def test_steps_of_equal_time():
    # 60 s of reinforcement; supervised steps of 10 s / 100 = 0.1 s each
    rft, sft = {"cpu_seconds": 60.0, "optimizer_steps": 100}, {"cpu_seconds": 10.0, "optimizer_steps": 100}
    assert runner.matched_steps(rft, sft) == 600
    assert runner.matched_steps({"cpu_seconds": 0.01}, sft) == 1


def test_mean_over_drawn_seeds_by_hand():
    draws = np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    picks = np.array([[0, 0], [0, 1], [1, 1]])
    # 1; (2 + 6) / 2; 7
    assert over_seeds(draws, picks).tolist() == [1.0, 4.0, 7.0]
    assert pick_seeds(3, 1000).shape == (1000, 3)
    assert (pick_seeds(3, 1000) == pick_seeds(3, 1000)).all()
    assert set(pick_seeds(3, 1000).flatten()) == {0, 1, 2}


def test_intervals_of_means_and_differences_by_hand():
    """Every draw of images gives the same number, so the interval of a mean is that of drawing seeds.

    Seeds 0.2 and 0.4 against 0.1 and 0.3: drawn twice with replacement, the mean is 0.2, 0.3 or 0.4 with chances 1/4,
    1/2, 1/4, so the middle 95 % reach from 0.2 to 0.4; the difference is 0.1 whichever seeds are drawn.
    """
    cells = cells_of("few-shot-detection", shots=(4,), seeds=(0, 1),
                 arms=("rft", "sft"), domains=("handwriting",))  # fmt: skip
    values = {"rft": (0.2, 0.4), "sft": (0.1, 0.3)}
    results = {}
    for cell in cells:
        value = values[cell.arm][cell.seed]
        cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
        results[cell.name] = {"numbers": {"AP": value}, "draws": {"AP": [value] * 400}, **cost}
    rows = rows_of(cells, results, ["AP"])
    assert [(row["value"], row["low"], row["high"]) for row in rows if row["method"] == "rft"] == [
        (0.2, 0.2, 0.2), (0.4, 0.4, 0.4),
    ]  # fmt: skip
    means, (difference,) = means_of(cells, results, ["AP"])
    by_method = {row["method"]: (row["value"], row["low"], row["high"]) for row in means}
    assert by_method == {"rft": (0.3, 0.2, 0.4), "sft": (0.2, 0.1, 0.3)}
    assert (difference["minus"], difference["value"]) == ("sft", 0.1)
    assert (difference["low"], difference["high"]) == (0.1, 0.1)


@pytest.mark.parametrize("name", ["few-shot-detection", "ablations"])
def test_a_table_says_how_many_seeds_were_run(name):
    """Not how often the base was looked at, which is once."""
    cells = cells_of(name, shots=(4,), seeds=(0, 1), domains=("handwriting",))
    numbers = dict.fromkeys(EXPERIMENTS[name].metrics, 0.5)
    draws = {metric: [0.5] * 400 for metric in numbers}
    cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
    results = {cell.name: {"numbers": numbers, "draws": draws, **cost} for cell in cells}
    means, differences = means_of(cells, results, list(numbers))
    result = {"metrics": list(numbers), "rows": [], "means": means, "differences": differences, **TODAY}
    assert ", 2 seeds |" in markdown(result).splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["few-shot-detection", "--shots", "four"], "numbers separated by commas"),
        (["few-shot-detection", "--shots", "17"], "from 1 to 16"),
        (["few-shot-detection", "--seeds", "0"], "at least 1"),
        (["few-shot-detection", "--jobs", "0"], "--jobs 0: at least 1"),
        (["few-shot-detection", "--methods", "dpo"], "unknown 'dpo'; choose from base, sft, rft, recipes"),
        (["few-shot-detection", "--domains", "digits"], "choose from handwriting, shapes"),
        (["few-shot-detection", "--page", "a.md"], "--page needs 'reproduce tables'"),
        (["open-vocabulary", "--tune"], "takes the learning rates of the ablations"),
        (["tables"], "holds no result"),
    ],
)
def test_mistakes_are_one_line_and_run_nothing(arguments, message, tmp_path, capsys):
    assert cli.main(["reproduce", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_scale_real_prints_configs_and_published_numbers(capsys):
    assert cli.main(["reproduce", "few-shot-detection", "--scale", "real"]) == 0
    out = capsys.readouterr().out
    assert "qwen2-vl-2b/few-shot-coco" in out
    assert {f"qwen2-vl-2b/{name}" for some in CONFIGS.values() for name in some} <= set(names())
    assert "mAP, 4 shots: base 19.6  SFT 25.2  RFT 40.6" in out
    assert cli.main(["reproduce", "all", "--scale", "real"]) == 0
    out = capsys.readouterr().out
    assert out.count("with a real model") == len(EXPERIMENTS)
    assert "| COCO-8, mAP | Qwen2-VL-2B | 43.72 | RFT without thinking |" in out
    page = (DOCS / "evidence.md").read_text()
    assert page.partition("<!-- targets -->\n")[2].partition("<!-- /targets -->")[0] == f"\n{targets()}\n\n"


def test_the_papers_targets_are_those_of_its_configs():
    known = {row.rft for name in names() for row in compose(name).published}
    assert {t.number for t in TARGETS if t.source == "arXiv 2503.01785"} <= known
    assert all(t.source.endswith("not checked in its source") for t in TARGETS if t.number not in known)


def test_variants_at_several_shots_are_a_table_each(tmp_path):
    name = "objectives-detection"
    experiment = EXPERIMENTS[name]
    cells = cells_of(name, seeds=(0,))
    numbers = {cell.name: 0.2 + 0.01 * (cell.shots or 0) for cell in cells}
    cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
    results = {
        cell.name: {"numbers": dict.fromkeys(experiment.metrics, numbers[cell.name]),
                    "draws": {metric: [numbers[cell.name]] * 400 for metric in experiment.metrics}, **cost}
        for cell in cells
    }  # fmt: skip
    means, differences = means_of(cells, results, experiment.metrics)
    result = {"metrics": list(experiment.metrics), "rows": [], "means": means, "differences": differences, **TODAY}
    tables = markdown(result).split("\n\n")
    assert [table.split(",")[1].strip() for table in tables] == ["1-shot", "4-shot", "16-shot"]
    for table, value in zip(tables, ("0.210", "0.240", "0.360"), strict=True):
        rows = [line for line in table.splitlines() if line.startswith("| gspo |")]
        assert len(rows) == 1
        assert value in rows[0]
    plot(result, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f">handwriting, {k}-shot<" in drawn for k in (1, 4, 16))


def test_a_change_over_all_shots_by_hand():
    """0.1 more in both runs of one number of shots and 0.3 in both of the other: of four runs drawn, all are of one
    number with a chance of 1/16 each, so the middle 95 % reach from 0.1 to 0.3."""
    cells = [
        cell for cell in cells_of("objectives-detection", shots=(1, 4), seeds=(0, 1), arms=("rft",))
        if cell.variant in ("grpo", "gspo")
    ]  # fmt: skip
    value = {(1, "grpo"): 0.2, (1, "gspo"): 0.3, (4, "grpo"): 0.2, (4, "gspo"): 0.5}
    results = {
        cell.name: {
            "numbers": {"AP": value[cell.shots, cell.variant]},
            "draws": {"AP": [value[cell.shots, cell.variant]] * 400},
        }
        for cell in cells
    }
    rows = over_shots(cells, results, ["AP"])
    assert rows == [
        {"domain": "handwriting", "variant": "gspo", "metric": "AP", "runs": 4, "value": 0.2, "low": 0.1, "high": 0.3}
    ]
    assert not over_shots([cell for cell in cells if cell.shots == 1], results, ["AP"])
    assert not over_shots(cells[:-1], results, ["AP"]), "of unequal runs nothing is said"


def test_a_result_is_read_back(tmp_path):
    content = {
        "experiment": "x",
        "rows": [{"a": 1}, {"a": 2}],
        "base": "",
        "means": [],
        "differences": [],
        "commit": "c",
    }
    file = tmp_path / "x.json"
    file.write_text(dump_result(content))
    assert read_result(file) == content
    assert len(file.read_text().splitlines()) == 11
    file.write_text("{}")
    with pytest.raises(RunFolderError, match="'experiment' is missing"):
        read_result(file)


DOCS = Path(__file__).parent.parent.parent / "docs"
RESULTS = sorted(file for file in (DOCS / "evidence").glob("*.json") if is_result(file))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_committed_results_have_the_promised_form(file):
    result = read_result(file)
    assert result["experiment"] == file.stem
    check_schema(result)


def test_committed_learning_rates_are_the_best_of_the_committed_tries():
    """Of today's base, on validation; what another base was tuned to is taken with a warning only."""
    tuned, today = Tuned.read(COMMITTED), weights_fingerprint("tiny")
    current = {file.stem: read_result(file) for file in RESULTS if read_result(file)["base"] == today}
    assert tuned.base == (today if current else tuned.base)
    for name, result in current.items():
        best: dict[str, tuple[float, Choice]] = {}
        for row in result["rows"]:
            if (row["seed"], row["metric"]) == (TUNING_SEED, result["metrics"][0]):
                key, choice = key_of(row["arm"], row["variant"]), Choice(row["learning_rate"], row["recipe"])
                if key not in best or row["value"] > best[key][0]:
                    best[key] = row["value"], choice
        assert {key: choice for key, (_, choice) in best.items()} == tuned.experiments.get(name, {})


def test_the_best_try_is_chosen_and_read_back(tmp_path):
    cells = [cell for cell in tries_of("few-shot-detection") if cell.arm in ("rft", "warm-rft")]
    best = {"rft": 2, "warm-rft": 20}  # of its tries; all others are worse, or equal and later
    values = Counter(cell.arm for cell in cells)
    assert values == {"rft": 4, "warm-rft": 27}
    results, place = {}, Counter()
    for cell in cells:
        results[cell.name] = {"numbers": {"AP": 0.5 if place[cell.arm] >= best[cell.arm] else 0.4}}
        place[cell.arm] += 1
    tuned = Tuned("0123456789abcdef", {"few-shot-detection": best_of(cells, results, "AP")})
    tuned.write(tmp_path / "tuned.json")
    again = Tuned.read(tmp_path / "tuned.json")
    assert again == tuned
    choices, guessed = again.choices("few-shot-detection")
    assert choices["rft"] == Choice(1e-4)
    assert choices["warm-rft"] == Choice(2e-4, "1/2, 15 copies, finer rewards")
    assert guessed == ["sft", "sft-time", "rft-recipe", "sft-recipe"]
    (tmp_path / "tuned.json").write_text("[]")
    with pytest.raises(RunFolderError, match="no file of tuned learning rates"):
        Tuned.read(tmp_path / "tuned.json")


def test_tuning_comes_first_and_its_best_is_what_is_measured(tmp_path, monkeypatch):
    """No training: the third learning rate of every arm is the best, and every try is made once."""
    ran: list[Any] = []

    def run(cell, metrics, folder, matched):
        rate = cell.config.optimizer.learning_rate
        tries = EXPERIMENTS["objectives-classification"].tries[ARMS[cell.arm][0]] if cell.arm != "base" else (rate,)
        value = 0.9 if tries.index(rate) == 2 else 0.1
        ran.append(cell)
        return {
            "digest": cell.digest, "numbers": dict.fromkeys(metrics, value),
            "draws": {metric: [value] * 40 for metric in metrics}, "images": 9, "optimizer_steps": 1,
            "cpu_seconds": 2.0, "wall_seconds": 3.0, "machine": {}, "commit": "c",
        }  # fmt: skip

    monkeypatch.setattr(runner, "_run", run)
    command = [
        "reproduce",
        "objectives-classification",
        "--tune",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert cli.main(command) == 0
    assert [cell.split for cell in ran] == ["validation"] * 64 + ["test"] * 17
    assert {cell.config.optimizer.learning_rate for cell in ran[64:] if cell.arm == "rft"} == {2e-4}
    assert {cell.config.optimizer.learning_rate for cell in ran[64:] if cell.arm == "sft"} == {3e-4}
    result = read_result(tmp_path / "objectives-classification.json")
    assert result["base"] == weights_fingerprint("tiny")
    assert result["choices"]["dapo/rft"] == {"learning_rate": 2e-4, "recipe": ""}
    assert result["not_tuned"] == []
    assert cli.main(command) == 0
    assert len(ran) == 64 + 17
    assert cli.main([word for word in command if word != "--tune"]) == 0  # the choices beside the results are taken
    assert len(ran) == 64 + 17


def test_runs_of_several_tasks_are_a_line_each():
    cells = cells_of("joint", seeds=(0, 1), arms=("base", "rft"))
    numbers = {cell.name: 0.1 if cell.arm == "base" else 0.5 if cell.domain == "joint" else 0.4 for cell in cells}
    metrics = EXPERIMENTS["joint"].metrics
    cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
    results = {
        name: {"numbers": dict.fromkeys(metrics, value), "draws": {m: [value] * 40 for m in metrics}, **cost}
        for name, value in numbers.items()
    }
    means, differences = means_of(cells, results, metrics)
    result = {"metrics": list(metrics), "rows": [], "means": means, "differences": differences, **TODAY}
    heading, _, *lines = markdown(result).splitlines()
    asked = "detection: AP | classification: accuracy | grounding: mean IoU"
    assert heading == f"| trained on, 2 seeds | {asked} | CPU s |"
    assert [line.split(" | ")[0] for line in lines] == [
        "| nothing: base", "| joint, RFT", "| detection, RFT", "| classification, RFT", "| grounding, RFT",
    ]  # fmt: skip
    assert [
        line.count(text) for line, text in zip(lines, ("0.100 [", *["0.500 ["], *["0.400 ["] * 3), strict=True)
    ] == [3] * 5


def test_a_result_of_another_base_says_so():
    result = {"metrics": ["AP"], "rows": [], "means": [], "differences": [], "base": "0" * 16}
    assert f"weights `{'0' * 16}`; today's are `{weights_fingerprint('tiny')}`" in markdown(result)
    assert "earlier" not in markdown({**result, "base": weights_fingerprint("tiny")})


def test_the_page_shows_what_the_results_say(tmp_path, capsys):
    page = tmp_path / "evidence.md"
    page.write_text((DOCS / "evidence.md").read_text())
    folder = tmp_path / "evidence"
    folder.mkdir()
    for file in RESULTS:
        (folder / file.name).write_text(file.read_text())
    assert cli.main(["reproduce", "tables", "--out", str(folder), "--page", str(page)]) == 0
    assert page.read_text() == (DOCS / "evidence.md").read_text()
    drawn = {file.stem for file in folder.glob("*.svg")}
    assert drawn == {file.stem for file in RESULTS} - {"joint", "scores"}
    assert all(f"evidence/{name}.svg" in page.read_text() for name in drawn)
    legend = (folder / "few-shot-classification.svg").read_text()  # handwriting, drawn last, has no reasoning
    shown = {row["arm"] for row in read_result(folder / "few-shot-classification.json")["means"]}
    assert "sft-reasoning" in shown
    assert all(f">{NAMES[arm]}<" in legend for arm in shown)
    page.write_text("nothing")
    assert cli.main(["reproduce", "tables", "--out", str(folder), "--page", str(page)]) == 2
    assert "to fill" in capsys.readouterr().err


def test_the_readme_says_what_the_results_say():
    """The tables of "When it pays", row by row."""

    def means_of_runs(name, domain):
        result = read_result(DOCS / "evidence" / f"{name}.json")
        main = result["metrics"][0]
        chosen = [row for row in result["means"] if (row["domain"], row["metric"]) == (domain, main)]
        assert all(row["seeds"] == 3 for row in chosen if row["arm"] != "base")
        return {(row["arm"], row["shots"]): row["value"] for row in chosen}

    means = means_of_runs("few-shot-detection", "handwriting")
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8").partition("## When it pays")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    shots = [int(cell) for cell in rows[0][1:]]
    assert f"base {means['base', None]:.3f}" in text
    called = {name: arm for arm, name in NAMES.items()}
    arms = [called[row[0]] for row in rows[2:7]]
    assert arms == ["sft", "sft-time", "rft", "sft-recipe", "warm-rft"]
    for row, arm in zip(rows[2:7], arms, strict=True):
        assert row[1:] == [f"{means[arm, k]:.3f}" for k in shots]
    others = [("few-shot-classification", "flowers", 1), ("open-vocabulary", "handwriting", 1)]
    assert len(rows) == 7 + 2 + len(others)
    for row, (name, domain, k) in zip(rows[9:], others, strict=True):
        means = means_of_runs(name, domain)
        assert row[1:] == [f"{means[arm, at]:.3f}" for arm, at in (("base", None), ("sft", k), ("rft", k))]
    result = read_result(DOCS / "evidence" / "objectives-grounding.json")
    level = {row["arm"]: row["value"] for row in result["means"]
             if (row["variant"], row["metric"]) == ("grpo", "mean_iou")}  # fmt: skip
    said = f"(mean IoU {level['rft']:.3f} and {level['sft']:.3f}, base {level['base']:.3f})"
    assert said in " ".join(text.split())
