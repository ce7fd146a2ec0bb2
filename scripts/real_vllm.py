"""A real vLLM on a CPU beside the policy: do both say the same, do weights arrive, is an evaluation the same?

Started by ``make test-vllm``, which makes the server's environment. Everything happens on the loopback address, with
the embedded model; the result is written as JSON.

    python scripts/real_vllm.py .venv-vllm/bin/python --out benchmarks/results/vllm_cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import torch
from support.runs import metrics

from visual_rft.config.config import parse_config
from visual_rft.config.sections import LoraConfig, ModelConfig, RolloutConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.evaluation.plan import Plan
from visual_rft.evaluation.run import evaluate
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler
from visual_rft.samplers.weights import AdapterWeights, FileWeights
from visual_rft.serving.client import Client
from visual_rft.tasks import load_task
from visual_rft.training.rft import train

AGREE = 1e-4
"""Nats: greatest difference of a log-probability between vLLM and transformers, float32."""
START_SECONDS = 300


@contextmanager
def served(python: str, *options: str) -> Iterator[str]:
    """A server of the embedded model; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }  # fmt: skip
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(EMBEDDED), "--served-model-name", "tiny",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024",
        "--max-num-seqs", "16", "--limit-mm-per-prompt", '{"image": 1, "video": 0}',
        "--logprobs-mode", "processed_logprobs", *options,
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            wait_for(port, server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def wait_for(port: int, server: subprocess.Popen[bytes], log: Any) -> None:
    """Until the server is ready; its last words if it ends."""
    for _ in range(START_SECONDS):
        if server.poll() is not None:
            log.seek(0)
            sys.exit(log.read().decode(errors="replace")[-6000:])
        with suppress(httpx2.TransportError):
            if httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return
        time.sleep(1)
    sys.exit(f"vLLM was not ready within {START_SECONDS} s")


def changed(policy: Policy, part: str) -> None:
    """Other weights, from a seed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if part in name:
                parameter.add_(0.02 * torch.randn_like(parameter))


def apart(policy: Policy, sampler: ServedSampler, prompts: list[Prompt], step: int) -> float:
    """Greatest difference of a sampled token's log-probability, G = 4."""
    drawn = sampler.sample(policy.encode(prompts), 4, Draws(0, step))
    assert drawn.sampled is not None
    return float((drawn.sampled - drawn.logprobs).abs()[drawn.mask].max())


def pushes(url: str, folder: Path, lora: bool) -> dict[str, Any]:
    """Log-probabilities before a push, and after one of other weights of both parts, about the same images."""
    model = ModelConfig(lora=LoraConfig(rank=4) if lora else None)
    policy = load_policy(model, RolloutConfig(max_new_tokens=48))
    task = load_task("detection")
    prompts = [Prompt.of(task, scene.ask(scene.labels[0]), policy.space) for scene in Shapes(3, seed=2)]
    client = Client([url], "tiny")
    way = AdapterWeights if lora else FileWeights
    proof = Proof(policy, AGREE)
    sampler = ServedSampler(policy, client, way(client, folder), proof, 4)
    found: dict[str, Any] = {"before": apart(policy, sampler, prompts, 0)}
    for step, part in enumerate(["lora_"] if lora else ["language_model", "visual"], 1):
        changed(policy, part)
        found[f"after {part}"] = apart(policy, sampler, prompts, step)
        found[f"the policy changed by, {part}"] = proof.changed
    sampler.close()
    return found


def run_of(folder: Path, **rollout: Any) -> dict[str, Any]:
    """Five steps of a run: mean reward of each."""
    data = [{"source": "shapes", "count": 32, "seed": 3}]
    values = {
        "data": {"train": data, "evaluation": [{"source": "shapes", "count": 8, "seed": 4}]},
        "rollout": {"group_size": 4, "max_new_tokens": 96, **rollout},
        "optimizer": {"learning_rate": 1e-5}, "objective": {"beta": 0.0},
        "run": {"folder": str(folder), "steps": 5, "prompts_per_batch": 8, "evaluate_base": False},
    }  # fmt: skip
    train(parse_config(values, "five steps"))
    rows = metrics(folder)
    return {
        "reward": [round(row["reward"], 4) for row in rows],
        "reward_std": [round(row["reward_std"], 4) for row in rows],
        "largest difference": [row.get("sampler/largest_difference") for row in rows],
    }


def evaluations(url: str) -> dict[str, Any]:
    """The same held-out questions, asked of the server and of a policy here."""
    config = parse_config(
        {"data": {"evaluation": [{"source": "shapes", "count": 20, "seed": 5}]}, "rollout": {"max_new_tokens": 96}}, "-"
    )
    found = {}
    for name, plan in (("server", Plan(server=(url,), server_model="tiny")), ("here", Plan())):
        started = time.monotonic()
        found[name] = {"AP": evaluate(config, plan)["AP"], "seconds": round(time.monotonic() - started, 1)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="of the environment that has vLLM")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vllm_cpu.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"versions": {"torch": version("torch"), "transformers": version("transformers")}}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with served(arguments.python, "--weight-transfer-config", '{"backend": "folder"}') as url:
            result["evaluation"] = evaluations(url)  # of the weights it was started with
            result["weights pushed"] = pushes(url, folder / "pushed", lora=False)
            result["five steps, server"] = run_of(folder / "server", engine="vllm", urls=[url], served_model="tiny")
        with served(arguments.python, "--enable-lora", "--max-lora-rank", "8") as url:
            result["adapter pushed"] = pushes(url, folder / "adapter", lora=True)
        result["five steps, here"] = run_of(folder / "own")
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    differences = [
        value for part in ("weights pushed", "adapter pushed") for name, value in result[part].items()
        if not name.startswith("the policy")
    ]  # fmt: skip
    same = result["evaluation"]["server"]["AP"] == result["evaluation"]["here"]["AP"]
    means = [sum(result[f"five steps, {who}"]["reward"]) / 5 for who in ("server", "here")]
    spread = sum(result["five steps, here"]["reward_std"]) / 5
    near = abs(means[0] - means[1]) < 4 * spread / (5 * 8 * 4) ** 0.5  # four standard errors of 160 rewards
    failed = [
        name for name, good in (
            (f"log-probabilities within {AGREE}", max(differences) < AGREE), ("equal AP", same), ("equal rewards", near)
        ) if not good
    ]  # fmt: skip
    sys.exit(f"not as it should be: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
