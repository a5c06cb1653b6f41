# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Broadcasting
#
# Here is a training run in which nothing fails. The data lie near a line, the model is
# a line, the loss falls and comes to rest. And the model has learnt nothing: it says
# the same number for every input. No error, no warning, all shapes "fit". At the end of
# this page you will have met the axis that is missing, and you can
#
# - say for any two shapes whether they go together under `*` and under `@`, and what
#   comes out, the two rule books side by side;
# - see a stretched axis as what it is, a stride of zero, and know which views can be
#   written to;
# - name the ways in which a sum of products loses its digits;
# - recognise the run above by the number at which its loss comes to rest.
#
# You need [products](01_products).

# %% tags=["hide-input"]
import itertools

import numpy as np
import torch

from utils import tensors
from utils.exercises import tensors as check
from utils.lab import (
    above,
    approx,
    deprecated,
    figures,
    notes_say,
    raises,
    same,
    settle,
    settle_all,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "tensors-mul-same-shape",
    "tensors-matmul-broadcasts",
    "tensors-matmul-adjacent-left",
    "tensors-matmul-adjacent-right",
    "tensors-matmul-batch-example",
)

# %% [markdown]
# ## By hand: a column meets a row
#
# A column of three numbers, shape `(3, 1)`, and a row of four, `(1, 4)`. For `*` the
# shapes must be equal, say the notes. They are not, and yet there is only one sensible
# thing to do: let the column stand in each of four columns, the row in each of three
# rows, and multiply. Out comes the multiplication table, `(3, 4)`. This is
# {term}`broadcasting 广播 <广播>`, and the copies are ghosts: nobody makes them.

# %% mystnb={"figure": {"caption": "Broadcasting as stretching. Above, a column (3, 1) and a row (1, 4) make a table (3, 4); pale cells are ghosts. Below, a vector (4,) has one axis only: it is lent the one that is missing, on the left, and then stretched.", "name": "fig-ghosts"}, "image": {"alt": "Two rows of three grids. Above, a column 1, 2, 3 with three pale copies to its right, a row 1, 2, 3, 4 with two pale copies below it, and their product, a full table of three by four. Below, a full table of three by four, a row with two pale copies below it, and their product."}} tags=["hide-input"]
column, row = np.arange(1, 4)[:, None], np.arange(1, 5)[None]  # (3, 1), (1, 4)
block, vector = np.arange(12).reshape(3, 4), np.array([1, 0, 2, 1])  # (3, 4), (4,)


def ghosts(ax, values, full, colour, title):
    """The cells of `values`, and the ghosts that fill it up to the shape `full`."""
    table = np.broadcast_to(values, full)
    own = (1,) * (2 - values.ndim) + values.shape
    for i, j in np.ndindex(*full):
        real = i < own[0] and j < own[1]
        style = {"fc": COLOURS[colour] + ("99" if real else "18"), "ec": "#777777"}
        style["ls"] = "-" if real else ":"
        ax.add_patch(plt.Rectangle((j, -i - 1), 1, 1, lw=0.9, **style))
        ink = "black" if real else "#888888"
        ax.text(j + 0.5, -i - 0.5, table[i, j], ha="center", va="center", color=ink)
    ax.set(xlim=(-0.1, 4.1), ylim=(-3.1, 0.1), aspect="equal", title=title)
    ax.axis("off")


figure, axes = plt.subplots(2, 3, figsize=(6.4, 3.4))
for line, (a, b) in zip(axes, [(column, row), (block, vector)], strict=True):
    ghosts(line[0], a, (3, 4), "blue", f"{a.shape}")
    ghosts(line[1], b, (3, 4), "orange", f"{b.shape}")
    ghosts(line[2], a * b, (3, 4), "green", f"{(a * b).shape}")
plt.show()

# %% [markdown]
# ## In general: aligned from the right
#
# 1. Write the two shapes one above the other, **aligned from the right**. Where one has
#    no axis any more, lend it one of size 1, on the left.
# 2. On each axis the sizes must be equal, or one of them must be 1.
# 3. An axis of size 1 is read at its only place, again and again. With sizes $a_k$,
#   $b_k$ the element at place $(i_1, \dots, i_r)$ of the result is
#
# $$
# c_{i_1 \dots i_r} = a_{j_1 \dots j_r} \cdot b_{l_1 \dots l_r} ,
# \qquad
# j_k = \begin{cases} i_k & a_k \neq 1 \\ 0 & a_k = 1 \end{cases} ,
# \qquad
# l_k \text{ likewise.}
# $$ (eq-broadcast)
#
# As a plain loop, and against torch, for the shapes that stand in the notes:


