"""Checks of chapter 01. Import as `from utils.exercises import norms as check`."""

import copy

import numpy as np

from utils.lab.check import exercise, expect, expect_close


def _block(seed: int = 0, shape: tuple[int, ...] = (2, 3, 5)):
    import torch

    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@exercise
def leaky_gain(answer):
    """the gain for slopes 0.2, 0 (ReLU) and 1 (the identity)."""
    for a in (0.2, 0.0, 1.0):
        want = 2 / (1 + a**2)
        slips = {
            "A slope a multiplies the mean square by a², not by a.": 2 / (1 + a),
            "That is a standard deviation; the gain is n times a variance.": want**0.5,
            "That is the part a layer keeps; the gain makes up for it.": 1 / want,
            "That is ReLU's gain. What does the negative half add now?": 2.0,
        }
        hint = "Average the mean square over both halves, then solve gain · part = 1."
        expect_close(f"leaky_gain({a})", answer(a), want, slips, hint)


@exercise
def whitener(answer):
    """the rows it learnt from, new rows, and a single row."""
    import torch

    from utils.norms import whiten

    mixing = torch.tensor([[2.0, 0.9, 0.3], [0, 0.4, 0.2], [0, 0, 0.5]]).double()
    x, new = _block(5, (60, 3)) @ mixing + 3, _block(6, (20, 3)) @ mixing + 4
    values, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
    zca = axes / values.sqrt() @ axes.T
    apply = answer(x)
    said = f"whitener(x) is a {type(apply).__name__}."
    expect(callable(apply), said, "a function", "Return `lambda rows: …`.")
    for name, rows in {"x": x, "new rows": new, "one new row": new[:1]}.items():
        centred = rows - x.mean(0)
        slips = {
            "Centre by the mean of x; the function has to remember it.": (
                rows - rows.mean(0)
            )
            @ zca,
            "Is the mean of x subtracted at all?": rows @ zca,
            "Divide by the root of the eigenvalues.": centred
            @ (axes / values @ axes.T),
            "That is BN, each feature alone. Turn first.": centred
            / x.std(0, correction=0),
            "Divisor n, as in `whiten`, not n − 1.": centred
            @ zca
            * (1 - 1 / len(x)) ** 0.5,
        }
        if len(rows) > 3:
            slips["That whitens the rows by themselves, not by x."] = whiten(rows)
        got, want = torch.as_tensor(apply(rows)), centred @ zca
        hint = "Compare with `whiten(x)` on x itself first."
        lengths_agree = got.shape == want.shape and torch.allclose(
            got.norm(dim=-1), want.norm(dim=-1)
        )
        if lengths_agree:
            hint = "Right up to a turn: that is PCA. ZCA turns back, with `@ axes.T`."
        expect_close(f"whitener(x) on {name}", got, want, slips, hint)


@exercise
def growth(answer):
    """ReLU, tanh and z + z²/4 against integrals, within 2%."""
    import math

    import torch

    z = torch.linspace(-8, 8, 20_001, dtype=torch.double)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    cases = {
        "ReLU": (torch.relu, (z > 0).double()),
        "tanh": (torch.tanh, 1 - z.tanh().square()),
        "z + z²/4": (lambda z: z + z.square() / 4, 1 + z / 2),
    }
    for name, (activation, slope) in cases.items():
        value = activation(z)
        mean_square = float((density * value.square()).sum())
        variance = mean_square - float((density * value).sum()) ** 2
        passed = float((density * slope.square()).sum())
        want = math.sqrt(passed / variance)
        slips = {
            "That is the growth of the square: take the root.": want**2,
            "LN subtracts the mean: a variance, not a mean square.": math.sqrt(
                passed / mean_square
            ),
            "Upside down: on the way back LN divides too.": 1 / want,
            "What LN divides by is missing.": math.sqrt(passed),
            "Square the slope before you average it.": float((density * slope).sum())
            / math.sqrt(variance),
        }
        hint = "Take ReLU, and follow the derivation on the page number by number."
        expect_close(f"growth({name})", answer(activation), want, slips, hint, 0.01)


