"""Rollouts from a server with a model of its own: the same completions, weights that arrive, faults that stop a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.oracles import prompts_of_mixed_size
from support.runs import config, metrics, reward_the_letter, weights
from support.served_policy import ServedPolicy

from visual_rft.config.config import parse_config
from visual_rft.config.sections import LoraConfig, ModelConfig, RolloutConfig
from visual_rft.errors import ConfigError, ServerError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.report.health import findings
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler, seed_of
from visual_rft.samplers.weights import AdapterWeights, FileWeights
from visual_rft.serving.client import Client
from visual_rft.serving.patience import Patience
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised

QUICK = Patience(tries=2, first_pause=0.001, longest_pause=0.002, answer=20.0)
KIND = "qwen2_vl"


@pytest.fixture
def policy(model_folders):
    return load_policy(ModelConfig(path=str(model_folders[KIND])), RolloutConfig(max_new_tokens=6))


@pytest.fixture
def server(model_folders):
    with ServedPolicy(load_policy(ModelConfig(path=str(model_folders[KIND])), RolloutConfig(max_new_tokens=6))) as one:
        yield one


def sampler_of(policy, server, folder: Path, ahead: int = 0, **fields) -> ServedSampler:
    client = Client([server.url], patience=QUICK)
    return ServedSampler(policy, client, FileWeights(client, folder), Proof(policy, **fields), ahead)


def change(policy, size: float = 0.05, part: str = "language_model") -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.core.named_parameters():
            if part in name:
                parameter.add_(size * torch.randn_like(parameter))


def test_completions_are_those_that_the_server_drew(policy, server, tmp_path):
    """The oracle is the policy's own sampler with the seeds that were sent."""
    prompts = prompts_of_mixed_size(3)
    sampler = sampler_of(policy, server, tmp_path)
    prefix = policy.encode(prompts)
    drawn = sampler.sample(prefix, 3, Draws(5, 7))
    sampler.close()
    assert drawn.ids.shape[:2] == (3, 3)
    for number in range(3):
        alone = policy.sample(policy.encode([prompts[number]]), 3, Draws(seed_of(Draws(5, 7), number)))
        assert drawn.text[number] == alone.text[0]
        length = alone.ids.shape[-1]
        assert drawn.ids[number, :, :length].tolist() == alone.ids[0].tolist()
        torch.testing.assert_close(drawn.logprobs[number, :, :length], alone.logprobs[0], atol=2e-5, rtol=1e-5)
        assert drawn.truncated[number].tolist() == alone.truncated[0].tolist()
    torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
    assert drawn.lag == 0
    body = server.asked[-1].body
    assert body["logit_bias"] == {str(i): -100 for i in policy.forbidden.tolist()}, "placeholders are never sampled"


def test_weights_arrive_and_are_proven(policy, server, tmp_path):
    sampler = sampler_of(policy, server, tmp_path)
    prompts = prompts_of_mixed_size(2)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    before = sampler.policy.core.state_dict()["lm_head.weight"].clone()
    change(policy)
    assert not torch.equal(before, policy.core.state_dict()["lm_head.weight"]), "tied to the embedding that changed"
    drawn = sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
    assert sampler.proof.changed > 0.01
    assert sampler.proof.unproven == 0
    assert server.versions == [None, "0", "1"]
    paths = [path.split("?")[0] for _, path, _ in server.calls if path != "/weight_info"]
    update = ["/pause", "/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache",
              "/reset_mm_cache", "/reset_encoder_cache", "/resume"]  # fmt: skip
    assert paths == ["/init_weight_transfer_engine", *update, *update]
    assert [place.name for place in tmp_path.iterdir()] == ["version-000001"], "old ones are deleted"
    sampler.sample(policy.encode(prompts), 2, Draws(0, 2))
    assert server.versions[-1] == "1", "the same weights are pushed once"
    sampler.close()


@pytest.mark.parametrize(("stale", "part"), [("weights", "language_model"), ("images", "visual")])
def test_weights_that_do_not_arrive_stop_the_run(policy, server, tmp_path, stale, part):
    """The server says 200 and computes on with the old weights, or with what the old tower said about an image."""
    sampler = sampler_of(policy, server, tmp_path, tolerance=1e-4)
    prompts = prompts_of_mixed_size(2)
    server.stale = stale if stale == "images" else ""
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    server.stale = stale
    change(policy, part=part)
    with pytest.raises(ServerError, match=r"version 1 are not what it computes with.*after a prompt with an image"):
        sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    assert sampler.proof.changed > 2e-4
    sampler.close()


def test_a_change_too_small_to_be_told_is_counted_until_it_is_not(policy, server, tmp_path):
    sampler = sampler_of(policy, server, tmp_path, tolerance=0.01)
    prompts = prompts_of_mixed_size(1)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    change(policy, 1e-7)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    assert sampler.proof.unproven == 1
    change(policy, 0.1)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 2))
    assert sampler.proof.unproven == 0
    sampler.close()


def test_another_prompt_is_refused_and_both_are_shown(policy, server, tmp_path):
    sampler = sampler_of(policy, server, tmp_path)
    server.drop_token = True
    with pytest.raises(ServerError, match=r"the server reads another prompt: \d+ tokens here, \d+ there; from token"):
        sampler.sample(policy.encode(prompts_of_mixed_size(2)), 2, Draws(0, 0))
    sampler.close()


def test_a_server_that_was_started_anew_is_noticed(policy, server, tmp_path):
    sampler = sampler_of(policy, server, tmp_path)
    prompts = prompts_of_mixed_size(1)
    sampler.sample(policy.encode(prompts), 2, Draws(0, 0))
    server.versions.append("default")
    with pytest.raises(ServerError, match=r"has weights of version 'default', '0' was pushed"):
        sampler.sample(policy.encode(prompts), 2, Draws(0, 1))
    sampler.close()


