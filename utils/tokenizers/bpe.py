"""Byte-pair encoding 字节对编码 (BPE), byte-level, as GPT-2 and its successors use it.

A vocabulary is a dict of `ranks`: token (bytes) → id. The 256 bytes come first, in the
order of GPT-2, then one token a merge; so a token's id says when it was made. Texts
have length (L), pieces (n) bytes, vocabularies (V) tokens.

Sources: Gage 1994; Sennrich, Haddow and Birch 2016, algorithm 1; Radford et al. 2019,
section 2.2.
"""

import base64
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path

from utils.tokenizers.patterns import GPT2, split, splitter

NEVER = 1 << 60  # no rank is as high
LONG = 32  # bytes of a piece from which on a heap is faster than a list
KEPT, KEPT_LENGTH = 100_000, 256  # pieces that an encoder remembers, and how long

_seen = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes with a glyph
BYTES = [bytes([b]) for b in [*_seen, *(b for b in range(256) if b not in _seen)]]
GLYPHS = {
    token[0]: chr(token[0] if token[0] in _seen else 256 + number - len(_seen))
    for number, token in enumerate(BYTES)
}  # GPT-2 writes each byte as one visible character: a blank is Ġ


def glyphs(token: bytes) -> str:
    """A token (n) as GPT-2's files write it, one visible character a byte.

    >>> glyphs(b" cat")
    'Ġcat'
    """
    return "".join(GLYPHS[b] for b in token)


# The textbook, twice. Both are slow, and an oracle for `train`.


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """`ids` (n) with every `pair` replaced by `new`, from the left.

    >>> merge([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    merged: list[int] = []
    for token in ids:
        if merged and (merged[-1], token) == pair:
            merged[-1] = new
        else:
            merged.append(token)
    return merged


def best_pair(counts: dict[tuple[int, int], int]) -> tuple[int, int]:
    """The most frequent pair; of equally frequent ones the one with the lower ids."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def train_flat(ids: list[int], merges: int, first: int = 256) -> list[tuple[int, int]]:
    """Merges of one sequence of ids (n), with no cut: all pairs counted every time."""
    made = []
    for new in range(first, first + merges):
        made.append(best_pair(Counter(pairwise(ids))))
        ids = merge(ids, made[-1], new)
    return made


def train_words(
    words: dict[bytes, int], merges: int, choose: Callable = best_pair
) -> list[tuple[int, int]]:
    """Merges from word counts, as in Sennrich's paper: all words counted every time."""
    texts, made = {word: byte_ids(word) for word in words}, []
    for new in range(256, 256 + merges):
        counts: Counter = Counter()
        for word, ids in texts.items():
            for pair in pairwise(ids):
                counts[pair] += words[word]
        made.append(choose(counts))
        texts = {word: merge(ids, made[-1], new) for word, ids in texts.items()}
    return made


# The same merges, with counts that are kept up to date.


def byte_ids(word: bytes) -> list[int]:
    """The ids (n) of a word's bytes, in GPT-2's order."""
    return [_ID_OF_BYTE[b] for b in word]


_ID_OF_BYTE = {token[0]: number for number, token in enumerate(BYTES)}


def count_words(texts: Iterable[str], pattern: str = GPT2) -> Counter[bytes]:
    """How often each piece of the texts occurs, as bytes."""
    pieces = Counter(chain.from_iterable(split(text, pattern) for text in texts))
    return Counter({piece.encode(): count for piece, count in pieces.items()})


