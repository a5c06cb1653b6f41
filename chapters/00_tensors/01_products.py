# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Products
#
# Nearly all that a Transformer does is to multiply tables of numbers. There is more
# than one way to multiply two tables, and the names do not help: `*`, `mul`, `dot`,
# `inner`, `mm`, `bmm`, `matmul`, `@`, `einsum`; in Chinese 点乘 is used for two different
# ones. Most of them accept two square matrices without a word. They do not agree on the
# result. At the end of this page you can
#
# - say for each name what it multiplies, what it sums, and which ranks it takes;
# - say what a dot product measures, and what it does not;
# - read a matrix product in three ways, two of which are attention;
# - write any product as one line of letters, and read its cost off the letters.
#
# You need Python and a little linear algebra. A {term}`tensor 张量 <tensor>` is an array
# of numbers with any number of {term}`axes 轴 <axis>`; its {term}`shape 形状 <形状>` lists
# their sizes, and its {term}`rank 阶 <阶>` is how many there are. A number has the shape
# `()` and rank 0, a vector of three `(3,)` and rank 1, a matrix rank 2.

# %% tags=["hide-input"]
import itertools

import numpy as np
import torch

from utils import tensors
from utils.exercises import tensors as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    figures,
    notes_say,
    pretrained,
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
    "tensors-dot-names",
    "tensors-dot-similarity",
    "tensors-inner-product-of-matrices",
    "tensors-at-mm-matmul-same",
    "tensors-mm-2d-matmul-high",
    "tensors-mul-method-comment",
)

# %% [markdown]
# ## By hand: two vectors, three products
#
# Take the two vectors of the notes, $x = (1, 2, 3)$ and $y = (1, 1, 2)$.
#
# - Multiply what stands at equal places, and stop: $(1, 2, 6)$. This is the
#   *elementwise* or {term}`Hadamard product 逐元素乘积 <逐元素乘积>`, in code `x * y`. The
#   rank stays 1.
# - Multiply, then add up: $1 + 2 + 6 = 9$. This is the {term}`dot product 点积 <点积>`,
#   `torch.dot(x, y)`. The rank falls to 0.
# - Multiply each with each: the {term}`outer product 外积 <outer product>`, a table with
#   $x_i y_j$ in row $i$ and column $j$. The rank grows to 2.

# %%
x, y = torch.tensor([1, 2, 3]), torch.tensor([1, 1, 2])
print("x * y        ", (x * y).tolist())
print("dot(x, y)    ", torch.dot(x, y).item())
print("outer(x, y)  ", torch.outer(x, y).tolist())
print("their ranks  ", [t.ndim for t in (x * y, torch.dot(x, y), torch.outer(x, y))])

# %% [markdown]
# The other two contain the dot product: it is the sum of the first, and the sum of the
# diagonal of the last. Say which you mean: 点乘 alone could be either of the first two.
#
# ## In general: the dot product
#
# For vectors $u, v \in \mathbb{R}^n$, which in torch are tensors of shape `(n,)`,
#
# $$
# u \cdot v = \sum_{i=1}^{n} u_i v_i .
# $$ (eq-dot-product)
#
# `torch.dot` is strict: two vectors, of one length, of one dtype (数据类型). Nothing is
# stretched and nothing converted, while the elementwise product, as we shall see, does
# both.

# %%
rng = np.random.default_rng(0)
u, v = torch.tensor(rng.integers(-9, 10, size=(2, 1000))).float()  # (1000,) each
by_loop = 0.0
for i in range(1000):
    by_loop += u[i].item() * v[i].item()
print("one number:", torch.dot(u, v).item(), "and by a loop:", by_loop)

# %%
settle(
    "tensors-dot-definition",
    same(torch.dot(u, v), by_loop),
    same(torch.dot(u, v).ndim, 0),
    raises(RuntimeError, lambda: torch.dot(torch.ones(3), torch.ones(1))),
    raises(RuntimeError, lambda: torch.dot(torch.ones(3), torch.ones(3).long())),
    same(torch.ones(3) * torch.ones(1).long(), torch.ones(3)),
    note="1,000 whole numbers, so that no sum is rounded",
)

# %% [markdown]
# ## What it measures
#
# The dot product has a second formula. With $|u|$ the length of $u$,
# $|u|^2 = u \cdot u$, and $\theta$ the angle between the two,
#
# $$
# u \cdot v = |u|\,|v| \cos\theta ,
# \qquad
# \cos\theta = \frac{u \cdot v}{|u|\,|v|} .
# $$ (eq-cosine)
#
# So it mixes two things: whether $v$ points where $u$ points, and how long the two are.
# (For a fixed $u$ only the length of $v$ matters.) The second formula keeps the first
# alone, {term}`cosine similarity 余弦相似度 <余弦相似度>`. Ask which of two vectors resembles
# $x = (3, 4)$ more: $a = (4, 3)$, or $b = (0, 10)$? On paper: $x \cdot a = 24$ and
# $x \cdot b = 40$; the lengths are 5, 5 and 10, the cosines therefore $24/25$ and
# $40/50$.

