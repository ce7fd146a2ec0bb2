import numpy as np
import pytest

from visual_rft.data.annotated import questions_of_present_classes
from visual_rft.data.procedural import digits, shapes
from visual_rft.errors import ConfigError
from visual_rft.tasks import Detection, load_task
from visual_rft.vision.coordinates import CoordinateSpace, Frame

TRUTH = {"boxes": [[0, 0, 50, 50], [50, 50, 100, 100]], "image_size": [100, 100]}


def answer(*boxes):
    items = ", ".join(f"{{'Position': {list(b[:4])}, 'Confidence': {b[4]}}}" for b in boxes)
    return f"<think>x</think><answer>[{items}]</answer>"


A, B, WRONG = (0, 0, 500, 500), (500, 500, 1000, 1000), (600, 0, 900, 300)


@pytest.mark.parametrize(
    ("text", "iou", "confidence", "total"),
    [
        pytest.param(answer((*A, 1), (*B, 1)), 1.0, 1.0, 3.0, id="both"),
        pytest.param(answer((*A, 1), (*B, 0.5)), 1.0, 0.75, 2.75, id="both, unsure of one"),
        pytest.param(answer((*A, 1)), 1.0, 1.0, 3.0, id="one of two: the method's formula pays it in full"),
        pytest.param(answer((*A, 0.8), (*WRONG, 0.4)), 0.5, (0.8 + 0.6) / 2, 0.5 + 0.7 + 1, id="one right, one wrong"),
        pytest.param(answer((0, 0, 500, 400, 0.5)), 0.8, 0.5, 2.3, id="loose"),
        pytest.param(answer((0, 0, 500, 200, 0.5)), 0.0, 0.5, 1.5, id="below the threshold"),
        pytest.param(answer((*A, 1), (*A, 1)), 0.5, 0.5, 2.0, id="the same box twice"),
        pytest.param("<think>x</think><answer>No Objects</answer>", 0.0, 0.0, 1.0, id="nothing"),
        pytest.param("nothing", 0.0, 0.0, 0.0, id="no format"),
    ],
)
def test_rewards_by_hand(text, iou, confidence, total):
    score = Detection().score(text, TRUTH)
    assert score.parts["iou"] == pytest.approx(iou)
    assert score.parts["confidence"] == pytest.approx(confidence)
    assert score.total == pytest.approx(total)


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("<think>x</think><answer>No Objects</answer>", 3.0),
        (answer((*A, 1)), 1.0),
        (answer((*A, 0.25)), 1.75),
        ("No Objects", 0.0),
    ],
)
def test_nothing_to_find(text, total):
    assert Detection().score(text, {"boxes": [], "image_size": [100, 100]}).total == pytest.approx(total)


def test_answer_is_in_pixels_of_the_original_image():
    score = Detection().score(answer((100, 200, 300, 400, 0.5)), {"boxes": [], "image_size": [200, 50]})
    np.testing.assert_allclose(score.answer["boxes"], [[20, 10, 60, 20]])


def test_weights():
    task = Detection(weights={"iou": 2.0})
    assert task.score(answer((*A, 1), (*B, 1)), TRUTH).total == 2.0
    with pytest.raises(ConfigError, match="unknown reward 'iuo'"):
        Detection(weights={"iuo": 1.0})


@pytest.mark.parametrize("think", [True, False])
@pytest.mark.parametrize(
    "images", [shapes.Shapes(40, seed=5), digits.Digits(40, "train", seed=5)], ids=["shapes", "digits"]
)
@pytest.mark.parametrize("space", list(CoordinateSpace))
def test_the_gold_answer_scores_full_marks(images, space, think):
    task = Detection(think=think)
    for sample in questions_of_present_classes(images, images.classes, absent_rate=0.5):
        # Twice the picture's size: coarse pixels of a tiny picture cannot hold IoU 0.9.
        width, height = sample.truth["image_size"]
        frame = Frame.of(space, (width, height), (width * 2, height * 2))
        score = task.score(task.gold(sample.truth, frame), sample.truth, frame)
        assert score.failure is None
        assert score.parts["confidence"] == score.parts["format"] == 1
        assert score.parts["iou"] > 0.9


def test_prompt_names_category_and_units():
    task = Detection()
    question = {"category": "red circle"}
    assert "red circle" in task.prompt(question, CoordinateSpace.RELATIVE_1000)
    assert "1000" in task.prompt(question, CoordinateSpace.RELATIVE_1000)
    assert "pixels" in task.prompt(question, CoordinateSpace.PROCESSED_PIXELS)
    assert "<think>" not in Detection(think=False).prompt(question, CoordinateSpace.PIXELS)


def test_unknown_task_has_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'detection'"):
        load_task("detectoin")