# %%
def by_places(a, b):
    """a · b element by element, each place looked up by the rule."""
    rank = max(a.ndim, b.ndim)
    a = a.reshape((1,) * (rank - a.ndim) + tuple(a.shape))
    b = b.reshape((1,) * (rank - b.ndim) + tuple(b.shape))
    assert all(n == m or 1 in (n, m) for n, m in zip(a.shape, b.shape, strict=True))
    full = [m if n == 1 else n for n, m in zip(a.shape, b.shape, strict=True)]
    result = torch.zeros(full, dtype=a.dtype)
    for place in np.ndindex(*full):
        at_a = tuple(i if n > 1 else 0 for i, n in zip(place, a.shape, strict=True))
        at_b = tuple(i if n > 1 else 0 for i, n in zip(place, b.shape, strict=True))
        result[place] = a[at_a] * b[at_b]
    return result


rng = np.random.default_rng(0)


def whole_numbers(*shape):
    """Whole numbers from −9 to 9, as float64: their products and sums are exact."""
    return torch.tensor(rng.integers(-9, 10, size=shape)).double()


a, b = whole_numbers(5, 3, 4, 1), whole_numbers(3, 1, 1)
assert by_places(a, b).equal(a * b)
print(tensors.explain("*", (5, 3, 4, 1), (3, 1, 1)))

# %% [markdown]
# The last cell prints what is worth doing on paper every time: the shapes aligned,
# `[5]` for an axis that is lent, `1→4` for one that is stretched. When a line of code
# refuses its shapes, `explain` says at which axis:

# %%
print(tensors.explain("*", (2, 3, 4), (2, 3)))
show(tensors.broadcast_shape)

# %% [markdown]
# Why from the right? Because the last axis is the one that belongs together: features
# of a token, or colours of a pixel where pictures are stored as (H, W, C). (PyTorch
# stores them as (B, C, H, W), and there a bias for the colours must be written (C, 1,
# 1).) A bias $(D)$ can be added to $(B, L, D)$ without a thought. The price: a weight
# for each text, $(B)$, cannot, and must be written $(B, 1, 1)$.
#
# The function agrees with torch and with NumPy on every pair of shapes up to rank 3
# with sizes 0 to 2 here; the tests go on, with torch, to rank 4 and size 3.

# %%
shapes = [s for rank in range(4) for s in itertools.product(range(3), repeat=rank)]


def outcome(call, a, b):
    """The shape of what comes out, or None where it is refused."""
    try:
        result = call(a, b)
    except (RuntimeError, ValueError):
        return None
    return tuple(getattr(result, "shape", result))


pairs = list(itertools.product(shapes, repeat=2))
met = {pair: outcome(tensors.broadcast_shape, *pair) for pair in pairs}
for a, b in pairs:
    assert met[a, b] == outcome(torch.mul, torch.ones(a), torch.ones(b))
    assert met[a, b] == outcome(np.multiply, np.ones(a), np.ones(b))
accepted = [pair for pair, shape in met.items() if shape is not None]
unequal = [(a, b) for a, b in accepted if a != b]
grown = [(a, b) for a, b in unequal if met[a, b] not in (a, b)]
print(
    len(pairs), "pairs,", len(accepted), "accepted,", len(unequal), "of them unequal;"
)
print("in", len(grown), "cases the result has the shape of neither operand")

# %% [markdown]
# One line of the rule is often told wrongly, in the documentation of PyTorch
# {cite}`pytorchbroadcasting` and of NumPy {cite}`numpybroadcasting` as well: that the
# result's size is *the larger* of the two. What about a batch that happens to be empty?

# %%
empty = torch.ones(0, 4) * torch.ones(1, 4)
print("(0, 4) * (1, 4) →", tuple(empty.shape), " and not (1, 4)")
print("(0,) * (2,) →", outcome(torch.mul, torch.ones(0), torch.ones(2)))

# %% [markdown]
# A 1 gives way to anything, to 0 too; a 2 does not give way to a 0. Exercise 3 counts
# how often the "larger" rule is wrong.

# %%
settle(
    "tensors-mul-same-shape",
    same(by_places(whole_numbers(3, 1), whole_numbers(1, 4)).shape, (3, 4)),
    same((torch.ones(3, 1) * torch.ones(1, 4)).shape, (3, 4)),
    same((torch.ones(4) * torch.ones(3, 4)).shape, (3, 4)),
    same((torch.ones(5) * torch.ones(5, 1)).shape, (5, 5)),
    above(len(unequal), 0.9 * len(accepted)),
    raises(RuntimeError, lambda: torch.ones(3) * torch.ones(4)),
    note="unequal: pairs of different shapes, among all that torch accepts",
)

# %% [markdown]
# ## The second rule book: `@`
#
# The matrix product broadcasts, too, but not everywhere. **The last two axes belong to
# the matrices** and obey matrix algebra, `(n, p)` by `(p, m)`; all axes before them are
# batch, and these alone broadcast, aligned from the right as always.


