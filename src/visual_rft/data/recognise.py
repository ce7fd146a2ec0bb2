"""Which format is this? A folder or file looked at by its names, and by as little of its content as tells.

Decision: a format is told by what only it has (``data.yaml``, XML files, a JSON file with ``categories``, a folder per
class), in an order in which no earlier one is true by chance; whether it can be read is up to its reader. Nothing is
guessed from names of classes or from pixels. A folder that holds a single folder is what a zip archive leaves: then
that one is meant.

    found = recognise(Path("photos"))
    found.format, list(found.splits)      # 'yolo', ['train', 'val']
    found.splits["val"]                   # {'path': 'photos', 'split': 'val'}
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visual_rft.config.yaml_text import read_yaml
from visual_rft.data.formats.coco import annotations_file
from visual_rft.data.formats.foreign import recognised
from visual_rft.errors import DataError
from visual_rft.vision.drawing import is_drawn
from visual_rft.vision.images import SUFFIXES

SPLITS = ("train", "training", "trainval", "val", "valid", "validation", "dev", "test")
"""Names of parts of a data set, those to train on first and those to evaluate on in the order of preference."""
_SPLIT = re.compile(r"(?:^|[^a-z])(trainval|training|train|validation|valid|val|dev|test)(?:[^a-z]|$)")
_TASKS = {"imagefolder": "classification", "refcoco": "grounding", "lisa": "grounding"}
Places = dict[str, dict[str, str]]
"""Fields of a source (``path``, ``split``, ``annotations``) by the name of a split; ``all`` where there are none."""


@dataclass(frozen=True)
class Found:
    """What was recognised.

    Attributes:
        format: name of the format, as ``source`` of a config.
        task: the task that its labels are for.
        splits: the fields of a source for each split; one called ``all`` where there are none.
    """

    format: str
    task: str
    splits: Places

    @property
    def training(self) -> str:
        """The split to train on."""
        return next((name for name in SPLITS[:3] if name in self.splits), next(iter(self.splits)))

    @property
    def held_out(self) -> str | None:
        """The split to evaluate on; None where there is no other."""
        others = [name for name in self.splits if name != self.training]
        return next((name for name in SPLITS[3:] if name in others), others[0] if others else None)


def recognise(path: Path) -> Found:
    """The format of a data set, and where its parts are.

    Args:
        path: a folder, or a ``.json`` (COCO), ``.jsonl``, ``.parquet`` or ``data.yaml`` file.

    Raises:
        DataError: if it is not there, or nothing that is known; the message says what it holds.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.is_file() and path.suffix not in (".jsonl", ".parquet", ".json"):
        if path.name != "data.yaml":
            _refuse_foreign(path)
            raise DataError(f"{path}: is no data set; name a folder, or a .json (COCO), .jsonl or .parquet file")
        path = path.parent
    place = path
    while place.is_dir() and (only := _only_folder(place)) is not None and not _looks(place):
        place = only
    found = _looks(place) or _looks(path)
    if found is None:
        _refuse_foreign(path)
        kinds = Counter(file.suffix.lower() or file.name for file in path.rglob("*") if file.is_file())
        held = ", ".join(f"{count} x {suffix}" for suffix, count in kinds.most_common(4)) or "nothing"
        raise DataError(
            f"{path}: no format that is known; it holds {held}. Read are COCO and LVIS, YOLO, Pascal VOC, a folder per "
            "class, JSONL, RefCOCO, LISA and parquet; docs/data.md shows how each lies in its folder"
        )
    return found


def _refuse_foreign(path: Path) -> None:
    """Name another tool's data, and what converts them."""
    known = recognised(path)
    if known is not None:
        file, kind = known
        raise DataError(f"{file}: this is {kind.name}; {kind.remedy}")


def _looks(place: Path) -> Found | None:
    for name, find in _FINDERS.items():
        splits = find(place)
        if splits:
            ordered = sorted(splits, key=lambda split: (*SPLITS, split).index(split))
            return Found(name, _task(name, place, splits), {split: splits[split] for split in ordered})
    return None


