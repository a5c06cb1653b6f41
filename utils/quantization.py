"""Quantisation: numbers as small integers with a scale, and products of such integers.

A real x becomes an integer q and is read back as scale · (q − zero_point). Sizes: n
rows, K features in, N features out; a weight is (N, K), as in `nn.Linear`. A `Grid` has
one scale, shape (1, 1), or one for each row, (N, 1), or whatever else broadcasts.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

Axes = int | Sequence[int] | None
LONGEST = 2**31 // 255**2  # a sum of so many products of 8 bits still fits int32
TINY = torch.finfo(torch.float32).tiny
CHUNK = 1024  # 1024 · 128 · 128 = 2²⁴: float32 counts that far without a gap


@dataclass(frozen=True)
class Grid:
    """The integers low … high, and what they mean: x ≈ scale · (q − zero_point).

    scale (…) is positive, float; zero_point (…) has its shape and whole numbers.
    """

    scale: Tensor
    zero_point: Tensor
    low: int = -128
    high: int = 127

    @property
    def dtype(self) -> torch.dtype:
        """The smallest type that holds low … high."""
        for kind in (torch.int8, torch.uint8, torch.int16):
            if torch.iinfo(kind).min <= self.low and self.high <= torch.iinfo(kind).max:
                return kind
        return torch.int32

    def range(self) -> tuple[Tensor, Tensor]:
        """The real numbers that the lowest and the highest integer stand for: (…)."""
        return tuple((q - self.zero_point) * self.scale for q in (self.low, self.high))


def grid_of(low, high, bits=8, symmetric=False, narrow=False) -> Grid:
    """The grid of 2^bits integers that covers the real ranges low … high: both (…).

    Asymmetric, the range is widened to hold 0, which then falls on an integer, and the
    ends fall on the last integers as nearly as that allows. Symmetric, zero_point is 0
    and the scale is max(|low|, |high|) over half of the steps, as torch's observers
    have it: over 127.5 for 8 bits, and 127 if `narrow` leaves the lowest integer out.
    ValueError for a range that is not finite or upside down.
    """
    low, high = (torch.as_tensor(end, dtype=torch.float32) for end in (low, high))
    width = high - low
    if not ((width >= 0) & (width < math.inf)).all():
        raise ValueError("a range must be finite, its low end not above its high end")
    first, last = -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    low, high = low.clamp(max=0), high.clamp(min=0)
    reach = torch.maximum(-low, high) * 2 if symmetric else high - low
    scale = (reach / (last - first)).clamp(min=TINY)
    if symmetric:
        return Grid(scale, torch.zeros_like(scale, dtype=torch.int32), first, last)
    zero = first - torch.round(low / scale)
    return Grid(scale, zero.clamp(first, last).to(torch.int32), first, last)


def quantise(x: Tensor, grid: Grid) -> Tensor:
    """The integers nearest to x (…) on the grid, clipped to low … high: x's shape.

    q = clip(round(x / scale) + zero_point), a half rounded to the even neighbour, then
    the zero-point added: ONNX's QuantizeLinear. torch.quantize_per_tensor multiplies by
    1/scale and adds the zero-point before it rounds, so that a half may go the other
    way; torch.fake_quantize multiplies, rounds and then adds.
    """
    q = (x / grid.scale).round_().add_(grid.zero_point)
    return q.clamp_(grid.low, grid.high).to(grid.dtype)


def dequantise(q: Tensor, grid: Grid) -> Tensor:
    """scale · (q − zero_point) as float32: q's shape (…)."""
    return (q.to(torch.int32) - grid.zero_point) * grid.scale


class _FakeQuantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grid):
        q = torch.round(x / grid.scale) + grid.zero_point
        ctx.save_for_backward((grid.low <= q) & (q <= grid.high))
        return (q.clamp(grid.low, grid.high) - grid.zero_point) * grid.scale

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def fake_quantise(x: Tensor, grid: Grid) -> Tensor:
    """x (…) rounded to the grid, in float, with a gradient that training can use.

    The true derivative of rounding is 0 almost everywhere. The straight-through
    estimator (Bengio, Léonard and Courville 2013) passes the gradient on as if nothing
    had been rounded, where x lies in the range, and 0 where it was clipped.
    """
    return _FakeQuantise.apply(x, grid)


