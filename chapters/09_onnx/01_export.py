# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Export
#
# A model is a Python program. Where it is to work, in a telephone, a browser, a server
# in C++, there is no Python. So somebody has to take out of the program what it
# *computes*, and write it down in a form that others can run. *ONNX* (Open Neural
# Network Exchange, 开放神经网络交换格式) is such a form. The notes' script for it was right
# when it was written; today its first call fails. At the end of this page you can
#
# - say what is in an ONNX file, and write one by hand;
# - say what tracing keeps of a Python program, and what it drops in silence;
# - export a model so that texts of any length go through, and prove that it computes
#   the same;
# - read an opset number, and know what happens to a request for an old one.
#
# You need [tensors](../00_tensors/01_products), and have seen a BERT from outside.

# %% tags=["hide-input"]
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx as library
import torch
from torch import nn

# %% tags=["hide-input"]
from utils import onnx
from utils.exercises import onnx as check
from utils.lab import (
    approx,
    below,
    close,
    datasets,
    deprecated,
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
notes_say(
    "onnx-exchange-format",
    "onnx-export-code",
    "onnx-opset-11",
    "onnx-static-shape",
    "onnx-output-shapes",
)

# %% [markdown]
# ## By hand: three operators
#
# Take the smallest network there is, $y = \mathrm{relu}(x W + b)$. Written down without
# Python it is a list of three steps, each with the *name* of an operator (算子) and the
# names of what goes in and what comes out:
#
# | operator | in | out |
# |---|---|---|
# | MatMul | x, W | p |
# | Add | p, b | s |
# | Relu | s | y |
#
# That is a *graph* (计算图): who feeds whom is said by the names alone. Add the numbers of
# $W$ and $b$, the names and types of what comes from outside, and the version of the
# operators' definitions, and it is an ONNX file. We write one.

# %%
from onnx import TensorProto, helper, numpy_helper

W = np.array([[1, -1, 2], [0, 2, -1]], dtype=np.float32)  # (2, 3)
b = np.array([-1, 0, 1], dtype=np.float32)
by_hand = helper.make_model(
    helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["s"]),
            helper.make_node("Relu", ["s"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(W, "W"), numpy_helper.from_array(b, "b")],
    ),
    opset_imports=[helper.make_opsetid("", 20)],
    ir_version=10,
)
library.checker.check_model(by_hand, full_check=True)

# %% [markdown]
# Who runs it? Anybody who knows what the three names mean. Here is an interpreter:

# %%
MEANING = {
    "MatMul": lambda a, b: a @ b,
    "Add": lambda a, b: a + b,
    "Relu": lambda a: np.maximum(a, 0),
}


def interpret(model, **given):
    """Run a graph: look up what goes in, compute, write down what comes out."""
    known = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer} | given
    for node in model.graph.node:
        known[node.output[0]] = MEANING[node.op_type](*(known[i] for i in node.input))
    return known[model.graph.output[0].name]


folder = Path(tempfile.mkdtemp())
library.save(by_hand, folder / "small.onnx")
x = np.array([[1, 1], [2, 0]], dtype=np.float32)
print("ours:       ", interpret(by_hand, x=x).tolist())
print(
    "onnxruntime:",
    onnx.run(onnx.session(folder / "small.onnx"), {"x": x})["y"].tolist(),
)

# %% [markdown]
# On paper: $(1, 1) W + b = (0, 1, 2)$, nothing to cut; $(2, 0) W + b = (1, -2, 5)$, and
# the −2 becomes 0. Ten lines are a runtime. The industrial one, next page, does the
# same with thousands of kernels and rewrites the graph before it starts.
#
# ## In general: what is in a file
#
# An ONNX file is one message in Google's protocol buffers (协议缓冲区): the graph with its
# nodes, its *initializers* (the weights), its inputs and outputs with types and shapes,
# an `opset_import` that says which edition of the operators' dictionary is meant, and
# some words on who made it. In a real model nearly all of its bytes are weights. Here
# is a small one to export:


# %%
class Reader(nn.Module):
    """Ids and a mask (B, L) to a vector a token (B, L, 8), and their mean (B, 8)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(100, 8)
        self.widen, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, input_ids, attention_mask):
        h = self.table(input_ids)  # (B, L, 8)
        h = self.norm(h + self.narrow(nn.functional.gelu(self.widen(h))))
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        return h, (weights * h).sum(1)


torch.manual_seed(0)
reader = Reader().eval()
rng = np.random.default_rng(0)


def texts(size, length):
    """Random ids, and a mask that ends the first text in its middle."""
    mask = torch.ones(size, length, dtype=torch.long)
    mask[0, length // 2 + 1 :] = 0
    return {
        "input_ids": torch.tensor(rng.integers(100, size=(size, length))),
        "attention_mask": mask,
    }


# %% [markdown]
# One call exports it. `dynamic` names the axes that may change; the rest of this page
# is about why it has to. Here is what our `export` does around PyTorch's own:

# %%
show(onnx.export)

# %%
dynamic = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
file = onnx.export(reader, texts(2, 7), folder / "reader.onnx", dynamic, ["h", "mean"])
model = library.load(file)
weights = sum(numpy_helper.to_array(w).nbytes for w in model.graph.initializer)
print("opset", onnx.opset_of(model), "nodes", len(model.graph.node))
print("bytes", file.stat().st_size, "of which weights", weights)
for value in [*model.graph.input, *model.graph.output]:
    shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    print(f"{value.name:15}", shape)

# %% [markdown]
# Even in so small a file two thirds are weights; names and shapes are the rest. And
# something is missing that nobody asked for. PyTorch's exporter notes for each node the
# lines of Python that made it, with the folders of the author's computer. Ask it for
# the file without our `export` around it, and read what the node of the GELU says of
# its origin:

# %%
with onnx.quiet():
    program = torch.onnx.export(reader, (), kwargs=texts(2, 7), dynamo=True)
raw = program.model_proto
(gelu,) = (node for node in raw.graph.node if node.op_type == "Gelu")
notes = {prop.key.rpartition(".")[2]: prop.value for prop in gelu.metadata_props}
place, line = notes["stack_trace"].strip().splitlines()[:2]
print("nodes with a trace:", sum(bool(n.metadata_props) for n in raw.graph.node))
print("a path on this computer:", place.strip().startswith('File "'))
print("the source:", line.strip())

# %% [markdown]
# A line of the source, letter for letter, behind the path of its file. A model that is
# given away so takes its program and the name of its author's home folder along. Our
# `export` clears these notes; look into other people's files, and your own, before they
# leave the house.

# %% mystnb={"figure": {"caption": "The graph of the small reader as it stands in the file. Operators that only change shapes or types are grey. The layer norm and the GELU are one node each, since the dictionary of this edition has words for them.", "name": "fig-reader-graph"}, "image": {"alt": "A flow chart from top to bottom: Gather at the top, then MatMul, Add, Gelu, MatMul, Add, Add and LayerNormalization on one path; beside it ReduceSum, Unsqueeze, Cast and Div on the path of the mask; both meet in Mul and ReduceSum."}} tags=["hide-input"]
shapes_only = {"Unsqueeze", "Cast", "Reshape", "Transpose", "Concat", "Shape", "Slice"}
figure, ax = plt.subplots(figsize=(4.6, 6.4))
labels, edges = onnx.flow(file)
figures.graph(ax, labels, edges, lambda op: "grey" if op in shapes_only else "sky")
plt.show()

# %%
print(Counter(labels))

# %% [markdown]
# ## How the graph gets out of the program
#
# PyTorch runs `forward` once on the example, with stand-ins for tensors that know a
# shape but no numbers, and writes down every operation that they meet. This is
# *tracing* (追踪). What it sees becomes nodes. Everything else that Python did, it did
# *while tracing*, and its result is frozen: a loop is unrolled, an `if` on a setting
# has taken one branch for good.


# %%
class Repeated(nn.Module):
    """Applies one layer `times` times; the loop is Python's."""

    def __init__(self, times):
        super().__init__()
        self.layer, self.times = nn.Linear(4, 4), times

    def forward(self, x):
        for _ in range(self.times):
            x = torch.tanh(self.layer(x))
        return x


