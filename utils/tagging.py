"""Taggers (序列标注): a BIO tag for each character, and the score of the spans found.

A sentence is `datasets.Tagged`: characters and tags. Every tagger is made from training
sentences and has `tag`, which takes lists of characters and returns lists of tags.
"""

from collections import Counter
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from utils import hmm
from utils.crf import CRF, bio_constraints
from utils.lab.datasets import Tagged


def spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """The entities of one sentence, (type, first, one past the last).

    Only B- begins one, as in IOB2's strict reading.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC"])
    {('PER', 0, 2)}
    """
    found, ends = set(), [*tags, "O"]
    for first, tag in enumerate(tags):
        if tag[0] == "B":
            last = first + 1
            while ends[last] == f"I{tag[1:]}":
                last += 1
            found.add((tag[2:], first, last))
    return found


def span_counts(gold: list[list[str]], found: list[list[str]]) -> np.ndarray:
    """(sentences, 3): entities right, entities found, entities there."""
    pairs = [(spans(g), spans(f)) for g, f in zip(gold, found, strict=True)]
    return np.array([[len(g & f), len(f), len(g)] for g, f in pairs])


def f1(counts: np.ndarray) -> float:
    """F1 of `span_counts`: the share of right ones in the mean of found and there."""
    right, found, there = counts.sum(0)
    return 2 * right / max(found + there, 1)


def illegal(tags: list[str]) -> int:
    """How many I-… of a sequence continue nothing.

    >>> illegal(["O", "I-PER", "B-LOC", "I-ORG"])
    2
    """
    return sum(b[0] == "I" and a[1:] != b[1:] for a, b in pairwise(["O", *tags]))


def features(characters: list[str]) -> list[list[str]]:
    """What a classic CRF looks at around each character: two to each side, and pairs.

    >>> features(["小", "李"])[1]
    ['-2:^', '-1:小', '+0:李', '+1:$', '+2:$', '-1:小李', '+0:李$']
    """
    padded = ["^", "^", *characters, "$", "$"]
    found = []
    for t in range(len(characters)):
        window = padded[t : t + 5]
        names = [f"{place - 2:+}:{c}" for place, c in enumerate(window)]
        pairs = [f"-1:{window[1]}{window[2]}", f"+0:{window[2]}{window[3]}"]
        found.append(names + pairs)
    return found


@cache
def dictionary() -> dict[str, str]:
    """jieba's words and their parts of speech: nr a person, ns a place, t a time, …"""
    import jieba

    path = Path(jieba.__file__).parent / "dict.txt"
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {word: part for word, _, part in rows}


def looked_up(characters: list[str], longest: int = 8) -> list[str]:
    """For each character the part of speech of its word, and where in it it stands.

    Words are the longest of the dictionary, from left to right.

    >>> looked_up(list("去北京"))
    ['v:S', 'ns:B', 'ns:E']
    """
    text, found = "".join(c[0] for c in characters), []
    while len(found) < len(text):
        first = len(found)
        sizes = range(min(longest, len(text) - first), 0, -1)
        size = next((n for n in sizes if text[first : first + n] in dictionary()), 1)
        part = dictionary().get(text[first : first + size], "?")
        places = "S" if size == 1 else "B" + "M" * (size - 2) + "E"
        found += [f"{part}:{place}" for place in places]
    return found


def features_and_dictionary(characters: list[str]) -> list[list[str]]:
    """`features`, and what the dictionary says of the five characters of the window."""
    known = ["^", "^", *looked_up(characters), "$", "$"]
    return [
        names + [f"{place - 2:+}={known[t + place]}" for place in range(5)]
        for t, names in enumerate(features(characters))
    ]


class Numbering:
    """Numbers 1, 2, … for the items of the training texts; 0 for what they lack."""

    def __init__(self, sequences: list[list], least: int = 1):
        seen = Counter(item for sequence in sequences for item in sequence)
        kept = sorted(item for item, times in seen.items() if times >= least)
        self.number = {item: n for n, item in enumerate(kept, 1)}

    def __len__(self) -> int:
        return len(self.number) + 1

    def __call__(self, sequence: list) -> list[int]:
        return [self.number.get(item, 0) for item in sequence]


