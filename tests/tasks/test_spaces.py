"""The three mistakes that cost most runs: wrong units, a prompt too long for the context, images shrunk too far."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import ClassVar

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from support.own_task import Finder

from visual_rft.answering.predict import warn_of_space
from visual_rft.answering.questions import Answer
from visual_rft.cli.main import main
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.errors import PromptTooLongError
from visual_rft.inspection.look import look_at_data, shrunk_images
from visual_rft.policy.loading import load_policy
from visual_rft.tasks import load_task
from visual_rft.tasks.base import Task
from visual_rft.tasks.parsing.completion import Failure, Parsed, answer_text
from visual_rft.tasks.samples import Sample
from visual_rft.tasks.spaces import Answered, SpaceWatch, gold_space_hint, wrong_space_hint
from visual_rft.tasks.truth import box_of, frame_of
from visual_rft.vision.boxes import iou
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.images import RenderedImage

SIZE = (640, 480)
RELATIVE, PIXELS = Frame(SIZE, (1000, 1000)), Frame(SIZE, SIZE)
PROCESSED = Frame(SIZE, (644, 476))
BOXES = [(40 * i, 30 * i, 40 * i + 200, 30 * i + 100) for i in range(10)]


def answers(written: Frame, read: Frame, shift: int = 0, boxes=BOXES, **more) -> list[Answered]:
    """Answers that a model writes in one frame and that are read in another."""
    task = load_task("detection")
    rows = []
    for x1, y1, x2, y2 in boxes:
        said = task.gold({"boxes": [[x1 + shift, y1, x2 + shift, y2]], "image_size": SIZE}, written)
        rows.append(Answered(said, {"boxes": [[x1, y1, x2, y2]], "image_size": SIZE, **more}, read))
    return rows


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [
        pytest.param(answers(PIXELS, RELATIVE, boxes=[(b[0], b[1], b[0] + 40, b[1] + 40) for b in BOXES[4:]] * 2),
                     "set model.family.coordinates: pixels", id="pixels read as 0..1000"),
        pytest.param(answers(RELATIVE, PROCESSED, boxes=[(b[0], b[1], b[0] + 40, b[1] + 40) for b in BOXES[3:]] * 2),
                     "set model.family.coordinates: relative_1000", id="0..1000 read as pixels"),
        pytest.param(answers(PIXELS, RELATIVE, space="relative_1000",
                             boxes=[(b[0], b[1], b[0] + 40, b[1] + 40) for b in BOXES[4:]] * 2),
                     "correct 'space' of the data's truth to pixels", id="pixels, though the truth says 0..1000"),
        pytest.param(answers(RELATIVE, RELATIVE), None, id="right"),
        pytest.param(answers(RELATIVE, RELATIVE, shift=250), None, id="points badly, in any units"),
        pytest.param(answers(PIXELS, RELATIVE, boxes=[(400, 300, 440, 340)] * 7), None, id="too few to say"),
        pytest.param([Answered("I see a cat", {"boxes": [[1, 1, 9, 9]], "image_size": SIZE}, RELATIVE)] * 20, None,
                     id="no box at all"),
        pytest.param([Answered("<answer>No Objects</answer>", {"boxes": [], "image_size": SIZE}, RELATIVE)] * 20, None,
                     id="nothing to find"),
    ],
)  # fmt: skip
def test_answers_in_other_units_are_found_out(rows, remedy):
    hint = wrong_space_hint(load_task("detection"), rows)
    assert (hint is None) if remedy is None else (remedy in hint)


def test_grounding_is_looked_at_and_classification_is_not():
    truth = {"box": [400, 300, 440, 340], "image_size": SIZE}
    rows = [Answered("<answer>(400,300),(440,340)</answer>", truth, RELATIVE)] * 8
    assert "read as pixels of the image they do (1.00)" in wrong_space_hint(load_task("grounding"), rows)
    assert (
        wrong_space_hint(load_task("classification"), [Answered("<answer>cat</answer>", {"label": "cat"}, None)])
        is None
    )


@dataclass(frozen=True, kw_only=True)
class Corners(Task):
    """A user's own task, as one writes it: four numbers with spaces between them."""

    name, questions, headline = "corners", "one", ("parse_rate",)
    answers_boxes = True
    default_weights: ClassVar = {"overlap": 1.0}
    rewards: ClassVar = {"overlap": lambda found: found}

    def prompt(self, question, space):
        return "Where?"

    def gold(self, truth, frame=None):
        return self._wrap("x", " ".join(map(str, frame_of(truth, frame).from_pixels(box_of(truth)))))

    def parse(self, completion, truth, frame):
        found = answer_text(completion)
        if isinstance(found, Failure):
            return found
        return Parsed(list(frame_of(truth, frame).to_pixels(tuple(map(float, found[0].split())))))

    def compare(self, answer, truth):
        return iou(tuple(answer or (0, 0, 0, 0)), box_of(truth))

    def metrics(self, predictions):
        return self._rates(predictions)


