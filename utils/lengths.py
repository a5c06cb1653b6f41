"""A small language in which places matter and the best loss is known, and its readers.

Texts are ids (B, L). Each begins with four definitions, one for each key, such as A3.
Then come symbols, 0 to 7. Each is one more than the token three places before it (7 is
followed by 0; A3 counts as 3, the questions A?, B?, C?, D? as 0, 1, 2, 3), but a fifth
are drawn anew. Every eighth time a question stands instead, A?, and then its answer, 3.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from utils import positions

SYMBOLS, KEYS, BACK, ASK, SLIP = 8, 4, 3, 1 / 8, 1 / 5
QUESTION = SYMBOLS + KEYS * SYMBOLS  # ids: 8 symbols, 32 definitions, 4 questions
HEADS, FEATURES, TRAINED = 4, 16, 32
BANDS = {"8–32": (8, 32), "32–64": (32, 64), "64–128": (64, 128), "128–256": (128, 256)}


def sample_texts(
    generator: np.random.Generator, count: int, L: int
) -> tuple[Tensor, Tensor]:
    """Ids (count, L), and true (count, L) where an answer stands."""
    ids, rows = np.zeros((count, L), dtype=np.int64), np.arange(count)
    answers = np.zeros((count, L), dtype=bool)
    value = generator.integers(0, SYMBOLS, (count, KEYS))
    keys = generator.permuted(np.tile(np.arange(KEYS), (count, 1)), axis=1)
    ids[:, :KEYS] = SYMBOLS * (1 + keys) + np.take_along_axis(value, keys, 1)
    for t in range(KEYS, L):
        symbol = (ids[:, t - BACK] + 1) % SYMBOLS
        slips = generator.random(count) < SLIP
        symbol = np.where(slips, generator.integers(0, SYMBOLS, count), symbol)
        question = QUESTION + generator.integers(0, KEYS, count)
        asks = generator.random(count) < ASK
        asked = ids[:, t - 1] - QUESTION  # the number of a key, if not negative
        answer = value[rows, asked.clip(0)]
        answers[:, t] = asked >= 0
        ids[:, t] = np.where(asked >= 0, answer, np.where(asks, question, symbol))
    return torch.tensor(ids), torch.tensor(answers)


def spell_out(ids: Tensor) -> str:
    """One text (L,) for human eyes: definitions A3, symbols 5, questions A?."""
    letters = "ABCD"

    def word(i: int) -> str:
        if i >= QUESTION:
            return letters[i - QUESTION] + "?"
        return (letters[i // SYMBOLS - 1] if i >= SYMBOLS else "") + str(i % SYMBOLS)

    return " ".join(word(i) for i in ids.tolist())


def true_surprise(ids: Tensor, answers: Tensor) -> Tensor:
    """−ln of the true probability of each token, given those before: (count, L − 4).

    The four definitions are left out. No model can do better on average.
    """
    now, back = ids[:, KEYS:], ids[:, KEYS - BACK : -BACK]
    right = (now == (back + 1) % SYMBOLS).double()
    symbol = (1 - ASK) * ((1 - SLIP) * right + SLIP / SYMBOLS)
    chance = torch.where(now < SYMBOLS, symbol, ASK / KEYS)
    return -torch.where(answers[:, KEYS:], 1.0, chance).log()


class Layer(nn.Module):
    """Pre-norm attention and feed-forward: x (B, L, D) to (B, L, D)."""

    def __init__(self, method: positions.Nothing):
        super().__init__()
        D = method.heads * method.d
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attention = positions.Attention(method)
        self.think = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))

    def forward(self, x: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), places, mask)
        return x + self.think(self.norm2(x))


class LookBack(nn.Module):
    """A causal model: ids (B, L) to logits (B, L, 44). Its layers share one method."""

    def __init__(self, method: positions.Nothing, depth: int = 2):
        super().__init__()
        D, V = method.heads * method.d, QUESTION + KEYS
        self.method, self.tokens = method, nn.Embedding(V, D)
        self.layers = nn.ModuleList(Layer(method) for _ in range(depth))
        self.last, self.logits = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, ids: Tensor, places=None, mask=None) -> Tensor:
        places = torch.arange(ids.shape[-1]) if places is None else places
        x = self.method.embed(self.tokens(ids), places)
        for layer in self.layers:
            x = layer(x, places, mask)
        return self.logits(self.last(x))


SETTINGS: dict[str, dict] = {
    "learned": {"length": 256},
    "Shaw": {"clip": 8},
    "Shaw, clip 255": {"clip": 255},
    "T5": {"buckets": 16, "max_distance": 16},
    "T5, 32 buckets": {"buckets": 32, "max_distance": 128},  # the library's
    "RoPE, base 10": {"base": 10},
}


def new_method(name: str) -> positions.Nothing:
    """A fresh method by name, for 4 heads of 16 features, so D = 64: (B, L, 64).

    The table of "learned" has rows for 256 positions, a fifth as long as the tokens'
    vectors; each bucket of "T5" occurs in 32 tokens, and all are alike. The names with
    a comma set one thing otherwise.
    """
    kinds = {"NoPE": "Nothing", "sinusoidal": "Sinusoidal"}
    kinds |= {"learned": "Learned", "T5": "T5Bias"}
    kind = name.partition(",")[0]
    make = getattr(positions, kinds.get(kind, kind))
    method = make(HEADS, FEATURES, **SETTINGS.get(name, {}))
    if kind == "T5":
        nn.init.zeros_(method.table.weight)
    if kind == "learned":
        nn.init.normal_(method.table.weight, std=0.2)
    return method


METHODS = ["NoPE", "sinusoidal", "learned", "Shaw", "T5", "ALiBi", "RoPE"]


def train_reader(
    reader: LookBack, seed: int, steps=400, L=TRAINED, batch=32, rate=3e-3, haste=10
) -> None:
    """Train `reader` in place: AdamW, fresh texts (batch, L) in each step.

    The rate rises to `rate` during a tenth of the steps, and falls to zero over all.
    Adam moves a number by about the rate in each step, whatever its use; T5's, which
    are added to the scores as they are, may move `haste` times as far.
    """
    ids, _ = sample_texts(np.random.default_rng(seed), batch * steps, L)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=rate)
    if isinstance(reader.method, positions.T5Bias):
        table, group = reader.method.table.weight, optimiser.param_groups[0]
        group["params"] = [p for p in group["params"] if p is not table]
        optimiser.add_param_group({"params": [table], "lr": haste * rate})
    peaks = [group["lr"] for group in optimiser.param_groups]
    for step, block in enumerate(ids.split(batch)):
        rise, fall = 10 * (step + 1) / steps, 1 - step / steps
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * min(1, rise) * fall
        logits = reader(block)[:, KEYS - 1 : -1]  # (batch, L − 4, 44)
        target = block[:, KEYS:].flatten()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def trained_reader(name: str, seed: int, **how) -> LookBack:
    """A fresh reader (B, L) with the named method, trained; `how`: see train_reader."""
    torch.manual_seed(seed)
    reader = LookBack(new_method(name))
    train_reader(reader, seed, **how)
    return reader


def stretched_reader(reader: LookBack, how: str, factor: float = 8.0) -> LookBack:
    """A copy with RoPE stretched by "PI", "NTK" or "YaRN".

    YaRN's two parts alone are "YaRN frequencies" and "gain". Also "plain", the copy as
    it is; "clip", for ALiBi: distances (L, L) above 31 count as 31; "clip, gain"; and
    "tiled", for "learned": rows 0 … 31 of the table (256, 64) again and again.
    """
    other, d = copy.deepcopy(reader), FEATURES
    if how in ("YaRN", "gain", "clip, gain"):
        other.method.gain = positions.yarn_gain(factor)
    if how in ("clip", "clip, gain"):
        edge = positions.alibi_slopes(HEADS)[:, None, None] * (1 - TRAINED)  # at 31
        other.method.bias = lambda p: positions.alibi_bias(HEADS, p).maximum(edge)
    if how in ("PI", "NTK"):
        stretch = {"PI": positions.interpolated, "NTK": positions.ntk}[how]
        other.method.frequencies = stretch(d, factor)
    if how in ("YaRN", "YaRN frequencies"):
        other.method.frequencies = positions.yarn(d, factor, TRAINED)
    if how == "tiled":
        table = other.method.table.weight
        table.data = table.data[torch.arange(len(table)) % TRAINED]
    return other


@torch.no_grad()
def excess_loss(
    reader: LookBack, count: int = 64, L: int = 256
) -> dict[str, list[float]]:
    """Mean loss above the best possible, one number for each of BANDS (4,).

    "rule" for symbols and questions, "recall" for answers, always on the same texts.
    """
    ids, answers = sample_texts(np.random.default_rng(2026), count, L)
    chances = reader(ids)[:, KEYS - 1 : -1].log_softmax(-1)
    loss = -chances.gather(-1, ids[:, KEYS:, None])[..., 0] - true_surprise(
        ids, answers
    )
    found = {}
    for kind, where in {"rule": ~answers, "recall": answers}.items():
        parts = [(slice(a - KEYS, b - KEYS), slice(a, b)) for a, b in BANDS.values()]
        found[kind] = [loss[:, p][where[:, q]].mean().item() for p, q in parts]
    return found
