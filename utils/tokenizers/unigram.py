"""Unigram: a text is a row of pieces, each drawn by itself, and counting sets the odds.

Every piece has a score, the logarithm of its probability. A segmentation (切分) has the
product of its pieces' probabilities, and a text the sum over all its segmentations.
Training starts from many pieces and repeats two steps: EM, which raises the likelihood
of the text, and pruning, which drops the pieces that it misses least.

Sizes: a text has (L) characters, the vocabulary (V) pieces, the longest piece M
characters. Between them lies a lattice (词格): positions 0…L, and an edge from start to
end for each piece that is text[start:end]. Every algorithm here walks once along its at
most L·M edges. Texts for training are words with their counts, as {"▁the": 812}.

Kudo 2018, "Subword Regularization", section 3; sentencepiece's unigram_model.cc and
unigram_model_trainer.cc. Its best segmentations and ours agree piece by piece.
"""

import heapq
import math
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

UNKNOWN_PENALTY = 10.0  # an unknown character scores so much less than the worst piece
FAR_DOWN = -1e5  # where sums of 32 bits begin again at zero, to keep their digits
SCORE = ""  # the key under which a node of the trie keeps a piece's score

Edges = list[tuple[int, float]]  # (end, score) of the pieces that start at one position


class Unigram:
    """Pieces (V) with scores, and the ways to cut a text with them.

    `scores` maps a piece to its log probability. A character that is no piece has the
    score `unknown`, by default that of the worst piece less 10. `single` keeps the sums
    of the best paths in 32 bits, as sentencepiece does, which decides some ties.

    Raises ValueError for no pieces, an empty piece, and a score that is not finite.

    >>> model = Unigram({"a": -2.0, "b": -2.0, "ab": -3.0})
    >>> model.segment("abba")
    ['ab', 'b', 'a']
    """

    def __init__(
        self,
        scores: Mapping[str, float],
        unknown: float | None = None,
        single: bool = False,
    ):
        if not scores:
            raise ValueError("a Unigram model without pieces")
        self.kind = "f" if single else "d"
        self.scores: dict[str, float] = {}
        self.trie: dict = {}
        for piece, score in scores.items():
            if not piece or not math.isfinite(score):
                raise ValueError(f"piece {piece!r} has the score {score}")
            self.scores[piece] = score = self._narrow(score)
            node = self.trie
            for character in piece:
                node = node.setdefault(character, {})
            node[SCORE] = score
        if unknown is None:
            unknown = min(self.scores.values()) - UNKNOWN_PENALTY
        self.unknown = self._narrow(unknown)
        self.longest = max(map(len, self.scores))

    def _narrow(self, number: float) -> float:
        return array(self.kind, [number])[0]

    def leaving(self, text: str, start: int) -> Edges:
        """The edges out of position `start`, the shortest piece first: at most (M)."""
        edges, node, single_character = [], self.trie, False
        for end in range(start, len(text)):
            node = node.get(text[end])
            if node is None:
                break
            if SCORE in node:
                single_character |= end == start
                edges.append((end + 1, node[SCORE]))
        if not single_character:
            edges.append((start + 1, self.unknown))
        return edges

    def lattice(self, text: str) -> list[Edges]:
        """The edges out of each of the (L) positions."""
        return [self.leaving(text, start) for start in range(len(text))]

    def segment(self, text: str) -> list[str]:
        """The likeliest segmentation, by Viterbi; of equals, the longer last piece.

        A character that is no piece stands by itself; `fused` joins runs of them. The
        cost is O(L·M): the best way to a position is kept, not the ways.
        """
        best = array(self.kind, [-math.inf]) * (len(text) + 1)
        best[0], candidate = 0.0, array(self.kind, [0.0])
        came_from = [0] * (len(text) + 1)
        for start in range(len(text)):
            here = best[start]
            if here < FAR_DOWN and self.kind == "f":
                for near in range(start, min(start + self.longest, len(text)) + 1):
                    best[near] -= here  # the same for all ways that are still open
                here = 0.0
            for end, score in self.leaving(text, start):
                candidate[0] = here + score  # rounded to 32 bits, if those are kept
                if candidate[0] > best[end]:
                    best[end], came_from[end] = candidate[0], start
        pieces, end = [], len(text)
        while end:
            pieces.append(text[came_from[end] : end])
            end = came_from[end]
        return pieces[::-1]

    def fused(self, pieces: Iterable[str]) -> list[str]:
        """The pieces (n), neighbouring unknown characters joined into one."""
        joined, open_run = [], False
        for piece in pieces:
            known = piece in self.scores
            if open_run and not known:
                joined[-1] += piece
            else:
                joined.append(piece)
            open_run = not known
        return joined

    def score(self, pieces: Iterable[str]) -> float:
        """log p of one segmentation, (n) pieces: the sum of their scores."""
        return sum(self.scores.get(piece, self.unknown) for piece in pieces)

    def nbest(self, text: str, n: int) -> list[tuple[list[str], float]]:
        """The `n` likeliest segmentations and their log probabilities, best first.

        Viterbi that keeps `n` ways to each position: (L + 1, n). Fewer come back if
        there are no more. Raises ValueError for n < 1.
        """
        if n < 1:
            raise ValueError(f"the {n} best segmentations: n is at least 1")
        # For each position (score, where the last piece starts, its rank there).
        arriving: list[list] = [[] for _ in range(len(text) + 1)]
        arriving[0] = [(0.0, 0, 0)]
        for start in range(len(text)):
            arriving[start] = heapq.nsmallest(n, arriving[start], key=lambda a: -a[0])
            for end, score in self.leaving(text, start):
                for rank, (before, _, _) in enumerate(arriving[start]):
                    arriving[end].append((before + score, start, rank))
        arriving[-1] = heapq.nsmallest(n, arriving[-1], key=lambda a: -a[0])
        found = []
        for total, start, rank in arriving[-1]:
            pieces, end = [], len(text)
            while end:
                pieces.append(text[start:end])
                end, (_, start, rank) = start, arriving[start][rank]
            found.append((pieces[::-1], total))
        return found

    def forward(self, text: str, alpha: float = 1.0) -> list[float]:
        """(L + 1): log of the summed probability of all ways to cut text[:t].

        Each probability is raised to the power `alpha` before it is summed. The last
        entry is log p(text), for alpha = 1.
        """
        return _forward(self.lattice(text), alpha)

    def backward(self, text: str) -> list[float]:
        """(L + 1): log of the summed probability of all ways to cut text[t:]."""
        return _backward(self.lattice(text))

    def log_likelihood(self, text: str) -> float:
        """log p(text), the sum over all segmentations; (L) characters, O(L·M)."""
        return self.forward(text)[-1]

    def posterior(self, text: str) -> dict[tuple[int, int], float]:
        """For each edge (start, end), the probability that the text is cut that way."""
        lattice = self.lattice(text)
        alphas, betas = _forward(lattice), _backward(lattice)
        return {
            (start, end): math.exp(alphas[start] + score + betas[end] - alphas[-1])
            for start, edges in enumerate(lattice)
            for end, score in edges
        }

    def sample(
        self, text: str, alpha: float = 1.0, rng: random.Random | None = None
    ) -> list[str]:
        """A segmentation drawn with probability proportional to p(segmentation)^alpha.

        Sums run forwards, draws backwards, so that each draw is exact and costs O(L·M)
        (forward filtering, backward sampling). alpha = 0 draws all segmentations alike,
        a large one nearly always the best. Raises ValueError for a negative alpha.
        """
        if not alpha >= 0:
            raise ValueError(f"alpha is {alpha}, and has to be at least 0")
        draw = (rng or random).random
        lattice = self.lattice(text)
        arriving: list[Edges] = [[] for _ in range(len(text) + 1)]  # (start, score)
        for start, edges in enumerate(lattice):
            for end, score in edges:
                arriving[end].append((start, score))
        alphas = _forward(lattice, alpha)
        pieces, end = [], len(text)
        while end:
            left = draw()
            for start, score in arriving[end]:
                left -= math.exp(alphas[start] + alpha * score - alphas[end])
                if left < 0:
                    break
            pieces.append(text[start:end])
            end = start
        return pieces[::-1]


