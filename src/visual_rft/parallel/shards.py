"""Master weights, gradients and averages cut into shards, one per process (``parallel: {strategy: fsdp}``).

Decision: the model that computes is a whole, plain one in every process, in the type that the config gives it, so
nothing of a forward pass waits for others. What learns lies beside it: float32 masters, flat, each process holding its
part of every tensor, and the optimiser works on the parts alone. A step reduces the gradients into the parts and
gathers the new weights out of them, a bucket in one collective: the memory of FSDP2 whose weights stay gathered for the
step, cut as DTensor cuts, without hooks. Per parameter a process holds the computing weight and its gradient, and 12
bytes (master and two averages) over the number of processes. With ``within`` the parts lie inside groups of so many
processes (a machine), and the groups hold the same (HSDP). With ``offload`` the parts lie in the memory of the CPU,
where the optimiser then computes. Gradients may come in pieces before the step (``gathering.py``).

    shards = Shards(list(model.named_parameters()), within=None)
    optimizer = AdamW(shards.parts)
    norm = shards.reduce()         # gradients of all processes into the parts
    optimizer.step()
    shards.spread()                # the new weights into the model
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.functional import pad

from visual_rft.errors import ConfigError
from visual_rft.parallel.meetings import buckets, meeting, total
from visual_rft.parallel.processes import here


class Shards:
    """The masters of the learning parameters.

    Args:
        named: names and parameters that learn, on this process's device, the same in every process.
        within: processes of a group inside which tensors are cut; None takes all.
        offload: whether the parts lie in the memory of the CPU.

    Attributes:
        parts: this process's part of every master, flat, float32; what the optimiser works on.
        names: of the parameters, in the same order.

    Raises:
        ConfigError: if the processes cannot be divided into such groups.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], within: int | None = None, *, offload: bool = False
    ) -> None:  # fmt: skip
        self.names = [name for name, _ in named]
        self.weights = [weight for _, weight in named]
        size = here().size
        self.inside = min(within or size, size)
        if size % self.inside:
            raise ConfigError(f"parallel.shard_within: {size} processes are not groups of {self.inside}")
        self.copies = size // self.inside
        self.mesh: DeviceMesh | None = None
        if size > 1:
            with meeting("the mesh of the processes"):
                self.mesh = init_device_mesh(here().device.type, (self.copies, self.inside))
        self.home = torch.device("cpu") if offload else here().device
        self.stored = self.mesh  # of the parts
        if self.mesh is not None and self.home.type != self.mesh.device_type:
            with meeting("the mesh of the processes"):
                self.stored = init_device_mesh(self.home.type, (self.copies, self.inside))
        self.parts = [torch.nn.Parameter(self.part_of(weight.detach().float().flatten())) for weight in self.weights]
        self._collected: set[int] = set()

    @property
    def spares_frozen(self) -> bool:
        """Whether a part of a weight takes less of the device's memory than the weight."""
        return self.mesh is not None or self.home != here().device

    def collect(self, numbers: Iterable[int]) -> None:
        """Add the gradients of all processes to those of the parts; the weights' own go.

        Args:
            numbers: of the weights, the same in every process; a weight without gradient counts as zeros.
        """
        chosen = {id(self.weights[number]): number for number in numbers}
        with meeting("the sum of the gradients"):
            for bucket in buckets([self.weights[number] for number in chosen.values()]):
                for weight, summed in zip(bucket, self._summed(bucket), strict=True):
                    part, grad = self.parts[chosen[id(weight)]], summed.to(self.home)
                    part.grad = grad if part.grad is None else part.grad.add_(grad)
        self._collected.update(chosen.values())

    def reduce(self) -> float:
        """Collect what is not collected yet in this step; returns the norm of all gradients."""
        self.collect(number for number in range(len(self.weights)) if number not in self._collected)
        self._collected.clear()
        squares = sum(
            float(part.grad.square().sum(dtype=torch.float64)) for part in self.parts if part.grad is not None
        )
        return float((total(squares, "the norm of the gradients") / self.copies) ** 0.5)

    def scale(self, factor: float) -> None:
        """Multiply the gradients of the parts."""
        for part in self.parts:
            if part.grad is not None:
                part.grad.mul_(factor)

    @torch.no_grad()
    def spread(self) -> None:
        """The masters into the weights of the model, in every process."""
        with meeting("the new weights"):
            for weight, whole in self.wholes(zip(self.weights, self.parts, strict=True)):
                weight.copy_(whole.view_as(weight))

    def save(self, folder: Path, averages: Mapping[str, Sequence[Tensor]]) -> None:
        """Write masters and averages, every process its part; a file of safetensors each.

        Args:
            folder: to be made.
            averages: parts of the optimiser's averages by name, in the order of :attr:`parts`.
        """
        with meeting("the shards of the checkpoint"), _alone_is_meant():
            save(
                self._named({"master": self.parts, **averages}),
                storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
                no_dist=self.mesh is None,
            )

    def load(self, folder: Path, averages: Mapping[str, Sequence[Tensor]]) -> None:
        """Read what :meth:`save` wrote, in however many processes, and spread the masters."""
        state = self._named({"master": self.parts, **averages})
        with meeting("the shards of the checkpoint"), _alone_is_meant():
            load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=self.mesh is None)
        self.spread()

    def cut(self, whole: Sequence[Tensor]) -> list[Tensor]:
        """This process's parts of whole tensors, one for every parameter."""
        return [self.part_of(tensor.float().flatten()) for tensor in whole]

    def whole(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Whole flat tensors out of every process's parts, one for every parameter."""
        return [whole for _, whole in self.wholes(zip(self.weights, parts, strict=True), cast=False)]

    def part_of(self, flat: Tensor) -> Tensor:
        """This process's part of a flat tensor, a copy where the parts lie."""
        if self.mesh is None:
            return flat.to(self.home, copy=True)
        own = distribute_tensor(flat.to(here().device), self.mesh, self._placements, src_data_rank=None).to_local()
        return own.to(self.home, copy=True)

    @torch.no_grad()
    def wholes(
        self, pairs: Iterable[tuple[Tensor, Tensor]], *, cast: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """Each weight with the flat values that belong to it, out of the parts of all processes, a bucket in one
        collective.

        Args:
            pairs: weights, and this process's part of each.
            cast: whether to the weight's type; the values keep that of the parts without.
        """
        parts = {id(weight): (weight, part) for weight, part in pairs}
        for bucket in buckets([weight for weight, _ in parts.values()]):
            own = [parts[id(weight)][1].detach() for weight in bucket]
            own = [part.to(w.device, w.dtype if cast else part.dtype) for w, part in zip(bucket, own, strict=True)]
            if self.mesh is None:
                yield from zip(bucket, own, strict=True)
                continue
            widths = [self._width(weight) for weight in bucket]
            mine = torch.cat([pad(part, (0, width - len(part))) for part, width in zip(own, widths, strict=True)])
            everyone = mine.new_empty(self.inside * len(mine))
            dist.all_gather_into_tensor(everyone, mine, group=self.mesh.get_group(1))
            columns = everyone.view(self.inside, -1).split(widths, dim=1)  # [processes, width] of each weight
            for weight, column in zip(bucket, columns, strict=True):
                yield weight, column.reshape(-1)[: weight.numel()]

    @property
    def _placements(self) -> list[Any]:
        return [Replicate(), Shard(0)]

    def _width(self, weight: Tensor) -> int:
        """Values of the largest part of a weight; the last one with any may have fewer."""
        return -(-weight.numel() // self.inside)

    def _summed(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """This process's parts of the gradients of all processes, float32; the weights' own go."""
        grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        flat = [grad.float().flatten() for grad in grads]
        if self.mesh is None:
            return flat
        widths = [self._width(weight) for weight in weights]
        columns = [
            pad(grad, (0, self.inside * width - len(grad))).view(self.inside, width)
            for grad, width in zip(flat, widths, strict=True)
        ]
        everything = torch.cat(columns, dim=1)  # [processes, values of all the parts that one has]
        mine = everything.new_empty(everything.shape[1])
        dist.reduce_scatter_tensor(mine, everything.flatten(), group=self.mesh.get_group(1))
        if self.copies > 1:
            dist.all_reduce(mine, group=self.mesh.get_group(0))
        rank, owned = self.mesh.get_local_rank(1), []
        for part, width, grad in zip(mine.split(widths), widths, flat, strict=True):
            owned.append(part[: max(0, min(width, len(grad) - rank * width))])
        return owned

    def _cut(self, part: Tensor, weight: Tensor, mesh: DeviceMesh) -> DTensor:
        shape = torch.Size([weight.numel()])
        return DTensor.from_local(part, mesh, self._placements, run_check=False, shape=shape, stride=(1,))

    def _named(self, columns: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
        return {
            f"{name}.{column}": part.detach() if self.stored is None else self._cut(part.detach(), weight, self.stored)
            for column, parts in columns.items()
            for name, weight, part in zip(self.names, self.weights, parts, strict=True)
        }


@contextmanager
def _alone_is_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