# %% mystnb={"figure": {"caption": "The same three vectors twice. Left: on each line all vectors have the same dot product with x; b lies further on. Right: on each ray all vectors have the same cosine with x; a lies in a narrower wedge. Doubling a vector moves it across the lines on the left and along its ray on the right.", "name": "fig-dot-cosine"}, "image": {"alt": "Two panels with arrows x, a and b from the origin. Left, parallel bands at right angles to x, their borders labelled with dot products; b ends beyond the border of 36, a on that of 24. Right, wedges from the origin around x, labelled with cosines; a lies inside the wedge of 0.9, b outside it."}} tags=["hide-input"]
plane = np.stack(np.meshgrid(np.linspace(-1, 9, 201), np.linspace(-1, 11, 201)), -1)
X = np.array([3.0, 4.0])
dots = plane @ X  # (201, 201): one dot product for each point of the plane
lengths = np.linalg.norm(plane, axis=-1)
cosines = dots / np.maximum(lengths, 1e-9) / 5
far = np.where(lengths < 0.3, np.nan, cosines)  # the origin has no direction
arrows = {"x": (X, "blue"), "a": ((4, 3), "green"), "b": ((0, 10), "vermilion")}
figure, axes = figures.panels(2, height=3.6, sharey=True)
for ax, field, levels, title in [
    (axes[0], dots, [0, 12, 24, 36, 48, 60], "equal dot product"),
    (axes[1], far, [0.5, 0.7, 0.9, 0.98], "equal cosine"),
]:
    across, up = plane[..., 0], plane[..., 1]
    ax.contourf(across, up, field, levels, cmap="Blues", alpha=0.3, extend="both")
    lines = ax.contour(across, up, field, levels, colors="#555555", linewidths=0.8)
    ax.clabel(lines, fontsize=8)
    ax.set(aspect="equal", title=title, xlim=(-1, 9), ylim=(-1, 11))
    for name, (tip, colour) in arrows.items():
        style = {"color": COLOURS[colour], "width": 1.5}
        ax.annotate("", tip, (0, 0), arrowprops=style)
        ax.text(tip[0] + 0.3, tip[1], name, size=12)
plt.show()

# %%
x2, a, b = torch.tensor([[3.0, 4.0], [4.0, 3.0], [0.0, 10.0]], dtype=torch.double)


def cosine(u, v):
    return torch.dot(u, v) / torch.dot(u, u).sqrt() / torch.dot(v, v).sqrt()


for name, other in {"a": a, "b": b, "10x": 10 * x2}.items():
    measured = torch.dot(x2, other).item(), round(cosine(x2, other).item(), 12)
    print(f"x and {name:3}: dot {measured[0]:g}, cosine {measured[1]:g}")

# %% [markdown]
# They choose differently, and neither is at fault: $b$ wins by being long. Is this more
# than a trick of two chosen vectors? Real embeddings (嵌入) will tell. The small BERT of
# this course, all-MiniLM-L6-v2, a descendant of MiniLM {cite}`wang2020minilm`, begins
# with a table: a vector of 384 numbers for each of its 30,522 tokens. Nobody trained
# this table for either measure, so neither has a home advantage. We take all tokens
# that are plain words of four letters or more, and ask for every twentieth: which
# *other* word is nearest, by dot product and by cosine? One matrix product answers it
# for all of them at once. (`size[:, None]` makes the lengths a column, so that each row
# is divided by its own; the next page explains why.)


# %%
def words_of_minilm():
    """The words, and their vectors (words, 384)."""
    from safetensors.torch import load_file

    folder = pretrained.minilm_folder()
    table = load_file(folder / "model.safetensors")
    vectors = table["embeddings.word_embeddings.weight"].float()
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vectors.shape == (len(tokens), 384) == (30_522, 384)
    kept = [
        i for i, t in enumerate(tokens) if t.isascii() and t.isalpha() and len(t) > 3
    ]
    return [tokens[i] for i in kept], vectors[kept]


def nearest(vectors, asked):
    """Row of the nearest other vector, for each row in `asked`."""
    table = vectors[asked] @ vectors.T  # (asked, words): all dot products
    table[range(len(asked)), asked] = -torch.inf  # itself does not count
    return table.argmax(1)


words, vectors = words_of_minilm()
size = vectors.norm(dim=1)  # (words,)
asked = list(range(0, len(words), 20))
by_dot = nearest(vectors, asked)
by_cosine = nearest(vectors / size[:, None], asked)  # all lengths 1
differ = by_dot != by_cosine
print(len(words), "words,", len(asked), "asked")
print("another answer for", approx(100 * differ.float().mean(), 25, 35, "% of them"))

# %% [markdown]
# A note on the sign ≈. Your computer may add the same numbers in another order, and the
# last digits of a sum depend on it; a training run amplifies them. So what stands
# behind ≈ in this course was measured and may differ a little on your machine, inside
# bounds that a test watches; what stands without it is the same everywhere.

# %%
for word in ("bridge", "mayor", "river", "winter", "weather"):
    row = [words.index(word)]
    top = (vectors @ vectors[row[0]]).topk(4).indices.tolist()
    top_cosine = (vectors @ vectors[row[0]] / size).topk(4).indices.tolist()
    shown = [" ".join(words[i] for i in t if i not in row) for t in (top, top_cosine)]
    print(f"{word:8} dot: {shown[0]:28} cosine: {shown[1]}")

