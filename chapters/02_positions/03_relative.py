# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How far, not where
#
# No sentence was ever understood because a word stood at place 517. "The verb is two
# words back" is something else: it is true at the start of a book and on its last page.
# Yet the [absolute encodings](02_absolute) number the places, and leave it to the model
# to learn that 515 and 517 are as far apart as 15 and 17. Can attention be told the
# distance, and nothing but the distance?
#
# There are two answers. One adds something to the scores, one number for each distance.
# The other adds nothing to anything: it turns queries and keys like the hands of a
# clock. LLaMA works that way, and so do most of the newer models that this page asks.
# At the end you can
#
# - draw the matrix B of a relative bias, and count its parameters;
# - say what T5, ALiBi and Shaw put into it, and which of them can point at "three
#   back";
# - derive rotary positions with complex numbers, in three lines;
# - tell the two ways of pairing features apart, and say what happens to a checkpoint
#   that is read with the wrong one;
# - say which of RoPE's famous properties it has, and which it does not have.
#
# You need [blind to order](01_blind_to_order) for attention itself, and
# [absolute](02_absolute) for the sines and cosines.

# %% tags=["hide-input"]
import inspect
import math
import warnings

import numpy as np
import torch

from utils import lengths, positions
from utils.exercises import positions as check
from utils.lab import (
    apart,
    approx,
    close,
    figures,
    notes_say,
    records,
    same,
    settle,
    show,
)
from utils.lab.figures import COLOURS, plt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # tqdm misses a widget that no page shows
    import transformers
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.llama import modeling_llama
    from transformers.models.t5.modeling_t5 import T5Attention

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("positions-relative", "positions-list")

# %% [markdown]
# ## By hand: a number for each distance
#
# Three tokens, all alike, so that every query agrees with every key equally: all scores
# are 0, and attention without positions gives each visible token the same weight. Now
# add a number that depends on the distance alone: $\ln 2$ for the token one back, 0 for
# the token itself and for two back. The third token sees $e^0, e^{\ln 2}, e^0$, that is
# $1 : 2 : 1$, and gives ¼, ½, ¼. The second sees $2 : 1$ and gives ⅔, ⅓. Both prefer
# their predecessor two to one. Whether the three stand at the start of a text or after
# five hundred others was never asked.

# %%
prefer = {0: 0.0, -1: math.log(2), -2: 0.0}
scores = [[prefer.get(j - i, -math.inf) for j in range(3)] for i in range(3)]
weights = torch.tensor(scores, dtype=torch.double).softmax(-1)
for row in weights:
    print([round(w, 4) for w in row.tolist()])

# %% [markdown]
# ## In general: the matrix B
#
# With $L$ tokens the numbers fill a matrix $B$ of shape $(L, L)$, the
# {term}`relative position bias 相对位置偏置 <relative position bias>`:
#
# $$
# \begin{gathered}
# \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt d} + B\right) V , \\
# B_{ij} = b_{j - i} .
# \end{gathered}
# $$ (eq-bias)
#
# $Q, K, V$ have shape $(L, d)$ for one head, and $j - i$ is the *offset* (偏移): the
# key's place minus the query's, negative for what came before. The notes refer to a "B
# in the figure below", and the figure is lost. Here it is again, or one like it.

# %%
L = 6
where = torch.arange(L)
b = np.random.default_rng(3).normal(size=2 * L - 1)  # b[0] belongs to offset 1 − L
offsets = positions.offsets(where)  # (L, L), j − i
B = torch.tensor(b)[offsets + L - 1]
figures.digest("B", B)

# %% mystnb={"figure": {"caption": "A relative bias B for six tokens. Left: the eleven numbers b, one for each offset. Right: the matrix that they fill, in the same colours, its offsets written in the cells. It is striped, because every diagonal holds one number.", "name": "fig-toeplitz"}, "image": {"alt": "Left, eleven bars for the offsets from minus five to five, coloured by their height. Right, a six by six matrix in which all cells of a diagonal have the colour of one bar and the same offset written in them."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, height=2.7)
image = figures.heat(right, B, cmap="RdBu")
image.set_clim(-3.5, 3.5)
left.bar(range(1 - L, L), b, color=image.cmap(image.norm(b)), edgecolor="#555555")
left.set(xlabel="offset j − i", ylabel="b")
for i, j in np.ndindex(L, L):
    ink = "white" if abs(B[i, j]) > 2 else "black"
    right.text(j, i, int(offsets[i, j]), ha="center", va="center", size=8, color=ink)
right.set(xlabel="key j", ylabel="query i", aspect="equal")
plt.show()

# %% [markdown]
# Such a striped matrix has a name, *Toeplitz* (托普利茨矩阵), and it is cheap: $2L - 1$
# numbers for each head instead of $L^2$.
#
# But is it true of real methods, seen from outside? B cannot be read off a model: what
# attention computes are scores, and content gets into them. So we take the content out:
# a text of six *identical* tokens. Whatever differs between the scores then can only
# come from the places. The class that carries a method has four hooks, and each method
# overrides one of them (`gain` waits until the [next
# page](04_beyond_the_trained_length)):

# %%
show(positions.Nothing)

