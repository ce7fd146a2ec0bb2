import json
import os

import pytest
import yaml

from visual_rft.config.config import Config, dump_config, load_config, parse_config
from visual_rft.config.describe import describe
from visual_rft.config.sources import SourceConfig
from visual_rft.data.sources import path_of
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks.plugins import load_object


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("rollout: {group_size: 4}\ndata: {train: [{source: digits}]}\n")
    return path


def test_file_and_flags(file):
    flags = ["--rollout.temperature", "0.5", "--optimizer.learning_rate=1e-4", "--data.train.0.count", "3",
             "--model.lora.rank", "2", "--run.folder", "out/1"]  # fmt: skip
    config = load_config(file, flags)
    assert config.rollout.group_size == 4
    assert config.rollout.temperature == 0.5
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.train[0].count == 3
    assert config.model.lora is not None
    assert config.model.lora.rank == 2
    assert config.run.folder == "out/1"


def test_written_config_reads_back_the_same(file):
    config = load_config(file, ["--run.seed", "7"])
    file.write_text(dump_config(config))
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollouts": {}}, "rollouts: unknown key; did you mean 'rollout'?"),
        ({"rollout": {"grop_size": 4}}, "rollout.grop_size: unknown key; did you mean 'group_size'?"),
        ({"model": {"lora": {"rnk": 4}}}, "model.lora.rnk: unknown key; did you mean 'rank'?"),
        ({"data": {"train": [{"cuont": 4}]}}, "data.train.0.cuont: unknown key; did you mean 'count'?"),
        ({"rollout": {"group_size": 1}}, "rollout: group_size is 1, but GRPO compares"),
        ({"rollout": {"temperature": 0}}, "rollout.temperature: must be greater than 0, this is 0"),
        ({"data": {"train": [{"source": "coco"}]}}, "data.train.0: a coco source needs 'path'"),
        ({"data": {"train": [{"source": "flowers", "max_objects": 1}]}}, "'max_objects' is for shapes and digits"),
        ({"data": {"train": [{"source": "flowers", "min_objects": 1}]}}, "'min_objects' is for shapes and digits"),
        ({"data": {"train": [{"source": "digits", "min_objects": 3, "max_objects": 2}]}}, "min_objects 3 is more than"),
        ({"data": {"evaluation": [{"copies": 3}]}}, "evaluation.0.copies is for training"),
        ({"data": {"evaluation": [{}, {"imprecision": 0.1}]}}, "evaluation.1.imprecision is for training"),
        ({"data": {"train": [{"source": "digits", "expressions": ["names"]}]}}, "'expressions' is for shapes, this is"),
        ({"rollout": {"prompts_at_once": 4}, "objective": {"updates_per_rollout": 2}}, "needs the whole step in one"),
        ({"rollout": {"prompts_at_once": 4}, "objective": {"advantages": "gdpo"}}, "needs the whole step in one"),
        (
            {"data": {"evaluation": [{"source": "coco", "path": "x", "split": "val"}]}},
            "a coco source has no split 'val': the file of a part is named in 'annotations'",
        ),
        ({"data": {"train": [{"source": "jsonl", "path": "x", "split": "val"}]}}, "a part is a file of its own"),
        ({"data": {"train": [{"source": "shapes", "split": "val"}]}}, "another seed makes other images"),
        ({"data": {"train": [{"path": "my/photos"}]}}, "'path' is for files, and digits are made; name the format of"),
        ({"data": {"train": [{"source": "shapes", "annotations": "a.json"}]}}, "'annotations' is for files"),
        ({"data": {"train": [{"source": "shapes", "expressions": []}]}}, "'expressions' names no kind"),
        (
            {"data": {"train": [{"source": "shapes", "seed": -1}]}},
            "data.train.0.seed: must be greater than or equal",
        ),
        ({"run": {"seed": -1}}, "run.seed: must be greater than or equal to 0, this is -1"),
        ({"run": {"seed": 2**64}}, "run.seed: must be less than"),
        ({"run": {"steps": True}}, "run.steps: is true, but must be a whole number"),
        ({"run": {"evaluate_every": False}}, "run.evaluate_every: is false, but must be a whole number"),
        ({"objective": {"beta": True}}, "objective.beta: is true, but must be a number"),
        (
            {"data": {"train": [{"source": "shapes", "count": True}]}},
            "data.train.0.count: is true, but must be a",
        ),
        ({"task": {"weights": {"iou": True}}}, "task.weights: iou is true, but must be a number"),
        ({"optimizer": {"learning_rate": float("inf")}}, "learning_rate: is Infinity, but must be a finite number"),
        ({"rollout": {"temperature": float("inf")}}, "rollout.temperature: is Infinity, but must be a finite number"),
        ({"rollout": {"temperature": {"from": 1, "to": 10**400}}}, "rollout: temperature.to: 1000"),
        ({"optimizer": {"betas": [1.5, 0.9]}}, "optimizer.betas.0: must be less than 1, this is 1.5"),
        ({"optimizer": {"betas": [0.9, True]}}, "optimizer.betas: 1 is true, but must be a number"),
        ({"objective": {"loss": "sapo", "sapo_temperatures": [1, 0]}}, "sapo_temperatures.1: must be greater than 0"),
        ([1], "a config is a mapping of sections, this is a list"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "a.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rollout.group_size", "1"], "command line: rollout: group_size is 1"),
        (["--rollout.group_siz", "2"], "command line: rollout.group_siz: unknown key; did you mean 'group_size'?"),
        (["--rollout.group_size"], "has no value"),
        (["rollout", "2"], "is not a flag"),
        (["--data.train", "2"], "data.train"),
        (["--data.train.9.count", "2"], "there is no '9'"),
        (["--run.steps.more", "2"], "there is no 'steps'"),
        (["--shots", "²"], "--shots: '²' is not a number of images per class"),
        (["--data.train.².count", "2"], "there is no '²'"),
    ],
)
def test_mistakes_in_flags_are_named(file, flags, message):
    with pytest.raises(ConfigError) as caught:
        load_config(file, flags)
    assert message in str(caught.value)


