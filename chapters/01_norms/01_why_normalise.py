# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why normalise?
#
# A deep network is a chain. Each layer sees nothing but the numbers that the layer
# below hands up, and learns from nothing but the gradient (梯度) that the layer above
# hands down. What if those numbers are far too small, or far too large, or never twice
# the same? And what does a normalisation layer (归一化层) do about it?
#
# The usual answer is one phrase, *internal covariate shift*, and the usual telling of
# it mixes three different things: saturation, size by depth, and change over time. At
# the end of this page you can
#
# - say why a neuron that is pushed to one side stops learning, and by what factor;
# - tell a drift over **depth** from a drift over **training time**, measure both, and
#   say which of them has the famous name;
# - predict what five remedies do to the signal on its way up and to the gradient on its
#   way down;
# - tell whitening (白化) from batch normalisation (批归一化, BN), by picture and by number;
# - repeat, in seconds, the experiments that parted what batch normalisation *does* from
#   what it was *invented for*, and say what so small an experiment cannot show.
#
# You need the page [learning](../00_tensors/03_learning): softmax, cross-entropy,
# autograd and one training loop. Variance and covariance will be enough statistics.

# %% tags=["hide-input"]
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils.exercises import norms as check
from utils.lab import (
    above,
    approx,
    below,
    between,
    close,
    datasets,
    figures,
    notes_say,
    same,
    settle,
    settle_all,
)
from utils.lab.figures import plt
from utils.norms import batch_norm, layer_norm, whiten

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "norms-ics-definition",
    "norms-ics-chinese-name",
    "norms-saturation",
    "norms-learning-rate",
    "norms-remedy-relu",
    "norms-remedy-small-lr",
    "norms-remedy-init",
    "norms-remedy-whitening",
    "norms-purpose-ics",
)

# %% [markdown]
# Read as a story: distributions drift, so neurons saturate and steps must be small;
# four older remedies exist; normalisation is the cure. Every chapter of the story
# contains something true. We shall take it apart in that order.
#
# ## By hand: one neuron, three numbers
#
# One hidden neuron with a sigmoid, $a = \sigma(z) = 1/(1+e^{-z})$, and three numbers
# that arrive at it: $z = -1, 0, 1$. When the neuron learns, its gradient is multiplied
# by the slope of the sigmoid,
#
# $$
# \begin{aligned}
# \sigma'(z) &= \sigma(z)\,\bigl(1-\sigma(z)\bigr), \\
# \sigma'(0) &= \tfrac12 \cdot \tfrac12 = \tfrac14, \qquad
# \sigma'(10) = \frac{e^{-10}}{(1+e^{-10})^2} \approx e^{-10} .
# \end{aligned}
# $$ (eq-slope)
#
# One quarter is the best it can do. Now let the layer below change, so that the same
# three examples arrive shifted by 5, or by 10.


# %%
def slope(activation, z):
    """The derivative of an activation at every entry of z, by autograd."""
    z = torch.as_tensor(z, dtype=torch.double).requires_grad_()
    return torch.autograd.grad(activation(z).sum(), z)[0]


three = torch.tensor([-1.0, 0.0, 1.0])
for shift in (0, 5, 10):
    slopes = "  ".join(f"{s:.5f}" for s in slope(torch.sigmoid, three + shift))
    print(f"z = −1, 0, 1 shifted by {shift:2}: slopes {slopes}")

# %% [markdown]
# At 10 the slope is thousands of times smaller than at 0. Nothing is wrong with the
# neuron; it is only being asked on the flat part of its curve, its **saturated** region
# ({term}`饱和 <saturation>`). The same with a whole cloud of inputs:

# %% mystnb={"figure": {"caption": "A cloud of inputs (grey) slides over the sigmoid (blue). The orange curve is the slope, which multiplies the gradient. Dots: the slope that each of 25 examples gets.", "name": "fig-saturation"}, "image": {"alt": "Four panels. The grey cloud stands at 0, 2.5, 5 and 10. The slope is a bump around zero; at 0 the cloud lies under it, at 5 it lies almost outside, at 10 all dots lie on the axis."}}
cloud = np.random.default_rng(0).standard_normal(1000)
grid = np.linspace(-6, 14, 400)
figure, axes = figures.panels(4, height=2.0, sharey=True)
for ax, shift in zip(axes, (0, 2.5, 5, 10), strict=True):
    ax.hist(cloud + shift, 30, weights=np.full(1000, 1 / 200), color="#cccccc")
    ax.plot(grid, torch.sigmoid(torch.tensor(grid)), label="σ")
    ax.plot(grid, slope(torch.sigmoid, grid), label="slope σ′")
    ax.plot(cloud[:25] + shift, slope(torch.sigmoid, cloud[:25] + shift), "k.", ms=3)
    ax.set(title=f"shift {shift}", xlabel="input z")
axes[0].legend(loc="center right", fontsize=8, handlelength=1)
plt.show()
figures.digest("slopes at shift 10", slope(torch.sigmoid, cloud + 10))

# %% [markdown]
# At shift 5 the cloud has left the bump, at shift 10 all dots lie on the axis. A small
# slope is a slow neuron. How slow? Let the neuron learn to answer "no" (below 0.2 on
# average) to all three numbers, by gradient descent on its bias $b$ alone, with
# $\tfrac12 a^2$ as the loss of each example and rate 1. We count the steps.


# %%
def steps_to_no(bias):
    """Gradient steps until the mean answer to z + bias, z = −1, 0, 1, is below 0.2."""
    steps = 0
    while True:
        answers = [1 / (1 + math.exp(-(z + bias))) for z in (-1, 0, 1)]
        if sum(answers) / 3 < 0.2:
            return steps
        bias -= (
            sum(a * a * (1 - a) for a in answers) / 3
        )  # a from the loss, a(1−a) slope
        steps += 1


steps = {start: steps_to_no(start) for start in (0, 5, 10)}
print("steps needed from a shift of 0, 5, 10:", list(steps.values()))

# %% [markdown]
# Then depth. The chain rule multiplies one slope per layer. At its very best, a column
# of 50 sigmoids passes on $(1/4)^{50}$ of a gradient, and at a shift of 5 the product
# is far below anything that a float32 can hold. (Weights multiply too; they can make up
# for a quarter, hardly for this.)

# %%
at_0, at_5, at_10 = (slope(torch.sigmoid, z).item() for z in (0.0, 5.0, 10.0))
settle(
    "norms-saturation",
    close(at_0, 0.25, 1e-15),
    below(at_10, 1e-4),
    below(at_5**50, 1e-100),
    above(steps[10], 100 * steps[0]),
    same(slope(torch.relu, [-10.0, 10.0]).tolist(), [0.0, 1.0]),
)

