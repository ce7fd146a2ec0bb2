"""The shared-prefix engine against every completion alone, in every setting that bounds memory or saves time."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from support.oracles import SCENES, alone_logprobs, prompts_of_mixed_size, random_completions
from support.tiny_models import QWEN, SHARED, chat, random_model

from visual_rft.config.objective import ObjectiveConfig
from visual_rft.config.sections import EngineConfig, LoraConfig, ModelConfig
from visual_rft.errors import DataError, ModelError
from visual_rft.policy import agreement
from visual_rft.policy.agreement import SharedPrefixWarning, verify
from visual_rft.policy.engine.attention.shared_prefix import PromptAttention
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.engine.logits import Head
from visual_rft.policy.engine.prefix import Completions, Rows
from visual_rft.policy.engine.sampling import Sampling
from visual_rft.policy.families import family_of
from visual_rft.policy.loss import Loss, WeightedLogprobs
from visual_rft.policy.memory.activations import ActivationSize, activation_size
from visual_rft.policy.memory.plan import plan_memory
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.reference import Reference
from visual_rft.policy.tower import FeatureCache
from visual_rft.policy.trainable import trainable
from visual_rft.training.advantages import group_advantages
from visual_rft.training.objective import GroupLoss
from visual_rft.vision.coordinates import CoordinateSpace

ALL_LAYERS = {"checkpoint_prompts": 1, "checkpoint_completions": True}
SETTINGS = {
    "one pass": EngineConfig(reuse_rollout_graph=True, checkpoint_prompts=0),
    "micro-batches": EngineConfig(reuse_rollout_graph=True, micro_batch=4, checkpoint_prompts=0),
    "checkpointing": EngineConfig(reuse_rollout_graph=True, **ALL_LAYERS),
    "micro-batches, checkpointing": EngineConfig(reuse_rollout_graph=True, micro_batch=1, **ALL_LAYERS),
    "prompts checkpointed": EngineConfig(reuse_rollout_graph=True, micro_batch=7, checkpoint_prompts=0.5),
    "encoded again": EngineConfig(reuse_rollout_graph=False, micro_batch=4, checkpoint_prompts=0),
    "two prompts at once": EngineConfig(reuse_rollout_graph=False, prompts_at_once=2),
    "a prompt at a time, checkpointing": EngineConfig(
        reuse_rollout_graph=False, prompts_at_once=1, micro_batch=2, **ALL_LAYERS
    ),
    "least memory": EngineConfig(memory_gib=1e-6),
    "repeated": EngineConfig(shared_prefix=False, micro_batch=4),
    "repeated, checkpointing": EngineConfig(shared_prefix=False, **ALL_LAYERS),
}
MICRO_BATCHES = {
    "one pass": 1,
    "micro-batches": 4,  # of 4, 4, 4 and 3
    "checkpointing": 1,
    "micro-batches, checkpointing": 15,
    "prompts checkpointed": 3,
    "encoded again": 4,
    "two prompts at once": 3,  # one for 2, 2 and 1 prompts
    "a prompt at a time, checkpointing": 10,  # of 2 and 1 completions, 5 times
    "least memory": 15,
    "repeated": 4,
    "repeated, checkpointing": 1,
}
"""How many micro-batches each setting makes of 5 prompts with 3 completions each."""


class Recorded:
    """A loss that keeps the numbers of every micro-batch, and may need fewer completions or more than it says."""

    def __init__(self, loss: Loss, needed: Sequence[int] | None = None) -> None:
        self.loss, self.needed = loss, loss.needed if needed is None else needed
        self.numbers: list[list[int]] = []

    def share(self, logprobs: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        self.numbers.append(numbers.tolist())
        return self.loss.share(logprobs, numbers)


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}


def assert_same_gradients(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Within 1e-5, relative to each tensor, or to a thousandth of the whole for tensors that nearly cancel."""
    assert got.keys() == expected.keys()
    scale = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, gradient in got.items():
        error = (gradient - expected[name]).norm() / max(expected[name].norm(), 1e-3 * scale)
        assert error <= 1e-5, f"{name}: {error}"
        # A zero tensor would hide an error. Key biases cancel exactly: they shift all scores of a row alike.
        if not name.endswith(("k_proj.bias", "k_proj.lora_B.default.weight")):
            assert gradient.norm() > 0, name