@exercise
def crowd_sizes(answer):
    """the four counts, for 8 texts of 128 tokens with 768 features."""
    B, L, D, G = 8, 128, 768, 32
    wanted = {"BN": B * L, "LN": D, "IN": L, "GN": L * D // G}
    said = f"You returned {answer!r}."
    is_dict = isinstance(answer, dict) and answer.keys() == wanted.keys()
    expect(is_dict, said, "a dict with the keys BN, LN, IN, GN", "Four numbers.")
    hints = {
        "BN": {
            B: "BN pools more than the texts: count the positions too.",
            L
            * D: "Over all positions and features of a text? BN keeps features apart.",
        },
        "LN": {
            L: "That is a feature along the text. LN stays inside one token.",
            L * D: "That is a whole text, as in the notes' picture. Look at the cube.",
        },
        "IN": {
            D: "That is one token: the mis-fed layout. IN looks along a feature.",
            B * L: "That pools the texts as well. IN keeps every text to itself.",
        },
        "GN": {
            D // G: "Those are the features of a group; the positions count too.",
            L * D: "That is one single group. Here there are 32.",
        },
    }
    for layer, count in wanted.items():
        hint = hints[layer].get(
            answer[layer], "Which axes does it pool? Multiply them."
        )
        said = f"For {layer} you said {answer[layer]}."
        expect(answer[layer] == count, said, "another count", hint)


@exercise
def layer_norm(answer):
    """values near zero and far from it, with ε, scale and shift."""
    import torch
    from torch.nn.functional import layer_norm as library

    x, weight, bias = _block(), _block(1, (5,)), _block(2, (5,))
    centred = x - x.mean(-1, keepdim=True)
    n, eps = 5, 0.5  # a large eps, so that its place can be told
    variance = centred.square().mean(-1, keepdim=True)
    text = x - x.mean((1, 2), keepdim=True)
    text = text / (text.square().mean((1, 2), keepdim=True) + eps).sqrt()

    def out(scale):
        return centred / scale * weight + bias

    slips = {
        "Where does ε go? Inside the root.": out(variance.sqrt() + eps),
        "Divisor n, not n − 1: `correction=0`.": out(
            (variance * n / (n - 1) + eps).sqrt()
        ),
        "Two slips: Bessel's correction, and ε outside the root.": out(
            (variance * n / (n - 1)).sqrt() + eps
        ),
        "That pooled whole texts. Stay inside one token: axis −1.": text * weight
        + bias,
        "Scale and shift are missing.": centred / (variance + eps).sqrt(),
        "Divide by the root of the variance, not by the variance.": out(variance + eps),
    }
    want = library(x, (n,), weight, bias, eps)
    step_by_step = "Print mean and variance of one token and compare with paper."
    expect_close("Your result", answer(x, weight, bias, eps), want, slips, step_by_step)
    far = (x + 1e4).float()
    got = answer(far, weight.float(), bias.float(), 1e-5)
    want = library(far, (n,), weight.float(), bias.float(), 1e-5)
    hint = "Is the mean subtracted before squaring? E[x²] − E[x]² loses all digits."
    near = bool(torch.isfinite(got).all()) and bool((got - want).abs().max() < 0.05)
    expect(near, "At mean 10,000 the digits are gone.", "the same values there", hint)


@exercise
def rms_norm_backward(answer):
    """the gradient against autograd, for three shapes and two values of ε."""
    for shape in [(3,), (2, 3, 5), (4, 8)]:
        for eps in (1e-6, 0.5):
            x, g = _block(3, shape).requires_grad_(), _block(4, shape)
            rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
            (x / rms).backward(g)
            with_mean_removed = x.grad - x.grad.mean(-1, keepdim=True)
            xhat, r = (x / rms).detach(), rms.detach()
            slips = {
                "RMSNorm subtracts no mean, so nothing removes the mean of g.": (
                    g - g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, True)
                )
                / r,
                "Nothing removes the mean of the result either.": with_mean_removed,
                "The root depends on x too: differentiate it.": g / r,
                "One factor 1/rms is missing.": x.grad * r,
                "Mean, not sum: the root holds the mean of the squares.": (
                    g - xhat * (g * xhat).sum(-1, keepdim=True)
                )
                / r,
            }
            got = answer(x.detach(), g, eps)
            hint = "Compare with autograd on a vector of three numbers."
            expect_close(f"On shape {shape}", got, x.grad, slips, hint)


