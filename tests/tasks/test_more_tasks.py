"""What the tasks besides the paper's three ask for, and what they say of a broken truth."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visual_rft.data.annotated import AnnotatedImage, EveryClass
from visual_rft.errors import ConfigError, DataError
from visual_rft.evaluation.measures import measure
from visual_rft.tasks import Counting, ManyClasses, Pointing, Segmentation, Vqa, load_task
from visual_rft.tasks.kinds import segmentation
from visual_rft.tasks.metrics.detection import asked_data_set
from visual_rft.tasks.samples import Prediction, Sample
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import ImageFile, RenderedImage
from visual_rft.vision.masks import box_of_mask, holds, inner_point, mask_iou

PLACE = {"box": [20, 30, 60, 70], "image_size": [100, 100]}
SQUARE = {"segmentation": [[20, 30, 60, 30, 60, 70, 20, 70]], "image_size": [100, 100]}
TOKENS = Frame.of(CoordinateSpace.LOCATION_TOKENS, (100, 100))
HERE = RenderedImage("a", lambda: Image.new("RGB", (100, 100)))


def say(answer: str) -> str:
    return f"<think>x</think><answer>{answer}</answer>"


def predictions(task, rows) -> list[Prediction]:
    return [
        Prediction(Sample(str(n), (HERE,), task.name, question, truth), text, task.score(text, truth))
        for n, (question, truth, text) in enumerate(rows)
    ]


@pytest.mark.parametrize("task", [Counting(weights={"points": 1.0}), Pointing(), Segmentation()], ids=lambda t: t.name)
def test_points_are_written_as_location_tokens_where_the_model_has_them(task):
    truth = {**SQUARE, "boxes": [PLACE["box"]]} if task.name != "pointing" else PLACE
    question = {"category": "cat", "expression": "it"}
    prompt = task.prompt(question, CoordinateSpace.LOCATION_TOKENS)
    assert "y before x" in prompt
    gold = task.gold(truth, TOKENS)
    assert "<loc0512><loc0410>" in gold or "<loc0507><loc0404>" in gold, gold  # half way down, 40 % across
    score = task.score(gold, truth, TOKENS)
    assert score.notes == ()
    assert score.total == pytest.approx(sum(task.part_weights.values()), abs=0.02)  # a mask's box is rounded


def test_points_take_places_of_their_own():
    task = Pointing(every=True)
    nested = {"boxes": [[0, 0, 100, 100], [40, 40, 60, 60]], "image_size": [100, 100]}
    assert task.score(say("(500,500), (100,100)"), nested).parts["hit"] == 1, "the inner box leaves the outer one"
    assert task.score(say("(100,100), (500,500)"), nested).parts["hit"] == 1
    assert task.score(say("(100,100), (110,110)"), nested).parts["hit"] == 0.5
    near = Pointing(every=True, weights={"near": 1.0})
    # 30 pixels right of the middle of the box, half the diagonal of the image is 70.7
    assert near.score(say("(700,500)"), {**PLACE, "boxes": [PLACE["box"]]}).total == pytest.approx(1 - 30 / 5000**0.5)


def test_what_pointing_asks_follows_its_option():
    assert "every cat" in load_task("pointing", every=True).prompt({"category": "cat"}, CoordinateSpace.PIXELS)
    assert (load_task("pointing").questions, load_task("pointing", every=True).questions) == ("refer", "present")
    with pytest.raises(DataError, match=r"2 boxes where one point is asked for; set task\.options\.every: true"):
        Pointing().score(say("(1,1)"), {"boxes": [[0, 0, 9, 9], [10, 0, 19, 9]], "image_size": [100, 100]})


@pytest.mark.parametrize(
    ("task", "truth", "message"),
    [
        (Counting, {"count": -1}, "truth.count: -1 is not a whole number from 0"),
        (Counting, {"count": 2, "boxes": []}, "truth.count: 2 differs from the 0 boxes"),
        (Pointing, {"image_size": [9, 9]}, "truth.box: is missing"),
        (Segmentation, {"image_size": [9, 9]}, "truth.segmentation: is missing"),
        (Segmentation, {"segmentation": [[1, 2]], "image_size": [9, 9]}, "truth: truth.segmentation cannot be read"),
        (Vqa, {}, "truth: holds no answer; write one of choice"),
        (Vqa, {"number": 1, "answer": "x"}, "truth: holds number and answer"),
        (Vqa, {"choice": "A", "choices": ["x"]}, "truth.choices: has 1 texts"),
        (Vqa, {"choice": "A", "choices": ["x", "X."]}, "two that read the same"),
        (Vqa, {"choice": "A", "choices": ["b", "c"]}, "the text 'b' of choice A is another's letter"),
        (Vqa, {"choice": "Z", "choices": ["x", "y"]}, "'Z' is neither the letter nor the text"),
        (Vqa, {"number": "3"}, "truth.number: '3' is not a finite number"),
        (Vqa, {"number": 3, "tolerance": -1}, "are not numbers from 0"),
        (Vqa, {"answer": "."}, "truth.answer: '.' is not a text"),
        (ManyClasses, {"boxes": [[0, 0, 9, 9]], "labels": [], "categories": [], "image_size": [9, 9]},
         "truth.labels: 0 names for 1 boxes"),
        (ManyClasses, {"boxes": [[0, 0, 9, 9]], "labels": ["a"], "categories": ["b"], "image_size": [9, 9]},
         "truth.labels: 'a' is not one of truth.categories"),
    ],
)  # fmt: skip
def test_a_broken_truth_is_named(task, truth, message):
    with pytest.raises(DataError) as raised:
        task().score(say("1"), truth)
    assert message in str(raised.value)


def test_a_question_is_completed_from_its_truth():
    sample = Sample("a", (HERE,), "vqa", {"question": "How long?"}, {"number": 3, "unit": "cm"})
    asked = Vqa().completed(sample)
    assert Vqa().prompt(asked.question, CoordinateSpace.PIXELS).endswith("the number in cm and nothing else.")
    sample = Sample("a", (HERE,), "vqa", {"question": "Which?", "choices": ["x", "y"]}, {"choice": "y"})
    assert Vqa().completed(sample).truth["choices"] == ["x", "y"]
    with pytest.raises(DataError, match="differs from the choices of the question"):
        Vqa().completed(Sample("a", (), "vqa", {"choices": ["x"]}, {"choice": "y", "choices": ["x", "y"]}))


def test_many_classes_are_measured_class_by_class():
    task = ManyClasses()
    truth = {"boxes": [[10, 10, 40, 40], [50, 50, 90, 90]], "labels": ["cat", "dog"],
             "categories": ["bird", "cat", "dog"], "image_size": [100, 100]}  # fmt: skip
    question = {"categories": truth["categories"], "category": "bird, cat, dog"}
    text = say("[{'Position': [100, 100, 400, 400], 'Label': 'cat', 'Confidence': 0.9}, "
               "{'Position': [500, 500, 900, 900], 'Label': 'cat', 'Confidence': 0.8}]")  # fmt: skip
    rows = predictions(task, [(question, truth, text)])
    coco, results = asked_data_set(rows)
    names = {row["id"]: row["name"] for row in coco["categories"]}
    assert sorted(names.values()) == ["bird", "cat", "dog"]
    assert [names[row["category_id"]] for row in coco["annotations"]] == ["cat", "dog"]
    assert [(names[row["category_id"]], row["score"]) for row in results] == [("cat", 0.9), ("cat", 0.8)]
    numbers = task.metrics(rows)
    assert numbers["AP50"] == pytest.approx(0.5)  # of the cat 1, of the dog 0, birds there are none
    assert numbers["n_boxes"] == 2


def test_an_image_is_asked_about_the_classes_that_are_known_there():
    boxes = ((0, 0, 9, 9), (5, 5, 20, 20))
    known = AnnotatedImage("a", HERE, (100, 100), ("cat", "dog"), boxes)
    unclear = AnnotatedImage("b", HERE, (100, 100), ("cat", "dog"), boxes, incomplete=("dog",))
    nothing = AnnotatedImage("c", HERE, (100, 100), (), (), negatives=())
    first, second = EveryClass([known, unclear, nothing], ("bird", "cat", "dog"))
    assert first.truth["labels"] == ["cat", "dog"]
    assert second.truth["categories"] == ["bird", "cat"]
    assert second.truth["labels"] == ["cat"]


class Fills:
    """A segmenter that fills the left half of its box, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def mask(self, picture, box, points, key):
        self.asked.append((points, key))
        mask = np.zeros((picture.height, picture.width), dtype=bool)
        x1, y1, x2, y2 = (round(v) for v in box)
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
        return mask


