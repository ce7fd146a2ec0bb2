"""Runs that are killed, stopped, damaged or short of disk space, and whether they end with the same weights.

Decision: every trial compares, bit by bit, what ``--resume`` ends with against a run that nothing happened to: the
weights of the last checkpoint, and reward, loss and gradient norm of every step. Kill points are the operations on
files below the run folder, seen by an audit hook, so none is forgotten when the code changes; random kills find the
rest. A trial ends as ``equal``, as ``refused`` (one line and exit code 2, and the run begun anew is equal), or it is a
failure: ``different``, ``traceback``.

Every run is a fork of this process, which has imported everything before: a run of four steps takes two seconds, of
which an import would make ten.

    make chaos                                       # everything
    python scripts/chaos.py --points 3 --kills 3 --files 2 --out /tmp/chaos.json
    python scripts/chaos.py --only ranks             # one of two processes is killed, fails or stands still
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "reliability.md"
RESULT = ROOT / "benchmarks" / "results" / "chaos.json"
STEPS = 4
RUN_SECONDS = 600
"""After which a run is said to hang."""
LAST = f"checkpoints/step-{STEPS:06d}"
COMPARED = ("step", "reward", "loss", "grad_norm", "kl")
REWARD = '''
def letters(completion, truth, answer):
    """Which a random model writes now and then, so that its weights change."""
    return sum(c in "aeiou" for c in completion) / max(len(completion), 1)
'''
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


class Process:
    """A run in a fork of this process, and what it says."""

    def __init__(self, words: list[str], said: Path, environment: Mapping[str, str] | None = None) -> None:
        self.out, self.err = said.with_suffix(".out"), said.with_suffix(".err")
        arguments = (words, environment or {})
        self._fork = multiprocessing.get_context("fork").Process(target=self._work, args=arguments)
        self._fork.start()

    def _work(self, words: list[str], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores in the background,
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
        for number, file in ((1, self.out), (2, self.err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.exit(child(words))

    def wait(self, seconds: float) -> int | None:
        """The exit code, as of ``subprocess``; None if the process still runs after ``seconds``."""
        self._fork.join(seconds)
        return self._fork.exitcode

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._fork.pid is not None
        os.kill(self._fork.pid, number)

    @property
    def stderr(self) -> str:
        """What was said on stderr until now."""
        return self.err.read_text() if self.err.exists() else ""

    @property
    def stdout(self) -> str:
        """What was said on stdout until now."""
        return self.out.read_text() if self.out.exists() else ""


class Bench:
    """A folder with a base model, a run that nothing happened to, and how to run others like it."""

    def __init__(self, place: Path, *, whole: bool = True) -> None:
        sys.path.insert(0, str(ROOT / "tests"))
        from support.tiny_models import random_model

        import visual_rft.training.rft  # noqa: F401 - before the forks, which would do it each

        self.place, self.run_seconds = place, RUN_SECONDS
        self.results: dict[str, Counter[str]] = {}
        model, processor = random_model("qwen2_vl")
        model.save_pretrained(place / "base")
        processor.save_pretrained(place / "base")
        (place / "rewards.py").write_text(REWARD)
        if whole:
            self._run_whole()

    def _run_whole(self) -> None:
        """The run that nothing happens to."""
        place = self.place
        started = time.monotonic()
        done = self.run("whole", count=True)
        if done.wait(0):
            raise SystemExit(f"the run that nothing happens to fails:\n{done.stderr}")
        self.seconds = time.monotonic() - started
        self.operations = int((place / "whole.count").read_text())
        self.wanted = outcome_of(place / "whole")

    def config_of(self, name: str, **sections: Mapping[str, Any]) -> Path:
        """The config of a run named ``name``; fields in ``sections`` are added."""
        values: dict[str, dict[str, Any]] = {
            "model": {"path": str(self.place / "base")},
            "task": {"weights": {f"{self.place / 'rewards.py'}:letters": 1}},
            "data": {"train": [{"source": "digits", "count": 6}], "evaluation": [{"source": "digits", "count": 1}]},
            "rollout": {"group_size": 3, "max_new_tokens": 8},
            "objective": {"beta": 0.1},
            "optimizer": {"learning_rate": 1e-3},
            "run": {
                "folder": str(self.place / name), "steps": STEPS, "prompts_per_batch": 2, "checkpoint_every": 1,
                "evaluate_every": 2, "threads": 1,
            },
        }  # fmt: skip
        for section, fields in sections.items():
            values[section] = {**values.get(section, {}), **fields}
        config = self.place / f"{name}.yaml"
        config.write_text(json.dumps(values))
        return config

    def start(
        self, name: str, *words: str, said: str = "", environment: Mapping[str, str] | None = None, **sections: Any
    ) -> Process:
        """A process of a run named ``name``.

        Args:
            name: of the run, its folder and its config.
            words: for the child's own parser.
            said: name of the files of what it says; that of the run without one.
            environment: variables of this process alone.
            sections: fields that are added to the config.
        """
        return Process([str(self.config_of(name, **sections)), *words], self.place / (said or name), environment)

    def outcome(self, name: str) -> Any:
        """What a run has ended with."""
        return outcome_of(self.place / name)

    def run(self, name: str, *, resume: bool = False, kill_at: int = 0, count: bool = False) -> Process:
        """One process of a run, to its end."""
        words = ["--resume"] * resume + ["--kill-at", str(kill_at)] * bool(kill_at)
        words += ["--count", str(self.place / f"{name}.count")] * count
        process = self.start(name, *words)
        if process.wait(RUN_SECONDS) is None:
            process.send(signal.SIGKILL)
            raise SystemExit(f"{name} hangs: it was still running after {RUN_SECONDS} seconds")
        return process

    def copy(self, name: str, after: int) -> Path:
        """A copy of the whole run as a crash after ``after`` steps leaves it."""
        folder = self.place / name
        shutil.copytree(self.place / "whole", folder)
        for checkpoint in (folder / "checkpoints").glob("step-*"):
            if int(checkpoint.name.removeprefix("step-")) > after:
                shutil.rmtree(checkpoint)
        (folder / "summary.json").unlink()
        return folder

    def ending(self, name: str) -> str:
        """How a run ends that is gone on with, and begun anew if that is refused."""
        done = self.run(name, resume=True)
        refused = done.wait(0) == 2
        if refused and len(done.stderr.strip().splitlines()) == 1:
            shutil.rmtree(self.place / name, ignore_errors=True)
            done = self.run(name)
        if "Traceback" in done.stderr or done.wait(0):
            print(done.stderr, file=sys.stderr)
            return "traceback"
        if outcome_of(self.place / name) != self.wanted:
            return "different"
        return "refused" if refused else "equal"

    def note(self, kind: str, ends: str) -> None:
        """Count a trial, and forget its run."""
        self.results.setdefault(kind, Counter())[ends] += 1
        print(f"{kind}: {ends}", flush=True)


def outcome_of(folder: Path) -> Any:
    """What has to be equal bit by bit."""
    digest = hashlib.sha256((folder / LAST / "model/model.safetensors").read_bytes()).hexdigest()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    whole = json.loads((folder / "summary.json").read_text())["steps"] == STEPS
    return digest, [[row.get(name) for name in COMPARED] for row in rows], whole


def child(words: list[str]) -> int:
    """A run in this process, which may be killed at an operation on a file of its folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--count", type=Path)
    given = parser.parse_args(words)
    folder, seen = json.loads(Path(given.config).read_text())["run"]["folder"], 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in FILE_EVENTS and folder in str(arguments[0]):
            if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
                return
            seen += 1
            if seen == given.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if given.kill_at or given.count:
        sys.addaudithook(watch)
    from visual_rft.cli.main import main
    from visual_rft.training import household

    household.write_artefacts = lambda folder: []  # plots and report, made of what is there; half the time of a run
    code = main(["train", given.config, *["--resume"] * given.resume])
    if given.count:
        given.count.write_text(str(seen))
    return code