# %% mystnb={"figure": {"caption": "The two rule books. Left, under \\* all axes broadcast. Right, under @ the batch axes do, and of the two matrix axes the one that both share (green) is summed away: it must be equal on both sides. Dashed: lent, orange: stretched.", "name": "fig-two-rules"}, "image": {"alt": "Two diagrams of aligned shapes. Left, (5, 3, 4, 1) above (3, 1, 1): the missing axis is a dashed 5, the 1 below the 4 is stretched. Right, (5, 1, 4, 2) above (3, 2, 6): a dashed 5, the 1 above the 3 stretched, and the two green 2s that are summed away; the result is (5, 3, 4, 6)."}} tags=["hide-input"]
def aligned(ax, operator, a, b):
    """Draw what `explain` says in text."""
    lines = tensors.explain(operator, a, b).splitlines()
    looks = {"[": ("grey", "--"), "<": ("green", "-"), "✗": ("vermilion", "-")}
    for place, line in enumerate(lines[2:5]):
        name, *cells = line.split()
        ax.text(-0.2, -place, name, ha="right", va="center", size=9)
        for k, cell in enumerate(cells):
            colour, dash = looks.get(cell[0], ("blue", "-"))
            colour = "orange" if "→" in cell else colour
            fill = COLOURS[colour] + ("00" if dash == "--" else "44")
            corner = (k + 0.08, -place - 0.36)
            style = {"fc": fill, "ec": COLOURS[colour], "ls": dash, "lw": 1.3}
            ax.add_patch(plt.Rectangle(corner, 0.84, 0.72, **style))
            ax.text(k + 0.5, -place, cell.strip("[]<>"), ha="center", va="center")
    title = lines[0].partition(" →")[0].replace(" is refused", "")
    ax.set(xlim=(-1.2, len(cells) + 0.1), ylim=(-2.6, 0.6), aspect="equal")
    ax.set_title(title + (": refused" if "✗" in lines[4] else ""), size=9.5)
    ax.axis("off")


figure, axes = figures.panels(2, height=2.1)
aligned(axes[0], "*", (5, 3, 4, 1), (3, 1, 1))
aligned(axes[1], "@", (5, 1, 4, 2), (3, 2, 6))
plt.show()

# %% [markdown]
# A vector has no two axes to give. It is lent one, as on the [page
# before](01_products): on the left it becomes a row, on the right a column. And here
# the notes go wrong. They say that the sizes *standing next to each other* must be
# equal, `(7)` and `(7, 8, 5)`. In print, the first 7 does stand next to the second. But
# the second is a batch axis: there are seven matrices of shape `(8, 5)`, and a row in
# front of them needs eight numbers.

# %% mystnb={"figure": {"caption": "A vector beside a batch of matrices. It becomes one row (1, 8) or one column (5, 1) under the matrix axes, and the batch axis 7, at the left, is lent to the vector and has no say. A dash is an axis that was added and goes away.", "name": "fig-vector-batch"}, "image": {"alt": "Three diagrams. (7) before (7, 8, 5): above the batch axis a dashed 7, then a dashed 1 and the 7 that should meet the 8; refused. (8) before (7, 8, 5): accepted, result 7, dash, 5. (7, 8, 5) before (5): accepted, result 7, 8, dash."}} tags=["hide-input"]
figure, axes = figures.panels(3, height=2.1)
aligned(axes[0], "@", (7,), (7, 8, 5))
aligned(axes[1], "@", (8,), (7, 8, 5))
aligned(axes[2], "@", (7, 8, 5), (5,))
plt.show()

# %%
ones = torch.ones
settle(
    "tensors-matmul-adjacent-left",
    raises(RuntimeError, lambda: ones(7) @ ones(7, 8, 5)),
    raises(RuntimeError, lambda: ones(7) @ ones(7, 8, 11)),
    same(ones(8) @ ones(7, 8, 5), torch.full((7, 5), 8.0)),
    same((ones(8) @ ones(7, 8, 11)).shape, (7, 11)),
    same(tensors.matmul_shape((8,), (7, 8, 5)), (7, 5)),
    same(ones(3) @ ones(3, 4), torch.full((4,), 3.0)),
    note="the last line is the notes' own case of a matrix, where next to is right",
)

# %% [markdown]
# Their example for the batch, `(5, 3, 4, 1)` with `(3, 1, 1)`, is right, and it is a
# trap of its own. The documentation of PyTorch uses these very shapes to explain
# broadcasting under `+` {cite}`pytorchbroadcasting`. Under `@` they go together as
# well, the matrices being `(4, 1)` and `(1, 1)`. But a matrix with a single number *is*
# a number, and so:

