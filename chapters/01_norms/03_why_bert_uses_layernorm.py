# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why BERT uses LayerNorm
#
# Batch normalisation stood in the networks that won the image benchmarks when the
# Transformer appeared, and the Transformer did not use it. The usual reason is one
# line: "BN is for images, LN is for text". That is a habit, and a habit explains
# nothing. What exactly would go wrong?
#
# This page breaks it on purpose: it feeds padding, batches of one, long and short
# texts, and badly mixed batches to both layers, on the real activations of a BERT, and
# finds which of the usual reasons carry weight. One of them turns out to be stronger
# than its fame, and one weaker. At the end you can
#
# - say what padding and batch size do to a token under BN and under LN, and by how
#   much;
# - tell the three different illnesses of BN on text apart, and which of them a mask
#   cures;
# - describe the set on which LN's outputs lie, and say why "Gaussian" is the wrong
#   word.
#
# You need [three axes](02_three_axes): BN pools a feature over all tokens of the batch,
# LN pools a token over its features.

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
    settle_all,
    show,
)
from utils.lab.figures import COLOURS, plt

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "norms-ln-variable-length",
    "norms-ln-batch-size",
    "norms-cv-bn-nlp-ln",
    "norms-ln-sphere-gaussian",
    "norms-ln-scale-constraint",
)

# %% [markdown]
# ## By hand: two pads change a sign
#
# One feature, two tokens: the values 4 and 8. Their mean is 6, their variance 4, so
# batch normalisation turns the 4 into $(4-6)/2 = -1$: *below average*.
#
# Now another text in the batch is longer, and ours is filled up with two
# {term}`pads 填充 <padding>` of value 0. The mean of 4, 8, 0, 0 is 3, the variance
# $(1 + 25 + 9 + 9)/4 = 11$, and the same 4 becomes $(4-3)/\sqrt{11} \approx 0.30$:
# *above average*. Nothing about our text has changed; only its neighbour has.

# %%
tokens = torch.tensor([[[4.0], [8.0]]], dtype=torch.double)  # (B, L, D) = (1, 2, 1)
padded = torch.tensor([[[4.0], [8.0], [0.0], [0.0]]], dtype=torch.double)
before, after = (norms.batch_norm(t, eps=0)[0, 0, 0] for t in (tokens, padded))
assert abs(before + 1) < 1e-12 and abs(after - 1 / 11**0.5) < 1e-12
print("4 without pads → −1; with two pads → +1/√11")

# %% [markdown]
# Layer normalisation asks only the token itself. Pads are other tokens; they cannot be
# heard.
#
# ## Real padding
#
# In a real model a pad is not a zero vector. BERT gives the token `[PAD]` an embedding
# like any other, adds a position to it and sends it through all layers; only the
# attention mask keeps others from looking at it. We read 32 sentences, from one word to
# more than twenty, in one batch, and catch the input of each of the model's 13
# LayerNorms. (The model is MiniLM again, a BERT that was then trained to give whole
# sentences a vector; that makes the tokens of a text more alike than in BERT itself.)

# %%
model, tokenizer = pretrained.encoder()
texts = [sentence.en for sentence in datasets.sentences()]


def norm_inputs(texts, length=None):
    """Inputs of all 13 LayerNorms, each (B, L, 384), and the mask (B, L)."""
    how = (
        {"padding": "max_length", "max_length": length} if length else {"padding": True}
    )
    batch = tokenizer(texts, return_tensors="pt", **how)
    found = []
    hooks = [
        module.register_forward_hook(lambda m, inputs, output: found.append(inputs[0]))
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
    ]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return found, batch["attention_mask"].bool()


inputs, mask = norm_inputs(texts)
B, L, D = inputs[0].shape
print(f"block {B}×{L}×{D}; {int(mask.sum())} real tokens, {int((~mask).sum())} pads")

# %% [markdown]
# Nearly half of the block is padding. What it does depends on how much of it there is,
# so we add more, pad by pad, and watch how far the *real* tokens move.

