# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # WordPiece and Unigram
#
# [BPE](02_bpe) cuts a word by replaying its merges in the order in which they were
# made. But a vocabulary is only a list of pieces, and a word can be cut into pieces in
# many ways. Which one? BERT takes the longest piece from the left, then the longest
# again. T5, XLNet and ALBERT give every piece a probability, and take the likeliest
# cut. The first answer is a loop. The second is a model with hidden choices: you have
# met its lattice on a bridge in Nanjing. At the end of this page you can
#
# - cut words as BERT does, and get BERT's own ids, from a blank file;
# - say what the formula that everybody quotes for WordPiece's training really prefers;
# - train a Unigram model by EM and pruning, and say why its likelihood cannot fall;
# - sum over all segmentations of a text, list the best, and draw from them;
# - say what SentencePiece learns about a text and what it does not.
#
# You need [the forward algorithm and Viterbi](../03_crf/02_forward_and_viterbi) and
# [BPE](02_bpe).

# %% tags=["hide-input"]
import importlib.util
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import sentencepiece
import tokenizers

# %% tags=["hide-input"]
from utils.exercises import subwords as check
from utils.lab import (
    above,
    approx,
    below,
    between,
    datasets,
    figures,
    notes_say,
    pretrained,
    same,
    settle,
    show,
    strings,
)
from utils.lab.figures import COLOURS, plt
from utils.tokenizers import unigram, wordpiece
from utils.tokenizers.sentencepiece import train_by_library
from utils.tokenizers.unigram import Unigram
from utils.tokenizers.wordpiece import WordPiece

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("tokenizers-sp-mlm", "tokenizers-sp-learns-semantics")

# %% [markdown]
# ## By hand: the longest piece first
#
# {term}`WordPiece WordPiece 子词 <WordPiece>` writes a piece that goes on within a word
# with ## before it. With the pieces *un*, *una*, *##able*, *##happ*, *##y* and *##ily*,
# *unhappily* is *un* (the longest piece that it begins with), then *##happ*, then
# *##ily*. Chinese readers know the method as
# {term}`maximum matching 正向最大匹配 <maximum matching (FMM/BMM)>`. It never looks ahead
# and never goes back:

# %%
small = WordPiece(["[UNK]", "un", "una", "##able", "##happ", "##y", "##ily"])
for word in ["unhappily", "unhappy", "unable", "unhappier"]:
    print(f"{word:10}", *small.cut(word))
assert small.cut("unable") == ("[UNK]",)

# %% [markdown]
# *unable* has a segmentation, *un* and *##able*. Greedy matching (贪心匹配) takes *una*,
# finds no piece for *ble*, and gives up: the *whole* word becomes [UNK], not the rest
# of it. The same happens to *unhappier*, which has no segmentation at all. Here is all
# of it, from a raw text to pieces. Before the cutting come BERT's cleaning and its
# division into words {cite}`devlin2019bert`:

# %%
show(wordpiece.normalise, wordpiece.split, WordPiece._cut)

# %% [markdown]
# `normalise` decides more than the cutting. It throws accents away, and it sets each
# Chinese character apart, so that no piece can ever hold two:

# %%
folder = pretrained.minilm_folder()
bert = WordPiece.from_file(folder / "vocab.txt")
for text in ["Unaffable résumés, naïvely", "南京市长江大桥", "ΣΊΣΥΦΟΣ"]:
    print(text, "→", *bert.tokens(text))
ideographs = [p for p in bert.pieces if wordpiece.IDEOGRAPHS.search(p)]
print(
    f"{len(bert.pieces)} pieces; with a Chinese character: {len(ideographs)};", end=" "
)
print("with two:", sum(len(p.removeprefix("##")) > 1 for p in ideographs))

# %% [markdown]
# MiniLM's vocabulary is that of BERT, uncased: it has no 南京, and not even every
# character. In BERT for Chinese, words of several characters are unknown to the
# tokenizer by construction; they have to be put together by the layers above.
#
# ## Equal to the library
#
# Similar is not enough. One different id is a different row of the embedding matrix,
# and nothing complains. So: MiniLM's own tokenizer, in Rust, on every line of text that
# this course has, and on 20,000 strings made to break tokenizers, with scripts mixed,
# marks on marks, emoji, control characters, and words of two thousand letters.

# %%
lines = [text for s in datasets.sentences() for text in (s.en, s.zh)]
for part in ("train", "dev", "test"):
    lines += ["".join(s.characters) for s in datasets.ner(part)]
for corpus in (datasets.english(), datasets.chinese(), datasets.code()):
    lines += [line for line in corpus.split("\n") if line.strip()]
odd = strings.mixed(20_000)

theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
theirs.no_truncation()
theirs.no_padding()
for name, texts in [("lines of the corpus", lines), ("odd strings", odd)]:
    encodings = theirs.encode_batch(texts, add_special_tokens=False)
    pairs = zip(texts, encodings, strict=True)
    different = sum(bert.encode(text) != encoding.ids for text, encoding in pairs)
    print(f"{name}: {len(texts)}, with different ids: {different}")
    assert different == 0