def _pooled(x: Tensor, axis: Axes) -> list[int]:
    """The axes that share a range, when every index of `axis` has one of its own."""
    kept = [] if axis is None else [axis] if isinstance(axis, int) else axis
    kept = {a % x.ndim for a in kept}
    return [a for a in range(x.ndim) if a not in kept]


def minmax(x: Tensor, axis: Axes = None) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of x (…): one range, or one an index of `axis`.

    axis 0 of a weight (N, K) gives each output its own range, of shapes (N, 1).
    """
    pooled = _pooled(x, axis)
    return x.amin(pooled, keepdim=True), x.amax(pooled, keepdim=True)


def percentile(x: Tensor, share=0.999, axis: Axes = None) -> tuple[Tensor, Tensor]:
    """Ranges, shaped as by `minmax`, that hold the middle `share` of the values of x.

    x (…). ValueError unless 0 < share ≤ 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share}: it must lie in (0, 1]")
    pooled = _pooled(x, axis)
    kept = [a for a in range(x.ndim) if a not in pooled]
    rows = x.permute(*kept, *pooled).flatten(len(kept)).float().sort(-1).values
    shape = [1 if a in pooled else x.shape[a] for a in range(x.ndim)]
    skip = int((1 - share) / 2 * rows.shape[-1] + 1e-9)  # so many cut off at each end
    return tuple(rows[..., end].reshape(shape) for end in (skip, -1 - skip))


def least_squares(
    x: Tensor, bits=8, symmetric=False, axis: Axes = None, tries: int = 60
) -> tuple[Tensor, Tensor]:
    """Ranges, shaped as by `minmax`, whose grids lose least in mean square.

    x (…). Of `tries` fractions of the full range, each slice keeps the best.
    """
    pooled, (low, high) = _pooled(x, axis), minmax(x, axis)
    best = torch.full_like(low, math.inf)
    kept = torch.ones_like(low)
    for fraction in torch.linspace(1, 1 / tries, tries).tolist():
        grid = grid_of(low * fraction, high * fraction, bits, symmetric)
        loss = (dequantise(quantise(x, grid), grid) - x).square().mean(pooled, True)
        kept = torch.where(loss < best, fraction, kept)
        best = torch.minimum(loss, best)
    return low * kept, high * kept


@torch.no_grad()
def signal_to_noise(x: Tensor, rough: Tensor) -> float:
    """10 log₁₀(Σ x² / Σ (x − rough)²) in decibels, both (…): 20 dB is a tenth.

    inf where nothing was lost.
    """
    noise = (x - rough).double().square().sum()
    return float(10 * torch.log10(x.double().square().sum() / noise))


@cache
def int8_unit_is_exact() -> bool:
    """Whether torch._int_mm adds as integers should, on this processor.

    Without instructions for dot products of bytes (VNNI), its library adds pairs of
    products in 16 bits that saturate: 2 · 127 · 127 is fine, 2 · 255 · 127 is not, and
    signed bytes are first shifted to 0 … 255. PyTorch asks the processor for them, not
    whether ONEDNN_MAX_CPU_ISA has switched them off. Tried once, on (n, 64) bytes.
    """
    for n in (1, 16, 64):
        for value in (127, -128):
            a = torch.full((n, 64), value, dtype=torch.int8)
            b = torch.full((64, 64), 127, dtype=torch.int8)
            if (torch._int_mm(a, b) != 64 * value * 127).any():
                return False
    return True


def _in_floats(a: Tensor, b: Tensor) -> Tensor:
    """The product of int8 matrices by float32, exact: chunks stay within 2²⁴."""
    total = torch.zeros(len(a), b.shape[1], dtype=torch.int32)
    for part, other in zip(a.split(CHUNK, 1), b.split(CHUNK, 0), strict=True):
        total += (part.float() @ other.float()).to(torch.int32)
    return total


