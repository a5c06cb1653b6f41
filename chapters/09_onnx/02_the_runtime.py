# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The runtime
#
# On [the page before](01_export) ten lines of Python ran a graph, node by node. A
# runtime for production does not run the graph that it is given. It first turns it into
# another one that computes the same with fewer and larger steps, deals the steps out to
# the devices it knows, and only then begins. *onnxruntime* writes down what it has
# done, so we can look. At the end of this page you can
#
# - name the three kinds of rewriting, and find each in a real graph;
# - say what a fused operator saves, in bytes;
# - tell who runs which node, and notice when a GPU that you asked for is not there;
# - hand a runtime its buffers, its threads and its patience;
# - turn a file into int8, dynamically and statically, and say what has stayed float.
#
# You need [export](01_export).

# %% tags=["hide-input"]
import copy
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx as library
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

# %% tags=["hide-input"]
from utils import onnx
from utils.encoders import Encoder, tokenised
from utils.exercises import onnx as check
from utils.lab import (
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
from utils.lab.figures import plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("onnx-ort-what", "onnx-ort-subgraphs")

# %% [markdown]
# onnxruntime is Microsoft's, as they say, and runs on CPU, GPU and much else through
# *execution providers* (执行提供程序), one for each kind of device ({claim}`onnx-ort-what`)
# {cite}`ortarchitecture`. What it does with the graph is better seen than said.
#
# ## By hand: a graph shrinks
#
# Three nodes: `i` is `x` again, `six` is 2 · 3, and `y` is `i + six`.
#
# | operator | in | out |
# |---|---|---|
# | Identity | x | i |
# | Mul | two, three | six |
# | Add | i, six | y |
#
# The second can be computed now, since all that goes in is known: *constant folding*
# (常量折叠). The first does nothing and can go; whoever read `i` reads `x`. One node is
# left. A rewriter for the two:


# %%
def simplify(nodes, constants):
    """Nodes (operator, inputs, output) without what is known or does nothing."""
    known, alias, kept = dict(constants), {}, []
    for operator, inputs, output in nodes:
        inputs = [alias.get(name, name) for name in inputs]
        if operator == "Identity":
            alias[output] = inputs[0]
        elif operator == "Mul" and all(name in known for name in inputs):
            known[output] = known[inputs[0]] * known[inputs[1]]
        else:
            kept.append((operator, inputs, output))
    return kept, known


nodes = [
    ("Identity", ["x"], "i"),
    ("Mul", ["two", "three"], "six"),
    ("Add", ["i", "six"], "y"),
]
kept, known = simplify(nodes, {"two": 2.0, "three": 3.0})
print(kept, "six =", known["six"])

# %% [markdown]
# The same graph as a file, and what onnxruntime makes of it at its first level of
# optimisation:

# %%
folder = Path(tempfile.mkdtemp())
info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "y")]
numbers = {"two": 2, "three": 3}
stored = [numpy_helper.from_array(np.float32(v), name) for name, v in numbers.items()]
graph = helper.make_graph(
    [helper.make_node(op, inputs, [out]) for op, inputs, out in nodes],
    "three_nodes",
    info[:1],
    info[1:],
    stored,
)
opset = [helper.make_opsetid("", 20)]
library.save(
    helper.make_model(graph, opset_imports=opset, ir_version=10),
    folder / "three.onnx",
)
basic = onnx.optimise(folder / "three.onnx", folder / "one.onnx", "basic")
left = library.load(basic).graph
print(dict(onnx.operators(folder / "three.onnx")), "→", dict(onnx.operators(basic)))
print("stored:", [float(numpy_helper.to_array(w)) for w in left.initializer])
assert [node.op_type for node in left.node] == [op for op, *_ in kept]

# %% [markdown]
# ## In general: three levels, and who does what
#
# onnxruntime optimises in this order {cite}`ortarchitecture`:
#
# 1. **basic**: rewritings that are right everywhere, as ours were: folding, dropping
#    what does nothing, merging what the standard has one word for.
# 2. **Partition** (划分): each node goes to the first provider in the list that can run
#    it. Neighbours of one provider form a *subgraph* (子图).
# 3. **extended** and **all**: *fusion* (融合) within a provider's part, into operators
#    that are not in the standard and have kernels of their own; lastly, layouts that
#    suit the processor.
#
# The feed-forward half of a Transformer layer, as exported, and as the CPU provider has
# rewritten it:


# %%
class FeedForward(nn.Module):
    """LayerNorm(x + W₂ gelu(W₁ x)), on (B, L, 8)."""

    def __init__(self):
        super().__init__()
        self.widen, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x + self.narrow(nn.functional.gelu(self.widen(x))))


torch.manual_seed(0)
half = FeedForward().eval()
rng = np.random.default_rng(0)
x = torch.tensor(rng.normal(size=(2, 5, 8)), dtype=torch.float32)
free = {"x": {0: "batch", 1: "length"}}
before = onnx.export(half, {"x": x}, folder / "half.onnx", free, ["y"])
after = onnx.optimise(before, folder / "fused.onnx")
assert onnx.verify(after, half, [{"x": x}], 1e-5) < 1e-5

# %% mystnb={"figure": {"caption": "The same half layer before and after onnxruntime. Addition of the bias and GELU have become one operator; the other bias, the residual and the layer norm another. Orange: operators that the ONNX standard does not have.", "name": "fig-fusion"}, "image": {"alt": "Left, a chain of seven boxes: MatMul, Add, Gelu, MatMul, Add, Add, LayerNormalization. Right, a chain of four: MatMul, BiasGelu, MatMul, SkipLayerNormalization, the second and the last in orange."}} tags=["hide-input"]
own = {"BiasGelu", "SkipLayerNormalization", "FusedMatMul"}
figure, axes = figures.panels(2, height=4.2)
for ax, path, title in zip(
    axes, (before, after), ("exported", "optimised"), strict=True
):
    labels, edges = onnx.flow(path)
    fill = {label: "orange" if label in own else "sky" for label in labels}
    figures.graph(ax, labels, edges, fill.get, width=2.9)
    ax.set_title(f"{title}: {len(labels)} nodes")
plt.show()

# %% [markdown]
# What does it save? Not one multiplication. It saves *trips*. A node reads its input
# from memory and writes its output there; Add and Gelu, one after the other, read and
# write the wide block twice, and BiasGelu once. We count the bytes that the nodes of
# each graph move for one sentence of a BERT of width 768, weights left out:


# %%
def moved(path, sizes):
    """Bytes that pass between nodes, each input and output of a node once, float32."""
    graph, total = library.load(path).graph, 0
    weights = {w.name for w in graph.initializer}
    for node in graph.node:
        for name in [*node.input, *node.output]:
            if name and name not in weights:
                total += 4 * sizes[name]
    return total


L, D = 128, 768
wide = {"MatMul": 4 * D, "Add": 4 * D, "Gelu": 4 * D, "BiasGelu": 4 * D}
traffic = {}
for path in (before, after):
    sizes, seen = {"x": L * D}, 0
    for node in library.load(path).graph.node:
        seen += node.op_type == "MatMul"  # after the second product: narrow again
        for name in filter(None, node.output):
            sizes[name] = L * (wide[node.op_type] if seen == 1 else D)
    traffic[path.name] = moved(path, sizes)
print({name: f"{bytes_ / 1e6:.1f} MB" for name, bytes_ in traffic.items()})
assert traffic["fused.onnx"] < 0.7 * traffic["half.onnx"]

# %% [markdown]
# The products grow with $L D^2$, the trips with $L D$: for wide models the products
# hide them, for narrow ones they do not. That is one reason why a runtime gains most on
# narrow models. For short texts the reasons are others: what each node costs before it
# computes, and how well a library multiplies a few rows.
#
# ## A real graph
#
# Now MiniLM. Which operators come and go at each level?

# %%
model, _ = pretrained.encoder()
encoder = Encoder(model).eval()
show(Encoder)
lines = [s.en for s in datasets.sentences()]
dynamic = {n: {0: "batch", 1: "length"} for n in ("input_ids", "attention_mask")}
file = onnx.export(
    encoder, tokenised(lines[:2]), folder / "encoder.onnx", dynamic, ["h"]
)

# %%
counts = {"exported": onnx.operators(file)}
written = {}
for level in ("none", "basic", "extended", "all"):
    written[level] = onnx.optimise(file, folder / f"{level}.onnx", level)
    counts[level] = onnx.operators(written[level])
every = set().union(*counts.values())
changing = sorted(op for op in every if len({c[op] for c in counts.values()}) > 1)
print(f"{'':24}", *(f"{level:>9}" for level in counts))
for op in [*changing, "all nodes"]:
    cells = [c[op] if op in every else sum(c.values()) for c in counts.values()]
    print(f"{op:24}", *(f"{cell:9}" for cell in cells))

