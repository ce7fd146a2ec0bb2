"""A model id that cannot be reached or is unknown: one line within seconds, once. No network is used."""

from __future__ import annotations

import json
import time
from typing import ClassVar

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from visual_rft.cli.main import main
from visual_rft.errors import ModelError
from visual_rft.policy.stored import hub
from visual_rft.policy.stored.hub import reachable


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reachable.cache_clear()
    yield
    reachable.cache_clear()


@pytest.fixture
def asked(monkeypatch):
    """The names that the hub is asked about; it answers with what is put into the list ``answer``."""
    names: list[str] = []
    answer: list[Exception] = []

    def model_info(self, name, timeout):
        assert timeout <= 10
        names.append(name)
        if answer:
            raise answer[0]

    monkeypatch.setattr(HfApi, "model_info", model_info)
    return names, answer


class _Answer:
    """As much of a response as the errors want."""

    headers: ClassVar[dict] = {}
    request = None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError("[Errno -2] Name or service not known"),
            "the hub cannot be reached ([Errno -2] Name or service",
        ),
        (TimeoutError(), "the hub cannot be reached (TimeoutError); fetch it where there is a network"),
        (RepositoryNotFoundError("404", response=_Answer()), "is neither a folder nor a model on the hub"),
        (GatedRepoError("403", response=_Answer()), "is gated: accept its terms on "),
    ],
)
def test_what_cannot_be_had_is_said_once(asked, error, message):
    names, answer = asked
    answer.append(error)
    with pytest.raises(ModelError) as caught:
        reachable("some/model")
    assert "'some/model'" in str(caught.value)
    assert message in str(caught.value)
    assert names == ["some/model"]


def test_a_model_that_the_hub_has_is_asked_for_once(asked):
    assert reachable("some/model") == reachable("some/model") == "some/model"
    assert asked[0] == ["some/model"]


def test_a_folder_is_not_asked_for(asked, tmp_path):
    assert reachable(str(tmp_path)) == str(tmp_path)
    assert asked[0] == []


def test_what_was_fetched_before_is_read_without_the_hub(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hub, "_fetched", lambda name: str(tmp_path))
    asked[1].append(OSError("no network"))
    assert reachable("some/model") == str(tmp_path)
    assert "note: the hub cannot be reached; some/model is read from" in capsys.readouterr().err
    reachable.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert reachable("some/model") == str(tmp_path)
    assert asked[0] == ["some/model"], "offline is offline: the hub is not asked"


@pytest.mark.parametrize("verb", ["check", "train", "predict", "init"])
def test_a_command_says_it_within_seconds(verb, tmp_path, monkeypatch, capsys):
    """Without a stand-in for the hub: whatever this machine's network is, offline is offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    source = [{"source": "shapes", "count": 2}]
    values = {"model": {"path": "no-such/model"}, "data": {"train": source, "evaluation": source}}
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    (tmp_path / "data" / "a").mkdir(parents=True)
    from PIL import Image

    Image.new("RGB", (30, 30)).save(tmp_path / "data" / "a" / "1.png")
    start = time.monotonic()
    command = {"predict": ["predict", "data/a/1.png", "--ask", "a", "--model", "no-such/model"],
               "init": ["init", "--data", "data", "--model", "no-such/model"]}  # fmt: skip
    if verb == "init":  # the model may be on another machine: lengths are estimated
        Image.new("RGB", (31, 30), (9, 9, 200)).save(tmp_path / "data" / "a" / "2.png")
        assert main(command["init"]) == 0
        assert "estimated; the model is not at hand" in capsys.readouterr().out
    else:
        assert main(command.get(verb, [verb, "run.yaml"])) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "'no-such/model' is not on this machine, and HF_HUB_OFFLINE says to stay offline" in error
    assert time.monotonic() - start < 30