def test_the_mask_is_the_segmenters(tmp_path, monkeypatch):
    segmenter = Fills()
    monkeypatch.setattr(segmentation, "load_segmenter", lambda path: segmenter)
    file = tmp_path / "a.png"
    Image.new("RGB", (100, 100)).save(file)
    task = Segmentation(segmenter="a model")
    sample = task.completed(Sample("a", (ImageFile(file),), "segmentation", {"expression": "it"}, SQUARE))
    score = task.score(task.gold(sample.truth), sample.truth)
    assert score.parts["mask_iou"] == 0.5
    ((points, key),) = segmenter.asked
    assert (len(points), key) == (1, str(file))
    assert task.not_full(score) == {}, "what the segmenter cannot do is no fault of the answer"
    with pytest.raises(DataError, match=r"truth\.image: is missing"):
        task.score(task.gold(SQUARE), SQUARE)
    with pytest.raises(DataError, match=r"image_size: .* is not that of"):
        task.score(task.gold(SQUARE), {**SQUARE, "image_size": [200, 100], "image": str(file)})
    with pytest.raises(DataError, match="needs images that are files"):
        task.completed(Sample("a", (HERE,), "segmentation", {}, SQUARE))
    with pytest.raises(ConfigError, match="segmenter: 7 is not a folder"):
        Segmentation(segmenter=7)


