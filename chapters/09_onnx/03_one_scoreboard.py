# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One scoreboard
#
# "On the CPU it is three times faster." Than what, at which length, and does it still
# answer right? The notes have one number, taken from one call. This page has a table:
# one encoder, run in eight ways, with its size, its seconds by length and batch, its
# errors, the *work* that it still does, and what it took to get there. At the end of
# this page you can
#
# - time two programs so that the ratio means something, and spot the five ways in which
#   it does not;
# - say on which side of a factor of three your own model will fall, and why;
# - judge a smaller model by a task and not by its weights;
# - compute after how many calls an optimisation has paid for itself.
#
# You need [the runtime](02_the_runtime).

# %% tags=["hide-input"]
import copy
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from utils import onnx
from utils.encoders import Encoder, quality, spearman, tokenised
from utils.exercises import onnx as check
from utils.lab import (
    above,
    approx,
    below,
    datasets,
    notes_say,
    pretrained,
    records,
    settle,
)
from utils.lab.figures import COLOURS, plt
from utils.lab.timing import ratio

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("onnx-three-times")

# %% [markdown]
# ## By hand: the wrong way, and the right one
#
# The script reads the clock, calls the model, reads it again; then it does the same
# with the other model, once. That has three faults; the half of it that quantises has a
# fourth, and the fifth is common elsewhere.
#
# 1. **One call** (单次调用). The first call of anything fetches code and memory. What one
#    wants is the hundredth.
# 2. **No taking turns.** A computer has moods. If A runs in a quiet minute and B in a
#    busy one, the clock compares minutes.
# 3. **Gradients on.** `model(x)` records what a backward pass would need. Nobody will
#    ask for it.
# 4. **Different work.** Two sentences, two lengths; in the one case with tokenising and
#    printing, in the other without.
# 5. **Unequal means.** One library on all cores, the other on one.
#
# The right way (`measure`, which this course has used since its first chapter): warm
# up, take turns, many rounds, one thread each, the same batch, no gradients; then
# compare *within* rounds. Here is the script's way, a fresh copy of the model and a
# fresh session, one thread each, twenty times over, on MiniLM:

# %%
model, _ = pretrained.encoder()
encoder = Encoder(model).eval()
lines = [s.en for s in datasets.sentences()]
folder = Path(tempfile.mkdtemp())
dynamic = {n: {0: "batch", 1: "length"} for n in ("input_ids", "attention_mask")}
file = onnx.export(encoder, tokenised(lines[:2]), folder / "e.onnx", dynamic, ["h"])
batch = tokenised(lines[:1])
arrays = {name: value.numpy() for name, value in batch.items()}


def naive():
    """The notes' ratio: a new model, a new session, one call each."""
    fresh, session = copy.deepcopy(encoder), onnx.session(file)
    start = time.perf_counter()
    fresh(**batch)
    torch_took = time.perf_counter() - start
    start = time.perf_counter()
    session.run(None, arrays)
    return torch_took / (time.perf_counter() - start)


torch.set_num_threads(1)
ratios = [naive() for _ in range(20)]
print("records a graph for gradients:", encoder(**batch).requires_grad)
print("twenty times the notes' way:", approx(min(ratios), 1e-3, 1e5), end=" to ")
print(approx(max(ratios), 1e-3, 1e6))

# %% [markdown]
# Any of these could have stood in the notes.
#
# ## The record
#
# From here on the seconds come from a record that `make bench` writes: all runs kept,
# eight candidates in turn, 25 rounds, one thread, onnxruntime's spinning off. On this
# processor:

# %%
record = records.read("onnx_scoreboard")
board = record["samples"]
ways = list(board["latency"]["1×16"])
print(record["processor"])
libraries = {"torch": record["versions"]["torch"]} | board["versions"]
print(*(f"{name} {version}" for name, version in libraries.items()), sep=" · ")
exact = "with" if board["int8 instructions"] else "without"
print(record["threads"], "thread,", exact, "instructions for products of bytes")
print(*ways, sep=" · ")


def best(shape, way):
    """The least milliseconds of a way on a shape, "batch×length"."""
    return 1000 * min(board["latency"][shape][way])


# %% [markdown]
# *Eager* is PyTorch under `inference_mode`, with its own fused attention: the fair
# opponent. *torch int8* is the notes' `quantize_dynamic`.

