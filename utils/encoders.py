"""Sentence vectors of an encoder, and two small tasks that judge them.

Texts are (B, L) ids with a mask, token vectors (B, L, D), sentence vectors (n, D).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from utils.lab import datasets, pretrained

NAMES = ["input_ids", "attention_mask"]


class Encoder(nn.Module):
    """Ids and mask (B, L) to last_hidden_state (B, L, D): exported, and timed."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        out = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return out.last_hidden_state


def tokenised(lines: list[str]) -> dict[str, torch.Tensor]:
    """Lines as ids and mask (B, L), padded to the longest, by the course's encoder."""
    encoded = pretrained.encoder().tokenizer(lines, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in NAMES}


def embed(call: Callable[[dict], object], lines: list[str], size: int = 12):
    """Unit vectors (n, D) of lines: token vectors of `call`, averaged without pads.

    `call` takes a batch of `tokenised` and returns (B, L, D), tensor or array.
    """
    rows = []
    for start in range(0, len(lines), size):
        batch = tokenised(lines[start : start + size])
        hidden = torch.as_tensor(call(batch)).detach().numpy()
        mask = batch["attention_mask"].numpy()[..., None]
        rows.append((hidden * mask).sum(1) / mask.sum(1))
    vectors = np.concatenate(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def quality(call: Callable[[dict], object]) -> dict[str, list[float]]:
    """How `call` does on the course's pairs and questions.

    "cosine": that of each of the 216 pairs. "place": for each of the 60 questions, the
    place of its own passage when all are sorted by cosine, 1 the best.
    """
    pairs, rows = datasets.pairs(), datasets.questions()
    first = embed(call, [pair.first for pair in pairs])
    second = embed(call, [pair.second for pair in pairs])
    asked = embed(call, [row.question for row in rows])
    found = asked @ embed(call, [row.passage for row in rows]).T  # (60, 60)
    place = (found >= np.diag(found)[:, None]).sum(1)
    return {"cosine": (first * second).sum(1).tolist(), "place": place.tolist()}


def ranks(values) -> np.ndarray:
    """Ranks (n) from 0; equal values share the mean of theirs.

    >>> ranks([5, 2, 2])
    array([2. , 0.5, 0.5])
    """
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[inverse]


def spearman(a, b) -> float:
    """Rank correlation 秩相关 of two lists (n), from −1 to 1."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
