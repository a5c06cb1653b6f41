# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The forward algorithm and Viterbi
#
# Fifty characters, nine tags: the sentence has $9^{50}$ taggings, a number with 48
# digits. To train a conditional random field one adds *all of them* up, for every
# sentence, at every step; to use it one finds the best of them. Each takes about four
# thousand small additions. How is that possible, and what else falls out of the sum
# once one has it? At the end of this page you can
#
# - add up all paths of a chain and find the best one, by hand and in ten lines, with a
#   batch, masks, start and end scores;
# - say why the best path can have two per cent of the probability, and why the best tag
#   at each position can add up to a path that is impossible;
# - derive the gradient of the loss in two lines, *expected minus observed*, and read
#   what the second derivative says;
# - explain why writing this gradient down makes a CRF layer several times faster, and
#   the gradient itself more exact.
#
# You need [from HMM to CRF](01_from_hmm_to_crf) and, from
# [learning](../00_tensors/03_learning), softmax and cross-entropy.

# %% tags=["hide-input"]
import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils import crf, hmm
from utils.exercises import crf as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    close,
    figures,
    notes_say,
    pretrained,
    records,
    same,
    settle,
    settle_all,
    show,
)
from utils.lab.figures import COLOURS, plt
from utils.lab.timing import Timings

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "crf-loss-ratio",
    "crf-emission-distribution",
    "crf-gold-highest",
    "crf-training-updates-transition",
    "crf-transition-matrix",
)

# %% [markdown]
# ## By hand: three characters, twenty-seven paths
#
# 王明来 is either a sentence, Wang Ming comes, or a name, Wang Minglai. We tag each
# character with B (a name begins), I (it goes on) or O (outside of names), so the
# sentence is B I O and the name is B I I.
#
# A CRF gives every path a score. Scores add; by hand it is easier to multiply, so here
# is $e^{\text{score}}$ of each part, with the tags in the order O, B, I. First, how
# well a tag suits a character, the *{term}`emissions 发射分数 <emission score>`*:
#
# | | O | B | I |
# |---|---|---|---|
# | 王 | 2 | 6 | 1 |
# | 明 | 1 | 1 | 3 |
# | 来 | 5 | 1 | 2 |
#
# And how well a tag (column) follows another (row), the *{term}`transitions 转移矩阵
# <transition matrix>`*:
#
# | from | O | B | I |
# |---|---|---|---|
# | **O** | 2 | 1 | 1 |
# | **B** | 1 | 1 | 4 |
# | **I** | 1 | 1 | 2 |
#
# The *weight* of a path is the product of what it passes: B I O has
# $6 \cdot 4 \cdot 3 \cdot 1 \cdot 5 = 360$. Here are all $3^3 = 27$ *paths* (路径):

# %%
tags, line = "OBI", "王明来"
emit = np.array([[2, 6, 1], [1, 1, 3], [5, 1, 2]])
step = np.array([[2, 1, 1], [1, 1, 4], [1, 1, 2]])

weight = {}
for path in itertools.product(range(3), repeat=3):
    w = math.prod(emit[t, tag] for t, tag in enumerate(path))
    w *= math.prod(step[pair] for pair in itertools.pairwise(path))
    weight["".join(tags[tag] for tag in path)] = int(w)
ranked = sorted(weight.items(), key=lambda item: -item[1])
for row in range(9):
    print("     ".join(f"{path} {w:4}" for path, w in ranked[row::9]))
Z = sum(weight.values())
print(f"Z = {Z}; p(BIO) = 360/{Z} = {360 / Z:.3f}, p(BII) = {288 / Z:.3f}")
illegal = [path for path in weight if "OI" in "O" + path]
share = sum(weight[path] for path in illegal) / Z
print(f"{len(illegal)} paths let a name go on that never began: {share:.3f}")

# %% [markdown]
# The sum over all paths is called $Z$, the
# {term}`partition function 配分函数 <partition function>`, and a weight divided by it is a
# probability. Two observations to keep. The best path has a third of the probability:
# **best does not mean likely.** And fourteen of the twenty-seven are nonsense, such as
# an I after an O. Nobody has forbidden them, so they get a share.
#
# ## In general
#
# For $L$ characters and $K$ tags let $e_t(k)$ be the emission scores $(L, K)$,
# $T_{ij}$ the transition scores $(K, K)$ from $i$ to $j$, and $a_k$, $b_k$ $(K)$
# scores for starting and for ending with a tag, which were zero above. Then, as in
# {eq}`eq-crf`,
#
# $$
# \begin{aligned}
# s(x, y) &= a_{y_1} + \sum_{t=1}^{L} e_t(y_t) + \sum_{t=2}^{L} T_{y_{t-1} y_t} +
# b_{y_L}, \\
# p(y \mid x) &= \frac{e^{s(x, y)}}{Z(x)}, \qquad Z(x) = \sum_{y'} e^{s(x, y')} .
# \end{aligned}
# $$ (eq-path)
#
# That is a softmax with $K^L$ classes, one for each path, and its loss is the
# cross-entropy of [learning](../00_tensors/03_learning):
#
# $$
# \ell = -\log p(y \mid x) = \log Z(x) - s(x, y) .
# $$ (eq-nll)
#
# $s$ is a sum of $2L + 1$ numbers. The trouble is $\log Z$, for two reasons: the sum
# has too many terms, and the terms do not fit into a computer's numbers.
#
# ## Numbers that vanish
#
# Multiply probabilities for 2,000 characters, ½ each; then add two such products, which
# should give $2 \cdot 2^{-2000} = 2^{-1999}$:

# %%
for dtype in (torch.float32, torch.float64):
    product, steps = torch.tensor(1.0, dtype=dtype), 0
    while product > 0:
        product, steps = product / 2, steps + 1
    print(f"{str(dtype):14} ½ · ½ · … is 0 after {steps} factors")
low = torch.tensor([-2000.0, -2000.0]) * math.log(2)
print("log of a sum of two such products, plain: ", low.exp().sum().log().item())
print("and with the largest taken out first:      ", end="")
print(round(torch.logsumexp(low, 0).item() / math.log(2), 3), "· log 2")

# %% [markdown]
# Therefore one computes with logarithms. Products become sums, and a sum becomes
# *log-sum-exp*, taken with the largest term in front of the bracket, as the softmax of
# [learning](../00_tensors/03_learning) was:
#
# $$
# \log \sum_i e^{z_i} = m + \log \sum_i e^{z_i - m}, \qquad m = \max_i z_i .
# $$ (eq-logsumexp)
#
# ## The forward algorithm
#
# Now the number of terms. All paths that pass through 明 as I have the same future.
# Whatever they did before, their weights can be added *before* they go on together,
# since $ab + ac = a(b + c)$. So keep one number per tag, the sum of the weights of all
# paths that end there, and carry it one character further:
#
# $$
# \text{明 as I:}\quad (\underbrace{2}_{\text{O}} \cdot 1 + \underbrace{6}_{\text{B}}
# \cdot 4 + \underbrace{1}_{\text{I}} \cdot 2) \cdot 3 = 84 .
# $$

