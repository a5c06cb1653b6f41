"""Small language models and tasks that are trained in seconds, to see one effect.

Every page that trains a toy says which effect it wants to see, and over which seeds.
"""

import numpy as np
import torch
from torch import Tensor, nn

SYMBOLS, HALF = 16, 8


class Layer(nn.Module):
    """Causal attention and feed-forward, each with its norm after the sum or before.

    Maps x (B, L, D) to (B, L, D). Post-norm: N(x + f(x)); pre-norm: x + f(N(x)).
    """

    def __init__(self, D: int, pre: bool, heads: int = 4):
        super().__init__()
        self.pre, self.heads = pre, heads
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def attend(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        heads = self.qkv(x).view(B, L, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, L, D))

    def think(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = x + self.attend(self.norm1(x))
            return x + self.think(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.think(x))


class SmallLM(nn.Module):
    """Predicts the next of 16 symbols: ids (B, L) to logits (B, L, 16), L ≤ 16.

    The pre-norm recipe ends with one more norm, after the last layer.
    """

    def __init__(self, depth: int, pre: bool, D: int = 48):
        super().__init__()
        self.symbol, self.place = nn.Embedding(SYMBOLS, D), nn.Embedding(2 * HALF, D)
        self.layers = nn.ModuleList(Layer(D, pre) for _ in range(depth))
        self.last = nn.LayerNorm(D) if pre else nn.Identity()
        self.logits = nn.Linear(D, SYMBOLS)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.symbol(ids) + self.place.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.logits(self.last(x))


def copied(generator: np.random.Generator, count: int) -> Tensor:
    """Eight random symbols, then the same eight again: ids (count, 16)."""
    half = generator.integers(0, SYMBOLS, (count, HALF))
    return torch.tensor(np.concatenate([half, half], axis=1))


def copy_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean cross-entropy of the second half of ids (B, 16), each from those before."""
    logits = model(ids)[:, HALF - 1 : -1]  # (B, 8, 16)
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, HALF:].flatten())


def learn_to_copy(
    pre: bool, warmup: int, seed: int, depth: int = 8, steps: int = 120, rate=2e-3
) -> list[float]:
    """Losses of `steps` steps of Adam on fresh batches of 16 ids (16, 16).

    The rate rises linearly over the first `warmup` steps and stays.
    """
    torch.manual_seed(seed)
    model, generator = SmallLM(depth, pre), np.random.default_rng(seed)
    optimiser, losses = torch.optim.Adam(model.parameters(), lr=rate), []
    for step in range(steps):
        if step < warmup:
            optimiser.param_groups[0]["lr"] = rate * (step + 1) / warmup
        loss = copy_loss(model, copied(generator, 16))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