for times in (1, 5, 20):
    path = onnx.export(Repeated(times), {"x": torch.ones(2, 4)}, folder / "loop.onnx")
    stored = len(library.load(path).graph.initializer)
    nodes = sum(onnx.operators(path).values())
    print(f"{times:2} rounds: {nodes:3} nodes, {stored} weights")

# %% [markdown]
# Twenty rounds are forty nodes and still two weights: the weights are shared, the loop
# is gone. An `if` that asks about the *numbers* cannot be answered, because the
# stand-ins have none. Neither can an operator be written for which the dictionary has
# no word.


# %%
class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).abs()


for module in (Branching(), Spectrum()):
    try:
        onnx.export(module, {"x": torch.ones(3, 3)}, folder / "no.onnx")
    except onnx.ExportError as error:
        print(str(error)[:110])
print(
    "half a file left behind:", any(folder.glob("no*")) or any(folder.glob("*.part*"))
)

# %% [markdown]
# The first is mended with `torch.where(x.sum() > 0, x, -x)`, which is an operator; the
# second has to be computed elsewhere.
#
# ## The notes' call
#
# The notes write `torch.onnx.export(model, example, …)`, with a dictionary as the
# second argument. Since PyTorch 2.9 the exporter is another one, built on
# `torch.export` {cite}`pytorchonnx`. It takes that argument for a tuple of positions
# and looks for number −1 in it. Given as `kwargs` the same dictionary works. The old
# exporter is still there, under `dynamo=False`. It takes the dictionary of a module
# like ours, as further down, but no longer that of a BERT of transformers 5, unless one
# wraps it.

# %%
example = texts(2, 7)


def exported(*arguments, **options):
    """The program that PyTorch exports, its talk kept back."""
    with onnx.quiet():
        return torch.onnx.export(*arguments, verbose=False, **options)


program = exported(reader, (), kwargs=example)
found = program(**example)
with torch.no_grad():
    wanted = reader(**example)
settle(
    "onnx-export-code",
    raises(KeyError, lambda: exported(reader, example)),
    close(found[0], wanted[0], 1e-5),
    close(found[1], wanted[1], 1e-5),
    note="the dictionary as second argument, and as kwargs",
)

# %% [markdown]
# ## Elastic and rigid
#
# The script exports from one sentence and says nothing about axes. Then all sizes are
# those of the sentence, for ever.

# %% mystnb={"figure": {"caption": "An input that is exported without a word about its axes is a rigid box: it takes texts of the example\u2019s shape. With named axes it stretches in the two directions that were named.", "name": "fig-rigid-elastic"}, "image": {"alt": "Left, a solid frame of 2 by 7 filled with cells; a longer text of 9 cells sticks out of it. Right, a dashed frame with arrows to the right and downwards that holds three texts of 9 cells."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=2.4)
for ax, (rows, columns, frame) in zip(
    axes, [(2, 9, (2, 7)), (3, 9, (3, 9))], strict=True
):
    rigid = frame == (2, 7)
    for i, j in np.ndindex(rows, columns):
        inside = j < frame[1]
        fill = COLOURS["sky" if inside else "vermilion"] + "88"
        ax.add_patch(
            plt.Rectangle((j, -i - 1), 0.9, 0.9, fc=fill, ec="#777777", lw=0.6)
        )
    style = {"fill": False, "lw": 2.5, "ls": "-" if rigid else "--"}
    edge = COLOURS["vermilion" if rigid else "green"]
    corner = (-0.15, -frame[0] - 0.15)
    ax.add_patch(
        plt.Rectangle(corner, frame[1] + 0.2, frame[0] + 0.2, ec=edge, **style)
    )
    if not rigid:
        figures.arrow(ax, (9.2, -1.5), (10.6, -1.5))
        figures.arrow(ax, (4.5, -3.3), (4.5, -4.5))
    ax.set(xlim=(-0.5, 11), ylim=(-4.7, 0.5), aspect="equal")
    ax.set_title("frozen: [2, 7]" if rigid else "[batch, length]")
    ax.axis("off")
plt.show()

# %%
rigid = onnx.session(onnx.export(reader, texts(2, 7), folder / "rigid.onnx"))
elastic = onnx.session(file)
plain = {name: value.numpy() for name, value in texts(2, 9).items()}
short = {name: value.astype(np.int32) for name, value in plain.items()}
with torch.no_grad():
    longer = reader(**{name: torch.tensor(value) for name, value in plain.items()})

