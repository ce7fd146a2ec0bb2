"""Procedural scenes and the questions about them: true boxes, expressions, imprecise labels, joined sources."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import AnnotatedImage, OneQuestionPerImage, PresentClasses
from visual_rft.data.imprecise import Imprecise
from visual_rft.data.procedural.digits import Digits, scans
from visual_rft.data.procedural.flowers import Flowers
from visual_rft.data.procedural.referring import OneReferencePerImage, expressions
from visual_rft.data.procedural.shapes import SIZES, Shapes
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import Detection, load_task
from visual_rft.tasks.truth import ClassificationTruth, DetectionTruth, GroundingTruth
from visual_rft.vision.boxes import iou
from visual_rft.vision.images import ImageFile


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda s: Shapes(60, seed=s), 6),
        (lambda s: Digits(60, "train", seed=s), 4),
        (lambda s: Flowers(60, seed=s), 1),
    ],
    ids=["shapes", "digits", "flowers"],
)
def test_scenes_are_deterministic_varied_and_labelled(make, most):
    first, again, other = make(1), make(1), make(2)
    for a, b in zip(first, again, strict=True):
        assert a.labels == b.labels
        assert a.boxes == b.boxes
        assert a.image.key == b.image.key
        assert a.image.load().tobytes() == b.image.load().tobytes()
        assert a.image.load().size == a.size
        assert len(a.labels) == len(a.boxes) >= 1
        for x1, y1, x2, y2 in a.boxes:
            assert 0 <= x1 < x2 <= a.size[0]
            assert 0 <= y1 < y2 <= a.size[1]
    assert {s.size for s in first} == set(SIZES)
    assert len({len(s.labels) for s in first}) >= min(4, most)
    assert max(len(s.labels) for s in first) <= most
    assert first[0].image.key != other[0].image.key
    assert first[0].image.load().tobytes() != other[0].image.load().tobytes()


def test_boxes_of_digits_are_where_the_ink_is():
    """Against the picture itself: remove the scene's digits and see which pixels were theirs."""
    checked = 0
    for scene in Digits(200, "test", seed=4):
        if len(scene.labels) != 1:
            continue
        pixels = np.asarray(scene.image.load().convert("L"), dtype=float)
        x1, y1, x2, y2 = map(int, scene.boxes[0])
        inside = pixels[y1:y2, x1:x2]
        paper = np.median(pixels)
        ink = np.abs(inside - paper) > 0.5 * np.abs(inside - paper).max()
        rows, columns = np.nonzero(ink)
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert iou(tight, (0, 0, x2 - x1, y2 - y1)) > 0.6
        checked += 1
    assert checked > 30


def test_flowers_have_every_kind_equally_often_and_boxes_around_their_petals():
    flowers = Flowers(48, seed=2)
    assert sorted(f.labels[0] for f in flowers) == sorted(2 * Flowers.classes)
    for flower in flowers:
        x1, y1, x2, y2 = flower.boxes[0]
        pixels = np.asarray(flower.image.load(), dtype=float)
        if "red" not in flower.labels[0]:
            continue
        colour = pixels[..., 0] - pixels[..., 1]  # red petals are redder than any meadow
        rows, columns = np.nonzero(colour > 60)
        assert abs(columns.min() - x1) < 4
        assert abs(columns.max() - x2) < 4
        assert abs(rows.min() - y1) < 4
        assert abs(rows.max() - y2) < 4


def test_a_flower_says_what_is_seen_and_its_look_alike():
    samples = load_samples([SourceConfig(source="flowers", count=24)], load_task("classification"))
    truth = {sample.truth["label"]: sample.truth for sample in samples}
    assert truth["red clematis"] == {
        "label": "red clematis", "thought": "4 pointed petals, red", "parents": ["clematis"], "look_alike": "red poppy",
    }  # fmt: skip
    assert "look_alike" not in truth["red poppy"]
    assert samples[0].question == {"subject": "flower"}


SCENE = AnnotatedImage(
    "scene", ImageFile(Path("scene.png")), (100, 100), ("red circle", "blue circle", "red square"),
    ((0, 0, 20, 20), (60, 0, 100, 40), (0, 70, 30, 100)),
)  # fmt: skip


