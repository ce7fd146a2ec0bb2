"""The configs that come with the package: composed, listed, copied, and the subsets of data that they name."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest
import yaml
from support.packaged import EXPERIMENTS, MODELS, PAIRS
from support.precisions import SETTINGS

from visual_rft.cli.main import main
from visual_rft.config.compose import ROOT, compose, names, recipe_of, recipes
from visual_rft.config.config import differences, load_config
from visual_rft.errors import ConfigError

PRECISIONS = {
    (settings.get("dtype", "float32"), settings.get("autocast", "no"), "lora" in settings)
    for settings in SETTINGS.values()
}
"""Those in which the estimate of memory was held against what is kept."""

RECIPES = [(name, task) for name, tasks in recipes().items() for task in tasks]


def test_every_model_meets_every_experiment():
    assert set(PAIRS) == set(names())


@pytest.mark.parametrize("name", PAIRS)
def test_published_hyper_parameters(name):
    """Those of the paper, with 16 prompts per step (8 GPUs x 1 prompt x 2 batches)."""
    config = load_config(name)
    assert config.rollout.group_size == (4 if "7b" in name or "8b" in name else 8)
    assert config.run.prompts_per_batch * config.run.accumulation == 16
    assert (config.objective.beta, config.rollout.temperature, config.model.max_pixels) == (0.04, 1, 401_408)
    assert config.run.steps == (90 if name.endswith("lisa") else 200)  # 6 epochs of 239 images: 89.6
    assert config.run.folder == f"runs/{name.replace('/', '-')}"
    # An update of 1e-6 needs float32 weights: the model's, the optimiser's beside bfloat16 ones, or an adapter's.
    precision = (config.model.dtype, config.model.autocast, config.model.lora is not None)
    assert precision in PRECISIONS
    assert config.optimizer.learning_rate == (1e-6 if config.model.lora is None else 1e-5)


LAUNCHES = [
    (model, re.sub(r"\s+", " ", line).split())
    for model in MODELS
    for note in yaml.safe_load((ROOT / "models" / f"{model}.yaml").read_text()).get("about", {}).get("notes", [])
    for line in re.findall(r"torchrun .*?(?= \()", note, re.DOTALL)
]
BILLIONS = {"qwen2-vl-7b": 8.29, "qwen2.5-vl-7b": 8.29, "qwen3-vl-8b": 8.77}
"""Parameters, as the hub states them."""


def test_every_large_model_says_how_all_of_it_is_trained():
    assert [model for model, _ in LAUNCHES] == [model for model in MODELS if "7b" in model or "8b" in model]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize(("model", "words"), LAUNCHES, ids=[model for model, _ in LAUNCHES])
def test_launch_lines_are_understood_and_fit(model, words, experiment, capsys):
    processes = int(words[words.index("--nproc-per-node") + 1])
    assert words[:5] == ["torchrun", "--nproc-per-node", str(processes), "-m", "visual_rft"]
    name = words[6].replace("EXPERIMENT", experiment)
    assert words[5:7] == ["train", f"{model}/EXPERIMENT"]
    if f"{model}/{experiment}" not in names():
        pytest.skip("the paper has no such experiment on this model")
    config = load_config(name, words[7:])
    assert (config.model.lora, config.model.dtype, config.model.autocast) == (None, "bfloat16", "no")
    assert config.optimizer.learning_rate == 1e-6
    assert config.run.prompts_per_step >= processes
    # docs/scaling.md: 4 + 12 / N bytes a parameter, and 2 more with a reference.
    held = BILLIONS[model] * (4 + 12 / processes + 2 * (config.objective.beta > 0))
    notes = " ".join(load_notes(model).split())
    assert f"about {held:.0f} GB held on each" in notes
    assert held < 80


def load_notes(model: str) -> str:
    return (ROOT / "models" / f"{model}.yaml").read_text()


def test_the_model_is_the_one_of_the_name():
    assert load_config("qwen2.5-vl-7b/lisa").model.path == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert load_config("qwen2.5-vl-7b/lisa").model.lora is not None
    assert load_config("qwen3-vl-2b/pets37").data.train[0].path == "laolao77/ViRFT_CLS_pets37_4shot"


def test_published_numbers_belong_to_their_model():
    """Rows of the paper's tables, typed again."""
    rows = {row.setting: (row.base, row.sft, row.rft) for row in compose("qwen2-vl-2b/few-shot-coco").published}
    assert rows == {
        "1 shot": (19.6, 19.5, 33.6), "2 shots": (19.6, 21.0, 41.5), "4 shots": (19.6, 25.2, 40.6),
        "8 shots": (19.6, 30.2, 47.4), "16 shots": (19.6, 31.3, 46.8),
    }  # fmt: skip
    assert [asdict(row)["rft"] for row in compose("qwen2-vl-7b/few-shot-lvis").published] == [33.8]
    assert [row.rft for row in compose("qwen2-vl-2b/cars196").published] == [80.3, 83.5, 81.9, 85.1, 85.3]
    for name in names():
        published = compose(name).published
        assert all(row.model == name.split("/")[0] for row in published)
        assert not published or name.startswith(("qwen2-vl-2b", "qwen2-vl-7b"))


