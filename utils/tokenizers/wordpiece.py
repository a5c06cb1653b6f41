"""WordPiece: words cut from the left, each time the longest piece in the vocabulary.

BERT's way to numbers has three steps: clean the text and lower it (`normalise`), divide
it into words and punctuation (`split`), and cut each word (`WordPiece.cut`). A piece
that goes on within a word is written with ## before it. A word that cannot be cut to
its end is [UNK] as a whole.

Sizes: a text of (L) characters, a vocabulary of (V) pieces, the longest with M
characters. The ids agree with those of Hugging Face's `tokenizers`; where its tables of
characters are older than Python's, the test says at which characters.

Schuster and Nakajima 2012, "Japanese and Korean voice search", section 4; Devlin et al.
2019 and google-research/bert, tokenization.py.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

CONTINUED = "##"
UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
IDEOGRAPHS = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df"
    "\U0002a700-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f])"
)  # as in BERT; each is a word by itself


def normalise(text: str, lower: bool = True) -> str:
    """A text (L) without control characters and accents, lowered, ideographs apart.

    Accents are the nonspacing marks (Mn) of the decomposed text, so é becomes e, and in
    Korean, where syllables decompose, nothing is lost but the composed form.
    """
    kept = (_blank_or_nothing(c) for c in text)
    text = IDEOGRAPHS.sub(r" \1 ", "".join(kept))
    if not lower:
        return text
    text = unicodedata.normalize("NFD", text)
    bare = (c for c in text if unicodedata.category(c) != "Mn")
    return "".join(c.lower() for c in bare)  # one by one: Σ is σ, at a word's end too


def _blank_or_nothing(c: str) -> str:
    """A blank for white space, nothing for control and format characters, or c."""
    if c.isascii():
        if c.isprintable():
            return c
        return " " if c in "\t\n\r" else ""
    category = unicodedata.category(c)
    if category in ("Cc", "Cf", "Co", "Cs") or c == "\ufffd":
        return ""
    return " " if category in ("Zs", "Zl", "Zp") else c


@lru_cache(4096)
def _is_punctuation(c: str) -> bool:
    """As BERT has it: Unicode's P, and each ASCII sign that is no letter or digit."""
    if c.isascii():
        return "!" <= c <= "~" and not c.isalnum()
    return unicodedata.category(c).startswith("P")


def split(text: str) -> list[str]:
    """The words (n) of a normalised text; each punctuation mark is one of them.

    >>> split("don't stop, 南 京!")
    ['don', "'", 't', 'stop', ',', '南', '京', '!']
    """
    spaced = [f" {c} " if _is_punctuation(c) else c for c in text]
    return "".join(spaced).split()