@dataclass(frozen=True, kw_only=True)
class Silent(Corners):
    """The same, but it does not say that its answers hold boxes."""

    answers_boxes = False


@pytest.mark.parametrize(("task", "warned"), [(Corners(), True), (Silent(), False)], ids=["says so", "does not"])
def test_a_users_own_task_of_boxes_is_warned(task, warned, model_folders, capsys):
    """Where the data are looked at, while training, and when held-out questions were answered."""
    truth = {"box": [400, 300, 440, 340], "image_size": SIZE}
    said = task.gold(truth, PIXELS)
    samples = [Sample("a", (), "corners", {}, truth)] * 8

    warn_of_space(task, [Answer(sample, said, RELATIVE) for sample in samples])
    assert ("warning: boxes meet no object in the units" in capsys.readouterr().err) is warned

    hint = SpaceWatch(task).look(samples, [RELATIVE] * 8, [[said] * 32] * 8)
    assert (hint is not None) is warned

    policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"])), RolloutConfig(max_new_tokens=8), empty=True)
    picture = RenderedImage("a", lambda: Image.new("RGB", (90, 60)))
    shares = {"box": [0.1, 0.1, 0.5, 0.5], "image_size": [90, 60]}
    found = look_at_data(policy, task, [Sample(f"{i}", (picture,), "corners", {}, shares) for i in range(20)])
    assert any("they seem to be shares of its size" in warning for warning in found) is warned


def truths(boxes, size, **more):
    return [{"boxes": [list(box)], "image_size": list(size), **more} for box in boxes]


def table(boxes, size):
    """A published table whose solutions hold these numbers, read as 0..1000."""
    frame = Frame(size, (1000, 1000))
    return truths([frame.to_pixels(box) for box in boxes], size, space="relative_1000")


SPREAD = [(30 * i, 20 * i, 30 * i + 40, 20 * i + 60) for i in range(20)]  # ends at (610, 440)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(table(SPREAD, (640, 480)), "they seem to be pixels, not 0..1000", id="table in pixels"),
        pytest.param(table([(45 * i, 45 * i, 45 * i + 50, 45 * i + 60) for i in range(20)], (640, 480)), None,
                     id="table in 0..1000"),
        pytest.param(table([(x / 4, y / 4, a / 4, b / 4) for x, y, a, b in SPREAD], (640, 480)), None,
                     id="table of objects in one corner"),
        pytest.param(table(SPREAD[:19], (640, 480)), None, id="table with too few to say"),
        pytest.param(truths(SPREAD, (640, 480)), None, id="pixels"),
        pytest.param(truths([(x / 640, y / 480, a / 640, b / 480) for x, y, a, b in SPREAD], (640, 480)),
                     "shares of its size, 0..1", id="file with shares"),
        pytest.param(truths([(45 * i, 45 * i, 45 * i + 50, 45 * i + 60) for i in range(20)], (4000, 3000)),
                     "they seem to be 0..1000, not pixels", id="file with 0..1000"),
        pytest.param(truths([(x * 5, y * 5, a * 5, b * 5) for x, y, a, b in SPREAD], (4000, 3000)), None,
                     id="pixels of large images"),
        pytest.param([{"label": "cat"}] * 30, None, id="no boxes"),
    ],
)  # fmt: skip
def test_true_boxes_in_other_units_are_found_out(rows, says):
    hint = gold_space_hint(rows)
    assert (hint is None) if says is None else (says in hint)


