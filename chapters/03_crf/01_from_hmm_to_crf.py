# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From HMM to CRF
#
# 南京市长江大桥 has no spaces. Is it 南京市 | 长江大桥, a bridge over the Yangtze, or 南京 |
# 市长 | 江大桥, a mayor by the name of Jiang Daqiao? A program that has to cut the line
# decides for every character whether a word begins, goes on or ends there, and each
# decision leans on its neighbours: what has begun must end. This chapter is about
# models of such chains of decisions. The old one says how a text comes about and asks
# which decisions made it; the new one skips the text and models the decisions. At the
# end of this page you can
#
# - compute the probability of a labelled line by hand, and find the words that a much
#   used segmenter finds where its dictionary ends, from its own tables;
# - state the two assumptions of a hidden Markov model, and measure whether data keep
#   them;
# - turn a hidden Markov model into a conditional random field, and the field back into
#   the model; and say what, after that surprise, the field is for;
# - name the assumption that a conditional random field keeps.
#
# You need [learning](../00_tensors/03_learning): softmax and cross-entropy.

# %% tags=["hide-input"]
import itertools
import warnings

import numpy as np
import torch
from torch import nn

from utils import hmm
from utils.crf import CRF
from utils.exercises import crf as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    datasets,
    figures,
    notes_say,
    same,
    settle,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("crf-hmm-assumptions", "crf-vs-hmm")

# %% [markdown]
# ## By hand: three ways to cut three characters
#
# Give every character a label, its {term}`hidden state 隐状态 <hidden Markov model>`: S
# for a word of one character, B and E for the beginning and the end of a word of two.
# The line 好天气 can then be labelled in three ways: S S S (好 | 天 | 气), S B E (好 |
# 天气) and B E S (好天 | 气). Nothing else is legal, for after B comes E, and a line
# cannot end in the middle of a word.
#
# A *hidden Markov model* (隐马尔可夫模型, HMM) says how such a line comes about. It draws
# the first state, then each next state given the one before, the *transitions* (转移),
# and lets every state emit a character, the *emissions* (发射). Suppose a line begins
# with B with probability 0.6 and with S with 0.4; after E or S the next word is long or
# short with probability ½ each; only lines that end in E or S are kept; and
#
# | state | 好 | 天 | 气 |
# |---|---|---|---|
# | B | 0.1 | 0.3 | 0.1 |
# | E | 0.1 | 0.2 | 0.4 |
# | S | 0.5 | 0.2 | 0.1 |
#
# with the rest of each row for all other characters. Then S B E has the probability
# $0.4 \cdot 0.5 \times 0.5 \cdot 0.3 \times 1 \cdot 0.4 = 0.012$, factor by factor: S
# emits 好, B follows and emits 天, E follows and emits 气. The other two:

# %%
tables = {
    "start": {"B": 0.6, "S": 0.4},
    "step": {"BE": 1, "EB": 0.5, "ES": 0.5, "SB": 0.5, "SS": 0.5},
    "emit": {"B": [0.1, 0.3, 0.1], "E": [0.1, 0.2, 0.4], "S": [0.5, 0.2, 0.1]},
}


def by_hand(path):
    product = tables["start"][path[0]]
    for t, state in enumerate(path):
        product *= tables["step"][path[t - 1] + state] if t else 1
        product *= tables["emit"][state][t]
    return product


ways = {path: by_hand(path) for path in ("SSS", "SBE", "BES")}
total = sum(ways.values())
for path, joint in ways.items():
    print(f"{path}: joint {joint:.4f}, given the line {joint / total:.3f}")
print(f"the line 好天气 itself: {total:.4f}")

# %% [markdown]
# Three different numbers have come out, and people mix them up often enough. The
# *joint* probability $p(x, y)$ of characters and labels; its sum over all legal
# labellings, the probability $p(x)$ of the line; and their ratio, the *posterior* (后验)
# $p(y \mid x)$, which is what a segmenter wants. It never needed the first two for
# their own sake. Keep that thought.
#
# ## In general
#
# For symbols $x = (x_1, \dots, x_L)$ and states $y = (y_1, \dots, y_L)$, $K$ states and
# $V$ symbols,
#
# $$
# p(x, y) = p(y_1) \prod_{t=2}^{L} p(y_t \mid y_{t-1}) \prod_{t=1}^{L} p(x_t \mid y_t)
# \cdot \omega(y_L) .
# $$ (eq-hmm)
#
# Two assumptions are built into the formula. The state depends on the state before it
# and on nothing else, by a rule that is the same everywhere, the *homogeneous Markov
# assumption* (齐次马尔可夫假设). And a symbol depends on its own state and on nothing
# else, the *observation independence assumption* (观测独立性假设).
#
# In code the tables hold logarithms, so that products are sums and "never" is
# $-\infty$. The last factor, $\omega$ or `end`, says which state may be the last; in
# our example it was 1 for E and S and 0 for B. $p(x)$ sums over $K^L$ labellings; the
# next page shows why {eq}`eq-hmm` lets us do that in $L$ steps. Here is the recursion,
# to be believed for one page, with the state by state sums that it keeps:

# %%
show(hmm.HMM, hmm.path_score, hmm.forward)