def _plain(a: Tensor) -> Tensor:
    """With the usual strides: torch._int_mm misreads some of an axis of length 1."""
    return a.clone(memory_format=torch.contiguous_format) if 1 in a.shape else a


def int_product(a: Tensor, b: Tensor) -> Tensor:
    """Σₖ a[i, k] b[k, j] of int8 matrices (n, K) and (K, N), exact, in int32: (n, N).

    By the processor's unit for bytes where that is exact, else in chunks by float32.
    TypeError for other types, ValueError for K above 33,025, where int32 may overflow.
    """
    if a.dtype != torch.int8 or b.dtype != torch.int8:
        raise TypeError(
            f"a product of {a.dtype} and {b.dtype}: both must be torch.int8"
        )
    if a.shape[1] > LONGEST:
        raise ValueError(f"a sum of {a.shape[1]} products may overflow int32")
    if int8_unit_is_exact():
        return torch._int_mm(_plain(a), _plain(b))
    return _in_floats(a, b)


def int_matmul(a: Tensor, b: Tensor, a_zero=0, b_zero=0) -> Tensor:
    """Σₖ (a[i, k] − a_zero)(b[k, j] − b_zero) from one product of int8: int32 (n, N).

    a is (n, K), b is (K, N). a_zero is a number or (n, 1), b_zero a number or (1, N);
    three sums correct for them (Jacob et al. 2018, equation 7). Raises what
    `int_product` does.
    """
    rows = a.sum(1, keepdim=True, dtype=torch.int32)  # (n, 1)
    columns = b.sum(0, keepdim=True, dtype=torch.int32)  # (1, N)
    corners = a.shape[1] * a_zero * b_zero
    return int_product(a, b) - b_zero * rows - a_zero * columns + corners


class IntegerLinear(nn.Module):
    """An `nn.Linear` whose product is one of integers; input and output are floats.

    The weight (N, K) is kept as int8, symmetric, with one scale or, `per_channel`, one
    for each output. How the input (…, K) is quantised is left to the two heirs, in
    `grid_for`. Inference only: nothing here has a gradient. The state_dict holds
    weight, weight_scale, weight_sums (N), and bias.
    """

    def __init__(self, linear: nn.Linear, bits: int = 8, per_channel: bool = False):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bits, self.per_channel = bits, per_channel
        weight = linear.weight.detach().float()
        grid = grid_of(*minmax(weight, 0 if per_channel else None), symmetric=True)
        q = quantise(weight, grid)
        self.register_buffer("weight", q)
        self.register_buffer("weight_scale", grid.scale[:, 0])  # (N,) or (1,)
        self.register_buffer("weight_sums", q.sum(1, dtype=torch.int32))
        bias = None if linear.bias is None else linear.bias.detach().float().clone()
        self.register_buffer("bias", bias)

    def grid_for(self, x: Tensor) -> Grid:
        raise NotImplementedError

    def extra_repr(self) -> str:
        size = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{size}, bits={self.bits}, per_channel={self.per_channel}"

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features).float()
        grid = self.grid_for(rows)
        total = int_product(quantise(rows, grid), self.weight.T)  # (n, N), int32
        total -= grid.zero_point * self.weight_sums
        y = total * (grid.scale * self.weight_scale)
        if self.bias is not None:
            y += self.bias
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)


class DynamicLinear(IntegerLinear):
    """int8 weights fixed beforehand; the input's (…, K) range is measured at each call.

    With bits = 7 the scheme of torch.ao's dynamic Linear, which has reduce_range=True:
    its input takes 128 levels of the 256, so that older processors cannot saturate.
    """

    def grid_for(self, x: Tensor) -> Grid:
        low, high = x.aminmax() if x.numel() else (0.0, 0.0)
        return grid_of(low, high, self.bits)


