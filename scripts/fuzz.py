"""Mutated completions through every reward, and mutated files through every reader and parser.

Decision: two promises are tried at scale. A completion, whatever the model wrote, earns rewards in [0, 1] and never
raises; a file, whatever is in it, is read or refused by an error of ours. The completions are mutations of gold and
wrong answers, a million in minutes. The files are fed to one function by atheris, which keeps what reaches new code;
without atheris by the same blind mutations. Time and memory are bounded, and the slowest completion and file are said.

    make fuzz
    python scripts/fuzz.py --completions 10000 --seconds 20
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

RESULT = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "fuzz.json"
MAX_SECONDS = 1.0
"""CPU seconds that one completion or file may take; a usual completion takes a tenth of a millisecond."""
MAX_MEMORY = 4 * 2**30
"""Bytes of address space; a small file must not claim more."""
PIECES = (
    "<think>", "</think>", "<answer>", "</answer>", "[", "]", "{", "}", "'", '"', ",", ":", "```json", "```", "1e999",
    "-0", "0x" + "f" * 3000, "9" * 5000, "NaN", "null", "None", "True", "\x00", "\x1b[2J", "\ud800", "\u202e",
    "\uff11\uff12", "\u201c", "<|box_start|>", "(100,200)", "bbox_2d", "Position", "Confidence", "No Objects",
    "[" * 3000, "{'a':" * 800, "\n" * 100, "é" * 200,
)  # fmt: skip


def mutated(text: str, others: list[str], choose: random.Random) -> str:
    """A text after one to six changes."""
    for _ in range(choose.randint(1, 6)):
        start = choose.randint(0, len(text))
        end = min(len(text), start + choose.choice((0, 1, 3, 20, 200)))
        kind = choose.randrange(6)
        if kind == 0:
            text = text[:start] + choose.choice(PIECES) + text[end:]
        elif kind == 1:
            text = text[:start] + text[end:]
        elif kind == 2:
            text = text[:start] + text[start:end] * choose.choice((2, 3, 50)) + text[end:]
        elif kind == 3:
            other = choose.choice(others)
            text = text[:start] + other[choose.randint(0, len(other)) :]
        elif kind == 4:
            text = (
                text[:start] + "".join(chr(choose.randrange(0x250)) for _ in range(choose.randint(1, 8))) + text[end:]
            )
        else:
            text = text[:start] + text[start:end][::-1] + text[end:]
    return text[:20_000]


def completions(count: int, choose: random.Random) -> dict[str, Any]:
    """Score so many mutated completions; raises at the first that breaks the promise."""
    from visual_rft.tasks import TASKS, load_task
    from visual_rft.tasks.base import TEXT_REWARDS

    truths = {
        "detection": {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "image_size": [100, 100], "category": "cat"},
        "classification": {"label": "red poppy"},
        "grounding": {"box": [10, 10, 50, 50], "image_size": [100, 100]},
        "many_classes": {"boxes": [[10, 10, 50, 50]], "labels": ["cat"], "categories": ["cat", "dog"],
                         "image_size": [100, 100]},
        "counting": {"boxes": [[10, 10, 50, 50], [60, 60, 90, 90]], "image_size": [100, 100]},
        "pointing": {"box": [10, 10, 50, 50], "image_size": [100, 100]},
        "segmentation": {"segmentation": [[10, 10, 50, 10, 50, 50]], "image_size": [100, 100]},
        "vqa": {"choice": "B", "choices": ["a cup", "a plate"]},
    }  # fmt: skip
    slowest, text_of_it = 0.0, ""
    tasks = []
    for name, task in TASKS.items():
        every = load_task(name, weights=dict.fromkeys([*task.rewards, *TEXT_REWARDS], 1.0))
        tasks.append((every, truths[name], [every.gold(truths[name]), *every.wrong(truths[name]).values()]))
    others = [text for _, _, seeds in tasks for text in seeds]
    for number in range(count):
        task, truth, seeds = tasks[number % len(tasks)]
        text = mutated(choose.choice(seeds), others, choose)
        started = time.process_time()
        try:
            score = task.score(text, truth)
        except BaseException:
            print(f"raised for {task.name}: {text!r}", file=sys.stderr)
            raise
        took = time.process_time() - started
        if took > slowest:
            slowest, text_of_it = took, text
        bad = {k: v for k, v in score.parts.items() if v is not None and not 0 <= v <= 1}
        json.dumps(score.answer)
        if bad or took > MAX_SECONDS:
            raise SystemExit(f"{task.name}: {bad or f'{took:.1f} seconds'} for {text!r}")
    return {"completions": count, "slowest_completion_ms": round(slowest * 1e3, 1), "slowest_begins": text_of_it[:80]}


def readers(folder: Path) -> dict[str, Callable[[bytes], object]]:
    """What reads bytes of others, by name; each may raise errors of ours alone."""
    from visual_rft.config.config import load_config
    from visual_rft.config.sources import SourceConfig
    from visual_rft.config.yaml_text import read_yaml
    from visual_rft.data.sources import load_dataset
    from visual_rft.errors import DataError
    from visual_rft.files import json_or_nothing
    from visual_rft.report.reading import read_lines, read_run
    from visual_rft.tasks.parsing.structure import read_structure
    from visual_rft.vision.images import ImageFile

    def through_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)

        def run(content: bytes) -> object:
            file.write_bytes(content)
            return read(file)

        return run

    def source(kind: str, path: Path) -> Callable[[Path], object]:
        given = SourceConfig(source=kind, path=str(path), broken="skip")
        return lambda _: load_dataset(given, "name")

    (folder / "run").mkdir(parents=True)
    found = {
        "yaml": through_file("a.yaml", lambda file: read_yaml(file, DataError)),
        "config": through_file("config.yaml", load_config),
        "json": through_file("a.json", json_or_nothing),
        "lines": through_file("a.jsonl", read_lines),
        "run": through_file("run/config.yaml", lambda file: read_run(file.parent)),
        "image": through_file("a.png", lambda file: ImageFile(file).load()),
        "coco": through_file("coco/annotations.json", source("coco", folder / "coco")),
        "jsonl": through_file("jsonl/data.jsonl", source("jsonl", folder / "jsonl/data.jsonl")),
        "voc": through_file("voc/Annotations/a.xml", source("voc", folder / "voc")),
        "yolo": through_file("yolo/data.yaml", source("yolo", folder / "yolo")),
        "structure": lambda content: read_structure(content.decode("utf-8", "replace")),
    }
    return found


SEEDS = (
    b'{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "annotations": [{"id": 1, "image_id": 1, '
    b'"category_id": 1, "bbox": [1, 1, 3, 3]}], "categories": [{"id": 1, "name": "cat"}]}',
    b'{"image": "a.png", "objects": [{"label": "cat", "box": [5, 5, 30, 30]}]}\n',
    b"model: {path: tiny}\nrun: &a {steps: 3}\ndata: {train: [{source: digits}]}\n",
    b"<annotation><filename>a.png</filename><size><width>9</width><height>9</height></size><object><name>cat</name>"
    b"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object></annotation>",
    b"path: .\ntrain: images\nnames: [cat, dog]\n",
    b"[{'Position': [1, 2, 3, 4], 'Confidence': 0.5}]",
)


class Record:
    """What was tried so far, in a file that is always whole.

    Args:
        file: JSON.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.content = file, dict[str, Any]()
        self.slowest_reader = ""

    def write(self, **found: Any) -> None:
        """Add to it."""
        from visual_rft.errors import DataError
        from visual_rft.files import write_json

        self.content |= found | ({"slowest_reader": self.slowest_reader} if self.slowest_reader else {})
        write_json(self.file, self.content, DataError)