def test_broken_or_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match=r"bad\.yaml: line 1, column 6: not valid YAML"):
        load_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no data; e.g. data: {train: [{source: yolo, path: DIR, split: train}], evaluation: "),
        ("# only a comment\n", "names no data; e.g. data: {train: "),
        ("run: {steps: 3}", "names no data; e.g. data: {train: "),
        ("data:", "names no data; e.g. data: {train: "),
        ("data: {}", "names no data; e.g. data: {train: "),
        ("data: {train: [{source: shapes}]}", "names no data.evaluation; e.g. data: {evaluation: "),
        ("data: {evaluation: [{source: shapes}]}", "names no data.train; e.g. data: {train: "),
    ],
)
def test_a_run_names_its_data(tmp_path, text, message):
    """Else it would be a valid run on digits that nobody asked for."""
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, needs=("train", "evaluation"))
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)
    example = yaml.safe_load(str(caught.value).partition("e.g. ")[2].partition(" (docs")[0])
    assert parse_config(example, "the line that is shown").data.evaluation[0].source == "yolo"
    flags = ["--data.train", "[{source: shapes}]", "--data.evaluation", "[{source: shapes}]"]
    assert load_config(file, flags, needs=("train", "evaluation")).data.train[0].source == "shapes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1, column 6: not valid YAML"),
        ("run:\n  steps: 3\n\tseed: 1\n", "line 3, column 1: not valid YAML (found character"),
        ("run: {steps: 3}\ndata: {}\nrun: {seed: 1}\n", "line 3: 'run' is there already, in line 1; keep one of them"),
        ("run:\n  steps: 3\n  seed: 1\n  steps: 4\n", "line 4: 'steps' is there already, in line 2; keep one"),
        ("a: \x07", "not valid YAML (unacceptable character #x0007"),
    ],
)
def test_mistakes_of_yaml_are_named_by_file_and_line(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "unicode string" not in str(caught.value)


def test_a_key_may_override_what_it_merges(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data:\n  train: [&one {source: shapes, count: 3}]\n  evaluation: [{<<: *one, count: 4}]\n")
    assert [source.count for source in (*load_config(file).data.train, *load_config(file).data.evaluation)] == [3, 4]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.lora", "true"], "model.lora: is true, but takes fields of its own: write {} for their defaults, or "
         "e.g. {rank: 16}"),
        (["--data.train", "DIR"], 'data.train: is "DIR", but is a list: write [{source: coco, path: DIR}]'),
        (["--data.train", "{source: shapes}"], 'data.train: is {"source": "shapes"}, but is a list: write [{source: '),
        (["--data.train", "[DIR]"], 'data.train.0: is "DIR", but takes fields of its own: write '
         "{source: coco, path: DIR}"),
        (["--run.steps", "many"], 'run.steps: is "many", but must be a whole number'),
        (["--run.steps", "1.5"], "run.steps: is 1.5, but must be a whole number"),
        (["--run.seed", "null"], "run.seed: is null, but must be a whole number"),
        (["--optimizer.learning_rate", "fast"], 'optimizer.learning_rate: is "fast", but must be a number'),
        (["--task.think", "maybe"], 'task.think: is "maybe", but must be true or false'),
        (["--model.path", "7"], "model.path: is 7, but must be text"),
        (["--task.weights", "[iou]"], 'task.weights: is ["iou"], but must be a mapping such as'),
        (["--run.steps", "0"], "run.steps: must be greater than or equal to 1, this is 0"),
        (["--optimizer.schedule", "cosin"], "optimizer.schedule: \"cosin\" is not known; did you mean 'cosine'?"),
        (["--data.train.0.source", "yollo"], "data.train.0.source: \"yollo\" is not known; did you mean 'yolo'?"),
        (["--task.weights", "{iou: 1, iou: 2}"], "--task.weights: line 1: 'iou' is there already, in line 1"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_told_in_words_of_a_config(file, flags, message):
    with pytest.raises(ConfigError) as caught:
        load_config(file, flags)
    assert str(caught.value).startswith(f"command line: {message}")
    assert "\n" not in str(caught.value)


def test_truth_values_stay_where_they_belong():
    values = {"task": {"think": False, "options": {"strict": True}}, "engine": {"reuse_rollout_graph": True}}
    config = parse_config({**values, "model": {"autocast": False}}, "a.yaml")
    assert (config.task.think, config.task.options, config.engine.reuse_rollout_graph) == (
        False,
        {"strict": True},
        True,
    )
    assert config.model.autocast == "no"


def test_names_of_classes_stand_on_one_line_or_several():
    source = {"source": "shapes", "classes": 'red circle\nblue square, "a, b"\n'}
    config = parse_config({"data": {"train": [source]}}, "a.yaml")
    assert config.data.train[0].classes == ("red circle", "blue square", "a, b")


def test_every_field_has_a_description():
    text = describe()
    for section in Config.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.description, name
            assert f".{name} " in text or f".{name}.0 " in text
    assert "--model.lora.rank " in text
    assert "--data.train.0.source " in text


OWN = """
model: {path: ./model}
task: {name: "own.py:Own", weights: {"own.py:reward": 1.0, "package.module:other": 1.0}}
data:
  train: [{source: coco, path: photos, annotations: ../a.json}, {source: shapes}, {source: parquet, path: some/hub-id}]
  evaluation: [{source: parquet, path: tables/x}, {source: jsonl, path: "%s"}]
run: {folder: runs/x}
"""


def own_config(tmp_path):
    """A config that names files beside it, above it, elsewhere, and what are no files."""
    (tmp_path / "here" / "tables" / "x").mkdir(parents=True)
    file = tmp_path / "here" / "own.yaml"
    file.write_text(OWN % (tmp_path / "elsewhere.jsonl"))
    return file


@pytest.mark.parametrize("place", [".", "here", "elsewhere"])
def test_paths_in_a_config_are_relative_to_its_folder(tmp_path, monkeypatch, place):
    file = own_config(tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    for config in (load_config(file), load_config(os.path.relpath(file))):
        absolute = [os.path.abspath(source.path) for source in config.data.train if source.format == "coco"]
        assert absolute == [str(tmp_path / "here" / "photos")]
        assert os.path.abspath(config.data.train[0].annotations) == str(tmp_path / "a.json")
        assert [source.path for source in config.data.train[1:]] == [None, "some/hub-id"]
        assert os.path.abspath(config.data.evaluation[0].path) == str(tmp_path / "here" / "tables" / "x")
        assert config.data.evaluation[1].path == str(tmp_path / "elsewhere.jsonl")
        assert os.path.abspath(config.model.path) == str(tmp_path / "here" / "model")
        assert os.path.abspath(config.task.name) == str(tmp_path / "here" / "own.py:Own")
        assert list(config.task.weights)[1] == "package.module:other"
        assert config.run.folder == "runs/x"
    assert load_config(file) == load_config(os.path.relpath(file)), "however it is named, so that a run can be resumed"


def test_a_segmenter_is_a_folder_beside_its_config_or_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "here" / "sam").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for given, wanted in (("sam", "here/sam"), ("some/sam-vit", "some/sam-vit")):
        task = {"name": "segmentation", "options": {"segmenter": given}}
        content = {"task": task, "data": {"train": [{"source": "shapes", "task": {**task, "label": "own"}}]}}
        (tmp_path / "here" / "own.yaml").write_text(json.dumps(content))
        config = load_config(tmp_path / "here" / "own.yaml")
        assert config.task.options["segmenter"] == wanted
        assert config.data.train[0].task.options["segmenter"] == wanted


def test_flags_are_relative_to_the_current_folder_and_a_kept_config_is_read_as_it_stands(tmp_path, monkeypatch):
    file = own_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = load_config(file, ["--data.train.0.path", "photos"])
    assert config.data.train[0].path == "photos"
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(config))
    (run / "environment.json").write_text("{}")
    (run / "photos").mkdir()
    assert load_config(run / "config.yaml") == config


def test_what_only_the_current_folder_has_is_taken_and_said(tmp_path, monkeypatch, capsys):
    file = own_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert load_config("here/own.yaml").data.train[0].path == "photos"
    warning = (
        "warning: data.train.0.path: photos is taken from the current folder, because here has none; write ../photos"
    )
    assert capsys.readouterr().err == f"{warning}\n"
    file.write_text(file.read_text().replace("photos", "../photos"))
    assert load_config("here/own.yaml").data.train[0].path == "photos"
    assert capsys.readouterr().err == ""


def test_a_path_that_is_missing_is_told_the_rule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        path_of(SourceConfig(source="coco", path="here/photos"))
    assert str(caught.value) == (
        "here/photos: there is no such folder (paths in a config are relative to its folder, those of flags to the "
        "current one)"
    )
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"to mean photos here, write \.\./photos\)"):
        path_of(SourceConfig(source="coco", path="here/photos"))
    with pytest.raises(ConfigError, match=r"there is no file here/own\.py \(paths in a config are relative"):
        load_object("here/own.py:Own")
