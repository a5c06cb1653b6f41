"""utils/norms.py: an oracle that shares no code with it, the library, properties."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

from utils import norms

B, L, D = 3, 5, 8


def block(seed: int = 0, shape=(B, L, D), scale: float = 1.0, mean: float = 0.0):
    return torch.tensor(np.random.default_rng(seed).normal(mean, scale, shape))


def oracle(x, crowd, eps):
    """Standardise cell by cell in plain Python; crowd(b, t, f) lists what is pooled."""
    result = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        cells = [float(x[other]) for other in crowd(*place)]
        mean = math.fsum(cells) / len(cells)
        variance = math.fsum((c - mean) ** 2 for c in cells) / len(cells)
        result[place] = (float(x[place]) - mean) / math.sqrt(variance + eps)
    return torch.tensor(result)


CROWDS = {
    "layer_norm": lambda b, t, f: [(b, t, g) for g in range(D)],
    "instance_norm": lambda b, t, f: [(b, u, f) for u in range(L)],
    "batch_norm": lambda b, t, f: [(c, u, f) for c in range(B) for u in range(L)],
}


@pytest.mark.parametrize("name", CROWDS)
def test_against_a_loop_over_cells(name):
    x = block()
    ours = getattr(norms, name)(x, eps=0.3)
    torch.testing.assert_close(ours, oracle(x, CROWDS[name], 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_group_norm_against_a_loop_over_cells(groups):
    x, size = block(), D // groups

    def crowd(b, t, f):
        first = f // size * size
        return [(b, u, g) for u in range(L) for g in range(first, first + size)]

    ours = norms.group_norm(x, groups, eps=0.3)
    torch.testing.assert_close(ours, oracle(x, crowd, 0.3), rtol=0, atol=1e-12)


def features_first(function):
    return lambda x: function(x.transpose(1, 2)).transpose(1, 2)


WEIGHT, BIAS = block(1, (D,)), block(2, (D,))
PAIRS = {
    "layer": (
        lambda x: norms.layer_norm(x, WEIGHT, BIAS),
        lambda x: F.layer_norm(x, (D,), WEIGHT, BIAS),
    ),
    "rms": (
        lambda x: norms.rms_norm(x, WEIGHT),
        lambda x: F.rms_norm(x, (D,), WEIGHT, eps=1e-6),
    ),
    "instance": (
        lambda x: norms.instance_norm(x, WEIGHT, BIAS),
        features_first(lambda x: F.instance_norm(x, weight=WEIGHT, bias=BIAS)),
    ),
    "group": (
        lambda x: norms.group_norm(x, 4, WEIGHT, BIAS),
        features_first(lambda x: F.group_norm(x, 4, WEIGHT, BIAS)),
    ),
    "batch": (
        lambda x: norms.batch_norm(x, WEIGHT, BIAS),
        features_first(
            lambda x: F.batch_norm(x, None, None, WEIGHT, BIAS, training=True)
        ),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_values_and_gradients_equal_torch(name, scale):
    upstream = block(3)
    results = []
    for function in PAIRS[name]:
        x = block(4, scale=scale).requires_grad_()
        y = function(x)
        y.backward(upstream)
        results.append((y.detach(), x.grad * scale))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_gradcheck(name):
    x = block(5, (2, 3, D)).requires_grad_()
    assert torch.autograd.gradcheck(PAIRS[name][0], x)


@pytest.mark.parametrize("name", PAIRS)
def test_digits_survive_a_mean_of_ten_thousand(name):
    """float32 at mean 1e4: within the input's own rounding of the float64 result."""
    exact = block(6, mean=1e4).float()
    ours = PAIRS[name][0](exact)
    torch.testing.assert_close(
        ours.double(), PAIRS[name][0](exact.double()), rtol=0, atol=5e-3
    )
    assert name == "rms" or ours.std() > 0.3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["layer", "rms"])
def test_sixteen_bits_do_not_overflow(name, dtype):
    x = (300 + block(7)).to(dtype)
    ours = getattr(norms, f"{name}_norm")(x)
    exact = getattr(norms, f"{name}_norm")(x.double())
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), exact, rtol=1e-2, atol=1e-2)


numbers = st.floats(-100, 100, allow_nan=False, width=64)
vectors = st.lists(numbers, min_size=3, max_size=12).filter(lambda v: np.std(v) > 1e-3)
quick = settings(max_examples=60, deadline=None)


