# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Blind to order
#
# 我爱她 and 她爱我 hold the same three characters, and whoever confuses them will be
# sorry. An old joke about chilli is built from three more: people in Sichuan 不怕辣 (do
# not fear it), those in Hunan 辣不怕 (however hot, no fear), those in Guizhou 怕不辣
# (fear that it is *not* hot). Chinese has no endings that would tell who does what to
# whom. It has order.
#
# Attention has none. This page shows that the central operation of a Transformer cannot
# see order at all, not even a little; what such a reader can compute and what not,
# however long it is trained; and why language models that get no positions know order
# all the same. At the end you can
#
# - prove in two lines that self-attention is blind to order, and find the place in the
#   proof where a causal mask breaks it;
# - say whether a task can be solved by a blind reader, without training one;
# - write down weights with which a token looks at the token before it, and find a head
#   that does so in a trained model.
#
# You need [learning](../00_tensors/03_learning): softmax, and one training loop.

# %% tags=["hide-input"]
import numpy as np
import torch
from torch import nn

from utils import positions
from utils.exercises import positions as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    close,
    figures,
    notes_say,
    pretrained,
    same,
    settle,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("positions-why", "positions-attend-to-position")

# %% [markdown]
# ## By hand: a sum has no order
#
# In {term}`self-attention 自注意力 <self-attention>` a token looks at all tokens, gives
# each a weight, and takes the weighted sum of their values. The weights are a softmax
# of scores, and a score compares two tokens, by what they are.
#
# Let 爱 look at 我爱她. Its scores with 我, 爱 and 她 may be $0$, $0$ and $\ln 2$; so the
# softmax has $e^0, e^0, e^{\ln 2} = 1, 1, 2$ to divide by their sum, and the weights
# are ¼, ¼, ½. Let the values of the three be 4, 8 and 2. Then 爱 takes home
#
# $$
# \tfrac14 \cdot 4 + \tfrac14 \cdot 8 + \tfrac12 \cdot 2 = 4 .
# $$
#
# Now 她爱我. The scores belong to the characters, so do the values, and
# $\tfrac12 \cdot 2 + \tfrac14 \cdot 8 + \tfrac14 \cdot 4$ is 4 again. Nothing has been
# forgotten, and nothing could have been noticed: **an addition does not know what came
# first.**

# %%
score, value = {"我": 0, "爱": 0, "她": np.log(2)}, {"我": 4, "爱": 8, "她": 2}
for line in ("我爱她", "她爱我"):
    weights = np.exp([score[c] for c in line])
    weights /= weights.sum()
    taken = weights @ [value[c] for c in line]
    assert abs(taken - 4) < 1e-12
    print(line, "weights", *(f"{w:.2f}" for w in weights), "→", f"{taken:.2f}")

# %% [markdown]
# ## In general
#
# Write the tokens as rows of $X$, of shape (L, D). Each makes a *query* (查询), a *key*
# (键) and a *value* (值): rows of $XW_Q$, $XW_K$ and $XW_V$, with three trained matrices
# of shape (D, d). Entry $(i, j)$ of the product of queries and keys says how well query
# $i$ fits key $j$. One *head* (注意力头) of attention is
#
# $$
# A(X) = \operatorname{softmax}\!\left( \frac{X W_Q W_K^\top X^\top}{\sqrt d} \right) ,
# \qquad f(X) = A(X)\, X W_V ,
# $$ (eq-attention)
#
# the softmax row by row. To shuffle a text is to multiply by a *permutation matrix* (置换
# 矩阵) $P$: one 1 in each row and each column, so that $PX$ has the rows of $X$ in
# another order and $P^\top P = I$. What does attention make of the shuffled text?
#
# $$
# A(PX) = \operatorname{softmax}\!\left( P \,\frac{X W_Q W_K^\top X^\top}{\sqrt d}
# \, P^\top \right) = P A(X) P^\top ,
# $$ (eq-shuffled-weights)
#
# because the softmax of a row does not mind in which order its entries stand. And then
#
# $$
# f(PX) = P A(X) P^\top \, P X W_V = P f(X) .
# $$ (eq-equivariant)
#
# The two permutations in the middle meet and are gone. Each token gets exactly what it
# would have got in the original order; it merely stands elsewhere. That property is
# called {term}`permutation equivariance 置换等变 <permutation equivariance>`. Heads side by
# side, each with matrices of its own, keep it. So does the rest of a layer, which
# treats each token alone: the norms, the *feed-forward part* (前馈层), a small network
# that is applied to each token vector, and the *residual connections* (残差连接), which add
# to each vector what it was before. So a whole *encoder* (编码器), a stack of such layers
# in which every token sees all, keeps it, however deep.
#
# Two sentences of the same five characters, 她说他爱我 (she says he loves me) and
# 我说她爱他 (I say she loves him), through torch's own attention with random weights:

