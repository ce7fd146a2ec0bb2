"""Twenty steps with each loss: in micro-batches of two completions, and all at once, they go the same way."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import random_model

from visual_rft.config.objective import LOSSES, ObjectiveConfig
from visual_rft.config.sections import EngineConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.prefix import Completions
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
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


def words_before(completions: Completions) -> torch.Tensor:
    first = torch.tensor([0, 1]).view(2, 1, 1).expand(2, GROUP, 1)
    return torch.cat([first, completions.ids[..., :-1]], -1).flatten(0, 1)


def trajectory(micro_batch: int, config: ObjectiveConfig) -> tuple[list[float], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(WORDS, WORDS, generator=generator).requires_grad_()
    start = table.detach().clone()
    optimizer = torch.optim.AdamW([table], lr=0.05)
    losses = []
    for _ in range(20):
        completions = sampled(table.detach(), generator)
        before, ids = words_before(completions), completions.ids.flatten(0, 1)
        reference = start.log_softmax(-1)[before].gather(-1, ids[..., None]).squeeze(-1).view_as(completions.ids)
        advantages = advantages_of(rewards_of_tokens(completions), config, completions, reference)
        loss = GroupLoss(completions, advantages, reference, config, longest=LENGTH)
        for _ in range(config.updates_per_rollout):
            total = 0.0
            for first in range(0, 2 * GROUP, micro_batch):
                numbers = torch.tensor([i for i in loss.needed if first <= i < first + micro_batch])
                if len(numbers):
                    longest = int(completions.lengths.flatten()[numbers].max())
                    logprobs = table.log_softmax(-1)[before[numbers]].gather(-1, ids[numbers][..., None]).squeeze(-1)
                    share = loss.share(logprobs[:, :longest], numbers)
                    share.backward()
                    total += share.item()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(total)
    return losses, table.detach()


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_go_the_way_of_one_batch(name, beta):
    more = {"top_entropy": 0.61, "entropy_weight": 0.01} if beta else {}
    config = ObjectiveConfig(loss=name, beta=beta, updates_per_rollout=3, **more)
    losses, table = trajectory(2, config)
    at_once, table_at_once = trajectory(2 * GROUP, config)
    assert losses == pytest.approx(at_once, abs=1e-5)
    torch.testing.assert_close(table, table_at_once, atol=1e-5, rtol=0)
    assert len({round(loss, 6) for loss in losses}) > 10


def model_trajectory(micro_batch: int, config: ObjectiveConfig) -> tuple[list[float], torch.Tensor]:
    sampling = Sampling(max_new_tokens=4)
    policy = Policy(*random_model("qwen2_vl"), sampling, engine=EngineConfig(micro_batch=micro_batch))
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.1)
    prompts, losses = [Prompt("a", "Find every red circle.", ()), Prompt("b", "Hello", ())], []
    for step in range(20):
        completions = policy.sample(policy.encode(prompts), 3, Draws(0, step))
        advantages = advantages_of(rewards_of_tokens(completions), config, completions, None)
        loss = GroupLoss(completions, advantages, None, config, longest=4)
        for _ in range(config.updates_per_rollout):
            logprobs = policy.backward(policy.encode(prompts), completions, loss)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.stats(logprobs).loss)
    return losses, torch.cat([p.detach().flatten() for p in policy.model.parameters()])


def test_so_does_a_model():
    config = ObjectiveConfig(loss="gspo", beta=0.0, updates_per_rollout=2)
    losses, weights = model_trajectory(2, config)
    at_once, weights_at_once = model_trajectory(6, config)
    assert losses == pytest.approx(at_once, abs=1e-5)
    torch.testing.assert_close(weights, weights_at_once, atol=1e-5, rtol=0)