# %% mystnb={"figure": {"caption": "Milliseconds for one sentence by its length, the least of 25 runs, both axes logarithmic. All ways do the same multiplications.", "name": "fig-latency"}, "image": {"alt": "Seven rising lines from 8 to 128 tokens. Eager PyTorch is highest; ONNX Runtime in float32 starts well below it and comes near it at 128 tokens; the int8 lines of ONNX Runtime are lowest, and PyTorch's int8 comes near them at 128 tokens."}} tags=["hide-input"]
lengths = [8, 16, 32, 64, 128]
looks = {
    "eager, gradients on": ("grey", ":"),
    "eager": ("grey", "-"),
    "torch.compile": ("purple", "-."),
    "torch int8, dynamic": ("orange", "--"),
    "ORT float32": ("blue", "-"),
    "ORT int8, dynamic, by channel": ("green", "--"),
    "ORT int8, static, by channel": ("vermilion", "-."),
}
figure, ax = plt.subplots(figsize=(6.6, 3.9))
for way, (colour, dash) in looks.items():
    curve = [best(f"1×{length}", way) for length in lengths]
    ax.plot(lengths, curve, dash, marker="o", ms=3, color=COLOURS[colour], label=way)
ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel="milliseconds")
ax.set_xticks(lengths, lengths)
ax.set_yticks([2, 5, 10, 20, 40], [2, 5, 10, 20, 40])
ax.minorticks_off()
ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
plt.show()

# %%
shapes = ["1×16", "1×128", "8×64"]
print(f"{'ms':30}", *(f"{shape:>9}" for shape in shapes), "       MB")
for way in ways:
    cells = (f"{approx(best(shape, way), 0.1, 9999):>9}" for shape in shapes)
    print(f"{way:30}", *cells, f"{board['bytes'].get(way, 0) / 1e6:9.1f}")

# %% [markdown]
# Read the columns from left to right. At 16 tokens the ways differ by far more than at 128.
# Is it the microseconds of Python that PyTorch spends on each operator before anything
# is multiplied? The record has a control: the 36 matrix products of the layers, by
# themselves, with nothing around them.

# %%
for length, seconds in board["products alone"].items():
    told = (f"{n} {approx(1000 * min(s), 0.5, 900)}" for n, s in seconds.items())
    print(f"{length:>3} tokens, ms:", ", ".join(told))
alone = board["products alone"]["16"]
assert min(alone["Linears"]) > min(alone["ORT float32"])

# %% [markdown]
# Two things make the difference, then, and the smaller one is overhead: it is nearly
# all for a tiny model, and a part here, of which `torch.compile` saves some. The larger
# one is the product itself. With a matrix of 16 rows the two libraries' kernels are far
# apart: PyTorch's products alone take longer than the
# whole of onnxruntime's run. With 128 rows they are close. (And in a batch of eight the
# old int8 of PyTorch is ahead of the runtime's.)
#
# ## Three times?
#
# So the factor is no number but a function, of width *and* length. The same measurement
# for seven encoders with two layers and random weights (speed does not depend on what
# the weights are):

# %% mystnb={"figure": {"caption": "How many times longer eager PyTorch takes than ONNX Runtime, both in float32 on one thread, for seven encoders, by the length of the text and the width of the model; median and 95% interval.", "name": "fig-three-times"}, "image": {"alt": "Seven points over the number of tokens. The one of width 64 with 8 tokens lies above a dashed line at three. From 16 to 128 tokens three lines fall, for widths 128, 384 and 768, the narrower the higher, to between one and two."}} tags=["hide-input"]
curve = {
    tuple(map(int, name.split(","))): ratio(seconds, "eager", "ORT")
    for name, seconds in board["three times"].items()
}
figure, ax = plt.subplots(figsize=(5.4, 3.1))
widths = dict.fromkeys(width for width, _ in curve)
for width, hue in zip(widths, ["orange", "green", "sky", "blue"], strict=True):
    points = {length: curve[w, length] for w, length in curve if w == width}
    for length, (_, low, high) in points.items():
        ax.plot([length] * 2, [low, high], color=COLOURS["grey"], lw=2)
    middles = [middle for middle, _, _ in points.values()]
    ax.plot([*points], middles, "o-", color=COLOURS[hue])
    place = [*points][0] * 0.88, middles[0]
    ax.text(*place, f"width {width}", size=8, ha="right", va="center")
ax.axhline(3, color=COLOURS["vermilion"], ls="--", lw=1)
ax.set(xscale="log", xlabel="tokens", ylabel="times slower", xlim=(4, 160))
ax.set_xticks([8, 16, 32, 64, 128], [8, 16, 32, 64, 128])
ax.minorticks_off()
ax.set(ylim=(0, None))
plt.show()

# %%
for shape, three in curve.items():
    middle, low, high = (approx(r, 0.3, 30) for r in three)
    print("width {}, {} tokens:".format(*shape), f"{middle} ({low} to {high})")
