"""Checks of chapter 00's first two pages. Import as `tensors as check`."""

import itertools

import numpy as np

from utils.lab.check import exercise, expect, expect_close


def _integers(seed: int, *shape: int):
    import torch

    values = np.random.default_rng(seed).integers(-4, 5, size=shape)
    return torch.tensor(values, dtype=torch.double)


@exercise
def outcomes(answer):
    """six products, and which of them are refused."""
    want = {
        "(3, 4) @ (4,)": (3,),
        "(4,) @ (3, 4)": None,
        "(2, 3, 4) @ (4, 5)": (2, 3, 5),
        "mm of (2, 3, 4) and (2, 4, 5)": None,
        "inner of (2, 3) and (5, 3)": (2, 5),
        "einsum bij,bkj->ik of (7, 2, 3) and (7, 5, 3)": (2, 5),
    }
    hints = {
        "(3, 4) @ (4,)": "A vector on the right is a column; the added axis goes away.",
        "(4,) @ (3, 4)": "A vector on the left is one row: what stands below its 4?",
        "(2, 3, 4) @ (4, 5)": "A matrix beside a batch serves each member of it.",
        "mm of (2, 3, 4) and (2, 4, 5)": "How many ranks does mm accept?",
        "inner of (2, 3) and (5, 3)": "inner sums over the last axis of both.",
        "einsum bij,bkj->ik of (7, 2, 3) and (7, 5, 3)": (
            "Which letters does the result keep, and what are their sizes?"
        ),
    }
    _same_keys(answer, want)
    for key, right in want.items():
        given = answer[key]
        if given is not None and not isinstance(given, tuple):
            hint = "A shape is a tuple: (3,) has a comma, (3) is the number three."
            expect(False, f"{key}: {given!r}", "a tuple or None", hint)
        expect(given == right, f"{key}: {given}", "something else", hints[key])


def _same_keys(answer, want: dict) -> None:
    expect(
        isinstance(answer, dict) and set(answer) == set(want),
        f"The answer is {answer!r}",
        f"a dictionary with the keys {', '.join(want)}",
        "Copy the keys as they stand, and put your answer behind each.",
    )


@exercise
def cosine_table(answer):
    """shape, values, and a vector of zeros."""
    import torch

    a, b = _integers(0, 4, 6) + 0.5, _integers(1, 3, 6) + 0.5
    na, nb = a.norm(dim=1)[:, None], b.norm(dim=1)[:, None]
    want = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    slips = {
        "Those are dot products: divide by both lengths.": a @ b.T,
        "Only one side is divided by its length.": a / na @ b.T,
        "Only one side is divided by its length. ": a @ (b / nb).T,
        "Divide by the lengths, not by their squares.": (a / na**2) @ (b / nb**2).T,
    }
    hint = "Divide each row by its own length first, keepdim=True; then one product."
    expect_close("cosine_table(a, b)", answer(a, b), want, slips, hint)
    a[1] = 0
    got = answer(a, b)
    whole = bool(torch.isfinite(torch.as_tensor(got)).all())
    said = "With a row of zeros some cosines are no numbers."
    hint = "0 / 0: let the divisor never be less than something tiny."
    expect(whole, said, "zeros in that row", hint)
    want[1] = 0
    expect_close("with a row of zeros, cosine_table(a, b)", got, want, {}, hint)