# %% mystnb={"figure": {"caption": "Attention weights of torch.nn.MultiheadAttention, random weights, no positions. Left and middle: two sentences of the same characters. Right: rows and columns of the second map put into the order of the first. The second map is the first one, shuffled.", "name": "fig-shuffled"}, "image": {"alt": "Three heat maps of five rows and columns. The first and the second differ; the third, which is the second one re-sorted, is identical to the first."}}
torch.manual_seed(2)
characters = nn.Embedding(10_000, 16).double()  # any table, not trained
attention = nn.MultiheadAttention(16, 1, batch_first=True).double()
lines = {"she": "她说他爱我", "I": "我说她爱他"}


def weights_of(line):
    x = 3 * characters(torch.tensor([ord(c) % 10_000 for c in line]))[None]
    return attention(x, x, x)[1][0].detach()  # (L, L)


back = [lines["I"].index(c) for c in lines["she"]]
first, second = (weights_of(line) for line in lines.values())
sorted_back = second[back][:, back]
figure, axes = figures.panels(3, width=7.2, height=2.6)
for ax, line, values, title in zip(
    axes,
    [lines["she"], lines["I"], lines["she"]],
    [first, second, sorted_back],
    ["in one order", "in another", "and sorted back"],
    strict=True,
):
    figures.heat(ax, values, line, line, cmap="Blues")
    ax.set(title=title, xlabel="is looked at")
axes[0].set_ylabel("looks")
plt.show()

# %%
assert (first - second).abs().max() > 0.1
assert (sorted_back - first).abs().max() < 1e-12
print("the same map, shuffled: equal to 1e-12")

# %% [markdown]
# ## Equal to the library
#
# The course has an attention of its own, in which a method of positions can be plugged
# in; `Nothing` is the method that does nothing. With the same weights it gives what
# torch's gives:

# %%
show(positions.attention, positions.Attention)

# %%
ours = positions.Attention(positions.Nothing(heads=4, d=4), causal=False)
theirs = nn.MultiheadAttention(16, 4, batch_first=True)
with torch.no_grad():
    ours.qkv.weight.copy_(theirs.in_proj_weight)
    ours.qkv.bias.copy_(theirs.in_proj_bias)
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 5, 16)
    assert (ours(x) - theirs(x, x, x)[0]).abs().max() < 1e-5
print("our attention equals nn.MultiheadAttention, to 1e-5")

# %% [markdown]
# ## A real model, blinded
#
# MiniLM is a BERT of six layers that turns a sentence into one vector, the mean of its
# token vectors. It adds a trained vector to each token according to its place. We set
# those 512 vectors to zero. What remains is a trained encoder with everything else in
# place.

# %%
model, tokenizer = pretrained.encoder()
table = model.embeddings.position_embeddings.weight
places = table.detach().clone()