# %%
HEADS, d = 4, 16
draw = np.random.default_rng(0).normal
token, q_weight, k_weight = (
    torch.tensor(draw(size=s)) for s in ((1, 1, 64), (64, 64), (64, 64))
)


def scores_of_equals(method, where):
    """Scores (h, L, L) of one token repeated L times, random weights, float64."""
    x = method.double().embed(token.expand(1, len(where), 64), where)
    query = (x @ q_weight / 8).unflatten(-1, (HEADS, d)).transpose(1, 2)  # 8 = √64
    key = (x @ k_weight / 8).unflatten(-1, (HEADS, d)).transpose(1, 2)
    query, key = method.turn(query, where), method.turn(key, where)
    return method.score(query, key, where)[0].detach()


# %%
torch.manual_seed(0)
kinds = {
    "learned": positions.Learned(HEADS, d, length=600),
    "sinusoidal": positions.Sinusoidal(HEADS, d),
    "Shaw": positions.Shaw(HEADS, d),
    "T5": positions.T5Bias(HEADS, d, bidirectional=True),
    "ALiBi": positions.ALiBi(HEADS, d),
}
S = {name: scores_of_equals(method, where) for name, method in kinds.items()}
moved = {n: scores_of_equals(m, where + 500) for n, m in kinds.items()}
for name in kinds:
    stripes = (S[name][:, 1:, 1:] - S[name][:, :-1, :-1]).abs().max() < 1e-12
    shifted = (moved[name] - S[name]).abs().max() < 1e-12
    print(f"{name:11} striped: {bool(stripes)!s:6} blind to a shift by 500: {shifted}")

# %%
settle(
    "positions-relative",
    close(S["T5"][:, 1:, 1:], S["T5"][:, :-1, :-1], 1e-12),
    close(S["Shaw"][:, 1:, 1:], S["Shaw"][:, :-1, :-1], 1e-12),
    same(len(B.unique()), 2 * L - 1),
    same(kinds["T5"].bias(where + 500), kinds["T5"].bias(where)),
    close(moved["Shaw"], S["Shaw"], 1e-12),
    apart(S["learned"][:, 1:, 1:], S["learned"][:, :-1, :-1], 0.1),
    apart(moved["learned"], S["learned"], 0.1),
    note="B: the figure's; S: scores of identical tokens; moved: 500 places later",
)

# %% [markdown]
# The relative ones are striped and do not notice where the text stands; the absolute
# ones are neither. Now to what one puts into the stripes.
#
# ## Shaw: a vector for each distance
#
# The first relative method {cite}`shaw2018self` puts no number there but a product.
# Each offset has a trainable *vector* $a_{j-i}$, added to the key, so that the score is
#
# $$
# \frac{q_i^\top (k_j + a_{j-i})}{\sqrt d}
# = \frac{q_i^\top k_j}{\sqrt d} + \frac{q_i^\top a_{j-i}}{\sqrt d} .
# $$ (eq-shaw)
#
# The bias depends on the query: an adjective may ask for what follows it, a verb for
# what came before. Offsets beyond $\pm$`clip` share the vector at the end. (The paper
# has a second set of vectors for the values; here they are left out.)

# %%
show(positions.Shaw)

# %% [markdown]
# `gather` is worth a look. The formula asks for a vector for each *pair*, a block of
# shape $(L, L, d)$. But there are only $2 \cdot \text{clip} + 1$ different vectors, so
# one multiplies each query with these few and then picks the right product for each
# pair.

# %%
length, clip = 512, 16
print(f"vectors for all pairs: {length * length * 64:,} numbers")
print(f"products to pick from: {length * (2 * clip + 1):,} for each head")

# %% [markdown]
# ## T5: the further away, the less exactly
#
# Between 1 and 2 words back there is a difference; between 101 and 102 there is hardly
# one. T5 {cite}`raffel2020t5` gives one number to each head and *bucket* (桶) of
# offsets. Near offsets have a bucket each, further ones share, and the buckets get
# wider like the decades of a logarithm. 32 buckets are 32 numbers for each head,
# whatever the length, and once for all layers. (Of the 32, one is never used when both
# sides have their own: number 16 would be distance 0 on the right. And T5 itself does
# not divide by $\sqrt d$ as equation {eq}`eq-bias` does; here all methods do.)

# %%
show(positions.t5_bucket)

# %% mystnb={"figure": {"caption": "The bucket of each offset in T5's encoder: 32 buckets, half of them for each side, with max_distance = 128. Eight distances have a bucket to themselves; from 91 on, all share the last one.", "name": "fig-buckets"}, "image": {"alt": "Staircase of bucket numbers against the offset from minus 150 to 150. Steps are single near zero and get wider outwards; left offsets use buckets 0 to 15, right offsets 17 to 31."}} tags=["hide-input"]
offset = torch.arange(-150, 151)
bucket = positions.t5_bucket(offset)
figure, ax = plt.subplots(figsize=(6.4, 2.6))
ax.step(offset, bucket, where="mid")
ax.axvline(0, color="k", lw=0.7)
ax.set(
    xlabel="offset (key minus query)", ylabel="bucket", yticks=[0, 8, 15, 17, 24, 31]
)
plt.show()