@exercise
def pads_to_zero(answer):
    """with that many pads the mean of the feature is 4."""
    said = f"You returned {answer!r}."
    whole = not isinstance(answer, bool) and answer == int(answer) and answer >= 0
    expect(whole, said, "a whole number", "Count the pads.")
    mean = (4 + 8) / (2 + answer)
    said = f"With {answer} pads the mean is {mean:g}."
    higher = "The mean is still too high: a pad pulls it down."
    hint = higher if mean > 4 else "The mean is too low now: fewer pads."
    expect(mean == 4, said, "a mean that equals the value", hint)


@exercise
def masked_batch_norm(answer):
    """values on three texts of 4, 2 and 1 real tokens."""
    x = _block(5, (3, 4, 2))
    import torch

    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    eps, rows = 0.1, x[mask]
    mean, variance = rows.mean(0), rows.var(0, correction=0)
    zeroed = torch.where(mask[..., None], x, torch.zeros(()).to(x))
    all_mean = zeroed.mean((0, 1))
    all_variance = (zeroed - all_mean).square().mean((0, 1))
    everything = x.reshape(-1, 2)
    want = (x - mean) / (variance + eps).sqrt()
    sample = rows.var(0)
    slips = {
        "The mask is not used yet: pads are in mean and variance.": (
            (x - everything.mean(0)) / (everything.var(0, correction=0) + eps).sqrt()
        ),
        "Zeroed pads still count: divide by the number of real tokens.": (
            (x - all_mean) / (all_variance + eps).sqrt()
        ),
        "Divisor n, not n − 1, for the normalising variance.": (
            (x - mean) / (sample + eps).sqrt()
        ),
        "Apply it to all tokens; only the statistics are masked.": want
        * mask[..., None],
    }
    hint = "Collect the real tokens as rows first: x[mask] has shape (n, D)."
    expect_close("Your result", answer(x, mask, eps), want, slips, hint)


