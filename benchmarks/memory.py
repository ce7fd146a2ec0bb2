"""The memory of a step, measured against the estimate that ``visual-rft train --dry-run`` prints.

    python benchmarks/memory.py                                   # on a GPU: Qwen2-VL-2B and Qwen2.5-VL-3B, bfloat16
    python benchmarks/memory.py --out benchmarks/results/memory.json
    python benchmarks/memory.py --tiny                            # on any machine: the same code on small shapes

Decision: shapes with random weights, because memory does not depend on them; the real loader, engine, reference and
optimiser on one batch, twice, because gradients and AdamW's averages come with the first step. Each case is a process
of its own. What counts is the highest mark since before the model was made: of the GPU's allocator, or of the resident
set on a CPU. There everything is done twice and measured the second time, because the first pass through the libraries
makes 0.3 GiB of their code and buffers resident.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measure import MALLOC_GIVES_BACK, PeakMemory, origin
from ours import Ours, prompts_of
from transformers import Qwen2_5_VLConfig, Qwen2VLConfig
from workload import DEVICE, TEXT_2B, VISION_2B, VOCABULARY, Workload, configuration, make_processor

from visual_rft.config.config import Config
from visual_rft.policy.loading import load_policy
from visual_rft.policy.memory.footprint import Footprint, count_parameters

TEXT_3B: dict[str, Any] = {
    **TEXT_2B, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16,
}  # fmt: skip
VISION_3B: dict[str, Any] = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
    "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
TEXT_TINY = {
    **TEXT_2B, "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
}  # fmt: skip
VISION_TINY = {**VISION_2B, "depth": 4, "embed_dim": 320, "num_heads": 4, "hidden_size": 512}
VISION_TINY_25 = {
    **VISION_3B, "depth": 4, "hidden_size": 320, "intermediate_size": 860, "num_heads": 4, "out_hidden_size": 512,
    "fullatt_block_indexes": [1, 3],
}  # fmt: skip
TEXT_TOY = {
    **TEXT_2B, "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}  # fmt: skip
VISION_TOY = {**VISION_2B, "depth": 2, "embed_dim": 64, "num_heads": 2, "hidden_size": 64}
VISION_TOY_25 = {
    **VISION_3B, "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64,
    "fullatt_block_indexes": [1],
}  # fmt: skip
SHAPES: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any]]] = {
    "qwen2-vl-2b": (Qwen2VLConfig, TEXT_2B, VISION_2B),
    "qwen2.5-vl-3b": (Qwen2_5_VLConfig, TEXT_3B, VISION_3B),
    "qwen2-vl tiny": (Qwen2VLConfig, TEXT_TINY, VISION_TINY),
    "qwen2.5-vl tiny": (Qwen2_5_VLConfig, TEXT_TINY, VISION_TINY_25),
    "qwen2-vl toy": (Qwen2VLConfig, TEXT_TOY, VISION_TOY),
    "qwen2.5-vl toy": (Qwen2_5_VLConfig, TEXT_TOY, VISION_TOY_25),
}
WITHIN = 0.2
"""Share of the measurement by which the estimate may be off."""


@dataclass(frozen=True)
class Case:
    """One measurement: a shape, how it is tuned, and what a step works on.

    Attributes:
        shape: name in :data:`SHAPES`.
        lora: rank of an adapter; 0 trains all weights, with a frozen reference beside them.
        dtype: of the weights.
        work: prompts and completions of a batch.
        activations: GiB that activations may take; None takes 60 % of what is free.
        autocast: type in which is computed.
    """

    shape: str
    lora: int
    dtype: str
    work: Workload
    activations: float | None
    autocast: str = "no"

    def config(self, folder: Path) -> Config:
        """The run that the estimate is asked about."""
        model: dict[str, Any] = {"path": str(folder), "dtype": self.dtype, "autocast": self.autocast}
        return Config.model_validate({
            "model": {**model, "lora": {"rank": self.lora}} if self.lora else model,
            "rollout": {"group_size": self.work.group, "max_new_tokens": self.work.completion},
            "engine": {"memory_gib": self.activations},
            "run": {"prompts_per_batch": self.work.batch},
        })  # fmt: skip

    def save(self, folder: Path) -> None:
        """Config and processor, without weights."""
        processor = make_processor()
        configuration(*SHAPES[self.shape], self.dtype, processor.tokenizer).save_pretrained(folder)
        processor.save_pretrained(folder)


def estimate(case: Case, folder: Path) -> tuple[Footprint, dict[str, int]]:
    """What a dry run says, and the numbers of parameters."""
    config = case.config(folder)
    policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
    inputs = policy.prepare(prompts_of(case.work, policy.processor)[:1])
    count = count_parameters(policy)["model"]
    limit = None if case.activations is None else case.activations * 2**30
    footprint = Footprint.of(config, policy, inputs, limit)
    return footprint, {"parameters": count.total, "trainable": count.trainable}


def measure(case: Case, folder: Path, steps: int = 2) -> int:
    """Bytes at the highest mark of some steps, from before the model is made."""
    if DEVICE.type == "cpu":
        _run(case, folder, steps)
    memory = PeakMemory()
    memory.start()
    _run(case, folder, steps)
    return memory.peak


def _run(case: Case, folder: Path, steps: int) -> None:
    """Make the model, its optimiser and reference, and take some steps."""
    config = case.config(folder)
    ours = Ours(case.work, folder, config.engine, config.model)
    for _ in range(steps):
        ours.step()


def _measure_apart(case: Case, folder: Path, connection: Any) -> None:
    torch.set_num_threads(1 if DEVICE.type == "cpu" else torch.get_num_threads())
    try:
        connection.send(measure(case, folder))
    except torch.cuda.OutOfMemoryError as error:
        connection.send(str(error).splitlines()[0])


def row_of(case: Case) -> dict[str, Any]:
    """One line of the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.save(folder)
        footprint, counts = estimate(case, folder)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        os.environ.update(MALLOC_GIVES_BACK)
        process = context.Process(target=_measure_apart, args=(case, folder, there))
        process.start()
        there.close()
        try:
            measured = here.recv()
        except EOFError:
            measured = "the process died, most likely for lack of memory"
        process.join()
    what = {
        "shape": case.shape, "tuning": f"LoRA, rank {case.lora}" if case.lora else "full", "dtype": case.dtype,
        **counts,
        "prompts": case.work.batch, "prompt_tokens": case.work.length, "group": case.work.group,
        "completion_tokens": case.work.completion, "activation_limit_gib": case.activations,
        "estimated_gib": round(footprint.total / 2**30, 3),
        "parts_gib": {name: round(size / 2**30, 3) for name, size in footprint.parts.items()},
    }  # fmt: skip
    if isinstance(measured, str):
        return {**what, "failed": measured}
    ratio = footprint.total / measured
    return {**what, "measured_gib": round(measured / 2**30, 3), "estimated_over_measured": round(ratio, 3),
            "within_20_percent": abs(ratio - 1) <= WITHIN}  # fmt: skip


