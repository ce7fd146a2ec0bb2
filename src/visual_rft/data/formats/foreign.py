"""Data sets of other tools, recognised by what their files hold: what they are, and the line that converts them.

Decision: a format that is read costs a reader and its faults for ever, so what a well-kept library or the tool's own
exporter converts is not read but named. Nothing is recognised by a file's name alone, and nothing while a format of
ours reads the data: this is asked after a reader has failed, to say more than that a list is missing.

>>> kind_of_json({"_via_img_metadata": {}, "_via_settings": {}}).name
'VIA project'
>>> kind_of_json({"images": [], "annotations": [], "categories": []}).remedy
"read it with source: coco, and 'annotations' naming the file"
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from visual_rft.data.formats.finding import files_under
from visual_rft.vision.images import is_image

MOST_FILES = 40
"""Files looked at; a data set's first few say what it is."""
MOST_BYTES = 50_000_000
"""Longer JSON is not read again only to say what it is; of other files the first :data:`HEAD_BYTES` are looked at."""
HEAD_BYTES = 4096
FIFTYONE = "pip install fiftyone; fiftyone convert --input-dir DIR --input-type fiftyone.types.{} --output-dir OUT " \
           "--output-type fiftyone.types.COCODetectionDataset"  # fmt: skip
DATUMARO = "pip install datumaro; datum convert -i DIR -if {} -f coco -o OUT -- --save-media"
ROBOFLOW = "in Roboflow: import it, export as COCO"
LABEL_STUDIO = "in Label Studio: Export, COCO (or YOLO with Images)"
VIA = "in VIA: Annotation, Export Annotations (COCO format)"


class Kind(NamedTuple):
    """What a file is, by the name its tool gives it, and how it becomes something that is read."""

    name: str
    remedy: str


def _ours(source: str, how: str = "") -> str:
    return f"read it with source: {source}{how}"


def _keys(value: Any, *names: str) -> bool:
    return isinstance(value, Mapping) and all(name in value for name in names)


def _first(value: Any) -> Any:
    """The first item of a list, or the first value of an object."""
    items: Iterable[Any] = value if isinstance(value, list) else value.values() if isinstance(value, Mapping) else ()
    return next(iter(items), None)


