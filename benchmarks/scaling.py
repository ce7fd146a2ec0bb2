"""Weak scaling: two processes of one thread against one, with the same prompts per process, and what meeting costs.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/scaling.py [--rounds 5] [--steps 12]

Decision: two processes are started once and do everything, so that machine, imports and caches are the same; the ways
alternate round after round, and ratios of medians are what counts:

    one       the first process trains alone, the second one waits
    apart     both train alone at the same time: what they cost each other without ever meeting (memory, cache, clock)
    together  both are one run of twice the prompts
    profiled  the same, with a barrier before every meeting: so waiting for the other is told from moving bytes

Each is ``train`` itself on a demonstration's config; its steps are those of ``metrics.jsonl``, the first two left out.
What is handed to the collectives is counted; beside it stands what went over the loopback device, which means something
in a network namespace of its own (``unshare -n``), where nobody else uses it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from measure import origin

from visual_rft.config.config import Config, load_config
from visual_rft.demo.run import DEMOS
from visual_rft.parallel.meetings import gather
from visual_rft.parallel.processes import alone, here, together
from visual_rft.parallel.watch import Watch
from visual_rft.policy.loading import load_policy
from visual_rft.training import household
from visual_rft.training.rft import train

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
RESULT = Path(__file__).parent / "results" / "scaling.json"
GRADIENTS = "the sum of the gradients"
"""The meeting in which they are summed."""
WARM_UP = 2
"""Steps of every run that are not counted."""
WAYS = ("one", "apart", "together", "profiled")


class Counted:
    """What a process hands to collectives, and how long it is in meetings, by their names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)
        self._name = ""

    @contextmanager
    def inside(self, profiled: bool) -> Iterator[None]:
        """Count everything inside."""
        meeting, counted = Watch.meeting, self

        @contextmanager
        def timed(watch: Watch, name: str, **more: Any) -> Iterator[None]:
            with meeting(watch, name, **more):
                start = time.perf_counter()
                if profiled:
                    dist.barrier()
                counted._name, begun = name, time.perf_counter()
                yield
                counted.waited[name] += begun - start
                counted.seconds[name] += time.perf_counter() - begun

        def all_reduce(tensor: torch.Tensor, *more: Any, **named: Any) -> Any:
            # A ring moves the whole twice, less one part in the number of processes, out of every process.
            size = here().size
            counted.bytes[counted._name] += 2 * (size - 1) * tensor.numel() * tensor.element_size() // size
            return reduce(tensor, *more, **named)

        def told(call: Callable[..., Any], sent: int) -> Callable[..., Any]:
            def wrapped(objects: list[Any], *more: Any, **named: Any) -> Any:
                counted.bytes[counted._name] += len(pickle.dumps(more[0] if more else objects)) * sent
                return call(objects, *more, **named)

            return wrapped

        reduce, others = dist.all_reduce, here().size - 1
        with (
            patch.object(Watch, "meeting", timed),
            patch.object(dist, "all_reduce", all_reduce),
            patch.object(dist, "all_gather_object", told(dist.all_gather_object, others)),
            patch.object(dist, "broadcast_object_list", told(dist.broadcast_object_list, others * here().first)),
        ):
            yield


def loopback() -> int:
    """Bytes that were sent over the loopback device of this network namespace."""
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0


def config_of(folder: Path, steps: int, processes: int) -> Config:
    """The demonstration, ``processes`` times as many prompts a step, nothing but training."""
    base = load_config(DEMOS / "detection.yaml")
    prompts = base.run.prompts_per_batch * processes
    return load_config(
        DEMOS / "detection.yaml",
        ["--run.folder", str(folder), "--run.steps", str(steps), "--run.prompts_per_batch", str(prompts),
         "--run.threads", "1", "--run.processes", "1", "--run.evaluate_base", "false", "--run.evaluate_every", "0",
         "--run.checkpoint_every", "0", "--data.evaluation.0.count", "1",
         "--data.evaluation.1.count", "1"],
    )  # fmt: skip


