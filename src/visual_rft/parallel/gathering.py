"""Decoder layers whose weights and gradients are whole only while they compute (``parallel.gather``, ``reduce``).

Decision: answers are sampled on whole weights, because gathering a layer for every token would move the model once per
token. In the update each decoder layer's weights are gathered out of the shards (``shards.py``) before its forward and
before its backward pass and let go of after it, and its gradients are reduced into the shards there. Those are
collectives inside forward and backward passes, so every process has to make the same ones in the same order:

* the processes agree on the number of micro-batches (:meth:`ByLayer.agreed`), and whoever has fewer goes through the
  layers without computing;
* a pass that needs no layer (answers of one token) does the same;
* the order is fixed, whatever a process computes: layers upward in a forward pass, downward in a backward pass, each
  reduced before the next one below is gathered.

The rest (embeddings, vision tower, norms) stays whole: not every process has an image in every micro-batch.

``torch.distributed.fsdp.fully_shard`` does the same with overlap, but wants to own the model: its root has to run a
forward, which this engine never calls (the call for it is private), its hooks run while answers are sampled, where they
break the recording of CUDA graphs, a copy as a reference is forbidden, and its shards would be a second kind beside
those of ``gather: step``. Here hooks are there only during an update, on public calls, and masters, averages,
checkpoints and HSDP are the same with every setting. What is given up: a layer's collectives wait instead of running
beside the layer before.

    by_layer = ByLayer(layers_of(core), shards, gather=True, reduce=True)
    with by_layer.update():                        # the layers' weights are away
        for micro_batch in range(*by_layer.agreed([len(micro_batches)])):
            with by_layer.forward():
                loss = model(...)                  # nothing, where there is none left
            with by_layer.backward():
                loss.backward()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visual_rft.errors import ModelError
from visual_rft.parallel.meetings import gather, meeting

if TYPE_CHECKING:  # half a second of imports, which an evaluation does without
    from visual_rft.parallel.shards import Shards


class Layer:
    """A decoder layer whose weights can be away.

    Args:
        module: the layer.
        shards: masters of what learns.
        gather: whether its weights go away at all.
        reduce: whether its gradients are reduced when a backward pass has left it.
    """

    def __init__(self, module: nn.Module, shards: Shards, *, gather: bool, reduce: bool) -> None:
        self.module, self.shards = module, shards
        numbers = {id(weight): number for number, weight in enumerate(shards.weights)}
        weights = list(module.parameters())
        self.learning = [numbers[id(weight)] for weight in weights if id(weight) in numbers] if reduce else []
        self.away = False
        self.sources: list[tuple[nn.Parameter, Tensor]] = []
        for weight in weights if gather else ():
            if id(weight) in numbers:
                part: Tensor = shards.parts[numbers[id(weight)]]
            elif type(weight) is nn.Parameter and shards.spares_frozen:
                part = shards.part_of(weight.detach().flatten())
            else:  # quantised, or alone: nobody else has it
                continue
            # A storage of its own, which can be let go of whatever the file reader did.
            weight.data = weight.detach().clone(memory_format=torch.contiguous_format)
            self.sources.append((weight, part))

    @property
    def bytes(self) -> int:
        """Of the weights that can be away."""
        return sum(weight.numel() * weight.element_size() for weight, _ in self.sources)

    def release(self) -> None:
        """Let go of the weights."""
        if not self.away:
            for weight, _ in self.sources:
                weight.untyped_storage().resize_(0)
            self.away = True

    @torch.no_grad()
    def gather(self) -> None:
        """Have the weights again, out of the parts of all processes."""
        if not self.away:
            return
        with meeting("the weights of a layer"):
            for weight, whole in self.shards.wholes(self.sources):
                weight.untyped_storage().resize_(weight.numel() * weight.element_size())
                # Through .data: what autograd has saved of the weight is valid again, and is not told of a change.
                weight.data.copy_(whole.view_as(weight))
        self.away = False

    def close(self) -> None:
        """After a backward pass: reduce the gradients and let go of the weights."""
        self.shards.collect(self.learning)
        self.release()


class ByLayer:
    """The decoder layers of a model; none of them means that nothing is ever away and nobody has to agree.

    Args:
        modules: the layers, in the order of a forward pass; empty for a model that is whole.
        shards: masters of what learns; needed where there are layers.
        gather: whether weights are away during an update but for the layer that computes.
        reduce: whether gradients are reduced in every backward pass.
    """

    def __init__(
        self, modules: Sequence[nn.Module] = (), shards: Shards | None = None, *, gather: bool = False,
        reduce: bool = False,
    ) -> None:  # fmt: skip
        self.layers: list[Layer] = []
        if shards is not None:
            self.layers = [Layer(module, shards, gather=gather, reduce=reduce) for module in modules]
        self.shards = shards
        self.updating = False
        self._next = 0  # layer that a forward pass comes to; the one that a backward pass is in
        self._backward = False

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def gathers(self) -> bool:
        """Whether there are weights that are away during an update."""
        return any(layer.sources for layer in self.layers)

    @property
    def spared_bytes(self) -> float:
        """That an update takes less of the device's memory than with whole weights and gradients."""
        spared = sum(layer.bytes for layer in self.layers) - max((layer.bytes for layer in self.layers), default=0)
        if self.shards is None:
            return 0.0
        for number in (number for layer in self.layers for number in layer.learning):
            weight, part = self.shards.weights[number], self.shards.parts[number]
            spared += weight.numel() * weight.element_size()
            if part.device == weight.device:
                spared -= part.numel() * part.element_size()
        return float(spared)

    def agreed(self, counts: Sequence[int]) -> list[int]:
        """The most of each count on any process; missing ones count 0. Without layers what was given.

        Args:
            counts: passes of each part of an update on this process.
        """
        if not self:
            return list(counts)
        told = gather(list(counts), "the passes of the update")
        most = max(map(len, told))
        return [max(row[i] if i < len(row) else 0 for row in told) for i in range(most)]

    def release(self) -> None:
        """Let go of the weights of all layers."""
        for layer in self.layers:
            layer.release()

    @contextmanager
    def update(self, *, whole_after: bool = True) -> Iterator[None]:
        """Inside, the layers' weights are away unless they compute.

        Args:
            whole_after: whether they are gathered again at the end.
        """
        hooks: list[Any] = []
        for number, layer in enumerate(self.layers):
            hooks.append(layer.module.register_forward_pre_hook(self._before(number)))
            hooks.append(layer.module.register_forward_hook(self._after(number)))
        self.release()
        self.updating = True
        try:
            yield
        finally:
            self.updating = self._backward = False
            for hook in hooks:
                hook.remove()
        for layer in self.layers if whole_after else ():
            layer.gather()

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around one forward pass.

        Raises:
            ModelError: if it went through some of the layers only.
        """
        self._next = 0
        yield
        if self._next not in (0, len(self.layers)):
            raise ModelError(f"a pass ended after {self._next} of {len(self.layers)} decoder layers; use gather: step")
        for layer in self.layers[self._next :]:  # none computed here: others did
            layer.gather()
            layer.release()

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Around one backward pass."""
        self._next, self._backward = len(self.layers), True
        yield
        while self._next > 0:  # what gradients did not reach here
            self._enter(self._next - 1)
        self._leave()
        self._backward = False

    def _before(self, number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if not self._backward:  # there it computes again what a checkpoint has dropped, and is in it already
                self.layers[number].gather()

        return hook

    def _after(self, number: int) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if self._backward:
                return
            self.layers[number].release()
            self._next = number + 1
            for tensor in output if isinstance(output, tuple) else (output,):
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.register_hook(lambda _: self._enter(number))

        return hook

    def _enter(self, number: int) -> None:
        """A backward pass comes to a layer: it has left the one above, whose gradients are then complete, because
        autograd runs what was computed last first."""
        if number < self._next:
            self._leave()
            self._next = number
            self.layers[number].gather()

    def _leave(self) -> None:
        if self._next < len(self.layers):
            self.layers[self._next].close()


def layers_of(core: Any) -> list[nn.Module]:
    """The decoder layers of a stock model, in the order of a forward pass.

    Raises:
        ModelError: if they are not listed.
    """
    layers = getattr(core.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError("the decoder layers of this model are not found; use parallel.gather step and reduce step")
    return list(layers)
