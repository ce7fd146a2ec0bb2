"""A whole training step against TRL's ``GRPOTrainer``: seconds and memory, side by side in one run.

    python benchmarks/steps.py --quick                      # one row in minutes; its last line is JSON
    python benchmarks/steps.py --length 600 --group 16      # some rows of the grid
    python benchmarks/steps.py --size 2b --dtype bfloat16 --prompts 1 --length 1229 --completion 128 --group 8 \\
        --out benchmarks/results/gpu.json                   # on a GPU: the shape of Qwen2-VL-2B, 1024 image tokens
    python benchmarks/steps.py                              # the whole grid P x R x G; rows already measured are kept

Decision: each system is a process of its own that waits for orders, and they take turns (ours, default, tuned, ours,
...), one at work at a time, so that a drift of the machine's speed meets all of them and none inherits another's heap.
The first round warms up and is dropped; what counts is the ratio of medians. A turn begins when the machine is quiet
and is taken again if other processes worked meanwhile; what they took is recorded. On two cores with one of them taken,
a step of 3 s took 50 s: threads that wait for each other spin. Memory is measured in processes of their own (see
measure.py), after one step.

What is compared (ratios above 1 speak for us, but for memory, which is ours over theirs; parts are timed in the step):

    step      everything, pictures to optimiser; ours encodes a prompt once for sampling and update together
    rollout   pictures to advantages; ours includes encoding the prompts
    update    reference, loss, backward, optimiser; ours includes encoding the prompts *again*, though the step need not
    memory    growth of the resident set in the update, above what is alive before it (weights, optimiser state, inputs)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from measure import MALLOC_GIVES_BACK, MALLOC_KEEPS, busy_seconds, matmul_rate, origin, process_seconds
from workload import Workload, proportions, save, unique_flops

import visual_rft
from visual_rft.config.sections import EngineConfig

LENGTHS, COMPLETIONS, GROUPS = (150, 300, 600), (32, 64, 128), (4, 8, 16)
USUAL = (64, 8)
"""The R and G at which TRL's shapes are tried and the memory of all its settings is measured."""
SHAPES = (4, 2, 1) if torch.cuda.is_available() else (16, 8, 4)
"""Rows of TRL's forward pass among which the fastest is taken for each P (all 32 in one batch were 15 to
40 % slower than 8 on a CPU). For the 2B without checkpointing, 8 rows of 1357 tokens took more than 90 GB."""
QUICK_ROWS = 8
"""The fastest of them at P 300, which ``--quick`` takes as known."""
DISTURBED = 0.1
"""Cores used by others from which on a turn is disturbed."""
MOST_REPEATS = 4
"""Turns that are taken again in one comparison at most."""
MOST_PATIENCE = 30.0 if torch.cuda.is_available() else 300.0
"""Seconds of waiting for a quiet machine in one comparison; one that is never quiet is measured as it is. Beside a GPU
there are more cores than the two processes need."""
HERE = Path(__file__).parent
START = time.perf_counter()


@dataclass(frozen=True)
class System:
    """One side of the comparison: ours (rows 0), or TRL.

    Attributes:
        rows: rows of one forward pass of TRL's update.
        checkpointing: gradient checkpointing of TRL; None leaves its default.
        engine: fields of our ``EngineConfig``.
    """

    rows: int = 0
    checkpointing: bool | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)


OURS = System(engine={"checkpoint_prompts": 0.6, "micro_batch": 16})
"""The setting that our figures are given for, time and memory alike: 16 completions at once, and 0.6 of the layers
keep only their input while prompts are encoded. Everything kept is 6 to 8 % faster and takes twice the memory."""
KEPT = System(engine={"checkpoint_prompts": 0.0, "reuse_rollout_graph": True, "micro_batch": 1_000_000})
"""Ours with nothing computed twice and all completions at once: what it does where memory is free."""
DEFAULT = System(rows=8)
ONE_BATCH = System(rows=1_000_000, checkpointing=False)


def tuned(rows: int) -> System:
    """TRL without gradient checkpointing."""
    return System(rows, checkpointing=False)


def bounded(rows: int) -> System:
    """Ours with as many completions at once, the prompts of that many only, and no graph kept while sampling."""
    return System(engine={"micro_batch": rows, "prompts_at_once": 1, "reuse_rollout_graph": False})