# %% [markdown]
# Read it layer by layer; there are six. Two layer norms a layer, each with the bias and
# the residual before it: twelve SkipLayerNormalization. One GELU a layer, with its
# bias: six BiasGelu. And the factor $1/\sqrt d$ of the scores, a Mul, has gone *into*
# the product: six FusedMatMul, which multiply by a number on the way. "basic" had
# nothing to do, for the exporter has folded the constants already. One fusion does not
# happen: attention stays a row of single operators. Our model computes it in single
# steps, and onnxruntime does not find this pattern. Written with PyTorch's
# `scaled_dot_product_attention` and exported in an edition that has the word, it is one
# node a layer:

# %%
fused = copy.deepcopy(model)
fused.set_attn_implementation("sdpa")
example = tokenised(lines[:2])
modern = onnx.export(
    Encoder(fused), example, folder / "modern.onnx", dynamic, ["h"], opset=23
)
error = onnx.verify(modern, encoder, [example, tokenised(lines[:5])], 1e-4)
found = onnx.operators(modern)
print(
    f"opset 23: {found['Attention']} Attention, {sum(found.values())} nodes,", end=" "
)
print("error", approx(error, 0, 1e-4))

# %% [markdown]
# Who runs what? The runtime keeps a diary for each node, a profile (性能剖析), and in it
# stands the provider.

# %%
options = onnxruntime.SessionOptions()
options.enable_profiling, options.log_severity_level = True, 3
options.profile_file_prefix = str(folder / "diary")
profiled = onnxruntime.InferenceSession(
    str(file), options, providers=["CPUExecutionProvider"]
)
some = {name: value.numpy() for name, value in tokenised(lines[:4]).items()}
profiled.run(None, some)
diary = json.loads(Path(profiled.end_profiling()).read_text())
ran = [event for event in diary if event.get("cat") == "Node"]
providers = {event["args"]["provider"] for event in ran}
print(len(ran), "nodes ran, by", providers)

# %%
rewritten, plain = sum(counts["all"].values()), sum(counts["none"].values())
errors = onnx.compare(
    onnx.session(written["all"], "none"), encoder, [tokenised(lines[:4])]
)
settle(
    "onnx-ort-subgraphs",
    below(rewritten, plain),
    below(errors[0], 1e-4),
    same(providers, {"CPUExecutionProvider"}),
    same(len(ran), rewritten),
    same(counts["all"]["SkipLayerNormalization"], 2 * model.config.num_hidden_layers),
    note="nodes with and without optimisation; the diary of one run",
)

# %% [markdown]
# So the notes' sentence holds, with its order put right: first the whole graph, then
# the cut between providers, then operators within each part. With only a CPU there is
# one part, and all that is gained comes from fusion.
#
# **The GPU that was not there.** A session takes a list of providers, best first. What
# is not there is skipped:

# %%
available = onnxruntime.get_available_providers()
print("CUDA available:", "CUDAExecutionProvider" in available)
wish = ["CUDAExecutionProvider", "CPUExecutionProvider"]
with onnx.quiet():
    hopeful = onnxruntime.InferenceSession(str(file), options, providers=wish)
print("asked for", wish, "got", hopeful.get_providers())
hopeful.end_profiling()
assert "CUDAExecutionProvider" not in hopeful.get_providers()

# %% [markdown]
# A warning, no error. Many a "GPU benchmark" ran on the CPU. Assert
# `session.get_providers()[0]`.
#
# ## Threads, spinning, buffers
#
# Two of the things that our `session` sets are worth knowing:

# %%
show(onnx.session)

# %% [markdown]
# `intra_op_num_threads` is the number of threads *within* an operator. Left alone, it
# is the number of physical cores, which is right for one model on one computer and
# wrong for eight processes on it. `allow_spinning`: between two operators the threads
# wait by asking again and again, as
# [a spin lock](../11_tokenizers/05_tiktoken_and_speed) does. It is quick, and it takes
# the processor from everybody else; when PyTorch runs in the same process, both
# libraries' threads fight. Turn it off to compare the two.
#
# And *IO binding* (输入输出绑定): `run` makes a new array for each output. With a binding the
# runtime writes where one tells it, on the device where the next model will read; on a
# GPU this saves two copies across the bus. On the CPU one can watch it fill a buffer
# that was there before:

# %%
buffer = np.zeros((*some["input_ids"].shape, model.config.hidden_size), np.float32)
running = onnx.session(file)
binding = running.io_binding()
for name, value in some.items():
    binding.bind_cpu_input(name, value)
binding.bind_output("h", "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
running.run_with_iobinding(binding)
ours = onnx.run(running, some)["h"]
print("the buffer holds the result:", np.array_equal(buffer, ours), buffer.shape)
assert np.array_equal(buffer, ours) and buffer.any()

# %% [markdown]
# ## int8, in the file
#
# A file can be turned into int8 without PyTorch {cite}`ortquantization`. *Dynamic*
# (动态): weights are stored as int8, and the scale of the activations is found at each
# call by an operator in the graph. *Static* (静态): the scales of the activations are
# found before, on sentences for *calibration* (校准), and stored. The half layer again:

# %%
calibration = [
    {"x": torch.tensor(np.random.default_rng(seed).normal(size=(4, 5, 8))).float()}
    for seed in range(1, 9)
]
by_call = onnx.quantise_dynamic(before, folder / "half_dynamic.onnx")
by_scale = onnx.quantise_static(before, folder / "half_static.onnx", calibration)
for name, path in [("exported", before), ("dynamic", by_call), ("static", by_scale)]:
    print(f"{name:9}", dict(Counter(onnx.operators(path)).most_common(5)))
assert "DynamicQuantizeLinear" not in onnx.operators(by_scale)

# %% mystnb={"figure": {"caption": "The dynamic file: before each product the activations are measured and quantised, the product is one of integers, and its result is cast and scaled back to floats. GELU, residual and layer norm have stayed float.", "name": "fig-dynamic-graph"}, "image": {"alt": "A flow from top to bottom: DynamicQuantizeLinear, MatMulInteger with Cast and Mul beside it, Add, Gelu, then the same four again, Add, and LayerNormalization. The integer operators are green."}} tags=["hide-input"]
integer = {"DynamicQuantizeLinear", "MatMulInteger"}
figure, ax = plt.subplots(figsize=(4.4, 6.6))
labels, edges = onnx.flow(by_call)
figures.graph(ax, labels, edges, lambda op: "green" if op in integer else "sky", 3.1)
plt.show()

# %% [markdown]
# In the static file the products carry QuantizeLinear and DequantizeLinear before and
# behind them (QDQ), and the runtime fuses the three. What is not quantised, and why? A
# layer norm divides by a small number that int8 would round away. A softmax lives on
# differences. (In MiniLM's static file, below, the products of attention are integers
# too, so what the softmax *gives* is rounded to eight bits; the dynamic file leaves
# those twelve in float.) The bias is added as a float, after the sum has been turned
# back. And the table of embeddings is only looked up: in int8 it saves bytes, and no
# time.
#
# On MiniLM, judged on sentences that were not used for calibration:

# %%
kept_back, used = (
    lines[:8],
    [tokenised(lines[i : i + 4]) for i in range(8, len(lines), 4)],
)
ways = {
    "float32": file,
    "dynamic": onnx.quantise_dynamic(file, folder / "d.onnx", embeddings=True),
    "dynamic, by channel": onnx.quantise_dynamic(file, folder / "c.onnx", True, True),
    "static, by channel": onnx.quantise_static(
        file, folder / "s.onnx", used, True, True
    ),
}

# %%
test = tokenised(kept_back)
mask = test["attention_mask"].bool()
with torch.no_grad():
    wanted = encoder(**test)


def cosine(path):
    """Mean cosine of token vectors with PyTorch's, pads left out."""
    found = torch.tensor(onnx.run(onnx.session(path), test)["h"])
    return torch.cosine_similarity(found, wanted, dim=-1)[mask].mean().item()


nearness = {name: cosine(path) for name, path in ways.items()}
for name, path in ways.items():
    megabytes = path.stat().st_size / 1e6
    print(f"{name:20} {megabytes:5.1f} MB, cosine", approx(nearness[name], 0.5, 1.0001))
products = onnx.operators(ways["dynamic"])
print("dynamic:", products["MatMulInteger"], "integer products,", end=" ")
print(products["MatMul"], "in float")
assert nearness["dynamic, by channel"] > nearness["dynamic"]
assert nearness["static, by channel"] < nearness["dynamic, by channel"]

# %% [markdown]
# A quarter of the bytes. One scale for a whole weight matrix costs a good deal, and one
# a *channel* (通道) much less: MiniLM has a matrix with a single huge entry, and with one
# scale everything else in it is rounded coarsely. Static is the worst, scales by
# channel and all: one range for each activation, fixed by the extremes of a few
# sentences, is too wide for most tokens and too narrow for some. Is a cosine of this
# size good or bad? That is a question about a task, and
# [the last page](03_one_scoreboard) asks it.
#
# ## Where people go wrong
#
# **Optimised, then moved.** A file that was written after optimisation holds
# onnxruntime's own operators, and perhaps a layout for this very processor. It is no
# exchange format any more. Ship the exported file; optimise where it runs.

# %%
standard = {node.domain for node in library.load(file).graph.node}
special = {node.domain for node in library.load(written["all"]).graph.node}
print("domains before:", standard, "after:", special)
assert "com.microsoft" in special - standard

# %% [markdown]
# **Calibrated on the test.** Scales that were fitted to the test sentences look better
# on them than on any others. Calibrate on data that you will not report on, and on data
# that look like those to come: all lengths, all kinds.
#
# **No calibration at all.** Static quantisation needs batches; ours says so:

# %%
try:
    onnx.quantise_static(file, folder / "never.onnx", [])
except ValueError as error:
    print(error)
print("half a file left behind:", (folder / "never.onnx").exists())

# %% [markdown]
# **A session for each request.** Making one loads the file and optimises it, which
# takes as long as many runs. Make it once, and share it: `run` may be called from many
# threads.
#
# ## Exercises
#
# **1. Warm-up.** Write `folded(nodes, constants)`: of nodes (operator, inputs, output),
# the *names of the outputs* that can be computed before any input is there, in order.
# Constants are a set of names. Whatever depends on known things alone is known.

# %%
folded = ...  # def folded(nodes, constants): …
check.folded(folded)


# %% tags=["hide-cell"]
def folded(nodes, constants):
    known, found = set(constants), []
    for _, inputs, output in nodes:
        if known.issuperset(inputs):
            known.add(output)
            found.append(output)
    return found


check.folded(folded)

# %% [markdown]
# **2. Fuse a chain.** `patterns` maps a tuple of operators to the name of one that does
# their work. Write `fuse(chain, patterns)`: go through the chain from the left, at each
# place replace the *longest* pattern that begins there, and go on behind it.

# %%
fuse = ...  # def fuse(chain, patterns): …
check.fuse(fuse)


# %% tags=["hide-cell"]
def fuse(chain, patterns):
    result, i = [], 0
    while i < len(chain):
        fitting = [p for p in patterns if tuple(chain[i : i + len(p)]) == p]
        best = max(fitting, key=len, default=None)
        result.append(patterns[best] if best else chain[i])
        i += len(best) if best else 1
    return result


check.fuse(fuse)

# %% [markdown]
# **3. For an evening: when may one fuse?** A fused operator does not write what lay
# between. So a pair of nodes may be fused only if nobody else reads the output of the
# first, and it is no output of the graph. Write
# `fusable(nodes, outputs, first, second)`: the list of pairs of positions $(i, j)$
# where node $i$ has the operator `first`, node $j$ the operator `second` and reads it,
# and fusing is allowed.

# %%
fusable = ...  # def fusable(nodes, outputs, first, second): …
check.fusable(fusable)


# %% tags=["hide-cell"]
def fusable(nodes, outputs, first, second):
    pairs = []
    for i, (operator, _, output) in enumerate(nodes):
        readers = [j for j, (_, inputs, _) in enumerate(nodes) if output in inputs]
        alone = len(readers) == 1 and output not in outputs
        if operator == first and alone and nodes[readers[0]][0] == second:
            pairs.append((i, readers[0]))
    return pairs


check.fusable(fusable)

# %% [markdown]
# ## In short
#
# A runtime rewrites before it runs: it folds what is known, drops what does nothing,
# deals nodes out to providers, and fuses within each part. Fusing saves trips to
# memory, not multiplications. A profile says who ran what, and a provider that is
# missing is skipped with a warning. int8 in the file leaves norms, softmax and biases
# float; scales by channel save what an outlier would spoil. Whether all this is worth
# it is a question of size, length and task: [one scoreboard](03_one_scoreboard).