# %% [markdown]
# By dot product a bridge is near a *ferry* and a *road*, by cosine near a *viaduct* and
# a *causeway*; a mayor by dot product near a *city*, by cosine near an *alderman*. Is
# there a rule in this? There is: where the two disagree, the dot product's winner $d$
# beats the cosine's winner $c$ in $|d|\cos\theta_d$ and loses to it in $\cos\theta_d$;
# so, both being positive, $|d|$ must be larger. Every single time:

# %% mystnb={"figure": {"caption": "Each point is a word for which the two measures name different neighbours. Across: the length of the neighbour by cosine; up: that of the neighbour by dot product. No point lies below the diagonal, and none can.", "name": "fig-longer-wins"}, "image": {"alt": "A cloud of points, all above the dashed diagonal. Across they lie between lengths of 0.6 and 1.4, up between 0.8 and 1.5."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(4.2, 3.4))
of_cosine, of_dot = size[by_cosine[differ]], size[by_dot[differ]]
ax.plot(of_cosine, of_dot, ".", markersize=4, alpha=0.6)
ends = [of_cosine.min().item(), of_dot.max().item()]
ax.plot(ends, ends, "k--", lw=1)
ax.set(xlabel="length of the neighbour by cosine", ylabel="of that by dot product")
plt.show()

# %%
assert (of_dot > of_cosine).all()
print("points below the diagonal:", int((of_dot <= of_cosine).sum()))
figures.digest("lengths of the winners by dot product", of_dot)

# %% [markdown]
# Divide every vector by its length, and the quarrel is over: on vectors of length one
# the dot product *is* the cosine. It sorts like the distance, too, for
# $|u - v|^2 = |u|^2 + |v|^2 - 2\, u \cdot v$ is then $2 - 2\cos\theta$: the nearest is
# the most similar.

# %%
unit = vectors / size[:, None]  # (words, 384), all of length 1
few = asked[::5]  # real differences: cdist itself prefers to go by dot products
apart_by = torch.cdist(unit[few], unit, compute_mode="donot_use_mm_for_euclid_dist")
apart_by[range(len(few)), few] = torch.inf  # (few, words): Euclidean distances
by_distance = apart_by.argmin(1)

settle(
    "tensors-dot-similarity",
    above(torch.dot(x2, b), torch.dot(x2, a).item()),
    below(cosine(x2, b), cosine(x2, a).item()),
    above(torch.dot(x2, 10 * x2), torch.dot(x2, x2).item()),
    same(cosine(x2, 10 * x2), cosine(x2, x2)),
    above(differ.float().mean(), 0.2),
    above((nearest(unit, few) == by_distance).float().mean(), 0.99),
    note="two chosen vectors; MiniLM's words as they are, and all of length one",
)

# %% [markdown]
# Neither measure is the right one in itself. A model that was trained on dot products,
# as attention is, may put something into the length and mean it; embeddings that were
# trained on cosines should be compared by cosines.
#
# ## The matrix product is a table of dot products
#
# The {term}`matrix product 矩阵乘法 <矩阵乘法>` of $A$, of shape `(n, p)`, and $B$, of shape
# `(p, m)`, has the shape `(n, m)`,
#
# $$
# (AB)_{ij} = \sum_{k=1}^{p} A_{ik} B_{kj} ,
# $$ (eq-matmul)
#
# and the right-hand side is the dot product {eq}`eq-dot-product` of row $i$ of $A$ with
# column $j$ of $B$. {numref}`fig-row-column` shows the layout in which one can see it:
# $B$ stands above the result, so that each cell lies where its row and its column
# cross.

# %% mystnb={"figure": {"caption": "A (2, 3) to the left, B (3, 4) above, and their product (2, 4) where rows and columns cross. The lit cell is the dot product of the lit row and the lit column: 1\u00b72 + 0\u00b71 + 2\u00b73 = 8. The size 3, which both share, is gone.", "name": "fig-row-column"}, "image": {"alt": "Three grids of numbers. The second grid stands above the result and the first to its left. Row 1 of A, column 2 of B and the cell at their crossing are coloured."}} tags=["hide-input"]
A = torch.tensor([[1, 0, 2], [3, 1, 1]])
B = torch.tensor([[1, 2, 0, 1], [0, 1, 2, 1], [2, 3, 1, 0]])


def grid(ax, corner, values, lit, colour, name):
    """A table of numbers, its top left corner at `corner`, some of it lit."""
    x0, y0 = corner
    for i, j in np.ndindex(*values.shape):
        face = COLOURS[colour] + ("aa" if lit(i, j) else "11")
        cell = plt.Rectangle((x0 + j, y0 - i - 1), 1, 1, fc=face, ec="#555555", lw=0.8)
        ax.add_patch(cell)
        text = f"{values[i, j]:g}"
        ax.text(x0 + j + 0.5, y0 - i - 0.5, text, ha="center", va="center")
    ax.text(x0 - 0.2, y0 - values.shape[0] / 2, name, ha="right", va="center", size=12)


figure, ax = plt.subplots(figsize=(4.6, 3.2))
figures.canvas(ax, 9.4, 6)
grid(ax, (4.8, 5.8), B, lambda i, j: j == 1, "orange", "B")
grid(ax, (0.8, 2.3), A, lambda i, j: i == 0, "blue", "A")
grid(ax, (4.8, 2.3), A @ B, lambda i, j: (i, j) == (0, 1), "green", "AB")
plt.show()