# %% [markdown]
# The claim holds. Two remarks. An *output* neuron with {term}`cross-entropy` is spared:
# the slope cancels there, and its gradient is $\sigma(z) - y$. The trouble is with
# hidden neurons. And ReLU, in the last line, does not saturate on the right at all,
# while on the left its slope is not small but zero.
#
# So far, nobody has said *why* the inputs should have moved.
#
# ## Two axes: depth and time
#
# Write $h_\ell(x;\theta_t)$ for what layer $\ell$ hands up for the example $x$, when
# training has reached step $t$ and the weights are $\theta_t$. Its distribution over
# the examples can differ along two axes:
#
# - **depth**: fix the moment $t$ and climb from layer to layer, $\ell = 1, 2, 3, \dots$
# - **time**: fix the layer $\ell$ and let training go on, $t = 0, 1, 2, \dots$
#
# The paper that introduced batch normalisation defines *internal covariate shift*
# ({term}`ICS <internal covariate shift (ICS)>`) on the second axis: the change in the
# distribution of a layer's inputs **during training**, brought about by the updates of
# the layers **below** {cite}`ioffe2015batch`. The notes describe the first axis, and
# give it the name of the second.
#
# The difference is not a matter of words, for there is an experiment that can tell:
# keep the lower layers **frozen**. Whatever happens along depth is still there;
# whatever comes from updates below must vanish, and not nearly but exactly.
#
# We need a network, a loop and a camera. The data are scikit-learn's handwritten
# digits, 8 × 8 pixels each; 256 of them are never trained on and serve as the
# **probe**, the same examples at every look.

# %%
images, labels = datasets.digits()
images = (images - images.mean()) / images.std()
probe = images[:256]  # (256, 64)
x_train, y_train = images[256:], labels[256:]
print("to train on:", tuple(x_train.shape), " probe:", tuple(probe.shape))


# %%
def perceptron(depth, activation, gain=None, norm=None, seed=0, width=64):
    """`depth` hidden layers of 64 units, then ten logits.

    Weights have variance gain/64; without a gain, what PyTorch gives a Linear layer.
    """
    torch.manual_seed(seed)
    layers = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        if gain:
            nn.init.normal_(linear.weight, std=(gain / width) ** 0.5)
            nn.init.zeros_(linear.bias)
        middle = [norm(width)] if norm else []
        layers.append(nn.Sequential(linear, *middle, activation()))
    return nn.Sequential(*layers, nn.Linear(width, 10))