# %%
far = torch.arange(-200_000, 200_001)
for both_sides in (True, False):
    theirs = T5Attention._relative_position_bucket(far, both_sides)
    ours = positions.t5_bucket(far, both_sides)
    print(
        f"bidirectional={both_sides!s:5} all 400,001 buckets:",
        torch.equal(ours, theirs),
    )
    last = far[(ours == 15 if both_sides else ours == 31) & (far < 0)].max()
    print(f"the last bucket on the left begins at distance {-int(last)}, not at 128")

# %% [markdown]
# That surprises people who set `max_distance`: it is where the last bucket *would end*.
# In the encoder all distances from 91 on share one number.
#
# Are the numbers learnt as one would hope? A small language, which we shall use again
# on the next page, gives attention something to look back for. Its texts begin with
# four definitions; then each symbol, 0 to 7, is **one more than the token three places
# before it**, counted round, 7 to 0, except that a fifth of them are drawn anew, and
# that now and then a question, such as `A?`, is asked and answered with what was
# defined. As a token to count from, a definition `D7` counts as 7, and the questions
# `A?`, `B?`, `C?`, `D?` as 0, 1, 2, 3.

# %%
ids, answers = lengths.sample_texts(np.random.default_rng(1), 1, 30)
print(lengths.spell_out(ids[0]))

# %% [markdown]
# The first symbol, 4, is one more than A3. After `D?` and its answer, 7, stand 0, 4, 0:
# one more than 7, counted round; than `D?`, which counts as 3; and than the answer.
#
# A model of two layers with T5's bias was trained on such texts, from a table of zeros,
# eight times. It has 16 buckets, not 32, and its table learnt at ten times the rate of
# the rest ([next page](04_beyond_the_trained_length)). The record keeps the tables.

# %% mystnb={"figure": {"caption": "What eight small models learnt to add for each bucket: one line for each model and head, from the record. The token to be predicted follows the last one seen, so \u201cthree places before it\u201d is two back from the query. There all 32 heads put their peak.", "name": "fig-learnt-bias"}, "image": {"alt": "32 lines of bias against bucket 0 to 15. All run between zero and minus two, except for one sharp peak at bucket two, up to more than two, that all share."}} tags=["hide-input"]
tables = np.array(records.read("positions_extrapolation")["samples"]["T5"]["table"])
figure, ax = plt.subplots(figsize=(6.4, 2.6))
for table in tables:  # (16, 4)
    ax.plot(table, color=COLOURS["blue"], alpha=0.35, lw=1)
ax.set(xlabel="bucket (0 to 7: that many places back)", ylabel="learnt bias")
ax.set_xticks(range(16))
plt.show()

# %%
print("heads whose largest number is that of two back:", end=" ")
print(int((tables.argmax(1) == 2).sum()), "of", tables.shape[0] * tables.shape[2])

# %% [markdown]
# ## ALiBi: nothing to learn
#
# ALiBi {cite}`press2022alibi` (线性偏置注意力) takes the numbers from nowhere: minus the
# distance, times a slope (斜率) that differs from head to head. A steep head sees only
# its neighbourhood, a shallow one far. For a power of two the slopes are a geometric
# series that ends at $2^{-8}$; other numbers of heads take the series of the next lower
# power, and then values half-way between.

# %%
show(positions.alibi_slopes)

# %% mystnb={"figure": {"caption": "ALiBi. Left: the bias against the distance, one line for each of 8 heads. Right: the slopes of 8 heads, a straight line on a logarithmic axis, and of 12: the same eight, then four more from half-way between the first ones.", "name": "fig-alibi"}, "image": {"alt": "Left, eight straight lines falling from zero, the steepest quickly out of the picture. Right, dots: eight slopes falling from one half to 2 to the minus 8; for twelve heads four more dots follow, which start again above the first."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2)
for slope in positions.alibi_slopes(8):
    left.plot(-slope * torch.arange(64), color=COLOURS["blue"], lw=1)
left.set(xlabel="distance", ylabel="bias", ylim=(-8, 0.2))
for heads, mark in {12: "s", 8: "o"}.items():
    slopes = positions.alibi_slopes(heads)
    right.semilogy(range(1, heads + 1), slopes, mark, base=2, label=f"{heads} heads")
right.set(xlabel="head", ylabel="slope")
right.set_xticks([1, 4, 8, 12])
right.legend()
plt.show()

# %% [markdown]
# BLOOM {cite}`bloom2022` was trained with it. Look for the stripes in its code, and you
# will not find them: its tensor has one row for all queries, slope times *the key's
# place*. There is no distance in it. Is that a mistake?

# %%
length = 10
future = ~torch.ones(length, length).tril().bool()
for heads in (8, 12, 25):
    row = build_alibi_tensor(torch.ones(1, length), heads, torch.float32)
    striped = positions.alibi_bias(heads, torch.arange(length)).float()
    theirs = row.masked_fill(future, -math.inf).softmax(-1)
    ours = striped.masked_fill(future, -math.inf).softmax(-1)
    print(f"{heads:2} heads: {tuple(row.shape)}, {tuple(striped.shape)};", end=" ")
    print("weights equal within 1e-6:", bool((theirs - ours).abs().max() < 1e-6))

