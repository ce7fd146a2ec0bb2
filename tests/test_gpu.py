"""What only a GPU can show: its kernels, its number formats, packages that need it. Skipped where there is none.

Decision: the oracle is the CPU, whose results the other tests check, or float64; a GPU adds in another order, so sums
are compared with tolerances, and half precision with the error that PyTorch's own attention makes on the same numbers.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec

import pytest
import torch
from support.attention import LAYOUTS, in_a_row, rows_alone
from support.oracles import alone_logprobs, prompts_of_mixed_size, random_completions
from support.runs import config, interrupt, metrics, reward_the_letter, weights
from support.tiny_models import FAMILIES, SHARED, random_model

from visual_rft.config.sections import EngineConfig
from visual_rft.policy.engine.attention import flash
from visual_rft.policy.engine.attention.decoding import BLOCK_TOKENS, DecodingAttention
from visual_rft.policy.engine.attention.layout import Layout
from visual_rft.policy.engine.attention.shared_prefix import CompletionAttention
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.replay import Replay
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.memory.budget import free_memory
from visual_rft.policy.policy import Policy
from visual_rft.training.rft import train
from visual_rft.training.sft import train_supervised

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore:decoding is not recorded"),  # mixtures of experts count their tokens
]
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")


@pytest.fixture(autouse=True)
def _exact_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch embeddings are convolutions, which PyTorch computes in TF32 (10 bits) unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(Replay, "possible", True)


def on_gpu(completions: Completions) -> Completions:
    return Completions(
        completions.ids.cuda(), completions.mask.cuda(), completions.logprobs.cuda(), completions.text,
        completions.truncated.cuda(),
    )  # fmt: skip


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative, over the whole tensor."""
    return float((got.detach().double().cpu() - expected.double().cpu()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", [*HALF, "float32"])
@pytest.mark.parametrize("causal", [True, False])
def test_parts_are_as_exact_as_pytorchs_own_attention(dtype, causal):
    """One causal part and one behind a prompt, merged, against float64; SDPA on the concatenation is the measure."""
    kind, tokens, prompt = getattr(torch, dtype), 70, 0 if causal else 130
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(2, 4, tokens, 64).to(kind) for _ in range(4))
    before = [torch.randn(2, 4, prompt, 64).to(kind) for _ in range(2)]
    mask = torch.ones(tokens, prompt + tokens, dtype=torch.bool).tril(prompt)

    def whole(device, dtype):
        leaves = [x.detach().to(device, dtype).requires_grad_() for x in (q, k, v, *before)]
        keys, values = torch.cat([leaves[3], leaves[1]], 2), torch.cat([leaves[4], leaves[2]], 2)
        out = torch.nn.functional.scaled_dot_product_attention(leaves[0], keys, values, mask.to(device), scale=0.2)
        out.backward(grad.to(device, dtype))
        return [out.detach(), *(x.grad for x in leaves)]

    expected, measure = whole("cpu", torch.float64), whole("cuda", kind)
    q, k, v, grad, *before = (x.cuda() for x in (q, k, v, grad, *before))
    out, lse = flash.forward(q, k, v, causal=True, scale=0.2)
    assert lse.dtype == torch.float32
    if prompt:
        part, part_lse = flash.forward(q, *before, causal=False, scale=0.2)
        out, lse = flash.merge(part, part_lse, out, lse)
    got_q, got_k, got_v = flash.backward(grad, q, k, v, out, lse, causal=True, scale=0.2)
    got = [out, got_q, got_k, got_v]
    if prompt:
        more_q, *more = flash.backward(grad, q, *before, out, lse, causal=False, scale=0.2)
        got = [out, got_q + more_q, got_k, got_v, *more]
    for one, want, theirs in zip(got, expected, measure, strict=False):
        assert error(one, want) <= 2 * error(theirs, want) + 1e-6


@pytest.mark.parametrize("dtype", [*HALF, "float32"])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_completions_attend_to_their_prompt_and_to_themselves(layout, heads, dtype):
    tolerance = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-5}[dtype]
    prompt_lengths, lengths, prompts = LAYOUTS[layout]
    torch.manual_seed(2)
    shapes = [(heads[0], sum(lengths)), *2 * [(heads[1], sum(lengths))], *2 * [(heads[1], sum(prompt_lengths))]]
    leaves = [torch.randn(1, *shape, 16, device="cuda", dtype=getattr(torch, dtype)) for shape in shapes]
    for leaf in leaves:
        leaf.requires_grad_()
    q, k, v, prefix_k, prefix_v = leaves
    where = Layout.of(lengths, prompts, prompt_lengths, q.device)
    attention = CompletionAttention(((in_a_row(prefix_k), in_a_row(prefix_v)),), where)
    got = attention(0, *map(in_a_row, (q, k, v)), 0.3).transpose(0, 1)[None]
    exact = [leaf.detach().double().cpu().requires_grad_() for leaf in leaves]
    expected = rows_alone(*exact, layout, 0.3)
    assert error(got, expected.detach()) < tolerance
    grad = torch.randn(got.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, exact, grad)
    for one, want in zip(torch.autograd.grad(got, leaves, grad.to(got)), wanted, strict=True):
        assert error(one, want) < tolerance


