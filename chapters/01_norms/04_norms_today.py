# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Norms today
#
# Open the code of a language model of this decade and look for `LayerNorm`. You will
# probably not find it. You will find a layer that has forgotten the mean, it will stand
# in another place than in BERT, and in some models there are two more of it inside
# attention. Each of the three changes is a line of code, and each has a reason that can
# be seen in seconds on a small model. At the end of this page you can
#
# - say what RMSNorm drops, what that costs and what it saves, in counted operations;
# - say how the place of the norm shapes the first gradients of a deep Transformer, and
#   what that has to do with the learning rate;
# - bound an attention logit by construction, and say what happens without a bound;
# - name the normalisation of eleven models, read from their code and not from memory.
#
# You need [three axes](02_three_axes) and, for the training runs, the loop of
# [learning](../00_tensors/03_learning).

# %% tags=["hide-input"]
import warnings

import numpy as np
import torch
from torch import nn

from utils import norms, toys
from utils.exercises import norms as check
from utils.lab import (
    approx,
    datasets,
    figures,
    notes_say,
    peak_bytes,
    pretrained,
    records,
    same,
    settle,
    show,
)
from utils.lab.figures import plt
from utils.lab.timing import Timings

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("norms-three-kinds")

# %% [markdown]
# ## By hand: what is a mean worth?
#
# Take the token $(7, 1)$. Layer normalisation subtracts the mean 4, leaves $(3, -3)$,
# and divides by 3: $(1, -1)$. {term}`RMSNorm 均方根归一化 <RMSNorm>` divides by the root of
# the mean square, $\sqrt{(49+1)/2} = 5$, and is done: $(1.4, 0.2)$.
#
# Now add 10 to both features: $(17, 11)$. LN says $(1, -1)$ again; it cannot see the
# addition. RMSNorm says $(17, 11)/\sqrt{205}$, something else. **RMSNorm keeps what all
# features have in common, LN throws it away.** And if that common part is thrown away
# first, by hand, the two are the same layer:
#
# $$
# \operatorname{RMSNorm}(x) = \frac{x}{\sqrt{\overline{x^2} + \varepsilon}}, \qquad
# \operatorname{LN}(x) = \operatorname{RMSNorm}(x - \overline x) .
# $$ (eq-rms)

# %%
token = torch.tensor([[[7.0, 1.0]]], dtype=torch.double)
rms, ln = (f(token, eps=0)[0, 0] for f in (norms.rms_norm, norms.layer_norm))
assert torch.allclose(rms, torch.tensor([1.4, 0.2]).double())
assert torch.allclose(ln, torch.tensor([1.0, -1.0]).double())
x = torch.tensor(np.random.default_rng(0).normal(2, 1, size=(4, 7, 64)))
centred = x - x.mean(-1, keepdim=True)
assert (norms.rms_norm(centred, eps=1e-5) - norms.layer_norm(x)).abs().max() < 1e-12
assert (norms.layer_norm(x + 10) - norms.layer_norm(x)).abs().max() < 1e-12
assert (norms.rms_norm(x + 10) - norms.rms_norm(x)).abs().max() > 0.1
print("by hand, as an identity, and under a shift: as predicted")
show(norms.rms_norm)

# %% [markdown]
# ## What it costs to forget the mean
#
# Zhang and Sennrich {cite}`zhang2019rms` guessed that the division does the work and
# the subtraction does not. A guess about trained networks can be checked on a trained
# network. How much of a token's length does LN remove when it subtracts the mean? For a
# vector of $D$ features that share is $D\,\overline{x}^2 / \lVert x \rVert^2$; a random
# direction would have a share of $1/D$ on average.

# %% mystnb={"figure": {"caption": "Share of a token's squared length that lies along (1, \u2026, 1), the part which LN removes and RMSNorm keeps, at the input of MiniLM's 13 LayerNorms: mean over tokens, and the middle half. The dashed line is the mean share of a random direction, 1/384.", "name": "fig-mean-share"}, "image": {"alt": "Logarithmic plot over 13 modules. All means lie below the dashed line at 1/384, some of them more than ten times."}}
model, tokenizer = pretrained.encoder()
texts = [sentence.en for sentence in datasets.sentences()]
batch = tokenizer(texts, padding=True, return_tensors="pt")
mask, shares, angles = batch["attention_mask"].bool(), [], []