def cases(tiny: bool, activations: float | None) -> list[Case]:
    """Two families, all weights and an adapter."""
    if tiny:
        work = Workload(length=300, completion=64, group=4, batch=4, beta=0.04)
        return [Case(f"{shape} tiny", lora, "float32", work, activations or 0.5)
                for shape in ("qwen2-vl", "qwen2.5-vl") for lora in (0, 16)]  # fmt: skip
    # 512 image tokens, as images of 401,408 pixels have.
    work = Workload(length=614, completion=256, group=8, batch=4, beta=0.04)
    return [Case(shape, lora, "bfloat16", work, activations or 16.0)
            for shape in ("qwen2-vl-2b", "qwen2.5-vl-3b") for lora in (0, 64)]  # fmt: skip


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes in float32, on any machine")
    parser.add_argument("--activations", type=float, metavar="GIB", help="memory that activations may take")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the result goes, as JSON")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        print("memory.py: Qwen2-VL-2B and Qwen2.5-VL-3B need a CUDA GPU of 40 GB or more, and there is none here; "
              "--tiny measures small shapes on the CPU", file=sys.stderr)  # fmt: skip
        return 2
    rows = []
    for case in cases(arguments.tiny, arguments.activations):
        rows.append(row_of(case))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out is not None:
        what = "highest memory of two GRPO steps with a reference, random weights, against the estimate of --dry-run"
        threads = torch.get_num_threads() if DEVICE.type == "cuda" else 1
        result = {"what": what, **origin(threads), "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    # The resident set of a CPU is no measure to fail by.
    return 0 if arguments.tiny or all(row.get("within_20_percent") for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
