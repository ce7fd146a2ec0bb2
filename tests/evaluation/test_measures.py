"""What answers are worth in classification and grounding, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support.tiny_models.segmenters import sam, sam2, save_segmenter

from visual_rft.answering.predict import evaluation_line
from visual_rft.errors import DataError, ModelError, RunFolderError
from visual_rft.evaluation.folders import claim
from visual_rft.evaluation.mask_areas import mask_areas
from visual_rft.evaluation.measures import NO_ANSWER, OTHER_NAME, measure, measure_grounding
from visual_rft.evaluation.tables import confusion_picture
from visual_rft.tasks import Classification, Grounding
from visual_rft.tasks.mixture import Mixture
from visual_rft.tasks.samples import Prediction, Sample
from visual_rft.vision.images import RenderedImage
from visual_rft.vision.masks import true_mask
from visual_rft.vision.segmenter import Segmenter

LABELS = ("red fox", "fox", "grey wolf")


def named(number: int, label: str, text: str, synonyms=()) -> list[Prediction]:
    image = RenderedImage(f"{number}", lambda: None)
    truth = {"label": label, "synonyms": list(synonyms)}
    sample = Sample(f"{number}", (image,), "classification", {"subject": "animal"}, truth)
    return [Prediction(sample, text, Classification().score(text, truth))]


def tagged(text: str) -> str:
    return f"<think>grey wolf or fox</think><answer>{text}</answer>"


# true label, completion, strict, lenient
CLASSIFIED = [
    pytest.param("red fox", tagged("Red Fox."), 1, 1, id="right"),
    pytest.param("red fox", tagged("a red fox, I think"), 0, 1, id="right in a sentence"),
    pytest.param("red fox", tagged("Vulpes vulpes"), 1, 1, id="synonym"),
    pytest.param("red fox", tagged("the vulpes vulpes species"), 0, 1, id="synonym in a sentence"),
    pytest.param("red fox", "<think>grey wolf</think> red fox", 0, 1, id="no answer tag"),
    pytest.param("red fox", "red fox", 0, 1, id="no tags"),
    pytest.param("red fox", tagged("red fox or grey wolf"), 0, 0, id="two names"),
    pytest.param("red fox", tagged("red fox, fox, grey wolf"), 0, 0, id="every class"),
    pytest.param("fox", tagged("red fox"), 0, 0, id="a longer name that holds the right one"),
    pytest.param("red fox", tagged("fox"), 0, 0, id="part of the name"),
    pytest.param("red fox", tagged("o"), 0, 0, id="one letter"),
    pytest.param("red fox", tagged(""), 0, 0, id="empty"),
    pytest.param("red fox", "<think>red fox</think><answer>grey wolf</answer>", 0, 0, id="right in the thought only"),
    pytest.param("red fox", tagged("redfoxes"), 0, 0, id="no whole word"),
]


@pytest.mark.parametrize(("label", "text", "strict", "lenient"), CLASSIFIED)
def test_strict_and_lenient(label, text, strict, lenient):
    others = [named(n, name, tagged("x")) for n, name in enumerate(LABELS)]
    synonyms = ["vulpes vulpes"] if label == "red fox" else []
    measured = measure(Classification(), [*others, named(9, label, text, synonyms)])
    weights = np.array([0.0, 0.0, 0.0, 1.0])
    result = measured.statistic(weights)
    assert (result["top1_strict"], result["top1_lenient"]) == (strict, lenient)


def test_classification_by_hand():
    rows = [
        named(0, "fox", tagged("fox")),
        named(1, "fox", tagged("grey wolf")),
        named(2, "fox", tagged("a fox of course")),
        named(3, "grey wolf", tagged("grey wolf")),
        named(4, "grey wolf", "nothing"),
        named(5, "red fox", tagged("horse")),
    ]
    measured = measure(Classification(), rows)
    assert measured.numbers["top1_strict"] == measured.numbers["accuracy"] == pytest.approx(2 / 6)
    assert measured.numbers["top1_lenient"] == pytest.approx(3 / 6)
    assert measured.numbers["mean_class_accuracy"] == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert measured.per_class == {
        "fox": {"strict": pytest.approx(1 / 3), "lenient": pytest.approx(2 / 3), "n": 3},
        "grey wolf": {"strict": 0.5, "lenient": 0.5, "n": 2},
        "red fox": {"strict": 0, "lenient": 0, "n": 1},
    }
    assert measured.confusion == {
        "fox": {"fox": 1, "grey wolf": 1, OTHER_NAME: 1},
        "grey wolf": {"grey wolf": 1, NO_ANSWER: 1},
        "red fox": {OTHER_NAME: 1},
    }
    weights = np.array([0.0, 0, 0, 2, 0, 1])
    assert measured.statistic(weights) == {
        "top1_strict": pytest.approx(2 / 3),
        "top1_lenient": pytest.approx(2 / 3),
        "mean_class_accuracy": 0.5,
    }


def test_confusion_picture_shows_the_counts():
    confusion = {"cat": {"cat": 3, "dog": 1}, "dog": {"dog": 2, "(no answer)": 2}}
    picture = np.asarray(confusion_picture(confusion, "title"))
    green, red = (picture[..., 1] > picture[..., 0] + 60).sum(), (picture[..., 0] > picture[..., 1] + 60).sum()
    assert green > 2000, "two classes are often right"
    assert red > 500, "and sometimes wrong"
    many = {f"class {n}": {f"class {n}": 1} for n in range(300)}
    assert max(confusion_picture(many, "t").size) < 2000


def pointed(number: int, truth: list[float], answer: str, **extra) -> list[Prediction]:
    image = RenderedImage(f"{number}", lambda: Image.new("RGB", (100, 100)))
    known = {"box": truth, "image_size": [100, 100], **extra}
    sample = Sample(f"{number}", (image,), "grounding", {"expression": "it"}, known)
    return [Prediction(sample, answer, Grounding().score(answer, known))]


def at(x1: int, y1: int, x2: int, y2: int) -> str:
    return f"<think>x</think><answer>({x1},{y1}),({x2},{y2})</answer>"


GROUNDED = [
    pointed(0, [0, 0, 10, 10], at(0, 0, 100, 100)),  # IoU 1: 100 of 100
    pointed(1, [0, 0, 40, 40], at(0, 0, 400, 240)),  # IoU 0.6: 960 of 1600
    pointed(2, [0, 0, 20, 20], at(100, 0, 300, 200)),  # IoU 1/3: 200 of 600
    pointed(3, [0, 0, 30, 30], "no idea"),  # 0 of 900
]


def test_grounding_by_hand():
    measured = measure(Grounding(), GROUNDED)
    expected = {"mean_iou": (1 + 0.6 + 1 / 3) / 4, "acc50": 0.5, "acc75": 0.25, "giou": (1 + 0.6 + 1 / 3) / 4,
                "ciou": (100 + 960 + 200) / (100 + 1600 + 600 + 900)}  # fmt: skip
    assert {name: measured.numbers[name] for name in expected} == pytest.approx(expected)
    assert measured.main == tuple(expected)
    assert measured.statistic(np.array([0, 3.0, 0, 1]))["ciou"] == pytest.approx(3 * 960 / (3 * 1600 + 900))


class Fills:
    """A segmenter that fills the left half of its box."""

    def mask(self, picture: Image.Image, box) -> np.ndarray:
        x1, y1, x2, y2 = (round(v) for v in box)
        mask = np.zeros((picture.height, picture.width), dtype=bool)
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
        return mask


SQUARE = [[0, 0, 20, 0, 20, 20, 0, 20]]


def test_masks_by_hand():
    rows = [
        pointed(0, [0, 0, 20, 20], at(0, 0, 200, 200), segmentation=SQUARE),  # 200 of 400
        pointed(1, [0, 0, 20, 20], "no idea", segmentation=SQUARE),  # 0 of 400
        pointed(2, [0, 0, 20, 20], at(0, 0, 400, 400), segmentation=SQUARE),  # left half is 20 x 40: 400 of 800
    ]
    areas = [mask_areas(Fills(), row[0]) for row in rows]
    assert areas == [(200, 400), (0, 400), (400, 800)]
    measured = measure_grounding(Grounding(), rows, areas)
    assert measured.numbers["mask_giou"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert measured.numbers["mask_ciou"] == pytest.approx(600 / 1600)
    assert measured.main[-2:] == ("mask_giou", "mask_ciou")


def test_truth_masks_are_polygons_or_rle():
    wanted = np.zeros((100, 60), dtype=bool)
    wanted[:20, :20] = True
    assert (true_mask(SQUARE, (60, 100), "a") == wanted).all()
    counts = [0, *[20, 80] * 19, 20, 100 * 60 - 19 * 100 - 20]  # column by column: 20 rows in, 80 out
    assert (true_mask({"size": [100, 60], "counts": counts}, (60, 100), "a") == wanted).all()


@pytest.mark.parametrize("broken", [None, [], "x", [[1, 2]], {"size": [5, 5], "counts": [0, 25]}, [[900, 900] * 4]])
def test_a_truth_that_is_no_mask_is_named(broken):
    with pytest.raises(DataError, match=r"sample 'a': truth\.segmentation cannot be read as a mask"):
        true_mask(broken, (60, 100), "sample 'a'")


@pytest.mark.parametrize("family", [sam, sam2])
def test_a_tiny_random_sam_gives_a_mask_per_box(family, tmp_path):
    save_segmenter(tmp_path, family)
    segmenter = Segmenter.load(str(tmp_path))
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (50, 90, 3), dtype=np.uint8))
    first, second = segmenter.mask(picture, (10, 10, 40, 30)), segmenter.mask(picture, (50, 5, 89, 49))
    assert first.shape == second.shape == (50, 90)
    assert first.dtype == bool
    assert (first != second).any(), "the mask depends on the box"
    pointed = [segmenter.mask(picture, (10, 10, 40, 30), [(15, 15), (30, 20)], key) for key in (None, "a", "a")]
    assert (pointed[0] != first).any(), "the mask depends on the points"
    assert (pointed[0] == pointed[1]).all()
    assert (pointed[1] == pointed[2]).all(), "kept embeddings are those of the picture"
    made = []
    segmenter.model.get_image_embeddings = lambda _: made.append(1)
    segmenter.mask(picture, (10, 10, 40, 30), key="a")
    assert not made, "a picture with a key is embedded once"


def test_a_missing_segmenter_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="segmenter: cannot load"):
        Segmenter.load(str(tmp_path))


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"a": 1, "constrained": True}, {"a": 1}, "another 'constrained'"),
        ({"a": 1, "tiles": {"size": 640}}, {"a": 1}, "another 'tiles'"),
        ({"a": 1}, {"a": 1, "constrained": True}, "another 'constrained'"),
        ([], {"a": 1}, "settings.json: not what an evaluation writes"),
    ],
)
def test_an_evaluation_of_other_settings_is_never_continued(before, now, message, tmp_path):
    """What only the one before names would otherwise be answered as it was then."""
    (tmp_path / "settings.json").write_text(json.dumps(before))
    with pytest.raises(RunFolderError, match=message):
        claim(tmp_path, now)
    if isinstance(before, dict):
        claim(tmp_path, before)


class Bare(Classification):
    """A task of one's own that gives its headline and no more."""

    measured_as = "own"
    headline = ("accuracy",)

    def metrics(self, predictions):
        return {"accuracy": 0.5}


def test_a_task_of_ones_own_need_not_count_its_questions():
    task = Bare()
    sample = Sample("a", (RenderedImage("a", lambda: None),), "mine", {"subject": "x"}, {"label": "cat"})
    text = "<answer>cat</answer>"
    answered = [Prediction(sample, text, task.score(text, sample.truth))]
    numbers = measure(task, [answered]).numbers
    assert numbers == {"accuracy": 0.5, "format_rate": 0.0, "parse_rate": 1.0, "n_images": 1, "n_questions": 1,
                       "failures": {}}  # fmt: skip
    assert evaluation_line(task, numbers) == "accuracy 0.500 format 0% parsed 100% (1 images, 1 questions)"
    assert Mixture({"mine": task}).metrics(answered)["mine/accuracy"] == 0.5
