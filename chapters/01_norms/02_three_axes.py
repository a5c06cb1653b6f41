# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three axes
#
# Inside a model, a batch of texts is a block of numbers with three axes: which text,
# which position in it, which feature of that token. Nearly every normalisation layer
# (归一化层) does the same two things to this block: it subtracts a mean (均值) and divides by
# a standard deviation (标准差). The layers differ in one thing only: **which cells of the
# block go into the mean.**
#
# That sounds too simple to get wrong. It often is, in notes and in code that runs
# without an error. At the end of this page you can
#
# - say for any normalisation layer which cells it pools, and make the layer itself
#   prove it;
# - write batch, layer, instance, group and RMS normalisation from one line;
# - derive the gradient of layer normalisation and say what it throws away;
# - recognise the swapped layout that hides behind three popular wrong pictures;
# - say what BERT computes, from its real weights.
#
# You need tensors, mean and variance, and, for the gradient, the chain rule.

# %% tags=["hide-input"]
import numpy as np
import torch
from torch import nn

from utils import norms
from utils.exercises import norms as check
from utils.lab import (
    above,
    apart,
    approx,
    below,
    close,
    datasets,
    figures,
    notes_say,
    pretrained,
    raises,
    same,
    settle,
    show,
)
from utils.lab.figures import plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say("norms-bn-axis", "norms-ln-axis", "norms-in-axis", "norms-bert-ln-is-in")

# %% [markdown]
# Keep these four sentences in mind. None of them will survive, and the interesting part
# is that one single slip explains them all.
#
# ## By hand: one number, four fates
#
# Two texts, four tokens each, two features a token. The block has the shape
# $(B, L, D) = (2, 4, 2)$; let us follow its first number, the 2.

# %%
x = torch.tensor(
    [
        [[2.0, 8], [4, 1], [4, 3], [4, 0]],  # text 1: four tokens of two features
        [[5, 6], [5, 2], [7, 4], [9, 8]],  # text 2
    ],
    dtype=torch.double,
)
print("shape (B, L, D):", tuple(x.shape))
print("feature 0, text by text:", x[:, :, 0].tolist())

# %% [markdown]
# - **Batch normalisation** ({term}`BN <batch normalisation (BN)>`) asks how unusual the
#   2 is for *feature 0*: among 2, 4, 4, 4, 5, 5, 7, 9, all tokens of all texts. Their
#   mean is 5, their variance 4. The 2 becomes $(2-5)/2 = -\tfrac32$.
# - **Instance normalisation** ({term}`IN <instance normalisation (IN)>`) asks the same
#   within one text: among 2, 4, 4, 4. Mean $\tfrac72$, variance $\tfrac34$. The 2
#   becomes $-\sqrt3$.
# - **Layer normalisation** ({term}`LN <layer normalisation (LN)>`) asks how unusual it
#   is *within its token*: among 2 and 8. Mean 5, variance 9. The 2 becomes $-1$.
# - **RMSNorm** ({term}`均方根归一化 <RMSNorm>`) looks at the same two numbers and does not
#   subtract the mean: $2/\sqrt{(4+64)/2} = 2/\sqrt{34}$.
#
# One number, four answers, because four different crowds were asked. The variance is
# always the mean squared deviation, with divisor $n$.

# %%
fates = {
    "BN": norms.batch_norm(x, eps=0)[0, 0, 0],
    "IN": norms.instance_norm(x, eps=0)[0, 0, 0],
    "LN": norms.layer_norm(x, eps=0)[0, 0, 0],
    "RMSNorm": norms.rms_norm(x, eps=0)[0, 0, 0],
}
by_hand = {"BN": -3 / 2, "IN": -(3**0.5), "LN": -1.0, "RMSNorm": 2 / 34**0.5}
for name, value in fates.items():
    assert abs(value - by_hand[name]) < 1e-12
print("all four agree with the hand calculation to 1e-12")

