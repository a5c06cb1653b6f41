"""Checks of chapter 09. Import as `from utils.exercises import onnx as check`."""

import tempfile
from pathlib import Path

import numpy as np

from utils.lab.check import exercise, expect, expect_close


@exercise
def mystery(answer):
    """the operators of two products with a softmax between them."""
    hint = "One name for each step of the formula, from the inside out."
    expect(isinstance(answer, list), f"The answer is {answer!r}", "a list", hint)
    names = [str(name).lower() for name in answer]
    hint = "A softmax is one operator; its exponentials do not appear."
    expect("exp" not in names, f"The answer is {answer}", "other names", hint)
    hint = "Two matrix products, and something between them."
    want = ["matmul", "softmax", "matmul"]
    expect(names == want, f"The answer is {answer}", "three operators", hint)


@exercise
def hypotenuse(answer):
    """the graph of a hypotenuse: its inputs, its output, its values."""
    import onnx

    from utils.onnx import run, session

    hint = "Give the model that `helper.make_model` returns."
    kind = type(answer).__name__
    expect(isinstance(answer, onnx.ModelProto), f"The answer is a {kind}", "one", hint)
    names = [value.name for value in answer.graph.input]
    hint = "The graph's inputs are listed in `make_graph`, by name."
    expect(names == ["a", "b"], f"The inputs are {names}", "a and b", hint)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.onnx")
        onnx.save(answer, path)
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(2, 5)).astype(np.float32)
        got = run(session(path), {"a": a, "b": b})
        expect(list(got) == ["c"], f"The outputs are {list(got)}", "c", hint)
    slips = {
        "The root is missing.": a * a + b * b,
        "Square each before you add.": np.sqrt(np.abs(a + b)),
        "That is |a| + |b|: take one root, of the sum.": np.abs(a) + np.abs(b),
    }
    hint = "Print what each node makes, with an interpreter as on this page."
    expect_close("c", got["c"], np.sqrt(a * a + b * b), slips, hint, tol=1e-5)


@exercise
def Freed(answer):
    """texts of 4, 8 and 30, in PyTorch and exported once for all lengths."""
    import torch

    from utils.onnx import ExportError, export, run, session

    module = answer().eval()
    rng = np.random.default_rng(0)
    given = {
        n: torch.tensor(rng.normal(size=(3, n, 5)), dtype=torch.float32)
        for n in (4, 8, 30)
    }
    for n, x in given.items():
        half = n // 2
        want = (x[:, :half] - x[:, half:]).mean(1)
        slips = {
            "The halves are those of a text of eight: use the length of x.": (
                (x[:, :4] - x[:, 4:8]).mean(1) if n >= 8 else torch.full_like(want, 9)
            ),
            "Even and odd places are not the two halves.": (
                x[:, ::2] - x[:, 1::2]
            ).mean(1),
        }
        hint = "First half minus second half, then the mean over the places."
        expect_close(f"on length {n}", module(x), want, slips, hint, tol=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        path, free = Path(folder, "freed.onnx"), {"x": {0: "batch"}}
        try:
            export(
                module, {"x": given[8]}, path, {"x": {0: "batch", 1: "length"}}, ["y"]
            )
        except ExportError:
            frozen = "its length cannot be exported as dynamic"
            hint = "Which line turns the length into a plain Python number, or a list?"
            try:
                export(module, {"x": given[8]}, path, free, ["y"])
            except ExportError as error:
                frozen = str(error)
            expect(False, frozen, "a dynamic length", hint)
        running = session(path)
        for n, x in given.items():
            hint = "The exported graph still counts on the example's length."
            got = run(running, {"x": x})["y"]
            expect_close(f"exported, length {n}", got, module(x), {}, hint, tol=1e-5)


CHAIN = [
    ("Mul", ["two", "three"], "six"),
    ("Add", ["x", "six"], "a"),
    ("Sqrt", ["six"], "root"),
    ("Mul", ["a", "root"], "y"),
    ("Add", ["root", "two"], "b"),
]


@exercise
def folded(answer):
    """constants of constants, and what depends on an input."""
    got = answer(CHAIN, {"two", "three"})
    shown = f"folded gives {got}"
    hint = "What was folded is known from then on: its readers may be known, too."
    expect(got != ["six"], shown, "more", hint)
    hint = "A node with one unknown input is unknown."
    expect("a" not in got and "y" not in got, shown, "less", hint)
    hint = "Give the names of outputs, in the order of the nodes."
    expect(got == ["six", "root", "b"], shown, "three names", hint)
    hint = "Without constants nothing is known."
    got = answer(CHAIN, set())
    expect(got == [], f"without constants it gives {got}", "nothing", hint)


@exercise
def fuse(answer):
    """long and short patterns, overlaps, and a chain without any."""
    patterns = {
        ("MatMul", "Add"): "Gemm",
        ("MatMul", "Add", "Gelu"): "GemmGelu",
        ("Add", "Add"): "Add2",
    }
    chain = ["MatMul", "Add", "Gelu", "MatMul", "Add", "Add", "Relu", "MatMul"]
    before = list(chain)
    got = answer(chain, patterns)
    hint = "Do not change the chain that you were given."
    expect(chain == before, "The chain itself was changed", "a new list", hint)
    shown = f"the chain becomes {got}"
    hint = "Where two patterns begin at one place, take the longer one."
    expect("GemmGelu" in got, shown, "the long pattern first", hint)
    hint = "From the left: the Add after a MatMul is taken by that pattern."
    expect("Add2" not in got, shown, "no Add2", hint)
    want = ["GemmGelu", "Gemm", "Add", "Relu", "MatMul"]
    hint = "Go on behind the pattern; what fits none stays as it is."
    expect(got == want, shown, "five operators", hint)


@exercise
def fusable(answer):
    """one reader, two readers, an output of the graph, another operator."""
    nodes = [
        ("Add", ["x", "b"], "p"),
        ("Gelu", ["p"], "q"),
        ("Add", ["q", "c"], "r"),
        ("Gelu", ["r"], "s"),
        ("Mul", ["r", "s"], "t"),
        ("Add", ["t", "d"], "u"),
        ("Gelu", ["u"], "v"),
    ]
    got = [tuple(pair) for pair in answer(nodes, {"v", "u"}, "Add", "Gelu")]
    shown = f"the pairs are {got}"
    hint = "Somebody else reads what would no longer be written."
    expect((2, 3) not in got, shown, "not this one", hint)
    hint = "An output of the graph has to be written."
    expect((5, 6) not in got, shown, "not this one", hint)
    hint = "The positions of the two nodes, first the one that is read."
    expect(got == [(0, 1)], shown, "one pair", hint)
    got = answer(nodes, {"v"}, "Gelu", "Add")
    hint = "The second node must read the output of the first."
    expect([tuple(p) for p in got] == [(1, 2)], f"Gelu, Add: {got}", "one pair", hint)


@exercise
def speedup(answer):
    """steady seconds, a bad minute for both, and a single spike."""
    cases = [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], 2.0),
        ([2.0, 20.0, 2.2], [1.0, 10.0, 1.1], 2.0),  # a bad minute, for both
        ([3.0, 3.0, 30.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0, 2.0], 3.0),
    ]
    for a, b, want in cases:
        slips = {
            "That is b over a.": 1 / want,
            "The mean of ratios follows a single spike.": np.mean(np.divide(a, b)),
            "Means of seconds follow a single spike: compare within rounds.": (
                np.mean(a) / np.mean(b)
            ),
            "Compare within rounds first, then take the median.": (
                np.median(a) / np.median(b)
            ),
        }
        hint = "One ratio a round; then the middle one."
        expect_close(f"speedup({a}, {b})", answer(a, b), want, slips, hint)