_JSON: tuple[tuple[Callable[[Any], bool], Kind], ...] = (
    (lambda c: _keys(c, "images", "annotations", "categories") and _keys(_first(c["annotations"]), "segments_info"),
     Kind("COCO panoptic", "take the instances_*.json that comes with it, or pip install panopticapi; python -m "
          "panopticapi.converters.panoptic2detection_coco_format --input_json_file FILE --output_json_file OUT.json")),
    (lambda c: _keys(c, "images", "annotations", "categories"),
     Kind("COCO", _ours("coco", ", and 'annotations' naming the file"))),
    (lambda c: _keys(_first(c), "image_id", "category_id", "score"),
     Kind("COCO results (predictions, no ground truth)", "score it with visual-rft evaluate detection")),
    (lambda c: _keys(c, "_via_img_metadata"),
     Kind("VIA project", VIA)),
    (lambda c: isinstance(c, dict) and _keys(_first(c), "filename", "regions", "size"),
     Kind("VIA JSON", VIA)),
    (lambda c: _keys(c, "shapes", "imagePath"),
     Kind("LabelMe JSON", "pip install labelme2coco; labelme2coco DIR")),
    (lambda c: isinstance(c, dict) and isinstance(c.get("objects"), list) and _keys(_first(c["objects"]), "classTitle"),
     Kind("Supervisely", "in Supervisely: export with the app 'Export to COCO'")),
    (lambda c: _keys(c, "item", "annotations") or (_keys(c, "annotations") and _keys(c["image"], "workview_url")),
     Kind("Darwin (V7)", "pip install darwin-py; darwin convert coco DIR OUT")),
    (lambda c: isinstance(c, list) and _keys(_first(c), "data") and ("annotations" in c[0] or "completions" in c[0]),
     Kind("Label Studio JSON", LABEL_STUDIO)),
    (lambda c: isinstance(c, list) and isinstance(_first(c), dict)
     and any(isinstance(v, list) and _keys(_first(v), "rectanglelabels") for v in c[0].values()),
     Kind("Label Studio JSON-MIN", LABEL_STUDIO)),
    (lambda c: isinstance(c, list) and _keys(_first(c), "image", "annotations")
     and _keys(_first(c[0]["annotations"]), "label", "coordinates"),
     Kind("CreateML JSON", ROBOFLOW)),
    (lambda c: isinstance(c, list) and _keys(_first(c), "name", "labels") and _keys(_first(c[0]["labels"]), "category"),
     Kind("BDD100K", FIFTYONE.format("BDDDataset"))),
    (lambda c: _keys(c, "annotation") and _keys(c["annotation"], "filename"),
     Kind("Pascal VOC in JSON", "pip install xmltodict; python -c \"import json, pathlib as p, xmltodict; "
          "[f.with_suffix('.xml').write_text(xmltodict.unparse(json.loads(f.read_text()))) "
          "for f in p.Path('DIR').glob('*.json')]\"; then source: voc")),
    (lambda c: _keys(c, "categories", "items", "info") and _keys(c["categories"], "label"),
     Kind("Datumaro", DATUMARO.format("datumaro"))),
    (lambda c: _keys(c, "classes", "labels") and isinstance(c["labels"], dict) and isinstance(c["classes"], list),
     Kind("FiftyOne detections", FIFTYONE.format("FiftyOneImageDetectionDataset"))),
    (lambda c: _keys(c, "samples") and _keys(_first(c["samples"]), "filepath"),
     Kind("FiftyOne dataset", FIFTYONE.format("FiftyOneDataset"))),
    (lambda c: _keys(c if isinstance(c, dict) else _first(c), "data_row"),
     Kind("Labelbox export", "pip install fiftyone labelbox; fiftyone.utils.labelbox.import_from_labelbox, then "
          "dataset.export(dataset_type=fiftyone.types.COCODetectionDataset)")),
    (lambda c: _keys(c, "source-ref"),
     Kind("SageMaker Ground Truth manifest", ROBOFLOW)),
    (lambda c: _keys(c, "assets") and _keys(c, "tags"),
     Kind("VoTT", DATUMARO.format("vott_json"))),
    (lambda c: _keys(c, "image", "objects") or _keys(c, "question", "truth"),
     Kind("our JSONL", _ours("jsonl"))),
)  # fmt: skip

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_TEXT: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"#?filename,file_size,file_attributes,region_count"),
     Kind("VIA CSV", VIA)),
    (re.compile(r"ImageID,Source,LabelName,Confidence,XMin"),
     Kind("Open Images CSV", FIFTYONE.format("OpenImagesV7Dataset"))),
    (re.compile(r"filename,width,height,class,xmin,ymin,xmax,ymax"),
     Kind("TensorFlow object detection CSV, as Roboflow writes it", ROBOFLOW)),
    (re.compile(r"[^\n,]+\.\w+,\d*,\d*,\d*,\d*,[^\n,]*\n"),
     Kind("RetinaNet CSV (path, x1, y1, x2, y2, class)", ROBOFLOW)),
    (re.compile(rf"[A-Za-z]\w*(?: {_NUMBER}){{14,15}}\s*\n?"), Kind("KITTI", FIFTYONE.format("KITTIDetectionDataset"))),
    (re.compile(rf"(?:imagesource:.*\n)?(?:gsd:.*\n)?(?:{_NUMBER} ){{8}}[\w-]+ [012]\s*\n?"),
     Kind("DOTA", "pip install ultralytics; python -c \"from ultralytics.data.converter import "
          "convert_dota_to_yolo_obb as c; c('DIR')\"; then source: yolo")),
    (re.compile(rf"(?:{_NUMBER},){{6,9}}{_NUMBER}\s*\n"), Kind("MOT", DATUMARO.format("mot_seq"))),
    (re.compile(r"[^\n]+\.jpg\n\d+\n(?:\d+ ){9}\d+"), Kind("WIDER FACE", DATUMARO.format("wider_face"))),
    (re.compile(r"[\s\S]*<annotations>[\s\S]*<track\b"),
     Kind("CVAT for video", "in CVAT: Export, COCO 1.0; without it: " + FIFTYONE.format("CVATVideoDataset"))),
    (re.compile(r"[\s\S]*<annotations>"),
     Kind("CVAT for images", "in CVAT: Export, COCO 1.0; without it: " + FIFTYONE.format("CVATImageDataset"))),
    (re.compile(r"[\s\S]*<annotation\b[\s\S]*<polygon>\s*<(?:pt|username)>"),
     Kind("LabelMe XML", DATUMARO.format("label_me"))),
    (re.compile(r"[\s\S]*<annotation\b[\s\S]*<bndbox>"), Kind("Pascal VOC", _ours("voc"))),
    (re.compile(r"(?:classes\s*=.*\n|train\s*=.*\n|valid\s*=.*\n|names\s*=.*\n){2,}"),
     Kind("Darknet YOLO (obj.data)", "write data.yaml with 'train: images' and 'names: [...]', as Ultralytics has it; "
          "then source: yolo")),
)  # fmt: skip
_TFRECORD = Kind("TFRecord", FIFTYONE.format("TFObjectDetectionDataset"))


def kind_of_json(content: Any) -> Kind | None:
    """What JSON of another tool is, None if it is not known."""
    for fits, kind in _JSON:
        try:
            if fits(content):
                return kind
        except (TypeError, KeyError, IndexError, AttributeError):
            continue  # of another shape than this kind has
    return None


def kind_of_file(file: Path) -> Kind | None:
    """What a file of another tool is, by its content; None if it is not known or cannot be read."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
            if _is_tfrecord(head):
                return _TFRECORD
            text = head.decode("utf-8-sig", "replace")
            if text.lstrip()[:1] in ("{", "[") and file.stat().st_size <= MOST_BYTES:
                return _kind_of_json_text((head + opened.read()).decode("utf-8-sig", "replace"))
    except OSError:
        return None
    return next((kind for pattern, kind in _TEXT if pattern.match(text)), None)


def _kind_of_json_text(text: str) -> Kind | None:
    try:
        return kind_of_json(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        return kind_of_json(json.loads(text.partition("\n")[0]))  # an object per line
    except (ValueError, RecursionError):
        return None


def _is_tfrecord(head: bytes) -> bool:
    """A length of 8 bytes, its checksum, and a tf.Example, which begins with its field 1."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 16 and 8 < length < 1 << 32 and head[12:13] == b"\n" and b"image/" in head


def recognised(path: Path, annotations: Path | None = None) -> tuple[Path, Kind] | None:
    """The first file of a data set that is another tool's, and what it is; None if nothing is known of it.

    Args:
        path: file or folder of the data set.
        annotations: the file that is named as its annotations.
    """
    if annotations is not None or path.is_file():
        files: list[Path] = [annotations or path]
    else:
        texts = (file for file in files_under(path) if not is_image(file))
        files = list(islice(texts, MOST_FILES))
    for file in files:
        kind = kind_of_file(file)
        if kind is not None:
            return file, kind
    return None
