"""One of two processes of a run is killed, fails or stands still: do the others end, and does the run go on?

Decision: nobody helps. No launcher ends the processes that are left, so that what ends them is the run's own watch; the
store in which they meet is the first one's, and goes with it when that is killed. A trial ends as ``equal`` (all that
was left ended in time with exit code 2 and one line or none, and ``--resume`` ended bit-equal to a run of two that
nothing happened to), as ``refused`` (killed before there was a run to go on with; begun anew, it was equal), or it is a
failure: ``hangs``, ``traceback``, ``different``.

    python scripts/chaos.py --only ranks
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos import Bench, Process

SIZE = 2
TIMEOUT = 10.0
"""``parallel.timeout`` of the runs, in seconds."""
LIMIT = 120.0
"""Seconds after which those that are left are said to hang: the time-out of a meeting, the minute of silence after
which a process counts as dead, and room for a machine on which others work."""
KILLED, RAISES, STOPPED = "killed at a random moment", "its reward raises", "stopped (SIGSTOP) in a step"
REWARD = """
import os

calls = 0
def letters(completion, truth, answer):
    global calls
    calls += 1
    if os.environ.get("FAILS") == os.environ["RANK"] and calls > 8:
        raise ValueError("no reward any more")
    return sum(c in "aeiou" for c in completion) / max(len(completion), 1)
