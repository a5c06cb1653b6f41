# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Static and dynamic
#
# The weights of a network lie still. One can look at them for an hour, choose a grid,
# and round. What flows *between* the layers comes anew with every text, and its grid
# needs a range too. Whoever fixes the range beforehand can be caught out by a text that
# is louder than expected. Whoever measures at every call is never caught out, and gets
# a network in which the meaning of a sentence depends on its neighbours in the batch.
# At the end of this page you can
#
# - tell static, dynamic and weight-only quantisation apart by one question: when is the
#   range of the activations known?
# - calibrate, and say how a static layer fails above *and* below its range;
# - show what dynamic quantisation saves and what it does not: bytes, multiplications,
#   accuracy;
# - train a network with the rounding in place, through a function whose derivative is
#   0;
# - say what stays in floating point, and which half of the usual reasons is only habit.
#
# You need [int8 arithmetic](01_int8_arithmetic), and the training loop of
# [learning](../00_tensors/03_learning).

# %% tags=["hide-input"]
import copy
import warnings

import numpy as np
import torch
from torch import nn

from utils import encoders
from utils.exercises import quantization as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    between,
    close,
    datasets,
    deprecated,
    figures,
    notes_say,
    pretrained,
    raises,
    same,
    settle,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "quantization-static-definition",
    "quantization-dynamic-definition",
    "quantization-dynamic-saves",
    "quantization-no-gpu",
)

# %% tags=["hide-input"]
from utils.learning import accuracy
from utils.quantization import (
    DynamicLinear,
    StaticLinear,
    dequantise,
    fake_quantise,
    grid_of,
    int8_unit_is_exact,
    least_squares,
    linear_inputs,
    minmax,
    quantise,
    quantise_model,
    signal_to_noise,
)

# %% [markdown]
# ## By hand: the same three numbers, louder and softer
#
# Suppose that all the numbers we have ever seen before a layer lay between −1 and 2.
# Four bits make 15 steps, so a step is 0.2 wide, as on the page before. Now a text
# brings (−0.5, 1, 2). On that grid it is read as (−0.4, 1, 2): −0.5 lies half-way
# between two levels.
#
# The next text brings the same three numbers ten times as large, (−5, 10, 20). The grid
# ends at 2. All three fall on its ends, and the layer reads (−1, 2, 2). Had we looked
# at these three numbers first, we would have made the steps $25 / 15 = 1.67$ wide, and
# they would have come out as they went in, for −5 is exactly −3 steps, and 10 and 20
# are 6 and 12. The third text brings a tenth of the first, (−0.05, 0.1, 0.2). Nothing
# is clipped now, and still the fixed grid reads (0, 0, 0.2): its steps are as wide as
# the numbers.


# %%
def read(numbers, low, high):
    """What four bits make of the numbers on the grid from low to high."""
    back = fake_quantise(torch.tensor(numbers), grid_of(low, high, bits=4))
    return [round(value, 2) + 0.0 for value in back.tolist()]


for factor in (1, 10, 0.1):
    text = [factor * value for value in (-0.5, 1.0, 2.0)]
    fixed, fresh = read(text, -1, 2), read(text, min(text), max(text))
    print(f"×{factor:<4} fixed: {fixed!s:20} measured now: {fresh}")

# %% [markdown]
# A range that is too narrow *clips*; one that is too wide is *coarse*. Both errors are
# there, and people think of the first only.
#
# ## In general: who knows the range, and when?
#
# Let $x$, of shape $(n, K)$, be what a linear layer is fed, and $W$, $(N, K)$, its
# weight. The grid of $W$ is made once, in all schemes. The grid of $x$ needs a range
# $[\alpha, \beta]$:
#
# $$
# \text{static: } [\alpha, \beta] = \Bigl[\min_{x \in C} x,\; \max_{x \in C} x\Bigr],
# \qquad
# \text{dynamic: } [\alpha, \beta] = [\min x, \max x] ,
# $$ (eq-ranges)
#
# where $C$ is everything that the layer was fed while it read sample texts, the
# *calibration set* (校准集), and in the dynamic case $x$ is the batch at hand. The
# product is one of integers both times, equation {eq}`eq-int` of the page before. Other
# *observers* than min and max will do too: percentiles, least squares.
#
# | | weights | range of the activations | multiplied are | needs |
# |---|---|---|---|---|
# | *static* (静态量化) | int8, once | fixed beforehand | integers | sample texts |
# | *dynamic* (动态量化) | int8, once | measured at each call | integers | nothing |
# | *weight-only* (仅权重量化) | int8 or 4 bits, once | none | **floats** | nothing, or samples for GPTQ |
# | *QAT* (量化感知训练) | trained in the rounding's presence | learned or measured | integers, afterwards | training |
#
# {term}`Static and dynamic 静态与动态 <static / dynamic quantisation>` differ in one
# method of the layer, the one that says which grid the input gets:

# %%
show(DynamicLinear, StaticLinear)

# %% [markdown]
# ## Equal to the library
#
# PyTorch's `quantize_dynamic` replaces the Linears of a model. It is deprecated (page 3
# takes that up) and still there. Its documentation calls it, in the first sentence,
# something that it is not:

# %%
torch.manual_seed(0)
linear = nn.Linear(768, 768, bias=False).requires_grad_(False)
with deprecated():
    theirs = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(linear), {nn.Linear}, dtype=torch.qint8
    )[0]
before = theirs.weight().int_repr().clone()
print(torch.ao.quantization.quantize_dynamic.__doc__.strip().split("\n")[0])
print(theirs.weight().dtype, tuple(before.shape), "before any input")

# %% [markdown]
# "Weights-only"? If that were so, the layer would multiply its floats $x$ by the weight
# read back from int8. We compute that product, and ours in integers, and ask which of
# the two PyTorch has computed. (It takes 7 bits for the input, as the page before
# explained.)


# %%
def relative(y, rough):
    """‖rough − y‖ / ‖y‖, both (n, N)."""
    return ((rough - y).norm() / y.norm()).item()