def kill_points(bench: Bench, points: int) -> None:
    """Killed at operations on files, evenly spread over all of them."""
    count = min(points, bench.operations)
    for trial in range(count):
        name = f"point-{trial}"
        done = bench.run(name, kill_at=1 + trial * bench.operations // count)
        ends = bench.ending(name) if done.wait(0) == -signal.SIGKILL else "traceback"
        bench.note("killed at an operation on a file", ends)


def random_kills(bench: Bench, kills: int, choose: random.Random) -> None:
    """Killed at random moments, ten times a run; each time it goes on."""
    left, trial = kills, 0
    while left:
        name, now = f"random-{trial}", min(left, 10)
        for _attempt in range(now):
            process = bench.start(name, *["--resume"] * (bench.place / name / "config.yaml").exists())
            if process.wait(choose.uniform(0.1, 1.0) * bench.seconds) is None:
                process.send(signal.SIGKILL)
                process.wait(RUN_SECONDS)
            said = process.stderr
            if "Traceback" in said:
                print(said, file=sys.stderr)
                bench.note("killed at a random moment", "traceback")
            if (bench.place / name / "summary.json").exists():
                (bench.place / name / "summary.json").unlink()
            if not (bench.place / name / "config.yaml").exists():
                shutil.rmtree(bench.place / name, ignore_errors=True)
        ends = bench.ending(name) if (bench.place / name).exists() else "equal"
        for _ in range(now):
            bench.note("killed at a random moment", ends)
        left, trial = left - now, trial + 1


def signals(bench: Bench, names: list[str]) -> None:
    """Asked to stop in a step: the right exit code, no traceback, and the run goes on."""
    for signal_name in names:
        name, number = f"signal-{signal_name}", getattr(signal, signal_name)
        process = bench.start(name)
        while "step 1/" not in process.stdout and process.wait(0.01) is None:
            pass
        process.send(number)
        code = process.wait(RUN_SECONDS)
        kept = code == 128 + number and "Traceback" not in process.stderr
        bench.note("a signal", bench.ending(name) if kept else "traceback")


def harms() -> dict[str, Callable[[Path], object]]:
    """What is done to a file."""

    def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda file: file.write_bytes(change(file.read_bytes()))

    def flipped(content: bytes) -> bytes:
        place = len(content) * 3 // 4
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return {
        "cut": changed(lambda content: content[: len(content) // 2]),
        "emptied": changed(lambda content: b""),
        "half of it zero": changed(lambda content: content[: len(content) // 2] + bytes(-(-len(content) // 2))),
        "a flipped bit": changed(flipped),
        "lost": Path.unlink,
    }


def damage(bench: Bench, files: int) -> None:
    """Every harm to every file of the newest checkpoint: the one before is taken."""
    newest = f"step-{STEPS - 1:06d}"
    whole = bench.place / "whole/checkpoints" / newest
    names = sorted(str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file())
    for file in names[:files]:
        for harm, apply in harms().items():
            name = re.sub(r"\W", "-", f"damage-{file}-{harm}")
            apply(bench.copy(name, after=STEPS - 1) / "checkpoints" / newest / file)
            bench.note(f"newest checkpoint, a file {harm}", bench.ending(name))
            shutil.rmtree(bench.place / name)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A disk of ``size`` bytes at ``place``; False where this process may not make one."""
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    made = subprocess.run(options, capture_output=True, check=False).returncode == 0  # noqa: S603
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


def full_disk(bench: Bench) -> None:
    """The disk fills up in a checkpoint; there is room again when the run goes on."""
    size = sum(file.stat().st_size for file in (bench.place / "whole").rglob("*") if file.is_file())
    with small_disk(bench.place / "disk", size * 3 // 4) as made:
        if not made:
            print("a full disk: left out, no disk can be mounted here", flush=True)
            return
        done = bench.run("disk/run")
        said = "cannot write this checkpoint" in done.stderr and "Traceback" not in done.stderr
        unfinished = list((bench.place / "disk/run").rglob("*unfinished*"))
        if not said or done.wait(0) != 2 or unfinished:
            print(done.stderr, unfinished, file=sys.stderr)
            bench.note("a full disk", "traceback")
            return
        shutil.move(bench.place / "disk/run", bench.place / "moved")
    bench.note("a full disk", bench.ending("moved"))


def table_of(results: dict[str, Counter[str]]) -> list[str]:
    """The counts as Markdown."""
    rows = [
        "| what was done | trials | equal | refused in one line | different | traceback |",
        "|---|---|---|---|---|---|",
    ]
    for kind, ends in results.items():
        counts = " | ".join(str(ends[end]) for end in ("equal", "refused", "different", "traceback"))
        rows.append(f"| {kind} | {sum(ends.values())} | {counts} |")
    return rows


def write_table(name: str, rows: list[str]) -> None:
    """Put a table into the page, in its place of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = TABLE.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    table = "\n".join(rows)
    TABLE.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def in_one_process(given: argparse.Namespace, place: Path) -> bool:
    """The trials of runs in one process; whether one failed."""
    bench = Bench(place)
    print(f"{bench.operations} operations on files, {bench.seconds:.0f} seconds a run", flush=True)
    damage(bench, given.files)
    signals(bench, [name for name in given.signals.split(",") if name])
    if given.disk:
        full_disk(bench)
    kill_points(bench, given.points)
    random_kills(bench, given.kills, random.Random(given.seed))  # noqa: S311
    results = {kind: dict(ends) for kind, ends in bench.results.items()}
    content = {"steps": STEPS, "operations": bench.operations, "seed": given.seed, "results": results}
    given.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if given.out == RESULT:
        write_table("chaos", table_of(bench.results))
    return any(ends["different"] or ends["traceback"] for ends in bench.results.values())


def in_two_processes(given: argparse.Namespace, place: Path) -> bool:
    """The trials of runs in two processes; whether one failed."""
    import chaos_ranks

    bench = Bench(place, whole=False)
    ranks = chaos_ranks.trials(bench, given.ranks, given.raises, given.stops, given.seed)
    file = chaos_ranks.place_of(given.out)
    content = ranks.content(file, given.seed)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if given.out == RESULT:
        write_table("chaos of ranks", chaos_ranks.table_of(content))
    return chaos_ranks.failed(ranks)


def main() -> int:
    """Run the trials; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000, help="kill points; all there are, if fewer")
    parser.add_argument("--kills", type=int, default=100, help="random kills")
    parser.add_argument("--files", type=int, default=100, help="files of a checkpoint that are damaged")
    parser.add_argument("--signals", default="SIGINT,SIGTERM,SIGHUP,SIGUSR1")
    parser.add_argument("--disk", action=argparse.BooleanOptionalAction, default=True, help="try a full disk")
    parser.add_argument("--ranks", type=int, default=20, help="random kills of one of two processes")
    parser.add_argument("--raises", type=int, default=2, help="rewards that raise in one of two processes")
    parser.add_argument("--stops", type=int, default=2, help="stops (SIGSTOP) of one of two processes")
    parser.add_argument("--only", choices=("one", "ranks"), help="runs in one process, or in two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else a fork is warned of
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command itself says before torch is imported
    failed = []
    for name, trials in (("one", in_one_process), ("ranks", in_two_processes)):
        if given.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="chaos-") as place:
                failed.append(trials(given, Path(place)))
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
