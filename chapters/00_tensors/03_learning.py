# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learning
#
# A network is a function with adjustable numbers inside. "It learns" means: somebody
# measured how wrong it is, found for each number in which direction to turn it so that
# it becomes a little less wrong, turned all of them a little, and did that a few
# thousand times. This page builds each of the four pieces from nothing,
#
# - **{term}`softmax`**, which turns scores into probabilities,
# - **{term}`cross-entropy 交叉熵 <cross-entropy>`**, which says how wrong they are,
# - **{term}`autograd 自动求导 <autograd>`**, which finds all the directions at once,
# - **the {term}`loop 训练循环 <training loop>`**, which does it again,
#
# and puts them together on pictures of handwritten digits. Every training run in this
# course is a variation of *the loop*. You need [products](01_products),
# [broadcasting](02_broadcasting), and what a derivative is.

# %% tags=["hide-input"]
import math

import numpy as np
import torch
from torch import nn

from utils import learning
from utils.exercises import learning as check
from utils.lab import approx, datasets, figures, show
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## By hand: three scores
#
# A network looks at a picture and gives each of three animals a score (分数, in English
# also *logit*): cat $\ln 6$, dog $\ln 3$, hen $\ln 1 = 0$. Scores can be any numbers.
# To make probabilities of them we need positive numbers that sum to one. The
# exponential makes them positive, 6, 3, 1; dividing by their sum makes them 0.6, 0.3,
# 0.1. That is softmax (归一化指数函数).
#
# It was a dog. The network gave that 30%. Its *surprise* is $-\ln 0.3 \approx 1.2$; had
# it been certain of the dog, the surprise would be $-\ln 1 = 0$. That is cross-entropy.
#
# Which way should the scores move? The dog's up, the others' down. The slopes of the
# loss will turn out to be exactly $p - \text{truth}$, cat $0.6$, dog $0.3 - 1 = -0.7$,
# hen $0.1$, and the scores move against them. Here torch finds the slopes; below we
# build what finds them.

# %%
z = torch.tensor(
    [[math.log(6), math.log(3), 0.0]], dtype=torch.double, requires_grad=True
)
p = z.exp() / z.exp().sum()
surprise = -p[0, 1].log()
surprise.backward()
print("probabilities", [round(v, 6) for v in p[0].tolist()])
print(
    "surprise at the dog equals −ln 0.3:", abs(surprise.item() + math.log(0.3)) < 1e-12
)
print("gradient     ", [round(v, 6) for v in z.grad[0].tolist()])

# %% [markdown]
# ## Scores to probabilities: softmax
#
# For scores $z \in \mathbb{R}^K$ of $K$ classes,
#
# $$
# p_k = \frac{e^{z_k}}{\sum_{j=1}^{K} e^{z_j}} .
# $$ (eq-softmax)
#
# Only differences of scores matter: adding $c$ to all of them multiplies numerator and
# denominator by $e^c$. Doubling all of them does matter: it sharpens. That knob has a
# name, *temperature* (温度), and language models are sampled with it:
# $p = \operatorname{softmax}(z/T)$.

# %% mystnb={"figure": {"caption": "The same five scores through softmax at four temperatures. Cold makes a choice, hot makes no difference.", "name": "fig-temperature"}, "image": {"alt": "Four bar charts of five probabilities. At T = 0.25 one bar holds nearly everything; at T = 1 they fall off; at T = 10 all five are nearly equal."}}
scores = torch.tensor([3.0, 2.0, 1.5, 0.0, -1.0])
figure, axes = figures.panels(4, height=2.0, sharey=True)
for ax, T in zip(axes, (0.25, 1, 3, 10), strict=True):
    ax.bar(range(5), learning.softmax(scores / T))
    ax.set(title=f"T = {T}", xticks=range(5), ylim=(0, 1))
axes[0].set_ylabel("probability")
plt.show()
figures.digest("probabilities at T = 10", learning.softmax(scores / 10))

# %% [markdown]
# There is one trap. $e^{z}$ leaves the range of a float32 at $z = 89$, and infinity
# divided by infinity is not a number. Since a shift changes nothing, one shifts so that
# the largest score is zero; then no exponential exceeds one.