@pytest.mark.parametrize("file", sorted(ROOT.glob("*/*.yaml")), ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_files_say_what_they_are(file):
    first = file.read_text().splitlines()[0]
    assert first.startswith("# ")
    if file.parent.name in ("models", "experiments"):
        assert first.startswith("# visual-rft train ")
        assert file.stem in first


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("qwen2-vl-2b/few-shot-coc", "did you mean qwen2-vl-2b/few-shot-coco"),
        ("configs/qwen2-vl-2b/few-shot-coc.yaml", "did you mean qwen2-vl-2b/few-shot-coco"),
        ("qwen2-vl-2b", "did you mean qwen2-vl-2b/"),
        ("nonsense", "names are MODEL/EXPERIMENT"),
    ],
)
def test_an_unknown_name_names_close_ones(name, close, capsys):
    assert main(["train", name]) == 2
    error = capsys.readouterr().err
    assert close in error
    assert error.count("\n") == 1


def test_a_name_is_taken_with_and_without_folder_and_ending_and_a_file_goes_first(tmp_path, monkeypatch):
    plain = load_config("qwen3-vl-2b/lisa")
    assert load_config("configs/qwen3-vl-2b/lisa.yaml") == plain
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3-vl-2b").mkdir()
    (tmp_path / "qwen3-vl-2b" / "lisa").write_text("run: {steps: 3}\ndata: {train: [{source: shapes}]}")
    assert load_config("qwen3-vl-2b/lisa").run.steps == 3


@pytest.mark.parametrize(("name", "task"), RECIPES)
def test_a_recipe_sets_its_fields_and_no_other(name, task):
    experiment = {"detection": "few-shot-coco", "grounding": "lisa", "classification": "pets37"}[task]
    method = load_config(f"qwen2-vl-2b/{experiment}")
    config = load_config(f"qwen2-vl-2b/{experiment}", ["--recipe", name])
    fields = {path.replace(".*.", ".0."): value for path, value in recipe_of(name, task).items()}
    for path, value in fields.items():
        found = config.model_dump(mode="json")
        for part in path.split("."):
            found = found[int(part)] if part.isdigit() else found[part]
        if isinstance(value, dict) and path != "task.weights":  # a schedule has more fields than are named
            found = {key: found[key] for key in value}
        assert found == value
    changed = {key for key, _, _ in differences(method, config)} - {"run.folder"}
    assert all(any(path.startswith(key) or key.startswith(path) for path in fields) for key in changed)
    assert config.run.folder == f"runs/qwen2-vl-2b-{experiment}-{name}"


