"""Moved copies of labelled pictures: the picture and its boxes move alike, and nothing labelled leaves the view."""

import re

import numpy as np
import pytest
from PIL import Image

from visual_rft.config.config import parse_config
from visual_rft.data.moved import MOST_SCALED, Move, Moved
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import task_of
from visual_rft.tasks.samples import Sample
from visual_rft.vision.images import RenderedImage

WIDTH, HEIGHT = 120, 80


def scene(*boxes):
    """White boxes on a grey picture."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (60, 60, 60))
    for x1, y1, x2, y2 in boxes:
        picture.paste((255, 255, 255), (x1, y1, x2, y2))
    return RenderedImage("scene", lambda: picture)


def asked(image, truth, task="grounding", name="a"):
    return Sample(name, (image,), task, {"expression": "the box"}, truth)


def seen_box(picture):
    """Where the picture is bright: half of the way from grey to white."""
    bright = np.asarray(picture)[..., 0] > (60 + 255) / 2
    ys, xs = np.nonzero(bright)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_a_move_by_hand():
    move = Move(scale=0.5, left=0.25, top=0.125)
    assert move.box([10, 20, 30, 40], (100, 80)) == [30, 20, 40, 30]
    picture = Image.new("RGB", (8, 8), (0, 0, 200))
    picture.paste((200, 0, 0), (0, 0, 4, 8))
    moved = np.asarray(move.picture(picture))
    assert moved.shape == (8, 8, 3)
    # the seam between the halves, at 4 of 8, is now at 2 + 4 / 2 = 4; the edges are drawn out to both sides
    assert (moved[:, :3] == (200, 0, 0)).all()
    assert (moved[:, 5:] == (0, 0, 200)).all()
    larger = np.asarray(Move(scale=2.0, left=-0.5, top=0.0).picture(picture))
    assert (larger[:, :3] == (200, 0, 0)).all()
    assert (larger[:, 5:] == (0, 0, 200)).all()


@pytest.mark.parametrize(
    ("box", "spread"),
    [((30, 20, 70, 50), 0.4), ((0, 0, 20, 20), 0.4), ((90, 70, 120, 80), 0.4), ((2, 2, 118, 78), 0.02)],
)
def test_the_box_lies_on_the_object_of_the_moved_picture(box, spread):
    truth = {"box": list(map(float, box)), "image_size": [WIDTH, HEIGHT]}
    copies = Moved([asked(scene(box), truth)], copies=40)
    scales = []
    for sample in copies[1:]:
        found, told = seen_box(sample.images[0].load()), sample.truth["box"]
        assert np.abs(np.subtract(found, told)).max() <= 1.0
        scales.append((told[2] - told[0]) / (box[2] - box[0]))
        assert (told[3] - told[1]) / (box[3] - box[1]) == pytest.approx(scales[-1])
    assert min(scales) >= 1 / MOST_SCALED - 1e-9
    assert max(scales) <= MOST_SCALED + 1e-9
    assert max(scales) - min(scales) > spread


def test_other_objects_stay_in_view():
    """Of two boxes in opposite corners one is asked for; the other, red, is as large in every copy, times the scale."""
    ours, other = (4, 4, 24, 24), (96, 56, 118, 78)
    picture = scene(ours).load()
    picture.paste((255, 0, 0), other)
    image = RenderedImage("two", lambda: picture)
    truth = {"box": list(ours), "image_size": [WIDTH, HEIGHT]}

    def shares(objects):
        found = []
        for sample in Moved([asked(image, truth)], 40, objects=objects)[1:]:
            pixels = np.asarray(sample.images[0].load()).astype(int)
            red = (pixels[..., 0] > 157) & (pixels[..., 1] < 80)
            x1, _, x2, _ = sample.truth["box"]
            found.append(red.sum() / (22 * (x2 - x1) / 20) ** 2)
        return np.array(found)

    assert np.abs(shares({"two": [ours, other]}) - 1).max() < 0.25
    assert shares({}).min() < 0.5  # the test sees a cut


def test_all_of_a_picture_without_boxes_stays_in_view():
    corners = [(0, 0, 8, 8), (112, 0, 120, 8), (0, 72, 8, 80), (112, 72, 120, 80)]
    sample = Sample("a", (scene(*corners),), "classification", {}, {"label": "rose"})
    for copy in Moved([sample], copies=20)[1:]:
        assert copy.truth == {"label": "rose"}
        pixels = np.asarray(copy.images[0].load())[..., 0]
        for half in (pixels[: HEIGHT // 2], pixels[HEIGHT // 2 :]):
            for quarter in (half[:, : WIDTH // 2], half[:, WIDTH // 2 :]):
                assert (quarter > 157).sum() >= 64 / MOST_SCALED**2 * 0.8


def test_a_margin_is_the_edge_drawn_out():
    plain = Image.new("RGB", (WIDTH, HEIGHT), (10, 200, 30))
    moved = Move(scale=0.8, left=0.2, top=0.0).picture(plain)
    assert moved.getcolors() == [(WIDTH * HEIGHT, (10, 200, 30))]


def test_a_source_with_copies():
    source = {"source": "shapes", "count": 3, "max_objects": 2, "seed": 4, "copies": 5}
    config = parse_config({"task": {"name": "grounding"}, "data": {"train": [source]}}, "here")
    samples = load_samples(config.data.train, task_of(config.task))
    again = load_samples(config.data.train, task_of(config.task))
    assert len(samples) == 18
    assert len({sample.id for sample in samples}) == 18
    assert len({sample.images[0].key for sample in samples}) == 18
    boxes = {image.image.key: image.boxes for image in load_dataset(config.data.train[0], "refer").images}
    for i, sample in enumerate(samples):
        original = samples[i - i % 6]
        assert sample.question == original.question
        assert sample.truth["thought"] == original.truth["thought"]
        assert sample.truth["box"] == again[i].truth["box"]
        assert (np.asarray(sample.images[0].load()) == np.asarray(again[i].images[0].load())).all()
        scale = (sample.truth["box"][2] - sample.truth["box"][0]) / (
            original.truth["box"][2] - original.truth["box"][0]
        )
        for other in boxes[original.images[0].key]:  # placed by the scale and the shift of the box asked for
            for k in range(4):
                at = sample.truth["box"][k % 2] + scale * (other[k] - original.truth["box"][k % 2])
                assert -1e-6 <= at <= sample.truth["image_size"][k % 2] + 1e-6


def test_the_same_draw_for_a_question_wherever_it_stands():
    truth = {"boxes": [[10.0, 10.0, 30.0, 30.0]], "image_size": [WIDTH, HEIGHT]}
    one, two = (asked(scene((10, 10, 30, 30)), truth, "detection", name) for name in ("a", "b"))
    assert Moved([one, two], 3)[6].truth == Moved([two], 3)[2].truth
    assert Moved([one], 1, seed=1)[1].truth != Moved([one], 1, seed=2)[1].truth


def test_masks_are_left_out_and_several_pictures_repeated():
    truth = {"box": [10.0, 10.0, 30.0, 30.0], "image_size": [WIDTH, HEIGHT], "segmentation": [[0, 0, 9, 9, 0, 9]]}
    image = scene((10, 10, 30, 30))
    first, copy = Moved([asked(image, truth)], 1)
    assert "segmentation" in first.truth
    assert "segmentation" not in copy.truth
    assert truth["box"] == [10.0, 10.0, 30.0, 30.0]
    pair = Sample("p", (image, image), "grounding", {}, truth)
    assert Moved([pair], 1)[1] == Sample("p~1", (image, image), "grounding", {}, truth)


def test_boxes_without_a_size_are_an_error():
    copies = Moved([asked(scene(), {"box": [1, 2, 3, 4]})], 1)
    with pytest.raises(DataError, match=re.escape("a: its truth has boxes and no 'image_size'")):
        copies[1]
