"""Every family of docs/models.md: loaded, trained, adapted, saved, and its boxes in its own units.

Each test ticks its cell of the table in docs/models.md; the last one compares the table with the ticks, or writes it
(VISUAL_RFT_WRITE_MODELS=1).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from support.oracles import alone_logprobs, prompts_of_mixed_size, random_completions
from support.shared_runs import run as shared_run
from support.shared_runs import run_settings
from support.tiny_models import FAMILIES, QWEN, REPEATED, SHARED, random_model
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from visual_rft.answering.local import LocalModel
from visual_rft.answering.predict import predict
from visual_rft.config.config import Config, parse_config
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.sections import EngineConfig, LoraConfig, ModelConfig, RolloutConfig
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, ModelError
from visual_rft.policy.agreement import verify
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import FAMILIES as LISTED
from visual_rft.policy.families import Reading, family_of
from visual_rft.policy.loading import UnseenMarginWarning, load_policy
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.reference import Reference
from visual_rft.policy.trainable import adapted_layers, trainable
from visual_rft.tasks import Detection, load_task
from visual_rft.training.objective import GroupLoss
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised
from visual_rft.vision.coordinates import CoordinateSpace
from visual_rft.vision.images import RenderedImage

COLUMNS = (
    "load",
    "GRPO",
    "SFT",
    "shared prefix",
    "LoRA",
    "frozen tower",
    "save, load, evaluate",
    "coordinates",
    "fsdp",
)
TICKS: dict[tuple[str, str], str] = {}
TABLE = Path(__file__).parent.parent.parent / "docs" / "models.md"


def run_of(folder: Path, model: dict, **sections) -> Config:
    digits = {"source": "digits", "count": 4}
    values = {
        "model": model,
        "data": {"train": [digits], "evaluation": [{**digits, "split": "test", "count": 2, "seed": 1}]},
        "rollout": {"group_size": 3, "max_new_tokens": 8},
        "optimizer": {"learning_rate": 1e-3},
        "run": {"folder": str(folder), "steps": 2, "prompts_per_batch": 2, **sections.pop("run", {})},
        **sections,
    }
    return parse_config(values, "test")


def reward_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the rewards by the share of vowels, which differs between a random model's answers."""
    from visual_rft.tasks import Score

    def score(self, completion, truth, frame=None):
        value = sum(c in "aeiou" for c in completion) / max(len(completion), 1)
        return Score({"iou": 0.0, "confidence": 0.0, "format": value}, value)

    monkeypatch.setattr(Detection, "score", score)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


def grpo_step(policy: Policy, beta: float = 0.1) -> None:
    """One step on ragged prompts, mixed image sizes, two images in a prompt."""
    reference = Reference(policy)
    optimizer = torch.optim.SGD([p for p in policy.model.parameters() if p.requires_grad], lr=0.5)
    inputs = policy.prepare(prompts_of_mixed_size(5))
    prefix = policy.encode(inputs, for_sampling=True)
    completions = policy.sample(prefix, 3, Draws(0))
    advantages = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    loss = GroupLoss(completions, advantages, reference.logprobs(prefix, completions), ObjectiveConfig(beta=beta))
    policy.backward(prefix, completions, loss)
    optimizer.step()


@pytest.mark.parametrize("kind", FAMILIES)
def test_loads_and_reads_ragged_prompts_as_each_alone(kind, model_folders):
    """Log-probabilities and gradients against the stock forward pass of every completion, unpadded."""
    policy = load_policy(ModelConfig(path=str(model_folders[kind])), RolloutConfig(temperature=0.8))
    prompts = prompts_of_mixed_size(5)
    completions = random_completions(policy, 5, group=2, length=7)
    expected = alone_logprobs(policy, prompts, completions)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5))
    parameters = list(policy.model.parameters())
    wanted = torch.autograd.grad((expected * weight).sum(), parameters, allow_unused=True)
    got = policy.backward(policy.encode(prompts), completions, WeightedLogprobs(weight))
    torch.testing.assert_close(got, expected.detach(), atol=1e-5, rtol=1e-5)
    scale = torch.cat([g.flatten() for g in wanted if g is not None]).norm()
    # Linear attention adds up in chunks that padding shifts: 1.3e-5 seen; below 1e-5 in all others.
    tolerance = 1e-4 if kind.startswith("qwen3_5") else 1e-5
    for parameter, gradient in zip(parameters, wanted, strict=True):
        if gradient is not None:
            assert (parameter.grad - gradient).norm() <= tolerance * max(gradient.norm(), 1e-3 * scale)
    TICKS[kind, "load"] = "yes"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("qwen2_vl", "Locate every "),
        ("qwen2_5_vl", "Report bbox coordinates in JSON format."),
        ("qwen3_vl", "Report bbox coordinates in JSON format."),
        ("internvl", "<ref>every "),
        ("paligemma", "detect "),
    ],
)
def test_trains_in_the_words_of_the_family(kind, words, model_folders, tmp_path):
    sections = {"task": {"style": "native", "think": False}, "run": {"steps": 3}}
    train(run_of(tmp_path / "run", {"path": str(model_folders[kind])}, **sections))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3
    rollouts = sorted((tmp_path / "run" / "rollouts").glob("*.jsonl"))
    prompts = [json.loads(line)["prompt"] for file in rollouts for line in file.read_text().splitlines()]
    assert prompts
    assert all(words in prompt and "<answer>" not in prompt for prompt in prompts)