# %%
print("float32: e⁸⁸ is finite:", bool(torch.tensor(88.0).exp().isfinite()), end="; ")
print("e⁸⁹ is", torch.tensor(89.0).exp().item())
large = torch.tensor([1000.0, 999.0])
print("plain: ", (large.exp() / large.exp().sum()).tolist())
print("tidy:  ", [round(v, 4) for v in learning.softmax(large).tolist()])
show(learning.softmax)

# %% [markdown]
# ## Probabilities to a loss: cross-entropy
#
# For an example whose right class is $y$ the loss is the surprise $-\ln p_y$, and for a
# batch the mean of it. Why the logarithm, and not, say, $1 - p_y$? Because surprises of
# independent events should *add*: the probability of getting two of them right is the
# product, and the logarithm makes the product a sum. It also has no mercy with
# certainty in the wrong place: $-\ln p$ has no upper end.
#
# One number to know by heart: whoever has no idea gives each of $K$ classes $1/K$, and
# has the loss $\ln K$. That is 2.303 for ten digits. **A training curve that stays at
# $\ln K$ has learnt nothing** (where all classes are equally frequent), and one that
# starts far above it has begun with confident nonsense.

# %% mystnb={"figure": {"caption": "The loss of one example against the probability given to the right class. Dashed: an even guess among ten classes, ln 10.", "name": "fig-surprise"}, "image": {"alt": "A falling curve, very steep near zero, reaching 0 at probability 1. A dashed horizontal line at 2.3 crosses it at probability one tenth."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.4))
grid = np.linspace(0.003, 1, 400)
ax.plot(grid, -np.log(grid), label="−ln p")
ax.plot(grid, 1 - grid, "C2:", label="1 − p, which forgives")
ax.axhline(math.log(10), color="k", ls="--", lw=1)
ax.plot(0.1, math.log(10), "ko")
ax.set(xlabel="probability of the right class", ylabel="loss", ylim=(0, 6))
ax.legend()
plt.show()

# %% [markdown]
# Put equation {eq}`eq-softmax` in, and the logarithm takes the quotient apart:
#
# $$
# \ell = -\ln p_y = \ln \sum_j e^{z_j} - z_y .
# $$ (eq-cross-entropy)
#
# This form never computes $p$, so it has no trouble when $p$ is too small for a float.
# (The sum needs the same shift as before: in the code, `top` is taken out and added
# again.) And it makes the derivative easy. The first term gives
# $e^{z_k}/\sum_j e^{z_j} = p_k$, the second gives $-1$ for $k = y$ and nothing
# otherwise. With $[k = y]$ for "1 if $k = y$, else 0":
#
# $$
# \frac{\partial \ell}{\partial z_k} = p_k - [k = y] .
# $$ (eq-gradient)
#
# *What the model expects, minus what was observed.* You will meet this sentence again,
# in the chapter on CRFs, where $p$ is a distribution over whole paths and the sentence
# is the same.

# %%
show(learning.cross_entropy)
generator = np.random.default_rng(0)
z = torch.tensor(generator.normal(size=(5, 7)), requires_grad=True)  # (B, K)
y = torch.tensor([0, 3, 3, 6, 1])
loss = learning.cross_entropy(z, y)
assert abs(loss - nn.functional.cross_entropy(z, y)) < 1e-12
loss.backward()
by_formula = (learning.softmax(z) - torch.eye(7)[y]) / 5  # a mean over 5 examples
assert (z.grad - by_formula).abs().max() < 1e-12
print("equals torch's cross_entropy, and its gradient is (p − truth) / B, to 1e-12")

# %% [markdown]
# ## The direction: gradients, and how to get them all at once
#
# The {term}`gradient 梯度 <gradient>` lists, for every adjustable number, how fast the
# loss grows when that number grows. Against it the loss falls fastest. How do we get it
# for a million numbers?
#
# **By trying** would be honest: nudge one number by $h$, look at the change, divide.
# That takes two runs of the network for each number. It is also less exact than it
# looks: for a large $h$ the curve bends away, for a small one the difference drowns in
# rounding.

