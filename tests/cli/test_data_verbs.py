"""``visual-rft data`` as it is called from outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.pictures import coco_content, coco_folder, picture, tables_stay_here  # noqa: F401

from visual_rft.cli.main import main
from visual_rft.data.annotated import AnnotatedImage, Dataset
from visual_rft.data.card import dataset_card
from visual_rft.data.formats.coco import load_coco
from visual_rft.vision.images import RenderedImage

pytestmark = pytest.mark.usefixtures("tables_stay_here")


def data(capsys, *arguments: object) -> dict:
    assert main(["data", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments: object) -> str:
    assert main(["data", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("visual-rft: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture
def big(tmp_path):
    """Thirty images: a COCO file beside, and not in, the folder of images, as downloaded."""
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ("cat", "dog", "bird")
    content = {"images": [], "annotations": [], "categories": [{"id": 7 + i, "name": n} for i, n in enumerate(names)]}
    for i in range(30):
        picture(40, 30, i).save(photos / f"{i:012d}.jpg")
        content["images"].append({"id": 1000 + i, "file_name": f"{i:012d}.jpg", "width": 40, "height": 30})
        for kind in {i % 3, (i // 3) % 3} if i < 24 else set():
            row = {"id": len(content["annotations"]), "image_id": 1000 + i, "category_id": 7 + kind}
            content["annotations"].append({**row, "bbox": [2 + kind, 3, 20, 10], "iscrowd": 0, "area": 200})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path / "instances.json", photos


def few_shot(capsys, big, out: Path, *more: object) -> dict:
    annotations, photos = big
    return data(capsys, "few-shot", "--format", "coco", "--annotations", annotations, "--images", photos, "--out", out,
                *more)  # fmt: skip


def test_few_shot_contract(big, tmp_path, capsys):
    options = ("--classes", "cat,dog", "--seed", 3)
    files = {}
    for shots in (1, 2, 4):
        out = tmp_path / f"out{shots}"
        result = few_shot(capsys, big, out, *options, "--shots", shots)
        assert result["images_per_class"] == {"cat": shots, "dog": shots}
        content = json.loads((out / "annotations.json").read_text())
        assert {c["name"]: c["id"] for c in content["categories"]} == {"cat": 7, "dog": 8}
        rows = {row["id"]: row for row in content["images"]}
        for kind in (7, 8):
            assert len({a["image_id"] for a in content["annotations"] if a["category_id"] == kind}) == shots
        files[shots] = {row["file_name"] for row in rows.values()}
        assert files[shots] == {f.name for f in (out / "images").iterdir()}
        for row in rows.values():
            original = big[1] / row["file_name"]
            assert (out / "images" / row["file_name"]).read_bytes() == original.read_bytes()
            assert row["id"] == 1000 + int(original.stem)
    assert files[1] < files[2] < files[4]
    few_shot(capsys, big, tmp_path / "again", *options, "--shots", 4)
    for name in ("annotations.json", *(f"images/{f}" for f in files[4])):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out4" / name).read_bytes()


def test_few_shot_mistakes(big, tmp_path, capsys):
    annotations, photos = big
    start = ("few-shot", "--format", "coco", "--annotations", annotations, "--images", photos, "--out", tmp_path / "o")
    assert "have no class 'cta'; did you mean 'cat'?" in refused(capsys, *start, "--classes", "cta", "--shots", 1)
    assert "100 shots were asked for" in refused(capsys, *start, "--classes", "cat", "--shots", 100)
    assert "name the images per class with --shots" in refused(capsys, *start, "--classes", "cat")
    assert "have no class 'bus'" in refused(capsys, *start, "--preset", "coco-8", "--shots", 1)
    assert not (tmp_path / "o").exists()
    assert list(tmp_path.glob(".o*")) == []
    (tmp_path / "o").mkdir()
    assert "exists already" in refused(capsys, *start, "--classes", "cat", "--shots", 1)
    assert "no such file" in refused(capsys, "few-shot", "--format", "coco", "--annotations", tmp_path / "none.json",
                                     "--images", photos, "--shots", 1, "--out", tmp_path / "p")  # fmt: skip
    assert "a coco source needs 'path'" in refused(capsys, "few-shot", "--format", "coco", "--shots", 1, "--out",
                                                   tmp_path / "p")  # fmt: skip


def test_an_image_of_another_size_than_stated_is_found_when_it_is_chosen(big, tmp_path, capsys):
    for file in big[1].iterdir():
        picture(41, 30, 99).save(file)
    annotations, photos = big
    error = refused(capsys, "few-shot", "--format", "coco", "--annotations", annotations, "--images", photos, "--shots",
                    1, "--out", tmp_path / "o")  # fmt: skip
    assert "the data say 40 x 30, but" in error
    assert not (tmp_path / "o").exists()


def test_negatives_are_asked_about(big, tmp_path, capsys):
    result = few_shot(capsys, big, tmp_path / "o", "--shots", 2, "--negatives", 0.5)
    positives = result["images"] - 3
    assert positives == 6
    dataset = load_coco(tmp_path / "o")
    empty = [i for i in dataset.images if not i.labels]
    assert len(empty) == 3
    assert all(i.negatives == ("bird", "cat", "dog") for i in empty)


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "jsonl", "parquet", "imagefolder"])
def test_a_written_data_set_has_a_card_and_is_read_beside_it(big, tmp_path, capsys, form):
    annotations, photos = big
    read = ("--format", "coco", "--annotations", annotations, "--images", photos)
    if form == "imagefolder":
        for kind in ("rose", "tulip"):
            (tmp_path / "flowers" / kind).mkdir(parents=True)
            for i in range(5):
                picture(30, 20, i + 10 * len(kind)).save(tmp_path / "flowers" / kind / f"{i}.png")
        read = ("--format", "imagefolder", "--path", tmp_path / "flowers")
    out = tmp_path / "made"
    made = data(capsys, "convert", *read, "--to", form, "--out", out, "--licence", "cc-by-4.0")
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["pretty_name"], head["size_categories"]) == ("cc-by-4.0", "made", ["n<1K"])
    kinds = {"imagefolder": "image-classification", "parquet": "visual-question-answering"}
    assert head["task_categories"] == [kinds.get(form, "object-detection")]
    for name, images in made["images_per_class"].items():
        assert f"| {name} | {images} | " in card
    assert f"| {made['images']} | {made['objects']} | {len(made['images_per_class'])} |" in card
    assert f"converted from {read[1]}" in card

    # The config that the card shows reads what was written, from beside the folder.
    shown = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    (source,) = shown["data"]["train"]
    assert source == {"source": form, "path": "made"}
    again = data(capsys, "info", "--format", form, "--path", out)["parts"][str(out)]
    assert again["images"] == made["images"]


def test_the_python_of_a_card_loads_the_data(tmp_path, capsys, monkeypatch):
    for kind in ("rose", "tulip"):
        (tmp_path / "flowers" / kind).mkdir(parents=True)
        picture(30, 20, len(kind)).save(tmp_path / "flowers" / kind / "a.png")
    monkeypatch.chdir(tmp_path)
    for form in ("imagefolder", "parquet"):
        flags = ("--format", "imagefolder", "--path", "flowers", "--to", form, "--out", f"as-{form}")
        data(capsys, "convert", *flags)
        code = Path(f"as-{form}/README.md").read_text().split("```python\n")[1].split("```")[0]
        names: dict = {}
        exec(compile(code, "card", "exec"), names)  # as a reader of the card would
        assert len(names["data"]["train"]) == 2


def test_a_card_leaves_to_a_person_what_only_a_person_knows_and_shows_names_as_they_are(tmp_path):
    image = AnnotatedImage("a", RenderedImage("a", lambda: None), (9, 9), ("a|b", "<i>`"), ((0, 0, 1, 1),) * 2)
    parts = {"train": Dataset([image], ("<i>`", "a|b")), "novel": Dataset([], tuple(f"c{n}" for n in range(250)))}
    card = dataset_card("my 'set", "coco", parts, "split", {"broken": 3})
    assert yaml.safe_load(card.split("---")[1])["license"] == "other"
    assert card.count("TO DO") == 2
    assert "| a\\|b | 1 | 1 |" in card
    assert "\\<i\\>\\`" in card
    assert "And 50 more classes." in card
    assert "Left out: broken 3." in card
    shown = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert [row["path"] for row in shown["data"]["train"]] == ["my 'set/train", "my 'set/novel"]


def test_few_shot_of_classes_without_boxes_is_an_imagefolder(tmp_path, capsys):
    for kind in ("rose", "tulip"):
        (tmp_path / "flowers" / kind).mkdir(parents=True)
        for i in range(5):
            picture(30, 20, i).save(tmp_path / "flowers" / kind / f"{i}.png")
    start = ("few-shot", "--format", "imagefolder", "--path", tmp_path / "flowers")
    result = data(capsys, *start, "--shots", 2, "--out", tmp_path / "o")
    assert (result["format"], result["images_per_class"]) == ("imagefolder", {"rose": 2, "tulip": 2})
    assert len(list((tmp_path / "o").glob("*/*.png"))) == 4


def test_open_vocabulary(big, tmp_path, capsys):
    annotations, photos = big
    start = ("open-vocabulary", "--format", "coco", "--annotations", annotations, "--images", photos)
    result = data(capsys, *start, "--novel", "bird", "--out", tmp_path / "o")
    assert result["train"]["images_per_class"].keys() == {"cat", "dog"}
    assert result["novel"]["images_per_class"].keys() == {"bird"}
    assert result["training_images_not_verified"] == 0
    full = json.loads(annotations.read_text())
    birds = {a["image_id"] for a in full["annotations"] if a["category_id"] == 9}
    written = {i: json.loads((tmp_path / "o" / i / "annotations.json").read_text()) for i in ("train", "novel")}
    assert not birds & {row["id"] for row in written["train"]["images"]}
    assert birds == {row["id"] for row in written["novel"]["images"]}
    result = data(capsys, *start, "--novel", "bird", "--shots", 2, "--out", tmp_path / "p")
    assert result["train"]["images_per_class"] == {"cat": 2, "dog": 2}
    assert "name the classes that training must not see" in refused(capsys, *start, "--out", tmp_path / "q")


def test_the_published_open_vocabulary_split(tmp_path, capsys):
    """Eighty classes of which the preset's fifteen are novel: sixty-five are left."""
    from visual_rft.data.presets import preset

    novel = preset("coco-65-15").classes
    names = [*novel, *(f"base {i}" for i in range(65))]
    picture(40, 30).save(tmp_path / "a.jpg")
    content = {
        "images": [{"id": i, "file_name": "a.jpg" if i < 80 else "b.jpg"} for i in range(160)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
        "annotations": [{"id": i, "image_id": i + 80 * (i >= 15), "category_id": i, "bbox": [1, 1, 9, 9]}
                        for i in range(80)],
    }  # fmt: skip
    picture(40, 30, 1).save(tmp_path / "b.jpg")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    start = ("open-vocabulary", "--format", "coco", "--images", tmp_path, "--preset", "coco-65-15", "--out")
    result = data(capsys, *start, tmp_path / "o")
    assert len(result["train"]["images_per_class"]) == 65
    assert result["novel"]["images_per_class"] == dict.fromkeys(sorted(novel), 1)
    content["categories"].append({"id": 99, "name": "one more"})
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert "has 65 base classes, but the data have 66" in refused(capsys, *start, tmp_path / "p")


def test_convert_keeps_some_classes_or_drops_what_cannot_be_said(tmp_path, capsys):
    folder = coco_folder(tmp_path / "data")
    whole = coco_content()
    whole["annotations"][0]["iscrowd"] = 1
    (folder / "annotations.json").write_text(json.dumps(whole))
    start = ("convert", "--format", "coco", "--path", folder)
    result = data(capsys, *start, "--to", "coco", "--classes", "stop sign", "--out", tmp_path / "a")
    assert (result["images"], result["images_per_class"]) == (3, {"stop sign": 1})
    assert "--drop-unclear" in refused(capsys, *start, "--to", "yolo", "--out", tmp_path / "b")
    result = data(capsys, *start, "--to", "yolo", "--drop-unclear", "--out", tmp_path / "b")
    assert (result["images"], result["left_out"]) == (2, {"image not fully boxed": 1})
    result = data(capsys, *start, "--to", "parquet", "--out", tmp_path / "c")
    again = ("convert", "--format", "parquet", "--path", tmp_path / "c" / "data.parquet", "--to", "coco")
    result = data(capsys, *again, "--out", tmp_path / "d")
    assert result["images_per_class"] == {"cat": 1, "dog": 1, "stop sign": 1}


def test_procedural_scenes_become_files(tmp_path, capsys):
    result = data(capsys, "convert", "--format", "shapes", "--count", 4, "--to", "voc", "--out", tmp_path / "o")
    assert result["images"] == 4
    assert len(list((tmp_path / "o" / "JPEGImages").glob("*.png"))) == 4


def test_skip_broken_counts(tmp_path, capsys):
    folder = coco_folder(tmp_path / "data")
    whole = coco_content()
    whole["annotations"][0]["bbox"] = [1, 2, 0, 4]
    (folder / "annotations.json").write_text(json.dumps(whole))
    start = ("convert", "--format", "coco", "--path", folder, "--to", "jsonl", "--out", tmp_path / "o")
    assert "has no area" in refused(capsys, *start)
    assert data(capsys, *start, "--skip-broken")["left_out"] == {"box without area": 1}


def test_info_counts_images_objects_and_sizes(tmp_path, capsys):
    folder = coco_folder(tmp_path / "data")
    sheet = tmp_path / "sheet.png"
    result = data(capsys, "info", "--format", "coco", "--path", folder, "--sheet", sheet)
    (part,) = result["parts"].values()
    assert part["images"] == 3
    assert part["images_without_objects"] == 1
    assert part["classes"] == {
        "cat": {"images": 2, "objects": 2}, "dog": {"images": 1, "objects": 1}, "stop sign": {"images": 1, "objects": 1}
    }  # fmt: skip
    assert part["width"] == [61, 100, 120]
    assert part["height"] == [33, 47, 80]
    assert part["box_side"] == [4.1, 36.3, 89.4]  # sqrt of 16.6, 1200, 1440 and 8000: the median is (34.6 + 37.9) / 2
    assert result["near_duplicates"] == {"across": 0, "within": 0, "pairs": []}
    with Image.open(sheet) as picture:
        assert picture.size == (1600, 400)


def test_info_finds_a_test_image_among_the_training_images(tmp_path, capsys):
    train, test = coco_folder(tmp_path / "train"), coco_folder(tmp_path / "test")
    for i, name in enumerate(("0001.jpg", "0003.jpg")):
        with Image.open(test / "images" / name) as image:
            picture(*image.size, seed=50 + i).save(test / "images" / name)
    with Image.open(test / "images" / "0002.jpg") as image:
        image.convert("RGB").save(test / "images" / "0002.jpg", quality=40)
    result = data(capsys, "info", "--format", "coco", "--path", train, test)
    assert result["near_duplicates"] == {"across": 1, "within": 0, "pairs": [[f"{train}/2", f"{test}/2"]]}
    config = tmp_path / "run.yaml"
    sections = {
        "train": [{"source": "coco", "path": str(train)}],
        "evaluation": [{"source": "coco", "path": str(test)}],
    }
    config.write_text(json.dumps({"data": sections}))
    assert data(capsys, "info", config)["near_duplicates"]["pairs"] == [["train/2", "evaluation/2"]]


def test_info_counts_what_is_broken_and_goes_on(tmp_path, capsys):
    folder = coco_folder(tmp_path / "data")
    whole = coco_content()
    for annotation in whole["annotations"][:2]:
        annotation["bbox"] = [1, 2, 0, 4]
    (folder / "annotations.json").write_text(json.dumps(whole))
    (folder / "images" / "0002.jpg").unlink()
    (part,) = data(capsys, "info", "--format", "coco", "--path", folder)["parts"].values()
    assert part["left_out"] == {
        "box without area": 2, "missing image": 1, "annotation of an image that is not there": 2
    }  # fmt: skip
    assert any("annotation 100: bbox [1, 2, 0, 4] has no area" in text for text in part["left_out_examples"])


def test_info_of_parts(tmp_path, capsys):
    coco_folder(tmp_path / "data")
    data(capsys, "convert", "--format", "coco", "--path", tmp_path / "data", "--to", "yolo", "--out", tmp_path / "y")
    for part in ("images", "labels"):
        shutil.copytree(tmp_path / "y" / part / "train", tmp_path / "y" / part / "val")
    with (tmp_path / "y" / "data.yaml").open("a") as file:
        file.write("val: images/val\n")
    result = data(capsys, "info", "--format", "yolo", "--path", tmp_path / "y", "--split", "train", "val")
    assert len(result["parts"]) == 2
    assert result["near_duplicates"]["across"] == 3
    assert "one value each, or 3" in refused(
        capsys, "info", "--format", "yolo", "--path", "a", "b", "--split", "x", "y", "z"
    )


def test_info_mistakes(tmp_path, capsys):
    assert "a CONFIG.yaml, or --format and --path" in refused(capsys, "info")
    assert "not both" in refused(capsys, "info", "a.yaml", "--format", "coco")
    assert "cannot be read" in refused(capsys, "info", tmp_path / "none.yaml")
    folder = coco_folder(tmp_path / "data")
    assert "cannot write the contact sheet" in refused(capsys, "info", "--format", "coco", "--path", folder, "--sheet",
                                                       tmp_path / "none" / "s.png")  # fmt: skip


@pytest.mark.parametrize("verb", ["few-shot", "open-vocabulary", "convert", "info"])
def test_help_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", verb, "--help"])
    assert caught.value.code == 0
    assert f"example: visual-rft data {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fewshot"], ["few-shot"], ["few-shot", "--format", "cocoo", "--out", "x"],
                                       ["info", "--formt", "coco"]])  # fmt: skip
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", *arguments])
    assert caught.value.code == 2
    assert "usage: visual-rft" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("few-shot", ["--shots", "1", "--classes", ""], "--classes: '' names nothing"),
        ("convert", ["--to", "coco", "--classes", ","], "--classes: ',' names nothing"),
        ("open-vocabulary", ["--novel", " "], "--novel: ' ' names nothing"),
        ("open-vocabulary", ["--novel", "ring", "--base", ""], "--base: '' names nothing"),
        ("open-vocabulary", ["--novel", "ring", "--shots", "0"], "shots 0 must be at least 1"),
        ("few-shot", ["--preset", "coco-8", "--shots", "0"], "must be at least 1"),
        ("few-shot", ["--shots", "1", "--negatives", "nan"], "negatives nan"),
    ],
)
def test_an_empty_flag_does_not_mean_all(verb, flags, message, tmp_path, capsys):
    """As an unset variable of the shell gives it."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 40} for n in (1, 2)]
    for row in images:
        Image.new("RGB", (40, 40)).save(tmp_path / row["file_name"])
    boxes = [{"id": n, "image_id": n, "category_id": n, "bbox": [1, 1, 9, 9]} for n in (1, 2)]
    rows = {"images": images, "annotations": boxes,
            "categories": [{"id": 1, "name": "coin"}, {"id": 2, "name": "ring"}]}  # fmt: skip
    (tmp_path / "gt.json").write_text(json.dumps(rows))
    source = ["--format", "coco", "--annotations", str(tmp_path / "gt.json"), "--images", str(tmp_path)]
    assert main(["data", verb, *source, *flags, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", ["0", "-3"])
def test_a_check_of_nothing_is_none(count, capsys):
    assert main(["check", "none.yaml", "--samples", count]) == 2
    assert f"--samples: {count} is not at least 1, and nothing would be checked" in capsys.readouterr().err
