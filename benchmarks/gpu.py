"""Everything that only a machine with a GPU can show, in one command of at most eight minutes: ``make gpu``.

    python benchmarks/gpu.py                    # benchmarks/results/gpu/<device>.json
    python benchmarks/gpu.py --rehearsal        # the same parts on tiny shapes, on any machine: make gpu-rehearsal

The parts, each a process with a time box of its own, and its result written as soon as it is there:

    tests                 tests/test_gpu.py: how many passed, failed and were skipped
    SHAPE, full | LoRA    a whole GRPO step of this package: its parts, its memory against the estimate of --dry-run,
                          and decoding per token. full: bfloat16 weights with float32 masters, and a reference; LoRA:
                          rank 64 on bfloat16 under autocast
    SHAPE, fsdp           the same in full with masters, gradients and averages in shards, of which there is one here:
                          held as they are, and by layer with the optimiser in the CPU's memory
    SHAPE, TRL            the same step of TRL's GRPOTrainer (bfloat16, its defaults, the library's generate)
    SHAPE, TRL and vLLM   the same with vLLM in the same process, where it is installed
    vLLM, MODE            three steps of the embedded model whose answers vLLM samples, where it is installed: how far
                          its log-probabilities are from the policy's after each push (docs/serving.md)

Decision: random weights in the shapes of Qwen2-VL-2B and Qwen2.5-VL-3B, because time and memory do not depend on them
and no checkpoint has to be there. A part that fails or takes too long leaves a line that says so, and the next one
runs. The first step of each part warms up; figures are medians of the next three.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from measure import PeakMemory, origin
from memory import Case, estimate
from workload import DEVICE, Workload

from visual_rft.config.parallel import ParallelConfig
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.footprint import count_parameters, most_held

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "gpu"
BUDGET_SECONDS = 480.0
"""Of all parts together, on a GPU."""
BOX_SECONDS = {"tests": 150.0, "step": 60.0, "fsdp": 45.0, "trl": 60.0, "vllm": 75.0}
"""Of each kind of part; a part gets less where less of the budget is left."""
REHEARSAL_PATIENCE = 5.0
"""Times as much in a rehearsal, which may share its cores and is not to fail by that."""
STEPS = {False: 3, True: 1}
"""Steps that are counted, after one that is not."""
SHAPES = {False: ("qwen2-vl-2b", "qwen2.5-vl-3b"), True: ("qwen2-vl toy", "qwen2.5-vl toy")}
WORK = {
    # 512 image tokens, as images of 401,408 pixels have; 8 x 8 answers of 256 tokens.
    False: Workload(length=614, completion=256, group=8, batch=8, beta=0.04, dtype="bfloat16"),
    True: Workload(length=60, completion=6, group=2, batch=2, beta=0.04, dtype="bfloat16"),
}
TUNINGS = {"full": (0, "no"), "LoRA": (64, "bfloat16")}
"""Rank of the adapter, and the type of autocast."""
SHARDED = {
    "fsdp": {"strategy": "fsdp"},
    "fsdp by layer, offloaded": {"strategy": "fsdp", "gather": "layer", "offload": "optimizer"},
}
"""Settings of ``parallel`` that are measured, with the first shape."""
TRL_ROWS = 8
"""Rows of a forward pass of TRL's update, as GRPOConfig comes."""


def parts_of(rehearsal: bool) -> list[tuple[str, str, list[str]]]:
    """Name of each part, which box it has, and the arguments of its process."""
    parts = [("tests", "tests", ["tests"])]
    for shape in SHAPES[rehearsal]:
        parts += [(f"{shape}, {tuning}", "step", ["step", shape, tuning]) for tuning in TUNINGS]
    first = SHAPES[rehearsal][0]
    parts += [(f"{first}, {way}", "fsdp", ["fsdp", first, way]) for way in SHARDED]
    for shape in SHAPES[rehearsal]:
        parts.append((f"{shape}, TRL", "trl", ["trl", shape]))
        if find_spec("vllm") is not None:
            parts.append((f"{shape}, TRL and vLLM", "vllm", ["vllm", shape]))
    if find_spec("vllm") is not None:
        parts += [(f"vLLM, {mode}", "vllm", ["served", mode]) for mode in ("colocate", "server")]
    return parts


