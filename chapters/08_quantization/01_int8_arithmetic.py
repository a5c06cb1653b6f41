# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # int8 arithmetic
#
# A weight of a trained network is a number of 32 bits. Give it 8, and it can take 256
# values; give it 4, and it can take 16. The network works on, nearly as if nothing had
# happened, unless one single value among half a million spoils it. This page is about
# the arithmetic behind both halves of that sentence. At the end of it you can
#
# - turn real numbers into small integers and back, and say beforehand how far each can
#   move;
# - choose a range, and know what clipping costs and what it buys;
# - multiply matrices of integers that stand for shifted numbers, by hand and in code;
# - find the outlier that ruins a layer of a real BERT, and name four ways to live with
#   it;
# - go down to four bits with NF4 and GPTQ, and see where each is oversold.
#
# You need [products](../00_tensors/01_products), and a gradient
# ([learning](../00_tensors/03_learning)) for one formula near the end. The real numbers
# come from MiniLM, a small BERT: six layers, each of which reads 384 coordinates of
# every token and adds something to them. More you need not know of it.

# %% tags=["hide-input"]
import itertools
import warnings

import numpy as np
import torch
from onnx.helper import make_graph, make_model, make_node, make_opsetid
from onnx.helper import make_tensor_value_info as value
from onnx.reference import ReferenceEvaluator