# %% [markdown]
# ## Real tables
#
# jieba {cite}`jieba`, the Chinese segmenter, carries an HMM for words that its
# dictionary lacks, with a fourth state: M, for the middle of a word. Its tables were
# counted on segmented text and are part of the package.

# %%
jieba_hmm, number = hmm.jieba_tables()
character = {n: c for c, n in number.items()}
print(len(number), "characters")
for state, row in zip(hmm.STATES, jieba_hmm.emissions, strict=True):
    print(state, "emits most:", *(character[n] for n in np.argsort(-row)[:12]))

# %% mystnb={"figure": {"caption": "jieba\u2019s hidden Markov model. The width of an arrow is the probability of the step. A word of one character is S; a longer one begins with B, may have some M, and ends with E.", "name": "fig-bems"}, "image": {"alt": "Four circles: S on the left, B, M and E to the right. Arrows: the line starts in B (0.77) or S (0.23); S to itself 0.51 and to B 0.49; B to M 0.40 and to E 0.60; M to itself 0.28 and to E 0.72; E back to B 0.55 and to S 0.45."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.9))
figures.canvas(ax, 10, 4.4)
places = {"S": (1.6, 2.2), "B": (4.6, 3.6), "M": (8.0, 3.6), "E": (5.6, 0.8)}
bends = {"SB": -0.2, "BM": 0.0, "BE": -0.25, "ME": 0.0, "EB": -0.25, "ES": -0.2}
chance = np.exp(jieba_hmm.transitions)
for pair, bend in bends.items():
    i, j = (hmm.STATES.index(state) for state in pair)
    (x0, y0), (x1, y1) = (places[state] for state in pair)
    style = {"arrowstyle": "-|>", "lw": 5 * chance[i, j], "color": "#555555"}
    style |= {"shrinkA": 20, "shrinkB": 20, "connectionstyle": f"arc3,rad={bend}"}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops=style)
    bow = bend * np.array([y1 - y0, x0 - x1]) / 2
    middle = np.array([x0 + x1, y0 + y1]) / 2 + bow
    ax.text(*middle, f"{chance[i, j]:.2f}", ha="center", va="center").set_bbox(
        {"facecolor": "white", "edgecolor": "none", "pad": 1}
    )
for state, (x, y) in places.items():
    ax.plot(x, y, "o", ms=32, mfc="white", mec=COLOURS["blue"], mew=2)
    ax.text(x, y, state, ha="center", va="center", size=13)
for state, side in [("S", -1.15), ("M", 1.15)]:
    i, (x, y) = hmm.STATES.index(state), places[state]
    ax.text(x + side, y, f"↺ {chance[i, i]:.2f}", ha="center", va="center")
plt.show()

# %% [markdown]
# Read the top row of characters: 的 is a word by itself, 一 begins words, 子 ends them.
# That, and the arrows of {numref}`fig-bems`, is all that the model knows. The best path
# through the states, found by the *Viterbi algorithm* (维特比算法, next page), cuts the
# line. Our Viterbi against jieba's own, on every line of Chinese that this course has
# brought so far:

# %%
with warnings.catch_warnings():  # an escape in jieba's patterns that Python warns of
    warnings.simplefilter("ignore")
    from jieba import finalseg

corpus = [s for part in ("train", "dev", "test") for s in datasets.ner(part)]
lines = ["".join(s.characters) for s in corpus]
lines += [s.zh for s in datasets.sentences()]
different = [line for line in lines if hmm.words(line) != list(finalseg.cut(line))]
assert not different
print(len(lines), "lines; differently cut:", len(different))
for line in ["南京市长江大桥", "乒乓球拍卖完了", "长春市长春节致辞"]:
    print(" | ".join(hmm.words(line)))

# %% [markdown]
# The bridge it is. The last line, where the mayor of Changchun speaks at the Spring
# Festival (长春 | 市长 | 春节 | 致辞), comes out wrong: 长春节 is no festival. The model
# does not know words, only that 长 likes to begin one and 节 to end one. How sure is it?
# A segmentation is one path, so its posterior is its joint probability over the sum:


# %%
def share_of(cut):
    """Posterior of a segmentation, its words divided by blanks."""
    path = "".join(
        "S" if len(w) == 1 else f"B{'M' * (len(w) - 2)}E" for w in cut.split()
    )
    symbols = hmm.characters(cut.replace(" ", ""))
    joint = hmm.path_score(jieba_hmm, symbols, np.array([*map("BEMS".index, path)]))
    return np.exp(joint - hmm.log_likelihood(jieba_hmm, symbols))


for cut in [
    "南京市 长江大桥",
    "南京市 长江 大桥",
    "南京 市长 江大桥",
    "长春市 长春节 致辞",
    "长春 市长 春节 致辞",
]:
    print(f"{share_of(cut):.3f}  {cut}")
assert share_of("南京市 长江大桥") < 0.5

# %% [markdown]
# The bridge has a quarter, the mayor an eighth. The best of all labellings has less
# than half of the probability: **"best" is not "likely".** Character by character the
# same model says how sure it is of each state:

# %% mystnb={"figure": {"caption": "Posterior p(y\u209c | x) of the four states under jieba\u2019s tables. A bar after a character marks where the best path ends a word.", "name": "fig-bems-posterior"}, "image": {"alt": "Three heat maps, one for each line, four rows for the states B, E, M, S and a column for each character. Some columns are certain, others are divided between two or three states."}} tags=["hide-input"]
figure, axes = plt.subplots(3, 1, figsize=(5.6, 5.4))
examples = ["南京市长江大桥", "乒乓球拍卖完了", "长春市长春节致辞"]
for ax, line in zip(axes, examples, strict=True):
    symbols = hmm.characters(line)
    figures.heat(ax, hmm.posterior(jieba_hmm, symbols).T, "BEMS", line, ".2f")
    for t, state in enumerate(hmm.viterbi(jieba_hmm, symbols)[0]):
        if hmm.STATES[state] in "ES":
            ax.axvline(t + 0.5, color=COLOURS["vermilion"], lw=3)
plt.show()

# %% [markdown]
# Before we go on: are these tables what they claim to be? Each row of the emissions
# should be a probability distribution over characters.

# %%
chances = np.exp(jieba_hmm.emissions)  # (4, V)
print(
    "rows add up to",
    *(f"{s}: {row.sum():.2f}" for s, row in zip("BEMS", chances, strict=True)),
)
once = np.unique(chances, axis=1)
print("equal columns counted once:", *(f"{total:.2f}" for total in once.sum(1)))
_, times = np.unique(chances, axis=1, return_counts=True)
print("pairs of characters with equal columns:", (times == 2).sum())
twins = ["个個", "东東", "万萬", "书書"]
for simple, traditional in twins:
    a, b = (jieba_hmm.emissions[:, number[c]] for c in (simple, traditional))
    assert np.array_equal(a, b)
print("among them", *twins)
assert (chances.sum(1) > 1.1).all() and (once.sum(1) < chances.sum(1) - 0.1).all()

# %% [markdown]
# They add up to more than one, by 15 to 35 per cent, and most of the excess goes when
# columns with identical numbers are counted once. The twins show how that came about:
# traditional characters were given the numbers of their simplified forms, and nobody
# divided again. This hidden Markov model is not one. It works all the same, because the
# posterior divides by the sum over all labellings anyway.
#
# ## The two assumptions, measured
#
# An assumption can be wrong, and then one should be able to see it. The measure is the
# *conditional mutual information* (条件互信息): how much does knowing $b$ tell about $a$
# once $c$ is known? In *nats*, the unit of $-\ln p$:
#
# $$
# I(a; b \mid c) = \sum_{a, b, c} p(a, b, c) \,
# \log \frac{p(a, b \mid c)}{p(a \mid c)\, p(b \mid c)} ,
# $$ (eq-cmi)
#
# zero exactly if $a$ and $b$ are independent given $c$. The Markov assumption says
# $I(y_t; y_{t-2} \mid y_{t-1}) = 0$, and observation independence says, among other
# things, $I(x_t; x_{t-1} \mid y_t) = 0$. Three sources, 100,000 symbols from each: an
# HMM; one whose labels look two steps back; one whose symbols repeat the symbol before
# them half of the time.


# %%
def information(a, b, c):
    """I(a; b | c) in nats, from the counts of what occurred together."""
    joint = np.zeros((a.max() + 1, b.max() + 1, c.max() + 1))
    np.add.at(joint, (a, b, c), 1 / len(a))
    split = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)  # p(a,c) p(b,c)
    seen = joint > 0
    ratio = (joint * joint.sum((0, 1)))[seen] / split[seen]
    return joint[seen] @ np.log(ratio)


def random_hmm(rng, K, V):
    tables = [rng.normal(size=shape) for shape in [(K,), (K, K), (K, V)]]
    rows = [t - np.logaddexp.reduce(t, axis=-1, keepdims=True) for t in tables]
    return hmm.HMM(*rows, np.zeros(K))


# %%
rng, n = np.random.default_rng(0), 100_000
x, y = hmm.sample(random_hmm(rng, 3, 5), n, rng)

steps = rng.dirichlet([0.5] * 3, size=(3, 3)).cumsum(-1)  # two states back, one back
second = [0, 0]
for u in rng.random(n - 2):
    second.append(min(int(np.searchsorted(steps[second[-2], second[-1]], u)), 2))
second = np.array(second)

sticky = x.copy()
for t in np.flatnonzero(rng.random(n) < 0.5)[1:]:
    sticky[t] = sticky[t - 1]

# %%
markov = {
    "the HMM": information(y[2:], y[:-2], y[1:-1]),
    "two steps back": information(second[2:], second[:-2], second[1:-1]),
}
independence = {
    "the HMM": information(x[1:], x[:-1], y[1:]),
    "repeating": information(sticky[1:], sticky[:-1], y[1:]),
}
for name, value in markov.items():
    print(f"I(y_t; y_t-2 | y_t-1), {name:15}", approx(value, 0, 0.5), "nats")
for name, value in independence.items():
    print(f"I(x_t; x_t-1 | y_t),   {name:15}", approx(value, 0, 0.5), "nats")