def test_an_adapter_has_a_name_of_its_own_for_each_version(model_folders, tmp_path):
    model = ModelConfig(path=str(model_folders[KIND]), lora=LoraConfig(rank=2))
    ours, theirs = (load_policy(model, RolloutConfig(max_new_tokens=6)) for _ in range(2))
    with ServedPolicy(theirs) as server:
        client = Client([server.url], patience=QUICK)
        sampler = ServedSampler(ours, client, AdapterWeights(client, tmp_path), Proof(ours))
        prompts = prompts_of_mixed_size(1)
        for step in range(2):
            change(ours, 0.1, "lora_")
            drawn = sampler.sample(ours.encode(prompts), 2, Draws(0, step))
            torch.testing.assert_close(drawn.sampled, drawn.logprobs, atol=2e-5, rtol=1e-5)
        sampler.close()
    asked = [one.body["model"] for one in server.asked]
    assert len(set(asked)) == 2
    unloaded = [body["lora_name"] for _, path, body in server.calls if path == "/v1/unload_lora_adapter"]
    assert unloaded == [asked[0]]


def settings(folder: Path, base, server, **rollout):
    return config(
        folder, base,
        rollout={"engine": "vllm", "urls": [server.url], "tries": 2, "max_new_tokens": 6, "group_size": 2, **rollout},
        run={"steps": 3, "evaluate_base": False}, objective={"beta": 0.0},
    )  # fmt: skip


def test_training_through_a_server(tmp_path, model_folders, server, monkeypatch):
    reward_the_letter(monkeypatch)
    train(settings(tmp_path / "run", model_folders[KIND], server))
    rows = metrics(tmp_path / "run")
    assert len(rows) == 3
    assert max(row["sampler/largest_difference"] for row in rows) < 1e-3
    assert {row["sampler/lag"] for row in rows} == {0}
    assert {row["sampler/masked_share"] for row in rows} == {0}
    assert server.versions[-1] == "2", "pushed before each step, not after the last"


def test_one_step_ahead_is_one_update_behind(tmp_path, model_folders, server, monkeypatch):
    reward_the_letter(monkeypatch)
    train(settings(tmp_path / "run", model_folders[KIND], server, ahead=1))
    rows = metrics(tmp_path / "run")
    assert [row["sampler/lag"] for row in rows] == [0, 1, 1]
    assert rows[2]["sampler/largest_difference"] > 1e-4, "the weights have changed since, and the loss corrects for it"
    assert rows[0]["sampler/largest_difference"] < 1e-3


def test_the_own_engine_is_what_it_was(tmp_path, model_folders, monkeypatch):
    reward_the_letter(monkeypatch)
    train(config(tmp_path / "run", model_folders[KIND]))
    assert not [name for name in metrics(tmp_path / "run")[0] if name.startswith("sampler/")]


def test_a_server_that_dies_in_a_run_leaves_a_checkpoint_to_go_on_from(tmp_path, model_folders, server, monkeypatch):
    reward_the_letter(monkeypatch)
    run = settings(tmp_path / "run", model_folders[KIND], server)
    chat, asked = server.chat, []

    def dies(request, body):
        asked.append(body["max_tokens"])
        if len(asked) > 5:  # proof and two prompts of the first step, proof and one of the second
            server.faults = ["500"]
        chat(request, body)

    server.chat = dies
    with pytest.raises(ServerError, match="status 500"):
        train(run)
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]
    assert len(metrics(tmp_path / "run")) == 1, "the step whose rollout was not whole has not been learned from"
    server.chat = chat
    train(run, resume=True)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [0, 1, 2]
    assert weights(tmp_path / "run" / "checkpoints" / "step-000003" / "model")


def test_a_server_that_is_not_there_leaves_no_folder(tmp_path, model_folders, server):
    server.stop()
    with pytest.raises(ServerError, match="is it running"):
        train(settings(tmp_path / "run", model_folders[KIND], server))
    assert not (tmp_path / "run").exists()


def test_supervised_training_asks_no_server(tmp_path, model_folders, server):
    train_supervised(settings(tmp_path / "run", model_folders[KIND], server))
    assert server.asked == []


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"engine": "vllm"}, "engine vllm needs urls"),
        ({"urls": ["http://a"]}, "engine is own"),
        ({"ahead": 1}, "engine is own"),
        ({"engine": "vllm", "urls": ["http://a"], "top_p": 0.9}, "top_k stays 0 and top_p 1"),
        ({"engine": "vllm", "urls": ["http://a"], "ahead": 1, "rest_steps": 2}, "look back"),
    ],
)
def test_what_does_not_go_together(rollout, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"rollout": rollout}, "test")
    with pytest.raises(ConfigError, match="a server does not give"):
        parse_config({"rollout": {"engine": "vllm", "urls": ["http://a"]}, "objective": {"top_entropy": 0.2}}, "test")


def test_health_warns_of_a_sampler_that_differs():
    rows = [{"step": n, "sampler/mean_difference": 0.2, "sampler/masked_share": 0.0} for n in range(10)]
    assert [finding.name for finding in findings(rows)] == ["sampler differs"]
    rows = [{"step": n, "sampler/mean_difference": 0.01, "sampler/masked_share": 0.2} for n in range(10)]
    assert "20% of the tokens were left out" in findings(rows)[0].text
    assert findings([{**row, "sampler/masked_share": 0.0} for row in rows]) == []