def _log_sum(logs: list[float]) -> float:
    peak = max(logs)
    return peak + math.log(sum([math.exp(x - peak) for x in logs]))


def _forward(lattice: list[Edges], alpha: float = 1.0) -> list[float]:
    arriving: list[list[float]] = [[] for _ in range(len(lattice) + 1)]
    arriving[0] = [0.0]
    alphas = []
    for start, edges in enumerate(lattice):
        here = _log_sum(arriving[start])
        alphas.append(here)
        for end, score in edges:
            arriving[end].append(here + alpha * score)
    return [*alphas, _log_sum(arriving[-1])]


def _backward(lattice: list[Edges]) -> list[float]:
    betas = [0.0] * (len(lattice) + 1)
    for start in range(len(lattice) - 1, -1, -1):
        betas[start] = _log_sum([score + betas[end] for end, score in lattice[start]])
    return betas


def seed(words: Mapping[str, int], size: int, longest: int = 16) -> dict[str, float]:
    """The pieces to start from: every character, and the `size` most covering strings.

    A string qualifies if it has 2 to `longest` characters, occurs at least twice, and
    is not always followed by the same character (then the longer one stands for it).
    Its weight is its count times its length. Returns log weights, summing to one: (V).
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest + 1, len(word)) + 1):
                counts[word[start:end]] += count
    always = {s[:-1] for s, count in counts.items() if counts.get(s[:-1]) == count}
    weights = {s: float(count) for s, count in counts.items() if len(s) == 1}
    covering = [
        (count * len(s), s)
        for s, count in counts.items()
        if 2 <= len(s) <= longest and count >= 2 and s not in always
    ]
    covering.sort(key=lambda pair: (-pair[0], pair[1]))
    weights |= {s: float(weight) for weight, s in covering[:size]}
    total = math.log(sum(weights.values()))
    return {s: math.log(weight) - total for s, weight in weights.items()}


def expected_counts(
    model: Unigram, words: Mapping[str, int]
) -> tuple[dict[str, float], float]:
    """The E step: how often each of (V) pieces is expected, and log p(all words).

    Forward times backward gives the posterior of each edge of each word's lattice; a
    piece's count is the sum over its edges. Unknown characters are not counted.
    """
    counts, total = dict.fromkeys(model.scores, 0.0), 0.0
    for word, times in words.items():
        lattice = model.lattice(word)
        alphas, betas = _forward(lattice), _backward(lattice)
        total += times * alphas[-1]
        for start, edges in enumerate(lattice):
            outside = alphas[start] - alphas[-1]
            for end, score in edges:
                piece = word[start:end]
                if piece in counts:
                    counts[piece] += times * math.exp(outside + score + betas[end])
    return counts, total


def digamma(x: float) -> float:
    """ψ(x), the derivative of log Γ, for x > 0: nearly log(x − ½), less for small x.

    The recurrence ψ(x) = ψ(x + 1) − 1/x leads to where the asymptotic series is good
    (Abramowitz and Stegun, 6.3.5 and 6.3.18). ψ of a count (1) is far below log 1.
    """
    shift = 0.0
    while x < 10:
        shift -= 1 / x
        x += 1
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return shift + math.log(x) - 0.5 / x - series


def maximise(
    counts: Mapping[str, float], least: float = 0.0, sparse: bool = False
) -> Unigram:
    """The M step: scores log(count / sum) from expected counts (V) above `least`.

    `sparse` puts ψ in place of log, as sentencepiece does: a Bayesian prior that makes
    rare pieces rarer. Then the probabilities add up to less than one, and the
    likelihood may fall. Raises ValueError if no piece is left.
    """
    kept = {piece: count for piece, count in counts.items() if count > least}
    if not kept:
        raise ValueError(f"no expected count is above {least}")
    log = digamma if sparse else math.log
    total = log(sum(kept.values()))
    return Unigram({piece: log(count) - total for piece, count in kept.items()})


def removal_losses(model: Unigram, words: Mapping[str, int]) -> dict[str, float]:
    """What the words would lose in log likelihood without each piece, about: (V).

    Kudo's and sentencepiece's estimate. Words are cut by Viterbi; a piece's uses go to
    its own second-best segmentation. inf for a piece that has none, 0 for one that is
    not used or is itself cut into others. Each loss supposes that all else stays.
    """
    uses: Counter[str] = Counter()
    for word, times in words.items():
        for piece in model.segment(word):
            uses[piece] += times
    total, losses = sum(uses.values()), {}
    for piece in model.scores:
        first, *others = model.nbest(piece, 2)
        if len(first[0]) > 1 or not uses[piece]:
            losses[piece] = math.inf if len(piece) == 1 else 0.0
        elif not others:
            losses[piece] = math.inf
        else:
            parts, n = others[0][0], uses[piece]
            then = math.log(total + n * (len(parts) - 1))
            without = sum(math.log(uses[part] + n) - then for part in parts)
            losses[piece] = n * (math.log(n) - math.log(total) - without)
    return losses


def prune(model: Unigram, words: Mapping[str, int], size: int) -> Unigram:
    """The model without the pieces of least loss, down to `size`; characters stay.

    Scores stay as they are until the next EM step. (V) pieces, or fewer, come back.
    """
    losses = removal_losses(model, words)
    ranked = sorted(losses, key=lambda piece: (-losses[piece], piece))
    kept = [p for n, p in enumerate(ranked) if n < size or len(p) == 1]
    return Unigram({p: model.scores[p] for p in kept if losses[p] != 0})


def train(
    words: Mapping[str, int],
    size: int,
    seeds: int = 100_000,
    longest: int = 16,
    steps: int = 2,
    shrink: float = 0.75,
    sparse: bool = True,
) -> Unigram:
    """A model of `size` pieces: seeds, then EM and pruning in turn, then the cut.

    After each `steps` EM steps, the share `shrink` of the pieces is kept, until there
    are 1.1 · size; of these, the characters and the best remain. The settings are
    sentencepiece's. Raises ValueError if `size` is less than the characters (K).
    """
    characters = sorted(set().union(*words))
    if size < len(characters):
        raise ValueError(f"{size} pieces for {len(characters)} different characters")
    model, wanted = Unigram(seed(words, seeds, longest)), int(1.1 * size)
    while True:
        for _ in range(steps):
            counts, _ = expected_counts(model, words)
            model = maximise(counts, least=0.5 if sparse else 0.0, sparse=sparse)
        if len(model.scores) <= wanted:
            break
        model = prune(model, words, max(wanted, int(shrink * len(model.scores))))
    worst = min(model.scores.values())
    final = {c: model.scores.get(c, worst) for c in characters}
    for piece in sorted(model.scores, key=lambda p: (-model.scores[p], p)):
        if len(final) == size:
            break
        final.setdefault(piece, model.scores[piece])
    return Unigram(final)
