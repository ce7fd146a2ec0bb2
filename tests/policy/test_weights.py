"""Every tensor of a model comes from its files, or one line says which does not."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, dynamic_module_utils

from visual_rft.cli.main import main
from visual_rft.config.sections import LoraConfig, ModelConfig, RolloutConfig
from visual_rft.errors import ModelError, VisualRFTError
from visual_rft.policy import inputs
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.stored.manifest import write_manifest
from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.vision.images import RenderedImage


def load(folder: Path, **fields) -> Policy:
    return load_policy(ModelConfig(path=str(folder), **fields), RolloutConfig())


@pytest.fixture
def model(tmp_path) -> Path:
    return shutil.copytree(EMBEDDED, tmp_path / "model")


def change(file: Path, **tensors: torch.Tensor | None) -> None:
    """Replace tensors of a file by name; None leaves them out."""
    found = load_file(file)
    for name, value in tensors.items():
        whole = next((known for known in found if known.endswith(name.replace("__", "."))), name)
        found.pop(whole, None)
        if value is not None:
            found[whole] = value
    save_file(found, file, {"format": "pt"})


def test_a_tensor_that_is_missing_is_named(model):
    change(model / "model.safetensors", layers__1__mlp__down_proj__weight=None, layers__0__mlp__down_proj__weight=None)
    with pytest.raises(
        ModelError, match=r"lacks \S*layers\.0\.mlp\.down_proj\.weight, \S*layers\.1\.mlp\.down_proj\.weight; "
    ):
        load(model)


def test_a_tensor_of_another_shape_is_named(model):
    change(model / "model.safetensors", layers__1__input_layernorm__weight=torch.ones(3))
    with pytest.raises(
        ModelError, match=r"another shape: \S*layers\.1\.input_layernorm\.weight is \[3\] instead of \["
    ):
        load(model)


def test_many_are_counted(model):
    save_file({"nothing.of.it": torch.ones(1)}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .* and \d+ more; "):
        load(model)


def test_what_the_model_has_no_use_for_is_no_mistake(model):
    change(model / "model.safetensors", **{"rotary_emb.inv_freq": torch.ones(4)})
    assert load(model).model is not None


@pytest.fixture
def adapter(model, tmp_path) -> Path:
    load(model, lora=LoraConfig(rank=2)).model.save_pretrained(tmp_path / "adapter")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(model / name, tmp_path / "adapter" / name)
    return tmp_path / "adapter"


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_adapter_that_lacks_a_tensor_is_refused(goes_on, adapter, model):
    """It would start again at zero, and the answers would be those of the base."""

    def again() -> Policy:
        if goes_on:
            return load_policy(ModelConfig(path=str(model), lora=LoraConfig(rank=2)), RolloutConfig(), adapter)
        return load(adapter)

    assert again().model is not None
    change(adapter / "adapter_model.safetensors", layers__0__self_attn__q_proj__lora_B__weight=None)
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj\.lora_B"):
        again()


def test_the_base_of_an_adapter_must_be_whole_too(adapter, model):
    change(model / "model.safetensors", layers__1__mlp__down_proj__weight=None)
    with pytest.raises(ModelError, match=r"lacks \S*down_proj"):
        load(adapter)


class Hostile:
    """Its pickle writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


HARMS = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "deep": lambda content: b"[" * 100_000,
    "null": lambda content: b"null",
    "no text": lambda content: bytes(range(256)),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", sorted(file.name for file in EMBEDDED.iterdir()))
def test_a_damaged_file_of_a_model_is_one_line(name, harm, model):
    """Or does no harm, like the settings of a sampler that is not used."""
    file = model / name
    file.write_bytes(HARMS[harm](file.read_bytes()))
    prompt = Prompt("a", "Find every cat.", (RenderedImage("k", lambda: Image.new("RGB", (56, 56))),))
    said = None
    try:
        load(model).prepare([prompt])
    except VisualRFTError as error:
        said = str(error)
    if said is None:
        assert name == "generation_config.json"
    else:
        assert "\n" not in said
        assert str(model) in said or "chat template" in said


def test_a_pickle_among_the_weights_is_refused_and_not_run(model, tmp_path):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "was-run"), protocol=2))
    with pytest.raises(ModelError, match="cannot load"):
        load(model)
    assert not (tmp_path / "was-run").exists()