def run_tests(rehearsal: bool) -> dict[str, Any]:
    """``tests/test_gpu.py``, summed up; without a GPU all of them are skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        done = subprocess.run([*command, "tests/test_gpu.py"], cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.exists():
            raise RuntimeError(f"pytest wrote no report: {done.stdout[-300:]}{done.stderr[-300:]}")
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        failed = [
            f"{case.get('name')}: {' '.join(str(fault.get('message')).split())[:200]}"
            for case in suite.iter("testcase")
            for fault in (*case.findall("failure"), *case.findall("error"))
        ]
    return {**counts, "failed": failed}


def run_step(rehearsal: bool, shape: str, tuning: str) -> dict[str, Any]:
    """A whole step of ours: seconds by stage, memory against the estimate, milliseconds per token."""
    from ours import Ours

    rank, autocast = TUNINGS[tuning]
    work = WORK[rehearsal]
    case = Case(shape, rank, work.dtype, work, None, autocast)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.save(folder)
        memory = PeakMemory()
        memory.start()
        config = case.config(folder)
        ours = Ours(work, folder, config.engine, config.model)
        ours.step()
        seconds = medians([ours.times() for _ in range(STEPS[rehearsal])])
        peak = memory.peak
        limit = ours.policy.budget.limit_bytes(ours.policy.model, 0.0)  # what the run itself took
        footprint, counts = estimate(replace(case, activations=limit / 2**30), folder)
    return {
        "shape": shape, "tuning": tuning, **counts, "seconds": seconds,
        "milliseconds_per_token": round(1000 * seconds["stage/sample"] / work.completion, 3),
        "peak_gib": round(peak / 2**30, 3), "estimated_gib": round(footprint.total / 2**30, 3),
        "estimated_over_measured": round(footprint.total / max(peak, 1), 3),
        "parts_gib": {part: round(size / 2**30, 3) for part, size in footprint.parts.items()},
    }  # fmt: skip


def run_fsdp(rehearsal: bool, shape: str, way: str) -> dict[str, Any]:
    """A whole step with shards: seconds by stage, and the highest mark of memory against what the estimate counts."""
    from ours import Ours

    work = WORK[rehearsal]
    case = Case(shape, 0, work.dtype, work, None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.save(folder)
        memory = PeakMemory()
        memory.start()
        config = case.config(folder)
        run = config.model_copy(update={"parallel": ParallelConfig.model_validate(SHARDED[way])})
        ours = Ours(work, folder, run.engine, run.model, run)
        ours.step()
        ours.step()
        peak = memory.peak
        policy = load_policy(run.model, run.rollout, engine=run.engine, empty=True)
        count = count_parameters(policy)["model"]
        held = most_held(run, policy)
    return {
        "shape": shape, "way": way, "parameters": count.total, "trainable": count.trainable,
        "seconds": medians([ours.times()]), "peak_gib": round(peak / 2**30, 3),
        "held_beside_activations_gib": round(held / 2**30, 3),
    }  # fmt: skip


def run_trl(rehearsal: bool, shape: str, *, vllm: bool = False) -> dict[str, Any]:
    """The same step in TRL."""
    from peers import serve
    from workload import load

    answers: list[dict[str, float]] = []
    orders = iter(["warm-up", *["times"] * STEPS[rehearsal], "stop"])
    work = WORK[rehearsal]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Case(shape, 0, work.dtype, work, None).save(folder)
        load(folder, work.dtype)[0].save_pretrained(folder)  # TRL reads its reference from there, and vLLM its model
        more: dict[str, Any] = {"use_vllm": True, "vllm_mode": "colocate"} if vllm else {}
        serve(work, folder, TRL_ROWS, None, lambda: next(orders), answers.append, **more)
    facts, _warm_up, *counted = answers
    return {"shape": shape, "settings": facts, "seconds": medians(counted)}


def run_served(rehearsal: bool, mode: str) -> dict[str, Any]:
    """Three steps of the embedded model, sampled by vLLM in this process or by a server that the run starts."""
    from visual_rft.config.config import parse_config
    from visual_rft.training.rft import train

    with tempfile.TemporaryDirectory() as folder:
        serve = f"{sys.executable} -m vllm.entrypoints.cli.main serve --gpu-memory-utilization 0.3"
        rollout = {"engine": "vllm", "mode": mode, "group_size": 4, "max_new_tokens": 64}
        values = {
            "data": {part: [{"source": "shapes", "count": 16}] for part in ("train", "evaluation")},
            "rollout": rollout if mode == "colocate" else {**rollout, "serve": serve},
            "optimizer": {"learning_rate": 1e-4},  # changes that are told from none
            "run": {
                "folder": f"{folder}/run",
                "steps": 3,
                "prompts_per_batch": 2 if rehearsal else 8,
                "evaluate_base": False,
            },
        }
        train(parse_config(values, "gpu.py"))
        rows = [json.loads(row) for row in Path(folder, "run", "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "mode": mode, "seconds_of_the_last_step": rows[-1]["seconds/step"],
        **{name: [row[f"sampler/{name}"] for row in rows] for name in ("mean_difference", "largest_difference")},
    }  # fmt: skip


def medians(steps: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(step[name] for step in steps), 5) for name in steps[0]}


RUNNERS: dict[str, Callable[..., dict[str, Any]]] = {
    "tests": run_tests,
    "step": run_step,
    "fsdp": run_fsdp,
    "trl": run_trl,
    "vllm": lambda rehearsal, shape: run_trl(rehearsal, shape, vllm=True),
    "served": run_served,
}


def in_box(arguments: list[str], seconds: float, rehearsal: bool) -> dict[str, Any]:
    """What the process of a part leaves: its result, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, str(Path(__file__)), "--part", *arguments, "--part-out", str(out)]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                [*command, *(["--rehearsal"] if rehearsal else [])], capture_output=True, text=True, timeout=seconds,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"status": f"took longer than its {seconds:.0f} s", "wall_seconds": round(seconds, 1)}
        found: dict[str, Any] = {"wall_seconds": round(time.perf_counter() - start, 1)}
        if done.returncode or not out.exists():
            lines = done.stderr.strip().splitlines()
            return {"status": f"failed with {done.returncode}: {lines[-1][:300] if lines else ''}", **found}
        return {"status": "done", **found, "result": json.loads(out.read_text(encoding="utf-8"))}