# %% [markdown]
# A test goes through all code points, one by one. Python's tables of Unicode and the
# library's are of different age, so the two disagree about some signs that came late
# (marks, punctuation and capitals of young scripts), and about four old ones that have
# changed category. On whatever was settled with Unicode 3.2, in 2002, they agree. As to
# cost, a word takes at most $M$ look-ups a piece, $M$ being the length of the longest;
# a trie that knows where to go on after a failure does with one pass
# {cite}`song2021fast`.
#
# ## How WordPiece is trained
#
# The paper {cite}`schuster2012voice` starts from characters and merges, as BPE does,
# but chooses the pair that raises the likelihood (似然) of the training text most. Google
# never published the program. What is taught in its place is a formula:
#
# $$
# \mathrm{score}(a, b) =
# \frac{\mathrm{count}(ab)}{\mathrm{count}(a)\, \mathrm{count}(b)} .
# $$ (eq-wordpiece-ratio)
#
# A well-known course works it out on five words {cite}`hfcourse`: *hug* 10 times, *pug*
# 5, *pun* 12, *bun* 4, *hugs* 5. Every pair but one contains *##u*, which stands in all
# 36 words, and has the score 1/36. The one is *##g ##s*, with 5 / (20 · 5), so it is
# merged first:

# %%
hug = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
alphabet = wordpiece.train(hug, 0)
print("characters:", *alphabet)
for criterion in (wordpiece.by_ratio, wordpiece.by_count):
    made = wordpiece.train(hug, 4, criterion)[len(alphabet) :]
    print(f"{criterion.__name__:9} merges to", *made)

# %% [markdown]
# The merges by the ratio are those of the course. From its three, *##gs*, *hu* and
# *hugs*, it then concludes that WordPiece has *hugs* in one piece, while BPE, applying
# the merges in order, would stop at *hu ##gs*. Let us apply them in order.


# %%
def replay(word, merges):
    """Cut a word as BPE does: each merge in turn."""
    pieces = [word[0], *("##" + c for c in word[1:])]
    for a, b in merges:
        for i in range(len(pieces) - 2, -1, -1):
            if pieces[i : i + 2] == [a, b]:
                pieces[i : i + 2] = [a + b.removeprefix("##")]
    return pieces


three = [("##g", "##s"), ("h", "##u"), ("hu", "##gs")]
print("after ##gs, hu, hugs:", *replay("hugs", three))
assert replay("hugs", three) == ["hugs"]

other = [("##g", "##s"), ("h", "##u"), ("hu", "##g")]
pieces = [*alphabet, *(a + b.removeprefix("##") for a, b in other)]
print("after ##gs, hu, hug: BPE", *replay("hugs", other), end="; WordPiece ")
print(*WordPiece(["[UNK]", *pieces]).cut("hugs"))

# %% [markdown]
# The third merge makes *hugs* in BPE as well: a slip that is easily made and easily
# read over. The difference is real, but it takes a long piece that was made too late:
# after *##gs*, *hu* and *hug*, BPE's first merge has used up the *g*. WordPiece does
# not know the order, and takes the longest.
#
# ## What the formula prefers
#
# The likelihood in question is that of a model in which pieces are drawn one by one. To
# first order a merge adds
#
# $$
# \mathrm{gain}(a, b) = \mathrm{count}(ab)\,
# \log \frac{\mathrm{count}(ab)\; n}{\mathrm{count}(a)\, \mathrm{count}(b)} ,
# $$ (eq-wordpiece-gain)
#
# with $n$ pieces in the text. The logarithm is the *pointwise mutual information*
# (点互信息) of the two, and {eq}`eq-wordpiece-ratio` is its exponential over $n$: it keeps
# the surprise of a meeting and forgets **how often** the two meet. What does that do to
# text? A hundred thousand characters of English, and the first merges by each rule:

# %%
sample = datasets.english()[:100_000]
words = Counter(
    word
    for line in sample.split("\n")
    for word in wordpiece.split(wordpiece.normalise(line))
)
rules = wordpiece.by_count, wordpiece.by_gain, wordpiece.by_ratio
vocabularies = {rule.__name__: wordpiece.train(words, 800, rule) for rule in rules}
base = len(wordpiece.train(words, 0))
for name, vocabulary in vocabularies.items():
    print(f"{name:9}", *vocabulary[base : base + 9])
for word in ("79155222", "the"):
    print(f"{word!r} occurs {words[word]} times")
assert vocabularies["by_ratio"].index("79155222") < base + 9
assert "the" not in vocabularies["by_ratio"]

# %% mystnb={"figure": {"caption": "Pieces that an average word is cut into, by longest match, as the vocabulary grows: merges chosen by count (as BPE), by the gain in likelihood, and by the ratio that is usually taught.", "name": "fig-wordpiece-rules"}, "image": {"alt": "Three lines against the number of merges from 0 to 800. Two of them, count and gain, fall together from 3.6 pieces to 1.3. The third, the ratio, hardly falls for 300 merges and ends near three."}} tags=["hide-input"]
grid = [0, 25, 50, 100, 200, 300, 400, 600, 800]
styles = {"by_count": "o-", "by_gain": "s--", "by_ratio": "^:"}
per_word = {}
for name, vocabulary in vocabularies.items():
    per_word[name] = []
    for merges in grid:
        cutter = WordPiece(["[UNK]", *vocabulary[: base + merges]])
        found = sum(n * len(cutter.cut(word)) for word, n in words.items())
        per_word[name].append(found / words.total())

figure, ax = plt.subplots(figsize=(5.4, 3.0))
palette = (COLOURS[c] for c in ("blue", "green", "vermilion"))
for (name, curve), colour in zip(per_word.items(), palette, strict=True):
    ax.plot(grid, curve, styles[name], color=colour, label=name.replace("_", " the "))