def sentence_vectors(texts, seeing=True):
    """Mean token vectors (B, 384) of length one, with or without positions."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    with torch.no_grad():
        table.copy_(places if seeing else torch.zeros_like(places))
        mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        table.copy_(places)
    return nn.functional.normalize(mean, dim=-1)


pairs = [
    ("dog bites man", "man bites dog"),
    ("the dog bites the man", "the man bites the dog"),
    ("she is happy but not rich", "she is not happy but rich"),
    ("he sold the house to buy a boat", "he sold the boat to buy a house"),
    ("only she gave him a smile", "she gave him only a smile"),
    ("it is raining", "is it raining"),
    ("the dog bites the man", "a cat sleeps on the sofa"),
]
for number, pair in enumerate(pairs, 1):
    print(number, *pair, sep=" / ")

# %% mystnb={"figure": {"caption": "Cosine of the two sentence vectors of each pair in MiniLM, with its positions and with the positions set to zero. Pairs 1 to 6 consist of the same words; pair 7 is there for comparison.", "name": "fig-blind-pairs"}, "image": {"alt": "Seven rows with two dots each. Without positions the first six pairs have a cosine of one, to 1e-5. With positions they lie between 0.87 and 0.99. The unrelated pair lies at 0.15 with positions and 0.49 without."}} tags=["hide-input"]
cosines = {}
for seeing in (True, False):
    one, two = (
        sentence_vectors(list(side), seeing) for side in zip(*pairs, strict=True)
    )
    cosines[seeing] = (one * two).sum(-1)
figure, ax = plt.subplots(figsize=(5.4, 3.1))
rows = range(1, 8)
ax.plot(cosines[True], rows, "o", color=COLOURS["blue"], label="with positions")
ax.plot(cosines[False], rows, "D", color=COLOURS["vermilion"], label="without")
ax.set_yticks(rows)
ax.set(xlabel="cosine", ylabel="pair", xlim=(0, 1.05))
ax.invert_yaxis()
ax.legend(loc="center left")
plt.show()

# %%
blind, seeing = cosines[False][:6], cosines[True][:6]
assert (blind - 1).abs().max() < 1e-5
print("six pairs without positions: cosine 1, to 1e-5")
print("the same six with positions:", *(approx(c, 0.8, 0.995) for c in seeing))
print("pair 7 with positions:   ", approx(cosines[True][6], 0, 0.4), end=", ")
print("and without:", approx(cosines[False][6], 0.3, 0.7))

# %% [markdown]
# Without positions the model cannot tell the bite from the bitten. The proof said so,
# and no amount of training could have changed it.
#
# But look at the blue dots too. *With* positions the two sentences about dog and man
# still have nearly the same vector, far closer than those of two unrelated sentences.
# Being able to see order and making use of it are different things. (The seventh pair
# has moved closer, too: without positions everything moves closer, since the model was
# never trained that way.)
#
# How much of language can do without order is a serious question. Models that had
# positions, but were pre-trained on shuffled sentences and then fine-tuned on ordinary
# ones, do well on many tests {cite}`sinha2021order`. But shuffled text still leaks
# order, for one thing because words were shuffled and then cut into pieces whose order
# is right {cite}`abdou2022word`.
#
# ## What a blind reader can know
#
# Put a mean over the tokens on top, or any other sum. Then the output does not move at
# all, $g(PX) = g(X)$, *permutation invariance* (置换不变). All that such a reader can know
# of a text is which tokens there are and how often, its *bag of words* (词袋). That is a
# good deal: the most frequent word, most of the topic. The sum of one-hot vectors *is*
# the bag, so a network that sums can compute every function of it (for sets:
# {cite}`zaheer2017deepsets`). Means keep only the shares, as we shall see.
#
# So we can say in advance what training will achieve. Texts have eight symbols, among
# them exactly one ▲ and one ▼ for the first task; for the second, five marks, each ▲ or
# ▼:
#
# - **which came first?** Take any text and exchange ▲ and ▼. The bag is the same, the
#   answer is the opposite. A blind reader says the same to both, and so is right about
#   exactly one of them. Over such pairs its score is *exactly* one half, trained or
#   not.
# - **which is more frequent?** Exchanging changes the bag. Nothing forbids it.


# %%
def riddles(task, count, generator):
    """Texts (count, 8) of twelve symbols, 0 = ▲, 1 = ▼; whether ▲ wins (count,)."""
    marks = np.tile([0, 1], (count, 1))
    if task == "more":
        marks = generator.integers(0, 2, (count, 5))  # an odd number: no draws
    others = generator.integers(2, 12, (count, 8 - marks.shape[1]))
    ids = generator.permuted(np.concatenate([marks, others], 1), axis=1)
    up, down = ids == 0, ids == 1
    if task == "first":
        wins = up.argmax(1) < down.argmax(1)
    else:
        wins = up.sum(1) > down.sum(1)
    return torch.tensor(ids), torch.tensor(wins).long()


class Judge(nn.Module):
    """One layer of attention, a small network on each token, their mean: two scores."""

    def __init__(self, method, causal):
        super().__init__()
        D = method.heads * method.d
        self.method, self.symbols = method, nn.Embedding(12, D)
        self.attention = positions.Attention(method, causal)
        self.think = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, ids):  # (B, L)
        x = self.method.embed(self.symbols(ids), torch.arange(ids.shape[1]))
        return self.think(x + self.attention(x)).mean(1)


# %% [markdown]
# Three readers of the same size, from the same initial weights. One is blind. One gets
# *positions*: to each token vector a vector is added that depends on the place alone,
# by the method's `embed`. That vector is the token's {term}`positional
# encoding 位置编码 <positional encoding>`; which vector, is the subject of the [next
# page](02_absolute). The third gets no positions either, but a token looks only at
# itself and the tokens before it.

# %%
show(positions.Nothing.embed, positions.Sinusoidal)
readers = {
    "blind": (positions.Nothing, False),
    "with positions": (positions.Sinusoidal, False),
    "looking back only": (positions.Nothing, True),
}


# %%


def taught(name, task, steps=200):
    """The losses, and how many of 1,000 texts and 1,000 mirrored ones are right."""
    method, causal = readers[name]
    torch.manual_seed(0)
    judge, generator = Judge(method(2, 16), causal).double(), np.random.default_rng(0)
    optimiser, losses = torch.optim.Adam(judge.parameters(), lr=3e-3), []
    for _ in range(steps):
        ids, wins = riddles(task, 64, generator)
        loss = nn.functional.cross_entropy(judge(ids), wins)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    ids, wins = riddles(task, 1000, np.random.default_rng(1))
    mirrored = torch.where(ids < 2, 1 - ids, ids)  # ▲ and ▼ exchanged
    with torch.no_grad():
        right = (judge(ids).argmax(-1) == wins).sum()
        right += (judge(mirrored).argmax(-1) != wins).sum()
    return losses, right.item()


runs = {
    (name, task): taught(name, task) for task in ("first", "more") for name in readers
}

# %% mystnb={"figure": {"caption": "Three readers learn two tasks, 200 steps each. Dashed: guessing, ln 2. Which came first: the blind reader stays at guessing. Which is more frequent: all three learn it.", "name": "fig-two-tasks"}, "image": {"alt": "Two panels of loss curves. Left, which came first: the blind reader stays on the dashed line at 0.69, the two others fall to zero. Right, which is more frequent: all three curves fall towards zero."}} tags=["hide-input"]
figure, axes = figures.panels(2, sharey=True)
titles = {"first": "which came first?", "more": "which is more frequent?"}
for ax, task in zip(axes, titles, strict=True):
    for name, colour in zip(readers, ["vermilion", "blue", "green"], strict=True):
        ax.plot(runs[name, task][0], color=COLOURS[colour], label=name)
    ax.axhline(np.log(2), color="k", ls="--", lw=1)
    ax.set(title=titles[task], xlabel="step")
axes[0].set_ylabel("loss")
axes[1].legend(fontsize=8)
plt.show()

# %%
right = {key: count for key, (_, count) in runs.items()}
assert right["blind", "first"] == 1000
print("which came first?  blind: 1000 of 2000, exactly")
for name in list(readers)[1:]:
    print(f"{'':18} {name}: {approx(right[name, 'first'] / 20, 95, 100)} per cent")
for name in readers:
    score = approx(right[name, "more"] / 20, 90, 100)
    print(f"which is more?     {name}: {score} per cent")

# %% [markdown]
# Exactly one thousand. It is the rare experiment whose result was known to the last
# digit before the network was made.
#
# The third reader has no positions either, and learns the first task without effort.
# The proof must have a hole.
#
# ## The hole: a mask that looks back
#
# Language models that write from left to right use a {term}`causal mask 因果掩码 <causal
# mask>`: before the softmax, all scores of keys *after* the query become $-\infty$.
# Write it as a sum, $\operatorname{softmax}(S + C)$, with $C_{ij} = -\infty$ for
# $j > i$. When $X$ is shuffled, the scores become $P S P^\top$, but the mask stays $C$.
# For the proof to hold for every $X$ we would need $P C P^\top = C$, and only $P = I$
# gives that.
# **The mask does not move with the tokens; it is made of positions.** The triangle is
# all the order that the third reader needed: what ▼ sees depends on whether ▲ stands
# before it.
#
# Which token came *first* is one thing; *how many* came before is another. Can a masked
# reader count? Take a head with $W_Q = 0$. All scores are zero, so token number $t$
# (counted from 1) takes the plain mean of the $t$ tokens that it sees. Suppose each
# text begins with a special token, as most do, whose value has a 1 in some feature
# where all other tokens have 0. In that feature the mean is
#
# $$
# \frac{1 + 0 + \dots + 0}{t} = \frac1t .
# $$ (eq-clock)
#
# **The number of visible tokens is a clock, and a mean reads it.** Even without such a
# token there is a fainter one: the mean of $t$ independent random vectors, if their own
# mean is zero, has the mean square $\sigma^2 / t$ {cite}`chi2023latent`. And if all
# tokens are the same? Then a mean of equal things is that thing, whatever their number,
# and the mask is of no use at all.

# %%
torch.manual_seed(0)
L, D = 64, 32
uniform = positions.Attention(positions.Nothing(1, D), causal=True).double()
with torch.no_grad():
    uniform.qkv.weight.copy_(torch.eye(D).repeat(3, 1))  # values as they come
    uniform.qkv.weight[: 2 * D] = 0  # no queries, no keys
    uniform.qkv.bias.zero_(), uniform.out.bias.zero_()
    uniform.out.weight.copy_(torch.eye(D))

    tokens = torch.randn(200, L, D).double()  # random texts
    begun = tokens.clone()
    begun[..., 0] = 0  # feature 0 is kept for the token that begins a text
    begun[:, 0, 0] = 1
    clock = uniform(begun)[0, :, 0]  # (L,)
    faint = uniform(tokens)[0].square().mean(-1)  # (L,), one text
    same_tokens = uniform(tokens[:1, :1].expand(1, L, D))
t = torch.arange(1, L + 1).double()
assert (clock - 1 / t).abs().max() < 1e-12
assert ((1 / clock).round() == t).all()
assert (same_tokens - same_tokens[:, :1]).abs().max() < 1e-12
print("with a first token: 1/t to 1e-12, and 64 places read off without an error")
print("64 identical tokens, same mask: 64 identical outputs")
off = (faint * t).log().abs().exp()  # by which factor the mean square misses 1/t
print(
    "the fainter clock, one text: off by a factor of up to", approx(off.max(), 1.3, 6)
)

# %% mystnb={"figure": {"caption": "What a mean over the visible tokens tells of the place t. Left: the feature that only the first token has. Right: the mean square of a token\u2019s 32 outputs in one text of random tokens. Dashed: 1/t.", "name": "fig-clock"}, "image": {"alt": "Two plots on logarithmic axes. On the left dots lie exactly on the line 1/t. On the right dots scatter about the line."}} tags=["hide-input"]
figure, axes = figures.panels(2, sharey=True)
axes[0].loglog(t, clock, "o", ms=3, color=COLOURS["blue"])
axes[1].loglog(t, faint, "o", ms=3, color=COLOURS["green"])
for ax, title in zip(axes, ["with a first token", "random tokens"], strict=True):
    ax.loglog(t, 1 / t, "k--", lw=1)
    ax.set(title=title, xlabel="place t")
axes[0].set_ylabel("output")
plt.show()

# %% [markdown]
# That head was made by hand. A layer with random weights has something like it by
# accident, since small random scores make a nearly uniform softmax. We take torch's
# whole encoder layer, untrained, feed it random texts, and try to read $1/t$ from its
# outputs by least squares, a *linear probe* (线性探针). The share of variance explained on
# new texts, $R^2$, says how well that goes. (The first token itself is left out; it
# would be too easy.)

# %%
torch.manual_seed(0)
D, L = 64, 32
layer = nn.TransformerEncoderLayer(D, 4, 128, 0.0, batch_first=True).double().eval()
symbols = nn.Embedding(51, D).double()
look_back = nn.Transformer.generate_square_subsequent_mask(L).double()
t = torch.arange(2, L + 1).double()


def probe(mask, begins, squares=False):
    """R² of a fit of 1/t on 400 texts, on 100 new ones: all places, and from 9 on."""
    ids = torch.randint(50, (500, L))
    if begins:
        ids[:, 0] = 50
    with torch.no_grad():
        y = layer(symbols(ids), src_mask=mask)[:, 1:]  # (500, L − 1, D)
    y = torch.cat([y, y.square()] if squares else [y], -1)
    y = torch.cat([y, torch.ones(*y.shape[:2], 1)], -1)
    wanted = (1 / t).expand(500, -1)
    fit = torch.linalg.lstsq(
        y[:400].flatten(0, 1), wanted[:400].reshape(-1, 1)
    ).solution
    error, new = (y[400:] @ fit)[..., 0] - wanted[400:], wanted[400:]
    return [
        1 - (error[:, at].square().mean() / new[:, at].var(correction=0)).item()
        for at in (slice(None), slice(7, None))  # the first column is t = 2
    ]


# %%
cases = {
    "no mask, first token": (None, True, -0.1, 0.1),
    "mask, no first token": (look_back, False, -0.1, 0.2),
    "mask and first token": (look_back, True, 0.4, 1),
}
for name, (mask, begins, *bounds) in cases.items():
    everywhere, late = probe(mask, begins)
    print(f"{name}: R² {approx(everywhere, *bounds)}", end="")
    print(f", from place 9 on {approx(late, -8, 0)}")
fair = probe(look_back, False, squares=True)[0]
print("mask, no first token, squares added: R²", approx(fair, -0.2, 0.4))

# %% [markdown]
# An R² of one would be a perfect reading; below zero the mean of the $1/t$ would be a
# better guess. A random layer, never trained, carries a clock that a linear map can
# read, if there are both a mask and a token to begin with. It tells the first few
# places apart, hardly the later ones; trained models sharpen it. (The fainter clock is
# a square, and a linear map cannot read squares. Giving it the squares helps little.)
#
# Language models without any positional encoding come close to those that have one, and
# probes find the absolute position in them {cite}`haviv2022nopos`. This *NoPE* can
# express absolute and relative positions {cite}`kazemnejad2023impact`.
#
# Now the first claim, with the library's layer.

# %%
x = symbols(torch.randint(50, (8, L))).detach()
order = torch.randperm(L)
pe = positions.sinusoidal(torch.arange(L), D)
with torch.no_grad():
    plain, shuffled = layer(x), layer(x[:, order])
    masked, masked_shuffled = (layer(y, src_mask=look_back) for y in (x, x[:, order]))
    placed, placed_shuffled = layer(x + pe), layer(x[:, order] + pe)

chance = right["blind", "first"] / 2000
told = right["with positions", "first"] / 2000
settle(
    "positions-why",
    close(shuffled, plain[:, order], 1e-6),
    apart(placed_shuffled, placed[:, order], 0.1),
    apart(masked_shuffled, masked[:, order], 0.1),
    same(chance, 0.5),
    above(told, 0.95),
    note="torch's encoder layer, and the riddle of what came first",
)

# %% [markdown]
# ## Looking at a place
#
# What does a token vector gain when it knows its place? Attention can look at *where*.
# The purest case: 32 tokens that are all the same. Each vector has two halves: 32
# features of content, the same for all, and 32 that encode the position $i$ as the
# vector $p_i$. The next page will show that those vectors come with a matrix $R_k$ that
# moves them on, $R_k\, p_i = p_{i+k}$, for all $i$ at once. So let the query be
#
# $$
# q_i = 10 \cdot R_{-1}\, p_i = 10 \cdot p_{i-1}, \qquad k_j = p_j ,
# $$ (eq-previous)
#
# with the $\sqrt d$ of {eq}`eq-attention` in the factor 10, and the content half of
# both be zero. The score $10\, p_{i-1}^\top p_j$ is largest where $j = i - 1$: token
# $i$ asks "who has the vector of the place before mine?"

# %%
L, d = 32, 32
torch.manual_seed(0)
content = torch.randn(d).double().expand(L, d)
place = positions.sinusoidal(torch.arange(L), d)
tokens = torch.cat([content, place], -1)  # (L, 64)
product = torch.zeros(2 * d, 2 * d).double()  # W_Q W_Kᵀ
product[d:, d:] = 10 * positions.shift(-1, d).T  # rows are multiplied from the right
previous = (tokens @ product @ tokens.T).softmax(-1)  # (L, L)

alike = torch.cat([content, 0 * place], -1)  # the same tokens without their places
any_product = torch.randn(1000, 2 * d, 2 * d).double()
uneven = (alike @ any_product @ alike.T).softmax(-1) - 1 / L
pointed = previous.diagonal(-1).min()

# %% mystnb={"figure": {"caption": "Attention of 32 identical tokens. Left: positions in half of their features, with the product that moves the query back by one place: each looks at the one before it; the first has none before it and looks at itself. Right: without positions, one of the random products.", "name": "fig-previous"}, "image": {"alt": "Two heat maps of 32 rows. On the left a strong line just below the diagonal. On the right a uniform area."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.9)
even = (alike @ any_product[0] @ alike.T).softmax(-1)
for ax, values, title in zip(
    axes, [previous, even], ["with places", "without"], strict=True
):
    image = figures.heat(ax, values, cmap="Blues")
    image.set_clim(0, 1)
    ax.set(title=title, xlabel="position looked at", aspect="equal")
axes[0].set_ylabel("position that looks")
figure.colorbar(image, ax=axes, shrink=0.8, label="weight")
plt.show()

# %% [markdown]
# ## Four terms
#
# In a real model nobody reserves half of the features. The position vector is *added*
# to the content: token $i$ is $c_i + p_i$. With $M = W_Q W_K^\top / \sqrt d$ its score
# with token $j$ is a product of two sums, and has four terms:
#
# $$
# \begin{aligned}
# (c_i + p_i)^\top M\, (c_j + p_j)
# &= \underbrace{c_i^\top M c_j}_{\text{what–what}} +
# \underbrace{c_i^\top M p_j}_{\text{what–where}} \\
# &+ \underbrace{p_i^\top M c_j}_{\text{where–what}} +
# \underbrace{p_i^\top M p_j}_{\text{where–where}} .
# \end{aligned}
# $$ (eq-four-terms)
#
# All four go through the same $M$; Ke et al. {cite}`ke2021tupe` argue that the two
# mixed terms bring little but noise, and give positions projections of their own. We
# look at a real head. MiniLM's first layer sees the sum of word, segment and position
# vectors after a LayerNorm. For one token the norm subtracts a mean and divides by
# *one* number, so it too can be applied to both parts separately, once that number is
# known. A real head also has biases, which {eq}`eq-four-terms` has not. The norm's
# bias, and those of the projections, we count as content; another split would move
# constants between the terms. (The *segment* vector tells the first of two texts from
# the second; here there is one text. `[CLS]` and `[SEP]` are tokens that begin and end
# it.)

# %%
text = "I say she loves him because he once wrote her a long letter"
batch = tokenizer(text, return_tensors="pt")
ids, embed = batch["input_ids"][0], model.embeddings
L, norm = len(ids), embed.LayerNorm
head = model.encoder.layer[0].attention.self
rows = slice(2 * 32, 3 * 32)  # the third of twelve heads, 32 features each
with torch.no_grad():
    word = embed.word_embeddings.weight[ids] + embed.token_type_embeddings.weight[0]
    where = places[:L]
    std = ((word + where).var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    what, where = (
        (v - v.mean(-1, keepdim=True)) / std * norm.weight for v in (word, where)
    )
    what = what + norm.bias
    assert (what + where - embed(batch["input_ids"])[0]).abs().max() < 1e-5

# %%
with torch.no_grad():
    side = {"what": what, "where": where}
    bias = {"what": 1, "where": 0}  # the projections' biases belong to the content
    q, k = (
        {n: v @ m.weight[rows].T + bias[n] * m.bias[rows] for n, v in side.items()}
        for m in (head.query, head.key)
    )
    terms = {f"{a}–{b}": q[a] @ k[b].T / 32**0.5 for a in side for b in side}
    scores = sum(terms.values())
    stored = model(**batch, output_attentions=True).attentions[0][0, 2]
assert (scores.softmax(-1) - stored).abs().max() < 1e-4
print("the four terms add up to the attention of the model, to 1e-4")

# %% mystnb={"figure": {"caption": "The third head of MiniLM\u2019s first layer on one sentence. Four terms, each less its mean along a row, which the softmax ignores; all in one colour scale. Below: the attention that their sum gives, and the scale. Tokens run from [CLS] to [SEP], downwards and to the right.", "name": "fig-four-terms"}, "image": {"alt": "Five heat maps. What\u2013what, what\u2013where and where\u2013what are nearly even. Where\u2013where has a strong band just left of the diagonal. The attention weights are one line, on the previous token."}} tags=["hide-input"]
figure, axes = plt.subplots(3, 2, figsize=(4.8, 7))
for ax, (name, term) in zip(axes.flat, terms.items(), strict=False):
    image = figures.heat(ax, term - term.mean(-1, keepdim=True), cmap="RdBu_r")
    image.set_clim(-30, 30)
    ax.set(title=name, xticks=[], yticks=[])
figures.heat(axes[2, 0], scores.softmax(-1), cmap="Blues")
axes[2, 0].set(title="attention", xticks=[], yticks=[])
figure.colorbar(image, cax=axes[2, 1].inset_axes([0.1, 0, 0.1, 1]), label="score")
axes[2, 1].axis("off")
plt.show()

# %%
for name, term in terms.items():
    spread = (term - term.mean(-1, keepdim=True)).std()
    low, high = (6, 20) if name == "where–where" else (0.5, 4)
    print(f"{name:12} spread of the scores {approx(spread, low, high)}")
least = stored.diagonal(-1).min()
alone = terms["where–where"].softmax(-1).diagonal(-1).mean()
print("on the previous token: at least", approx(least, 0.9, 1), "of the attention")
print("by where–where alone, on average", approx(alone, 0.8, 1))
settle(
    "positions-attend-to-position",
    above(pointed, 0.99),
    below(uneven.abs().max(), 1e-9),
    above(least, 0.9),
    note="32 identical tokens, with places and without; one head of MiniLM",
)

# %% [markdown]
# There it is, made not by us but by training: a head that asks each token for the one
# before it, nearly regardless of what the tokens are. The claim that attention can look
# at a place is not a figure of speech. But it is one head, and we chose it, on one
# sentence. How many are there, and does it always look there? Random tokens will tell:

# %%
generator = torch.Generator().manual_seed(0)
for length in (100, 200):
    ids = torch.randint(1000, 30_000, (8, length), generator=generator)
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    with torch.no_grad():
        maps = torch.stack(model(ids, output_attentions=True).attentions)
    before = maps.diagonal(-1, -2, -1)  # (6 layers, 8 texts, 12 heads, length − 1)
    counted = (before.mean((1, 3)) > 0.5).sum().item()
    bounds = (0.95, 1) if length == 100 else (0.5, 0.9)
    mean = approx(before[0, :, 2].mean(), *bounds)
    assert counted == 1
    print(f"{length} tokens: {counted} of 72 heads looks back; this one with", mean)
astray = maps[0, :, 2, 1:127, 128:].sum(-1).mean()
print("200 tokens: places 1 to 126 look at places from 128 on with", end=" ")
print(approx(astray, 0.2, 0.6))

# %% [markdown]
# One head of 72. And in the longer texts it fails: tokens before place 127 give a good
# part of their attention to tokens beyond it. The model's last training cut texts after
# 128 tokens {cite}`allminilm`; the next page finds [a seam at place 127](02_absolute)
# in the table itself.
#
# ## Where people go wrong
#
# **Forgetting to sort back.** To see whether a model uses positions, one shuffles
# its input and looks whether the output moves. It does move, even in a blind model: the
# rows come out in the new order. Sort them back first, or compare their mean.

# %%
with torch.no_grad():
    moved = (layer(x[:, order]) - layer(x)).abs().max()
    sorted_first = (layer(x[:, order]) - layer(x)[:, order]).abs().max()
assert moved > 1 and sorted_first < 1e-12
print("rows as they come: apart by more than 1; sorted: the same to 1e-12")

# %% [markdown]
# **Taking a mean for a count.** "A bag of words" sounds as if a blind reader could
# count. But a softmax gives a mean. Write a text twice, one copy behind the other, and
# every mean stays what it was: neither attention nor a mean over the tokens notices. To
# know *how many*, it takes a token that stands once, as `[CLS]` does, or a sum.

# %%
opening = symbols(torch.full((8, 1), 50))  # a token that stands once
with torch.no_grad():
    lone, twice = layer(x), layer(torch.cat([x, x], 1))[:, : x.shape[1]]
    framed = layer(torch.cat([opening, x], 1))[:, 1:]
    framed_twice = layer(torch.cat([opening, x, x], 1))[:, 1 : x.shape[1] + 1]
assert (twice - lone).abs().max() < 1e-12
assert (framed_twice - framed).abs().max() > 0.01
print("each token of a text that is written twice: the same to 1e-12")
print("with one special token in front: apart by more than 0.01")

# %% [markdown]
# **Believing that a convolution, or a decoder, needs the same medicine.** Convolutions
# and recurrent networks know order by construction. A *decoder* (解码器), which writes a
# text from left to right, has a causal mask and is not blind, as we have seen. What
# would be blind without positions is attention that sees everything: BERT, the
# Transformer's encoder, vision Transformers.
#
# ## Exercises
#
# **1. Warm-up.** A reader without positions, mask or special tokens, with a mean on
# top. Which of these can it compute, if it is large enough?

# %%
knows = ...  # {"length": True or False, "share of 我": …, "first word": …,
#              "most frequent word": …, "a word twice in a row": …}
check.bag_knows(knows)

# %% tags=["hide-cell"]
knows = {
    "length": False,  # a text that is written twice looks the same
    "share of 我": True,
    "first word": False,
    "most frequent word": True,
    "a word twice in a row": False,
}
check.bag_knows(knows)

# %% [markdown]
# **2. To both sides.** Let `pe = sinusoidal(torch.arange(L), d)`. Write `look(k, d)`: a
# matrix $M$ (d, d) such that row $i$ of the scores `pe @ M @ pe.T` is the mean of the
# rows $i - k$ and $i + k$ of the plain product `pe @ pe.T`, wherever both exist.
# `positions.shift` is allowed.

# %%
look = ...  # def look(k, d): …
check.look(look)


# %% tags=["hide-cell"]
def look(k, d):
    return (positions.shift(k, d) + positions.shift(-k, d)) / 2


check.look(look)

# %% [markdown]
# **3. A detector of blindness.** Write `order_error(f, x, order)`: f maps token vectors
# (L, D) to (L, D′), x is (L, D), order is a permutation (L,) of the places, so that
# $PX$ is `x[order]`. Return the largest absolute difference between $f(PX)$ and
# $Pf(X)$, a number: zero for blind functions.

# %%
order_error = ...  # def order_error(f, x, order): …
check.order_error(order_error)


# %% tags=["hide-cell"]
def order_error(f, x, order):
    return (f(x[order]) - f(x)[order]).abs().max()


check.order_error(order_error)

# %% [markdown]
# ## In short
#
# Self-attention adds up what it sees, and a sum has no order: shuffle the tokens and
# the outputs are shuffled with them, nothing else. With a mean on top, the reader knows
# a bag of words, up to its size; on the question what came first it is right exactly
# half of the time. A causal mask does not move with the tokens, and so breaks the
# symmetry: what a token sees is what came before, and with a token to begin with, a
# mean tells how many. A vector for the place, added to the token, lets attention look
# at places; a trained model has a head that does little else, in texts as long as those
# it was trained on.
#
# Next: [which vectors](02_absolute), and why they turn like the hands of a clock.