@pytest.mark.parametrize("fixed", [False, True], ids=["growing", "fixed"])
@pytest.mark.parametrize("dtype", [*HALF, "float32"])
def test_decoding_token_by_token_equals_scoring_at_once(dtype, fixed):
    tolerance = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-5}[dtype]
    torch.manual_seed(3)
    tokens, group, lengths = BLOCK_TOKENS + 5, 3, (30, 60)
    new = {"device": "cuda", "dtype": getattr(torch, dtype)}
    prefix = (torch.randn(sum(lengths), 2, 16, **new), torch.randn(sum(lengths), 2, 16, **new))
    rows = len(lengths) * group
    q, k, v = (torch.randn(heads, rows, tokens, 16, **new) for heads in (4, 2, 2))
    layout = Layout.of((tokens,) * rows, tuple(i // group for i in range(rows)), lengths, q.device)
    expected = CompletionAttention((prefix,), layout)(0, *(x.flatten(1, 2).transpose(0, 1) for x in (q, k, v)), 0.3)
    expected = expected.unflatten(0, (rows, tokens))
    decoding = DecodingAttention((prefix,), lengths, group, fixed=fixed)
    for t in range(tokens):
        decoding.begin_token()
        got = decoding(0, *(x[:, :, t].transpose(0, 1) for x in (q, k, v)), 0.3)
        assert error(got, expected[:, t]) < tolerance


@pytest.mark.parametrize("setting", [{}, {"memory_gib": 1e-6}, {"shared_prefix": False}], ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_logprobs_and_gradients_equal_those_on_the_cpu(kind, setting):
    cpu = Policy(*random_model(kind), Sampling(temperature=0.8))
    prompts = prompts_of_mixed_size(5)
    completions = random_completions(cpu, 5, group=3, length=9)
    weight = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(5))
    expected = alone_logprobs(cpu, prompts, completions)
    (expected * weight).sum().backward()

    gpu = Policy(*random_model(kind), Sampling(temperature=0.8), engine=EngineConfig(**setting))
    gpu.to(torch.device("cuda"))
    prefix = gpu.encode(prompts, for_sampling=True)
    got = gpu.backward(prefix, on_gpu(completions), WeightedLogprobs(weight.cuda()))
    torch.testing.assert_close(got.cpu(), expected.detach(), atol=5e-5, rtol=1e-4)
    wanted = {name: p.grad for name, p in cpu.model.named_parameters() if p.grad is not None}
    scale = torch.cat([g.flatten() for g in wanted.values()]).norm()
    for name, parameter in gpu.model.named_parameters():
        if name in wanted:
            difference = (parameter.grad.cpu() - wanted[name]).norm()
            assert difference <= 3e-4 * max(wanted[name].norm(), 1e-2 * scale), name


@pytest.mark.parametrize("kind", FAMILIES)
def test_sampled_logprobs_are_the_scored_ones(kind):
    policy = Policy(*random_model(kind), Sampling(max_new_tokens=20, temperature=0.7)).to(torch.device("cuda"))
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 4, Draws(0))
    torch.testing.assert_close(completions.logprobs, policy.logprobs(prefix, completions), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "llava_onevision"])