@exercise
def fold(answer):
    """the folded Linear gives what the pair gives, on fresh inputs."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    linear = nn.Linear(4, 3, dtype=torch.double)
    bn = nn.BatchNorm1d(3, eps=0.1, dtype=torch.double)
    with torch.no_grad():
        for value in (bn.weight, bn.bias, bn.running_mean):
            value.normal_()
        bn.running_var.uniform_(0.5, 2)
    bn.eval()
    x = _block(6, (7, 4))
    want = bn(linear(x)).detach()
    given = copy.deepcopy(linear), copy.deepcopy(bn)
    folded = answer(*given)
    is_linear = isinstance(folded, nn.Linear)
    kind = type(folded).__name__
    expect(is_linear, f"You returned a {kind}.", "one nn.Linear", "Build a new one.")
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    product = x @ (linear.weight * scale[:, None]).T
    slips = {
        "The running mean must be subtracted, scaled, in the new bias.": (
            product + linear.bias * scale + bn.bias
        ),
        "The old bias is scaled too.": (
            product + linear.bias - bn.running_mean * scale + bn.bias
        ),
        "ε belongs into the root here as well.": (
            (linear(x) - bn.running_mean) * bn.weight / bn.running_var.sqrt() + bn.bias
        ),
        "BN's own scale and shift are missing.": (
            (linear(x) - bn.running_mean) / (bn.running_var + bn.eps).sqrt()
        ),
    }
    hint = "Write bn(y) as y · scale + shift first; what are scale and shift?"
    expect_close("folded(x)", folded(x), want, slips, hint)


@exercise
def blind_to(answer):
    """both layers under a shift and a stretch."""
    wanted = {
        "LN": {"shift": True, "stretch": True},
        "RMSNorm": {"shift": False, "stretch": True},
    }
    said = f"You returned {answer!r}."
    form = isinstance(answer, dict) and answer.keys() == wanted.keys()
    form = form and all(answer[k].keys() == wanted[k].keys() for k in wanted)
    hint = "Copy the form from the comment."
    expect(form, said, "True or False for shift and stretch of both", hint)
    hints = {
        ("LN", "shift"): "LN subtracts the mean. What is the mean after a shift?",
        ("LN", "stretch"): "LN divides by the standard deviation, which stretches too.",
        ("RMSNorm", "shift"): "Try (7, 1) and (17, 11) under RMSNorm.",
        ("RMSNorm", "stretch"): "RMSNorm divides by a length, which stretches too.",
    }
    for (layer, change), hint in hints.items():
        said = f"{layer} under a {change}: you said {answer[layer][change]}."
        holds = answer[layer][change] == wanted[layer][change]
        expect(holds, said, "the other answer", hint)


@exercise
def qk_logits(answer):
    """values, and the bound g²√d on a hundredfold input."""
    from utils.norms import rms_norm

    q, k, g = _block(7, (5, 8)), _block(8, (3, 8)), 1.5

    def unit(t):
        return t / t.square().mean(-1, keepdim=True).sqrt()

    want = g * g * unit(q) @ unit(k).T / 8**0.5
    slips = {
        "Only one factor g: both sides carry it.": want / g,
        "The division by √d is missing.": want * 8**0.5,
        "Divide by √d, not by d.": want / 8**0.5,
        "That is the cosine: the root holds the mean of the squares, not the sum.": want
        / 8,
        "The norms are missing.": g * g * q @ k.T / 8**0.5,
        "Nearly: ε = 0 here.": g**2 * rms_norm(q) @ rms_norm(k).T / 8**0.5,
    }
    hint = "Normalise q and k along the last axis first, then multiply."
    expect_close("Your result", answer(q, k, g), want, slips, hint)
    most = answer(100 * q, 100 * k, g).abs().max().item()
    hint = "Scaling q and k must not change anything."
    said = "A hundredfold q and k change the logits."
    expect(most <= g * g * 8**0.5 + 1e-9, said, "no logit above g²√d", hint)


@exercise
def centre(answer):
    """rms_norm after it equals layer_norm before it, with a bias far from zero."""
    import torch
    from torch import nn
    from torch.nn.functional import layer_norm as ln

    torch.manual_seed(0)
    linear = nn.Linear(4, 6, dtype=torch.double)
    with torch.no_grad():
        linear.bias.add_(3)
    x = _block(9, (7, 4))
    result = answer(copy.deepcopy(linear))
    kind = type(result).__name__
    is_linear = isinstance(result, nn.Linear)
    expect(is_linear, f"You returned a {kind}.", "one nn.Linear", "Build a new one.")
    weight, bias = linear.weight, linear.bias
    right = x @ (weight - weight.mean(0)).T
    slips = {
        "Weights are centred over the outputs, each input column by itself.": (
            x @ (weight - weight.mean(1, keepdim=True)).T + bias - bias.mean()
        ),
        "The bias is part of what is centred.": right + bias,
        "The bias got lost.": right,
        "One mean for the whole matrix is not enough.": (
            x @ (weight - weight.mean()).T + bias - bias.mean()
        ),
    }
    want = right + bias - bias.mean()
    hint = "M = I − 11ᵀ/D acts from the left: M(Wx + b) = (MW)x + Mb."
    expect_close("centre(linear)(x)", result(x), want, slips, hint)
    rms = result(x) / result(x).square().mean(-1, keepdim=True).sqrt()
    expect_close("Its RMSNorm", rms, ln(linear(x), (6,), eps=0), {}, hint)
