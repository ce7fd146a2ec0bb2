"""Prompts and completions to compare engines on, and the oracle: every completion alone, by the stock forward pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from support.tiny_models import chat
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt

SCENES = Shapes(count=40, seed=11)


def prompts_of_mixed_size(count: int) -> list[Prompt]:
    """Up to 5 prompts of different length: three about images of different size, two images, a repeated image."""
    by_size = {}
    for scene in SCENES:
        by_size.setdefault(scene.size, scene)
    a, b, c = list(by_size.values())[:3]
    asked = [
        ("Find every red circle.", (a,)),
        ("Find every blue star in the image, and say where.", (b,)),
        ("digit 7?", (c,)),
        ("Are they the same?", (a, b)),
        ("And once more: what is it?", (a,)),
    ]
    return [Prompt(f"p{i}", text, tuple(s.image for s in scenes)) for i, (text, scenes) in enumerate(asked[:count])]


def random_completions(policy: Policy, prompts: int, group: int, length: int) -> Completions:
    """Completions of random allowed tokens and random lengths from 1 to ``length``."""
    generator = torch.Generator().manual_seed(3)
    allowed = torch.tensor([i for i in range(7, 300) if i not in policy.forbidden.tolist()])
    ids = allowed[torch.randint(len(allowed), (prompts, group, length), generator=generator)]
    lengths = torch.randint(1, length + 1, (prompts, group, 1), generator=generator)
    lengths[0, 0], lengths[-1, -1] = length, 1
    mask = torch.arange(length) < lengths
    return Completions(ids, mask, torch.zeros(ids.shape), [], torch.zeros(prompts, group))


def alone_logprobs(policy: Policy, prompts: list[Prompt], completions: Completions) -> Tensor:
    """``[B, G, T]``: each completion with its whole prompt and image through the model, alone, unpadded, no cache."""
    result = []
    for b, prompt in enumerate(prompts):
        text = chat(policy.processor, prompt.text, len(prompt.images))
        images = [image.load() for image in prompt.images]
        special = {"add_special_tokens": False} if "<bos>" in text else {}  # as the library does for a chat
        made = policy.processor(text=[text], images=[images], **special)  # as lists: PaliGemma's fails on tensors
        inputs = {name: torch.as_tensor(np.stack(values)) for name, values in made.items() if name != "labels"}
        length = inputs["input_ids"].shape[1]
        for g in range(completions.ids.shape[1]):
            keep = int(completions.mask[b, g].sum())
            row = completions.ids[b, g, :keep][None]
            ids = torch.cat([inputs["input_ids"], row], dim=1)
            given = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            for name in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
                kind = int(policy.model_config.model_type == "paligemma")  # there, a completion is a "suffix"
                given[name] = torch.cat([inputs[name], torch.full_like(row, kind)], dim=1)
            logits = policy.core(**given, use_cache=False).logits[:, length - 1 : -1] / policy.sampling.temperature
            logprobs = logits.index_fill(-1, policy.forbidden, -torch.inf).log_softmax(-1)
            chosen = logprobs.gather(2, row[..., None])[0, :, 0]
            result.append(torch.nn.functional.pad(chosen, (0, completions.ids.shape[-1] - keep)))
    return torch.stack(result).view(completions.ids.shape)
