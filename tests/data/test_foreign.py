"""Data of other tools: recognised by their content, and refused by one line that names the format and converts it.

Each row is a file as the tool's own exporter writes it, cut down to one image and one object.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.pictures import coco_content, coco_folder, picture

from visual_rft.config.sources import SourceConfig
from visual_rft.data.formats.foreign import kind_of_file, recognised
from visual_rft.data.recognise import recognise
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.tasks import load_task

BOX = {"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}
REGION = {"shape_attributes": {"name": "rect", "x": 10, "y": 20}, "region_attributes": {"label": "cat"}}
VIA_ROW = {"filename": "a.jpg", "size": 99, "regions": [REGION], "file_attributes": {}}
RECTANGLE = {"x": 10, "y": 25, "width": 30, "height": 50, "rectanglelabels": ["cat"]}
RESULT = {"original_width": 100, "value": RECTANGLE, "type": "rectanglelabels"}
SEGMENT = {"id": 1, "category_id": 1, "area": 1200, "bbox": [10, 20, 30, 40], "iscrowd": 0}
EXTERIOR = {"exterior": [[10, 20], [40, 60]], "interior": []}

JSON = {
    "VIA project": {"_via_settings": {}, "_via_img_metadata": {"a.jpg99": VIA_ROW}, "_via_attributes": {}},
    "VIA JSON": {"a.jpg99": VIA_ROW},
    "LabelMe JSON": {
        "version": "5.4.1", "flags": {}, "imagePath": "a.jpg", "imageData": None,
        "shapes": [{"label": "cat", "points": [[10, 20], [40, 60]], "shape_type": "rectangle"}],
    },
    "Supervisely": {
        "description": "", "tags": [], "size": {"height": 80, "width": 100},
        "objects": [{"classTitle": "cat", "geometryType": "rectangle", "points": EXTERIOR}],
    },
    "Darwin (V7)": {
        "version": "2.0", "schema_ref": "https://", "item": {"name": "a.jpg", "path": "/", "slots": []},
        "annotations": [{"id": "1", "name": "cat", "bounding_box": {"h": 40, "w": 30, "x": 10, "y": 20}}],
    },
    "Label Studio JSON": [{"id": 1, "data": {"image": "/data/a.jpg"}, "annotations": [{"id": 1, "result": [RESULT]}]}],
    "Label Studio JSON-MIN": [{"image": "/data/a.jpg", "id": 1, "label": [RECTANGLE]}],
    "Pascal VOC in JSON": {"annotation": {"filename": "a.jpg", "object": {"name": "cat", "bndbox": BOX}}},
    "CreateML JSON": [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 25, "y": 40}}]}],
    "BDD100K": [{"name": "a.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}],
    "COCO panoptic": {
        "images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [SEGMENT]}],
    },
    "COCO results (predictions, no ground truth)": [
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9},
    ],
    "FiftyOne detections": {"classes": ["cat"], "labels": {"a": [{"label": 0, "bounding_box": [0.1, 0.2, 0.3, 0.4]}]}},
    "FiftyOne dataset": {"samples": [{"filepath": "data/a.jpg", "ground_truth": {"_cls": "Detections"}}]},
    "Datumaro": {"info": {}, "categories": {"label": {"labels": [{"name": "cat"}]}}, "items": [{"id": "a"}]},
    "Labelbox export": [{"data_row": {"id": "1", "external_id": "a.jpg"}, "projects": {}}],
    "SageMaker Ground Truth manifest": {"source-ref": "s3://a/a.jpg", "boxes": {"annotations": []}},
    "VoTT": {"name": "x", "tags": [{"name": "cat"}], "assets": {"1": {"asset": {"name": "a.jpg"}, "regions": []}}},
}  # fmt: skip
CVAT = '<annotations>\n<version>1.1</version><meta/><image id="0" name="a.jpg"><box label="cat"/></image></annotations>'
TEXT = {
    "VIA CSV": ("csv", "#filename,file_size,file_attributes,region_count,region_id\na.jpg,99,"),
    "Open Images CSV": ("csv", "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n0001,xclick,/m/01,1,"),
    "TensorFlow object detection CSV, as Roboflow writes it": (
        "csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,40,60\n",
    ),
    "RetinaNet CSV (path, x1, y1, x2, y2, class)": ("csv", "images/a.jpg,10,20,40,60,cat\nb.jpg,,,,,\n"),
    "KITTI": ("txt", "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"),
    "DOTA": ("txt", "imagesource:GoogleEarth\ngsd:0.146\n10.0 20.0 40.0 20.0 40.0 60.0 10.0 60.0 large-vehicle 0\n"),
    "MOT": ("txt", "1,1,10,20,30,40,1,1,0.9\n2,1,11,20,30,40,1,1,0.9\n"),
    "WIDER FACE": ("txt", "0--Parade/0_Parade_1.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n"),
    "CVAT for images": ("xml", f'<?xml version="1.0" encoding="utf-8"?>\n{CVAT}'),
    "CVAT for video": ("xml", '<annotations><version>1.1</version><track id="0" label="cat"/></annotations>'),
    "LabelMe XML": (
        "xml", "<annotation><filename>a.jpg</filename><object><name>cat</name><polygon><username>me</username>"
        "<pt><x>1</x><y>2</y></pt></polygon></object></annotation>",
    ),
    "Darknet YOLO (obj.data)": ("data", "classes = 1\ntrain = train.txt\nnames = obj.names\n"),
}  # fmt: skip


LIKE_OURS = ("CVAT for images", "CVAT for video", "LabelMe XML", "COCO panoptic")
"""XML as VOC's, and lists as COCO's: told apart when they are read."""


def samples(source: str, path: Path):
    return load_samples([SourceConfig(source=source, path=str(path))], load_task("detection"))


@pytest.mark.parametrize("name", [*JSON, *TEXT])
def test_data_of_another_tool_are_named_with_the_line_that_converts_them(tmp_path, name):
    """Whatever format the config says, and whatever the file is called."""
    ending, text = TEXT.get(name, ("json", ""))
    picture(100, 80).save(tmp_path / "a.jpg")
    for called in (f"export.{ending}", "labels"):
        file = tmp_path / called
        file.write_text(text or json.dumps(JSON[name]), encoding="utf-8")
        kind = kind_of_file(file)
        assert kind is not None
        assert kind.name == name
        for source in ("coco", "yolo", "refcoco"):
            with pytest.raises(DataError) as caught:
                samples(source, tmp_path)
            assert f"{file}: this is {name}, not {source}; {kind.remedy} (" in str(caught.value)
            assert "\n" not in str(caught.value)
        if kind.name not in LIKE_OURS:
            with pytest.raises(DataError) as caught:
                recognise(tmp_path)
            assert str(caught.value).startswith(f"{file}: this is {name}; {kind.remedy}")
        file.unlink()


def test_a_tfrecord_is_known_by_its_bytes(tmp_path):
    example = b"\n\x20\n\x1e\n\x0eimage/filename\x12\x0c\n\n\n\x05a.jpg"
    file = tmp_path / "train-00000-of-00001"
    file.write_bytes(len(example).to_bytes(8, "little") + b"abcd" + example + b"efgh")
    with pytest.raises(DataError, match="this is TFRecord, not coco; pip install fiftyone"):
        samples("coco", tmp_path)


def test_a_format_of_ours_under_another_name_is_said(tmp_path):
    folder = coco_folder(tmp_path / "coco")
    with pytest.raises(DataError, match=r"annotations\.json: this is COCO, not yolo; read it with source: coco"):
        samples("yolo", folder)
    voc = tmp_path / "voc"
    voc.mkdir()
    (voc / "a.xml").write_text("<annotation><object><name>cat</name><bndbox></bndbox></object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: this is Pascal VOC, not coco; read it with source: voc"):
        samples("coco", voc)


def test_a_bad_row_of_the_right_format_is_no_other_format(tmp_path):
    folder = coco_folder(tmp_path / "coco")
    content = coco_content()
    content["annotations"][0]["bbox"] = [1, 2, 0, 0]
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="has no area"):
        samples("coco", folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[[]]", "[1]", "null", "hello", '{"a": [1]}', "<a/>", "[" * 9000]
)
def test_what_is_not_known_is_not_guessed(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert recognised(tmp_path) is None
