"""Processes of one run that are started once and asked many questions.

    with Pool(2) as pool:
        pool.ask(function, argument)      # [what process 0 returned, what process 1 returned]

The function runs in every process at the same time, in their group (gloo), and must be one that can be imported.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Pool:
    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.pipes, self.workers = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, rank, size, port), daemon=True)
            worker.start()
            self.pipes.append(ours)
            self.workers.append(worker)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        failures = [text for ok, text in answers if not ok]
        assert not failures, "\n".join(failures)
        return [answer for _, answer in answers]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for worker in self.workers:
            worker.join(30)
            worker.kill()


def _work(pipe: Connection, rank: int, size: int, port: int) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port),
        OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false",
    )  # fmt: skip
    import torch

    from visual_rft.parallel.processes import together

    torch.set_num_threads(1)
    with together() as processes:
        assert processes.watch is not None
        processes.watch.patience = 100.0
        while (question := pipe.recv()) is not None:
            function, arguments = question
            try:
                pipe.send((True, function(*arguments)))
            except BaseException:  # noqa: BLE001 - whatever it is, the test shows it
                pipe.send((False, f"process {rank}:\n{traceback.format_exc()}"))
