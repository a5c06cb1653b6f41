"""Ways to tell attention where a token stands, each a few lines and one override.

Positions come as a tensor (..., L), usually 0 … L − 1; queries, keys and values as
(B, h, L, d): batch, heads, length, features of a head; token vectors as (B, L, D) with
D = h · d. Angles are float64 whatever the model's type: a 16-bit position rounds.
"""

import math

import torch
from torch import Tensor, nn


def frequencies(d: int, base: float = 10_000.0) -> Tensor:
    """base^(−2i/d) for i < d/2, in radians per position: (d/2,) float64.

    Raises ValueError for an odd d, since features turn in pairs, and for base ≤ 1.
    """
    if d < 2 or d % 2:
        raise ValueError(f"d = {d} features do not make pairs: an even d is needed")
    if base <= 1:
        raise ValueError(f"base = {base}: must be more than 1")
    return base ** (-torch.arange(0, d, 2, dtype=torch.double) / d)


def sinusoidal(positions: Tensor, d: int, base: float = 10_000.0) -> Tensor:
    """Sine, cosine, sine, … of positions (..., L) times each frequency: (..., L, d).

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5. float64.

    >>> sinusoidal(torch.tensor([0]), 4)
    tensor([[0., 1., 0., 1.]], dtype=torch.float64)
    """
    angles = positions[..., None] * frequencies(d, base)  # (..., L, d/2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def shift(k: float, d: int, base: float = 10_000.0) -> Tensor:
    """The matrix (d, d) that moves sinusoidal vectors on by k: PE(p + k) = R PE(p)."""
    angles = k * frequencies(d, base)
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([cos, sin, -sin, cos], -1).view(-1, 2, 2)
    return torch.block_diag(*blocks)


def offsets(positions: Tensor) -> Tensor:
    """Key's position minus query's: (..., L) → (..., L, L), negative on the left."""
    return positions[..., None, :] - positions[..., :, None]


def t5_bucket(
    offset: Tensor,
    bidirectional: bool = True,
    buckets: int = 32,
    max_distance: int = 128,
) -> Tensor:
    """The number of the bucket that an offset (key minus query) (...) falls into.

    Half of the buckets hold one distance each, the others grow with the logarithm of
    the distance; the last would end at max_distance, and holds all beyond. If
    bidirectional, keys on the right have buckets of their own, else they share that of
    distance 0. Raffel et al. 2020, arXiv 1910.10683, section 2.1. Raises ValueError
    where no bucket is left for the logarithm.
    """
    side = buckets // 2 if bidirectional else buckets
    exact = side // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(f"{buckets} buckets for max_distance = {max_distance}")
    distance = offset.abs() if bidirectional else (-offset).clamp_min(0)
    growth = (distance.float() / exact).clamp_min(1).log()
    growth = growth / math.log(max_distance / exact)  # 1 at max_distance
    far = exact + (growth * (side - exact)).long()
    bucket = torch.where(distance < exact, distance, far.clamp_max(side - 1))
    return bucket + side * (offset > 0) if bidirectional else bucket


def alibi_slopes(heads: int) -> Tensor:
    """2^(−8i/h) for heads i = 1 … h, if h is a power of two: (h,) float64.

    Other counts take the slopes of the next lower power, and then those half-way
    between them, as the authors' code does. Press, Smith and Lewis 2022, arXiv
    2108.12409. Raises ValueError for fewer than one head.
    """
    if heads < 1:
        raise ValueError(f"heads = {heads}: at least one is needed")
    power = 2 ** (heads.bit_length() - 1)  # the largest that is not above heads
    steps = torch.arange(1, power + 1, dtype=torch.double)
    return 2 ** (-8 / power * torch.cat([steps, steps[: heads - power] - 0.5]))


def alibi_bias(heads: int, positions: Tensor) -> Tensor:
    """Minus slope times distance: positions (..., L) → (..., h, L, L) float64."""
    distance = offsets(positions).abs().unsqueeze(-3)
    return -alibi_slopes(heads)[:, None, None] * distance


