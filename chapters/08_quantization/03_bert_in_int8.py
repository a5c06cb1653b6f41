# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # BERT in int8
#
# "Size shrinks by more than half, speed doubles." Two numbers, one line of code. The
# line still runs. This page runs it, on the real weights of a small BERT and on the
# shape of the large one, and asks of each number: of what, and when? At the end of this
# page you can
#
# - predict the size of a quantised file to a per cent, before you make it;
# - say why int8 is slower than float for a small layer, and faster for a large one;
# - measure what a smaller model has lost, on a task;
# - run the notes' script in the form of today, and say what the new library gains.
#
# You need [int8 arithmetic](01_int8_arithmetic) and [static and
# dynamic](02_static_and_dynamic).

# %% tags=["hide-input"]
import io
import warnings

import numpy as np
import torch
from torch import nn

from utils import quantization
from utils.encoders import Encoder, embed, quality, spearman, tokenised
from utils.exercises import bert_int8 as check
from utils.lab import (
    above,
    approx,
    below,
    close,
    datasets,
    deprecated,
    notes_say,
    pretrained,
    records,
    same,
    settle,
    settle_all,
)
from utils.lab.figures import COLOURS, plt
from utils.lab.timing import ratio

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "quantization-size-halved",
    "quantization-speed-doubled",
    "quantization-api-code",
    "quantization-code-logits",
    "quantization-size-measurement",
    "quantization-timing-method",
)

# %% [markdown]
# ## By hand: how small can it get?
#
# A model has $N$ numbers of four bytes each. Of these, $M$ are the weights of Linear
# layers. They become bytes; everything else, embeddings, biases, norms, stays as it is.
# So the file shrinks to
#
# $$
# \frac{M + 4 (N - M)}{4 N} = 1 - \frac{3}{4} \cdot \frac{M}{N}
# $$ (eq-int8-size)
#
# of its size. It is a quarter if all is Linear, and three quarters if a third is. What
# is $M / N$ for BERT? Its layers hold $12 D^2$ weights each, its table $V D$ numbers.
# With $D = 768$ and $V = 21{,}128$, as in bert-base-chinese:

# %%
D, V = 768, 21_128
for layers in (4, 12):
    M = layers * 12 * D**2 + D**2  # and the pooler
    N = M + V * D + 512 * D + 2 * D + 2 * D  # tables, and the norm behind them
    N += layers * (9 * D + 4 * D) + D  # biases and norms
    print(f"{layers:2} layers: N = {N:,}, M = {M:,}, file × {1 - 0.75 * M / N:.3f}")

# %% [markdown]
# Twelve layers: to 0.37, more than halved. Four layers with the same table: 0.52, and
# the notes' sentence is false. What does not shrink is the table of a Chinese
# vocabulary; the smaller the model, the larger its share.
#
# ## The notes' call
#
# `torch.quantization.quantize_dynamic` is still there, and warns. We run it on a BERT
# of four layers of BERT-base's width with random weights, and on MiniLM
# {cite}`wang2020minilm` with its real ones.

# %%
model, tokenizer = pretrained.encoder()

from transformers import BertConfig, BertModel


def random_bert(layers):
    """The shape of bert-base-chinese with `layers` layers and random weights."""
    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=V, num_hidden_layers=layers)).eval()


def old_call(model):
    """The notes' call, word for word."""
    return torch.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


four = random_bert(4)
with deprecated(DeprecationWarning):
    four_int8, mini_int8 = old_call(four), old_call(model)
replacement = type(four_int8.encoder.layer[0].output.dense)
print("in the place of nn.Linear:", replacement.__module__)