@pytest.fixture(scope="module")
def alone():
    """Per family: log-probabilities and gradients of every completion alone, computed once."""
    known = {}

    def of(kind: str):
        if kind not in known:
            policy = Policy(*random_model(kind), Sampling(temperature=0.8))
            prompts = prompts_of_mixed_size(5)
            completions = random_completions(policy, 5, group=3, length=9)
            weight = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(5))
            expected = alone_logprobs(policy, prompts, completions)
            (expected * weight).sum().backward()
            known[kind] = (prompts, completions, weight, expected.detach(), gradients(policy))
        return known[kind]

    return of


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", SHARED)
def test_logprobs_and_gradients_equal_every_completion_alone(kind, setting, alone):
    """Ragged prompts, mixed image sizes, two images in one prompt, one image in several prompts."""
    prompts, completions, weight, expected, expected_gradients = alone(kind)
    policy = Policy(*random_model(kind), Sampling(temperature=0.8), engine=SETTINGS[setting])

    prefix = policy.encode(prompts, for_sampling=True)
    with torch.no_grad():
        torch.testing.assert_close(policy.logprobs(prefix, completions), expected, atol=1e-5, rtol=1e-5)
    loss = Recorded(WeightedLogprobs(weight))
    got = policy.backward(prefix, completions, loss)
    seen = loss.numbers
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert_same_gradients(gradients(policy), expected_gradients)
    assert [i for part in seen for i in part] == list(range(15))
    if policy.engine_config.micro_batch is not None:
        assert max(map(len, seen)) == policy.engine_config.micro_batch
    assert len(seen) == MICRO_BATCHES[setting]
    if kind in QWEN:
        assert expected_gradients.keys() == {name for name, _ in policy.model.named_parameters()}


@pytest.mark.parametrize("kind", SHARED)
def test_logprobs_with_graph_equal_every_completion_alone(kind, alone):
    prompts, completions, weight, expected, expected_gradients = alone(kind)
    policy = Policy(*random_model(kind), Sampling(temperature=0.8))
    got = policy.logprobs(policy.encode(prompts), completions)
    (got * weight).sum().backward()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert_same_gradients(gradients(policy), expected_gradients)


def trained(kind: str, engine: EngineConfig, beta: float) -> list[float]:
    """Losses of 20 steps on completions that do not depend on the engine, two updates on each."""
    policy = Policy(*random_model(kind), engine=engine)
    reference = Reference(policy) if beta else None
    prompts = prompts_of_mixed_size(5)
    completions = random_completions(policy, 5, group=4, length=9)
    inputs = policy.prepare(prompts)
    with torch.no_grad():
        old = policy.logprobs(policy.encode(inputs), completions)
    completions = Completions(completions.ids, completions.mask, old, [], completions.truncated)
    advantages = group_advantages(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3)
    losses = []
    for step in range(20):
        prefix = policy.encode(inputs, for_sampling=True)
        ahead = reference.logprobs(prefix, completions) if reference else None
        loss = GroupLoss(completions, advantages, ahead, ObjectiveConfig(beta=beta))
        losses.append(loss.stats(policy.backward(prefix, completions, loss)).loss)
        optimizer.step()
        optimizer.zero_grad()
        if step == 9:  # what was sampled last is what the ratio is taken to
            with torch.no_grad():
                old = policy.logprobs(policy.encode(inputs), completions)
            completions = Completions(completions.ids, completions.mask, old, [], completions.truncated)
    return losses