# %% [markdown]
# The same numbers can be gathered in another order, and each order is a way to read.
#
# 1. **By cells**: cell $(i, j)$ is a dot product. Read $QK^\top$ like this: how much
#    does each query agree with each key?
# 2. **By rows**: row $i$ of $AB$ is a mixture of the *rows of* $B$, with the numbers in
#    row $i$ of $A$ as the recipe. Read a table of attention weights times values like
#    this: each output is a mixture of values.
# 3. **By layers**: $AB$ is a sum of $p$ outer products, column $k$ of $A$ with row $k$
#    of $B$. Read LoRA like this: $p$ such layers make a matrix of rank at most
#    $p$. (That is the other rank, 秩, how many rows are independent; not 阶, the number
#    of axes.)

# %%
by_cells, by_rows = torch.zeros(2, 4), torch.zeros(2, 4)
by_layers = torch.zeros(2, 4)
for i in range(2):
    for j in range(4):
        by_cells[i, j] = torch.dot(A[i], B[:, j])
    for k in range(3):
        by_rows[i] += A[i, k] * B[k]  # a bit of row k of B
for k in range(3):
    by_layers += torch.outer(A[:, k], B[k])
assert by_cells.equal(by_rows) and by_rows.equal(by_layers)
assert by_cells.equal((A @ B).float())
print((A @ B).tolist())

# %% [markdown]
# The sizes follow: `(n, p)` times `(p, m)` gives `(n, m)`. The notes' case `[B, E]`
# times `[E, B]`, a batch of embeddings against itself, is one of these and gives
# `[B, B]`, as they say ({claim}`tensors-mm-shape`, {cite}`pytorchmatmul`): every
# embedding against every other, five by five for five of them.

# %%
ones = torch.mm(torch.ones(5, 7), torch.ones(7, 5))
print(tuple(ones.shape), "and every cell is", ones.unique().tolist())

# %% [markdown]
# The notes say that this product is what becomes of the *inner product* (内积) when one
# goes on from vectors to matrices, and that it then is a matrix and no scalar. An inner
# product is by definition a number, with three properties: it is symmetric, linear in
# each argument, and $\langle A, A \rangle > 0$ unless $A = 0$. The matrix product
# is no number, and it breaks the first and the last, most thoroughly with this matrix,
# which is not zero:

# %%
N = torch.tensor([[0.0, 1], [0, 0]])
print("N @ N       ", (N @ N).tolist())
print("N @ N.T     ", (N @ N.T).tolist())
print("N.T @ N     ", (N.T @ N).tolist())
print("(N * N).sum ", (N * N).sum().item())

# %% [markdown]
# What does become of the inner product is the last line, the Frobenius inner product
# ({term}`弗罗贝尼乌斯内积`): the dot product of all numbers of
# $A$ with all numbers of $B$,
#
# $$
# \langle A, B \rangle_F = \sum_{ij} A_{ij} B_{ij} = \operatorname{tr}(A^\top B) .
# $$ (eq-frobenius)

# %%
P, Q = torch.tensor(rng.integers(-9, 10, size=(2, 64, 64))).double()
table = torch.stack([torch.stack([torch.dot(p, q) for q in Q.T]) for p in P])
settle(
    "tensors-inner-product-of-matrices",
    same((P * Q).sum(), torch.trace(P.T @ Q)),
    same((P * Q).sum(), torch.dot(P.flatten(), Q.flatten())),
    same([(P * Q).sum().ndim, (P @ Q).ndim], [0, 2]),
    same(P @ Q, table),
    apart(P @ Q, Q @ P, 1),
    same(N @ N, 0 * N),
    above((N * N).sum(), 0),
    note="P and Q of whole numbers (64, 64); table holds dot(row of P, column of Q)",
)

# %% [markdown]
# And on vectors, where 点积 and 内积 are the same word for most people, there are more
# inner products than the dot product: $x^\top W y$ is one for each symmetric $W$ with
# positive eigenvalues (特征值). They stretch space before they measure. Attention will
# measure with a matrix in the middle, too, $x^\top W_Q W_K^\top y$; but since nothing
# makes that matrix symmetric, "how much $x$ looks at $y$" is not "how much $y$ looks at
# $x$", and it is no inner product at all.
#
# ## Every name against every rank
#
# Documentation lists cases. We let the functions speak: take a block with three numbers
# along each axis, so that no size can ever be in the way, in ranks 0 to 4, and offer
# each function each pair of ranks. What it refuses, it refuses because of the rank.

# %%
calls = {
    "*, mul": torch.mul,
    "dot": torch.dot,
    "mv": torch.mv,
    "mm": torch.mm,
    "bmm": torch.bmm,
    "@, matmul": torch.matmul,
    "inner": torch.inner,
    "np.dot": lambda a, b: torch.tensor(np.dot(a.numpy(), b.numpy())),
}
blocks = [torch.ones((3,) * rank, dtype=torch.double) for rank in range(5)]
ranks = {name: np.full((5, 5), -1) for name in calls}  # -1 where refused
for (name, call), a, b in itertools.product(calls.items(), range(5), range(5)):
    try:
        ranks[name][a, b] = call(blocks[a], blocks[b]).ndim
    except (RuntimeError, IndexError):
        pass
for name, found in ranks.items():
    print(f"{name:10} takes {(found >= 0).sum():2} of the 25 pairs of ranks")

