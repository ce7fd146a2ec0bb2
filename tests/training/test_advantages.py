import math

import pytest
import torch

from visual_rft.training.advantages import group_advantages


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