# %%
def train(model, rate, steps=300, seed=0, watch=None):
    """Plain SGD on batches of 64; returns the losses. `watch` sees every step."""
    chooser, losses = np.random.default_rng(seed), []
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=rate)
    for _ in range(steps):
        if watch:
            watch(model)
        rows = chooser.integers(len(x_train), size=64)
        loss = F.cross_entropy(model(x_train[rows]), y_train[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The camera sends the probe through the network before every step and keeps, for every
# unit of every layer, the mean and the standard deviation over the 256 examples. From
# such a film we take two numbers: the **travel** of a unit, from the lowest to the
# highest value it ever had, and the **drift**, how far it moves in one step.


# %%
def layer_outputs(model, x=probe):
    """What every hidden layer hands up: (depth, n, 64)."""
    outputs = []
    with torch.no_grad():
        for layer in model[:-1]:
            x = layer(x)
            outputs.append(x)
    return torch.stack(outputs)


def moments(outputs):
    """Mean and standard deviation of every unit over the examples: (depth, 2, 64)."""
    mean = outputs.mean(1, keepdim=True)
    deviation = (outputs - mean).square().mean(1).sqrt()
    return torch.stack([mean.squeeze(1), deviation], dim=1)


# %%
def filmed(model, rate, **options):
    """Train; returns losses, film (steps, depth, 2, 64), and every 60th frame whole."""
    film, frames = [], []

    def look(model):
        outputs = layer_outputs(model)
        if len(film) % 60 == 0:
            frames.append(outputs)
        film.append(moments(outputs))

    losses = train(model, rate, watch=look, **options)
    return losses, torch.stack(film), torch.stack(frames)


def travel(film):
    return film.amax(0) - film.amin(0)  # (depth, 2, 64)


def drift(film):
    return film.diff(dim=0).abs().mean((1, 2, 3))  # (steps − 1,)


# %% [markdown]
# Eight tanh layers, once trained as usual, once with layers 1 to 4 frozen. (`gain` sets
# the size of the weights; the section on layer fifty explains it.)

# %%
losses, film, frames = filmed(perceptron(8, nn.Tanh, gain=1), rate=0.1)

half_frozen = perceptron(8, nn.Tanh, gain=1)
half_frozen[:4].requires_grad_(False)
losses_frozen, film_frozen, frames_frozen = filmed(half_frozen, rate=0.1)

for name, run in [("trained", losses), ("half frozen", losses_frozen)]:
    print(
        f"{name:12} loss", approx(run[0], 2, 3), "→", approx(np.mean(run[-20:]), 0, 0.8)
    )


# %% mystnb={"figure": {"caption": "What the layers hand up, on the same 256 digits. Left: the depth axis, all eight layers before the first step. Middle: the time axis, layer 4 as training goes on. Right: layer 4 again, with layers 1 to 4 frozen.", "name": "fig-two-axes"}, "image": {"alt": "Three stacks of density curves. On the left they grow narrower from layer 1 to layer 8. In the middle, over training steps, a bell widens into a flat plateau. On the right all curves are the same."}} tags=["hide-input"]
def ridges(ax, samples, names, title):
    """One density curve per sample, stacked upwards."""
    for level, sample in enumerate(samples):
        height, edges = np.histogram(sample.flatten(), 40, (-1, 1), density=True)
        middle = (edges[1:] + edges[:-1]) / 2
        shade = plt.cm.viridis(level / len(samples))
        ax.fill_between(middle, level, level + height / 1.8, facecolor=shade, lw=0)
    ax.set(title=title, xlabel="output", yticks=range(len(samples)), yticklabels=names)
    ax.grid(False)


figure, axes = figures.panels(3, height=3.0)
step_names = [f"step {60 * i}" for i in range(len(frames))]
ridges(axes[0], frames[0], [f"layer {i}" for i in range(1, 9)], "depth, at step 0")
ridges(axes[1], frames[:, 3], step_names, "time, at layer 4")
ridges(axes[2], frames_frozen[:, 3], step_names, "time, layers 1–4 frozen")
plt.show()
figures.digest("layer 4 over time", frames[:, 3])

# %% [markdown]
# The left picture is what the notes describe, and there is no training in it at all.
# The middle one is internal covariate shift, as layer 5 suffers it. In the right one it
# is gone. Both axes in one chart, layers upwards and time to the right:

# %% mystnb={"figure": {"caption": "Mean standard deviation of a unit on the probe, by layer (upwards) and step (to the right). Up a column runs the depth axis, along a row the time axis.", "name": "fig-heat-axes"}, "image": {"alt": "Two heat maps of 8 layers by 300 steps. On the left every row grows brighter with time, the upper ones most. On the right the rows of layers 1 to 4 keep one colour throughout, but differ from each other."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.4, sharey=True)
pairs = [("trained", film), ("layers 1–4 frozen", film_frozen)]
for ax, (title, run) in zip(axes, pairs, strict=True):
    spread = run[:, :, 1].mean(-1).T  # (layer, step)
    edges = np.arange(0, 301, 5), np.arange(0.5, 9)
    image = ax.pcolormesh(*edges, spread[:, ::5], vmin=0.1, vmax=0.8)
    ax.set(title=title, xlabel="step", yticks=range(1, 9))
    ax.grid(False)
axes[0].set_ylabel("layer")
figure.colorbar(image, ax=axes, label="standard deviation")
plt.show()

# %% [markdown]
# On the left every row changes its colour with time. On the right rows 1 to 4 do not,
# and yet they differ from one another: depth without time. If the differences along
# depth were internal covariate shift, they would have to vanish where the shift
# vanishes. They stay:

# %%
spread_by_layer = film[0, :, 1].mean(-1)  # (8,), before the first step
spread_when_frozen = film_frozen[-1, :4, 1].mean(-1)  # (4,), after the last step
travel_below_5 = travel(film)[3].mean().item()
travel_below_5_frozen = travel(film_frozen)[3].max().item()
settle(
    "norms-ics-definition",
    above(spread_by_layer.max() - spread_by_layer.min(), 0.1),
    above(spread_when_frozen.max() - spread_when_frozen.min(), 0.1),
    above(travel_below_5, 0.1),
    same(travel_below_5_frozen, 0.0),
    note="frozen layers differ in depth to the end, and their shift is exactly 0",
)

# %% [markdown]
# One thing in the notes' sentence is worth saving. Things *do* add up with depth: a
# layer above feels the updates of all layers below it. The travel in the first layer
# and in the last:

# %%
by_layer = travel(film).mean((1, 2))  # (8,)
print("travel in layer 1:", approx(by_layer[0].item(), 0.1, 0.35), end="; ")
print("in layer 8:", approx(by_layer[7].item(), 0.3, 0.7))
assert by_layer[7] > 1.3 * by_layer[0]

# %% [markdown]
# ### Covariate, not covariance
#
# The notes call it 内部协方差偏移. That is *covariance* shift. A **covariate** (协变量) is simply
# an input variable, and a covariate shift a change of the inputs' distribution, while
# the right answer to each input stays the same {cite}`shimodaira2000`; the term is
# 内部协变量偏移. Two words that look alike, and yet the mistranslation can be refuted by
# arithmetic: brighten every probe digit by the same amount. Not one covariance moves,
# but the network that we have just trained does notice.

# %%
trained = perceptron(8, nn.Tanh, gain=1)
train(trained, rate=0.1)
brighter = probe + 2.0
with torch.no_grad():
    loss_before = F.cross_entropy(trained(probe), labels[:256]).item()
    loss_after = F.cross_entropy(trained(brighter), labels[:256]).item()

covariance = np.cov(probe.double().T)  # (64, 64)
covariance_brighter = np.cov(probe.double().T + 2)
settle(
    "norms-ics-chinese-name",
    close(covariance_brighter, covariance, 1e-12),
    above(loss_after - loss_before, 0.1),
    note="a covariate shift without any covariance shift, and it hurts",
)

# %% [markdown]
# ## What reaches layer fifty?
#
# Back to the depth axis, which has its own name, **signal propagation** (信号传播), and its
# own remedies. Let $q_\ell$ be the mean square of the numbers in layer $\ell$. A layer
# with $n$ inputs and random weights of variance $g/n$ makes sums with mean square
# $g\,q_\ell$; ReLU then throws away the negative half:
#
# $$
# q_{\ell+1} = \tfrac{g}{2}\, q_\ell .
# $$ (eq-signal)
#
# So the **gain** $g = 2$ keeps the size, which is He's initialisation (初始化)
# {cite}`he2015delving`. $g = 1$ is Xavier's {cite}`glorot2010understanding`, right for
# linear layers, and under ReLU it halves the mean square in every layer: after 50
# layers a factor $2^{-25}$ is left of the standard deviation. Errors in the gain are
# compounded.
#
# Fifty random layers of width 256, in float64: how large is the signal on the way up,
# and how large the gradient on its way down, if it starts with size 1 at the top?


# %%
def by_depth(activation, gain, after=lambda h: h, n=128, width=256, depth=50):
    """Standard deviation of each layer's output, and size of the gradient there."""
    draw = np.random.default_rng(0).standard_normal
    h, layers = torch.tensor(draw((n, width)), requires_grad=True), []
    for _ in range(depth):
        weight = torch.tensor(draw((width, width))) * (gain / width) ** 0.5
        h = after(activation(h @ weight))  # (n, width)
        h.retain_grad()
        layers.append(h)
    h.backward(torch.tensor(draw(h.shape)))
    signal = np.array([h.std().item() for h in layers])
    gradient = np.array([h.grad.square().mean().sqrt().item() for h in layers])
    return signal, gradient


gains = {"small": 0.01**2 * 256, "Xavier": 1, "He": 2}
activations = {"tanh": torch.tanh, "ReLU": torch.relu}
after = {"": lambda h: h, " + LN": layer_norm}
depth_runs = {
    (kind, name + norm): by_depth(activations[kind], gains[name], after[norm])
    for kind in activations
    for name in gains
    for norm in after
}

# %% [markdown]
# "small" is a standard deviation of 0.01 for every weight, as old code has it. The
# dashed runs have a {term}`layer normalisation <layer normalisation (LN)>` (LN) after
# each activation; the [next page](02_three_axes) takes that layer apart, here it is
# enough that it gives every example mean 0 and standard deviation 1.


# %%
def plot_by_depth(part, label, corner):
    """One panel an activation, one colour an initialisation; dashed with LN."""
    figure, axes = figures.panels(2, height=2.8, sharey=True)
    colours = dict(zip(gains, ("blue", "orange", "green"), strict=True))
    for ax, kind in zip(axes, activations, strict=True):
        for name, colour in colours.items():
            for norm, style in zip(after, ("-", "--"), strict=True):
                line = depth_runs[kind, name + norm][part]
                look = {"color": figures.COLOURS[colour], "label": name + norm}
                ax.semilogy(range(1, 51), line, style, **look)
        ax.set(title=kind, xlabel="layer", ylim=(1e-20, 1e6))
    axes[0].set_ylabel(label)
    axes[0].legend(loc=corner, fontsize=8)
    plt.show()


# %% mystnb={"figure": {"caption": "The signal on its way up: standard deviation of the layer outputs, by depth, before any training. Dashed, with LN after the activation: three lines on top of each other at 1. The lines of small weights leave the picture and go on falling.", "name": "fig-signal-depth"}, "image": {"alt": "Logarithmic plots for tanh and ReLU. The lines of small weights fall out of the picture by layer 25. Xavier with ReLU falls to ten to the minus eight, with tanh slowly to a tenth. He stays near one. All dashed lines are flat at one."}}
plot_by_depth(0, "standard deviation", "lower right")
figures.digest("standard deviations", [run[0] for run in depth_runs.values()])

# %% mystnb={"figure": {"caption": "The gradient on its way down, read from right to left: it starts with size 1 at layer 50. With LN it never shrinks: it grows towards the bottom, except under tanh with small weights.", "name": "fig-gradient-depth"}, "image": {"alt": "Logarithmic plots for tanh and ReLU. With small weights the gradient falls out of the picture half-way down. With He it stays near one for ReLU. Dashed lines with LN stay at one or rise from one at layer 50 to at most ten to the five at layer 1."}}
plot_by_depth(1, "size of the gradient", "lower left")
figures.digest("gradient sizes", [run[1] for run in depth_runs.values()])

# %% [markdown]
# Remedy by remedy:
#
# - **ReLU** keeps the slope at 1 where it is on, but has no opinion on size: with the
#   wrong gain its signal is lost faster than that of tanh, which loses only slowly with
#   Xavier, because it is nearly linear for small numbers.
# - **Initialisation** gets both directions right at once, for one activation, at step
#   0. It promises nothing for step 1.
# - **Normalisation** holds the signal whatever the initialisation. The three dashed
#   lines are one line.
# - **Small steps** cannot be seen in these pictures: no step has been taken. A vanished
#   signal is there before the learning rate has a say.

# %%
signal_of = {key: run[0] for key, run in depth_runs.items()}
he_relu = signal_of["ReLU", "He"][-1]
xavier_relu = signal_of["ReLU", "Xavier"][-1]
small_relu = signal_of["ReLU", "small"][-1]
xavier_tanh = signal_of["tanh", "Xavier"]
with_ln = np.array([run for (_, name), run in signal_of.items() if "LN" in name])
settle_all(
    {
        "norms-remedy-relu": [
            same(slope(torch.relu, 10.0).item(), 1.0),
            between(he_relu, 0.1, 5),
            below(xavier_relu, 1e-6),
        ],
        "norms-remedy-init": [
            below(small_relu, 1e-40),
            between(he_relu, 0.1, 5),
            below(xavier_tanh[-1] ** 2 / xavier_tanh[0] ** 2, 0.1),
            below(abs(with_ln - 1).max(), 0.01),
        ],
    }
)

# %% [markdown]
# Now look once more at {numref}`fig-gradient-depth`. Normalisation held the signal, but
# under ReLU the *gradient* grows on its way down, by the same factor in every layer,
# whatever the gain: weights multiply gradient and signal alike, so $g$ cancels. (Under
# tanh the gain matters: small weights keep it nearly linear, and the gradient hardly
# grows.) The factor can be had by hand. For $z \sim \mathcal N(0,1)$, ReLU lets half of
# the squared gradient through, and its output has variance $\tfrac12 - \tfrac1{2\pi}$;
# normalising divides by that:
#
# $$
# \frac{\lVert g_{\ell} \rVert^2}{\lVert g_{\ell+1} \rVert^2} \approx
# \frac{\mathbb E[\mathrm{ReLU}'(z)^2]}{\operatorname{Var}[\mathrm{ReLU}(z)]}
# = \frac{1/2}{1/2 - 1/(2\pi)} = \frac{\pi}{\pi - 1} .
# $$ (eq-growth)

# %%
gradient = depth_runs["ReLU", "He + LN"][1]
measured = (gradient[0] / gradient[-1]) ** (1 / 49)
by_hand = math.sqrt(math.pi / (math.pi - 1))
print(f"growth of the gradient per layer: by hand {by_hand:.3f},", end=" ")
print("measured", approx(measured, 0.98 * by_hand, 1.02 * by_hand))

# %% [markdown]
# No gain and no learning rate appears in equation {eq}`eq-growth`, so none can mend it
# under ReLU; a plain normalised network of great depth has *exploding* gradients (梯度爆炸)
# at the start, as a theory of batch normalisation found too {cite}`yang2019mean`. What
# mends it are {term}`residual connections <residual connection>`, the subject of [norms
# today](04_norms_today).
#
# ## Is batch normalisation a cheap whitening?
#
# The last remedy of the notes is **whitening** ({term}`白化 <whitening>`): make the
# inputs of a layer uncorrelated, each with variance (方差) 1. PCA (主成分分析) turns the axes
# to the directions in which the data vary independently, the widest first, and dividing
# each by its standard deviation whitens; ZCA then turns back. Why would one want that?
# Because the steps of gradient descent are limited by the direction in which the data
# are widest, and its progress by the direction in which they are narrowest
# {cite}`lecun1998efficient`. The notes add that PCA costs much, so that BN "is the
# better fit".
#
# Two features, strongly correlated. BN is our `batch_norm` from `utils/norms.py`; first
# the assurance that it and `whiten` are what the libraries compute. (scikit-learn
# divides by $n-1$ and puts the widest axis first; the sign of an axis is anybody's
# choice.)

# %%
from sklearn.decomposition import PCA

draw = np.random.default_rng(0).standard_normal
raw = torch.tensor(draw((400, 2)) @ [[2.0, 0.9], [0.0, 0.4]]) + 3  # (400, 2)
library_bn = nn.BatchNorm1d(2, dtype=torch.double)(raw)
library_pca = torch.tensor(PCA(whiten=True).fit_transform(raw.numpy()))
assert (batch_norm(raw) - library_bn).abs().max() < 1e-12
ours, theirs = whiten(raw, "pca").flip(1), library_pca * math.sqrt(400 / 399)
assert (ours.abs() - theirs.abs()).abs().max() < 1e-9
print("batch_norm and whiten agree with torch and scikit-learn")

# %% mystnb={"figure": {"caption": "The same 400 examples raw, after batch normalisation, after PCA whitening and after ZCA whitening; three of them marked. BN moves and stretches along the axes, so the ellipse stays an ellipse. Whitening makes a disc; ZCA turns back, and keeps the examples as near as whitening can.", "name": "fig-whitening"}, "image": {"alt": "Four scatter plots. Raw: a long tilted ellipse away from the origin. BN: a centred, still tilted narrow ellipse. PCA and ZCA: round clouds; in ZCA the three marked points keep their order from left to right, in PCA they are turned."}} tags=["hide-input"]
clouds = {
    "raw": raw,
    "BN": batch_norm(raw, eps=0),
    "PCA whitening": whiten(raw, "pca"),
    "ZCA whitening": whiten(raw, "zca"),
}
figure, axes = figures.panels(4, height=2.1)
for ax, (name, points) in zip(axes, clouds.items(), strict=True):
    ax.plot(*points.T, ".", ms=2, color=figures.COLOURS["grey"])
    for colour, point in zip(("blue", "orange", "vermilion"), points[:3], strict=True):
        ax.plot(*point, "o", ms=5, color=figures.COLOURS[colour])
    window = (-3, 9) if name == "raw" else (-4, 4)
    ax.set(title=name, xlim=window, ylim=window, aspect="equal")
plt.show()


# %% [markdown]
# BN made the two scales equal and left the slant; whitening took the slant as well. Now
# the use of it: fit the same line to these examples by gradient descent, at the rate
# that finishes the widest direction in one step, and count the steps until a millionth
# of the first loss is left.


# %%
def steps_to_fit(x, y):
    """Steps of gradient descent at rate 1/λ_max to fit y (n,) by x (n, 2), centred."""
    x, y = x - x.mean(0), y - y.mean()
    rate = 1 / torch.linalg.eigvalsh(x.T @ x / len(x))[-1]  # λ_max: the widest
    weight, steps = torch.zeros(2, dtype=torch.double), 0
    while (x @ weight - y).square().mean() > 1e-6 * y.square().mean():
        weight -= rate * x.T @ (x @ weight - y) / len(x)
        steps += 1
    return steps


target = raw[:, 0] - raw[:, 1]
fit_steps = {name: steps_to_fit(points, target) for name, points in clouds.items()}
correlation = {name: np.corrcoef(points.T)[0, 1] for name, points in clouds.items()}
for name in clouds:
    print(
        f"{name:14} correlation {abs(correlation[name]):.3f}, steps {fit_steps[name]:4}"
    )

# %% [markdown]
# BN removes one trouble, unequal scales, and leaves the other: the correlation is the
# same before and after, to the last digit printed. Whitening removes both, and at this
# rate needs a single step. That is the whole difference, and now its price. The matrix
# products that each of the two really runs, counted by PyTorch's own counter for 1,024
# examples:

# %%
from torch.utils.flop_counter import FlopCounterMode


def products(f, features, rows=1024):
    """Floating-point operations in matrix products, per number of the input."""
    x = torch.tensor(np.random.default_rng(0).standard_normal((rows, features)))
    with FlopCounterMode(display=False) as counter:
        f(x)
    return counter.get_total_flops() / x.numel()


whitening_cost = {D: products(whiten, D) for D in (16, 64, 256)}
bn_cost = {D: products(batch_norm, D) for D in (16, 64, 256)}
print("operations per number, whitening:", whitening_cost)
print("operations per number, BN:       ", bn_cost)

# %%
bn, zca = clouds["BN"], clouds["ZCA whitening"]
settle(
    "norms-remedy-whitening",
    same(whitening_cost[256], 6 * 256.0),
    same(bn_cost[256], 0.0),
    above(correlation["raw"], 0.8),
    close(correlation["BN"], correlation["raw"], 1e-9),
    below(abs(correlation["ZCA whitening"]), 1e-9),
    same(fit_steps["ZCA whitening"], 1),
    above(fit_steps["BN"], 50),
    close(bn.var(0, correction=0), zca.var(0, correction=0), 1e-9),
    note="cheaper, yes; the same thing, no",
)

# %% [markdown]
# Six operations per number and feature: a covariance, a turn, a turn back. On top comes
# an eigendecomposition (特征分解) of the order of $D^3$, and the gradient has to go through
# it all. BN has a few operations per number at any width and no product of matrices.
# Networks with whitening layers have been trained {cite}`huang2018decorrelated`; by
# depth, it makes the growth of equation {eq}`eq-growth` worse, because every narrow
# direction is stretched:

# %%
narrow = {"n": 512, "width": 64}
ln_gradient = by_depth(torch.relu, 2, layer_norm, **narrow)[1]
zca_signal, zca_gradient = by_depth(torch.relu, 2, whiten, **narrow)
assert abs(zca_signal - 1).max() < 1e-3
print("signal held at 1 in every layer; gradient, first layer over last:")
print("with LN ", approx(ln_gradient[0] / ln_gradient[-1], 1e3, 1e6))
print("with ZCA", approx(zca_gradient[0] / zca_gradient[-1], 1e5, 1e9))

# %% [markdown]
# ## How large may a step be?
#
# The notes: lower layers keep changing, upper layers must follow, *so* the learning
# rate cannot be large. That is an observation and an explanation; test them apart.
#
# First the observation. Eight ReLU layers with He's initialisation, so that the plain
# network *can* train, against the same with BN, at six rates and two seeds. A run that
# ends above 100, or nowhere, counts as 100.


# %%
def final(losses):
    """Mean of the last 20 losses, at most 100, which also stands for not a number."""
    return float(np.clip(np.nan_to_num(np.mean(losses[-20:]), nan=100.0), 0, 100))


rates = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
kinds = {"plain": None, "BN": nn.BatchNorm1d}
ends = {
    (kind, seed): [
        final(train(perceptron(8, nn.ReLU, 2, norm, seed), rate, seed=seed))
        for rate in rates
    ]
    for kind, norm in kinds.items()
    for seed in (0, 1)
}
limit = {
    key: max(rate for rate, end in zip(rates, run, strict=True) if end < 0.5)
    for key, run in ends.items()
}

# %% mystnb={"figure": {"caption": "Final loss by learning rate, two seeds each. Below the dotted line (0.5) we say that a rate works; 2.3 is guessing; 100 stands for divergence.", "name": "fig-rates"}, "image": {"alt": "Log-log plot. The plain network works up to a rate between 0.1 and 0.3; beyond, its loss rises to 100, divergence. With BN the loss stays below the line up to a rate of 3 and fails at 10."}} tags=["hide-input"]
figure, ax = plt.subplots()
for (kind, seed), run in ends.items():
    colour = figures.COLOURS["vermilion" if kind == "plain" else "blue"]
    ax.loglog(rates, run, "o-" if seed == 0 else "s--", color=colour, label=kind)
ax.axhline(0.5, color="black", linestyle=":", linewidth=1)
ax.set(xlabel="learning rate", ylabel="final loss")
handles = ax.get_legend_handles_labels()[0]
ax.legend(handles[::2], kinds)
plt.show()
figures.digest("final losses", list(ends.values()))

# %% [markdown]
# The observation holds, and by a wide margin. The explanation says that the limit comes
# from lower layers that move. Then let none of them move: freeze all eight and train
# the last layer alone. Its inputs have exactly no internal covariate shift. It should
# bear any rate.

# %%
top_only = {}
for rate in (0.1, 10.0):
    model = perceptron(8, nn.ReLU, gain=2)
    model[:-1].requires_grad_(False)
    top_only[rate] = final(train(model, rate))
print("top layer alone, rate 0.1: loss", approx(top_only[0.1], 0.8, 2.2))
print("top layer alone, rate 10:  loss", approx(top_only[10.0], 4, 100))

# %% [markdown]
# It does not. Without any shift there is still a limit. It is a milder one: too large a
# rate makes this loss rattle, where the whole network's diverges. So moving layers are
# part of the trouble, but not the only cause of a limit. A step is too large when it
# overshoots a *curved* loss, and the loss of the top layer is curved by the size of its
# inputs, moving or not. Bjorck and colleagues looked at what a large step does to a
# whole network {cite}`bjorck2018understanding`: without BN the activations grow from
# layer to layer, and the gradients with them. We train for 100 steps at a safe rate,
# take **one** step of each size from there, and look at every layer.


# %%
def after_one_step(norm, sizes, alone=None):
    """Root mean square of every layer on the probe, after one step of each size.

    All layers take the step, or only the layer number `alone`, from 0.
    """
    model = perceptron(8, nn.ReLU, gain=2, norm=norm)
    train(model, rate=0.03, steps=100)
    weights = list(model.parameters())
    loss = F.cross_entropy(model(x_train[:256]), y_train[:256])
    gradients = torch.autograd.grad(loss, weights)
    found, done = [], 0.0
    for size in sizes:
        with torch.no_grad():
            for i, (weight, gradient) in enumerate(
                zip(weights, gradients, strict=True)
            ):
                if alone in (None, i // 2):  # a layer has a weight and a bias
                    weight -= (size - done) * gradient
        done = size
        found.append(layer_outputs(model).square().mean((1, 2)).sqrt())
    return torch.stack(found)  # (sizes, 8)


sizes = (0.0, 0.1, 0.3, 1.0, 3.0)
one_step = {kind: after_one_step(norm, sizes) for kind, norm in kinds.items()}

# %% mystnb={"figure": {"caption": "Size of the numbers in every layer after one single step along the gradient, for five step sizes. Without BN a large step is amplified by every layer; with BN it is not.", "name": "fig-one-step"}, "image": {"alt": "Two logarithmic panels over eight layers. Plain: the line for step size 3 climbs from about 2 in layer 1 to hundreds in layer 8, that for 1 to about 20. BN: all five lines lie flat just below one."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.6, sharey=True)
for ax, (kind, found) in zip(axes, one_step.items(), strict=True):
    for size, line, shade in zip(sizes, found, np.linspace(0, 0.9, 5), strict=True):
        ax.semilogy(range(1, 9), line, "o-", color=plt.cm.viridis(shade), label=size)
    ax.set(title=kind, xlabel="layer")
axes[0].set_ylabel("root mean square")
axes[0].legend(title="step size", fontsize=8)
plt.show()
figures.digest("root mean squares", list(one_step.values()))

# %% [markdown]
# One step leaves no time to follow a drift, and the blow-up is there at once,
# multiplied from layer to layer. BN resets the size after every layer, so nothing is
# left to multiply. Is it the work of one layer, or of all together? We let each layer
# take the step alone:

# %%
together = one_step["plain"][-1, 7].item()
alone = [after_one_step(None, (3.0,), layer)[0, 7].item() for layer in range(8)]
print("layer 8 after a step of all:", approx(together, 30, 5000))
print("after a step of one layer, at most:", approx(max(alone), 0.5, 12))

# %% [markdown]
# It needs company. Each gradient counts on the other layers to stand still, and all of
# them step. That much of the notes' sentence is true: layers that move at once are what
# makes a deep network touchy. But it happens within one step, and nobody has had to
# adapt to anybody.
#
# The notes also list **small rates** as a remedy. They are one, where the rate was the
# trouble: drift per step shrinks with the rate. They cannot be one, in these 300 steps,
# where the signal vanished before the first step, as it does in the same network under
# the weights that PyTorch gives to a `Linear` layer by itself:

# %%
drift_at = {}
for rate in (0.001, 0.1):
    film_at = filmed(perceptron(8, nn.ReLU, gain=2), rate)[1]
    drift_at[rate] = drift(film_at).mean().item()
default_init = {r: final(train(perceptron(8, nn.ReLU), r)) for r in (0.001, 0.01)}
for rate, value in drift_at.items():
    print(f"He, rate {rate}: drift per step", approx(value, 1e-4, 0.3))
for rate, value in default_init.items():
    print(
        f"default, rate {rate}: final loss", approx(value, 2.2, 2.4), "(ln 10 = 2.303)"
    )

# %%
plain, with_bn = ends["plain", 0], ends["BN", 0]
growth_plain = one_step["plain"][-1, 7] / one_step["plain"][-1, 0]
settle_all(
    {
        "norms-learning-rate": [
            above(limit["BN", 0] / limit["plain", 0], 9),
            above(limit["BN", 1] / limit["plain", 1], 9),
            above(top_only[10.0], 3),
            above(growth_plain, 20),
            above(together / max(alone), 8),
        ],
        "norms-remedy-small-lr": [
            above(drift_at[0.1] / drift_at[0.001], 10),
            above(plain[rates.index(1.0)], 1),
            below(plain[rates.index(0.03)], 0.5),
            above(default_init[0.001], 2),
            above(default_init[0.01], 2),
        ],
    }
)

# %% [markdown]
# What the five remedies do, as these pictures have it:
#
# | remedy | signal, going up | gradient, going down | what it leaves open |
# |---|---|---|---|
# | ReLU | kept, with the right gain | kept, with the right gain | the gain |
# | initialisation | held at step 0 | held at step 0 | every later step |
# | small steps | as it was | as it was | a signal that has vanished; time |
# | whitening | held, uncorrelated | grows fast towards the bottom | its price |
# | normalisation | held, up to a learnt scale and shift | grows towards the bottom | correlations |
#
# ## Does batch normalisation work because it stops the shift?
#
# It was made for that; the purpose stands in the title of the paper. And it does hold
# the moments still. With both networks at the same rate and both learning, the drift
# per step of the plain one (measured above) against that with BN:

# %%
bn_losses, bn_film, _ = filmed(perceptron(8, nn.ReLU, 2, nn.BatchNorm1d), rate=0.1)
bn_drift = drift(bn_film).mean().item()
print("plain", approx(drift_at[0.1], 0.02, 0.3), " BN", approx(bn_drift, 0.0003, 0.01))
print("final losses:", approx(plain[1], 0, 3), "and", approx(final(bn_losses), 0, 0.3))

# %% [markdown]
# By this measure BN reduces the shift: it holds the two moments that it sets itself.
# (By another, how much a layer's gradient changes once the layers below have moved,
# Santurkar and colleagues find no reduction {cite}`santurkar2018how`.) And BN helps.
# Does it help *because* of that? That needs an intervention: put the shift back and
# leave the rest. In 2018 Santurkar and colleagues did. Behind each BN they added noise
# whose mean is not 0 and whose variance is not 1, so that every layer lives in a
# permanent earthquake. Theirs is drawn anew for every example, from a distribution that
# changes at every step. Ours is simpler: one scale and one shift per unit and step, the
# same for the whole batch. It has to stand *behind* the BN; in front, the BN would undo
# ours exactly:


# %%
def shake(h, chooser):
    """Each unit gets a scale from ½ to 2 and a shift from −1 to 1, new every time."""
    scale, shift = (
        chooser.uniform(0.5, 2, h.shape[1]),
        chooser.uniform(-1, 1, h.shape[1]),
    )
    return h * torch.tensor(scale, dtype=h.dtype) + torch.tensor(shift, dtype=h.dtype)


h = torch.tensor(np.random.default_rng(0).standard_normal((256, 64)))
shaken = shake(h, np.random.default_rng(1))
assert (shaken - h).abs().max() > 1
assert (batch_norm(shaken, eps=0) - batch_norm(h, eps=0)).abs().max() < 1e-12
print("shaken, then normalised: the same as normalised alone, to 1e-12")


# %% [markdown]
# Twelve sigmoid layers, a hard case by {numref}`fig-saturation`. Plain, with BN, and
# with BN and the earthquake behind it; the same rate and number of steps, three seeds.


# %%
class ShakenBatchNorm(nn.BatchNorm1d):
    """BN, then fresh noise: one shift and one scale per unit, the same for all rows."""

    def __init__(self, width):
        super().__init__(width)
        self.chooser = np.random.default_rng(torch.randint(10**6, ()).item())

    def forward(self, x):
        return shake(super().forward(x), self.chooser)


contest = {"plain": None, "BN": nn.BatchNorm1d, "BN + noise": ShakenBatchNorm}
curves, drifts = {}, {}
for kind, norm in contest.items():
    for seed in range(3):
        model = perceptron(12, nn.Sigmoid, norm=norm, seed=seed)
        curve, film_seen, _ = filmed(model, rate=0.5, seed=seed)
        curves[kind, seed], drifts[kind, seed] = curve, drift(film_seen).numpy()

# %% mystnb={"figure": {"caption": "Twelve sigmoid layers, three seeds. Left: the loss, smoothed over 20 steps. Right: the drift, how far the mean and the standard deviation of a unit move in one step, on the probe.", "name": "fig-earthquake"}, "image": {"alt": "Left: the plain network stays at 2.3; BN falls to about 0.2, BN with noise to about 0.3. Right, logarithmic: the noisy network drifts about fifty times more than BN, and the plain network least of all."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.9)
shades = dict(zip(contest, ("vermilion", "blue", "green"), strict=True))
for (kind, seed), curve in curves.items():
    style = {"color": figures.COLOURS[shades[kind]], "lw": 1}
    label = {"label": kind} if seed == 0 else {}
    axes[0].plot(np.convolve(curve, np.ones(20) / 20, "valid"), **style, **label)
    axes[1].semilogy(range(0, 299, 5), drifts[kind, seed][::5], **style)
axes[0].set(title="loss", xlabel="step")
axes[1].set(title="drift per step", xlabel="step")
axes[0].legend()
plt.show()
figures.digest("losses", list(curves.values()))

# %%
loss_of = {k: [final(curves[k, s]) for s in range(3)] for k in contest}
drift_of = {k: [float(drifts[k, s].mean()) for s in range(3)] for k in contest}
for kind in contest:
    shown = (
        approx(np.mean(loss_of[kind]), 0, 2.5),
        approx(np.mean(drift_of[kind]), 0, 0.5),
    )
    print(f"{kind:10} final loss {shown[0]}, drift per step {shown[1]}")

# %% [markdown]
# Read the two columns together. The noisy network has by far the most shift and learns
# almost as well as BN. And the network with the *least* shift is the one that learns
# nothing: what does not move, does not drift. Little shift is neither needed nor
# enough.
#
# ## Rough or smooth?
#
# What else does BN change, then? The same authors looked at the **loss landscape**
# (损失曲面). A gradient is a promise about the loss a step ahead; how well is it kept?
# Along the gradient, they took steps of several sizes (ours are half to four times the
# rate) and noted the range of losses met, and how far the gradient itself had changed
# on the way. Here, on one fixed batch of training digits, every fifth step of two ReLU
# networks:


# %%
def look_ahead(model, rate, x=x_train[:256], y=y_train[:256]):
    """Losses and changes of the gradient (2, 5), at ½, 1, 2, 3, 4 times the rate."""
    weights = list(model.parameters())

    def loss_and_gradient():
        loss = F.cross_entropy(model(x), y)
        parts = torch.autograd.grad(loss, weights)
        return loss.item(), torch.cat([part.flatten() for part in parts])

    start = nn.utils.parameters_to_vector(weights).detach()
    _, gradient = loss_and_gradient()
    seen = []
    for step in (0.5, 1, 2, 3, 4):
        nn.utils.vector_to_parameters(start - step * rate * gradient, weights)
        loss, there = loss_and_gradient()
        seen.append((loss, (there - gradient).norm().item()))
    nn.utils.vector_to_parameters(start, weights)
    return np.array(seen).T


# %%
ahead = {}
for kind, norm in kinds.items():
    model = perceptron(8, nn.ReLU, gain=2, norm=norm)
    ahead[kind] = [look_ahead(model, 0.03)]
    for block in range(30):
        train(model, rate=0.03, steps=5, seed=block)
        ahead[kind].append(look_ahead(model, 0.03))
ahead = {kind: np.array(views) for kind, views in ahead.items()}  # (31, 2, 5)

# %% mystnb={"figure": {"caption": "Looking ahead along the gradient, from half to four times the learning rate, every five steps of training. Left: the band between the least and the greatest loss met. Right: the greatest change of the gradient.", "name": "fig-landscape"}, "image": {"alt": "Left, logarithmic: the band of the plain network is wide and jumps, up to several; that of BN is narrow and falls steadily. Right, logarithmic: the change of the plain network's gradient rises from 1 to between 10 and 50, that of BN falls from about 0.8 to 0.3."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.9)
for kind, views in ahead.items():
    colour = figures.COLOURS["vermilion" if kind == "plain" else "blue"]
    low, high = views[:, 0].min(1), views[:, 0].max(1)
    steps_seen = 5 * np.arange(len(views))
    axes[0].fill_between(steps_seen, low, high, color=colour, alpha=0.5, label=kind)
    axes[1].semilogy(steps_seen, views[:, 1].max(1), color=colour)
axes[0].set(title="losses ahead", xlabel="step", yscale="log")
axes[1].set(title="greatest change of the gradient", xlabel="step")
axes[0].legend()
plt.show()
figures.digest("losses and changes ahead", list(ahead.values()))

# %%
rough = {
    kind: np.median(views.max(2) - views.min(2), axis=0)
    for kind, views in ahead.items()
}
for kind, (loss_range, change_range) in rough.items():
    print(f"{kind:6} median range of the loss", approx(loss_range, 0.02, 20), end=", ")
    print("of the gradient's change", approx(change_range, 0.1, 200))

# %% [markdown]
# With BN the loss a step ahead is what the gradient promised, within a narrow band; in
# the plain network a step that is four times too long may undo all progress so far. Two
# things the picture also says, and honesty demands: in the very first steps the two
# hardly differ, the roughness comes with training; and at this small rate the plain
# network learns *faster*. A smooth loss is not a gain in itself. It is a licence for
# larger steps, and {numref}`fig-rates` shows BN using it.
#
# The verdict on the purpose of normalisation, with all four findings:

# %%
settle(
    "norms-purpose-ics",
    above(drift_at[0.1] / bn_drift, 5),
    above(min(drift_of["BN + noise"]) / max(drift_of["BN"]), 5),
    below(max(loss_of["BN + noise"]), 1.0),
    below(max(drift_of["plain"]) / min(drift_of["BN"]), 0.5),
    above(min(loss_of["plain"]), 2.0),
    above(rough["plain"][0] / rough["BN"][0], 3),
    note="BN does reduce the shift; learning does not hang on it",
)

# %% [markdown]
# What this small experiment does *not* show: that smoothness is the cause. We changed
# the shift on purpose and saw that it cost little; the landscape we only observed, and
# it differs along with many other things, the size of the gradients for one. Nor do 8
# to 12 layers on 8 × 8 digits speak for every network. The papers do it at full size,
# Santurkar and colleagues with a proof of smoothness, and the argument about the exact
# mechanism is not over. Settled is this: BN keeps nearly all of its benefit with far
# more shift than without, so removing the shift is not what the benefit rests on here.
#
# ## Where people go wrong
#
# **Filming a different batch each time.** Drift over time is often plotted from the
# statistics of the training batches themselves. These differ because the *examples*
# differ. The test is the frozen network: its drift has to be 0.


# %%
frozen = perceptron(8, nn.Tanh, gain=1)
chooser = np.random.default_rng(0)
on_batches, on_probe = [], []
for _ in range(20):
    batch = x_train[chooser.integers(len(x_train), size=64)]
    on_batches.append(layer_outputs(frozen, batch).mean(1))
    on_probe.append(layer_outputs(frozen).mean(1))
false_drift = torch.stack(on_batches).diff(dim=0).abs().mean().item()
true_drift = torch.stack(on_probe).diff(dim=0).abs().mean().item()
assert true_drift == 0
print("a network that never changes, on the probe: 0;", end=" ")
print("on training batches:", approx(false_drift, 0.02, 0.1), "a step")

# %% [markdown]
# **Believing that `nn.Linear` is initialised for ReLU.** It calls a function with
# *kaiming* (He's first name) in it, but with a parameter that makes the gain one third:
# a sixth of what ReLU needs. By equation {eq}`eq-signal`, every layer without a bias
# keeps a sixth of the mean square. PyTorch's biases keep the numbers alive, but not the
# information: after fifty layers all examples come out alike.

# %%
torch.manual_seed(0)
weight = nn.Linear(256, 256).weight
print("gain of nn.Linear:", approx(weight.var().item() * 256, 0.32, 0.35))
vanished, _ = by_depth(torch.relu, 1 / 3)
print(
    "50 ReLU layers, no biases: standard deviation", approx(vanished[-1], 1e-21, 1e-18)
)
h = probe
with torch.no_grad():
    for _ in range(50):
        h = nn.Linear(h.shape[1], 64)(h).relu()
print("with biases: mean square", approx(h.square().mean(), 1e-5, 0.1), end=", ")
print("deviation between examples", approx(h.std(0).mean(), 0, 1e-6))

# %% [markdown]
# Nothing warns; the loss sits at $\ln 10$, as the default network did above.
#
# ## Exercises
#
# **1. Warm-up: the gain of a leaky ReLU.** Its slope is 1 for positive numbers and $a$
# for negative ones. Which gain keeps the mean square from layer to layer? Follow the
# derivation of equation {eq}`eq-signal`, and write it as a function of $a$.

# %%
leaky_gain = ...  # def leaky_gain(a): …
check.leaky_gain(leaky_gain)


# %% tags=["hide-cell"]
def leaky_gain(a):
    return 2 / (1 + a**2)  # half of the mean square survives whole, half of it times a²


check.leaky_gain(leaky_gain)
signal, _ = by_depth(lambda h: F.leaky_relu(h, 0.2), leaky_gain(0.2))
print("standard deviation in layer 50:", approx(signal[-1], 0.1, 5))

# %% [markdown]
# **2. Whitening for tomorrow.** `whiten` uses the statistics of the very rows it is
# given. A model in service sees one row at a time. Write `whitener(x)` for x of shape
# (n, D): it learns from x and *returns a function* that applies the ZCA whitening of x
# to any rows. On x itself it must equal `whiten(x)`. (You have just met, in small, the
# question that [page three](03_why_bert_uses_layernorm) asks about BN.)

# %%
whitener = ...  # def whitener(x): … return lambda rows: …
check.whitener(whitener)


# %% tags=["hide-cell"]
def whitener(x):
    mean = x.mean(0)
    values, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    matrix = axes / values.sqrt() @ axes.T  # (D, D)
    return lambda rows: (rows - mean) @ matrix


check.whitener(whitener)

# %% [markdown]
# **3. For an evening: who explodes least?** Equation {eq}`eq-growth` is about ReLU.
# Write `growth(activation)`: by which factor does the *size* of the gradient (not its
# square) grow per layer, with weights of gain 1 and this activation followed by LN? The
# averages over $z \sim \mathcal N(0,1)$ may be numerical integrals or means over a
# million draws. Then compare `growth` with `by_depth` for tanh, GELU and SiLU. Which
# activation would you take for fifty normalised layers without residual connections,
# and what would you lose?

# %%
growth = ...  # def growth(activation): …
check.growth(growth)


# %% tags=["hide-cell"]
def growth(activation):
    z = torch.linspace(-8, 8, 100_001, dtype=torch.double)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    value = activation(z)
    mean = (density * value).sum()
    variance = (density * (value - mean).square()).sum()
    return ((density * slope(activation, z).square()).sum() / variance).sqrt().item()


check.growth(growth)
for activation in (torch.tanh, F.gelu, F.silu):
    gradient = by_depth(activation, 1, layer_norm)[1]
    seen, told = (gradient[0] / gradient[-1]) ** (1 / 49), growth(activation)
    print(f"{activation.__name__}: told {told:.3f}, seen", approx(seen, 1, 1.25))
    assert abs(seen / told - 1) < 0.02

# %% [markdown]
# A straight line has growth 1, and nothing else has:
# $\operatorname{Var} f(z) \le \mathbb E[f'(z)^2]$ for a Gaussian $z$, with equality
# only for straight lines (Poincaré's inequality). The straighter an activation, the
# less it explodes, and the less fifty layers of it can do that one cannot.
#
# ## In short
#
# In a saturated neuron each step is smaller by the factor of the slope; that part of
# the story holds. Numbers that shrink or grow from layer to layer are a matter of
# signal propagation, and a good initialisation settles it at the start. Internal
# covariate shift (内部协变量偏移) is something else, a shift over training time that updates
# below bring about; freeze the layers below and it is exactly zero. BN steadies the
# moments that it sets, but a BN network that is shaken at every step learns nearly as
# well; better supported are a smoother loss and steps that no longer blow up from layer
# to layer. BN is not whitening: it leaves correlations where they are, at a tiny part
# of the price. And normalisation holds the signal, not the gradient.
#
# Next: [three axes](02_three_axes), where one block of numbers shows what every
# normalisation layer averages over.
