"""The shared prefix against plain repeated rows, on the embedded model, side by side in one run.

Both do the same work on the same prompts and completions: log-probabilities of G completions per prompt with gradient.
Repeated rows run vision tower and prompt G times, as trainers without a shared prefix do. Repetitions alternate, so
that a drift of the machine's speed meets both; the ratio of the medians is what counts.

    python benchmarks/shared_prefix.py [--group 8] [--repetitions 7]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from visual_rft.config import ModelConfig, RolloutConfig, SourceConfig
from visual_rft.data.sources import load_samples
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prefix import Completions, Inputs, Prompt
from visual_rft.tasks import load_task


def shared(policy: Policy, inputs: Inputs, completions: Completions) -> torch.Tensor:
    """Each prompt once."""
    return policy.logprobs(policy.encode(inputs), completions)


def repeated(policy: Policy, inputs: Inputs, completions: Completions) -> torch.Tensor:
    """Each prompt G times: every row is a prompt of its own, with its own image."""
    prompts, group, length = completions.ids.shape
    flat = Completions(
        completions.ids.view(prompts * group, 1, length),
        completions.mask.view(prompts * group, 1, length),
        completions.logprobs.view(prompts * group, 1, length),
        [],
        completions.truncated.view(prompts * group, 1),
    )
    return policy.logprobs(policy.encode(inputs), flat).view(prompts, group, length)


class CopiedImage:
    """The same picture under a key of its own, so that nothing is shared."""

    def __init__(self, image: object, copy: int) -> None:
        self.image, self.key = image, f"{image.key}#{copy}"  # type: ignore[attr-defined]

    def load(self) -> object:
        return self.image.load()  # type: ignore[attr-defined]


def seconds(run: Callable[[], torch.Tensor], model: torch.nn.Module) -> float:
    start = time.perf_counter()
    run().sum().backward()
    taken = time.perf_counter() - start
    model.zero_grad()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "shared_prefix.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    policy = load_policy(ModelConfig(), RolloutConfig())
    task = load_task("detection")
    samples = load_samples([SourceConfig(count=arguments.prompts, questions="one")], task)
    prompts = [Prompt.of(task, sample, policy.space) for sample in samples]
    copies = [
        Prompt(p.id, p.text, tuple(CopiedImage(i, n) for i in p.images))  # type: ignore[arg-type]
        for p in prompts
        for n in range(arguments.group)
    ]
    once, many = policy.prepare(prompts), policy.prepare(copies)
    completions = policy.sample(policy.encode(once), arguments.group, torch.Generator().manual_seed(0))
    difference = (shared(policy, once, completions) - repeated(policy, many, completions)).abs().max().item()

    times: dict[str, list[float]] = {"shared": [], "repeated": []}
    for repetition in range(arguments.repetitions + 1):
        one = seconds(lambda: shared(policy, once, completions), policy.model)
        two = seconds(lambda: repeated(policy, many, completions), policy.model)
        if repetition > 0:  # the first warms up
            times["shared"].append(one)
            times["repeated"].append(two)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "what": "log-probabilities and gradients of B x G completions, embedded model, float32",
        "B": arguments.prompts,
        "G": arguments.group,
        "T": completions.ids.shape[2],
        "P": once.tensors["input_ids"].shape[1],
        "repeated_over_shared": medians["repeated"] / medians["shared"],
        "median_seconds": medians,
        "repetitions": times,
        "largest_difference_of_logprobs": difference,
        "threads": arguments.threads,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"B {result['B']} G {result['G']} P {result['P']} T {result['T']}: repeated rows {medians['repeated']:.2f} s, "
        f"shared prefix {medians['shared']:.2f} s, ratio {result['repeated_over_shared']:.2f}; "
        f"log-probabilities differ by at most {difference:.1e}"
    )


if __name__ == "__main__":
    main()
