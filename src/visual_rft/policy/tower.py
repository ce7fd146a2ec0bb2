"""Images on their way into the model: pixels after the processor, and what the vision tower says about them.

Decision: everything is held per *image set*, the images of one prompt. Prompts that ask about the same images share
one set, so an image is processed once and runs through the tower once, and the policy and its reference share the
result where their towers are the same. Where the tower is frozen the features are also kept from step to step, the
least recently used ones dropped beyond a limit: few-shot training sees the same few dozen images in every epoch.

Shapes: S image sets, E hidden size of the language model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visual_rft.policy.families import Family, PixelLayout

SetFeatures = tuple[Tensor, ...]
"""Features of one image set, ``[image tokens, E]`` each: those of the projector, then those of each deepstack layer."""


@dataclass(frozen=True)
class Pixels:
    """The image sets of a batch after the processor.

    Attributes:
        tensors: pixel values and what belongs to them, set after set, as the model's ``get_image_features`` takes them.
        keys: names of the pixels of each set, equal where the pixels are.
        images: number of images in each set.
        tokens: number of image tokens in the prompt, of each set.
        layout: order of the tensors along their first axis.
    """

    tensors: Mapping[str, Tensor]
    keys: tuple[str, ...]
    images: tuple[int, ...]
    tokens: tuple[int, ...]
    layout: PixelLayout

    def only(self, sets: Sequence[int]) -> Pixels:
        """These sets alone, in this order."""
        keys, images, tokens = (tuple(values[i] for i in sets) for values in (self.keys, self.images, self.tokens))
        return Pixels(self.select(sets), keys, images, tokens, self.layout)  # type: ignore[arg-type]

    def select(self, sets: Sequence[int]) -> dict[str, Tensor]:
        """The tensors of these sets, in this order; a set may come several times."""
        if tuple(sets) == tuple(range(len(self.keys))):
            return dict(self.tensors)
        selected = {}
        for name, tensor in self.tensors.items():
            if self.layout is PixelLayout.PROMPTS:
                sizes = [1] * len(self.keys)
            elif self.layout is PixelLayout.TILES:  # every tile has the same number of tokens
                sizes = [n * len(tensor) // sum(self.tokens) for n in self.tokens]
            elif self.layout is PixelLayout.IMAGES and name == "batch_num_images":
                sizes = [1] * len(self.keys)
            elif self.layout is PixelLayout.IMAGES or name == "image_grid_thw":
                sizes = list(self.images)
            else:
                grids = self.tensors["image_grid_thw"].split(list(self.images))
                sizes = [int(grid.prod(-1).sum()) for grid in grids]
            parts = tensor.split(sizes)
            selected[name] = torch.cat([parts[i] for i in sets])
        return selected


@dataclass(frozen=True)
class Features:
    """Features of each image set of a batch."""

    sets: tuple[SetFeatures, ...]

    def only(self, sets: Sequence[int]) -> Features:
        """Those of these sets, in this order."""
        return Features(tuple(self.sets[i] for i in sets))

    def levels(self, order: Sequence[int]) -> list[Tensor]:
        """``[image tokens of all, E]`` of the sets in this order: the projector's, then each deepstack layer's."""
        return [torch.cat(level) for level in zip(*(self.sets[i] for i in order), strict=True)]


class FeatureCache:
    """The features of the image sets seen last.

    Args:
        limit: bytes that are kept at most; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._held: OrderedDict[str, SetFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> SetFeatures | None:
        """The features under a key, or None."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: str, features: SetFeatures) -> None:
        """Keep ``features``, dropping the least recently used ones beyond the limit."""
        size = _bytes(features)
        if size > self.limit or key in self._held:
            return
        # A copy, because a slice of a batch would keep the whole batch alive.
        self._held[key] = tuple(x.detach().clone() for x in features)
        self.size += size
        while self.size > self.limit:
            self.size -= _bytes(self._held.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.size = 0


class VisionTower:
    """The vision tower and projector of a model, run once per image set.

    Args:
        core: the stock model.
        family: facts about it.
        cache: features that need not be computed again while the tower is frozen.
    """

    def __init__(self, core: Any, family: Family, cache: FeatureCache) -> None:
        self.core, self.family, self.cache = core, family, cache
        self._held_still = False

    @property
    def parameters(self) -> list[Tensor]:
        """The weights of the tower and projector."""
        return [p for name, p in self.core.named_parameters() if self.family.is_vision(name)]

    @property
    def frozen(self) -> bool:
        """Whether features stay valid: no weight of the tower is trained, or :meth:`held_still`."""
        return self._held_still or not any(p.requires_grad for p in self.parameters)

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """Inside, the weights are promised not to change, so features are kept (evaluation)."""
        if self.frozen:
            yield
            return
        self._held_still = True
        try:
            yield
        finally:
            self._held_still = False
            self.cache.clear()

    def __call__(self, pixels: Pixels, device: torch.device) -> Features:
        """Features of every set, from the cache where they are known and the tower is frozen."""
        frozen = self.frozen and self.cache.limit > 0
        known = [self.cache.get(key) if frozen else None for key in pixels.keys]
        missing = [i for i, features in enumerate(known) if features is None]
        if missing:
            selected = {name: x.to(device) for name, x in pixels.select(missing).items()}
            # With checkpointing the library asks for gradients to a tower's input, trained or not.
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                output = self.core.model.get_image_features(**selected, return_dict=True)
            levels = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
            tokens = [pixels.tokens[i] for i in missing]
            parts = [_rows(level).split(tokens) for level in levels]
            for i, *features in zip(missing, *parts, strict=True):
                known[i] = tuple(features)
                if frozen:
                    self.cache.put(pixels.keys[i], known[i] or ())
        return Features(tuple(features for features in known if features is not None))


def _rows(level: Any) -> Tensor:
    """``[image tokens, E]`` from what a family returns: a tensor of tiles, or a sequence of tensors."""
    x = torch.cat(tuple(level)) if isinstance(level, (tuple, list)) else level
    return x.reshape(-1, x.shape[-1])


def _bytes(features: SetFeatures) -> int:
    return sum(x.numel() * x.element_size() for x in features)
