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
    """the graph of a hypotenuse: its form, its operators, its values."""
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