class WordPiece:
    """A vocabulary (V), pieces in the order of their ids, and greedy longest match.

    Words of more than `longest_word` characters are [UNK]. `special` pieces are found
    in the raw text and never cut. Raises ValueError without [UNK], and for a piece that
    stands twice.

    >>> wordpiece = WordPiece(["[UNK]", "un", "##happ", "##y", "##ily"])
    >>> wordpiece.tokens("Unhappily, unhappy")
    ['un', '##happ', '##ily', '[UNK]', 'un', '##happ', '##y']
    """

    def __init__(
        self,
        pieces: Sequence[str],
        lower: bool = True,
        longest_word: int = 100,
        special: Iterable[str] = SPECIAL,
    ):
        self.pieces = list(pieces)
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        if UNKNOWN not in self.ids:
            raise ValueError(f"a WordPiece vocabulary needs {UNKNOWN}")
        if len(self.ids) < len(self.pieces):
            twice = next(p for n, p in enumerate(self.pieces) if self.ids[p] != n)
            raise ValueError(f"{twice!r} stands twice in the vocabulary")
        self.lower, self.longest_word = lower, longest_word
        self.longest = max(map(len, self.pieces))
        present = sorted((s for s in special if s in self.ids), key=len, reverse=True)
        self.special = re.compile(f"({'|'.join(map(re.escape, present))})")
        self.cut = lru_cache(2**16)(self._cut)  # a text repeats its words

    @classmethod
    def from_file(cls, path: str | Path, **options) -> "WordPiece":
        """Read vocab.txt, a piece on each line; the first has id 0, the last V − 1.

        Raises ValueError naming the line of an empty piece.
        """
        lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise ValueError(f"{Path(path).name}, line {number}: an empty piece")
        return cls([line.rstrip() for line in lines], **options)

    def _cut(self, word: str) -> tuple[str, ...]:
        """The pieces (n) of one word, or [UNK] alone. At most n·M look-ups."""
        pieces, start, mark = [], 0, ""
        if len(word) > self.longest_word:
            return (UNKNOWN,)
        while start < len(word):
            for end in range(min(len(word), start + self.longest), start, -1):
                if (piece := mark + word[start:end]) in self.ids:
                    break
            else:
                return (UNKNOWN,)
            pieces.append(piece)
            start, mark = end, CONTINUED
        return tuple(pieces)

    def tokens(self, text: str) -> list[str]:
        """The pieces (n) of a raw text."""
        found: list[str] = []
        for number, part in enumerate(self.special.split(text)):
            if number % 2:  # what the pattern matched
                found.append(part)
            else:
                for word in split(normalise(part, self.lower)):
                    found += self.cut(word)
        return found

    def encode(self, text: str) -> list[int]:
        """The ids (n) of a raw text, without [CLS] and [SEP]."""
        return [self.ids[token] for token in self.tokens(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Pieces joined, blanks before those without ##: not the text, but readable."""
        joined = " ".join(self.pieces[number] for number in ids)
        return joined.replace(f" {CONTINUED}", "")


Criterion = Callable[[int, int, int, int], float]


def by_count(pair: int, left: int, right: int, total: int) -> float:
    """The merge of BPE: the pair that occurs most often. Arguments are counts, (1)."""
    return pair


def by_ratio(pair: int, left: int, right: int, total: int) -> float:
    """count(ab) / (count(a) · count(b)), as WordPiece is usually described, (1)."""
    return pair / (left * right)


def by_gain(pair: int, left: int, right: int, total: int) -> float:
    """What the merge adds to the log likelihood of a unigram model of the pieces, (1).

    To first order: count(ab) · log(count(ab) · total / (count(a) · count(b))). Schuster
    and Nakajima take the unit that raises the likelihood of the training data most; the
    ratio above is this without the count before the logarithm.
    """
    return pair * math.log(pair * total / (left * right))


def train(
    words: Mapping[str, int],
    merges: int,
    criterion: Criterion = by_ratio,
    least: int = 1,
) -> list[str]:
    """The vocabulary after `merges` merges: the characters, then a piece a merge, (V).

    `words` maps words to their counts. Pairs that occur less than `least` times are not
    merged; of equals the pair that was seen first is. Counts follow each merge, so it
    costs the words that it changes, and one look at each pair.
    """
    split_words = [[w[0], *(CONTINUED + c for c in w[1:])] for w in words]
    weights = list(words.values())
    singles: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

    def count(number: int, sign: int) -> None:
        pieces = split_words[number]
        for piece in pieces:
            singles[piece] += sign * weights[number]
        for pair in zip(pieces, pieces[1:], strict=False):
            pairs[pair] += sign * weights[number]
            where[pair].add(number)

    for number in range(len(split_words)):
        count(number, +1)
    vocabulary = dict.fromkeys(sorted(singles))
    for _ in range(merges):
        total = singles.total()
        open_pairs = [pair for pair, times in pairs.items() if times >= least]
        if not open_pairs:
            break
        best = max(
            open_pairs,
            key=lambda p: criterion(pairs[p], singles[p[0]], singles[p[1]], total),
        )
        joined = best[0] + best[1].removeprefix(CONTINUED)
        vocabulary[joined] = None
        for number in sorted(where.pop(best)):
            count(number, -1)
            split_words[number] = _merged(split_words[number], best, joined)
            count(number, +1)
        del pairs[best]
    return list(vocabulary)


def _merged(pieces: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    found, place = [], 0
    while place < len(pieces):
        here = tuple(pieces[place : place + 2]) == pair
        found.append(joined if here else pieces[place])
        place += 2 if here else 1
    return found