# %%
left, right = whole_numbers(5, 3, 4, 1), whole_numbers(3, 1, 1)
print("@ and * give the same:", (left @ right).equal(left * right))
alike = []
for a, b in accepted:
    if outcome(tensors.matmul_shape, a, b) == met[a, b] and 0 not in met[a, b]:
        p, q = (torch.arange(1.0, 1 + np.prod(s)).reshape(s) for s in (a, b))
        alike.append((p @ q).equal(p * q))
print("of", len(accepted), "pairs that * accepts,", len(alike), "have that shape")
print("under @ too, and", sum(alike), "of them the same numbers")

# %% [markdown]
# The example cannot show what it is an example of; `*` in the place of `@` would pass
# every test written with it. Nor is it the only one: where the shared size is 1, the
# sum has a single term, and `@` is `*`. One that tells them apart has a shared size
# that is not 1, and is checked by a loop over the batch:

# %%
left, right = whole_numbers(5, 3, 4, 2), whole_numbers(3, 2, 6)
by_loop = torch.zeros(5, 3, 4, 6, dtype=torch.double)
for i, j in np.ndindex(5, 3):
    by_loop[i, j] = left[i, j] @ right[j]  # right has no axis for i
assert by_loop.equal(left @ right)
print(tuple(by_loop.shape), "and * says", outcome(torch.mul, left, right))

# %% tags=["hide-input"]
old, small = whole_numbers(5, 3, 4, 1), whole_numbers(3, 1, 1)
old_loop = torch.stack(
    [torch.stack([old[i, j] @ small[j] for j in range(3)]) for i in range(5)]
)
settle_all(
    {
        "tensors-matmul-broadcasts": [
            same((ones(5, 3, 4) @ ones(1, 4, 2)).shape, (5, 3, 2)),
            same(left @ right, by_loop),
            raises(RuntimeError, lambda: ones(3, 4) @ ones(1, 4)),
            same((ones(3, 4) * ones(1, 4)).shape, (3, 4)),
        ],
        "tensors-matmul-adjacent-right": [
            same(ones(7, 8, 5) @ ones(5), torch.full((7, 8), 5.0)),
            same((ones(7, 8, 11) @ ones(11)).shape, (7, 8)),
            raises(RuntimeError, lambda: ones(7, 8, 5) @ ones(7)),
        ],
        "tensors-matmul-batch-example": [
            same(ones(5, 3, 4, 1) @ ones(3, 1, 1), ones(5, 3, 4, 1)),
            same(old @ small, old_loop),
            same(old @ small, old * small),
        ],
    }
)

# %% [markdown]
# ## Where the copies are: nowhere
#
# Memory is one line of cells. A tensor is that line and a way to walk it: for each axis
# a {term}`stride 步长 <stride>`, the number of cells to jump when the index of that axis
# grows by one. Element $(i, j)$ lies in cell $i \cdot s_0 + j \cdot s_1$, counted from
# the cell where the tensor begins (its *storage offset*: `x[1:]` begins at cell 4). A
# table of shape `(3, 4)`, written row by row, has strides `(4, 1)`.
#
# There is a neat way to see where a tensor reads: let every cell of memory hold its own
# address.

# %%
cells = torch.arange(12)  # cell 7 holds 7
x = cells.reshape(3, 4)
views = {
    "x": x,
    "x.T": x.T,
    "x[:, ::2]": x[:, ::2],
    "x[0].expand(3, 4)": x[0].expand(3, 4),
    "x[:, :1].expand(3, 4)": x[:, :1].expand(3, 4),
}
for name, view in views.items():
    reads = view.flatten().tolist()
    assert tensors.walk(view.shape, view.stride()) == reads
    assert tensors.is_contiguous(view.shape, view.stride()) == view.is_contiguous()
    assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    print(f"{name:22}{tuple(view.shape)!s:7} strides {view.stride()!s:7} reads {reads}")

# %% mystnb={"figure": {"caption": "Three walks through the same line of memory. Across: the cell that is read; down: the elements of the tensor in order, every other row of it shaded. The transpose jumps ahead and back; the stretched row walks through the first four cells three times.", "name": "fig-walks"}, "image": {"alt": "Three panels with a path from top to bottom. Left, a straight diagonal over cells 0 to 11. Middle, a zigzag: 0, 4, 8, 1, 5, 9 and so on. Right, three short diagonals over cells 0 to 3."}} tags=["hide-input"]
figure, axes = figures.panels(3, height=3.0, sharey=True)
for ax, name in zip(axes, ["x", "x.T", "x[0].expand(3, 4)"], strict=True):
    view = views[name]
    reads, wide = view.flatten().tolist(), view.shape[1]
    for start in range(0, 12, 2 * wide):
        ax.axhspan(start - 0.5, start + wide - 0.5, color="#eef3f7", zorder=0)
    ax.plot(reads, range(12), "o-", markersize=4, lw=1.1)
    ax.set(xlim=(-0.8, 11.8), ylim=(11.6, -0.6), xticks=range(0, 12, 4))
    ax.set_title(f"{name}\nstrides {view.stride()}", size=9)