@pytest.mark.parametrize("kind", FAMILIES)
def test_takes_grpo_steps(kind, model_folders, tmp_path, monkeypatch):
    reward_the_letter(monkeypatch)
    summary = train(run_of(tmp_path / "run", {"path": str(model_folders[kind])}, objective={"beta": 0.1}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    before, after = weights(model_folders[kind]), weights(Path(summary["checkpoint"]) / "model")
    assert before.keys() == after.keys()
    changed = sum(not torch.equal(before[name], after[name]) for name in before)
    assert changed > 0.7 * len(before)  # LLaVA does not use its last vision layer

    policy = Policy(*random_model(kind), Sampling(max_new_tokens=6))
    start = {name: p.clone() for name, p in policy.model.named_parameters()}
    grpo_step(policy)
    assert any(not torch.equal(start[name], p) for name, p in policy.model.named_parameters())
    TICKS[kind, "GRPO"] = "yes"


@pytest.mark.parametrize("kind", FAMILIES)
def test_takes_supervised_steps_and_learns(kind, model_folders, tmp_path):
    model = {"path": str(model_folders[kind])}
    train_supervised(run_of(tmp_path / "run", model, optimizer={"learning_rate": 5e-3}, run={"steps": 15}))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]
    TICKS[kind, "SFT"] = "yes"


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_shared_prefix_is_used_where_it_is_exact(kind):
    policy = Policy(*random_model(kind))
    inputs = policy.prepare(prompts_of_mixed_size(3))
    assert policy.shares_prefix == (kind in SHARED)
    verify(policy, inputs)  # would warn
    assert policy.shares_prefix == (kind in SHARED)
    TICKS[kind, "shared prefix"] = "yes" if policy.shares_prefix else "repeated"


@pytest.mark.parametrize("kind", REPEATED)
def test_sharing_where_it_is_not_exact_is_found_out(kind):
    """Forced onto a family that is not causal, the start-up check must see it."""
    from visual_rft.policy.engine.attention.shared_prefix import SHARED_PREFIX_ATTENTION

    policy = Policy(*random_model(kind))
    inputs = policy.prepare(prompts_of_mixed_size(3))
    policy.core.set_attn_implementation({"text_config": SHARED_PREFIX_ATTENTION})
    policy.fallback_reason = None
    with pytest.warns(UserWarning, match=f"not used for this model \\({kind}\\)"):
        verify(policy, inputs)
    assert not policy.shares_prefix


@pytest.mark.parametrize("kind", FAMILIES)
def test_lora_adapts_the_language_model_and_loads_back_anywhere(kind, model_folders, tmp_path):
    torch.manual_seed(0)  # of the adapter; with another, one of 42 values of qwen3_5 differed by 2.6e-3
    config = ModelConfig(path=str(model_folders[kind]), lora=LoraConfig(rank=2))
    policy = load_policy(config, RolloutConfig(max_new_tokens=6))
    learning = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert learning
    assert all("lora_" in name and not policy.family.is_vision(name) for name in learning)
    prompts = prompts_of_mixed_size(3)
    with torch.no_grad():
        completions = random_completions(policy, 3, group=2, length=7)
        base = policy.logprobs(policy.encode(prompts), completions)
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:  # lora_B starts at zero, and its gradient with it
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    grpo_step(policy)
    with torch.no_grad():
        tuned = policy.logprobs(policy.encode(prompts), completions)
        under = Reference(policy).logprobs(policy.encode(prompts), completions)
    assert (tuned - base).abs().max() > 1e-3
    torch.testing.assert_close(under, base, atol=1e-5, rtol=1e-5)

    policy.model.save_pretrained(tmp_path / "adapter")
    stock = AutoModelForImageTextToText.from_pretrained(model_folders[kind])
    merged = peft.PeftModel.from_pretrained(stock, str(tmp_path / "adapter")).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for folder in ("adapter", "merged"):
        plain = AutoModelForImageTextToText.from_pretrained(tmp_path / folder).eval()
        again = Policy(plain, policy.processor)
        with torch.no_grad():
            loaded = alone_logprobs(again, prompts, completions)
        # 2e-4 seen with linear attention, where padding shifts the chunks
        torch.testing.assert_close(loaded, tuned, atol=1e-3 if kind.startswith("qwen3_5") else 2e-5, rtol=1e-5)
    TICKS[kind, "LoRA"] = "yes"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_frozen_tower_stays_as_it_is(kind):
    for config, still in (
        (ModelConfig(freeze_vision=True), {"tower", "projector"}),
        (ModelConfig(freeze_vision=True, freeze_projector=False), {"tower"}),
        (ModelConfig(freeze_projector=True), {"projector"}),
    ):
        model, processor = random_model(kind)
        policy = Policy(trainable(model, LISTED[kind], config), processor, Sampling(max_new_tokens=6))
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        grpo_step(policy)
        changed = set()
        for name, parameter in model.named_parameters():
            part = "language"
            if LISTED[kind].is_vision(name):
                part = "projector" if LISTED[kind].is_projector(name) else "tower"
            if not torch.equal(start[name], parameter):
                changed.add(part)
        assert changed == {"language", "tower", "projector"} - still
    TICKS[kind, "frozen tower"] = "yes"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_evaluates_as_the_policy_that_wrote_it(kind, model_folders, tmp_path, monkeypatch):
    reward_the_letter(monkeypatch)
    config = run_of(tmp_path / "run", {"path": str(model_folders[kind])}, objective={"beta": 0.0})
    summary = train(config)
    checkpoint = Path(summary["checkpoint"]) / "model"
    monkeypatch.undo()
    task = load_task("detection")
    held_out = load_samples(config.data.evaluation, task)
    loaded = load_policy(ModelConfig(path=str(checkpoint)), config.rollout)
    stock = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
    plain = Policy(stock, AutoProcessor.from_pretrained(checkpoint), Sampling(max_new_tokens=8))
    answers = [[p.completion for p in predict(LocalModel(policy), task, held_out)] for policy in (loaded, plain)]
    assert answers[0] == answers[1]
    assert any(answers[0])
    assert task.metrics(predict(LocalModel(loaded), task, held_out))["n_questions"] == len(held_out)
    TICKS[kind, "save, load, evaluate"] = "yes"


SIZES = 250
BOXES = 40
"""250 image sizes with 40 boxes each: 10,000 round trips per family."""


def blank(width: int, height: int) -> RenderedImage:
    return RenderedImage(f"{width}x{height}", lambda: Image.new("RGB", (width, height)))


@pytest.mark.parametrize("kind", FAMILIES)
def test_ten_thousand_boxes_come_back_from_the_models_text(kind, model_folders):
    """Pixels, units after the processor's real resize, text, parser, pixels: within rounding of the units."""
    policy = load_policy(ModelConfig(path=str(model_folders[kind])), RolloutConfig())
    rng = np.random.default_rng(LISTED[kind].axes)
    sides = np.exp(rng.uniform(np.log(8), np.log(700), (SIZES, 2))).astype(int)  # 1:60 and odd sizes among them
    sides[:4] = [(700, 12), (12, 700), (701, 333), (29, 31)]
    task = Detection()
    trips = 0
    for start in range(0, SIZES, 25):
        prompts = [Prompt(f"{w}x{h}", "Where?", (blank(w, h),)) for w, h in sides[start : start + 25].tolist()]
        for frame in policy.prepare(prompts).frames:
            assert frame is not None
            size = np.array([*frame.image_size] * 2, dtype=float)
            corners = np.sort(rng.uniform(0, 1, (BOXES, 2, 2)), axis=1).reshape(BOXES, 4) * size
            corners = corners[(corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])]
            truth = {"boxes": corners.tolist(), "image_size": list(frame.image_size)}
            answer = task.parse(task.gold(truth, frame), truth, frame).value
            expected = corners[np.lexsort((corners[:, 0], corners[:, 1]))]  # the gold answer's order
            unit = np.array([frame.image_size[i] / frame.extent[i] for i in (0, 1, 0, 1)])
            # Half a unit of rounding; one more where a box thinner than a unit was widened, or at the last token.
            difference = np.abs(np.array(answer["boxes"]) - expected)
            assert (difference <= 1.5 * unit + 1e-9).all()
            wide = (expected[:, 2:] - expected[:, :2] > 1.5 * unit[:2]).all(axis=1)
            inside = (expected[:, 2:] < size[2:] - unit[2:]).all(axis=1)
            assert (difference[wide & inside] <= 0.5 * unit + 1e-9).all()
            trips += len(expected)
    assert trips >= 0.99 * SIZES * BOXES
    TICKS[kind, "coordinates"] = "yes"


