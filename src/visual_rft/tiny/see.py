"""Teach the embedded model's vision tower alone, before any language.

Decision: every image token learns to say what lies at its place (word by word, ``red``, ``circle``) and where that
object's edges are, through three linear heads that are thrown away in the end. Each scene gives 9 to 16 answers instead
of one, and the language model then only has to read what is already there. Digits get most scenes: they are what it
learns last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.procedural.flowers import GENERA
from visual_rft.data.procedural.shapes import COLOURS, FORMS
from visual_rft.tiny.loop import Rate, learn
from visual_rft.tiny.scenes import Scenes, grid_of

KINDS = ("nothing", *FORMS, *(f"{i}" for i in range(10)), *GENERA)
TINTS = ("none", *COLOURS)
CELL = 32
"""Pixels a side that one image token covers."""
CYCLE = (
    "digits", "shapes", "flowers", "digits", "shapes", "digits", "flowers", "digits", "shapes", "digits", "shape",
    "flowers", "digits", "shapes", "digits", "flowers", "digits", "shapes", "digits", "flowers",
)  # fmt: skip
"""Sources in turn: 9 of 20 scenes are digits, 6 are shapes, 5 are flowers."""
BATCH = 24
RATE = 2.5e-3


def labels_per_token(image: AnnotatedImage) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """What lies at each token: kind and tint ``[T, 2]`` (0 for nothing) and the box ``[T, 4]`` in 0..1 of the image.

    A token speaks for the object nearest to its centre among those whose box it touches.
    """
    width, height = image.size
    rows, columns = height // CELL, width // CELL
    kinds = np.zeros((rows * columns, 2), dtype=np.int64)
    boxes = np.zeros((rows * columns, 4), dtype=np.float32)
    for token in range(rows * columns):
        x, y = (token % columns + 0.5) * CELL, (token // columns + 0.5) * CELL
        best = np.inf
        for label, (x1, y1, x2, y2) in zip(image.labels, image.boxes, strict=True):
            reach = CELL / 2 - 4  # touching by a few pixels is not seeing
            if x1 - reach < x < x2 + reach and y1 - reach < y < y2 + reach:
                distance = abs((x1 + x2) / 2 - x) + abs((y1 + y2) / 2 - y)
                if distance < best:
                    best = distance
                    first, second = label.split()
                    kinds[token] = KINDS.index(second), TINTS.index(first) if first in TINTS else 0
                    boxes[token] = x1 / width, y1 / height, x2 / width, y2 / height
    return kinds, boxes


class Heads(nn.ModuleDict):
    """The linear heads that say what an image token sees; they are no part of the model."""

    def __init__(self, width: int) -> None:
        sizes = {"kind": len(KINDS), "tint": len(TINTS), "box": 4}
        super().__init__({name: nn.Linear(width, size) for name, size in sizes.items()})

    def loss(self, tokens_td: torch.Tensor, images: Sequence[AnnotatedImage]) -> tuple[torch.Tensor, dict[str, float]]:
        """Of the image tokens ``[T, D]`` of ``images``, one after the other; and the shares they name rightly."""
        kinds, boxes = zip(*map(labels_per_token, images), strict=True)
        wanted = torch.from_numpy(np.concatenate(kinds)).to(tokens_td.device)
        places = torch.from_numpy(np.concatenate(boxes)).to(tokens_td.device)
        there = wanted[:, 0] > 0
        said = self["kind"](tokens_td)
        loss = F.cross_entropy(said, wanted[:, 0]) + F.cross_entropy(self["tint"](tokens_td), wanted[:, 1])
        loss = loss + 4 * F.l1_loss(self["box"](tokens_td)[there], places[there])
        right = said.argmax(-1) == wanted[:, 0]
        forms, digits = 1 + len(FORMS), 11 + len(FORMS)
        bounds = {"form": (1, forms), "digit": (forms, digits), "genus": (digits, len(KINDS))}
        named = {}
        for name, (low, high) in bounds.items():
            these = (wanted[:, 0] >= low) & (wanted[:, 0] < high)
            named[name] = right[these].float().mean().item() if these.any() else 0.0
        return loss, named


def scaled(patches: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> torch.Tensor:
    """The patches of several scenes as ``pixel_values``: one after the other, in -1..1, as the processor gives them."""
    return torch.from_numpy(np.concatenate(patches)).to(device).float().div_(127.5).sub_(1)


def quicken(model: Any) -> None:
    """Have the patch embedding be the matrix product it is: as a convolution it takes a fifth of the tower's time."""
    patch_embed = model.model.visual.patch_embed

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return F.linear(pixels, patch_embed.proj.weight.flatten(1), patch_embed.proj.bias)

    patch_embed.forward = forward


def whiten_patches(model: Any, patches: torch.Tensor) -> None:
    """Start the patch embedding as the whitened principal components of ``patches [N, 768]``, unit variance each.

    With random filters the mean colour of a patch drowns its edges: after 17,000 scenes 37 % of the forms and 8 % of
    the digits were named.
    """
    patches = patches.double()
    projection = model.model.visual.patch_embed.proj
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    width = projection.weight.shape[0]
    scale = (values[-width:] + 0.01 * values.mean()).rsqrt()
    filters = (vectors[:, -width:] * scale).T
    with torch.no_grad():
        projection.weight.copy_(filters.reshape(projection.weight.shape))
        projection.bias.copy_(-(filters @ patches.mean(0)))
        for block in model.model.visual.blocks:  # keys start as queries: attention starts on what is near and alike
            weight = block.attn.qkv.weight
            weight[width : 2 * width] = weight[:width]


def see(
    folder: Path, model: Any, heads: Heads, scenes: Scenes, steps: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Train the vision tower of ``model`` for ``steps`` of :data:`BATCH` scenes; returns what it took."""
    visual, device = model.model.visual, model.device
    start = [scenes.turn(CYCLE, position) for position in range(600)]
    whiten_patches(model, scaled([scenes.patches(*turn) for turn in start], device))
    quicken(model)

    def step_loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        turns = [scenes.turn(CYCLE, step * BATCH + place) for place in range(BATCH)]
        images = [scenes.layout(*turn) for turn in turns]
        grids = torch.tensor([grid_of(image) for image in images], device=device)
        seen = visual(scaled([scenes.patches(*turn) for turn in turns], device), grid_thw=grids, return_dict=True)
        return heads.loss(seen.pooler_output, images)

    spent = learn(folder, [(visual, 1.0), (heads, 1.0)], Rate(RATE, 50, 0.0, steps), step_loss, name="see", say=say)
    return {**spent, "scenes": steps * BATCH}