def test_replayed_steps_are_the_scored_ones(kind):
    """Over two blocks of the buffers, with rows that end at different times: recorded anew after each change."""
    policy = Policy(*random_model(kind), Sampling(max_new_tokens=BLOCK_TOKENS + 30)).to(torch.device("cuda"))
    policy.end_ids = [7, 8, 9, 10]
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 8, Draws(2))
    lengths = completions.lengths
    assert lengths.min() < BLOCK_TOKENS < lengths.max()
    with torch.no_grad():
        scored = policy.logprobs(prefix, completions)
    torch.testing.assert_close(completions.logprobs, scored, atol=1e-4, rtol=1e-4)
    assert Replay.possible


def test_recorded_steps_do_not_take_more_and_more_memory():
    policy = Policy(*random_model("qwen3_vl"), Sampling(max_new_tokens=6)).to(torch.device("cuda"))
    prefix = policy.encode(prompts_of_mixed_size(2))
    reserved = []
    for _ in range(20):
        policy.sample(prefix, 2, Draws(0))
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[2]


def test_a_step_is_replayed_from_the_third_on():
    policy = Policy(*random_model("qwen3_vl")).to(torch.device("cuda"))
    with torch.inference_mode():
        decoder = policy.engine.decoder(policy.encode(prompts_of_mixed_size(2)), 2)
        calls = []
        decoder.engine.forward = lambda *given, real=decoder.engine.forward: calls.append(1) or real(*given)
        for _ in range(6):
            decoder.step(torch.full((4,), 20, device="cuda"))
    assert len(calls) == 2
    assert decoder.attention.length == 6


def test_what_waits_for_the_device_is_called_as_it_is():
    replay = Replay()
    results = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for value in range(4):
            given = torch.full((2,), float(value), device="cuda")
            results.append(replay(lambda x: x + x.sum().item(), given).tolist())
    assert results == [[0, 0], [3, 3], [6, 6], [9, 9]]
    assert len(seen) == 1
    assert "not recorded as a CUDA graph" in str(seen[0].message)


@pytest.mark.parametrize("kind", SHARED)
def test_greedy_answers_are_those_of_the_cpu(kind):
    drawn = []
    for device in ("cpu", "cuda"):
        policy = Policy(*random_model(kind), Sampling(max_new_tokens=10)).to(torch.device(device))
        drawn.append(policy.sample(policy.encode(prompts_of_mixed_size(3)), 2, greedy=True).ids.cpu())
    assert torch.equal(*drawn)


@pytest.mark.parametrize("kind", SHARED)
def test_bfloat16_costs_no_more_when_the_prefix_is_shared(kind):
    """Log-probabilities with weights in bfloat16 against float32, by both paths; and of sampling against scoring."""
    exact = Policy(*random_model(kind))
    prompts = prompts_of_mixed_size(3)
    completions = random_completions(exact, 3, group=3, length=9)
    with torch.no_grad():
        expected = alone_logprobs(exact, prompts, completions)
    errors, drifts = [], []
    for shared in (True, False):
        model, processor = random_model(kind)
        policy = Policy(model.to(torch.bfloat16), processor, engine=EngineConfig(shared_prefix=shared))
        policy.to(torch.device("cuda"))
        with torch.no_grad():
            got = policy.logprobs(policy.encode(prompts), on_gpu(completions)).float().cpu()
            drawn = policy.sample(policy.encode(prompts), 3, Draws(0))
            scored = policy.logprobs(policy.encode(prompts), drawn)
        errors.append(float((got - expected)[completions.mask].abs().mean()))
        drifts.append(float((drawn.logprobs - scored)[drawn.mask].abs().mean()))
    assert errors[0] < 1.5 * errors[1]
    # Decoding rounds its scores to bfloat16, flash attention does not.
    assert max(drifts) < 0.05  # 0.02 seen


