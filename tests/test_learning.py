"""utils/learning.py: definitions, the library, and what must hold."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import learning

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
