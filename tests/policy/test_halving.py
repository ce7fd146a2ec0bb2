"""Where memory runs out in an update, it is computed in smaller parts and gives the same gradients."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.tiny_models import random_model

from visual_rft.config.sections import EngineConfig
from visual_rft.errors import ModelError
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.repeated import RepeatedEngine
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.engine.shared import SharedEngine
from visual_rft.policy.loss import WeightedLogprobs
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.images import RenderedImage

PROMPTS = [
    Prompt(name, f"Find every {name}.", (RenderedImage(name, lambda: Image.new("RGB", (56, 56))),))
    for name in ("cat", "small dog")
]
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class Update:
    """The gradients of one update of a random model, 2 prompts with 4 completions each."""

    def __init__(self, kind: str, **engine) -> None:
        model, processor = random_model(kind)
        self.policy = Policy(model, processor, Sampling(max_new_tokens=6), engine=EngineConfig(**engine))

    def run(self) -> dict[str, torch.Tensor]:
        policy = self.policy
        policy.model.zero_grad()
        prefix = policy.encode(PROMPTS)
        completions = policy.sample(prefix, 4, Draws(0))
        weights = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(1)) * completions.mask
        self.logprobs = policy.backward(prefix, completions, WeightedLogprobs(weights))
        return {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["qwen2_vl", "gemma3"])
@pytest.mark.parametrize("failures", [1, 2])
def test_out_of_memory_in_the_forward_pass_halves_the_micro_batch(kind, failures, monkeypatch, capsys):
    wanted = Update(kind)
    gradients = wanted.run()
    found = Update(kind)
    engine = SharedEngine if found.policy.shares_prefix else RepeatedEngine
    real, sizes, left = engine.score, [], [NO_MEMORY] * failures

    def score(self, prefix, rows):
        sizes.append(len(rows.ids))
        if left:
            raise left.pop()
        return real(self, prefix, rows)

    monkeypatch.setattr(engine, "score", score)
    assert_equal(found.run(), gradients)
    torch.testing.assert_close(found.logprobs, wanted.logprobs, rtol=1e-4, atol=1e-5)
    assert sizes == [8, 4, 4] if failures == 1 else [8, 4, 2, 2, 2, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == failures
    assert lines[0] == (
        "warning: out of memory in the update: micro-batches of 4 instead of 8 completions from now on "
        "(engine.micro_batch)"
    )
    sizes.clear()
    found.run()  # it is remembered
    assert max(sizes) == 8 // 2**failures


@pytest.mark.parametrize("place", [0, 10, -1])
@pytest.mark.parametrize("engine", [{}, {"micro_batch": 4}, {"prompts_at_once": 1, "reuse_rollout_graph": False}])
def test_out_of_memory_in_the_backward_pass_counts_no_gradient_twice(place, engine):
    """Some tensors have theirs already, the others do not: the pass goes from the last layer to the first."""
    gradients = Update("qwen2_vl", **engine).run()
    found = Update("qwen2_vl", **engine)
    text = [p for n, p in found.policy.model.named_parameters() if "visual" not in n and p.ndim == 2]
    failed = []

    def fail(gradient: torch.Tensor) -> None:
        if not failed:
            failed.append(True)
            raise NO_MEMORY

    handle = text[place].register_hook(fail)
    assert_equal(found.run(), gradients)
    handle.remove()
    assert failed


def test_with_one_completion_at_once_the_remedies_are_named(monkeypatch):
    update = Update("qwen2_vl")

    def score(self, prefix, rows):
        raise NO_MEMORY

    monkeypatch.setattr(SharedEngine, "score", score)
    with pytest.raises(ModelError, match=r"with one completion at once; set engine\.checkpoint_completions and"):
        update.run()


def test_an_error_of_another_kind_is_not_taken_for_it(monkeypatch):
    def score(self, prefix, rows):
        raise RuntimeError("a bug")

    monkeypatch.setattr(SharedEngine, "score", score)
    with pytest.raises(RuntimeError, match="a bug"):
        Update("qwen2_vl").run()