# %%
alpha = [emit[0]]
for t in (1, 2):
    alpha.append((alpha[-1] @ step) * emit[t])
for character, row in zip(line, alpha, strict=True):
    print(character, dict(zip(tags, row.tolist(), strict=True)))
assert alpha[-1].sum() == Z
print("sum of the last row:", alpha[-1].sum(), "= Z, without listing a single path")


# %% tags=["hide-input"]
def lattice(ax, values, texts, line, edges=(), bold=(), tags="OBI"):
    """Nodes (L, K) coloured by values in [0, 1]; edges {(t, i, j): width}."""
    L, K = values.shape
    for (t, i, j), width in dict(edges).items():
        on = (t, i, j) in bold
        colour = COLOURS["vermilion"] if on else "#999999"
        ax.plot([t, t + 1], [-i, -j], color=colour, lw=width, zorder=1)
    for t, k in np.ndindex(L, K):
        shade = plt.cm.Blues(0.05 + 0.6 * values[t, k])
        ax.plot(t, -k, "o", ms=27, mfc=shade, mec="#555555", zorder=2)
        ax.text(t, -k, texts[t][k], ha="center", va="center", size=8, zorder=3)
    for t, character in enumerate(line):
        ax.text(t, 0.62, character, ha="center", va="center", size=12)
    ax.set(xlim=(-0.45, L - 0.55), ylim=(-K + 0.5, 0.9), xticks=[])
    ax.set_yticks(-np.arange(K), tags)
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)


# %% mystnb={"figure": {"caption": "The lattice (\u7f51\u683c) of \u738b\u660e\u6765, filled in from left to right, at its second and third step. Each node holds the sum of the weights of all paths that end in it; its colour is its share of the column. Lines are the transitions of the present step, as thick as what flows through them. The last column adds up to Z = 1109.", "name": "fig-lattice"}, "image": {"alt": "Two copies of a grid of three characters by three tags. Left, nine lines lead from the first column, 2, 6, 1, to the second, 11, 9, 84; the thickest goes from B to I. Right, nine lines lead on to the third: 575, 104, 430."}} tags=["hide-input"]
figure, axes = figures.panels(2, width=5.4, height=2.6)
for now, ax in enumerate(axes, 1):
    shares, texts = np.zeros((3, 3)), [[""] * 3 for _ in range(3)]
    for t in range(now + 1):
        shares[t] = alpha[t] / alpha[t].sum()
        texts[t] = [str(value) for value in alpha[t]]
    flow = alpha[now - 1][:, None] * step * emit[now] / alpha[now].sum()
    edges = {(now - 1, i, j): 0.4 + 7 * flow[i, j] for i, j in np.ndindex(3, 3)}
    lattice(ax, shares, texts, line, edges)
plt.show()

# %% [markdown]
# In logarithms, and with $a$ and $b$, that is the
# *{term}`forward algorithm 前向算法 <forward algorithm>`*:
#
# $$
# \begin{aligned}
# \alpha_1(j) &= a_j + e_1(j), \\
# \alpha_t(j) &= e_t(j) + \log \sum_i e^{\alpha_{t-1}(i) + T_{ij}}, \\
# \log Z &= \log \sum_j e^{\alpha_L(j) + b_j} .
# \end{aligned}
# $$ (eq-forward)
#
# Line by line the same in code. `plus` is log-sum-exp; that it is an argument will pay
# off soon.


# %%
def chain(emissions, start, transitions, end, plus=torch.logsumexp):
    """Equation eq-forward for one sequence (L, K)."""
    alpha = start + emissions[0]  # (K,)
    for emission in emissions[1:]:
        alpha = plus(alpha[:, None] + transitions, 0) + emission  # (K, K) → (K,)
    return plus(alpha + end, 0)


# %% tags=["hide-input"]
def every_path(emissions, start, transitions, end):
    """The scores of all K^L paths, one by one: the oracle."""
    L, K = emissions.shape
    paths = torch.tensor(list(itertools.product(range(K), repeat=L)))  # (K^L, L)
    scores = start[paths[:, 0]] + end[paths[:, -1]]
    scores = scores + emissions[torch.arange(L), paths].sum(1)
    return paths, scores + transitions[paths[:, :-1], paths[:, 1:]].sum(1)


def draw(L, K, seed, scale=1.0):
    """Emissions, start, transitions and end, normally distributed."""
    rng = np.random.default_rng(seed)
    shapes = (L, K), (K,), (K, K), (K,)
    return [torch.tensor(rng.normal(0, scale, shape)) for shape in shapes]


# %%
zero = torch.zeros(3, dtype=torch.double)
e, T = torch.tensor(emit).double().log(), torch.tensor(step).double().log()
hand = e, zero, T, zero
assert abs(chain(*hand) - math.log(1109)) < 1e-12
model = draw(L=4, K=3, seed=0)
paths, scores = every_path(*model)
log_z, listed = chain(*model), torch.logsumexp(scores, 0)
print(f"{len(paths)} paths listed; differs by less than 1e-12:", end=" ")
print(bool(abs(log_z - listed) < 1e-12))
for L, K in [(4, 3), (50, 9)]:
    print(f"L = {L}, K = {K}: {K**L:.3g} paths, {(L - 1) * K * K} transitions")

# %% [markdown]
# $(L-1)K^2$ additions in place of $K^L$: exact, not an approximation.
#
# Three things make this a layer. A batch: one more axis. Sequences of different
# lengths: a *mask*; where a sequence is over, its row is carried on unchanged. And the
# loop over time stays, since each step needs the one before.

# %%
show(crf.forward_scores, crf.log_partition_in_logs)

# %% tags=["hide-input"]
e3, *scores_of = draw(L=6, K=5, seed=1)
batch = torch.stack([e3, e3.flip(0), e3 + 1], 1)  # (L, B, K)
lengths = torch.tensor([6, 1, 4])
mask = torch.arange(6)[:, None] < lengths  # (L, B)
batch[~mask] = 1e3  # rubbish on the pads
together = crf.log_partition_in_logs(batch, mask, *scores_of)
alone = torch.stack([chain(batch[:n, b], *scores_of) for b, n in enumerate(lengths)])
assert (together - alone).abs().max() < 1e-12
print("three sequences of 6, 1 and 4 characters, together = one by one")

# %% [markdown]
# ## The loss: a ratio, and its logarithm
#
# The notes say that the loss is the score of the true path divided by that of all
# paths. That quotient (of weights; scores do not divide) is $p(y \mid x)$, and whoever
# *minimises* it makes the true path less likely. Could one maximise it? Its slope is
# $p$ times the slope of $\log p$. An untrained tagger of 20 characters and 9 tags gives
# the truth about $9^{-20}$, and so small is the slope: gradient ascent would not leave
# the spot. The logarithm has no such factor. We let emissions run downhill on three
# objectives, $p$ as the notes say, $-p$, and $-\log p$: for 王明来 with the truth B I O,
# where $-p$ works too, and for 20 characters, where it does not move.


