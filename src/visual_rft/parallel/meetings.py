"""The places where the processes of a run meet: sums, and what each has to tell the others.

Decision: there is no meeting inside encoding, sampling, scoring or the backward pass. So the processes may differ in
micro-batches, lengths, skipped groups and checkpointing without waiting for each other in the wrong place. Every
meeting has a name, which is what a time-out says (``watch.py``). In a single process each returns what it was given.

    sum_gradients(parameters)              # the gradients of all processes, in buckets
    gather(rows, "metrics")                # [rows of process 0, rows of process 1, ...]
    by_first(lambda: make(), "folder")     # made by process 0, known to all; its error is everybody's
    total(3.0, "tokens")                   # the sum over processes
    for number in taken(9, "the runs"): ...  # each number in the process that is free
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from visual_rft.errors import ModelError, VisualRFTError
from visual_rft.parallel.processes import here

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
BUCKET_BYTES = 64 * 2**20
"""Of the flat tensors in which gradients are summed: large enough for a network to be busy, small beside the model."""


def meeting(name: str) -> AbstractContextManager[None]:
    """Around a collective of somebody else; nothing in a single process."""
    watch = here().watch
    return nullcontext() if watch is None else watch.meeting(name)


def gather(mine: T, name: str) -> list[T]:
    """What every process has to tell, in their order. Small things: it goes through the memory of all."""
    if here().size == 1:
        return [mine]
    import torch.distributed as dist

    told: list[Any] = [None] * here().size
    with meeting(name):
        dist.all_gather_object(told, mine)
    return told


def total(value: float, name: str) -> float:
    """The sum of a number over all processes."""
    if here().size == 1:
        return value
    import torch
    import torch.distributed as dist

    summed = torch.tensor(value, dtype=torch.float64)
    with meeting(name):
        dist.all_reduce(summed)
    return summed.item()


def by_first(make: Callable[[], T], name: str) -> T:
    """What the first process makes, told to all; the others wait.

    Raises:
        VisualRFTError: that of the first process, in all.
    """
    if here().size == 1:
        return make()
    import torch.distributed as dist

    told: list[Any] = [None, None]
    if here().first:
        try:
            told[0] = make()
        except VisualRFTError as error:
            told[1] = error
    with meeting(name):
        dist.broadcast_object_list(told, src=0)
    if told[1] is not None:
        raise told[1]
    made: T = told[0]
    return made


def taken(count: int, name: str) -> Iterator[int]:
    """The numbers 0 to ``count`` - 1, each in one process: who is free takes the next. Ends in all when all are done.

    Args:
        count: the same in all processes.
        name: of the meeting in the end, which is as patient as the longest piece of work needs.
    """
    watch = here().watch
    if watch is None:
        yield from range(count)
        return
    import torch.distributed as dist

    row = f"taken/{watch.meetings}"
    while (number := watch.take(row)) < count:
        yield number
    with watch.meeting(name, patient=True):
        dist.barrier()


def rows_of_all(mine: Tensor, name: str) -> tuple[Tensor, slice]:
    """The rows of every process one after the other, and which of them are this one's; without gradient.

    Args:
        mine: ``[B, ...]``, of this process.
        name: of the meeting.
    """
    if here().size == 1:
        return mine, slice(0, len(mine))
    import torch

    parts = gather(mine.detach().cpu(), name)
    start = sum(len(part) for part in parts[: here().rank])
    return torch.cat(parts).to(mine.device), slice(start, start + len(mine))


def sum_gradients(parameters: Iterable[Tensor]) -> int:
    """Add up the gradients of all processes, in place; a process without one counts as zeros.

    Args:
        parameters: the learning ones, in the same order everywhere.

    Returns:
        Bytes that were summed, float32, 0 in a single process; a ring moves twice as many, less one part in the
        number of processes, out of every process.
    """
    if here().size == 1:
        return 0
    import torch
    import torch.distributed as dist

    moved = 0
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    with meeting("the sum of the gradients"):
        for bucket in buckets(learning):
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
            flat = torch.cat([grad.flatten() for grad in grads]).float()  # bfloat16 would lose in every sum
            dist.all_reduce(flat)
            moved += flat.numel() * flat.element_size()
            for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))
    return moved


def check_equal(tensors: Iterable[Tensor], what: str) -> None:
    """Make sure that all processes hold the same numbers, by the sum of each tensor.

    Raises:
        ModelError: if they do not, naming the process that differs from the first.
    """
    if here().size == 1:
        return
    import torch

    sums = [tensor.detach().sum(dtype=torch.float64) for tensor in tensors]
    digests = gather(torch.stack(sums).tolist() if sums else [], f"a look at {what}")
    others = [rank for rank, other in enumerate(digests) if other != digests[0]]
    if others:
        raise ModelError(f"{what} of process {others[0]} are not those of process 0; do both read the same files?")


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one type, up to :data:`BUCKET_BYTES` together."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        needed = tensor.numel() * tensor.element_size()
        if bucket and (tensor.dtype != bucket[0].dtype or size + needed > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += needed
    if bucket:
        yield bucket