def train(words: dict[bytes, int], vocab_size: int) -> list[tuple[int, int]]:
    """The merges (V − 256) of byte-level BPE on words with counts.

    Each step merges the pair that occurs most often; a tie goes to the lower ids. Ends
    early where no pair is left. Raises ValueError below 256 tokens.
    """
    if vocab_size < 256:
        raise ValueError(f"vocab_size {vocab_size}: the bytes alone are 256")
    texts, weights = [byte_ids(word) for word in words], [*words.values()]
    counts: dict[tuple[int, int], int] = defaultdict(int)
    where: dict[tuple[int, int], set[int]] = defaultdict(set)
    for number, ids in enumerate(texts):
        for pair in pairwise(ids):
            counts[pair] += weights[number]
            where[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    made: list[tuple[int, int]] = []
    while heap and 256 + len(made) < vocab_size:
        count, pair = heappop(heap)
        if -count != counts[pair]:  # out of date: back with what it is now
            if counts[pair] > 0:
                heappush(heap, (-counts[pair], pair))
            continue
        fresh = _merge_everywhere(
            pair, 256 + len(made), where.pop(pair), texts, weights, counts, where
        )
        made.append(pair)
        for new in fresh:
            if counts[new] > 0:
                heappush(heap, (-counts[new], new))
    return made


def _merge_everywhere(pair, new, numbers, texts, weights, counts, where) -> set:
    """Merge `pair` in the numbered texts, keep counts; returns the pairs that began."""
    (left, right), fresh = pair, set()
    for number in numbers:
        ids, weight, i = texts[number], weights[number], 0
        while (i := _find(ids, left, right, i)) >= 0:
            ids[i : i + 2] = [new]
            if i:
                counts[ids[i - 1], left] -= weight
                begun = ids[i - 1], new
                counts[begun] += weight
                where[begun].add(number)
                fresh.add(begun)
            i += 1
            if i < len(ids):
                counts[right, ids[i]] -= weight
                begun = new, ids[i]
                counts[begun] += weight
                where[begun].add(number)
                fresh.add(begun)
    return fresh


def _find(ids: list[int], left: int, right: int, start: int) -> int:
    """Where `left, right` stands next in `ids`, or −1."""
    last = len(ids) - 1
    try:
        while True:
            start = ids.index(left, start, last)
            if ids[start + 1] == right:
                return start
            start += 1
    except ValueError:
        return -1


def ranks_of(merges: list[tuple[int, int]]) -> dict[bytes, int]:
    """The vocabulary (V) that merges make: token → id."""
    tokens = [*BYTES]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return {token: rank for rank, token in enumerate(tokens)}


# Encoding.


def encode_piece(
    piece: bytes, ranks: dict[bytes, int], below: int = NEVER
) -> list[int]:
    """The ids of one piece (n): merge the pair whose token has the lowest rank, again.

    Ends where no pair makes a token, or none of a rank below `below`.

    >>> encode_piece(b"abab", {b"a": 0, b"b": 1, b"ab": 2, b"abab": 3})
    [3]
    """
    if len(piece) >= LONG:
        return _encode_long(piece, ranks, below)
    get = ranks.get
    parts = [piece[i : i + 1] for i in range(len(piece))]
    scores = [get(piece[i : i + 2], NEVER) for i in range(len(piece) - 1)]
    while scores and (best := min(scores)) < below:
        i = scores.index(best)
        parts[i] += parts.pop(i + 1)
        del scores[i]
        if i:
            scores[i - 1] = get(parts[i - 1] + parts[i], NEVER)
        if i < len(scores):
            scores[i] = get(parts[i] + parts[i + 1], NEVER)
    return [ranks[part] for part in parts]


def _encode_long(
    piece: bytes, ranks: dict[bytes, int], below: int = NEVER
) -> list[int]:
    """The same in O(n log n): parts in a linked list, candidate pairs in a heap."""
    ends = [*range(1, len(piece) + 1)]  # the part from i on ends before ends[i]
    befores = [*range(-1, len(piece) - 1)]  # where the part before it starts
    heap: list[tuple[int, int, int]] = []

    def offer(start: int) -> None:
        if start >= 0 and (middle := ends[start]) < len(piece):
            end = ends[middle]
            if (rank := ranks.get(piece[start:end], NEVER)) < below:
                heappush(heap, (rank, start, end))

    for start in range(len(piece)):
        offer(start)
    while heap:
        _, start, end = heappop(heap)
        middle = ends[start]
        if not start < middle < end or ends[middle] != end:
            continue  # one of the two parts is gone
        ends[start], ends[middle] = end, -1
        if end < len(piece):
            befores[end] = start
        offer(befores[start])
        offer(start)
    found, start = [], 0
    while start < len(piece):
        found.append(ranks[piece[start : ends[start]]])
        start = ends[start]
    return found


class _Memory(dict):
    """Piece → its ids; encodes a piece when it is asked for it the first time."""

    def __init__(self, ranks: dict[bytes, int]):
        self.ranks = ranks

    def __missing__(self, piece: str) -> list[int]:
        try:
            text = piece.encode()
        except UnicodeEncodeError:  # half of a surrogate pair becomes U+FFFD
            pairs = piece.encode("utf-16", "surrogatepass")
            text = pairs.decode("utf-16", "replace").encode()
        rank = self.ranks.get(text)
        ids = encode_piece(text, self.ranks) if rank is None else [rank]
        if len(self) >= KEPT:
            self.clear()
        if len(piece) <= KEPT_LENGTH:
            self[piece] = ids
        return ids


@dataclass
class BPE:
    """A byte-level BPE tokenizer: ranks (V), a pattern, special tokens 特殊符号.

    The interface is tiktoken's `Encoding`. Ranks may come from `train`, from a file, or
    from elsewhere, as long as all 256 bytes are there.
    """

    ranks: dict[bytes, int]
    pattern: str = GPT2
    special: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if missing := [b for b in BYTES if b not in self.ranks]:
            raise ValueError(f"{len(missing)} of 256 bytes have no rank: {missing[0]}")
        ids = [*self.ranks.values(), *self.special.values()]
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise ValueError(f"id {twice} stands for two tokens")
        self._memory = _Memory(self.ranks)
        self._tokens = {rank: token for token, rank in self.ranks.items()}
        self._tokens |= {n: text.encode() for text, n in self.special.items()}
        splitter(self.pattern)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: str = GPT2):
        """A tokenizer of `vocab_size` tokens (V) from texts."""
        merges = train(count_words(texts, pattern), vocab_size)
        return cls(ranks_of(merges), pattern)

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text (L); special tokens are text like any other."""
        memory = self._memory
        pieces = split(text, self.pattern)
        return [*chain.from_iterable(map(memory.__getitem__, pieces))]

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """The ids of a text (L), special tokens recognised if they are allowed.

        Raises ValueError where the text holds one that is not: whoever may write the
        text could otherwise write the end of it.
        """
        if not self.special:
            return self.encode_ordinary(text)
        longest_first = sorted(self.special, key=len, reverse=True)
        finder = re.compile("|".join(map(re.escape, longest_first)))
        ids, start = [], 0
        for found in finder.finditer(text):
            if found[0] not in allowed_special:
                place = f"at character {found.start()}"
                raise ValueError(f"special token {found[0]!r} {place} is not allowed")
            ids += self.encode_ordinary(text[start : found.start()])
            ids.append(self.special[found[0]])
            start = found.end()
        return ids + self.encode_ordinary(text[start:])

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids (n). Raises KeyError that names an id that is none."""
        try:
            return b"".join(map(self._tokens.__getitem__, ids))
        except KeyError as error:
            raise KeyError(f"no token has id {error.args[0]}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids (n); bytes that are no UTF-8 become U+FFFD, �."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of ids (n) as it comes: a character appears with its last byte."""
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            if text := decoder.decode(self.decode_bytes([token])):
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest

    def pair(self, token: bytes) -> tuple[bytes, bytes]:
        """The two tokens that a token (n) was made of.

        Raises ValueError for a single byte, for one that no merge makes, for no token.
        """
        if token not in self.ranks:
            raise ValueError(f"{token!r} is no token")
        parts = encode_piece(token, self.ranks, self.ranks[token])
        if len(parts) != 2:
            raise ValueError(f"{token!r} is not made of two earlier tokens")
        return self._tokens[parts[0]], self._tokens[parts[1]]

    def save(self, path: Path) -> None:
        """Write the ranks (V) in tiktoken's form: a line a token, base64 and rank."""
        ordered = sorted(self.ranks.items(), key=lambda item: item[1])
        lines = [f"{base64.b64encode(t).decode()} {rank}\n" for t, rank in ordered]
        Path(path).write_text("".join(lines), encoding="ascii")

    @classmethod
    def load(cls, path: Path, pattern: str = GPT2, special: dict | None = None):
        """A tokenizer whose ranks (V) come from a file of tiktoken's form.

        Raises ValueError with file and line where one is not base64, a blank, a number.
        """
        ranks: dict[bytes, int] = {}
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except ValueError:
                place = f"{Path(path).name}, line {number}"
                raise ValueError(
                    f"{place}: {line!r} is not a token and a rank"
                ) from None
        return cls(ranks, pattern, special or {})

    def to_tiktoken(self):
        """tiktoken's `Encoding` with the same ranks (V), pattern and special tokens."""
        import tiktoken

        return tiktoken.Encoding(
            "ours",
            pat_str=self.pattern,
            mergeable_ranks=self.ranks,
            special_tokens=self.special,
        )

    def to_tokenizers(self):
        """Hugging Face's `Tokenizer` with the same vocabulary (V), merges, pattern."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        tokens = sorted(self.ranks, key=self.ranks.get)
        pairs = [self.pair(token) for token in tokens if len(token) > 1]
        vocab = {glyphs(token): rank for token, rank in self.ranks.items()}
        vocab |= self.special
        made = [(glyphs(left), glyphs(right)) for left, right in pairs]
        tokenizer = Tokenizer(models.BPE(vocab, made))
        cut = pre_tokenizers.Split(Regex(self.pattern), "isolated")
        shown = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, shown])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([*self.special])
        return tokenizer
