"""Exported models: the same log-probabilities in plain transformers, and a card that says what was measured."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import peft
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.answering.asking import Asker
from visual_rft.cli.main import main
from visual_rft.config.config import load_config
from visual_rft.config.sections import ModelConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, ModelError, RunFolderError
from visual_rft.evaluation.folders import weights_of
from visual_rft.export.card import _UNITS, example_prompt
from visual_rft.export.export import export_run, target_of
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import load_task, task_of
from visual_rft.vision.coordinates import CoordinateSpace

DATA = {"train": [{"source": "digits", "count": 4, "max_objects": 1}],
        "evaluation": [{"source": "digits", "split": "test", "count": 2, "max_objects": 1, "seed": 1}]}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two runs of the embedded model, two steps large enough to be seen in the weights."""
    folders = {}
    for name, lora in (("full", None), ("lora", {"rank": 4, "alpha": 64})):
        folder = tmp_path_factory.mktemp("runs") / name
        values = {
            "model": {"path": "tiny", "lora": lora},
            "data": DATA,
            "optimizer": {"learning_rate": 3e-3, "schedule": "constant"},
            "run": {"folder": str(folder), "steps": 2, "prompts_per_batch": 4, "checkpoint_every": 1},
        }
        file = folder.with_suffix(".yaml")
        file.write_text(json.dumps(values))
        assert main(["sft", str(file)]) == 0
        folders[name] = folder
    return folders


def plain_logprobs(model, processor, forbidden, sample, prompt: str, completion: str) -> torch.Tensor:
    """Log-probabilities of a completion by the stock forward pass on the processor's own inputs.

    Image placeholders are never sampled, so the policy's distribution is the one without them.
    """
    text = {"type": "text", "text": prompt}
    messages = [{"role": "user", "content": [{"type": "image", "image": sample.images[0].load()}, text]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = torch.tensor([processor.tokenizer(completion)["input_ids"]])
    extra = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": torch.zeros_like(ids)}
    for name, tail in extra.items():
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], tail], 1)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -ids.shape[1] - 1 : -1].float()
    logits[:, forbidden] = -torch.inf
    return logits.log_softmax(-1).gather(-1, ids.T).squeeze(-1)


def policy_logprobs(policy, task, sample, completion: str) -> torch.Tensor:
    """The same by the policy of the checkpoint; its end token is left out, which the text does not hold."""
    with torch.no_grad():
        prefix = policy.encode([Prompt.of(task, sample, policy.space)])
        return policy.logprobs(prefix, policy.completions_of([completion]))[0, 0, :-1]


@pytest.mark.parametrize(("name", "adapter"), [("full", False), ("lora", False), ("lora", True)])
def test_plain_transformers_gives_the_policys_logprobs(runs, tmp_path, name, adapter):
    out = tmp_path / "model"
    export_run(runs[name], out, adapter)
    config = load_config(runs[name] / "config.yaml")
    task = task_of(config.task)
    sample = load_samples(config.data.evaluation, task)[0]
    completion = task.gold(sample.truth)
    checkpoint = runs[name] / "checkpoints" / "step-000002" / "model"
    policy = load_policy(config.model, config.rollout, checkpoint)
    expected = policy_logprobs(policy, task, sample, completion)
    base = policy_logprobs(load_policy(ModelConfig(), config.rollout), task, sample, completion)
    assert (expected - base).abs().max() > 0.1, "the training changed nothing, so the comparison would show nothing"

    processor = AutoProcessor.from_pretrained(out)
    model = AutoModelForImageTextToText.from_pretrained(out)
    assert any("lora" in part for part, _ in model.named_parameters()) == adapter
    prompt = task.prompt(sample.question, policy.space)
    torch.testing.assert_close(
        plain_logprobs(model, processor, policy.forbidden, sample, prompt, completion), expected, atol=1e-4, rtol=0
    )
    if adapter:
        wrapped = peft.PeftModel.from_pretrained(
            AutoModelForImageTextToText.from_pretrained(policy.core.config._name_or_path), str(out)
        )
        again = plain_logprobs(wrapped, processor, policy.forbidden, sample, prompt, completion)
        torch.testing.assert_close(again, expected, atol=1e-4, rtol=0)