ax.set(xlabel="merges", ylabel="pieces per word", ylim=(1, None))
ax.legend()
plt.show()

# %%
for name, curve in per_word.items():
    print(f"{name}: {curve[-1]:.2f} pieces per word after {grid[-1]} merges")
assert per_word["by_ratio"][-1] > 2 * per_word["by_count"][-1]

# %% [markdown]
# The ratio is greatest where two pieces occur once, and together. So its first merges
# are the digits of one long number, and after 800 merges it has not met *the*. On five
# words one does not see it. On text the formula needs at least a second rule, a least
# count for pairs. The gain, with the count before the logarithm, does as well as BPE.
#
# And the library? `tokenizers` has a `WordPieceTrainer`. Ask it for one piece more than
# the characters, then two, then three. (It keeps the letters without ##, too, so its
# alphabet is larger by four.)


# %%
def library_pieces(merges):
    """What WordPieceTrainer has made on the five words, beyond single characters."""
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=11 + merges, show_progress=False
    )
    model.train_from_iterator([w for w, n in hug.items() for _ in range(n)], trainer)
    return {p for p in model.get_vocab() if len(p.removeprefix("##")) > 1}


for merges in (1, 2, 3):
    made = library_pieces(merges)
    by_count = {*wordpiece.train(hug, merges, wordpiece.by_count)[len(alphabet) :]}
    by_ratio = {*wordpiece.train(hug, merges, wordpiece.by_ratio)[len(alphabet) :]}
    print(merges, *sorted(made), "| by count:", made == by_count, end="; ")
    print("by ratio:", made == by_ratio)
    assert made == by_count != by_ratio

# %% [markdown]
# It counts. The class is BPE with ## in front {cite}`hftokenizers`. So much for
# training WordPiece: BERT's vocabulary exists, the rule that made it is a guess, and
# the program that carries its name does something else.
#
# ## By hand: all the ways to cut a word
#
# The {term}`Unigram model 一元语言模型分词 <unigram language model>`
# {cite}`kudo2018subword` needs no rule of cutting. Every piece $v$ has a probability
# $p(v)$, pieces are drawn independently, and a segmentation $s = (v_1, \dots, v_m)$ has
# the product of its pieces:
#
# $$
# p(s) = \prod_{i=1}^{m} p(v_i), \qquad
# p(x) = \sum_{s \in S(x)} p(s) ,
# $$ (eq-unigram)
#
# where $S(x)$ are all ways to cut the text $x$. The same course takes all strict
# substrings of its five words as pieces, and their frequencies for probabilities:

# %%
frequency = Counter()
for word, n in hug.items():
    for i in range(len(word)):
        for j in range(i + 1, len(word) + 1):
            frequency[word[i:j]] += n * (word[i:j] not in {*hug} - {"hug"})
frequency += Counter()  # drops what stayed at zero
total = frequency.total()
print(total, dict(frequency))
course = Unigram({piece: math.log(n / total) for piece, n in frequency.items()})
for pieces, score in course.nbest("pug", 9):
    counts = " · ".join(f"{frequency[p]}/{total}" for p in pieces)
    print(f"{' '.join(pieces):6} {counts} = {math.exp(score):.7f}")

# %% [markdown]
# Two segmentations of *pug* tie, and the third has less than a fifth of their
# probability. Compare the course's page: it has 0.0022676, 0.0022676 and 0.000389. It
# counts *p* 17 times in its table, and 5 times, the count of the word *pug*, in the
# products. (Further down on the same page *pug* has 0.007710, as here.) Its program has
# a slip of the same kind: the first position starts with the score 1, the probability
# of nothing, where the *logarithm* of it, 0, belongs. Every word's loss is too large by
# one; no choice changes, because all ways start there, and so nobody noticed.
#
# {numref}`fig-unigram-lattice` has the lattice (词格) of a line that you know. Its pieces
# are the words of jieba's dictionary {cite}`jieba`, with the counts that stand beside
# them. A dictionary with counts *is* a Unigram model.

# %%
package = Path(importlib.util.find_spec("jieba").submodule_search_locations[0])
entries = (package / "dict.txt").read_text(encoding="utf-8").split("\n")
dictionary = {word: int(n) for word, n, _ in map(str.split, filter(None, entries))}
uses = sum(dictionary.values())


