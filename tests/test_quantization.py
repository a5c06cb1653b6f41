"""utils/quantization.py: all integers, torch, ONNX, onnxruntime, bitsandbytes."""

import itertools
import math
import warnings
from contextlib import contextmanager

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from utils import quantization as Q

KINDS = {np.int8: (TensorProto.INT8, -128, 127), np.uint8: (TensorProto.UINT8, 0, 255)}
GRIDS = [(0.1, 0), (0.1, -3), (0.0625, 3), (0.3, 100), (1.7, -128), (1e-3, 127)]


@contextmanager
def quietly():
    """torch.ao warns that it will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def numbers(*shape, seed=0, spread=1.0, centre=0.0):
    drawn = np.random.default_rng(seed).normal(centre, spread, shape)
    return torch.tensor(drawn, dtype=torch.float32)


def grid(scale, zero, low=-128, high=127):
    return Q.Grid(torch.tensor(scale), torch.tensor(zero), low, high)


def crossing(scale) -> torch.Tensor:
    """Steps, halves, what lies beside a half, and far outside, times `scale`."""
    halves = torch.arange(-900, 901) / 2
    beside = torch.tensor([-0.01, 0.0, 0.01])
    return torch.cat(
        [(halves[:, None] + beside).flatten() * scale, torch.tensor([1e5])]
    )


def off_the_halves(scale, *shape, seed=0, reach=100):
    """Numbers that every way of rounding agrees on: 0.4 steps from an integer."""
    chooser = np.random.default_rng(seed)
    whole = chooser.integers(-reach, reach + 1, shape)
    return torch.tensor((whole + chooser.uniform(-0.4, 0.4, shape)) * scale).float()


def onnx_model(nodes, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, None) for n, kind in inputs],
        [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs],
    )
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def quantise_and_back(kind, axis=1):
    """An ONNX model: QuantizeLinear, then DequantizeLinear."""
    return onnx_model(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis),
        ],
        [("x", TensorProto.FLOAT), ("s", TensorProto.FLOAT), ("z", kind)],
        [("q", kind), ("y", TensorProto.FLOAT)],
    )


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


RUNNERS = {"reference": ReferenceEvaluator, "onnxruntime": session}


# One number and its integer


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "zero"), GRIDS)
def test_bit_for_bit_as_onnx(scale, zero, kind, runner):
    """Rounding of halves, saturation and the way back, per tensor."""
    code, low, high = KINDS[kind]
    zero = zero + low + 128
    x = crossing(scale)
    feed = {"x": x.numpy(), "s": np.array(scale, np.float32), "z": np.array(zero, kind)}
    q, y = RUNNERS[runner](quantise_and_back(code)).run(None, feed)
    ours = Q.quantise(x, grid(scale, zero, low, high))
    assert ours.numpy().dtype == q.dtype and (ours.numpy() == q).all()
    assert (Q.dequantise(ours, grid(scale, zero, low, high)).numpy() == y).all()


@pytest.mark.parametrize("runner", RUNNERS)
def test_bit_for_bit_as_onnx_per_channel(runner):
    x = numbers(5, 40, spread=3)
    given = Q.grid_of(*Q.minmax(x, 0))
    feed = {
        "x": x.numpy(),
        "s": given.scale[:, 0].numpy(),
        "z": given.zero_point[:, 0].numpy().astype(np.int8),
    }
    q, y = RUNNERS[runner](quantise_and_back(TensorProto.INT8, 0)).run(None, feed)
    ours = Q.quantise(x, given)
    assert (ours.numpy() == q).all() and (Q.dequantise(ours, given).numpy() == y).all()


@pytest.mark.parametrize(("scale", "zero"), GRIDS)
def test_as_torch_and_where_its_rounding_differs(scale, zero):
    x = crossing(scale)[:-1]
    with quietly():
        theirs = torch.quantize_per_tensor(x, scale, zero, torch.qint8)
    ours = Q.quantise(x, grid(scale, zero))
    steps = x.double() / np.float32(scale).item()
    beside = ((steps - steps.floor()) - 0.5).abs() > 1e-4  # not on a half
    assert (ours == theirs.int_repr())[beside].all()
    assert (ours.int() - theirs.int_repr().int()).abs().max() <= 1
    # Their rule: times 1/scale, plus the zero-point, then round.
    rule = torch.round(x * (1 / torch.tensor(scale)) + zero).clamp(-128, 127)
    assert (rule == theirs.int_repr()).float().mean() > 0.99
    every = torch.arange(-128, 128, dtype=torch.int8)
    back = torch._make_per_tensor_quantized_tensor(every, scale, zero).dequantize()
    assert torch.equal(Q.dequantise(every, grid(scale, zero)), back)


def test_a_half_goes_to_the_even_integer_before_the_zero_point_is_added():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert Q.quantise(x, grid(1.0, 0)).tolist() == [-2, 0, 0, 2, 2]
    assert Q.quantise(x, grid(1.0, 1)).tolist() == [-1, 1, 1, 3, 3]
    theirs = torch.quantize_per_tensor(x, 1.0, 1, torch.qint8).int_repr()
    assert theirs.tolist() == [0, 0, 2, 2, 4]


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.integers(2, 8),
    st.booleans(),
)
def test_inside_its_range_a_number_moves_by_half_a_step_at_most(
    values, bits, symmetric
):
    x = torch.tensor(values)
    if x.abs().max() < 1e-30:
        x = torch.ones(1)
    made = Q.grid_of(*Q.minmax(x), bits=bits, symmetric=symmetric)
    moved = (Q.dequantise(Q.quantise(x, made), made) - x).double().abs()
    assert (moved <= made.scale * (0.5 + 1e-4)).all()
    zero = Q.dequantise(Q.quantise(torch.zeros(1), made), made)
    assert zero == 0  # 0 falls on an integer


@given(st.integers(2, 8), st.integers(-200, 200), st.floats(0.125, 1024, width=32))
def test_every_integer_comes_back_to_itself(bits, zero, scale):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    made = grid(scale, min(max(zero, low), high), low, high)
    every = torch.arange(low, high + 1)
    assert torch.equal(Q.quantise(Q.dequantise(every, made), made).long(), every)


def test_the_type_of_the_integers():
    kinds = [
        (-128, 127, "int8"),
        (0, 255, "uint8"),
        (-300, 300, "int16"),
        (0, 7, "int8"),
    ]
    for low, high, kind in kinds:
        assert Q.Grid(torch.ones(1), torch.zeros(1), low, high).dtype == getattr(
            torch, kind
        )
    assert Q.Grid(torch.ones(1), torch.zeros(1), 0, 70_000).dtype == torch.int32


# Grids


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0])
def test_grids_are_those_of_torchs_observers(symmetric, axis):
    from torch.ao.quantization import observer

    name = ("per_channel" if axis == 0 else "per_tensor") + "_"
    scheme = getattr(torch, name + ("symmetric" if symmetric else "affine"))
    kind = observer.PerChannelMinMaxObserver if axis == 0 else observer.MinMaxObserver
    for seed, centre in enumerate([0.0, 2.0, -9.0]):
        x = numbers(6, 50, seed=seed, centre=centre)
        theirs = kind(dtype=torch.qint8, qscheme=scheme)
        theirs(x)
        with quietly():
            scale, zero = theirs.calculate_qparams()
        ours = Q.grid_of(*Q.minmax(x, axis), symmetric=symmetric)
        assert torch.equal(ours.scale.flatten(), scale)
        assert torch.equal(ours.zero_point.flatten().long(), zero.long())


def test_the_asymmetric_grid_is_that_of_onnx_dynamic_quantize_linear():
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    outputs = [("q", 2), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8)]
    model = ReferenceEvaluator(onnx_model([node], [("x", TensorProto.FLOAT)], outputs))
    for seed, centre in enumerate([0.0, 1.0, -4.0, 30.0]):
        x = numbers(7, 9, seed=seed, centre=centre)
        q, s, z = model.run(None, {"x": x.numpy()})
        made = Q.grid_of(*Q.minmax(x))
        assert made.scale.item() == pytest.approx(float(s), rel=1e-6)
        assert made.zero_point.item() + 128 == z
        assert np.abs(Q.quantise(x, made).numpy().astype(int) + 128 - q).max() == 0


def test_a_narrow_grid_leaves_the_lowest_integer_out():
    made = Q.grid_of(-2.0, 1.0, symmetric=True, narrow=True)
    assert (made.low, made.high, made.scale.item()) == (
        -127,
        127,
        pytest.approx(2 / 127),
    )
    assert [end.item() for end in made.range()] == pytest.approx([-2, 2])
    full = Q.grid_of(-2.0, 1.0, symmetric=True)
    assert full.scale.item() == pytest.approx(2 / 127.5)


def test_a_range_without_width_and_ranges_that_are_none():
    made = Q.grid_of(0.0, 0.0)
    assert Q.dequantise(Q.quantise(torch.zeros(3), made), made).tolist() == [0, 0, 0]
    for low, high in [(1.0, -1.0), (math.nan, 1.0), (-math.inf, 0.0), (0.0, math.inf)]:
        with pytest.raises(ValueError, match="a range must be finite"):
            Q.grid_of(low, high)


# Observers


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), (0, -1), -1])
def test_minmax_and_percentiles_against_numpy(axis):
    x = numbers(4, 5, 101)
    kept = () if axis is None else np.atleast_1d(axis) % 3
    pooled = tuple(a for a in range(3) if a not in kept)
    low, high = Q.minmax(x, axis)
    assert np.array_equal(low, x.numpy().min(pooled, keepdims=True))
    assert np.array_equal(high, x.numpy().max(pooled, keepdims=True))
    low, high = Q.percentile(x, 0.9, axis)
    inside = ((x >= low) & (x <= high)).double().mean(pooled)
    count = math.prod(x.shape[a] for a in pooled)
    assert (inside - 0.9).abs().max() <= 2 / count
    assert Q.percentile(x, 1.0, axis)[0].equal(Q.minmax(x, axis)[0])


@pytest.mark.parametrize("share", [0, -0.5, 1.01])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match="share of"):
        Q.percentile(torch.ones(3), share)


@pytest.mark.parametrize("axis", [None, 0])
def test_least_squares_against_a_plain_search(axis):
    x = numbers(3, 400) ** 3  # long tails
    low, high = Q.least_squares(x, bits=4, symmetric=True, axis=axis)
    for row in range(3 if axis == 0 else 1):
        values = (x[row] if axis == 0 else x.flatten()).double().numpy()
        losses = []
        for step in range(60, 0, -1):
            scale = np.abs(values).max() * step / 60 / 7.5
            rounded = np.clip(np.round(values / scale), -8, 7) * scale
            losses.append(((rounded - values) ** 2).mean())
        best = (60 - int(np.argmin(losses))) / 60
        reach = torch.maximum(-low, high).flatten()[row].item()
        assert reach == pytest.approx(np.abs(values).max() * best, rel=1e-5)
    assert best < 0.9  # clipping pays


def test_signal_to_noise():
    x = torch.tensor([3.0, 4.0])
    assert Q.signal_to_noise(x, x * 0.9) == pytest.approx(20, abs=1e-4)
    assert Q.signal_to_noise(x, x) == math.inf


# Training through rounding


def test_fake_quantise_as_torch_values_and_gradients():
    x = off_the_halves(0.1, 4, 500, reach=300)
    weight = numbers(4, 500, seed=1)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y = Q.fake_quantise(ours, grid(0.1, 5))
    z = torch.fake_quantize_per_tensor_affine(theirs, 0.1, 5, -128, 127)
    (y * weight).sum().backward()
    (z * weight).sum().backward()
    torch.testing.assert_close(y, z)
    assert torch.equal(ours.grad, theirs.grad)
    assert 0.2 < (ours.grad == 0).float().mean() < 0.8  # some clipped, some not


def test_fake_quantise_per_channel_as_torch():
    x = torch.stack([off_the_halves(s, 300, reach=200) for s in (0.1, 2.0, 30.0)])
    scale, zero = (
        torch.tensor([0.1, 2.0, 30.0]),
        torch.tensor([0, 4, -9], dtype=torch.int32),
    )
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y = Q.fake_quantise(ours, Q.Grid(scale[:, None], zero[:, None]))
    z = torch.fake_quantize_per_channel_affine(theirs, scale, zero, 0, -128, 127)
    y.sum().backward()
    z.sum().backward()
    torch.testing.assert_close(y, z)
    assert torch.equal(ours.grad, theirs.grad)


# Products of integers

PATHS = {"the unit for bytes": Q.int_product, "floats": Q._in_floats}


def exact(a, b):
    return torch.tensor(a.numpy().astype(np.int64) @ b.numpy().astype(np.int64))


def drawn(*shape, seed=0, low=-128, high=128):
    chooser = np.random.default_rng(seed)
    return torch.tensor(chooser.integers(low, high, shape), dtype=torch.int8)


@pytest.mark.parametrize("path", PATHS)
def test_every_product_of_two_bytes(path):
    every = torch.arange(-128, 128, dtype=torch.int8)[:, None]
    got = PATHS[path](every, every.T)
    assert got.dtype == torch.int32 and torch.equal(got.long(), exact(every, every.T))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 3000, 9), (33, 64, 1)])
def test_products_are_exact(path, shape):
    n, K, N = shape
    for low, high in [(-128, 128), (127, 128), (-128, -127)]:
        a, b = drawn(n, K, low=low, high=high), drawn(K, N, seed=1, low=low, high=high)
        assert torch.equal(PATHS[path](a, b).long(), exact(a, b))
        turned = b.T.contiguous().T  # as a weight is given
        assert torch.equal(PATHS[path](a, turned).long(), exact(a, b))


def test_a_unit_that_saturates_is_found_out_and_not_used(monkeypatch):
    """What torch._int_mm returns on processors without VNNI."""

    def saturating(a, b):
        shifted = a.long() + 128
        pairs = shifted[:, :, None] * b.long()[None]
        pairs = pairs.unflatten(1, (-1, 2)).sum(2).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(1) - 128 * b.long().sum(0)).int()

    a, b = drawn(4, 64), drawn(64, 3, seed=1)
    assert not torch.equal(saturating(a, b).long(), exact(a, b))
    monkeypatch.setattr(torch, "_int_mm", saturating)
    Q.int8_unit_is_exact.cache_clear()
    try:
        assert not Q.int8_unit_is_exact()
        assert torch.equal(Q.int_product(a, b).long(), exact(a, b))
    finally:
        Q.int8_unit_is_exact.cache_clear()


@settings(deadline=None)
@given(*[st.integers(-128, 127)] * 2, *[st.integers(1, 9)] * 3, st.integers(0, 99))
def test_zero_points_are_corrected_for(a_zero, b_zero, n, K, N, seed):
    a, b = drawn(n, K, seed=seed), drawn(K, N, seed=seed + 1)
    want = exact(a.int() - a_zero, b.int() - b_zero)
    assert torch.equal(Q.int_matmul(a, b, a_zero, b_zero).long(), want)
    rows = torch.arange(n)[:, None] - a_zero % 7
    columns = torch.arange(N)[None] - b_zero % 5
    want = exact(a.int() - rows, b.int() - columns)
    assert torch.equal(Q.int_matmul(a, b, rows, columns).long(), want)


def test_a_product_of_integers_as_onnx_matmulinteger():
    a, b = drawn(6, 50), drawn(50, 4, seed=1)
    node = helper.make_node("MatMulInteger", ["a", "b", "za", "zb"], ["y"])
    inputs = [(n, TensorProto.INT8) for n in ("a", "b", "za", "zb")]
    model = onnx_model([node], inputs, [("y", TensorProto.INT32)])
    feed = {"a": a.numpy(), "b": b.numpy(), "za": np.int8(-7), "zb": np.int8(3)}
    (want,) = ReferenceEvaluator(model).run(None, feed)
    assert np.array_equal(Q.int_matmul(a, b, -7, 3), want)


def test_products_that_are_refused():
    a = drawn(2, 4)
    with pytest.raises(TypeError, match=r"both must be torch\.int8"):
        Q.int_product(a, a.float().T)
    long = torch.zeros(1, Q.LONGEST + 1, dtype=torch.int8)
    with pytest.raises(ValueError, match="may overflow int32"):
        Q.int_product(long, long.T)
    assert 255 * 255 * Q.LONGEST < 2**31 <= 255 * 255 * (Q.LONGEST + 1)


# Layers


def from_torch(linear, per_channel=False):
    """torch.ao's dynamic Linear."""
    from torch.ao.quantization import qconfig, quantize_dynamic

    kind = "per_channel" if per_channel else "default"
    config = getattr(qconfig, f"{kind}_dynamic_qconfig")
    with quietly():
        return quantize_dynamic(nn.Sequential(linear), {"0": config})[0]


