"""utils/toys.py: no look ahead, silent branches, the task, seeds."""

import math

import numpy as np
import pytest
import torch

from utils import toys


@pytest.mark.parametrize("pre", [False, True])
def test_the_small_model_cannot_look_ahead(pre):
    torch.manual_seed(0)
    model = toys.SmallLM(3, pre).double()
    ids = toys.copied(np.random.default_rng(0), 2)
    changed = ids.clone()
    changed[:, 10] = (ids[:, 10] + 1) % toys.SYMBOLS
    gap = (model(ids) - model(changed)).abs().amax((0, 2))
    assert gap[:10].max() == 0 and gap[10:].max() > 1e-6


def test_pre_norm_is_the_identity_when_its_branches_are_silent():
    x = torch.randn(2, 5, 8)
    for pre in (True, False):
        layer = toys.Layer(8, pre)
        for silenced in (layer.out, layer.down):
            torch.nn.init.zeros_(silenced.weight)
            torch.nn.init.zeros_(silenced.bias)
        assert torch.equal(layer(x), x) == pre


def test_the_task_is_to_copy():
    ids = toys.copied(np.random.default_rng(0), 5)
    assert ids.shape == (5, 16) and torch.equal(ids[:, :8], ids[:, 8:])

    class Oracle(torch.nn.Module):
        def forward(self, ids):
            ahead = torch.cat([ids[:, :1], ids[:, 1:], ids[:, :1]], 1)[:, 1:]
            return 50.0 * torch.eye(toys.SYMBOLS)[ahead]

    assert toys.copy_loss(Oracle(), ids) < 1e-6
    even = toys.copy_loss(lambda ids: torch.zeros(*ids.shape, toys.SYMBOLS), ids)
    assert math.isclose(even.item(), math.log(toys.SYMBOLS), rel_tol=1e-6)


def test_learning_to_copy_is_seeded_and_warms_up():
    first = toys.learn_to_copy(True, 0, seed=1, depth=1, steps=3)
    assert first == toys.learn_to_copy(True, 0, seed=1, depth=1, steps=3)
    slow = toys.learn_to_copy(True, 3, seed=1, depth=1, steps=3)
    assert slow[0] == first[0] and slow[1:] != first[1:]