# %% mystnb={"figure": {"caption": "Error of a derivative by nudging, (f(x+h) \u2212 f(x\u2212h)) / 2h, for f = exp at x = 1 in float64, against the nudge h. Neither a small nor a large nudge is right, and even the best one loses several of the sixteen digits.", "name": "fig-nudge"}, "image": {"alt": "A V-shaped curve on two logarithmic axes. The error falls as h shrinks from 1 to about one hundred-thousandth and then rises again as h shrinks further."}}
nudges = np.logspace(-14, 0, 57)
errors = np.abs((np.exp(1 + nudges) - np.exp(1 - nudges)) / (2 * nudges) - math.e)
figure, ax = plt.subplots(figsize=(6.4, 2.4))
ax.loglog(nudges, errors + 1e-17)
ax.set(xlabel="nudge h", ylabel="error of the slope")
plt.show()

# %%
best = nudges[errors.argmin()]
print("smallest error", approx(errors.min(), 0, 1e-9), "at h", approx(best, 1e-7, 1e-4))

# %% [markdown]
# **By the chain rule** (链式法则) it takes one run forward and one backward, for *all*
# numbers together. Let every number remember from which numbers it was made, and how
# fast it grows with each of them. Then walk back from the loss: a number's gradient is
# the sum, over everything made from it, of *that thing's gradient times the slope
# between them*. Here it is for the dog:
# $\ell = \ln(e^{z_1} + e^{z_2} + e^{z_3}) - z_2$.

# %% mystnb={"figure": {"caption": "The loss of the hand example as a graph. In each box its value, and above it in red the gradient that flows back to it. The dog's score feeds two boxes, and its gradient is the sum of what comes back from both: 0.3 \u2212 1 = \u22120.7.", "name": "fig-graph"}, "image": {"alt": "A graph from left to right. From top to bottom, the scores of cat, hen and dog feed exponentials 6, 1 and 3, these a sum of 10, then its logarithm, then the loss 1.2. The dog's score also goes directly to the loss. Gradients 0.6, 0.1 and \u22120.7 stand at the scores."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.4))
figures.canvas(ax, 12.4, 6.6)
red = {"color": COLOURS["vermilion"], "ha": "center"}
rows = [("cat ln 6", "6", "+0.6"), ("hen 0", "1", "+0.1"), ("dog ln 3", "3", "−0.7")]
for height, (score, power, gradient) in zip((5.4, 3.4, 1.4), rows, strict=True):
    figures.box(ax, (1.2, height), score)
    figures.box(ax, (4.0, height), f"exp = {power}")
    figures.arrow(ax, (2.1, height), (3.1, height))
    figures.arrow(ax, (4.9, height), (5.9, 3.4))
    ax.text(1.2, height + 0.5, gradient, **red)
    ax.text(4.0, height + 0.5, "+0.1", **red)
stops = {(6.8, 3.4): ("Σ = 10", "+0.1"), (9.2, 3.4): ("ln = 2.3", "+1")}
stops[11.4, 1.4] = ("loss 1.2", "+1")
for (across, height), (text, gradient) in stops.items():
    figures.box(ax, (across, height), text, "orange")
    ax.text(across, height + 0.5, gradient, **red)
figures.arrow(ax, (7.7, 3.4), (8.3, 3.4))
figures.arrow(ax, (9.6, 3.0), (10.9, 1.8))
figures.arrow(ax, (1.4, 1.0), (10.5, 1.2), "× −1", bend=0.12)
plt.show()

# %% [markdown]
# The whole idea fits on one screen, and it is worth reading twice. Each operation
# stores its slopes when it is executed; `backward` visits the numbers in reverse order
# and adds.

# %%
show(learning.Number)

# %%
scores = [learning.Number(v) for v in (math.log(6), math.log(3), 0.0)]
cat, dog, hen = scores
loss = (cat.exp() + dog.exp() + hen.exp()).log() + dog * learning.Number(-1.0)
loss.backward()
for number, expected in zip(scores, (0.6, -0.7, 0.1), strict=True):
    assert abs(number.grad - expected) < 1e-12