from utils import quantization
from utils.exercises import quantization as check
from utils.lab import (
    above,
    approx,
    below,
    datasets,
    figures,
    notes_say,
    pretrained,
    same,
    settle,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% tags=["hide-input"]
from utils.quantization import (
    Grid,
    dequantise,
    fake_quantise,
    gptq,
    grid_of,
    hadamard,
    int_matmul,
    least_squares,
    minmax,
    nf4_dequantise,
    nf4_levels,
    nf4_quantise,
    percentile,
    quantise,
    signal_to_noise,
    smoothing,
)

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("quantization-static-no-retraining")

# %% [markdown]
# ## By hand: sixteen integers for the numbers from −1 to 2
#
# {term}`Quantisation 量化 <quantisation>` lays a grid over the real numbers. Four bits
# make 16 integers, −8 … 7, with 15 steps between them. If they are to cover the range
# from −1 to 2, a step is $3 / 15 = 0.2$ wide: the *scale* (缩放因子) $s$. The integer −8
# stands for −1, and each further one for 0.2 more, so that 0 is at −3: the *zero-point*
# (零点) $z$. To store 0.33, ask how many steps it is from zero, round, and count from
# the zero-point: $0.33 / 0.2 = 1.65$, rounded 2, and $2 + (-3) = -1$. Read back, −1
# stands for $0.2 \cdot (-1 - (-3)) = 0.4$. We have lost 0.07.

# %%
s, z = 0.2, -3
for x in (-1, 0, 0.33, 0.5, 2, 2.4):
    q = min(max(round(x / s) + z, -8), 7)
    print(f"{x:5}  is stored as {q:2}  and read as {s * (q - z):4.1f}")

# %% [markdown]
# Four things to see. The zero comes back as zero, exactly; networks are full of exact
# zeros, from ReLU and padding, and a grid is moved a little so that they stay exact.
# The ends of the range come back too. 0.5 is a tie, two and a half steps: it went to 2,
# the *even* neighbour, not up. And 2.4 lies outside, so it was *clipped* (截断) to 2.
#
# ## In general
#
# With $b$ bits and the integers $q_{\min} = -2^{b-1}$ to $q_{\max} = 2^{b-1} - 1$,
#
# $$
# q = \mathrm{clip}\Bigl(\mathrm{round}\Bigl(\frac{x}{s}\Bigr) + z,\; q_{\min},\;
# q_{\max}\Bigr), \qquad \hat x = s\,(q - z).
# $$ (eq-quantise)
#
# For a range $[\alpha, \beta]$ that holds 0, the *asymmetric* (非对称) grid is
# $s = (\beta - \alpha) / (2^b - 1)$ and $z = q_{\min} - \mathrm{round}(\alpha / s)$.
# The *symmetric* (对称) one puts $z = 0$ and covers $[-m, m]$ with
# $m = \max(|\alpha|, |\beta|)$. It is used for weights, which lie about zero on both
# sides anyway, and it makes products cheaper, as we shall see. There is one integer
# more below zero than above. PyTorch divides $2m$ by all $2^b - 1$ steps all the same,
# so that $m$ itself is clipped, by half a step; with `narrow` the lowest integer is
# left out.

# %%
show(Grid, grid_of, quantise, dequantise)

# %%
x = torch.tensor([-1.0, 0, 0.33, 0.5, 2, 2.4])
grid = grid_of(-1, 2, bits=4)
print(quantise(x, grid).tolist(), "zero-point", grid.zero_point.item())
symmetric = grid_of(-1, 2, bits=4, symmetric=True)
print(
    quantise(x, symmetric).tolist(), "symmetric, between", symmetric.low, symmetric.high
)

# %% [markdown]
# The symmetric grid leaves its lowest integers unused here, for it covers numbers down
# to −2 that never come. Of its sixteen integers twelve are worth anything.
#
# **How far can a number move?** Rounding moves $x/s$ by at most ½, so inside the range
# $|\hat x - x| \le s/2$. Does the clip spoil that at the ends, where $z$ was rounded?
# Without the clip, $\beta$ would be stored as an integer next to
# $\beta/s + z = q_{\max} + (\alpha/s - \mathrm{round}(\alpha/s))$, which is at most
# $q_{\max} + \tfrac12$. So clipping to $q_{\max}$ moves it by no more than half a step
# either; $\alpha$ likewise. **Half a step for everything inside the range; outside, all
# that sticks out.** No data, no training, no luck is involved. In the picture, and from
# here on, `fake_quantise(x, grid)` goes there and back: quantised, and read again.

# %% mystnb={"figure": {"caption": "Four bits for the range from \u22121 to 2. Left, what is read back. Right, how far each number moved: within half a step inside the range, without bound outside.", "name": "fig-stairs"}, "image": {"alt": "Left, a staircase of sixteen steps along the diagonal, flat below \u22121 and above 2. Right, a saw-tooth between \u22120.1 and 0.1 inside the range that turns into two straight lines running away outside it."}} tags=["hide-input"]
x = torch.linspace(-1.6, 2.6, 2001)
moved = fake_quantise(x, grid) - x  # quantised and read back, less x
figure, (left, right) = figures.panels(2, height=2.5)
left.plot(x, x, color=COLOURS["grey"], lw=1)
left.plot(x, fake_quantise(x, grid), color=COLOURS["blue"])
left.set(xlabel="x", ylabel="read back")
right.axhspan(-0.1, 0.1, color=COLOURS["sky"], alpha=0.3, label="± half a step")
right.plot(x, moved, color=COLOURS["blue"], lw=1)
right.set(xlabel="x", ylabel="moved by")
right.legend(loc="upper right")
plt.show()
figures.digest("moved", moved)

# %% [markdown]
# If the tooth of this saw is met at a random place, the error is uniform in
# $[-s/2, s/2]$, and its mean square is $s^2/12$. That gives a forecast. A symmetric
# grid has $s = 2m / (2^b - 1)$; compare $s^2/12$ with the mean square $\sigma^2$ of the
# numbers themselves, in *decibels* (分贝), ten times the logarithm to base ten:
#
# $$
# \mathrm{SNR} = 10 \log_{10} \frac{\sigma^2}{s^2/12}
# \approx 6.02\, b + 4.77 - 20 \log_{10} \frac{m}{\sigma}.
# $$ (eq-snr)
#
# SNR is the *signal-to-noise ratio* (信噪比): 20 dB is an error of a tenth, 40 dB of a
# hundredth. Each bit buys 6 dB, and the shape of the numbers enters only through
# $m/\sigma$, the *peak* over the typical size. Remember that quotient. It is the whole
# story of outliers.

# %%
rng = np.random.default_rng(0)
normal = torch.tensor(rng.normal(size=100_000), dtype=torch.float32)


def forecast(x, bits):
    ratio = x.abs().max() / x.square().mean().sqrt()
    return 6.02 * bits + 4.77 - 20 * torch.log10(ratio).item()


for bits in (4, 6, 8):
    grid = grid_of(*minmax(normal), bits=bits, symmetric=True)
    found = signal_to_noise(normal, fake_quantise(normal, grid))
    print(bits, "bits:", approx(found, 10, 50, "dB,"), end=" ")
    print("foretold", approx(forecast(normal, bits), found - 1, found + 1, "dB"))

# %% [markdown]
# With 4 bits the forecast is half a decibel too high: it took the 15 steps for 16.
#
# ## Equal to the library, up to a half
#
# ONNX defines equation {eq}`eq-quantise` as its operator QuantizeLinear, halves to the
# even neighbour {cite}`onnxquantize`. We agree with its reference implementation bit
# for bit, on the twenty halves below and on two million other numbers. PyTorch has two
# functions for the same thing. They agree neither with ONNX nor with each other. All
# halves between −10 and 10, with scale 1 and zero-point 3, a case in which no rounding
# of fractions can be blamed:

# %%
kinds = {"x": 1, "s": 1, "z": 3, "q": 3}  # ONNX's numbers for float32 and int8
named = {n: value(n, kind, None) for n, kind in kinds.items()}
node = make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
graph = make_graph([node], "g", [named[n] for n in "xsz"], [named["q"]])
opset = [make_opsetid("", 21)]
reference = ReferenceEvaluator(make_model(graph, opset_imports=opset, ir_version=10))

# %%
halves = torch.arange(-9.5, 10)
three = Grid(torch.tensor(1.0), torch.tensor(3))
feed = {"x": halves.numpy(), "s": np.array(1, "float32"), "z": np.array(3, "int8")}
(by_onnx,) = reference.run(None, feed)
with warnings.catch_warnings():  # it will go, says PyTorch
    warnings.simplefilter("ignore")
    by_quantize = torch.quantize_per_tensor(halves, 1.0, 3, torch.qint8).int_repr()
by_fake = torch.fake_quantize_per_tensor_affine(halves, 1.0, 3, -128, 127) + 3
ours = quantise(halves, three)
for name, theirs in {
    "ONNX QuantizeLinear": torch.tensor(by_onnx),
    "torch.fake_quantize_per_tensor_affine": by_fake,
    "torch.quantize_per_tensor": by_quantize,
}.items():
    print(f"{name:38}", "different from ours:", (theirs != ours).sum().item(), "of 20")
assert (by_onnx == ours.numpy()).all() and (by_quantize != ours).all()

# %% [markdown]
# `quantize_per_tensor` adds the zero-point *before* it rounds, and with an odd
# zero-point every half goes to the other side. The other function agrees here, and
# parts from ONNX elsewhere: both functions of PyTorch multiply by $1/s$ where ONNX
# divides by $s$. When $s$ is no power of two, that moves a few numbers that lie next to
# a half:

# %%
draws = np.random.default_rng(1).normal(size=2_000_000)
many = torch.tensor(draws, dtype=torch.float32)
fine = Grid(torch.tensor(0.03), torch.tensor(0))
feed = {"x": many.numpy(), "s": np.array(0.03, "float32"), "z": np.array(0, "int8")}
(by_onnx,) = reference.run(None, feed)
assert (by_onnx == quantise(many, fine).numpy()).all()
theirs = torch.fake_quantize_per_tensor_affine(many, 0.03, 0, -128, 127)
gap = (theirs - fake_quantise(many, fine)).abs()
count = (gap > 0.015).sum().item()
print("two million numbers: all fall where ONNX's fall,", end=" ")
print(approx(count, 1, 100), "not where PyTorch's do")
assert gap.max() < 0.0301

# %% [markdown]
# A few in a million, by one step each. It does not hurt. But whoever exports a model
# and asks for equality "bit for bit" will meet them.
#
# ## Which range? Clipping against rounding
#
# A function that chooses a range by looking at numbers is called an *observer* (观察器),
# and to feed it sample data is {term}`calibration 校准 <calibration>`. The obvious
# observer takes the minimum and the maximum. Then nothing is clipped, and a single far
# value makes the steps wide for all. A narrower range clips the few and rounds the many
# more finely. Somewhere between is an optimum. We sweep it for numbers from a normal
# distribution, which have their standard deviation as unit:

# %%
show(minmax, least_squares)

# %%
sweeps = {}
for bits in (4, 8):
    rows = []
    for clip in np.arange(1.0, 4.81, 0.1):
        grid = grid_of(-clip, clip, bits=bits, symmetric=True)
        lost = (fake_quantise(normal, grid) - normal).square()
        low, high = grid.range()
        outside = (normal < low) | (normal > high)
        rows.append([clip, *(lost[m].sum() / len(normal) for m in (outside, ~outside))])
    sweeps[bits] = np.array(rows, dtype=float)  # clip, by clipping, by rounding
picks = {
    bits: {
        "min–max": minmax(normal)[1].item(),
        "middle 99.9 %": percentile(normal, 0.999)[1].item(),
        "least squares": least_squares(normal, bits, symmetric=True)[1].item(),
    }
    for bits in sweeps
}

# %% mystnb={"figure": {"caption": "Mean square lost when a normal distribution is clipped at a distance from zero and rounded inside, and where three observers put the clip. Logarithmic scale.", "name": "fig-clip"}, "image": {"alt": "Two panels, four bits and eight bits. In each a falling curve for clipping, a rising one for rounding and their sum with a minimum: near 2.5 for four bits, near 4 for eight bits. Three marks on the sums: least squares at the minimum, the percentile near 3.3, min\u2013max at the right end."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=3.0, sharey=True)
for ax, (bits, rows) in zip(axes, sweeps.items(), strict=True):
    clip, cut, rounded = rows.T
    ax.semilogy(clip, cut + 1e-12, "--", color=COLOURS["orange"], label="by clipping")
    ax.semilogy(clip, rounded, ":", color=COLOURS["green"], label="by rounding")
    ax.semilogy(clip, cut + rounded, color=COLOURS["blue"], label="together")
    for (name, at), mark in zip(picks[bits].items(), "s^o", strict=True):
        height = np.interp(at, clip, cut + rounded)
        ax.plot(at, height, mark, color="black", ms=6, label=name)
    ax.set(xlabel="clipped at", title=f"{bits} bits", ylim=(1e-6, 1))
axes[0].set_ylabel("mean square lost")
axes[1].legend(loc="upper right", fontsize=8)
plt.show()
for bits, rows in sweeps.items():
    figures.digest(f"{bits} bits", rows[:, 1:].sum(1))
    print(*(f"{n} {approx(at, 1, 5)}" for n, at in picks[bits].items()), sep=", ")
assert picks[4]["least squares"] < picks[4]["middle 99.9 %"] < picks[8]["least squares"]

# %% [markdown]
# With 8 bits the optimum lies near four, where a few values in 100,000 are cut off, and
# there is little to win. With 4 bits it pays to cut off everything beyond two and a
# half standard deviations. A fixed percentile does not know how many bits there are:
# too wide for four, too narrow for eight. The least squares observer knows, since it
# tries.
#
# ## How many scales?
#
# A weight matrix need not have *one* scale. It may have one for each row (*per
# channel*, 逐通道), that is, for each output, or one for each group of, say, 64 numbers of
# a row. A scale for each row is nearly free in a product, as the next section shows;
# with groups the sum breaks up into one for each group. Why would one want it? Take a
# real matrix, of the first layer of MiniLM {cite}`wang2020minilm`, a BERT with six
# layers. Each layer has a *feed-forward part* (前馈部分), two matrices that lead from 384
# features to 1,536 and back. This is the second of them.

# %%
model, tokenizer = pretrained.encoder()
layers = quantization.linears(model)
weight = layers["encoder.layer.0.output.dense"].weight.detach()  # (384, 1536)
ways = {
    "one scale": (weight, None),
    "a scale for each row": (weight, 0),
    "a scale for 64 of a row": (weight.unflatten(1, (-1, 64)), (0, 1)),
}
measured = {}
for name, (w, axis) in ways.items():
    grid = grid_of(*minmax(w, axis), symmetric=True)
    measured[name] = signal_to_noise(w, fake_quantise(w, grid))
    extra = 16 * grid.scale.numel() / w.numel()
    print(
        f"{name:24}", approx(measured[name], 5, 45, "dB,"), f"{8 + extra:.2f} bits each"
    )

# %%
row, column = divmod(weight.abs().argmax().item(), 1536)
print(f"greatest weight: row {row}, column {column},", end=" ")
print(
    approx(weight.abs().max(), 7.5, 8.5),
    "at a typical",
    approx(weight.std(), 0.04, 0.05),
)
ratio = weight.abs().max() / weight.square().mean().sqrt()
print(
    "quotient", approx(ratio, 174, 176), "or", approx(20 * ratio.log10(), 44, 46, "dB")
)
print("foretold for one scale:", approx(forecast(weight, 8), 7, 9, "dB"))

# %% [markdown]
# With one scale the error is about 0.4 of the weights themselves. Equation {eq}`eq-snr`
# foretold that from two numbers: one weight of 589,824 is 175 times as large as a
# typical one, and that eats 45 of the 53 decibels of eight bits. With a scale for each
# row the same weight spoils its own row and no other. (We count 16 bits for each
# scale.)
#
# Is that weight an accident? We shall meet it again. To see its effect alone we stage
# it, and close the claim. A random matrix, one entry of its first row a hundred times
# its maximum, and the error of the *other* rows before and after:

# %%
before = torch.tensor(
    np.random.default_rng(2).normal(size=(64, 256)), dtype=torch.float32
)
after = before.clone()
after[0, 0] = 100 * before.abs().max()


def others(w, axis):
    """How far each number outside row 0 moves, int8, symmetric."""
    grid = grid_of(*minmax(w, axis), symmetric=True)
    return (fake_quantise(w, grid) - w).abs()[1:]


asymmetric = grid_of(*minmax(before))
steps_moved = (fake_quantise(before, asymmetric) - before).abs() / asymmetric.scale
growth = others(after, None).mean() / others(before, None).mean()
settle(
    "quantization-static-no-retraining",
    below(steps_moved.max(), 0.5 + 1e-4),
    above(growth, 10),
    same(others(after, 0), others(before, 0)),
    below(measured["one scale"], 10),
    above(measured["a scale for each row"], 30),
    note="the last two in decibels, MiniLM’s matrix, and nothing was trained",
)

# %% [markdown]
# ## A product of integers
#
# Storing integers saves memory. To save *time* one must multiply them. Let
# $x \approx s_a (a - z_a)$ and $w \approx s_b (b - z_b)$ with integers $a$, $b$. Then
#
# $$
# \sum_k x_k w_k \approx s_a s_b \sum_k (a_k - z_a)(b_k - z_b) = s_a s_b \Bigl(
# \sum_k a_k b_k - z_b \sum_k a_k - z_a \sum_k b_k + K z_a z_b \Bigr).
# $$ (eq-int)
#
# The scales stand outside the sum: **all of it is integers until one multiplication at
# the end** {cite}`jacob2018quantization`. That is also why a scale for each *row* of a
# weight costs nothing, since the sum over $k$ stays within a row, and a scale for each
# *input* feature would not work at all: it would have to go into the sum.
#
# By hand: $a = (1, 2, 3)$ with $z_a = 1$ and $b = (4, 0, 5)$ with $z_b = 2$. Directly,
# $0 \cdot 2 + 1 \cdot (-2) + 2 \cdot 3 = 4$. By the formula,
# $19 - 2 \cdot 6 - 1 \cdot 9 + 3 \cdot 1 \cdot 2 = 4$. The sum of $b$ is known
# beforehand if $b$ is a weight. And if the weight is symmetric, $z_b = 0$, two of the
# four terms vanish.

# %%
a = torch.tensor([[1, 2, 3]], dtype=torch.int8)
b = torch.tensor([[4], [0], [5]], dtype=torch.int8)
print(int_matmul(a, b, 1, 2).item(), "=", ((a.int() - 1) @ (b.int() - 2)).item())
show(int_matmul)

# %% [markdown]
# Each difference $a_k - z_a$ is at most 255 in size, a product of two at most $255^2$,
# and $2^{31}/255^2$ is 33,025: up to that $K$ a sum kept in 32 bits cannot overflow.
# Now a whole layer: inputs asymmetric, weights symmetric with one scale for each row,
# one product of bytes, and back to float.

# %%
x = torch.tensor(np.random.default_rng(3).normal(0.3, 1, (5, 256)), dtype=torch.float32)
for_x, for_w = grid_of(*minmax(x)), grid_of(*minmax(before, 0), symmetric=True)
total = int_matmul(quantise(x, for_x), quantise(before, for_w).T, for_x.zero_point)
print(total.dtype, tuple(total.shape))
y = for_x.scale * for_w.scale.T * total  # (5, 64)
in_floats = fake_quantise(x, for_x) @ fake_quantise(before, for_w).T
assert (y - in_floats).abs().max() < 1e-3
print("against the float product of what was rounded: differs by < 1e-3")
print("against the product before rounding:", end=" ")
print(approx(signal_to_noise(x @ before.T, y), 30, 50, "dB"))

# %% [markdown]
# ## Outliers
#
# Weights can be looked at in peace, once. What flows between the layers, the
# *activations* (激活值), comes anew with every text, and its columns are the *input*
# features, which by {eq}`eq-int` must share a scale. We let MiniLM read English
# paragraphs of 64 tokens and keep what each of its linear layers is fed: 32 paragraphs
# to calibrate, 16 held out.

# %%
long = [p for p in datasets.english().split("\n\n") if len(p.split()) > 64]
texts = {"calibrate": long[:32], "held out": long[-16:]}
fed = {}
for name, paragraphs in texts.items():
    options = {"truncation": True, "max_length": 64, "return_tensors": "pt"}
    batches = [dict(tokenizer(p, **options)) for p in paragraphs]
    fed[name] = quantization.linear_inputs(model, batches)
rows = {n: len(f["encoder.layer.0.intermediate.dense"]) for n, f in fed.items()}
print("tokens:", rows)

# %% mystnb={"figure": {"caption": "Left, the greatest value of each of the 384 features that enter the feed-forward part of a layer, all six layers of MiniLM drawn over each other. Right, the greatest weight in each of the 384 rows of the matrix that writes into the same features.", "name": "fig-outliers"}, "image": {"alt": "Two panels of spikes over the feature's number from 0 to 384. Left, values around 2 with a spike of 30 at feature 99 and a few of 8 to 14 elsewhere. Right, weights around 0.3 with a spike of nearly 8 at row 99 and hardly any other above 1."}} tags=["hide-input"]
figure, (left, right) = figures.panels(2, height=2.6)
feature = range(384)
peaks, heights = {}, {}
for layer in range(6):
    name = f"encoder.layer.{layer}"
    peaks[layer] = fed["calibrate"][f"{name}.intermediate.dense"].abs().amax(0)
    heights[layer] = layers[f"{name}.output.dense"].weight.detach().abs().amax(1)
    left.vlines(feature, 0, peaks[layer], color=COLOURS["blue"], lw=0.8, alpha=0.6)
    right.vlines(
        feature, 0, heights[layer], color=COLOURS["vermilion"], lw=0.8, alpha=0.6
    )
left.set(xlabel="feature", ylabel="greatest |value|", title="what is read")
right.set(xlabel="row", ylabel="greatest |weight|", title="what writes it")
plt.show()
figures.digest("peaks", torch.stack([*peaks.values()]))
for what, tall in {"read": peaks, "written": heights}.items():
    print(
        "the tallest, layer by layer,",
        what,
        *(t.argmax().item() for t in tall.values()),
    )
quotient = peaks[0].max() / peaks[0].median()
print("layer 0: peak ÷ ordinary peak", approx(quotient, 15, 20))

# %% [markdown]
# Feature 99, whichever layer reads. The large weight that we met above is the one that
# writes into it, in row 99; in the first four layers the greatest weight stands in that
# row. It stood in column 856. Who speaks there? Column $k$ belongs to hidden feature
# $k$ of the feed-forward part. For each layer: the hidden feature of the greatest
# value, the column of the greatest weight, the tokens at which the feature comes to
# more than half of its peak; and, at the tokens that begin a text, what the layer reads
# in coordinate 99 and what this one hidden feature adds to it.

# %%
for layer in range(6):
    name = f"encoder.layer.{layer}.output.dense"
    hidden, w = fed["calibrate"][name], layers[name].weight.detach()
    feature = hidden.abs().amax(0).argmax().item()
    column = w.abs().amax(0).argmax().item()
    loud = torch.nonzero(hidden[:, feature].abs() > hidden.abs().max() / 2)[:, 0]
    first = (loud % 64 == 0).sum().item()  # every text has 64 tokens here
    read = fed["calibrate"][f"encoder.layer.{layer}.intermediate.dense"][::64, 99]
    adds = hidden[::64, feature] * w[99, feature]
    print(f"layer {layer}: feature {feature:4}, column {column:4},", end=" ")
    print(f"loud at {len(loud):2} tokens, {first:2} of them first;", end=" ")
    print("reads", approx(read.mean(), 5, 40), "adds", approx(adds.mean(), -1, 250))
    assert layer > 3 or (feature == column and first == len(loud) == 32)
    assert layer > 3 or (read.min() > 10 and adds.min() > 30)

# %% [markdown]
# A machine comes to light. In each of the first four layers one hidden feature is quiet
# at 2,016 tokens and loud at the 32 that begin a text: `[CLS]`, the mark that stands
# before every text. There coordinate 99 is large already, with a positive sign, and
# through the greatest weight of the layer the feature adds more than stands there. A
# normalisation shrinks the sum, and the next layer does it again. It is no freak of
# MiniLM. BERT has such features {cite}`bondarenko2021understanding`; in language models
# from about 6.7 billion parameters on they appear in every layer
# {cite}`dettmers2022llmint8`; and *massive activations* of a few fixed features at the
# first token, which hardly depend on the text and work as a bias, have been found in
# many of them {cite}`sun2024massive`.
#
# For rounding it means: one token in 64 sets the scale of all. Four ways out are in
# use. LLM.int8() {cite}`dettmers2022llmint8` leaves the few large features in floating
# point and multiplies the rest as integers: exercise 3. One can give each *token* a
# scale of its own, which {eq}`eq-int` allows, for it stands outside the sum; it must
# then be measured at each call. The other two change the numbers before they are
# rounded, in such a way that the product does not change.
#
# **SmoothQuant** {cite}`xiao2023smoothquant` divides feature $k$ of the input by a
# number $s_k$ and multiplies column $k$ of the weight by it.
# $\sum_k (x_k / s_k)(w_k s_k)$ is what it was. The difficulty moves from the
# activations, which have peaks, to the weights, which are flat and have room. (That
# they have many scales does not help: column $k$ runs through every row.) With
# $\alpha = \tfrac12$, $s_k = \max|x_k|^{\alpha} / \max|w_k|^{1-\alpha}$ makes both
# peaks of each $k$ equal to $\sqrt{\max|x_k| \max|w_k|}$.
#
# **A rotation.** For an orthogonal matrix $Q$, $(xQ)(WQ)^\top = x Q Q^\top W^\top$ is
# $x W^\top$ again. A *Hadamard matrix* (哈达玛矩阵) has entries $\pm 1/\sqrt{K}$ only, so
# every new feature is a sum, up to signs, of *all* old ones, and a peak $m$ in one
# place becomes $m/\sqrt{K}$ in each {cite}`ashkboos2024quarot`.

# %%
show(smoothing, hadamard)

# %%
peaky = torch.tensor(
    np.random.default_rng(4).normal(size=(200, 128)), dtype=torch.float32
)
w = torch.tensor(np.random.default_rng(5).normal(size=(64, 128)), dtype=torch.float32)


def int8_output(x, w):
    """What x · wᵀ becomes: x with one scale, w with one for each row."""
    grids = grid_of(*minmax(x)), grid_of(*minmax(w, 0), symmetric=True)
    return fake_quantise(x, grids[0]) @ fake_quantise(w, grids[1]).T


tame = signal_to_noise(peaky @ w.T, int8_output(peaky, w))
print("without outlier", approx(tame, 30, 50, "dB"))
peaky[:, 7] *= 100
y, H, s = peaky @ w.T, hadamard(128), smoothing(w, peaky.abs().amax(0))
assert ((peaky @ H) @ (w @ H).T - y).abs().max() < 1e-4 * y.abs().max()
assert ((peaky / s) @ (w * s).T - y).abs().max() < 1e-4 * y.abs().max()
print("in floats both leave the product as it was, to 1e-4 of its greatest entry")
pairs = {"as it is": (peaky, w), "smoothed": (peaky / s, w * s)}
pairs["rotated"] = peaky @ H, w @ H
found = {name: signal_to_noise(y, int8_output(*pair)) for name, pair in pairs.items()}
for name, decibels in found.items():
    print(f"{name:15}", approx(decibels, 15, 50, "dB"))
assert found["as it is"] < tame - 10
assert min(found["smoothed"], found["rotated"]) > tame - 2

# %% [markdown]
# One feature, a hundred times as large, costs the product some 15 decibels. Both
# remedies bring them all back, and the products in floats are untouched.
#
# Now MiniLM, both matrices of the feed-forward part of each layer. The grids and the
# factors $s_k$ come from the calibration texts, and the output is measured on the
# held-out ones, at the *ordinary* tokens: `[CLS]` is so large that it would drown the
# other 63 in any mean.


# %%
def output_quality(name, change, axis=None):
    """SNR of a layer's int8 product on held-out text, [CLS] left out."""
    w = layers[name].weight.detach()
    seen, new = fed["calibrate"][name], fed["held out"][name]
    new = new[torch.arange(len(new)) % 64 != 0]
    y = new @ w.T
    seen, new, w = change(w, seen.abs().amax(0), seen, new)
    for_x = grid_of(*minmax(seen if axis is None else new, axis))
    for_w = grid_of(*minmax(w, 0), symmetric=True)
    return signal_to_noise(y, fake_quantise(new, for_x) @ fake_quantise(w, for_w).T)


def unchanged(w, peak, *xs):
    return *xs, w


def smoothed(w, peak, *xs):
    s = smoothing(w, peak)
    return *(x / s for x in xs), w * s


def rotated(w, peak, *xs):
    H = hadamard(len(peak))
    return *(x @ H for x in xs), w @ H


# %%
changes = {
    "as it is": (unchanged, None),
    "smoothed": (smoothed, None),
    "rotated": (rotated, None),
    "a scale for each token": (unchanged, 0),
}
quality = {
    kind: {
        how: [output_quality(f"encoder.layer.{i}.{kind}.dense", *c) for i in range(6)]
        for how, c in changes.items()
    }
    for kind in ("intermediate", "output")
}

# %% mystnb={"figure": {"caption": "Signal-to-noise ratio of the product of a layer in int8, at the ordinary tokens of held-out text, for the two matrices of the feed-forward part. More is better; 6 dB are worth a bit.", "name": "fig-remedies"}, "image": {"alt": "Two panels over layers 0 to 5. Left, the first matrix: as it is around 27 decibels, smoothed near 35, rotated near 40, a scale for each token between 35 and 40. Right, the second matrix: as it is from 15 in layer 0 to 42 in layer 5, smoothed two to five below that in the first five layers, rotated and a scale for each token near 30 in the first layers."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.9, sharey=True)
titles = {
    "intermediate": "first matrix (384 → 1,536)",
    "output": "second (1,536 → 384)",
}
for ax, (kind, found) in zip(axes, quality.items(), strict=True):
    for (how, values), mark in zip(found.items(), "so^d", strict=True):
        ax.plot(range(6), values, f"{mark}-", label=how, ms=5, lw=1)
    ax.set(xlabel="layer", title=titles[kind], ylim=(0, 50))
axes[0].set_ylabel("SNR of the output, dB")
axes[0].legend(loc="lower left", fontsize=8)
plt.show()
for kind, found in quality.items():
    for how, values in found.items():
        print(f"{kind:12} {how:22}", *(approx(v, 5, 60) for v in values), "dB")
first, second = quality["intermediate"], quality["output"]
assert min(first["smoothed"]) > max(first["as it is"])
assert all(
    s < p for p, s in zip(second["as it is"][:5], second["smoothed"], strict=False)
)
for how in ("rotated", "a scale for each token"):
    assert min(first[how]) > max(first["as it is"])
    assert min(np.subtract(second[how], second["as it is"])[:4]) > 5

# %% [markdown]
# For the first matrix everything happens as the papers promise: smoothing is worth more
# than a bit, rotating about two. For the second, **smoothing makes things worse**, in
# five layers of six. In the first four we know why: the loud feature meets the greatest
# weight. Both peaks of that $k$ become $\sqrt{\max|x_k| \max|w_k|}$, and where both
# factors are far above the ordinary, what was to shrink grows:

# %%
for layer in range(4):
    name = f"encoder.layer.{layer}.output.dense"
    peak = fed["calibrate"][name].abs().amax(0)
    both = peak / smoothing(layers[name].weight.detach(), peak)
    quotients = [(p.max() / p.median()).item() for p in (peak, both)]
    print(f"layer {layer}: peak ÷ ordinary peak", approx(quotients[0], 5, 25), end=", ")
    print("smoothed", approx(quotients[1], 10, 40))
    assert quotients[1] > 1.4 * quotients[0]

# %% [markdown]
# The authors smooth the inputs of attention and of the first matrix, where $1/s$ can be
# merged into the normalisation before it.
#
# The rotation helps wherever there is something to help, at a price that the picture
# does not show: $xQ$ is a further product, unless $Q$ can be merged into what stands
# before. With RMSNorm ([three axes](../01_norms/02_three_axes)) it can
# {cite}`ashkboos2024quarot`, for a rotation does not change the mean square. LayerNorm
# subtracts a mean as well, and that is not the same after a rotation. A scale for each
# token does nearly as well, and in the last layers' second matrix better, since the
# outlier lives at one token; it asks for its range at each call.
#
# ## Four bits: NF4
#
# When memory is the problem, weights are kept with 4 bits and turned back into floats
# for the product: *weight-only quantisation* (仅权重量化). Sixteen levels are few, so every
# block of 64 weights gets its own scale. Must the levels be equally far apart? Weights
# are roughly normal, dense about zero. NF4 {cite}`dettmers2023qlora` takes quantiles of
# the normal distribution, divided so that the outermost are −1 and 1.

# %%
show(nf4_levels, nf4_quantise)
print(*(f"{level:.3f}" for level in nf4_levels().tolist()))

# %% mystnb={"figure": {"caption": "Weights of a normal distribution, in blocks of 64 divided by their greatest: how they lie, and where the sixteen levels of two four-bit formats are.", "name": "fig-nf4"}, "image": {"alt": "A bell-shaped histogram between \u22121 and 1 with a little spike at each end. Above it two rows of sixteen marks: those of int4 equally spaced, those of NF4 dense about zero and far apart at the ends."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.6))
blocks = normal[: 1500 * 64].view(-1, 64)
scaled = (blocks / blocks.abs().amax(1, keepdim=True)).flatten()
ax.hist(scaled, bins=121, density=True, color=COLOURS["sky"], alpha=0.6)
for height, (name, levels) in zip(
    (1.75, 2.05),
    {"NF4": nf4_levels(), "int4": torch.arange(-8, 8) / 7.5}.items(),
    strict=True,
):
    ax.plot(levels, torch.full((16,), height), "|", ms=12, mew=2, color="black")
    ax.text(1.14, height, name, va="center")
ax.set(xlabel="weight ÷ greatest of its block", ylabel="density", ylim=(0, 2.3))
plt.show()
figures.digest("divided weights", scaled)

# %% [markdown]
# It is often said that NF4 is the best format for normal weights, "information
# theoretically optimal" in the words of its paper. What it makes equal is roughly how
# *often* each level is used. What a product feels is how *far* the weights move, and
# that is another question. We ask it, in blocks of 64, with the cost of each format in
# bits (scales of 16 bits, an integer zero-point of 4):


# %%
def four_bits(w, how):
    """w (…) through a format of four bits in blocks of 64, and back."""
    searched = "searched" in how
    if "NF4" in how:
        return nf4_dequantise(*nf4_quantise(w, tries=60 if searched else 1), w.shape)
    u, symmetric = w.reshape(-1, 64), " symmetric" in how
    ends = least_squares(u, 4, symmetric, axis=0) if searched else minmax(u, 0)
    return fake_quantise(u, grid_of(*ends, bits=4, symmetric=symmetric)).view(w.shape)


even = torch.tensor(
    np.random.default_rng(6).uniform(-1, 1, 96_000), dtype=torch.float32
)
samples = {"normal": normal[:96_000], "uniform": even}
samples["MiniLM"] = layers["encoder.layer.3.intermediate.dense"].weight.detach()
formats = {"int4, symmetric": 16, "int4, asymmetric": 16 + 4, "NF4": 16}
costs = {name: 4 + extra / 64 for name, extra in formats.items()}
costs |= {f"{name}, searched": bits for name, bits in costs.items()}
table = {}
for how, bits in costs.items():
    table[how] = {n: signal_to_noise(w, four_bits(w, how)) for n, w in samples.items()}
    found = "  ".join(f"{n} {approx(v, 15, 30, 'dB')}" for n, v in table[how].items())
    print(f"{how:26} {bits:.2f} bits  {found}")

# %%
nf4, plain, shifted = (table[n] for n in ("NF4", "int4, symmetric", "int4, asymmetric"))
best, int4 = table["NF4, searched"], table["int4, asymmetric, searched"]
for kind in ("normal", "MiniLM"):
    assert nf4[kind] > plain[kind] + 0.5 and abs(shifted[kind] - nf4[kind]) < 0.5
    assert nf4[kind] < int4[kind] < best[kind]
assert plain["uniform"] > nf4["uniform"] + 2 and int4["uniform"] > best["uniform"] + 1
print("normal weights: NF4 < searched int4 < searched NF4; uniform ones: int4 wins")

# %% [markdown]
# The usual comparison is with the symmetric int4, and there NF4 wins by a decibel. Give
# int4 a zero-point, for a sixteenth of a bit, and the two are level. Choose the range
# of each block by least squares, and the equidistant grid is ahead of NF4 as its paper
# has it. That is not yet fair. Give NF4 the same search, and on normal and on real
# weights it leads again, with a sixteenth of a bit less: its levels are good, and so is
# the search, and **whoever compares two formats must search for both**. NF4's levels
# assume that a block's greatest weight sits at its end, and two of the sixteen levels
# wait there for one weight in 64; that is what the search wins back. That it cannot be
# optimal, since the divided weights lie differently for each size of block, has been
# shown by calculation {cite}`yoshida2023nf4`; in exercise 4 you find better levels
# yourself. Note the column of uniform numbers: a format is good *for* a distribution.
#
# ## GPTQ: round for the product, not for the weight
#
# So far each weight went to its nearest level, *round to nearest* (RTN, 就近舍入). But
# nobody looks at weights; what counts is the product with what is fed. Take one row $w$
# of a weight, inputs $X$ of shape $(n, K)$, and rounded weights $q$. The output moves
# by
#
# $$
# \lVert X (q - w) \rVert^2 = (q - w)^\top H \, (q - w), \qquad H = X^\top X .
# $$ (eq-hessian)
#
# If features go together, $H$ is not diagonal, and **one error can make up for
# another**. By hand: two weights of 0.6, to be rounded to integers, and features with
# $H = \begin{pmatrix} 1 & 0.9 \\ 0.9 & 1 \end{pmatrix}$. Nearest is (1, 1), with errors
# $(0.4, 0.4)$, and it costs $0.16 + 0.16 + 2 \cdot 0.9 \cdot 0.16 = 0.608$. Now round
# the first to 1 and ask what the second *should* be, given that. Too much by 0.4 in the
# first is made good by $0.9 \cdot 0.4 = 0.36$ less in the second: 0.24, which rounds to
# 0. The cost of (1, 0) is $0.16 + 0.36 - 2 \cdot 0.9 \cdot 0.24 = 0.088$, a seventh,
# though the second weight has been moved farther than it need have been.

# %%
H2, w2 = np.array([[1, 0.9], [0.9, 1]]), np.array([0.6, 0.6])
for q in itertools.product((0, 1), repeat=2):
    print(q, f"{(np.array(q) - w2) @ H2 @ (np.array(q) - w2):.3f}")

# %% [markdown]
# In general: weight $k$ has been rounded, with the error $e = w_k - q_k$. Which change
# $\delta$ of the weights not yet rounded, with $\delta_k = -e$ given, costs least? Set
# the gradient of $\delta^\top H \delta$ to zero in all free directions:
#
# $$
# \delta = - \frac{e}{[H^{-1}]_{kk}} \, [H^{-1}]_{:,k} ,
# $$ (eq-obs)
#
# with $H$ restricted to $k$ and what comes after it. This is the *optimal brain
# surgeon* {cite}`hassibi1993obs`, thirty years old. GPTQ {cite}`frantar2023gptq`
# noticed that with one order of the columns for all rows, the inverses are the same for
# every row, and that all of them can be read off one Cholesky factor of $H^{-1}$, a
# triangular $U$ with $U^\top U = H^{-1}$. ($H$ is called the *Hessian* (黑塞矩阵), the
# matrix of second derivatives of the loss, up to a factor.)

# %%
show(gptq)

# %% [markdown]
# Does it help, and whom? Three bits for a matrix of MiniLM, a range for each row. RTN
# needs no data. GPTQ needs inputs to calibrate on, so we give it more and more of them
# and measure the output twice: on the tokens it has seen, and on the held-out ones.

# %%
name = "encoder.layer.3.intermediate.dense"
w, new = layers[name].weight.detach(), fed["held out"][name]
order = np.random.default_rng(7).permutation(len(fed["calibrate"][name]))
grid = grid_of(*minmax(w, 0), bits=3)
counts = [24, 48, 96, 192, 384, 768, 1536, len(order)]
curves = {"on what it has seen": [], "held out": []}
for n in counts:
    seen = fed["calibrate"][name][order[:n]]
    found = dequantise(gptq(w, seen, grid), grid)
    for label, x in zip(curves, (seen, new), strict=True):
        curves[label].append(signal_to_noise(x @ w.T, x @ found.T))
nearest = fake_quantise(w, grid)
rtn = signal_to_noise(new @ w.T, new @ nearest.T)
print("weights, RTN: ", approx(signal_to_noise(w, nearest), 8, 16, "dB"))
print("weights, GPTQ:", approx(signal_to_noise(w, found), 5, 12, "dB"))
assert signal_to_noise(w, found) < signal_to_noise(w, nearest) - 1

# %% mystnb={"figure": {"caption": "GPTQ with three bits on a matrix of MiniLM with 384 input features: quality of the output against the number of tokens to calibrate on.", "name": "fig-gptq"}, "image": {"alt": "Two curves over the number of tokens from 24 to 2,000. The one for tokens seen falls from 30 to 18 decibels. The held-out one runs along the dashed line of round-to-nearest at 13 up to about 200 tokens and then rises to above 16."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.0))
for (label, values), mark in zip(curves.items(), "so", strict=True):
    ax.semilogx(counts, values, f"{mark}-", base=2, label=f"GPTQ, {label}")
ax.axhline(rtn, color="black", ls="--", label="RTN, held out")
ax.axvline(384, color=COLOURS["grey"], ls=":", lw=1)
ax.text(384 * 1.05, 28, "as many tokens as features", size=8)
ax.set(xlabel="tokens to calibrate on", ylabel="SNR of the output, dB")
ax.set_xticks(counts, counts, size=8)
ax.legend(fontsize=8, loc="center right")
plt.show()
for label, values in curves.items():
    print(f"{label:20}", *(approx(v, 10, 40) for v in values), "dB")
print("RTN, held out       ", approx(rtn, 11, 15, "dB"))
seen_snr, held = curves.values()
assert (
    seen_snr[-1] > held[-1] > rtn + 2 and held[2] < rtn + 1 and seen_snr[0] > rtn + 10
)

# %% [markdown]
# Two surprises. The weights that GPTQ leaves are *farther* from the true ones than
# those of RTN, by some three decibels, and yet the output is better. And with fewer
# tokens than features GPTQ **learns them by heart**: superb on the tokens it has seen,
# no better than RTN on others. From about a thousand tokens on it is worth half a bit
# on new text, without any training. That a method needs "no retraining" does not mean
# that it cannot overfit.
#
# A related method, AWQ {cite}`lin2024awq`, keeps RTN and scales up the columns that
# meet large activations, as SmoothQuant does, so that what matters most is rounded most
# finely.
#
# ## Where people go wrong
#
# **Bytes that saturate.** An integer product is exact, so it must be the same on every
# computer. On processors without the instructions for dot products of bytes (VNNI) it
# need not be. There a library multiplies unsigned by signed bytes and adds *two*
# products in 16 bits, where $2 \cdot 255 \cdot 127 = 64{,}770$ does not fit: the sum
# stops at 32,767, silently.

# %%
rng = np.random.default_rng(8)
inputs = rng.integers(0, 256, (200, 64))  # unsigned, 8 bits
kernel = rng.integers(-128, 128, (64, 50))


def saturating(a, b):
    """Pairs of products are added in 16 bits that stop at their ends."""
    pairs = (a[:, :, None] * b).reshape(len(a), -1, 2, b.shape[1]).sum(2)
    return pairs.clip(-(2**15), 2**15 - 1).sum(1)


for bits in (8, 7):
    x = inputs >> (8 - bits)
    wrong = (saturating(x, kernel) != x @ kernel).mean()
    print(f"{bits} bits: {100 * wrong:.0f} % of the sums are wrong")
print(
    "the worst pair:", 2 * 255 * 128, "with 8 bits,", 2 * 127 * 128, "with 7, of", 2**15
)

# %% [markdown]
# These are random bytes, which are hard on it; in a network it happens to fewer sums,
# and is the harder to notice. With *seven* bits for the inputs no pair can overflow.
# That is the sense of `reduce_range`, with which PyTorch's dynamic quantisation takes
# 128 of the 256 integers, as the next page finds out; OpenVINO's manual gives the
# saturation a page of its own and reduces the weights instead
# {cite}`openvinosaturation`. `torch._int_mm`, PyTorch's product of bytes, was wrong on
# processors of this kind {cite}`pytorchintmm`. Today it asks the processor first and,
# without these instructions, takes a slow loop; it is still wrong where its library has
# been told by `ONEDNN_MAX_CPU_ISA` to do without them. `int_product`, on which
# `int_matmul` above rests, asks it once for products whose sum it knows, and takes
# float32 if the answer is wrong: whole numbers are exact there up to $2^{24}$, that is,
# for 1,024 products of bytes at a time.

# %%
show(quantization.int8_unit_is_exact, quantization.int_product)

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** How many bits does a symmetric grid need at least, if the peak of the
# numbers and their root mean square are given, for a wanted SNR in dB? Write
# `bits_needed(peak, rms, decibels)` with equation {eq}`eq-snr`, a whole number.

# %%
bits_needed = ...  # def bits_needed(peak, rms, decibels): …
check.bits_needed(bits_needed)


# %% tags=["hide-cell"]
def bits_needed(peak, rms, decibels):
    return int(np.ceil((decibels - 4.77 + 20 * np.log10(peak / rms)) / 6.02))


check.bits_needed(bits_needed)

# %% [markdown]
# **2. The grid.** Write `scale_and_zero(low, high, bits)` for the *asymmetric* grid of
# *unsigned* integers $0 \dots 2^b - 1$, as ONNX's DynamicQuantizeLinear has it: a float
# and an int. Mind ranges such as 2 … 5.

# %%
scale_and_zero = ...  # def scale_and_zero(low, high, bits): …
check.scale_and_zero(scale_and_zero)


# %% tags=["hide-cell"]
def scale_and_zero(low, high, bits):
    low, high = min(low, 0), max(high, 0)
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


check.scale_and_zero(scale_and_zero)

# %% [markdown]
# **3. LLM.int8().** Write `mixed_product(x, weight, threshold)` for x (n, K) and weight
# (N, K): features in which some |x| exceeds the threshold are multiplied in floats, all
# others in int8, symmetric, with a scale for each row of x and each row of the weight.
# Choose the features first, then the scales. `grid_of`, `quantise` and `int_matmul` do
# most of it.

# %%
mixed_product = ...  # def mixed_product(x, weight, threshold): …
check.mixed_product(mixed_product)


# %% tags=["hide-cell"]
def mixed_product(x, weight, threshold):
    large = x.abs().amax(0) > threshold
    floats = x[:, large] @ weight[:, large].T
    x, weight = x[:, ~large], weight[:, ~large]
    for_x, for_w = (grid_of(*minmax(t, 0), symmetric=True) for t in (x, weight))
    total = int_matmul(quantise(x, for_x), quantise(weight, for_w).T)
    return floats + for_x.scale * for_w.scale.T * total


check.mixed_product(mixed_product)

# %% [markdown]
# **4. For an evening: better than NF4.** Find sixteen levels in ascending order that
# lose less in mean square than NF4's on normal weights in blocks of 64, divided by the
# greatest of the block: less by a good twentieth. The check measures them on blocks of
# its own. A way: draw many blocks; give every weight to its nearest level; move each
# level to where it would serve its weights best; repeat. (Lloyd's algorithm. Which mean
# is the right one, if a block with a large maximum counts for more?)

# %%
levels = ...  # a tensor (16,), or anything that becomes one
check.levels(levels)

# %% tags=["hide-cell"]
draws = np.random.default_rng(9).normal(size=(4000, 64))
draws = torch.tensor(draws, dtype=torch.float32)
greatest = draws.abs().amax(1, keepdim=True)
points, mass = (draws / greatest).flatten(), (greatest**2).expand_as(draws).flatten()
levels = nf4_levels().clone()
for _ in range(40):
    nearest = torch.bucketize(points, (levels[1:] + levels[:-1]) / 2)
    weights = torch.zeros(16).index_add_(0, nearest, mass)
    levels = torch.zeros(16).index_add_(0, nearest, points * mass) / weights
check.levels(levels)

# %% [markdown]
# Look at the levels: neither 0 nor ±1 is among them. What would it cost to keep an
# exact zero?
#
# ## In short
#
# A scale and a zero-point turn numbers into integers; inside the range each moves by
# half a step at most, with no training, and a bit is worth 6 dB. What spoils it is the
# quotient of peak and typical size: one weight of MiniLM left its matrix 8 dB, and a
# scale for each row 33. In activations the features must share one; factors or a
# rotation shift the peaks elsewhere and leave the product as it was, which helps where
# elsewhere there is room. Integers are multiplied with three sums for the zero-points,
# in 32 bits, and not in 16. With four bits the levels and the choice of each block's
# range both count, and a fair comparison searches for both formats; and GPTQ, which
# rounds for the product, can overfit like any method that looks at data.
#
# The claim held: no retraining, and a loss that can be foretold. When activations get
# their scales, beforehand or at each call, is the question of [the next
# page](02_static_and_dynamic).