# %% mystnb={"figure": {"caption": "What each function makes of each pair of ranks. A coloured cell is accepted and holds the rank of the result; an empty one is refused. `@` takes everything but numbers, rank 0; `mm` and `bmm` are one cell each.", "name": "fig-ranks"}, "image": {"alt": "Eight tables of five by five cells, ranks 0 to 4 of the left and right operand. Star accepts all and gives the larger rank. dot, mv, mm and bmm accept a single cell each. matmul accepts the sixteen cells without rank 0. inner accepts all, np.dot as well, and their results reach rank 6."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 4, figsize=(6.4, 3.8), sharex=True, sharey=True)
for ax, (name, found) in zip(axes.flat, ranks.items(), strict=True):
    for a, b in np.ndindex(5, 5):
        taken = found[a, b] >= 0
        face = COLOURS["sky"] if taken else "white"
        ax.add_patch(plt.Rectangle((b - 0.5, a - 0.5), 1, 1, fc=face, ec="#aaaaaa"))
        ax.text(b, a, found[a, b] if taken else "", ha="center", va="center", size=9)
    ax.set(xlim=(-0.5, 4.5), ylim=(4.5, -0.5), aspect="equal", title=name)
    ax.set(xticks=range(5), yticks=range(5))
    ax.grid(False)
figure.supxlabel("rank of the right operand", size=9)
figure.supylabel("rank of the left operand", size=9)
plt.show()

# %% [markdown]
# Four things to take from {numref}`fig-ranks`.
#
# - `@` and `matmul` are one function, and it takes every pair of ranks in which neither
#   is 0. It is not "the one for high ranks": it contains `dot`, `mv`, `mm` and `bmm`.
# - These four are one cell each, `dot` (1, 1), `mv` (2, 1), `mm` (2, 2), `bmm` (3, 3),
#   and on their cell they agree with `@`. They are the strict ones, and strictness is a
#   virtue: what you write with `mm` cannot quietly become a batch.
# - `*` takes everything, and gives the larger of the two ranks.
# - `inner` and NumPy's `dot` give results of rank 6. From rank 3 on they pair each
#   matrix of the left with *each* of the right, where `@` pairs the first with the
#   first, the second with the second.

# %%
some = torch.tensor(rng.integers(-9, 10, size=(5, 4, 4))).double()
left, right = some[:2], some[2:4]  # two batches of two matrices (2, 4, 4)
print("@      ", tuple((left @ right).shape))
print("np.dot ", np.dot(left.numpy(), right.numpy()).shape)
print("inner  ", tuple(torch.inner(left, right).shape))
every = np.dot(left.numpy(), right.numpy())  # (2, 4, 2, 4): each with each
assert np.array_equal(every[1, :, 0], left[1] @ right[0])

# %%
M, L = some[0], some[1]  # (4, 4)
mm, bmm, matmul = torch.mm, torch.bmm, torch.matmul
settle(
    "tensors-at-mm-matmul-same",
    same(M @ L, mm(M, L)),
    same(M @ L, matmul(M, L)),
    same(left @ right, matmul(left, right)),
    raises(RuntimeError, lambda: mm(left, right)),
    same(left @ right, bmm(left, right)),
    raises(RuntimeError, lambda: bmm(some, right[:1])),
    same(matmul(some, right[:1]).shape, some.shape),
    note="whole numbers; two lines for matrices, the others for batches of them",
)

# %%
taken = {name: [*map(tuple, np.argwhere(found >= 0))] for name, found in ranks.items()}
from_one_up = [*itertools.product(range(1, 5), repeat=2)]
settle(
    "tensors-mm-2d-matmul-high",
    same(taken["mm"], [(2, 2)]),
    same(taken["@, matmul"], from_one_up),
    same(torch.matmul(M[0], L[0]), torch.dot(M[0], L[0])),
    same(torch.matmul(M, L), torch.mm(M, L)),
    note="pairs of ranks that are taken; then matmul on two vectors and two matrices",
)

# %% [markdown]
# The small claims of the notes in one table. With a vector, `@` does what one would do
# on paper: one on the left stands as a row, one on the right as a column, and the axis
# of size 1 that this adds is taken away again. Their example of the elementwise
# product, `[[3, 3], [3, 3]]` by `[[1, 2], [3, 4]]`, gives `[[3, 6], [9, 12]]`, as they
# say ({claim}`tensors-mul-example`) and as the definition demands {cite}`pytorchmul`;
# note that `@` accepts the same two and gives something else.

# %%
threes, count = torch.full((2, 2), 3), torch.tensor([[1, 2], [3, 4]])
print(
    "3s * count", (threes * count).tolist(), "  3s @ count", (threes @ count).tolist()
)
W = torch.tensor([[2, 1, 0], [1, 2, 0], [0, 0, 1]])  # eigenvalues 3, 1, 1
sample = torch.tensor(rng.integers(-9, 10, size=(100, 3)))
sample = sample[sample.abs().sum(1) > 0]
lengths_w = torch.einsum("si,ij,sj->s", sample, W, sample)  # each x·W·x
kinds = (torch.int8, torch.int64, torch.float16, torch.float32, torch.complex64)
pairs = [some[:2].to(kind) for kind in kinds]
one, three = torch.ones(3), torch.ones(3, 4)
square = torch.ones(2, 2)