print("0.6, −0.7, 0.1: as drawn, and as p − truth")

# %% [markdown]
# torch's autograd is this, on tensors, in C++, with some seven hundred rules for the
# way back. Between two tensors the slopes would fill a huge matrix; so each rule stores
# not the matrix, only what it takes to multiply by it. That `Number.backward` first
# sets all gradients to zero is our kindness: **torch adds to what is there**, which is
# useful for large batches in pieces, and means that a loop has to clear them itself.
#
# ## Again: the loop
#
# 1,797 pictures of digits, 8 × 8 pixels, from scikit-learn. The model is the simplest
# there is: one score per class, a weighted sum of 64 pixels. Its adjustable numbers are
# a matrix $W$ (10 × 64) and ten biases (偏置) $b$. One round through the loop:
#
# 1. take a few examples (a {term}`batch 批 <batch>`) and compute their scores:
#    **forward**;
# 2. compute the loss;
# 3. clear the old gradients and compute the new ones: **backward**;
# 4. move every number against its gradient, by the
#    {term}`learning rate 学习率 <learning rate>` times it: **step**.
#
# We keep 297 pictures out of training, to be asked about at the end; what a model can
# say about pictures it has learnt by heart is of no interest.

# %%
x, y = datasets.digits()  # (1797, 64) in [0, 1], (1797,)
x_test, y_test = x[1500:], y[1500:]
x, y = x[:1500], y[:1500]