"""


class Ranks:
    """Runs of two processes below a bench's folder."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.results: dict[str, Counter[str]] = {}
        self.slowest: dict[str, float] = {}
        (bench.place / "shared_rewards.py").write_text(REWARD)
        started = time.monotonic()
        processes = self.start("two")
        self.wait_for_folder("two", processes)
        begun = time.monotonic()
        codes, said = self.ends(processes, bench.run_seconds)
        if codes != [0] * SIZE:
            raise SystemExit(f"the run of two that nothing happens to fails:\n{said}")
        self.seconds, self.seconds_before = time.monotonic() - begun, begun - started
        self.wanted = bench.outcome("two")

    def start(self, name: str, *words: str, fails: str = "") -> list[Process]:
        """The processes of a run; ``fails`` is the rank of the one whose reward raises."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(SIZE), "FAILS": fails}
        return [
            self.bench.start(
                name, *words, said=f"{name}-{rank}", environment={**where, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                task={"weights": {f"{self.bench.place / 'shared_rewards.py'}:letters": 1}},
                parallel={"timeout": TIMEOUT},
            )
            for rank in range(SIZE)
        ]  # fmt: skip

    def wait_for_folder(self, name: str, processes: list[Process]) -> None:
        """Until a run has its folder: before, there is nothing to go on with."""
        while not (self.bench.place / name / "config.yaml").exists() and processes[0].wait(0.01) is None:
            pass

    def ends(self, processes: list[Process], seconds: float) -> tuple[list[int | None], str]:
        """Exit codes of processes that are waited for so long, None of those that had to be killed; what they said."""
        deadline = time.monotonic() + seconds
        codes = [process.wait(max(0.0, deadline - time.monotonic())) for process in processes]
        for process, code in zip(processes, codes, strict=True):
            if code is None:
                process.send(signal.SIGKILL)
                process.wait(60)
        return codes, "".join(process.stderr for process in processes)

    def ending(self, name: str, codes: list[int | None], said: str) -> str:
        """How a trial ended, of whose processes those that were left have these exit codes."""
        place = self.bench.place / name
        if None in codes:
            return "hangs"
        lines = [line for line in said.splitlines() if not line.startswith("warning")]
        if "Traceback" in said or any(code not in (0, 2) for code in codes) or len(lines) > 1:
            print(codes, said, file=sys.stderr)
            return "traceback"
        codes, said = self.ends(self.start(name, "--resume"), self.bench.run_seconds)
        refused = codes == [2] * SIZE and len(said.splitlines()) == 1
        if refused:
            shutil.rmtree(place, ignore_errors=True)
            codes, said = self.ends(self.start(name), self.bench.run_seconds)
        if codes != [0] * SIZE:
            print(codes, said, file=sys.stderr)
            return "hangs" if None in codes else "traceback"
        if self.bench.outcome(name) != self.wanted:
            return "different"
        return "refused" if refused else "equal"

    def note(self, kind: str, ends: str, seconds: float, name: str) -> None:
        """Count a trial, and forget its run."""
        self.results.setdefault(kind, Counter())[ends] += 1
        self.slowest[kind] = round(max(seconds, self.slowest.get(kind, 0.0)), 1)
        shutil.rmtree(self.bench.place / name, ignore_errors=True)
        print(f"one of {SIZE} processes, {kind}: {ends}; the others had ended after {seconds:.1f} s", flush=True)

    def kill(self, name: str, rank: int, share: float, early: bool) -> None:
        """Kill one after a share of the seconds that a run takes from its folder on, or of those before if ``early``.

        A run that was over already is no trial; another is killed a little earlier.
        """
        processes = self.start(name)
        if not early:
            self.wait_for_folder(name, processes)
        time.sleep(share * (self.seconds_before if early else self.seconds))
        killed = processes.pop(rank)
        if killed.wait(0) is not None:
            self.ends(processes, LIMIT)
            shutil.rmtree(self.bench.place / name)
            self.kill(name, rank, 0.8 * share, early)
            return
        killed.send(signal.SIGKILL)
        started = time.monotonic()
        codes, said = self.ends(processes, LIMIT)
        seconds = time.monotonic() - started
        kind = f"the {'first' if rank == 0 else 'second'} {KILLED}"
        self.note(kind, self.ending(name, codes, said), seconds, name)

    def fail(self, name: str, rank: int) -> None:
        """Let the reward of one raise: both end, with its line."""
        processes = self.start(name, fails=str(rank))
        started = time.monotonic()
        codes, said = self.ends(processes, LIMIT + self.bench.run_seconds)
        seconds = time.monotonic() - started
        lines = [line for line in said.splitlines() if not line.startswith("warning")]
        told = len(lines) == 2 and "no reward any more" in lines[0] and "raise" in lines[1]  # the user's own line
        if codes == [2] * SIZE and not told:
            print(codes, said, file=sys.stderr)
        ends = self.ending(name, codes, "\n".join(lines[:1]))
        self.note(RAISES, ends if told or None in codes else "traceback", seconds, name)

    def stop(self, name: str, rank: int) -> None:
        """Stop one in a step, for as long as the others are there; it ends, too, once it is let go on."""
        processes = self.start(name)
        while "step 1/" not in processes[0].stdout and processes[0].wait(0.01) is None:
            pass
        stopped = processes.pop(rank)
        stopped.send(signal.SIGSTOP)
        started = time.monotonic()
        codes, said = self.ends(processes, LIMIT)
        seconds = time.monotonic() - started
        stopped.send(signal.SIGCONT)
        late, more = self.ends([stopped], LIMIT)
        lines = said if said else more
        self.note(f"the {'first' if rank == 0 else 'second'} {STOPPED}", self.ending(name, [*codes, *late], lines),
                  seconds, name)  # fmt: skip

    def content(self, file: Path, seed: int) -> dict[str, Any]:
        """What is written about the trials; kinds in ``file`` that were not tried now are kept as they are there."""
        slowest = "seconds until the others had ended, at most"
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"results": {}, slowest: {}}
        return {
            "processes": SIZE, "timeout": TIMEOUT, "seed": seed,
            "results": before["results"] | {kind: dict(ends) for kind, ends in self.results.items()},
            slowest: before[slowest] | self.slowest,
        }  # fmt: skip


def trials(bench: Bench, kills: int, raises: int, stops: int, seed: int) -> Ranks:
    """All of them.

    Args:
        bench: with the base model.
        kills: random kills, every other one of the first process; two in ten before the run has its folder.
        raises: rewards that raise, the same.
        stops: processes that are stopped, the same.
        seed: of the moments.
    """
    ranks, choose = Ranks(bench), random.Random(seed)  # noqa: S311
    print(f"{ranks.seconds_before:.0f} and {ranks.seconds:.0f} seconds a run of {SIZE} processes", flush=True)
    for trial in range(kills):
        ranks.kill(f"killed-{trial}", trial % SIZE, choose.uniform(0.0, 0.9), early=trial % 10 in (4, 9))
    for trial in range(raises):
        ranks.fail(f"raises-{trial}", trial % SIZE)
    for trial in range(stops):
        ranks.stop(f"stopped-{trial}", trial % SIZE)
    return ranks


def table_of(content: dict[str, Any]) -> list[str]:
    """The trials as Markdown."""
    names = ("equal", "refused", "different", "traceback", "hangs")
    rows = [
        "| one of two processes | trials | equal | refused in one line | different | traceback | hangs | slowest end |",
        "|---|---|---|---|---|---|---|---|",
    ]
    slowest = content["seconds until the others had ended, at most"]
    for kind, ends in content["results"].items():
        counts = " | ".join(str(ends.get(end, 0)) for end in names)
        rows.append(f"| {kind} | {sum(ends.values())} | {counts} | {slowest[kind]:.0f} s |")
    return rows


def failed(ranks: Ranks) -> bool:
    """Whether a trial ended as it must not."""
    return any(set(ends) - {"equal", "refused"} for ends in ranks.results.values())


def place_of(out: Path) -> Path:
    """The file of these trials beside that of the others."""
    return out.with_name(f"{out.stem}_ranks{out.suffix}")
