"""What an optimiser step does to a policy besides its weights."""

from __future__ import annotations

import pytest
from support.oracles import prompts_of_mixed_size
from support.runs import config

from visual_rft.errors import ModelError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.training.learner import Learner
from visual_rft.training.run.trackers import make_accelerator


def test_prompts_that_older_weights_encoded_are_refused(tmp_path, model_folders):
    settings = config(tmp_path / "run", model_folders["qwen2_vl"])
    policy = load_policy(settings.model, settings.rollout)
    learner = Learner.of(policy, settings, make_accelerator(settings, tmp_path / "run"))
    prefix = policy.encode(prompts_of_mixed_size(1))
    completions = policy.sample(prefix, 2, Draws(0))
    policy.logprobs(prefix, completions).sum().backward()
    learner.optimize()
    with pytest.raises(ModelError, match="the weights have changed"):
        policy.sample(prefix, 2, Draws(0))