def test_the_broken_file_is_named(model):
    (model / "tokenizer.json").write_text("")
    with pytest.raises(ModelError, match=r"\(tokenizer\.json: JSONDecodeError: Expecting value"):
        load(model)


NESTED_LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("in_main", [True, False])
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ x", "TemplateSyntaxError"),
        ("{% for m in messages %}{{ m.nope.nope }}{% endfor %}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("hello", "makes a prompt with 0 places for 1 images"),
        (NESTED_LOOPS, r"OutOfTimeError: took more than 0\.3 seconds"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_line(template, message, in_main, model, monkeypatch):
    """In the thread, too, in which batches are prepared ahead."""
    monkeypatch.setattr(inputs, "TEMPLATE_SECONDS", 0.3)
    (model / "chat_template.jinja").write_text(template)
    policy = load(model)
    prompt = Prompt("a", "Find every cat.", (RenderedImage("k", lambda: Image.new("RGB", (56, 56))),))
    with ThreadPoolExecutor(1) as pool, pytest.raises(ModelError, match=f"the model's chat .*{message}") as raised:
        policy.prepare([prompt]) if in_main else pool.submit(policy.prepare, [prompt]).result()
    assert "\n" not in str(raised.value)


def moved_adapter(tmp_path: Path, adapter: Path, model: Path) -> Path:
    """A run folder whose adapter names a base that is elsewhere by now."""
    place = tmp_path / "run/checkpoints/step-000001"
    place.mkdir(parents=True)
    shutil.copytree(adapter, place / "model")
    write_manifest(place)
    model.rename(tmp_path / "new-place")
    return place / "model"


def test_the_base_of_an_adapter_is_found_from_any_working_directory(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = load(Path("model"), lora=LoraConfig(rank=2))
    policy.model.save_pretrained("adapter")
    policy.processor.save_pretrained("adapter")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(tmp_path / "adapter").model is not None
    file = tmp_path / "adapter/adapter_config.json"  # one that an earlier version wrote
    file.write_text(file.read_text().replace(str(tmp_path / "model"), "model"))
    assert load(tmp_path / "adapter").model is not None


def test_a_base_that_is_gone_is_named_with_where_to_give_its_new_place(adapter, model, tmp_path):
    weights = moved_adapter(tmp_path, adapter, model)
    with pytest.raises(
        ModelError, match=r"its base \S*/model is gone; .* base_model_name_or_path in \S*adapter_config"
    ):
        load(weights)
    run_config = tmp_path / "run/config.yaml"
    run_config.write_text(f"model: {{path: {model}}}\n")
    with pytest.raises(ModelError, match=rf"its base {model} is gone; put it back, or .* model\.path in {run_config}"):
        load(weights)
    run_config.write_text(f"model: {{path: {tmp_path / 'new-place'}}}\n")
    assert load(weights).model is not None


def test_the_embedded_base_of_another_installation_is_this_ones(adapter, model):
    file = adapter / "adapter_config.json"
    file.write_text(file.read_text().replace(str(model), "/gone/lib/python3.12/site-packages/visual_rft/tiny/base"))
    assert load(adapter).model is not None


CODE = """
from transformers import Qwen3VLForConditionalGeneration


class OwnModel(Qwen3VLForConditionalGeneration):
    own = True
"""


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_model_with_code_of_its_own_is_trained_and_exported(lora, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    (model / "modeling_own.py").write_text(CODE)
    shape = json.loads((model / "config.json").read_text())
    shape["auto_map"] = {"AutoModelForImageTextToText": "modeling_own.OwnModel"}
    (model / "config.json").write_text(json.dumps(shape))
    values = {
        "model": {"path": str(model), "trust_remote_code": True, "lora": lora},
        "data": {"train": [{"source": "digits", "count": 2}], "evaluation": [{"source": "digits", "count": 1}]},
        "run": {"folder": str(tmp_path / "run"), "steps": 1, "prompts_per_batch": 1},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(values))
    assert main(["sft", str(tmp_path / "run.yaml")]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert card.count("trust_remote_code=True") == 2
    assert "--trust-remote-code" in card
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert exported.own
    assert not (tmp_path / "out.unfinished").exists()
