"""Sampling on a GPU three ways: recorded and replayed, launched kernel by kernel, and each completion with its prompt.

    python benchmarks/decoding.py --out benchmarks/results/decoding.json      # needs a CUDA GPU

Decision: the shape of Qwen2-VL-2B in bfloat16 with random weights; one process, because the three ways share a model.
Of three rounds the fastest counts: the first one loads kernels. Beside the seconds it says how far the
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
ROUNDS = 3


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its seconds, the device's work included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
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


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the result goes, as JSON")
    arguments = parser.parse_args()
    if DEVICE.type != "cuda":
        print("decoding.py: there is no CUDA GPU here, and on a CPU nothing is recorded", file=sys.stderr)
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