# %% tags=["hide-input"]
settle_all(
    {
        "tensors-dot-example": [
            same(torch.dot(x, y), 9),
            same(x * y, torch.tensor([1, 2, 6])),
            same((x * y).sum(), torch.dot(x, y)),
        ],
        "tensors-dot-vectors-only": [
            raises(RuntimeError, lambda: torch.dot(square, square)),
            same(np.dot(square.numpy(), square.numpy()), square @ square),
        ],
        "tensors-dot-names": [
            same(x @ torch.eye(3).long() @ y, torch.dot(x, y)),
            same(x @ W @ y, y @ W @ x),
            above(lengths_w.min(), 0),
            same([(x @ W @ y).item(), torch.dot(x, y).item()], [15, 9]),
            same([t.ndim for t in (torch.dot(x, y), x * y)], [0, 1]),
        ],
    }
)

# %% tags=["hide-input"]
agree = [(p * q).equal(torch.mul(p, q)) for p, q in pairs]
settle_all(
    {
        "tensors-star-equals-mul": [same(agree, [True] * 5), same((x * y).ndim, 1)],
        "tensors-mul-method-comment": [
            same(threes.mul(count), torch.mul(threes, count)),
            same(threes.mul(threes), torch.full((2, 2), 9)),
            apart(threes.mul(threes), torch.mul(threes, count), 1),
        ],
        "tensors-mm-rejects-high-rank": [
            raises(RuntimeError, lambda: torch.mm(left, right)),
            raises(RuntimeError, lambda: torch.mm(one, three)),
        ],
        "tensors-matmul-1d-2d-cases": [
            same(torch.matmul(one, one), torch.tensor(3.0)),
            same(torch.matmul(three, three.T), torch.full((3, 3), 4.0)),
            same(torch.matmul(one, three), torch.full((4,), 3.0)),
            same(torch.matmul(three, torch.ones(4)), torch.full((3,), 4.0)),
            same(M[0] @ L, (M[0][None] @ L)[0]),
            same(L @ M[0], (L @ M[0][:, None])[:, 0]),
        ],
    }
)

# %% [markdown]
# ## One notation for all of them
#
# All these products are one idea: give each axis a letter, multiply, and sum over the
# letters that the result does not have. {term}`Einstein summation 爱因斯坦求和约定 <einsum>`
# writes down exactly that. $(AB)_{ij} = \sum_k A_{ik} B_{kj}$ becomes `"ik,kj->ij"`,
# and its meaning is a loop for each letter:

# %%
show(tensors.einsum_by_loops)

# %%
t3, s3 = some[:2, :3, :2], some[2:4, :2, :4]  # (2, 3, 2), (2, 2, 4)
sayings = {
    "dot product": ("i,i->", (M[0], L[0]), torch.dot),
    "elementwise": ("ij,ij->ij", (M, L), torch.mul),
    "outer product": ("i,j->ij", (M[0], L[0]), torch.outer),
    "matrix · vector": ("ij,j->i", (M, L[0]), torch.mv),
    "matrix product": ("ik,kj->ij", (M, L), torch.mm),
    "inner": ("ik,jk->ij", (M, L), torch.inner),
    "Frobenius": ("ij,ij->", (M, L), lambda a, b: (a * b).sum()),
    "batch of products": ("bik,bkj->bij", (t3, s3), torch.bmm),
    "np.dot of batches": ("aik,bkj->aibj", (t3, s3), calls["np.dot"]),
    "transpose": ("ij->ji", (M,), torch.t),
    "trace": ("ii->", (M,), torch.trace),
    "diagonal": ("ii->i", (M,), torch.diagonal),
}
for name, (equation, operands, call) in sayings.items():
    ours = tensors.einsum_by_loops(equation, *(t.numpy() for t in operands))
    assert np.array_equal(ours, torch.einsum(equation, *operands))
    assert np.array_equal(ours, np.einsum(equation, *(t.numpy() for t in operands)))
    assert np.array_equal(ours, call(*operands))
    print(f"{name:18} {equation:14} {ours.shape}")

# %% [markdown]
# Loops, torch, NumPy and the named function agree on every line, exactly. Two lines
# are worth a second look: `inner` multiplies rows with rows, so it is $AB^\top$; and
# what NumPy's `dot` does with batches is the product of `bmm` with *two* batch letters
# in the place of one. In letters the difference cannot be overlooked.
#
# **Attention in two lines.** In the chapter on the Transformer, $B$ sequences, each
# with $h$ heads (头), hold queries, keys and values of $d$ numbers for $L$ positions.
# All queries meet all keys; and the weights that follow mix the values. Here the
# weights are equal shares, and so each output must be the mean of the values.

# %%
B, h, L, d = 2, 3, 5, 4
query, key, value = torch.tensor(rng.integers(-3, 4, size=(3, B, h, L, d))).double()
scores = torch.einsum("bhqd,bhkd->bhqk", query, key)  # (B, h, L, L)
assert scores.equal(query @ key.transpose(-1, -2))
weights = torch.full((B, h, L, L), 1 / L, dtype=torch.double)
output = torch.einsum("bhqk,bhkd->bhqd", weights, value)  # (B, h, L, d)
assert torch.allclose(output, weights @ value, atol=1e-12)
assert torch.allclose(output, value.mean(2, keepdim=True).expand(B, h, L, d))
print("scores", tuple(scores.shape), "output", tuple(output.shape))