def test_shrunk_images_by_hand():
    """2000 x 1000 to 500,000 pixels halves the sides; 4000 x 2000 to a quarter. 40 -> 20, 100 -> 25 are below 28."""
    images = [
        ((2000, 1000), [(0, 0, 40, 90), (0, 0, 80, 80), (0, 0, 20, 20)]),  # 20 was too narrow before
        ((4000, 2000), [(0, 0, 100, 300), (0, 0, 120, 120)]),
        ((640, 480), [(0, 0, 30, 30)]),
    ]
    hint = shrunk_images(images, 500_000, 28)
    assert "2 of 3 images have more than 500,000 pixels and are shrunk to 25% of their sides at least, 38% in" in hint
    assert "2 of the 5 boxes in them become narrower than 28 pixels" in hint
    assert "raise model.max_pixels" in hint
    assert "no box in them becomes narrower" in shrunk_images([((2000, 1000), [(0, 0, 90, 90)])], 500_000, 28)
    assert shrunk_images([((720, 700), [])], 500_000, 28) is None  # 504,000: rounding of sides
    assert shrunk_images([], 500_000, 28) is None


@pytest.fixture
def large(tmp_path):
    """A COCO folder with one large image among small ones, and a small object in it."""
    folder = tmp_path / "large"
    folder.mkdir()
    images, annotations = [], []
    for i in range(12):
        size = (1200, 900) if i == 7 else (90, 60)
        Image.new("RGB", size).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [3, 4, 40, 40]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "pole"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def run(large, model, **sections) -> list[str]:
    file = large.parent / "run.yaml"
    source = [{"source": "coco", "path": str(large)}]
    values = {"data": {"train": source, "evaluation": source}, "rollout": {"group_size": 2, "max_new_tokens": 60},
              "run": {"folder": str(large.parent / "run"), "steps": 1, "prompts_per_batch": 2}}  # fmt: skip
    file.write_text(json.dumps({**values, "model": {"path": str(model), **sections}}))
    return [str(file)]


@pytest.mark.parametrize("verb", [["train"], ["sft"], ["train", "--dry-run"], ["sft", "--dry-run"]])
def test_a_prompt_too_long_is_an_error_before_training(verb, large, model_folders, capsys):
    """One image of twelve, 1200 x 900, costs 1,300 tokens of a context of 512."""
    arguments = run(large, model_folders["qwen2_vl"], max_pixels=2_000_000)
    assert main([verb[0], *arguments, *verb[1:]]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "sample '7/pole': the prompt has 1" in error
    assert "but the model's context is 512; lower model.max_pixels or rollout.max_new_tokens" in error
    assert not (large.parent / "run").exists()


def test_check_names_it_too(large, model_folders, capsys, tmp_path):
    arguments = run(large, model_folders["qwen2_vl"], max_pixels=2_000_000)
    assert main(["check", *arguments, "--samples", "2", "--sheet", str(tmp_path / "s.png")]) == 1
    assert "VIOLATION sample '7/pole': the prompt has 1" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "sft", "check"])