from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

settle(
    "onnx-static-shape",
    same(rigid.get_inputs()[0].shape, [2, 7]),
    raises(InvalidArgument, lambda: rigid.run(None, plain)),
    close(elastic.run(None, plain)[0], longer[0], 1e-5),
    raises(InvalidArgument, lambda: elastic.run(None, short)),
    note="plain: two texts of nine tokens; short: the same with ids of 32 bits",
)

# %% [markdown]
# onnxruntime's own message lists the axes that do not fit. Which input is lacking, or
# has another type, it says in other words. Our `run` says all of it in one form:

# %%
show(onnx.run)
for wrong in (plain, {"input_ids": plain["input_ids"]}):
    try:
        onnx.run(rigid, wrong)
    except ValueError as error:
        print(error)

# %% [markdown]
# A special case was an example with a batch of *one*: older tracers took a size of 1
# for a constant, because a 1 broadcasts and a 2 does not. Today's keeps a named axis
# free all the same. Our `export` still asks for two or more, so that no example can
# hide it.
#
# ## Editions of the dictionary
#
# The *opset* (算子集版本) is the number of the edition. Each edition adds operators and
# sometimes changes one: LayerNormalization is a word since 17, Gelu since 20, Attention
# since 23. In an older edition one has to say it in more words. The same reader in
# several editions, each verified against the module:

# %%
for opset in (18, 20, 23):
    out = onnx.export(
        reader, texts(2, 7), folder / f"{opset}.onnx", dynamic, opset=opset
    )
    error = onnx.verify(out, reader, [texts(3, 5), texts(1, 30)], 1e-5)
    ops = onnx.operators(out)
    told = f"{sum(ops.values())} nodes, Gelu {ops['Gelu']}, Erf {ops['Erf']}"
    print(f"opset {opset}: {told}, error", approx(error, 0, 1e-5))

# %% [markdown]
# The notes ask for opset 11, of 2019. PyTorch's exporter begins at 18. It says so in a
# warning, makes 18 and tries to convert the result down, step by step. How far down it
# gets depends on the graph: ours to 17, the first edition with a word for the layer
# norm, and nothing that we tried to 11. Where it fails, the file *keeps 18*. Who does
# not read the number does not know. Our `export` compares the two and refuses.


# %%
class Affine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.layer(x))


def opset_written(module, **options):
    """The opset of what PyTorch writes, whatever was asked for."""
    example = {"x": torch.ones(2, 4)} if isinstance(module, Affine) else texts(2, 7)
    return onnx.opset_of(exported(module, (), kwargs=example, **options).model_proto)


asked = {n: opset_written(reader, opset_version=n) for n in (11, 16, 17, 18, 20)}
asked["none"] = opset_written(reader)
simple = {n: opset_written(Affine(), opset_version=n) for n in (11, 17)}
arguments = (reader, texts(2, 7), str(folder / "old.onnx"))  # the bare dictionary
with deprecated(DeprecationWarning):
    torch.onnx.export(*arguments, opset_version=11, dynamo=False)
legacy = onnx.opset_of(folder / "old.onnx")
print("asked → written:", asked)
print("without a layer norm:", simple, " the old exporter at 11:", legacy)

# %%
settle(
    "onnx-opset-11",
    same([asked[n] for n in (11, 16, 17)], [18, 18, 17]),
    same(asked["none"], 20),
    same(simple, {11: 18, 17: 17}),
    same(legacy, 11),
    raises(
        onnx.ExportError,
        lambda: onnx.export(reader, texts(2, 7), folder / "no.onnx", opset=11),
    ),
)
print({name: n for name, n in onnx.operators(folder / "old.onnx").items() if n > 1})

# %% [markdown]
# In the old exporter's file, in edition 11, the layer norm is a mean, a difference, a
# power, another mean, a root, a quotient and an affine map. Whoever runs it has to find
# out for himself that these belong together; what that costs, and who does it, is the
# subject of [the next page](02_the_runtime).
#
# ## A real model
#
# Now MiniLM {cite}`wang2020minilm`, or, with `NOTES_ENCODER=bert-base-chinese` where a
# hub can be reached, the notes' own model. The wrapper has two purposes: it picks the
# two outputs that we want, and it leaves out inputs that we do not give.