# %% mystnb={"figure": {"caption": "How far real tokens move when the whole batch is padded further and read again, at the middle of MiniLM: mean absolute change of the normalised values, whose standard deviation is 1. LN and BN with a mask stay where they were.", "name": "fig-padding"}, "image": {"alt": "Change against the number of extra pads per text. Batch normalisation rises from zero to about one half at 64 pads. Layer normalisation and batch normalisation with a mask stay at zero."}}
extra = [0, 1, 2, 4, 8, 16, 32, 64]
layers = {
    "BN": lambda x, mask: norms.batch_norm(x),
    "BN, masked": lambda x, mask: norms.batch_norm(x, mask=mask),
    "LN": lambda x, mask: norms.layer_norm(x),
}
moved = {name: [] for name in layers}
middle = inputs[6].double()
for count in extra:
    found, its_mask = norm_inputs(texts, L + count)
    for name, layer in layers.items():
        change = layer(found[6].double(), its_mask)[:, :L] - layer(middle, mask)
        moved[name].append(change[mask].abs().mean().item())

figure, ax = plt.subplots()
for (name, change), style in zip(moved.items(), ["o-", "s-", "^--"], strict=True):
    ax.plot(extra, change, style, label=name)
ax.set(xlabel="extra pads per text", ylabel="mean change of a real token")
ax.legend()
plt.show()

# %%
print("BN, 64 extra pads:", approx(moved["BN"][-1], 0.3, 0.9), "standard deviations")
assert max(moved["LN"] + moved["BN, masked"]) < 1e-4
print("LN and masked BN: less than 1e-4, at any padding")

# %% [markdown]
# Half a standard deviation, on tokens that nobody touched. Most of it is one shift per
# feature, the same for all tokens; but the next layer has learnt its weights for
# another place. Two of the three curves stay at the rounding of float32, and one of
# them is a *batch* normalisation: **a mask (掩码) cures the illness of padding
# completely.** Keep that in mind, because it means that padding alone cannot be the
# reason for LN.
#
# ## Who else is in the batch
#
# A mask keeps pads out. It does not, and should not, keep the other texts out;
# averaging over them is what BN is. So the same sentence gets another value in other
# company:

# %%
x = middle
ln, bn = norms.layer_norm(x), norms.batch_norm(x, mask=mask)
alone = slice(20, 21)  # one sentence
ln_alone = norms.layer_norm(x[alone])
bn_alone = norms.batch_norm(x[alone], mask=mask[alone])
pads = torch.cat([x, torch.zeros(B, 32, D, dtype=torch.double)], 1)
one_token = torch.zeros(1, 1, D)
settle_all(
    {
        "norms-ln-variable-length": [
            same(norms.layer_norm(pads)[:, :L], ln),
            apart(norms.batch_norm(pads)[:, :L], norms.batch_norm(x), 0.1),
        ],
        "norms-ln-batch-size": [
            same(ln[alone], ln_alone),
            apart(bn[alone][mask[alone]], bn_alone[mask[alone]], 0.1),
            same(norms.layer_norm(one_token).shape, one_token.shape),
            raises(ValueError, lambda: norms.batch_norm(one_token)),
            raises(ValueError, lambda: nn.BatchNorm1d(D)(one_token[0])),
        ],
    }
)

# %% [markdown]
# Both claims of the notes hold, and they are the same fact: the crowd of a token under
# LN is the token. The last lines are the extreme case: in training, a batch of one
# token has no statistics at all, and both our layer and PyTorch's refuse.
#
# ## A batch of texts is smaller than it looks
#
# BN in training uses the statistics of the batch as a stand-in for those of all data.
# With many tokens in a batch that should be accurate: the squared error of a mean of
# $n$ independent draws shrinks like $1/n$, and 16 texts of 100 tokens make 1,600 draws.
#
# But tokens of one text are not independent draws. They share a topic, a style, an
# author, and the layers of a Transformer are built to mix them. Survey statisticians
# know the situation: asking all people of eight households is not asking that many
# people at random. They call the loss the *design effect* (设计效应):
#
# $$
# \text{design effect} =
# \frac{\text{squared error of a mean over the tokens of 8 whole texts}}
#      {\text{squared error of a mean over as many tokens, drawn singly}} .
# $$
#
# For independent tokens it is 1. Here it is at every LayerNorm of the model, measured
# on 300 draws:


# %%
def design_effect(x, mask, texts=8, draws=300):
    """Squared error of batch means (averaged over features): whole texts ÷ tokens."""
    generator = np.random.default_rng(0)
    tokens = x[mask]  # (n, D)
    mean, variance = norms.batch_statistics(x, mask)
    errors = np.zeros(2)
    for _ in range(draws):
        chosen = generator.choice(len(x), texts, replace=False)
        whole = x[chosen][mask[chosen]]
        singly = tokens[generator.choice(len(tokens), len(whole), replace=False)]
        for kind, rows in enumerate((whole, singly)):
            errors[kind] += ((rows.mean(0) - mean) ** 2 / variance).mean().item()
    return errors[0] / errors[1]