@pytest.mark.parametrize("kind", QWEN)
def test_boxes_are_where_the_processed_image_has_the_object(kind, model_folders):
    """A white rectangle, looked for among the pixel values that the vision tower gets."""
    limits = {"min_pixels": 100 * 100, "max_pixels": 300 * 300} if kind == "qwen2_5_vl" else {}
    policy = load_policy(ModelConfig(path=str(model_folders[kind]), **limits), RolloutConfig())
    processor = policy.processor.image_processor
    for size, box in (
        ((640, 200), (100, 40, 420, 160)),
        ((61, 333), (5, 100, 50, 300)),
        ((2000, 1500), (9, 9, 999, 777)),
    ):
        picture = Image.new("RGB", size)
        picture.paste("white", box)
        inputs = policy.prepare([Prompt("q", "Where?", (RenderedImage(f"{kind}{size}", lambda p=picture: p),))])
        (frame,), pixels = inputs.frames, inputs.pixels
        assert frame is not None
        assert pixels is not None
        _, rows, columns = pixels.tensors["image_grid_thw"][0].tolist()
        merge, patch = processor.merge_size, processor.patch_size
        values = pixels.tensors["pixel_values"].view(
            rows // merge, columns // merge, merge, merge, 3, processor.temporal_patch_size, patch, patch
        )
        seen = values[:, :, :, :, 0, 0].permute(0, 2, 4, 1, 3, 5).reshape(rows * patch, columns * patch)
        white = seen > (seen.max() + seen.min()) / 2
        across, down = white.any(0).nonzero().flatten(), white.any(1).nonzero().flatten()
        found = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1], dtype=float)
        shown = np.array([columns * patch, rows * patch] * 2)
        written = np.array(frame.from_pixels(box)) / np.array([*frame.extent] * 2) * shown
        # A pixel for the resampled edge, half a unit for rounding.
        assert np.abs(written - found).max() <= 1.5
        if kind == "qwen2_5_vl":
            factor = patch * merge
            height, width = smart_resize(size[1], size[0], factor=factor, min_pixels=100 * 100, max_pixels=300 * 300)
            assert frame.extent == (width, height)
            assert policy.space is CoordinateSpace.PROCESSED_PIXELS
        else:
            assert frame.extent == (1000, 1000)


