"""An evaluation of 200 images x 20 classes through a vLLM server, beside our own engine, in turns.

Both answer the same 4,000 questions greedily in float32 with the embedded model, by the same code of ``evaluate``. Ours
runs an image through the vision tower once for all its questions; the server is asked 4,000 times, 64 at once, and has
caches of prefixes and encoded images. On a CPU each has one thread for its products, but the server's other processes
(requests, images, tokens) run beside it where a second core is free.

    PYTHONPATH=benchmarks python benchmarks/serving.py .venv-vllm/bin [--images 200] [--repetitions 1]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import origin

from visual_rft.config.config import Config, parse_config
from visual_rft.data.procedural.shapes import CLASSES
from visual_rft.evaluation.plan import Plan
from visual_rft.evaluation.run import evaluate
from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.serving.started import started

ASKED = CLASSES[:20]
ON_A_CPU = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}


def config_of(images: int) -> Config:
    values = {
        "data": {"evaluation": [{"source": "shapes", "count": images, "seed": 11}]}, "rollout": {"max_new_tokens": 96},
    }  # fmt: skip
    return parse_config(values, "serving")


def timed(config: Config, plan: Plan) -> dict[str, Any]:
    start = time.perf_counter()
    found = evaluate(config, plan)
    return {"seconds": round(time.perf_counter() - start, 2), "AP": found["AP"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries", type=Path, help="folder of python and vllm in the environment that has vLLM")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "serving.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_gpu = torch.cuda.is_available()
    binaries = arguments.binaries.absolute()
    variables = {"OMP_NUM_THREADS": str(arguments.threads), **({} if on_gpu else ON_A_CPU)}
    command = [
        str(binaries / "vllm"), "serve", str(EMBEDDED), "--served-model-name", "tiny", "--dtype", "float32",
        "--generation-config", "vllm", "--limit-mm-per-prompt", '{"image": 1, "video": 0}',
        *([] if on_gpu else ["--enforce-eager", "--max-num-seqs", "64"]),
    ]  # fmt: skip
    code = "from importlib.metadata import version; print(version('vllm'))"
    told = subprocess.run([binaries / "python", "-c", code], capture_output=True, text=True, check=True)
    config, small = config_of(arguments.images), config_of(2)
    rows: dict[str, list[dict[str, Any]]] = {"server": [], "own": []}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with started(command, Path(folder) / "server.log", variables) as url:
            ready = round(time.perf_counter() - begun, 1)
            plans = {
                "server": Plan(protocol="all", classes=ASKED, server=(url,)),
                "own": Plan(protocol="all", classes=ASKED),
            }
            for plan in plans.values():
                timed(small, plan)  # warms up; other images than those below
            for _ in range(arguments.repetitions):
                for name, plan in plans.items():
                    rows[name].append(timed(config, plan))
    medians = {name: statistics.median(row["seconds"] for row in found) for name, found in rows.items()}
    result = {
        "what": "evaluation of the embedded model on procedural shapes, protocol all, greedy, float32",
        "images": arguments.images, "classes": len(ASKED), "questions": arguments.images * len(ASKED),
        "median_seconds": medians, "server_over_own": medians["server"] / medians["own"], "repetitions": rows,
        "server_ready_after_seconds": ready, "vllm": told.stdout.strip(), "cores": os.cpu_count(),
        **origin(arguments.threads),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{arguments.images} images x {len(ASKED)} classes: server {medians['server']:.1f} s, own engine "
        f"{medians['own']:.1f} s; AP {rows['server'][0]['AP']:.4f} and {rows['own'][0]['AP']:.4f}"
    )


if __name__ == "__main__":
    main()