effects = [design_effect(x, mask) for x in inputs]

# %% mystnb={"figure": {"caption": "How many times fewer tokens a batch of 8 whole texts is worth, at each of MiniLM's LayerNorms from bottom to top. At the embeddings tokens are as good as independent. At the top seven tokens of a text say as much about the average as one token drawn at random.", "name": "fig-design-effect"}, "image": {"alt": "Bar chart over 13 modules. The design effect is 1 at the embeddings and rises through the layers, to nearly 7 at the top."}} tags=["hide-input"]
figure, ax = plt.subplots()
ax.bar(range(13), effects, color=COLOURS["blue"])
ax.axhline(1, color=COLOURS["vermilion"], label="independent tokens")
ax.legend(loc="upper left")
ax.set(xlabel="module, from the embeddings upwards", ylabel="design effect")
plt.show()

# %%
print("at the embeddings:", approx(effects[0], 0.7, 1.4))
print("at the top:", approx(effects[-1], 4, 10))

# %% [markdown]
# The deeper the layer, the more alike the tokens of a text, and the fewer independent
# voices a batch holds. The zigzag has a reason too: odd modules come right after
# attention, which mixes tokens, even ones after the feed-forward part, which does not.
# (How much of the top is the Transformer, and how much the later training on whole
# sentences, this picture cannot tell.) Shen et al. {cite}`shen2020powernorm` find, in
# translation models, that batch statistics fluctuate strongly throughout the training,
# and build a batch norm for text on that observation.
#
# ## Memory: the train–eval gap
#
# After training there may be no batch, so BN remembers: during training it keeps
# {term}`running averages 滑动平均 <running statistics>` of mean and variance, and
# afterwards uses those. It is two functions under one name.

# %%
show(norms.BatchNorm)

# %% [markdown]
# Equal to `torch.nn.BatchNorm1d`, including the memory and what stands in a checkpoint,
# in both directions and in both modes:

# %%
ours, torchs = norms.BatchNorm(D), nn.BatchNorm1d(D)
for start in range(0, B, 8):
    rows = inputs[6][start : start + 8].reshape(-1, D)
    a, b = ours(rows), torchs(rows)
    assert (a - b).abs().max() < 1e-4
for name, value in torchs.state_dict().items():
    assert torch.allclose(ours.state_dict()[name].float(), value.float(), rtol=1e-5)
torchs.load_state_dict(ours.state_dict())
ours.load_state_dict(torchs.state_dict())
ours.eval(), torchs.eval()
assert (ours(rows) - torchs(rows)).abs().max() < 1e-4
print("same outputs in training and evaluation, same state, loaded both ways")

# %% [markdown]
# The gap between the two functions is the price. For each sentence: how far apart are
# its values when normalised with its own batch, as in training, and with the statistics
# of everything, as in evaluation, for batches of different sizes? (With 16 of 32 texts
# half of "everything" is in the batch, so the right end flatters.)

# %%
top = inputs[12].double()
mean, variance = norms.batch_statistics(top, mask)
tokens, sizes = top[mask], [1, 2, 4, 8, 16]
generator = np.random.default_rng(1)
gaps = {"whole texts": [], "tokens drawn singly": []}
for size in sizes:
    found = np.zeros((2, 100))
    for draw in range(100):
        chosen = generator.choice(B, size, replace=False)
        whole = top[chosen][mask[chosen]]
        singly = tokens[generator.choice(len(tokens), len(whole), replace=False)]
        for kind, rows in enumerate((whole, singly)):
            eval_mode = (rows - mean) / (variance + 1e-5).sqrt()
            gap = norms.batch_norm(rows[None]) - eval_mode
            found[kind, draw] = gap.abs().mean()
    for name, row in zip(gaps, found, strict=True):
        gaps[name].append(row.mean())

