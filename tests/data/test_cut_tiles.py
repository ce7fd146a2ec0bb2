"""Tiles: where they lie, what is labelled in them, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from visual_rft.cli.main import main
from visual_rft.config.sources import SourceConfig
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.sources import load_dataset, load_samples
from visual_rft.data.tiled import size_for, tiled, tiles_of
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import load_task
from visual_rft.vision.images import ImageFile, RenderedImage
from visual_rft.vision.tiles import Tile, Tiling


@pytest.mark.parametrize("size", [(640, 480), (641, 480), (4000, 3000), (100, 2000), (64, 64), (1, 1)])
@pytest.mark.parametrize("tiling", [Tiling(64, 0.0), Tiling(640), Tiling(100, 0.5)])
def test_tiles_cover_the_picture_and_overlap_as_asked(size, tiling):
    windows = tiling.windows(*size)
    seen = np.zeros((size[1], size[0]), dtype=bool)
    for x1, y1, x2, y2 in windows:
        assert (x2 - x1, y2 - y1) == (min(tiling.size, size[0]), min(tiling.size, size[1]))
        assert x2 <= size[0]
        assert y2 <= size[1]
        seen[y1:y2, x1:x2] = True
    assert seen.all()
    starts = sorted({x for x, *_ in windows})
    assert all(a + tiling.size - b >= tiling.size * tiling.overlap - 1 for a, b in pairwise(starts))


@pytest.mark.parametrize(("size", "overlap", "message"), [(16, 0.2, "size of 16"), (64, 0.95, "overlap of 0.95")])
def test_tiles_out_of_range(size, overlap, message):
    with pytest.raises(ConfigError, match=message):
        Tiling(size, overlap)


def test_a_tile_is_a_part_of_the_picture():
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    image = RenderedImage("noise", lambda: Image.fromarray(pixels))
    tile = Tile(image, (30, 20, 94, 84))
    assert (np.asarray(tile.load()) == pixels[20:84, 30:94]).all()
    assert tile.size() == tile.load().size == (64, 64)
    assert tile.key != Tile(image, (31, 20, 95, 84)).key


def scene(*objects, **more) -> AnnotatedImage:
    labels, boxes = zip(*objects, strict=True) if objects else ((), ())
    picture = RenderedImage("scene", lambda: Image.new("RGB", (200, 100)))
    return AnnotatedImage("scene", picture, (200, 100), tuple(labels), tuple(boxes), **more)


def test_of_an_object_at_the_cut_the_part_that_is_seen_is_labelled():
    left, right = tiles_of(scene(("cat", (60, 10, 110, 60)), ("dog", (98, 70, 198, 90))), Tiling(100, 0.0))
    assert (left.labels, left.boxes) == (("cat",), ((60, 10, 100, 60),))
    assert left.incomplete == ("dog",), "a scrap of it is there: it is neither absent nor found"
    assert (right.labels, right.boxes) == (("dog",), ((0, 70, 98, 90),))
    assert right.incomplete == ("cat",)
    assert left.absent(["cat", "dog", "cow"]) == ["cow"]
    _, both = tiles_of(scene(("cat", (60, 10, 110, 60))), Tiling(100, 0.0), keep=0.1)
    assert both.boxes == ((0, 10, 10, 60),)


def test_crowds_and_what_is_known_to_be_absent_stay_true():
    wide = scene(
        ("cat", (10, 10, 20, 20)), crowds=(("ant", (150, 0, 199, 50)),), incomplete=("bee",), negatives=("cow",)
    )
    left, right = tiles_of(wide, Tiling(100, 0.0))
    assert (left.crowds, right.crowds) == ((), (("ant", (50, 0, 99, 50)),))
    assert left.incomplete == right.incomplete == ("bee",)
    assert left.negatives == ("cow",)


def test_a_small_picture_is_its_own_tile():
    small = scene(("cat", (10, 10, 20, 20)))
    assert tiles_of(small, Tiling(200)) == [small]


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(DataError, match="their own questions"):
        tiled(Dataset([], (), samples=[]), Tiling(64))
    with pytest.raises(DataError, match="image scene has a label and no box"):
        tiled(Dataset([AnnotatedImage("scene", scene().image, (200, 100), ("cat",), ())], ("cat",)), Tiling(64))
    with pytest.raises(DataError, match="the size of image scene is not known"):
        tiled(Dataset([AnnotatedImage("scene", scene().image, (0, 0), (), ())], ("cat",)), Tiling(64))
    source = SourceConfig(source="shapes", tiles={"size": 64})
    with pytest.raises(DataError, match="'tiles' cut pictures apart"):
        load_samples([source], load_task("grounding"))


def test_the_proposed_size_holds_no_more_than_fit():
    rows = [("cat", (x, y, x + 20, y + 20)) for x in range(0, 1600, 100) for y in range(0, 800, 100)]
    picture = RenderedImage("dense", lambda: Image.new("RGB", (1600, 800)))
    labels, boxes = zip(*rows, strict=True)
    dense = AnnotatedImage("dense", picture, (1600, 800), labels, boxes)
    size = size_for([dense], 9)
    assert size is not None
    assert max(len(part.labels) for part in tiles_of(dense, Tiling(size))) <= 9
    assert size_for([dense], 200) == 1600
    assert size_for([dense], 0) is None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (100, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "wide.png")
    content = {
        "images": [{"id": 1, "file_name": "wide.png", "width": 200, "height": 100}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 10, 50, 50]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [150, 10, 20, 20]},
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a" / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def test_a_source_asks_about_tiles(folder):
    source = SourceConfig(source="coco", path=str(folder / "a"), tiles={"size": 100, "overlap": 0.0, "keep": 0.1})
    samples = load_samples([source], load_task("detection"))
    assert [sample.truth["boxes"] for sample in samples] == [
        [[60, 10, 100, 60]],
        [[0, 10, 10, 60], [50, 10, 70, 30]],
    ]
    assert [sample.images[0].load().size for sample in samples] == [(100, 100)] * 2


def test_data_tile_writes_what_a_tiled_source_reads(folder, capsys):
    command = ["data", "tile", "--format", "coco", "--path", str(folder / "a"), "--size", "100", "--overlap", "0"]
    assert main([*command, "--out", str(folder / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    written = load_dataset(SourceConfig(source="coco", path=str(folder / "b")), "present")
    cut = load_dataset(
        SourceConfig(source="coco", path=str(folder / "a"), tiles={"size": 100, "overlap": 0}), "present"
    )
    assert [(image.labels, image.boxes, image.size) for image in written.images] == [
        (image.labels, image.boxes, image.size) for image in cut.images
    ]
    for image, part in zip(written.images, cut.images, strict=True):
        assert isinstance(image.image, ImageFile)
        assert image.image.path.stem.startswith("wide-")
        assert (np.asarray(image.image.load()) == np.asarray(part.image.load())).all()
    assert main([*command, "--keep", "2", "--out", str(folder / "c")]) == 2