def note(module, inputs, output):
    tokens = inputs[0][mask].double()  # (n, 384)
    shares.append(384 * tokens.mean(-1) ** 2 / tokens.square().sum(-1))
    pair = norms.rms_norm(tokens), norms.layer_norm(tokens)
    angles.append(torch.cosine_similarity(*pair, dim=-1))


for module in model.modules():
    if isinstance(module, nn.LayerNorm):
        module.register_forward_hook(note)
with torch.inference_mode():
    model(**batch)
means = torch.stack(shares).mean(1)  # (13,)
low, high = np.quantile(torch.stack(shares), [0.25, 0.75], axis=1)
figure, ax = plt.subplots()
ax.semilogy(means, "o-")
ax.fill_between(range(13), low, high, alpha=0.25)
ax.axhline(1 / 384, color="k", ls="--", lw=1)
ax.set(xlabel="module, from the embeddings upwards", ylabel="share of the mean")
plt.show()

# %%
print("largest mean share:", approx(means.max(), 0, 1 / 384), "; 1/384 = 0.0026")
worst = torch.stack(angles).median(-1).values.min().item()
print("cosine between RMSNorm and LN, lowest median:", approx(worst, 0.98, 1))

# %% [markdown]
# Here LN has hardly anything to subtract: no more than from random directions. That is
# one encoder, and it was trained with LN, which deletes the mean, so it could not have
# used it. But language models that were trained with RMSNorm look the same
# {cite}`gupta2024geometric`. On such vectors RMSNorm and LN do nearly the same.
#
# What is saved? We count, since a clock would tell about this machine. A *dispatch
# mode* sees every tensor operation that PyTorch executes:


# %%
class Count(torch.utils._python_dispatch.TorchDispatchMode):
    """Collects the names of the tensor operations that run inside it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation.__name__.split(".")[0])
        return operation(*args, **(kwargs or {}))


block = torch.zeros(32, 128, 768)
for f in (norms.layer_norm, norms.rms_norm):
    with Count() as count:
        f(block)
    kept = peak_bytes(f, block) / block.nbytes
    print(f"{f.__name__:10} {len(count.names)} operations: {' '.join(count.names)}")
    print(
        f"{'':10} {count.names.count('mean')} reductions; peak memory {kept:.2f} blocks"
    )

# %% [markdown]
# One reduction instead of two, five operations instead of seven, one block of memory
# less. Normalisation is a small part of a model's arithmetic, but each pass over the
# data counts, since reading memory, not arithmetic, is what it waits for. That is also
# where our readable versions lose time against the library. A record compares them,
# forward and backward, one thread; `make bench` takes it again on your machine.

# %% mystnb={"figure": {"caption": "Time of ours divided by time of torch's, forward and backward, with a 95% interval, for three block sizes (B, L, D), from the record. Left of the line ours is faster.", "name": "fig-bench"}, "image": {"alt": "Dots with intervals for five layers and three sizes on a logarithmic axis. Layer normalisation lies between two and six; batch and instance normalisation lie below one at the largest size; RMS normalisation lies between one and three, group normalisation between two and just below one."}} tags=["hide-input"]
speed = records.read("norms_speed")["samples"]
figure, ax = plt.subplots(figsize=(6.4, 2.8))
names = list(dict.fromkeys(key.split()[1] for key in speed))
for key, sample in speed.items():
    size, name = key.split()
    seconds = {who: np.array(runs) for who, runs in sample["seconds"].items()}
    middle, low, high = Timings(seconds, threads=1).ratio("ours", "torch")
    shift = {"small": -0.2, "BERT": 0.0, "long": 0.2}[size]
    look = {"small": "C0o", "BERT": "C1s", "long": "C2^"}[size]
    row, label = names.index(name) + shift, size if name == names[0] else None
    ax.plot([low, high], [row, row], look[:2], lw=3, alpha=0.4)
    ax.plot(
        middle, row, look, label=f"{size} {tuple(sample['shape'])}" if label else None
    )
ax.axvline(1, color="k", lw=1)
ax.set(xscale="log", xlabel="ours ÷ torch", yticks=range(5), yticklabels=names)
ax.set_xticks([0.5, 1, 2, 5], ["½", "1", "2", "5"])
ax.minorticks_off()
ax.invert_yaxis()
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# torch has layer normalisation as one fused piece of C++ that reads a row once and
# never writes the intermediate blocks; ours, line by line, does. RMSNorm is put
# together from simple operations in torch too, so the two are closer. With BN and IN
# the table turns for the large block, since torch's layers want their features on axis
# 1 and must work across memory, while ours take them where a Transformer has them,
# last.
#
# The same record holds a warning. How long does torch's RMSNorm take, against torch's
# LN?

# %%
for size in ("BERT", "long"):
    best = {
        n: min(speed[f"{size} {n}_norm"]["seconds"]["torch"]) for n in ("layer", "rms")
    }
    ratio = approx(best["rms"] / best["layer"], 0.5, 5)
    print(f"{size:5} torch's RMSNorm ÷ torch's LayerNorm: {ratio}")

# %% [markdown]
# On the processor of the record the layer with *less* to do is the slower one, because
# it is not fused. Counting says what can be saved; whether it is saved, the
# implementation decides.
#
#
#
# ## Where it stands: after, or before
#
# BERT and the first Transformer {cite}`vaswani2017attention` put the layer **after**
# the sum, {term}`post-norm 后归一化 <post-norm>`. GPT-2 {cite}`radford2019language` and
# nearly all large language models since put it **before** each sub-layer, inside the
# branch, {term}`pre-norm 前归一化 <pre-norm>`. The sum is the
# {term}`residual connection 残差连接 <residual connection>`:

# %% mystnb={"figure": {"caption": "One sub-layer f (attention or feed-forward) with its residual connection; \u03bd is the norm. Post-norm: the sum is normalised, so every norm stands in the way of the residual path. Pre-norm: only what enters f is normalised, and the residual path runs free from bottom to top.", "name": "fig-places"}, "image": {"alt": "Two flow charts. Left, post-norm: x goes to f and around it, they are added, then the norm follows on the main path. Right, pre-norm: x goes through the norm into f; the path around both is untouched."}} tags=["hide-input"]
figure, axes = figures.panels(2, height=1.4)
for ax, name in zip(
    axes, ["post-norm: ν(x + f(x))", "pre-norm: x + f(ν(x))"], strict=True
):
    figures.canvas(ax, 8, 2.2)
    ax.set_title(name)
    stops = [1, 2.6, 4.4, 6]
    labels = ["f", "+", "ν"] if name.startswith("post") else ["ν", "f", "+"]
    for label, x_ in zip(labels, stops[1:], strict=True):
        colour = {"ν": "orange", "f": "sky", "+": "grey"}[label]
        figures.box(ax, (x_, 1), label, colour, width=0.8)
    ax.text(0.6, 1, "x", ha="center", va="center")
    for a, b in zip([0.8, 3.1, 4.9, 6.5], [2.1, 3.9, 5.5, 7.6], strict=True):
        figures.arrow(ax, (a, 1), (b, 1))
    plus = stops[1 + labels.index("+")]
    figures.arrow(ax, (1.2, 1), (plus, 1.35), bend=-0.3)
plt.show()

# %% [markdown]
# What is the difference? Call the norm $\nu$ and write $N$ pre-norm layers out:
# $x_N = x_0 + \sum_{l<N} f_l(\nu(x_l))$. The path *grows*: entries of size about one
# are added again and again, and the last norm divides the gradient by the standard
# deviation of their sum. In post-norm each sum is scaled back at once, and nothing
# divides by the depth.
#
# A small language model with both arrangements, 24 layers deep, not trained at all:

# %%
show(toys.Layer)

# %% [markdown]
# Around it, `utils/toys.py` holds a tiny language model and a task: eight random
# symbols, then the same eight again. The second half can be predicted by whoever looks
# back.

# %%
show(toys.copied, toys.copy_loss)

# %% mystnb={"figure": {"caption": "Size of the gradient at the feed-forward weights of each layer, before the first step, five initialisations each. At the top post-norm's is several times larger; towards the bottom the two come together.", "name": "fig-gradients"}, "image": {"alt": "Two bundles of lines over 24 layers on a logarithmic axis. The post-norm bundle lies between two thirds and four. The pre-norm bundle falls from between one half and one at the bottom to about one third at the top."}}
gradients = {}
for pre in (False, True):
    for seed in range(5):
        torch.manual_seed(seed)
        lm = toys.SmallLM(24, pre)
        toys.copy_loss(lm, toys.copied(np.random.default_rng(seed), 32)).backward()
        sizes = [layer.down.weight.grad.norm().item() for layer in lm.layers]
        gradients[pre, seed] = np.array(sizes)

figure, ax = plt.subplots()
for (pre, seed), sizes in gradients.items():
    label = ("pre-norm" if pre else "post-norm") if seed == 0 else None
    ax.semilogy(range(1, 25), sizes, "C0" if pre else "C3", alpha=0.7, label=label)
ax.set(xlabel="layer", ylabel="size of the gradient")
ax.set_yticks([0.25, 0.5, 1, 2], ["¼", "½", "1", "2"])
ax.minorticks_off()
ax.legend(loc="lower left")
plt.show()

# %%
post, pre = ([gradients[place, s][-1] for s in range(5)] for place in (False, True))
print("top layer, post-norm:", *(approx(size, 0.6, 6) for size in post))
print("top layer, pre-norm: ", *(approx(size, 0.1, 0.8) for size in pre))
assert min(post) > 1.5 * max(pre)

# %% [markdown]
# Two arrangements of the same parts, and the layers near the output begin with
# gradients of different size. Xiong et al. {cite}`xiong2020layer` prove it for the
# start of training: near the output the gradients of post-norm are large, those of
# pre-norm shrink with the depth. That offers a reason for the *warm-up* (预热) of the
# original recipe, a learning rate that rises slowly from zero. The reason is disputed:
# Adam divides by the gradient's size, and Liu et al. {cite}`liu2020difficulty` find the
# cause in how far each update moves the output. The symptom is not disputed. Eight
# layers learn copying, with Adam and the rate 0.002: post-norm at once, post-norm with
# a warm-up over half of the steps, pre-norm at once. One seed runs here; a record keeps
# the last losses of eight.

# %% mystnb={"figure": {"caption": "Learning to copy with eight layers and one learning rate. Left: one seed, run on this page; the dashed line is guessing, ln 16. Right: the mean of the last ten losses for each of eight seeds, from the record. Post-norm hardly leaves the line, a warm-up gets it going, pre-norm needs none.", "name": "fig-warmup"}, "image": {"alt": "Left, three loss curves over 120 steps: post-norm stays near the dashed line at 2.77, with warm-up it falls part of the way, pre-norm falls to nearly zero. Right, dots for eight seeds: post-norm high, warm-up in between and scattered, pre-norm at zero."}}
recipes = {
    "post-norm": (False, 0),
    "post-norm, warm-up": (False, 60),
    "pre-norm": (True, 0),
}
runs = {name: toys.learn_to_copy(*recipe, seed=0) for name, recipe in recipes.items()}
record = records.read("norms_warmup")["samples"]

figure, (left, right) = figures.panels(2, sharey=True)
for place, (name, losses) in enumerate(runs.items()):
    left.plot(losses, label=name)
    right.plot(np.full(8, place) + np.linspace(-0.15, 0.15, 8), record[name], "o")
for ax in (left, right):
    ax.axhline(np.log(16), color="k", ls="--", lw=1)
left.set(xlabel="step", ylabel="loss", ylim=(0, 3.6))
left.legend(fontsize=8)
right.set_xticks(range(3), ["post", "post,\nwarm-up", "pre"])
plt.show()

# %%
last = {name: np.mean(losses[-10:]) for name, losses in runs.items()}
for name, loss in last.items():
    low, high = approx(min(record[name]), 0, 3), approx(max(record[name]), 0, 3)
    print(f"{name:19} here {approx(loss, 0, 3)}, recorded {low} to {high}")
assert last["post-norm"] > last["post-norm, warm-up"] + 0.2
assert last["post-norm, warm-up"] > last["pre-norm"] + 0.5
slow = record["post-norm, a quarter of the rate, 300 steps"]
print("post-norm at rate 0.0005, 300 steps:", *(approx(v, 0, 3) for v in sorted(slow)))

# %% [markdown]
# At this rate. The last line says what the picture does not: with a quarter of the rate
# and more steps, post-norm learns to copy as well, without a warm-up. What it loses is
# the freedom to step fast at the start.
#
# Pre-norm has a reverse side. Nothing scales its path back, so the values on it grow,
# and late layers, whose contribution stays of size one, weigh less and less
# {cite}`sun2025curse`:

# %%
torch.manual_seed(0)
lm, sizes = toys.SmallLM(24, pre=True), []
for layer in lm.layers:
    layer.register_forward_hook(lambda m, i, output: sizes.append(output.std().item()))
with torch.no_grad():
    lm(toys.copied(np.random.default_rng(0), 32))
for number in (1, 6, 12, 24):
    print(f"path after layer {number:2}:", approx(sizes[number - 1], 1, 6))
assert sizes[23] > 1.5 * sizes[0]

# %% [markdown]
# ## Inside attention: QK-norm
#
# Attention compares a query (查询) and a key (键) by their dot product (点积). Nothing
# bounds it. If training makes the projections ten times larger, the logits become a
# hundred times larger, the softmax puts all weight on one token, and its gradient
# vanishes: attention has *saturated* (饱和). {term}`QK-norm` {cite}`henry2020qknorm`
# gives query and key length one before the product and multiplies by one learned
# number. Models of today use RMSNorm instead, with learned scales; with a single scale
# $g$ both have at most the length $g\sqrt d$, so by Cauchy and Schwarz
#
# $$
# \Bigl| \frac{q^\top k}{\sqrt d} \Bigr| \le
# \frac{g\sqrt d \cdot g\sqrt d}{\sqrt d} = g^2 \sqrt d ,
# $$ (eq-qk)
#
# whatever the projections (投影) do. ($g$ itself is learned, but it is one number to
# watch.)

# %% mystnb={"figure": {"caption": "Left: the largest attention logit as the query and key projections are scaled up, with and without QK-norm, and the bound g\u00b2\u221ad. Right: the mean entropy (\u71b5) of the attention weights, in units of its maximum. Without the norm, attention saturates.", "name": "fig-qk"}, "image": {"alt": "Left panel, logarithmic: without the norm the largest logit grows as the square of the scale; with it the line is flat below the dashed bound. Right panel: without the norm the entropy falls from nearly one to nearly zero; with it, it is constant."}}
generator = np.random.default_rng(0)
d, L = 16, 32
x = torch.tensor(generator.normal(size=(L, 64)))
query, key = (torch.tensor(generator.normal(size=(64, d))) / 8 for _ in range(2))
scales = [1, 2, 4, 8, 16, 32]
largest, entropy = {}, {}
for name, f in {"plain": lambda t: t, "QK-norm": norms.rms_norm}.items():
    logits = [f(x @ query * s) @ f(x @ key * s).T / d**0.5 for s in scales]
    weights = [z.softmax(-1).clamp_min(1e-300) for z in logits]
    largest[name] = [z.abs().max().item() for z in logits]
    entropy[name] = [-(w * w.log()).sum(-1).mean().item() / np.log(L) for w in weights]

figure, (left, right) = figures.panels(2)
for name, style in {"plain": "C3o-", "QK-norm": "C0s-"}.items():
    left.loglog(scales, largest[name], style, label=name, base=2)
    right.semilogx(scales, entropy[name], style, label=name, base=2)
left.axhline(d**0.5, color="k", ls="--", lw=1)
left.set(xlabel="scale of the projections", ylabel="largest |logit|")
right.set(xlabel="scale of the projections", ylabel="entropy ÷ maximum", ylim=(0, 1))
right.legend()
plt.show()

# %%
assert max(largest["QK-norm"]) <= d**0.5
print("with QK-norm no logit exceeds g²√d = 4")
growth = largest["plain"][-1] / largest["plain"][0]
assert abs(growth / 32**2 - 1) < 1e-9
print("without, scale 32 makes the logits", 32**2, "times larger")

# %% [markdown]
# This is not a toy's worry: vision Transformers of about 8 billion parameters diverged
# when their logits exploded; LayerNorm on queries and keys cured it, and the model
# could grow to 22 billion {cite}`dehghani2023vit22b`.
#
# ## What models carry, read from their code
#
# Memory is a bad witness for such lists. The library `transformers` contains the models
# themselves; from a small configuration each can be built without weights, on torch's
# *meta* device, which keeps shapes and no numbers. Then we count the modules whose
# class has "Norm" in its name, per layer, and look for norms on queries and keys.

# %%
import transformers

small = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
grouped = small | {"num_key_value_heads": 2, "head_dim": 16}
recipes = {
    "ResNet (2015)": ("ResNet", {"depths": [1, 1, 1, 1]}),
    "BERT (2018)": ("Bert", small),
    "GPT-2 (2019)": ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "T5 (2019)": ("T5", {"d_model": 64, "num_layers": 2, "d_kv": 16, "num_heads": 4}),
    "ViT (2020)": ("ViT", small),
    "ConvNeXt (2022)": ("ConvNext", {"depths": [1, 1, 1, 1]}),
    "LLaMA (2023)": ("Llama", grouped),
    "Gemma 2 (2024)": ("Gemma2", grouped),
    "OLMo 2 (2024)": ("Olmo2", small | {"num_key_value_heads": 2}),
    "ModernBERT (2024)": ("ModernBert", small),
    "Qwen 3 (2025)": ("Qwen3", grouped),
}

# %%
built = {}
with warnings.catch_warnings(), torch.device("meta"):
    warnings.simplefilter("ignore")
    for name, (family, options) in recipes.items():
        config = getattr(transformers, f"{family}Config")(**options)
        built[name] = getattr(transformers, f"{family}Model")(config)


def is_norm(module):
    return "Norm" in type(module).__name__ and not list(module.children())


for name, model in built.items():
    found = {n: type(m).__name__ for n, m in model.named_modules() if is_norm(m)}
    classes = ", ".join(sorted(set(found.values())))
    inside = any(n.endswith(("q_norm", "k_norm")) for n in found)
    print(f"{name:18} {len(found):2} × {classes}{' (also on q, k)' if inside else ''}")

# %% [markdown]
# The story is in the column. Batch normalisation is where images are convolved.
# LayerNorm came with the Transformers and went over to vision. In T5, and in the
# language models from LLaMA {cite}`touvron2023llama` on, it is RMSNorm, though an
# encoder of 2024, ModernBERT, keeps LN; T5 calls its own `T5LayerNorm`, but there is no
# mean in it, as the check below shows. OLMo 2 and Qwen 3 have it on queries and keys.
# GroupNorm {cite}`wu2018group` and InstanceNorm are in none of the eleven.
#
# That dates the claim. "The common normalisation layers are BN, LN and IN" was a fair
# list in 2017. We ask the eleven models, and a class that is not torch's own we ask not
# for its name but for what it does: is it blind to a shift of all features, as LN is?


# %%
def what_it_computes(module):
    """The kind of a norm module; one that is not torch's own is fed and watched."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "BatchNorm"
    if isinstance(module, nn.LayerNorm):
        return "LayerNorm"
    module = module.to_empty(device="cpu")
    nn.init.ones_(module.weight)
    x = torch.linspace(-1, 1, len(module.weight))
    moved = (module(x + 10) - module(x)).abs().max()
    return "RMSNorm" if moved > 0.1 else "LayerNorm"