# %%
def file_size(model):
    """Bytes of a saved state_dict."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def predicted(model):
    """The share of its size to which int8 shrinks a model, by the formula."""
    linear = {
        id(m.weight): m.weight.numel() for m in model.modules() if type(m) is nn.Linear
    }
    total = sum(p.numel() for p in model.parameters())
    return 1 - 0.75 * sum(linear.values()) / total


# %%
measured = {
    "four layers": (file_size(four_int8) / file_size(four), predicted(four)),
    "MiniLM": (file_size(mini_int8) / file_size(model), predicted(model)),
}
record = records.read("bert_int8")["samples"]
with torch.device("meta"):  # twelve layers, without their 400 MB
    base = BertModel(BertConfig(vocab_size=V))
sizes = record["bytes"]["BERT-base"]
measured["BERT-base, from the record"] = (
    sizes["torch int8"] / sizes["float32"],
    predicted(base),
)
for name, (found, formula) in measured.items():
    print(f"{name:27} measured {found:.3f}, by the formula {formula:.3f}")

# %% mystnb={"figure": {"caption": "Where the bytes are, before and after. Tables and the rest stay as they are; only Linear weights shrink, to a quarter.", "name": "fig-bytes"}, "image": {"alt": "Six stacked bars in three pairs. In BERT-base most of the first bar is Linear weights, and its second bar is little more than a third. In MiniLM the table is half, in the model of four layers more than a third; both second bars are above half of the first."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.9))
row, labels = 0, []
for title, net in {"BERT-base": base, "four layers": four, "MiniLM": model}.items():
    linear = sum(m.weight.numel() for m in net.modules() if type(m) is nn.Linear)
    table = sum(m.weight.numel() for m in net.modules() if type(m) is nn.Embedding)
    rest = sum(p.numel() for p in net.parameters()) - linear - table
    for kind, width in [("float32", 4), ("int8", 1)]:
        parts, left = (4 * table / 1e6, 4 * rest / 1e6, width * linear / 1e6), 0
        for part, colour in zip(parts, ["grey", "purple", "sky"], strict=True):
            ax.barh(row, part, left=left, color=COLOURS[colour])
            left += part
        labels.append(f"{title}, {kind}")
        row += 1
ax.set_yticks(range(row), labels, size=8)
ax.invert_yaxis()
ax.set_xlabel("MB: tables (grey), biases and norms (purple), Linear weights (blue)")
plt.show()

# %%
(four_file, four_formula), (mini_file, mini_formula) = [*measured.values()][:2]
base_file, base_formula = [*measured.values()][2]
raw = sum(t.numel() * t.element_size() for t in four.state_dict().values())
settle(
    "quantization-size-halved",
    close(four_file, four_formula, 0.01),
    close(mini_file, mini_formula, 0.01),
    close(base_file, base_formula, 0.01),
    above(four_file, 0.5),
    below(base_file, 0.5),
)

# %% [markdown]
# ## What the script prints
#
# After quantising, the notes print `out.logits`. Which outputs does an AutoModel have?
# And what does the plain call leave behind?

# %%
sentences = ["那些坚持996的员工最后会猝死么?", "中国高铁怎么样?"]
first, second = (tokenizer(s, return_tensors="pt") for s in sentences)
out = model(**first)
with torch.inference_mode():
    quiet_out = model(**first)
print("outputs:", [*out.keys()])
runs = record["first"].values()
slow_first = [run[0] / min(run[1:]) for run in runs]
print("first call ÷ least of thirty:", *(approx(r, 0.9, 100) for r in slow_first))

# %% mystnb={"figure": {"caption": "Five fresh copies of MiniLM, 31 calls each, from the record; the first call in red. A single call may be any of these dots.", "name": "fig-first-calls"}, "image": {"alt": "Five rows of dots on an axis of milliseconds. Most dots of a row lie together; the red one is far to the right in one row and amid or near the others in most."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.0, 2.3))
for row, run in enumerate(runs):
    ax.plot(1000 * np.array(run[1:]), [row] * 30, ".", color=COLOURS["blue"], alpha=0.5)
    ax.plot(1000 * run[0], row, "o", color=COLOURS["vermilion"])
ax.set(xlabel="milliseconds", yticks=range(5), ylabel="copy")
plt.show()

# %%
settle_all(
    {
        "quantization-code-logits": [
            same([*out.keys()], ["last_hidden_state", "pooler_output"]),
            same(hasattr(out, "logits"), False),
        ],
        "quantization-size-measurement": [
            below(abs(file_size(four) / raw - 1), 0.02),
        ],
        "quantization-timing-method": [
            same(out.last_hidden_state.requires_grad, True),
            same(quiet_out.last_hidden_state.requires_grad, False),
            above(first["input_ids"].shape[1], second["input_ids"].shape[1]),
            above(max(max(run) / min(run) for run in runs), 1.2),
        ],
    }
)

# %% [markdown]
# The script times one sentence for the float model and another, shorter one, for int8.
# Its second clock also holds the tokeniser and three prints, and the third, of the
# logits, stops the script before the time is read. How it is done properly is on
# [one scoreboard](../09_onnx/03_one_scoreboard).
#
# ## Speed: for whom?
#
# An int8 product is cheaper than a float one where the processor multiplies bytes four
# at a time. Before it, however, the activations must be measured and rounded, and after
# it the integers turned back: a cost for each call, and one in proportion to the
# *activations*, $B L D$, while the product costs $B L D^2$. So where there is little to
# multiply, few rows and a narrow layer, int8 loses.


# %%
gain = {name: ratio(s, "float32", "int8") for name, s in record["layers"].items()}
for name, three in gain.items():
    middle, low, high = (approx(r, 0.05, 20) for r in three)
    size, rows = name.split(", ")
    print(
        f"four Linears of {size}, rows {rows:>4}: int8 {middle} times as fast", end=" "
    )
    print(f"({low} to {high})")

# %%
for name, seconds in record["models"].items():
    for way in ("torch int8", "ours", "torchao int8", "torchao, compiled"):
        middle, low, high = (
            approx(r, 0.01, 20) for r in ratio(seconds, "float32", way)
        )
        print(f"{name:14} tokens, {way:17} {middle} times as fast ({low} to {high})")

# %% mystnb={"figure": {"caption": "Times as fast as float32 on one thread, from the record: two encoders at two lengths, four ways to compute in int8. The line is no gain.", "name": "fig-int8-speed"}, "image": {"alt": "Four groups of four bars on a logarithmic axis. PyTorch\u2019s old int8 is the highest or nearly so. Ours is lower and above one everywhere. torchao\u2019s is below one for short texts of MiniLM, about one for short texts of BERT-base and above it for long ones; compiled it lies between half of the old one and all of it."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.6, 3.1))
looks = {"torch int8": "sky", "ours": "green", "torchao int8": "vermilion"}
looks["torchao, compiled"] = "orange"
for group, seconds in enumerate(record["models"].values()):
    for k, (way, colour) in enumerate(looks.items()):
        middle, low, high = ratio(seconds, "float32", way)
        label = way if group == 0 else None
        ax.bar(group + 0.2 * k, middle, 0.18, color=COLOURS[colour], label=label)
        ax.plot([group + 0.2 * k] * 2, [low, high], color="black", lw=1)
ax.axhline(1, color="black", lw=0.8)
ax.set(yscale="log", ylabel="times as fast as float32")
ax.set_yticks([0.5, 1, 2, 4], [0.5, 1, 2, 4])
ax.minorticks_off()
ax.set_xticks(
    np.arange(4) + 0.3, [f"{name} tokens" for name in record["models"]], size=8
)
ax.legend(
    fontsize=8, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15)
)
plt.show()

# %%
small_layer, large_layer = gain["64 × 64, 1"], gain["768 × 768, 16"]
base_bert = ratio(record["models"]["BERT-base, 18"], "float32", "torch int8")
settle(
    "quantization-speed-doubled",
    below(small_layer[2], 0.9),
    above(large_layer[1], 2),
    above(base_bert[1], 2),
    note="ends of 95% intervals of float32's time over int8's, from the record",
)

# %% [markdown]
# The same call loses on small layers and few rows, and wins on large ones. On a whole
# BERT of this width it is worth a factor of two and more: for a single token mostly
# because weights have to be fetched, and a quarter of the bytes is a quarter of the
# way; for more because the processor multiplies bytes faster than floats, if it can.
#
# ## The call of today
#
# PyTorch has moved quantization to *torchao* {cite}`torchao`, and the warning says so.
# There the call is `quantize_(model, Int8DynamicActivationInt8WeightConfig())`. It does
# the same arithmetic, with a scale for each row of the weights and each token, in
# several steps that `torch.compile` is meant to fuse. Uncompiled on a CPU it is the
# slowest, and for short texts of MiniLM slower than no quantization at all; compiled it
# has from half of the old call's factor to all of it. How much depends on the
# processor. Here is the same code on the same machine, without its instructions for
# int8 products (VNNI):

# %%
for name, seconds in record["without int8 instructions"].items():
    told = [f"{name} tokens, without int8 instructions:"]
    for way in ("torch int8", "ours", "torchao int8", "torchao, compiled"):
        told.append(f"{way} {approx(ratio(seconds, 'float32', way)[0], 0.01, 20)}")
    print(*told)

# %% [markdown]
# The old call and the compiled one lose a quarter on the long text and nothing on the
# short one; ours, which then multiplies in float32, falls below one. New is not faster
# by itself: whoever needs int8 on a CPU today measures first, and looks at onnxruntime
# ([one scoreboard](../09_onnx/03_one_scoreboard)).

# %%
import copy

from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

new_int8 = copy.deepcopy(model)
quantize_(new_int8, Int8DynamicActivationInt8WeightConfig())
text = tokenised(["The bridge over the river is closed."])
vectors = {}
for name, net in {"float32": model, "old call": mini_int8, "torchao": new_int8}.items():
    with torch.inference_mode():
        vectors[name] = net(**text).last_hidden_state[0]
nearness = {}
for name in ("old call", "torchao"):
    cosines = torch.cosine_similarity(vectors[name], vectors["float32"], dim=-1)
    nearness[name] = cosines.mean().item()
    print(f"{name:9} cosine of token vectors:", approx(nearness[name], 0.5, 1.0001))

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    again = old_call(nn.Sequential(nn.Linear(8, 8)))
told = [str(w.message) for w in caught if w.category is DeprecationWarning]
print(told[0].splitlines()[0])
settle(
    "quantization-api-code",
    same(again[0].weight().dtype, torch.qint8),
    same(any("torchao" in message for message in told), True),
    above(nearness["torchao"], 0.98),
    below(file_size(mini_int8), 0.7 * file_size(model)),
    note="told: what the old call warns of; then the new one's outputs",
)

# %% [markdown]
# ## What has been lost
#
# The real weights tell. MiniLM, live, on the course's two tasks: 216 pairs of sentences
# with grades of similarity, and 60 questions with a passage each. Four versions:
# float32; the old call, with one scale for a weight matrix and seven bits for the
# activations; ours, with one scale and eight bits; and ours with one scale for each
# output channel.

# %%
per_channel = quantization.quantise_model(
    model, lambda name, linear: quantization.DynamicLinear(linear, per_channel=True)
)
one_scale = quantization.quantise_model(
    model, lambda name, linear: quantization.DynamicLinear(linear)
)
versions = {"float32": model, "old call": mini_int8, "one scale": one_scale}
versions["by channel"] = per_channel
grades = [pair.grade for pair in datasets.pairs()]
found = {}
for name, net in versions.items():
    module = Encoder(net).eval()
    with torch.inference_mode():
        found[name] = quality(lambda b, m=module: m(**b))
    rho = spearman(found[name]["cosine"], grades)
    first = np.mean(np.array(found[name]["place"]) == 1)
    print(f"{name:11} pairs {approx(rho, 0.7, 0.95)}, first {approx(first, 0.4, 0.95)}")

# %%
rng = np.random.default_rng(0)
base_cosine = np.array(found["float32"]["cosine"])
moves = {}
for name in ("old call", "one scale", "by channel"):
    cosine = np.array(found[name]["cosine"])
    error = np.abs(cosine - base_cosine)
    moves[name] = error.mean()
    drawn = [
        spearman(cosine[d], np.array(grades)[d])
        - spearman(base_cosine[d], np.array(grades)[d])
        for d in rng.integers(216, size=(1000, 216))
    ]
    low, high = (approx(q, -0.2, 0.2) for q in np.quantile(drawn, [0.025, 0.975]))
    print(f"{name:11} similarities move by {approx(error.mean(), 0, 0.3)};", end=" ")
    print(f"rank correlation by {low} to {high}")
assert moves["old call"] > 1.1 * moves["one scale"] > 1.5 * moves["by channel"]

# %% mystnb={"figure": {"caption": "Each pair of sentences: its similarity in float32, and how far int8 moves it. One scale for a matrix (left) moves some pairs by a tenth; one for each channel (right) about half as far. Both have eight bits for the activations.", "name": "fig-moved"}, "image": {"alt": "Two clouds of dots around a horizontal line at zero. The left one is about twice as wide as the right one."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.7), sharey=True)
for ax, name in zip(axes, ("one scale", "by channel"), strict=True):
    ax.plot(base_cosine, np.array(found[name]["cosine"]) - base_cosine, ".", ms=4)
    ax.axhline(0, color="black", lw=0.8)
    ax.set(title=name, xlabel="similarity in float32")
axes[0].set_ylabel("moved by")
plt.show()

# %% [markdown]
# Similarities move, and their *order* hardly does. A search, which only sorts, notices
# less than a rule with a fixed threshold would. Of what the old call moves, about a
# quarter goes with the eighth bit of the activations, and four tenths more with scales
# by channel. A good part of the rest of the error comes from one matrix, the one with
# the outlier of [int8 arithmetic](01_int8_arithmetic). How much?

# %%
outlier = "encoder.layer.0.output.dense"
spared = quantization.quantise_model(
    model,
    lambda name, linear: (
        None if name == outlier else quantization.DynamicLinear(linear)
    ),
)
lines = [pair.first for pair in datasets.pairs()][:60]
with torch.inference_mode():
    reference = embed(lambda b: Encoder(model)(**b), lines)
    for name, net in [("all 37 in int8", one_scale), ("all but one", spared)]:
        vectors = embed(lambda b, n=net: Encoder(n)(**b), lines)
        error = 1 - (vectors * reference).sum(1).mean()
        print(f"{name:15} 1 − cosine of sentence vectors:", approx(error, 0, 0.3))

# %% [markdown]
# Two fifths of the error, for one layer of 37 left in float. That is what practitioners
# call *mixed precision* (混合精度), and a sensitivity scan, one layer at a time, finds
# where it pays.
#
# ## Where people go wrong
#
# **The wrong size.** A file is one size, memory while running another: activations stay
# float, and torch may keep a packed copy of the weights. Say which you mean.
#
# **Nothing was quantised.** `quantize_dynamic` replaces modules whose type is *exactly*
# in the set. A subclass of nn.Linear, such as the last one in PyTorch's own
# MultiheadAttention, stays float, in silence. Count:

# %%
replaced = sum(
    isinstance(m, torch.ao.nn.quantized.dynamic.Linear) for m in mini_int8.modules()
)
linear = sum(type(m) is nn.Linear for m in model.modules())
print(f"MiniLM: {linear} Linears, {replaced} replaced")
assert replaced == linear
with deprecated(DeprecationWarning):
    attention = old_call(nn.MultiheadAttention(8, 2))
print("MultiheadAttention's:", type(attention.out_proj).__name__)
assert isinstance(attention.out_proj, nn.Linear)

# %% [markdown]
# **Quantised, then trained.** The int8 model has no gradients. Fine-tune first,
# quantise last, or train with the rounding in place
# ([static and dynamic](02_static_and_dynamic)).
#
# ## Exercises
#
# **1. Warm-up.** Write `shrunk(N, M, bits)`: the share of its size to which a float32
# model with $N$ numbers shrinks if $M$ of them are kept in `bits` bits.

# %%
shrunk = ...  # def shrunk(N, M, bits): …
check.shrunk(shrunk)


# %% tags=["hide-cell"]
def shrunk(N, M, bits):
    return (bits * M + 32 * (N - M)) / (32 * N)


check.shrunk(shrunk)

# %% [markdown]
# **2. What if the table shrinks, too?** For BERT-base's shape ($D$, $V$ and 12 layers
# as above), write `tables(V, D, layers)`: the share to which the file shrinks with int8
# Linears *and* int8 tables (of $V$, 512 and 2 rows). Biases and norms stay.

# %%
tables = ...  # def tables(V, D, layers): …
check.tables(tables)


# %% tags=["hide-cell"]
def tables(V, D, layers):
    small = layers * 12 * D**2 + D**2 + (V + 512 + 2) * D
    rest = layers * 13 * D + D + 2 * D
    return (small + 4 * rest) / (4 * (small + rest))


check.tables(tables)

# %% [markdown]
# **3. For an evening: a sensitivity scan.** For which single layer does leaving it in
# float help the sentence vectors most? And the next? Write a loop over
# `quantization.linears(model)` with `embed`, as above, and draw the curve: error
# against the number of layers left in float, best first. There is no check: the plot is
# the answer. What share of the parameters buys half of the loss?
#
# ## In short
#
# A quantised file is as small as its share of Linear weights lets it: 0.37 for
# BERT-base, above a half for small models with large tables. Speed gains with width and
# loses on small layers; on a whole BERT it is a factor of two and more with the old
# library, and the
# new one has from half of it to all, if it is compiled. Similarities move, their
# order hardly; two fifths of the error is one outlier's, and a scale for each channel
# halves the movement.
#
# The same model, out of Python: [export](../09_onnx/01_export).
