"""Every check takes the right answer, and tells two wrong ones apart by hints."""

import functools
import inspect
import itertools
import math
import pkgutil
import struct
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from utils import exercises, hmm, tagging
from utils import positions as places
from utils import quantization as int8
from utils.lab.check import NotYet, exercise, expect_close

RIGHT, WRONG = {}, {}
CHECKS = {
    f"{module.name}.{name}": thing
    for module in pkgutil.iter_modules(exercises.__path__)
    for name, thing in vars(import_module(f"utils.exercises.{module.name}")).items()
    if getattr(thing, "is_exercise", False)
}


def right(name):
    return lambda answer: RIGHT.setdefault(name, answer)


def wrong(name):
    return lambda answer: WRONG.setdefault(name, []).append(answer)


RIGHT["crf.unnoticed"] = {
    "starts": True,
    "one symbol": True,
    "one state": False,
    "all transitions": True,
    "out of one state": False,
}
WRONG["crf.unnoticed"] = [
    RIGHT["crf.unnoticed"] | {"one state": True},
    RIGHT["crf.unnoticed"] | {"all transitions": False},
]


@right("crf.word_length")
def _(n):
    (b_e, b_m), (m_e, m_m) = np.exp(hmm.jieba_tables()[0].transitions[:3:2, 1:3])
    return b_e if n == 2 else b_m * m_m ** (n - 3) * m_e


@wrong("crf.word_length")
def _(n):
    return RIGHT["crf.word_length"](n) * np.exp(hmm.jieba_tables()[0].start[0])


@wrong("crf.word_length")
def _(n):
    (b_e, b_m), (m_e, m_m) = np.exp(hmm.jieba_tables()[0].transitions[:3:2, 1:3])
    return b_e if n == 2 else b_m * m_m ** (n - 2) * m_e


@right("crf.as_pairs")
def _(start, steps, emissions, leaky=-np.inf, side=np.tile):
    K = len(start)
    transitions = np.full((K, K, K, K), leaky)
    for j in range(K):
        transitions[:, j, j, :] = steps[:, j, :]
    tables = start.ravel(), transitions.reshape(K * K, K * K), side(emissions, (K, 1))
    return hmm.HMM(*tables, np.zeros(K * K))


@wrong("crf.as_pairs")
def _(start, steps, emissions):
    return RIGHT["crf.as_pairs"](start, steps, emissions, leaky=0.0)


@wrong("crf.as_pairs")
def _(start, steps, emissions):
    def of_the_first(table, _):
        return np.repeat(table, len(start), axis=0)

    return RIGHT["crf.as_pairs"](start, steps, emissions, side=of_the_first)


RIGHT["crf.entities"] = {("PER", 0, 1), ("PER", 1, 3), ("ORG", 5, 6)}
WRONG["crf.entities"] = [
    {("PER", 0, 1), ("PER", 1, 3), ("LOC", 4, 5), ("ORG", 5, 6)},
    {("PER", 0, 3), ("ORG", 5, 6)},
]


@right("crf.steps_needed")
def _(move, rate, warmup):
    lengths = (rate * min(1, step / max(warmup, 1)) for step in itertools.count(1))
    sums = itertools.accumulate(lengths)
    return next(n for n, gone in enumerate(sums, 1) if gone >= move)


@wrong("crf.steps_needed")
def _(move, rate, warmup):
    return math.ceil(move / rate)


@wrong("crf.steps_needed")
def _(move, rate, warmup):
    return RIGHT["crf.steps_needed"](move, rate, warmup) + 1


@right("crf.look")
def _(characters):
    return tagging.features_and_dictionary(characters)


@wrong("crf.look")
def _(characters):
    return tagging.features(characters)


@wrong("crf.look")
def _(characters):
    rows = zip(tagging.features(characters), tagging.looked_up(characters), strict=True)
    return [names + [word] * (t % 2) for t, (names, word) in enumerate(rows)]


@right("crf.legal_paths")
def _(follows, starts, L):
    ways = starts.long()
    for _ in range(L - 1):
        ways = ways @ follows.long()
    return int(ways.sum())


@wrong("crf.legal_paths")
def _(follows, starts, L):
    return len(starts) ** L


@wrong("crf.legal_paths")
def _(follows, starts, L):
    return int(torch.linalg.matrix_power(follows.long(), L - 1).sum())


@wrong("crf.legal_paths")
def _(follows, starts, L):
    return int((starts.long() @ torch.linalg.matrix_power(follows.long(), L)).sum())


@wrong("crf.legal_paths")
def _(follows, starts, L):
    return RIGHT["crf.legal_paths"](follows.T, starts, L)


def ways_on(emissions, transitions, end, own=False):
    betas = [end]
    for row in emissions[1:].flip(0):
        betas.append(torch.logsumexp(transitions + row + betas[-1], 1))
    return torch.stack(betas[::-1]) + emissions * own


RIGHT["crf.ways_on"] = ways_on
WRONG["crf.ways_on"] = [
    lambda e, T, b: ways_on(e, T.T, b),
    lambda e, T, b: ways_on(e, T, torch.zeros_like(b)),
    lambda e, T, b: ways_on(e, T, b, own=True),
    lambda e, T, b: ways_on(e, T, b).flip(0),
]


def log_z(emissions, start, transitions, end):
    alpha = start + emissions[0]
    for row in emissions[1:]:
        alpha = torch.logsumexp(alpha[:, None] + transitions, 0) + row
    return torch.logsumexp(alpha + end, 0)


@right("crf.log_probability")
def _(e, a, T, b, allowed):
    return log_z(torch.where(allowed, e, -torch.inf), a, T, b) - log_z(e, a, T, b)


@wrong("crf.log_probability")
def _(e, a, T, b, allowed):
    return log_z(torch.where(allowed, e, -torch.inf), a, T, b)


@wrong("crf.log_probability")
def _(e, a, T, b, allowed):
    return log_z(e * allowed, a, T, b) - log_z(e, a, T, b)


@wrong("crf.log_probability")
def _(e, a, T, b, allowed):
    return log_z(e, a, T, b) - log_z(torch.where(allowed, e, -torch.inf), a, T, b)


