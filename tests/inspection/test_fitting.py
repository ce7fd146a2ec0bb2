"""A run that cannot fit on its card is refused before its weights are loaded, with three remedies that would fit."""

from __future__ import annotations

import re

import pytest

from visual_rft.cli.main import main
from visual_rft.config.config import Config, parse_config
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError
from visual_rft.inspection.fitting import does_not_fit, least_footprint, refuse_what_cannot_fit
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import load_task
from visual_rft.training import session as session_module
from visual_rft.training.rft import train

ASKED = Shapes(4)[0]


def asked(config: Config):
    policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
    return policy, policy.prepare([Prompt("a", "Find every cat.", (ASKED.image,))])


def settings(path, card_gib: float | None, **sections) -> dict:
    data = {"train": [{"source": "shapes", "count": 4}], "evaluation": [{"source": "shapes", "count": 2}]}
    model = {"path": str(path), "autocast": "no"}
    return {"model": model, "engine": {"card_gib": card_gib}, "data": data, **sections}


@pytest.fixture
def least(model_folders):
    """GiB that the run takes at least."""
    config = parse_config(settings(model_folders["qwen2_vl"], None), "test")
    return least_footprint(config, *asked(config)).total / 2**30


def test_a_card_that_is_large_enough_is_no_problem(model_folders, least):
    config = parse_config(settings(model_folders["qwen2_vl"], 1.05 * least), "test")
    assert does_not_fit(config, *asked(config)) is None
    assert does_not_fit(parse_config(settings(model_folders["qwen2_vl"], None), "test"), *asked(config)) is None


def test_three_remedies_fit_as_they_say(model_folders, least):
    config = parse_config(settings(model_folders["qwen2_vl"], 0.9 * least), "test")
    problem = does_not_fit(config, *asked(config))
    assert problem is not None
    remedies = re.findall(r"(--[^;]*?) \(([\d.]+ \w+)\)", problem.partition("remedies: ")[2])
    assert len(remedies) == 3
    for flags, _ in remedies:
        values = settings(model_folders["qwen2_vl"], 0.9 * least)
        for path, value in re.findall(r"--(\S+) (\S+)", flags):
            section, *rest = path.split(".")
            place = values.setdefault(section, {})
            for name in rest[:-1]:
                place = place.setdefault(name, {})
            place[rest[-1]] = int(value) if value.isdigit() else value == "True" or value
        changed = parse_config(values, "test")
        assert does_not_fit(changed, *asked(changed)) is None, flags


def test_where_nothing_fits_the_nearest_are_said(model_folders, least):
    config = parse_config(settings(model_folders["qwen2_vl"], 0.01 * least), "test")
    assert "nothing that is known makes it fit; the nearest: --" in str(does_not_fit(config, *asked(config)))


def test_check_says_it_as_a_violation(model_folders, least, tmp_path, capsys):
    import yaml

    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings(model_folders["qwen2_vl"], 0.9 * least)))
    assert main(["check", str(file), "--samples", "1", "--sheet", str(tmp_path / "s.png")]) == 1
    said = capsys.readouterr().out
    assert "VIOLATION memory: the run takes" in said
    assert main(["train", str(file), "--dry-run"]) == 0
    assert "warning: memory: the run takes" in capsys.readouterr().err


def test_train_refuses_before_the_weights_are_loaded(model_folders, least, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "load_policy", lambda *_, **__: pytest.fail("the weights are loaded"))
    run = {"folder": str(tmp_path / "run")}
    config = parse_config(settings(model_folders["qwen2_vl"], 0.9 * least, run=run), "test")
    with pytest.raises(ConfigError, match="and the card has"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_supervised_training_needs_no_reference(model_folders, least):
    config = parse_config(settings(model_folders["qwen2_vl"], 0.9 * least), "test")
    samples, task = [ASKED.ask(name) for name in ("cat", "dog")], load_task("detection")
    with pytest.raises(ConfigError):
        refuse_what_cannot_fit(config, task, samples, supervised=False)
    refuse_what_cannot_fit(config, task, samples, supervised=True)
