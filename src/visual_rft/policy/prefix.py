"""What passes between the policy's methods: prompts, the shared prefix and the completions.

Decision: the group is the unit. A :class:`Prefix` holds each prompt *once*; sampling and scoring expand its keys and
values to G rows only inside attention, so the vision tower and the prompt never run G times. The keys and values are
never grown in place: every use builds its own cache around them.

Shapes: B prompts, P prompt tokens (left-padded), G completions per prompt, T completion tokens (right-padded),
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from visual_rft.tasks import Sample, Task
from visual_rft.vision.coordinates import CoordinateSpace, Frame
from visual_rft.vision.images import ImageReference


@dataclass(frozen=True)
class Prompt:
    """A question ready for the policy: an id for error messages, the text, and its images in order."""

    id: str
    text: str
    images: tuple[ImageReference, ...]

    @classmethod
    def of(cls, task: Task, sample: Sample, space: CoordinateSpace) -> Prompt:
        """How ``task`` asks about ``sample`` a model that writes boxes in ``space``."""
        return cls(sample.id, task.prompt(sample.question, space), sample.images)


@dataclass(frozen=True)
class Inputs:
    """Prompts after the processor, on the CPU.

    Attributes:
        prompts: B prompts.
        tensors: what the processor returned: ``input_ids`` and ``attention_mask`` ``[B, P]``, pixel values and grids.
        image_sizes: original (width, height) in pixels of every image, prompt after prompt.
    """

    prompts: tuple[Prompt, ...]
    tensors: Mapping[str, Tensor]
    image_sizes: tuple[tuple[int, int], ...]

    @property
    def image_keys(self) -> list[str]:
        """Key of every image, prompt after prompt."""
        return [reference.key for prompt in self.prompts for reference in prompt.images]


@dataclass(frozen=True)
class Prefix:
    """What the policy computed for B prompts, once.

    Attributes:
        layers: keys and values of each language layer, ``[B, heads, P, head_dim]`` each, with graph if the policy
            encoded with gradients.
        mask: ``[B, P]``, 1 for real tokens, 0 for left padding.
        first_logits: ``[B, V]`` logits of the first completion token, from the prompt's last position.
        next_position: ``[B]`` position of the first completion token.
        frames: units of the coordinates of each prompt's first image (None for a prompt without image).
        inputs: what was encoded, so that the reference or a second update need not process it again.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor
    first_logits: Tensor
    next_position: Tensor
    frames: tuple[Frame | None, ...]
    inputs: Inputs

    def __len__(self) -> int:
        return len(self.mask)

    def cache(self, rows: Tensor, *, detach: bool = False) -> DynamicCache:
        """A fresh cache whose row i continues prompt ``rows[i]``; gradients flow back unless ``detach``."""
        pairs = ((k.detach(), v.detach()) if detach else (k, v) for k, v in self.layers)
        return DynamicCache([(k.index_select(0, rows), v.index_select(0, rows)) for k, v in pairs])


@dataclass(frozen=True)
class Completions:
    """G completions of each of B prompts; a group is never split or shuffled apart.

    Attributes:
        ids: ``[B, G, T]`` token ids, the end token included, padding after it.
        mask: ``[B, G, T]`` bool, true for sampled tokens.
        logprobs: ``[B, G, T]`` log-probability of each sampled token under the policy that sampled it, 0 in padding.
        text: B lists of G texts without special tokens.
        truncated: ``[B, G]`` bool, true where the length limit was reached before the end token.
    """

    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    text: Sequence[Sequence[str]]
    truncated: Tensor

    @property
    def lengths(self) -> Tensor:
        """``[B, G]`` number of sampled tokens."""
        return self.mask.sum(-1)


def group_rows(prompts: int, group: int, device: torch.device) -> Tensor:
    """``[prompts * group]``: the prompt index of each row, group after group."""
    return torch.arange(prompts, device=device).repeat_interleave(group)