axes[0].set(ylabel="element", yticks=range(0, 12, 4))
axes[1].set_xlabel("cell of memory")
plt.show()

# %% [markdown]
# All five are the *same* memory: a transpose copies nothing, it exchanges two strides,
# and **broadcasting is a stride of 0**. The walk stands still on that axis and reads
# the same cells again. That is all of it, in one function:

# %%
show(tensors.stretched_strides, tensors.walk)

# %%
for shape, full in [((4,), (3, 4)), ((3, 1), (3, 4)), ((3, 1, 1), (5, 3, 4, 1))]:
    own = torch.arange(int(np.prod(shape))).reshape(shape)
    strides = tensors.stretched_strides(shape, full)
    assert strides == own.expand(full).stride()
    assert tensors.walk(full, strides) == own.expand(full).flatten().tolist()
    print(shape, "as", full, "has strides", strides)
wide = torch.zeros(1000).expand(1_000_000, 1000)
print(f"{wide.numel():,} numbers in {wide.untyped_storage().nbytes():,} bytes")

# %% [markdown]
# Three consequences.
#
# **`view` after a transpose** (转置). `view` (视图) promises not to copy. Reading the
# transpose as one line of twelve would need a single stride, and 0, 4, 8, 1, … has
# none. `view` refuses; `reshape` copies if it must, without saying so.


# %%
def says(call):
    """What a call does: refused, the same memory as x, or a copy."""
    try:
        result = call()
    except RuntimeError:
        return "refused"
    shared = result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return "the same memory" if shared else "a copy"


print("x.view(12)       ", says(lambda: x.view(12)))
print("x.reshape(12)    ", says(lambda: x.reshape(12)))
print("x.T.view(12)     ", says(lambda: x.T.view(12)))
print("x.T.reshape(12)  ", says(lambda: x.T.reshape(12)))
print("x.T.contiguous() ", says(lambda: x.T.contiguous()))
print("x.T.view(2, 2, 3)", says(lambda: x.T.view(2, 2, 3)))

# %% [markdown]
# The last line is no mistake: to *split* an axis is always possible without a copy, and
# heads are split like that; to *join* two is possible only if one walk can do it.
#
# **Writing into a ghost.** An element of a stretched tensor shares its cell with
# others. torch refuses most writes to all of it at once, such as `add_` and `copy_`
# (`fill_` passes, since every place gets the same number); what NumPy's `broadcast_to`
# returns is read-only. But pick one row first, and torch lets you write:

# %%
lent = torch.zeros(4).expand(3, 4)
print("lent.add_(1):", says(lambda: lent.add_(1)))
lent[0].add_(1)  # one row
print("lent[0].add_(1) has written", int(lent.sum()), "ones into three rows of four")
print(
    "NumPy:",
    "writable" if np.broadcast_to(np.zeros(4), (3, 4)).flags.writeable else "not",
)

# %% [markdown]
# **In place (原地) on the smaller side.** `a += b` must leave `a` its shape, so that only
# `b` may stretch.

# %%
row = torch.zeros(4)
print("(4,) += (3, 4):", says(lambda: row.add_(torch.ones(3, 4))))

# %% [markdown]
# ## The numbers inside
#
# A shape is half of a tensor; its dtype (数据类型) is the other half, and a sum of
# products is where dtypes hurt. **Whole numbers wrap** (溢出). An int8 holds −128 to 127.