def test_a_point_deep_inside_lies_on_the_mask_and_far_from_its_edge():
    ring = np.zeros((60, 60), dtype=bool)
    ring[5:55, 5:55] = True
    ring[20:40, 20:40] = False
    x, y = inner_point(ring)
    assert holds(ring, (x, y))
    assert ring[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].all(), "seven pixels of fifteen on every side"
    assert box_of_mask(ring) == (5, 5, 55, 55)
    assert mask_iou(ring, ring[:, ::-1]) == 1
    assert mask_iou(ring, ~ring) == 0


def test_numbers_of_answers_that_were_not_read():
    counted = predictions(Counting(), [({"category": "cat"}, {"count": n}, say(t)) for n, t in ((0, "many"), (3, "5"))])
    numbers = Counting().metrics(counted)
    assert (numbers["accuracy"], numbers["mean_error"]) == (0, 1), "what was not read counts as 0, and never as right"
    pointed = predictions(Pointing(), [({"expression": "it"}, PLACE, say(text)) for text in ("(400,500)", "?")])
    assert measure(Pointing(), [[p] for p in pointed]).numbers["hit_rate"] == 0.5
    masks = predictions(Segmentation(), [({}, SQUARE, say(text)) for text in ("(200,300),(600,700)", "No Objects")])
    assert Segmentation().metrics(masks)["mask_iou"] == 0.5
    said = predictions(Vqa(), [({}, {"number": 0}, say(text)) for text in ("0", "none")])
    assert Vqa().metrics(said)["accuracy"] == 0.5
