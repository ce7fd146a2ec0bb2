"""``train --dry-run`` of every experiment of the paper, on a tiny model of its family and fake data of its format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.packaged import PAIRS
from support.paper_data import NOVEL, SETS, make_paper_data

from visual_rft.cli.main import main
from visual_rft.config.config import Config, load_config
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError
from visual_rft.evaluation.protocols import detection_set
from visual_rft.inspection.dry_run import SHARED_AS, process_lines, step_lines
from visual_rft.policy.loading import load_policy
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.memory.footprint import Footprint, count_parameters, most_held
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import task_of
from visual_rft.terminal.units import byte_size
from visual_rft.training.learner import make_optimizer
from visual_rft.vision.images import RenderedImage

FAMILY = {"qwen2": "qwen2_vl", "qwen2.5": "qwen2_5_vl", "qwen3": "qwen3_vl"}
QUESTIONS = {
    # 8 classes x 4 shots; 6 classes in each of 10 images; 5 x 4; 2 classes x 4; 3 expressions; images without a novel
    # object: 5 of the 8 classes x 4, and one of another class
    "few-shot-coco": 32, "few-shot-lvis": 60, "few-shot-mg": 20, **dict.fromkeys(SETS, 8), "lisa": 3,
    "open-coco": 21, "open-lvis": 21,
}  # fmt: skip


@pytest.fixture(scope="session")
def paper_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("paper")
    make_paper_data(root)
    return root


def flags_of(name: str, model_folders) -> list[str]:
    model, experiment = name.split("/")
    flags = ["--model.path", str(model_folders[FAMILY[model.split("-")[0]]]), "--rollout.max_new_tokens", "40"]
    if experiment in SETS:  # a local copy of the hub's table
        flags += ["--data.train.0.path", f"data/{experiment}.parquet"]
    return flags


@pytest.mark.parametrize("name", PAIRS)
def test_every_experiment_is_ready(name, model_folders, paper_data, monkeypatch, capsys):
    monkeypatch.chdir(paper_data)
    before = sorted(paper_data.rglob("*"))
    assert main(["train", name, *flags_of(name, model_folders), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    experiment = name.split("/")[1]
    assert f"data: {QUESTIONS[experiment]} training questions, " in out
    assert f"boxes in {'processed_pixels' if '2.5' in name else 'relative_1000'}" in out
    assert f"run:\n  folder: runs/{name.replace('/', '-')}" in out
    counts = re.search(r"model: .* ([\d,]+) parameters, ([\d,]+) trainable, ([\d,]+) frozen", out)
    total, trainable, frozen = (int(count.replace(",", "")) for count in counts.groups())
    assert total == trainable + frozen
    assert (frozen > 0) == (load_config(name).model.lora is not None)
    assert "tokens per prompt: " in out
    assert f"steps: {90 if experiment == 'lisa' else 200} x 16 prompts (4 x 4)" in out
    assert "memory, roughly: " in out
    assert out.endswith("nothing was trained or written\n")
    assert "warning" not in err
    assert sorted(paper_data.rglob("*")) == before


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_shots_change_the_data_by_one_flag(shots, model_folders, paper_data, monkeypatch, capsys):
    monkeypatch.chdir(paper_data)
    name = "qwen2-vl-2b/few-shot-coco"
    assert main(["sft", name, "--shots", str(shots), *flags_of(name, model_folders), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"data: {8 * shots} training questions, " in out
    assert "\ncompletions: " not in out
    assert "reference 0." not in out
    table = "qwen2-vl-2b/pets37"  # a published table has 4 shots; fewer are a part of it
    assert main(["train", table, "--shots", str(shots), *flags_of(table, model_folders), "--dry-run"]) == 0
    assert f"data: {2 * shots} training questions, " in capsys.readouterr().out


def test_more_shots_than_there_are_is_one_line(model_folders, paper_data, monkeypatch, capsys):
    monkeypatch.chdir(paper_data)
    name = "qwen2-vl-2b/few-shot-coco"
    assert main(["train", name, "--shots", "16", *flags_of(name, model_folders), "--dry-run"]) == 2
    assert "usable images, but 16 shots were asked for" in capsys.readouterr().err


def test_a_subset_of_a_source_is_what_the_data_command_cuts_out(paper_data, tmp_path, monkeypatch):
    monkeypatch.chdir(paper_data)
    coco = ["--format", "coco", "--annotations", "data/coco/annotations/instances_train2017.json",
            "--images", "data/coco/train2017"]  # fmt: skip
    assert main(["data", "few-shot", *coco, "--preset", "coco-8", "--shots", "2", "--out", str(tmp_path / "few")]) == 0
    assert main(["data", "open-vocabulary", *coco, "--preset", "coco-65-15", "--out", str(tmp_path / "open")]) == 0
    for name, flags, folder in (
        ("few-shot-coco", ["--shots", "2"], tmp_path / "few"),
        ("open-coco", [], tmp_path / "open" / "train"),
    ):
        config = load_config(f"qwen2-vl-2b/{name}", flags)
        cut = load_config(f"qwen2-vl-2b/{name}", ["--data.train", f"[{{source: coco, path: {folder}}}]"])
        task = task_of(config.task)
        named, written = (load_samples(c.data.train, task) for c in (config, cut))
        assert {s.id: s.truth for s in named} == {s.id: s.truth for s in written}


def test_a_header_that_contradicts_the_file_is_found_among_the_chosen(paper_data, tmp_path, monkeypatch):
    """Only the headers of chosen images are opened."""
    import shutil

    shutil.copytree(paper_data / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data" / "coco" / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text().replace('"width": 60', '"width": 64'))
    config = load_config("qwen2-vl-2b/few-shot-coco")
    with pytest.raises(DataError, match=r"says 64 x 40, but .* is 60 x 40"):
        load_samples(config.data.train, task_of(config.task))


def test_evaluation_asks_about_the_named_classes_only(paper_data, monkeypatch):
    monkeypatch.chdir(paper_data)
    config = load_config("qwen2-vl-2b/open-coco")
    data = detection_set(config.data.evaluation, None, "coco", lambda _: None)
    assert {row["name"] for row in data.truth["categories"]} == set(NOVEL)
    names = {row["id"]: row["name"] for row in data.truth["categories"]}
    assert {names[row["category_id"]] for row in data.truth["annotations"]} == {NOVEL[1]}
    asked = [sample.question["category"] for one in data.questions("all") for sample in one.samples]
    assert set(asked) == set(NOVEL)
    assert len(asked) == 3 * 15


@pytest.mark.parametrize("verb", ["train", "sft"])
def test_an_experiment_trains_a_step(verb, model_folders, paper_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(paper_data)
    name = "qwen2.5-vl-7b/few-shot-mg"
    flags = ["--run.steps", "1", "--run.accumulation", "1", "--run.prompts_per_batch", "2", "--rollout.group_size", "2"]
    folder = ["--run.folder", str(tmp_path / "run"), "--data.evaluation.0.count", "2"]
    assert main([verb, name, "--shots", "1", *flags_of(name, model_folders), *flags, *folder]) == 0
    assert (tmp_path / "run" / "checkpoints" / "step-000001" / "model" / "adapter_config.json").is_file()


def test_steps_and_epochs():
    """Hand-computed: 90 x 4 x 4 = 1,440 prompts; / 239 = 6.03 epochs; an epoch is 239 / 16 = 14.9 steps."""
    config = load_config("qwen2-vl-2b/lisa")
    assert step_lines(config, 239) == [
        "steps: 90 x 16 prompts (4 x 4) = 1,440 prompts = 6.0 epochs of 239 questions; one epoch is 14.9 steps",
        "completions: 8 per prompt = 11,520, of at most 256 tokens",
    ]


def test_parameters_by_part(model_folders):
    config = Config.model_validate(
        {"model": {"path": str(model_folders["qwen2_5_vl"]), "lora": {"rank": 2}, "dtype": "bfloat16"}}
    )
    empty = load_policy(config.model, config.rollout, empty=True)
    counts = count_parameters(empty)
    loaded = dict(load_policy(config.model, config.rollout).model.named_parameters())
    assert counts["model"].total == sum(p.numel() for p in loaded.values())
    assert counts["model"].trainable == sum(p.numel() for name, p in loaded.items() if "lora_" in name)
    assert counts["vision tower"].trainable == counts["projector"].trainable == 0
    parts = [counts[name].total for name in ("vision tower", "projector", "language model")]
    assert sum(parts) == counts["model"].total
    assert counts["projector"].total == sum(p.numel() for name, p in loaded.items() if "visual.merger" in name)
    footprint = Footprint.of(config, empty, empty.prepare([Prompt("a", "Find every cat.", ())]))
    adapter = sum(p.numel() * p.element_size() for name, p in loaded.items() if "lora_" in name)
    assert footprint.held == {
        "weights": sum(p.numel() * p.element_size() for p in loaded.values()),
        "optimiser": 2 * adapter,
    }  # fmt: skip
    assert footprint.update["gradients"] == adapter


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_what_a_step_holds_is_what_a_step_leaves(kind, model_folders):
    """Gradients and AdamW's averages after a real step; the matrices that autocast keeps in bfloat16 for its graph."""
    config = Config.model_validate({
        "model": {"path": str(model_folders[kind]), "autocast": "bfloat16"},
        "engine": {"checkpoint_prompts": 0, "reuse_rollout_graph": True},
    })  # fmt: skip
    policy = load_policy(config.model, config.rollout, engine=config.engine)
    optimizer, _ = make_optimizer(policy.model, config.optimizer, 1)
    picture = RenderedImage("a", lambda: Image.new("RGB", (90, 60)))
    inputs = policy.prepare([Prompt("a", "Find every cat.", (picture,))])
    shapes = {tuple(p.shape) for p in policy.model.parameters() if p.ndim >= 2}
    shapes |= {shape[::-1] for shape in shapes}
    cast: dict[int, int] = {}

    def pack(tensor):
        if tensor.dtype is torch.bfloat16 and tuple(tensor.shape) in shapes:
            cast[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prefix = policy.encode(inputs)
        completions = policy.completions_of(["a cat"])
        policy.backward(prefix, completions, WeightedLogprobs(-completions.mask.float()))
    estimate = Footprint.of(config, policy, inputs)
    held = {**estimate.held, "gradients": estimate.update["gradients"]}
    gradients = [p.grad for p in policy.model.parameters() if p.grad is not None]
    optimizer.step()
    state = [x for one in optimizer.state.values() for x in (one["exp_avg"], one["exp_avg_sq"])]
    # A merger or a layer that one image does not reach gets no gradient: the estimate may be above, never below.
    assert 0.95 < sum(x.nbytes for x in gradients) / held["gradients"] <= 1
    assert 0.95 < sum(x.nbytes for x in state) / held["optimiser"] <= 1
    assert 0.9 < sum(cast.values()) / held["weights as bfloat16"] < 1.1


def test_what_processes_hold_is_told_by_number_and_strategy(model_folders):
    """bfloat16: weights, gradients, masters and averages are 2, 2, 4 and 8 bytes a parameter."""
    model = {"path": str(model_folders["qwen2_vl"]), "dtype": "bfloat16"}
    for offload in ("none", "optimizer"):
        parallel = {"strategy": "fsdp", "offload": offload}
        config = Config.model_validate({"model": model, "objective": {"beta": 0.0}, "parallel": parallel})
        policy = load_policy(config.model, config.rollout, empty=True)
        count = sum(p.numel() for p in policy.model.parameters())
        layers = [sum(p.numel() for p in layer.parameters()) for layer in policy.core.model.language_model.layers]
        there = count - sum(layers) + max(layers)  # in an update, of weights and of gradients
        shared = 0.0 if offload == "optimizer" else 1.0
        for processes in (1, 2, 4, 8):
            expected = {
                "replicated": 16 * count,
                "fsdp, gather step": 4 * count + shared * 12 * count / processes,
                "fsdp, gather layer": max(2 * count, 4 * there) + shared * 16 * count / processes,
            }
            for way, fields in SHARED_AS.items():
                one = config.model_copy(update={"parallel": config.parallel.model_copy(update=fields)})
                assert most_held(one, policy, processes=processes) == pytest.approx(expected[way]), (way, processes)
    said = process_lines(config, policy)
    assert [line.split("  ")[1] for line in said[1:]] == list(SHARED_AS)
    assert said[1].split()[1:3] == byte_size(16 * count).split()