def test_pixel_limits_are_obeyed_or_refused(model_folders):
    for limits in ({"max_pixels": 56 * 56}, {"min_pixels": 112 * 112, "max_pixels": 140 * 140}):
        policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"]), **limits), RolloutConfig())
        for image in (blank(300, 200), blank(20, 30)):
            pixels = policy.prepare([Prompt("q", "?", (image,))]).pixels
            assert pixels is not None
            area = int(pixels.tensors["image_grid_thw"].prod()) * 14 * 14
            assert limits.get("min_pixels", 0) <= area <= limits["max_pixels"], (limits, image)
    for kind in set(FAMILIES) - {"llava"}:
        if not kind.startswith("qwen"):
            with pytest.raises(ConfigError, match=r"model\.max_pixels: .* knows no limit of pixels; leave"):
                load_policy(ModelConfig(path=str(model_folders[kind]), max_pixels=56 * 56), RolloutConfig(), empty=True)
    with pytest.raises(ConfigError, match=r"min_pixels \(10\) is above max_pixels \(5\)"):
        parse_config({"model": {"min_pixels": 10, "max_pixels": 5}}, "run.yaml")


def test_a_processor_that_cuts_images_is_named(model_folders):
    with pytest.warns(UnseenMarginWarning, match="llava.*centre square.*train on square images"):
        load_policy(ModelConfig(path=str(model_folders["llava"])), RolloutConfig(), empty=True)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_chat_is_tokenized_as_by_the_library(kind):
    """One start token, wherever it comes from."""
    policy = Policy(*random_model(kind))
    (prompt,) = prompts_of_mixed_size(1)
    inputs = policy.prepare([prompt])
    images = [reference.load() for reference in prompt.images]
    if policy.processor.chat_template is None:
        expected = policy.processor(text=["<image>" + prompt.text], images=[images])["input_ids"][0]
    else:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": prompt.text}]
        expected = policy.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        expected = expected[0] if isinstance(expected[0], list) else expected
    assert inputs.tensors["input_ids"][0].tolist() == list(expected)


