"""Teach the embedded model's vision tower alone: ``python -m visual_rft.tiny.see SOURCE TARGET STEPS [FIRST]``.

Decision: before any language, every image token learns to say what lies at its place (word by word, ``red``,
``circle``) and where that object's edges are, through two linear heads that are thrown away. Each scene gives 9 to 16
answers instead of one, and the language model then only has to read what is already there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.data.procedural.digits import Digits
from visual_rft.data.procedural.flowers import GENERA, Flowers
from visual_rft.data.procedural.shapes import COLOURS, FORMS, Shapes

SOURCES: tuple[Sequence[AnnotatedImage], ...] = (
    Shapes(10**6, seed=101, max_objects=4),
    Digits(10**6, "base", seed=101),
    Flowers(10**6, seed=101),
)
KINDS = ("nothing", *FORMS, *(f"{i}" for i in range(10)), *GENERA)
TINTS = ("none", *COLOURS)
CELL = 32
"""Pixels a side that one image token covers."""


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


def whiten_patches(model: Any, processor: Any, scenes: int = 600) -> None:
    """Start the patch embedding as the whitened principal components of real patches, unit variance each.

    With random filters the mean colour of a patch drowns its edges: after 17,000 scenes 37 % of the forms and 8 % of
    the digits were named.
    """
    pictures = [_example(number)[0] for number in range(scenes)]
    patches = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"].double()
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


def _example(number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    image = SOURCES[number % len(SOURCES)][number // len(SOURCES)]
    return (np.asarray(image.image.load()), *labels_per_token(image))


def see(source: Path, target: Path, steps: int, first: int = 0, batch: int = 24, learning_rate: float = 2.5e-3) -> None:
    """Train the vision tower of ``source`` and write the model to ``target``.

    Args:
        source: folder of the model that :mod:`visual_rft.tiny.build` wrote.
        target: where the model with its taught vision tower goes.
        steps: optimiser steps.
        first: number of the first scene; above 0 continues with a tower that was taught on the scenes before.
        batch: scenes per step.
        learning_rate: peak, decaying linearly to 0.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: Any = AutoModelForImageTextToText.from_pretrained(source)
    processor: Any = AutoProcessor.from_pretrained(source)
    if first == 0:
        whiten_patches(model, processor)
    width = model.config.text_config.hidden_size
    heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in
                           (("kind", len(KINDS)), ("tint", len(TINTS)), ("box", 4))})  # fmt: skip
    parameters = [*model.model.visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 50, 1) * (1 - s / steps))
    started = time.monotonic()
    with get_context("spawn").Pool(1) as pool:
        examples = pool.imap(_example, range(first, first + steps * batch), chunksize=batch)
        for step in range(steps):
            pictures, kinds, boxes = zip(*(next(examples) for _ in range(batch)), strict=True)
            inputs = processor.image_processor(images=list(pictures), return_tensors="pt")
            features = model.model.get_image_features(
                inputs["pixel_values"], image_grid_thw=inputs["image_grid_thw"], return_dict=True
            )
            tokens = torch.cat(list(features.pooler_output))
            wanted = torch.from_numpy(np.concatenate(kinds))
            places = torch.from_numpy(np.concatenate(boxes))
            there = wanted[:, 0] > 0
            tinted = wanted[:, 1] > 0
            kind_loss = F.cross_entropy(heads["kind"](tokens), wanted[:, 0])
            tint_loss = F.cross_entropy(heads["tint"](tokens), wanted[:, 1])
            box_loss = F.l1_loss(heads["box"](tokens)[there], places[there])
            torch.autograd.backward(kind_loss + tint_loss + 4 * box_loss)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if (step + 1) % 100 == 0:
                said = heads["kind"](tokens).argmax(-1)
                right = (said == wanted[:, 0])[there].float().mean().item()
                tint = (heads["tint"](tokens).argmax(-1) == wanted[:, 1])[tinted].float().mean().item()
                per = []
                for low, high in ((1, 6), (6, 16), (16, 24)):
                    m = (wanted[:, 0] >= low) & (wanted[:, 0] < high)
                    per.append((said == wanted[:, 0])[m].float().mean().item())
                print(
                    f"step {step + 1}/{steps} | kind {kind_loss.item():.3f} right {right:.0%} "
                    f"{[round(v, 2) for v in per]} | tint {tint_loss.item():.3f} right {tint:.0%} | "
                    f"box {box_loss.item():.4f} | {(step + 1) * batch / (time.monotonic() - started):.0f} scenes/s",
                    flush=True,
                )
    model.save_pretrained(target)
    processor.save_pretrained(target)


if __name__ == "__main__":
    see(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