@exercise
def equations(answer):
    """three equations, each on tensors whose axes all differ."""
    import torch

    n, D, B, L, h, d = 5, 3, 2, 4, 3, 7
    rows = _integers(0, n, D), _integers(1, n, D)
    gram = _integers(2, B, L, D)
    merge = _integers(3, B, h, L, d), _integers(4, h, d, 6)
    tasks = {
        "rows": (rows, (rows[0] * rows[1]).sum(1)),
        "gram": ((gram, gram), gram @ gram.transpose(1, 2)),
        "merge": (merge, (merge[0] @ merge[1]).sum(1)),
    }
    slips = {
        "rows": {
            "That is one number for all rows: the result keeps the row's letter.": (
                (rows[0] * rows[1]).sum()
            ),
            "Every row with every row: give both the same letter.": rows[0] @ rows[1].T,
        },
        "gram": {
            "Summed over the batch: the result keeps its letter.": (
                gram @ gram.transpose(1, 2)
            ).sum(0),
            "The two token axes need two letters.": (gram * gram).sum(2),
        },
        "merge": {
            "The heads are still apart: which letter has to go?": merge[0] @ merge[1],
            "Each head with every matrix: both head axes are one letter.": torch.einsum(
                "bhld,gde->ble", *merge
            ),
        },
    }
    _same_keys(answer, tasks)
    for name, (operands, want) in tasks.items():
        said = f"{name} is {answer[name]!r}"
        expect(isinstance(answer[name], str), said, "a text", 'Like "ik,kj->ij".')
        got = torch.einsum(answer[name], *operands)
        for hint, value in slips[name].items():
            alike = got.shape == value.shape and torch.allclose(got, value)
            expect(not alike, said, "another result", hint)
        hint = "One letter for each axis; what is summed is missing after the arrow."
        expect_close(name, got, want, {}, hint)


@exercise
def cheapest(answer):
    """lists of two to seven matrices against all brackets, and one of fifteen."""

    def every(sizes, pick):
        """The cost when `pick` chooses among all places of the last product."""
        if len(sizes) == 2:
            return 0
        return pick(
            every(sizes[: k + 1], pick)
            + every(sizes[k:], pick)
            + sizes[0] * sizes[k] * sizes[-1]
            for k in range(1, len(sizes) - 1)
        )

    rng = np.random.default_rng(0)
    cases = [[2, 3, 4], [5, 6], [10, 100, 5, 50], [30, 35, 15, 5, 10, 20]]
    cases += [rng.integers(1, 40, size=n).tolist() for n in (4, 6, 8)]
    for sizes in cases:
        want = every(sizes, min)
        left = sum(sizes[0] * b * c for b, c in itertools.pairwise(sizes[1:]))
        greedy, rest = 0, list(sizes)
        while len(rest) > 2:
            k = max(range(1, len(rest) - 1), key=rest.__getitem__)
            greedy += rest[k - 1] * rest[k] * rest[k + 1]
            del rest[k]
        hints = {
            left: "That multiplies from left to right: try other brackets.",
            every(sizes, max): "That is the dearest order.",
            greedy: "To sum out the largest size first is a good guess, not the best.",
        }
        got = answer(list(sizes))
        if got == want:
            continue
        said = f"cheapest({sizes}) is {got}"
        hint = (
            "The last product splits the list at some k: try each, both sides at best."
        )
        expect(got == want, said, "another number", hints.get(got, hint))
    many = rng.integers(1, 50, size=16).tolist()
    got, n = answer(many), len(many) - 1
    best = {(i, i + 1): 0 for i in range(n)}
    for i, j in sorted(
        itertools.combinations(range(n + 1), 2), key=lambda p: p[1] - p[0]
    ):
        splits = [
            best[i, k] + best[k, j] + many[i] * many[k] * many[j]
            for k in range(i + 1, j)
        ]
        best[i, j] = min(splits, default=0)
    said = f"For fifteen matrices you found {got}"
    expect(got == best[0, n], said, "another number", "Does it stop trying too early?")


@exercise
def divided(answer):
    """tables of (3, 4), (4, 4) and (2, 3, 3): the sums along the last axis."""
    for shape in ((3, 4), (4, 4), (2, 3, 3)):
        x = _integers(0, *shape).abs() + 1
        slips = {
            "The sums run over the wrong axis: the last one is −1.": x
            / x.sum(-2, keepdim=True),
            "One sum for everything: each row has its own.": x / x.sum(),
        }
        if shape[-1] == shape[-2]:
            hint = "Columns were divided: the sums stand as a row, not as a column."
            slips[hint] = x / x.sum(-1)[..., None, :]
        hint = "Keep the summed axis with size 1, so that it can be stretched."
        try:
            got = answer(x)
        except RuntimeError:
            said = f"On a table of shape {shape} it raises an error."
            expect(False, said, "a table of that shape", hint)
        want = x / x.sum(-1, keepdim=True)
        expect_close(f"divided(x) for {shape}", got, want, slips, hint)