def train(model, optimiser, epochs, seed=0, size=32):
    """One loss per step. An epoch (轮) goes through all pictures once."""
    generator, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        for chosen in learning.batches(len(x), size, generator):
            scores = model(x[chosen])  # (size, 10): forward
            loss = nn.functional.cross_entropy(scores, y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


torch.manual_seed(0)
linear = nn.Linear(64, 10)
losses = train(linear, torch.optim.SGD(linear.parameters(), lr=0.5), epochs=10)

# %% mystnb={"figure": {"caption": "Left: the loss, step by step; it starts near an even guess, ln 10 (dashed), and each dot is another small batch, hence the noise. Right: what was learnt, the ten rows of W as pictures; dark blue pixels speak against a digit, yellow ones for it, grey ones say nothing.", "name": "fig-loop"}, "image": {"alt": "Left, a noisy curve that falls from 2.3 to about 0.2. Right, ten small pictures of weights in which the shapes of the digits 0 to 9 can be guessed."}}
seats = plt.figure(figsize=(6.4, 2.6)).subplot_mosaic("LLLLL01234;LLLLL56789")
seats["L"].plot(losses, ".", markersize=3)
seats["L"].axhline(math.log(10), color="k", ls="--", lw=1)
seats["L"].set(xlabel="step", ylabel="loss", ylim=(0, 2.6))
for digit in range(10):
    picture = linear.weight[digit].detach().reshape(8, 8)
    seats[str(digit)].imshow(picture, cmap="cividis", vmin=-2, vmax=2)
    seats[str(digit)].set_title(digit, size=8)
    seats[str(digit)].axis("off")
plt.show()

# %%
print("mean loss of the last 50 steps:", approx(np.mean(losses[-50:]), 0.02, 0.3))
print(
    "right on unseen pictures:",
    approx(learning.accuracy(linear, x_test, y_test), 0.9, 1),
)

# %% [markdown]
# Nothing in the loop is magic, and to prove it we run it once more without `nn.Linear`,
# without autograd and without an optimiser (优化器). Since $z = Wx + b$, row $k$ of the
# gradient by $W$ is $(p_k - [k = y])\,x$, and for a batch the mean of that: two matrix
# products and equation {eq}`eq-gradient`.

# %%
torch.manual_seed(0)
model = nn.Linear(64, 10)
W, b = model.weight.detach().clone(), model.bias.detach().clone()  # (10, 64), (10,)
train(model, torch.optim.SGD(model.parameters(), lr=0.5), epochs=1)
for chosen in learning.batches(len(x), 32, np.random.default_rng(0)):
    inputs = x[chosen]  # (B, 64)
    error = learning.softmax(inputs @ W.T + b) - torch.eye(10)[y[chosen]]  # (B, 10)
    W -= 0.5 * error.T @ inputs / len(chosen)
    b -= 0.5 * error.mean(0)
assert (W - model.weight).abs().max() < 1e-4 and (b - model.bias).abs().max() < 1e-4
print("after 47 steps the weights agree to 1e-4, without autograd")

# %% [markdown]
# ## The rate, and a hidden layer
#
# Two knobs decide most training runs: the size of the steps, and the model. First the
# steps. Too small, and nothing happens in the time we have; too large, and each step
# jumps over the valley it was meant to enter.

# %% mystnb={"figure": {"caption": "The same model and data with three learning rates, one pass. Small: a slow fall. Medium: a quick one. Large: the loss jumps, mostly far above an even guess.", "name": "fig-three-rates"}, "image": {"alt": "Three loss curves on a logarithmic axis over 47 steps. Rate 0.01 falls slowly from 2.3, rate 0.5 falls quickly below 1, rate 50 jumps between 0.2 and 200."}}
curves, models = {}, {}
for rate in (0.01, 0.5, 50.0):
    torch.manual_seed(0)
    models[rate] = model = nn.Linear(64, 10)
    curves[rate] = train(model, torch.optim.SGD(model.parameters(), lr=rate), epochs=1)

figure, ax = plt.subplots(figsize=(6.4, 2.6))
for (rate, curve), style in zip(curves.items(), ["C0--", "C2-", "C3:"], strict=True):
    ax.semilogy(curve, style, label=f"rate {rate:g}")
ax.set(xlabel="step", ylabel="loss")
ax.legend()
plt.show()

# %%
for rate, (low, high) in {0.01: (1.5, 2.4), 0.5: (0.1, 1), 50.0: (0.05, 300)}.items():
    least = 0.7 if rate > 0.01 else 0.05
    right = approx(learning.accuracy(models[rate], x_test, y_test), least, 1)
    loss = approx(np.mean(curves[rate][-10:]), low, high)
    print(f"rate {rate:5g}: last ten losses {loss}, right on unseen pictures {right}")

# %% [markdown]
# The last line is worth a second look. At rate 50 the loss is mad, and most answers are
# right all the same: a loss counts how confident the answers are, accuracy only which
# one leads. Larger steps make larger scores, and larger scores make a mistake dearer;
# but which score leads does not depend on their scale.
#
# Then the model. Between pixels and scores we put a *hidden layer* (隐藏层): 64 weighted
# sums, of which the negative ones are cut off (ReLU, 线性整流), and the scores are weighted
# sums of those. Without the cut the two matrices would multiply to one and nothing
# would be gained. The optimiser is Adam {cite}`kingma2015adam`, which gives every
# number its own step size, from running averages of its gradients and of their squares.

# %%
torch.manual_seed(0)
deeper = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
train(deeper, torch.optim.Adam(deeper.parameters(), lr=3e-3), epochs=10)
for name, model in {"linear": linear, "hidden layer": deeper}.items():
    seen = approx(learning.accuracy(model, x, y), 0.93, 1)
    unseen = approx(learning.accuracy(model, x_test, y_test), 0.9, 1)
    print(f"{name:13} right on seen pictures {seen}, on unseen {unseen}")

# %% [markdown]
# A few pictures more are right. The two runs differ in their optimiser as well, so this
# shows that a hidden layer works, not what it is worth.
#
# ## Where people go wrong
#
# **Softmax twice.** `nn.functional.cross_entropy` wants scores, as in equation
# {eq}`eq-cross-entropy`, and applies the softmax itself. Many networks end in a softmax
# all the same. It runs, and it even learns. But probabilities lie between 0 and 1, and
# as scores they can differ by 1 at most, so that even a perfect answer has the loss
# $\ln(e + 9) - 1$:

# %%
perfect = torch.eye(10)  # ten examples, each certain and right
floor = nn.functional.cross_entropy(perfect, torch.arange(10)).item()
assert abs(floor - (math.log(math.e + 9) - 1)) < 1e-6
torch.manual_seed(0)
twice = nn.Sequential(nn.Linear(64, 10), nn.Softmax(-1))
stuck = train(twice, torch.optim.SGD(twice.parameters(), lr=0.5), epochs=10)
print(
    f"floor of the loss: {floor:.2f}; after 10 epochs",
    approx(np.mean(stuck[-50:]), floor, 2.3),
)
print(
    "right on unseen pictures:",
    approx(learning.accuracy(twice, x_test, y_test), 0.6, 0.95),
)
print("first loss:", approx(stuck[0], 2.25, 2.35), "and ln 10 = 2.30")

# %% [markdown]
# The sign is a loss that refuses to go below 1.46 for ten classes. The first loss does
# not give it away, it is near $\ln K$ either way. The check that tells: a model must be
# able to learn ten examples by heart, down to a loss near zero. Try that before
# anything longer.

# %%
for name, tail in {"scores": [], "softmax twice": [nn.Softmax(-1)]}.items():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 10), *tail)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2000):
        loss = nn.functional.cross_entropy(model(x[:10]), y[:10])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    low, high = (floor, 1.6) if tail else (0, 0.01)
    print(f"{name:14} ten by heart: loss", approx(loss.item(), low, high))

