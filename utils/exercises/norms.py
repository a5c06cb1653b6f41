"""Checks of chapter 01. Import as `from utils.exercises import norms as check`."""

import numpy as np

from utils.lab.check import exercise, expect, expect_close


def _block(seed: int = 0, shape: tuple[int, ...] = (2, 3, 5)):
    import torch

    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


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