kinds = {
    name: {what_it_computes(m) for m in model.modules() if is_norm(m)}
    for name, model in built.items()
}
for name, found in kinds.items():
    print(f"{name:18} {', '.join(sorted(found))}")

# %%
settle(
    "norms-three-kinds",
    same(set().union(*kinds.values()), {"BatchNorm", "LayerNorm", "RMSNorm"}),
    same(sum(found == {"RMSNorm"} for found in kinds.values()), 5),
    same(kinds["LLaMA (2023)"], {"RMSNorm"}),
    same(kinds["T5 (2019)"], {"RMSNorm"}),
    same(kinds["BERT (2018)"], {"LayerNorm"}),
    same(kinds["ResNet (2015)"], {"BatchNorm"}),
    note="InstanceNorm is in none of the eleven, RMSNorm in five",
)

# %% [markdown]
# GroupNorm, by the way, is a dial: with one group it pools a whole text, with as many
# groups as features it is instance normalisation.

# %%
x = torch.tensor(np.random.default_rng(7).normal(size=(4, 7, 16)))
assert torch.equal(norms.group_norm(x, 16), norms.instance_norm(x))
whole = norms.standardise(x, (1, 2))
assert (norms.group_norm(x, 1) - whole).abs().max() < 1e-12
print("G = D: InstanceNorm; G = 1: one mean for a whole text")

