"""Checks of chapter 00's page on learning; import this module as `check`."""

import math

import numpy as np

from utils.lab.check import exercise, expect, expect_close


def _scores(seed: int = 0, shape: tuple[int, ...] = (4, 6)):
    import torch

    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@exercise
def guessing(answer):
    """the loss of an even guess among 21,128 words, to four digits."""
    count = 21128
    try:
        answer = float(answer)
    except (TypeError, ValueError):
        expect(False, f"You returned {answer!r}.", "a number", "Use math.log.")
    slips = {
        "Natural logarithm: the loss is counted in nats, not in bits.": math.log2(
            count
        ),
        "Natural logarithm, not the one of base ten.": math.log10(count),
        "That is the probability. How surprising is it?": 1 / count,
        "A surprise is positive: minus the logarithm of the probability.": -math.log(
            count
        ),
    }
    hint = "Each word gets 1/21128; the loss is minus the logarithm of that."
    expect_close("The loss", answer, math.log(count), slips, hint, 1e-4)


@exercise
def softmax(answer):
    """values for a batch, sums of one, and scores near a thousand."""
    import torch

    z = _scores()
    weights = z.exp()
    slips = {
        "It sums over the batch: each row is one example, use axis −1.": weights
        / weights.sum(0),
        "It sums over everything: each row has its own sum.": weights / weights.sum(),
        "The scores themselves are divided; take their exponentials.": z
        / z.sum(-1, keepdim=True),
    }
    hint = "Exponentials first, then divide each row by its sum, keepdim=True."
    expect_close("softmax(z)", answer(z), torch.softmax(z, -1), slips, hint)
    large = answer(z + 1000)
    finite = bool(torch.isfinite(large).all())
    hint = "Subtract each row's largest score first."
    said = "At scores near 1,000 it returns something that is no number."
    expect(finite, said, "the same probabilities", hint)
    hint = "A shift of all scores must change nothing."
    expect_close("softmax(z + 1000)", large, torch.softmax(z, -1), {}, hint)
    rows = z + torch.tensor([[0.0], [1000], [-1000], [500]])
    hint = "Each row needs its own largest score: axis −1, keepdim=True."
    expect_close("softmax of uneven rows", answer(rows), torch.softmax(z, -1), {}, hint)


@exercise
def smoothed_gradient(answer):
    """the gradient by the scores against autograd, for s = 0, 0.1 and 0.5."""
    import torch

    z, y = _scores(1), torch.tensor([0, 5, 2, 2])
    B, K = z.shape
    for s in (0.1, 0.0, 0.5):
        leaf = z.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(leaf, y, label_smoothing=s)
        loss.backward()
        p, hot = torch.softmax(z, -1), torch.eye(K).double()[y]
        slips = {
            "The loss is a mean over the batch: divide by B.": leaf.grad * B,
            "The wanted distribution is missing its even part s/K.": (p - (1 - s) * hot)
            / B,
            "Spread s over all K classes, the right one included.": (
                p - (1 - s) * hot - s / (K - 1) * (1 - hot)
            )
            / B,
            "Probabilities minus what is wanted, not the other way round.": -leaf.grad,
            "That is the gradient without smoothing.": (p - hot) / B,
        }
        hint = "It is still p minus the wanted distribution; only that one changed."
        expect_close(f"For s = {s}", answer(z, y, s), leaf.grad, slips, hint)