def _serve(system: System, work: Workload, folder: Path, threads: int, connection: Any) -> None:
    """The process of one system: answers orders until it is told to stop."""
    try:
        torch.set_num_threads(threads)
        if system.rows:
            import peers

            peers.serve(work, folder, system.rows, system.checkpointing, connection.recv, connection.send)
        else:
            import ours

            ours.serve(work, folder, EngineConfig(**system.engine), connection.recv, connection.send)
    except Exception:  # noqa: BLE001 - the other end raises it again
        connection.send(RuntimeError(traceback.format_exc()))


class Worker:
    """A system in a process of its own; used as a context. It starts at once, so several can start side by side."""

    def __init__(self, system: System, work: Workload, folder: Path, threads: int, malloc: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(system, work, folder, threads, other), daemon=True)
        before = dict(os.environ)
        os.environ.update(malloc, OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1", PYTHONWARNINGS="ignore")
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        other.close()
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.connection.send("stop")
            self.process.join(30)
        self.process.kill()

    def wait(self) -> None:
        """Until it is ready for orders."""
        self.facts = self._answer()

    def _answer(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    def ask(self, order: str) -> dict[str, float]:
        """The seconds of one more step (``times``), its bytes (``memory``), or nothing that counts (``warm-up``)."""
        self.connection.send(order)
        answer: dict[str, float] = self._answer()
        return answer

    def watched(self) -> tuple[dict[str, float], float]:
        """The seconds of one more step, and how many cores other processes used meanwhile."""
        assert self.process.pid is not None
        start, busy, own = time.perf_counter(), busy_seconds(), process_seconds(self.process.pid)
        answer = self.ask("times")
        others = busy_seconds() - busy - (process_seconds(self.process.pid) - own)
        return answer, max(0.0, others) / (time.perf_counter() - start)


def report(line: str) -> None:
    """Progress, beside the result."""
    print(f"{time.perf_counter() - START:6.1f} s  {line}", file=sys.stderr, flush=True)


def quiet(patience: float) -> float:
    """Wait until other processes leave the machine alone, ``patience`` seconds at most; returns the seconds waited."""
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < patience:
        busy = busy_seconds()
        time.sleep(0.4)
        if (busy_seconds() - busy) / (time.perf_counter() - now) < DISTURBED:
            break
    return time.perf_counter() - start


@contextmanager
def workers(
    systems: Mapping[str, tuple[System, Workload]], folder: Path, threads: int, malloc: Mapping[str, str]
) -> Iterator[dict[str, Worker]]:
    """A ready worker for each system."""
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(Worker(system, work, folder, threads, malloc))
            for name, (system, work) in systems.items()
        }
        for worker in started.values():
            worker.wait()
        yield started


def take_turns(
    systems: Mapping[str, tuple[System, Workload]], folder: Path, threads: int, repetitions: int
) -> dict[str, dict[str, Any]]:
    """Seconds of every system, repetitions interleaved, the first round dropped: ``{name: {"facts", "times"}}``."""
    with workers(systems, folder, threads, MALLOC_KEEPS) as started:
        found: dict[str, dict[str, Any]] = {name: {"facts": w.facts, "times": {}} for name, w in started.items()}
        again, patience = MOST_REPEATS, MOST_PATIENCE
        for repetition in range(repetitions + 1):
            for name, worker in started.items():
                patience -= quiet(patience)
                answer, others = worker.watched()
                report(f"round {repetition}: {name} {answer['step']:.2f} s a step, others used {others:.2f} cores")
                while repetition and others > DISTURBED and again:
                    again -= 1
                    patience -= quiet(patience)
                    answer, others = worker.watched()
                    report(f"  again: {answer['step']:.2f} s, others used {others:.2f} cores")
                if repetition:
                    for figure, value in {**answer, "other_cores": others}.items():
                        found[name]["times"].setdefault(figure, []).append(round(value, 4))
    return found


def peak_bytes(
    systems: Mapping[str, tuple[System, Workload]], folder: Path, threads: int
) -> dict[str, dict[str, float]]:
    """Peak bytes of a step and of an update of every system, in fresh processes, after one step."""
    with workers(systems, folder, threads, MALLOC_GIVES_BACK) as started:
        for worker in started.values():
            worker.ask("warm-up")
        report("memory: warmed up")
        return {name: worker.ask("memory") for name, worker in started.items()}


def fastest_shape(work: Workload, folder: Path, threads: int) -> dict[str, float]:
    """Seconds of one step of TRL without checkpointing by rows of a forward pass, fastest first."""
    systems = {str(rows): (tuned(rows), work) for rows in SHAPES if rows <= work.rows}
    found = take_turns(systems, folder, threads, 1)
    seconds = {rows: side["times"]["step"][0] for rows, side in found.items()}
    return dict(sorted(seconds.items(), key=lambda item: item[1]))


def measure(work: Workload, folder: Path, threads: int, repetitions: int, rows: int, quick: bool) -> dict[str, Any]:
    """One row of the result: seconds, bytes and what follows from them.

    Args:
        work: the workload.
        folder: of the model and the processor.
        threads: of every process.
        repetitions: rounds that count.
        rows: of a forward pass of the tuned peer.
        quick: our other settings' memory alone, and our update with groups twice as large, by itself: every process
            that waits holds its memory. On a GPU the other settings are left out.
    """
    systems = {"ours": (OURS, work), "trl_default": (DEFAULT, work), "trl_tuned": (tuned(rows), work)}
    # Each process holds weights, gradients and averages, 18 GB for a 2B: a GPU takes three of them, not five.
    others = {} if torch.cuda.is_available() else {"ours_bounded": (bounded(rows), work), "ours_kept": (KEPT, work)}
    doubled = {"ours": (OURS, work), "ours_2G": (OURS, replace(work, group=2 * work.group))}
    if not quick:
        systems |= others
    torch.set_num_threads(threads)
    rate = matmul_rate(work.dtype)
    found = take_turns(systems, folder, threads, repetitions)
    rate = max(rate, matmul_rate(work.dtype))
    middle = {
        name: {figure: statistics.median(values) for figure, values in side["times"].items()}
        for name, side in found.items()
    }
    measured = {name: system for name, system in (systems | others).items() if name != "trl_default"}
    if not quick and not torch.cuda.is_available() and (work.completion, work.group) == USUAL:
        measured |= {"trl_default": (DEFAULT, work), "trl_one_batch": (ONE_BATCH, work)}
    memory = peak_bytes(measured, folder, threads)
    growth = take_turns(doubled, folder, threads, repetitions) if quick else {}
    flops = unique_flops(work)
    peers = ("trl_default", "trl_tuned")
    ours = middle["ours"]
    summary: dict[str, float] = {
        **{f"step_vs_{peer}": middle[peer]["step"] / ours["step"] for peer in peers},
        **{f"update_vs_{peer}": middle[peer]["update"] / ours["update"] for peer in peers},
        "rollout_vs_trl": min(middle[peer]["rollout"] for peer in peers) / ours["rollout"],
        "memory_vs_trl_tuned": memory["ours"]["update"] / memory["trl_tuned"]["update"],
    }
    if quick:
        summary[f"growth_G{work.group}_to_{2 * work.group}"] = statistics.median(
            growth["ours_2G"]["times"]["update"]
        ) / statistics.median(growth["ours"]["times"]["update"])
    parts = ("rollout", "update", "step")
    return {
        "summary": {
            "P": work.length,
            "R": work.completion,
            "G": work.group,
            **{name: round(value, 3) for name, value in summary.items()},
        },
        "workload": {**asdict(work), "image_tokens": work.image_tokens},
        "forward_pass": proportions(work),
        "unique_flops": flops,
        "matmul_flops_per_second": rate,
        "share_of_matmul_rate": {
            name: {part: flops[part] / middle[name][part] / rate for part in parts} for name in ("ours", *peers)
        },
        "share_of_step": {
            name: {f.removeprefix("stage/"): s / side["step"] for f, s in side.items() if f.startswith("stage/")}
            for name, side in middle.items()
        },
        "median_seconds": {name: {part: side[part] for part in parts} for name, side in middle.items()},
        "peak_bytes": memory,
        **{
            setting: {
                "memory_vs_trl_tuned": memory[f"ours_{setting}"]["update"] / memory["trl_tuned"]["update"],
                **{
                    f"{part}_vs_{peer}": middle[peer][part] / middle[f"ours_{setting}"][part]
                    for part in ("update", "step")
                    for peer in peers
                    if f"ours_{setting}" in middle
                },
            }
            for setting in ("bounded", "kept")
            if f"ours_{setting}" in memory
        },
        "systems": found,
        **({"growth": growth} if quick else {}),
    }


def measured_code() -> str:
    """A digest of everything a figure depends on: rows of other code are not mixed into a result."""
    package = Path(visual_rft.__file__).parent
    files = [*sorted(package.glob("policy/**/*.py")), *sorted(package.glob("training/**/*.py"))]
    files += [HERE / name for name in ("workload.py", "ours.py", "peers.py", "measure.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def open_result(out: Path, threads: int) -> dict[str, Any]:
    """The result so far if it comes from the same machine, versions and code, else an empty one."""
    head = {**origin(threads), "code": measured_code()}
    if out.exists():
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if all(result.get(key) == value for key, value in head.items() if key != "commit"):
            return result
    what = "one GRPO step, Qwen2-VL with random weights, full fine-tuning; tiny: the proportions of the 2B"
    return {"what": what, **head, "shapes": {}, "rows": []}


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Seconds and ratios of every row, and how the update grows with G and P."""
    print(f"{'':28}step: seconds and TRL / ours       update              rollout  memory  share of")
    print(
        "   P    R   G  beta    ours  default   tuned   x def.  x tuned   x def.  x tuned   x TRL  / tuned  matmul rate"
    )
    for row in sorted(rows, key=lambda r: tuple(r["summary"][k] for k in "PRG")):
        s, seconds, share = row["summary"], row["median_seconds"], row["share_of_matmul_rate"]["ours"]["step"]
        print(
            f"{s['P']:4}{s['R']:5}{s['G']:4}{row['workload']['beta']:6.2f}"
            + "".join(f"{seconds[name]['step']:8.2f}" for name in ("ours", "trl_default", "trl_tuned"))
            + "".join(
                f"{s[f'{part}_vs_trl_{peer}']:9.2f}" for part in ("step", "update") for peer in ("default", "tuned")
            )
            + f"{s['rollout_vs_trl']:8.2f}{s['memory_vs_trl_tuned']:9.2f}{share:13.2f}"
        )
    update = {tuple(r["summary"][k] for k in "PRG"): r["median_seconds"]["ours"]["update"] for r in rows}
    for name, place, values in (("G", 2, GROUPS), ("P", 0, LENGTHS)):
        for low, high in pairwise(values):
            pairs = [
                update[(*key[:place], high, *key[place + 1 :])] / seconds
                for key, seconds in update.items()
                if key[place] == low and (*key[:place], high, *key[place + 1 :]) in update
            ]
            if pairs:
                print(f"our update, {name} {low} -> {high}: x {min(pairs):.2f} .. {max(pairs):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="B prompts of a step")
    parser.add_argument("--length", type=int, nargs="+", default=LENGTHS, help="P, tokens of a prompt")
    parser.add_argument("--completion", type=int, nargs="+", default=COMPLETIONS, help="R, tokens of a completion")
    parser.add_argument("--group", type=int, nargs="+", default=GROUPS, help="G, completions per prompt")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL term (TRL's default is 0)")
    parser.add_argument("--size", choices=("tiny", "2b"), default="tiny", help="shape of the model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="P 300, R 64, G 8 only; the last line is JSON")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/steps.json, with --quick nowhere")
    arguments = parser.parse_args()
    grid = [(300, 64, 8)] if arguments.quick else product(arguments.length, arguments.completion, arguments.group)
    out = arguments.out or (None if arguments.quick else HERE / "results" / "steps.json")
    result = open_result(out or Path("nowhere"), arguments.threads)
    done = {tuple(r["workload"][k] for k in ("length", "completion", "group", "batch", "beta")) for r in result["rows"]}

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(folder, arguments.size, arguments.dtype)
        for length, completion, group in grid:
            if (length, completion, group, arguments.prompts, arguments.beta) in done:
                continue
            work = Workload(
                length, completion, group, arguments.prompts, arguments.beta, size=arguments.size, dtype=arguments.dtype
            )
            if arguments.quick:
                rows = QUICK_ROWS
            else:
                if str(length) not in result["shapes"]:
                    usual = replace(work, completion=USUAL[0], group=USUAL[1])
                    result["shapes"][str(length)] = fastest_shape(usual, folder, arguments.threads)
                rows = int(next(iter(result["shapes"][str(length)])))
            row = measure(work, folder, arguments.threads, arguments.repetitions, rows, quick=arguments.quick)
            result["rows"].append(row)
            print(json.dumps(row["summary"]), flush=True)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(result["rows"])
    for row in result["rows"]:
        noisy = [n for n, side in row["systems"].items() if max(side["times"]["other_cores"]) > DISTURBED]
        if noisy:
            print("P {P} R {R} G {G}: other processes worked during turns of".format(**row["summary"]), *noisy)
    if arguments.quick:
        print(json.dumps(result["rows"][-1]["summary"]))


if __name__ == "__main__":
    main()