# %%
assert (torch.iinfo(torch.int8).min, torch.iinfo(torch.int8).max) == (-128, 127)
p = torch.tensor([64, 64], dtype=torch.int8)
q = torch.tensor([1, 1], dtype=torch.int8)
print("dot in int8:      ", torch.dot(p, q).item(), " (64 + 64)")
print("(p * q).sum():    ", (p * q).sum().item(), " in", str((p * q).sum().dtype)[6:])
print("(p * p).sum():    ", (p * p).sum().item(), " (4096 + 4096)")
print("in int64:         ", torch.dot(p.long(), p.long()).item())
print("7 / 2, 7 // 2:    ", (torch.tensor(7) / 2).item(), (torch.tensor(7) // 2).item())
print("mean of integers: ", says(lambda: torch.tensor([1, 2]).mean()))

# %% [markdown]
# Three fates in the first three lines. `dot` stays in int8 and wraps; `sum` widens to
# int64 and is right; and in the third the damage is done before `sum` sees it, since
# $64 \cdot 64$ is 16 times 256, a zero in eight bits. Quantized networks multiply int8
# for this reason with sums in int32; the chapter on quantization will. In the last two
# lines `/` turns integers into floats, `//` does not, and `mean` refuses integers
# rather than guess.
#
# **Short floats stop growing.** float16 has 11 significant bits and ends at 65504;
# bfloat16 has 8 and the range of float32. In bfloat16 there is no number between 256
# and 258:

# %%
half = {"float16": torch.float16, "bfloat16": torch.bfloat16}
assert [2 / torch.finfo(kind).eps for kind in half.values()] == [2**11, 2**8]
assert torch.finfo(torch.float16).max == 65504
for name, kind in half.items():
    many = torch.full((64,), 32.0, dtype=kind)
    top = (torch.tensor(256.0, dtype=kind) + 1).item()
    print(
        f"{name:9} 256 + 1 = {top:g};  64 products of 32 · 32:",
        torch.dot(many, many).item(),
    )

# %% mystnb={"figure": {"caption": "The running sum of 0.1, kept in three dtypes. Each stalls for good when 0.1 is less than half the gap between neighbouring numbers: bfloat16 at 32, float16 at 256. float32 goes on, for now.", "name": "fig-running-sum"}, "image": {"alt": "Three lines over 10,000 terms. float32 rises straight to 1,000. float16 climbs above it and stops at 256. bfloat16 stops at 32 after a few hundred terms."}} tags=["hide-input"]
n, curves = 10_000, {}
for name in ("float32", "float16", "bfloat16"):
    kind = getattr(torch, name)
    total, step, curve = (
        torch.tensor(0.0, dtype=kind),
        torch.tensor(0.1, dtype=kind),
        [],
    )
    for _ in range(n):
        total = total + step
        curve.append(total.item())
    curves[name] = np.array(curve)
figure, ax = plt.subplots(figsize=(6.0, 2.8))
for (name, curve), style in zip(curves.items(), ["-", "--", "-."], strict=True):
    ax.plot(curve, style, label=name)
ax.set(xlabel="terms", ylabel="running sum of 0.1")
ax.legend()
plt.show()

# %%
for name, curve in curves.items():
    moved = curve.argmax() + 1
    print(f"{name:9} after {n:,} terms: {curve[-1]:.6g}, last moved at {moved:,}")
assert 0.5e-4 < 1 - curves["float32"][-1] / 1000 < 1.5e-4
high = curves["float16"][(curves["float16"] >= 128) & (curves["float16"] <= 256)]
assert set(np.diff(high)) == {1 / 8, 0}
for name, kind in half.items():
    many = torch.full((n,), 0.1, dtype=kind)
    assert many.sum() == many.float().sum().to(kind)  # in float32, rounded once
    print(f"{name:9} .sum():", approx(many.sum().item(), 990, 1010))

# %% [markdown]
# float16 is wrong long before it stalls, and in the other direction. Between 128 and
# 256 its numbers are 1/8 apart, and each 0.1 that is added counts as 1/8. Even float32,
# at the end, is off by one part in ten thousand.
#
# Why does `.sum()` get it right? Because the library does not add like that: it keeps
# the running sum in float32 and rounds once, at the end. A loop of your own does not.
# A matrix product in bfloat16 does the same here, on a CPU (on a GPU torch by default
# allows some of the sums to be kept short); so where does its error come from?

# %%
G, H = torch.tensor(rng.random((2, 256, 256)) - 0.5).double()
true, short = G @ H, torch.bfloat16


def error(product):
    """Relative error, root of the mean square."""
    return ((product.double() - true).norm() / true.norm()).item()


at_door = error(G.to(short).double() @ H.to(short).double())  # only inputs rounded
at_exit = error(true.to(short))  # only the result rounded
whole = error(G.to(short) @ H.to(short))
print("float32                ", approx(error(G.float() @ H.float()), 1e-8, 2e-6))
print("bfloat16               ", approx(whole, 1e-3, 6e-3))
print("only inputs rounded    ", approx(at_door, 1e-3, 4e-3))
print("only the result rounded", approx(at_exit, 5e-4, 3e-3))
assert abs(np.hypot(at_door, at_exit) / whole - 1) < 0.1

# %% [markdown]
# From the door and from the exit: squared and added, the last two lines make up the
# second. The 256 additions between them cost nothing that one could see. Rounding the
# inputs is the larger part, and no accumulator can give that back.
#
# **The order of a sum.** Addition of floats does not obey the associative law (结合律),
# $(a + b) + c$ is not $a + (b + c)$, in float32 either. Here are the same thousand
# numbers, added one after the other in a thousand different orders. How many sums are
# there?

# %%
print("(1e8 + 1) − 1e8 in float32:", (torch.tensor(1e8) + 1 - 1e8).item())
numbers = rng.random(1000, dtype=np.float32)
sums = [np.add.accumulate(rng.permutation(numbers))[-1] for _ in range(1000)]
distinct = len(set(sums))
print("different sums of the same numbers:", distinct)
spread = (max(sums) - min(sums)) / np.mean(sums)
print("relative spread below 1e-5:", spread < 1e-5)

# %% [markdown]
# None of them is wrong; they are all rounded, along other ways. A library may choose an
# order for each shape, number of threads and processor. That is why this book compares
# floats within a tolerance, and computes with whole numbers where it says *exactly*.
#
# ## The experiment: the run that learns nothing
#
# Now the run from the beginning. Forty points near a line, a model $wx + b$, and the
# mean squared error, which we walk down: $w$ and $b$ move a little against their
# slopes, many times ([learning](03_learning) is about that). The slopes of a mean
# square are short enough to write by hand, twice the mean of *error times input*, and
# twice the mean error. One function, two runs; they differ in the shape of the targets.
# Both begin with the slope 1.

# %%
n = 40
inputs = torch.linspace(-1, 1, n, dtype=torch.double)[:, None]  # (n, 1)
noise = torch.tensor(rng.normal(size=(n, 1))) / 5
targets = 1.5 + 2 * inputs + noise  # (n, 1)


def fit(targets, steps=300, rate=0.1):
    """w, b and the losses of a straight line, by its slopes."""
    w, b, losses = torch.ones(1, 1).double(), torch.zeros(1).double(), []
    for _ in range(steps):
        error = inputs @ w + b - targets  # (n, 1), one hopes
        losses.append((error**2).mean().item())
        w = w - rate * 2 * (error * inputs).mean()
        b = b - rate * 2 * error.mean()
    return w.item(), b.item(), np.array(losses)


runs = {"(n, 1)": fit(targets), "(n,)": fit(targets[:, 0])}
for name, (w, _, losses) in runs.items():
    slope = approx(abs(w), 1.8, 2.2) if name == "(n, 1)" else approx(abs(w), 0, 1e-3)
    print(f"targets {name:7} slope {slope}, loss at rest", approx(losses[-1], 0.02, 2))
print(tensors.explain("*", (n, 1), (n,)))

# %% mystnb={"figure": {"caption": "Two runs of the same function. Left: with targets of shape (n,) the line, which began with slope 1, has gone flat. Right: its loss falls like any other and comes to rest, at the variance of the targets (dotted).", "name": "fig-learns-nothing"}, "image": {"alt": "Left, forty points along a rising line, a fitted line through them and a dashed horizontal one at their mean. Right, two falling loss curves; one comes to rest near 0.04, the other on a dotted line near 1.5."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.8)
axes[0].plot(inputs, targets, ".", color=COLOURS["grey"], markersize=5)
for (name, (w, b, losses)), style in zip(runs.items(), ["-", "--"], strict=True):
    axes[0].plot(inputs, w * inputs + b, style, label=f"targets {name}")
    axes[1].plot(losses, style, label=f"targets {name}")
axes[1].axhline(targets.var(correction=0), color="k", ls=":", lw=1.2)
axes[0].set(xlabel="input", ylabel="target")
axes[1].set(xlabel="step", ylabel="loss", yscale="log")
axes[0].legend()
plt.show()

# %% [markdown]
# `(n, 1)` minus `(n,)` is `(n, n)`: every prediction is compared with *every* target.
# Why this flattens the line can be read off by expanding the square around the mean
# $\bar y$ of the targets,
#
# $$
# \frac{1}{n^2} \sum_{i,j} (p_i - y_j)^2
# = \frac{1}{n} \sum_i (p_i - \bar y)^2 + \frac{1}{n} \sum_j (y_j - \bar y)^2 .
# $$ (eq-stuck)
#
# The targets occur through their mean alone: the best prediction is $\bar y$ for every
# input, and the loss cannot fall below the targets' variance.

# %%
predictions = torch.tensor(rng.normal(size=(n, 1)))
mean = targets.mean()
all_pairs = ((predictions - targets[:, 0]) ** 2).mean()
split = ((predictions - mean) ** 2).mean() + targets.var(correction=0)
assert abs(all_pairs - split) < 1e-12
flat = runs["(n,)"]
assert (
    abs(flat[1] - mean) < 1e-6 and abs(flat[2][-1] - targets.var(correction=0)) < 1e-6
)
assert runs["(n, 1)"][2][-1] < 0.1 * flat[2][-1]
print("equation and run agree: flat at the mean, at rest at the variance")

# %% [markdown]
# That is the number to know. A regression whose loss comes to rest at the variance of
# its targets (`targets.var(correction=0)`, which is not torch's default) has learnt
# their mean and no more. PyTorch's own `mse_loss` has warned of unequal shapes since
# people fell into this {cite}`pytorchmsewarning`; a loss that you write yourself does
# not.

# %%
with deprecated(UserWarning):
    torch.nn.functional.mse_loss(inputs, targets[:, 0])
shape = tensors.broadcast_shape((100_000, 1), (100_000,))
print(f"with 100,000 points: {shape}, {4 * np.prod(shape) / 1e9:g} GB of float32")

# %% [markdown]
# ## Where people go wrong
#
# **Rows that do not sum to one.** Divide each row by its sum: `x / x.sum(1)`. The sums
# have the shape `(n,)`, so they stand as a *row*, and divide columns. If the table is
# neither square nor a single row or column, there is an error, and somebody is lucky.
# (A column `(n, 1)` becomes `(n, n)`.) If it is square, as attention weights of a
# sequence with itself are, nothing happens. `keepdim=True` keeps the summed axis with
# size 1, and the sums stand as a column.

# %%
scores = whole_numbers(4, 4).abs() + 1
wrong = scores / scores.sum(1)
right = scores / scores.sum(1, keepdim=True)
print(
    "rows sum to one, with keepdim:   ", torch.allclose(right.sum(1), ones(4).double())
)
print(
    "rows sum to one, without:        ", torch.allclose(wrong.sum(1), ones(4).double())
)
print("without, on a table of (3, 4):   ", says(lambda: ones(3, 4) / ones(3, 4).sum(1)))

# %% [markdown]
# **A check that costs nothing.** Write the shapes down where two of them meet, as this
# course does behind its lines, and assert them where a mistake would be silent:
# `assert error.shape == targets.shape`. Use sizes that differ. And say what you mean:
# `x[:, None]` and `keepdim` place an axis; counting on the rule to place it does not.
#
# ## Exercises
#
# **1. Warm-up.** Write `divided(x)`: x of any rank divided by its sums along the last
# axis.

# %%
divided = ...  # def divided(x): …
check.divided(divided)


# %% tags=["hide-cell"]
def divided(x):
    return x / x.sum(-1, keepdim=True)


check.divided(divided)

# %% [markdown]
# **2. Distances.** Write `distances(a, b)`: the Euclidean distance of each point of a
# (n, D) from each of b (m, D), as (n, m), without a loop.

# %%
distances = ...  # def distances(a, b): …
check.distances(distances)


# %% tags=["hide-cell"]
def distances(a, b):
    difference = a[:, None, :] - b[None, :, :]  # (n, m, D)
    return difference.square().sum(-1).sqrt()


check.distances(distances)

# %% [markdown]
# **3. The "larger" rule.** Open `utils/tensors.py` and change the last line of
# `_joined` so that it returns the largest of `sizes`. Run the cell again in which this
# page compares our function with torch: it fails. For how many of the `pairs` does it
# disagree? (Change it back.)

# %%
pairs_that_differ = ...  # a number
check.largest_rule(pairs_that_differ)


# %% tags=["hide-cell"]
def by_the_largest(a, b):
    """What the edited function says, without the edit."""
    right = tensors.broadcast_shape(a, b)
    padded = [(1,) * (len(right) - len(s)) + s for s in (a, b)]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))


