"""Comparisons that keep their operands, so that the evidence on a card writes itself.

>>> x = 3
>>> print(below(x * 2, 10))
`x * 2` = 6 < 10
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import executing
import numpy as np

from utils.lab.numbers import spell


@dataclass(frozen=True)
class Evidence:
    """One comparison: whether it holds, and a sentence saying what was compared."""

    holds: bool
    text: str

    def __str__(self) -> str:
        return self.text


def same(a, b) -> Evidence:
    """`a` is exactly `b`: equal shape and every entry equal, no tolerance."""
    if _is_array(a) or _is_array(b):
        left, right = _array(a), _array(b)
        holds = left.shape == right.shape and bool((left == right).all())
    else:
        holds = bool(a == b)
    left, right = _written(2)
    return Evidence(holds, f"{left} is exactly {right}")


def close(a, b, tol: float) -> Evidence:
    """max |a − b| ≤ tol. Raises ValueError where the shapes differ."""
    left, right = _written(2)
    gap = _gap("close", a, b)
    found = "" if gap <= tol else f", but they differ by {spell(gap)}"
    return Evidence(gap <= tol, f"{left} equals {right} within {tol:g}{found}")


def apart(a, b, least: float) -> Evidence:
    """max |a − b| > least. Raises ValueError where the shapes differ."""
    left, right = _written(2)
    gap = _gap("apart", a, b)
    return Evidence(
        gap > least, f"{left} and {right} differ by {spell(gap)} > {least:g}"
    )


def below(value, bound) -> Evidence:
    """value < bound."""
    return Evidence(bool(value < bound), f"{_written(1)[0]} {_is(value)} < {bound:g}")


def above(value, bound) -> Evidence:
    """value > bound."""
    return Evidence(bool(value > bound), f"{_written(1)[0]} {_is(value)} > {bound:g}")


def between(value, low, high) -> Evidence:
    """low ≤ value ≤ high."""
    text = f"{_written(1)[0]} {_is(value)} lies in [{low:g}, {high:g}]"
    return Evidence(bool(low <= value <= high), text)


def raises(error: type[BaseException], call: Callable[[], object]) -> Evidence:
    """`call()` raises `error`; another error, or none, is evidence that fails."""
    _, written = _written(2)
    written = written.replace("`lambda: ", "`")
    try:
        call()
    except error:
        return Evidence(True, f"{written} raises {error.__name__}")
    except Exception as other:
        return Evidence(False, f"{written} raises {type(other).__name__} instead")
    return Evidence(False, f"{written} raises nothing")


def _written(count: int) -> list[str]:
    """The first `count` arguments of the comparison, as its caller wrote them."""
    caller = inspect.currentframe().f_back.f_back
    node = executing.Source.executing(caller).node
    if not isinstance(node, ast.Call):
        return [f"`operand {i + 1}`" for i in range(count)]
    return [f"`{ast.unparse(argument)}`" for argument in node.args[:count]]


def _is_array(value) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value) -> np.ndarray:
    """A tensor, array or number as NumPy array; low precision is widened first."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    return np.asarray(value)


def _gap(name: str, a, b) -> float:
    left, right = _array(a), _array(b)
    if left.shape != right.shape:
        raise ValueError(f"{name}: shapes {left.shape} and {right.shape} differ")
    if left.size == 0:
        raise ValueError(f"{name}: nothing to compare, shape {left.shape}")
    return float(np.abs(left.astype(float) - right.astype(float)).max())


def _is(value) -> str:
    value = value.item() if hasattr(value, "item") else value
    return f"= {value}" if isinstance(value, int) else spell(value)