# %% [markdown]
# ## In general: a mean over a set of axes
#
# Let $S(b,t,f)$ be the cells that are averaged together with the cell at text $b$,
# position $t$, feature $f$. Then every layer of this page except RMSNorm is
#
# $$
# \hat x_{btf} = \frac{x_{btf} - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad
# \mu = \frac{1}{|S|} \sum_{s \in S} x_s, \qquad
# \sigma^2 = \frac{1}{|S|} \sum_{s \in S} (x_s - \mu)^2 ,
# $$ (eq-standardise)
#
# followed by a learned scale and shift per feature, $y = \gamma_f\, \hat x + \beta_f$
# with $\gamma, \beta \in \mathbb{R}^D$. The small $\varepsilon$ keeps the root away
# from zero. All the difference between the layers is the set $S$, and $S$ is a choice
# of axes (GroupNorm first cuts the features into groups):
#
# | layer | pooled axes | how many means | numbers in each |
# |---|---|---|---|
# | BN {cite}`ioffe2015batch` | batch, length | $D$ | $B \cdot L$ |
# | LN {cite}`ba2016layer` | features | $B \cdot L$ | $D$ |
# | IN {cite}`ulyanov2016instance` | length | $B \cdot D$ | $L$ |
# | GroupNorm, $G$ groups {cite}`wu2018group` | length, $D/G$ features | $B \cdot G$ | $L \cdot D/G$ |
# | RMSNorm {cite}`zhang2019rms` | features (no mean) | $B \cdot L$ | $D$ |
#
# Equation {eq}`eq-standardise` as a plain loop, one cell at a time, so that nothing
# hides behind a library:


# %%
def crowd(x, place, axes):
    """The cells averaged with that at `place`: free along `axes`, else fixed."""
    index = tuple(slice(None) if a in axes else place[a] for a in range(x.ndim))
    return x[index].flatten()


def by_loop(x, axes):
    result = torch.empty_like(x)
    for place in np.ndindex(*x.shape):
        cells = crowd(x, place, axes)
        mean = sum(cells) / len(cells)
        variance = sum((cells - mean) ** 2) / len(cells)
        result[place] = (x[place] - mean) / variance**0.5
    return result


# %% [markdown]
# The tidy version handles all cells at once, and is what the layers in `utils/norms.py`
# are made of. `keepdim=True` leaves an axis of length one where the mean was taken, so
# that the subtraction broadcasts (广播) back over it.

# %%
for axes in [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]:
    assert torch.allclose(by_loop(x, axes), norms.standardise(x, axes, eps=0))
print("loop and tensor version agree on every choice of axes")
show(norms.standardise, norms.layer_norm, norms.instance_norm)

# %% [markdown]
# `BatchNorm` has one thing more, a memory for use after training; the [next
# page](03_why_bert_uses_layernorm) needs it. Here only its statistics matter.
#
# ## Ask the layer itself
#
# Definitions can be misread, code can be misread. There is a way to find the crowd $S$
# that involves no reading at all: **change one input cell and see whether an output
# moves.** If the output at $(0,0,0)$ reacts to an input cell, that cell was in the
# crowd. The {term}`gradient 梯度 <gradient>` asks this of all cells at once: it is zero
# wherever nothing can move, and elsewhere, for random numbers, it is not.


# %%
def felt_by(layer, shape, place=(0, 0, 0)):
    """Input cells that the output at `place` reacts to: a boolean block of `shape`."""
    x = torch.tensor(np.random.default_rng(1).normal(size=shape), requires_grad=True)
    layer(x)[place].backward()
    return x.grad != 0


def features_first(layer):
    """torch's BatchNorm1d and its kin expect (B, D, L): turn, apply, turn back."""
    return lambda x: layer(x.transpose(1, 2)).transpose(1, 2)


B, L, D = 3, 4, 6
options = {"affine": False, "dtype": torch.double}
layers = {
    "BatchNorm": features_first(nn.BatchNorm1d(D, **options)),
    "LayerNorm": nn.LayerNorm(D, dtype=torch.double),
    "InstanceNorm": features_first(nn.InstanceNorm1d(D, **options)),
    "GroupNorm, 2 groups": features_first(nn.GroupNorm(2, D, **options)),
    "RMSNorm": nn.RMSNorm(D, dtype=torch.double),
}
felt = {name: felt_by(layer, (B, L, D)) for name, layer in layers.items()}
for name, cells in felt.items():
    print(f"{name:20} pools {int(cells.sum()):2} of {B * L * D} cells")

# %% [markdown]
# The counts are those of the table: $B \cdot L = 12$, $D = 6$, $L = 4$,
# $L \cdot D/G = 12$, $D = 6$. Drawn, with the cells that PyTorch's own layers react to:

