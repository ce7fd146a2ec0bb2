"""What is compared: equal budgets and tries, no image shared, and when a finished run counts as one."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.evidence import cells_of, tries_of

from visual_rft.config.config import Config
from visual_rft.config.sources import SourceConfig
from visual_rft.data.procedural.digits import scans
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.evidence.cells import REVISIONS, grid
from visual_rft.evidence.choices import Choice
from visual_rft.evidence.cost import seconds_of
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.experiments.description import ARMS, TRAIN_SEED, TUNING_SEED, WITH_RECIPES, Variant
from visual_rft.evidence.runner import file_of, finished
from visual_rft.policy.stored.places import EMBEDDED, weights_fingerprint
from visual_rft.tasks import task_of


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_budgets_are_matched(name):
    cells = cells_of(name, seeds=(0, 1))
    assert len({cell.name for cell in cells}) == len(cells)
    trained = [cell for cell in cells if cell.arm != "base"]
    assert len({cell.digest for cell in trained}) == len(trained)
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
            assert other.config.data == rft.config.data
            assert other.config.model == rft.config.model
            assert other.config.task == rft.config.task
            assert other.config.run.prompts_per_batch == rft.config.run.prompts_per_batch
            assert other.config.run.seed == rft.config.run.seed
    for cell in cells:
        if cell.arm == "sft-reasoning":
            sft = by_name[cell.name.removesuffix("-reasoning")]
            assert with_reasoning(sft) == with_reasoning(cell)
            assert sft.config.data != cell.config.data
            assert sft.config.run == cell.config.run
    assert len({len(some) for some in EXPERIMENTS[name].tries.values()}) <= 1


def with_reasoning(cell):
    data = cell.config.data
    return data.model_copy(update={"train": tuple(s.model_copy(update={"reasoning": True}) for s in data.train)})


def test_only_the_arm_that_is_given_reasoning_sees_it():
    cells = cells_of("few-shot-classification", shots=(1,), domains=("flowers",))
    gold = {}
    assert {cell.arm for cell in cells} == set(ARMS)
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
    for arm in ("rft", *WITH_RECIPES):
        assert gold[arm] == gold["sft"], arm


def test_gold_answers_beside_reinforcement_are_told_labels_only():
    for name in ("objectives-grounding", "objectives-classification"):
        for cell in cells_of(name):
            assert cell.arm == "base" or not cell.config.data.train[0].reasoning


def test_a_changed_description_is_another_cell():
    one, same, other = (
        cells_of("few-shot-detection", shots=(4,), seeds=(seed,), domains=("handwriting",)) for seed in (0, 0, 1)
    )
    assert [cell.digest for cell in one] == [cell.digest for cell in same]
    assert one[0].digest == other[0].digest  # the base has no seed
    assert not {cell.digest for cell in one[1:]} & {cell.digest for cell in other[1:]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_training_validation_and_test_share_no_image(name):
    experiment = EXPERIMENTS[name]
    cells = [*cells_of(name, shots=experiment.shots[-1:]), *tries_of(name)]
    for cell in cells:
        for train in cell.config.data.train:
            assert train.seed >= TRAIN_SEED
            assert train.seed < 90_000  # greater seeds taught the base
            assert train.split == ("shots" if train.source == "digits" else None)
        for held_out in cell.config.data.evaluation:
            assert held_out.seed < TRAIN_SEED
            assert held_out.split == (cell.split if held_out.source == "digits" else None)
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
        (cell,) = cells_of("open-vocabulary", shots=(16,), arms=("rft",), domains=(domain,))
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


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.tuned])
def test_every_variant_has_as_many_tries_as_the_first_and_is_measured_on_the_test(name):
    experiment = EXPERIMENTS[name]
    tried = Counter((cell.variant, cell.arm) for cell in tries_of(name))
    assert set(tried.values()) == {len(experiment.tries["rft"])}
    assert {variant for variant, arm in tried if arm == "rft"} == set(experiment.variants)
    cells = cells_of(name, seeds=(0,))
    assert {cell.split for cell in cells} == {"test"}
    assert not {cell.name for cell in cells} & {cell.name for cell in tries_of(name)}
    changed = replace(experiment, variants={"a": Variant({}, ("rft",))})
    assert {cell.config.optimizer.learning_rate for cell in grid(name, changed, {"a/rft": Choice(9e-5)})} == {9e-5}


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.recipes])
def test_every_side_has_as_many_tries_of_recipes_in_the_time_of_reinforcement(name):
    experiment = EXPERIMENTS[name]
    tried = Counter(cell.arm for cell in tries_of(name) if cell.arm in WITH_RECIPES)
    assert set(tried) == set(WITH_RECIPES)
    assert set(tried.values()) == {27}
    assert {cell.split for cell in tries_of(name)} == {"validation"}
    assert len({cell.name for cell in tries_of(name)}) == len(tries_of(name))
    rft = cells_of(name, arms=("rft",), shots=experiment.shots[:1])[0]
    for cell in tries_of(name):
        if cell.arm in WITH_RECIPES:
            most = 2.1 if cell.arm == "sft-recipe" else 1.35
            assert seconds_of(cell) < most * seconds_of(rft), cell.name
    chosen = {arm: Choice(1e-5, list(some)[-1]) for arm, some in experiment.recipes.items()}
    (cell,) = grid(name, experiment, chosen, arms=("warm-rft",), shots=experiment.shots[:1],
                   domains=list(experiment.domains)[:1])  # fmt: skip
    assert cell.recipe == list(experiment.recipes["warm-rft"])[-1]
    assert cell.config.objective.ever("sft_weight") > 0
    assert cell.config.optimizer.learning_rate == 1e-5


def test_another_base_or_revision_makes_finished_runs_count_no_more(tmp_path, monkeypatch):
    """One changed weight of the base, or a raised revision: the file that is there is of another run."""
    model = tmp_path / "model"
    shutil.copytree(EMBEDDED, model)

    def cells():
        weights_fingerprint.cache_clear()
        some = cells_of("few-shot-detection", shots=(1,), arms=("base", "rft", "sft", "sft-time"),
                        domains=("handwriting",))  # fmt: skip
        own = [replace(cell, config=cell.config.with_model(path=str(model)), matched=()) for cell in some]
        return [replace(cell, matched=tuple(own[1:3])) if cell.arm == "sft-time" else cell for cell in own]

    for cell in cells():
        file = file_of(cell, tmp_path)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"digest": cell.digest}))
    assert all(finished(cell, tmp_path) for cell in cells())
    with monkeypatch.context() as patch:
        patch.setitem(REVISIONS, "sft", REVISIONS["sft"] + 1)
        assert [cell.arm for cell in cells() if finished(cell, tmp_path)] == ["base", "rft"]
    weights = next(model.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert not [cell.arm for cell in cells() if finished(cell, tmp_path)]


def test_a_default_that_changed_asks_for_another_revision():
    """The digest of a cell leaves defaults out, so that a new field spoils no night's runs; but a default that is no
    longer what it was makes another run. Then raise ``REVISIONS`` and run this with VISUAL_RFT_WRITE_DEFAULTS=1."""
    file, now = Path(__file__).parent / "defaults.json", defaults(Config())
    if os.environ.get("VISUAL_RFT_WRITE_DEFAULTS"):
        file.write_text(json.dumps({"revisions": REVISIONS, "defaults": now}, indent=1) + "\n")
    known = json.loads(file.read_text())
    changed = {path: (value, now[path]) for path, value in known["defaults"].items() if now.get(path) != value}
    assert not changed
    assert known["revisions"] == REVISIONS


def defaults(section: BaseModel, before: str = "") -> dict[str, Any]:
    """Every field's default by dotted path, of the sections that decide a result."""
    found: dict[str, Any] = {}
    for name, value in section:
        path = f"{before}{name}"
        if path not in ("engine", "parallel", "run"):
            found |= defaults(value, f"{path}.") if isinstance(value, BaseModel) else {path: value}
    return json.loads(json.dumps(found, default=str))