# %% [markdown]
# Now text that people would read: the sentences of this course's corpus, in which names
# of persons, places and organisations and times are marked, with a state B where one
# begins and I where it goes on. If a place goes on here, how likely is the character to
# be 京? An HMM has one answer, $p(\text{京} \mid \text{I-LOC})$, whatever stood before.
# We count. And there is a quieter consequence of the Markov assumption: a state that
# goes on with probability $p$ goes on for $n$ steps with probability $p^n(1 - p)$, a
# *geometric distribution* (几何分布): each length is rarer than the one before by the same
# factor. Are the lengths of names and of times geometric from two on?

# %%
lengths = {"PER": [], "TIME": []}
for sentence in corpus:
    tags = " ".join(sentence.tags).replace(" I-", "+I-").split()  # one word a span
    for span in tags:
        if span[2:].split("+")[0] in lengths:
            lengths[span[2:].split("+")[0]].append(span.count("+") + 1)

shares, n = {}, np.arange(1, 11)
for kind, found in lengths.items():
    found = np.array(found)
    begins = (found > 1).mean()  # B goes on
    stays = (found - 2)[found > 1].sum() / (found - 1)[found > 1].sum()  # I goes on
    model = np.where(n == 1, 1 - begins, begins * stays ** (n - 2.0) * (1 - stays))
    shares[kind] = np.array([(found == k).mean() for k in n]), model

# %% mystnb={"figure": {"caption": "Lengths of persons' names and of times in the tagged corpus (bars), and the lengths that an HMM with the states B and I has to predict (line), with its step probabilities counted on the same corpus.", "name": "fig-lengths"}, "image": {"alt": "Two bar charts. Left, names of persons: two and three characters are nearly as frequent, four are rare; the predicted line falls by the same factor from two on and misses three. Right, times: four characters are as frequent as three; the line falls steadily."}} tags=["hide-input"]
figure, axes = figures.panels(2)
for ax, (kind, (seen, model)) in zip(axes, shares.items(), strict=True):
    ax.bar(n, seen, color=COLOURS["sky"])
    ax.plot(n, model, "o-", color=COLOURS["vermilion"])
    ax.set(xlabel=f"characters of a {kind}", xticks=n)
axes[0].set_ylabel("share")
plt.show()

# %%
for kind, (seen, model) in shares.items():
    for k in (2, 3, 4):
        print(f"{kind:4} of {k}: {seen[k - 1]:.2f} seen, {model[k - 1]:.2f} predicted")

inside, after_north = [], []
for sentence in corpus:
    for before, c, tag in zip(["^", *sentence.characters], *sentence, strict=False):
        if tag == "I-LOC":
            inside.append(c == "京")
            after_north += [c == "京"] * (before == "北")
print(
    f"京: {sum(inside)} of {len(inside)} characters that go on with a place", end="; "
)
print(f"{sum(after_north)} of {len(after_north)} after 北")
assert np.mean(after_north) > 20 * np.mean(inside)

# %%
settle(
    "crf-hmm-assumptions",
    below(markov["the HMM"], 0.01),
    above(markov["two steps back"], 0.05),
    below(independence["the HMM"], 0.01),
    above(independence["repeating"], 0.05),
)

# %% [markdown]
# Both assumptions are false of these sentences, and not by a little. An HMM that would
# respect what stands around a character would have to generate it, with all its
# dependences, only to throw that knowledge away again: the segmenter is *given* the
# characters.
#
# ## The field
#
# So skip them. Take logarithms in {eq}`eq-hmm`, give each table a name of its own, and
# call what comes out a score:
#
# $$
# \begin{aligned}
# s(x, y) &= a_{y_1} + \sum_{t=1}^{L} e_t(y_t) + \sum_{t=2}^{L} T_{y_{t-1} y_t} +
# b_{y_L}, \\
# p(y \mid x) &= \frac{e^{s(x, y)}}{\sum_{y'} e^{s(x, y')}} .
# \end{aligned}
# $$ (eq-crf)
#
# If the scores are the logarithms of an HMM's tables, with $e_t(k) = \log p(x_t \mid
# k)$, the quotient is that HMM's posterior: it is the joint probability, divided by its
# sum. But nothing on the right-hand side asks the tables to be logarithms of
# probabilities, and nothing asks $e_t$ to look at $x_t$ alone. Set both free and the
# model is a *linear-chain {term}`conditional random field 条件随机场 <conditional random
# field>`* (CRF) {cite}`lafferty2001crf`: conditional, since it models $y$ given $x$ and
# says nothing of $x$. It is a softmax over all $K^L$ labellings at once.

# %% mystnb={"figure": {"caption": "Left: an HMM; arrows say what is drawn from what. Right: the linear-chain CRF as a factor graph (\u56e0\u5b50\u56fe); each square is a score of the circles that it touches, and grey circles are given. Every square beside a label may look at the whole text.", "name": "fig-factor-graphs"}, "image": {"alt": "Two diagrams of four positions. Left, a chain of label circles with arrows to the right, and from each an arrow down to its character. Right, the label circles in a chain with squares between them, a square under each label, and lines from each of those squares to one wide grey box that holds all characters."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.2)
for ax in axes:
    figures.canvas(ax, 9, 4.6)