# %% [markdown]
# In the first line $d$ is summed and $q$ and $k$ are kept, "by cells"; in the second
# $k$ is summed, "by rows". No axis has to be turned for it: `transpose` is in the
# letters.
#
# **The cost is in the letters, too.** The loops run over all letters, so the number of
# terms is the product of all sizes, and with two operands a term is one multiplication.
# `torch`'s own counter of floating-point operations counts the multiplication and the
# addition, twice that.

# %%
from torch.utils.flop_counter import FlopCounterMode

with FlopCounterMode(display=False) as counter:
    torch.einsum("bhqd,bhkd->bhqk", query, key)
ours = tensors.einsum_cost("bhqd,bhkd->bhqk", query.shape, key.shape)
assert counter.get_total_flops() == 2 * ours
print("multiplications:", ours, "= 2 · 3 · 5 · 5 · 4")

# %% [markdown]
# That makes it cheap to compare plans before running one. The two products of
# attention, for one head with a thousand positions and $d = 64$, could be bracketed in
# two ways, $(QK^\top)V$ or $Q(K^\top V)$. A matrix product does not mind; the bill
# does.

# %%
position, feature = (1000, 64), (64, 64)
table_first = tensors.einsum_cost("qd,kd->qk", position, position)
table_first += tensors.einsum_cost("qk,ke->qe", (1000, 1000), position)
values_first = tensors.einsum_cost("kd,ke->de", position, position)
values_first += tensors.einsum_cost("qd,de->qe", position, feature)
print(f"(Q Kᵀ) V: {table_first:11,} multiplications")
print(f"Q (Kᵀ V): {values_first:11,}")
at_once = tensors.einsum_cost("qd,kd,ke->qe", position, position, position)
print(f"in one go {at_once:11,} terms, of two each")

# %% [markdown]
# $2L^2d$ against $2Ld^2$: nearly sixteen times less, and no longer quadratic in the
# length. Why does not everybody do it? Because a softmax stands between the two
# products, and brackets cannot be moved across it. Putting something in its place that
# lets the brackets move, in the simplest case nothing, is called linear attention. The
# last line warns of something else: three operands in one loop of loops take as many
# terms as the product of *all* letters. NumPy does just that unless told to `optimize`
# {cite}`numpyeinsum`; `torch.einsum` always takes two operands at a time.
#
# ## Which shapes, and why
#
# Ranks decide whether a function listens; sizes decide whether it answers. The rules
# for `@` fit on a page, and this course keeps them in words:

# %%
show(tensors.matmul_shape)

# %% [markdown]
# It returns what torch returns and refuses what torch refuses, here on every pair of
# shapes up to rank 3 with sizes 0 to 2, in the tests on all pairs up to rank 4 with
# sizes 0 to 3. torch works on *meta* tensors, which have a shape and no numbers.

# %%
shapes = [s for rank in range(4) for s in itertools.product(range(3), repeat=rank)]
blank = {shape: torch.empty(shape, device="meta") for shape in shapes}
functions = {"*": torch.mul, "@": torch.matmul, "dot": torch.dot}
functions |= {"mm": torch.mm, "bmm": torch.bmm}


def outcome(call, a, b):
    """The shape of what comes out, or None."""
    try:
        result = call(a, b)
    except (RuntimeError, ValueError):
        return None
    return tuple(getattr(result, "shape", result))


for name, call in functions.items():
    answers = 0
    for a, b in itertools.product(shapes, repeat=2):
        answer = outcome(tensors.RULES[name], a, b)
        assert answer == outcome(call, blank[a], blank[b]), (name, a, b)
        answers += answer is not None
    print(
        f"{name:4} equal on {len(shapes) ** 2} pairs, of which {answers} are accepted"
    )

# %% [markdown]
# When a line of yours fails, `explain` draws the two shapes one above the other. A size
# between `<` and `>` is summed, one between `[` and `]` is not there; the next page is
# about these. Try it on your own shapes.

# %%
print(tensors.explain("@", (3, 4), (4, 2)), end="\n\n")
print(tensors.explain("@", (3, 4), (3, 4)))

# %% [markdown]
# ## Where people go wrong
#
# **Square tests.** Five of the eight functions accept two matrices of shape `(4, 4)`,
# and three different results come out. A test on square matrices passes for the wrong
# product, for a forgotten transpose (转置), for the wrong axis. Give every axis its own
# size, best a prime, so that no product of two sizes passes for a third in a reshape.

# %%
results = {}
for name, call in calls.items():
    try:
        results[name] = call(M, some[1])
    except RuntimeError:
        continue
groups = []
for name, result in results.items():
    home = [g for g in groups if result.equal(results[g[0]])]
    home[0].append(name) if home else groups.append([name])
print(*groups, sep="\n")

# %% [markdown]
# **The result that nobody wrote.** Leave out `->` and einsum keeps the letters that
# stand once, *in alphabetical order* {cite}`numpyeinsum`. `"ba"` is a transpose.

# %%
print(tuple(torch.einsum("ab", t3[0]).shape), tuple(torch.einsum("ba", t3[0]).shape))