# %% [markdown]
# ## Where people go wrong
#
# **The scale that starts at zero.** Gemma's RMSNorm multiplies by $1 + w$ and not by
# $w$, and $w$ starts at zero. Loaded into an ordinary RMSNorm, every scale is one too
# small, without an error. The library's own classes, beside ours:

# %%
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

weight = torch.tensor(np.random.default_rng(8).normal(0, 0.1, size=16))
for layer, scale in [
    (LlamaRMSNorm(16), weight),
    (T5LayerNorm(16), weight),
    (Gemma2RMSNorm(16), 1 + weight),
]:
    layer.weight.data = weight.clone()
    assert (layer(x) - norms.rms_norm(x, scale)).abs().max() < 1e-5
    print(f"{type(layer).__name__:14} equals ours, with the right scale, to 1e-5")
off = (layer(x) - norms.rms_norm(x, weight)).abs().max().item()
print("Gemma's, read as w instead of 1 + w, is off by", approx(off, 1, 5))

# %% [markdown]
# **Squares in 16 bits.** A float16 number ends at 65,504, so a square overflows from
# 256 on. An RMSNorm written in one line divides by infinity and returns zeros; the
# library, and ours, compute in float32 and return to 16 bits at the end.

# %%
large = torch.full((1, 1, 8), 300.0, dtype=torch.float16)
one_line = large / (large.square().mean(-1, keepdim=True) + 1e-6).sqrt()
print("one line in float16:", one_line.flatten()[:3].tolist())
print("ours:               ", norms.rms_norm(large).flatten()[:3].tolist())

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** Which changes of its input does each layer not notice
# ($\varepsilon = 0$)? A *shift* adds one number to all features of each token, a
# *stretch* multiplies each token by a positive number.

