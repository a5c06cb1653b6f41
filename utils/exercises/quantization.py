"""Checks of chapter 08: `from utils.exercises import quantization as check`."""

import math

import numpy as np

from utils.lab.check import exercise, expect, expect_close


@exercise
def bits_needed(answer):
    """peaks of 3 to 200 times the root mean square, for 10 to 60 dB."""
    for peak, rms, decibels in [
        (3, 1, 40),
        (8, 0.045, 30),
        (1, 0.5, 10),
        (30, 0.7, 60),
    ]:
        spread = 20 * math.log10(peak / rms)
        exact = (decibels - 4.77 + spread) / 6.02
        slips = {
            "One bit fewer would not do: a whole number of bits is rounded up.": (
                math.floor(exact)
            ),
            "A larger peak costs bits, it does not save them: look at the sign.": (
                math.ceil((decibels - 4.77 - spread) / 6.02)
            ),
            "The quotient of peak and root mean square enters as 20 log₁₀.": math.ceil(
                (decibels - 4.77 + spread / 2) / 6.02
            ),
            "Bits are whole: round up.": exact,
        }
        hint = "Solve the equation for b, then round up."
        what = f"bits_needed({peak}, {rms}, {decibels})"
        expect_close(what, answer(peak, rms, decibels), math.ceil(exact), slips, hint)


@exercise
def scale_and_zero(answer):
    """ranges around, above and below zero, with 4 bits and with 8."""
    for low, high in [(-1.0, 2.0), (-3.0, 1.0), (2.0, 5.0), (-5.0, -2.0)]:
        for bits in (4, 8):
            got = answer(low, high, bits)
            pair = isinstance(got, tuple | list) and len(got) == 2
            two = "a scale and a zero-point"
            expect(pair, f"The answer is {got!r}", two, "Return two values.")
            wide = max(high, 0) - min(low, 0)
            scale = wide / (2**bits - 1)
            zero = round(-min(low, 0) / scale)
            slips = {
                "Zero must lie in the range: widen it first.": (high - low)
                / (2**bits - 1),
                "2ᵇ integers have 2ᵇ − 1 steps between them.": wide / 2**bits,
                "That is the symmetric grid.": 2
                * max(abs(low), abs(high))
                / (2**bits - 1),
            }
            here = f"for {low} … {high} with {bits} bits"
            hint = "How wide is the range, and how many steps cover it?"
            expect_close(f"the scale {here}", float(got[0]), scale, slips, hint)
            slips = {
                "These integers begin at 0, not at −2ᵇ⁻¹.": zero - 2 ** (bits - 1),
                "The sign: which integer does 0 fall on, if low falls on 0?": -zero,
            }
            hint = "low is stored as 0. How many steps above it lies zero?"
            expect_close(f"the zero-point {here}", int(got[1]), zero, slips, hint)


@exercise
def mixed_product(answer):
    """an input with two large features, one of them negative, and one without any."""
    import torch

    from utils.quantization import fake_quantise, grid_of, minmax

    def of_rows(t, axis=0):
        return fake_quantise(t, grid_of(*minmax(t, axis), symmetric=True))

    rng = np.random.default_rng(0)
    weight = torch.tensor(rng.normal(size=(6, 40)), dtype=torch.float32)
    for features in ([7, 21], []):
        x = torch.tensor(rng.normal(size=(9, 40)), dtype=torch.float32)
        x[:, 21:22] -= 2 * bool(features)
        for k in features:
            x[:, k] *= 40
        if features:
            x[:, 21] = -x[:, 21].abs()
        large = x.abs().amax(0) > 6
        whole = x[:, large] @ weight[:, large].T
        rest, other = x[:, ~large], weight[:, ~large]
        only_positive = x.amax(0) > 6
        masked = x.where(large, 0) @ weight.T
        slips = {
            "The large features are missing: add their product, in floats.": (
                of_rows(rest) @ of_rows(other).T
            ),
            "Nothing has been rounded: only the large features stay in floats.": (
                x @ weight.T
            ),
            "Choose the features first: the large ones still widen the scales.": (
                masked + of_rows(x)[:, ~large] @ of_rows(weight)[:, ~large].T
            ),
            "A feature can be large and negative.": (
                x[:, only_positive] @ weight[:, only_positive].T
                + of_rows(x[:, ~only_positive]) @ of_rows(weight[:, ~only_positive]).T
            ),
            "One scale for all of x: each of its rows should have its own.": (
                whole + of_rows(rest, None) @ of_rows(other).T
            ),
        }
        hint = "Split the columns of x and of the weight by the same boolean mask (K,)."
        want = whole + of_rows(rest) @ of_rows(other).T
        what = f"with {len(features)} large features the product"
        expect_close(what, answer(x, weight, 6.0), want, slips, hint, tol=1e-4)