class StaticLinear(IntegerLinear):
    """int8 weights, and one grid for all inputs (…, K), fixed beforehand too.

    low and high are numbers: the range that an observer found on sample inputs, which
    is called calibration. What lies outside is clipped.
    """

    def __init__(self, linear: nn.Linear, low, high, bits=8, per_channel=False):
        super().__init__(linear, bits, per_channel)
        low, high = (torch.as_tensor(end).reshape(()) for end in (low, high))
        grid = grid_of(low, high, bits)
        self.register_buffer("input_scale", grid.scale)
        self.register_buffer("input_zero_point", grid.zero_point)
        self.ends = grid.low, grid.high

    def grid_for(self, x: Tensor) -> Grid:
        return Grid(self.input_scale, self.input_zero_point, *self.ends)


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The Linears of a model by name, their weights (N, K)."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}


@torch.no_grad()
def linear_inputs(model: nn.Module, batches: Iterable) -> dict[str, Tensor]:
    """What each Linear of the model is fed while it reads the batches: rows (n, K).

    A batch is a dictionary of keyword arguments, or one argument. The model runs in
    the mode it is in.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in linears(model)}

    def keep(name):
        return lambda module, inputs: seen[name].append(inputs[0].flatten(0, -2))

    hooks = [m.register_forward_pre_hook(keep(n)) for n, m in linears(model).items()]
    try:
        for batch in batches:
            model(**batch) if isinstance(batch, dict) else model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(rows) for name, rows in seen.items() if rows}


def quantise_model(
    model: nn.Module, replace: Callable[[str, nn.Linear], nn.Module | None]
) -> nn.Module:
    """A copy of the model with what `replace(name, linear)` returns for its Linears.

    Where it returns None a Linear, of weight (N, K), stays as it is:

    >>> quantise_model(nn.Sequential(nn.Linear(3, 4)), lambda _, m: DynamicLinear(m))
    Sequential(
      (0): DynamicLinear(in_features=3, out_features=4, bits=8, per_channel=False)
    )
    """
    model = copy.deepcopy(model)
    for name, linear in linears(model).items():
        new = replace(name, linear)
        if new is None:
            continue
        if not name:
            return new
        model.set_submodule(name, new)
    return model


def smoothing(weight: Tensor, peaks: Tensor, alpha: float = 0.5) -> Tensor:
    """SmoothQuant's factors s (K): divide input feature k by s[k], multiply the weight.

    s = peaksᵅ / max|weight|¹⁻ᵅ over each column (Xiao et al. 2023, equation 4); weight
    (N, K), peaks (K) the greatest |input| of each feature. x/s · (W·s)ᵀ = x · Wᵀ.
    """
    columns = weight.abs().amax(0).clamp(min=1e-5)
    return peaks.clamp(min=1e-5) ** alpha / columns ** (1 - alpha)


def hadamard(n: int) -> Tensor:
    """An orthogonal matrix (n, n) whose entries are all ±1/√n, n = 2ᵏ or 12 · 2ᵏ.

    Sylvester's doubling, from 1 or from Paley's matrix of order 12, whose signs say
    which differences are squares modulo 11. ValueError for another n.
    """
    core = 12 if n % 12 == 0 else 1
    doublings = (n // core).bit_length() - 1
    if n < 1 or core * 2**doublings != n:
        raise ValueError(f"no Hadamard matrix of order {n} here: only 2ᵏ and 12 · 2ᵏ")
    matrix = torch.ones(1, 1)
    if core == 12:
        squares = {k * k % 11 for k in range(1, 11)}
        signs = [
            [1 if (j - i) % 11 in squares else -1 for j in range(11)] for i in range(11)
        ]
        matrix = torch.ones(12, 12)
        matrix[1:, 1:] = torch.tensor(signs)
        matrix[1:, 0] = -1
        matrix[1:, 1:].fill_diagonal_(1)
    for _ in range(doublings):
        matrix = torch.kron(torch.tensor([[1.0, 1], [1, -1]]), matrix)
    return matrix / math.sqrt(n)


@cache
def nf4_levels() -> Tensor:
    """The 16 levels of NormalFloat4, from −1 to 1, 0 among them: (16,).

    Quantiles of the normal distribution, 8 above 0 and 7 below, divided by the greatest
    (Dettmers et al. 2023, appendix E, and bitsandbytes' create_normal_map).
    """
    edge = 1 - (1 / 32 + 1 / 30) / 2
    above = torch.special.ndtri(torch.linspace(edge, 0.5, 9, dtype=torch.double))[:-1]
    below = -torch.special.ndtri(torch.linspace(edge, 0.5, 8, dtype=torch.double))[:-1]
    levels = torch.cat([below, torch.zeros(1), above.flip(0)])
    return (levels / levels.max()).float()


def nf4_quantise(x: Tensor, block: int = 64, tries: int = 1) -> tuple[Tensor, Tensor]:
    """NF4 codes 0 … 15 of x, in its order, and each block's greatest |x|.

    x (…) is cut into blocks of `block` numbers; codes are uint8 (blocks, block), absmax
    (blocks, 1). Of `tries` fractions of the greatest, each block keeps the one that
    loses least in mean square. ValueError if the blocks do not come out even.
    """
    if x.numel() % block:
        raise ValueError(f"{x.numel()} numbers do not make whole blocks of {block}")
    rows = x.float().reshape(-1, block)
    greatest = absmax = rows.abs().amax(1, keepdim=True)
    levels = nf4_levels()
    between = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(rows / absmax.clamp(min=TINY), between)
    best = (levels[codes] * absmax - rows).square().sum(1, keepdim=True)
    for fraction in torch.linspace(1, 1 / tries, tries)[1:].tolist():
        end = fraction * greatest
        found = torch.bucketize(rows / end.clamp(min=TINY), between)
        loss = (levels[found] * end - rows).square().sum(1, keepdim=True)
        codes = torch.where(loss < best, found, codes)
        absmax = torch.where(loss < best, end, absmax)
        best = torch.minimum(loss, best)
    return codes.to(torch.uint8), absmax


def nf4_dequantise(codes: Tensor, absmax: Tensor, shape: Sequence[int]) -> Tensor:
    """level[code] · absmax of the block, in `shape`; codes (blocks, block)."""
    return (nf4_levels()[codes.long()] * absmax).reshape(shape)


def pack4(codes: Tensor) -> Tensor:
    """Pairs of 4-bit codes as one byte each, the first in the high half: (n / 2,).

    codes (…) hold 0 … 15, an even number of them. bitsandbytes' order.
    """
    high, low = codes.reshape(-1, 2).unbind(1)
    return high << 4 | low


def unpack4(packed: Tensor) -> Tensor:
    """What `pack4` packed, as one row of codes: (2 · bytes,)."""
    return torch.stack([packed >> 4, packed & 15], 1).flatten()


@torch.no_grad()
def gptq(
    weight: Tensor, inputs: Tensor, grid: Grid, damp: float = 0.01, block: int = 128
) -> Tensor:
    """Integers (N, K) for a weight, chosen column by column for what it is fed.

    Each column is rounded, and its error is made up for by the columns that are still
    free, so that inputs (n, K) · error stays small (Frantar et al. 2023, algorithm 1).
    grid broadcasts to (N, K). `damp` times the mean of the diagonal is added to the
    Hessian; features that are always 0 then do no harm. ValueError if damp is not
    positive.
    """
    if damp <= 0:
        raise ValueError(f"damp = {damp}: it must be positive")
    K = weight.shape[1]
    hessian = inputs.double().T @ inputs.double()  # (K, K)
    ridge = damp * hessian.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(hessian + ridge * torch.eye(K))
    upper = torch.linalg.cholesky(inverse, upper=True)  # row k: all that k needs
    left, result = weight.double().clone(), torch.empty_like(weight, dtype=grid.dtype)
    scale, zero = (t.expand_as(weight) for t in (grid.scale, grid.zero_point))
    for start in range(0, K, block):
        stop = min(start + block, K)
        errors = torch.empty(len(weight), stop - start, dtype=torch.double)
        for k in range(start, stop):
            column = Grid(scale[:, k], zero[:, k], grid.low, grid.high)
            result[:, k] = quantise(left[:, k], column)
            lost = left[:, k] - dequantise(result[:, k], column)
            errors[:, k - start] = lost / upper[k, k]
            left[:, k:stop] -= errors[:, k - start, None] * upper[k, k:stop]
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return result