def test_expressions_by_hand():
    found = dict(expressions(SCENE))
    assert found["the largest shape"] == found["the rightmost shape"] == found["the largest circle"] == 1
    assert found["the square"] == found["the bottommost shape"] == 2
    assert found["the smallest shape"] == found["the leftmost circle"] == 0
    assert found["the only shape that is not red"] == 1
    assert found["the only shape that is not a circle"] == 2
    assert found["the circle left of the blue circle"] == 0
    assert found["the square below the blue circle"] == 2
    assert found["the shape below the blue circle"] == 2
    # not said, because it means two objects, none, or is not clear to the eye
    unclear = "the circle right of the red square"  # the red circle's centre is 5 pixels left of the square's
    for text in ("the circle", "the red shape", "the leftmost shape", unclear):
        assert text not in found


@pytest.mark.parametrize("source", ["shapes", "digits"])
def test_scenes_hold_as_many_objects_as_asked_for(source):
    config = SourceConfig(source=source, count=60, min_objects=2, max_objects=3, questions="present")
    counts = [len(image.labels) for image in load_dataset(config, "present").images]
    assert set(counts) <= {1, 2, 3}
    assert sum(count >= 2 for count in counts) >= 57  # the others were too crowded


def test_every_expression_means_one_object():
    """Read back by an independent small interpreter of the words."""
    for scene in Shapes(150, seed=8, max_objects=4, min_objects=2):
        words = [label.split() for label in scene.labels]
        centre = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in scene.boxes]
        size = [(b[2] - b[0]) * (b[3] - b[1]) for b in scene.boxes]
        x, y = zip(*centre, strict=True)
        extremes = {"largest": (size, -1), "smallest": (size, 1), "leftmost": (x, 1), "rightmost": (x, -1),
                    "topmost": (y, 1), "bottommost": (y, -1)}  # fmt: skip
        sides = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
        for text, target in expressions(scene):
            tokens = text.removeprefix("the ").split()
            everything = range(len(words))
            side = next((s for s in sides if f" {s} the " in text), None)
            if text.startswith("the only"):
                fits = [i for i in everything if tokens[-1] not in words[i]]
            elif side:
                axis, sign = sides[side]
                (anchor,) = (i for i in everything if words[i] == tokens[-2:])
                fits = [i for i in everything if (tokens[0] in ("shape", words[i][1])) and i != anchor
                        and sign * (centre[i][axis] - centre[anchor][axis]) > 0]  # fmt: skip
            elif tokens[0] in extremes:
                group = [i for i in everything if tokens[1] in ("shape", words[i][1])]
                measure, sign = extremes[tokens[0]]
                first = min(sign * measure[i] for i in group)
                fits = [i for i in group if sign * measure[i] == first]
            else:
                fits = [i for i in everything if all(t in ("shape", *words[i]) for t in tokens)]
            assert fits == [target], (text, scene.labels)


def test_references_have_many_kinds_and_a_box():
    samples = OneReferencePerImage(Shapes(200, seed=3, max_objects=3, min_objects=2), seed=1)
    texts = [sample.question["expression"] for sample in samples]
    for word in ("largest", "leftmost", "left of", "above", "only shape that is not", "the red"):
        assert any(word in text for text in texts), word
    assert all(len(sample.truth["box"]) == 4 and sample.truth["thought"] for sample in samples)
    with pytest.raises(DataError, match="source 'digits' has no referring expressions"):
        load_samples([SourceConfig(source="digits")], load_task("grounding"))


def test_references_of_chosen_kinds_and_none_without_the_reasoning_that_came_with_them():
    def asked(**more):
        source = SourceConfig(source="shapes", count=100, max_objects=2, seed=3, **more)
        return load_samples([source], load_task("grounding"))

    texts = [sample.question["expression"] for sample in asked(expressions=("superlatives", "relations"))]
    assert all(re.search("most|largest|smallest|left of|right of|above|below", text) for text in texts)
    assert any("most" in text for text in texts)
    assert any("left of" in text for text in texts)
    samples, alone = asked(), asked(reasoning=False)
    assert all("thought" in sample.truth for sample in samples)
    assert not any("thought" in sample.truth for sample in alone)
    assert [sample.truth["box"] for sample in samples] == [sample.truth["box"] for sample in alone]
    one = Shapes(3, seed=3, max_objects=1)
    with pytest.raises(DataError, match="no expression among relations means exactly one"):
        OneReferencePerImage(one, kinds=("relations",))[0]