# %% [markdown]
# **Gradients that were not cleared.** Without `zero_grad` each step uses the sum of all
# gradients so far, the stale ones with the same weight as the new one.

# %%
w = torch.tensor(1.0, requires_grad=True)
for _ in range(3):
    (2 * w).backward()
print("the slope of 2w is 2; after three backward passes w.grad is", w.grad.item())

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** The vocabulary of bert-base-chinese has 21,128 entries. With which
# loss does a model start that has no idea?

# %%
loss_of_guessing = ...  # a number
check.guessing(loss_of_guessing)

# %% tags=["hide-cell"]
loss_of_guessing = math.log(21128)
check.guessing(loss_of_guessing)

# %% [markdown]
# **2. Softmax.** Write `my_softmax(z)` for scores z (B, K), so that it survives scores
# near a thousand.

# %%
my_softmax = ...  # def my_softmax(z): …
check.softmax(my_softmax)


# %% tags=["hide-cell"]
def my_softmax(z):
    weights = (z - z.max(dim=-1, keepdim=True).values).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


check.softmax(my_softmax)

# %% [markdown]
# **3. For an evening: label smoothing (标签平滑).** Instead of all certainty on $y$, one
# asks for $1 - s$ on $y$ and spreads $s$ evenly over all $K$ classes, $y$ included:
# with $q_k$ for what is asked, the loss of an example is the mean of the surprises,
# $-\sum_k q_k \ln p_k$. Derive the gradient by the scores of the mean loss over a
# batch, and write it as `smoothed_gradient(z, y, s)`, z (B, K), y (B,). At which scores
# does the model stand still now?

# %%
smoothed_gradient = ...  # def smoothed_gradient(z, y, s): …
check.smoothed_gradient(smoothed_gradient)


# %% tags=["hide-cell"]
def smoothed_gradient(z, y, s):
    B, K = z.shape
    wanted = (1 - s) * torch.eye(K, dtype=z.dtype)[y] + s / K  # (B, K)
    return (learning.softmax(z) - wanted) / B


check.smoothed_gradient(smoothed_gradient)

# %% [markdown]
# It stands still where $p$ is the wanted distribution, at
# $z_y - z_k = \ln \frac{1 - s + s/K}{s/K}$ for every other class $k$: finite, where
# plain cross-entropy would drive the difference on for ever.
#
# ## In short
#
# Softmax turns scores into probabilities and sees only their differences. Cross-entropy
# is the mean surprise at the truth; an even guess costs $\ln K$; its gradient by the
# scores is what is expected minus what was observed. Autograd stores on the way forward
# what it takes to multiply by the slopes, and does so on the way back: one walk, for
# all gradients at once. A training run is four lines, again and again, and the pictures
# it has not seen decide what it was worth.
#
# Next: [why normalise](../01_norms/01_why_normalise), where the same loop meets deep
# networks, and stalls.