x = torch.tensor(np.random.default_rng(0).normal(size=(64, 768)), dtype=torch.float32)
y = linear(x)
dynamic7 = DynamicLinear(linear, bits=7)
weights_only = x @ theirs.weight().dequantize().T
far, near = relative(weights_only, theirs(x)), relative(dynamic7(x), theirs(x))
print("PyTorch's layer against weights only:  ", approx(far, 0.01, 0.05))
print("PyTorch's layer against integers, ours:", approx(near, 0, 1))

# %% [markdown]
# Integers, then. The docstring and the notes make the same slip, "only the weights". In
# truth both are, the weights **once, at
# conversion**, the activations **at each call, with a range of their own**, and then
# bytes are multiplied. That a range is measured at each call can be seen from outside:
# make the input 1,000 times as large, and the relative error stays what it was.

# %%
loud = {k: relative(k * y, theirs(k * x)) for k in (0.001, 1, 1000)}
ours = {k: relative(k * y, dynamic7(k * x)) for k in loud}
for k in loud:
    print(f"×{k:<6} relative error of theirs", approx(loud[k], 0.01, 0.04), end=", ")
    print("of ours", approx(ours[k], 0, 1))

# %%
after = theirs.weight().int_repr()
settle(
    "quantization-dynamic-definition",
    same(str(theirs.weight().dtype), "torch.qint8"),
    same(before, after),
    close(loud[1000] / loud[1], 1, 0.2),
    close(ours[1000] / ours[1], 1, 0.2),
    above(far / near, 5),
    note="before: the weights when no input had come; after: when all had been read",
)

# %% [markdown]
# ## Static: a window that stays
#
# For a static layer we let an observer read samples, keep the range that it has seen,
# and read everything else on that grid. Two layers calibrated on different data have
# the same weights, to the bit, and different grids for their input. **Without
# calibration there is no static layer**: this is what the notes' definition leaves out.
#
# In PyTorch that takes three steps: *prepare* puts an observer before the layer and one
# behind it, running the model on samples fills them, *convert* makes the layer of
# integers. The second observer is there because PyTorch's static layer also hands its
# *output* on as integers, so that two of them in a row need no floats between them.
# Ours returns floats; rounded to the same grid, they agree.