# %% mystnb={"figure": {"caption": "The cells that go into one mean, lit. Features run to the right, positions down, texts to the back. Nothing here was drawn from a definition: the lit cells are those to which the output of PyTorch's layer at the front upper left cell reacts.", "name": "fig-cubes"}, "image": {"alt": "Five blocks of cells. BatchNorm lights one feature over all texts and positions. LayerNorm and RMSNorm light one token over all its features. InstanceNorm lights one feature over the positions of one text. GroupNorm lights half of the features over the positions of one text."}}
seats = plt.figure(figsize=(6.4, 4.2)).subplot_mosaic("AABBCC;.DDEE.")
for ax, (name, cells) in zip(seats.values(), felt.items(), strict=True):
    figures.cube(ax, cells, labels=("texts", "positions", "features"), title=name)
plt.show()

# %% [markdown]
# BN and IN look **along a feature**: is this a high value, for what this feature
# usually is? LN and RMSNorm look **along a token**: is this a high value, for this
# vector? A token vector under LN knows nothing of its neighbours, of the other texts,
# or of how many there are. Everything on the [next page](03_why_bert_uses_layernorm)
# follows from this one picture.
#
# ## The three pictures of the notes
#
# The notes draw other pictures. For the same block [batch, length, features] they say
#
# - BN takes the first character of text 1 and the first character of text 2: *a
#   position, over the texts*;
# - LN takes each text: *positions and features of one text*;
# - IN takes each character's {term}`embedding 嵌入 <embedding>`: *one token*.
#
# Now a small experiment. PyTorch's `BatchNorm1d` and `InstanceNorm1d` want the features
# on axis 1, as $(B, D, L)$. What if somebody feeds $(B, L, D)$ as it is? The layers
# run, without a word, and take the **positions for features**. Ask them again which
# cells they pool:

# %%
misfed = {
    "BatchNorm": nn.BatchNorm1d(L, **options),  # takes axis 1, the positions
    "LayerNorm": nn.LayerNorm([L, D], dtype=torch.double),  # all axes but the batch
    "InstanceNorm": nn.InstanceNorm1d(L, **options),
}
felt_misfed = {name: felt_by(layer, (B, L, D)) for name, layer in misfed.items()}

# %% mystnb={"figure": {"caption": "Above: the block read as an image. BatchNorm1d and InstanceNorm1d are fed with (B, L, D) as it is, LayerNorm has its image form, over all axes but the batch. Below: the layers as a Transformer would have them. The upper row is, picture by picture, what the notes describe.", "name": "fig-misfed"}, "image": {"alt": "Two rows of three blocks. Above, read as an image: BatchNorm lights one position over all texts and features, LayerNorm lights a whole text, InstanceNorm lights one token. Below, rightly fed: one feature over texts and positions, one token, one feature over the positions of a text."}} tags=["hide-input"]
figure, grid = plt.subplots(2, 3, figsize=(6.4, 4.2))
for row, (colour, pools) in enumerate([("vermilion", felt_misfed), ("orange", felt)]):
    for ax, name in zip(grid[row], misfed, strict=True):
        title = f"{name}, {'as an image' if row == 0 else 'as text'}"
        figures.cube(ax, pools[name], colour, ("texts", "positions", "features"), title)
plt.show()

# %% [markdown]
# The upper row *is* the notes. One reading explains all three mistakes: the block is
# taken for an image, (batch, channel, place), with the position in the channel's seat.
# `nn.LayerNorm([L, D])` is the form that image models used, over everything but the
# batch.
#
# Before the verdicts, the numbers. Random blocks, in float64, so that "equal" can mean
# equal to twelve digits:

# %%
generator = np.random.default_rng(0)
x = torch.tensor(generator.normal(size=(4, 7, 16)))  # (B, L, D)
B, L, D = x.shape
turned = x.transpose(1, 2)  # (B, D, L), as BatchNorm1d and InstanceNorm1d want it

