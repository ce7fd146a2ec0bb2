"""vLLM in the process of the policy: asleep unless it samples, given the policy's weights, read as a server is.

vLLM is not installed where these run: a stand-in with the calls of its ``LLM`` samples with a policy of its own. What
the real one does is shown by ``make test-vllm``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.oracles import prompts_of_mixed_size
from support.served_policy import ServedPolicy
from support.stub_server import read

from visual_rft.config.config import parse_config
from visual_rft.config.sections import LoraConfig, ModelConfig, RolloutConfig
from visual_rft.errors import ConfigError, ServerError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.samplers.colocated import Colocated, ColocatedWeights, checkpoint_tensors
from visual_rft.samplers.making import sampler_of
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler, seed_of

KIND = "qwen2_vl"


class Engine:
    """The calls of vLLM's ``LLM`` that are made here.

    Attributes:
        awake: parts that hold memory.
        said: calls in turn.
    """

    def __init__(self, policy):
        self.inner = ServedPolicy(policy)
        self.awake, self.said, self.version, self.stale = {"weights", "kv_cache"}, [], "", False
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: self.said.append("shutdown")))

    def sleep(self, level):
        assert level == 1
        self.awake = set()
        self.said.append("sleep")

    def wake_up(self, tags):
        self.awake |= set(tags or {"weights", "kv_cache"})
        self.said.append(f"wake {tags[0] if tags else 'all'}")
        return len(self.awake) == 2

    def init_weight_transfer_engine(self, request):
        self.said.append("init")

    def start_weight_update(self):
        assert self.awake == {"weights"}, "the caches take no memory while weights come"

    def update_weights(self, request):
        tensors = {name: tensor.clone() for name, tensor in request["update_info"]["tensors"]}
        if self.stale:
            return
        with TemporaryDirectory() as folder:  # names are those of a checkpoint, so they are read as one
            self.inner.policy.model.save_pretrained(folder)
            save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
            self.inner.take(Path(folder, "model.safetensors"))

    def finish_weight_update(self, version):
        self.version = version
        self.said.append(f"version {version}")

    def get_weight_version(self):
        return self.version

    def chat(self, messages, settings, use_tqdm, lora_request):
        assert self.awake == {"weights", "kv_cache"}
        self.said.append(f"chat {len(messages)}")
        if lora_request is not None:
            self.inner.take(lora_request.path)
        rows = [{**vars(how), "model": "m", "messages": one} for one, how in zip(messages, settings, strict=True)]
        return [self.output(self.inner.answer(read(row), None)) for row in rows]

    def output(self, answer):
        choices = [
            SimpleNamespace(
                text=row["message"]["content"], finish_reason=row["finish_reason"], token_ids=row["token_ids"],
                logprobs=[
                    {token: SimpleNamespace(logprob=one["logprob"])}
                    for token, one in zip(row["token_ids"], row["logprobs"]["content"], strict=True)
                ],
            )
            for row in answer["choices"]
        ]  # fmt: skip
        return SimpleNamespace(outputs=choices, prompt_token_ids=answer["prompt_token_ids"])


@pytest.fixture
def load(model_folders):
    def policy(**model):
        return load_policy(ModelConfig(path=str(model_folders[KIND]), **model), RolloutConfig(max_new_tokens=6))

    return policy


@pytest.fixture
def vllm(monkeypatch):
    """Modules by the names that are imported from vLLM."""
    names = {
        "vllm": {"SamplingParams": SimpleNamespace},
        "vllm.sampling_params": {"StructuredOutputsParams": SimpleNamespace},
        "vllm.lora": {}, "vllm.lora.request": {"LoRARequest": lambda name, number, path: SimpleNamespace(path=path)},
    }  # fmt: skip
    for name, attributes in names.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)


def sampler_with(policy, inner, folder=None, **proof):
    llm = Engine(inner)
    engine = Colocated(llm, "m")
    return llm, ServedSampler(policy, engine, ColocatedWeights(engine, folder), Proof(policy, **proof))


def change(policy, part="language_model"):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.core.named_parameters():
            if part in name:
                parameter.add_(0.05 * torch.randn_like(parameter))


def test_it_samples_what_its_seeds_say_and_sleeps_else(load, vllm):
    policy, prompts = load(), prompts_of_mixed_size(2)
    llm, sampler = sampler_with(policy, load())
    drawn = sampler.sample(policy.encode(prompts), 3, Draws(5, 7))
    for number in range(2):
        alone = policy.sample(policy.encode([prompts[number]]), 3, Draws(seed_of(Draws(5, 7), number)))
        assert drawn.text[number] == alone.text[0]
    torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
    first = ["sleep", "wake weights", "init", "version 0", "wake kv_cache", "chat 1", "chat 2", "sleep"]
    assert llm.said == first
    sampler.sample(policy.encode(prompts), 3, Draws(5, 8))
    assert llm.said == [*first, "wake all", "chat 2", "sleep"], "the same weights are not sent again"
    sampler.close()
    assert llm.said[-1] == "shutdown"


@pytest.mark.parametrize("part", ["language_model", "visual"])
def test_new_weights_of_either_part_are_there(load, vllm, part):
    policy, inner, prompts = load(), load(), prompts_of_mixed_size(2)
    llm, sampler = sampler_with(policy, inner)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    change(policy, part)
    drawn = sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
    assert sampler.proof.changed > 2 * sampler.proof.tolerance
    assert "version 1" in llm.said


def test_weights_that_stay_as_they_were_stop_the_run(load, vllm):
    policy, prompts = load(), prompts_of_mixed_size(2)
    llm, sampler = sampler_with(policy, load())
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    change(policy)
    llm.stale = True
    with pytest.raises(ServerError, match="in this process: weights of version 1 are not what it computes with"):
        sampler.sample(policy.encode(prompts), 2, Draws(0, 1))


def test_an_adapter_is_a_request_of_its_own_for_each_version(load, vllm, tmp_path, monkeypatch):
    lora = {"lora": LoraConfig(rank=2)}
    policy, inner, prompts = load(**lora), load(**lora), prompts_of_mixed_size(2)
    llm, sampler = sampler_with(policy, inner, tmp_path)
    take = llm.inner.take
    monkeypatch.setattr(llm.inner, "take", lambda path: take(tmp_path / path / "adapter_model.safetensors"))
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    change(policy, "lora_")
    drawn = sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
    assert [place.name for place in tmp_path.iterdir()] == ["version-000001"]


def test_tensors_have_the_names_of_a_checkpoint(load, tmp_path):
    policy = load()
    policy.model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    given = dict(checkpoint_tensors(policy))
    assert given.keys() == stored.keys()
    assert all(torch.equal(given[name], tensor) for name, tensor in stored.items())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"engine": "own", "mode": "colocate"}, "engine is own"),
        ({"engine": "vllm", "mode": "colocate", "urls": ["http://a"]}, "no urls, serve or ahead"),
        ({"engine": "vllm", "mode": "colocate", "ahead": 1}, "no urls, serve or ahead"),
        ({"engine": "vllm", "urls": ["http://a"], "serve": "vllm serve"}, "needs urls"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        parse_config({"rollout": fields}, "test")


def test_without_vllm_one_line_says_so(load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = parse_config({"rollout": {"engine": "vllm", "mode": "colocate"}}, "test")
    with pytest.raises(ConfigError, match="colocate needs vLLM in this environment"):
        sampler_of(load(), config, tmp_path / "run")
