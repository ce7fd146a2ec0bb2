"""Few-shot and open-vocabulary sets: counted on random data by code of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from visual_rft.data.annotated import AnnotatedImage, Dataset, PresentClasses
from visual_rft.data.builders import check_unseen, few_shot, open_vocabulary, restrict
from visual_rft.data.duplicates import fingerprint, near_duplicates
from visual_rft.data.presets import PRESETS, preset
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError, DataError
from visual_rft.vision.images import ImageFile

CLASSES = ("a", "b", "c", "d", "e")


def image(name: str, *labels: str, **more) -> AnnotatedImage:
    boxes = tuple((float(i), 0.0, i + 5.0, 5.0) for i in range(len(labels)))
    return AnnotatedImage(name, ImageFile(Path(f"{name}.jpg")), (90, 90), labels, boxes, **more)


def random_data(seed: int, count: int = 200, most: int = 4) -> Dataset:
    rng = np.random.default_rng(seed)
    images = [
        image(str(i), *(str(label) for label in rng.choice(CLASSES, rng.integers(0, most + 1)))) for i in range(count)
    ]
    return Dataset(images, CLASSES)


def images_per_class(dataset: Dataset) -> Counter[str]:
    return Counter(label for i in dataset.images for label in set(i.labels))


@pytest.mark.parametrize("seed", range(5))
def test_a_class_is_in_exactly_k_images_and_smaller_sets_are_contained(seed):
    data = random_data(seed)
    wanted = ("a", "c", "e")
    before: set[str] = set()
    for shots in (1, 2, 4, 8, 16):
        small = few_shot(data, wanted, shots, seed)
        ids = [i.id for i in small.images]
        assert len(set(ids)) == len(ids)
        assert before <= set(ids)
        assert images_per_class(small) == dict.fromkeys(wanted, shots)
        assert small.classes == wanted
        before = set(ids)


def test_no_label_of_a_wanted_class_is_lost_and_none_of_another_is_kept():
    data = random_data(3)
    originals = {i.id: i for i in data.images}
    for chosen in few_shot(data, ("a", "b"), 8, 0).images:
        original = originals[chosen.id]
        kept = [(n, b) for n, b in zip(original.labels, original.boxes, strict=True) if n in ("a", "b")]
        assert list(zip(chosen.labels, chosen.boxes, strict=True)) == kept


def test_the_choice_depends_on_the_seed_and_nothing_else():
    data = random_data(0)

    def ids(*arguments):
        return [i.id for i in few_shot(data, *arguments).images]

    assert ids(("a", "b"), 4, 0) == ids(("b", "a"), 4, 0)
    assert ids(("a", "b"), 4, 0) != ids(("a", "b"), 4, 1)


def test_where_classes_always_come_together_a_class_is_in_more_images_never_in_fewer():
    data = Dataset([image("1", "a", "b"), image("2", "a", "b"), image("3", "a"), image("4", "a", "b")], ("a", "b"))
    assert images_per_class(few_shot(data, ("a", "b"), 1, 0)) == {"a": 1, "b": 1}
    assert images_per_class(few_shot(data, ("a", "b"), 3, 0)) == {"a": 3, "b": 3}
    with_c = Dataset([image("1", "a", "b"), image("2", "b", "c"), image("3", "c", "a")], ("a", "b", "c"))
    counts = images_per_class(few_shot(with_c, ("a", "b", "c"), 1, 0))
    assert sorted(counts.values()) == [1, 1, 2]


def test_too_few_images_are_named():
    data = random_data(0, count=12)
    with pytest.raises(DataError, match=r"class 'a' is in \d usable images, but 16 shots were asked for"):
        few_shot(data, ("a",), 16, 0)
    with pytest.raises(ConfigError, match=r"the data have no class 'A' \(it has a, b, c"):
        few_shot(data, ("A",), 1, 0)
    with pytest.raises(ConfigError, match="class 'a' is named twice"):
        few_shot(data, ("a", "a"), 1, 0)
    with pytest.raises(ConfigError, match="at least 1"):
        few_shot(data, ("a",), 0, 0)
    with pytest.raises(ConfigError, match="name at least one class"):
        few_shot(data, (), 1, 0)


def test_a_class_that_is_not_all_boxed_is_no_shot():
    box = (0.0, 0.0, 5.0, 5.0)
    images = [image("1", "a", incomplete=("a",)), image("2", "a", crowds=(("a", box),)), image("3", "a")]
    assert [i.id for i in few_shot(Dataset(images, ("a",)), ("a",), 1, 0).images] == ["3"]
    with pytest.raises(DataError, match="class 'a' is in 1 usable images"):
        few_shot(Dataset(images, ("a",)), ("a",), 2, 0)


@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_negatives_hold_no_wanted_class_and_are_asked_about_one(rate):
    data = random_data(1)
    wanted = ("a", "b")
    small = {shots: few_shot(data, wanted, shots, 0, negatives=rate) for shots in (2, 4)}
    for shots, chosen in small.items():
        positive = len(few_shot(data, wanted, shots, 0).images)
        empty = [i for i in chosen.images if not i.labels]
        assert len(empty) == round(rate * positive)
        originals = {i.id: i for i in data.images}
        assert all(not {*originals[i.id].labels} & {"a", "b"} for i in empty)
        questions = PresentClasses(chosen.images, chosen.classes)
        assert sum(not q.truth["boxes"] for q in questions) == len(empty)
        assert all(q.question["category"] in wanted for q in questions)
    assert {i.id for i in small[2].images} <= {i.id for i in small[4].images}
    with pytest.raises(DataError, match="images without any of the classes were asked for, but there are"):
        few_shot(data, wanted, 16, 0, negatives=100)


def test_an_image_nobody_searched_for_the_class_is_no_negative():
    images = [image("1", "a"), image("2", "c", negatives=("b",)), image("3", "c", negatives=("a",)), image("4")]
    chosen = few_shot(Dataset(images, ("a", "b", "c")), ("a",), 1, 0, negatives=2.0)
    assert [i.id for i in chosen.images if not i.labels] == ["4", "3"] or [
        i.id for i in chosen.images if not i.labels
    ] == ["3", "4"]
    with pytest.raises(DataError, match="3 images without any"):
        few_shot(Dataset(images, ("a", "b", "c")), ("a",), 1, 0, negatives=3.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_image_with_a_novel_object_is_trained_on(seed):
    data = random_data(seed, most=3)
    novel = ("d", "e")
    train, test = open_vocabulary(data, (), novel)
    assert (train.classes, test.classes) == (("a", "b", "c"), novel)
    expected_train = {i.id for i in data.images if set(i.labels) & {"a", "b", "c"} and not set(i.labels) & {"d", "e"}}
    expected_test = {i.id for i in data.images if set(i.labels) & {"d", "e"}}
    assert {i.id for i in train.images} == expected_train
    assert {i.id for i in test.images} == expected_test
    assert all(label in novel for i in test.images for label in i.labels)
    assert check_unseen(data, train.images, novel) == 0


def test_a_trace_of_a_novel_object_is_enough_to_leave_an_image_out():
    box = (0.0, 0.0, 5.0, 5.0)
    images = [
        image("plain", "a"),
        image("crowd", "a", crowds=(("d", box),)),
        image("unboxed", "a", incomplete=("d",)),
        image("novel", "a", "d"),
        image("unknown", "a", negatives=("e",)),  # nobody looked for d here
        AnnotatedImage("same picture", ImageFile(Path("novel.jpg")), (90, 90), ("a",), (box,)),
    ]
    data = Dataset(images, CLASSES)
    train, _ = open_vocabulary(data, ("a",), ("d",))
    assert [i.id for i in train.images] == ["plain", "unknown"]
    assert check_unseen(data, train.images, ("d",)) == 1
    for name in ("crowd", "unboxed", "novel"):
        with pytest.raises(DataError, match=f"image {name}: shows the novel class 'd' but is in the training set"):
            check_unseen(data, [i for i in images if i.id == name], ("d",))


def test_wrong_class_lists_of_an_open_vocabulary_are_named():
    data = random_data(0)
    with pytest.raises(ConfigError, match="class 'a' is base and novel"):
        open_vocabulary(data, ("a", "b"), ("a",))
    with pytest.raises(ConfigError, match="have no class 'zebra'"):
        open_vocabulary(data, ("a",), ("zebra",))
    both = Dataset([image("1", "a", "b")], ("a", "b"))
    with pytest.raises(DataError, match="no image has a base object and no novel one"):
        open_vocabulary(both, ("a",), ("b",))


def test_restricting_keeps_every_image_and_moves_expressions():
    whole = image("1", "b", "a", "a", expressions=(("the b", 0), ("second a", 2)), negatives=("c", "d"))
    (one,) = restrict(Dataset([whole], CLASSES), ("a", "d")).images
    assert one.labels == ("a", "a")
    assert one.expressions == (("second a", 1),)
    assert one.negatives == ("d",)


def test_presets_are_the_published_lists():
    counts = {name: len(p.classes) for name, p in PRESETS.items()}
    assert counts == {"coco-8": 8, "coco-65-15": 15, "lvis-6": 6, "lvis-13": 13}
    assert all(len(set(p.classes)) == len(p.classes) for p in PRESETS.values())
    assert "hair drier" in preset("coco-65-15").classes
    with pytest.raises(ConfigError, match="there is no preset 'coco'; choose from coco-8"):
        preset("coco")


def test_near_duplicates_of_photographs():
    """Crops of real photographs: every resized, recompressed, noisy copy is found, no two different crops are."""
    import io

    from PIL import Image
    from sklearn.datasets import load_sample_images

    def jpeg(picture):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=50)
        return Image.open(buffer).convert("RGB")

    def noisy(picture):
        pixels = np.asarray(picture, dtype=float) + np.random.default_rng(0).normal(
            0, 8, (picture.height, picture.width, 3)
        )
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    photos = [Image.fromarray(array) for array in load_sample_images().images]
    tiles = [
        photo.crop((x, y, x + 160, y + 140)) for photo in photos for x in range(0, 480, 160) for y in (0, 140, 280)
    ]
    assert len(tiles) == 18
    assert near_duplicates([fingerprint(tile) for tile in tiles]) == []
    copies = [tile.resize((80, 70)) for tile in tiles], [jpeg(t) for t in tiles], [noisy(t) for t in tiles]
    for changed in copies:
        found = near_duplicates([fingerprint(p) for p in (*tiles, *changed)])
        assert found == [(i, i + 18) for i in range(18)]


def test_near_duplicates_of_drawn_scenes():
    prints = [fingerprint(scene.image.load()) for scene in Shapes(60, seed=5)]
    assert near_duplicates(prints) == []
    assert near_duplicates([*prints, prints[7]]) == [(7, 60)]
    assert near_duplicates([]) == []
    seen = []
    assert near_duplicates([*prints, prints[7], prints[7]], seen.append) == [(7, 60), (7, 61)], "each with the first"
    assert sum(seen) == 62