def by_dictionary(text):
    """The Unigram model of those words of the dictionary that the text can use."""
    inside = {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    found = {w: math.log(dictionary[w] / uses) for w in inside if dictionary.get(w)}
    return Unigram(found, unknown=-math.log(uses))


for line in ("南京市长江大桥", "长春市长春节致辞"):
    model = by_dictionary(line)
    whole, all_ways = model.log_likelihood(line), model.nbest(line, 10_000)
    print(f"{line}: {len(all_ways)} ways to cut it")
    for pieces, score in all_ways[:3]:
        print(f"   {math.exp(score - whole):.4f}", " | ".join(pieces))
    assert abs(sum(math.exp(s - whole) for _, s in all_ways) - 1) < 1e-9

# %% mystnb={"figure": {"caption": "The lattice of \u5357\u4eac\u5e02\u957f\u6c5f\u5927\u6865 under the counts of jieba\u2019s dictionary. Each arc is a word; the number is the posterior probability of a word of several characters, where that rounds to 0.001 or more. The thick path is the best.", "name": "fig-unigram-lattice"}, "image": {"alt": "Eight positions on a line with the seven characters between them, and an arc for each dictionary word from its beginning to its end. The arcs for \u5357\u4eac\u5e02 and \u957f\u6c5f\u5927\u6865 are thick, with posteriors near one; \u5e02\u957f and the others are thin."}} tags=["hide-input"]
line = "南京市长江大桥"
model = by_dictionary(line)
posterior, best = model.posterior(line), model.segment(line)
figure, ax = plt.subplots(figsize=(6.4, 3.0))
figures.canvas(ax, 7.4, 3.5)
for (start, end), share in posterior.items():
    middle, height = (start + end) / 2 + 0.2, 0.55 * (end - start) ** 0.95
    x = np.linspace(0, np.pi, 40)
    chosen = line[start:end] in best
    colour = COLOURS["vermilion"] if chosen else COLOURS["blue"]
    arc_x = middle - (end - start) / 2 * np.cos(x)
    ax.plot(arc_x, 0.75 + height * np.sin(x), color=colour, lw=3 if chosen else 1)
    if end - start > 1:
        shown = f" {share:.3f}" if share >= 0.0005 else ""
        side = ("bottom", 0.8) if end - start > 2 else ("top", 0.68)
        label = ax.text(middle, side[1] + height, f"{line[start:end]}{shown}", size=9)
        label.set(ha="center", va=side[0])
for t, character in enumerate(line):
    ax.text(t + 0.7, 0.42, character, ha="center", va="center", size=14)
ax.plot(np.arange(8) + 0.2, [0.75] * 8, "o", color="#444444", ms=4)
plt.show()

# %% [markdown]
# The mayor has vanished, and 长春 | 市长 | 春节 | 致辞, at which the
# [HMM of chapter 03](../03_crf/01_from_hmm_to_crf) stumbled, is right, though only by
# 0.58 to 0.39. The HMM knew where characters like to stand in a word; this model knows
# the words. (A test finds jieba's own dictionary mode cutting all our Chinese just so.)
#
# ## In general
#
# The lattice has positions $0 \dots L$ and, for each piece that is $x_{s:e}$, an edge
# from $s$ to $e$. With $\alpha_0 = 1$,
#
# $$
# \alpha_e = \sum_{s \to e} \alpha_s\, p(x_{s:e}), \qquad
# \delta_e = \max_{s \to e} \delta_s\, p(x_{s:e}) ,
# $$ (eq-unigram-forward)
#
# $\alpha_L = p(x)$ is the *forward algorithm*, $\delta_L$ is *Viterbi*: the recursions
# of chapter 03 on a lattice whose edges have different lengths. There are at most
# $L \cdot M$ of them, $M$ the length of the longest piece. A *trie* (字典树), a dictionary
# of dictionaries with one level for each character, lists those that leave a position:

# %%
show(Unigram.leaving, Unigram.segment)

# %% [markdown]
# ## Training: from counts to EM
#
# Frequencies of substrings are no good probabilities: *hug* counts for *h*, *hu*, *u*,
# *ug* and *g* too, but whoever draws *hug* has drawn none of these. If we saw how
# each word was cut, we would count the pieces. We do not, and this is what
# *expectation–maximisation* (期望最大化, EM) is for {cite}`dempster1977em`:
#
# - **E**: with the present $p$, let each word be cut in all ways at once, each by its
#   posterior (后验), and add up what every piece gets:
#   $c(v) = \sum_x n_x\, \mathbb{E}[\,\text{uses of } v \text{ in } s \mid x\,]$.
#   Forward times backward gives the posterior of each edge.
# - **M**: $p(v) = c(v) / \sum_{v'} c(v')$.

# %%
show(unigram.expected_counts, unigram.maximise)


# %% [markdown]
# Why can the likelihood not fall? Take any other probabilities $q$. Then
# $\log \frac{q(x)}{p(x)} = \log \sum_s p(s \mid x) \frac{q(s)}{p(s)} \ge \sum_s p(s \mid x) \log \frac{q(s)}{p(s)}$,
# by Jensen's inequality, and summed over the words the right side is
# $\sum_v c(v) \log \frac{q(v)}{p(v)}$. Among all $q$ that sum to one, the M step's is
# the one that makes it largest, and $q = p$ makes it zero. So it is at least zero. It
# does not say how soon:


# %%
def em(model, table, steps):
    """EM's log likelihoods (steps + 1), and the model after each step."""
    curve, models = [], [model]
    for _ in range(steps + 1):
        counts, likelihood = unigram.expected_counts(models[-1], table)
        curve.append(likelihood)
        models.append(unigram.maximise(counts))
    return np.array(curve), models[:-1]


toy_curve, toy = em(course, hug, 200)
for step in (0, 10, 50, 60):
    shares = {p: math.exp(s) for p, s in toy[step].scores.items()}
    kept = " ".join(p for p, share in shares.items() if share > 0.01)
    print(f"step {step:3}: log p = {toy_curve[step]:.2f}, over 0.01: {kept}")
assert np.diff(toy_curve).min() > -1e-9

# %% [markdown]
# For fifty steps the model sits between two explanations, *p un* and *pu n*, that
# look equally good, and then it decides. What it comes to is six pieces from which all
# five words can be made in one way each. Nobody told it that *hug* and *s* are a good
# idea.
#
# ## Pruning
#
# Training starts from many pieces (`seed`: strings that occur twice or more and do not
# always go on alike) and ends with as many as one wants. So EM is interrupted by
# *pruning* (剪枝): for each piece, estimate what the text would lose without it, and drop
# the cheapest. The estimate supposes that everything else stays, and that is not
# innocent. On the course's model:


# %%
def loss(model, table):
    """−Σ n log p(best segmentation): the course's loss."""
    return -sum(n * model.score(model.segment(word)) for word, n in table.items())


def without(*gone):
    kept = {p: s for p, s in course.scores.items() if p not in gone}
    return loss(Unigram(kept, course.unknown), hug) - loss(course, hug)


print(f"loss {loss(course, hug):.1f}")
for gone in [("hug",), ("pu",), ("un",), ("pu", "un")]:
    print(f"without {' and '.join(gone):9} + {without(*gone):.1f}")

# %% [markdown]
# The first three lines agree with the course (169.8; 23.5; nothing). The last is why
# pieces must not go by their own losses all at once: *pu* can be spared because *un* is
# there, and *un* because *pu* is. SentencePiece drops a quarter of the pieces a round,
# and lets EM repair the rest. Here is the whole of it, and then, on the English of
# above, a version in which half of them go, so that one sees it:

# %%
show(unigram.removal_losses, unigram.train)

# %%
table = Counter(f"▁{word}" for line in sample.split("\n") for word in line.split())
characters = sum(n * len(word) for word, n in table.items())
grown, sizes, curves = Unigram(unigram.seed(table, 20_000)), [], []
while True:
    curve, models = em(grown, table, 4)
    sizes.append(len(grown.scores))
    curves.append(curve / characters)
    if sizes[-1] <= 1100:
        break
    target = max(1100, int(0.5 * len(models[-1].scores)))
    grown = unigram.prune(models[-1], table, target)
english = unigram.train(table, 1000)
likeliest = sorted(english.scores, key=english.scores.get, reverse=True)
long_ones = [piece for piece in likeliest if len(piece) > 6]
print("pieces in each round:", *sizes)
print("of the finished 1000, likely and long:", *long_ones[:9])
rises = [np.diff(curve).min() for curve in curves]  # the least of each round
assert min(rises) > -1e-9 and len(english.scores) == 1000

# %% mystnb={"figure": {"caption": "Left: EM on five words; the likelihood rests on a plateau until two explanations part. Right: English, four EM steps a round, half of the pieces pruned between rounds. Within a round the likelihood never falls; each pruning costs.", "name": "fig-unigram-em"}, "image": {"alt": "Two line charts of log likelihood against steps. Left: a fast rise, a long flat part, a second rise soon after step 50, then flat. Right: four rounds with fewer and fewer pieces; the line rises at the first step of three of them, is flat in the second, and drops between rounds, most at the last two."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, height=2.8)
left.plot(toy_curve, color=COLOURS["blue"])
left.set(xlabel="EM step", ylabel="log likelihood", title="hug, pug, pun, bun, hugs")
step = 0
for number, (size, curve) in enumerate(zip(sizes, curves, strict=True)):
    where = np.arange(step, step + len(curve))
    colour = COLOURS["blue" if number % 2 == 0 else "orange"]
    right.plot(where, curve, "o-", color=colour, ms=3)
    right.text(where[-1], curve[-1] + 0.015, str(size), ha="center", size=7.5)
    step += len(curve)
right.set(xlabel="EM step", title="English; pieces at each round")
right.set(ylabel="log likelihood per character")
right.margins(y=0.15)
plt.show()
figures.digest("log likelihood per character", np.concatenate(curves))

# %% [markdown]
# The first pruning takes nearly three quarters of the pieces and costs nothing: EM had
# left them without use. The later ones cost, and one EM step repairs what can be
# repaired. What has been gained with a finished model? As many pieces as BPE had in
# {numref}`fig-wordpiece-rules`, on the same words:

# %%
rival = Counter({f"▁{word}": n for word, n in words.items()})
finished = unigram.train(rival, len(vocabularies["by_count"]))
used = sum(n * len(finished.segment(word)) for word, n in rival.items())
by_unigram, by_count = used / words.total(), per_word["by_count"][-1]
print(f"pieces per word: {by_unigram:.2f}; merged by count {by_count:.2f}")
assert by_unigram < by_count - 0.05

# %% [markdown]
# Merges leave behind the steps on which they were made: once *tion* is there, *tio* is
# a waste. Pruning clears them away. {cite}`bostrom2020byte` pre-trained models like
# BERT on both and found Unigram's pieces nearer to morphology, and its models as good
# or better.
#
# ## Equal to SentencePiece
#
# Train SentencePiece {cite}`kudo2018sentencepiece` on English and Chinese, hand its
# pieces and scores to our Viterbi, and cut everything again, after SentencePiece's own
# normalisation. It adds up scores in 32 bits, so ties fall by rounding; and where a sum
# sinks below −100,000 it begins again from zero, to have digits left. We found the
# second by looking for the one string in twenty thousand that differed. `single` does
# both. Unknown characters (生词) score 10 less than the worst piece; neighbouring ones
# are shown as one. (`tokenizers` adds in 64 bits; without `single` our pieces are its
# pieces, as a test confirms.)


# %%
def sentencepiece_model(texts, kind, size, **options):
    """A model trained by SentencePiece, in memory; the next page opens its file."""
    data = train_by_library(texts, model_type=kind, vocab_size=size, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def pieces_of(model):
    """Piece → score, without <unk>, <s> and </s>."""
    numbers = range(3, model.get_piece_size())
    return {model.id_to_piece(i): model.get_score(i) for i in numbers}


# %%
bilingual = sample.split("\n") + datasets.chinese().split("\n")
trained = sentencepiece_model(bilingual, "unigram", 3000, character_coverage=0.99)
ours = Unigram(pieces_of(trained), single=True)
for name, texts in [("lines of the corpus", lines[::2]), ("odd strings", odd)]:
    different = 0
    for text in texts:
        found = ours.fused(ours.segment(trained.normalize(text)))
        different += found != trained.encode(text, out_type=str)
    print(f"{name}: {len(texts)}, with different pieces: {different}")
    assert different == 0

# %% [markdown]
# ## Masks? Neighbours?
#
# Now the notes' story: SentencePiece hides some words behind [MASK] and lets a model
# predict them from their neighbours, as BERT is trained. If so, there is a [MASK] in
# the vocabulary. And if so, neighbours matter: shuffle all words of the corpus, and
# nothing is left to predict them from. We train SentencePiece's other method, BPE, on
# letters only, once in order and once shuffled, and compare it with a few lines of
# counting.

# %%
letters = "abcdefghijklmnopqrstuvwxyz"
plain = ["".join(c for c in w if c in letters) for w in sample.lower().split()]
plain = [word for word in plain if word]
shuffled = random.Random(0).sample(plain, len(plain))


def in_lines(texts):
    return [" ".join(texts[i : i + 12]) for i in range(0, len(texts), 12)]


by_bpe = sentencepiece_model(in_lines(plain), "bpe", 500)
by_bpe_shuffled = sentencepiece_model(in_lines(shuffled), "bpe", 500)

# %%
symbols = {tuple(f"▁{word}"): n for word, n in Counter(plain).items()}
merges = []
for _ in range(50):
    count = Counter()
    for parts, n in symbols.items():
        for a, b in pairwise(parts):
            count[a + b] += n
    merges.append(min(count, key=lambda s: (-count[s], len(s), s)))
    cut = {}
    for parts, n in symbols.items():
        parts = list(parts)
        for i in range(len(parts) - 2, -1, -1):
            if "".join(parts[i : i + 2]) == merges[-1]:
                parts[i : i + 2] = [merges[-1]]
        cut[tuple(parts)] = n
    symbols = cut

# %%
in_order = list(pieces_of(by_bpe).items())
print("SentencePiece:", *(piece for piece, _ in in_order[:12]))
print("our lines:    ", *merges[:12])
print("scores:", *(round(score) for _, score in in_order[:6]), "…")
mass = sum(math.exp(score) for score in pieces_of(trained).values())
print("Unigram scores, as probabilities, add up to", approx(mass, 0.9, 1.0))
by_em, by_em_shuffled = (
    sentencepiece_model(in_lines(texts), "unigram", 500) for texts in (plain, shuffled)
)
kept = np.mean(
    [
        by_em.encode(w, out_type=str) == by_em_shuffled.encode(w, out_type=str)
        for w in {*plain}
    ]
)
print("Unigram, shuffled: words cut as before", approx(kept, 0, 0.9))

# %%
settle(
    "tokenizers-sp-mlm",
    same(trained.piece_to_id("[MASK]"), trained.unk_id()),
    same(by_bpe.piece_to_id("[MASK]"), by_bpe.unk_id()),
    same(pieces_of(by_bpe), pieces_of(by_bpe_shuffled)),
    same([piece for piece, _ in in_order[:50]], merges),
    between(mass, 0.9, 1.0),
    above(min(rises), -1e-9),
    note="shuffled: all words of the corpus in random order; rises: EM's steps",
)

# %% [markdown]
# Shuffling leaves BPE's vocabulary as it was, piece for piece: it never looked at a
# neighbour. For Unigram our own `train` is given a table of words and counts and has no
# neighbours to look at. (SentencePiece's does look at them once, when it collects its
# seeds: shuffled, it cuts a third of the words otherwise. That is a side effect, see
# below, and no prediction.) The scores of BPE are no probabilities but minus the order
# of the merges. Those of Unigram add up to a little less than one. The missing share
# went with a change to the M step {cite}`sentencepiecetrainer`: $\psi(c)$, the *digamma
# function*, in place of $\log c$, which makes rare pieces rarer; and with the last cut
# to size.
#
# ## Meaning?
#
# The notes also say that SentencePiece learns the *semantics and structure* of a text.
# What a word means shows in its neighbours. The shuffle above took them all away, and
# BPE's vocabulary stayed. Nor does the spelling carry it: rename the letters, once and
# for all, each to another, and every count is as it was. Structure can be taken out,
# too: give each *word* a random string of its length for a name. Words that shared a
# stem share nothing now. We train on each, and ask how many words are cut in the same
# places as before.

# %%
rng = random.Random(0)
renamed = str.maketrans(letters, "".join(rng.sample(letters, 26)))
names = {
    word: "".join(rng.choices(letters, k=len(word))) for word in dict.fromkeys(plain)
}
texts = {
    "as it is": plain,
    "letters renamed": [word.translate(renamed) for word in plain],
    "words renamed": [names[word] for word in plain],
}
for name, text in texts.items():
    print(f"{name:16}", *text[40:48])


# %%
def places(model, word):
    """Where a word is cut: the lengths of its pieces."""
    return [len(piece) for piece in model.encode(word, out_type=str)]


stays = {}
for kind in ("unigram", "bpe"):
    base_model, letters_model, names_model = (
        sentencepiece_model(in_lines(text), kind, 500) for text in texts.values()
    )
    cuts = [places(base_model, word) for word in names]
    renamed_cuts = [places(letters_model, w.translate(renamed)) for w in names]
    named_cuts = [places(names_model, name) for name in names.values()]
    for what, others in {"letters": renamed_cuts, "words": named_cuts}.items():
        equal = sum(a == b for a, b in zip(cuts, others, strict=True))
        stays[kind, what] = equal / len(cuts)
        shown = approx(stays[kind, what], 0, 1)
        print(f"{kind:8} {what} renamed: {shown} of {len(cuts)} words")

# %%
settle(
    "tokenizers-sp-learns-semantics",
    same(pieces_of(by_bpe), pieces_of(by_bpe_shuffled)),
    above(stays["unigram", "letters"], 0.99),
    above(stays["bpe", "letters"], 0.99),
    below(stays["unigram", "words"], 0.5),
    below(stays["bpe", "words"], 0.5),
    note="share of the words that are cut in the same places",
)

# %% [markdown]
# Unsupervised (无监督): yes. Structure: yes, in the sense of which strings repeat.
# Meaning: no, for it has only words and counts.
#
# ## Many ways to cut, on purpose
#
# A probability for every segmentation is good for more than the best one. The `nbest`
# list, and a sample: sums run forwards, then pieces are drawn backwards, each with its
# share of the sum, so that a whole segmentation comes with exactly its posterior. Raise
# probabilities to a power $\alpha$ first: below 1 the draw is bolder, above 1 more
# timid. *Subword regularisation* (子词正则化) {cite}`kudo2018subword` gives a translation
# model another cut of the same sentence in each epoch, so that it learns that they are
# the same. (BPE has no probabilities, and gets its variety from dropping merges at
# random {cite}`provilkov2020dropout`.)

# %%
show(Unigram.sample)

# %% mystnb={"figure": {"caption": "The nine likeliest ways to cut \u2581reconnected under the model trained above: exact probabilities for three values of \u03b1 (bars), and their shares in 4,000 draws (dots).", "name": "fig-unigram-sampling"}, "image": {"alt": "Three rows of horizontal bars, one panel for each alpha 0.2, 1 and 3, with nine segmentations. With alpha 0.2 all bars are similar and short; with 3 the first has nearly everything. The dots sit at the ends of the bars."}} tags=["hide-input"]
word, draws, rng = "▁reconnected", 4000, random.Random(0)
every = english.nbest(word, 100_000)
figure, axes = figures.panels(3, height=3.0, sharey=True)
worst = 0.0
for ax, alpha in zip(axes, (0.2, 1.0, 3.0), strict=True):
    weights = np.exp([alpha * score for _, score in every])
    exact = weights / weights.sum()
    drawn = Counter(" ".join(english.sample(word, alpha, rng)) for _ in range(draws))
    found = np.array([drawn[" ".join(way)] for way, _ in every])
    assert found.sum() == draws  # each draw is one of the segmentations
    sigma = np.sqrt(draws * exact * (1 - exact))
    worst = max(worst, (np.abs(found - draws * exact) / (sigma + 1)).max())
    ax.barh(range(9), exact[:9], color=COLOURS["sky"])
    ax.plot(found[:9] / draws, range(9), "o", color=COLOURS["vermilion"], ms=4)
    ax.set(title=f"α = {alpha:g}", xlabel="share", xlim=(0, 1))
axes[0].set_yticks(range(9), ["|".join(way) for way, _ in every[:9]])
axes[0].invert_yaxis()
plt.show()

# %%
print(f"{len(every)} ways to cut {word}; worst deviation below 4.5 standard errors")
assert worst < 4.5

# %% [markdown]
# Every draw decodes to the same text. SentencePiece's own draws, from its own model,
# have our probabilities too; here for the α that its users write most often:

# %%
sentencepiece.set_random_generator_seed(1)
text = "embedding"
mine, draws = Unigram(pieces_of(trained)), 4000
ways = mine.nbest(trained.normalize(text), 100_000)
weights = np.exp([0.1 * score for _, score in ways])
exact = dict(zip((" ".join(w) for w, _ in ways), weights / weights.sum(), strict=True))
options = {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1, "out_type": str}
drawn = Counter(" ".join(trained.encode(text, **options)) for _ in range(draws))
assert drawn.keys() <= exact.keys()
errors = [
    abs(drawn[way] - draws * p) / (math.sqrt(draws * p * (1 - p)) + 1)
    for way, p in exact.items()
]
print(f"{len(exact)} ways; SentencePiece's draws agree: {max(errors) < 4.5}")
assert max(errors) < 4.5

# %% [markdown]
# ## Where people go wrong
#
# **Frequent words that get no piece.** Look for frequent words of the corpus that are
# no pieces of a large SentencePiece model:

# %%
whole = sentencepiece_model(sample.split("\n"), "unigram", 1500, character_coverage=1.0)
own = unigram.train(table, 1500)
text = f" {sample} ".replace("\n", "\n ")
often = [w for w, n in table.items() if n >= 40 and w[1:].isalpha()]
follows = {
    w: {text[i + len(w)] for i in range(len(text)) if text.startswith(f" {w[1:]}", i)}
    for w in often
}
before_blank = [w for w in often if follows[w] == {" "}]
missing = [w for w in often if w not in pieces_of(whole)]
print("missing:", *(f"{w} ({table[w]}×)" for w in missing))
print(
    f"{len(often)} frequent words; always before a blank: {len(before_blank)}, of these"
)
print(
    "missing:", sum(w in missing for w in before_blank), end="; of the others missing: "
)
print(sum(w not in before_blank for w in missing))
print("of the graph:", *whole.encode("of the graph", out_type=str))
assert set(missing) <= set(before_blank) and all(w in own.scores for w in often)

# %% [markdown]
# *of*, hundreds of times in the text, has no piece. All the missing words stand before
# a blank, always. SentencePiece's seeds come from a suffix tree (后缀树), whose inner
# nodes are the strings that *continue in two ways*. A word that is always followed by ▁
# is not one of them; the word with its ▁ is, and that is no valid piece. So the word is
# never a candidate, however frequent. The same befalls whatever always ends a line
# {cite}`sentencepiece615,sentencepiece1047`. In a large corpus a word soon meets a
# comma; in a small or uniform one look for your commonest words. Our `seed` looks at
# words alone, takes the end of one for a way to go on, and has them.
#
# **[UNK] for a whole word**, and **decoding**. One sign outside the vocabulary, and
# BERT loses the word around it. Accents, capitals and blanks are gone in any case; what
# `decode` returns is readable and not the text.

# %%
for text in ("Naïve☃ questions, please", "Naïve ☃ questions, please"):
    print(text, "→", bert.decode(bert.encode(text)))

# %% [markdown]
# **Sums in 32 bits.** On a long line a Viterbi in 64 bits, such as that of
# `tokenizers`, can find a path that is a little better, and so other pieces than
# SentencePiece. Which is right? The one that the network was trained with.

# %%
digits = "".join(random.Random(0).choices("0123456789", k=100_000))
cuts, scores, known = [], [], pieces_of(whole)
for single in (True, False):
    model = Unigram(known, single=single)
    found = model.segment(whole.normalize(digits))
    if single:
        assert model.fused(found) == whole.encode(digits, out_type=str)
    cuts.append({*np.cumsum([len(piece) for piece in found]).tolist()})
    scores.append(sum(known.get(piece, 0.0) for piece in found))
print(
    "a row of 100,000 digits is cut elsewhere at", approx(len(cuts[0] ^ cuts[1]), 1, 90)
)
print("places; in 64 bits log p is larger by", approx(scores[1] - scores[0], 0, 1))

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** In how many ways can a text be cut into pieces of a vocabulary? Write
# `ways(text, pieces)`, where `pieces` is a set of strings: a whole number, 0 if there
# is none, and 1 for the empty text. Listing them is too slow for the check.

# %%
ways = ...  # def ways(text, pieces): …
check.ways(ways)


# %% tags=["hide-cell"]
def ways(text, pieces):
    count = [1] + [0] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(end):
            if text[start:end] in pieces:
                count[end] += count[start]
    return count[-1]


check.ways(ways)

# %% [markdown]
# **2. Shorter than greedy.** Write `fewest(word, pieces)`: the least number of pieces
# that a word can be cut into, with ## as in WordPiece, or `None`. How often is BERT's
# greedy cut longer than need be?

# %%
fewest = ...  # def fewest(word, pieces): …
check.fewest(fewest)


# %% tags=["hide-cell"]
def fewest(word, pieces):
    best = [0] + [math.inf] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(end):
            if ("##" if start else "") + word[start:end] in pieces:
                best[end] = min(best[end], best[start] + 1)
    return None if best[-1] == math.inf else best[-1]


check.fewest(fewest)
known = set(bert.pieces)
longer = [w for w in words if len(bert.cut(w)) > (fewest(w, known) or math.inf)]
print(f"greedy is longer for {len(longer)} of {len(words)} words:", *longer[:4])

# %% [markdown]
# **3. For an evening: how undecided is a text?** The entropy (熵) of the posterior,
# $H = -\sum_s p(s \mid x) \log p(s \mid x)$ in nats, measures it. A text of fifty
# characters has too many segmentations to list. Write `entropy(model, text)` with
# `model.posterior(text)` and `model.log_likelihood(text)`. (`model.scores` has the
# score of each piece.)

# %%
entropy = ...  # def entropy(model, text): …
check.entropy(entropy)


# %% tags=["hide-cell"]
def entropy(model, text):
    spent = sum(
        share * model.scores.get(text[start:end], model.unknown)
        for (start, end), share in model.posterior(text).items()
    )
    return model.log_likelihood(text) - spent


check.entropy(entropy)
for line in ("南京市长江大桥", "乒乓球拍卖完了", "长春市长春节致辞"):
    print(f"{line}: {entropy(by_dictionary(line), line):.3f} nats")

# %% [markdown]
# ## In short
#
# WordPiece keeps the pieces and forgets the merges: it takes the longest piece from the
# left, and [UNK] if that leads nowhere. The ratio that is taught for its training
# prefers what is rare; the gain in likelihood does not; the library counts pairs like
# BPE. Unigram gives every piece a probability and a text the sum over its
# segmentations. Forward, Viterbi, n-best and sampling are the recursions of chapter 03
# on a lattice of words. EM raises the likelihood at each step, pruning takes pieces
# away, and neither hides a word nor knows what one means. jieba's dictionary is such a
# model, and finds the bridge.
#
# What the library around it adds, from raw text and back:
# [SentencePiece](04_sentencepiece).