def padded(rows: list, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Sequences of unequal length as one block (B, L, …), and its mask (B, L)."""
    blocks = [torch.as_tensor(row) for row in rows]
    block = nn.utils.rnn.pad_sequence(blocks, True, fill)
    lengths = torch.tensor([len(row) for row in rows])
    return block, torch.arange(block.shape[1]) < lengths[:, None]


class HMMTagger:
    """Counted: a hidden Markov model whose states are the tags."""

    def __init__(self, sentences: list[Tagged], smoothing: float = 0.1):
        self.numbers = Numbering([s.characters for s in sentences])
        self.tags = sorted({tag for s in sentences for tag in s.tags})
        x = [np.array(self.numbers(s.characters)) for s in sentences]
        y = [np.array([self.tags.index(tag) for tag in s.tags]) for s in sentences]
        self.hmm = hmm.count(x, y, len(self.tags), len(self.numbers), smoothing)
        self.hmm.emissions[:, 0] = 0.0  # an unseen character says nothing of its tag

    def tag(self, texts: list[list[str]]) -> list[list[str]]:
        paths = [hmm.viterbi(self.hmm, self.numbers(text))[0] for text in texts]
        return [[self.tags[state] for state in path] for path in paths]


class Tagger(nn.Module):
    """Emissions that go into a CRF (`chained`), or into one softmax a character.

    A subclass says how characters are numbered, `numbered(characters)`, (L, …), and how
    numbers become emissions, `emit(x, mask)`, (B, L, …) to (B, L, K).
    """

    def __init__(self, sentences: list[Tagged], chained: bool = True):
        super().__init__()
        self.tags = sorted({tag for s in sentences for tag in s.tags})
        self.chained = chained
        self.crf = CRF(len(self.tags), batch_first=True)

    def batch(self, sentences: list[Tagged]) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers (B, L, …), tags (B, L) and mask (B, L) of sentences."""
        x, mask = padded([self.numbered(s.characters) for s in sentences])
        y, _ = padded([[self.tags.index(tag) for tag in s.tags] for s in sentences])
        return x, y, mask

    def loss(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """−log p(y | x), summed over the sentences of a batch."""
        emissions = self.emit(x, mask)
        if self.chained:
            return -self.crf(emissions, y, mask)
        return nn.functional.cross_entropy(emissions[mask], y[mask], reduction="sum")

    @torch.no_grad()
    def tag(self, texts: list[list[str]]) -> list[list[str]]:
        self.eval()
        x, mask = padded([self.numbered(text) for text in texts])
        emissions = self.emit(x, mask)
        if self.chained:
            paths = self.crf.decode(emissions, mask)
        else:
            rows = zip(emissions.argmax(-1).tolist(), mask.sum(1).tolist(), strict=True)
            paths = [row[:length] for row, length in rows]
        return [[self.tags[k] for k in path] for path in paths]

    def legal(self) -> "Tagger":
        """The same tagger, decoded with a chain that only forbids illegal steps."""
        self.chained = True
        for scores in self.crf.parameters():
            nn.init.zeros_(scores)
        self.crf.constrain(*bio_constraints(self.tags))
        return self


class FeatureTagger(Tagger):
    """Emissions linear in the features of `look`: a convex problem. In float64."""

    def __init__(self, sentences, chained: bool = True, look=features):
        super().__init__(sentences, chained)
        self.look = look
        named = [look(s.characters) for s in sentences]
        self.numbers = Numbering([sum(rows, []) for rows in named])
        self.weights = nn.Embedding(len(self.numbers), len(self.tags), padding_idx=0)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.double()

    def numbered(self, characters: list[str]) -> list[list[int]]:
        return [self.numbers(names) for names in self.look(characters)]

    def emit(self, x: Tensor, mask: Tensor) -> Tensor:
        bags = nn.functional.embedding_bag(
            x[mask], self.weights.weight, mode="sum", padding_idx=0
        )
        emissions = bags.new_zeros(*mask.shape, len(self.tags))
        emissions[mask] = bags
        return emissions


class NeuralTagger(Tagger):
    """Embeddings of characters, an LSTM in both directions, a linear layer."""

    def __init__(self, sentences: list[Tagged], chained: bool = True, D: int = 64):
        super().__init__(sentences, chained)
        self.numbers = Numbering([s.characters for s in sentences], least=2)
        self.embed = nn.Embedding(len(self.numbers), D)
        self.read = nn.LSTM(D, D, batch_first=True, bidirectional=True)
        self.linear, self.drop = nn.Linear(2 * D, len(self.tags)), nn.Dropout(0.4)

    def numbered(self, characters: list[str]) -> list[int]:
        return self.numbers(characters)

    def emit(self, x: Tensor, mask: Tensor) -> Tensor:
        packed = pack_padded_sequence(  # or one direction would begin in the padding
            self.drop(self.embed(x)), mask.sum(1), True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.read(packed)[0], True)  # (B, L, 2D)
        return self.linear(self.drop(hidden))


def minimise(
    tagger: Tagger, sentences: list[Tagged], c2: float = 0.1, evaluations: int = 400
) -> list[float]:
    """L-BFGS on all sentences at once; the losses of all its evaluations.

    The loss is −log p(y | x) summed over the sentences, plus c2 times the sum of the
    squared weights, CRFsuite's objective. `start` and `end` scores stay at zero.
    """
    tagger.crf.start_transitions.requires_grad_(False)
    tagger.crf.end_transitions.requires_grad_(False)
    data, weights = (
        tagger.batch(sentences),
        [p for p in tagger.parameters() if p.requires_grad],
    )
    optimiser = torch.optim.LBFGS(
        weights,
        max_iter=evaluations,
        max_eval=evaluations,
        tolerance_grad=1e-3,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    losses = []

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = tagger.loss(*data) + c2 * sum(w.square().sum() for w in weights)
        loss.backward()
        losses.append(loss.item())
        return loss

    optimiser.step(closure)
    closure()  # at the point where the line search came to rest
    return losses


def learn(
    tagger: Tagger,
    sentences: list[Tagged],
    steps: int = 450,
    rate: float = 1e-2,
    crf_rate: float = 1e-2,
) -> list[float]:
    """Steps of Adam on batches of 32 that torch draws; their losses a character.

    The CRF's parameters have a learning rate of their own.
    """
    chain = list(tagger.crf.parameters())
    others = [p for name, p in tagger.named_parameters() if not name.startswith("crf")]
    groups = [{"params": others, "lr": rate}, {"params": chain, "lr": crf_rate}]
    optimiser, losses, batches = torch.optim.Adam(groups), [], []
    tagger.train()
    while len(losses) < steps:
        if not batches:
            batches = list(torch.randperm(len(sentences)).split(32))
        x, y, mask = tagger.batch([sentences[i] for i in batches.pop()])
        loss = tagger.loss(x, y, mask) / mask.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def by_features(sentences, chained: bool = True, look=features) -> FeatureTagger:
    """A feature tagger at the optimum for the sentences."""
    tagger = FeatureTagger(sentences, chained, look)
    minimise(tagger, sentences)
    return tagger


def by_network(sentences, chained: bool = True, crf_rate: float = 1e-2) -> NeuralTagger:
    """A network after 450 steps of Adam on the sentences."""
    tagger = NeuralTagger(sentences, chained)
    learn(tagger, sentences, crf_rate=crf_rate)
    return tagger


TAGGERS = {  # each a function of the training sentences
    "HMM": HMMTagger,
    "features, softmax": partial(by_features, chained=False),
    "features, CRF": by_features,
    "features and dictionary, CRF": partial(by_features, look=features_and_dictionary),
    "network, softmax": partial(by_network, chained=False),
    "network, CRF at rate 0.00002": partial(by_network, crf_rate=2e-5),
    "network, CRF": by_network,
}

COMPARED = [
    ("features, CRF", "features, softmax"),
    ("features and dictionary, CRF", "features, CRF"),
    ("network, CRF", "network, softmax"),
    ("network, softmax, legal paths", "network, softmax"),
    ("network, CRF", "network, softmax, legal paths"),
    ("network, CRF at rate 0.00002", "network, softmax"),
    ("HMM", "features, CRF"),
]