# %% mystnb={"figure": {"caption": "Train\u2013eval gap of BN (masked) at the top of MiniLM: mean absolute difference of a token's values under the statistics of its own batch and under those of all 32 texts, by batch size. A line for whole texts, one for as many tokens drawn singly. LN has no gap.", "name": "fig-gap"}, "image": {"alt": "Gap against batch size on logarithmic axes. Both lines fall. The line for whole texts lies well above the line for single tokens at every batch size."}} tags=["hide-input"]
figure, ax = plt.subplots()
for (name, gap), style in zip(gaps.items(), ["o-", "s-"], strict=True):
    ax.loglog(sizes, gap, style, label=name)
ax.set(xlabel="texts in the batch", ylabel="mean |train − eval|")
ax.set_xticks(sizes, sizes)
ax.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
ax.minorticks_off()
ax.legend()
plt.show()

# %%
for name, gap in gaps.items():
    print(f"{name:20}", *(approx(g, 0.02, 1) for g in gap))
assert all(w > 1.5 * s for w, s in zip(*gaps.values(), strict=True))
print("whole texts: more than 1.5 times the gap, at every size")

# %% [markdown]
# With one text to a batch BN is instance normalisation: in training it sees a token
# *relative to its own text*, in evaluation relative to the language. Those are
# different quantities, and whatever the next layer learnt about the first is applied to
# the second.
#
# ## The fair opponent: train it
#
# All of that concerns single layers. Does it matter to a model that is trained with it
# from the start? A small Transformer block, an embedding and two layers of attention
# and feed-forward, learns to name the topic of a text: one of four, each with words of
# its own among noise. The texts have 2 to 24 tokens. We train it with LN, with BN, and
# with masked BN, the fair opponent, which hears no pads.


# %%
def topical_texts(count, seed, words=10, topics=4, share=0.35):
    """Token ids (count, 24), 0 where padded, and topics (count,): a toy language."""
    generator = np.random.default_rng(seed)
    topic = generator.integers(0, topics, count)
    anything = generator.integers(0, topics * words, (count, 24))
    on_topic = topic[:, None] * words + generator.integers(0, words, (count, 24))
    ids = np.where(generator.random((count, 24)) < share, on_topic, anything) + 1
    length = generator.integers(2, 25, count)
    ids[np.arange(24) >= length[:, None]] = 0
    return torch.tensor(ids), torch.tensor(topic)