@exercise
def with_padding(answer):
    """one batch, several, and a last one that is not full."""
    for lengths, size, want in [
        ([3, 5, 2], 3, 15),
        ([3, 5, 2, 9], 2, 28),
        ([1, 8, 2, 2, 7], 2, 27),
        ([4], 8, 4),
    ]:
        full = -(-len(lengths) // size) * size
        slips = {
            "Those are the tokens without any padding.": sum(lengths),
            "Each batch is padded to its own longest, not to the longest of all.": (
                len(lengths) * max(lengths)
            ),
            "The last batch holds only what is left.": want
            + (full - len(lengths)) * max(lengths[-(len(lengths) % size or size) :]),
        }
        hint = "For each batch: how many sentences, times its longest."
        what = f"with_padding({lengths}, {size})"
        expect_close(what, answer(lengths, size), want, slips, hint)


@exercise
def interval(answer):
    """a hundred pairs of noisy lists whose true ratio is 2."""
    rng = np.random.default_rng(0)
    low, high = answer([2.0] * 9, [1.0] * 9, 0.9)
    hint = "Without noise the interval is a single number."
    expect(low == high == 2, f"without noise: ({low}, {high})", "(2, 2)", hint)
    held, widths = 0, {}
    for level in (0.9, 0.5):
        held, total = 0, 0.0
        for _ in range(100):
            b = rng.lognormal(0, 0.3, size=25)
            a = 2 * b * rng.lognormal(0, 0.2, size=25)
            low, high = answer(a.tolist(), b.tolist(), level)
            hint = "Give the lower end first."
            expect(low <= high, f"({low:.3g}, {high:.3g})", "low, high", hint)
            held += low <= 2 <= high
            total += high - low
        widths[level] = total
        shown = f"at level {level} the interval held the truth {held} times in 100"
        hint = "Draw whole rounds, ratios, and as many as there are in the lists."
        expect(100 * level - 18 <= held <= 100 * level + 12, shown, "about that", hint)
    hint = "The level decides which quantiles are taken."
    expect(widths[0.9] > widths[0.5], "0.9 is no wider than 0.5", "wider", hint)