@quick
@given(vectors, st.floats(0.1, 50), st.floats(-50, 50))
def test_layer_norm_sees_neither_shift_nor_stretch(values, stretch, shift):
    x = torch.tensor(values, dtype=torch.double)
    moved = norms.layer_norm(stretch * x + shift, eps=0)
    torch.testing.assert_close(moved, norms.layer_norm(x, eps=0), rtol=1e-6, atol=1e-6)


@quick
@given(vectors)
def test_layer_norm_lies_on_the_sphere_and_the_plane(values):
    y = norms.layer_norm(torch.tensor(values, dtype=torch.double), eps=0)
    assert abs(y.sum().item()) < 1e-6
    assert abs(y.square().sum().item() - len(values)) < 1e-6


@quick
@given(vectors, st.floats(0.1, 50))
def test_rms_norm_sees_no_stretch_and_is_layer_norm_of_centred(values, stretch):
    x = torch.tensor(values, dtype=torch.double)
    y = norms.rms_norm(x, eps=0)
    torch.testing.assert_close(norms.rms_norm(stretch * x, eps=0), y)
    centred = norms.rms_norm(x - x.mean(), eps=0)
    torch.testing.assert_close(centred, norms.layer_norm(x, eps=0))


def test_batch_norm_equals_torch_through_training_and_checkpoint():
    ours, theirs = norms.BatchNorm(D).double(), nn.BatchNorm1d(D).double()
    for step in range(5):
        rows = block(step, (7, D), scale=2, mean=1)
        torch.testing.assert_close(ours(rows), theirs(rows))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    rows = block(9, (4, D))
    torch.testing.assert_close(ours.eval()(rows), theirs.eval()(rows))
    torch.testing.assert_close(ours(rows[:1]), theirs(rows[:1]))


@quick
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_masked_batch_norm_does_not_hear_pads(seed, extra):
    x, lengths = block(seed), np.random.default_rng(seed).integers(1, L + 1, B)
    mask = torch.arange(L) < torch.tensor(lengths)[:, None]
    if mask.sum() < 2:
        return
    rows = x[mask]
    expected = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norms.batch_norm(x, mask=mask)[mask], expected)
    longer = torch.cat([x, block(1, (B, extra, D), scale=9)], 1)
    wider = torch.cat([mask, torch.zeros(B, extra, dtype=torch.bool)], 1)
    again = norms.batch_norm(longer, mask=wider)
    torch.testing.assert_close(again[wider], expected)
    layers = norms.BatchNorm(D).double(), norms.BatchNorm(D).double()
    layers[0](x, mask), layers[1](longer, wider)
    torch.testing.assert_close(layers[0].running_var, layers[1].running_var)


@pytest.mark.parametrize("method", ["zca", "pca"])
def test_whitening_decorrelates(method):
    mix = block(1, (4, 4))
    x = block(2, (300, 4), mean=3) @ mix
    white = norms.whiten(x, method)
    identity = torch.eye(4, dtype=torch.double)
    torch.testing.assert_close(torch.cov(white.T, correction=0), identity)
    torch.testing.assert_close(white.mean(0), torch.zeros(4).double())


def test_zca_stays_closest_and_pca_follows_the_axes():
    x = block(3, (200, 4)) @ block(4, (4, 4))
    centred = x - x.mean(0)
    distance = {m: (norms.whiten(x, m) - centred).norm() for m in ("zca", "pca")}
    assert distance["zca"] < distance["pca"]
    from sklearn.decomposition import PCA

    theirs = PCA(whiten=True).fit_transform(x.numpy()) * math.sqrt(200 / 199)
    ours = norms.whiten(x, "pca").numpy()[:, ::-1]  # smallest axis first, there last
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norms.group_norm(block(), 3), "3 groups do not divide D = 8"),
        (lambda: norms.batch_norm(block(0, (1, 1, D))), r"1 token\(s\)"),
        (
            lambda: norms.batch_norm(block(), mask=torch.zeros(B, L)),
            r"0 token\(s\)",
        ),
        (lambda: norms.whiten(block(0, (9, 4)), "svd"), "'svd' is neither"),
        (lambda: norms.whiten(block(0, (4, 4))), "4 rows cannot whiten 4"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