@pytest.mark.parametrize("kind", SHARED)
def test_twenty_steps_give_the_losses_of_the_repeated_path(kind):
    everything = EngineConfig(micro_batch=3, **ALL_LAYERS, reuse_rollout_graph=True)
    ours = trained(kind, everything, beta=0.1)
    naive = trained(kind, EngineConfig(shared_prefix=False), beta=0.1)
    assert max(ours) - min(ours) > 0.05  # it does learn
    # Adam enlarges rounding: 4e-5 of a loss of 4.3 seen in the third step.
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(naive), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", SHARED)
def test_both_engines_sample_the_same(kind):
    """The same random numbers and the same distributions give the same tokens, also with rows that end early."""
    drawn = []
    for shared in (True, False):
        policy = Policy(*random_model(kind), Sampling(max_new_tokens=10), engine=EngineConfig(shared_prefix=shared))
        prompts = prompts_of_mixed_size(5)
        drawn.append(policy.sample(policy.encode(prompts), 3, greedy=True))
    assert torch.equal(drawn[0].ids, drawn[1].ids)
    torch.testing.assert_close(drawn[0].logprobs, drawn[1].logprobs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SHARED)
def test_inputs_equal_those_of_the_processor(kind):
    """Placeholders that were put into the text here, against the processor's own way for each prompt."""
    policy = Policy(*random_model(kind))
    prompts = [*prompts_of_mixed_size(5), Prompt("none", "No image at all.", ())]
    inputs = policy.prepare(prompts)
    assert inputs.sets == (0, 1, 2, 3, 0, -1)
    for i, prompt in enumerate(prompts):
        text = chat(policy.processor, prompt.text, len(prompt.images))
        images = [[image.load() for image in prompt.images]] if prompt.images else None
        alone = policy.processor(text=[text], images=images, return_tensors="pt")
        real = inputs.tensors["attention_mask"][i].bool()
        assert inputs.tensors["input_ids"][i][real].tolist() == alone["input_ids"][0].tolist()
        if prompt.images:
            assert inputs.pixels is not None
            ours = inputs.pixels.select([inputs.sets[i]])["pixel_values"]
            theirs = alone["pixel_values"]
            if kind in ("smolvlm", "idefics3", "llava_onevision"):  # padded with empty tiles to the most of the batch
                assert not ours[:, theirs.shape[1] :].any()
                ours = ours[:, : theirs.shape[1]]
            assert torch.equal(ours, theirs)


def test_a_placeholder_in_a_question_is_refused():
    policy = Policy(*random_model("qwen2_vl"))
    prompt = Prompt("q/1", "What is <|image_pad|>?", (SCENES[0].image,))
    with pytest.raises(DataError, match=r"'q/1'.*<\|image_pad\|>.*remove it"):
        policy.prepare([prompt])


def test_old_prefix_after_a_change_of_weights_is_refused():
    policy = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=4))
    prefix = policy.encode(prompts_of_mixed_size(2))
    completions = policy.sample(prefix, 2)
    with torch.no_grad():
        policy.core.get_output_embeddings().weight.mul_(1.01)
    for use in (
        lambda: policy.sample(prefix, 2),
        lambda: policy.logprobs(prefix, completions),
        lambda: policy.backward(prefix, completions, WeightedLogprobs(completions.mask.float())),
    ):
        with pytest.raises(ModelError, match=r"weights have changed.*encode them again"):
            use()


def count_passes(policy: Policy) -> dict[str, list[int]]:
    """Images that run through the vision tower and tokens that run through the language model, pass by pass."""
    seen: dict[str, list[int]] = {"patches": [], "tokens": []}
    policy.core.model.visual.register_forward_pre_hook(lambda _, a: seen["patches"].append(len(a[0])))
    policy.core.model.language_model.register_forward_pre_hook(
        lambda _, __, k: seen["tokens"].append((k["input_ids"] if "input_ids" in k else k["inputs_embeds"]).shape[1]),
        with_kwargs=True,
    )
    return seen


def test_a_step_runs_each_image_and_prompt_once_per_model():
    """Policy and reference of a LoRA run: one vision pass for both, one prompt pass each."""
    model, processor = random_model("qwen2_vl")
    model = trainable(model, family_of("qwen2_vl"), ModelConfig(lora=LoraConfig(rank=2)))
    policy = Policy(model, processor, Sampling(max_new_tokens=6))
    reference = Reference(policy)
    inputs = policy.prepare(prompts_of_mixed_size(3))
    seen = count_passes(policy)
    prefix = policy.encode(inputs, for_sampling=True)
    completions = policy.sample(prefix, 4, Draws(0))
    ahead = reference.logprobs(prefix, completions)
    loss = GroupLoss(completions, torch.randn(3, 4), ahead, ObjectiveConfig(beta=0.1))
    policy.backward(prefix, completions, loss)
    prompt_tokens = sum(inputs.lengths)
    assert len(seen["patches"]) == 1
    assert seen["tokens"].count(prompt_tokens) == 2
    # The next step sees the same images again: the tower is not trained, so it does not run at all.
    policy.encode(inputs)
    assert len(seen["patches"]) == 1


