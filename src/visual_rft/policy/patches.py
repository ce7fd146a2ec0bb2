"""The patch embedding of a vision tower as the matrix product that it is.

Decision: towers of patches call ``Conv3d`` on patches of exactly the kernel's size, so each output is one product of a
flattened patch and the flattened kernel. Libraries of convolutions do not see that: on a CPU (oneDNN) 4,032 patches of
1,176 values take 81 ms as a convolution and 10 ms as a product, and cuDNN had versions in which it was ten times slower
than the rest of a tower. The module stays a ``Conv3d`` with the same weights under the same names; only what its call
computes is written otherwise.

>>> import torch
>>> conv = torch.nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4))
>>> patches = torch.randn(5, 3, 2, 4, 4)
>>> before = conv(patches)
>>> conv.__class__ = PatchProjection
>>> bool((conv(patches) - before).abs().max() < 1e-5), tuple(conv(patches).shape)
(True, (5, 8, 1, 1, 1))
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear


class PatchProjection(nn.Conv3d):
    """A convolution whose input is as large as its kernel; anything else is convolved."""

    def forward(self, input: Tensor) -> Tensor:
        """``[N, E, 1, 1, 1]`` of patches ``[N, C, T, H, W]``."""
        if input.shape[1:] != self.weight.shape[1:]:
            convolved: Tensor = super().forward(input)
            return convolved
        return linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


def multiply_patches(core: Any) -> None:
    """Let the patch embeddings of a stock model compute so: plain ``Conv3d`` without padding, dilation or groups."""
    for module in core.modules():
        if type(module) is nn.Conv3d and _is_product(module):
            module.__class__ = PatchProjection


def _is_product(conv: nn.Conv3d) -> bool:
    plain = conv.padding == (0, 0, 0) and conv.dilation == (1, 1, 1) and conv.groups == 1
    return plain and conv.stride == conv.kernel_size
