"""Decoder layers whose weights and gradients are whole only while they compute: the same numbers as one process."""

from __future__ import annotations

import pytest
import torch
from support.runs import metrics
from support.shared_runs import assert_alike, gradients, layer_gradients, resumed_is_bit_equal, run, run_settings, texts
from torch import nn

from visual_rft.config.config import parse_config
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError, ModelError
from visual_rft.inspection.fitting import gathering_chosen, least_footprint
from visual_rft.parallel.gathering import ByLayer
from visual_rft.parallel.shards import Shards
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import load_task

LAYER = {"strategy": "fsdp", "gather": "layer"}
AWAY = {**LAYER, "offload": "optimizer"}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Within 1e-5 of their length; what has no gradient in one process has zeros here."""
    difference = sum(float((found[name] - x).double().square().sum()) for name, x in expected.items())
    assert difference**0.5 < 1e-5 * sum(float(x.double().square().sum()) for x in expected.values()) ** 0.5
    assert not any(found[name].any() for name in found.keys() - expected.keys())


@pytest.mark.parametrize("gather", [True, False], ids=["layer", "step, reduced per micro-batch"])
@pytest.mark.parametrize(
    ("kind", "lora", "objective", "flat_first"),
    [
        ("qwen3_vl", False, {}, False),
        ("qwen2_5_vl", True, {}, True),
        ("internvl", False, {"loss": "dapo"}, True),
        ("gemma3", False, {}, False),
    ],
)
def test_gradients_are_those_of_one_process(two, kind, lora, objective, flat_first, gather):
    arguments = (kind, lora, ObjectiveConfig(beta=0.0, **objective), flat_first)
    expected, _ = gradients(*arguments)
    length = sum(float(x.double().square().sum()) for x in expected.values()) ** 0.5
    for found, norm, _ in two.ask(layer_gradients, *arguments, gather):
        assert_close(found, expected)
        assert norm == pytest.approx(length, rel=1e-5)


def test_one_layer_is_there_at_a_time(two):
    for _, _, share in two.ask(layer_gradients, "qwen2_vl", False, ObjectiveConfig(beta=0.0)):
        assert share == pytest.approx(1 / 2)  # of two


@pytest.mark.parametrize("kind", ["qwen2_vl", "paligemma"])
def test_answers_of_one_token_need_no_layer_and_nobody_waits(two, kind):
    arguments = (kind, False, ObjectiveConfig(beta=0.0))
    expected, _ = gradients(*arguments, False, True)
    for found, _, _ in two.ask(layer_gradients, *arguments, False, True, None, True):
        assert_close(found, expected)


def test_who_has_nothing_to_learn_joins(two):
    arguments = ("qwen2_vl", False, ObjectiveConfig(beta=0.0), True)
    expected, _ = gradients(*arguments)
    for found, _, _ in two.ask(layer_gradients, *arguments, True, None, False, True):
        assert_close(found, expected)


@pytest.mark.parametrize(
    ("parallel", "sections"),
    [
        (LAYER, {"run": {"steps": 20, "prompts_per_batch": 2}}),
        (AWAY, {"objective": {"beta": 0.1, "updates_per_rollout": 2}, "run": {"steps": 2}}),
        (
            {**LAYER, "reduce": "step"},
            {"model": {"lora": {"rank": 4}}, "objective": {"beta": 0.1, "sft_weight": 0.1, "sft_prompts": "unsolved"}},
        ),
        ({"strategy": "fsdp", "reduce": "micro_batch"}, {"run": {"accumulation": 2, "steps": 2}}),
    ],
    ids=["full, 20 steps", "a reference in shards", "lora beside gold answers", "reduced per micro-batch"],
)
def test_a_run_by_layer_is_the_run_of_one(two, model_folders, tmp_path, parallel, sections):
    base = model_folders["qwen2_vl"]
    expected = run(run_settings(tmp_path / "one", base, **sections))
    two.ask(run, run_settings(tmp_path / "two", base, parallel=parallel, **sections))
    assert_alike(metrics(tmp_path / "two"), expected)
    assert texts(tmp_path / "two") == texts(tmp_path / "one")


def test_a_supervised_run_by_layer_is_the_run_of_one(two, model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    expected = run(run_settings(tmp_path / "one", base), True)
    two.ask(run, run_settings(tmp_path / "two", base, parallel=LAYER), True)
    for row, other in zip(metrics(tmp_path / "two"), expected, strict=True):
        assert [row[n] for n in ("loss", "grad_norm")] == pytest.approx([other[n] for n in ("loss", "grad_norm")], 1e-4)


def test_one_process_takes_the_same_steps_by_layer(model_folders, tmp_path):
    """Gradients of micro-batches add up in float32 there, and in bfloat16 where they are kept."""
    base, same = model_folders["qwen2_vl"], {"model": {"dtype": "bfloat16"}}
    whole, layers = (
        run(run_settings(tmp_path / name, base, parallel=parallel, **same))
        for name, parallel in (("whole", {"strategy": "fsdp"}), ("layers", AWAY))
    )
    assert_alike(layers, whole, 1e-2)
    assert [row["reward"] for row in layers] == [row["reward"] for row in whole]


def test_a_resumed_run_is_bit_equal_and_goes_on_otherwise(two, model_folders, tmp_path):
    base = model_folders["qwen2_vl"]
    values = resumed_is_bit_equal(two, tmp_path, base, AWAY)
    expected = run(run_settings(tmp_path / "one", base, run={"steps": 4}))
    for steps, parallel, alone in ((3, AWAY, True), (4, {"strategy": "fsdp"}, False)):
        values = {**values, "run": {**values["run"], "steps": steps}, "parallel": parallel}
        run(values, False, True) if alone else two.ask(run, values, False, True)
    assert_alike(metrics(tmp_path / "again"), expected, 1e-3)


def test_weights_that_autograd_has_saved_come_back_as_they_were():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    model(x).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    by_layer = ByLayer([model[0], model[2]], Shards(list(model.named_parameters())), gather=True, reduce=False)
    with by_layer.update(whole_after=False):
        with by_layer.forward():
            loss = model(x).square().sum()
        assert all(p.untyped_storage().nbytes() == 0 for p in model.parameters())
        with by_layer.backward():
            loss.backward()
        assert all(p.untyped_storage().nbytes() == 0 for p in model.parameters())
    assert all(torch.equal(p.grad, x) for p, x in zip(model.parameters(), expected, strict=True))
    with by_layer.update():
        pass
    model(x)  # plain again
    with (
        pytest.raises(ModelError, match="a pass ended after 1 of 2 decoder layers"),
        by_layer.update(),
        by_layer.forward(),
    ):
        model[0](x)


@pytest.mark.parametrize("field", [{"gather": "layer"}, {"reduce": "micro_batch"}, {"offload": "optimizer"}])
def test_what_is_of_shards_wants_them(field):
    with pytest.raises(ConfigError, match=r"parallel.*is of shards; set strategy fsdp too"):
        parse_config({"parallel": field}, "run.yaml")


def test_quantised_weights_are_not_cut():
    model = {"quantization": "nf4", "lora": {}}
    with pytest.raises(ConfigError, match=r"gather layer cuts plain weights, and quantization 'nf4'"):
        parse_config({"model": model, "parallel": LAYER}, "run.yaml")


def test_layers_are_gathered_one_by_one_where_only_that_fits(model_folders):
    base, sample = model_folders["qwen2_vl"], Shapes(4)[0].ask("cat")

    def config(card: float | None, **parallel):
        values = {
            "model": {"path": str(base), "dtype": "bfloat16"}, "engine": {"card_gib": card}, "parallel": parallel,
            "rollout": {"group_size": 2, "max_new_tokens": 2, "prompts_at_once": 1}, "objective": {"beta": 0.0},
        }  # fmt: skip
        return parse_config(values, "test")

    def least(config):
        policy = load_policy(config.model, config.rollout, engine=config.engine, empty=True)
        inputs = policy.prepare([Prompt.of(load_task("detection"), sample, policy.space)])
        return least_footprint(config, policy, inputs).total / 2**30

    def chosen(card: float | None, **parallel):
        task = load_task("detection")
        return gathering_chosen(config(card, **parallel), task, [sample], supervised=False).parallel.gather

    away = {"strategy": "fsdp", "offload": "optimizer"}
    step, layer = (least(config(None, **away, gather=gather)) for gather in ("step", "layer"))
    assert layer < step
    assert chosen(1.1 * step / 0.97, **away) == "step"
    assert chosen((step + layer) / 2 / 0.97, **away) == "layer"
    assert chosen(None, **away) == "auto"
    assert chosen(0.5 * layer, **away, gather="step") == "step"
    assert chosen(0.5 * layer) == "auto"
    # Alone and on one device, float32 gradients in shards take more than those in bfloat16 that they replace.
    assert chosen(0.5 * layer, strategy="fsdp") == "step"