RIGHT["norms.crowd_sizes"] = {"BN": 1024, "LN": 768, "IN": 128, "GN": 3072}
WRONG["norms.crowd_sizes"] = [
    {"BN": 8, "LN": 768, "IN": 128, "GN": 3072},
    {"BN": 1024, "LN": 128, "IN": 128, "GN": 3072},
    {"BN": 1024, "LN": 768, "IN": 768, "GN": 3072},
]
RIGHT["norms.pads_to_zero"] = 1
WRONG["norms.pads_to_zero"] = [0, 2]
LN, RMS = {"shift": True, "stretch": True}, {"shift": False, "stretch": True}
RIGHT["norms.blind_to"] = {"LN": LN, "RMSNorm": RMS}
WRONG["norms.blind_to"] = [
    {"LN": LN, "RMSNorm": LN},
    {"LN": RMS, "RMSNorm": RMS},
]


def mean(x):
    return x.mean(-1, keepdim=True)


RIGHT["learning.guessing"] = math.log(21128)
WRONG["learning.guessing"] = [math.log2(21128), 1 / 21128, -math.log(21128)]


@right("learning.softmax")
def _(z):
    w = (z - z.amax(-1, keepdim=True)).exp()
    return w / w.sum(-1, keepdim=True)


@wrong("learning.softmax")
def _(z):
    return z.exp() / z.exp().sum(-1, keepdim=True)


@wrong("learning.softmax")
def _(z):
    return z.exp() / z.exp().sum(0)


@wrong("learning.softmax")
def _(z):
    w = (z - z.max()).exp()
    return w / w.sum(-1, keepdim=True)


@right("learning.smoothed_gradient")
def _(z, y, s):
    K = z.shape[-1]
    wanted = (1 - s) * torch.eye(K).double()[y] + s / K
    return (torch.softmax(z, -1) - wanted) / len(z)


@wrong("learning.smoothed_gradient")
def _(z, y, s):
    K = z.shape[-1]
    wanted = (1 - s) * torch.eye(K).double()[y] + s / K
    return torch.softmax(z, -1) - wanted


@wrong("learning.smoothed_gradient")
def _(z, y, s):
    return (torch.softmax(z, -1) - (1 - s) * torch.eye(z.shape[-1])[y]) / len(z)


def gain(a):
    return 2 / (1 + a * a)


RIGHT["norms.leaky_gain"] = gain
WRONG["norms.leaky_gain"] = [lambda a: 2 / (1 + a), lambda a: gain(a) ** 0.5]


def zca(x):
    values, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
    return axes / values.sqrt() @ axes.T


@right("norms.whitener")
def _(x):
    return lambda rows: (rows - x.mean(0)) @ zca(x)


@wrong("norms.whitener")
def _(x):
    return lambda rows: (rows - rows.mean(0)) @ zca(x)


@wrong("norms.whitener")
def _(x):
    return lambda rows: rows @ zca(x)


def average(f):
    """E f(z) for z ~ N(0, 1), by the trapezoidal rule."""
    z = torch.linspace(-9, 9, 40_001, dtype=torch.double)
    return torch.trapezoid(f(z) * torch.exp(-z * z / 2), z) / (2 * math.pi) ** 0.5


def passed(activation):
    def squared_slope(z):
        z = z.clone().requires_grad_()
        return torch.autograd.grad(activation(z).sum(), z)[0] ** 2

    return average(squared_slope)


@right("norms.growth")
def _(activation):
    variance = average(lambda z: activation(z) ** 2) - average(activation) ** 2
    return float((passed(activation) / variance) ** 0.5)


@wrong("norms.growth")
def _(activation):
    mean_square = average(lambda z: activation(z) ** 2)
    return float((passed(activation) / mean_square) ** 0.5)


@wrong("norms.growth")
def _(activation):
    variance = average(lambda z: activation(z) ** 2) - average(activation) ** 2
    return float(passed(activation) / variance)


@right("norms.layer_norm")
def _(x, weight, bias, eps):
    c = x - mean(x)
    return c / (mean(c * c) + eps).sqrt() * weight + bias


@wrong("norms.layer_norm")
def _(x, weight, bias, eps):
    return (x - mean(x)) / (x.std(-1, keepdim=True) + eps) * weight + bias


@wrong("norms.layer_norm")
def _(x, weight, bias, eps):
    c = x - mean(x)
    return c / (mean(c * c) + eps) * weight + bias


@wrong("norms.layer_norm")
def _(x, weight, bias, eps):
    variance = mean(x * x) - mean(x) ** 2
    return (x - mean(x)) / (variance + eps).sqrt() * weight + bias


@right("norms.rms_norm_backward")
def _(x, g, eps):
    r = (mean(x * x) + eps).sqrt()
    return (g - x / r * mean(g * x / r)) / r


@wrong("norms.rms_norm_backward")
def _(x, g, eps):
    return g / (mean(x * x) + eps).sqrt()


@wrong("norms.rms_norm_backward")
def _(x, g, eps):
    r = (mean(x * x) + eps).sqrt()
    return (g - mean(g) - x / r * mean(g * x / r)) / r


