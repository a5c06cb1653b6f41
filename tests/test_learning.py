"""utils/learning.py and utils/toys.py: definitions, the library, and what must hold."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import learning, toys

scores = st.lists(st.floats(-30, 30, width=64), min_size=2, max_size=6)
quick = settings(max_examples=80, deadline=None)


@quick
@given(scores, st.floats(-1000, 1000))
def test_softmax_by_definition_and_under_a_shift(values, shift):
    weights = [math.exp(v) for v in values]
    expected = torch.tensor(weights, dtype=torch.double) / math.fsum(weights)
    z = torch.tensor(values, dtype=torch.double)
    torch.testing.assert_close(learning.softmax(z), expected, rtol=1e-9, atol=1e-12)
    shifted = learning.softmax(z + shift)
    torch.testing.assert_close(shifted, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_cross_entropy_equals_torch_in_value_and_gradient(scale):
    z0 = torch.tensor(np.random.default_rng(0).normal(size=(6, 9))) * scale
    y = torch.tensor([0, 8, 3, 3, 1, 5])
    results = []
    for loss in (learning.cross_entropy, torch.nn.functional.cross_entropy):
        z = z0.clone().requires_grad_()
        value = loss(z, y)
        value.backward()
        results.append((value.detach(), z.grad))
    torch.testing.assert_close(*results)
    assert torch.autograd.gradcheck(
        lambda z: learning.cross_entropy(z, y), z0.clone().requires_grad_()
    )


@pytest.mark.parametrize("y", [[0, 3], [-1, 0]])
def test_classes_outside_the_scores_are_named(y):
    with pytest.raises(ValueError, match="among 3 scores"):
        learning.cross_entropy(torch.zeros(2, 3), torch.tensor(y))


def formula(a, b, exp, log):
    c = a * b + exp(a)
    return log(c * c + b * b + exp(b)) + c * a


@quick
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_number_differentiates_as_torch_does(a, b):
    ours = learning.Number(a), learning.Number(b)
    result = formula(*ours, learning.Number.exp, learning.Number.log)
    result.backward()
    theirs = [torch.tensor(v, dtype=torch.double, requires_grad=True) for v in (a, b)]
    expected = formula(*theirs, torch.exp, torch.log)
    expected.backward()
    assert math.isclose(result.value, expected.item(), rel_tol=1e-12)
    for number, tensor in zip(ours, theirs, strict=True):
        assert math.isclose(number.grad, tensor.grad.item(), rel_tol=1e-9, abs_tol=1e-9)


def test_number_can_be_asked_twice():
    x = learning.Number(3.0)
    result = x * x + x
    result.backward()
    result.backward()
    assert x.grad == 7.0


def test_batches_give_every_index_once():
    pieces = list(learning.batches(10, 4, np.random.default_rng(0)))
    assert [len(p) for p in pieces] == [4, 4, 2]
    assert sorted(itertools.chain(*(p.tolist() for p in pieces))) == list(range(10))
    again = list(learning.batches(10, 4, np.random.default_rng(1)))
    assert not torch.equal(torch.cat(pieces), torch.cat(again))


def test_accuracy_counts():
    y = torch.tensor([0, 1, 2, 0])
    assert learning.accuracy(torch.nn.Identity(), torch.eye(4, 3), y) == 1.0
    assert learning.accuracy(torch.nn.Identity(), torch.eye(4, 3), (y + 1) % 3) == 0.0


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
