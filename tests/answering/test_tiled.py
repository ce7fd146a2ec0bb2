"""Large pictures asked about in tiles: a model that sees every tile rightly finds every object once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from support.fake_policy import FakePolicy

from visual_rft.answering.answering import answer
from visual_rft.answering.asking import Asker
from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import scored
from visual_rft.answering.questions import ImageQuestions
from visual_rft.answering.scores import NUMBER
from visual_rft.answering.tiled import all_together, cut_up, merged
from visual_rft.cli.main import main
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError
from visual_rft.tasks import Classification, Detection
from visual_rft.tasks.metrics.detection import detection_metrics
from visual_rft.tasks.samples import Sample
from visual_rft.vision.images import RenderedImage
from visual_rft.vision.tiles import Tiling, cut, visible

SIZE = (1000, 700)
TILING = Tiling(300, overlap=0.25)
rng = np.random.default_rng(0)
BOXES = [
    (float(x), float(y), float(x + rng.integers(30, 70)), float(y + rng.integers(30, 70)))
    for x in range(10, 900, 100)
    for y in range(10, 600, 100)
]


def sample(name="coin") -> Sample:
    picture = RenderedImage("large", lambda: Image.new("RGB", SIZE))
    truth = {"boxes": [list(box) for box in BOXES], "image_size": list(SIZE)}
    return Sample(f"large/{name}", (picture,), "detection", {"category": name}, truth)


def truth_of(prompt) -> dict:
    """A tile: every object of which a tenth is seen, as far as it is seen."""
    window = prompt.images[0].window
    boxes = [cut(box, window) for box in BOXES if visible(box, window) > 0.1]
    return {"boxes": boxes, "image_size": [window[2] - window[0], window[3] - window[1]]}


def seen(prompt) -> str:
    """What a perfect model says of a tile."""
    truth = truth_of(prompt)
    return Detection().gold(truth) if "coin" in prompt.text else "unreadable"


def answers(task, reply, tiles) -> list:
    return [scored(task, row.answers) for row in answer(LocalModel(FakePolicy(reply)), task, tiles)]


def test_every_object_is_found_once():
    asked = cut_up(ImageQuestions((sample(), sample("cow"))), TILING)
    assert len(asked.tiles) == len(TILING.windows(*SIZE)) > 10
    task = Detection()
    ((found, unread),) = all_together(task, [asked], answers(task, seen, asked.tiles))
    assert len(found.score.answer["boxes"]) == len(BOXES)
    numbers = detection_metrics([found])
    assert numbers["AP"] == pytest.approx(1.0, abs=1e-3)
    assert numbers["mean_iou"] > 0.95
    assert found.score.notes == ["put together from 15 tiles"]
    assert found.score.parts["iou"] > 0.95
    assert unread.score.answer is None
    assert unread.score.failure == "no answer tag"


def test_one_unreadable_tile_is_said_and_the_others_count():
    asked = cut_up(ImageQuestions((sample(),)), TILING)
    reply = lambda prompt: "?" if prompt.images[0].window[:2] == (0, 0) else seen(prompt)  # noqa: E731
    ((found,),) = all_together(Detection(), [asked], answers(Detection(), reply, asked.tiles))
    assert "1 of them could not be read" in found.score.notes
    assert 0 < len(found.score.answer["boxes"]) < len(BOXES)


@pytest.mark.parametrize(
    ("boxes", "scores", "at_cut", "kept"),
    [
        pytest.param([], [], [], [], id="nothing"),
        pytest.param([(0, 0, 10, 10), (1, 0, 10, 10)], [0.5, 0.9], [False, False], [1], id="the surer of two"),
        pytest.param([(0, 0, 10, 10), (20, 0, 30, 10)], [0.5, 0.9], [False, False], [1, 0], id="two objects"),
        pytest.param([(0, 0, 40, 10), (30, 0, 40, 10)], [0.5, 0.9], [False, True], [0], id="a part at a cut"),
        pytest.param(
            [(0, 0, 40, 10), (30, 0, 40, 10)], [0.5, 0.9], [False, False], [1, 0], id="a small one on a large"
        ),
        pytest.param(
            [(0, 0, 20, 10), (12, 0, 40, 10)], [0.5, 0.9], [True, True], [1, 0], id="halves that overlap little"
        ),
    ],
)
def test_what_is_merged(boxes, scores, at_cut, kept):
    assert merged(boxes, scores, at_cut) == kept


def test_numbers_that_rank_come_along_from_the_tiles():
    """Without a confidence every box of every tile has the number of its tokens, and it is said."""
    task = Detection(style="plain")
    asked = cut_up(ImageQuestions((sample(),)), TILING)
    told = answer(LocalModel(FakePolicy(lambda prompt: task.gold(truth_of(prompt)))), task, asked.tiles)
    known = [row._replace(answers=[one._replace(numbers=numbers_of(one.text)) for one in row.answers]) for row in told]
    ((found,),) = all_together(task, [asked], [scored(task, row.answers) for row in known])
    boxes = found.score.answer["boxes"]
    assert len(boxes) == len(BOXES)
    assert found.score.answer["unstated"] == list(range(len(boxes)))
    assert found.score.answer["scores"] == found.score.answer["token_scores"]
    assert found.score.answer["scores"] == pytest.approx([0.5] * len(boxes))
    assert "confidence taken from the tokens" in found.score.notes
    assert detection_metrics([found])["unstated"] == {"boxes": len(boxes), "by_tokens": len(boxes)}


def numbers_of(text: str) -> list[float]:
    """Every number of a text was as likely as not."""
    return [math.log(0.5)] * len(NUMBER.findall(text))


def test_only_boxes_can_be_put_together():
    with pytest.raises(ConfigError, match="--tiles: the answers of 'classification' cannot be put together"):
        Asker(LocalModel(FakePolicy(seen)), Classification(), TILING)
    assert Classification().measured_as == "label"


def test_predict_and_evaluate_take_tiles(tmp_path, capsys):
    scenes = list(Shapes(6, seed=3, min_objects=1, max_objects=1))
    wide = Image.new("RGB", (384, 128), "white")
    for n, one in enumerate(scenes[:3]):
        wide.paste(one.image.load().resize((128, 128)), (128 * n, 0))
    wide.save(tmp_path / "wide.png")
    flags = ["--tiles", "128", "--overlap", "0"]
    name = scenes[0].labels[0]
    assert (
        main(["predict", str(tmp_path / "wide.png"), "--ask", name, *flags, "--json", "--out", str(tmp_path / "o.png")])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert "put together from 3 tiles" in found["notes"]
    content = {
        "images": [{"id": 1, "file_name": "wide.png", "width": 384, "height": 128}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50]}],
        "categories": [{"id": 1, "name": name}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    source = {"source": "coco", "path": str(tmp_path)}
    config = {"model": {"path": "tiny"}, "data": {"train": [source], "evaluation": [source]},
              "rollout": {"max_new_tokens": 96}, "run": {"folder": str(tmp_path / "run")}}  # fmt: skip
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    assert main(["evaluate", str(tmp_path / "run.yaml"), *flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tiles"] == {"size": 128, "overlap": 0.0, "n": 3}
    assert result["n_images"] == 1
    assert main(["evaluate", str(tmp_path / "run.yaml"), *flags, "--protocol", "said"]) == 2
    assert "--tiles knows the protocols asked, present and all" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run.yaml"), "--overlap", "0"]) == 2