# %% [markdown]
# It is not. With the slope $\alpha$, causal attention adds $-\alpha(i - j) = \alpha j -
# \alpha i$, and $\alpha i$ is the same for the whole row; the softmax does not see what
# is added to a whole row. So **a linear penalty on the distance is the same as a linear
# reward for the key's place**, and the second needs no matrix.
#
# The straight line has another consequence. A bias that only falls can prefer near to
# far. It cannot prefer *three back* to two back:

# %%
w = scores_of_equals(kinds["ALiBi"], torch.arange(8)).softmax(-1)[:, -1]  # (4, 8)
ratio = w[:, 4] / w[:, 5]  # the last token is number 7
assert torch.allclose(ratio, (-positions.alibi_slopes(HEADS)).exp())
print("8 equal tokens, the last one looks back; weights on 3 back ÷ on 2 back:")
print([round(v, 4) for v in ratio.tolist()], "= exp(−slope), head by head")

# %% [markdown]
# Never above one, in any head. Content can make up for it, in several layers and with
# effort. The [next page](04_beyond_the_trained_length) shows what that means for the
# little language.
#
# ## RoPE, by hand: two clocks
#
# Now the other answer. Take a query and a key with two features each and read them as
# complex numbers (复数), $q = q_1 + \mathrm{i}\,q_2$. Their dot product is the real part
# of $q$ times the conjugate of $k$: $\operatorname{Re}(q\,\bar k) = q_1k_1 + q_2k_2$.
#
# Turn the query by an angle that is proportional to its place, $m\,\omega$, and the key
# by $n\,\omega$. Let both be 1 before, and $\omega = 90°$. At places 1 and 0 the hands
# are at right angles: product 0. At 2 and 0 they are opposed: $-1$. At 5 and 3 they are
# opposed again: $-1$. And at 502 and 500, too.

# %%
for m, n in [(1, 0), (2, 0), (5, 3), (502, 500)]:
    hand, other = 1j**m, 1j**n  # 1, turned by 90° so many times
    print(f"places {m:3} and {n:3}: product", round((hand * other.conjugate()).real))

# %% [markdown]
# ## RoPE, in general
#
# That was the whole idea of {term}`RoPE 旋转位置编码 <rotary position embedding (RoPE)>`
# {cite}`su2024roformer`. Let $m$ and $n$ be the places of query and key, as in the
# paper, and $\mathrm{i}$ the imaginary unit. With
# $\tilde q = q\,e^{\mathrm{i} m\omega}$ and $\tilde k = k\,e^{\mathrm{i} n\omega}$,
#
# $$
# \begin{aligned}
# \operatorname{Re}\bigl(\tilde q\,\overline{\tilde k}\bigr)
# &= \operatorname{Re}\bigl(q\,e^{\mathrm{i} m \omega}\,\bar k\,
# e^{-\mathrm{i} n \omega}\bigr) \\
# &= \operatorname{Re}\bigl(q\,\bar k\,e^{\mathrm{i} (m - n)\omega}\bigr) .
# \end{aligned}
# $$ (eq-rope)
#
# Each token is turned by its *absolute* place, on its own, without knowing of any
# other. The product keeps only the difference. And $|e^{\mathrm{i} m \omega}| = 1$: no
# vector gets longer or shorter.
#
# A head of $d$ features is $d/2$ such pairs, and each pair turns at its own speed,
# $\omega_r = \text{base}^{-2r/d}$ for pair $r$, the series of the sinusoidal encoding:
# from one radian for each place down to almost none. One clock with a second hand, a
# minute hand, an hour hand. (On the figure hands turn anticlockwise, as angles do.)