# %%
def through_torch(linear, samples):
    """torch.ao's three steps: prepare, calibrate, convert."""
    q = torch.ao.quantization
    model = q.QuantWrapper(copy.deepcopy(linear)).eval()
    model.qconfig = q.QConfig(q.MinMaxObserver, q.default_weight_observer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        q.prepare(model, inplace=True)
        for sample in samples:
            model(sample)
        return q.convert(model)


theirs_static, ours_static = (
    through_torch(linear, [x]),
    StaticLinear(linear, *minmax(x)),
)
handed_on = fake_quantise(ours_static(x), grid_of(*minmax(y)))
print("handed on as", theirs_static.module(theirs_static.quant(x)).dtype)
print("theirs against ours:", approx(relative(handed_on, theirs_static(x)), 0, 0.002))

# %% [markdown]
# Now calibrate once, on three batches, and read another, `x` from above, multiplied by
# factors from a hundredth to a hundred.

# %%
batches = torch.tensor(
    np.random.default_rng(1).normal(size=(3, 64, 768)), dtype=torch.float32
)
low, high = batches.min(), batches.max()  # what the observer has seen
static, dynamic = StaticLinear(linear, low, high), DynamicLinear(linear)
elsewhere = StaticLinear(linear, 3 * low, 3 * high)
print("seen:", approx(low, -6, -3), "to", approx(high, 3, 6))
errors = {"static": {}, "dynamic": {}}
for k in np.logspace(-2, 2, 25).round(4).tolist():
    for name, layer in {"static": static, "dynamic": dynamic}.items():
        errors[name][k] = relative(k * y, layer(k * x))
for k in (1, 10):
    found = [f"{n} {approx(e[k], 0, 1)}" for n, e in errors.items()]
    print(f"input ×{k:<2} relative error:", ", ".join(found))

# %% mystnb={"figure": {"caption": "A histogram slides past its window. Grey, the numbers that come; shaded, the fixed range of the static layer; the bar on top, the range that the dynamic layer measures.", "name": "fig-window"}, "image": {"alt": "Three histograms in the same frame from minus 16 to 16. In the first, the bell fills the shaded window and the bar above is as long as the window. In the second, shifted by six, nearly all of the bell lies to the right of the window and the bar has moved with it. In the third, three times as wide, both tails stick out of the window and the bar is three times as long."}} tags=["hide-input"]
figure, axes = figures.panels(3, height=2.5, sharey=True)
shifts = {"as calibrated": x, "shifted by 6": x + 6, "three times as wide": 3 * x}
for ax, (name, now) in zip(axes, shifts.items(), strict=True):
    ax.axvspan(low, high, color=COLOURS["sky"], alpha=0.35)
    ax.hist(now.flatten(), bins=80, density=True, color=COLOURS["grey"])
    ax.plot([now.min(), now.max()], [0.46] * 2, "|-", color=COLOURS["vermilion"])
    ax.set(title=name, xlim=(-16, 16), xlabel="x", ylim=(0, 0.52))
    outside = ((now < low) | (now > high)).float().mean().item()
    print(f"{name:20} clipped by the fixed window: {approx(100 * outside, 0, 99, '%')}")
axes[0].set_ylabel("density")
plt.show()
figures.digest("as calibrated", x)

# %% mystnb={"figure": {"caption": "Relative error of a layer's output when its input is multiplied by a factor. The static layer was calibrated at factor 1. Both axes logarithmic.", "name": "fig-factor"}, "image": {"alt": "The dynamic layer is a horizontal line near one per cent. The static layer touches it at factor 1, rises to the left in a straight line as one over the factor, and to the right steeply towards 1."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.0, 2.9))
for (name, found), mark in zip(errors.items(), "os", strict=True):
    ax.loglog([*found], [*found.values()], f"{mark}-", ms=4, label=name)
ax.axvline(1, color=COLOURS["grey"], ls=":", lw=1)
ax.text(0.93, 0.5, "calibrated here", size=8, ha="right")
ax.set(xlabel="the input is multiplied by", ylabel="relative error")
ax.legend(loc="lower right", bbox_to_anchor=(1, 0.12))
plt.show()
figures.digest("static", [*errors["static"].values()])
figures.digest("dynamic", [*errors["dynamic"].values()])

# %% [markdown]
# Read {numref}`fig-factor` from the middle. At factor 1 one is as good as the other. To
# the right the static one clips: at ten times its error is two thirds of the signal. To
# the left its error grows as one over the factor, because the steps stay as wide as
# they were while the numbers shrink: at a hundredth it is worse than at ten times. The
# V has one tip.
#
# ## A real network that does not slide
#
# So calibrate on whatever your users will write? Let us see how bad it is. MiniLM
# {cite}`wang2020minilm`, six layers, made for English, is calibrated on English prose,
# and then reads everyday sentences, Python code, and Chinese. What are its linear
# layers fed?

# %%
model, tokenizer = pretrained.encoder()
prose = [p for p in datasets.english().split("\n\n") if len(p.split()) > 40]
everyday = [s.en for s in datasets.sentences()]
code = [p for p in datasets.code().split("\n\n") if len(p) > 200]
sources = {"prose": prose, "everyday": everyday, "code": code}
sources["中文"] = [s.zh for s in datasets.sentences()]


def read_by(model, texts):
    """What each Linear is fed while the model reads the texts: name to (n, K)."""
    options = {"truncation": True, "max_length": 64, "return_tensors": "pt"}
    return linear_inputs(model, [dict(tokenizer(t, **options)) for t in texts])


fed = {name: read_by(model, texts[:16]) for name, texts in sources.items()}
print("tokens:", {n: len(f["encoder.layer.0.output.dense"]) for n, f in fed.items()})

# %% mystnb={"figure": {"caption": "The range of what is fed to the two matrices of the feed-forward part, layer by layer, while MiniLM reads four kinds of text.", "name": "fig-ranges"}, "image": {"alt": "Two panels. For each of six layers four vertical bars side by side, one for each kind of text. Within a layer the four bars end at nearly the same height above, less so below; between layers they differ. Only for the second matrix in layers 4 and 5 do everyday sentences and Chinese reach half to three quarters as far as prose and code."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.9)
kinds = {"intermediate": "first matrix", "output": "second matrix"}
spans = {kind: np.empty((6, 4, 2)) for kind in kinds}
for ax, (kind, title) in zip(axes, kinds.items(), strict=True):
    for j, (name, colour) in enumerate(zip(fed, COLOURS.values(), strict=False)):
        for layer in range(6):
            span = minmax(fed[name][f"encoder.layer.{layer}.{kind}.dense"])
            spans[kind][layer, j] = [float(end) for end in span]
        ends, place = spans[kind][:, j].T, np.arange(6) + 0.18 * (j - 1.5)
        ax.vlines(place, *ends, color=colour, lw=4, label=name)
        ax.plot(place, ends[1], "^ovs"[j], color=colour, ms=4)
    ax.set(title=f"fed to the {title}", xlabel="layer")
    ax.set_xticks(range(6))
axes[1].legend(fontsize=8)
plt.show()
for kind, title in kinds.items():
    tops = spans[kind][..., 1]  # (6, 4)
    drift = tops.max(1) / tops.min(1)
    print(f"{title}, highest ÷ lowest top:", *(approx(d, 1, 3) for d in drift))
    figures.digest(title, spans[kind])
    assert drift[:4].max() < 1.2
widths = np.ptp(spans["intermediate"], axis=-1)  # (6, 4)
widest = (widths.max(1) / widths.min(1)).max()
print("first matrix, widest ÷ narrowest range of a layer:", approx(widest, 1, 1.25))

# %% [markdown]
# Almost nothing slides. At the entrance of every feed-forward part code, prose and
# Chinese have the same highest value within a few per cent, and ranges that differ by a
# fifth or so at most. Why? A LayerNorm stands there
# ([three axes](../01_norms/02_three_axes)), which divides by the standard deviation:
# make its input ten times as large, and its output is what it was. The V of the figure
# before is that of a network without norms. The second matrix has no norm before it,
# and in the last two layers everyday sentences and Chinese reach only half to three
# quarters as far as prose. Calibrated on prose, that costs them up to one of their
# eight bits there.

# %%
norm = model.encoder.layer[0].attention.output.LayerNorm
sample = torch.randn(5, 384, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    assert torch.allclose(norm(10 * sample), norm(sample), atol=1e-4)
print("LayerNorm(10 x) equals LayerNorm(x) to 1e-4")

# %% [markdown]
# How many texts does calibration then need? We convert MiniLM three times, with one
# scale for each row of a weight: dynamic; static, calibrated on the first sixteen
# paragraphs; static, calibrated on **one**. The sentence vectors of 24 everyday
# sentences are compared with those of the float model by their cosine.


# %%
def calibrated(seen):
    """MiniLM in int8, static, with the ranges of what its Linears were fed."""

    def replace(name, linear):
        if name not in seen:  # the pooler, which sentence vectors do not use
            return None
        return StaticLinear(linear, *minmax(seen[name]), per_channel=True)

    return quantise_model(model, replace)


def vectors(model, size=12):
    with torch.no_grad():
        return encoders.embed(
            lambda batch: model(**batch).last_hidden_state, everyday[:24], size
        )


nets = {"float": model}
nets["dynamic"] = quantise_model(model, lambda _, m: DynamicLinear(m, 8, True))
nets["static, 16 texts"] = calibrated(fed["prose"])
nets["static, 1 text"] = calibrated(read_by(model, prose[:1]))
in_batch = {name: vectors(net) for name, net in nets.items()}
exact = in_batch["float"]
cosines = {name: (in_batch[name] * exact).sum(1) for name in [*nets][1:]}
for name, found in cosines.items():
    mean, worst = approx(found.mean(), 0.97, 1), approx(found.min(), 0.9, 1)
    print(f"{name:16} cosine {mean} on average, {worst} at worst")
means = [found.mean() for found in cosines.values()]
assert max(means) - min(means) < 0.01

# %% [markdown]
# One paragraph of English is enough, and measuring at every call gains nothing. (Most
# of what they all lose comes from the outlier of the page before, as we shall see.) It
# is a fact about this network, though, not about static quantisation: MiniLM is
# normalised, and its greatest activation is there in every text.
#
# "All parameters and activations of the whole model", the notes say. Ours has converted
# the linear layers, for reasons that a later section gives. PyTorch's static tool keeps
# a table of what it converts. The norm is in it, the softmax is not:

# %%
table = torch.ao.quantization.get_default_static_quant_module_mappings()
converts = [kind in table for kind in (nn.Linear, nn.LayerNorm, nn.Softmax)]
inside = errors["static"][1] / errors["dynamic"][1]
louder = errors["static"][10] / errors["dynamic"][10]
softer = errors["static"][0.1] / errors["dynamic"][0.1]
settle(
    "quantization-static-definition",
    same(static.weight, elsewhere.weight),
    apart(static.input_scale, elsewhere.input_scale, 0.01),
    between(inside, 0.8, 1.25),
    above(louder, 10),
    above(softer, 5),
    same(converts, [True, True, False]),
    note="inside, louder, softer: static error ÷ dynamic error at factor 1, 10 and 0.1",
)

# %% [markdown]
# ## Dynamic: it matters who sits next to you
#
# The dynamic layer takes *one* range for the whole batch. Then a row's grid depends on
# the other rows. The float model gives a sentence the same vector, alone or in company.
# Does the dynamic one? We measure how far the vector turns.


# %%
def company(name):
    """Cosine of each sentence's vectors: alone, and in a batch of twelve."""
    return (vectors(nets[name], size=1) * in_batch[name]).sum(1)


turned = {name: company(name) for name in ("float", "static, 16 texts", "dynamic")}
for name, found in turned.items():
    gap = 1 - found.min()
    print(f"{name:16} 1 − cosine, worst sentence:", approx(gap, -1e-6, 0.15))
assert 1 - turned["dynamic"].min() > 4 * (1 - turned["static, 16 texts"].min())

# %% [markdown]
# The sentence is the same, the weights are the same, and its vector has turned by as
# much as quantisation itself turned it. (The static network may move a little too: a
# difference in the last bit of a float can push a number over a half, and rounding
# makes a whole step of it.) A search engine that embeds its documents in batches and
# its queries one by one compares vectors of two slightly different models. And a test
# that passes with a batch of one can fail with a batch of two. The cure is one scale
# for each *row*, that is, each token, which no other row can change. In our code this
# is one method, and torchao's int8 does the same, per token {cite}`torchaoinference`:


# %%
class PerToken(DynamicLinear):
    def grid_for(self, x):
        return grid_of(*minmax(x, 0), self.bits)  # scales (n, 1)


noisy = torch.cat([x[:1], 50 * x[1:2]])  # a row, and a loud neighbour
settled_row, loud_row = {}, {}
for layer in (dynamic, PerToken(linear)):
    kind = type(layer).__name__
    settled_row[kind] = relative(y[:1], layer(x[:1]))
    loud_row[kind] = relative(y[:1], layer(noisy)[:1])
    print(f"{kind:14} alone", approx(settled_row[kind], 0, 0.05), end=", ")
    print("beside a loud row", approx(loud_row[kind], 0, 1))
assert loud_row["DynamicLinear"] > 10 * settled_row["DynamicLinear"]
assert loud_row["PerToken"] == settled_row["PerToken"]
nets["per token"] = quantise_model(model, lambda _, m: PerToken(m, 8, True))
found = (vectors(nets["per token"]) * exact).sum(1)
share = ((1 - found.mean()) / (1 - cosines["dynamic"].mean())).item()
print(
    "MiniLM per token: of the dynamic network's loss", approx(share, 0, 0.4), "is left"
)

# %% [markdown]
# In MiniLM the loud neighbour sits in every text: its first token. Most of what int8
# costs this network it costs because all tokens share a scale with that one.

# %% [markdown]
# ## Weight-only: the third
#
# One can also leave the activations alone, which is
# {term}`weight-only quantisation 仅权重量化 <weight-only quantisation>`: keep the weight in
# int8, turn it back into floats when it is needed, and multiply floats. The rounding of
# the activations is gone from the error, and so is the integer product. Language models
# at home keep their weights so, with four bits, because there the time goes into
# *reading* weights, not into multiplying. (What is multiplied is another matter: on a
# CPU llama.cpp rounds the activations to 8 bits, block by block, at each call
# {cite}`llamacpp`.) We count, for the three ways, what is stored and what is
# multiplied.

# %%
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(call):
    """How many multiply-adds the matrix products of a call take."""
    count = {torch.ops.aten._int_mm: lambda a, b, **_: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=count) as counter:
        call()
    return counter.get_total_flops() // 2


class WeightOnly(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.grid = grid_of(*minmax(linear.weight, 0), symmetric=True)
        self.register_buffer("weight", quantise(linear.weight, self.grid))
        self.register_buffer("scale", self.grid.scale)

    def forward(self, x):
        return x @ dequantise(self.weight, self.grid).T


# %%
int8_unit_is_exact()  # it tries the processor once, and should not be counted
ways = {"float": linear, "dynamic": dynamic, "weight-only": WeightOnly(linear)}
products, stored, lost = {}, {}, {}
for name, layer in ways.items():
    products[name] = multiply_adds(lambda layer=layer: layer(x))
    stored[name] = sum(t.nbytes for t in layer.state_dict().values())
    lost[name] = relative(y, layer(x))
    print(
        f"{name:12} {products[name]:,} multiply-adds, {stored[name]:,} bytes,", end=" "
    )
    print("relative error", approx(lost[name], 0, 0.02))
print(f"{len(x)} rows · 768 · 768 = {len(x) * 768**2:,}")
assert lost["weight-only"] < lost["dynamic"]

# %% [markdown]
# A quarter of the bytes, both times; and **not one multiplication fewer**. What
# quantisation changes is what a multiplication costs, bytes in place of floats, on
# processors that have instructions for it. And it adds work: the range must be found,
# and each of the $n K$ numbers divided, rounded and clipped, which for a small $N$ can
# cost more than it saves. So "it reduces computation" is not a matter of counting. Page
# 3 looks at clocks.
#
# "It reduces memory": of the quantised weights. Here is what becomes of MiniLM, byte
# for byte.


# %%
def size(net, wanted):
    """Bytes of all tensors of the state whose module `wanted` picks."""
    inside = {n for n, m in net.named_modules() if wanted(m)}
    state = net.state_dict().items()
    return sum(t.nbytes for n, t in state if n.rpartition(".")[0] in inside)


def is_linear(module):
    return isinstance(module, nn.Linear | DynamicLinear)


sizes = {}
for name, net in {"float": model, "int8": nets["dynamic"]}.items():
    sizes[name] = [size(net, is_linear), size(net, lambda m: not is_linear(m))]
    print(
        f"{name:6} linear layers {sizes[name][0]:>11,} bytes, rest {sizes[name][1]:,}"
    )
(linear_before, rest_before), (linear_after, rest_after) = sizes.values()
total = sum(sizes["int8"]) / sum(sizes["float"])
print(f"the whole: {total:.3f} of what it was")

# %% [markdown]
# The layers shrink to a quarter, the rest stays, and the rest is half of this model:
# its embeddings.
#
# "While keeping accuracy": with ordinary inputs, yes. But take the same layer and make
# *one* of its 768 input features a hundred times as large. All features share the
# scale. The error of the output, measured against the size of the clean output both
# times:

# %%
spiked = x.clone()
spiked[:, 7] *= 100
scale_of_output = y.abs().mean()
quiet = (dynamic(x) - y).abs().mean() / scale_of_output
spoilt = (dynamic(spiked) - linear(spiked)).abs().mean() / scale_of_output
print("clean input:       ", approx(quiet, 0.005, 0.02), "of the clean output")
print("one loud feature:  ", approx(spoilt, 0.2, 1), "of the clean output")
print(
    "of its own output: ", approx(relative(linear(spiked), dynamic(spiked)), 0.05, 0.3)
)

# %% [markdown]
# The output has grown too. Against its own size the error is still more than ten times
# what it was. It is no thought experiment. In language models from 6.7 billion
# parameters on, such features stand in every layer, and Dettmers and others
# {cite}`dettmers2022llmint8` show that plain int8, harmless in smaller models, ruins
# these; they keep the few features in 16 bits, and 99.9 % of the values in 8.

# %%
settle(
    "quantization-dynamic-saves",
    below(linear_after / linear_before, 0.27),
    same(rest_after, rest_before),
    same(products["dynamic"], products["float"]),
    below(quiet, 0.05),
    above(spoilt / quiet, 10),
    note="bytes of MiniLM’s linear layers and of the rest, then one layer of 768",
)

# %% [markdown]
# ## The fourth: training with the rounding in place
#
# With 8 bits rounding after training is good enough. With very few it may not be, and
# then one can *train* the network in the presence of the rounding, so that it finds
# weights that bear it, which is
# {term}`quantisation-aware training 量化感知训练 <quantisation-aware training (QAT)>`. In the
# forward pass weights and activations are rounded and read back; the weights that the
# optimiser moves stay floats, the *shadow weights* (影子权重).
#
# There is one difficulty. The function "round" is a staircase. Its derivative is 0,
# except at the jumps, where there is none. Backpropagation through it gives nothing:

# %%
w = torch.tensor([0.3, 1.2, -0.7], requires_grad=True)
(w.round() ** 2).sum().backward()
print("through torch.round:  ", w.grad.tolist())
w.grad = None
(fake_quantise(w, grid_of(-2, 2, bits=3, symmetric=True)) ** 2).sum().backward()
print("through fake_quantise:", [round(g, 2) for g in w.grad.tolist()])

# %% [markdown]
# The *straight-through estimator* (直通估计, STE) {cite}`bengio2013estimating` lies: on the
# way back it pretends that nothing was rounded, and passes the gradient on as it is,
# except where the number was clipped.
#
# $$
# \hat w = s \cdot \mathrm{clip}(\mathrm{round}(w / s), q_{\min}, q_{\max}), \qquad
# \frac{\partial \hat w}{\partial w} := 1 \text{ inside the range}, \quad 0 \text{ outside.}
# $$ (eq-ste)
#
# What such a gradient does can be seen with one weight and steps of 1. Let the loss be
# $(\hat w - 0.7)^2$ and start at $w = 0.3$, read as $\hat w = 0$. The gradient is
# $2 (0 - 0.7) = -1.4$: up. With a learning rate of 0.1, $w$ becomes 0.44, then 0.58,
# and is read as 1. Now the gradient is $2 (1 - 0.7) = 0.6$: down, to 0.52, 0.46, and up
# again.

# %%
unit, path = grid_of(-3.5, 3.5, bits=3, symmetric=True), []
w = torch.tensor(0.3, requires_grad=True)
for _ in range(40):
    read_as = fake_quantise(w, unit)
    path.append((round(w.item(), 2), int(read_as)))
    w.grad = None
    ((read_as - 0.7) ** 2).backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
print(*(f"{value} → {level}" for value, level in path[:9]), sep=",  ")
share = sum(level for _, level in path[10:]) / 30
print(f"read as 1 in {30 * share:.0f} of the last 30 steps: {share:.2f}")
assert abs(share - 0.7) < 0.05

# %% [markdown]
# It never comes to rest. It swings about 0.5, the border between two levels, and spends
# on each side just the time that makes the *average* of $\hat w$ 0.7. Such oscillations
# occur in real networks too {cite}`nagel2022oscillations`; the last step of a training
# may leave a weight on either side.
#
# ## Does it help?
#
# A small network reads scikit-learn's handwritten digits: 64 pixels, 32 hidden units,
# 10 classes. It is trained in floats for 150 steps, and then for 100 more, in two ways:
# in floats, to be rounded *after* training (PTQ, 训练后量化), or with the rounding in place.
# Both have had the same number of steps. PTQ gets two chances: the range of each row of
# a weight from minimum and maximum, as in QAT, or by least squares. All three measure
# the range of their input at each call.


# %%
class Rounded(nn.Linear):
    """A Linear that rounds its weight, row by row, and its input, if bits are set."""

    bits, search = None, False

    def forward(self, x):
        if self.bits is None:
            return super().forward(x)
        with torch.no_grad():
            ends = minmax(self.weight, 0)
            if self.search:
                ends = least_squares(self.weight, self.bits, symmetric=True, axis=0)
            for_w = grid_of(*ends, bits=self.bits, symmetric=True)
            for_x = grid_of(*minmax(x), bits=self.bits)
        rounded = fake_quantise(x, for_x), fake_quantise(self.weight, for_w)
        return nn.functional.linear(*rounded, self.bias)


def rounded_to(net, bits, search=False):
    net = copy.deepcopy(net)
    for layer in net[::2]:
        layer.bits, layer.search = bits, search
    return net


# %%
pixels, digit = datasets.digits()
train, test = slice(0, 1200), slice(1200, None)


def trained(net, steps, rate=0.01):
    net = copy.deepcopy(net)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(pixels[train]), digit[train]).backward()
        optimiser.step()
    return net


# %%
names = ["float", "PTQ, min–max", "PTQ, least squares", "QAT, min–max"]
scores = {name: np.empty((5, 3)) for name in names}  # seeds, bits
for seed in range(5):
    torch.manual_seed(seed)
    net = nn.Sequential(Rounded(64, 32), nn.ReLU(), Rounded(32, 10))
    start = trained(net, 150)
    longer = trained(start, 100, 0.003)
    for place, bits in enumerate((2, 3, 4)):
        after = [rounded_to(longer, bits, search) for search in (False, True)]
        aware = trained(rounded_to(start, bits), 100, 0.003)
        for name, net in zip(names, (longer, *after, aware), strict=True):
            scores[name][seed, place] = accuracy(net, pixels[test], digit[test])

# %% mystnb={"figure": {"caption": "Share of right digits on 597 held-out images when weights and activations have few bits: rounded after training (PTQ), with two choices of range, or trained with the rounding (QAT). Small marks are five seeds, lines their means; dashed, the float network.", "name": "fig-qat"}, "image": {"alt": "Accuracy over 2, 3 and 4 bits. The dashed float line is near 0.98. With two bits PTQ by min\u2013max is near 0.78, PTQ by least squares near 0.87 with the widest spread, QAT near 0.92. With three bits all three lie near 0.96, and with four close to the float line."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 3.2))
looks = dict(zip(names[1:], ["vermilion s", "orange ^", "blue o"], strict=True))
for i, (name, look) in enumerate(looks.items()):
    colour, mark = look.split()
    place = np.array([2, 3, 4]) + 0.06 * (i - 1)
    style = {"color": COLOURS[colour], "marker": mark}
    ax.plot(place, scores[name].T, ls="none", ms=4, alpha=0.4, **style)
    ax.plot(place, scores[name].mean(0), label=name, **style)
ax.axhline(scores["float"].mean(), color="black", ls="--", label="float")
ax.set(xlabel="bits", ylabel="accuracy", xticks=(2, 3, 4))
ax.legend(loc="lower right")
plt.show()
for name, found in scores.items():
    print(
        f"{name:18}", *(approx(v, 0.3, 1) for v in found.mean(0)), "with 2, 3, 4 bits"
    )
naive, best, aware = (scores[name].mean(0) for name in names[1:])
assert aware[0] > best[0] + 0.01 and abs(aware - best)[1:].max() < 0.03
assert best[0] - naive[0] > (aware[0] - naive[0]) / 2

# %% [markdown]
# With two bits training through the rounding is best by far, if it is compared with the
# obvious way of rounding. But most of that lead is gone once the range is chosen by
# least squares, which needs no training; and with three or four bits hardly anything is
# left of it. So the order of the day is: first the range, then, if the bits are very
# few, training. Whoever reports a gain of QAT should say which rounding it is a gain
# over.
#
# ## What stays in floats, and why
#
# In all schemes as we have built them only the products are done in integers. Tools
# differ: PyTorch's static conversion replaces LayerNorm too. Three things are usually
# left alone, for three different reasons.
#
# **LayerNorm** is cheap, so there is nothing to gain: of MiniLM's parameters it holds
# less than a thousandth. And it can make the error of a rounded input *worse*. We catch
# what enters the LayerNorm at the end of each layer while the model reads a paragraph,
# and round it to int8, once with one scale for all and once with one for each token:

# %%
everything = sum(p.numel() for p in model.parameters())
norms = {f"layer {i}": b.output.LayerNorm for i, b in enumerate(model.encoder.layer)}
parameters = 2 * sum(p.numel() for norm in norms.values() for p in norm.parameters())
print(f"share of parameters: {parameters / everything:.5f}")
kept = {}
hooks = [
    norm.register_forward_pre_hook(lambda _, a, n=name: kept.__setitem__(n, a[0][0]))
    for name, norm in norms.items()
]
with torch.no_grad():
    model(**tokenizer(prose[0], truncation=True, max_length=64, return_tensors="pt"))
for hook in hooks:
    hook.remove()

# %%
worse = {"one scale": [], "per token": []}
print(f"{'':8} greatest, typical token   one scale, dB      per token, dB")
for name, norm in norms.items():
    values = kept[name]  # (L, D)
    peaks = values.abs().amax(1)
    row = [approx(peaks.max(), 20, 400), approx(peaks.median(), 1, 40)]
    for which, axis in [("one scale", None), ("per token", 0)]:
        rough = fake_quantise(values, grid_of(*minmax(values, axis)))
        with torch.no_grad():
            pairs = (values, rough), (norm(values), norm(rough))
        before_norm, behind = (signal_to_noise(*pair) for pair in pairs)
        worse[which].append(behind - before_norm)
        row.append(f"{approx(before_norm, 10, 50)} → {approx(behind, 5, 50)}")
    print(name, *(f"{entry:<{w}}" for entry, w in zip(row, (8, 9, 18, 1), strict=True)))
assert max(worse["one scale"]) < 0
assert np.mean(worse["per token"]) > np.mean(worse["one scale"]) + 2

# %% [markdown]
# With one scale, the ratio of signal to noise is poor before the norm and poorer behind
# it, in every layer. In the first layers a single token carries values thirty or fifty
# times those of the others, a *massive activation* {cite}`sun2024massive`, and sets the
# steps for all. Then the norm divides each token by its own standard deviation: the
# loud token becomes quiet, and the quiet ones become loud, with their error. A scale
# for each token repairs most of that. (Most of our matrices are fed *behind* norms,
# which is one more reason why they bear int8 as well as they do.)
#
# **Softmax** turns differences into factors: an error of half a step in a score
# multiplies a probability by $e^{s/2}$, and the more the range holds, the larger $s$
# is. Worst is the *mask*. A position that must not be seen gets a very negative score,
# $-10{,}000$ in older code. If the scores are quantised with the mask in place, 8 bits
# have to reach from there to the largest real score:

# %%
scores_of = torch.tensor([[4.0, 2.0, 0.0, -1.0, -10_000.0]])
coarse = fake_quantise(scores_of, grid_of(*minmax(scores_of)))
print("step:", round(grid_of(*minmax(scores_of)).scale.item(), 1))
for name, values in {"float": scores_of, "int8": coarse}.items():
    print(f"{name:6}", [round(p, 3) for p in values.softmax(-1)[0].tolist()])
even = torch.full((1, 600), 1 / 600)
print("600 equal probabilities in int8 add up to", end=" ")
print(fake_quantise(even, grid_of(0, 1)).sum().item())
assert coarse[0, :4].unique().numel() == 1

# %% [markdown]
# The four real scores have become one number, and attention an average. The other side
# of the softmax has its own trap: on a grid from 0 to 1 a probability of 1/600 is less
# than half a step, and attention spread over 600 tokens vanishes. (Integer-only
# networks exist {cite}`kim2021ibert`; they replace softmax and norm by functions made
# for integers.)
#
# **Embeddings** are looked up, not multiplied, so there is no time to win. That is a
# reason not to care, and no reason not to do it. They are half of this model's bytes.
# Do they bear int8?

# %%
table = model.embeddings.word_embeddings.weight.detach()  # (V, D)
small = copy.deepcopy(model)
for_rows = grid_of(*minmax(table, 0), symmetric=True)
with torch.no_grad():
    small.embeddings.word_embeddings.weight.copy_(fake_quantise(table, for_rows))
snr = signal_to_noise(table, fake_quantise(table, for_rows))
cosine = (vectors(small) * exact).sum(1)
print(f"share of all parameters: {table.numel() / everything:.3f};", end=" ")
print("SNR", approx(snr, 38, 46, "dB"))
print("1 − cosine of sentence vectors, worst:", approx(1 - cosine.min(), 0, 0.005))
assert 1 - cosine.min() < (1 - cosines["dynamic"].min()) / 5

# %% [markdown]
# They do, and far better than the linear layers did. Leaving the embeddings in floats
# is a default of tools that were made for speed, no law.
#
# ## On a GPU
#
# "It cannot run on a GPU" is a sentence about one tool at one time. PyTorch's old
# dynamic layers call the operator `quantized::linear_dynamic`. An operator has a
# *kernel* (内核), a piece of code, for each kind of device, and there is a table of them.
# The PyTorch of this course was built without GPUs, so that *no* operator has a kernel
# for one here, not even a product of matrices. But there is a device in every build
# that belongs to no hardware: *meta* knows the shapes of tensors and nothing of their
# numbers. Whatever is made of PyTorch's ordinary operations passes through it; what is
# made for one device alone does not. We ask the table for the operator of the old
# layer, and for the product of bytes on which its successor torchao
# {cite}`torchaoinference` is built:

# %%
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
on = {
    operator: [device for device in ("CPU", "Meta") if has_kernel(operator, device)]
    for operator in ("quantized::linear_dynamic", "aten::_int_mm")
}
for operator, devices in on.items():
    print(f"{operator:26}", *devices)

# %% [markdown]
# In PyTorch's source, too, the old operator is registered for the CPU and for nothing
# else {cite}`pytorchqlinear`. torchao calls its schemes configs:

# %%
import torchao.quantization as ao

endings = "WeightConfig", "WeightOnlyConfig"
configs = sorted(name for name in vars(ao) if name.endswith(endings))
print(*configs, sep="\n")
new = nn.Sequential(copy.deepcopy(linear))
ao.quantize_(new, ao.Int8DynamicActivationInt8WeightConfig())
by_torchao = relative(y, new(x))
print("\nint8 of both, relative error:", approx(by_torchao, 0.005, 0.3))
assert by_torchao < 0.02 or not int8_unit_is_exact()
seven = nn.Sequential(copy.deepcopy(linear))
ao.quantize_(seven, ao.Int8DynamicActivationInt8WeightConfig(reduce_range=True))
print("with reduce_range=True:", approx(relative(y, seven(x)), 0.01, 0.03))

# %% [markdown]
# About one per cent, as ours. Where the byte unit saturates (the page before), it is
# more than ten times as much: by default torchao trusts `torch._int_mm`. Its option
# `reduce_range=True` uses 7 bits, as the old layer does, and then the error is two per
# cent everywhere.
#
# Is this layer tied to the processor? Then it would not go through *meta*.

# %%
ghost = x.to("meta")
moved = copy.deepcopy(new).to("meta")
print("torchao on meta:", tuple(moved(ghost).shape), moved(ghost).device)

# %% [markdown]
# Its weight is a tensor like others, and `.to("cuda")` moves it to a GPU; the old layer
# keeps its weight in a packed format that only its own engine can read. That the GPU
# half is real we take from sources. torchao lists int8, int4 and float8 inference for
# NVIDIA's GPUs {cite}`torchaoworkflows`, and the float8 scheme with rounded activations
# asks for a GPU, one of compute capability 8.9 or more if it is NVIDIA's
# {cite}`torchaoinference`. LLM.int8() was written for GPUs, and its library long ran on
# nothing else {cite}`bitsandbytes043`.

# %%
settle(
    "quantization-no-gpu",
    same(on["quantized::linear_dynamic"], ["CPU"]),
    same(on["aten::_int_mm"], ["CPU", "Meta"]),
    raises(NotImplementedError, lambda: theirs(ghost)),
    same(moved(ghost).shape, theirs(x).shape),
    note="ghost: an input on the device meta, which torchao’s layer reads",
)

# %% [markdown]
# ## Where people go wrong
#
# **A batch of one in the test, a batch of many in use.** See above: with one range for
# the batch, padding and neighbours take part in the measurement.
#
# **Calibration that was never done.** PyTorch's observers begin without a range. A
# model that is converted before it has read anything gets a scale of 1 and a zero-point
# of 0, and a warning that is easily lost; its numbers go unsigned from 0 to 255, so
# that everything negative becomes 0 and the rest is rounded to whole numbers. It runs.
# In our code the range is an argument and cannot be forgotten.

# %%
forgotten = through_torch(linear, [])
print("scale", forgotten.quant.scale.item(), "zero-point", end=" ")
print(forgotten.quant.zero_point.item(), end=", ")
print("relative error", approx(relative(y, forgotten(x)), 0.5, 1.2))

# %% [markdown]
# **Trusting the norm too far.** A network without norms slides out of its window when
# the input's units change. One with norms does not, *behind* a norm. What enters the
# first layer, the pixels of a camera or the loudness of a microphone, stands before any
# of them.
#
# ## Exercises
#
# **1. Warm-up: what follows?** For each sentence, True or False. (1) Two static layers
# calibrated on different texts have different int8 weights. (2) In a dynamic layer with
# one range for the batch, a row's output depends on the other rows. (3) In a dynamic
# layer without bias, an input twice as large gives an output exactly twice as large.
# (4) In a static layer too, as long as nothing is clipped. (5) A weight-only layer
# multiplies integers.

# %%
follows = ...  # [True or False, …], five of them
check.follows(follows)

# %% tags=["hide-cell"]
follows = [False, True, True, False, False]
check.follows(follows)

# %% [markdown]
# **2. A moving observer.** Minimum and maximum over all of calibration believe the
# single wildest batch. PyTorch's `MovingAverageMinMaxObserver` keeps a moving average:
# the first batch sets low and high; each later one moves them by a share $c$ of the way
# to its own minimum and maximum. Write `moving_range(batches, c)`, which returns the
# two numbers. The check asks PyTorch.

# %%
moving_range = ...  # def moving_range(batches, c): …
check.moving_range(moving_range)


# %% tags=["hide-cell"]
def moving_range(batches, c):
    low, high = batches[0].min(), batches[0].max()
    for batch in batches[1:]:
        low = low + c * (batch.min() - low)
        high = high + c * (batch.max() - high)
    return low.item(), high.item()


check.moving_range(moving_range)

# %% [markdown]
# **3. For an evening: learn the step.** QAT can train the scale as well, LSQ
# {cite}`esser2020lsq`. Take
# $\hat x = s \cdot \mathrm{round}(\mathrm{clip}(x / s, q_{\min}, q_{\max}))$ and
# differentiate by $s$, with the straight-through lie for the rounding: treat
# $\mathrm{round}(u)$ as having derivative 1, but keep its value. Write
# `step_gradient(x, s, low, high)`, the derivative for each entry of x. Mind that it is
# different inside the range and on either side. Then give `Rounded` above a scale of
# its own and see whether two bits get better.

# %%
step_gradient = ...  # def step_gradient(x, s, low, high): …
check.step_gradient(step_gradient)


# %% tags=["hide-cell"]
def step_gradient(x, s, low, high):
    u = x / s
    inside = (u >= low) & (u <= high)
    return torch.where(inside, u.round() - u, u.clamp(low, high))


check.step_gradient(step_gradient)

# %% [markdown]
# ## In short
#
# All schemes round the weights once. They differ in when the range of the activations
# is known: beforehand, from calibration (static); at each call (dynamic); never, for
# they stay floats (weight-only). A static layer is as good as a dynamic one inside its
# range and fails on both sides of it, by clipping and by coarseness. MiniLM hardly left
# its range: LayerNorm saw to that, and one paragraph sufficed. A dynamic layer follows
# its input and is led astray by the neighbours in the batch, unless each token has its
# own scale. Bytes shrink where weights were quantised; multiplications stay as many;
# accuracy is a matter of outliers. With two bits it pays to train through the rounding,
# with a gradient that is a useful lie. Norms and softmax stay in floats with reason,
# embeddings by habit.
#
# One definition lacked calibration, one said "only the weights" where both are rounded,
# one promise depends, and "no GPU" is out of date. What all of this does to a whole
# BERT, in bytes, seconds and accuracy: [BERT in int8](03_bert_in_int8).
