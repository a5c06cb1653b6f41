"""Exact numbers print plainly; measured ones stand behind ≈, inside stated bounds."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def spell(value: float) -> str:
    """A measured number in three digits: `≈0.0123`. Nothing checks it: see `approx`."""
    return f"≈{float(value):.3g}"


def approx(value: float, low: float, high: float, unit: str = "") -> str:
    """The text `≈value unit`, for a number that low ≤ value ≤ high holds for.

    Use it for whatever another machine would measure differently: clocks, memory,
    trained or low-precision results. Raises AssertionError outside the bounds.

    >>> approx(1.8342, 1, 3, "s")
    '≈1.83 s'
    """
    if not low <= value <= high:
        raise AssertionError(f"{value:g} {unit} lies outside [{low:g}, {high:g}]")
    return f"{spell(value)} {unit}".rstrip()


@contextmanager
def deprecated(category: type[Warning] = DeprecationWarning) -> Iterator[None]:
    """Run old calls, print the category of warning they raise; fail if they do not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if not any(issubclass(w.category, category) for w in caught):
        raise AssertionError(f"no {category.__name__} was raised")
    print(f"{category.__name__} raised, as expected")