# %% mystnb={"figure": {"caption": "Four of the eight pairs of a head with 16 features, at the places (2, 5) above and (12, 15) below. Blue: the query, orange: the key, both at 3 o\u2019clock before turning. The hands stand elsewhere ten places later; the angle between them is the same, fast pairs on the left, slow ones on the right.", "name": "fig-clocks"}, "image": {"alt": "Two rows of four clock faces with a blue and an orange hand. In each column the shaded angle between the hands is the same above and below, large on the left and nearly zero on the right."}} tags=["hide-input"]
omega = positions.frequencies(16)
figure, axes = plt.subplots(2, 4, figsize=(6.4, 3.4))
for row, places in zip(axes, [(2, 5), (12, 15)], strict=True):
    for ax, r in zip(row, [0, 1, 2, 4], strict=True):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#999999"))
        first, last = (float(p * omega[r]) for p in places)
        arc = np.linspace(first, last, 40)
        ax.fill(
            [0, *np.cos(arc)], [0, *np.sin(arc)], color=COLOURS["yellow"], alpha=0.5
        )
        for angle, colour in ((first, "blue"), (last, "orange")):
            hand = [0, math.cos(angle)], [0, math.sin(angle)]
            ax.plot(*hand, color=COLOURS[colour], lw=2)
        ax.set(aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        ax.axis("off")
        if places[0] == 2:
            ax.set_title(f"{math.degrees(omega[r]):.1f}° a place", size=9)
    row[0].text(-2.6, 0, f"places\n{places}", va="center", size=9)
plt.show()

# %%
show(positions.rotate, positions.RoPE)

# %% [markdown]
# We check it against the complex numbers, and against LLaMA's own code:

# %%
q, k = (torch.tensor(draw(size=(1, HEADS, 200, d))) for _ in range(2))
where, rope = torch.arange(200), positions.RoPE(HEADS, d)
clock = torch.polar(torch.ones(200, d // 2).double(), where[:, None] * rope.frequencies)
complex_q = torch.complex(*q.chunk(2, -1)) * clock  # feature i with feature i + d/2
turned = rope.turn(q, where)
assert (torch.cat([complex_q.real, complex_q.imag], -1) - turned).abs().max() < 1e-12
config = transformers.LlamaConfig(hidden_size=HEADS * d, num_attention_heads=HEADS)
cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(q, where[None])
theirs = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)[0]
assert (theirs - turned).abs().max() < 1e-4
print("equal to multiplying by e^(imω) within 1e-12, and to LLaMA's code within 1e-4")

# %% [markdown]
# The second tolerance is not ours: the library computes angles in float32. (The tests
# behind this page run whole attention layers of LLaMA, T5 and Wav2Vec2-BERT against
# ours, with copied weights.)
#
# ## A fourth kind?
#
# The notes list three kinds: fixed sines, learnt vectors, and a relative B. Does RoPE
# fit? It adds no vector to the token, so it is none of the first two. Is it a B? What
# T5 and ALiBi add to a score is the same whatever the tokens say; what Shaw adds may
# depend on the query, but not on the key. We can take what a method changes in the
# scores, for one query and two different keys, and compare.


# %%
def effect(method, q, k):
    """What the method changes in the scores of no positions: (1, h, L, L)."""
    plain = positions.Nothing(HEADS, d).score(q, k, where)
    q, k = method.turn(q, where), method.turn(k, where)
    return (method.score(q, k, where) - plain).detach()


k2 = torch.tensor(draw(size=(1, HEADS, 200, d)))  # other keys
shaw, t5, alibi = (kinds[name] for name in ("Shaw", "T5", "ALiBi"))
for method in (shaw, t5, alibi, rope):
    changed = (effect(method, q, k) - effect(method, q, k2)).abs().max() > 1e-9
    print(f"{type(method).__name__:6} effect depends on the key: {bool(changed)}")

# %%
score = rope.score(rope.turn(q, where), rope.turn(k, where), where)
later = rope.score(rope.turn(q, where + 100), rope.turn(k, where + 100), where)
print("score of places 3 and 10:", round(score[0, 0, 3, 10].item(), 8))
print("         103 and 110:    ", round(later[0, 0, 3, 10].item(), 8))

# %% [markdown]
# And is it more than a curiosity? The library holds the models; we need not trust
# anybody's list. Here are twelve, picked over the years. Each is built small with
# random weights and asked three questions. Does it take places at all, as
# `position_ids`? If so: does its output change when all of them grow by 7? And when all
# of them double? A rotary model must answer yes, no, yes.

# %%
small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
small |= {"intermediate_size": 128}
grouped = small | {"num_key_value_heads": 2, "head_dim": 16}
gpt = {"n_embd": 64, "n_layer": 2, "n_head": 4}
opt = small | {"ffn_dim": 128, "word_embed_proj_dim": 64}
recipes = {
    "BERT (2018)": ("Bert", small),
    "GPT-2 (2019)": ("GPT2", gpt),
    "T5 (2019)": ("T5", {"d_model": 64, "num_layers": 2, "d_kv": 16, "num_heads": 4}),
    "GPT-J (2021)": ("GPTJ", gpt | {"rotary_dim": 8}),
    "OPT (2022)": ("OPT", opt),
    "BLOOM (2022)": ("Bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "LLaMA (2023)": ("Llama", grouped),
    "MPT (2023)": ("Mpt", {"d_model": 64, "n_layers": 2, "n_heads": 4}),
    "Gemma 2 (2024)": ("Gemma2", grouped),
    "ModernBERT (2024)": ("ModernBert", small),
    "Qwen 3 (2025)": ("Qwen3", grouped),
    "SmolLM3 (2025)": ("SmolLM3", grouped),
}


# %%
def how_it_takes_places(family, options):
    """Answers to: takes places? sees a shift by 7? sees them doubled?"""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**options)
    model = getattr(transformers, f"{family}Model")(config).eval()
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False, None, None
    ids, where = torch.arange(1, 21)[None], torch.arange(20)[None]
    first, shifted, doubled = (
        model(ids, position_ids=p)[0] for p in (where, where + 7, 2 * where)
    )
    noise = 1e-5
    return True, *(bool((first - y).abs().max() > noise) for y in (shifted, doubled))


with warnings.catch_warnings(), torch.inference_mode():
    warnings.simplefilter("ignore")
    habits = {name: how_it_takes_places(*recipe) for name, recipe in recipes.items()}
word = {True: "yes", False: "no", None: "–"}
print(f"{'':18} takes places   sees a shift   sees them doubled")
for name, answer in habits.items():
    print(f"{name:18}", "   ".join(f"{word[a]:12}" for a in answer).rstrip())

# %% [markdown]
# Three models see a shift: the absolute ones. Three take no places at all; T5 has its
# buckets, BLOOM and MPT have ALiBi. And six take places and do not care where they
# begin, only how they are spaced. Those are the rotary ones. Of the six models in the
# list released since 2023 they are five; the exception is MPT.

# %%
turned_q = rope.turn(q, where)
rotary = [n for n, answer in habits.items() if answer == (True, False, True)]
recent = [n for n in habits if int(n[-5:-1]) >= 2023]
settle(
    "positions-list",
    close(score, later, 1e-9),
    close(turned_q.norm(dim=-1), q.norm(dim=-1), 1e-9),
    close(effect(t5, q, k), effect(t5, q, k2), 1e-12),
    close(effect(alibi, q, k), effect(alibi, q, k2), 1e-12),
    close(effect(shaw, q, k), effect(shaw, q, k2), 1e-12),
    apart(effect(rope, q, k), effect(rope, q, k2), 1),
    same(habits["LLaMA (2023)"], (True, False, True)),
    same([len(recent), len(set(rotary) & set(recent))], [6, 5]),
    note="in effect it is relative, as a mechanism none of the three",
)

# %% [markdown]
# So the list of three was a fair one in 2020. It lacks what the newer models of our
# list have; it lacks *no encoding at all*, which [blind to order](01_blind_to_order)
# has shown to work behind a causal mask; and it lacks the tricks that stretch an
# encoding beyond its training, the subject of the [next
# page](04_beyond_the_trained_length).

# %% [markdown]
# ## Which feature with which? Two pairings
#
# Equation {eq}`eq-rope` needs pairs, and does not say which. The paper, and GPT-J, pair
# *neighbours*: features 0 and 1, 2 and 3, and so on. GPT-NeoX, and LLaMA as most people
# run it, pair *halves*: 0 with $d/2$, 1 with $d/2 + 1$. (Meta's own code for LLaMA
# pairs neighbours; the weights were reordered for the library {cite}`llama2023rotary`.)
# For the mathematics it is all the same. It is the same method with the features in
# another order:

# %%
order = positions.neighbours_to_halves(d)
print("order for d = 16:", order.tolist())
halves, neighbours = (
    positions.RoPE(HEADS, d, pairing=p) for p in ("halves", "neighbours")
)
first = halves.turn(q[..., order], where)
second = neighbours.turn(q, where)[..., order]
equal = (first - second).abs().max() < 1e-12
print("one is the other, reordered: within 1e-12,", bool(equal))

# %% [markdown]
# That is why the mistake is so easy and so hard to find. Take the wrong pairing, and
# every property on this page still holds: scores depend on the difference only, lengths
# are kept, and a fresh model has nothing to unlearn. Only *trained* weights know
# better, since they have got used to which features turn fast and which turn slowly. We
# train one on the little language and read it with both.

# %%
reader = lengths.trained_reader("RoPE", seed=0)


def neighbouring(reader):
    """A copy that pairs neighbours, its weights as they are."""
    other = lengths.stretched_reader(reader, "plain")
    other.method.pairing = "neighbours"
    return other


def reordered(reader):
    """A copy that pairs neighbours, the rows of queries and keys in their order."""
    other = neighbouring(reader)
    for layer in other.layers:
        for part in (layer.attention.qkv.weight, layer.attention.qkv.bias):
            rows = part.data.unflatten(0, (3, HEADS, d))  # queries, keys, values
            rows[:2] = rows[:2][:, :, order.argsort()]
    return other


# %%
readers = {
    "as it was trained": reader,
    "the other pairing": neighbouring(reader),
    "… and reordered weights": reordered(reader),
}
loss = {name: lengths.excess_loss(r) for name, r in readers.items()}

# %%
bounds = {"as it was trained": (-0.1, 0.3), "the other pairing": (0.5, 5)}
for name, found in loss.items():
    low, high = bounds.get(name, (-0.1, 0.3))
    rule, recall = (approx(found[k][0], low, high) for k in ("rule", "recall"))
    print(f"{name:24} loss above the best: rule {rule}, answers {recall}")
for kind in ("rule", "recall"):
    first, _, last = (found[kind][0] for found in loss.values())
    assert abs(first - last) < 1e-3
print("reordered weights give back the first line, within 1e-3")

# %% [markdown]
# No error, no warning, right shapes, and nonsense. People find this out with converted
# checkpoints, whose text falls apart after some tokens {cite}`llama2c2023pairing`. The
# check that catches it is the one above: compare a converted *layer* with the original,
# on several tokens, at different places. (One token alone, or all at one place, give
# equal outputs at any place: only differences count.)
#
# ## Does attention decay with distance?
#
# "RoPE makes attention decay with distance", one reads, after a figure in the paper
# (section 3.4.3). What falls there is an upper bound of the score, averaged over the
# pairs; it says nothing of the score itself. Let us be careful about what decays. If
# query and key are the *same* random vector, the mean of the score at distance $m - n$
# is the mean of $\cos((m - n)\,\omega_r)$ over the pairs: all hands start together and
# drift apart. If query and key are *independent*, turning one of them changes nothing
# in the distribution: a random direction turned is a random direction.

# %%
omega, distance = positions.frequencies(128), torch.arange(0, 1001)
alike = (distance[:, None] * omega).cos().mean(-1)
one, other = (torch.tensor(draw(size=(1500, 1, 128))) for _ in range(2))
turned = positions.rotate(one.expand(-1, 21, -1), distance[::50, None] * omega)
independent = (turned * other).sum(-1) / 128  # (1500, 21)
spread = independent.std(0)

key = torch.ones(1, 1, 128).double()  # all hands of one length
query = positions.rotate(key, -2 * omega)  # the key, turned back by two places
far_query = positions.rotate(query.expand(-1, 1001, -1), distance[:, None] * omega)
pointing = (far_query * key).sum(-1)[0] / key.square().sum()

# %% mystnb={"figure": {"caption": "RoPE\u2019s score against the distance, divided by its value at distance 0 (d = 128, base 10,000). Blue: query and key alike, on average. Grey band: independent query and key, mean and one standard deviation, in units of the same value; it is as wide at distance 1,000 as at 0. Orange: a query made to look two back.", "name": "fig-decay"}, "image": {"alt": "Three curves over distances 0 to 1000 on a stretched axis. The blue one falls with wiggles from 1 to about 0.16. The grey band has constant width around zero. The orange one has its peak of 1 at distance 2 and falls on both sides."}} tags=["hide-input"]
figure, ax = plt.subplots()
ax.fill_between(distance[::50], -spread, spread, color=COLOURS["grey"], alpha=0.3)
ax.plot(distance[::50], independent.mean(0), color=COLOURS["grey"], label="independent")
ax.plot(distance, alike, label="alike")
ax.plot(distance, pointing, color=COLOURS["orange"], label="alike, turned by two")
ax.set_xscale("symlog", linthresh=8)
ax.set_xticks([0, 2, 4, 8, 30, 100, 300, 1000], [0, 2, 4, 8, 30, 100, 300, 1000])
ax.set(xlabel="distance", ylabel="score")
ax.legend()
plt.show()

# %%
ratio = (spread.max() / spread.min()).item()
print("independent: widest ÷ narrowest over 1,000 places:", approx(ratio, 1, 1.15))
rises = int((alike[1:] > alike[:-1]).sum())
print("alike: the mean falls, but rises again in", rises, "of 1,000 steps")
assert pointing.argmax() == 2
print("turned by two: the peak stands at distance", int(pointing.argmax()))

# %% [markdown]
# So there is a decay, for like with like, on average, with wiggles. There is none in
# general. And nothing has to decay: a query that has learnt to be its key *turned back
# by two* has its peak at two back. A head with RoPE can point, one with ALiBi cannot;
# that is the price of ALiBi's guaranteed decay.
#
# ## Wavelengths
#
# Pair $r$ comes back to where it was after $\lambda_r = 2\pi / \omega_r$ places, its
# *wavelength* (波长). With $d = 128$ and base 10,000, as in LLaMA:

# %%
for base in (10_000, 500_000):
    wavelength = 2 * math.pi / positions.frequencies(128, base)
    print(f"base {base:7,}: wavelengths {wavelength[0]:.2f} to {wavelength[-1]:,.0f}")
    for trained in (2048, 4096, 8192):
        count = int((wavelength <= trained).sum())
        print(f"{count:14} of 64 pairs complete a turn within {trained:,} places")

# %% [markdown]
# Some pairs never complete a turn in the texts that a model is trained on. LLaMA 3
# {cite}`grattafiori2024llama3` raised the base to 500,000, and that makes more of them.
# But slower hands also mean smaller angles at long distances; and the model was then
# trained on long texts. Remember the line; most of the next page is about it.
#
# ## What RoPE does not do
#
# It turns queries and keys. It does **not touch the values**. If all tokens are alike,
# the scores differ with the distance, but whatever is mixed, by whatever weights, is
# the same value; the place cannot be read off the result.

# %%
same_tokens = torch.tensor(draw(size=(1, 1, 64))).expand(1, 32, 64)
torch.manual_seed(0)
for method in (positions.RoPE(HEADS, d), positions.Sinusoidal(HEADS, d)):
    layer = positions.Attention(method).double()
    with torch.no_grad():
        y = layer(method.embed(same_tokens, torch.arange(32)))
    moved = (y - y[:, :1]).abs().max()
    says = (
        "differ" if moved > 0.1 else "are equal within 1e-12" if moved < 1e-12 else "?"
    )
    print(f"{type(method).__name__:11} 32 equal tokens, causal: the 32 outputs {says}")

# %% [markdown]
# One different token at the front, and the causal mask lets the model count after all,
# as [blind to order](01_blind_to_order) shows. But RoPE does not write the place into
# the stream; it only makes distances available where two tokens are compared.
#
# **In two dimensions** the same ideas return. Vision models number rows and columns;
# Swin {cite}`liu2021swin` learns one number for each head and pair of offsets,
# $(2M-1)^2$ of them for a window of $M \times M$ patches. Its B is striped along each
# axis alone; exercise 4 builds it.
#
# ## Where people go wrong
#
# **Pairing** was the first mistake; here is the second, found in several libraries
# {cite}`han2024rope`. A model in 16 bits casts *everything* to 16 bits, places
# included. bfloat16 has 8 significant bits:

# %%
print(torch.arange(254, 266).to(torch.bfloat16).int().tolist())
angles = torch.arange(4096, dtype=torch.bfloat16)[:, None] * omega.bfloat16()
exact = torch.arange(4096)[:, None] * omega
wrong = (angles.double() - exact).abs().max(-1).values
first = int((wrong > math.pi / 2).nonzero()[0])
print("from place", first, "on, some pair is off by more than a quarter turn")

# %% [markdown]
# From 256 on only every second place has a number of its own, from 512 on every fourth;
# the fast pairs, which are there to tell neighbours apart, turn by noise. The remedy is
# one line: compute the angles in high precision, and cast the cosines and sines.
# `rotate` does so.
#
# ## Exercises
#
# **1. Warm-up.** How many trainable numbers does each method need in *one attention
# layer* with 12 heads of 64 features, for texts of up to 512 tokens, both directions?
# "B" stands for a full relative bias, with one number for each head and offset.

# %%
counts = ...  # {"B": …, "T5": …, "Shaw": …, "ALiBi": …, "RoPE": …}, clip 16, 32 buckets
check.relative_parameters(counts)

# %% tags=["hide-cell"]
counts = {"B": 12 * 1023, "T5": 12 * 32, "Shaw": 33 * 64, "ALiBi": 0, "RoPE": 0}
check.relative_parameters(counts)

# %% [markdown]
# **2. Stripes.** Write `toeplitz(b)` that takes the $2L-1$ numbers
# $b_{1-L}, \dots, b_{L-1}$ as a tensor and returns $B$ of shape $(L, L)$ with
# $B_{ij} = b_{j-i}$. No loops.

# %%
toeplitz = ...  # def toeplitz(b): …
check.toeplitz(toeplitz)


# %% tags=["hide-cell"]
def toeplitz(b):
    L = (len(b) + 1) // 2
    i = torch.arange(L)
    return b[i[None, :] - i[:, None] + L - 1]


check.toeplitz(toeplitz)

# %% [markdown]
# **3. RoPE in complex numbers.** Write `rope_scores(q, k, base)` for q and k of shape
# (L, d), neighbours paired: scores (L, L) between all places, divided by $\sqrt d$,
# with complex multiplication in place of sines and cosines. (`torch.view_as_complex`
# reads the last axis, of size 2, as one number.)

# %%
rope_scores = ...  # def rope_scores(q, k, base): …
check.rope_scores(rope_scores)


# %% tags=["hide-cell"]
def rope_scores(q, k, base):
    L, d = q.shape
    omega = base ** (-torch.arange(0, d, 2, dtype=torch.double) / d)
    angle = torch.arange(L)[:, None] * omega
    turn = torch.polar(torch.ones_like(angle), angle)  # (L, d/2)
    q, k = (torch.view_as_complex(t.reshape(L, -1, 2)) * turn for t in (q, k))
    return (q @ k.conj().T).real / d**0.5


check.rope_scores(rope_scores)

# %% [markdown]
# **4. For an evening: two dimensions.** A window of $M \times M$ patches, read row by
# row, has a bias $B$ of shape $(M^2, M^2)$ with $B_{ab} = t_{\Delta r, \Delta c}$,
# where $\Delta r$ and $\Delta c$ are the row and the column of $b$ minus those of $a$,
# and $t$ is a table of shape $(2M-1, 2M-1)$, with $\Delta r = \Delta c = 0$ in its
# middle. Write `window_bias(t)`. Then look at it: where is it striped, and where not?

# %%
window_bias = ...  # def window_bias(t): …
check.window_bias(window_bias)


# %% tags=["hide-cell"]
def window_bias(t):
    M = (len(t) + 1) // 2
    row, column = torch.meshgrid(torch.arange(M), torch.arange(M), indexing="ij")
    row, column = row.flatten(), column.flatten()  # of each patch
    return t[
        row[None, :] - row[:, None] + M - 1,
        column[None, :] - column[:, None] + M - 1,
    ]


check.window_bias(window_bias)

# %% [markdown]
# ## In short
#
# A relative method makes the scores depend on $j - i$. The simplest adds a striped
# matrix $B$, $2L-1$ numbers for each head; T5 shares them in buckets that widen like a
# logarithm, ALiBi takes them from a straight line, Shaw makes them depend on the query.
# RoPE adds nothing: it turns each query and key by its own place, and the product keeps
# the difference. It is in none of the notes' three boxes, and in five of the six models
# since 2023 that we asked.
# Its pairs of features can be chosen in two ways, which no property of the scores tells
# apart, and every checkpoint does. It can point at any distance; it does not make
# attention decay, except between like and like, and it leaves the values alone.
#
# Next: [beyond the trained length](04_beyond_the_trained_length). Scores that depend on
# distance alone should not care how long a text is. They do.