bn = nn.BatchNorm1d(D, **options)(turned).transpose(1, 2)
bn_misfed = nn.BatchNorm1d(L, **options)(x)
per_position_and_feature = norms.standardise(x, (0,))  # over the texts alone
settle(
    "norms-bn-axis",
    close(bn, norms.standardise(x, (0, 1)), 1e-12),
    close(bn_misfed, norms.standardise(x, (0, 2)), 1e-12),
    apart(bn, per_position_and_feature, 0.1),
    apart(bn, bn_misfed, 0.1),
)

# %%
ln = nn.LayerNorm(D, dtype=torch.double)(x)
ln_whole_text = nn.LayerNorm([L, D], dtype=torch.double)(x)
settle(
    "norms-ln-axis",
    close(ln, norms.standardise(x, (2,)), 1e-12),
    close(ln_whole_text, norms.standardise(x, (1, 2)), 1e-12),
    apart(ln, ln_whole_text, 0.1),
    apart(ln, norms.standardise(x, (1,)), 0.1),
    note="neither a whole text nor axis 1",
)

# %%
inorm = nn.InstanceNorm1d(D, **options)(turned).transpose(1, 2)
in_misfed = nn.InstanceNorm1d(L, **options)(x)
settle(
    "norms-in-axis",
    close(inorm, norms.standardise(x, (1,)), 1e-12),
    apart(inorm, norms.standardise(x, (2,)), 0.1),
    close(in_misfed, ln, 1e-12),
    note="the last line is the mistake at work",
)

# %% [markdown]
# Look at the last line of the last card: an InstanceNorm that is fed the wrong way
# round **is** LayerNorm, to twelve digits. Whoever tried it on a block of texts saw two
# layers agree and drew the natural, wrong conclusion, which is the fourth claim.
#
# ## What BERT computes
#
# "BERT calls `torch.nn.LayerNorm`, but what it computes is IN." We need not argue about
# it: the real weights are here. MiniLM {cite}`wang2020minilm` is a BERT
# {cite}`devlin2019bert` of six layers and width 384, later trained further to give
# whole sentences a vector. It has 13 modules of type `LayerNorm`: one after the
# embeddings, two in each layer. We let it read a padded batch and catch, with a *hook*
# (钩子: a function that a module calls on its way), what goes into each of the 13 and
# what comes out.

