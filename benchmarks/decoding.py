"""Sampling three ways: recorded and replayed, launched kernel by kernel, and each completion with its prompt.

    python benchmarks/decoding.py --out benchmarks/results/decoding.json          # needs a CUDA GPU
    python benchmarks/decoding.py --cpu --out benchmarks/results/decoding_cpu.json

Decision: the shape of Qwen2-VL-2B in bfloat16 with random weights; one process, because the three ways share a model.
On a CPU it is the tiny model of the step benchmark in float32, one completion and 32, and the ways are our execution of
the layers, the library's layers on the shared prefix, and each completion with its prompt, in alternating rounds.
Of the rounds the fastest counts: the first one loads kernels. Beside the seconds it says how far the
log-probabilities of sampling are from those of scoring (``drift``, mean over tokens): how on-policy an update is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import origin
from ours import prompts_of
from workload import DEVICE, Workload, build

from visual_rft.config.sections import EngineConfig
from visual_rft.policy.engine.replay import Replay
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.policy import Policy

WORKLOADS = (Workload(1229, 128, 8, 1), Workload(614, 128, 8, 4))
WAYS = {"replayed": (True, True), "launched": (True, False), "repeated": (False, False)}
"""Whether the prefix is shared, and whether steps are replayed."""
CPU_WORKLOADS = (Workload(300, 64, 1, 1), Workload(300, 64, 8, 4))
CPU_WAYS = {"ours": (True, True), "library's layers": (True, False), "repeated": (False, False)}
"""Whether the prefix is shared, and whether our execution of the layers runs."""
ROUNDS = 3
CPU_ROUNDS = 15


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its seconds, the device's work included."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def row(model: Any, processor: Any, work: Workload, way: str) -> dict[str, Any]:
    """Seconds of encoding, sampling and scoring, and the drift."""
    shared, Replay.possible = WAYS[way]
    policy = Policy(
        model, processor, Sampling(max_new_tokens=work.completion), engine=EngineConfig(shared_prefix=shared)
    ).to(DEVICE)
    rounds = []
    with torch.no_grad():
        inputs = policy.prepare(prompts_of(work, processor))
        for _ in range(ROUNDS):
            prefix, encode = timed(lambda: policy.encode(inputs))
            completions, sample = timed(lambda: policy.sample(prefix, work.group))  # noqa: B023
            scored, score = timed(lambda: policy.logprobs(prefix, completions))  # noqa: B023
            rounds.append((encode, sample, score))
    encode, sample, score = map(min, zip(*rounds, strict=True))
    drift = (completions.logprobs - scored)[completions.mask].abs().mean().item()
    return {
        "prompts": work.batch, "prompt_tokens": work.length, "group": work.group, "completion_tokens": work.completion,
        "way": way, "encode_seconds": encode, "sample_seconds": sample, "score_seconds": score,
        "milliseconds_per_token": sample / work.completion * 1e3, "drift": drift,
    }  # fmt: skip


def cpu_rows(threads: int) -> list[dict[str, Any]]:
    """Milliseconds per token of every way on a CPU."""
    torch.set_num_threads(threads)
    rows = []
    for work in CPU_WORKLOADS:
        policies, prefixes = {}, {}
        for way, (shared, fused) in CPU_WAYS.items():
            model, processor = build()
            policy = Policy(
                model.eval(), processor, Sampling(max_new_tokens=work.completion),
                engine=EngineConfig(shared_prefix=shared),
            )  # fmt: skip
            if not fused:  # a hook stands for all that is not known
                model.get_decoder().layers[0].mlp.register_forward_hook(lambda *_: None)
            assert policy.fuses_layers == fused
            policies[way] = policy
            with torch.no_grad():
                prefixes[way] = policy.encode(policy.prepare(prompts_of(work, processor)))
        seconds: dict[str, list[float]] = {way: [] for way in policies}
        for _ in range(CPU_ROUNDS):
            for way, policy in policies.items():
                sample = timed(lambda: policy.sample(prefixes[way], work.group))[1]  # noqa: B023
                seconds[way].append(sample)
        for way, each in seconds.items():
            rows.append(
                {"prompts": work.batch, "prompt_tokens": work.length, "group": work.group,
                 "completion_tokens": work.completion, "way": way,
                 "milliseconds_per_token": min(each) / work.completion * 1e3}
            )  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the result goes, as JSON")
    parser.add_argument("--cpu", action="store_true", help="the tiny model on a CPU, one thread")
    arguments = parser.parse_args()
    if arguments.cpu:
        what = "sampling with the tiny model of the step benchmark on a CPU, one thread; the fastest of 15 rounds"
        result = {"what": what, **origin(1), "rows": cpu_rows(1)}
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return 0
    if DEVICE.type != "cuda":
        print(
            "decoding.py: there is no CUDA GPU here; --cpu measures a CPU",
            file=sys.stderr,
        )
        return 2
    model, processor = build("2b", "bfloat16")
    model.to(torch.bfloat16).eval()
    rows = []
    for work in WORKLOADS:
        for way in WAYS:
            rows.append(row(model, processor, work, way))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.out is not None:
        what = "sampling with the shape of Qwen2-VL-2B, bfloat16, random weights; the fastest of three rounds"
        arguments.out.write_text(
            json.dumps({"what": what, **origin(1), "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