# %%
blind = ...  # {"LN": {"shift": True or False, "stretch": …}, "RMSNorm": {…}}
check.blind_to(blind)

# %% tags=["hide-cell"]
blind = {
    "LN": {"shift": True, "stretch": True},
    "RMSNorm": {"shift": False, "stretch": True},
}
check.blind_to(blind)

# %% [markdown]
# **2. QK-norm.** Write `qk_logits(q, k, g)`: q (L, d), k (M, d), a number g; the logits
# (L, M) of attention with both sides RMS-normalised ($\varepsilon = 0$) and scaled by
# g.

# %%
qk_logits = ...  # def qk_logits(q, k, g): …
check.qk_logits(qk_logits)


# %% tags=["hide-cell"]
def qk_logits(q, k, g):
    q, k = (g * t / t.square().mean(-1, keepdim=True).sqrt() for t in (q, k))
    return q @ k.T / q.shape[-1] ** 0.5


check.qk_logits(qk_logits)

# %% [markdown]
# **3. For an evening: turn an LN into an RMSNorm.** Equation {eq}`eq-rms` says that LN
# is RMSNorm after a subtraction, and the subtraction is linear, $x - \overline x = Mx$.
# So the `Linear` *before* the norm can do it. Write `centre(linear)`, which returns an
# `nn.Linear` with `rms_norm(centre(linear)(x)) == layer_norm(linear(x))`. (Compression
# methods that rotate a network's features begin with this step, because RMSNorm allows
# rotations and LN does not. Why?)

