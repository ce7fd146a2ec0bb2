import math
import statistics

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from visual_rft.config.objective import ADVANTAGES as NAMES
from visual_rft.config.objective import ObjectiveConfig
from visual_rft.errors import ConfigError
from visual_rft.policy.engine.prefix import Completions
from visual_rft.training.advantages import ADVANTAGES, Rewards, group_advantages
from visual_rft.training.objective import advantages_of


def test_by_hand():
    # mean 2, unbiased std of (1, 2, 3) is 1; of (0, 0, 3) it is sqrt(3)
    got = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]]))
    expected = torch.tensor([[-1, 0, 1], [-1 / math.sqrt(3), -1 / math.sqrt(3), 2 / math.sqrt(3)]])
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 3.0])
@pytest.mark.parametrize("group", [2, 3, 7, 8])
def test_equal_rewards_give_exactly_zero(value, group):
    assert (group_advantages(torch.full((3, group), value)) == 0).all()


def test_groups_do_not_mix():
    alone = group_advantages(torch.tensor([[0.0, 1.0]]))
    together = group_advantages(torch.tensor([[0.0, 1.0], [50.0, 70.0]]))
    torch.testing.assert_close(together[:1], alone)


@pytest.mark.parametrize("rewards", [torch.zeros(4, 1), torch.zeros(4), torch.tensor([[1.0, float("nan")]])])
def test_unusable_rewards_are_refused(rewards):
    with pytest.raises(ValueError, match=r"G >= 2|not finite"):
        group_advantages(rewards)


def rewards(totals, parts=None, weights=(1.0,)) -> Rewards:
    return Rewards(torch.tensor(totals), None if parts is None else torch.tensor(parts), weights)


def test_batch_and_none_by_hand():
    totals = [[0.0, 1.0, 2.0], [0.4, 0.5, 0.6]]
    spread = statistics.stdev([0.0, 1.0, 2.0, 0.4, 0.5, 0.6])
    centred = torch.tensor([[-1.0, 0.0, 1.0], [-0.1, 0.0, 0.1]])
    torch.testing.assert_close(ADVANTAGES["none"](rewards(totals)), centred)
    torch.testing.assert_close(ADVANTAGES["batch"](rewards(totals)), centred / (spread + 1e-4))


def test_leave_one_out_is_the_reward_beside_the_mean_of_the_others():
    generator = np.random.default_rng(0)
    totals = generator.random((3, 5)).astype(np.float32)
    others = (totals.sum(1, keepdims=True) - totals) / 4
    torch.testing.assert_close(ADVANTAGES["rloo"](Rewards(torch.from_numpy(totals))), torch.from_numpy(totals - others))


def test_gdpo_against_its_formula_in_numpy():
    """Each reward normalised in its group, then the weighted sum over the batch; one does not apply everywhere."""
    generator = np.random.default_rng(1)
    parts = generator.random((4, 6, 3)).astype(np.float32)
    parts[1, 2, 1] = np.nan
    weights = (2.0, 0.5, 1.0)
    mean, spread = np.nanmean(parts, 1, keepdims=True), np.nanstd(parts, 1, keepdims=True, ddof=1)
    summed = np.nansum((parts - mean) / (spread + 1e-4) * np.array(weights, dtype=np.float32), -1)
    expected = (summed - summed.mean()) / (summed.std(ddof=1) + 1e-4)
    got = ADVANTAGES["gdpo"](Rewards(torch.rand(4, 6), torch.from_numpy(parts), weights))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_ranks_by_hand():
    """IoU 0.1, 0.9, 0.5 has ranks -1, 1, 0; the format reward 1, 1, 0 has 0.5, 0.5, -1; weights 3 and 1."""
    parts = [[[0.1, 1.0], [0.9, 1.0], [0.5, 0.0]]]
    got = ADVANTAGES["rank"](rewards([[0.0, 1.0, 2.0]], parts, (3.0, 1.0)))
    torch.testing.assert_close(got, torch.tensor([[(-3 + 0.5) / 4, (3 + 0.5) / 4, -1 / 4]]))


