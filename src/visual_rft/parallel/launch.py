"""How several processes begin: counted from what a launcher left in the environment, or started here.

Decision: nothing here imports torch, so that a verb's file stays light. ``torchrun`` and ``accelerate launch`` leave
the same few variables; ``--run.processes N`` is ``torchrun`` on one node, called in this process, so that the exit code
is the workers' own and the only line that is printed is theirs.

    torchrun --nproc-per-node 2 -m visual_rft train run.yaml
    accelerate launch --num_processes 2 -m visual_rft train run.yaml
    visual-rft train run.yaml --run.processes 2
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from visual_rft.errors import ConfigError

SHUTDOWN_SECONDS = 1800
"""That the other workers have to end once one has; they end by themselves when the run has been put away."""


def launched() -> int:
    """Number of processes that a launcher started; 1 without one.

    Raises:
        ConfigError: if the environment does not hold a number, or asks for DeepSpeed.
    """
    stated = os.environ.get("WORLD_SIZE", "1")
    if not stated.isdecimal() or int(stated) < 1:
        raise ConfigError(f"WORLD_SIZE is {stated!r}; a launcher such as torchrun sets it to the number of processes")
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("1", "true"):
        raise ConfigError(
            "DeepSpeed is not supported; launch without it and set parallel.strategy fsdp, which shards the same things"
        )
    return int(stated)


def start(processes: int, words: Sequence[str]) -> int:
    """Run ``visual-rft WORDS`` in this many processes of this machine; returns the exit code.

    A signal that this process gets is passed on to all of them, which then write a checkpoint and end.
    """
    import psutil
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def pass_on(number: int, frame: FrameType | None) -> None:
        for worker in psutil.Process().children():
            worker.send_signal(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), pass_on)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # says again, in a page, what a worker has said
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=f"visual-rft-{os.getpid()}", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=0, signals_to_handle="SIGQUIT",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "visual_rft", *words)
    except ChildFailedError as error:
        rank, first = min(error.failures.items(), key=lambda item: item[1].timestamp)
        if first.exitcode >= 0:
            return first.exitcode
        name = signal.Signals(-first.exitcode).name
        print(f"visual-rft: process {rank} of {processes} was ended by {name}", file=sys.stderr)
        return 128 - first.exitcode
    return 0