def test_an_unlisted_family_wants_its_facts(model_folders, tmp_path):
    with pytest.raises(ModelError, match=r"'bert' is not listed.*not guessed; set model\.family\.coordinates, "):
        family_of("bert")
    folder = model_folders["glm4v"]
    with pytest.raises(ModelError, match=r"'glm4v' is not listed.*model\.family\.tower"):
        load_policy(ModelConfig(path=str(folder)), RolloutConfig(), empty=True)
    facts = {"coordinates": "relative_1000", "tower": ["visual"], "projector": ["visual.merger"], "pixels": "patches",
             "axes": 3, "lora_targets": ["q_proj", "gate_up_proj"]}  # fmt: skip
    model = {"path": str(folder), "family": facts}
    train_supervised(run_of(tmp_path / "sft", model, optimizer={"learning_rate": 5e-3}, run={"steps": 3}))
    policy = load_policy(ModelConfig(**model, lora=LoraConfig(rank=2)), RolloutConfig(max_new_tokens=6))
    inputs = policy.prepare(prompts_of_mixed_size(3))
    verify(policy, inputs)
    assert policy.shares_prefix
    grpo_step(policy)


def test_facts_in_the_config_replace_the_listed_ones(model_folders):
    given = ModelConfig(path=str(model_folders["qwen2_5_vl"]), family={"coordinates": "relative_1000"})
    policy = load_policy(given, RolloutConfig(), empty=True)
    assert policy.space is CoordinateSpace.RELATIVE_1000
    assert policy.family.tower == LISTED["qwen2_5_vl"].tower
    (frame,) = policy.prepare(prompts_of_mixed_size(1)).frames
    assert frame is not None
    assert frame.extent == (1000, 1000)


def test_an_adapter_is_no_model_to_train(model_folders, tmp_path):
    policy = load_policy(ModelConfig(path=str(model_folders["qwen2_vl"]), lora=LoraConfig(rank=2)), RolloutConfig())
    policy.model.save_pretrained(tmp_path / "adapter")
    policy.processor.save_pretrained(tmp_path / "adapter")
    assert load_policy(ModelConfig(path=str(tmp_path / "adapter")), RolloutConfig()) is not None  # to evaluate it
    for model in ({}, {"lora": {"rank": 2}}):
        with pytest.raises(ModelError, match=r"model\.path: is an adapter.*merge it first"):
            train(run_of(tmp_path / "run", {"path": str(tmp_path / "adapter"), **model}))
    assert not (tmp_path / "run").exists()