# %%
def descend(objective, emissions, scores, gold, steps=300, rate=0.5):
    """p(gold) before and after a descent of objective(log p) over the emissions."""
    emissions, chances = emissions.clone(), []
    mask = torch.ones_like(gold).bool()
    for _ in range(steps + 1):
        emissions.requires_grad_()
        log_z = crf.log_partition(emissions, mask, *scores)
        log_p = crf.path_scores(emissions, gold, mask, *scores) - log_z
        chances.append(log_p.exp().item())
        (slope,) = torch.autograd.grad(objective(log_p).sum(), emissions)
        emissions = (emissions - rate * slope).detach()
    return chances[0], chances[-1]


blank = [torch.zeros(shape, dtype=torch.double) for shape in ((20, 1, 9), 9, (9, 9), 9)]
tasks = {
    "王明来": (e[:, None], [zero, T, zero], torch.tensor([[1], [2], [0]])),
    "20 characters": (blank[0], blank[1:], torch.arange(20)[:, None] % 9),
}
objectives = {"p": torch.exp, "−p": lambda v: -v.exp(), "−log p": lambda v: -v}
reached = {}
for task, given in tasks.items():
    for name, objective in objectives.items():
        before, reached[task, name] = descend(objective, *given)
        found = approx(reached[task, name], 0, 1)
        print(f"{task}: p(truth) {approx(before, 0, 1)}, minimising {name:6} → {found}")

# %%
settle(
    "crf-loss-ratio",
    close(log_z, listed, 1e-9),
    close(chain(*hand).exp(), Z, 1e-9),
    below(reached["王明来", "p"], 0.01),
    above(reached["王明来", "−log p"], 0.95),
    close(9**20 * reached["20 characters", "−p"], 1, 1e-6),
    above(reached["20 characters", "−log p"], 0.5),
    note="as a loss the ratio drives the truth out; turned round, it does not start",
)

# %% [markdown]
# ## What goes in: scores, not probabilities
#
# Where do emissions come from? From any network that looks at the text. BERT gives each
# token a *hidden vector*, and a linear layer turns that into $K$ scores
# {cite}`lample2016neural`. (Here it is MiniLM, the small English BERT of this course,
# under a linear layer that nobody has trained; any would do.) Neither is a distribution
# over the tags, and the notes' phrase invites a mistake: a softmax before the CRF. It
# seems harmless, so let us look. Adding a number to all scores of a position multiplies
# all paths by the same factor and changes nothing; so *log*-softmax, which subtracts a
# number, is harmless. Softmax itself is not: it squeezes all scores between 0 and 1.

# %%
encoder, tokenizer = pretrained.encoder()
with torch.no_grad():
    hidden = encoder(**tokenizer("Wang Ming comes", return_tensors="pt"))
hidden = hidden.last_hidden_state[0].double()  # (L, 384)
torch.manual_seed(0)
logits = 4 * nn.Linear(hidden.shape[1], 9).double()(hidden).detach()  # (L, 9)
layer = crf.CRF(9, batch_first=True).double()
gold = logits.argmax(1)[None]


def nll(emissions):
    return -layer(emissions[None], gold).item()


sure = F.one_hot(torch.arange(9), 9).double()  # nine positions, no doubt at any
free = crf.CRF(9, batch_first=True).double()
nn.init.zeros_(free.transitions), nn.init.zeros_(free.start_transitions)
nn.init.zeros_(free.end_transitions)
believed = free.marginals(sure[None])[0].diagonal()

# %%
settle(
    "crf-emission-distribution",
    below(hidden.min(), 0),
    close(nll(logits), nll(logits.log_softmax(1)), 1e-9),
    apart(nll(logits), nll(logits.softmax(1)), 0.1),
    close(believed, np.full(9, math.e / (math.e + 8)), 1e-12),
    note="the last line is the CRF's belief in tags of which a softmax is certain",
)

# %% [markdown]
# The last line is worth a second look. Between two tags at one position, probabilities
# can differ by at most 1, so **one character can change the odds of two paths by at
# most a factor $e$**, however sure the network is. Nine tags, no transitions, a network
# that is certain: the CRF believes it with $e/(e+8)$, a quarter. A single transition
# score above 1 outvotes the best classifier in the world.
#
# ## The best path
#
# To decode, one wants the path with the highest score. All paths through a node have
# the same future, so only the best of them can be part of the best whole. That is the
# argument from above with another operation: *maximum in place of sum*. It needs that
# $\max(a + b, a + c) = a + \max(b, c)$, as the forward algorithm needs
# $ab + ac = a(b + c)$, and sums that may be regrouped. Whatever pair of operations
# obeys these laws (a *semiring*, 半环) runs along the chain:


# %%
best_score = chain(*hand, plus=torch.amax)
print("best weight:", round(best_score.exp().item()))
nothing = torch.zeros(3, 3, dtype=torch.double)
count = chain(nothing, zero, nothing, zero)  # every path weighs 1
print("number of paths:", round(count.exp().item()))
legal = torch.tensor([[0, 0, -math.inf], [0, 0, 0], [0, 0, 0]]).double()
no_start = torch.tensor([0, 0, -math.inf]).double()
for L in range(1, 8):
    count = chain(torch.zeros(L, 3).double(), no_start, legal, zero)
    print(round(count.exp().item()), end=" ")

# %% [markdown]
# (The last line counts the legal BIO paths of 1, 2, 3, … characters. You may have met
# these numbers elsewhere: they are every second one of Fibonacci's.)
#
# To know the path and not only its score, note at every node which tag the best way
# came from, and walk back from the end. This is
# *{term}`Viterbi's algorithm 维特比算法 <Viterbi decoding>`*. 明 as I gets
# $\max(2 \cdot 1,\ 6 \cdot 4,\ 1 \cdot 2) \cdot 3 = 72$:

# %%
best, came_from = emit[0], []
for t in (1, 2):
    ways = best[:, None] * step  # from the row's tag to the column's
    came_from.append(ways.argmax(0))
    best = ways.max(0) * emit[t]
    from_ = [tags[k] for k in came_from[-1]]
    rows = zip(tags, best, from_, strict=True)
    print(line[t], *(f"{k} {w} from {f};" for k, w, f in rows))
back = [int(best.argmax())]
for row in reversed(came_from):
    back.append(int(row[back[-1]]))
print("walked back:", " ← ".join(tags[k] for k in back))
assert [tags[k] for k in back] == ["O", "I", "B"]

