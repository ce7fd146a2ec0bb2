"""Gradient checkpointing of a model in eval mode.

Decision: the library checkpoints a layer only while the layer is in train mode, which would also switch dropout on, and
the policy that is scored must be the one that sampled. So only the layers' own flag is set, not that of the modules in
them, and only during the forward passes that want it: with the flag set the library would also drop the cache of a
plain forward pass. ``use_reentrant=False`` throughout: reentrant checkpointing gives wrong gradients where keys and
values leave a layer on the side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer


class Checkpointing:
    """Layers that keep only their input and compute the rest again in the backward pass.

    Args:
        core: the stock model.
    """

    def __init__(self, core: Any) -> None:
        self.core = core
        self.layers = [module for module in core.modules() if isinstance(module, GradientCheckpointingLayer)]

    @contextmanager
    def __call__(self, share: float) -> Iterator[None]:
        """Inside, forward passes checkpoint this share of the layers, evenly spread; the backward may come later."""
        chosen = [
            layer
            for i, layer in enumerate(self.layers)
            # The number of chosen layers up to here rises; the least bit more, so that a share of 1 takes the last.
            if int((i + 1) * share + 1e-9) > int(i * share + 1e-9)
        ]
        if chosen and not self.layers[0].gradient_checkpointing:
            # No dropout, so no random state to restore.
            self.core.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        for layer in chosen:
            layer.training = True
        try:
            yield
        finally:
            for layer in chosen:
                layer.training = False