def test_a_shrunk_image_is_a_warning_with_the_remedy(verb, large, model_folders, capsys, tmp_path):
    """1200 x 900 to 19,600 pixels: sides of 13 %, and 40 pixels become 5."""
    arguments = run(large, model_folders["qwen2_vl"])
    sheet = ["--sheet", str(tmp_path / "s.png")] if verb == "check" else []
    assert main([verb, *arguments, *sheet]) == 0
    error = capsys.readouterr().err
    assert "warning: 1 of 12 images have more than 19,600 pixels and are shrunk to 13% of their sides" in error
    assert "1 of the 1 boxes in them become narrower than 28 pixels, one image token" in error
    assert "raise model.max_pixels" in error


def test_a_longest_text_is_found_without_any_image_size(model_folders):
    """Classification knows no image size of drawn pictures; the text alone may be too long."""
    task, picture = load_task("classification"), RenderedImage("a", lambda: Image.new("RGB", (60, 60)))
    texts = ["cat " * (700 if i == 30 else 2) for i in range(40)]
    samples = [Sample(f"row-{i}", (picture,), "", {"problem": text}, {"label": "cat"}) for i, text in enumerate(texts)]
    policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"])), RolloutConfig(max_new_tokens=8), empty=True)
    with pytest.raises(PromptTooLongError, match="row-30"):
        look_at_data(policy, task, samples)


def test_training_looks_at_the_first_answers():
    """Once, when there are enough; a box in pixels that is read as 0..1000."""
    watch = SpaceWatch(load_task("detection"))
    truth = {"boxes": [[400, 300, 440, 340]], "image_size": SIZE}
    said = "<answer>[{'Position': [400, 300, 440, 340], 'Confidence': 1}]</answer>"
    samples = [Sample("a", (), "detection", {}, truth)] * 4
    hints = [watch.look(samples, [RELATIVE] * 4, [[said] * 8] * 4) for _ in range(40)]
    (hint,) = [hint for hint in hints if hint is not None]
    assert hint == hints[7]
    assert "of 256 answers" in hint
    assert "set model.family.coordinates: pixels" in hint
    assert len(watch.answered["detection"]) == 256


def test_evaluation_looks_at_its_answers(capsys):
    truth = {"box": [400, 300, 440, 340], "image_size": SIZE}
    rows = [Answer(Sample("a", (), "grounding", {}, truth), "<answer>(400,300),(440,340)</answer>", RELATIVE)] * 9
    warn_of_space(load_task("grounding"), rows)
    assert "warning: boxes meet no object in the units they are asked for" in capsys.readouterr().err
    warn_of_space(load_task("grounding"), [row._replace(frame=PIXELS) for row in rows])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("boxes", [True, False])
def test_a_task_of_ones_own_is_looked_at_where_it_answers_boxes(capsys, monkeypatch, boxes):
    monkeypatch.setattr(Finder, "answers_boxes", boxes)
    truth = {"boxes": [[400, 300, 440, 340]], "image_size": SIZE}
    said = "<answer>[{'Position': [400, 300, 440, 340], 'Confidence': 1}]</answer>"
    warn_of_space(Finder(), [Answer(Sample("a", (), "finder", {}, truth), said, RELATIVE)] * 9)
    assert ("set model.family.coordinates: pixels" in capsys.readouterr().err) == boxes


def test_a_published_table_in_pixels_is_refused_with_the_remedy(tmp_path, capsys):
    """1,100 is beyond 0..1000, so the row cannot be what the table says it is."""
    content = io.BytesIO()
    Image.new("RGB", (1280, 960)).save(content, "PNG")
    rows = {"image": [{"bytes": content.getvalue(), "path": None}], "problem": ["Find every cat."],
            "solution": ["<answer>[{'Position': [900, 300, 1100, 500], 'Confidence': 1}]</answer>"]}  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    source = {"source": "parquet", "path": str(tmp_path / "a.parquet")}
    (tmp_path / "run.yaml").write_text(json.dumps({"data": {"train": [source], "evaluation": [source]}}))
    assert main(["train", str(tmp_path / "run.yaml"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "boxes of a solution are 0..1000 of the image; in pixels, use a coco or jsonl source" in error