# %% [markdown]
# In logarithms, for one sequence, that is the function which cut Chinese into words on
# [page 1](01_from_hmm_to_crf). The version for batches is folded. Keep the $k$ best
# ways into each node instead of one, and the $k$ best paths come out.

# %%
show(hmm.viterbi)

# %% tags=["hide-output"]
show(crf.viterbi)

# %%
layer = crf.CRF(3).double()
with torch.no_grad():
    for parameter in layer.parameters():
        parameter.zero_()
    layer.transitions.copy_(T)
for path, score in layer.k_best(e[:, None], k=4)[0]:
    name = "".join(tags[tag] for tag in path)
    print(f"{name}: weight {math.exp(score):.0f}")
    assert weight[name] == round(math.exp(score))
assert layer.decode(e[:, None]) == [[1, 2, 0]]

# %% [markdown]
# Viterbi gives the best path, not a likely one. How likely is it? We draw chains at
# random, with nine tags and emissions so clear that on average the likeliest tag of a
# character has nine tenths of the probability, and let them grow.

# %% tags=["hide-input"]
lengths, draws = [5, 10, 20, 40, 80], 40
rng = np.random.default_rng(2)
layer9 = crf.CRF(9, batch_first=True).double()
with torch.no_grad():
    layer9.transitions.copy_(torch.tensor(rng.normal(size=(9, 9))))
emissions = torch.tensor(rng.normal(0, 12, (draws, max(lengths), 9)))
best_of = {}
for L in lengths:
    cut = emissions[:, :L]
    path = torch.tensor(layer9.decode(cut))
    best_of[L] = layer9(cut, path, reduction="none").exp().detach().numpy()
many = layer9.k_best(emissions[:1, :40], k=300)[0]
log_z40 = layer9.log_partition(emissions[:1, :40]).item()
covered = np.cumsum([math.exp(score - log_z40) for _, score in many])

# %% mystnb={"figure": {"caption": "Left: probability of the best path of random chains with nine tags, by length; a dot for each of 40 chains, and their median. Right: what the 300 best paths of one chain of 40 characters have together.", "name": "fig-best-path"}, "image": {"alt": "Left, on a logarithmic axis, clouds of dots that fall with the length, with a median from above one half at 5 characters to below one in a thousand at 80. Right, a rising, flattening curve from one tenth at the best path to nearly nine tenths at 300."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2)
for place, chances in enumerate(best_of.values()):
    left.plot(np.full(draws, place), chances, ".", color=COLOURS["sky"], alpha=0.6)
left.plot([np.median(c) for c in best_of.values()], "ko-")
left.set(xlabel="characters", ylabel="p(best path)", yscale="log")
left.set_xticks(range(len(lengths)), lengths)
right.plot(range(1, 301), covered)
right.set(xlabel="best paths taken together", ylabel="probability", ylim=(0, 1))
plt.show()

# %% tags=["hide-input"]
clear = layer9.marginals(emissions).amax(2).mean()
print("likeliest tag of a character, mean probability:", approx(clear, 0.88, 0.95))
for (L, chances), low in zip(
    best_of.items(), (0.4, 0.2, 0.05, 0.01, 1e-4), strict=True
):
    middle = approx(np.median(chances), low, 10 * low)
    print(f"{L:2} characters, median probability of the best path: {middle}")
print("one chain of 40, its best path:", approx(covered[0], 0.05, 0.2), end="; ")
print("the best 300 together:", approx(covered[-1], 0.7, 0.95))

# %% [markdown]
# At 40 characters the median is two per cent. The probability of being right everywhere
# falls geometrically with the length, while
# the path stays the best of all. It is the best in the way of the most common name in a
# country. Whoever wants to know how far to trust a span must not ask for the
# probability of the path.
#
# ### Is the true path the best?
#
# The notes say that the true path has the highest score of all. It is the aim of
# training, not a property of the model: a new model has never heard of the truth. And
# it is not always reachable. Ten annotators read 王明来了; six tag B I O O (Wang Ming has
# come), four B I I O (Wang Minglai, and then a particle). Each of the four is a true
# path, too.

# %%
A, B = torch.tensor([[1, 2, 0, 0]]), torch.tensor([[1, 2, 2, 0]])
annotated = torch.cat([A.expand(6, 4), B.expand(4, 4)])
torch.manual_seed(0)
layer = crf.CRF(3, batch_first=True).double()
learnt = nn.Parameter(torch.zeros(1, 4, 3, dtype=torch.double))
optimiser = torch.optim.Adam([learnt, *layer.parameters()], lr=0.1)
spread = []  # probabilities of all 81 paths before and after
for step_number in range(401):
    if step_number in (0, 400):
        everything = every_path(learnt[0], *layer._scores(learnt))[1]
        spread.append(everything.softmax(0).detach())
    loss = -layer(learnt.expand(10, 4, 3), annotated, reduction="mean")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

# %% mystnb={"figure": {"caption": "The eight most probable of the 81 taggings of \u738b\u660e\u6765\u4e86, before training and after training on ten annotations, six of A = BIOO and four of B = BIIO. The four were right in their way, and stay second.", "name": "fig-81-paths"}, "image": {"alt": "Two bar charts of eight bars. Left, all bars are equally small, and neither A nor B is among them. Right, only two bars are left, BIOO at 0.6 and BIIO at 0.4."}} tags=["hide-input"]
figure, axes = figures.panels(2, width=6.8, sharey=True)
paths = list(itertools.product(range(3), repeat=4))
names = ["".join(tags[k] for k in path) for path in paths]
colours = {"BIOO": COLOURS["blue"], "BIIO": COLOURS["vermilion"]}
for ax, chances, title in zip(axes, spread, ("before", "after"), strict=True):
    order = chances.argsort(descending=True)[:8].tolist()
    shown = [names[k] for k in order]
    ax.bar(range(8), chances[order], color=[colours.get(n, "#bbbbbb") for n in shown])
    ax.set_xticks(range(8), shown, rotation=60, fontsize=8)
    ax.set(title=title)
axes[0].set_ylabel("probability")
plt.show()

# %%
place = [names.index("BIOO"), names.index("BIIO")]
rank_of_A = 1 + (spread[0] > spread[0][place[0]]).sum()
settle(
    "crf-gold-highest",
    above(rank_of_A, 1),
    same(layer.decode(learnt)[0], A[0].tolist()),
    close(spread[1][place[0]], 0.6, 0.01),
    close(spread[1][place[1]], 0.4, 0.01),
    note="A: six annotators, B: four; B is the truth in four cases and never the best",
)

