"""Master weights, gradients and averages cut into shards, one per process (``parallel: {strategy: fsdp}``).

Decision: the model that computes is a whole, plain one in every process, in the type that the config gives it, so
nothing of a forward pass waits for others. What learns lies beside it: float32 masters, flat, each process holding its
part of every tensor, and the optimiser works on the parts alone. A step reduces the gradients into the parts and
gathers the new weights out of them: the memory of FSDP2 whose weights stay gathered for the step, by DTensor's public
calls and without hooks. Per parameter a process holds the computing weight and its gradient, and 12 bytes (master and
two averages) over the number of processes. With ``within`` the parts lie inside groups of so many processes (a
machine), and the groups hold the same (HSDP).

    shards = Shards(list(model.named_parameters()), within=None)
    optimizer = AdamW(shards.parts)
    norm = shards.reduce()         # gradients of all processes into the parts
    optimizer.step()
    shards.spread()                # the new weights into the model
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from visual_rft.errors import ConfigError
from visual_rft.parallel.meetings import meeting, total
from visual_rft.parallel.processes import here


class Shards:
    """The masters of the learning parameters.

    Args:
        named: names and parameters that learn, on this process's device, the same in every process.
        within: processes of a group inside which tensors are cut; None takes all.

    Attributes:
        parts: this process's part of every master, flat, float32; what the optimiser works on.
        names: of the parameters, in the same order.

    Raises:
        ConfigError: if the processes cannot be divided into such groups.
    """

    def __init__(self, named: Sequence[tuple[str, Tensor]], within: int | None = None) -> None:
        self.names = [name for name, _ in named]
        self.weights = [weight for _, weight in named]
        size = here().size
        inside = min(within or size, size)
        if size % inside:
            raise ConfigError(f"parallel.shard_within: {size} processes are not groups of {inside}")
        self.copies = size // inside
        self.mesh: DeviceMesh | None = None
        if size > 1:
            with meeting("the mesh of the processes"):
                self.mesh = init_device_mesh(here().device.type, (self.copies, inside))
        self.parts = [torch.nn.Parameter(self._part(weight.detach().float().flatten())) for weight in self.weights]

    def reduce(self) -> float:
        """The gradients of all processes, each part where its master is; returns their norm. The weights' own go."""
        with meeting("the sum of the gradients"):
            for weight, part in zip(self.weights, self.parts, strict=True):
                grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad = None
                part.grad = self._summed(grad.float().flatten())
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
            for weight, part in zip(self.weights, self.parts, strict=True):
                weight.copy_(self._whole(part.detach().to(weight.dtype), weight).view_as(weight))

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
        return [self._part(tensor.float().flatten()) for tensor in whole]

    def whole(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Whole flat tensors out of every process's parts, one for every parameter."""
        return [self._whole(part, weight) for weight, part in zip(self.weights, parts, strict=True)]

    @property
    def _placements(self) -> list[Any]:
        return [Replicate(), Shard(0)]

    def _part(self, flat: Tensor) -> Tensor:
        if self.mesh is None:
            return flat.clone()
        return distribute_tensor(flat, self.mesh, self._placements, src_data_rank=None).to_local().clone()

    def _summed(self, flat: Tensor) -> Tensor:
        if self.mesh is None:
            return flat
        summed = DTensor.from_local(flat, self.mesh, [Partial(), Partial()], run_check=False)
        return summed.redistribute(placements=self._placements).to_local()

    def _whole(self, part: Tensor, weight: Tensor) -> Tensor:
        return part if self.mesh is None else self._cut(part, weight).full_tensor()

    def _cut(self, part: Tensor, weight: Tensor) -> DTensor:
        assert self.mesh is not None
        shape = torch.Size([weight.numel()])
        return DTensor.from_local(part, self.mesh, self._placements, run_check=False, shape=shape, stride=(1,))

    def _named(self, columns: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
        return {
            f"{name}.{column}": part.detach() if self.mesh is None else self._cut(part.detach(), weight)
            for column, parts in columns.items()
            for name, weight, part in zip(self.names, self.weights, parts, strict=True)
        }


@contextmanager
def _alone_is_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
