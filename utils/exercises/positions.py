"""Checks of chapter 02. Import as `from utils.exercises import positions as check`."""

import math

import numpy as np

from utils.lab.check import exercise, expect, expect_close


def _block(seed: int = 0, shape: tuple[int, ...] = (6, 8)):
    import torch

    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@exercise
def relative_parameters(answer):
    """the five counts, for 12 heads of 64 features and 512 tokens."""
    h, d, L = 12, 64, 512
    wanted = {
        "B": h * (2 * L - 1),
        "T5": h * 32,
        "Shaw": 33 * d,
        "ALiBi": 0,
        "RoPE": 0,
    }
    said = f"You returned {answer!r}."
    form = isinstance(answer, dict) and answer.keys() == wanted.keys()
    expect(form, said, f"a dict with the keys {', '.join(wanted)}", "Five numbers.")
    hints = {
        "B": {
            h * L * L: "Each diagonal holds one number: count the diagonals.",
            2 * L - 1: "That is one head.",
            h * L: "Offsets are negative, too.",
            h * 2 * L: "From −511 to 511: is that 1,024 offsets?",
        },
        "T5": {
            32: "That is one head; each head has numbers of its own.",
            h * 64: "The 32 buckets already cover both sides.",
        },
        "Shaw": {
            h * 33 * d: "The heads share the vectors.",
            33: "Each offset has a vector, not a number.",
            32 * d: "From −16 to 16: count again.",
            h * 33: "Each offset has a vector, and the heads share it.",
        },
        "ALiBi": {h: "The slopes are not trained."},
        "RoPE": {d // 2: "The frequencies are not trained."},
    }
    for name, count in wanted.items():
        hint = hints[name].get(answer[name], "What is stored for each offset and head?")
        said = f"For {name} you said {answer[name]}."
        expect(answer[name] == count, said, "another count", hint)


@exercise
def toeplitz(answer):
    """every cell, for L = 1, 4 and 7."""
    import torch

    for L in (4, 1, 7):
        b = _block(L, (2 * L - 1,))
        want = torch.zeros(L, L, dtype=torch.double)
        wrapped = want.clone()
        for i, j in np.ndindex(L, L):
            want[i, j], wrapped[i, j] = b[j - i + L - 1], b[j - i]
        slips = {
            "Mirrored: the offset is j − i, the key's place minus the query's.": want.T,
            "b[0] belongs to offset 1 − L; offset 0 stands in the middle.": wrapped,
        }
        hint = "Build the (L, L) matrix of j − i first, then use it as an index."
        expect_close(f"toeplitz(b) for L = {L}", answer(b), want, slips, hint)


@exercise
def rope_scores(answer):
    """scores between all places against sines and cosines, for two bases."""
    import torch

    from utils.positions import frequencies, rotate

    q, k = _block(1), _block(2)
    L, d = q.shape
    where = torch.arange(L)[:, None]
    for base in (100.0, 10_000.0):
        angles = where * frequencies(d, base)

        def scores(a, b, pairing="neighbours", angles=angles):
            return rotate(q, a * angles, pairing) @ rotate(k, b * angles, pairing).T

        want = scores(1, 1) / d**0.5
        twice = where * frequencies(d, base) ** 2
        summed = torch.zeros(L, L, dtype=torch.double)
        for i, j in np.ndindex(L, L):
            summed[i, j] = _real_product(q[i], k[j], angles[i] + angles[j]) / d**0.5
        slips = {
            "The division by √d is missing.": want * d**0.5,
            "Conjugate one side: q times k turns by the sum of the angles.": summed,
            "That pairs feature i with i + d/2; here neighbours are paired.": scores(
                1, 1, "halves"
            )
            / d**0.5,
            "Only one of the two is turned.": scores(1, 0) / d**0.5,
            "base to the power −2i/d with i < d/2: the exponent is doubled.": (
                rotate(q, twice, "neighbours")
                @ rotate(k, twice, "neighbours").T
                / d**0.5
            ),
            "That is without any turning.": scores(0, 0) / d**0.5,
        }
        hint = "Turn q and k first: z · e^(i·place·ω). Then the real part of q k̄ᵀ."
        expect_close(f"For base {base:g}", answer(q, k, base), want, slips, hint)


def _real_product(a, b, angle):
    """Re Σ a b e^{i·angle} over neighbouring pairs of a, b (d,), without conjugate."""
    real = a[0::2] * b[0::2] - a[1::2] * b[1::2]
    imaginary = a[0::2] * b[1::2] + a[1::2] * b[0::2]
    return (real * angle.cos() - imaginary * angle.sin()).sum()


@exercise
def window_bias(answer):
    """every cell, for windows of 2 × 2 and 3 × 3 patches."""
    import torch

    for M in (3, 2):
        t = _block(M, (2 * M - 1, 2 * M - 1))
        want = torch.zeros(M * M, M * M, dtype=torch.double)
        swapped = want.clone()
        for a, b in np.ndindex(M * M, M * M):
            down, right = b // M - a // M, b % M - a % M
            want[a, b] = t[down + M - 1, right + M - 1]
            swapped[a, b] = t[right + M - 1, down + M - 1]
        slips = {
            "Mirrored: b minus a, the key's place minus the query's.": want.T,
            "Rows and columns are exchanged. The window is read row by row.": swapped,
            "Exchanged and mirrored.": swapped.T,
        }
        hint = (
            "Row and column of patch a are a // M and a % M. Then two Toeplitz steps."
        )
        expect_close(f"For M = {M}", answer(t), want, slips, hint)


@exercise
def turning_pairs(answer):
    """the pairs of d = 128, base 1,000,000 with a wavelength of at most 32,768."""
    d, base, L = 128, 1_000_000, 32_768

    def count(turn, exponent=2):
        return sum(turn * base ** (exponent * i / d) <= L for i in range(d // 2))

    want = count(2 * math.pi)
    said = f"You returned {answer!r}."
    whole = isinstance(answer, int) and not isinstance(answer, bool)
    expect(whole, said, "a whole number", "Count the pairs.")
    hints = {
        count(1): "A whole turn is 2π radians.",
        want - 1: "Pair 0 counts, too.",
        d // 2 - want: "Those are the pairs that do not come round.",
        2 * want: "Two features make one pair.",
        count(2 * math.pi, 1): "The exponent is 2i/d, for i from 0 to d/2 − 1.",
    }
    hint = hints.get(answer, "Wavelength of pair i: 2π · base^(2i/d).")
    expect(answer == want, said, "another number", hint)


@exercise
def ntk_base(answer):
    """the slowest pair is stretched by exactly the factor, for three heads."""
    for d, base, factor in [(128, 10_000.0, 8.0), (16, 100.0, 4.0), (64, 5e5, 2.5)]:
        want = base * factor ** (d / (d - 2))
        slips = {
            "Then the slowest pair is stretched by less: its exponent is (d−2)/d.": base
            * factor,
            "The exponent is upside down.": base * factor ** ((d - 2) / d),
            "That is the factor on the base alone.": want / base,
            "Stretched, not squeezed: the base has to grow.": base
            * factor ** (-d / (d - 2)),
        }
        hint = "The slowest ω is base^(−(d−2)/d). Ask that it be divided by the factor."
        got = answer(d, base, factor)
        expect_close(f"ntk_base({d}, {base:g}, {factor})", got, want, slips, hint)


@exercise
def gap_needed(answer):
    """the softmax gives the wanted weight, for four lengths."""
    for weight, n in [(0.9, 32), (0.9, 256), (0.5, 2), (0.99, 4096)]:
        want = math.log(weight * (n - 1) / (1 - weight))
        slips = {
            "The one key is not its own competitor: n − 1 others.": math.log(
                weight * n / (1 - weight)
            ),
            "That balances all the others together: a weight of ½.": math.log(n - 1),
            "Logarithm of weight over rest; yours is without the weight.": math.log(
                (n - 1) / (1 - weight)
            ),
            "That is the odds; the gap is their logarithm.": weight
            * (n - 1)
            / (1 - weight),
        }
        hint = "Solve e^g / (e^g + n − 1) = weight for g."
        expect_close(f"gap_needed({weight}, {n})", answer(weight, n), want, slips, hint)


@exercise
def by_parts(answer):
    """frequencies of four heads, with the ramp linear in the number of turns."""
    import torch

    from utils.positions import frequencies, yarn

    for d, factor, trained, base, slow, fast in [
        (128, 8.0, 4096, 10_000.0, 1, 32),
        (64, 4.0, 512, 10_000.0, 1, 32),
        (32, 2.0, 128, 500.0, 1, 32),
        (64, 4.0, 512, 10_000.0, 2, 16),
    ]:
        omega = frequencies(d, base)

        def blend(keep, omega=omega, factor=factor):
            return keep * omega + (1 - keep) * omega / factor

        turns = trained * omega / (2 * math.pi)
        keep = ((turns - slow) / (fast - slow)).clamp(0, 1)
        wavelengths = ((1 / turns - slow) / (fast - slow)).clamp(0, 1)
        in_logs = ((turns / slow).log() / math.log(fast / slow)).clamp(0, 1)
        stretched = keep / omega + (1 - keep) * factor / omega  # wavelengths / 2π
        slips = {
            "The other way round: fast pairs stay, slow pairs are stretched.": blend(
                1 - keep
            ),
            "A turn has 2π radians.": blend(
                ((trained * omega - slow) / (fast - slow)).clamp(0, 1)
            ),
            "That is linear in the pair's number, as in the code; the paper's ramp is "
            "linear in the turns.": yarn(d, factor, trained, base, fast, slow),
            "Turns are the trained length over the wavelength, not the inverse.": blend(
                wavelengths
            ),
            "slow and fast are arguments: they need not be 1 and 32.": blend(
                ((turns - 1) / (32 - 1)).clamp(0, 1)
            ),
            "That is linear in the logarithm of the turns; the paper's ramp is linear "
            "in the turns.": blend(in_logs),
            "Blend the frequencies, not the wavelengths.": 1 / stretched,
            "Clamp the ramp to [0, 1].": blend((turns - slow) / (fast - slow)),
            "Nothing is left as it was: where is the ramp?": omega / factor,
        }
        hint = "Turns first: trained · ω / 2π, one number for each pair."
        got = answer(d, factor, trained, base, slow, fast)
        expect(
            isinstance(got, torch.Tensor),
            f"You returned a {type(got).__name__}.",
            "a tensor (d/2,)",
            "Use torch.arange for i.",
        )
        expect_close(f"For d = {d}, factor {factor:g}", got, blend(keep), slips, hint)


@exercise
def bag_knows(answer):
    """the five questions."""
    hints = {
        "length": (False, "Write a text twice: does any mean change?"),
        "share of 我": (True, "A share is a mean. Does it need order?"),
        "first word": (False, "我爱她 and 她爱我: same words, another first one."),
        "most frequent word": (True, "The largest share: does that need order?"),
        "a word twice in a row": (False, "Compare 'so so good' and 'so good so'."),
    }
    said = f"You returned {answer!r}."
    form = isinstance(answer, dict) and answer.keys() == hints.keys()
    expect(form, said, "True or False for five questions", "Copy the keys.")
    for question, (known, hint) in hints.items():
        said = f"{question}: you said {answer[question]}."
        expect(answer[question] == known, said, "the other answer", hint)


@exercise
def look(answer):
    """all scores of the rows with both neighbours, for k = 0, 1, 2, 3; d = 32, 64."""
    import torch

    from utils.positions import sinusoidal

    for k, d in [(1, 32), (2, 32), (3, 64), (0, 64)]:
        pe, M = sinusoidal(torch.arange(40), d), torch.as_tensor(answer(k, d))
        said = f"look({k}, {d}) has the shape {tuple(M.shape)}."
        expect(M.shape == (d, d), said, f"({d}, {d})", "One matrix for all rows.")
        rows = torch.arange(k, 40 - k)
        plain = pe @ pe.T
        slips = {
            "That is the plain product: nobody has moved.": plain[rows],
            "That is row i + k alone: rows are multiplied from the right.": plain[
                rows + k
            ],
            "That is row i − k alone. Where is the other side?": plain[rows - k],
            "That is the sum of the two rows.": plain[rows - k] + plain[rows + k],
        }
        hint = "Which matrix gives row i + k alone? Which gives row i − k?"
        got = (pe @ M.to(pe.dtype) @ pe.T)[rows]
        want = (plain[rows - k] + plain[rows + k]) / 2
        expect_close(f"pe @ look({k}, {d}) @ pe.T", got, want, slips, hint)


@exercise
def order_error(answer):
    """attention, a running sum, one with D′ ≠ D, adding the place, and squaring."""
    import torch

    torch.manual_seed(0)
    x, order = torch.randn(6, 4).double(), torch.tensor([1, 2, 3, 0, 5, 4])
    functions = {
        "attention": lambda x: (x @ x.T).softmax(-1) @ x,
        "a running sum": lambda x: x.cumsum(0),
        "a running sum of two features": lambda x: x[:, :2].cumsum(0),
        "adding the place": lambda x: x + torch.arange(len(x))[:, None],
        "squaring": lambda x: x.square(),
    }
    for name, f in functions.items():
        inverse = order.argsort()
        gap = f(x[order]) - f(x)[order]
        want = float(gap.abs().max())
        slips = {
            "The output was not permuted. Rows may stand elsewhere.": float(
                (f(x[order]) - f(x)).abs().max()
            ),
            "Shuffle both sides the same way: one of them went backwards.": float(
                (f(x[order]) - f(x)[inverse]).abs().max()
            ),
            "The largest absolute difference, not the mean.": float(gap.abs().mean()),
            "Differences may be negative: take absolute values first.": float(
                gap.max()
            ),
            "The largest entry, not a norm of them all.": float(gap.norm()),
        }
        hint = "f(x[order]) against f(x)[order]."
        got = float(answer(f, x, order))
        expect_close(f"For {name}", got, want, slips, hint)


@exercise
def one_hand(answer):
    """the pair (sin k, cos k) against that of k = 0, for every k up to 1,000."""
    said = f"You returned {answer!r}."
    whole = not isinstance(answer, bool) and answer == int(answer) and answer > 0
    expect(whole, said, "a whole number of steps", "Count in places, not in turns.")

    def gap(k):
        return 2 * abs(math.sin(k / 2))

    closest = min(range(1, 1001), key=gap)
    said = f"After {answer} steps the hand is off by {gap(answer):.1e}."
    hint = "Try all k: 2·|sin(k/2)| is the distance from the start."
    if answer == 44:
        hint = "44 = 2 · 22, from π ≈ 22/7. There is a better fraction: 355/113."
    if answer == 355:
        hint = "355 is 113 half turns: the hand points the other way. Twice that."
    expect(answer == closest, said, "the closest k up to 1,000", hint)


@exercise
def sided(answer):
    """d = 8 and 64: opposite signs to the left and right, the same at every place."""
    import torch

    from utils.positions import sinusoidal

    for d in (8, 64):
        pe, B = sinusoidal(torch.arange(50), d), torch.as_tensor(answer(d))
        said = f"sided({d}) has the shape {tuple(B.shape)}."
        expect(B.shape == (d, d), said, f"({d}, {d})", "One matrix.")
        scores = pe @ B.to(pe.dtype) @ pe.T
        step = scores[:-1, :-1] - scores[1:, 1:]
        said = "A score changes when query and key move on together."
        hint = "Use blocks of two by two, for sine and cosine of the same frequency."
        expect(bool(step.abs().max() < 1e-9), said, "one number for each offset", hint)
        even = bool((scores - scores.T).abs().max() < 1e-9)
        hint = "All scores are zero, and zero is no side. Where are the sines?"
        said = "Every score is zero."
        expect(bool(scores.abs().max() > 1e-9), said, "scores that differ", hint)
        said = "Score(i, j) is not −score(j, i)."
        hint = "The sum of the cosines is even: the plain product. Turn by a quarter."
        if not even:
            hint = "Only sines may be left. Is every block turned by the same quarter?"
        odd = bool((scores + scores.T).abs().max() < 1e-9)
        expect(odd, said, "an odd function of the offset", hint)
        said = "Keys on the right, one to three places on, have no positive scores."
        hint = "Mirrored: exchange the two signs in each block."
        right = [scores.diagonal(k).min() > 1e-6 for k in (1, 2, 3)]
        expect(all(right), said, "positive scores there", hint)


@exercise
def wavelengths(answer):
    """three tables of hidden waves, turned at random, with noise and an offset."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for lengths in [(6.0, 18.0, 54.0), (5.0, 11.0), (4.0, 9.5, 30.0, 100.0)]:
        angles = (
            torch.arange(200).double()[:, None] * 2 * math.pi / torch.tensor(lengths)
        )
        waves = torch.cat([angles.sin(), angles.cos()], -1)  # (200, 2n)
        turn, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator).double())
        table = waves @ turn[: waves.shape[1]] + torch.randn(40, generator=generator)
        table = table + 1e-4 * torch.randn(200, 40, generator=generator)
        want, n = torch.tensor(lengths).double(), 2 * len(lengths)
        got = torch.as_tensor(answer(table)).double()
        said = f"You returned {len(got)} wavelengths where {n} directions matter."
        hint = "Is the cliff where s[i] / s[i + 1] is largest, and r = i + 1?"
        if len(got) < n // 2:
            hint = "Is the mean subtracted? " + hint
        if len(got) == n:
            hint = "Eigenvalues come in conjugate pairs: keep one of each."
        expect(len(got) == n // 2, said, f"{n // 2}", hint)
        slips = {
            "Those are angles per step: a turn is 2π.": 2 * math.pi / want,
            "Angles per step, smallest first: a turn is 2π.": (2 * math.pi / want).flip(
                0
            ),
            "Right, but longest first.": want.flip(0),
            "A whole turn is 2π, not π.": want / 2,
            "Those are the lengths over 2π.": want / 2 / math.pi,
        }
        hint = "Is the mean subtracted? Does Z[:-1] @ A give Z[1:]?"
        close = bool((got - want).abs().max() < 0.1)
        if not close:
            expect_close("The wavelengths", got, want, slips, hint, 0.02)