# %% [markdown]
# The model has learnt the right thing: probabilities, 60 to 40. Comparing the best path
# with the truth is not the loss; it is the *evaluation*, afterwards.
#
# ## How sure is each tag?
#
# Count how much weight passes through a node: the sum of all ways that lead to it,
# $\alpha$, times the sum of all ways that lead on from it. The second is $\beta$, the
# same recursion from the right:
#
# $$
# \begin{aligned}
# \beta_L(i) &= b_i, \\
# \beta_t(i) &= \log \sum_j e^{T_{ij} + e_{t+1}(j) + \beta_{t+1}(j)}, \\
# p(y_t = i \mid x) &= e^{\alpha_t(i) + \beta_t(i) - \log Z} .
# \end{aligned}
# $$ (eq-marginal)
#
# These are the *{term}`marginals 边缘概率 <marginal>`*, and the two passes together are
# the *forward–backward algorithm* (前向后向算法). For 王明来 they are whole numbers over
# 1109 again.

# %%
one = torch.ones(3, 1, dtype=torch.bool)  # the mask of one sequence, all on
alphas = crf.forward_scores(e[:, None], one, zero, T)[:, 0]
betas = crf.backward_scores(e[:, None], one, T, zero)[:, 0]
through = (alphas + betas).exp()
print(through.round().int().tolist())
listed = [
    [sum(w for path, w in weight.items() if path[t] == tag) for tag in tags]
    for t in range(3)
]
assert through.round().int().tolist() == listed
marginals = through / Z

# %% [markdown]
# And now a trap. To tag, why not take the most probable tag at each position? It is
# even the best thing to do if one counts single characters: no other tagging has as
# many right ones *on average*. Suppose a model knows three taggings of two characters:
# O O with probability 0.35, O B with 0.25, B I with 0.40.

# %%
few = {"OO": 0.35, "OB": 0.25, "BI": 0.40}
forbidden = torch.full((3, 3), crf.FORBIDDEN, dtype=torch.double)
for (i, j), chance in few.items():
    forbidden[tags.index(i), tags.index(j)] = math.log(chance)
small = crf.CRF(3, batch_first=True).double()
with torch.no_grad():
    small.start_transitions.zero_(), small.end_transitions.zero_()
    small.transitions.copy_(forbidden)
nowhere = torch.zeros(1, 2, 3, dtype=torch.double)
each = small.marginals(nowhere)[0]
for t in range(2):
    print({tag: round(p.item(), 2) for tag, p in zip(tags, each[t], strict=True)})
per_position = "".join(tags[k] for k in each.argmax(1))
best = "".join(tags[k] for k in small.decode(nowhere)[0])
for name in (best, per_position):
    right = sum(each[t, tags.index(tag)].item() for t, tag in enumerate(name))
    path = torch.tensor([[tags.index(tag) for tag in name]])
    chance = small(nowhere, path).exp().item()
    print(f"{name}: probability {chance:.2f}, expected right: {right:.2f}")
assert (per_position, best) == ("OI", "BI")

# %% [markdown]
# At the first character O wins, 0.60 to 0.40; at the second I, with 0.40. Together that
# is O I, a name that goes on without having begun: **the most probable tags form a path
# of probability zero.** It has more right characters on average than Viterbi's, and it
# is never right. Neither answer is wrong; they answer different questions.
#
# ## The gradient: expected minus observed
#
# Training needs the slopes of equation {eq}`eq-nll`. Take any score $\theta$ of the
# model, an emission or a transition, and let $n_\theta(y)$ be how often the path $y$
# uses it. Then $\partial s / \partial \theta = n_\theta(y)$, and
#
# $$
# \begin{aligned}
# \frac{\partial \log Z}{\partial \theta}
# &= \frac{1}{Z} \sum_{y'} e^{s(x, y')}\, n_\theta(y')
# = \sum_{y'} p(y' \mid x)\, n_\theta(y') = \mathbb{E}[n_\theta], \\
# \frac{\partial \ell}{\partial \theta} &= \mathbb{E}[n_\theta] - n_\theta(y) .
# \end{aligned}
# $$ (eq-expected)
#
# *Expected minus observed*, the sentence of [learning](../00_tensors/03_learning)
# again. For an emission $e_t(k)$ the expected count is a marginal. So **the gradient of
# $\log Z$ is the marginals**: backpropagation through the forward algorithm *is* the
# backward algorithm {cite}`eisner2016inside`. Autograd does not know the first thing
# about chains; watch it:

# %%
leaves = [t.clone().requires_grad_() for t in hand]
chain(*leaves).backward()
assert (leaves[0].grad - marginals).abs().max() < 1e-12
print("autograd's gradient of log Z = forward–backward, to 1e-12")
gold = F.one_hot(torch.tensor([1, 2, 0]), 3)  # B I O
slope = marginals - gold
print(
    f"slope of the loss at 王 as B: {listed[0][1]}/{Z} − 1 = {slope[0, 1].item():.4f}"
)

# %% mystnb={"figure": {"caption": "Left: the lattice of \u738b\u660e\u6765 with its marginals; lines are as thick as the probability of the step, the best path is red. Right: the gradient of the loss for the truth B I O. Gradient descent raises the blue fields and lowers the red ones; what is right already gets little attention.", "name": "fig-gradient"}, "image": {"alt": "Left, a grid of nine nodes with probabilities; B at the first, I at the second and O at the third character are darkest, I at the third is not much lighter. Right, a heat map of three characters by three tags; the strongest fields are O and I at the third character, with opposite signs."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, width=7.0, height=2.6)
probability = marginals.numpy()
pairs = {}
for t, i, j in np.ndindex(2, 3, 3):
    flow = alphas[t, i] + T[i, j] + e[t + 1, j] + betas[t + 1, j]
    pairs[t, i, j] = 0.3 + 7 * math.exp(flow) / Z
texts = [[f"{p:.2f}" for p in row] for row in probability]
lattice(left, probability, texts, line, pairs, bold=[(0, 1, 2), (1, 2, 0)])
image = figures.heat(right, slope.T, tags, line, "+.2f", cmap="RdBu_r")
image.set_clim(-1, 1)
for text in right.texts:
    text.set_color("black")
figure.colorbar(image, ax=right, label="slope")
plt.show()

# %%
figures.digest("slopes of the loss", slope)

# %% [markdown]
# ### Who learns from it?
#
# The notes say that training updates the transition matrix. It does; but the emissions
# have slopes as well, and they hand them on to whatever network made them. We check the
# gradient against the list of 27 paths, then train on a toy language of 3 tags that
# like to follow one another in a circle. Each tag has four words of its own, but three
# words in ten are taken from the first tag's four. We train once the CRF alone over a
# fixed random network, once both.

# %%
layer = crf.CRF(3).double()
with torch.no_grad():
    for parameter, score in zip(layer.parameters(), (zero, zero, T), strict=True):
        parameter.copy_(score)
leaf = e[:, None].clone().requires_grad_()
(-layer(leaf, torch.tensor([[1], [2], [0]]))).backward()
expected = np.zeros((3, 3))
for path, w in weight.items():
    for i, j in itertools.pairwise(path):
        expected[tags.index(i), tags.index(j)] += w / Z
observed = np.zeros((3, 3))
observed[1, 2] = observed[2, 0] = 1  # B → I → O

