"""Exercises that answer the learner: what came, what was wanted, and one hint.

A check is a function of the answer that calls `expect` and `expect_close`:

    @exercise
    def twice(answer):
        "Doubling, on whole and negative numbers."
        expect_close("f(3)", answer(3.0), 6.0, {"You squared x.": 9.0}, "Add x to x.")

Its docstring is what a right answer is told that it passed.
"""

from collections.abc import Callable
from functools import wraps

import numpy as np

from utils.lab.evidence import _array


class NotYet(AssertionError):
    """An answer that is not right yet; the notebook shows its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


def exercise(body: Callable) -> Callable:
    """Make a check: `...` is an open exercise, an error of the answer is explained."""

    @wraps(body)
    def check(answer=...) -> None:
        if answer is ...:
            print("Not answered yet: replace the three dots, then run the cell again.")
            return
        try:
            body(answer)
        except NotYet:
            raise
        except Exception as error:
            message = f"Your answer raised {type(error).__name__}: {error}"
            hint = "Run it on a small tensor of your own and print the shapes inside."
            raise NotYet(f"{message}\nHint: {hint}") from error
        print(f"Right. Checked: {body.__doc__.strip()}")

    check.is_exercise = True
    return check


def expect(holds: bool, returned: str, expected: str, hint: str) -> None:
    """Raise NotYet with the three sentences unless `holds`."""
    if not holds:
        raise NotYet(f"{returned}\nExpected: {expected}\nHint: {hint}")


def expect_close(
    what: str,
    got,
    want,
    mistakes: dict[str, object],
    otherwise: str,
    tol: float = 1e-6,
) -> None:
    """`got` has the shape and values of `want`, or NotYet with the hint that fits.

    `mistakes` maps a hint to the value that this mistake would give; the first that
    `got` equals chooses the hint, `otherwise` is for the rest. The wanted values are
    never shown.
    """
    expect(got is not None, f"{what} is None", "a value", "Does it end in `return`?")
    got, want = _array(got), _array(want)
    shapes = f"{what} has shape {got.shape}", f"shape {want.shape}"
    expect(got.shape == want.shape, *shapes, _shape_hint(got.shape, want.shape))
    if np.allclose(got, want, rtol=tol, atol=tol):
        return
    fitting = [
        hint
        for hint, value in mistakes.items()
        if _array(value).shape == got.shape
        and np.allclose(got, _array(value), rtol=tol, atol=tol)
    ]
    hint = [*fitting, otherwise][0]
    worst = np.abs(got - want).max()
    raise NotYet(f"{what} is off by up to {worst:.3g}.\nHint: {hint}")


def _shape_hint(got: tuple, want: tuple) -> str:
    if len(got) < len(want):
        return "A reduction dropped an axis: `keepdim=True` keeps it."
    if sorted(got) == sorted(want):
        return "The sizes are right and their order is not: look at the axes."
    return "Print the shape after every line and find where it changes."
