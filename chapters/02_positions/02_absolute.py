# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Absolute positions
#
# Attention without positions is [blind to order](01_blind_to_order), and a vector for
# each place, added to the token, cures it. Which vector? The number 7 itself? Then
# place 500 shouts and place 3 whispers. A number from 0 to 1, the share of the text
# that has passed? Then "the next place" is another distance in every text. A 1 in
# feature 7 and 0 elsewhere? Then places 7 and 8 have no more in common than 7 and 300.
#
# The first Transformer used sines and cosines, BERT and GPT-2 let training choose. This
# page derives the former, explains the mysterious 10000, shows why one matrix moves all
# places at once, and then opens the table that a real model has learnt: there are hands
# in it, too, but not the formula's. At the end you can
#
# - build the sinusoidal encoding from the idea of counting, and say what each constant
#   does;
# - prove that a shift is a rotation, and say what a dot product of two places can tell;
# - tell the harmless variants in public code from the harmful ones, with a test;
# - read the wavelengths off a table of position vectors that nobody designed.
#
# You need [blind to order](01_blind_to_order) and, from school, the addition theorems
# of sine and cosine.

# %% tags=["hide-input"]
import math
import warnings

import numpy as np
import torch
from torch import nn

from utils import positions
from utils.exercises import positions as check
from utils.lab import (
    above,
    apart,
    approx,
    close,
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
notes_say("positions-sinusoidal", "positions-learned", "positions-bert-learned")

# %% [markdown]
# ## By hand: digits that do not jump
#
# People have solved this problem before: they write numbers in digits. In binary the
# places 0 to 7 are 000, 001, 010, 011, 100, 101, 110, 111. All features lie between 0
# and 1, three of them tell eight places apart, ten tell a thousand. Each digit is a
# wave: the last one repeats every 2 places, the next every 4, then 8.
#
# One thing is ugly. From 3 to 4, 011 to 100, all three digits flip; from 0 to 1 only
# one. Neighbours should be equally near everywhere. So let the digits glide: replace
# each by a hand of a clock, which turns steadily. A hand has two coordinates, the sine
# and the cosine of its angle. Two hands, of which the second turns ten times slower:
#
# | place | fast hand | slow hand |
# |---|---|---|
# | 0 | (0, 1) | (0, 1) |
# | 1 | (sin 1, cos 1) ≈ (0.84, 0.54) | (sin 0.1, cos 0.1) ≈ (0.10, 1.00) |
# | 2 | (sin 2, cos 2) ≈ (0.91, −0.42) | (sin 0.2, cos 0.2) ≈ (0.20, 0.98) |

# %%
by_hand = positions.sinusoidal(torch.arange(3), d=4, base=100)
for place, row in enumerate(by_hand):
    print(place, *(f"{value:5.2f}" for value in row))
bits = torch.arange(32)[:, None] // 2 ** torch.arange(5) % 2  # (32, 5)
hands = positions.sinusoidal(torch.arange(32), d=16)
flips = (bits[1:] - bits[:-1]).abs().sum(-1)
steps = (hands[1:] - hands[:-1]).norm(dim=-1)
print("digits that flip from place to place:", *flips.tolist())
assert (steps - steps[0]).abs().max() < 1e-12
print(f"the hands move by {steps[0]:.3f} each time, equal to 1e-12")

# %% mystnb={"figure": {"caption": "Places 0 to 31, downwards. Left: their five binary digits, the fastest first. Right: the sinusoidal encoding with 16 features, the faster half of which are digits that do not jump; the slower half hardly moves in 32 places.", "name": "fig-counter"}, "image": {"alt": "Left, a heat map of zeros and ones with stripes that double in length from column to column. Right, sixteen columns with smooth waves that become longer to the right; the last columns are constant."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, height=3.2, width_ratios=[1, 2.4])
figures.heat(left, bits, cmap="RdBu_r")
image = figures.heat(right, hands, cmap="RdBu_r")
left.set(ylabel="place", xlabel="binary digit", xticks=range(5))
right.set(xlabel="feature: sine, cosine, sine, cosine, …", xticks=range(0, 16, 2))
figure.colorbar(image, ax=right)
plt.show()

# %% [markdown]
# ## In general
#
# With $d$ features there are $d/2$ hands. Hand number $i$ turns by $\omega_i$ radians
# per place {cite}`vaswani2017attention`:
#
# $$
# \begin{aligned}
# \omega_i &= 10000^{-2i/d}, \qquad i = 0, \dots, \tfrac d2 - 1, \\
# \mathrm{PE}(p)_{2i} &= \sin(\omega_i\, p), \\
# \mathrm{PE}(p)_{2i+1} &= \cos(\omega_i\, p) .
# \end{aligned}
# $$ (eq-sinusoidal)
#
# This is the {term}`sinusoidal encoding 正弦位置编码 <sinusoidal encoding>`. Read the
# exponent with care: $i$ counts *pairs*, and $2i/d$ runs from 0 to just below 1. The
# *wavelength* (波长), the number of places until a hand is back, is $2\pi/\omega_i$: a
# geometric ladder (等比) from $2\pi$ to nearly $10000 \cdot 2\pi$, each rung longer than
# the one before by the same factor $10000^{2/d}$. Digits again: of a decimal number
# each turns ten times slower than the one before. What plays the base of the digits
# here is $10000^{2/d}$, hardly more than one if $d$ is large. (The 10000 is called the
# *base* of the encoding all the same, and we follow the custom.)

# %%
show(positions.frequencies, positions.sinusoidal)

# %% mystnb={"figure": {"caption": "All 256 wavelengths of an encoding with 512 features, for three bases. Hands above the dashed line do not get round once in 512 places. Right: how far apart two places are, by their offset, in units of the largest possible distance.", "name": "fig-wavelengths"}, "image": {"alt": "Left, three straight lines on a logarithmic axis, from 6.3 up to about 60 for base 10, 600 for base 100 and 60,000 for base 10,000. Right, distance against offset: all rise; the curve for base 10 levels off first, then that for base 100; the one for base 10,000 still rises at 512."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, height=2.9)
D, bases = 512, {10: "green", 100: "orange", 10_000: "blue"}
for base, colour in bases.items():
    waves = 2 * math.pi / positions.frequencies(D, base)
    left.semilogy(waves, color=COLOURS[colour], label=f"base {base:,}")
    pe = positions.sinusoidal(torch.arange(513), D, base)
    apart_by = (pe - pe[0]).norm(dim=-1) / (2 * D) ** 0.5
    right.semilogx(range(1, 513), apart_by[1:], color=COLOURS[colour])
left.axhline(512, color="k", ls="--", lw=1)
left.set(xlabel="pair i", ylabel="wavelength in places")
left.legend(fontsize=8)
right.set(xlabel="offset", ylabel="distance ÷ largest")
plt.show()

# %%
for base in bases:
    omega = positions.frequencies(D, base)
    round_trips = int((2 * math.pi / omega <= 512).sum())
    longest = 2 * math.pi / float(omega[-1])
    step = 2 * float((omega / 2).sin().square().sum().sqrt())
    print(
        f"base {base:6,}: each hand {base ** (2 / D):.3f} times slower than the last;"
    )
    print(f"{'':13}longest wavelength {longest:9,.1f}; {round_trips} of 256 get round;")
    print(f"{'':13}neighbours {step:.2f} apart")

# %% [markdown]
# **What the 10000 fixes is the longest wavelength.** As long as the slowest hand has
# not come round, it alone tells all places apart, in principle. But it moves by about a
# ten-thousandth of a radian per place; what it tells well is "beginning" from "end of a
# very long text". The price of a large base is fewer fast hands: neighbours are closer
# together. The right panel shows the trade: with base 10 the distance has levelled off
# after a few dozen places, and 50 looks like 500; with 10000 it still grows at 512. For
# texts of 512 places 10000 is lavish. More than half of the features do not make a
# single turn. When models began to read much longer
# texts, the base became a dial to turn, as we shall see in [a later
# page](04_beyond_the_trained_length).
#
# ## A shift is a rotation
#
# Each hand turns steadily. So to move on by $k$ places, turn hand $i$ by $k\,\omega_i$,
# *whatever place it stands at*. The addition theorems say it in a matrix:
#
# $$
# \begin{aligned}
# & \begin{pmatrix} \sin \omega (p+k) \\ \cos \omega (p+k) \end{pmatrix} \\
# & \quad = \begin{pmatrix} \cos \omega k & \sin \omega k \\ -\sin \omega k & \cos \omega k
# \end{pmatrix} \begin{pmatrix} \sin \omega p \\ \cos \omega p \end{pmatrix} .
# \end{aligned}
# $$ (eq-shift)
#
# There is no $p$ in the matrix. Put the $d/2$ blocks on a diagonal, and one fixed
# rotation $R_k$ takes every place to the place $k$ further on:
# $\mathrm{PE}(p + k) = R_k\, \mathrm{PE}(p)$. That is what the first page used to look
# one token back, and it is what the authors hoped for {cite}`vaswani2017attention`:
# that attention learns "three to the left" as *one* matrix, instead of one for each
# place.

# %%
show(positions.shift)

# %% mystnb={"figure": {"caption": "Four hands of different speed, at places 5 and 8 (blue) and at places 13 and 16 (orange), three steps apart. In each dial both arcs have the same angle, \u03c9 times 3.", "name": "fig-hands"}, "image": {"alt": "Four dials. In each, two blue hands enclose a blue sector, two orange hands an orange sector of the same size elsewhere. The sectors become smaller from dial to dial."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.2))
turn = np.linspace(0, 2 * np.pi, 200)
for ax, omega in zip(axes, positions.frequencies(8, 30).tolist(), strict=True):
    ax.plot(np.sin(turn), np.cos(turn), color="#999999", lw=1)
    for start, colour in [(5, "blue"), (13, "orange")]:
        arc = omega * np.linspace(start, start + 3, 60)
        ax.fill([0, *np.sin(arc), 0], [0, *np.cos(arc), 0], COLOURS[colour], alpha=0.3)
        for place in (start, start + 3):
            x, y = np.sin(omega * place), np.cos(omega * place)
            ax.plot([0, x], [0, y], color=COLOURS[colour])
            ax.text(1.22 * x, 1.22 * y, place, size=8, ha="center", va="center")
    ax.set(title=f"ω = {omega:.2f}", aspect="equal", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    ax.axis("off")
plt.show()

# %% [markdown]
# The consequence for attention: compare two places by their dot product. The squares of
# sine and cosine add up to one, so
#
# $$
# \mathrm{PE}(p)^\top \mathrm{PE}(p + k) = \sum_{i} \cos(\omega_i\, k) .
# $$ (eq-dot)
#
# It depends on the offset $k$ alone, and not on $p$: an *absolute* encoding, from which
# *relative* distance can be read. And since the cosine is even, $k$ and $-k$ give the
# same: **the plain dot product cannot tell left from right.** A model needs that, and
# has it, because attention does not use the plain product. There is a matrix
# $M = W_Q W_K^\top$ between the two. If $M$ turns and scales each pair, the score is
#
# $$
# \begin{aligned}
# & \mathrm{PE}(p)^\top M\, \mathrm{PE}(p+k) \\
# & \quad = \sum_i a_i \cos(\omega_i k) + b_i \sin(\omega_i k) ,
# \end{aligned}
# $$ (eq-learned-kernel)
#
# a Fourier sum with freely chosen coefficients. The sines are odd: they tell left from
# right. (Nothing forces a trained $M$ to keep the pairs apart. If it mixes them, the
# score depends on $p$ as well. The formula makes it possible to see offsets alone, no
# more.)

# %%
d, k = 64, torch.arange(-60, 61)
pe = positions.sinusoidal(k, d)
here = positions.sinusoidal(torch.tensor(0), d)
omega = positions.frequencies(d)
plain = pe @ here  # (121,), by offset
assert (plain - (k[:, None] * omega).cos().sum(1)).abs().max() < 1e-12
assert (plain - plain.flip(0)).abs().max() < 1e-12
close_by = (k.abs() <= 31).nonzero()[:, 0]
waves = (k[close_by, None] * omega).sin()  # (63, 32), sines alone
wanted = -k[close_by].sign().double()
fit = torch.linalg.lstsq(waves, wanted[:, None], rcond=1e-4, driver="gelsd")
left_right = (waves @ fit.solution)[:, 0]
print("the plain product is the sum of cosines, and even: to 1e-12")
weakest = left_right[:30].min()  # offsets −31 … −2
assert (left_right + left_right.flip(0)).abs().max() < 1e-9
print("sines alone, keys 2 to 31 to the left: at least", approx(weakest, 0.8, 1))

# %% mystnb={"figure": {"caption": "Scores between two places with 64 features, by offset. Blue: the plain dot product, even. Orange: with R\u208b\u2085 between, the peak moves. Green: only sines, with weights fitted so that keys on the left get +1 and those on the right \u22121, up to 31 places away.", "name": "fig-dot"}, "image": {"alt": "Left, a symmetrical blue curve with its peak at zero, and the same curve shifted in orange. Right, a green curve close to plus one on the left, falling through zero, and close to minus one on the right."}} tags=["hide-input"]
figure, (one, two) = figures.panels(2)
moved = pe @ positions.shift(-5, d) @ here
one.plot(k, plain, label="plain")
one.plot(k, moved, label="with R₋₅", color=COLOURS["orange"])
one.legend(fontsize=8)
two.plot(k[close_by], left_right, color=COLOURS["green"])
for ax in (one, two):
    ax.set(xlabel="offset: key's place − query's")
one.set_ylabel("score")
plt.show()

# %% [markdown]
# ## One pair, one speed
#
# All of that hangs on a detail: sine and cosine of a pair share their frequency. A
# mistake seen in public repositories {cite}`jadore32,samlynnevans25` runs the exponent
# over *features*, $10000^{-2j/d}$ for $j = 0 \dots d - 1$, then takes sines of the even
# and cosines of the odd ones. The picture still shows waves that grow longer to the
# right. But feature 0 turns at another speed than feature 1, there are no hands any
# more, and the speeds fall to $10000^{-2}$. We keep the correct table and the misread
# one, and look for the best matrix that moves all places on by 5, by least squares.


# %%
def misread(p, d):
    """The public mistake: the exponent counts features. (L,) → (L, d)"""
    angles = p[:, None] / 10_000 ** (2 * torch.arange(d) / d)
    return torch.where(torch.arange(d) % 2 == 0, angles.sin(), angles.cos())


k, d, p = 5, 64, torch.arange(512).double()
right, wrong = positions.sinusoidal(p, d), misread(p, d)
best = torch.linalg.lstsq(wrong[:-k], wrong[k:], rcond=1e-12, driver="gelsd").solution
dots = right @ right.T
wrong_dots = wrong @ wrong.T
for name, table in {"right": right, "misread": wrong}.items():
    still = (table.amax(0) - table.amin(0) < 0.01).sum().item()
    print(f"{name:8} features that move by less than 0.01 in 512 places: {still} of 64")
missed = (wrong[:-k] @ best - wrong[k:]).abs().amax(0)  # (64,)
count = (missed > 0.05).sum().item()
assert count == 11 and (missed[:11] > 0.05).all()
print(f"misread: {count} features, the fastest, miss by more than 0.05 somewhere")

# %%
module = positions.Sinusoidal(heads=4, d=16)
settle(
    "positions-sinusoidal",
    close(right[:-k] @ positions.shift(k, d).T, right[k:], 1e-9),
    apart(wrong[:-k] @ best, wrong[k:], 0.3),
    close(dots.diagonal(k), dots[10, 15].expand(507), 1e-9),
    apart(wrong_dots.diagonal(k), wrong_dots[10, 15].expand(507), 1),
    same(sum(value.numel() for value in module.parameters()), 0),
    note="a shift by 5 places, and offset 5 at all of 507 places",
)

# %% [markdown]
# ## Equal to the library: which variant?
#
# Public code disagrees about the formula, in ways that matter and ways that do not.
# Three implementations in `transformers` against ours:

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers.models.distilbert.modeling_distilbert import (
        create_sinusoidal_embeddings,
    )
    from transformers.models.marian import modeling_marian
    from transformers.models.speech_to_text.modeling_speech_to_text import (
        Speech2TextSinusoidalPositionalEmbedding,
    )

# %%
L, d = 200, 64
distilbert = torch.empty(L, d)
create_sinusoidal_embeddings(L, d, distilbert)
marian = modeling_marian.MarianSinusoidalPositionalEmbedding(L, d).create_weight()
speech = Speech2TextSinusoidalPositionalEmbedding.get_embedding(L, d)

ours = positions.sinusoidal(torch.arange(L), d)
order = positions.neighbours_to_halves(d)  # sines first, then cosines
stretched_base = 10_000 ** (d / (d - 2))
stretched = positions.sinusoidal(torch.arange(L), d, stretched_base)
assert (distilbert - ours).abs().max() < 1e-5
assert (marian - ours[:, order]).abs().max() < 1e-5
assert (speech - ours[:, order]).abs().max() > 0.1
assert (speech - stretched[:, order]).abs().max() < 1e-4
print("DistilBERT: sine, cosine, sine, cosine … as printed in the paper")
print("Marian: all sines, then all cosines; the same numbers in another order")
print(f"Speech2Text: that order, and the base is {stretched_base:,.0f}, not 10,000")

# %% [markdown]
# - **Another order is harmless.** $(\Pi a)^\top (\Pi b) = a^\top b$ for a permutation
#   $\Pi$ of the features, and what multiplies the vectors is learned anyway. (Only a
#   model that was trained with one order must not be run with the other.) The Annotated
#   Transformer {cite}`rush2018annotated` interleaves, as the paper does; the authors'
#   own library, tensor2tensor, has all sines first {cite}`tensor2tensor177`.
# - **Another divisor is another base.** tensor2tensor also divides the exponent by
#   $d/2 - 1$ instead of $d/2$ {cite}`tensor2tensorcode`, and others have copied it, as
#   Speech2Text shows. Then the slowest hand turns at exactly $1/10000$. The
#   frequencies *are* different, no reordering helps, but it is the same ladder with a
#   slightly larger base, $10000^{d/(d-2)}$.
# - **Another exponent within a pair costs the shift**, as we have just measured: no
#   matrix moves all places on, and dot products depend on the place. Whether a trained
#   model suffers, we have not measured.
#
# ## How loud?
#
# Each pair has length one, so the whole vector has the length $\sqrt{d/2}$, exactly and
# at every place: 16 for 512 features. It is *added* to a token's vector. How long is
# that? If the table of tokens begins with entries of standard deviation $1/\sqrt D$,
# its rows have the length one: the place would drown the word. The paper multiplies the
# token's vector by $\sqrt D$ before the addition; that makes it $\sqrt D \approx 22.6$,
# and the word is a little louder than its place. PyTorch's `nn.Embedding` begins with
# standard deviation *one*. Whoever copies the factor on top of that drowns the place.

# %%
torch.manual_seed(0)
D = 512
loudness = positions.sinusoidal(torch.arange(512), D).norm(dim=-1)
assert (loudness - 16).abs().max() < 1e-12
usual = nn.Embedding(1000, D).weight.detach()  # standard deviation 1
small = usual / D**0.5
for name, length, low in [
    ("std 1/√D", small.norm(dim=-1).median(), 0.9),
    ("std 1/√D, times √D", D**0.5 * small.norm(dim=-1).median(), 20),
    ("nn.Embedding", usual.norm(dim=-1).median(), 20),
    ("nn.Embedding, times √D", D**0.5 * usual.norm(dim=-1).median(), 450),
]:
    print(f"{name:23} word {approx(length, low, 1.25 * low)}, place 16")

# %% [markdown]
# ## Learned: a table
#
# The other answer is not to think. A {term}`learned position embedding 可学习位置嵌入
# <learned position embedding>` gives each place a row of a table and lets the gradient
# fill it in. GPT-2 {cite}`radford2019language` and BERT {cite}`devlin2019bert` do that.

# %%
show(positions.Learned)

# %% [markdown]
# The simplest of all methods has two consequences that are easily forgotten. There is
# no row 512, so there is no place 512. And a row is trained only by texts that reach
# it. If none of them has more than 16 tokens, row 16 gets no gradient, not a small one:

# %%
torch.manual_seed(0)
learned = positions.Learned(heads=2, d=8, length=32)
tokens, target = torch.randn(64, 16, 16), torch.randn(64, 16, 16)
before, after = learned.table.weight.detach().clone(), {}
for name, optimiser in {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}.items():
    learned.table.weight.data.copy_(before)
    descent = optimiser(learned.parameters(), lr=0.01)
    for _ in range(50):
        descent.zero_grad()
        loss = (learned.embed(tokens, torch.arange(16)) - target).square().mean()
        loss.backward()
        descent.step()
    after[name] = learned.table.weight.detach().clone()
gradient = learned.table.weight.grad
shrunk = after["AdamW"][16:] / before[16:]
assert (shrunk - (1 - 0.01 * 0.01) ** 50).abs().max() < 1e-4
print("rows 16 to 31 after 50 steps: Adam leaves them, to the last bit;")
print("AdamW, by its weight decay alone, shrinks them all by the same factor")

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

# %%
small = {"vocab_size": 50, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128}
small |= {"bos_token_id": 0, "eos_token_id": 0}
gpt2 = GPT2Model(GPT2Config(**small)).eval()
gpt2(torch.zeros(1, 128, dtype=torch.long))  # as long as the table: fine
with torch.device("meta"):
    bert = BertModel(BertConfig())  # bert-base: shapes, no numbers
rows = bert.embeddings.position_embeddings.weight
torch.manual_seed(0)
sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1}
sizes |= {"num_attention_heads": 2, "intermediate_size": 64}
tiny = BertModel(BertConfig(**sizes)).eval()
target = torch.randn(1, 16, 32)
hidden = tiny(torch.arange(16)[None]).last_hidden_state
(hidden - target).square().mean().backward()
slope = tiny.embeddings.position_embeddings.weight.grad.norm(dim=-1)  # (512,)

# %%
settle_all(
    {
        "positions-learned": [
            raises(IndexError, lambda: gpt2(torch.zeros(1, 129, dtype=torch.long))),
            raises(IndexError, lambda: learned.embed(tokens, torch.arange(17, 33))),
            apart(gradient[:16], torch.zeros(16, 16), 1e-4),
            same(gradient[16:], torch.zeros(16, 16)),
            same(after["Adam"][16:], before[16:]),
        ],
        "positions-bert-learned": [
            same(type(bert.embeddings.position_embeddings), nn.Embedding),
            same(tuple(rows.shape), (512, 768)),
            same(rows.numel(), 393_216),
            same(rows.requires_grad, True),
            above(slope[:16].min(), 1e-4),
            same(slope[16:], torch.zeros(496)),
        ],
    }
)

# %% [markdown]
# ## What a model has learnt
#
# MiniLM carries such a table, 512 rows of 384 features. The model was distilled from a
# larger one {cite}`wang2020minilm`, half of its layers were taken out
# {cite}`reimersminilm`, and what was left was trained on pairs of sentences
# {cite}`allminilm`. Nobody told it about waves. What is in the table?

# %% mystnb={"figure": {"caption": "MiniLM\u2019s learnt position vectors. Left: the cosine between any two of them. Right: their lengths, by place.", "name": "fig-minilm-places"}, "image": {"alt": "Left, a heat map of 512 rows and columns with a bright diagonal and fine stripes parallel to it; the first row and column are dark. Right, lengths on a logarithmic axis: place 0 at 2.4, the others between 0.4 and 0.5 with a step up at 128 and an outlier at 127, the last two at 0.9 and 1."}} tags=["hide-input"]
model, tokenizer = pretrained.encoder()
table = model.embeddings.position_embeddings.weight.detach().double()  # (512, 384)
lengths = table.norm(dim=-1)
unit = table / lengths[:, None]
figure, (left, right) = figures.panels(2, height=3.0)
image = figures.heat(left, unit @ unit.T)
left.set(aspect="equal", xlabel="place", ylabel="place")
figure.colorbar(image, ax=left, label="cosine", shrink=0.8)
right.semilogy(lengths, ".", ms=3)
right.set(xlabel="place", ylabel="length")
right.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
right.minorticks_off()
plt.show()

# %%
cosines = unit @ unit.T
print("length of row 0:", approx(lengths[0], 2, 3))
print("rows 1 to 126:   median", approx(lengths[1:127].median(), 0.39, 0.44))
print("row 127:        ", approx(lengths[127], 0.6, 0.8))
print("rows 128 to 509: median", approx(lengths[128:510].median(), 0.45, 0.5))
print("rows 510, 511:  ", *(approx(v, 0.8, 1.1) for v in lengths[510:]))
print("words, median:  ", end=" ")
words = model.embeddings.word_embeddings.weight.detach().norm(dim=-1)
print(approx(words.median(), 1, 1.3))
for k in (1, 3, 6, 9, 12):
    print(
        f"mean cosine at offset {k:2}:",
        approx(cosines[1:510, 1:510].diagonal(k).mean(), 0.1, 0.95),
    )

# %% [markdown]
# Row 0 stands apart: place 0 always holds `[CLS]`, so its row can say "I am `[CLS]`" as
# well as "I am first". So do the last two. So does row 127, of all places, and after it
# the lengths step up; we shall come back to that. Among the others neighbours are
# alike, as they should be. But then the similarity does not fall, it *swings*: lower at
# offset 3, high again at 6, low at 9, high at 12. Sinusoids would do that.
#
# Let us ask as one would ask a stranger, without assuming waves. First: how many of the
# 384 directions do the rows 1 to 509 use? The *principal components* (主成分) say. Second,
# the question of {eq}`eq-shift`: is there *one* matrix $A$ that takes every row to the
# next, $z_{p+1} \approx A^\top z_p$? (In the code the places are rows,
# `z[1:] ≈ z[:-1] @ A`.) Least squares gives the best. If $A$ is a rotation, in suitable
# coordinates, its *eigenvalues* (特征值) come in pairs $e^{\pm \mathrm i \omega}$ of
# absolute value one, and each pair is a hand with the wavelength $2\pi/\omega$.
#
# A warning before we look. Any smooth curve has neighbours that are alike, and its
# principal components look like waves, too. So we ask the same of two impostors of the
# same shape: pure noise, and a random walk, smooth but without any plan.


# %%
def components(table):
    """Each component's share of the variance (384,), and its scores (L, 384)."""
    centred = table - table.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    return sizes**2 / (sizes**2).sum(), centred @ axes.T


generator = np.random.default_rng(0)
noise = generator.normal(size=(509, 384))
walk = generator.normal(size=(509, 384)).cumsum(0)
tables = {"MiniLM": table[1:510].numpy(), "random walk": walk, "noise": noise}
parts = {name: components(values) for name, values in tables.items()}
for name, (shares, _) in parts.items():
    print(f"{name}, components 1 to 12:")
    print(" ", *(approx(100 * share, 0.1, 70) for share in shares[:12]), "per cent")
    low, high = (0, 0.2) if name == "noise" else (0.9, 0.97)
    print("  the first ten together:", approx(shares[:10].sum(), low, high))
shares = parts["MiniLM"][0]
assert shares[0] / shares[9] < 2 and shares[9] / shares[10] > 2
assert parts["random walk"][0][0] / parts["random walk"][0][9] > 50

# %% [markdown]
# **Ten nearly equal directions, then a cliff.** That the first ten hold most of the
# variance would not be worth a word: those of the walk do, too. But the walk's shares
# fall from the first on, and those of noise hardly fall at all. MiniLM's stay level up
# to the tenth, and then drop. So ten it is.


# %%
def turning(scores, r=10):
    """The first r scores z (L, r), the best A, its eigenvalues above the real axis."""
    z = scores[:, :r]
    A = np.linalg.lstsq(z[:-1], z[1:], rcond=None)[0]
    eigenvalues = np.linalg.eigvals(A)
    upper = eigenvalues[eigenvalues.imag > 1e-9]
    return z, A, upper[np.argsort(-np.angle(upper))]  # fastest first


found = {name: turning(scores) for name, (_, scores) in parts.items()}
for name, (_, _, upper) in found.items():
    low, high = (0, 0.5) if name == "noise" else (0.9, 1.05)
    print(f"{name:12} |eigenvalues|", *(approx(abs(v), low, high) for v in upper))
A = found["MiniLM"][1]
bent = abs(A.T @ A - np.eye(10)).max()
print("MiniLM: AᵀA is the identity, up to", approx(bent, 0, 0.05))

# %% mystnb={"figure": {"caption": "The best matrix from each row to the next. Above: its eigenvalues in the complex plane; on the circle, it turns. Below: the wavelengths of its pairs, on a logarithmic axis. Dashed: the length of the table. The first four of MiniLM\u2019s form a ladder with steps of about three; its last, and most of the random walk\u2019s, are of the order of the table.", "name": "fig-minilm-turns"}, "image": {"alt": "Above, a unit circle: MiniLM\u2019s and the random walk\u2019s eigenvalues lie on it, those of noise near the centre. Below, wavelengths: MiniLM at about 6, 17, 52, 156 and 600; the random walk between 130 and 980."}} tags=["hide-input"]
figure, (top, low) = plt.subplots(
    2, 1, figsize=(4.8, 4.8), height_ratios=[2.4, 1], layout="constrained"
)
top.plot(np.cos(turn), np.sin(turn), color="#999999", lw=1)
looks = {
    "MiniLM": ("blue", "o"),
    "random walk": ("orange", "^"),
    "noise": ("grey", "x"),
}
for row, (name, (colour, mark)) in enumerate(looks.items()):
    upper = found[name][2]
    both = np.concatenate([upper, upper.conj()])
    top.plot(both.real, both.imag, mark, color=COLOURS[colour], ms=5, label=name)
    if name != "noise":
        lasts = 2 * np.pi / np.angle(upper)
        low.semilogx(lasts, [row] * len(upper), mark, color=COLOURS[colour], ms=7)
low.axvline(509, color="k", ls="--", lw=1)
top.set(aspect="equal", xlabel="real part", ylabel="imaginary part")
top.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
low.set(xlabel="wavelength in places", ylim=(1.6, -0.6))
low.set_yticks([0, 1], ["MiniLM", "walk"])
plt.show()

# %%
last = {name: 2 * np.pi / np.angle(found[name][2]) for name in list(looks)[:2]}
bounds = [(5, 7), (15, 20), (45, 60), (130, 190), (510, 800)]
ladder = [approx(v, *b) for v, b in zip(last["MiniLM"], bounds, strict=True)]
print("MiniLM's wavelengths:", *ladder)
ratios = last["MiniLM"][1:] / last["MiniLM"][:-1]
print("each over the last:  ", *(approx(v, 2.7, 3.3) for v in ratios[:3]), end=" ")
print(approx(ratios[3], 3.4, 5))
print("the random walk's:   ", *(approx(v, 100, 1200) for v in last["random walk"]))

# %%
for name, bounds in {"MiniLM": (40, 160), "random walk": (1, 3)}.items():
    z, A, _ = found[name]
    size = (z[1:] ** 2).sum()
    copied = ((z[1:] - z[:-1]) ** 2).sum() / size
    modelled = ((z[1:] - z[:-1] @ A) ** 2).sum() / size
    print(f"{name:11} unexplained by copying the row before:", approx(copied, 0, 0.5))
    print(f"{'':11} unexplained by A:", approx(modelled, 0, 0.01), end=", ")
    print("better by a factor", approx(copied / modelled, *bounds))

# %%
z, A, _ = found["MiniLM"]
error = ((z[1:] - z[:-1] @ A) ** 2).sum(1) / (z[1:] ** 2).sum(1)  # one per step
fits = []
for start in (128, 255):
    upper = turning(z[start : start + 126])[2]
    fits.append((2 * np.pi / np.angle(upper))[:3])
print("fitted to rows 129 to 254:", *(approx(v, 5, 60) for v in fits[0]))
print("fitted to rows 256 to 381:", *(approx(v, 5, 60) for v in fits[1]))
print("slower by a factor:", *(approx(v, 1.08, 1.17) for v in fits[1] / fits[0]))

# %% [markdown]
# A walk is predicted still better, because it hardly moves. What counts is what the
# matrix adds to copying: for the walk next to nothing, for MiniLM nearly all. Nor would
# the eigenvalues alone prove much, for those of a walk lie on the circle too, as those
# of smooth curves do; its wavelengths are those of the table, or of a good part of it.
#
# What the walk does not have is this: ten of 384 dimensions, and in them **four hands,
# each about three times slower than the one before, and a slow drift longer than the
# table**; their speeds wander by about a tenth along it. One matrix, nearly a rotation,
# takes each place to the next. It is not the formula's ladder: that one has 192 rungs
# for 384 features. (One model. Wang and Chen {cite}`wang2020position` compare the
# learnt tables of several.)
#
# How good is the one matrix, place by place?

# %% mystnb={"figure": {"caption": "Share of the next row that the matrix A misses, step by step, for rows 1 to 509. Two steps stand out: into place 127 and out of it.", "name": "fig-minilm-seam"}, "image": {"alt": "Error on a logarithmic axis against the place. Most values lie between one in a thousand and one in a hundred; a spike near place 127 reaches above two tenths. The values from 128 on are lower than those before."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.5))
ax.semilogy(range(1, 509), error, lw=1)
ax.axvline(127, color=COLOURS["vermilion"], lw=1, ls="--")
ax.set(xlabel="place", ylabel="share missed", xticks=[1, 127, 256, 384, 508])
plt.show()

# %%
worst = sorted((np.argsort(-error)[:2] + 1).tolist())
assert worst == [126, 127]
print("worst steps: from 126 to 127, and from 127 to 128")
print("there:", *(approx(error[step - 1], 0.1, 0.4) for step in worst))
early, late = np.median(error[:125]), np.median(error[127:])
print(
    "median before:",
    approx(early, 0.002, 0.01),
    "and after:",
    approx(late, 0.0005, 0.004),
)

# %% [markdown]
# Row 127 is out of step with its neighbours, it is longer than they are, and from row
# 128 on all rows are longer. An explanation lies near. The model card says that the
# last training, on pairs of sentences, cut texts after 128 tokens {cite}`allminilm`.
# Then place 127, whenever it was reached, held `[SEP]`, the token that closes a text:
# not a place like others, an end, as place 511 is in a text of 512. And the rows from
# 128 on got no gradient in that training; they are as the distillation left them, but
# for weight decay. The table remembers how it was trained. (The bump between 256 and
# 381 is the stretch where the hands turn more slowly.)
#
# One hears that the late rows of such tables are "undertrained" and must be worse. Here
# they saw less training, and are the *more* regular ones. Only the measurement could
# tell.
#
# ## Where people go wrong
#
# - **The exponent that counts features.** It raises no error, and the picture has its
#   waves. Test the table: does one matrix move it on?
# - **The factor** $\sqrt D$ **on top of** `nn.Embedding`. No error here, either. What
#   one has is a model that starts out all but blind to order: its places whisper beside
#   words that are some thirty times as loud.
# - **Interpolating a learned table as if it were a formula.** For sinusoids any $p$
#   will do. For a table the row "7.5" must be made up. Vision Transformers do so when
#   the image gets larger {cite}`dosovitskiy2021vit`, and then train on. Along a table
#   with a wave of six places, the mean of two neighbours is a bad guess:

# %%
inner = table[128:510]
middle = (inner[:-2] + inner[2:]) / 2
centre = inner.mean(0)
missed = (middle - inner[1:-1]).square().sum() / (inner[1:-1] - centre).square().sum()
print("row p from the mean of p − 1 and p + 1 misses", approx(missed, 0.02, 0.4))
pe = positions.sinusoidal(torch.arange(128, 510), 384)
gap = (pe[:-2] + pe[2:]) / 2 - pe[1:-1]
share = gap.square().sum() / (pe[1:-1] - pe.mean(0)).square().sum()
print(f"the same for sinusoids with 384 features: {share:.3f}")

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** One hand only, $\omega = 1$: the encoding has two features. After
# which number of places, up to 1,000, does it come nearest to where it started?

# %%
back = ...  # a whole number
check.one_hand(back)

# %% tags=["hide-cell"]
back = min(range(1, 1001), key=lambda k: abs(math.sin(k / 2)))
check.one_hand(back)

# %% [markdown]
# It is 710, since $\pi$ is nearly 355/113: on one hand, places 0 and 710 all but
# coincide. That is what the other hands are for.
#
# **2. Left and right.** Let `pe = sinusoidal(torch.arange(L), d)`. Write `sided(d)`: a
# matrix $M$ (d, d) so that `pe @ M @ pe.T` depends on the offset alone, is odd in it,
# and is positive for keys one to three places to the right.

# %%
sided = ...  # def sided(d): …
check.sided(sided)


# %% tags=["hide-cell"]
def sided(d):
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double()
    return torch.block_diag(*[quarter] * (d // 2))  # Σ sin(ω k)


check.sided(sided)

# %% [markdown]
# **3. For an evening: a table from a stranger.** Write `wavelengths(table)`: a table of
# position vectors (L, D), float64, in which a few directions matter and the rest is
# faint noise. Find their number $r$ from the variances, as we did by eye: the cliff is
# where the ratio of one to the next is largest. Return the $r/2$ wavelengths, shortest
# first. Then try it on a model of your own.

# %%
wavelengths = ...  # def wavelengths(table): …
check.wavelengths(wavelengths)


# %% tags=["hide-cell"]
def wavelengths(table):
    centred = table - table.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    r = int((sizes[:20] / sizes[1:21]).argmax()) + 1
    z = centred @ axes[:r].T
    A = torch.linalg.lstsq(z[:-1], z[1:]).solution
    angles = torch.linalg.eigvals(A).angle()
    return (2 * math.pi / angles[angles > 0]).sort().values


check.wavelengths(wavelengths)

# %% [markdown]
# ## In short
#
# The sinusoidal encoding counts with digits that glide: pairs of sine and cosine, each
# slower than the one before by the same factor; the 10000 sets the slowest. Moving on
# by $k$ is one rotation for all places, so dot products see the offset alone, and not
# its sign; the learned projections can add the sign. Order of the features does not
# matter; without equal speed within a pair there is no such rotation. A learned table
# is bounded by its length, and its rows are trained by texts that reach them. The one
# we opened had found hands in a ratio of about three, and bore the marks of `[CLS]` at
# 0 and of the ends at 127 and 511.
#
# If attention needs only the offset, why go through places at all? Next: [relative
# positions](03_relative).