# %%
model, tokenizer = pretrained.encoder()
texts = [s.en for s in datasets.sentences()[8:24]]
batch = tokenizer(texts, padding=True, return_tensors="pt")
modules = {n: m for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
caught = {}
for name, module in modules.items():
    module.register_forward_hook(
        lambda module, inputs, output, name=name: caught.update(
            {name: (inputs[0], output)}
        )
    )
with torch.inference_mode():
    model(**batch)
print(
    len(modules),
    "LayerNorm modules, each fed",
    tuple(next(iter(caught.values()))[0].shape),
)

# %% [markdown]
# Three candidates compute each output again from the same input and the same 384
# learned scales and shifts: our `layer_norm`, `instance_norm` and `batch_norm`. The
# worst error of each, module by module:

# %% mystnb={"figure": {"caption": "Largest difference between what each of MiniLM's 13 LayerNorm modules gave and what three formulas give on the same input. Only one of them is the module.", "name": "fig-bert"}, "image": {"alt": "Logarithmic plot over 13 modules. Layer normalisation stays below one hundred-thousandth everywhere; instance and batch normalisation lie near ten."}}
candidates = {
    "layer_norm": norms.layer_norm,
    "instance_norm": norms.instance_norm,
    "batch_norm": norms.batch_norm,
}
worst = {name: [] for name in candidates}
for name, module in modules.items():
    given, output = caught[name]
    for candidate, f in candidates.items():
        again = f(given, module.weight, module.bias, eps=module.eps)
        worst[candidate].append((again - output).abs().max().item())

figure, ax = plt.subplots()
for (candidate, errors), marker in zip(worst.items(), "os^", strict=True):
    ax.semilogy(errors, marker=marker, label=candidate)
ax.set(xlabel="module, from the embeddings upwards", ylabel="largest |difference|")
ax.legend()
plt.show()

# %%
for candidate, errors in worst.items():
    shown = approx(min(errors), 0, 50), approx(max(errors), 0, 50)
    print(f"{candidate:14} errors from {shown[0]} to {shown[1]}")

# %% [markdown]
# What is left of the first error is the rounding of float32, which carries about seven
# digits. The other two are not approximations of what BERT does; they are something
# else. The learned scales say the same without any run: one number per feature, as LN
# has it. An InstanceNorm over a mis-fed block of length $L$ would carry $L$ of them,
# one per *position*, and could not even be applied to a text of another length.

# %%
weights = {tuple(module.weight.shape) for module in modules.values()}
length = batch["input_ids"].shape[1]
in_of_length = nn.InstanceNorm1d(length, affine=True)
given, eps = caught["embeddings.LayerNorm"][0], modules["embeddings.LayerNorm"].eps
misfed_in = nn.InstanceNorm1d(length, eps=eps)(given)  # without learned scales
unscaled = norms.layer_norm(given, eps=eps)
settle(
    "norms-bert-ln-is-in",
    same(sorted(weights), [(384,)]),
    below(max(worst["layer_norm"]), 1e-4),
    above(min(worst["instance_norm"]), 0.1),
    close(misfed_in, unscaled, 1e-4),
    same(in_of_length.weight.shape, (length,)),
    raises(ValueError, lambda: in_of_length(given[:, 1:])),
)

# %% [markdown]
# To be fair to the notes: by IN they mean "each character by itself", and those are the
# cells that BERT pools. The cells are right, the name is wrong, and the layer that
# bears the name computes something else.
#
# ## The way back: what LayerNorm does to a gradient
#
# Forward, LN throws two things away: the mean of the vector and its length. What does
# it do backward? Let $g = \partial \mathcal L / \partial \hat x \in \mathbb{R}^D$ be
# the gradient that arrives at $\hat x = (x - \mu)/\sigma$ for one token (with scale
# $\gamma$, $g$ is $\gamma$ times the gradient at the output). We write $\overline{u}$
# for the mean of the entries of $u$, and take $\varepsilon$ into
# $\sigma^2 = \overline{(x-\mu)^2} + \varepsilon$.
#
# Nudge $x$ by a small $\mathrm dx$. The mean moves by $\overline{\mathrm dx}$, and
# since $\sigma^2$ is a mean of squares,
# $\mathrm d\sigma = \overline{(x-\mu)\,\mathrm dx}/\sigma = \overline{\hat x\, \mathrm dx}$
# (the part of $\mathrm d\mu$ falls out because $\overline{x - \mu} = 0$). The quotient
# rule gives
#
# $$
# \mathrm d\hat x = \frac{\mathrm dx - \overline{\mathrm dx}}{\sigma}
#   - \frac{x-\mu}{\sigma^2}\, \mathrm d\sigma
#   = \frac1\sigma \bigl( \mathrm dx - \overline{\mathrm dx}
#   - \hat x\; \overline{\hat x\, \mathrm dx} \bigr).
# $$
#
# The bracket is a symmetric linear map of $\mathrm dx$, so the way back is the same
# map, applied to $g$:
#
# $$
# \frac{\partial \mathcal L}{\partial x}
#   = \frac1\sigma \bigl( g - \overline{g} - \hat x\; \overline{g\,\hat x} \bigr).
# $$ (eq-ln-backward)
#
# In words: take the gradient, remove its mean, remove its part along $\hat x$, divide
# by $\sigma$. Both removals are what the forward pass promised. Shifting all features
# changes nothing, so no gradient may point along $(1, \dots, 1)$; stretching the vector
# changes nothing (with $\varepsilon = 0$), so none may point along $\hat x$.


# %%
def layer_norm_backward(x, g, eps=1e-5):
    """The gradient at x (..., D) from the gradient g at x̂ (..., D)."""
    centred = x - x.mean(-1, keepdim=True)
    sigma = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    xhat = centred / sigma
    along = (g * xhat).mean(-1, keepdim=True)
    return (g - g.mean(-1, keepdim=True) - xhat * along) / sigma


g = torch.tensor(generator.normal(size=(4, 7, 16)))
leaf = x.clone().requires_grad_()
nn.functional.layer_norm(leaf, (D,)).backward(g)
ours = layer_norm_backward(x, g)
assert (ours - leaf.grad).abs().max() < 1e-12
print("equals autograd to 1e-12")
assert ours.sum(-1).abs().max() < 1e-12
exact = layer_norm_backward(x, g, eps=0)
assert (exact * norms.layer_norm(x, eps=0)).sum(-1).abs().max() < 1e-12
print("orthogonal to (1, …, 1), and with ε = 0 to x̂")

# %% [markdown]
# Two of $D$ directions are gone. With 384 features nobody misses them. With **two**
# features nothing is left: the vector (2, 8) of our first example becomes $(-1, 1)$,
# and so does every other vector whose second entry is the larger one.

# %%
pair = torch.tensor([[2.0, 8.0], [-3.0, 5.0], [0.1, 0.2]], dtype=torch.double)
pair.requires_grad_()
out = norms.layer_norm(pair, eps=0)
(out * torch.tensor([3.0, -7.0])).sum().backward()
assert (out - torch.tensor([-1.0, 1.0])).abs().max() < 1e-12
assert pair.grad.abs().max() < 1e-12
print("three different pairs, one output (−1, 1), and no gradient at all")

# %% [markdown]
# There is a second effect in equation {eq}`eq-ln-backward`, the factor $1/\sigma$: a
# vector with large numbers gets a small gradient. Make the *weights* that produced $x$
# ten times larger, and their gradient becomes ten times smaller; relative to their
# size, a step changes them a hundred times less. Too large an
# {term}`initialisation 初始化 <initialisation>` brakes itself.

# %%
for scale in (0.1, 10.0):
    scaled = layer_norm_backward(scale * x, g, eps=0)
    assert (scaled * scale - exact).abs().max() < 1e-9
print("x made 10 times larger: the gradient is 10 times smaller, to 1e-9")

# %% [markdown]
# ## Equal to the library
#
# Values and gradients of all five, ours against `torch.nn.functional`, in float64:

# %%
F = nn.functional
pairs = {
    "layer": (norms.layer_norm, lambda x: F.layer_norm(x, (D,))),
    "rms": (norms.rms_norm, lambda x: F.rms_norm(x, (D,), eps=1e-6)),
    "instance": (norms.instance_norm, features_first(F.instance_norm)),
    "group": (
        lambda x: norms.group_norm(x, 4),
        features_first(lambda x: F.group_norm(x, 4)),
    ),
    "batch": (
        norms.batch_norm,
        features_first(lambda x: F.batch_norm(x, None, None, training=True)),
    ),
}
for name, (mine, library) in pairs.items():
    results = []
    for f in (mine, library):
        leaf = x.clone().requires_grad_()
        f(leaf).backward(g)
        results.append((f(x), leaf.grad))
    (value, grad), (value_, grad_) = results
    assert (value - value_).abs().max() < 1e-12 and (grad - grad_).abs().max() < 1e-12
    print(f"{name + '_norm':14} values and gradients agree to 1e-12")

# %% [markdown]
# ## Where people go wrong
#
# Three slips in one line of code, all silent.
#
# **ε outside the root, and Bessel's correction (贝塞尔校正).** `torch.std` divides by $n-1$
# unless told otherwise, and the teaching version in the Annotated Transformer
# {cite}`rush2018annotated` writes `(x - mean) / (std + eps)`. For one vector of 384
# features the first changes the result by a factor $\sqrt{383/384}$. It trains as well
# as ever, and it hardly shows even with somebody else's weights, in all 13 modules of
# MiniLM.


# %%
def slipped(x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)


ratio = slipped(x) / norms.layer_norm(x, eps=0)
bessel = ((D - 1) / D) ** 0.5
assert (ratio - bessel).abs().max() < 1e-4
print(f"width {D}: every output {1 - bessel:.1%} too small;", end=" ")
print(f"width 384: {1 - (383 / 384) ** 0.5:.2%}")
flat = torch.full((1, 384), 0.5) + 1e-4 * torch.linspace(-1, 1, 384)  # nearly constant
gap = (slipped(flat) / norms.layer_norm(flat, eps=1e-5)).abs().median().item()
print("nearly constant vector: outputs", approx(gap, 20, 60), "times too large")


# %%
def slipped_module(module, inputs, output):
    return slipped(inputs[0]) * module.weight + module.bias


with torch.inference_mode():
    right = model(**batch).last_hidden_state[batch["attention_mask"].bool()]
    hooks = [m.register_forward_hook(slipped_module) for m in modules.values()]
    wrong = model(**batch).last_hidden_state[batch["attention_mask"].bool()]
for hook in hooks:
    hook.remove()
gap, largest = (wrong - right).abs().max().item(), right.abs().max().item()
print("MiniLM with both slips: outputs move by at most", approx(gap, 0.001, 0.1))
print("the largest output is", approx(largest, 2, 20))

# %% [markdown]
# No test of the trained model would find it; a comparison with the library finds it at
# once. And ε outside the root can do worse: on a vector that is nearly constant,
# $\sqrt{\sigma^2+\varepsilon}$ holds the output small, as intended, and
# $\sigma + \varepsilon$ blows tiny differences up.
#
# **Variance as "mean of squares minus square of the mean".** The identity is true on
# paper. In float32, at a mean of ten thousand, both terms are near $10^8$, where
# neighbouring float32 numbers are 8 apart; a variance of about one drowns.

# %%
far = torch.tensor([9999.0, 9999, 10000, 10001, 10001, 10000, 9999, 10001])
true = far.double().var(correction=0)
short_cut = far.square().mean() - far.mean() ** 2
centred = (far - far.mean()).square().mean()
print("variance, in float64:", true.item())
off = (centred - true).abs() < 1e-6
print("centred first, float32: off by less than 1e-6:", bool(off))
off = (short_cut - true).abs() > 0.7
print("short cut, float32: wrong by nearly all of it, or more:", bool(off))

# %% [markdown]
# `standardise` subtracts first, and that is why. The check for all three slips is the
# same and costs a line: compare with `torch.nn.functional.layer_norm` on a narrow
# vector, on a nearly constant one and on one far from zero.
#
# ## Exercises
#
# **1. Warm-up.** A batch of 8 texts, 128 tokens each, 768 features, goes through BN,
# LN, IN and GroupNorm with 32 groups. How many numbers are averaged in one mean of
# each?

# %%
counts = ...  # {"BN": …, "LN": …, "IN": …, "GN": …}
check.crowd_sizes(counts)

# %% tags=["hide-cell"]
counts = {"BN": 8 * 128, "LN": 768, "IN": 128, "GN": 128 * 768 // 32}
check.crowd_sizes(counts)

# %% [markdown]
# **2. Layer normalisation, by yourself.** Write `my_layer_norm(x, weight, bias, eps)`
# for x of shape (..., D), without looking above. The check knows the slips of the last
# section.

# %%
my_layer_norm = ...  # def my_layer_norm(x, weight, bias, eps): …
check.layer_norm(my_layer_norm)


# %% tags=["hide-cell"]
def my_layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.pow(2).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * weight + bias


check.layer_norm(my_layer_norm)

# %% [markdown]
# **3. Break it.** Open `utils/norms.py`, and in `standardise` move `eps` out of the
# root. Run the section *Equal to the library* again (JupyterLab reloads the module by
# itself): LN goes red. Now move `"rms"` to the front of `pairs`. Why does it stay
# green? Then put everything back.
#
# **4. For an evening: the backward pass of RMSNorm.** Derive it as we did for LN, and
# write `rms_norm_backward(x, g, eps)` for the gradient `g` that arrives at
# $\hat x = x/\sqrt{\overline{x^2}+\varepsilon}$. How many directions does it remove?

# %%
rms_norm_backward = ...  # def rms_norm_backward(x, g, eps): …
check.rms_norm_backward(rms_norm_backward)


# %% tags=["hide-cell"]
def rms_norm_backward(x, g, eps):
    rms = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    xhat = x / rms
    return (g - xhat * (g * xhat).mean(-1, keepdim=True)) / rms


check.rms_norm_backward(rms_norm_backward)

# %% [markdown]
# One direction, with $\varepsilon = 0$: that of $x$ itself. Nothing removes the mean.
#
# ## In short
#
# A normalisation layer is a mean and a variance over a set of axes, and the set is the
# layer. BN pools a feature over texts and positions, IN a feature over the positions of
# one text, LN and RMSNorm a token over its features. The notes' three pictures are what
# the layers pool when a block of texts is read as images. BERT computes layer
# normalisation, on real weights, to float32's rounding. Backward, LN removes the
# gradient's mean and its part along the output, and divides by the standard deviation.
#
# Next: [why BERT uses LayerNorm](03_why_bert_uses_layernorm), where the lit cells of
# {numref}`fig-cubes` decide what padding, batch size and length can do to a token.