# %%
centre = ...  # def centre(linear): …
check.centre(centre)


# %% tags=["hide-cell"]
def centre(linear):
    result = nn.Linear(
        linear.in_features, linear.out_features, dtype=linear.weight.dtype
    )
    with torch.no_grad():
        result.weight.copy_(linear.weight - linear.weight.mean(0))
        result.bias.copy_(linear.bias - linear.bias.mean())
    return result


check.centre(centre)

# %% [markdown]
# A rotation $Q$ keeps the length of a vector, so
# $\operatorname{RMSNorm}(Qx) = Q\operatorname{RMSNorm}(x)$, and $Q$ can be hidden in
# the weights on both sides. LN subtracts along $(1, \dots, 1)$, and a rotation moves
# that direction.
#
# ## In short
#
# RMSNorm is LN without the mean; in the encoder that we looked at there was hardly a
# mean to remove, and leaving it out saves a reduction, where the implementation lets
# it. Where the norm stands decides how large the first gradients are: post-norm's are
# large near the output, and it asks for a warm-up or a smaller rate; pre-norm leaves
# the residual path free, which then grows. On queries and keys a norm bounds every
# attention logit, for a given scale. Language models of today carry RMSNorm, before the
# sub-layers, after them inside the branch (OLMo 2), or on both sides (Gemma 2).
#
# This chapter followed one operation. Where to look a claim up: [the
# ledger](../ledger).
