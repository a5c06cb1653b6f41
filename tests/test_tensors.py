"""utils/tensors.py: every small pair of shapes as in torch and NumPy, and loops."""

import itertools
import math
import string

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import tensors

SHAPES = [s for rank in range(5) for s in itertools.product(range(4), repeat=rank)]
SMALL = [s for s in SHAPES if len(s) < 3] + [
    s for s in SHAPES if len(s) == 3 and 3 in s
]
CALLS = {
    "*": torch.mul,
    "@": torch.matmul,
    "dot": torch.dot,
    "mm": torch.mm,
    "bmm": torch.bmm,
}


def found(call, *operands):
    """The shape that comes out, or None where the call refuses."""
    try:
        result = call(*operands)
    except (RuntimeError, ValueError):
        return None
    return tuple(getattr(result, "shape", result))


@pytest.mark.parametrize("name", CALLS)
def test_every_pair_up_to_rank_4_as_in_torch(name):
    """116,281 pairs of sizes 0 to 3: the shape, and errors exactly where torch errs."""
    assert len(SHAPES) ** 2 == 116_281
    blank = {s: torch.empty(s, device="meta") for s in SHAPES}
    for a, b in itertools.product(SHAPES, repeat=2):
        wanted = found(CALLS[name], blank[a], blank[b])
        assert found(tensors.RULES[name], a, b) == wanted, (name, a, b)


@pytest.mark.parametrize(
    ("name", "call", "zeros"),
    [(name, call, torch.zeros) for name, call in CALLS.items()]
    + [("*", np.multiply, np.zeros), ("@", np.matmul, np.zeros)],
)
def test_small_pairs_with_numbers_in_them_as_in_torch_and_numpy(name, call, zeros):
    full = {s: zeros(s) for s in SMALL}
    for a, b in itertools.product(SMALL, repeat=2):
        wanted = found(call, full[a], full[b])
        assert found(tensors.RULES[name], a, b) == wanted, (name, a, b)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=4).map(tuple), max_size=4))
def test_several_shapes_meet_as_in_numpy(shapes):
    wanted = found(np.broadcast_shapes, *shapes)
    assert found(tensors.broadcast_shape, *shapes) == wanted


@pytest.mark.parametrize(
    ("rule", "shapes", "message"),
    [
        ("*", [(2, 3), (4, 1, 4)], "^axis -1: 3 against 4; they must be equal, or"),
        ("*", [(3, 1, 2), (4, 1, 1)], "^axis -3: 3 against 4"),
        ("@", [(7,), (7, 8, 5)], "7, the last size of .7,., against 8, the last but"),
        ("@", [(2, 3), (2,)], "3, the last size of .2, 3., against 2, the only"),
        ("@", [(2, 1, 1), (3, 1, 1)], "^batch axis -3: 2 against 3"),
        ("@", [(3,), ()], "^the right operand is a number"),
        ("@", [(), (3,)], "^the left operand is a number"),
        ("dot", [(3,), (1,)], "^dot: 3 against 1; the lengths"),
        ("mm", [(3,), (3, 4)], "^mm wants rank 2; .3,. has 1"),
        ("bmm", [(5, 2, 2), (1, 2, 2)], "^bmm: batches 5 and 1"),
        ("*", [(3, -1), ()], "is no shape: sizes are whole numbers"),
        ("*", [(3, 2.0), ()], "is no shape"),
    ],
)
def test_a_refusal_names_the_place(rule, shapes, message):
    with pytest.raises(ValueError, match=message):
        tensors.RULES[rule](*shapes)


def test_a_number_in_the_place_of_a_shape():
    with pytest.raises(
        TypeError, match=r"3 is a number; a shape of one axis is \(3,\)"
    ):
        tensors.broadcast_shape(3, (3,))


@pytest.mark.parametrize("operator", ["*", "@"])
def test_the_drawing_says_what_the_rule_says(operator):
    """On all small pairs: the row `result` spells the shape, ✗ stands at refusals."""
    for a, b in itertools.product(SMALL, repeat=2):
        shape, text = (
            found(tensors.RULES[operator], a, b),
            tensors.explain(operator, a, b),
        )
        title, *lines = text.splitlines()
        if operator == "@" and not (a and b):
            assert "is refused: the" in title
            continue
        result = lines[3].split()[1:]
        assert ("✗" in result) == (shape is None) == ("refused" in title), text
        assert any("refused" in line for line in lines[4:]) == (shape is None), text
        if shape is not None:
            assert title.endswith(f"→ {shape}")
            assert tuple(int(n) for n in result if n != "–") == shape, text
        given = [[c for c in line.split()[1:] if "[" not in c] for line in lines[1:3]]
        for shape, cells in zip((a, b), given, strict=True):  # ghosts apart
            sizes = [int(c.strip("<>").split("→")[0]) for c in cells]
            assert sizes == list(shape), text
        assert len({len(line) for line in lines[:4]}) == 1, "not aligned"