# %% [markdown]
# **The letter that stretches.** Letters look like a contract: `k` is `k`. But a size of
# 1 is stretched to whatever the other operand has, by NumPy always and by torch since
# that was asked for {cite}`pytorcheinsumbroadcast`. `@` refuses the same operands.

# %%
bug = torch.ones(6, 1)  # one feature was lost on the way here
print("einsum:", tuple(torch.einsum("qd,kd->qk", torch.ones(5, 8), bug).shape))
try:
    torch.ones(5, 8) @ bug.T
except RuntimeError:
    print("@: refused")
print(tensors.explain("@", (5, 8), (1, 6)))

# %% [markdown]
# **Complex numbers.** An inner product has to give a positive square of a length. With
# complex numbers (复数) this takes a conjugate (共轭) on one side, which `torch.dot` does
# not put there; `vdot` does. Where rotations of positions are written in complex
# numbers, the difference matters.

# %%
z = torch.tensor([1, 1j])
print("dot(z, z) =", torch.dot(z, z).item(), " vdot(z, z) =", torch.vdot(z, z).item())

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** Which shape comes out? Write `None` where you expect an error, and
# answer before you run anything.

# %%
outcomes = {  # replace the three dots
    "(3, 4) @ (4,)": ...,
    "(4,) @ (3, 4)": ...,
    "(2, 3, 4) @ (4, 5)": ...,
    "mm of (2, 3, 4) and (2, 4, 5)": ...,
    "inner of (2, 3) and (5, 3)": ...,
    "einsum bij,bkj->ik of (7, 2, 3) and (7, 5, 3)": ...,
}
check.outcomes(... if ... in outcomes.values() else outcomes)

# %% tags=["hide-cell"]
outcomes = {
    "(3, 4) @ (4,)": (3,),
    "(4,) @ (3, 4)": None,
    "(2, 3, 4) @ (4, 5)": (2, 3, 5),
    "mm of (2, 3, 4) and (2, 4, 5)": None,
    "inner of (2, 3) and (5, 3)": (2, 5),
    "einsum bij,bkj->ik of (7, 2, 3) and (7, 5, 3)": (2, 5),
}
check.outcomes(outcomes)

# %% [markdown]
# **2. A table of cosines.** Write `cosine_table(a, b)` for vectors a (n, D) and b (m,
# D): all cosines at once, (n, m), without a loop. A vector of zeros has no direction;
# let its cosines be 0. The line `vectors / size[:, None]` above shows how to divide
# rows.

# %%
cosine_table = ...  # def cosine_table(a, b): …
check.cosine_table(cosine_table)


# %% tags=["hide-cell"]
def cosine_table(a, b):
    tiny = 1e-30
    unit_a = a / a.norm(dim=1, keepdim=True).clamp_min(tiny)  # (n, D)
    unit_b = b / b.norm(dim=1, keepdim=True).clamp_min(tiny)  # (m, D)
    return unit_a @ unit_b.T


check.cosine_table(cosine_table)

# %% [markdown]
# **3. In letters.** Give the equation, in whatever letters you like:
#
# - `rows`: the dot product of row $i$ of the one with row $i$ of the other, for all
#   $i$, from (n, D) and (n, D) to (n,);
# - `gram`: within each sequence, every token with every token, from (B, L, D) taken
#   twice to (B, L, L);
# - `merge`: the heads' outputs (B, h, L, d), each multiplied by its own matrix, (h, d,
#   D) for all, and added up, to (B, L, D). This is how attention ends.

# %%
equations = {"rows": ..., "gram": ..., "merge": ...}
check.equations(... if ... in equations.values() else equations)

# %% tags=["hide-cell"]
equations = {"rows": "nd,nd->n", "gram": "bqd,bkd->bqk", "merge": "bhld,hde->ble"}
check.equations(equations)

# %% [markdown]
# **4. For an evening: where to put the brackets.** A product of many matrices, of sizes
# $(s_0, s_1), (s_1, s_2), \dots, (s_{n-1}, s_n)$, costs more or less depending on the
# order. Write `cheapest(sizes)`, for the list $[s_0, \dots, s_n]$: the smallest
# possible number of multiplications. Trying all brackets is a beginning; for fifteen
# matrices you will want to keep what you have computed.

# %%
cheapest = ...  # def cheapest(sizes): …
check.cheapest(cheapest)


# %% tags=["hide-cell"]
def cheapest(sizes):
    n = len(sizes) - 1  # matrices
    best = {(i, i + 1): 0 for i in range(n)}  # matrices i up to, not with, j
    for span in range(2, n + 1):
        for i in range(n - span + 1):
            j = i + span
            best[i, j] = min(
                best[i, k] + best[k, j] + sizes[i] * sizes[k] * sizes[j]
                for k in range(i + 1, j)
            )
    return best[0, n]


check.cheapest(cheapest)

# %% [markdown]
# ## In short
#
# A dot product multiplies and sums, and mixes direction with length; a cosine keeps the
# direction. A matrix product is a table of dot products, or mixtures of rows, or a sum
# of layers, and not an inner product: that would be a number. `*` multiplies and does
# not sum; `@` is `matmul` and takes every rank from 1 up; `dot`, `mv`, `mm` and `bmm`
# are its strict special cases. Einsum says all of it in letters: what the result lacks
# is summed, and the product of all letters is the cost.
#
# Next: [broadcasting](02_broadcasting), where sizes that differ go together all the
# same.