live = onnx.compare(onnx.session(file), encoder, [tokenised(lines[:8])])[0]
settle(
    "onnx-three-times",
    above(curve[64, 8][1], 3),
    below(curve[768, 128][2], 2),
    below(curve[768, 128][2] / curve[768, 16][1], 0.9),
    below(curve[768, 16][2] / curve[128, 16][1], 0.9),
    below(live, 1e-4),
    note="ends of the intervals, from the record; live: outputs on eight sentences",
)

# %% [markdown]
# BERT-base is 768 wide. On this processor and one thread the notes' three belongs to
# narrower models and shorter texts than theirs.
#
# ## Does it still do its work?
#
# A model in int8 gives other numbers. Whether that matters, a task must say. The course
# has two small ones, in English, written for it: 216 pairs of sentences with grades of
# similarity from 0 to 5, and 60 questions with a passage for each. For the pairs we
# take the *rank correlation* (秩相关) of cosine and grade, for the questions the share
# whose own passage comes first. Live, for the float32 file and one in int8:

# %%
grades = [pair.grade for pair in datasets.pairs()]
small = onnx.quantise_dynamic(file, folder / "small.onnx", False, embeddings=True)


def scores(found):
    """Rank correlation on the pairs, share of questions answered first."""
    return spearman(found["cosine"], grades), np.mean(np.array(found["place"]) == 1)


for name, path in [("float32", file), ("int8, one scale a matrix", small)]:
    session = onnx.session(path)
    rho, first = scores(quality(lambda b, s=session: onnx.run(s, b)["h"]))
    told = f"pairs {approx(rho, 0.5, 0.99)}, questions {approx(first, 0.2, 0.99)}"
    print(f"{name:25} {told}")

# %% [markdown]
# The record has all eight. With 216 pairs and 60 questions a small difference can be
# chance, so we draw both sets again, with replacement, a thousand times, *the same draw
# for all ways*, and look at the difference from float32.

# %%
rng = np.random.default_rng(0)
draws = {n: rng.integers(n, size=(1000, n)) for n in (216, 60)}


def lost(way):
    """Differences from eager on both tasks: the value, and its interval of 95%."""
    found, base = board["quality"][way], board["quality"]["eager"]
    graded = np.array(grades)
    cosine, cosine_base = np.array(found["cosine"]), np.array(base["cosine"])
    place, place_base = np.array(found["place"]) == 1, np.array(base["place"]) == 1
    pairs = [
        spearman(cosine[d], graded[d]) - spearman(cosine_base[d], graded[d])
        for d in draws[216]
    ]
    asked = [place[d].mean() - place_base[d].mean() for d in draws[60]]
    ends = [np.quantile(x, [0.025, 0.975]) for x in (pairs, asked)]
    values = np.subtract(scores(found), scores(base))
    return list(zip(values, ends, strict=True))


losses = {way: lost(way) for way in ways if "int8" in way}
for way, tasks in losses.items():
    for task, (value, (low, high)) in zip(("pairs", "questions"), tasks, strict=True):
        told = [approx(x, -0.9, 0.3) for x in (value, low, high)]
        print(f"{way:30} {task:9} {told[0]} ({told[1]} to {told[2]})")

# %% mystnb={"figure": {"caption": "The scoreboard at a glance: milliseconds for one sentence of 16 tokens against the share of questions answered first; the area of a mark is the size of the file. Left is faster, up is better.", "name": "fig-scoreboard"}, "image": {"alt": "Eight marks. Large ones for float32 at one height, from slow eager PyTorch on the right to ONNX Runtime; four smaller ones for int8 further left, three above that height and one below, all within chance of it."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.6, 3.7))
for way in ways:
    _, first = scores(board["quality"][way])
    size = board["bytes"].get(way, 0) / 1e6
    colour = COLOURS["vermilion" if "int8" in way else "blue"]
    ax.scatter(best("1×16", way), first, s=6 * size, color=colour, alpha=0.5)
    above_it = "dynamic" in way or way == "eager"
    rise = -34 if "gradients" in way else 14 if above_it else -22
    place = (best("1×16", way), first)
    style = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5}
    ax.annotate(way, place, (0, rise), **style)
ax.set(xscale="log", xlabel="milliseconds", ylabel="questions answered first")
ax.margins(x=0.2, y=0.35)
ax.set_xticks([2, 3, 5, 10], [2, 3, 5, 10])
ax.minorticks_off()
plt.show()