left, right = axes
for t, c in enumerate("南京市长"):
    x0 = 1 + 2.2 * t
    for ax in axes:
        ax.plot(x0, 3.8, "o", ms=21, mfc="white", mec=COLOURS["blue"], mew=1.6)
        ax.text(x0, 3.8, f"$y_{t + 1}$", ha="center", va="center")
    left.plot(x0, 1, "o", ms=21, mfc="#dddddd", mec="#777777", mew=1.2)
    left.text(x0, 1, c, ha="center", va="center")
    figures.arrow(left, (x0, 3.25), (x0, 1.55))
    right.plot([x0, x0], [3.25, 1.5], color="#777777", lw=1.2)
    right.plot(x0, 2.3, "s", ms=9, color=COLOURS["vermilion"])
    right.text(x0 + 0.3, 2.2, f"$e_{t + 1}$", size=9, va="center")
    if t < 3:
        figures.arrow(left, (x0 + 0.5, 3.8), (x0 + 1.7, 3.8))
        right.plot([x0 + 0.55, x0 + 1.65], [3.8, 3.8], color="#777777", lw=1.2)
        right.plot(x0 + 1.1, 3.8, "s", ms=9, color=COLOURS["green"])
        right.text(x0 + 1.1, 4.3, "$T$", size=9, ha="center")
figures.box(right, (4.3, 1), "南 京 市 长", colour="grey", width=7.8, height=0.8)
plt.show()

# %% [markdown]
# jieba's tables, poured into the `CRF` of this course, whose inside is the next page's
# subject. (−100 stands for $-\infty$: $e^{-100}$ is $10^{-44}$, and nothing overflows.)

# %%
crf = CRF(4, batch_first=True).double()
scores = hmm.HMM(*(table.clip(-100) for table in jieba_hmm))
with torch.no_grad():
    crf.start_transitions.copy_(torch.tensor(scores.start))
    crf.transitions.copy_(torch.tensor(scores.transitions))
    crf.end_transitions.copy_(torch.tensor(scores.end))

worst = 0
for line in lines[:200]:
    symbols = hmm.characters(line)
    emissions = torch.tensor(scores.emissions[:, symbols].T)[None]  # (1, L, 4)
    path, joint = hmm.viterbi(scores, symbols)
    assert crf.decode(emissions) == [path]
    marginals = crf.marginals(emissions)[0].detach().numpy()
    worst = max(worst, np.abs(marginals - hmm.posterior(scores, symbols)).max())
    given = crf(emissions, torch.tensor([path])).item()
    worst = max(worst, abs(given - (joint - hmm.log_likelihood(scores, symbols))))
assert worst < 1e-9
print("200 lines: same best path; posteriors and log p(y | x) equal to 1e-9")

# %% [markdown]
# ## And back
#
# Is a CRF, then, a larger family than an HMM? Let us keep $e_t$ looking at $x_t$ alone
# and free only the numbers: any scores at all, such as jieba's tables that do not add
# up to one. Surely there are more of these than there are probabilities? Smith and
# Johnson {cite}`smith2007weighted` proved that there are not, and for a chain the proof
# is a linear equation.
#
# Let $W_{ij} = e^{T_{ij}} \sum_x e^{e_j(x)}$ be the weight of a step from $i$ to $j$
# with any symbol at all, and let $\beta_i$ be the weight of all ways in which a text
# can go on from state $i$, stopping at once or after any number of steps. Then
#
# $$
# \beta = e^{b} + c\, W \beta , \qquad\text{so}\qquad \beta = (I - c\,W)^{-1} e^{b} ,
# $$ (eq-continuations)
#
# where a small constant $c$ on every step makes the sum finite; it cannot matter, since
# all labellings of one text have the same number of steps. Now divide the first
# equation by $\beta_i$:
#
# $$
# 1 = \underbrace{\frac{e^{b_i}}{\beta_i}}_{p(\text{stop} \mid i)} + \sum_j
# \underbrace{\frac{c\, W_{ij}\, \beta_j}{\beta_i}}_{p(j \mid i)} .
# $$
#
# There are the probabilities. Emissions become probabilities when they are divided by
# their sum, $S_j = \sum_x e^{e_j(x)}$. A start with its emission, a step with its
# emission, and the stop are then
#
# $$
# \frac{e^{a_i} S_i \beta_i}{\text{sum}} \cdot \frac{e^{e_i(x)}}{S_i}, \qquad
# \frac{c\, e^{T_{ij}} S_j \beta_j}{\beta_i} \cdot \frac{e^{e_j(x)}}{S_j}
# = c\, e^{T_{ij} + e_j(x)}\, \frac{\beta_j}{\beta_i}, \qquad
# \frac{e^{b_i}}{\beta_i} .
# $$
#
# Multiply them along a path: each $S$ meets its own, each $\beta$ in a numerator meets
# the same $\beta$ in the next denominator, and what remains is $e^{s(x, y)}$ times a
# number that is the same for all labellings of the text. **Every CRF that looks at one
# symbol per position has the posteriors of an HMM with a stopping state.**

# %%
show(hmm.made_of_probabilities)