class Files:
    """The target: some bytes through one of the readers.

    Args:
        folder: where the files are written.
        record: keeps what was found.
    """

    def __init__(self, folder: Path, record: Record) -> None:
        from visual_rft.errors import VisualRFTError

        self.readers = readers(folder)
        self.names = list(self.readers)
        for read in self.readers.values():  # the first call imports what it needs, which is not to be timed
            with suppress(VisualRFTError, OSError):
                read(b"")
        self.record = record
        self.count = 0
        self.slowest = 0.0

    def __call__(self, content: bytes) -> None:
        """Raises what is no error of ours, or if it takes too long."""
        from visual_rft.errors import VisualRFTError

        if not content:
            return
        name = self.names[content[0] % len(self.names)]
        started = time.process_time()
        with suppress(VisualRFTError, OSError):  # the second is one line of the command, too
            self.readers[name](content[1:])
        took = time.process_time() - started
        self.count += 1
        if took > self.slowest or self.count % 10_000 == 0:  # atheris ends the process without a last word
            if took > self.slowest:
                self.slowest, self.record.slowest_reader = took, name
            self.record.write(files=self.count, slowest_file_ms=round(self.slowest * 1e3, 1))
        if took > MAX_SECONDS:
            raise SystemExit(f"{name}: {took:.1f} seconds for {content[1:]!r}")


def blindly(target: Files, seconds: float, choose: random.Random) -> None:
    """Mutations of the seeds without a look at the code they reach."""
    ends = time.monotonic() + seconds
    seeds = [seed.decode() for seed in SEEDS]
    while time.monotonic() < ends:
        text = mutated(choose.choice(seeds), seeds, choose)
        content = bytes([choose.randrange(256)]) + text.encode("utf-8", "surrogatepass")
        try:
            target(content)
        except BaseException:
            print(f"raised for {target.names[content[0] % len(target.names)]}: {content[1:]!r}", file=sys.stderr)
            raise


def main() -> int:
    """Run both; an exception ends it with its input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--completions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=600, help="of mutated files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    choose = random.Random(given.seed)  # noqa: S311
    record = Record(given.out)
    record.write(**completions(given.completions, choose))
    print(json.dumps(record.content), flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        try:
            import atheris
        except ImportError:
            target = Files(Path(place), record)
            blindly(target, given.seconds, choose)
        else:
            with atheris.instrument_imports(include=["visual_rft"]):
                target = Files(Path(place), record)
            corpus = Path(place) / "corpus"
            corpus.mkdir()
            for number, seed in enumerate(seed for seed in SEEDS for _ in target.names):
                (corpus / str(number)).write_bytes(bytes([number % len(target.names)]) + seed)
            limits = [
                f"-max_total_time={given.seconds}",
                "-max_len=20000",
                f"-seed={given.seed + 1}",
                "-rss_limit_mb=4096",
            ]
            atheris.Setup([sys.argv[0], str(corpus), *limits], target)
            atheris.Fuzz()  # ends the process
        print(json.dumps(record.content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
