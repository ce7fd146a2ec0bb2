"""The page that compares models: its answers without it, and, where gradio is installed, the page itself."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest
from PIL import Image
from support.fake_policy import FakePolicy

from visual_rft.answering.asking import Asker
from visual_rft.answering.local import LocalModel
from visual_rft.app.answers import Models
from visual_rft.cli.main import main
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import TASKS, load_task
from visual_rft.vision.drawing import PREDICTED

RIGHT = "<think>on the *left*</think><answer>[{'Position': [100, 200, 500, 800], 'Confidence': 0.9}]</answer>"


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (200, 100), (250, 250, 250)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def models() -> Models:
    """A tuned model that finds a box and a base that writes nonsense."""
    return Models({
        "base": Asker(LocalModel(FakePolicy(lambda _: "what?")), load_task("detection")),
        "tuned": Asker(LocalModel(FakePolicy(lambda _: RIGHT)), load_task("detection", think=True)),
    })  # fmt: skip


def test_models_answer_side_by_side(models, picture):
    base, tuned = models.answer(picture, " cat ", "detection")
    assert "**No answer**: no answer tag" in base.words
    assert "**Reasoning**\n\n    on the *left*" in tuned.words
    assert '"boxes": [[20.0, 20.0, 100.0, 80.0]]' in tuned.words
    factor = tuned.picture.width // 200
    assert tuned.picture.getpixel((20 * factor, 50 * factor)) == PREDICTED
    assert len(base.picture.getcolors()) == 1


def test_another_task_than_that_of_the_model(models, picture):
    prompts = models.askers["tuned"].model.policy.batches
    models.answer(picture, "animal", "classification")
    assert "kind of animal" in prompts[-1][0].text or "animal" in prompts[-1][0].text
    assert models.tasks[0] == "detection"
    assert set(models.tasks) == set(TASKS)


def test_another_task_is_asked_in_the_same_words(models, picture):
    asker = Asker(models.askers["tuned"].model, load_task("detection", style="plain"))
    styles = {task: asker.about(task).task.style for task in ("detection", "grounding", "many_classes", "vqa")}
    assert styles == {"detection": "plain", "grounding": "plain", "many_classes": "method", "vqa": "method"}
    Models({"one": asker}).answer(picture, "cat", "grounding")
    assert "Position" not in asker.model.policy.batches[-1][0].text
    assert "<think>" in asker.model.policy.batches[-1][0].text

    bare = Asker(asker.model, load_task("detection", style="plain", think=False))
    Models({"one": bare}).answer(picture, "cat", "grounding")
    assert "<think>" not in asker.model.policy.batches[-1][0].text


def test_two_pictures_of_the_same_name_are_two_pictures(models, picture):
    models.answer(picture, "cat", "detection")
    Image.new("RGB", (200, 100), (1, 2, 3)).save(picture)
    models.answer(picture, "cat", "detection")
    first, second = (batch[0].image_key for batch in models.askers["base"].model.policy.batches)
    assert first != second


def test_what_is_missing_is_said(models, picture, tmp_path):
    for file, ask, message in ((None, "cat", "drop a picture"), (picture, " ", "write what is"),
                               (tmp_path / "none.png", "cat", "no such image file")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            models.answer(file, ask, "detection")


def test_the_same_model_twice(model_folders):
    with pytest.raises(ConfigError, match="named twice"):
        Models.load(["tiny", "tiny"])


def test_without_gradio_one_line_says_how_to_get_it(monkeypatch, capsys):
    true_import = builtins.__import__

    def no_gradio(name, *rest, **more):
        if name == "gradio":
            raise ModuleNotFoundError("No module named 'gradio'", name="gradio")
        return true_import(name, *rest, **more)

    monkeypatch.delitem(__import__("sys").modules, "visual_rft.app.page", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_gradio)
    assert main(["app"]) == 2
    assert "pip install 'gradio>=6.0'" in capsys.readouterr().err


# Warnings of gradio and what it stands on; sockets of its server that are closed late warn after the test.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
class TestPage:
    """The page itself; ``make test-app`` runs these in an environment that has gradio."""

    @pytest.fixture
    def page(self, models):
        pytest.importorskip("gradio", reason="gradio is not installed; make test-app runs this")
        from visual_rft.app import page

        return page.make_page(models)

    def test_what_it_is_made_of(self, page, models):
        from visual_rft.app.page import make_page

        labels = [block.label for block in page.blocks.values() if getattr(block, "label", None)]
        assert {"Picture", "Ask for", "Task", "base", "tuned"} <= set(labels)
        assert page.analytics_enabled is False
        with pytest.raises(ConfigError, match="'tracking' is not one of"):
            make_page(models, "tracking")

    def test_a_call_over_the_wire(self, page, picture):
        from gradio_client import Client, handle_file

        from visual_rft.app.page import launch_options

        options = launch_options("127.0.0.1", None)
        assert options["share"] is False
        _, url, public = page.launch(**options, prevent_thread_lock=True)
        try:
            assert public is None
            assert url.startswith("http://127.0.0.1:")
            client = Client(url, verbose=False, analytics_enabled=False)
            _, base, tuned_picture, tuned = client.predict(handle_file(picture), "cat", "detection", api_name="/ask")
            assert "no answer tag" in base
            assert '"boxes": [[20.0, 20.0, 100.0, 80.0]]' in tuned
            with Image.open(tuned_picture) as drawn:
                assert drawn.width >= 512
            with pytest.raises(Exception, match="drop a picture first"):
                client.predict(None, "cat", "detection", api_name="/ask")
        finally:
            page.close()
