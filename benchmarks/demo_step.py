"""One step of a demonstration's config on the shared prefix against the repeated path, side by side in one run.

    python benchmarks/demo_step.py [--task detection] [--repetitions 7]

Decision: both engines are this package's own and do the same work on the same prompts, with weights that stay as they
are; repetitions alternate and the ratio of medians is what counts. It says what sharing alone gives on short prompts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from measure import origin

from visual_rft.config.config import load_config
from visual_rft.config.sections import EngineConfig
from visual_rft.data.sources import load_samples
from visual_rft.demo.run import DEMOS
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import task_of
from visual_rft.training.advantages import group_advantages
from visual_rft.training.objective import GroupLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="detection", help="which demonstration")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "demo_step.json")
    arguments = parser.parse_args()
    config = load_config(DEMOS / f"{arguments.task}.yaml")
    torch.set_num_threads(config.run.threads)
    task = task_of(config.task)
    samples = list(load_samples(config.data.train, task))[: config.run.prompts_per_batch]
    policies = {
        name: load_policy(config.model, config.rollout, engine=EngineConfig(shared_prefix=shared))
        for name, shared in (("shared", True), ("repeated", False))
    }
    times: dict[str, dict[str, list[float]]] = {name: {"sample": [], "update": []} for name in policies}
    for repetition in range(arguments.repetitions + 1):
        for name, policy in policies.items():
            start = time.perf_counter()
            inputs = policy.prepare([Prompt.of(task, sample, policy.space) for sample in samples])
            prefix = policy.encode(inputs, for_sampling=True)
            generator = torch.Generator().manual_seed(repetition)
            completions = policy.sample(prefix, config.rollout.group_size, Draws(0, repetition))
            middle = time.perf_counter()
            advantages = group_advantages(torch.randn(completions.mask.shape[:2], generator=generator))
            loss = GroupLoss(completions, advantages, None, config.objective)
            policy.backward(prefix, completions, loss)
            policy.model.zero_grad()
            if repetition:
                times[name]["sample"].append(middle - start)
                times[name]["update"].append(time.perf_counter() - middle)
    medians = {
        name: {part: statistics.median(seconds) for part, seconds in parts.items()} for name, parts in times.items()
    }
    ratios = {part: medians["repeated"][part] / medians["shared"][part] for part in ("sample", "update")}
    result = {
        "what": f"one on-policy step of demos/{arguments.task}.yaml: images and sampling, then one update",
        **origin(config.run.threads),
        "prompt_tokens": policies["shared"]
        .prepare([Prompt.of(task, sample, policies["shared"].space) for sample in samples])
        .lengths,
        "repeated_over_shared": ratios,
        "median_seconds": medians,
        "seconds": times,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"task": arguments.task, **ratios, **medians}))


if __name__ == "__main__":
    main()