def rotate(x: Tensor, angles: Tensor, pairing: str = "halves") -> Tensor:
    """Turn pairs of features of x (..., L, d) by angles (..., L, r/2), r ≤ d.

    "halves" pairs feature i with i + r/2 (LLaMA, GPT-NeoX), "neighbours" 2i with 2i + 1
    (RoFormer, GPT-J). Features from r on pass unturned. Su et al. 2021, arXiv
    2104.09864, equation 34. Raises ValueError for another pairing, or for r > d.
    """
    r = 2 * angles.shape[-1]
    if pairing not in ("halves", "neighbours"):
        raise ValueError(f"pairing {pairing!r} is neither 'halves' nor 'neighbours'")
    if r > x.shape[-1]:
        raise ValueError(f"{r // 2} angles turn {r} features; x has {x.shape[-1]}")
    shape = (2, r // 2) if pairing == "halves" else (r // 2, 2)
    axis = -2 if pairing == "halves" else -1
    a, b = x[..., :r].unflatten(-1, shape).unbind(axis)  # two of (..., L, r/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], axis).flatten(-2)
    return torch.cat([turned, x[..., r:]], -1)


def neighbours_to_halves(d: int) -> Tensor:
    """The order (d,) that lays out features made for "neighbours" for "halves".

    rotate(x[..., order], a, "halves") = rotate(x, a, "neighbours")[..., order].
    """
    return torch.arange(d).view(-1, 2).T.flatten()


def checked_factor(factor: float) -> float:
    """`factor`, a stretch of the positions (L,). Raises ValueError for one below 1."""
    if factor < 1:
        raise ValueError(f"factor = {factor}: lengths are stretched, not shrunk")
    return factor


def interpolated(d: int, factor: float, base: float = 10_000.0) -> Tensor:
    """Position interpolation: every frequency divided by factor. (d/2,)

    Chen et al. 2023, arXiv 2306.15595.
    """
    return frequencies(d, base) / checked_factor(factor)


def ntk(d: int, factor: float, base: float = 10_000.0) -> Tensor:
    """A larger base, so that the slowest pair is interpolated, the fastest left. (d/2,)

    The slowest frequency is divided by exactly `factor`. "NTK-aware", bloc97 2023;
    Peng et al. 2024, arXiv 2309.00071, section 3.1. Raises ValueError for d < 4.
    """
    if d < 4:
        raise ValueError(f"d = {d}: one pair cannot be both, fastest and slowest")
    return frequencies(d, base * checked_factor(factor) ** (d / (d - 2)))


def yarn(
    d: int,
    factor: float,
    trained: int,
    base: float = 10_000.0,
    fast: float = 32,
    slow: float = 1,
) -> Tensor:
    """Pairs with over `fast` turns in `trained` positions stay, under `slow` stretch.

    Between them a ramp, linear in the pair's number, its ends rounded outwards, as in
    the authors' code. (d/2,). Peng et al. 2024, arXiv 2309.00071, section 3.2.
    """
    low, high = (
        d * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))
        for turns in (fast, slow)
    )  # the pairs, not whole numbers, that make so many turns
    low, high = max(math.floor(low), 0), min(math.ceil(high), d - 1)
    pair = torch.arange(d // 2, dtype=torch.double)
    stretched = ((pair - low) / max(high - low, 1e-3)).clamp(0, 1)
    return torch.lerp(frequencies(d, base), interpolated(d, factor, base), stretched)


def yarn_gain(factor: float) -> float:
    """What YaRN multiplies queries and keys (B, h, L, d) with: 0.1 ln(factor) + 1."""
    return 0.1 * math.log(checked_factor(factor)) + 1


class Nothing(nn.Module):
    """No positions ("NoPE"): four hooks of attention that each method overrides.

    `gain` multiplies queries and keys (B, h, L, d): one, or yarn_gain(factor).
    """

    gain = 1.0

    def __init__(self, heads: int, d: int):
        super().__init__()
        if heads < 1 or d < 1:
            raise ValueError(f"heads = {heads}, d = {d}: at least one of each")
        self.heads, self.d = heads, d

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token vectors (B, L, D) as they enter the first layer."""
        return x

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries, or keys, (B, h, L, d) as they enter the product."""
        return x

    def bias(self, positions: Tensor) -> Tensor:
        """What is added to the scores, (..., h, L, L) or one number."""
        return torch.zeros(())

    def score(self, query: Tensor, key: Tensor, positions: Tensor) -> Tensor:
        """Scores (B, h, L, L) before the mask and the softmax."""
        products = query @ key.transpose(-1, -2)
        return products / self.d**0.5 + self.bias(positions).to(query.dtype)


class Sinusoidal(Nothing):
    """Fixed sines and cosines, added to the token vectors (B, L, D)."""

    def embed(self, x, positions):
        return x + sinusoidal(positions, x.shape[-1]).to(x.dtype)


class Learned(Nothing):
    """A table of `length` trainable vectors, added to the token vectors (B, L, D).

    Raises IndexError, naming the position, beyond the table.
    """

    def __init__(self, heads: int, d: int, length: int):
        super().__init__(heads, d)
        self.table = nn.Embedding(length, heads * d)

    def embed(self, x, positions):
        largest, length = int(positions.max()), self.table.num_embeddings
        if largest >= length:
            raise IndexError(f"position {largest} of a table of {length}")
        return x + self.table(positions)


class Shaw(Nothing):
    """A trainable vector per offset, clipped at ±clip, added to the keys.

    Shared by the heads: (2 · clip + 1, d). Shaw, Uszkoreit and Vaswani 2018, arXiv
    1803.02155, equation 4; their vectors for the values are left out.
    """

    def __init__(self, heads: int, d: int, clip: int = 16):
        super().__init__(heads, d)
        self.clip, self.table = clip, nn.Embedding(2 * clip + 1, d)

    def score(self, query, key, positions):
        each = query @ self.table.weight.T / self.d**0.5  # (B, h, L, 2 · clip + 1)
        place = offsets(positions).clamp(-self.clip, self.clip) + self.clip
        place = place.unsqueeze(-3).expand(*each.shape[:-1], -1)  # (B, h, L, L)
        return super().score(query, key, positions) + each.gather(-1, place)


class T5Bias(Nothing):
    """A trainable number per bucket of offsets and head: table (buckets, h).

    T5 itself does not divide the products by √d; here all methods do.
    """

    def __init__(
        self,
        heads: int,
        d: int,
        buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = False,
    ):
        super().__init__(heads, d)
        self.how = bidirectional, buckets, max_distance
        self.table = nn.Embedding(buckets, heads)

    def bias(self, positions):
        bucket = t5_bucket(offsets(positions), *self.how)  # (..., L, L)
        return self.table(bucket).movedim(-1, -3)


class ALiBi(Nothing):
    """A fixed penalty that grows with distance, steeper in some heads: (h, L, L)."""

    def bias(self, positions):
        return alibi_bias(self.heads, positions)


class RoPE(Nothing):
    """Queries and keys (B, h, L, d) turned by their position, pair by pair.

    `rotated` features of each head turn, all if None. `frequencies` (rotated/2,) can be
    exchanged for stretched ones.
    """

    def __init__(
        self,
        heads: int,
        d: int,
        base: float = 10_000.0,
        pairing: str = "halves",
        rotated: int | None = None,
    ):
        super().__init__(heads, d)
        self.frequencies, self.pairing = frequencies(rotated or d, base), pairing

    def turn(self, x, positions):
        angles = positions[..., None, :, None] * self.frequencies  # (..., 1, L, r/2)
        return rotate(x, angles, self.pairing)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    method: Nothing,
    positions: Tensor | None = None,
    causal: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention with a method of positions: three (B, h, L, d) to one.

    `positions` (L,) or (B, L) count from 0 if not given. `mask` (B, L) is true on real
    tokens; causal forbids keys that come later in the batch, whatever their position.
    """
    L = query.shape[-2]
    positions = torch.arange(L) if positions is None else positions
    query, key = (method.gain * method.turn(x, positions) for x in (query, key))
    scores = method.score(query, key, positions)  # (B, h, L, L)
    seen = torch.ones(L, L, dtype=torch.bool)
    seen = seen.tril() if causal else seen
    seen = seen if mask is None else seen & mask[:, None, None].bool()
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ value


class Attention(nn.Module):
    """Projections around `attention`: x (B, L, D) to (B, L, D), D = h · d of `method`.

    `method.embed` is not called: token vectors are embedded once, below all layers.
    """

    def __init__(self, method: Nothing, causal: bool = True):
        super().__init__()
        self.method, self.causal = method, causal
        D = method.heads * method.d
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x: Tensor, positions=None, mask=None) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.method.heads, self.method.d))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # three of (B, h, L, d)
        y = attention(query, key, value, self.method, positions, self.causal, mask)
        return self.out(y.transpose(1, 2).flatten(-2))
