"""Processes of one run that may end badly, forked from a server that has imported everything once.

    ends = run_apart([["train", "a.yaml"], ["train", "a.yaml"]], folder)     # the words of process 0 and of process 1
    ends[1].code, ends[1].said

Nobody helps: there is no launcher which ends the processes that are left.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["visual_rft.training.rft", "visual_rft.inspection.check", "transformers.models.qwen2_vl.modeling_qwen2_vl"]
)
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command says before it imports torch
HANGS = 150.0
"""Seconds after which a process is said to hang: a minute of silence counts as death, and other work goes on here."""


class End(NamedTuple):
    """How a process ended: its exit code, None if it had to be killed, and what it said on standard error."""

    code: int | None
    said: str


def run_apart(words: Sequence[Sequence[str]], folder: Path, before: Callable[[int], object] | None = None) -> list[End]:
    """The command with the words of each process, all of one run.

    Args:
        words: of each process.
        folder: for what they say.
        before: called with its number in each process before the command.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    said = [folder / f"said-{rank}.txt" for rank in range(len(words))]
    workers = []
    for rank, file in enumerate(said):
        arguments = (list(words[rank]), rank, len(words), port, str(file), before)
        workers.append(_CONTEXT.Process(target=_work, args=arguments))
        workers[-1].start()
    deadline = time.monotonic() + HANGS
    ends = []
    for worker, file in zip(workers, said, strict=True):
        worker.join(max(0.0, deadline - time.monotonic()))
        code = worker.exitcode
        if code is None:
            worker.kill()
            worker.join()
        ends.append(End(code, file.read_text()))
    return ends


def _work(words: list[str], rank: int, size: int, port: int, file: str, before: Callable[[int], object] | None) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port),
        TOKENIZERS_PARALLELISM="false",
    )  # fmt: skip
    opened = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(opened, 2)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    import torch

    from visual_rft.cli.main import main

    torch.set_num_threads(1)
    if before is not None:
        before(rank)
    sys.exit(main(words))


def small_files_of_the_first(rank: int) -> None:
    """The first process cannot write a file of more than 100 kB, as on a disk that is full."""
    if rank == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
