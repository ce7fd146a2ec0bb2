"""A model behind a server, measured by our protocols: without torch, with the same numbers from the same texts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.fake_policy import FakePolicy
from support.stub_server import StubServer
from support.tiny_models import random_model

from visual_rft.answering.local import LocalModel
from visual_rft.answering.served import Resizing, ServedModel
from visual_rft.cli.main import main
from visual_rft.config.config import parse_config
from visual_rft.errors import ConfigError
from visual_rft.policy.prompt import Prompt
from visual_rft.serving.client import Client
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import RenderedImage

CATS = "<think>x</think><answer>[{{'Position': [{}, 0, 500, 500], 'Confidence': 0.{}}}]</answer>"


def says(text: str, size: tuple[int, int]) -> str:
    """Something of a question and its picture, so that another pairing gives other numbers."""
    if "Find every cat" not in text and "Find every dog" not in text:
        return "nothing to see"
    return CATS.format(size[0] % 10 * 10, 5 + ("dog" in text))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A config about three pictures of different sizes, each with a cat or a dog."""
    folder, images, rows = tmp_path / "pets", [], []
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (100 + number, 90)).save(folder / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": 100 + number, "height": 90})
        box = [number, 0, 50, 45]
        rows.append({"id": number + 1, "image_id": number + 1, "category_id": 1 + number % 2, "bbox": box,
                     "area": 50 * 45, "iscrowd": 0})  # fmt: skip
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": names}))
    file = tmp_path / "pets.yaml"
    source = [{"source": "coco", "path": "pets"}]
    file.write_text(yaml.safe_dump({"data": {"evaluation": source}, "run": {"folder": str(tmp_path / "run")}}))
    return file


def stub() -> StubServer:
    return StubServer(lambda asked: says(asked.text, asked.images[0].size))


def test_the_same_texts_give_the_same_numbers(pets, capsys, monkeypatch):
    command = ["evaluate", str(pets), "--json", "--protocol", "all"]
    fake = FakePolicy(lambda prompt: says(prompt.text, prompt.images[0].load().size))
    with stub() as server:
        assert main([*command, "--server", f"{server.url}/v1"]) == 0
    served = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(LocalModel, "load", lambda *_: LocalModel(fake, "tiny"))
    monkeypatch.setattr(LocalModel, "verify", lambda *_: None)
    assert main(command) == 0
    local = json.loads(capsys.readouterr().out)
    assert served["model"] == "stub"
    assert served["AP"] == local["AP"] > 0
    assert served["scores"]["written"] == local["scores"]["written"]
    different = {"model": "", "folder": "", "scores": ""}  # a model in this process knows its tokens besides
    assert {**served, **different} == {**local, **different}


def test_evaluate_and_predict_need_no_torch(pets, tmp_path):
    code = (
        "import sys; from visual_rft.cli.main import main; "
        "rc = main(sys.argv[1:]); sys.exit(rc or 'torch' in sys.modules or 'transformers' in sys.modules)"
    )
    picture = str(pets.parent / "pets" / "0.png")
    with stub() as server:
        for words in (
            ["evaluate", str(pets), "--protocol", "all"],
            ["predict", picture, "--ask", "cat", "--out", str(tmp_path / "a.png")],
            ["predict", str(pets.parent / "pets"), "--ask", "cat", "--ask", "dog", "--out", str(tmp_path / "many")],
        ):
            command = [sys.executable, "-c", code, *words, "--server", server.url, "--server-model", "stub"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").is_file()
    boxes = json.loads((tmp_path / "many" / "predictions.json").read_text())
    assert [row["bbox"] for row in boxes[:2]] == [[0.0, 0.0, 50.0, 45.0]] * 2


def test_an_evaluation_that_a_server_left_continues(pets, capsys):
    command = ["evaluate", str(pets), "--json", "--protocol", "all"]
    with stub() as server:
        assert main([*command, "--server", server.url]) == 0
        whole = json.loads(capsys.readouterr().out)
        journal = Path(whole["folder"]) / "answers.jsonl"
        journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
        before = len(server.asked)
    with stub() as other:  # somewhere else, the same model
        assert main([*command, "--server", other.url]) == 0
        captured = capsys.readouterr()
    assert "2 of 3 images were answered before" in captured.err
    assert before == 6
    assert len(other.asked) == 2
    assert json.loads(captured.out) == whole


def test_what_a_server_cannot_say_is_one_line(pets, capsys):
    with stub() as server:
        pass
    assert main(["evaluate", str(pets), "--server", server.url, "--server-model", "x", "--model", "tiny"]) == 2
    assert "--server and --model" in capsys.readouterr().err
    with stub() as server:
        server.faults = ["400"]
        assert main(["evaluate", str(pets), "--server", server.url]) == 2
    error = capsys.readouterr().err
    assert "status 400" in error
    assert "Traceback" not in error


def test_units_of_boxes_are_never_guessed(tmp_path):
    for model in ({"path": "somebody/a-model"}, {"path": "somebody/a-model", "max_pixels": 100}):
        with pytest.raises(ConfigError, match=r"set model\.family\.coordinates"):
            ServedModel.open(parse_config({"model": model}, "test"), ["http://127.0.0.1:1"])
    model = {"path": "somebody/a-model", "family": {"coordinates": "processed_pixels"}}
    with pytest.raises(ConfigError, match="server's limits of pixels"):
        ServedModel.open(parse_config({"model": model}, "test"), ["http://127.0.0.1:1"])


def test_units_are_those_of_the_models_folder(model_folders):
    with stub() as server:
        for kind, space in (("qwen2_vl", "relative_1000"), ("qwen2_5_vl", "processed_pixels")):
            config = parse_config({"model": {"path": str(model_folders[kind])}}, "test")
            with ServedModel.open(config, [server.url]) as model:
                assert model.space == CoordinateSpace(space)
                assert (model.resizing is not None) == (space == "processed_pixels")


@pytest.mark.parametrize("size", [(640, 480), (31, 900), (14, 14), (2000, 1500), (333, 334), (70, 42)])
def test_images_are_resized_as_the_processor_does(size):
    """The oracle is the processor itself: its grid of patches."""
    _, processor = random_model("qwen2_5_vl")
    images = processor.image_processor
    grid = images(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"][0]
    wanted = (int(grid[2]) * images.patch_size, int(grid[1]) * images.patch_size)
    limits = images.size
    cell = images.patch_size * images.merge_size
    assert Resizing(cell, limits["shortest_edge"], limits["longest_edge"]).size(size) == wanted


def test_the_frame_is_that_of_the_resized_image():
    with stub() as server, Client([server.url]) as client:
        model = ServedModel(client, CoordinateSpace.PROCESSED_PIXELS, resizing=Resizing(28, 3136, 10**6))
        image = RenderedImage("a", lambda: Image.new("RGB", (640, 480)))
        prompt = Prompt("a", "Find every cat", (image,))
        ((said,),) = model.ask([[prompt]], 1)
    assert said[1] == Frame((640, 480), (644, 476))