# %%
class TwoOutputs(nn.Module):
    """ids and mask (B, L) to last_hidden_state (B, L, D) and pooler_output (B, D)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        out = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return out.last_hidden_state, out.pooler_output


model, tokenizer = pretrained.encoder()
encoder = TwoOutputs(model).eval()


def batch(lines):
    """Tokenised lines, padded, as the two inputs (B, L)."""
    encoded = tokenizer(lines, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in dynamic}


lines = [s.en for s in datasets.sentences()]
outputs = ["last_hidden_state", "pooler_output"]
encoder_file = onnx.export(
    encoder, batch(lines[:2]), folder / "encoder.onnx", dynamic, outputs
)
operators = onnx.operators(encoder_file)
print(sum(operators.values()), "nodes:", dict(operators.most_common(6)))

# %% [markdown]
# One run proves little. Errors depend on the length, on the batch and on padding, so we
# try many of each: how far are the two outputs apart, at worst, on batches of 1 to 16
# sentences?

# %% mystnb={"figure": {"caption": "The largest difference between the exported encoder and PyTorch over all outputs of a batch, by the batch\u2019s size and the length of its longest sentence.", "name": "fig-parity"}, "image": {"alt": "Dots between one and thirty millionths, a little higher for larger batches, far below the line at one ten-thousandth."}} tags=["hide-input"]
running = onnx.session(encoder_file)
batches = [batch(lines[i : i + n]) for n in (1, 2, 4, 8, 16) for i in range(0, 16, n)]
errors = np.array(onnx.compare(running, encoder, batches))
lengths = [b["input_ids"].shape[1] for b in batches]
sizes = [len(b["input_ids"]) for b in batches]
figure, ax = plt.subplots(figsize=(5.4, 2.8))
for size, marker in zip([1, 2, 4, 8, 16], "os^Dv", strict=True):
    chosen = [k for k, s in enumerate(sizes) if s == size]
    ax.semilogy([lengths[k] for k in chosen], errors[chosen], marker, label=f"{size}")
ax.axhline(1e-4, color=COLOURS["vermilion"], lw=1)
ax.set(
    xlabel="longest sentence, in tokens", ylabel="largest difference", ylim=(1e-7, 3e-4)
)
ax.legend(title="batch", ncols=5, fontsize=8, frameon=False, loc="lower right")
plt.show()

# %%
print(len(batches), "batches, worst difference", approx(errors.max(), 0, 1e-4))
one = batch(lines[:1])
ours = onnx.run(running, one)
length, width = one["input_ids"].shape[1], model.config.hidden_size
shapes = [ours[name].shape for name in outputs]
from onnx.reference import ReferenceEvaluator

plain_one = {"x": x}
reference = ReferenceEvaluator(by_hand).run(None, plain_one)[0]
settle_all(
    {
        "onnx-output-shapes": [
            same(shapes, [(1, length, width), (1, width)]),
            below(errors.max(), 1e-4),
        ],
        "onnx-exchange-format": [
            same(reference, interpret(by_hand, x=x)),
            same(
                onnx.run(onnx.session(folder / "small.onnx"), plain_one)["y"], reference
            ),
        ],
    }
)

# %% [markdown]
# Three programs, ours, ONNX's reference evaluator and onnxruntime, have run the file
# that we wrote by hand. That is what an exchange format is for.
#
# **Files over two gigabytes.** Protocol buffers end there. Larger models keep their
# weights in a second file, *external data* (外部数据), and the first one holds names,
# offsets and lengths. Moving one without the other is a popular mistake.

# %%
apart_from = {"save_as_external_data": True, "location": "split.onnx.data"}
library.save(
    library.load(file), folder / "split.onnx", size_threshold=100, **apart_from
)
for part in sorted(folder.glob("split*")):
    print(part.name, part.stat().st_size, "bytes")
(folder / "split.onnx.data").unlink()
try:
    onnx.session(folder / "split.onnx")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Where people go wrong
#
# **The mask that was not passed.** An export without `attention_mask` works on the
# example, a single sentence. In a batch every shorter sentence then attends to its own
# padding, which is there for the longest one's sake. How much does that change a short
# sentence, beside a long one?


# %%
class Unmasked(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).last_hidden_state[:, 0]


by_length = sorted(lines, key=len)
mixed = batch([by_length[0], by_length[-1]])
with torch.no_grad():
    masked = encoder(**mixed)[0][:, 0]
    unmasked = Unmasked(model)(mixed["input_ids"])
    alone = encoder(**batch([by_length[0]]))[0][:, 0]
for name, vector in [("with the mask", masked), ("without", unmasked)]:
    cosine = torch.cosine_similarity(vector[0], alone[0], dim=0)
    print(f"{name:14} cosine with the sentence alone:", approx(cosine, 0, 1.0001))

# %% [markdown]
# **Training mode.** `model.train()` exports dropout, or batch statistics. Our `export`
# calls `eval()`, and puts back what was; the plain call does not.
#
# **One example, one check.** The example is the one input on which a frozen file is
# right. Verify on other shapes.
#
# **The file that loads.** "It loads" means that the graph is well formed, not that it
# computes what was meant. `verify` compares numbers, and says on which batch they part.
#
# ## Exercises
#
# **1. Warm-up: read a graph.** Which operators does this chain consist of? `mystery` is
# the list of operators of $\mathrm{softmax}(x W) W'$. Give the list, in order, before
# you run anything.

# %%
mystery = ...  # ["…", …]
check.mystery(mystery)

# %% tags=["hide-cell"]
mystery = ["MatMul", "Softmax", "MatMul"]
check.mystery(mystery)

# %% [markdown]
# **2. Write a graph.** Build, with `helper`, a model (opset 20) with the inputs `a` and
# `b`, floats of shape ["n"], and one output `c` of the same shape, that computes
# $c = \sqrt{a^2 + b^2}$ with the operators Mul, Add and Sqrt.

# %%
hypotenuse = ...  # helper.make_model(…)
check.hypotenuse(hypotenuse)

# %% tags=["hide-cell"]
value = {
    name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])
    for name in "abc"
}
nodes = [
    helper.make_node("Mul", ["a", "a"], ["aa"]),
    helper.make_node("Mul", ["b", "b"], ["bb"]),
    helper.make_node("Add", ["aa", "bb"], ["sum"]),
    helper.make_node("Sqrt", ["sum"], ["c"]),
]
hypotenuse = helper.make_model(
    helper.make_graph(nodes, "hypotenuse", [value["a"], value["b"]], [value["c"]]),
    opset_imports=[helper.make_opsetid("", 20)],
    ir_version=10,
)
check.hypotenuse(hypotenuse)

# %% [markdown]
# **3. Free it.** `Halves` cuts a text of eight in two and compares the halves. Exported
# with a free length it takes any longer text without a word, and still reads the first
# eight places only. Write `Freed`, which compares the halves of a text of any even
# length, and can be exported with a dynamic one. (`chunk` is not to be had in this
# exporter.)


# %%
class Halves(nn.Module):
    def forward(self, x):  # (B, L, D) → (B, D)
        first, second = x[:, :4], x[:, 4:8]  # the author had texts of eight
        return (first - second).mean(1)


Freed = ...  # class Freed(nn.Module): …
check.Freed(Freed)


# %% tags=["hide-cell"]
class Freed(nn.Module):
    def forward(self, x):
        pair = x.reshape(x.shape[0], 2, x.shape[1] // 2, x.shape[2])  # (B, 2, L/2, D)
        return (pair[:, 0] - pair[:, 1]).mean(1)


check.Freed(Freed)

# %% [markdown]
# ## In short
#
# An ONNX file is a list of operators that feed each other by name, with weights and the
# number of an edition. Export traces a Python program: operations become nodes,
# everything else happens once and is frozen. Name the axes that shall stay free, read
# the opset that was written, and compare numbers on other shapes than the example's.
# The notes' call fails today, its opset is not granted, and what it used to make fitted
# one sentence.
#
# Who runs the graph, and what he does to it first: [the runtime](02_the_runtime).