def test_features_of_a_trained_tower_are_not_kept_but_the_reference_keeps_its_own():
    policy = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=4))
    reference = Reference(policy)
    assert reference.frozen is not None
    ours, theirs = count_passes(policy), count_passes(reference.frozen)
    inputs = policy.prepare(prompts_of_mixed_size(2))
    for _ in range(3):
        prefix = policy.encode(inputs)
        reference.logprobs(prefix, policy.sample(prefix, 2))
    assert len(ours["patches"]) == 3
    assert len(theirs["patches"]) == 1
    with torch.no_grad(), policy.tower.held_still():
        for _ in range(3):
            policy.encode(inputs)
    assert len(ours["patches"]) == 4
    assert len(policy.tower.cache) == 0


def test_the_reference_of_a_policy_that_fell_back_shares_no_prefix_either():
    policy = Policy(*random_model("qwen2_vl"))
    policy.fall_back("log-probabilities differ")
    reference = Reference(policy)
    assert reference.frozen is not None
    assert reference.frozen.fallback_reason == "log-probabilities differ"
    resumed = Reference(policy, Policy(*random_model("qwen2_vl")))  # a run that was resumed loads its own copy
    assert resumed.frozen is not None
    assert not resumed.frozen.shares_prefix


def test_the_reference_knows_the_family_that_the_policy_was_told():
    family = replace(family_of("qwen2_vl"), space=CoordinateSpace.PROCESSED_PIXELS)
    reference = Reference(Policy(*random_model("glm4v"), family=family))  # not listed
    assert reference.frozen is not None
    assert reference.frozen.family == family


def test_feature_cache_drops_the_least_recently_used():
    cache = FeatureCache(limit=2 * 40)
    one = (torch.zeros(10),)  # 40 bytes
    cache.put("a", one)
    cache.put("b", one)
    assert cache.get("a") is not None
    cache.put("c", one)
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.size == 80
    cache.put("too large", (torch.zeros(100),))
    assert cache.get("too large") is None
    assert len(cache) == 2


def test_cached_features_change_nothing():
    results = []
    for mib in (0.0, 64.0):
        model, processor = random_model("qwen3_vl")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("visual" not in name)
        policy = Policy(model, processor, engine=EngineConfig(feature_cache_mib=mib))
        prompts = prompts_of_mixed_size(5)
        policy.encode(prompts[:2])  # known beforehand: a part of the images
        results.append(policy.encode(prompts).last_hidden)
        assert (len(policy.tower.cache) > 0) == (mib > 0)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_groups_without_advantage_are_skipped_exactly():
    policy = Policy(*random_model("qwen2_vl"), Sampling(max_new_tokens=6))
    prefix = policy.encode(prompts_of_mixed_size(3))
    completions = policy.sample(prefix, 4, Draws(0))
    advantages = torch.randn(3, 4)
    advantages[1] = 0
    loss = GroupLoss(completions, advantages, None, ObjectiveConfig(beta=0.0))
    assert loss.needed == [0, 1, 2, 3, 8, 9, 10, 11]
    policy.backward(policy.encode(prefix.inputs), completions, Recorded(loss, range(12)))
    whole = gradients(policy)
    policy.model.zero_grad()
    stats = loss.stats(policy.backward(prefix, completions, loss))
    assert_same_gradients(gradients(policy), whole)
    assert stats.loss == pytest.approx(
        -(advantages[..., None] * completions.mask / completions.lengths[..., None]).sum().item() / 12, abs=1e-5
    )
    # With a KL term they pull towards the reference, so they count; with nothing to learn nothing runs.
    assert GroupLoss(completions, advantages, advantages, ObjectiveConfig(beta=0.1)).needed == list(range(12))
    policy.model.zero_grad()
    nothing = GroupLoss(completions, torch.zeros(3, 4), None, ObjectiveConfig(beta=0.0))
    scored = policy.backward(policy.encode(prefix.inputs), completions, nothing)
    assert torch.equal(scored, completions.logprobs)
    assert not gradients(policy)


