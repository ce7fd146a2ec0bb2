import pytest

from visual_rft.config.config import Config, dump_config, load_config, parse_config
from visual_rft.config.describe import describe
from visual_rft.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("rollout: {group_size: 4}\n")
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
        ({"rollout": {"temperature": 0}}, "rollout.temperature: Input should be greater than 0"),
        ({"data": {"train": [{"source": "coco"}]}}, "data.train.0: a coco source needs 'path'"),
        ({"data": {"train": [{"source": "flowers", "max_objects": 1}]}}, "'max_objects' is for shapes and digits"),
        ({"data": {"train": [{"source": "flowers", "min_objects": 1}]}}, "'min_objects' is for shapes and digits"),
        ({"data": {"train": [{"source": "digits", "min_objects": 3, "max_objects": 2}]}}, "min_objects 3 is more than"),
        ({"data": {"evaluation": [{"copies": 3}]}}, "evaluation.0.copies is for training"),
        ({"data": {"evaluation": [{}, {"imprecision": 0.1}]}}, "evaluation.1.imprecision is for training"),
        ({"data": {"train": [{"source": "digits", "expressions": ["names"]}]}}, "'expressions' is for shapes, this is"),
        ({"rollout": {"prompts_at_once": 4}, "objective": {"updates_per_rollout": 2}}, "needs the whole step in one"),
        ({"rollout": {"prompts_at_once": 4}, "objective": {"advantages": "gdpo"}}, "needs the whole step in one"),
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
    with pytest.raises(ConfigError, match=r"bad\.yaml: not valid YAML"):
        load_config(tmp_path / "bad.yaml")


def test_every_field_has_a_description():
    text = describe()
    for section in Config.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.description, name
            assert f".{name} " in text or f".{name}.0 " in text
    assert "--model.lora.rank " in text
    assert "--data.train.0.source " in text
