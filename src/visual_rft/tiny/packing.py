"""Several questions about one image in one row that share its tokens, so that the image is computed once for all.

Decision: a block mask over the model's own forward pass. Every question sees the image and itself, and its positions
start where they would if it were asked alone; so the logits are those of the questions asked one by one
(tests/test_packing.py), at less than half the cost.

    <|im_start|>user <|vision_start|> IMAGE <|vision_end|> | question 1, answer 1 | question 2, answer 2 | ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.tiny.scenes import grid_of
from visual_rft.tiny.see import CELL
from visual_rft.tiny.tokens import Exchange, Writer

MAX_IMAGE_TOKENS = 16


@dataclass(frozen=True)
class Pointing:
    """Positions that should look at objects: N of them.

    Attributes:
        rows: row of each ``[N]``.
        columns: position in its row ``[N]``.
        shares: how much of its look belongs on each image token ``[N, MAX_IMAGE_TOKENS]``, 1 in all.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True)
class Packed:
    """A batch of B rows of L tokens.

    Attributes:
        ids: ``[B, L]``.
        positions: of time, row and column ``[3, B, L]``.
        mask: which token sees which ``[B, 1, L, L]``.
        image: the places of image tokens ``[B, L]``.
        targets: the token that should follow ``[B, L]``; -100 where nothing is learnt.
        weights: of each target ``[B, L]``.
        first_image_token: its position, the same in every row.
        asked: the last word of what is asked for, which should look at all objects that are meant.
        answered: positions that write about an object, which should look at it.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    image: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    first_image_token: int
    asked: Pointing
    answered: Pointing


def pack(
    images: Sequence[AnnotatedImage],
    exchanges: Sequence[Sequence[Exchange]],
    writer: Writer,
    image_token: int,
    device: torch.device | str = "cpu",
) -> Packed:
    """One row per image with all its exchanges."""
    before, after = writer.before, writer.after
    grids = [(rows // 2, columns // 2) for _, rows, columns in map(grid_of, images)]
    shared = [len(before) + rows * columns + len(after) for rows, columns in grids]
    asked_lengths = [sum(len(e.prompt) + len(e.answer) for e in row) for row in exchanges]
    size, length = len(images), max(a + b for a, b in zip(shared, asked_lengths, strict=True))
    ids, segment = np.zeros((size, length), np.int64), np.full((size, length), -1)
    positions = np.zeros((3, size, length), np.int64)
    targets, weights = np.full((size, length), -100), np.zeros((size, length), np.float32)
    asked: list[tuple[int, int, npt.NDArray[np.float32]]] = []
    answered: list[tuple[int, int, npt.NDArray[np.float32]]] = []
    for b, (rows, columns) in enumerate(grids):
        first, tokens = len(before), rows * columns
        ids[b, : shared[b]] = (*before, *[image_token] * tokens, *after)
        segment[b, : shared[b]] = 0
        positions[:, b, :first] = np.arange(first)
        place = np.arange(tokens)
        positions[:, b, first : first + tokens] = first + np.stack([0 * place, place // columns, place % columns])
        start = first + max(rows, columns)  # what follows an image counts on from its longer side
        positions[:, b, first + tokens : shared[b]] = start + np.arange(len(after))
        start, column = start + len(after), shared[b]
        covered = covered_tokens(images[b])
        for number, exchange in enumerate(exchanges[b], start=1):
            own = (*exchange.prompt, *exchange.answer)
            end = column + len(own)
            ids[b, column:end], segment[b, column:end] = own, number
            positions[:, b, column:end] = start + np.arange(len(own))
            answer = column + len(exchange.prompt) - 1  # the position that writes the answer's first token
            targets[b, answer : end - 1], weights[b, answer : end - 1] = exchange.answer, exchange.weights
            if exchange.objects:
                asked.append((b, column + exchange.asked, covered[list(exchange.objects)].mean(0)))
            answered += [(b, answer + i, covered[list(o)].mean(0)) for i, o in enumerate(exchange.about) if o]
            column = end
    group = torch.from_numpy(segment)
    order = torch.arange(length)
    sees = (order[:, None] >= order) & ((group[:, None] == 0) | (group[:, None] == group[:, :, None]))
    sees &= group[:, None] >= 0
    sees |= torch.eye(length, dtype=torch.bool)  # padding sees itself: a row without anything to see is not a number
    tensors = {"ids": ids, "positions": positions, "targets": targets, "weights": weights}
    arrays = {name: torch.from_numpy(array).to(device) for name, array in tensors.items()}
    return Packed(
        **arrays,
        mask=sees[:, None].to(device),
        image=arrays["ids"] == image_token,
        first_image_token=len(before),
        asked=_pointing(asked, device),
        answered=_pointing(answered, device),
    )


def covered_tokens(image: AnnotatedImage) -> npt.NDArray[np.float32]:
    """For each object the shares of its box that lie in each image token ``[objects, MAX_IMAGE_TOKENS]``, 1 in all."""
    width, height = image.size
    x1, y1, x2, y2 = np.asarray(image.boxes, dtype=np.float32).reshape(-1, 4).T[..., None]
    left, top = np.arange(width // CELL) * CELL, np.arange(height // CELL) * CELL
    across = np.clip(np.minimum(x2, left + CELL) - np.maximum(x1, left), 0, None)
    down = np.clip(np.minimum(y2, top + CELL) - np.maximum(y1, top), 0, None)
    cells = (down[:, :, None] * across[:, None, :]).reshape(len(image.boxes), -1)
    shares = np.zeros((len(image.boxes), MAX_IMAGE_TOKENS), dtype=np.float32)
    shares[:, : cells.shape[1]] = cells / cells.sum(1, keepdims=True)
    return shares


def _pointing(found: Sequence[tuple[int, int, Any]], device: torch.device | str) -> Pointing:
    rows, columns, shares = zip(*found, strict=True) if found else ((), (), np.zeros((0, MAX_IMAGE_TOKENS), np.float32))
    return Pointing(
        torch.tensor(rows, dtype=torch.long, device=device),
        torch.tensor(columns, dtype=torch.long, device=device),
        torch.from_numpy(np.asarray(shares, dtype=np.float32)).to(device),
    )