def test_logits_in_pieces_equal_those_at_once():
    torch.manual_seed(0)
    projection = torch.nn.Linear(8, 50, bias=False)
    hidden, tokens = torch.randn(30, 8, requires_grad=True), torch.randint(50, (30,))
    results = []
    rows: list[int] = []
    for piece_bytes in (2**20, 7 * 50 * 4):
        head = Head(projection, 0.7, torch.tensor([3]), max_piece_bytes=piece_bytes)
        projection.register_forward_pre_hook(lambda _, a: rows.append(len(a[0])))
        got = head.of_tokens(hidden, tokens)
        got[tokens != 3].sum().backward()
        results.append((got.detach(), hidden.grad.clone(), projection.weight.grad.clone()))
        hidden.grad = projection.weight.grad = None
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    assert max(rows[1:]) == 7
    assert torch.isinf(results[0][0][tokens == 3]).all()


SIZE = ActivationSize(
    prompt_bytes=100, checkpointed_prompt_bytes=10, bytes_per_token=1, checkpointed_bytes_per_token=0.5
)


@pytest.mark.parametrize(
    ("limit", "checkpoint", "keep", "at_once", "parts"),
    [
        (200, (0.0, False), True, 4, [[0, 1], [2]]),  # 100 bytes free, completions of 50
        (196, (2 / 90, False), True, 4, [[0], [1], [2]]),  # 2 of the 90 bytes that checkpointing saves must go: 98 free
        (150, (25 / 90, True), True, 4, [[0, 1, 2]]),  # one of 50 does not fit in a quarter: 25 checkpointed
        (20, (1.0, True), True, 4, [[0], [1], [2]]),
        (17, (1.0, True), False, 3, [[0], [1], [2]]),  # the prompts' own inputs do not fit in half: 3 of 4 do
        (1, (1.0, True), False, 1, [[0], [1], [2]]),  # nothing fits: one at a time all the same
    ],
)
def test_the_plan_follows_the_limit(limit, checkpoint, keep, at_once, parts):
    plan = plan_memory(EngineConfig(), SIZE, limit, prompts=4, max_tokens=49)
    assert (plan.checkpoint_prompts, plan.checkpoint_completions) == pytest.approx(checkpoint)
    assert plan.keep_graph == keep
    assert plan.prompts_at_once == at_once
    assert plan.micro_batches([50, 50, 50], [0, 1, 2]) == parts


def test_a_share_of_the_layers_is_checkpointed():
    policy = Policy(*random_model("qwen3_vl"))
    layers = policy.checkpointing.layers
    assert len(layers) == 8  # 4 of the vision tower, 4 of the language model
    for share, count in ((0.0, 0), (0.25, 2), (0.6, 4), (1.0, 8)):
        with policy.checkpointing(share):
            assert sum(layer.training for layer in layers) == count
            assert not any(module.training for layer in layers for module in layer.children())
        assert not any(layer.training for layer in layers)


def test_a_prefix_that_is_dropped_is_freed():
    """With checkpointed layers too, which hold the attention of their prompts in the graph."""
    policy = Policy(*random_model("qwen2_vl"), engine=EngineConfig(checkpoint_prompts=1, reuse_rollout_graph=True))
    prefix = policy.encode(prompts_of_mixed_size(2))
    assert prefix.has_graph
    assert any(type(x) is PromptAttention for x in gc.get_objects())
    del prefix
    gc.collect()
    assert not any(type(x) is PromptAttention for x in gc.get_objects())


def test_fields_that_are_set_are_obeyed():
    engine = EngineConfig(checkpoint_prompts=0.5, reuse_rollout_graph=False, prompts_at_once=3, micro_batch=2)
    plan = plan_memory(engine, SIZE, limit_bytes=1e9, prompts=4, max_tokens=50)
    assert (plan.checkpoint_prompts, plan.checkpoint_completions, plan.keep_graph) == (0.5, False, False)
    assert plan.chunks(4) == [range(3), range(3, 4)]
    assert plan.micro_batches([50, 50, 50], [4, 5, 7]) == [[4, 5], [7]]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "library"])
