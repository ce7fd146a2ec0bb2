"""The evidence in miniature: every arm end to end, continued after an interruption, budgets, splits and intervals."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from visual_rft.cli import main as cli
from visual_rft.cli.verbs.reproduce import dump_result, read_result
from visual_rft.config.compose import names
from visual_rft.config.sources import SourceConfig
from visual_rft.data.procedural.digits import scans
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.errors import ModelError, RunFolderError
from visual_rft.evidence import runner
from visual_rft.evidence.cells import grid, tuning_grid
from visual_rft.evidence.experiments import ARMS, EXPERIMENTS, TRAIN_SEED, TUNING_SEED, Variant
from visual_rft.evidence.plots import plot
from visual_rft.evidence.published import CONFIGS
from visual_rft.evidence.results import means_of, over_seeds, pick_seeds, rows_of
from visual_rft.evidence.tables import NAMES, markdown
from visual_rft.tasks import task_of

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
    command = [*SHORT, "--out", str(tmp_path)]
    assert cli.main(command) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert list(done) == ["handwriting-base", "handwriting-k1-seed0-rft"]
    early = read_result(tmp_path / "few-shot-detection.json")
    check_schema(early)
    assert {row["method"] for row in early["rows"]} == {"base", "rft"}
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    arms = ["handwriting-base", *(f"handwriting-k1-seed0-{arm}" for arm in ("rft", "sft", "sft-time"))]
    assert done == Counter(dict.fromkeys(arms, 1))
    assert "RFT - SFT, equal time" in capsys.readouterr().out

    result = read_result(tmp_path / "few-shot-detection.json")
    check_schema(result)
    by_arm = {row["arm"]: row for row in result["rows"] if row["metric"] == "AP"}
    assert set(by_arm) == set(ARMS) - {"sft-reasoning"}  # boxes come without any
    assert by_arm["rft"]["optimizer_steps"] == by_arm["sft"]["optimizer_steps"] == 4
    assert by_arm["sft-time"]["optimizer_steps"] > 4
    assert all(row["images"] == 8 for row in result["rows"])
    cells = tmp_path / "few-shot-detection" / "cells"
    assert not list(cells.glob("*.run"))
    assert "step 2/2" in (cells / "handwriting-k1-seed0-rft.log").read_text()

    broken = cells / "handwriting-base.json"
    broken.write_text("{")
    assert cli.main(command) == 2
    assert "handwriting-base.json: cannot be read" in capsys.readouterr().err


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
    cells = grid("few-shot-detection", EXPERIMENTS["few-shot-detection"], seeds=(0, 1))
    runner.run_cells(cells, ("AP",), tmp_path, jobs=3)
    assert matches == {cell.name: [other.name for other in cell.matched] for cell in cells}
    assert max(most) == 3


def test_other_processes_come_to_the_same_numbers_and_one_that_fails_spoils_none(tmp_path):
    base, rft = grid("few-shot-detection", EXPERIMENTS["few-shot-detection"], shots=(1,), arms=("base", "rft"),
                     domains=("handwriting",), quick=True)  # fmt: skip
    model = rft.config.model.model_copy(update={"path": "nowhere"})
    lost = replace(rft, config=rft.config.model_copy(update={"model": model}))
    with pytest.raises(ModelError, match="nowhere"):
        runner.run_cells([lost, base], ("AP",), tmp_path / "two", jobs=2)
    runner.run_cells([base], ("AP",), tmp_path / "here")
    files = [sorted((tmp_path / name / "cells").glob("*.json")) for name in ("two", "here")]
    assert [[file.name for file in some] for some in files] == [["handwriting-base.json"]] * 2
    assert files[0][0].read_text() == files[1][0].read_text()


def check_schema(result):
    assert {"experiment", "rows", "means", "differences", "machine", "commit", "command"} <= result.keys()
    assert {"processor", "cores", "threads", "torch"} <= result["machine"].keys()
    assert result["rows"]
    for row in result["rows"]:
        assert (row["method"], row["budget"]) == ARMS[row["arm"]]
        assert row["method"] in ("base", "sft", "rft")
        assert row["metric"] in result["metrics"]
        assert {"shots", "seed", "domain", "budget", "split", "images", "optimizer_steps", "cpu_seconds"} <= row.keys()
        assert 0 <= row["value"] <= 1
        assert row["low"] is None or 0 <= row["low"] <= row["high"] <= 1
    for row in (*result["means"], *result["differences"]):
        assert {"method", "shots", "domain", "metric", "seeds", "value", "low", "high"} <= row.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_budgets_are_matched(name):
    cells = grid(name, EXPERIMENTS[name], seeds=(0, 1))
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.digest for cell in cells}) == len(cells)
    by_name = {cell.name: cell for cell in cells}
    timed = [cell for cell in cells if cell.arm == "sft-time"]
    assert bool(timed) != bool(EXPERIMENTS[name].variants)
    for cell in timed:
        rft, sft = cell.matched
        assert by_name[rft.name] == rft
        assert by_name[sft.name] == sft
        assert cells.index(rft) < cells.index(cell)
        assert cells.index(sft) < cells.index(cell)
        assert (rft.arm, sft.arm) == ("rft", "sft")
        updates = rft.config.run.steps * rft.config.objective.updates_per_rollout
        assert sft.config.run.steps == updates
        for other in (sft, cell):
            assert with_reasoning(other) == rft.config.data
            assert other.config.model == rft.config.model
            assert other.config.task == rft.config.task
            assert other.config.run.prompts_per_batch == rft.config.run.prompts_per_batch
            assert other.config.run.seed == rft.config.run.seed
    for cell in cells:
        if cell.arm == "sft-reasoning":
            sft = by_name[cell.name.removesuffix("-reasoning")]
            assert with_reasoning(sft) == cell.config.data
            assert sft.config.data != cell.config.data
            assert sft.config.run == cell.config.run
    tries, rates = EXPERIMENTS[name].tries, EXPERIMENTS[name].learning_rates
    assert len({len(some) for some in tries.values()}) <= 1
    assert not tries or all(rate in tries[ARMS[arm][0]] for arm, rate in rates.items())


def with_reasoning(cell):
    data = cell.config.data
    return data.model_copy(update={"train": tuple(s.model_copy(update={"reasoning": True}) for s in data.train)})


def test_only_the_arm_that_is_given_reasoning_sees_it():
    cells = grid("few-shot-classification", EXPERIMENTS["few-shot-classification"], shots=(1,), domains=("flowers",))
    gold = {}
    for cell in cells:
        task = task_of(cell.config.task)
        samples = load_samples(cell.config.data.train, task)
        gold[cell.arm] = {sample.id: task.gold(sample.truth) for sample in samples}
    labels = {id: text.partition("<answer>")[2] for id, text in gold["sft-reasoning"].items()}
    assert gold["sft"] == gold["sft-time"] == {
        id: f"<think>{text.removesuffix('</answer>')}</think><answer>{text}" for id, text in labels.items()
    }  # fmt: skip
    assert all("petals" in text for text in gold["sft-reasoning"].values())
    assert not any("petals" in text for text in gold["sft"].values())


def test_steps_of_equal_time():
    # 60 s of reinforcement; supervised steps of 10 s / 100 = 0.1 s each
    rft, sft = {"cpu_seconds": 60.0, "optimizer_steps": 100}, {"cpu_seconds": 10.0, "optimizer_steps": 100}
    assert runner.matched_steps(rft, sft) == 600
    assert runner.matched_steps({"cpu_seconds": 0.01}, sft) == 1


def test_a_changed_description_is_another_cell():
    experiment = EXPERIMENTS["few-shot-detection"]
    one, same, other = (
        grid("few-shot-detection", experiment, shots=(4,), seeds=(seed,), domains=("handwriting",))
        for seed in (0, 0, 1)
    )
    assert [cell.digest for cell in one] == [cell.digest for cell in same]
    assert one[0].digest == other[0].digest  # the base has no seed
    assert not {cell.digest for cell in one[1:]} & {cell.digest for cell in other[1:]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_training_validation_and_test_share_no_image(name):
    experiment = EXPERIMENTS[name]
    cells = [*grid(name, experiment, shots=experiment.shots[-1:]), *tuning_grid(name, experiment)]
    for cell in cells:
        (train,), (held_out,) = cell.config.data.train, cell.config.data.evaluation
        assert train.seed >= TRAIN_SEED
        assert held_out.seed < TRAIN_SEED
        assert held_out.seed >= 50 or held_out.split in ("validation", "test")  # smaller seeds taught the base
        if train.source == "digits":
            assert (train.split, held_out.split) == ("shots", cell.split)
    seeds = {cell.config.data.train[0].seed for cell in cells if cell.arm != "base"}
    assert seeds == {TRAIN_SEED} | ({TRAIN_SEED + TUNING_SEED} if experiment.tries else set())
    by_split = {cell.split: cell.config.data.evaluation[0] for cell in cells}
    if len(by_split) == 2:
        assert by_split["test"] != by_split["validation"]


def test_the_scans_of_shots_and_validation_are_parts_of_train_and_share_none():
    shots, validation, train, test = (
        {scan.tobytes() for scan in scans(s)[0]} for s in ("shots", "validation", "train", "test")
    )
    assert (len(shots), len(validation)) == (197, 100)
    assert not shots & validation
    assert shots | validation == train
    assert not train & test


def test_open_vocabulary_trains_on_no_novel_class():
    for domain in ("handwriting", "shapes"):
        (cell,) = grid("open-vocabulary", EXPERIMENTS["open-vocabulary"], shots=(16,), arms=("rft",), domains=(domain,))
        task = task_of(cell.config.task)
        trained = {s.question["category"] for s in load_samples(cell.config.data.train, task)}
        asked = {s.question["category"] for s in load_samples(cell.config.data.evaluation, task)}
        assert trained
        assert asked
        assert not trained & asked


def test_shots_are_images_per_class_and_nested():
    def ids(shots):
        source = SourceConfig(source="digits", split="shots", count=600, max_objects=1, seed=2000, shots=shots)
        images = load_dataset(source, "present").images
        assert set(Counter(label for image in images for label in image.labels).values()) == {shots}
        assert len(images) == 10 * shots
        return {image.id for image in images}

    assert ids(1) < ids(4) < ids(16)


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
    cells = grid("few-shot-detection", EXPERIMENTS["few-shot-detection"], shots=(4,), seeds=(0, 1),
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
    cells = grid(name, EXPERIMENTS[name], shots=(4,), seeds=(0, 1), domains=("handwriting",))
    numbers = dict.fromkeys(EXPERIMENTS[name].metrics, 0.5)
    draws = {metric: [0.5] * 400 for metric in numbers}
    cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
    results = {cell.name: {"numbers": numbers, "draws": draws, **cost} for cell in cells}
    means, differences = means_of(cells, results, list(numbers))
    result = {"metrics": list(numbers), "rows": [], "means": means, "differences": differences}
    assert ", 2 seeds |" in markdown(result).splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["few-shot-detection", "--shots", "four"], "numbers separated by commas"),
        (["few-shot-detection", "--shots", "17"], "from 1 to 16"),
        (["few-shot-detection", "--seeds", "0"], "at least 1"),
        (["few-shot-detection", "--jobs", "0"], "--jobs 0: at least 1"),
        (["few-shot-detection", "--methods", "dpo"], "unknown 'dpo'; choose from base, sft, rft"),
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
    assert capsys.readouterr().out.count("with a real model") == len(EXPERIMENTS)


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.tuned])
def test_every_variant_has_as_many_tries_as_the_first_and_is_measured_on_the_test(name):
    experiment = EXPERIMENTS[name]
    tried = Counter((cell.variant, cell.arm) for cell in tuning_grid(name, experiment))
    assert set(tried.values()) == {len(experiment.tries["rft"])}
    assert {variant for variant, arm in tried if arm == "rft"} == set(experiment.variants)
    cells = grid(name, experiment, seeds=(0,))
    assert {cell.split for cell in cells} == {"test"}
    assert not {cell.name for cell in cells} & {cell.name for cell in tuning_grid(name, experiment)}
    changed = replace(experiment, variants={"a": Variant({}, ("rft",), learning_rate=9e-5)})
    assert {cell.config.optimizer.learning_rate for cell in grid(name, changed)} == {9e-5}


def test_variants_at_several_shots_are_a_table_each(tmp_path):
    name = "objectives-detection"
    experiment = EXPERIMENTS[name]
    cells = grid(name, experiment, seeds=(0,))
    numbers = {cell.name: 0.2 + 0.01 * (cell.shots or 0) for cell in cells}
    cost = {"images": 9, "optimizer_steps": 1, "cpu_seconds": 2.0}
    results = {
        cell.name: {"numbers": dict.fromkeys(experiment.metrics, numbers[cell.name]),
                    "draws": {metric: [numbers[cell.name]] * 400 for metric in experiment.metrics}, **cost}
        for cell in cells
    }  # fmt: skip
    means, differences = means_of(cells, results, experiment.metrics)
    result = {"metrics": list(experiment.metrics), "rows": [], "means": means, "differences": differences}
    tables = markdown(result).split("\n\n")
    assert [table.split(",")[1].strip() for table in tables] == ["1-shot", "4-shot", "16-shot"]
    for table, value in zip(tables, ("0.210", "0.240", "0.360"), strict=True):
        rows = [line for line in table.splitlines() if line.startswith("| gspo |")]
        assert len(rows) == 1
        assert value in rows[0]
    plot(result, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f">handwriting, {k}-shot<" in drawn for k in (1, 4, 16))


def test_a_result_is_read_back(tmp_path):
    content = {"experiment": "x", "rows": [{"a": 1}, {"a": 2}], "means": [], "differences": [], "commit": "c"}
    file = tmp_path / "x.json"
    file.write_text(dump_result(content))
    assert read_result(file) == content
    assert len(file.read_text().splitlines()) == 10
    file.write_text("{}")
    with pytest.raises(RunFolderError, match="'experiment' is missing"):
        read_result(file)


DOCS = Path(__file__).parent.parent.parent / "docs"
COMMITTED = sorted(file for file in (DOCS / "evidence").glob("*.json") if file.stem in EXPERIMENTS)


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_committed_results_have_the_promised_form(file):
    result = read_result(file)
    assert result["experiment"] == file.stem
    check_schema(result)


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_stored_learning_rates_are_the_best_of_the_tries(file):
    """Summed over the domains, on validation."""
    result, experiment = read_result(file), EXPERIMENTS[file.stem]
    for arm in ARMS:
        tried: Counter[float] = Counter()
        for row in result["rows"]:
            if (row["arm"], row["split"]) != (arm, "validation") or row["variant"]:
                continue
            if row["metric"] == experiment.metrics[0]:
                tried[row["learning_rate"]] += row["value"]
        if tried:
            assert set(tried) == set(experiment.tries[ARMS[arm][0]])
            assert experiment.learning_rates[arm] == max(tried, key=tried.__getitem__)


def test_the_page_shows_what_the_results_say(tmp_path, capsys):
    page = tmp_path / "evidence.md"
    page.write_text((DOCS / "evidence.md").read_text())
    folder = tmp_path / "evidence"
    folder.mkdir()
    for file in COMMITTED:
        (folder / file.name).write_text(file.read_text())
    assert cli.main(["reproduce", "tables", "--out", str(folder), "--page", str(page)]) == 0
    assert page.read_text() == (DOCS / "evidence.md").read_text()
    assert {file.stem for file in folder.glob("*.svg")} == {file.stem for file in COMMITTED}
    legend = (folder / "few-shot-classification.svg").read_text()  # handwriting, drawn last, has no reasoning
    assert all(f">{name}<" in legend for name in NAMES.values())
    page.write_text("nothing")
    assert cli.main(["reproduce", "tables", "--out", str(folder), "--page", str(page)]) == 2
    assert "to fill" in capsys.readouterr().err


def test_the_readme_says_what_the_results_say():
    """The tables of "When it pays", row by row, and what copies change."""

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
    for row, arm in ((rows[2], "sft"), (rows[3], "rft")):
        assert row == [arm.upper(), *(f"{means[arm, k]:.3f}" for k in shots)]
    copied = means_of_runs("augmented-detection", "handwriting")
    two, one = (f"{copied['sft', k]:.3f} and {copied['rft', k]:.3f}" for k in (2, 1))
    words = " ".join(text.split())
    assert f"AP {two}; {one} at one" in words
    copied = means_of_runs("augmented-grounding", "places-and-sizes")
    assert f"(mean IoU {copied['sft', None]:.3f}), RFT still more ({copied['rft', None]:.3f})" in words
    others = [("few-shot-classification", "flowers", 1), ("open-vocabulary", "handwriting", 1),
              ("reasoning-grounding", "places-and-sizes", None)]  # fmt: skip
    assert len(rows) == 4 + 2 + len(others)
    for row, (name, domain, k) in zip(rows[6:], others, strict=True):
        means = means_of_runs(name, domain)
        assert row[1:] == [f"{means[arm, at]:.3f}" for arm, at in (("base", None), ("sft", k), ("rft", k))]