def made_linear(K, N, seed=0, bias=True):
    """A Linear whose weight every way of rounding agrees on, with given peaks."""
    linear = nn.Linear(K, N, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(off_the_halves(0.01, N, K, seed=seed))
        linear.weight[:, 0] = 1.275 * torch.tensor([1, -1]).repeat(N)[:N]
        if bias:
            linear.bias.copy_(numbers(N, seed=seed))
    return linear


def made_input(*shape, seed=3):
    """An input whose 128 levels, of 7 bits, are 0.05 apart; zero-point −40."""
    x = off_the_halves(0.05, *shape, seed=seed, reach=60) + 2.0
    x.view(-1)[:2] = torch.tensor([-1.2, 5.15])
    return x


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 96), (1, 96), (2, 3, 96), (16, 96)])
def test_a_dynamic_linear_as_torchs(shape, bias, per_channel):
    """Integers bit for bit; outputs within the rounding of float32."""
    linear = made_linear(96, 33, bias=bias)
    ours, theirs = (
        Q.DynamicLinear(linear, 7, per_channel),
        from_torch(linear, per_channel),
    )
    packed = theirs.weight()
    assert torch.equal(ours.weight, packed.int_repr())
    scales = packed.q_per_channel_scales() if per_channel else [packed.q_scale()]
    assert ours.weight_scale.tolist() == pytest.approx([float(s) for s in scales])
    x = made_input(*shape)
    wanted = torch._choose_qparams_per_tensor(x, True)  # what torch chooses inside
    made = ours.grid_for(x)
    assert made.scale.item() == pytest.approx(wanted[0], rel=1e-6)
    assert made.zero_point.item() + 64 == wanted[1]
    y = ours(x)
    assert y.shape == (*shape[:-1], 33) and not y.requires_grad
    torch.testing.assert_close(y, theirs(x).detach(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamic_linear_against_its_meaning(bits, per_channel):
    """The product, in float64, of what weight and input were rounded to."""
    linear = nn.Linear(70, 20).requires_grad_(False)
    linear.weight.copy_(numbers(20, 70))
    layer = Q.DynamicLinear(linear, bits, per_channel)
    x = numbers(9, 70, seed=1, centre=0.4)
    weight = linear.weight.detach()
    ends = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().max()
    scale = ends / 127.5  # −127.5 may go to −128 or −127: in float32, as there
    rough = torch.round(weight / scale).clamp(-128, 127).double() * scale
    low, high = min(x.min().item(), 0), max(x.max().item(), 0)
    step = (high - low) / (2**bits - 1)
    zero = round(-low / step)
    seen = ((torch.round(x.double() / step) + zero).clamp(0, 2**bits - 1) - zero) * step
    want = seen @ rough.T + linear.bias.detach().double()
    torch.testing.assert_close(layer(x).double(), want, rtol=1e-5, atol=1e-5)
    assert Q.signal_to_noise(linear(x), layer(x)) > (30 if bits == 7 else 35)


@given(st.integers(-20, 20))
def test_the_dynamic_scale_follows_the_input(power):
    layer = Q.DynamicLinear(made_linear(24, 5, bias=False))
    x = made_input(4, 24)
    torch.testing.assert_close(layer(x * 2.0**power), layer(x) * 2.0**power)


def test_the_static_grid_stays_and_clips():
    linear = made_linear(24, 5)
    x = made_input(40, 24)
    static = Q.StaticLinear(linear, *Q.minmax(x))
    dynamic = Q.DynamicLinear(linear)
    assert torch.equal(static(x), dynamic(x))
    far = Q.dequantise(Q.quantise(100 * x, static.grid_for(x)), static.grid_for(x))
    torch.testing.assert_close(static(100 * x), static(far))
    assert Q.signal_to_noise(linear(10 * x), static(10 * x)) < 10
    assert Q.signal_to_noise(linear(10 * x), dynamic(10 * x)) > 30


def test_a_static_linear_as_torchs():
    """torch's rounds its output too, to 8 bits: within half of that step."""
    from torch.ao.nn.quantized import Linear

    linear = made_linear(96, 33)
    x = made_input(8, 96)
    ours = Q.StaticLinear(linear, *Q.minmax(x), bits=7)
    scale, zero = ours.input_scale.item(), ours.input_zero_point.item() + 64
    with quietly():
        theirs = Linear(96, 33)
        weight = torch.quantize_per_tensor(linear.weight, 0.01, 0, torch.qint8)
        theirs.set_weight_bias(weight, linear.bias.detach())
        out = Q.grid_of(*Q.minmax(ours(x)))
        theirs.scale = out.scale.item()
        theirs.zero_point = out.zero_point.item() + 128
        got = theirs(
            torch.quantize_per_tensor(x, scale, zero, torch.quint8)
        ).dequantize()
    assert (ours(x) - got).abs().max() <= out.scale.item() * 0.501


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_the_state_of_a_layer(kind):
    def layer(seed):
        linear = made_linear(12, 7, seed=seed)
        if kind == "dynamic":
            return Q.DynamicLinear(linear, per_channel=True)
        return Q.StaticLinear(linear, -seed - 1.0, 2.0)

    one, other, x = layer(0), layer(1), numbers(3, 12)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    sizes = {n: t.dtype for n, t in one.state_dict().items()}
    assert sizes["weight"] == torch.int8 and not list(one.parameters())


def test_layers_keep_empty_batches_and_types():
    layer = Q.DynamicLinear(made_linear(12, 7))
    assert layer(torch.zeros(0, 12)).shape == (0, 7)
    assert layer(torch.zeros(2, 12, dtype=torch.float64)).dtype == torch.float64
    assert layer(torch.zeros(2, 12)).allclose(layer.bias)
    with pytest.raises(ValueError, match="a range must be finite"):
        layer(torch.full((1, 12), torch.nan))


class Two(nn.Module):
    """Two Linears, one of them behind a keyword."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.body = nn.ModuleDict({"second": nn.Linear(8, 3)})

    def forward(self, x, twice=False):
        y = torch.relu(self.first(x))
        return self.body["second"](2 * y if twice else y)


def test_a_model_is_copied_and_its_linears_replaced():
    model, x = Two(), numbers(5, 6)
    before = model(x).detach()
    small = Q.quantise_model(model, lambda _, m: Q.DynamicLinear(m, 7))
    assert isinstance(small.body["second"], Q.DynamicLinear)
    assert torch.equal(model(x), before) and isinstance(model.first, nn.Linear)
    with quietly():
        theirs = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert Q.signal_to_noise(theirs(x), small(x)) > 35
    some = Q.quantise_model(
        model, lambda name, m: Q.DynamicLinear(m) if name == "first" else None
    )
    assert isinstance(some.first, Q.DynamicLinear)
    assert isinstance(some.body["second"], nn.Linear)
    assert isinstance(Q.quantise_model(nn.Linear(2, 3), lambda _, m: None), nn.Linear)
    alone = Q.quantise_model(nn.Linear(2, 3), lambda _, m: Q.DynamicLinear(m))
    assert isinstance(alone, Q.DynamicLinear)


def test_what_each_linear_is_fed():
    model, x = Two(), numbers(2, 5, 6)
    seen = Q.linear_inputs(model, [x, {"x": x[:1], "twice": True}])
    assert {n: tuple(t.shape) for n, t in seen.items()} == {
        "first": (15, 6),
        "body.second": (15, 8),
    }
    hidden = torch.relu(model.first(x)).flatten(0, 1)
    assert torch.equal(seen["first"][:10], x.flatten(0, 1))
    torch.testing.assert_close(seen["body.second"], torch.cat([hidden, 2 * hidden[:5]]))
    assert not model.first._forward_pre_hooks
    with pytest.raises(RuntimeError):
        Q.linear_inputs(model, [numbers(2, 7)])
    assert not model.first._forward_pre_hooks


# Outliers


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_moves_a_factor_and_changes_no_product(alpha):
    x, weight = numbers(30, 12).double(), numbers(8, 12, seed=1).double()
    x[:, 4] *= 100
    s = Q.smoothing(weight, x.abs().amax(0), alpha)
    torch.testing.assert_close((x / s) @ (weight * s).T, x @ weight.T)
    peaks, columns = (x / s).abs().amax(0), (weight * s).abs().amax(0)
    if alpha == 0.5:
        torch.testing.assert_close(peaks, columns)  # the difficulty is shared evenly
    assert alpha != 1.0 or torch.allclose(peaks, torch.ones(12).double())
    assert alpha != 0.0 or torch.allclose(columns, torch.ones(12).double())


def test_smoothing_of_a_dead_feature_is_finite():
    s = Q.smoothing(torch.zeros(3, 2), torch.zeros(2))
    assert torch.isfinite(s).all() and (s > 0).all()


@pytest.mark.parametrize("n", [1, 2, 4, 12, 24, 64, 128, 384, 768, 1536])
def test_hadamard_matrices_are_orthogonal_and_flat(n):
    matrix = Q.hadamard(n).double()
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(n).double(), atol=1e-6, rtol=0
    )
    assert (matrix.abs() - n**-0.5).abs().max() < 1e-7


def test_signs_of_a_hadamard_matrix_of_two_to_the_k():
    """Row i, column j: −1 if i and j share an odd number of binary digits 1."""
    signs = [[(-1) ** (i & j).bit_count() for j in range(32)] for i in range(32)]
    torch.testing.assert_close(Q.hadamard(32) * 32**0.5, torch.tensor(signs).float())


@pytest.mark.parametrize("n", [0, 3, 6, 20, 36, 100, -4])
def test_hadamard_orders_that_are_refused(n):
    with pytest.raises(ValueError, match=f"order {n} here"):
        Q.hadamard(n)


# Four bits


def bitsandbytes():
    with quietly():
        import bitsandbytes.functional as F
    return F


def test_nf4_levels_are_those_of_bitsandbytes():
    theirs = bitsandbytes().create_normal_map()
    theirs = torch.cat([theirs[theirs != 0], torch.zeros(1)]).sort().values
    torch.testing.assert_close(Q.nf4_levels(), theirs, atol=1e-6, rtol=0)
    _, state = bitsandbytes().quantize_4bit(torch.ones(64), quant_type="nf4")
    torch.testing.assert_close(Q.nf4_levels(), state.code, atol=1e-6, rtol=0)
    assert Q.nf4_levels()[[0, 7, 15]].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("block", [64, 128])
def test_nf4_bytes_are_those_of_bitsandbytes(block):
    F = bitsandbytes()
    for seed, spread in enumerate([0.02, 1.0, 30.0]):
        x = numbers(48, 256, seed=seed, spread=spread)
        packed, state = F.quantize_4bit(x, blocksize=block, quant_type="nf4")
        codes, absmax = Q.nf4_quantise(x, block)
        assert torch.equal(Q.pack4(codes), packed.flatten())
        assert torch.equal(absmax.flatten(), state.absmax)
        theirs = F.dequantize_4bit(packed, state)
        ours = Q.nf4_dequantise(codes, absmax, x.shape)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * spread)


def test_nf4_may_search_for_the_end_of_its_levels():
    x = torch.tensor(np.random.default_rng(3).normal(size=(500, 64)))
    lost = {}
    for tries in (1, 60):
        back = Q.nf4_dequantise(*Q.nf4_quantise(x, tries=tries), x.shape)
        lost[tries] = (back - x).square().sum(1)
    assert (lost[60] <= lost[1]).all()
    assert lost[60].sum() < 0.9 * lost[1].sum()


def test_nf4_takes_the_nearest_level():
    x = numbers(10, 64)
    codes, absmax = Q.nf4_quantise(x)
    distance = ((x / absmax)[..., None] - Q.nf4_levels()).abs()
    chosen = distance.gather(2, codes.long()[..., None])[..., 0]
    assert (chosen <= distance.amin(2) + 1e-7).all()
    zeros = Q.nf4_quantise(torch.zeros(64))
    assert not Q.nf4_dequantise(*zeros, (64,)).any()
    with pytest.raises(ValueError, match="63 numbers"):
        Q.nf4_quantise(torch.ones(63))


@given(st.lists(st.integers(0, 15), max_size=30).filter(lambda c: len(c) % 2 == 0))
def test_packing_and_back(codes):
    packed = Q.pack4(torch.tensor(codes, dtype=torch.uint8))
    assert packed.dtype == torch.uint8 and len(packed) == len(codes) // 2
    assert Q.unpack4(packed).tolist() == codes


# GPTQ


def correlated(n, K, seed=0):
    """Inputs (n, K) whose features depend on each other."""
    chooser = np.random.default_rng(seed)
    mixed = chooser.normal(size=(n, K)) @ chooser.normal(size=(K, K))
    return torch.tensor(
        mixed / K**0.5 + chooser.normal(size=(n, 1)), dtype=torch.float32
    )


def loss(weight, q, made, x):
    return ((x @ (Q.dequantise(q, made) - weight).T) ** 2).sum().item()


def test_gptq_between_the_best_of_all_roundings_and_the_nearest():
    """All 8⁴ integers of a 1×4 weight tried."""
    made = Q.grid_of(-2.0, 2.0, bits=3)
    every = torch.tensor([*itertools.product(range(-4, 4), repeat=4)], dtype=torch.int8)
    totals = np.zeros(3)
    for seed in range(40):
        x, weight = correlated(20, 4, seed), numbers(1, 4, seed=seed)
        errors = (Q.dequantise(every, made) - weight) @ x.T
        best = errors.square().sum(1).min().item()
        nearest = loss(weight, Q.quantise(weight, made), made, x)
        ours = loss(weight, Q.gptq(weight, x, made), made, x)
        assert best <= ours * (1 + 1e-5)
        totals += [best, ours, nearest]
    assert totals[0] < totals[1] < 0.8 * totals[2]


def slow_gptq(weight, x, made, damp=0.01):
    """Optimal brain surgeon, one weight at a time, the inverse recomputed each time."""
    H = x.double().T @ x.double()
    H = H + damp * H.diagonal().mean() * torch.eye(len(H))
    left, K = weight.double().clone(), weight.shape[1]
    result = torch.zeros_like(weight, dtype=torch.int8)
    for k in range(K):
        inverse = torch.linalg.inv(H[k:, k:])  # the features that are still free
        result[:, k] = Q.quantise(left[:, k : k + 1], made)[:, 0]
        lost = left[:, k] - Q.dequantise(result[:, k : k + 1], made)[:, 0]
        left[:, k:] -= lost[:, None] * inverse[0] / inverse[0, 0]
    return result


@pytest.mark.parametrize("block", [1, 5, 128])
def test_gptq_is_obs_column_by_column(block):
    x, weight = correlated(60, 24), numbers(7, 24)
    for made in (
        Q.grid_of(*Q.minmax(weight), bits=4),
        Q.grid_of(*Q.minmax(weight, 0), bits=4, symmetric=True),
    ):
        want = slow_gptq(weight, x, made)
        assert torch.equal(Q.gptq(weight, x, made, block=block), want)


def test_gptq_with_a_grid_for_each_group_of_columns():
    x, weight = correlated(60, 24), numbers(7, 24)
    small = Q.grid_of(*Q.minmax(weight.unflatten(1, (-1, 8)), (0, 1)), bits=4)
    scale, zero = (
        t.expand(7, 3, 8).reshape(7, 24) for t in (small.scale, small.zero_point)
    )
    made = Q.Grid(scale, zero, small.low, small.high)
    nearest = loss(weight, Q.quantise(weight, made), made, x)
    assert loss(weight, Q.gptq(weight, x, made), made, x) < nearest


def test_gptq_of_independent_features_rounds_to_the_nearest():
    weight = numbers(5, 8)
    made = Q.grid_of(*Q.minmax(weight), bits=3)
    x = 3 * torch.eye(8)
    assert torch.equal(Q.gptq(weight, x, made), Q.quantise(weight, made))


def test_gptq_stands_a_dead_feature_and_refuses_no_damping():
    x, weight = correlated(30, 6), numbers(3, 6)
    x[:, 2] = 0
    made = Q.grid_of(*Q.minmax(weight), bits=4)
    dead = Q.gptq(weight, x, made)[:, 2]
    assert torch.equal(dead, Q.quantise(weight, made)[:, 2])
    with pytest.raises(ValueError, match="must be positive"):
        Q.gptq(weight, x, made, damp=0)