def test_an_earlier_checkpoint_and_another_type(runs, tmp_path):
    first = runs["full"] / "checkpoints" / "step-000001"
    export_run(first, tmp_path / "first", dtype="bfloat16")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "first")
    assert model.dtype == torch.bfloat16
    card = (tmp_path / "first" / "README.md").read_text()
    assert "checkpoint `step-000001`" in card
    assert "Nothing: the run has no evaluation of `step-000001`." in card


def test_every_verb_takes_the_checkpoint_that_is_named(runs, tmp_path, capsys):
    run, first = str(runs["full"]), runs["full"] / "checkpoints/step-000001"
    last = first.with_name("step-000002")
    assert main(["export", run, "--checkpoint", "step-1", "--out", str(tmp_path / "first")]) == 0
    exported, named, other = (
        load_file(place / "model.safetensors") for place in (tmp_path / "first", first / "model", last / "model")
    )
    assert all(torch.equal(exported[key], named[key]) for key in named)
    assert any(not torch.equal(exported[key], other[key]) for key in named)

    picture = next((runs["full"] / "images").glob("*.png"))
    places = re.compile(f'{re.escape(str(tmp_path))}/[^"]*|{re.escape(run)}/checkpoints[^"]*|{re.escape(run)}(?=")')
    for verb in (["predict", str(picture), "--ask", "3", "--json"], ["evaluate", "--json"]):
        said = {}
        for name, which in (("named", [run, "--checkpoint", "1"]), ("folder", [str(first)]), ("last", [run])):
            where = ["--folder", str(tmp_path / name)] if verb[0] == "evaluate" else []
            capsys.readouterr()
            assert main([*verb, "--model", *which, *where]) == 0
            said[name] = places.sub("", capsys.readouterr().out)
        assert said["named"] == said["folder"] != said["last"]


def test_an_older_export_is_not_sent_for_another_checkpoint(runs, tmp_path, capsys):
    run, out = str(runs["full"]), str(tmp_path / "out")
    push = ["export", run, "--out", out, "--push", "me/coins"]
    assert main([*push, "--checkpoint", "step-1"]) == 0
    (tmp_path / "out/README.md").write_text("edited")
    assert main([*push, "--checkpoint", "step-1"]) == 0
    assert (tmp_path / "out/README.md").read_text() == "edited"
    for more, asked in (
        ([], "step-000002, float32"),
        (["--checkpoint", "1", "--dtype", "float16"], "step-000001, float16"),
    ):
        capsys.readouterr()
        assert main([*push, *more]) == 2
        assert f"was exported from step-000001, float32, and {asked} is asked for" in capsys.readouterr().err