def test_a_recipe_comes_before_other_fields_and_reaches_every_source():
    sources = [{"source": "shapes"}, {"source": "digits", "split": "train"}]
    values = {"task": {"weights": {"iou": 1, "format": 1}}, "data": {"train": sources}, "run": {"folder": "runs/a"}}
    config = load_config(values, ["--run.steps", "240", "--recipe", "gold-first", "--shots", "4"])
    assert dict(config.task.weights) == {"iou": 1, "format": 1}
    assert (config.objective.warm_start, config.run.steps) == (225, 240)
    assert config.run.folder == "runs/a-gold-first-4-shot"
    assert [source.copies for source in config.data.train] == [15, 15]


@pytest.mark.parametrize(
    ("values", "flags", "message"),
    [
        ({}, ["--recipe", "gold"], r"--recipe gold: no recipe is called so \(known: gold-first\)"),
        ({"task": {"name": "counting"}}, ["--recipe", "gold-first"], "gold-first: is for detection, not for counting"),
        ({}, ["--recipe", "gold-first", "--task", "counting"], "not for counting"),
        ({"data": {"train": [{"source": "shapes", "task": {"name": "grounding"}}]}}, ["--recipe=gold-first"],
         "a recipe is of one task, and the sources name their own"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_is_refused(values, flags, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"data": {"train": [{"source": "shapes"}]}, **values}, flags)


def test_shots_are_one_flag():
    config = load_config("qwen2-vl-2b/few-shot-coco", ["--shots", "16", "--run.steps", "5"])
    assert config.data.train[0].shots == 16
    assert config.run.folder == "runs/qwen2-vl-2b-few-shot-coco-16-shot"
    named = load_config("qwen2-vl-2b/few-shot-coco", ["--shots=2", "--run.folder=here"])
    assert (named.data.train[0].shots, named.run.folder) == (2, "here")
    with pytest.raises(ConfigError, match="--shots: 'many' is not a number of images per class"):
        load_config("qwen2-vl-2b/few-shot-coco", ["--shots", "many"])


def test_configs_lists_all(capsys):
    assert main(["configs"]) == 0
    out = capsys.readouterr().out
    for experiment in EXPERIMENTS:
        assert f"\n{experiment}: " in f"\n{out}"
        assert f"visual-rft train MODEL/{experiment}" in out
    assert all(model in out for model in MODELS)
    assert all(f"--recipe {name}: " in out and f"\n  {task}: " in out for name, task in RECIPES)
    assert main(["configs", "2.5", "7b", "lisa"]) == 0
    assert "run     visual-rft train qwen2.5-vl-7b/lisa\n" in capsys.readouterr().out
    assert main(["configs", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(names())
    assert listed["qwen2-vl-2b/lisa"]["published"][0]["rft"] == 37.6
    assert all(row["line"] and row["needs"] and row["command"] for row in listed.values())
    assert main(["configs", "gpt"]) == 2
    assert "no config is called 'gpt'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*PAIRS[:10], "qwen2.5-vl-7b/lisa"])
def test_init_writes_the_same_run_and_never_overwrites(name, tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.yaml"
    assert main(["init", name, "--out", str(file)]) == 0
    text = file.read_text()
    assert text.startswith(f"# visual-rft train {file}")
    monkeypatch.chdir(tmp_path)  # the file's folder: what it reads lies beside it
    assert load_config(file) == load_config(name)
    assert yaml.safe_load(text).keys() == compose(name).values.keys()
    assert all(len(line) <= 120 for line in text.splitlines() if line.lstrip().startswith("#") and " /" not in line)
    file.write_text("mine")
    assert main(["init", name, "--out", str(file)]) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_init_names_the_mistake(tmp_path, capsys):
    assert main(["init", "qwen2-vl-2b/lias"]) == 2
    assert "did you mean qwen2-vl-2b/lisa" in capsys.readouterr().err
    assert main(["init", "mine.yaml"]) == 2
    assert "is no config of the package" in capsys.readouterr().err
    assert main(["init", "qwen2-vl-2b/lisa", "--out", str(tmp_path / "none" / "a.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err