# %% tags=["hide-input"]
rng = np.random.default_rng(4)
moves = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
y = np.zeros((60, 8), dtype=int)
for t in range(1, 8):
    y[:, t] = [rng.choice(3, p=moves[k]) for k in y[:, t - 1]]
x = torch.tensor(
    np.where(rng.random((60, 8)) < 0.7, 4 * y, 0) + rng.integers(4, size=y.shape)
)
y = torch.tensor(y)


# %%
def fit(whole, steps=150):
    """Loss per sentence before and after, and how far the network moved."""
    torch.manual_seed(0)
    network, layer = nn.Embedding(12, 3), crf.CRF(3, batch_first=True)
    first, network.weight.requires_grad = network.weight.detach().clone(), whole
    trained = [p for m in (network, layer) for p in m.parameters() if p.requires_grad]
    optimiser, losses = torch.optim.Adam(trained, lr=0.1), []
    for _ in range(steps):
        loss = -layer(network(x), y, reduction="mean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    moved = (network.weight - first).abs().max().item()
    return losses[0], losses[-1], moved


# %%
start_loss, chain_only, still = fit(whole=False)
_, together, moved = fit(whole=True)
for name, value in {
    "before": start_loss,
    "CRF alone": chain_only,
    "both": together,
}.items():
    print(f"loss per sentence, {name:9}", approx(value, 0, 40))

# %%
settle(
    "crf-training-updates-transition",
    close(leaf.grad[:, 0], marginals - gold, 1e-12),
    close(layer.transitions.grad, expected - observed, 1e-12),
    above(start_loss - chain_only, 1),
    same(still, 0.0),
    above(moved, 0.5),
    above(chain_only - together, 1),
    note="with the network frozen the chain alone learns; together both do, and better",
)

# %% [markdown]
# ### The second derivative
#
# Differentiate equation {eq}`eq-expected` once more. By the same two lines,
#
# $$
# \frac{\partial^2 \log Z}{\partial \theta\, \partial \phi}
# = \mathbb{E}[n_\theta n_\phi] - \mathbb{E}[n_\theta]\,\mathbb{E}[n_\phi]
# = \operatorname{Cov}(n_\theta, n_\phi) .
# $$ (eq-covariance)
#
# The slope of $\log Z$ is a mean, its curvature a covariance (协方差). Two consequences. A
# covariance matrix has no negative eigenvalue, so $\log Z$ is *convex* in the scores,
# and a CRF on fixed features has one valley only: the [next page](03_training_a_tagger)
# lives on that. And $\operatorname{Cov}$ is the change of one marginal when another
# score moves: how far a piece of evidence is heard. $d$ characters multiply by the
# matrix $e^T$ $d$ times, if the emissions are equal; whatever one starts from, the
# direction of its largest eigenvalue $\lambda_1$ takes over, and what still tells two
# starts apart shrinks by $\lambda_2 / \lambda_1$ a step. Far from the ends, influence
# falls with the distance $d$ like $|\lambda_2 / \lambda_1|^d$, the ratio of its two
# largest eigenvalues.

# %%
hessian = torch.autograd.functional.hessian(lambda s: chain(s, zero, T, zero), e)
hessian = hessian.reshape(9, 9)
paths, scores = every_path(*hand)
uses = F.one_hot(paths, 3).reshape(27, 9).double()  # n of each emission, path by path
p = scores.softmax(0)
covariance = uses.T @ (p[:, None] * uses) - torch.outer(p @ uses, p @ uses)
assert (hessian - covariance).abs().max() < 1e-12
print("Hessian of log Z = covariance over 27 paths, to 1e-12;", end=" ")
print(
    "least eigenvalue above −1e-12:", bool(torch.linalg.eigvalsh(hessian)[0] > -1e-12)
)

# %% tags=["hide-input"]
L = 41
flat = torch.zeros(L, 3, dtype=torch.double, requires_grad=True)
(slopes,) = torch.autograd.grad(chain(flat, zero, T, zero), flat, create_graph=True)
(heard,) = torch.autograd.grad(slopes[L // 2, 0], flat)  # what moves p(middle = O)
influence = heard.abs().amax(1)[L // 2 :].numpy()
eigenvalues = np.sort(np.abs(np.linalg.eigvals(step)))[::-1]
decay = eigenvalues[1] / eigenvalues[0]
shrinks = (influence[14] / influence[4]) ** 0.1
assert abs(shrinks / decay - 1) < 0.01
print(f"influence per character: × {shrinks:.2f}; |λ₂/λ₁| = {decay:.2f}")

# %% mystnb={"figure": {"caption": "Left: the covariance of the nine emissions\u2019 counts in \u738b\u660e\u6765: how each marginal (row) answers to each score (column). Right: how strongly a score at some distance changes p(O) in the middle of a long chain with the same transitions; the dashed line falls by the ratio of the eigenvalues.", "name": "fig-covariance"}, "image": {"alt": "Left, a nine by nine heat map. The diagonal is red. Within a character tags compete, blue, most of all O and I at the third. Fields of neighbouring characters are pale, those of the first and third nearly white. Right, on a logarithmic axis, dots on a straight falling dashed line."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, width=7.0, height=3.0)
names = [c + tag for c in line for tag in tags]
image = figures.heat(left, covariance, names, names, cmap="RdBu_r")
image.set_clim(-0.25, 0.25)
left.tick_params(axis="x", rotation=90, labelsize=8)
left.tick_params(axis="y", labelsize=8)
figure.colorbar(image, ax=left)
right.semilogy(influence[:15], "o", label="measured")
distance = np.arange(15)
line_ = influence[8] * decay ** (distance - 8.0)
right.semilogy(distance, line_, "k--", lw=1, label="|λ₂/λ₁| per character")
right.set(xlabel="distance in characters", ylabel="largest |Cov|")
right.legend()
plt.show()

# %%
figures.digest("covariances", covariance)

# %% [markdown]
# With transitions like these, a doubt is forgotten after a handful of characters, and
# the chain is a *local* repair of tags; what is to be known of the far end of the
# sentence has to come in with the emissions.
#
# ## Forbidding the impossible
#
# I after O, I at the beginning, I-LOC after B-PER: such paths are not unlikely but
# meaningless, and one may take them out, with a score so low that nothing can make up
# for it. Three places have to be thought of. $T_{\text{O,I}}$ is the one that everybody
# remembers; with several types of names all $T_{\text{B-x,I-y}}$ and
# $T_{\text{I-x,I-y}}$ with $x \ne y$; and the start.

# %%
labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
K, (follows, starts) = len(labels), crf.bio_constraints(labels)
rng = np.random.default_rng(5)
drawn = torch.tensor(rng.normal(0, 2, (300, 10, K)))


def broken(layer):
    """How many of 300 decoded paths are illegal."""
    paths = layer.decode(drawn)
    ok = [starts[p[0]] and follows[p[:-1], p[1:]].all() for p in paths]
    return 300 - sum(map(bool, ok))


layers = {}
for name in ("free", "O to I forbidden", "all steps forbidden", "start, too"):
    torch.manual_seed(0)
    layers[name] = crf.CRF(K, batch_first=True).double()
only = follows.clone()
only[1:] = True  # forbids nothing but the step from O
layers["O to I forbidden"].constrain(only, torch.ones(K).bool())
layers["all steps forbidden"].constrain(follows, torch.ones(K).bool())
layers["start, too"].constrain(follows, starts)
illegal = {name: broken(layer) for name, layer in layers.items()}
print(illegal)

# %% [markdown]
# The notes call the whole structure "one learnable matrix". That holds, with two
# vectors beside it that are easily forgotten, as the third number shows.

# %% tags=["hide-input"]
layer = layers["free"]
a, T5, b = (scores.detach() for scores in layer._scores(drawn))
path = [0, 1, 2, 0, 3, 4, 4, 0, 0, 1]
by_formula = a[path[0]] + b[path[-1]] + sum(drawn[0, t, k] for t, k in enumerate(path))
by_formula = by_formula + sum(T5[i, j] for i, j in itertools.pairwise(path))
settle_all(
    {
        "crf-transition-matrix": [
            same(sum(p.numel() for p in layer.parameters()), K * K + 2 * K),
            close(
                layer.path_score(drawn[:1], torch.tensor([path]))[0], by_formula, 1e-9
            ),
            above(illegal["all steps forbidden"], 0),
            same(illegal["start, too"], 0),
        ]
    }
)

# %% [markdown]
# ## The fast version
#
# Our layer has the interface, the parameters and the state of the library that people
# use, pytorch-crf {cite}`pytorchcrf`. First, that it computes the same: values,
# gradients, best paths, with ragged masks, in all four ways to reduce.

# %%
from torchcrf import CRF as LibraryCRF

torch.manual_seed(1)
ours, theirs = (make(9, batch_first=True).double() for make in (crf.CRF, LibraryCRF))
theirs.load_state_dict(ours.state_dict())
ours.load_state_dict(theirs.state_dict())
emissions = torch.randn(16, 30, 9, dtype=torch.double)
gold = torch.randint(9, (16, 30))
mask = torch.arange(30) < torch.randint(1, 31, (16, 1))
for reduction in ("none", "sum", "mean", "token_mean"):
    found = []
    for layer in (ours, theirs):
        layer.zero_grad()
        leaf = emissions.clone().requires_grad_()
        value = layer(leaf, gold, mask, reduction=reduction)
        (value * torch.linspace(-1, 2, 16)).sum().backward()
        found.append([value, leaf.grad, *(p.grad for p in layer.parameters())])
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(*found, strict=True))
assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)
print("values, all gradients and best paths agree, to 1e-9")

# %% [markdown]
# The library runs the plain recursion and leaves the gradient to autograd. Autograd has
# to keep, for every step, the block of $K \times K$ sums that went into log-sum-exp,
# and to walk through all of them again on the way back. But equation {eq}`eq-expected`
# says what will come out: marginals and expected counts. So we write the gradient down:
#
# - Both passes are the same recursion, one through the mirrored sequence with $T$
#   turned; they run *side by side in one loop*, and when it ends, the gradient is
#   known, before anybody has asked for it.
# - Inside the loop there are no logarithms. With $e^T$ computed once, log-sum-exp is a
#   matrix product, $\alpha_{t-1} e^{T}$, as in the whole numbers of 王明来. Each row is
#   divided by its sum to keep it from vanishing; the logarithms of what was divided out
#   add up to $\log Z$. In speech recognition this was the way of the 1980s
#   {cite}`rabiner1989tutorial`, and CRFsuite {cite}`crfsuite` does the same.
# - To keep: one probability for each character and tag, and $K^2$ counts a sequence.
#
# The price is the exponent's range. Paths fall out silently if all that leads to a tag
# is some $10^{-38}$ of the rest. The code looks at its smallest sums; if one came too
# near to that, it does not trust itself and takes the plain version.

# %% tags=["hide-output"]
show(crf.forward_backward, crf.LogPartition)

# %% [markdown]
# What does it save? The number of tensor operations of a loss and its gradient, from a
# counter in PyTorch's dispatcher, does not depend on any clock:


# %% tags=["hide-input"]
class Count(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the tensor operations that run inside it."""

    number = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.number += 1
        return operation(*args, **(kwargs or {}))


def plain(leaf):
    given = leaf.transpose(0, 1), mask.T
    return crf.log_partition_in_logs(*given, *ours._scores(leaf)).sum()


for name, function in {
    "in logarithms": plain,
    "in probabilities": lambda leaf: ours.log_partition(leaf, mask).sum(),
}.items():
    leaf = emissions.clone().requires_grad_()
    with Count() as count:
        function(leaf).backward()
    print(f"{name:17}", count.number, "operations for 30 characters")

# %% tags=["hide-input"]
speed = records.read("crf_speed")["samples"]
rows = [("loss", "pytorch-crf"), ("loss", "plain"), ("decode", "pytorch-crf")]
ratios, kept = {}, {}
for size, sample in speed.items():
    for what, who in rows:
        seconds = {n: np.array(s) for n, s in sample[what].items()}
        times = Timings(seconds, threads=1).ratio(who, "ours")  # middle, low, high
        ratios.setdefault(size, []).append(times)
    block = 4 * math.prod(sample["shape"])
    kept[size] = [sample["bytes"][n]["kept"] / block for n in sample["bytes"]]
for size, sample in speed.items():
    shape = "×".join(map(str, sample["shape"]))
    times = "; ".join(
        f"{what}, {who}: {approx(middle, 0.5, 20)}"
        for (what, who), (middle, *_) in zip(rows, ratios[size], strict=True)
    )
    print(f"{shape:9} {times}")

# %% mystnb={"figure": {"caption": "From the record. Left: time of pytorch-crf, and of our plain version, divided by the time of the fast one, one thread, medians with 95% intervals. Right: what autograd keeps for the way back, in units of the emissions.", "name": "fig-crf-speed"}, "image": {"alt": "Left, dots to the right of the line at 1: for the loss and its gradient pytorch-crf takes about four to seven times as long, the plain version two to five times; decoding takes twice as long, except at a batch of one, where it is even. Right, bars: the fast version keeps less than three blocks, the two others ten at nine tags and more than twenty-five at twenty-five tags."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, width=7.2, height=3.0)
for place, size in enumerate(speed):
    label = "×".join(map(str, speed[size]["shape"]))
    for row, (middle, low, high) in enumerate(ratios[size]):
        at = -row - 0.22 * (place - 1)
        left.plot([low, high], [at, at], color=f"C{place}", lw=2)
        left.plot(middle, at, "o", color=f"C{place}", label="" if row else label)
    right.bar(np.arange(3) + 0.26 * (place - 1), kept[size], 0.24, color=f"C{place}")
left.axvline(1, color="k", lw=1)
left.set(xscale="log", xlabel="× the fast version", xlim=(0.7, 12))
left.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
left.minorticks_off()
names = ["loss,\npytorch-crf", "loss,\nplain", "decode,\npytorch-crf"]
left.set_yticks([0, -1, -2], names)
left.legend(fontsize=7, title="B×L×K", title_fontsize=7)
right.set(ylabel="blocks kept")
right.set_xticks(range(3), ["fast", "plain", "pytorch-crf"])
plt.show()

# %% [markdown]
# The gain is larger at 25 tags, since what autograd would keep grows with $K^2$. And
# for a single sentence there is nothing to gain in decoding, ours is even a tenth
# slower: both programs then spend their time on calling PyTorch. All this is the time
# of the layer alone; what the network in front of it takes comes on top, for both.
#
# There is a side effect that one would not expect of a faster program: its gradient is
# *more exact*. In logarithms a marginal is the exponential of a difference of numbers
# in the hundreds, and in float32 their last digits are gone. A ratio of probabilities
# has no such difference. Against float64:

# %%
torch.manual_seed(2)
emissions, gold = 3 * torch.randn(8, 64, 9), torch.randint(9, (8, 64))
whole, errors = torch.ones(8, 64, dtype=torch.bool), {}
for name, layer in {"pytorch-crf": theirs.float(), "ours": ours.float()}.items():
    slopes = []
    for number in (torch.float32, torch.float64):
        leaf = emissions.to(number, copy=True).requires_grad_()
        layer.to(number)(leaf, gold, whole).backward()
        slopes.append(leaf.grad.double())
    errors[name] = (slopes[0] - slopes[1]).abs().max().item()
    print(f"{name:11} largest error of a slope:", approx(errors[name], 1e-9, 1e-2))
assert errors["pytorch-crf"] > 10 * errors["ours"]
print("more than ten times as exact")

# %% [markdown]
# ## Where people go wrong
#
# - **The sign.** pytorch-crf's `forward`, and ours, return the log-*likelihood*.
#   Without a minus in front of it training makes the truth as unlikely as it can.
# - **A mask with holes.** Sub-words tempt one to mask the *middle* of a sequence.
#   pytorch-crf accepts that, and computes nonsense: where a hole ends, $Z$ steps from
#   the last tag before it, the score of the true path from the tag inside it. The
#   result is not even a probability:

# %% tags=["hide-input"]
example = crf.CRF(2, batch_first=True).double()
with torch.no_grad():
    for parameter in example.parameters():
        parameter.zero_()
    example.transitions[0, 1] = 5.0
library = LibraryCRF(2, batch_first=True).double()
library.load_state_dict(example.state_dict())
hole = torch.tensor([[True, False, True]])
scored = torch.tensor([[[0, 10], [0, 0], [0, 0]]]).double()
with torch.no_grad():
    log_p = library(scored, torch.tensor([[1, 0, 1]]), hole)
print(f"pytorch-crf: p = {log_p.exp().item():.1f}")
try:
    example(scored, torch.tensor([[1, 0, 1]]), hole)
except ValueError as error:
    print("ours:", error)

# %% [markdown]
# - **Constraints that are trained.** −10,000 in a parameter stays there, since its
#   slope is zero, as long as no gold path needs it. One mistake in the annotation, an I
#   after an O, and the loss is 10,000 with a slope of 1. And weight decay pulls such a
#   parameter towards zero, step by step.
#
# ## Exercises
#
# **1. Warm-up.** Write `legal_paths(follows, starts, L)`: how many paths of $L$ tags
# are there if `follows` (K, K; from, to) and `starts` (K,), boolean tensors, say what
# is allowed? Return an int. (What is the weight of a path now? `.long()` makes numbers
# of booleans.)

# %%
legal_paths = ...  # def legal_paths(follows, starts, L): …
check.legal_paths(legal_paths)


# %% tags=["hide-cell"]
def legal_paths(follows, starts, L):
    ways = starts.long()  # one way to each tag that may come first
    for _ in range(L - 1):
        ways = ways @ follows.long()
    return int(ways.sum())


check.legal_paths(legal_paths)

# %% [markdown]
# **2. The way back.** Write `ways_on(emissions, transitions, end)` for one sequence,
# emissions (L, K): $\beta$ (L, K) of equation {eq}`eq-marginal`, without looking at
# `utils`.

# %%
ways_on = ...  # def ways_on(emissions, transitions, end): …
check.ways_on(ways_on)


# %% tags=["hide-cell"]
def ways_on(emissions, transitions, end):
    betas = [end]
    for emission in emissions[1:].flip(0):
        betas.append(torch.logsumexp(transitions + emission + betas[-1], 1))
    return torch.stack(betas[::-1])


check.ways_on(ways_on)

# %% [markdown]
# **3. For an evening: sums over some of the paths.** How sure is the model that 王明 is a
# name, whatever follows? That is $Z$ over the paths that are allowed, divided by $Z$.
# Write `log_probability(emissions, start, transitions, end, allowed)` for one sequence;
# `allowed` (L, K) says which tags are allowed at each position. (With it, a CRF learns
# from sentences that are annotated in part {cite}`tsuboi2008training`: minus it is the
# loss. What is its gradient?)

# %%
log_probability = (
    ...
)  # def log_probability(emissions, start, transitions, end, allowed): …
check.log_probability(log_probability)


# %% tags=["hide-cell"]
def log_probability(emissions, start, transitions, end, allowed):
    some = torch.where(allowed, emissions, -torch.inf)
    return chain(some, start, transitions, end) - chain(
        emissions, start, transitions, end
    )


check.log_probability(log_probability)

# %%
allowed = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()  # B, I, not I
name = log_probability(*hand, allowed).exp().item()
assert abs(name - (weight["BIO"] + weight["BIB"]) / Z) < 1e-12
print(f"王明 is a name, and ends there: (360 + 72)/1109 = {name:.4f}")

# %% [markdown]
# Its gradient is the marginals of the allowed paths minus the marginals of all paths:
# expected minus expected. With one allowed path it is the loss that you know.
#
# ## In short
#
# Paths that meet in a node have the same future; add them up there, and $K^L$ terms
# become $(L-1)K^2$. With maxima in place of sums the same loop finds the best path,
# with counts it counts. The loss is $\log Z - s$, minus the logarithm of the ratio that
# the notes call the loss; emissions are scores, and a softmax in front of them gags the
# network. The best path is seldom likely, and the true one not always the best. The
# gradient of $\log Z$ is the marginals and the Hessian their covariance; both the chain
# and the network learn from it, and whoever writes it down instead of recording it is
# several times faster and has more digits.
#
# Next: [training a tagger](03_training_a_tagger), where all of this meets a corpus.