pairs_that_differ = sum(by_the_largest(a, b) != met[a, b] for a, b in accepted)
check.largest_rule(pairs_that_differ)

# %% [markdown]
# **4. For an evening: `@` from `*`.** Write `product(left, right)` for tensors of every
# rank from 1 to 3, with `*`, `sum` and indexing by `None`, and without any matrix
# product. It must raise an error where `@` does.

# %%
product = ...  # def product(left, right): …
check.product(product)


# %% tags=["hide-cell"]
def product(left, right):
    row, column = left.ndim == 1, right.ndim == 1
    left = left[None] if row else left  # (…, n, p)
    right = right[:, None] if column else right  # (…, p, m)
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"{left.shape[-1]} against {right.shape[-2]}")
    terms = left[..., :, :, None] * right[..., None, :, :]  # (…, n, p, m)
    result = terms.sum(-2)  # (…, n, m)
    result = result[..., 0, :] if row else result
    return result[..., 0] if column else result


check.product(product)

# %% [markdown]
# It is right, and nobody does it: all $n \cdot p \cdot m$ terms stand in memory before
# they are summed, where a matrix product keeps $n \cdot m$ sums.
#
# ## In short
#
# Shapes are aligned from the right; sizes must be equal, or one of them 1, which gives
# way to anything, even to nothing. Under `@` the last two axes obey matrix algebra and
# only the batch broadcasts; a vector becomes a row or a column, and must match the
# matrix, not the batch. A stretched axis is a stride of 0: no copy, and no place to
# write to. Short floats stop growing, integers wrap, and every sum has an order. And
# what goes together by the rule need not go together by the meaning: `(n, 1)` minus
# `(n,)`.
#
# Next: [learning](03_learning), where these products get something to do.