def write(out: Path, result: dict[str, Any]) -> None:
    """Write the whole result; a reader never sees half of one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".unfinished")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, out)


def main() -> int:
    """Run the parts one after the other; returns 0 if each left a result and no test failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearsal", action="store_true", help="tiny shapes, on any machine")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: benchmarks/results/gpu/<device>.json")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--part-out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        kind, *rest = asked.part
        write(asked.part_out, RUNNERS[kind](asked.rehearsal, *rest))
        return 0
    if DEVICE.type != "cuda" and not asked.rehearsal:
        print("gpu.py: there is no CUDA GPU here; --rehearsal runs the same parts on tiny shapes", file=sys.stderr)
        return 2
    head = origin(torch.get_num_threads())
    slug = re.sub(r"[^a-z0-9]+", "-", str(head["machine"]).lower()).strip("-")
    out = asked.out or RESULTS / f"{'rehearsal-' if asked.rehearsal else ''}{slug}.json"
    work = WORK[asked.rehearsal]
    what = {name: getattr(work, name) for name in ("batch", "length", "group", "completion", "beta", "dtype")}
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], **head, "rehearsal": asked.rehearsal, "work": what,
                              "parts": []}  # fmt: skip
    patience = REHEARSAL_PATIENCE if asked.rehearsal else 1.0
    end = time.perf_counter() + BUDGET_SECONDS * patience
    for name, box, arguments in parts_of(asked.rehearsal):
        left = min(BOX_SECONDS[box] * patience, end - time.perf_counter())
        found = in_box(arguments, left, asked.rehearsal) if left > 5 else {"status": "no time was left"}
        result["parts"].append({"name": name, **found})
        write(out, result)
        print(f"{name}: {found['status']}", flush=True)
    print(out)
    results = [part.get("result") for part in result["parts"]]
    return int(any(one is None or one.get("failures") or one.get("errors") for one in results))


if __name__ == "__main__":
    sys.exit(main())