def test_no_scan_is_in_two_splits():
    seen = {split: {scan.tobytes() for scan in scans(split)[0]} for split in ("base", "train", "test")}
    assert sum(map(len, seen.values())) == 1797
    assert not seen["base"] & seen["train"]
    assert not seen["base"] & seen["test"]
    assert not seen["train"] & seen["test"]
    with pytest.raises(ConfigError, match="no split 'all'"):
        scans("all")


def test_PresentClasses():
    scenes = Shapes(50, seed=3)
    samples = PresentClasses(scenes, Shapes.classes)
    assert len(samples) == sum(len(set(s.labels)) for s in scenes)
    assert sum(len(s.truth["boxes"]) for s in samples) == sum(len(s.labels) for s in scenes)
    with_absent = PresentClasses(scenes, Shapes.classes, absent_rate=1.0)
    assert sum(not s.truth["boxes"] for s in with_absent) == 50


def test_one_question_per_image():
    samples = OneQuestionPerImage(Shapes(300, seed=3), Shapes.classes, absent_rate=0.2, seed=1)
    empty = sum(not s.truth["boxes"] for s in samples)
    assert 30 <= empty <= 90
    assert samples[5] == OneQuestionPerImage(Shapes(300, seed=3), Shapes.classes, 0.2, seed=1)[5]


def test_imprecise_labels_contain_the_true_ones_and_are_larger():
    exact = PresentClasses(Shapes(50, seed=3), Shapes.classes)
    for sample, loose in zip(exact, Imprecise(exact, 0.45, 0), strict=True):
        a, b = np.array(sample.truth["boxes"]), np.array(loose.truth["boxes"])
        assert (b[:, :2] <= a[:, :2]).all()
        assert (b[:, 2:] >= a[:, 2:]).all()
        assert ((b[:, 2:] - b[:, :2]) <= 1.45 * (a[:, 2:] - a[:, :2]) + 1e-9).all()
        assert all(0.05 <= c <= 0.95 for c in loose.truth["confidence"])


def test_imprecise_names_are_those_of_the_look_alike():
    exact = load_samples([SourceConfig(source="flowers", count=240)], load_task("classification"))
    taken = mistaken = 0
    for sample, loose in zip(exact, Imprecise(exact, 0, 0.7), strict=True):
        twin = sample.truth.get("look_alike")
        if twin is None:
            assert loose.truth == sample.truth
            continue
        assert loose.truth["label"] in (sample.truth["label"], twin)
        assert loose.truth["thought"] == sample.truth["thought"]
        taken += 1
        mistaken += loose.truth["label"] == twin
    assert taken == 120
    assert 0.55 < mistaken / taken < 0.85


def test_an_imprecise_reference_has_a_larger_box():
    exact = load_samples([SourceConfig(source="shapes", count=20)], load_task("grounding"))
    for sample, loose in zip(exact, Imprecise(exact, 0.5, 0.5), strict=True):
        (a, b, c, d), (e, f, g, h) = sample.truth["box"], loose.truth["box"]
        assert e <= a
        assert f <= b
        assert g >= c
        assert h >= d


def test_sources_are_joined():
    samples = load_samples(
        [
            SourceConfig(source="shapes", count=5, questions="one"),
            SourceConfig(source="digits", count=7, questions="one"),
        ],
        Detection(),
    )
    assert len(samples) == 12
    assert samples[4].question["category"] in Shapes.classes
    assert samples[5].question["category"].startswith("digit")
    with pytest.raises(IndexError):
        samples[12]


TRUTHS = {"detection": DetectionTruth, "classification": ClassificationTruth, "grounding": GroundingTruth}


@pytest.mark.parametrize(
    ("task", "source"),
    [("detection", "shapes"), ("detection", "digits"), ("classification", "flowers"), ("classification", "digits"),
     ("grounding", "shapes")],
)  # fmt: skip
def test_every_field_of_a_truth_is_declared(task, source):
    """With blurred labels and moved copies too; what is declared as required is there."""
    one = {"max_objects": 1} if (task, source) == ("classification", "digits") else {}
    config = SourceConfig(source=source, count=6, imprecision=0.3, copies=1, **one)
    for sample in load_samples([config], load_task(task)):
        assert TRUTHS[task].__required_keys__ <= set(sample.truth) <= set(TRUTHS[task].__annotations__)
