"""Who am I among the processes of a run, and how they come together and part.

Decision: a run of one process is the common case and pays nothing: no group, no thread, every meeting returns at once.
Torch is imported only for several, or by whoever asks for the device. The group speaks gloo between hosts and NCCL
between GPUs, so that what is in a process's memory never has to go through a GPU. Only the first process is heard
(``watch.py`` says whose error is).

    with together():          # does nothing in a single process
        here().first          # whether this one writes and speaks
        here().share(10)      # range(5, 10) in the second of two processes
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from visual_rft.errors import RunStopped, VisualRFTError
from visual_rft.parallel.launch import launched

if TYPE_CHECKING:
    import torch

    from visual_rft.parallel.watch import Watch

BACKSTOP = timedelta(days=1)
"""After which a library gives a collective up by itself; the watch does so long before, and says who is missing."""
BEGIN = timedelta(minutes=10)
"""For all processes to be there."""


@dataclass(frozen=True)
class Processes:
    """This process among all of a run.

    Attributes:
        rank: number of this one, from 0.
        size: number of processes.
        local: number of this one on its machine.
        watch: of the others; None if there are none.
        alone: whether it is one of several that work by themselves.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    watch: Watch | None = None
    alone: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this one computes."""
        import torch

        return torch.device("cuda", self.local) if torch.cuda.is_available() else torch.device("cpu")

    def share(self, count: int) -> range:
        """This process's part of the numbers 0 to ``count`` - 1: consecutive, and as even as can be.

        >>> [list(Processes(rank, 3).share(7)) for rank in range(3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        """
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def wait_at_most(self, seconds: float) -> None:
        """From now on a meeting that is not complete after so long ends the run."""
        if self.watch is not None:
            self.watch.patience = seconds


_here = Processes()


def here() -> Processes:
    """This process among those of the run."""
    return _here


def exit_code_of(error: BaseException) -> int | None:
    """The exit code of an error of ours; None of any other."""
    if isinstance(error, RunStopped):
        return error.exit_code
    return 2 if isinstance(error, VisualRFTError) else None


@contextmanager
def together(exit_code: Callable[[BaseException], int | None] = exit_code_of) -> Iterator[Processes]:
    """Inside, all processes that a launcher started are one group; in a single process, inside another such block or
    :func:`alone`, nothing happens.

    An error of one ends all: it is raised here in that one, and the others end with its exit code, silently.

    Args:
        exit_code: how whoever catches an error ends this process; None for a bug, which ends it with a traceback.

    Raises:
        ConfigError: if what the launcher left in the environment cannot be used.
        VisualRFTError: if the processes do not find each other.
    """
    global _here
    if _here.size > 1 or _here.alone or launched() == 1:
        yield _here
        return
    import torch.distributed as dist

    _here = _joined()
    watch = _here.watch
    assert watch is not None
    try:
        with watch.fate(exit_code):
            yield _here
            with watch.meeting("the end"):
                dist.barrier()
    finally:
        watch.close()
        dist.destroy_process_group()
        _here = Processes()


@contextmanager
def alone() -> Iterator[Processes]:
    """Inside, this process is a run of its own, on its own device, and meets no other: for work that is divided by the
    piece, where a piece is what one process does. :func:`together` does nothing here."""
    global _here
    before = _here
    _here = Processes(local=before.local, alone=True)
    try:
        yield _here
    finally:
        _here = before


def _joined() -> Processes:
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from visual_rft.parallel.watch import Watch

    local = int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    try:
        store, rank, size = next(rendezvous("env://", timeout=BEGIN))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        group = PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=BACKSTOP)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise VisualRFTError(f"the processes of this run do not find each other ({said})") from error
    if rank > 0:  # the first one says it; an error goes to the real one (``watch.py``)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    return Processes(rank, size, local, Watch(PrefixStore("watch", store.clone()), rank, size))