def _only_folder(folder: Path) -> Path | None:
    inner = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else None


def _yolo(place: Path) -> Places:
    if (place / "data.yaml").is_file():
        try:
            content = read_yaml(place / "data.yaml", DataError)
        except DataError:
            content = None  # its reader says what is wrong
        named = [name for name in SPLITS if isinstance(content, Mapping) and content.get(name)]
        return {name: {"path": str(place), "split": name} for name in named or ["train"]}
    if (place / "classes.txt").is_file() and (place / "images").is_dir():
        return {"all": {"path": str(place)}}
    return {}


def _voc(place: Path) -> Places:
    folder = place / "Annotations" if (place / "Annotations").is_dir() else place
    if not any(folder.glob("*.xml")) if folder.is_dir() else True:
        return {}
    lists = {file.stem for file in (place / "ImageSets" / "Main").glob("*.txt")} & set(SPLITS)
    if "val" in lists and "train" in lists:
        lists.discard("trainval")
    return {name: {"path": str(place), "split": name} for name in lists} or {"all": {"path": str(place)}}


def _refcoco(place: Path) -> Places:
    if not ((place / "refs.json").is_file() and (place / "instances.json").is_file()):
        return {}
    rows = _json(place / "refs.json")
    known = [str(row.get("split")) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return {name: {"path": str(place), "split": name} for name in dict.fromkeys(known)} or {"all": {"path": str(place)}}


def _coco(place: Path) -> Places:
    if place.is_file():
        files = [place] if place.suffix == ".json" else []
    else:
        # Annotations in the folder itself, in annotations/, or in a folder per split, as exporters write them.
        folders = [place, *sorted(entry for entry in place.iterdir() if entry.is_dir())]
        files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
    found: Places = {}
    for file in files:
        content = None if file.name.startswith(("captions_", "person_keypoints_", "image_info")) else _json(file)
        if not (isinstance(content, Mapping) and isinstance(content.get("categories"), list)):
            continue
        if not (isinstance(content.get("images"), list) and content["images"]):
            continue
        images = _image_folder(content["images"][0], file, place)
        if images is None:
            continue
        usual = annotations_file(file.parent) == file and images in (file.parent, file.parent / "images")
        fields = {"path": str(file.parent)} if usual else {"path": str(images), "annotations": str(file)}
        name = next((split for text in (file.stem, file.parent.name) if (split := _split_in(text))), None)
        found.setdefault(name or ("all" if place.is_file() or len(files) == 1 else file.stem), fields)
    return {"all": next(iter(found.values()))} if len(found) == 1 else found


def _image_folder(row: Any, file: Path, place: Path) -> Path | None:
    """The folder of the images that an annotation file names, by its first image."""
    name = str(row.get("file_name", "")) if isinstance(row, Mapping) else ""
    top = place.parent if place.is_file() else place
    split = _split_in(file.stem)
    near = [file.parent, file.parent / "images", top, top / "images", file.parent.parent, file.parent.parent / "images"]
    below = sorted(entry for entry in top.rglob("*") if entry.is_dir() and len(entry.relative_to(top).parts) <= 2)
    # train2017 before val2017 for instances_train2017.json: the same name may be in both.
    below.sort(key=lambda folder: _split_in(folder.name) != split)
    return next((folder for folder in (*near, *below) if name and (folder / name).is_file()), None)


def _lisa(place: Path) -> Places:
    def pairs(folder: Path) -> bool:
        return any(file.with_suffix(suffix).is_file() for file in _first(folder.glob("*.json")) for suffix in SUFFIXES)

    if not place.is_dir():
        return {}
    splits = [entry.name for entry in sorted(place.iterdir()) if entry.is_dir() and pairs(entry)]
    if splits:
        return {name: {"path": str(place), "split": name} for name in splits}
    return {"all": {"path": str(place)}} if pairs(place) else {}


def _jsonl(place: Path) -> Places:
    files = [place] if place.suffix == ".jsonl" else sorted(place.glob("*.jsonl")) if place.is_dir() else []
    files = [file for file in files if file.name != "metadata.jsonl"]
    if len(files) == 1:
        return {"all": {"path": str(files[0])}}
    return {_split_in(file.stem) or file.stem: {"path": str(file)} for file in files}


def _parquet(place: Path) -> Places:
    if place.suffix == ".parquet":
        return {"all": {"path": str(place)}}
    if not place.is_dir():
        return {}
    if (place / "dataset_dict.json").is_file():
        content = _json(place / "dataset_dict.json")
        names = content.get("splits", []) if isinstance(content, Mapping) else []
        return {str(name): {"path": str(place), "split": str(name)} for name in names}
    if (place / "state.json").is_file():
        return {"all": {"path": str(place)}}
    files = sorted(place.rglob("*.parquet"))
    splits = {split for file in files if (split := _split_in(file.stem))}
    if len(splits) > 1 and all(file.parent == files[0].parent for file in files):
        # As datasets calls them, whatever the files are called.
        named = {"val": "validation", "valid": "validation", "dev": "validation"}
        return {name: {"path": str(place), "split": named.get(name, name)} for name in splits}
    return {"all": {"path": str(place)}} if files else {}


def _imagefolder(place: Path) -> Places:
    if not place.is_dir():
        return {}
    if any(_holds_classes(place / name) for name in SPLITS):
        return {name: {"path": str(place), "split": name} for name in SPLITS if _holds_classes(place / name)}
    return {"all": {"path": str(place)}} if _holds_classes(place) else {}


def _holds_classes(folder: Path) -> bool:
    """Whether a folder holds folders of images, or a list that names the label of each."""
    if (folder / "metadata.jsonl").is_file():
        return True
    inner = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    return any(any(file.suffix.lower() in SUFFIXES and not is_drawn(file) for file in each.iterdir()) for each in inner)


_FINDERS: Mapping[str, Callable[[Path], Places]] = {
    "yolo": _yolo,
    "voc": _voc,
    "refcoco": _refcoco,
    "coco": _coco,
    "lisa": _lisa,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "imagefolder": _imagefolder,
}


def _task(name: str, place: Path, splits: Places) -> str:
    """What the labels are for, where the format holds more than one kind: by its first row."""
    file = Path(next(iter(splits.values()))["path"])
    if name == "jsonl":
        return _task_of_row(_first_line(file))
    if name == "imagefolder":
        inner = [place, *(place / split for split in splits)]
        listed = next((folder for folder in inner if (folder / "metadata.jsonl").is_file()), None)
        return "detection" if listed and "objects" in _first_line(listed / "metadata.jsonl") else "classification"
    return _TASKS.get(name, "detection")


def _task_of_row(row: Mapping[str, Any]) -> str:
    truth = row.get("truth") if isinstance(row.get("truth"), Mapping) else row
    assert isinstance(truth, Mapping)
    objects = truth.get("objects")
    if "box" in truth or (
        objects and isinstance(objects, list) and all(isinstance(o, Mapping) and "expressions" in o for o in objects)
    ):
        return "grounding"
    return "classification" if "label" in truth and not objects and "boxes" not in truth else "detection"


def _split_in(text: str) -> str | None:
    found = _SPLIT.search(re.sub(r"\d+", "_", text.lower()))
    return found[1] if found else None


def _first(files: Iterator[Path]) -> list[Path]:
    return [file for file in (next(files, None),) if file is not None]


def _first_line(file: Path) -> Mapping[str, Any]:
    try:
        with file.open(encoding="utf-8-sig") as opened:
            row = json.loads(next((line for line in opened if line.strip()), "{}"))
    except (OSError, ValueError, RecursionError):
        row = {}  # its reader says what is wrong
    return row if isinstance(row, Mapping) else {}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # it is no annotation file, or its reader says what is wrong