def test_lora_can_adapt_what_sees_too():
    model, _ = random_model("smolvlm")
    family = LISTED["smolvlm"]
    language, everything = (set(adapted_layers(model, family, vision=vision)) for vision in (False, True))
    assert language < everything
    assert not any(family.is_vision(name) for name in language)
    assert any(family.is_projector(name) for name in everything - language)
    assert any(".vision_model.encoder." in name for name in everything - language)
    for both in ({"freeze_vision": True}, {"freeze_projector": True}):
        with pytest.raises(ConfigError, match=r"lora\.vision adapts what freeze_vision"):
            parse_config({"model": {"lora": {"vision": True}, **both}}, "run.yaml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what is refused without a GPU")
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"lora": {}, "quantization": "nf4"}, r"model\.quantization: 'nf4' needs a CUDA GPU.*; use none, with"),
        ({"lora": {}, "quantization": "int8"}, r"model\.quantization: 'int8' needs a CUDA GPU"),
        ({"attention": "flash_attention_2"}, r"model\.attention: 'flash_attention_2' needs a CUDA GPU.*; use auto"),
    ],
)
def test_what_needs_a_gpu_is_refused_without(model, says, model_folders):
    config = parse_config({"model": {"path": str(model_folders["qwen2_vl"]), **model}}, "run.yaml").model
    with pytest.raises(ConfigError, match=says):
        load_policy(config, RolloutConfig())
    assert load_policy(config, RolloutConfig(), empty=True) is not None  # a dry run may look at it


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what is refused without a GPU")
def test_the_eight_bit_optimizer_is_refused_without_a_gpu(model_folders, tmp_path):
    config = run_of(tmp_path / "run", {"path": str(model_folders["qwen2_vl"])}, optimizer={"name": "adamw_8bit"})
    with pytest.raises(ConfigError, match=r"optimizer\.name: 'adamw_8bit' needs a CUDA GPU"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_quantization_without_an_adapter_is_refused():
    with pytest.raises(ConfigError, match="quantization 'nf4' trains an adapter on frozen weights; set lora too"):
        parse_config({"model": {"quantization": "nf4"}}, "run.yaml")


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_and_eager_attention_answer_too(kind, model_folders):
    config = ModelConfig(path=str(model_folders[kind]), dtype="bfloat16", attention="eager")
    policy = load_policy(config, RolloutConfig(max_new_tokens=5), engine=EngineConfig(checkpoint_completions=True))
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 2, Draws(0))
    scored = policy.backward(prefix, completions, WeightedLogprobs(completions.mask.float()))
    assert (scored - completions.logprobs).abs().mean() < 0.1
    assert all(p.grad.isfinite().all() for p in policy.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sharded_step_of_two_processes_is_the_step_of_one(kind, two, model_folders, tmp_path):
    sections = {"run": {"steps": 1, "prompts_per_batch": 2}, "objective": {"beta": 0.1}}
    alone = run_settings(tmp_path / "one", model_folders[kind], **sections)
    layers = {"strategy": "fsdp", "gather": "layer"}
    together = run_settings(tmp_path / "two", model_folders[kind], parallel=layers, **sections)
    (expected,) = shared_run(alone)
    two.ask(shared_run, together)
    (line,) = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert expected["grad_norm"] > 0
    for name in ("reward", "loss", "grad_norm", "length"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-4), name
    TICKS[kind, "fsdp"] = "yes"


def table() -> str:
    """The matrix as Markdown, and what each family is."""
    reading = {Reading.CAUSAL: "causal", Reading.IMAGES: "images both ways", Reading.PROMPT: "prompt both ways"}
    lines = [
        "| family (`model_type`) | boxes | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for kind in sorted(LISTED):
        cells = {"yes": "✓", "repeated": f"repeated path ({reading[LISTED[kind].reading]})"}
        if TICKS.get((kind, "shared prefix")) == "repeated" and LISTED[kind].reading is Reading.CAUSAL:
            cells["repeated"] = "repeated path (linear layers)"
        row = [cells.get(TICKS.get((kind, column), ""), "") for column in COLUMNS]
        lines.append(f"| `{kind}` | `{LISTED[kind].space.value}` | " + " | ".join(row) + " |")
    return "\n".join(lines)


def test_the_table_in_the_documentation_is_what_these_tests_show(request):
    """Only where all of them ran; VISUAL_RFT_WRITE_MODELS=1 writes it."""
    assert set(LISTED) == set(FAMILIES)
    if len(TICKS) < len(FAMILIES) * len(COLUMNS) and not request.session.testsfailed:
        pytest.skip("not all tests of this file were run")
    start, end = "<!-- table: written by tests/policy/test_families.py -->", "<!-- end of table -->"
    text = TABLE.read_text(encoding="utf-8")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    expected = f"{before}{start}\n\n{table()}\n\n{end}{after}"
    if os.environ.get("VISUAL_RFT_WRITE_MODELS"):
        TABLE.write_text(expected, encoding="utf-8")
        text = expected
    assert text == expected, "make models writes the table anew"
