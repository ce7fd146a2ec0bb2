"""Twenty steps of a model that is a table, cheap enough for every loss: in micro-batches, on several processes."""

from __future__ import annotations

import torch

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.parallel.meetings import gather, sum_gradients
from visual_rft.parallel.processes import here
from visual_rft.policy.engine.prefix import Completions
from visual_rft.training.advantages import Rewards
from visual_rft.training.objective import GroupLoss, advantages_of

WORDS, GROUP, LENGTH = 9, 4, 6


def rewards_of_tokens(completions: Completions) -> Rewards:
    return Rewards((completions.ids * completions.mask).sum(-1).remainder(5).float())


def sampled(table: torch.Tensor, generator: torch.Generator) -> Completions:
    """Completions of two prompts by a model that knows the word before: ``table [words, words]`` of logits."""
    logprobs = table.log_softmax(-1)
    ids = torch.zeros(2, GROUP, LENGTH, dtype=torch.long)
    before = torch.tensor([0, 1])[:, None].expand(2, GROUP)
    for place in range(LENGTH):
        drawn = torch.multinomial(logprobs[before].exp().view(-1, WORDS), 1, generator=generator)
        before = ids[..., place] = drawn.view(2, GROUP)
    lengths = torch.randint(1, LENGTH + 1, (2, GROUP, 1), generator=generator)
    mask = torch.arange(LENGTH) < lengths
    previous = torch.cat([torch.tensor([0, 1]).view(2, 1, 1).expand(2, GROUP, 1), ids[..., :-1]], -1)
    chosen = logprobs[previous].gather(-1, ids[..., None]).squeeze(-1) * mask
    entropies = torch.special.entr(logprobs.exp()).sum(-1)[previous] * mask
    return Completions(ids, mask, chosen, [], torch.zeros(2, GROUP, dtype=torch.bool), entropies)


def only(completions: Completions, prompts: list[int]) -> Completions:
    tensors = (completions.ids, completions.mask, completions.logprobs, completions.truncated, completions.entropies)
    ids, mask, logprobs, truncated, entropies = (tensor[prompts] for tensor in tensors)
    return Completions(ids, mask, logprobs, [], truncated, entropies)


def words_before(completions: Completions, prompts: list[int]) -> torch.Tensor:
    first = torch.tensor(prompts).view(-1, 1, 1).expand(-1, GROUP, 1)
    return torch.cat([first, completions.ids[..., :-1]], -1).flatten(0, 1)


def trajectory(micro_batch: int, config: ObjectiveConfig) -> tuple[list[float], torch.Tensor]:
    """Losses and the last table of twenty steps, each process with its share of the prompts."""
    own = list(here().share(2))
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(WORDS, WORDS, generator=generator).requires_grad_()
    start = table.detach().clone()
    optimizer = torch.optim.AdamW([table], lr=0.05)
    losses = []
    for _ in range(20):
        completions = only(sampled(table.detach(), generator), own)
        before, ids = words_before(completions, own), completions.ids.flatten(0, 1)
        reference = start.log_softmax(-1)[before].gather(-1, ids[..., None]).squeeze(-1).view_as(completions.ids)
        advantages = advantages_of(rewards_of_tokens(completions), config, completions, reference)
        loss = GroupLoss(completions, advantages, reference, config, len(own) / 2, LENGTH)
        for _ in range(config.updates_per_rollout):
            total = 0.0
            for first in range(0, len(own) * GROUP, micro_batch):
                numbers = torch.tensor([i for i in loss.needed if first <= i < first + micro_batch])
                if len(numbers):
                    longest = int(completions.lengths.flatten()[numbers].max())
                    logprobs = table.log_softmax(-1)[before[numbers]].gather(-1, ids[numbers][..., None]).squeeze(-1)
                    share = loss.share(logprobs[:, :longest], numbers)
                    share.backward()
                    total += share.item()
            sum_gradients([table])
            optimizer.step()
            optimizer.zero_grad()
        losses.append(sum(gather(total, "the loss")))
    return losses, table.detach()
