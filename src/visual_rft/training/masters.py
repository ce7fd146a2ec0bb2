"""AdamW on bfloat16 weights, with the weights in float32 beside them.

Decision: a bfloat16 weight of 0.02 has steps of 0.0001, and an update of 1e-6 is rounded away in 98 of 100 of them. So
the optimiser holds every weight in float32 too, changes that one, and the model gets it rounded. With gradients in
bfloat16 a parameter takes 16 bytes (2 + 2 + 4 + 8), 18 with a reference; float32 weights under autocast take 22. The
gradients are made float32 a few at a time, so that this costs nothing beside it.

>>> weight = torch.nn.Parameter(torch.full((2,), 1.0, dtype=torch.bfloat16))
>>> optimizer = MasterAdamW([{"params": [weight]}], lr=1e-3)
>>> for _ in range(6):
...     weight.grad = torch.ones_like(weight)
...     optimizer.step()
>>> weight.tolist(), [round(x, 4) for x in optimizer.masters[0].tolist()]  # below 1, bfloat16 has steps of 0.0039
([0.9921875, 0.9921875], [0.9939, 0.9939])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

CHUNK = 2**26
"""Values of gradients that are made float32 at once: 256 MiB."""


class MasterAdamW(torch.optim.AdamW):
    """AdamW whose parameters are float32 copies of the model's.

    Args:
        groups: parameter groups of the model's own parameters, on the device where they stay.
        options: those of :class:`torch.optim.AdamW`.

    Attributes:
        weights: the model's parameters.
        masters: the same in float32.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], **options: Any) -> None:
        self.weights: list[Tensor] = [p for group in groups for p in group["params"]]
        copies = [{**group, "params": [p.detach().float().clone() for p in group["params"]]} for group in groups]
        self.masters: list[Tensor] = [p for group in copies for p in group["params"]]
        super().__init__(copies, **options)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on the gradients of the model's parameters, which then are the masters rounded."""
        for chunk in self._chunks():
            for weight, master in chunk:
                master.grad = None if weight.grad is None else weight.grad.float()
            super().step(closure)
            for weight, master in chunk:
                if master.grad is not None:
                    weight.copy_(master)
                    master.grad = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of the model's parameters."""
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """That of AdamW, and the masters."""
        return {**super().state_dict(), "masters": self.masters}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore averages and masters, and round the masters into the model.

        Raises:
            KeyError: if there are no masters in it.
        """
        stored = state_dict["masters"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "masters"})
        for weight, master, kept in zip(self.weights, self.masters, stored, strict=True):
            master.copy_(kept)
            weight.copy_(master)

    def _chunks(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        chunk: list[tuple[Tensor, Tensor]] = []
        for pair in zip(self.weights, self.masters, strict=True):
            chunk.append(pair)
            if sum(master.numel() for _, master in chunk) >= CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