@right("norms.masked_batch_norm")
def _(x, mask, eps):
    rows = x[mask]
    return (x - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()


@wrong("norms.masked_batch_norm")
def _(x, mask, eps):
    rows = x.reshape(-1, x.shape[-1])
    return (x - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()


@wrong("norms.masked_batch_norm")
def _(x, mask, eps):
    x0 = x * mask[..., None]
    return (x - x0.mean((0, 1))) / (
        (x0 - x0.mean((0, 1))).square().mean((0, 1)) + eps
    ).sqrt()


def linear_of(weight, bias):
    result = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    result.weight.data, result.bias.data = weight, bias
    return result


@right("norms.fold")
def _(linear, bn):
    s = bn.weight / (bn.running_var + bn.eps).sqrt()
    bias = (linear.bias - bn.running_mean) * s + bn.bias
    return linear_of(linear.weight * s[:, None], bias)


@wrong("norms.fold")
def _(linear, bn):
    s = bn.weight / (bn.running_var + bn.eps).sqrt()
    return linear_of(linear.weight * s[:, None], linear.bias * s + bn.bias)


@wrong("norms.fold")
def _(linear, bn):
    s = bn.weight / bn.running_var.sqrt()
    bias = (linear.bias - bn.running_mean) * s + bn.bias
    return linear_of(linear.weight * s[:, None], bias)


@right("norms.qk_logits")
def _(q, k, g):
    q, k = (g * t / mean(t * t).sqrt() for t in (q, k))
    return q @ k.T / q.shape[-1] ** 0.5


@wrong("norms.qk_logits")
def _(q, k, g):
    q, k = (t / t.norm(dim=-1, keepdim=True) for t in (q, k))
    return g * g * q @ k.T / q.shape[-1] ** 0.5


@wrong("norms.qk_logits")
def _(q, k, g):
    q, k = (t / mean(t * t).sqrt() for t in (q, k))
    return g * q @ k.T / q.shape[-1] ** 0.5


@right("norms.centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(0), b - b.mean())


@wrong("norms.centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(1, keepdim=True), b - b.mean())


@wrong("norms.centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(0), b)


BAG = {
    "length": False,
    "share of 我": True,
    "first word": False,
    "most frequent word": True,
    "a word twice in a row": False,
}
RIGHT["positions.bag_knows"] = BAG
WRONG["positions.bag_knows"] = [BAG | {"length": True}, BAG | {"first word": True}]
RIGHT["positions.look"] = lambda k, d: places.shift(k, d) / 2 + places.shift(-k, d) / 2
WRONG["positions.look"] = [
    places.shift,
    lambda k, d: torch.eye(d).double(),
    lambda k, d: places.shift(k, d) + places.shift(-k, d),
    lambda k, d: places.shift(-k, d),
]
RIGHT["positions.order_error"] = lambda f, x, o: (f(x[o]) - f(x)[o]).abs().max()
WRONG["positions.order_error"] = [
    lambda f, x, o: (f(x[o]) - f(x)).abs().max(),
    lambda f, x, o: (f(x[o]) - f(x)[o.argsort()]).abs().max(),
    lambda f, x, o: (f(x[o]) - f(x)[o]).abs().mean(),
    lambda f, x, o: (f(x[o]) - f(x)[o]).max(),
    lambda f, x, o: (f(x[o]) - f(x)[o]).norm(),
]
RIGHT["positions.one_hand"] = 710
WRONG["positions.one_hand"] = [44, 355, 628]


def blocks(*rows):
    return lambda d: torch.block_diag(*[torch.tensor(rows).double()] * (d // 2))


RIGHT["positions.sided"] = blocks([0.0, -1.0], [1.0, 0.0])
WRONG["positions.sided"] = [
    blocks([0.0, 1.0], [-1.0, 0.0]),
    lambda d: torch.eye(d),
    blocks([0.0, 1.0], [1.0, 0.0]),
    lambda d: torch.zeros(d, d),
]


def counted(table):
    sizes = torch.linalg.svdvals(table - table.mean(0))
    return int((sizes[:20] / sizes[1:21]).argmax()) + 1


@right("positions.wavelengths")
def _(table, r=None, turn=2 * math.pi, mean=1):
    centred = table - mean * table.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2]
    z = centred @ axes[: r or counted(table)].T
    angles = torch.linalg.eigvals(torch.linalg.lstsq(z[:-1], z[1:]).solution).angle()
    return (turn / angles[angles > 0]).sort().values


@wrong("positions.wavelengths")
def _(table):
    return RIGHT["positions.wavelengths"](table).flip(0)


@wrong("positions.wavelengths")
def _(table):
    return RIGHT["positions.wavelengths"](table, turn=math.pi)


@wrong("positions.wavelengths")
def _(table):
    return RIGHT["positions.wavelengths"](table).repeat(2)


@wrong("positions.wavelengths")
def _(table):
    return (2 * math.pi / RIGHT["positions.wavelengths"](table)).flip(0)


@wrong("positions.wavelengths")
def _(table):
    return RIGHT["positions.wavelengths"](table, r=2)


RELATIVE = {"B": 12_276, "T5": 384, "Shaw": 2112, "ALiBi": 0, "RoPE": 0}
RIGHT["positions.relative_parameters"] = RELATIVE
WRONG["positions.relative_parameters"] = [
    RELATIVE | {"B": 12 * 512 * 512},
    RELATIVE | {"T5": 32},
    RELATIVE | {"Shaw": 12 * 33 * 64},
]


def stripes(b, sign=1, start=None):
    L = (len(b) + 1) // 2
    i = torch.arange(L)
    return b[sign * (i[None] - i[:, None]) + (L - 1 if start is None else start)]


RIGHT["positions.toeplitz"] = stripes
WRONG["positions.toeplitz"] = [
    lambda b: stripes(b, -1),
    lambda b: stripes(b, start=0),
    lambda b: b.expand(4, -1)[:, :4],
]


def as_complex(t, angle):
    pairs = torch.view_as_complex(t.reshape(len(t), -1, 2))
    return pairs * torch.polar(torch.ones_like(angle), angle)


def clock_angles(q, base):
    omega = base ** (-torch.arange(0, q.shape[1], 2, dtype=torch.double) / q.shape[1])
    return torch.arange(len(q))[:, None] * omega


@right("positions.rope_scores")
def _(q, k, base):
    angle = clock_angles(q, base)
    return (as_complex(q, angle) @ as_complex(k, angle).conj().T).real / 8**0.5


@wrong("positions.rope_scores")
def _(q, k, base):
    angle = clock_angles(q, base)
    return (as_complex(q, angle) @ as_complex(k, angle).T).real / 8**0.5


@wrong("positions.rope_scores")
def _(q, k, base):
    angle = clock_angles(q, base)
    return (as_complex(q, angle) @ as_complex(k, angle).conj().T).real


@wrong("positions.rope_scores")
def _(q, k, base):
    q, k = (
        torch.complex(*t.chunk(2, -1)) * torch.exp(1j * clock_angles(t, base))
        for t in (q, k)
    )
    return (q @ k.conj().T).real / 8**0.5


def window(t, sign=1):
    M = (len(t) + 1) // 2
    patch = torch.arange(M * M)
    row, column = patch // M, patch % M
    down, along = (sign * (x[None] - x[:, None]) + M - 1 for x in (row, column))
    return t[down, along]


RIGHT["positions.window_bias"] = window
WRONG["positions.window_bias"] = [
    lambda t: window(t, -1),
    lambda t: window(t.T),
    lambda t: window(t).flip(0),
]

RIGHT["positions.turning_pairs"] = 40
WRONG["positions.turning_pairs"] = [49, 39, 24]
RIGHT["positions.ntk_base"] = lambda d, base, factor: base * factor ** (d / (d - 2))
WRONG["positions.ntk_base"] = [
    lambda d, base, factor: base * factor,
    lambda d, base, factor: base * factor ** ((d - 2) / d),
]
RIGHT["positions.gap_needed"] = lambda w, n: math.log(w / (1 - w)) + math.log(n - 1)
WRONG["positions.gap_needed"] = [
    lambda w, n: math.log(w / (1 - w)) + math.log(n),
    lambda w, n: math.log(n - 1),
]


def kept(d, trained, base, slow, fast):
    omega = base ** (-torch.arange(0, d, 2, dtype=torch.double) / d)
    return ((trained * omega / (2 * math.pi) - slow) / (fast - slow)).clamp(0, 1)


def ramp(d, factor, trained, base, slow, fast, turn=2 * math.pi, swap=False):
    omega = base ** (-torch.arange(0, d, 2, dtype=torch.double) / d)
    keep = ((trained * omega / turn - slow) / (fast - slow)).clamp(0, 1)
    keep = 1 - keep if swap else keep
    return omega * (keep + (1 - keep) / factor)


RIGHT["positions.by_parts"] = ramp
WRONG["positions.by_parts"] = [
    lambda *how: ramp(*how, swap=True),
    lambda *how: ramp(*how, turn=1),
    lambda d, factor, trained, base, slow, fast: places.yarn(
        d, factor, trained, base, fast, slow
    ),
    lambda d, factor, trained, base, slow, fast: ramp(d, factor, trained, base, 1, 32),
    lambda d, factor, *how: (
        1
        / (1 / ramp(d, 1, *how) + (factor - 1) * (1 - kept(d, *how)) / ramp(d, 1, *how))
    ),
]


def most_frequent(words, weigh=lambda count: count, once=False, tie=min):
    """The pair that BPE merges next; the options are ways to get it wrong."""
    counts = Counter()
    for parts, count in words.items():
        pairs = [*itertools.pairwise(parts)]
        for pair in set(pairs) if once else pairs:
            counts[pair] += weigh(count)
    top = max(counts.values())
    return tie(pair for pair in counts if counts[pair] == top)


RIGHT["bpe.next_pair"] = lambda words: most_frequent(words)
WRONG["bpe.next_pair"] = [
    lambda words: most_frequent(words, weigh=lambda count: 1),
    lambda words: most_frequent(words, once=True),
    lambda words: most_frequent(words, tie=max),
]


@right("bpe.ready")
def _(data):
    return len(data.decode("utf-8", "ignore").encode())


WRONG["bpe.ready"] = [
    len,
    lambda data: len(data) if RIGHT["bpe.ready"](data) == len(data) else 0,
]

RIGHT["bpe.from_the_right"] = r"\d{1,3}(?=(?:\d{3})*(?!\d))|\D+"
WRONG["bpe.from_the_right"] = [
    r"\d{1,3}|\D+",
    r"\d{1,3}(?=(?:\d{3})*(?!\d))",
    r"\d+|\D+",
    r"\d{1,3}(?=(?:\d{3})*(?!\d))|\D",
]


def dropping(draw_once=False, stays=False, never=False):
    """BPE-dropout, and ways to get it wrong."""

    def drop(piece, ranks, p, rng):
        parts, gone = [bytes([b]) for b in piece], {}
        p = 1 - p if stays and 0 < p < 1 else p

        def left_out(token):
            if draw_once:
                return gone.setdefault(token, rng.random() < p)
            return rng.random() < p and not never

        while True:
            sums = [a + b for a, b in itertools.pairwise(parts)]
            open_to = [s for s in sums if s in ranks and not left_out(s)]
            if not open_to:
                return parts
            i = sums.index(min(open_to, key=ranks.get))
            parts[i : i + 2] = [sums[i]]

    return drop


RIGHT["bpe.dropout"] = dropping()
WRONG["bpe.dropout"] = [
    dropping(stays=True),
    dropping(never=True),
    lambda piece, ranks, p, rng: (
        [*filter(None, dropping()(piece, ranks, p, rng)[:-1])]
        if 0 < p < 1
        else dropping()(piece, ranks, p, rng)
    ),
]


RIGHT["tensors.outcomes"] = {
    "(3, 4) @ (4,)": (3,),
    "(4,) @ (3, 4)": None,
    "(2, 3, 4) @ (4, 5)": (2, 3, 5),
    "mm of (2, 3, 4) and (2, 4, 5)": None,
    "inner of (2, 3) and (5, 3)": (2, 5),
    "einsum bij,bkj->ik of (7, 2, 3) and (7, 5, 3)": (2, 5),
}
WRONG["tensors.outcomes"] = [
    RIGHT["tensors.outcomes"] | {"(3, 4) @ (4,)": (3, 1)},
    RIGHT["tensors.outcomes"] | {"(4,) @ (3, 4)": (3,)},
    RIGHT["tensors.outcomes"] | {"(2, 3, 4) @ (4, 5)": None},
    RIGHT["tensors.outcomes"] | {"mm of (2, 3, 4) and (2, 4, 5)": (2, 3, 5)},
    RIGHT["tensors.outcomes"] | {"(3, 4) @ (4,)": 3},
]


@right("tensors.cosine_table")
def _(a, b):
    lengths = a.norm(dim=1)[:, None] * b.norm(dim=1)
    return a @ b.T / lengths.clamp_min(1e-12)


WRONG["tensors.cosine_table"] = [
    lambda a, b: a @ b.T,
    lambda a, b: a @ b.T / a.norm(dim=1, keepdim=True),
    lambda a, b: a @ b.T / a.norm(dim=1)[:, None] / b.norm(dim=1),
    lambda a, b: (a @ b.T / a.norm(dim=1)[:, None] / b.norm(dim=1)).T,
]

RIGHT["tensors.equations"] = {
    "rows": "nd,nd->n",
    "gram": "bqd,bkd->bqk",
    "merge": "bhld,hde->ble",
}
WRONG["tensors.equations"] = [
    RIGHT["tensors.equations"] | {"rows": "nd,nd->"},
    RIGHT["tensors.equations"] | {"rows": "nd,md->nm"},
    RIGHT["tensors.equations"] | {"gram": "bqd,bkd->qk"},
    RIGHT["tensors.equations"] | {"merge": "bhld,hde->bhle"},
    RIGHT["tensors.equations"] | {"merge": "bhld,gde->ble"},
]


@right("tensors.cheapest")
def _(sizes):
    @functools.cache
    def of(i, j):
        ends, inner = sizes[i] * sizes[j], range(i + 1, j)
        return min((of(i, k) + of(k, j) + ends * sizes[k] for k in inner), default=0)

    return of(0, len(sizes) - 1)


WRONG["tensors.cheapest"] = [
    lambda sizes: sum(sizes[0] * b * c for b, c in itertools.pairwise(sizes[1:])),
    lambda sizes: sizes[0] * sizes[-1],
]


@wrong("tensors.cheapest")
def _(sizes):
    cost, rest = 0, list(sizes)
    while len(rest) > 2:
        k = max(range(1, len(rest) - 1), key=rest.__getitem__)
        cost += rest[k - 1] * rest[k] * rest[k + 1]
        del rest[k]
    return cost


RIGHT["tensors.divided"] = lambda x: x / x.sum(-1)[..., None]
WRONG["tensors.divided"] = [
    lambda x: x / x.sum(-1),
    lambda x: x / x.sum(),
    lambda x: x / x.sum(-2, keepdim=True),
    lambda x: x / (x.sum(-1) if x.shape[-1] == x.shape[-2] else x.sum(-1)[..., None]),
]
RIGHT["tensors.distances"] = lambda a, b: torch.cdist(a, b)
WRONG["tensors.distances"] = [
    lambda a, b: torch.cdist(a, b) ** 2,
    lambda a, b: torch.cdist(a, b, p=1),
    lambda a, b: torch.cdist(b, a),
]
RIGHT["tensors.largest_rule"] = 596
WRONG["tensors.largest_rule"] = [0, 298, 1375, 660, 7]
RIGHT["tensors.product"] = lambda left, right: torch.matmul(left, right)


@wrong("tensors.product")
def _(left, right):
    return (left[..., None] * right[..., None, :, :]).sum(-2)


@wrong("tensors.product")
def _(left, right):
    return left[0] if left.ndim == right.ndim == 1 else torch.matmul(left, right)


@wrong("tensors.product")
def _(left, right):
    """The summed axes stretch."""
    rows, columns = torch.atleast_2d(left), right if right.ndim > 1 else right[:, None]
    result = (rows[..., None] * columns[..., None, :, :]).sum(-2)
    result = result[..., 0, :] if left.ndim == 1 else result
    return result[..., 0] if right.ndim == 1 else result


@wrong("tensors.product")
def _(left, right):
    """A vector on the right stays a column."""
    result = torch.matmul(left, right)
    return result[..., None] if right.ndim == 1 < left.ndim else result


@right("subwords.ways")
def _(text, pieces, first=1, more=0):
    ways = [first] + [0] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(end):
            ways[end] += (text[start:end] in pieces or more) * ways[start]
    return ways[-1]


WRONG["subwords.ways"] = [
    lambda text, pieces: RIGHT["subwords.ways"](text, pieces, more=1),
    lambda text, pieces: RIGHT["subwords.ways"](text, pieces) if text else 0,
    lambda text, pieces: RIGHT["subwords.ways"](text, pieces - {text}),
]


@right("subwords.fewest")
def _(word, pieces, mark="##", better=min, start=math.inf, none=None):
    best = [0] + [start] * len(word)
    for end in range(1, len(word) + 1):
        for begin in range(end):
            if (mark if begin else "") + word[begin:end] in pieces:
                best[end] = better(best[end], best[begin] + 1)
    return none if abs(best[-1]) == math.inf else best[-1]


def greedy_pieces(word, pieces):
    start = count = 0
    while start < len(word):
        mark, ends = "##" if start else "", range(len(word), start, -1)
        fits = [end for end in ends if mark + word[start:end] in pieces]
        if not fits:
            return None
        start, count = fits[0], count + 1
    return count


WRONG["subwords.fewest"] = [
    greedy_pieces,
    lambda word, pieces: RIGHT["subwords.fewest"](word, pieces, none=math.inf),
    lambda word, pieces: RIGHT["subwords.fewest"](
        word, pieces, better=max, start=-math.inf
    ),
    lambda word, pieces: RIGHT["subwords.fewest"](
        word, {piece.removeprefix("##") for piece in pieces}, mark=""
    ),
]


@right("subwords.entropy")
def _(model, text, sign=1, whole=1):
    mean, known = 0.0, model.scores
    for (a, b), share in model.posterior(text).items():
        mean += share * known.get(text[a:b], model.unknown)
    return sign * (whole * model.log_likelihood(text) - mean)


WRONG["subwords.entropy"] = [
    lambda model, text: RIGHT["subwords.entropy"](model, text, sign=-1),
    lambda model, text: RIGHT["subwords.entropy"](model, text, whole=0),
    lambda model, text: (
        -sum(p * math.log(p) for p in model.posterior(text).values() if p)
    ),
]


@right("speed.hit_rate")
def _(counts, ranks):
    return sum(n for p, n in counts.items() if p in ranks) / sum(counts.values())


WRONG["speed.hit_rate"] = [
    lambda counts, ranks: sum(p in ranks for p in counts) / len(counts),
    lambda counts, ranks: 1 - RIGHT["speed.hit_rate"](counts, ranks),
    lambda counts, ranks: sum(n for p, n in counts.items() if p in ranks),
]


class Kept:
    """A cache of results; `goes` names the entry that goes when it is full."""

    goes, moves, room = staticmethod(lambda keys: keys[0]), True, 0

    def __init__(self, size, compute):
        self.size, self.compute, self.kept = size + self.room, compute, {}

    def get(self, key):
        known = key in self.kept
        result = self.kept[key] if known else self.compute(key)
        if self.moves or not known:
            self.kept.pop(key, None)
            self.kept[key] = result
        if len(self.kept) > self.size:
            del self.kept[self.goes([*self.kept])]
        return result


RIGHT["speed.LRU"] = Kept
WRONG["speed.LRU"] = [
    type("First", (Kept,), {"moves": False}),
    type("Large", (Kept,), {"room": 1}),
    type("Keys", (Kept,), {"get": lambda self, key: Kept.get(self, key).lower()}),
]


def colliding(undo=True, first=range(64), size=8):
    """Strings of two words whose FxHash is the same if the second undoes the first."""
    found = []
    for number in first:
        h = number * 0x517CC1B727220A95 % 2**64
        second = (h << 5 | h >> 59) % 2**64 if undo else h
        found.append(number.to_bytes(size, "little") + second.to_bytes(8, "little"))
    return found


RIGHT["speed.collisions"] = colliding()
WRONG["speed.collisions"] = [
    colliding(undo=False),
    colliding(first=[7] * 64),
    colliding(size=4),
]


@right("words.from_the_end")
def _(text, known, longest, shortest=False):
    found, end = [], len(text)
    while end:
        sizes = range(min(longest, end), 0, -1)
        size = next((n for n in sizes if text[end - n : end] in known), 1)
        if shortest:
            size = next((n for n in sizes[::-1] if text[end - n : end] in known), 1)
        found.append(text[end - size : end])
        end -= size
    return found[::-1]


@wrong("words.from_the_end")
def _(text, known, longest):
    found, start = [], 0
    while start < len(text):
        sizes = range(min(longest, len(text) - start), 0, -1)
        size = next((n for n in sizes if text[start : start + n] in known), 1)
        found.append(text[start : start + size])
        start += size
    return found


WRONG["words.from_the_end"] += [
    lambda *given: RIGHT["words.from_the_end"](*given)[::-1],
    lambda *given: RIGHT["words.from_the_end"](*given, shortest=True),
    lambda text, known, longest: RIGHT["words.from_the_end"](text, known, longest - 1),
]

RIGHT["words.both_wrong"] = ["从", "中学", "到", "大学"]
WRONG["words.both_wrong"] = [
    "从中学到大学",
    ["你", "说", "的", "确实", "有", "道理"],
    ["研究", "生命", "起源"],  # the two disagree
    ["南京市", "长江大桥"],  # the two are right
    ["叶知秋", "来"],
    ["没", "看"],  # 没看 is in the dictionary, and crosses nothing
    ["从中", "学", "到", "大学"],
]


@right("words.house_style")
def _(pairs, sure=0.5):
    ways = {}
    for cut, gold in pairs:
        text = "".join(gold)
        ends = set(itertools.accumulate(map(len, gold), initial=0))
        start = 0
        for word in cut:
            end = start + len(word)
            if {start, end} <= ends:
                inner = sorted(e for e in ends if start <= e <= end)
                parts = tuple(text[a:b] for a, b in itertools.pairwise(inner))
                ways.setdefault(word, Counter())[parts] += 1
            start = end
    best = {
        word: seen.most_common(1)[0][0]
        for word, seen in ways.items()
        if seen.most_common(1)[0][1] > sure * seen.total()
    }
    return lambda cut: [part for word in cut for part in best.get(word, (word,))]


WRONG["words.house_style"] = [
    lambda pairs: pairs[0][1],
    lambda pairs: lambda cut: cut[1:],
    lambda pairs: lambda cut: [c for word in cut for c in word],  # worse
    lambda pairs: lambda cut: cut,  # nothing learnt
]


def groups_of_seven(number, turned=False, last=0):
    """A varint, and ways to get it wrong."""
    count = max(1, -(-number.bit_length() // 7))
    groups = [number >> 7 * i & 127 for i in range(count)]
    groups = groups[::-1] if turned else groups
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1] | last])


RIGHT["sentencepiece.to_varint"] = lambda number: groups_of_seven(number)
WRONG["sentencepiece.to_varint"] = [
    lambda number: groups_of_seven(number, turned=True),
    lambda number: groups_of_seven(number, last=128),
    lambda number: number.to_bytes(number.bit_length() // 8 + 1, "little"),
]


def sp_field(number, content):
    return groups_of_seven(number << 3 | 2) + groups_of_seven(len(content)) + content


def sp_piece(text, rest=b""):
    return sp_field(1, sp_field(1, text.encode()) + rest)


RIGHT["sentencepiece.with_symbol"] = lambda d, t: d + sp_piece(t, bytes([24, 4]))
WRONG["sentencepiece.with_symbol"] = [
    lambda d, t: sp_piece(t, bytes([24, 4])) + d,
    lambda d, t: d + sp_piece(t),
    lambda d, t: d + sp_field(1, t.encode()),  # no message around the text
    lambda d, t: d,
]


@right("sentencepiece.stream")
def _(model, ids):
    whole = [model.decode(ids[:n]) for n in range(len(ids))]
    whole = [text for text in whole if not text.endswith("\ufffd")]
    return [b[len(a) :] for a, b in itertools.pairwise([*whole, model.decode(ids)])]


def held_back_for_ever(model, ids):
    whole = [model.decode(ids[:n]) for n in range(len(ids) + 1)]
    whole = [text for text in whole if not text.endswith("\ufffd")]
    return [b[len(a) :] for a, b in itertools.pairwise(whole)]


WRONG["sentencepiece.stream"] = [
    held_back_for_ever,
    lambda model, ids: [model.decode([i]) for i in ids],
    lambda model, ids: [model.decode(ids)],
    lambda model, ids: [
        model.decode(ids[:n])[len(model.decode(ids[: n - 1])) :]
        for n in range(1, len(ids) + 1)
    ],
]


def sp_model(scores, unknown=True, pack="<f", every=1):
    """A model of a Unigram's scores, and ways to get it wrong."""
    pieces = [sp_piece("<unk>", bytes([24, 2]))] * unknown
    for piece in [*scores][::every]:
        score = bytes([21]) + struct.pack(pack, scores[piece]) if pack else b""
        pieces.append(sp_piece(piece, score))
    return b"".join(pieces)


RIGHT["sentencepiece.as_model"] = lambda scores: sp_model(scores)
WRONG["sentencepiece.as_model"] = [
    lambda scores: sp_model(scores, unknown=False),
    lambda scores: sp_model(scores, pack=""),
    lambda scores: sp_model(scores, every=2),
]


@right("quantization.bits_needed")
def _(peak, rms, decibels, bits=6.02, rounding=math.ceil, sign=1):
    spread = sign * 20 * math.log10(peak / rms)
    return rounding((decibels - 4.77 + spread) / bits)


@wrong("quantization.bits_needed")
def _(peak, rms, decibels):
    return RIGHT["quantization.bits_needed"](peak, rms, decibels, rounding=math.floor)


@wrong("quantization.bits_needed")
def _(peak, rms, decibels):
    return RIGHT["quantization.bits_needed"](peak, rms, decibels, sign=-1)


@right("quantization.scale_and_zero")
def _(low, high, bits, steps=-1, wide=True):
    if wide:
        low, high = min(low, 0), max(high, 0)
    scale = (high - low) / (2**bits + steps)
    return scale, round(-low / scale)


@wrong("quantization.scale_and_zero")
def _(low, high, bits):
    return RIGHT["quantization.scale_and_zero"](low, high, bits, steps=0)


@wrong("quantization.scale_and_zero")
def _(low, high, bits):
    return RIGHT["quantization.scale_and_zero"](low, high, bits, wide=False)


@wrong("quantization.scale_and_zero")
def _(low, high, bits):
    scale, zero = RIGHT["quantization.scale_and_zero"](low, high, bits)
    return scale, zero - 2 ** (bits - 1)


@right("quantization.mixed_product")
def _(x, weight, threshold, size=torch.abs, late=False, axis=0):
    large = size(x).amax(0) > threshold
    sum_of_large = x[:, large] @ weight[:, large].T

    def rounded(t, along=0):
        kept = t if late else t[:, ~large]
        ends = int8.minmax(kept, along)
        there = int8.fake_quantise(kept, int8.grid_of(*ends, symmetric=True))
        return there[:, ~large] if late else there

    return sum_of_large + rounded(x, axis) @ rounded(weight).T


@wrong("quantization.mixed_product")
def _(x, weight, threshold):
    return RIGHT["quantization.mixed_product"](x, weight, threshold, size=torch.clone)


@wrong("quantization.mixed_product")
def _(x, weight, threshold):
    return RIGHT["quantization.mixed_product"](x, weight, threshold, late=True)


@wrong("quantization.mixed_product")
def _(x, weight, threshold):
    return RIGHT["quantization.mixed_product"](x, weight, threshold, axis=None)


@wrong("quantization.mixed_product")
def _(x, weight, threshold):
    return x @ weight.T


def better_levels(rounds: int = 40) -> torch.Tensor:
    """Lloyd's algorithm on blocks of 64, each block counted by its square."""
    blocks = torch.tensor(np.random.default_rng(9).normal(size=(4000, 64))).float()
    peak = blocks.abs().amax(1, keepdim=True)
    points, mass = (blocks / peak).flatten(), (peak**2).expand_as(blocks).flatten()
    found = int8.nf4_levels().clone()
    for _ in range(rounds):
        place = torch.bucketize(points, (found[1:] + found[:-1]) / 2)
        moments = torch.zeros(16).index_add_(0, place, points * mass)
        found = moments / torch.zeros(16).index_add_(0, place, mass)
    return found


RIGHT["quantization.levels"] = better_levels()
WRONG["quantization.levels"] = [
    int8.nf4_levels(),
    torch.linspace(-1, 1, 16),
    better_levels(1) * 0.5 + int8.nf4_levels() * 0.5,
    torch.linspace(-3, 3, 16),
    torch.linspace(1, -1, 16),
    torch.linspace(-1, 1, 15),
]


RIGHT["quantization.follows"] = [False, True, True, False, False]
WRONG["quantization.follows"] = [
    [False, True, True, True, False],
    [False, True, True, False, True],
    [False, False, True, False, False],
    [False, True],
]


@right("quantization.moving_range")
def _(batches, c, towards=1):
    low, high = batches[0].min(), batches[0].max()
    for batch in batches[1:]:
        low = low + (c if towards else 1 - c) * (batch.min() - low)
        high = high + (c if towards else 1 - c) * (batch.max() - high)
    return low.item(), high.item()


@wrong("quantization.moving_range")
def _(batches, c):
    return RIGHT["quantization.moving_range"](batches, c, towards=0)


@wrong("quantization.moving_range")
def _(batches, c):
    zero = torch.zeros_like(batches[0])
    return RIGHT["quantization.moving_range"]([zero, *batches], c)


@wrong("quantization.moving_range")
def _(batches, c):
    return torch.stack(batches).min().item(), torch.stack(batches).max().item()


@right("quantization.step_gradient")
def _(x, s, low, high, share=1, beyond=1):
    u = x / s
    outside = u.clamp(low, high)
    return torch.where(outside == u, u.round() - share * u, beyond * outside)


@wrong("quantization.step_gradient")
def _(x, s, low, high):
    return (x / s).round().clamp(low, high)


@wrong("quantization.step_gradient")
def _(x, s, low, high):
    return RIGHT["quantization.step_gradient"](x, s, low, high, beyond=0)


@wrong("quantization.step_gradient")
def _(x, s, low, high):
    return RIGHT["quantization.step_gradient"](x, s, low, high, share=-1)


@right("bert_int8.shrunk")
def _(N, M, bits):
    return (bits * M + 32 * (N - M)) / (32 * N)


WRONG["bert_int8.shrunk"] = [
    lambda N, M, bits: 1 - RIGHT["bert_int8.shrunk"](N, M, bits),
    lambda N, M, bits: bits * M / (32 * N),
    lambda N, M, bits: 1 - 0.75 * M / N,
]


def file_share(V, D, layers, table_bytes=1, pooler=1, places=514):
    """The share of a BERT's file after int8, and ways to get it wrong."""
    linear, table = (12 * layers + pooler) * D**2, (V + places) * D
    rest = layers * 13 * D + D + 2 * D
    after = linear + table_bytes * table + 4 * rest
    return after / (4 * (linear + table + rest))


RIGHT["bert_int8.tables"] = file_share
WRONG["bert_int8.tables"] = [
    lambda V, D, layers: file_share(V, D, layers, table_bytes=4),
    lambda V, D, layers: file_share(V, D, layers, pooler=0),
    lambda V, D, layers: file_share(V, D, layers, places=0),
    lambda V, D, layers: 0.25,
]

RIGHT["onnx.mystery"] = ["MatMul", "Softmax", "MatMul"]
WRONG["onnx.mystery"] = [["MatMul", "Exp", "Div", "MatMul"], ["MatMul", "Softmax"], "@"]


def onnx_graph(*nodes):
    """A model of inputs a and b and one output c, from (operator, in, out)."""
    from onnx import TensorProto, helper

    value = {
        n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "abc"
    }
    made = [helper.make_node(op, inputs, [out]) for op, inputs, out in nodes]
    graph = helper.make_graph(made, "g", [value["a"], value["b"]], [value["c"]])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


SQUARES = ("Mul", ["a", "a"], "aa"), ("Mul", ["b", "b"], "bb")
RIGHT["onnx.hypotenuse"] = onnx_graph(
    *SQUARES, ("Add", ["aa", "bb"], "s"), ("Sqrt", ["s"], "c")
)
WRONG["onnx.hypotenuse"] = [
    onnx_graph(*SQUARES, ("Add", ["aa", "bb"], "c")),
    onnx_graph(("Abs", ["a"], "x"), ("Abs", ["b"], "y"), ("Add", ["x", "y"], "c")),
    "a graph",
]


class FreedHalves(nn.Module):
    """First half minus second, for every even length; `way` is a way to go wrong."""

    way = ""

    def forward(self, x):
        half = x.shape[1] // 2
        if self.way == "eight":
            return (x[:, :4] - x[:, 4:8]).mean(1)
        if self.way == "alternate":
            return (x[:, ::2] - x[:, 1::2]).mean(1)
        if self.way == "frozen":
            return (x[:, : int(str(half))] - x[:, int(str(half)) :]).mean(1)
        return (x[:, :half] - x[:, half:]).mean(1)


RIGHT["onnx.Freed"] = FreedHalves
WRONG["onnx.Freed"] = [
    type("Wrong", (FreedHalves,), {"way": way}) for way in ("eight", "alternate")
]


@right("onnx.folded")
def _(nodes, constants):
    known = set(constants)
    return [out for _, given, out in nodes if known >= {*given} and not known.add(out)]


WRONG["onnx.folded"] = [
    lambda nodes, constants: [out for _, given, out in nodes if constants >= {*given}],
    lambda nodes, constants: [out for _, _, out in nodes],
    lambda nodes, constants: RIGHT["onnx.folded"](nodes, constants)[::-1],
]


def fusing(chain, patterns, choose=max, on=True):
    """Patterns replaced from the left; the options are ways to get it wrong."""
    made, i = [], 0
    while i < len(chain):
        found = [p for p in patterns if tuple(chain[i : i + len(p)]) == p]
        best = choose(found, key=len) if found else chain[i : i + 1]
        made.append(patterns.get(tuple(best), best[0]))
        i += len(best) if on else 1
    return made


RIGHT["onnx.fuse"] = fusing
WRONG["onnx.fuse"] = [
    lambda chain, patterns: fusing(chain, patterns, choose=min),
    lambda chain, patterns: fusing(chain, patterns, on=False),
    lambda chain, patterns: [op for op in fusing(chain, patterns) if op != "Relu"],
]


def may_fuse(nodes, outputs, first, second, readers=1, kept=True):
    """Pairs that may be fused, or more than may."""
    pairs = []
    for i, (operator, _, out) in enumerate(nodes):
        reading = [j for j, (_, given, _) in enumerate(nodes) if out in given]
        if operator == first and 0 < len(reading) <= readers:
            if not (kept and out in outputs) and nodes[reading[0]][0] == second:
                pairs.append((i, reading[0]))
    return pairs


RIGHT["onnx.fusable"] = may_fuse
WRONG["onnx.fusable"] = [
    lambda *given: may_fuse(*given, readers=9),
    lambda *given: may_fuse(*given, kept=False),
    lambda *given: [pair[::-1] for pair in may_fuse(*given)],
]

RIGHT["onnx.speedup"] = lambda a, b: np.median(np.array(a) / np.array(b))
WRONG["onnx.speedup"] = [
    lambda a, b: np.median(np.array(b) / np.array(a)),
    lambda a, b: np.mean(np.array(a) / np.array(b)),
    lambda a, b: np.mean(a) / np.mean(b),
]


@right("onnx.with_padding")
def _(lengths, size):
    cut = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in cut)


WRONG["onnx.with_padding"] = [
    lambda lengths, size: sum(lengths),
    lambda lengths, size: len(lengths) * max(lengths),
    lambda lengths, size: sum(
        size * max(lengths[i : i + size]) for i in range(0, len(lengths), size)
    ),
]


def resampled(a, b, level, count=None, order=1):
    """A bootstrap interval of the median ratio; `count` rounds a draw."""
    ratios = np.array(a) / np.array(b)
    draws = np.random.default_rng(0).choice(ratios, (2000, count or len(ratios)))
    ends = np.quantile(np.median(draws, 1), [(1 - level) / 2, (1 + level) / 2])
    return tuple(ends[::order])


RIGHT["onnx.interval"] = resampled
WRONG["onnx.interval"] = [
    lambda a, b, level: resampled(a, b, level, count=1),
    lambda a, b, level: resampled(a, b, level, order=-1),
    lambda a, b, level: resampled(b, a, level),
]


@pytest.mark.parametrize("name", CHECKS)
def test_the_right_answer_passes(name, capsys):
    CHECKS[name](RIGHT[name])
    assert capsys.readouterr().out.startswith("Right. Checked: ")


@pytest.mark.parametrize("name", CHECKS)
def test_an_open_exercise_is_no_failure(name, capsys):
    CHECKS[name](...)
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", CHECKS)
def test_wrong_answers_get_different_hints(name):
    hints = []
    for answer in WRONG[name]:
        with pytest.raises(NotYet) as caught:
            CHECKS[name](answer)
        message = str(caught.value)
        hints.append(message.partition("Hint: ")[2])
        source = inspect.getsource(RIGHT[name]) if callable(RIGHT[name]) else "☃"
        lines = [line.strip() for line in source.splitlines()[2:] if line.strip()]
        assert not any(line in message for line in lines), "it gives the answer away"
    assert len(hints) >= 2 and all(hints) and len(set(hints)) == len(hints), hints


@exercise
def twice(answer):
    """doubling."""
    hint = "Add x to x."
    expect_close("f", answer(torch.ones(2, 3)), torch.full((2, 3), 2.0), {}, hint)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: None, "f is None"),
        (lambda x: x.sum(0), "keepdim=True"),
        (lambda x: 2 * x.T, "order is not"),
        (lambda x: x, "off by up to 1.*Add x to x"),
        (lambda x: x + torch.ones(7), "raised RuntimeError"),
    ],
)
def test_the_machinery_says_what_is_wrong(answer, message):
    with pytest.raises(NotYet, match=f"(?s){message}"):
        twice(answer)


def test_the_notebook_shows_the_message_alone():
    assert NotYet("Look again.")._render_traceback_() == ["Not yet. Look again."]