def test_a_run_that_computed_in_bfloat16_is_exported_and_served_so(runs, tmp_path):
    """Float32 files would be served in float16, which overflows in Qwen2.5-VL."""
    folder = tmp_path / "run"
    shutil.copytree(runs["full"], folder)
    values = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(values | {"model": {**values["model"], "autocast": "bfloat16"}}))
    export_run(folder, tmp_path / "out")
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert "--dtype bfloat16" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_says_what_was_measured(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = runs["lora"]
    base, tuned = (json.loads((run / "evaluation" / f"step-00000{n}.json").read_text())["mean_iou"] for n in (0, 2))
    numbers = {"protocol": "all", "n_images": 7, "n_questions": 21, "AP50": 0.5, "AP75": -1, "mean_iou": 0.3}
    now = weights_of(str(run))
    before = [[name, size, time - 1] for name, size, time in now]
    evaluations = (("tiny", weights_of("tiny"), 0.111), (str(run), now, 0.123), (str(run), before, 0.777))
    for number, (model, weights, ap) in enumerate(evaluations):
        other = Path(f"{run}-evaluation") / str(number)
        other.mkdir(parents=True)
        ranks = {"written": {"AP": ap, "ece": 0.4}, "tokens": {"AP": 0.222, "ece": 0.25}}
        result = {"model": model, **numbers, "AP": ap, "intervals": {"AP": [0.1, 0.2]}, "scores": ranks}
        (other / "result.json").write_text(json.dumps(result))
        (other / "settings.json").write_text(json.dumps({"weights": weights}))
    assert main(["export", str(run), "--out", "out/tuned"]) == 0
    said = capsys.readouterr().out
    assert "vllm serve out/tuned" in said
    card = Path("out/tuned/README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "other"
    assert "base_model" not in front  # the embedded model is no hub id
    for expected in (
        f"| mean_iou | {base:.3f} | {tuned:.3f} |", "2 questions about 2 images", "TO DO: name the licence",
        "model `tiny`, protocol `all`, 7 images, 21 questions", "| tokens | 0.222 | 0.250 |",
        "| AP | 0.111 | 0.100 to 0.200 |",
        "| AP | 0.123 | 0.100 to 0.200 |", "| AP75 | undefined | - |",
        "* train: `digits` (count: 4, max_objects: 1)", "LoRA of rank 4",
        "vllm serve tuned --dtype float32 --generation-config vllm --limit-mm-per-prompt",
    ):  # fmt: skip
        assert expected in card
    assert "TRAINED ON" not in card
    assert "0.777" not in card  # of weights that were here before
    assert "learning_rate: 0.003" in card


def test_a_number_of_trained_images_is_marked(runs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    config = yaml.safe_load((runs["full"] / "config.yaml").read_text())
    config["data"]["evaluation"] = config["data"]["train"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("checkpoints", "evaluation"):
        (run / name).symlink_to(runs["full"] / name)
    export_run(run, tmp_path / "out")
    assert "THESE WERE TRAINED ON" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("name", "adapter"), [("full", False), ("lora", True)])
def test_the_cards_own_python_runs_and_says_what_predict_says(runs, tmp_path, monkeypatch, capsys, name, adapter):
    monkeypatch.chdir(tmp_path)
    exported = export_run(runs[name], Path("tuned"), adapter)
    task = load_task("detection")
    (sample,) = load_samples(load_config(runs[name] / "config.yaml").data.evaluation, task)[:1]
    sample.images[0].load().save("picture.png")
    card = Path("tuned/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert code == exported.snippet
    asked = sample.question["category"]
    capsys.readouterr()
    exec(compile(code.replace("THING", asked), "README.md", "exec"), {})
    said = capsys.readouterr().out.removesuffix("\n")
    ((reply,),) = Asker.load("tuned").ask([("picture.png", Image.open("picture.png").convert("RGB"))], [asked])
    assert said == reply.text
    assert said


def test_an_adapter_is_served_on_its_base(runs, tmp_path):
    serve = export_run(runs["lora"], tmp_path / "a", adapter=True).serve
    assert "--enable-lora --max-lora-rank 8" in serve
    assert f"tuned={tmp_path / 'a'}" in serve


def test_the_prompt_of_a_task_that_needs_more(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from visual_rft.tasks import Detection\n"
        "class Mine(Detection):\n"
        "    def prompt(self, question, space):\n"
        "        return question['language']\n"
    )
    assert example_prompt(load_task(f"{tmp_path}/mine.py:Mine"), "relative_1000") == "THE PROMPT OF YOUR TASK"


def test_every_unit_of_boxes_has_words():
    assert set(_UNITS) == set(CoordinateSpace)


def test_mistakes(runs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="is not a run folder"):
        export_run(tmp_path, out)
    with pytest.raises(ConfigError, match="holds all weights, not an adapter"):
        export_run(runs["full"], out, adapter=True)
    with pytest.raises(ConfigError, match="an adapter is exported as it is"):
        export_run(runs["lora"], out, adapter=True, dtype="bfloat16")
    export_run(runs["full"], out)
    with pytest.raises(RunFolderError, match="exists already"):
        export_run(runs["full"], out)
    with pytest.raises(ConfigError, match="is not a run folder"):
        export_run(out, tmp_path / "again")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text((runs["full"] / "config.yaml").read_text())
    with pytest.raises(ModelError, match="has no checkpoint yet"):
        export_run(empty, tmp_path / "again")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "out"]


def test_a_run_is_called_something_from_inside_of_it(tmp_path, monkeypatch):
    run = tmp_path / "coins"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("run: {steps: 3}\n")
    monkeypatch.chdir(run)
    assert target_of(Path("."), None) == tmp_path / "coins-model"
    assert target_of(Path("checkpoints/.."), None) == tmp_path / "coins-model"
    monkeypatch.chdir(tmp_path)
    assert target_of(Path("coins"), None) == Path("coins-model")