# %% [markdown]
# No int8 way loses so much that these test sets can see it: every interval reaches
# zero. That is not the same as losing nothing. The intervals say how much *may* have
# been lost, some hundredths of a rank correlation, some questions of sixty; to see
# less, one needs more pairs. The outputs, meanwhile, have moved a good deal: most of
# all in the static file, whose ranges of activations were fixed beforehand; among the
# dynamic ones more with one scale for a matrix than with one for a channel, for the
# reason in [int8 arithmetic](../08_quantization/01_int8_arithmetic).

# %%
spread = {
    way: np.abs(
        np.subtract(
            board["quality"][way]["cosine"], board["quality"]["eager"]["cosine"]
        )
    ).mean()
    for way in losses
}
for way, moved in spread.items():
    print(f"{way:30} similarities move by {approx(moved, 0, 0.2)}")
assert spread["ORT int8, dynamic, by channel"] < spread["ORT int8, dynamic"]

# %% [markdown]
# ## What it costs to be fast
#
# Exporting takes seconds, compiling half a minute and more. If making a way takes $T$
# seconds and each call saves $t$, it has paid for itself after $T / t$ calls.

# %%
for way in ways:
    taken, saved = board["made in"][way], best("1×16", "eager") - best("1×16", way)
    if taken and saved > 0:
        calls = 1000 * taken / saved
        print(f"{way:30} {approx(taken, 0, 2000, 's'):>8} to make, paid after", end=" ")
        print(approx(calls, 1, 1e7), "calls")

# %% [markdown]
# `torch.compile` stays in Python and needs a C++ compiler on the computer on which it
# runs; an ONNX file needs neither.
#
# ## Where people go wrong
#
# **A speed without a length.** Nearly every number of this page doubles or halves with
# the length of a text. Quote a curve, or the length.
#
# **Padding counted as work.** A batch of eight sentences is as long as its longest.
# Sort by length before you batch, in production and in the benchmark.
#
# **Quality from the weights.** "The error of the weights is tiny" says nothing about a
# task. The outputs of the worst way of this page are far from float32's, and it still
# answers most questions.
#
# **Quality without an interval.** One question more or less of 60 is nearly two per
# cent.
#
# **Another processor.** int8 is fast where the processor has instructions for it (VNNI,
# AMX). On an old one it can be slower than float32. A record says where it was made;
# yours will differ, and `make bench` writes it.
#
# ## Exercises
#
# **1. Warm-up.** Write `speedup(a, b)` for two lists of seconds, taken in turn: the
# median of the ratios $a_i / b_i$. Why not the ratio of the means?

# %%
speedup = ...  # def speedup(a, b): …
check.speedup(speedup)


# %% tags=["hide-cell"]
def speedup(a, b):
    return np.median(np.array(a) / np.array(b))


check.speedup(speedup)

# %% [markdown]
# **2. Padding.** Write `with_padding(lengths, size)`: how many tokens go through the
# model when sentences of these lengths are batched in the given order, `size` at a
# time, each batch padded to its longest. Sort first, and compare.

# %%
with_padding = ...  # def with_padding(lengths, size): …
check.with_padding(with_padding)


# %% tags=["hide-cell"]
def with_padding(lengths, size):
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in batches)


check.with_padding(with_padding)
some = [pair.first for pair in datasets.pairs()][:80]
tokens = [tokenised([line])["input_ids"].shape[1] for line in some]
print(
    "as they come",
    with_padding(tokens, 8),
    "sorted",
    with_padding(sorted(tokens), 8),
    end=" ",
)
print("without padding", sum(tokens))

# %% [markdown]
# **3. For an evening: is it slower?** Write `interval(a, b, level)`, a bootstrap
# interval for the median ratio of two lists of seconds, as (low, high): draw rounds
# with replacement, at least 2,000 times. The check gives you lists where the truth is
# known and counts how often your interval holds it.

# %%
interval = ...  # def interval(a, b, level): …
check.interval(interval)


# %% tags=["hide-cell"]
def interval(a, b, level):
    ratios = np.array(a) / np.array(b)
    rng = np.random.default_rng()
    medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    return tuple(np.quantile(medians, [(1 - level) / 2, (1 + level) / 2]))


check.interval(interval)

# %% [markdown]
# ## In short
#
# A factor of speed is a function of length, width and batch: three times and more for
# narrow models and short texts, little for wide ones and long. Measured with one call
# it is noise. int8 makes the file four times smaller and, with a runtime that has
# kernels for it, every call faster; whether it still does its work a task has to say,
# with an interval: here it lost nothing that 276 examples could show. An export pays
# after about a thousand calls, PyTorch's int8 after some dozens, compiling after tens
# of thousands.
#
# With this the notes' script has come to its end: its model, quantised, exported, run
# and measured, in the form that works today.