# %%
class Reader(nn.Module):
    """Embedding, two post-norm Transformer layers, mean over tokens, four logits."""

    def __init__(self, norm, D=32):
        super().__init__()
        self.embed, self.out = nn.Embedding(41, D), nn.Linear(D, 4)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(D, 64) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(64, D) for _ in range(2))
        make = nn.LayerNorm if norm == "LN" else norms.BatchNorm
        self.norms = nn.ModuleList(make(D) for _ in range(4))
        self.masked = norm == "BN, masked"

    def forward(self, ids):  # (B, L)
        mask = ids > 0
        x, also = self.embed(ids), (mask,) if self.masked else ()  # (B, L, D)
        for i in range(2):
            q, k, v = self.qkv[i](x).chunk(3, -1)
            seen = nn.functional.scaled_dot_product_attention(q, k, v, mask[:, None])
            x = self.norms[2 * i](x + seen, *also)
            wide = self.back[i](self.wide[i](x).relu())
            x = self.norms[2 * i + 1](x + wide, *also)
        return self.out((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


# %% [markdown]
# The twist is in *how the batches are put together*. In the first course they are mixed
# well. In the second, each batch holds texts of one topic (a few batches, at the
# borders, of two), and the batches come in random order. That is not exotic: it is what
# you get from files read one after the other, from one customer's documents, from a
# conversation.


# %%
def train(norm, batches, seed, texts=3200, size=16):
    """Accuracy in evaluation mode on 1,000 fresh texts, after one pass in batches."""
    ids, topic = topical_texts(texts, seed)
    generator = np.random.default_rng(seed)
    order = generator.permutation(texts)
    if batches == "one topic each":
        order = order[np.argsort(topic[order].numpy(), kind="stable")]
    order = order.reshape(-1, size)[generator.permutation(texts // size)]
    torch.manual_seed(seed)
    net = Reader(norm)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for chosen in order:
        batch = ids[chosen]
        batch = batch[:, : (batch > 0).sum(1).max()]
        loss = nn.functional.cross_entropy(net(batch), topic[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ids, topic = topical_texts(1000, 99)
    with torch.no_grad():
        return (net.eval()(ids).argmax(-1) == topic).double().mean().item()


# %%
kinds = ["mixed", "one topic each"]
accuracy = {
    (norm, kind): [train(norm, kind, seed) for seed in (0, 1)]
    for norm in layers
    for kind in kinds
}

# %% mystnb={"figure": {"caption": "Accuracy on fresh texts in evaluation mode, two seeds each; the dashed line is guessing. In well mixed batches the three layers are equals. In batches of one topic each, LN loses a little and BN much.", "name": "fig-opponent"}, "image": {"alt": "Dots in two groups. Mixed batches: LN, BN and masked BN all near 0.83. One topic per batch: LN near 0.78, BN at 0.5 and 0.67, masked BN near guessing at 0.25."}} tags=["hide-input"]
figure, axes = figures.panels(2, sharey=True)
for ax, kind in zip(axes, kinds, strict=True):
    for place, norm in enumerate(layers):
        ax.plot([place, place], accuracy[norm, kind], "o", markersize=8)
    ax.axhline(0.25, color=COLOURS["grey"], ls="--", lw=1)
    ax.set(title=f"batches: {kind}", xlim=(-0.5, 2.5), ylim=(0, 1))
    ax.set_xticks(range(3), layers)
axes[0].set_ylabel("accuracy")
plt.show()

# %%
bounds = {"mixed": [(0.7, 1)] * 3, "one topic each": [(0.3, 0.8), (0, 0.5), (0.6, 1)]}
for kind in kinds:
    for norm, (low, high) in zip(layers, bounds[kind], strict=True):
        print(
            f"{kind:15} {norm:11}",
            *(approx(a, low, high) for a in accuracy[norm, kind]),
        )

# %% [markdown]
# Two results, and both deserve to be said aloud.
#
# **In well mixed batches batch normalisation is as good as layer normalisation, on
# text, padded, with or without a mask.** The proverb does not survive its first honest
# test. (A toy of 3,200 texts is no proof for large models; it is proof that there is no
# law.)
#
# **In batches that have something in common BN loses a good part of it, and here masked
# BN loses all.** BN subtracts from every feature what the batch has in common, and here
# that is the topic. How much is lost depends on the arrangement; try texts of equal
# length, or a norm before the sub-layer. LN cannot know what the batch has in common,
# and that is its strength.
#
# So this is where the claim about computer vision and language ends up,
# {claim}`norms-cv-bn-nlp-ln`: the statistics decide, not the kind of data. Vision
# models moved to LN when they moved to Transformers {cite}`dosovitskiy2021vit` and
# found that a convolutional network does well with it too {cite}`liu2022convnext`; a
# batch norm made for text works in translation {cite}`shen2020powernorm`. What LN
# offers everywhere is independence: of padding, of batch size, of company, of the mode.
# The [next page](04_norms_today) counts which layer today's models carry.
#
# ## A sphere, but no Gaussian
#
# Another reason in the notes sounds more mathematical: LN makes embeddings that lie in
# "a spherical space" and "follow a Gaussian of mean 0 and variance 1". The first half
# is true and better than it sounds. Take $\varepsilon = 0$, before scale and shift. The
# mean of the outputs is zero and their mean square is one:
#
# $$
# \sum_f \hat x_f = 0, \qquad \sum_f \hat x_f^2 = D .
# $$
#
# The first equation is a plane through the origin, the second a sphere of radius
# $\sqrt D$. Their intersection is a sphere of one dimension less
# {cite}`brody2023expressivity`. With $D=3$ we can see it: every vector in space lands
# on one circle.

# %% mystnb={"figure": {"caption": "Three hundred vectors with three features (left), after LN (middle: all on the circle where the sphere of radius \u221a3 meets the plane of zero sum), after BN (right: centred and scaled per feature, still a cloud).", "name": "fig-circle"}, "image": {"alt": "Three scatter plots in space. A skewed cloud; a perfect circle tilted in space; a centred cloud."}}
cloud = torch.tensor(np.random.default_rng(3).exponential(size=(300, 3)))
stages = {
    "features": cloud,
    "after LN": norms.layer_norm(cloud, eps=0),
    "after BN": norms.batch_norm(cloud[None])[0],
}
figure = plt.figure(figsize=(6.4, 2.6))
for place, (name, points) in enumerate(stages.items(), 1):
    ax = figure.add_subplot(1, 3, place, projection="3d")
    ax.scatter(*points.T, s=4, c=cloud.argmax(1), cmap="viridis")
    ax.set(title=name, xticklabels=[], yticklabels=[], zticklabels=[])
    ax.set_box_aspect((1, 1, 1), zoom=0.9)
    ax.view_init(elev=18, azim=30)
plt.show()

# %% [markdown]
# The second half fails, for two reasons. The first is formal: a Gaussian variable can
# take any value, but a coordinate on this sphere cannot exceed $\sqrt{D-1}$, which is
# reached when all others are equal. (A point drawn *evenly* from a large sphere does
# have nearly Gaussian coordinates.) The second is not formal at all: LN of one vector
# is $x \mapsto (x-\mu)/\sigma$, a shift and a stretch: it moves a histogram and scales
# it, but **cannot change its shape**. If the features of a token are skewed before,
# they are skewed by exactly as much after. We feed it exponential numbers, whose
# {term}`skewness 偏度 <skewness>` is 2 (64 of them show a little less), where a Gaussian
# has 0.


# %%
def skewness(x):
    """Mean cube of the standardised entries of the last axis: (..., D) → (...)."""
    centred = x - x.mean(-1, keepdim=True)
    return centred.pow(3).mean(-1) / centred.square().mean(-1).pow(1.5)


D = 64
x = torch.tensor(np.random.default_rng(4).exponential(size=(500, D)))
sphere = norms.layer_norm(x, eps=0)
lengths, sums = sphere.norm(dim=-1), sphere.sum(-1)
bn_lengths = norms.batch_norm(x[None])[0].norm(dim=-1)
settle(
    "norms-ln-sphere-gaussian",
    close(lengths, torch.full((500,), D**0.5), 1e-9),
    close(sums, torch.zeros(500), 1e-9),
    close(skewness(sphere), skewness(x), 1e-9),
    above(skewness(sphere).mean(), 1),
    below(sphere.abs().max(), (D - 1) ** 0.5),
    above(bn_lengths.max() / bn_lengths.min(), 1.1),
    note="on exponential numbers",
)

# %% [markdown]
# And on the real model? The outputs of MiniLM's LayerNorms, before scale and shift, lie
# on the sphere of radius $\sqrt{384}$. How they lie there is a surprise:

# %%
plain = norms.layer_norm(inputs[6], eps=0)  # (B, L, 384), before scale and shift
assert (plain[mask].norm(dim=-1) - 384**0.5).abs().max() < 1e-3
print("length of every token: √384, to 1e-3")
one = plain.square().amax(-1) / 384  # share of the squared length in one feature
others = mask.clone()
others[:, 0] = False  # [CLS] stands in front
print("[CLS], least share in one feature: ", approx(one[:, 0].min(), 0.99, 1))
print("other tokens, greatest share:      ", approx(one[others].max(), 0.4, 0.9))
print("other tokens, median share:        ", approx(one[others].median(), 0.05, 0.5))

# %% [markdown]
# In the middle of the network every `[CLS]` has nearly *all* of its length in one
# single feature; it sits in a corner of the sphere, as far from a Gaussian cloud as a
# vector of this length can be. It frames the text and stands for no word. And in an
# ordinary token, too, one feature of 384 holds a good part of the length. Such outliers
# return in the chapter on quantization, where they are the main difficulty.
#
# ## Scale, token by token
#
# The last claim: summing several embeddings (word, position, segment) gives vectors of
# uneven scale, and LN constrains it, where BN cannot. Look at the real thing first. The
# length of what BERT adds up, token by token:

# %%
words = model.embeddings.word_embeddings.weight.detach().norm(dim=-1)
positions = model.embeddings.position_embeddings.weight.detach()[:L].norm(dim=-1)
sums = inputs[0][mask].norm(dim=-1)
for name, length in {"words": words, "positions": positions, "sums": sums}.items():
    low, high = approx(length.min(), 0.1, 5), approx(length.max(), 0.1, 5)
    print(f"{name:10} lengths from {low} to {high}")

# %% [markdown]
# Does LN remove such differences? $\mathrm{LN}(s\,x) = \mathrm{LN}(x)$ for every
# $s > 0$ and for each token separately, because mean and standard deviation both take
# the factor $s$ and it cancels. BN pools over tokens, so a factor on *all* tokens
# cancels as well, but a factor on one token does not.

# %%
x = torch.tensor(np.random.default_rng(5).normal(size=(8, 12, 32)))
s = torch.tensor(np.random.default_rng(6).uniform(0.1, 10, size=(8, 12, 1)))
c = 7.0


def bn(x):
    return norms.batch_norm(x, eps=1e-12)


def ln(x):
    return norms.layer_norm(x, eps=0)


settle(
    "norms-ln-scale-constraint",
    close(ln(s * x), ln(x), 1e-9),
    close(ln(-x), -ln(x), 1e-12),
    close(bn(c * x), bn(x), 1e-9),
    apart(bn(s * x), bn(x), 1),
    note="s is a factor for each token, c one for all",
)

# %% [markdown]
# So the contrast is real, but it is "each token" against "all tokens", not "yes"
# against "no". And the sentence's second half, that this lowers the *variance of the
# model*, names a quantity that the notes never measure; nothing here supports or
# refutes it.
#
# ## Where people go wrong
#
# - **Forgetting `model.eval()`.** With LN nothing happens. With BN a prediction depends
#   on the other requests of the same batch, and each forward pass moves the running
#   statistics, so that merely *looking* at a model changes it.
# - **Leaving pads in the statistics.** PyTorch's BN has no argument for a mask; Keras'
#   and Flax' have one, which has to be given.

# %%
layer = norms.BatchNorm(384)  # in training mode, as every new module is
before = layer.running_mean.clone()
with torch.no_grad():
    layer(inputs[6])
assert not torch.equal(layer.running_mean, before)
print("one look, without gradients, and the running mean has moved")

# %% [markdown]
# ## Exercises
#
# **1. Warm-up.** One feature has the values 4 and 8 in a text of two tokens. How many
# pads of value 0 must be added for the 4 to come out of BN as *exactly* 0 (with
# $\varepsilon = 0$)?

# %%
pads = ...  # a whole number
check.pads_to_zero(pads)

# %% tags=["hide-cell"]
pads = 1  # the mean of 4, 8, 0 is 4
check.pads_to_zero(pads)

# %% [markdown]
# **2. Batch norm with a mask.** Write `masked_batch_norm(x, mask, eps)` for x of shape
# (B, L, D) and a boolean mask (B, L): statistics over real tokens only, applied to all.

# %%
masked_batch_norm = ...  # def masked_batch_norm(x, mask, eps): …
check.masked_batch_norm(masked_batch_norm)


# %% tags=["hide-cell"]
def masked_batch_norm(x, mask, eps):
    m = mask[..., None].to(x.dtype)  # (B, L, 1)
    count = m.sum()
    mean = (x * m).sum((0, 1)) / count
    variance = ((x - mean).square() * m).sum((0, 1)) / count
    return (x - mean) / (variance + eps).sqrt()


check.masked_batch_norm(masked_batch_norm)

# %% [markdown]
# **3. For an evening: folding.** In evaluation mode BN is a fixed scale and shift per
# feature, so a `Linear` before it can swallow it, and it costs nothing any more. Write
# `fold(linear, bn)` that returns one `nn.Linear` equal to `bn(linear(x))`. Then ask
# yourself why no such function exists for LN, and what that costs.

# %%
fold = ...  # def fold(linear, bn): …
check.fold(fold)


# %% tags=["hide-cell"]
def fold(linear, bn):
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()  # (out,)
    folded = nn.Linear(linear.in_features, linear.out_features, dtype=scale.dtype)
    with torch.no_grad():
        folded.weight.copy_(linear.weight * scale[:, None])
        folded.bias.copy_((linear.bias - bn.running_mean) * scale + bn.bias)
    return folded


check.fold(fold)

# %% [markdown]
# For LN there is no such function, because its mean and deviation are those of the very
# token: they have to be computed each time, at every layer, for every token.
#
# ## In short
#
# BN on text has three separate illnesses. Padding leaks into its statistics, and a mask
# cures that. Small or single-text batches give it noisy statistics and a gap between
# training and evaluation, worse than the number of tokens suggests, because the tokens
# of a text are alike. And what a batch has in common it subtracts, which no mask can
# cure. LN has none of them, because a token's crowd is the token. Its outputs lie on a
# sphere inside a plane; they are not Gaussian, and no per-token shift and stretch could
# make them so.
#
# Next: [norms today](04_norms_today), where the mean goes too, and where the layer sits
# becomes the question.