@exercise
def levels(answer):
    """the mean square lost on 2,000 new blocks, against NF4's."""
    import torch

    from utils.quantization import nf4_levels

    got = torch.as_tensor(answer, dtype=torch.float32)
    shape = f"A shape of {tuple(got.shape)}"
    expect(got.shape == (16,), shape, "(16,)", "Sixteen levels: four bits.")
    order = "Levels that do not ascend", "each above the one before"
    expect(bool((got[1:] > got[:-1]).all()), *order, "Sort them; no two may be equal.")
    rng = np.random.default_rng(2024)
    blocks = torch.tensor(rng.normal(size=(2000, 64)), dtype=torch.float32)
    greatest = blocks.abs().amax(1, keepdim=True)

    def lost(table):
        between = (table[1:] + table[:-1]) / 2
        read = table[torch.bucketize(blocks / greatest, between)] * greatest
        return (read - blocks).square().mean().item()

    share = lost(got) / lost(nf4_levels())
    hint = "Each level should be a mean of the weights that are nearest to it."
    if got.abs().max() > 1.2:
        hint = "Weights are divided by the greatest of their block: none exceeds 1."
    elif share < 1:
        hint = "Nearly. More rounds, and more blocks to learn the levels on."
    elif torch.allclose(got, nf4_levels(), atol=1e-4):
        hint = "Those are NF4's own: they are where to start."
    said = f"They lose {share:.3f} of what NF4 loses"
    expect(share < 0.95, said, "less than 0.95", hint)


@exercise
def follows(answer):
    """all five sentences."""
    want = [False, True, True, False, False]
    expect(
        isinstance(answer, list | tuple) and len(answer) == len(want),
        f"The answer is {answer!r}",
        "a list of five, each True or False",
        "One entry for each sentence, in their order.",
    )
    hints = [
        "Which part of a static layer did calibration look at?",
        "Who else is in the batch when the range is measured?",
        "What happens to the step, and what to the integers, when all doubles?",
        "The steps stay: is 2x rounded to twice what x is rounded to?",
        "Count what enters the product: is the input ever rounded?",
    ]
    for place, right in enumerate(want):
        said = f"Sentence {place + 1}: {answer[place]}"
        expect(bool(answer[place]) == right, said, "the other one", hints[place])


@exercise
def moving_range(answer):
    """three sequences of batches and three shares, against torch's observer."""
    import warnings

    import torch

    rng = np.random.default_rng(0)
    for count, c in [(1, 0.3), (5, 0.01), (6, 0.5)]:
        batches = [
            torch.tensor(rng.normal(1, spread, (4, 8)), dtype=torch.float32)
            for spread in rng.uniform(0.5, 5, count)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            observer = torch.ao.quantization.MovingAverageMinMaxObserver(c)
            for batch in batches:
                observer(batch)
        want = [observer.min_val.item(), observer.max_val.item()]
        ends = np.array([[b.min().item(), b.max().item()] for b in batches])
        turned, from_zero = ends[0], 0 * ends[0]
        for end in ends[1:]:
            turned = (1 - c) * end + c * turned
        for end in ends:
            from_zero = from_zero + c * (end - from_zero)
        slips = {
            "The first batch sets the range; do not begin at 0.": from_zero,
            "c is the share of the way to the new batch: a small c moves little.": (
                turned
            ),
            "That is the extreme of all batches: the wildest decides.": [
                ends[:, 0].min(),
                ends[:, 1].max(),
            ],
            "A mean forgets nothing; here the last batches count for more.": (
                ends.mean(0)
            ),
        }
        hint = "low ← low + c · (minimum of the batch − low), and high likewise."
        what = f"the range after {count} batches with c = {c}"
        expect_close(what, np.array(answer(batches, c)), want, slips, hint, tol=1e-5)


@exercise
def step_gradient(answer):
    """inside the range and beyond both ends, against autograd."""
    import torch

    x = torch.tensor(np.random.default_rng(1).normal(0, 3, 60), dtype=torch.float32)
    for s, low, high in [(0.7, -4, 3), (1.3, -2, 1)]:
        step = torch.full_like(x, s, requires_grad=True)
        u = (x / step).clamp(low, high)
        straight = u + (u.round() - u).detach()  # value round(u), derivative that of u
        (step * straight).sum().backward()
        u = (x / s).detach()
        inside = (u >= low) & (u <= high)
        slips = {
            "The integer is one part. The step also stands in the denominator.": (
                u.round().clamp(low, high)
            ),
            "Beyond the ends x̂ is s · low or s · high: differentiate that by s.": (
                torch.where(inside, u.round() - u, 0)
            ),
            "The sign: the quotient x / s falls when s grows.": torch.where(
                inside, u.round() + u, u.clamp(low, high)
            ),
            "Beyond the ends the rounding error plays no part.": u.round().clamp(
                low, high
            )
            - u,
        }
        hint = (
            "Product rule: ∂(s · v)/∂s = v + s · ∂v/∂s, with ∂round(u)/∂u taken as 1."
        )
        what = f"step_gradient(x, {s}, {low}, {high})"
        got = answer(x, s, low, high)
        expect_close(what, got, step.grad, slips, hint, tol=1e-5)
