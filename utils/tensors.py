"""Which shapes go together, and what comes out: broadcasting, products, einsum, views.

A shape is a tuple of sizes, the slowest axis first, such as (3,) or (B, L, D). Axes are
named from the right, −1 the last, because that is how shapes are aligned. Only
`einsum_by_loops` touches numbers; the rest reasons on shapes, so that a tensor of a
terabyte costs as little as one of three numbers.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

Shape = tuple[int, ...]


def _shape(given: Sequence[int]) -> Shape:
    if isinstance(given, int):
        raise TypeError(f"{given} is a number; a shape of one axis is ({given},)")
    shape = tuple(given)
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"{shape} is no shape: sizes are whole numbers from 0 on")
    return shape


def _joined(axis: int, sizes: Sequence[int], what: str = "axis") -> int:
    """The one size that all `sizes` of an axis agree on, where 1 agrees with any."""
    wide = list(dict.fromkeys(size for size in sizes if size != 1))
    if len(wide) > 1:
        given = " against ".join(map(str, wide))
        raise ValueError(
            f"{what} {axis}: {given}; they must be equal, or one of them 1"
        )
    return wide[0] if wide else 1


def broadcast_shape(*shapes: Sequence[int]) -> Shape:
    """The shape in which elementwise operations meet: (3, 1) and (4,) give (3, 4).

    Shapes are aligned from the right. On each axis the sizes that are not 1 must be
    equal; an axis that is 1, or missing, is stretched. Raises ValueError with the axis.
    NumPy user guide, Broadcasting.
    """
    shapes = [_shape(shape) for shape in shapes]
    rank = max(map(len, shapes), default=0)
    return tuple(
        _joined(axis, [shape[axis] if len(shape) >= -axis else 1 for shape in shapes])
        for axis in range(-rank, 0)
    )


def matmul_shape(a: Sequence[int], b: Sequence[int]) -> Shape:
    """Shape of a @ b: (…, n, p) and (…, p, m) give (…, n, m), batches broadcast.

    A vector on the left stands as one row (1, p), a vector on the right as one column
    (p, 1), and the result loses that 1. Raises ValueError: an operand without axes, the
    summed sizes differ, or a batch axis does not broadcast. PyTorch, torch.matmul.
    """
    a, b = _shape(a), _shape(b)
    for side, shape in [("left", a), ("right", b)]:
        if not shape:
            raise ValueError(f"the {side} operand is a number, without axes: use *")
    left = (1, *a) if len(a) == 1 else a  # (…, n, p)
    right = (*b, 1) if len(b) == 1 else b  # (…, p, m)
    if left[-1] != right[-2]:
        place = "last but one" if len(b) > 1 else "only"
        summed = f"{left[-1]}, the last size of {a}, against {right[-2]}, the {place}"
        raise ValueError(f"summed axes: {summed} of {b}; they never broadcast")
    rank = max(len(left), len(right))
    batch = tuple(
        _joined(axis, [s[axis] for s in (left, right) if len(s) >= -axis], "batch axis")
        for axis in range(-rank, -2)
    )
    return batch + left[-2:-1] * (len(a) > 1) + right[-1:] * (len(b) > 1)


def _of_rank(wanted: int, name: str, *shapes: Sequence[int]) -> list[Shape]:
    shapes = [_shape(shape) for shape in shapes]
    for shape in shapes:
        if len(shape) != wanted:
            raise ValueError(f"{name} wants rank {wanted}; {shape} has {len(shape)}")
    return shapes


def dot_shape(a: Sequence[int], b: Sequence[int]) -> Shape:
    """Shape of torch.dot: (n,) and (n,) give (); anything else raises ValueError."""
    a, b = _of_rank(1, "dot", a, b)
    if a != b:
        raise ValueError(f"dot: {a[0]} against {b[0]}; the lengths must be equal")
    return ()


def mm_shape(a: Sequence[int], b: Sequence[int]) -> Shape:
    """Shape of torch.mm: (n, p) and (p, m) give (n, m); else ValueError."""
    return matmul_shape(*_of_rank(2, "mm", a, b))


def bmm_shape(a: Sequence[int], b: Sequence[int]) -> Shape:
    """Shape of torch.bmm: (B, n, p) and (B, p, m) give (B, n, m); else ValueError."""
    a, b = _of_rank(3, "bmm", a, b)
    if a[0] != b[0]:
        raise ValueError(f"bmm: batches {a[0]} and {b[0]}; they never broadcast")
    return matmul_shape(a, b)


RULES = {
    "*": broadcast_shape,
    "@": matmul_shape,
    "dot": dot_shape,
    "mm": mm_shape,
    "bmm": bmm_shape,
}


def explain(operator: str, a: Sequence[int], b: Sequence[int]) -> str:
    """How the shapes a and b meet under `*` or `@`: a drawing in text, and words.

    The shapes stand aligned. `[5]` is an axis that is not there, lent by the other
    side; `1→4` is stretched; `<8>` is summed away; `–` is dropped. What does not go
    together, such as (3,) * (4,), is explained, not raised. ValueError for another
    operator.
    """
    if operator not in ("*", "@"):
        raise ValueError(f"no drawing for {operator!r}, only for '*' and '@'")
    a, b = _shape(a), _shape(b)
    title = f"{a} {operator} {b}"
    try:
        title += f" → {RULES[operator](a, b)}"
    except ValueError as error:
        title += " is refused"
        if operator == "@" and not (a and b):
            return f"{title}: {error}"
    axes = _stretched(a, b) if operator == "*" else _multiplied(a, b)
    lines = [f"{name:>8}" for name in ("axis", "a", "b", "result")]
    for *cells, _ in axes:
        width = max(map(len, cells))
        lines = [f"{ln}   {c:>{width}}" for ln, c in zip(lines, cells, strict=True)]
    words = [f"axis {axis[0]}: {text}" for axis in axes[::-1] for text in axis[-1]]
    return "\n".join([title, *lines, *(words or ["every axis agrees"])])


Row = tuple[str, str, str, str, list[str]]  # axis, a, b, result; and what happens


def _stretched(a: Shape, b: Shape, unused: int = 0) -> list[Row]:
    """The axes that broadcast: all of (5, 3, 4, 1) but the last `unused`."""
    rows = []
    for axis in range(-max(len(a), len(b)), -unused):
        x, y = (s[axis] if len(s) >= -axis else None for s in (a, b))
        try:
            size = _joined(axis, [n for n in (x, y) if n is not None])
        except ValueError:
            said = [f"refused, {x} and {y} differ and neither is 1"]
            rows.append((f"{axis}", f"{x}", f"{y}", "✗", said))
            continue
        cells, said = [], []
        for name, n in [("a", x), ("b", y)]:
            cells.append(f"[{size}]" if n is None else f"{n}")
            if n is None:
                said.append(f"{name} has none; it is used for each of {size}")
            elif n != size:
                cells[-1] = f"1→{size}"
                said.append(f"the 1 of {name} is stretched to {size}")
        rows.append((f"{axis}", *cells, f"{size}", said))
    return rows


def _multiplied(a: Shape, b: Shape) -> list[Row]:
    """The axes of a @ b: those of the batch, then the two of the matrices."""
    row, column = len(a) == 1, len(b) == 1
    left, right = (
        (1, *a) if row else a,
        (*b, 1) if column else b,
    )  # (…, n, p), (…, p, m)
    n, p, q, m = *left[-2:], *right[-2:]
    upper, lower = "[1]" if row else f"{n}", "[1]" if column else f"{m}"
    ends = ("–" if row else upper, "–" if column else lower) if p == q else "✗✗"
    said = f"{p} of a meets {q} of b"
    said += " and is summed away" if p == q else ": refused, they must be equal"
    vector = "{} is a vector and stands as one {}, which the result loses"
    rows = _stretched(left, right, unused=2)
    rows.append(("-2", upper, f"<{q}>", ends[0], [vector.format("a", "row")] * row))
    column_said = [vector.format("b", "column")] * column
    return [*rows, ("-1", f"<{p}>", lower, ends[1], [said, *column_said])]


def row_major(shape: Sequence[int]) -> Shape:
    """Strides of a contiguous tensor, in elements: (3, 4) has strides (4, 1)."""
    shape = _shape(shape)
    return tuple(
        math.prod(max(n, 1) for n in shape[k + 1 :]) for k in range(len(shape))
    )


def stretched_strides(shape: Sequence[int], target: Sequence[int]) -> Shape:
    """Strides by which a contiguous tensor of `shape` is read as `target`, uncopied.

    A stretched axis, or one that is lent, gets the stride 0: the walk stands still and
    reads the same cell again. (4,) as (3, 4): (0, 1). Raises ValueError where the shape
    does not stretch.
    """
    shape, target = _shape(shape), _shape(target)
    if broadcast_shape(shape, target) != target:
        raise ValueError(f"{shape} does not stretch to {target}")
    padded = (1,) * (len(target) - len(shape)) + shape
    axes = zip(padded, target, row_major(padded), strict=True)
    return tuple(stride if size == full else 0 for size, full, stride in axes)


def walk(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The cells of memory that a tensor reads, in the order of its elements.

    Element (i, j, …) lies at i · strides[0] + j · strides[1] + …, from 0.

    >>> walk((2, 3), (1, 2))
    [0, 2, 4, 1, 3, 5]
    """
    shape = _shape(shape)
    if len(shape) != len(strides):
        raise ValueError(f"{len(strides)} strides for the {len(shape)} axes of {shape}")
    places = itertools.product(*map(range, shape))
    return [sum(map(int.__mul__, place, strides)) for place in places]


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a tensor (…, L, D) reads its memory from left to right, without gaps."""
    cells = walk(shape, strides)
    return cells == list(range(len(cells)))


def _letters(equation: str, operands: int) -> tuple[list[str], str]:
    """The letters of each operand and of the result of an einsum."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    every = "".join(inputs)
    if not arrow:  # unwritten: what stands once, in alphabetical order
        output = "".join(sorted(x for x in every if every.count(x) == 1))
    odd = [x for x in every + output if not (x.isascii() and x.isalpha())]
    if odd:
        raise ValueError(f"{equation!r}: {odd[0]!r} is no letter")
    if len(inputs) != operands:
        count = f"{len(inputs)} operands, {operands} are given"
        raise ValueError(f"{equation!r} speaks of {count}")
    for x in output:
        if x not in every or output.count(x) > 1:
            why = "stands twice" if x in every else "stands in no operand"
            raise ValueError(f"{equation!r}: {x!r} of the result {why}")
    return inputs, output