SETTINGS = {
    "float32": {},
    "autocast": {"autocast": "bfloat16"},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, LoRA": {"dtype": "bfloat16", "lora": {"rank": 4}},
    "LoRA": {"lora": {"rank": 4}},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("loop", [train, train_supervised], ids=["rft", "sft"])
def test_a_run_trains_resumes_and_evaluates(monkeypatch, model_folders, tmp_path, loop, setting):
    reward_the_letter(monkeypatch)
    folder = tmp_path / "run"
    sections = {
        "model": SETTINGS[setting],
        "rollout": {"group_size": 8},
        "run": {"steps": 4, "checkpoint_every": 2, "prompts_per_batch": 4},
    }
    settings = config(folder, model_folders["qwen2_vl"], **sections)
    interrupt(loop, settings, 4)
    summary = loop(settings, resume=True)
    assert [line["step"] for line in metrics(folder)] == [0, 1, 2, 3]
    assert json.loads((folder / "environment.json").read_text())["device"] == torch.cuda.get_device_name()
    assert summary["steps"] == 4


def test_reinforcement_raises_the_rewarded_behaviour(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    run = {"steps": 25, "prompts_per_batch": 4, "rollouts_every": 0}
    sections = {
        "model": {"autocast": "bfloat16"},
        "rollout": {"group_size": 8},
        "objective": {"beta": 0.0},
        "optimizer": {"learning_rate": 5e-3, "schedule": "constant"},
        "run": run,
    }
    train(config(tmp_path / "run", model_folders["qwen2_vl"], **sections))
    rewards = [line["reward"] for line in metrics(tmp_path / "run")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore:inner dimension")  # of the tiny model
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_learns_under_its_adapter(monkeypatch, model_folders, tmp_path, quantization):
    reward_the_letter(monkeypatch)
    model = {"dtype": "bfloat16", "lora": {"rank": 4}, "quantization": quantization}
    train(config(tmp_path / "run", model_folders["qwen2_vl"], model=model, rollout={"group_size": 8}))
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["grad_norm"] > 0 for line in lines)


@needs_bitsandbytes
def test_the_eight_bit_optimizer_trains_and_resumes(monkeypatch, model_folders, tmp_path):
    reward_the_letter(monkeypatch)
    optimizer = {"name": "adamw_8bit", "learning_rate": 1e-3}
    base = model_folders["qwen2_vl"]
    run = {"steps": 4, "checkpoint_every": 2, "prompts_per_batch": 4}
    settings = config(tmp_path / "run", base, optimizer=optimizer, run=run)
    interrupt(train, settings, 4)
    summary = train(settings, resume=True)
    after, before = weights(summary["checkpoint"] + "/model"), weights(base)
    assert any(not torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("parallel", [{}, {"gather": "layer"}, {"gather": "layer", "offload": "optimizer"}])
def test_shards_take_the_same_steps(parallel, monkeypatch, model_folders, tmp_path):
    """One process: layers that come and go, and an optimiser in the CPU's memory, beside the plain bfloat16 run."""
    reward_the_letter(monkeypatch)
    common = {"model": {"dtype": "bfloat16"}, "optimizer": {"learning_rate": 1e-5}}
    train(config(tmp_path / "plain", model_folders["qwen2_vl"], **common))
    common["parallel"] = {"strategy": "fsdp", **parallel}
    train(config(tmp_path / "shards", model_folders["qwen2_vl"], **common))
    plain, shards = (metrics(tmp_path / name) for name in ("plain", "shards"))
    for name in ("reward", "grad_norm"):
        assert [x[name] for x in shards] == pytest.approx([x[name] for x in plain], rel=0.05), name


def test_free_memory_is_that_of_the_gpu():
    model, _ = random_model("qwen2_vl")
    free = free_memory(model.cuda())
    assert 0 < free <= torch.cuda.mem_get_info()[1]