def test_the_drawing_of_a_vector_before_a_batch():
    assert tensors.explain("@", (8,), (7, 8, 5)) == "\n".join(
        [
            "(8,) @ (7, 8, 5) → (7, 5)",
            "    axis    -3    -2    -1",
            "       a   [7]   [1]   <8>",
            "       b     7   <8>     5",
            "  result     7     –     5",
            "axis -1: 8 of a meets 8 of b and is summed away",
            "axis -2: a is a vector and stands as one row, which the result loses",
            "axis -3: a has none; it is used for each of 7",
        ]
    )
    assert tensors.explain("*", (2,), (2,)).endswith("every axis agrees")
    with pytest.raises(ValueError, match="no drawing for 'mm'"):
        tensors.explain("mm", (2, 2), (2, 2))


def test_a_terabyte_costs_nothing():
    shape = (10**6, 10**6, 1)
    assert tensors.broadcast_shape(shape, (10**6,)) == (10**6,) * 3
    assert tensors.einsum_shape("abi,c->abc", shape, (4,)) == (10**6, 10**6, 4)


@pytest.mark.parametrize("shape", SMALL)
def test_strides_and_walks_as_in_torch(shape):
    """A tensor that holds its own addresses tells where any view of it reads."""
    cells = torch.arange(math.prod(shape)).reshape(shape)
    assert tensors.row_major(shape) == cells.stride()
    assert tensors.walk(shape, cells.stride()) == cells.flatten().tolist()
    for order in itertools.permutations(range(len(shape))):
        view = cells.permute(order)
        got = tensors.walk(view.shape, view.stride())
        assert got == view.flatten().tolist()
        assert tensors.is_contiguous(view.shape, view.stride()) == view.is_contiguous()
    for target in SMALL:
        try:
            strides = tensors.stretched_strides(shape, target)
        except ValueError:
            assert found(cells.expand, target) is None
            continue
        assert tensors.walk(target, strides) == cells.expand(target).flatten().tolist()


def test_strides_that_do_not_fit():
    with pytest.raises(ValueError, match=r"1 strides for the 2 axes of \(2, 3\)"):
        tensors.walk((2, 3), (1,))
    with pytest.raises(ValueError, match="axis -1: 2 against 3"):
        tensors.stretched_strides((2,), (3,))
    with pytest.raises(ValueError, match=r"\(3,\) does not stretch to \(1,\)"):
        tensors.stretched_strides((3,), (1,))


@st.composite
def einsums(draw):
    """An equation of up to three operands, and shapes that sometimes do not fit."""
    letters = "abcd"
    inputs = draw(st.lists(st.text(letters, max_size=3), min_size=1, max_size=3))
    size = {x: draw(st.integers(0, 3)) for x in letters}
    odd = draw(st.integers(0, 9))  # now and then another size, or a 1 that stretches
    shapes = [
        tuple(draw(st.sampled_from([1, 2, size[x]])) if odd < 3 else size[x] for x in w)
        for w in inputs
    ]
    equation = ",".join(inputs)
    if draw(st.booleans()):
        used = sorted(set("".join(inputs)))
        kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        equation += "->" + "".join(kept)
    return equation, shapes


@settings(max_examples=400, deadline=None)
@given(einsums())
def test_einsum_shapes_and_values_as_in_torch(case):
    equation, shapes = case
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape).astype(float) for shape in shapes]
    tensors_ = [torch.tensor(a) for a in arrays]
    wanted = found(torch.einsum, equation, *tensors_)
    assert found(tensors.einsum_shape, equation, *shapes) == wanted
    if wanted is not None:
        ours = tensors.einsum_by_loops(equation, *arrays)
        np.testing.assert_array_equal(ours, torch.einsum(equation, *tensors_).numpy())


def test_capital_letters_come_first_where_the_result_is_unwritten():
    shapes = [(2, 3), (3, 4)]
    full = [torch.zeros(s) for s in shapes]
    for equation in ("ik,kj", "ak,kA", "ba,ac", " i k , k j -> j i "):
        wanted = tuple(torch.einsum(equation, *full).shape)
        assert tensors.einsum_shape(equation, *shapes) == wanted
    assert set(string.ascii_letters) == set(
        tensors.letter_sizes(string.ascii_letters, (1,) * 52)
    )


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3), (4, 5)], "^letter j: 3 against 4"),
        ("ii->i", [(2, 3)], "'ii': 'i' is 2 and 3 in .2, 3."),
        ("ij", [(2, 3, 4)], "'ij' names 2 axes of .2, 3, 4."),
        ("ij,jk", [(2, 3)], "speaks of 2 operands, 1 are given"),
        ("ij->k", [(2, 3)], "'k' of the result stands in no operand"),
        ("ij->ii", [(2, 3)], "'i' of the result stands twice"),
        ("...i->i", [(2, 3)], "'.' is no letter"),
    ],
)
def test_an_einsum_that_does_not_fit_names_the_letter(equation, shapes, message):
    with pytest.raises(ValueError, match=message):
        tensors.einsum_shape(equation, *shapes)


def test_the_cost_counts_the_products():
    """As torch's counter, which calls a product and its sum two operations."""
    from torch.utils.flop_counter import FlopCounterMode

    a, b = torch.zeros(5, 2, 3), torch.zeros(5, 3, 4)
    with FlopCounterMode(display=False) as counter:
        torch.einsum("bik,bkj->bij", a, b)
    cost = tensors.einsum_cost("bik,bkj->bij", a.shape, b.shape)
    assert counter.get_total_flops() == 2 * cost == 2 * 5 * 2 * 3 * 4