@exercise
def distances(answer):
    """values and shape, for different and for equal numbers of points."""
    for n, m, D in ((4, 3, 2), (3, 3, 5), (1, 6, 1)):
        a, b = _integers(n, n, D), _integers(m + 9, m, D) + 0.5
        square = ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)
        slips = {
            "The square root is missing.": square,
            "Those are distances from b to a: rows belong to a.": square.T.sqrt(),
            "That sums absolute differences: square them, sum, take the root.": (
                (a[:, None] - b[None]).abs().sum(-1)
            ),
        }
        hint = "a as (n, 1, D), b as (1, m, D): their difference is (n, m, D)."
        got = answer(a, b)
        expect_close(f"distances for n={n}, m={m}", got, square.sqrt(), slips, hint)


@exercise
def largest_rule(answer):
    """the number of pairs of shapes on which the two rules differ."""
    shapes = [s for rank in range(4) for s in itertools.product(range(3), repeat=rank)]

    def together(a, b, largest):
        size = []
        for x, y in itertools.zip_longest(a[::-1], b[::-1], fillvalue=1):
            if x != y and 1 not in (x, y):
                return None
            size.append(max(x, y) if largest else x if y == 1 else y)
        return size

    pairs = list(itertools.product(shapes, repeat=2))
    want = sum(together(a, b, True) != together(a, b, False) for a, b in pairs)
    unordered = sum(
        together(a, b, True) != together(a, b, False)
        for a, b in itertools.combinations(shapes, 2)
    )
    zeros = sum(0 in a + b for a, b in pairs)
    refused = sum(together(a, b, False) is None for a, b in pairs)
    hints = {
        unordered: "Both orders count: (0,) with (1,), and (1,) with (0,).",
        zeros: "Not every pair with a zero goes wrong: what is the zero paired with?",
        refused: "Those are the pairs that are refused, by either rule.",
        0: "Is the cell run again after your edit, with the module loaded anew?",
    }
    hint = "Count the pairs where your edited function and torch disagree."
    said = f"You counted {answer!r}"
    expect(answer == want, said, "another number", hints.get(answer, hint))


@exercise
def product(answer):
    """every pair of small shapes that torch.matmul takes, and errors at the others."""
    import torch

    shapes = [
        s for rank in range(1, 4) for s in itertools.product((1, 2, 3), repeat=rank)
    ]
    for place, (a, b) in enumerate(itertools.product(shapes, repeat=2)):
        left, right = _integers(place, *a), _integers(place + 1, *b)
        try:
            want = torch.matmul(left, right)
        except RuntimeError:
            want = None
        try:
            got = answer(left, right)
        except (RuntimeError, ValueError, IndexError) as error:
            said = f"{a} @ {b} raises {type(error).__name__}: {error}"
            expect(want is None, said, "a result", _product_hint(a, b))
            continue
        said = f"{a} @ {b} gives something of shape {tuple(got.shape)}"
        hint = "The summed axes never stretch: compare their sizes yourself, and raise."
        expect(want is not None, said, "an error", hint)
        expect(
            got.shape == want.shape, said, f"{tuple(want.shape)}", _product_hint(a, b)
        )
        hint = (
            "left[..., :, :, None] * right[..., None, :, :], and which axis is summed?"
        )
        expect_close(f"{a} @ {b}", got, want, {}, hint)


def _product_hint(a: tuple, b: tuple) -> str:
    if len(a) == 1 and len(b) == 1:
        return "Two vectors: both added axes go away again, and a number remains."
    if len(a) == 1:
        return "A vector on the left: one row, whose axis the result loses."
    if len(b) == 1:
        return "A vector on the right: one column, whose axis the result loses."
    return "Count axes from the right, so that batches stretch by themselves."