# %%
proper = hmm.made_of_probabilities(scores)
rows = np.exp(proper.transitions).sum(1) + np.exp(proper.end)
assert np.abs(rows - 1).max() < 1e-9
assert np.abs(np.exp(proper.emissions).sum(1) - 1).max() < 1e-9
before, after = np.exp(jieba_hmm.transitions[1, 0]), np.exp(proper.transitions[1, 0])
print(f"step from E to B: {before:.2f} before, {after:.2f} now (and stopping: ", end="")
print(f"{np.exp(proper.end[1]):.2f})")
worst = 0
for line in lines[:200]:
    symbols = hmm.characters(line)
    ours, theirs = (hmm.posterior(model, symbols) for model in (proper, scores))
    worst = max(worst, np.abs(ours - theirs).max())
    assert hmm.viterbi(proper, symbols)[0] == hmm.viterbi(scores, symbols)[0]
assert worst < 1e-9
print("jieba's tables, now made of probabilities: the same posteriors to 1e-9")

# %% [markdown]
# (How likely it is to stop has no meaning of its own: another $c$ gives other numbers and
# the same posteriors.) So for the posterior, freedom from adding up to one is worth
# nothing. What a CRF is for must lie in the
# other two differences: **what it looks at, and what it is trained for.**
#
# ## What it is trained for
#
# An HMM is *generative* (生成式): counting maximises the joint probability. A CRF is
# *discriminative* (判别式): training maximises $p(y \mid x)$, the quantity that is wanted.
# If the assumptions hold, both aim at the same place. If they do not, an HMM believes
# its own simplification. Give it two views of each position, say a character and its
# radical: it multiplies $p(x \mid k)\, p(x' \mid k)$ as if they were independent, and
# where the second view only repeats the first, it counts the evidence twice.
#
# We turn that into a dial. The second view copies the first with probability $\rho$ and
# is drawn afresh otherwise. Both models have exactly the same numbers to set, two
# tables and the transitions; one counts, the other descends on $-\log p(y \mid x)$.
# (The optimiser, L-BFGS, is built on [page 3](03_training_a_tagger); it calls `closure`
# for the loss and the gradient as often as it likes.)


# %%
def texts(model, n, L, copied, rng):
    """Two views (n, L, 2) of sampled texts, and their states (n, L)."""
    views, states = np.empty((n, L, 2), int), np.empty((n, L), int)
    for i in range(n):
        views[i, :, 0], states[i] = hmm.sample(model, L, rng)
        uniform = rng.random((L, 1))
        drawn = (np.exp(model.emissions).cumsum(1)[states[i]] < uniform).sum(1)
        views[i, :, 1] = np.where(rng.random(L) < copied, views[i, :, 0], drawn)
    return views, states


class TwoViews(nn.Module):
    """A CRF whose emissions add one table for each of two views."""

    def __init__(self, K, V):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(V, K) for _ in range(2))
        self.crf = CRF(K, batch_first=True)

    def loss(self, views, states):
        emissions = sum(table(views[..., i]) for i, table in enumerate(self.tables))
        return -self.crf(emissions, states, reduction="token_mean")


# %%
def counted(views, states, K, V):
    """The model that an HMM's counts make."""
    model = TwoViews(K, V).double()
    with torch.no_grad():
        for i, table in enumerate(model.tables):
            found = hmm.count(list(views[..., i]), list(states), K, V, smoothing=1)
            table.weight.copy_(torch.tensor(found.emissions.T))
        model.crf.start_transitions.copy_(torch.tensor(found.start.clip(-1e4)))
        model.crf.transitions.copy_(torch.tensor(found.transitions.clip(-1e4)))
        model.crf.end_transitions.zero_()
    return model