def seconds_of(folder: Path) -> list[float]:
    """Seconds of each step that counts."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["seconds/step"] for row in rows[WARM_UP:]]


def measured(way: str, place: Path, steps: int, counted: Counted) -> tuple[list[float], int]:
    """Seconds of the steps of a run in one of :data:`WAYS`, of the slowest process, and bytes over the loopback."""
    apart = way in ("one", "apart")
    folder = place / (f"{way}-{here().rank}" if apart else way)
    gather(None, "the start")
    before, own = loopback(), []
    if apart:
        if way == "apart" or here().first:
            with alone():
                train(config_of(folder, steps, 1))
            own = seconds_of(folder)
    else:
        counts = counted.inside(way == "profiled")
        with counts if way == "profiled" else nullcontext():
            train(config_of(folder, steps, here().size))
        own = seconds_of(folder) if here().first else []
    told = gather(own, "the steps")
    moved = loopback() - before
    steps_of_all = [step for step in told if step]
    return [max(step) for step in zip(*steps_of_all, strict=True)], moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    household.write_artefacts = lambda folder: []  # plots and report
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    wire: list[float] = []
    counted = Counted()
    with together(), tempfile.TemporaryDirectory() as scratch:
        place = Path(gather(scratch, "the scratch folder")[0])
        for round_ in range(arguments.rounds):
            for way in WAYS if round_ % 2 == 0 else reversed(WAYS):
                steps, moved = measured(way, place / str(round_), arguments.steps, counted)
                times[way] += steps
                if way == "together":
                    wire.append(moved / arguments.steps)
                print(f"round {round_ + 1}: {way} {statistics.median(steps):.3f} s a step", flush=True)
        if not here().first:
            return
        config = config_of(place, arguments.steps, 1)
        policy = load_policy(config.model, config.rollout, engine=config.engine)
        work = {
            "prompts_per_process": config.run.prompts_per_step,
            "optimiser_steps_a_step": config.objective.updates_per_rollout,
            "learning_parameters": sum(p.numel() for p in policy.model.parameters() if p.requires_grad),
        }
        write(arguments, times, counted, wire, work)


def write(
    arguments: argparse.Namespace, times: dict[str, list[float]], counted: Counted, wire: list[float],
    work: dict[str, int],
) -> None:  # fmt: skip
    """The result as JSON."""
    medians = {way: statistics.median(steps) for way, steps in times.items()}
    done = arguments.rounds * arguments.steps
    result = {
        "what": "a step of demo/detection.yaml in two processes of one thread against one, as many prompts each",
        **origin(1),
        "processes": here().size,
        **work,
        "median_seconds": medians,
        "together_over_one": medians["together"] / medians["one"],
        "apart_over_one": medians["apart"] / medians["one"],
        "together_over_apart": medians["together"] / medians["apart"],
        "waited_seconds_a_step": {name: seconds / done for name, seconds in counted.waited.items()},
        "meeting_seconds_a_step": {name: seconds / done for name, seconds in counted.seconds.items()},
        "bytes_out_of_a_process_a_step": {name: count / done for name, count in counted.bytes.items()},
        "bytes_over_loopback_a_step": statistics.median(wire),
        "seconds": times,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    shown = {name: value for name, value in result.items() if name.endswith(("over_one", "over_apart", "a_step"))}
    print(json.dumps(shown, indent=1))
    if arguments.out == RESULT:
        begin, end = "<!-- scaling -->", "<!-- end of scaling -->"
        before, rest = PAGE.read_text(encoding="utf-8").split(begin)
        PAGE.write_text(f"{before}{begin}\n{told(result)}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def told(result: dict[str, Any]) -> str:
    """What the page says of a result."""
    seconds, size = result["median_seconds"], result["processes"]
    sent = result["bytes_out_of_a_process_a_step"]
    summed, others = sent[GRADIENTS], sum(sent.values()) - sent[GRADIENTS]
    moving, waiting = (sum(result[f"{kind}_seconds_a_step"].values()) for kind in ("meeting", "waited"))
    most = max(result["meeting_seconds_a_step"], key=lambda name: result["meeting_seconds_a_step"][name])
    return f"""Weak scaling, {result["prompts_per_process"]} prompts of the detection demo in each process of one thread ({result["machine"]}): a step takes
{seconds["one"]:.2f} s in one process and {seconds["together"]:.2f} s in {size}, {result["together_over_one"]:.2f} times as long. Two runs side by side that never meet take
{result["apart_over_one"]:.2f} times as long, which is what they cost each other; so meeting costs a factor of {result["together_over_apart"]:.2f}. Profiled, a process
waits {1000 * waiting:.0f} ms a step for the other and moves bytes for {1000 * moving:.0f} ms, most of it in {most}. Out of
every process go {summed / 1e6:.2f} MB of gradients a step ({result["learning_parameters"]:,} parameters, {result["optimiser_steps_a_step"]} optimiser steps) and {others / 1e3:.0f} kB of everything
else; over the network device went {result["bytes_over_loopback_a_step"] / 1e6:.2f} MB, both processes together."""  # noqa: E501


if __name__ == "__main__":
    main()
