"""Every format trains end to end with the embedded model, from the files to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import tables_stay_here  # noqa: F401

from visual_rft.cli.main import main
from visual_rft.config.sections import ModelConfig, RolloutConfig
from visual_rft.config.sources import SourceConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.data.sources import load_samples
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import load_task

pytestmark = pytest.mark.usefixtures("tables_stay_here")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Eight drawn scenes as a COCO folder, eight flowers as an ImageFolder, and a table of questions of each."""
    folder = tmp_path_factory.mktemp("scenes")
    shapes, flowers = ("--format", "shapes", "--count", "8"), ("--format", "flowers", "--count", "8")
    for source, to, name in (
        (shapes, "coco", "coco"),
        (shapes, "jsonl", "jsonl"),
        (shapes, "parquet", "parquet"),
        (flowers, "imagefolder", "imagefolder"),
        (flowers, "parquet", "parquet-names"),
    ):
        assert main(["data", "convert", *source, "--to", to, "--out", str(folder / name)]) == 0
    for to in ("yolo", "voc"):
        command = ["data", "convert", "--format", "coco", "--path", str(folder / "coco"), "--to", to]
        assert main([*command, "--out", str(folder / to)]) == 0
    classes = ",".join(sorted({label for scene in Shapes(8) for label in scene.labels})[:3])
    command = ["data", "few-shot", "--format", "coco", "--images", str(folder / "coco"), "--classes", classes]
    assert main([*command, "--shots", "1", "--negatives", "0.34", "--out", str(folder / "few")]) == 0
    return folder


def train(tmp_path: Path, source: dict, task: str) -> list[dict]:
    """One step of reinforcement and one supervised; returns the rollouts of the first."""
    values = {
        "model": {"path": "tiny"},
        "task": {"name": task},
        "data": {"train": [source], "evaluation": [{**source, "count": 2}]},
        "rollout": {"group_size": 2, "max_new_tokens": 12},
        "run": {"folder": str(tmp_path / "run"), "steps": 1, "prompts_per_batch": 2},
    }
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(values))
    assert main(["train", str(file)]) == 0
    assert main(["sft", str(file), "--run.folder", str(tmp_path / "sft")]) == 0
    assert (tmp_path / "run" / "checkpoints" / "step-000001" / "model").is_dir()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 1
    rollouts = "".join(f.read_text() for f in sorted((tmp_path / "run" / "rollouts").glob("*.jsonl")))
    return [json.loads(line) for line in rollouts.splitlines()]


@pytest.mark.parametrize(
    ("source", "path", "task"),
    [
        ("yolo", "yolo", "detection"),
        ("voc", "voc", "detection"),
        ("jsonl", "jsonl", "detection"),
        ("coco", "few", "detection"),
        ("parquet", "parquet/data.parquet", "detection"),
        ("parquet", "parquet-names/data.parquet", "classification"),
        ("imagefolder", "imagefolder", "classification"),
    ],
)
def test_a_format_trains(tmp_path, scenes, source, path, task):
    rollouts = train(tmp_path, {"source": source, "path": str(scenes / path)}, task)
    assert len(rollouts) >= 2
    assert "iou" in json.dumps(rollouts[0]) or task == "classification"


def test_expressions_train(tmp_path):
    for i in range(3):
        Image.new("RGB", (96, 80), (40 * i, 90, 120)).save(tmp_path / f"{i}.jpg")
        content = {"text": ["the red circle"], "shapes": [{"label": "target", "points": [[9, 9], [50, 9], [40, 60]]}]}
        (tmp_path / f"{i}.json").write_text(json.dumps(content))
    train(tmp_path, {"source": "lisa", "path": str(tmp_path)}, "grounding")


def test_a_published_question_reaches_the_processor_as_it_is(scenes):
    task = load_task("detection")
    source = SourceConfig(source="parquet", path=str(scenes / "parquet" / "data.parquet"))
    sample = load_samples([source], task)[0]
    policy = load_policy(ModelConfig(path="tiny"), RolloutConfig())
    prompt = Prompt.of(task, sample, policy.space)
    assert prompt.text == sample.question["problem"]
    ids = policy.prepare([prompt]).tensors["input_ids"][0]
    assert sample.question["problem"] in policy.processor.tokenizer.decode(ids, skip_special_tokens=True)


def test_questions_with_several_images_train(tmp_path, scenes):
    """Two pictures per prompt, and prompts of one and of two pictures in one batch."""
    images = sorted(p.relative_to(scenes).as_posix() for p in (scenes / "imagefolder").glob("*/*"))
    asked = {"question": {"problem": "Which flower is new?"}, "truth": {"label": "a b"}}
    rows = [{"images": images[i : i + 1 + i % 2], **asked} for i in range(4)]
    file = scenes / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    train(tmp_path, {"source": "jsonl", "path": str(file)}, "classification")
    task = load_task("classification")
    samples = load_samples([SourceConfig(source="jsonl", path=str(file))], task)
    policy = load_policy(ModelConfig(path="tiny"), RolloutConfig())
    ids = policy.prepare([Prompt.of(task, sample, policy.space) for sample in samples[:2]]).tensors["input_ids"]
    start = policy.processor.tokenizer.convert_tokens_to_ids("<|vision_start|>")
    assert (ids == start).sum(1).tolist() == [1, 2]  # how many pictures the model is shown


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (500, 4)])
def test_an_image_of_one_pixel_trains(tmp_path, size):
    """Very small ones are enlarged by the processor; there is nothing to see, but nothing breaks."""
    folder = tmp_path / "data" / "dot"
    folder.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", size, (i, 2, 3)).save(folder / f"{i}.png")
    train(tmp_path, {"source": "imagefolder", "path": str(tmp_path / "data")}, "classification")