def test_ranks_do_not_care_how_a_reward_is_scaled():
    parts = torch.rand(2, 5, 1)
    one = ADVANTAGES["rank"](Rewards(parts[..., 0], parts))
    torch.testing.assert_close(ADVANTAGES["rank"](Rewards(parts[..., 0], parts.exp() * 100)), one)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_group_without_a_difference_teaches_nothing(name):
    parts = torch.rand(3, 4, 2)
    parts[1] = torch.tensor([0.3, 0.7])
    got = ADVANTAGES[name](Rewards(parts.sum(-1), parts, (1.0, 1.0)))
    assert (got[1] == 0).all()
    assert (got[0] != 0).any()


def test_the_divergence_in_the_reward_is_taken_off_before_groups_are_compared():
    """Sums over the tokens of log p - log p_ref: 0.3 and 0.1; rewards 1 and 1, beta 0.5."""
    logprobs = torch.tensor([[[-1.0, -1.0], [-1.0, -9.0]]])
    reference = torch.tensor([[[-1.1, -1.2], [-1.1, -5.0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    completions = Completions(torch.zeros(1, 2, 2), mask, logprobs, [], mask[..., 0])
    config = ObjectiveConfig(beta=0.5, kl_in="reward", advantages="none")
    got = advantages_of(rewards([[1.0, 1.0]]), config, completions, reference)
    torch.testing.assert_close(got, torch.tensor([[-0.05, 0.05]]))
    cut = config.model_copy(update={"advantage_limit": 0.02})
    torch.testing.assert_close(
        advantages_of(rewards([[1.0, 1.0]]), cut, completions, reference), torch.tensor([[-0.02, 0.02]])
    )


def test_ranks_in_the_history_by_hand():
    """Among 0.2, 0.2, 0.9 before and 0.5, 0.9 now, 0.5 has two below it and half of itself, 0.9 three and half of two:
    2.5 / 5 and 4 / 5. The second reward applies to one completion alone, so there is nothing to compare."""
    nan = math.nan
    one = Rewards(torch.zeros(1, 2), torch.tensor([[[0.5, 1.0], [0.9, nan]]]), (3.0, 1.0),
                  torch.tensor([[0.2, 1.0], [0.2, nan], [0.9, 0.0]]))  # fmt: skip
    torch.testing.assert_close(ADVANTAGES["history_rank"](one), torch.tensor([[-0.3, 0.3]]) * 3 / 4)
    # without a history, the present alone
    alone = Rewards(torch.tensor([[0.0, 1.0], [2.0, 2.0]]))
    torch.testing.assert_close(ADVANTAGES["history_rank"](alone), torch.tensor([[-0.25, 0.25], [0.0, 0.0]]))


def test_ranks_in_the_history_tell_a_large_step_from_a_small_one():
    earlier = torch.linspace(0, 1, 101)[:, None]
    parts = torch.tensor([[[0.1], [0.9]], [[0.89], [0.9]]])
    got = ADVANTAGES["history_rank"](Rewards(parts[..., 0], parts, (1.0,), earlier))
    assert got[0, 1] > 10 * got[1, 1] > 0
    in_group = ADVANTAGES["rank"](Rewards(parts[..., 0], parts))
    assert in_group[0, 1] == in_group[1, 1]


def test_advantages_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def best(rewards):\n    return (rewards.total == rewards.total.max(1, keepdim=True).values).float()\n"
        "def wrong(rewards):\n    return rewards.total / 0\n"
    )
    mask = torch.ones(1, 3, 2, dtype=torch.bool)
    completions = Completions(torch.zeros(1, 3, 2), mask, torch.zeros(1, 3, 2), [], mask[..., 0])
    one = rewards([[0.0, 2.0, 1.0]])
    config = ObjectiveConfig(advantages=f"{tmp_path / 'mine.py'}:best", beta=0.0)
    assert config.compares_parts
    assert advantages_of(one, config, completions, None).tolist() == [[0.0, 1.0, 0.0]]
    wrong = config.model_copy(update={"advantages": f"{tmp_path / 'mine.py'}:wrong"})
    with pytest.raises(ConfigError, match=r"mine\.py:wrong gave \[1, 3\]; .* of finite numbers"):
        advantages_of(one, wrong, completions, None)
    with pytest.raises(ValidationError, match="unknown advantages 'gropu'; choose from group, batch"):
        ObjectiveConfig(advantages="gropu")


def test_every_name_of_the_config_is_there():
    assert set(NAMES) == set(ADVANTAGES)