@pytest.mark.parametrize("kind", QWEN)
def test_the_estimate_is_near_what_is_kept(kind, fused):
    """Bytes of the tensors that autograd saves, each storage once."""
    model, processor = random_model(kind)
    policy = Policy(model, processor, Sampling(max_new_tokens=20))
    inputs = policy.prepare(prompts_of_mixed_size(3))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(run):
        storages, alive = {}, []

        def pack(tensor):
            storage = tensor.untyped_storage()
            alive.append(tensor)
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = run()
        return sum(storages.values()), result

    if not fused:  # a hook stands for all that is not known
        model.model.language_model.register_forward_hook(lambda *_: None)
    assert policy.engine.fuses_layers == fused
    size = activation_size(model, inputs, policy.types, vision_learns=True, fused=fused)
    prompt_bytes, prefix = kept(lambda: policy.encode(inputs))
    assert 0.75 < size.prompt_bytes / prompt_bytes < 1.25
    completions = policy.sample(prefix, 4, Draws(0))
    token_bytes, _ = kept(lambda: policy.engine.score(prefix.leaves(), Rows.of(completions, range(12))))
    estimated = size.bytes_per_token + size.logits_per_token / 2  # the other half is their gradient
    assert 0.75 < estimated / (token_bytes / int(completions.mask.sum())) < 1.5


def test_verify_is_silent_where_sharing_is_exact():
    for kind in SHARED:
        policy = Policy(*random_model(kind))
        verify(policy, policy.prepare(prompts_of_mixed_size(3)))
        assert policy.shares_prefix
        assert not gradients(policy)


@pytest.mark.parametrize("wrong", ["values", "gradients", "error"])
def test_verify_falls_back_and_says_why(monkeypatch, wrong):
    policy = Policy(*random_model("qwen2_vl"))
    score = policy.engine.__class__.score

    def broken(self, prefix, rows):
        if wrong == "error":
            raise RuntimeError("no such kernel")
        right = score(self, prefix, rows)
        return right * 1.2 if wrong == "values" else right.detach() + 0 * right + 2 * (right - right.detach())

    monkeypatch.setattr(policy.engine.__class__, "score", broken)
    says = {"values": "log-probabilities scored", "gradients": "gradients differ", "error": "no such kernel"}[wrong]
    with pytest.warns(SharedPrefixWarning, match=f"qwen2_vl.*{says}.*right but slower"):
        verify(policy, policy.prepare(prompts_of_mixed_size(3)))
    assert not policy.shares_prefix
    assert policy.fallback_reason is not None
    assert says in policy.fallback_reason
    completions = policy.sample(policy.encode(prompts_of_mixed_size(2)), 2)
    torch.testing.assert_close(
        alone_logprobs(policy, prompts_of_mixed_size(2), completions).detach(),
        completions.logprobs, atol=1e-5, rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtypes", "autocast", "tolerance"),
    [
        ([torch.float32], None, 1e-3),
        ([torch.float32], torch.bfloat16, 0.1),
        ([torch.float32, torch.bfloat16], None, 0.1),  # an adapter on a bfloat16 base
        ([torch.int8, torch.float32, torch.bfloat16], None, 0.1),  # and on a quantised one
        ([torch.float16], None, 0.05),
    ],
    ids=str,
)
def test_rounding_is_that_of_the_coarsest_type(dtypes, autocast, tolerance):
    assert agreement.tolerance_of(set(dtypes), autocast) == tolerance


def test_verify_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(agreement, "_difference", lambda *_: "never asked")
    policy = Policy(*random_model("qwen2_vl"), engine=EngineConfig(self_check=False))
    verify(policy, policy.prepare(prompts_of_mixed_size(2)))
    assert policy.shares_prefix


def test_a_model_with_sliding_windows_takes_the_repeated_path():
    model, processor = random_model("qwen2_vl")
    model.config.text_config.layer_types = ["full_attention", "sliding_attention"]
    assert not Policy(model, processor).shares_prefix