def trained(views, states, K, V):
    """The same model, its loss minimised on the same texts, from the counts on."""
    model = counted(views, states, K, V)
    model.crf.end_transitions.requires_grad_(False)  # an HMM has none
    data = torch.tensor(views), torch.tensor(states)
    free = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.LBFGS(free, max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = model.loss(*data)
        loss.backward()
        return loss

    optimiser.step(closure)
    return model


# %% mystnb={"figure": {"caption": "Two models with the same tables and the same 300 texts, one counted (HMM), one trained on p(y | x) (CRF): how much larger the counted one\u2019s loss is on new texts. Five seeds (thin) and their mean. To the right, the second view repeats the first.", "name": "fig-generative"}, "image": {"alt": "Excess loss against the share of copied views from 0 to 1. All lines start at zero and rise."}} tags=["hide-input"]
K, V, L, dial = 3, 6, 10, [0.0, 0.25, 0.5, 0.75, 1.0]
losses = {"HMM": np.empty((5, 5)), "CRF": np.empty((5, 5))}
for seed, (place, copied) in itertools.product(range(5), enumerate(dial)):
    rng = np.random.default_rng(seed)
    source = random_hmm(rng, K, V)
    train, test = (texts(source, 300, L, copied, rng) for _ in range(2))
    for name, method in {"HMM": counted, "CRF": trained}.items():
        loss = method(*train, K, V).loss(*map(torch.tensor, test))
        losses[name][seed, place] = loss.item()

excess = losses["HMM"] - losses["CRF"]  # (seeds, dial)
figure, ax = plt.subplots(figsize=(5, 2.8))
ax.plot(dial, excess.T, color=COLOURS["grey"], lw=0.8)
ax.plot(dial, excess.mean(0), "o-", color=COLOURS["vermilion"])
ax.set(xlabel="share of copied views ρ", ylabel="excess loss per character")
plt.show()

# %%
for place in (0, -1):
    low, high = (approx(f(excess[:, place]), -0.05, 0.5) for f in (np.min, np.max))
    print(f"ρ = {dial[place]:.0f}: loss of the HMM − loss of the CRF: {low} to {high}")
assert np.abs(excess[:, 0]).max() < 0.02 < excess[:, -1].min()

# %% [markdown]
# Where the HMM's assumption is true, counting is as good as training, and it took no
# training. Where it is false, the same tables, set for the right purpose, do better on
# every seed. That is the finding of {cite}`smith2007weighted` as a curve: the gain
# comes from the estimation, not from a larger family.
#
# ## What it looks at
#
# The other freedom is larger. $e_t$ may be any function of the whole text: the
# characters to the left and right, a dictionary, the output of a network. An HMM could
# not use that, for it has to generate what it looks at. In a CRF the text is on the
# given side of the bar, and nobody asks where it came from. That is the independence
# assumption, gone.
#
# And the Markov assumption? It looks as if it had gone with it, and the notes say so.
# Write the conditional probability of one label given *all* labels before it. In
# {eq}`eq-crf` the factors before $t$ are the same for every $y_t$ and cancel, and the
# sum over everything that follows, call it $\beta_t(y_t)$, knows of the past only
# $y_t$:
#
# $$
# p(y_t \mid y_1, \dots, y_{t-1}, x) \propto e^{T_{y_{t-1} y_t} + e_t(y_t)}\,
# \beta_t(y_t), \quad\text{hence}\quad = p(y_t \mid y_{t-1}, x) ,
# $$ (eq-still-markov)
#
# first-order Markov, given the text, whatever network computes $e_t$. We list all $3^5$
# labellings of five characters in an array with five axes, and sum axes away to get
# $p(y_1 \dots y_t)$ and $p(y_{t-1}, y_t)$. The rule for a step may differ from place to
# place; it has to be the same whatever came before. The network is an LSTM, a layer
# that carries a memory along the text, here one from each end. To see that the measure
# can tell, we do the same for scores on triples of labels, which are no linear chain.

# %%
torch.manual_seed(0)
K, L = 3, 5
reader = nn.LSTM(8, 8, bidirectional=True, batch_first=True).double()
to_scores = nn.Linear(16, K).double()
text = torch.randn(1, L, 8, dtype=torch.double)
with torch.no_grad():
    e = 4 * to_scores(reader(text)[0])[0].numpy()  # (L, K), each row sees all of x
rng = np.random.default_rng(0)
chain, triples = rng.normal(size=(K, K)), rng.normal(size=(K, K, K))


def chances_of(extra):
    """p(y₁ … y₅) of all labellings as an array with five axes."""
    score = np.array(
        [
            sum(e[t, k] for t, k in enumerate(y)) + extra(y)
            for y in itertools.product(range(K), repeat=L)
        ]
    )
    return np.exp(score - np.logaddexp.reduce(score)).reshape((K,) * L)


# %%
def given(p, t, first):
    """p(y_t | y_first … y_{t-1}) for every choice of these labels."""
    others = tuple(u for u in range(L) if not first <= u <= t)
    front = p.sum(others, keepdims=True)
    return front / front.sum(t, keepdims=True)


def memory(p):
    """max |p(y_t | all before) − p(y_t | y_{t-1})| over all labellings and places."""
    return max(np.abs(given(p, t, 0) - given(p, t, t - 1)).max() for t in range(2, L))


# %%
chain_p = chances_of(lambda y: sum(chain[i, j] for i, j in itertools.pairwise(y)))
triple_p = chances_of(lambda y: sum(triples[y[t - 2 : t + 1]] for t in range(2, L)))
second, third = (given(chain_p, t, t - 1).squeeze() for t in (2, 3))

changed = text.clone()
changed[0, 0] += 1  # another first character
with torch.no_grad():
    crf_before, crf_after = (4 * to_scores(reader(x)[0])[0, 3] for x in (text, changed))
lines_of_hmm = (
    jieba_hmm.emissions[:, hmm.characters(c + "京市长江")].T for c in "南北"
)
hmm_before, hmm_after = (scores[3] for scores in lines_of_hmm)

# %%
settle(
    "crf-vs-hmm",
    apart(crf_before, crf_after, 1e-3),
    same(hmm_before, hmm_after),
    apart(second, third, 0.01),
    below(memory(chain_p), 1e-12),
    above(memory(triple_p), 0.01),
    note="before, after: the fourth label's scores when the first character changes",
)

# %% [markdown]
# Two mentions of a name that should get the same label, whichever it is, are beyond a
# linear chain, unless $e_t$ finds the label out from the text. What a modern tagger
# does is to let the network look everywhere, and the chain look one step back.
#
# ## Where people go wrong
#
# **A softmax at each step.** Why divide by a sum over all labellings? One could let
# each step choose with a softmax of its own, $p(y_t \mid y_{t-1}, x_t)$, and multiply:
# it was done before the CRF, as the *maximum-entropy Markov model* (最大熵马尔可夫模型). Did we
# not just say that the field itself is such a product? It is, but its factors contain
# $\beta_t$, the sum over everything that follows. The stepwise model's factors are made
# before what follows is looked at, and that has a price, *label bias* (标注偏置): a state
# with only one successor must give it all its probability, whatever the text says
# there.
#
# 行 is read xíng (to walk) or háng (a trade). Say that xíng is the more frequent, and
# that this small model knows one continuation of each: 行走 xíng zǒu and 行长 háng
# zhǎng, the head of a bank. The text is 行长. The second character speaks against xíng
# zǒu as loudly as we like:

# %%
first = {"xíng": np.log(0.6), "háng": np.log(0.4)}
successor = {"xíng": "zǒu", "háng": "zhǎng"}
for loud in (0, 1, 3):
    second = {"zǒu": -loud, "zhǎng": loud}  # what the network says of 长
    stepwise, field = {}, {}
    for reading, score in first.items():
        only = second[successor[reading]]
        step = only - np.logaddexp.reduce([only])  # softmax over one successor
        stepwise[reading] = np.exp(score + step)
        field[reading] = np.exp(score + only)
    share = field["xíng"] / sum(field.values())
    print(f"evidence {loud:2}: xíng has {stepwise['xíng']:.2f} stepwise,", end=" ")
    print(f"{share:.2f} in the field" if share > 0.005 else "under 0.005 in the field")

# %% [markdown]
# The stepwise model does not hear the second character at all. The field does, because
# it divides once, at the end. A language model that writes token by token is stepwise
# too; but it writes, and there is no later text that it would have to hear.
#
# ## Exercises
#
# **1. Warm-up.** A word has begun with B. Under jieba's transitions, how likely is it
# to have exactly $n$ characters? Write `word_length(n)` for $n \ge 2$. The numbers are
# in `jieba_hmm.transitions`, as logarithms, rows from and columns to, in the order B E
# M S.

# %%
word_length = ...  # def word_length(n): …
check.word_length(word_length)


# %% tags=["hide-cell"]
def word_length(n):
    (b_e, b_m), (m_e, m_m) = np.exp(jieba_hmm.transitions[np.ix_([0, 2], [1, 2])])
    return b_e if n == 2 else b_m * m_m ** (n - 3) * m_e


check.word_length(word_length)

# %% [markdown]
# **2. What the posterior does not notice.** Which of these changes leave $p(y \mid x)$
# as it was, for every text? Adding a number to: all starts; the emissions of *one
# symbol*, in all states; the emissions of *one state*, for all symbols; all
# transitions; the transitions out of *one state*.

# %%
unnoticed = ...  # {"starts": True or False, "one symbol": …, "one state": …, …}
check.unnoticed(unnoticed)

# %% tags=["hide-cell"]
unnoticed = {
    "starts": True,
    "one symbol": True,
    "one state": False,
    "all transitions": True,
    "out of one state": False,
}
check.unnoticed(unnoticed)

# %% [markdown]
# **3. For an evening: a longer memory.** A second-order model scores triples, $T_{ijk}$
# for a step from $j$ to $k$ after $i$. Show that it is a first-order model in disguise,
# with the $K^2$ pairs (previous state, state) as states. Write
# `as_pairs(start, steps, emissions)`: start (K, K) the log probability of the first
# *two* states, steps (K, K, K), emissions (K, V); it returns an `hmm.HMM` over the
# pairs for the symbols *from the second on*, pair $(i, j)$ being state $iK + j$, with
# zeros (K²) as `end`. Leave the first symbol's emission out; the check adds it to the
# start. What does the longer memory cost?

# %%
as_pairs = ...  # def as_pairs(start, steps, emissions): …
check.as_pairs(as_pairs)


# %% tags=["hide-cell"]
def as_pairs(start, steps, emissions):
    K = len(start)
    transitions = np.full((K, K, K, K), -np.inf)  # (i, j) to (j, k)
    for j in range(K):
        transitions[:, j, j, :] = steps[:, j, :]
    return hmm.HMM(
        start.reshape(K * K),
        transitions.reshape(K * K, K * K),
        np.tile(emissions, (K, 1)),
        np.zeros(K * K),
    )


check.as_pairs(as_pairs)

# %% [markdown]
# A step then costs $K^4$ operations, or $K^3$ if the code skips the steps that cannot
# be. That is why taggers stop at the first order and give the rest to the network.
#
# ## In short
#
# An HMM multiplies probabilities of steps and emissions under two assumptions, which
# data can be asked about, and our sentences deny both. The posterior divides by the sum
# over all labellings and so does not need probabilities: jieba's tables are none. A
# linear-chain CRF keeps that quotient and frees the scores. As long as it looks at one
# symbol at a time it is an HMM in disguise, and its gain is that it is trained for the
# question; set free to look at the whole text, it drops observation independence. The
# labels themselves remain a first-order Markov chain, given the text.
#
# How to sum over $K^L$ labellings, find the best and train through the sum:
# [the forward algorithm and Viterbi](02_forward_and_viterbi).
