"""Twenty steps with each loss: in micro-batches of two completions, and all at once, they go the same way."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import random_model
from support.trajectories import GROUP, rewards_of_tokens, trajectory

from visual_rft.config.objective import LOSSES, ObjectiveConfig
from visual_rft.config.sections import EngineConfig
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.training.objective import GroupLoss, advantages_of


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