def letter_sizes(equation: str, *shapes: Sequence[int]) -> dict[str, int]:
    """How far each letter of an einsum counts: 'ik,k->i', (2, 3), (3,) → i 2, k 3.

    Raises ValueError with the letter whose sizes differ, or the operand whose rank is
    not its number of letters. As in torch and NumPy a size of 1 stretches, silently.
    """
    inputs, _ = _letters(equation, len(shapes))
    found: dict[str, list[int]] = {}
    for letters, shape in zip(inputs, map(_shape, shapes), strict=True):
        if len(letters) != len(shape):
            raise ValueError(f"{letters!r} names {len(letters)} axes of {shape}")
        own = dict(zip(letters, shape, strict=True))
        for x, size in zip(letters, shape, strict=True):
            if own[x] != size:
                raise ValueError(
                    f"{letters!r}: {x!r} is {size} and {own[x]} in {shape}"
                )
            found.setdefault(x, []).append(size)
    return {x: _joined(x, sizes, "letter") for x, sizes in found.items()}


def einsum_shape(equation: str, *shapes: Sequence[int]) -> Shape:
    """Shape of an einsum's result: 'bqd,bkd->bqk', (2, 3, 8), (2, 5, 8) → (2, 3, 5)."""
    sizes = letter_sizes(equation, *shapes)
    return tuple(sizes[x] for x in _letters(equation, len(shapes))[1])


def einsum_cost(equation: str, *shapes: Sequence[int]) -> int:
    """Terms that an einsum adds up in one go: the product of all its letters' sizes.

    For two matrices (n, p) and (p, m) these are n·p·m multiplications.
    """
    return math.prod(letter_sizes(equation, *shapes).values())


def einsum_by_loops(equation: str, *arrays: np.ndarray) -> np.ndarray:
    """What an einsum means: a loop for each letter, multiply, add to the result's cell.

    A letter that the result lacks is thereby summed. Arrays such as (L, D); slow, and
    right. Raises ValueError as `letter_sizes` does.
    """
    inputs, output = _letters(equation, len(arrays))
    sizes = letter_sizes(equation, *(array.shape for array in arrays))
    result = np.zeros([sizes[x] for x in output], np.result_type(*arrays))
    for place in itertools.product(*map(range, sizes.values())):
        at = dict(zip(sizes, place, strict=True))  # letter: where its loop stands
        term = 1
        for letters, array in zip(inputs, arrays, strict=True):
            cell = [at[x] % n for x, n in zip(letters, array.shape, strict=True)]
            term *= array[tuple(cell)]  # % n: an axis of 1 stays at its only cell
        result[tuple(at[x] for x in output)] += term
    return result
