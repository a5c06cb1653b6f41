"""Chinese words (分词): by a rule over a dictionary, by word counts, by hidden states.

A text has L characters and, before, between and after them, the places 0…L. A cut
(切分) is a list of n words that joined give the text. The dictionary has V words with
counts, the longest of M characters.

    forward, backward, bidirectional    the longest word first: a rule
    best_path                           the likeliest words: counts, and a graph
    HMMCutter                           states B, E, M, S of characters: learnt
    cut                                 jieba's way to put the parts together

`cut` gives jieba 0.42.1's words, with its HMM and without, on everything tried.
"""

import importlib.util
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import hmm

BLOCK = re.compile(r"([\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]+)")  # where jieba finds words
LATIN = re.compile("[a-zA-Z0-9]")


class Dictionary:
    """V words and how often each was counted.

    `total` is the number of words that were counted, the sum of the counts if it is
    not given. Raises ValueError for no words, an empty word, a count below 1.

    >>> small = Dictionary({"研究": 5, "研究生": 2, "生命": 3})
    >>> "研究" in small, "研" in small, small.longest
    (True, False, 3)
    """

    def __init__(self, counts: Mapping[str, int], total: int | None = None):
        for word, count in counts.items():
            if not word or count < 1:
                raise ValueError(f"word {word!r} has the count {count}")
        if not counts:
            raise ValueError("a dictionary without words")
        self.counts = dict(counts)
        self.total = sum(self.counts.values()) if total is None else total
        self.longest = max(map(len, self.counts))

    def __contains__(self, word: str) -> bool:
        return word in self.counts

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def known(self) -> dict[str, int]:
        """The count of every word, and 0 for every beginning of one that is none."""
        words = self.counts
        return {w[:n]: 0 for w in words for n in range(1, len(w))} | words

    def ends(self, text: str, start: int) -> list[int]:
        """Where the words that begin at `start` end, at most M; one place on if none.

        It looks no further than a word of the dictionary goes.
        """
        found = []
        for end in range(start + 1, len(text) + 1):
            count = self.known.get(text[start:end])
            if count is None:
                break
            if count:
                found.append(end)
        return found or [start + 1]

    def graph(self, text: str) -> list[list[int]]:
        """The word graph (词图): for each of L places, the ends of words from there."""
        return [self.ends(text, start) for start in range(len(text))]


def from_file(path: Path) -> Dictionary:
    """A dictionary file of V lines, a word, its count and what else, between blanks.

    A word that stands twice has the later count; all counts are in the total. Raises
    ValueError with file and line for anything else, and for what is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}, byte {error.start}: not UTF-8") from None
    counts, total = {}, 0
    for number, line in enumerate(lines, 1):
        word, *numbers = line.split(" ")[:2]
        if not word or not numbers or not re.fullmatch("0*[1-9][0-9]*", numbers[0]):
            place = f"{path.name}, line {number}"
            raise ValueError(f"{place}: {line!r} is no word and its count")
        counts[word] = int(numbers[0])
        total += counts[word]
    return Dictionary(counts, total)


@cache
def jieba_dictionary() -> Dictionary:
    """jieba's: V = 349,045 words. Read from the package, in half a second, once."""
    package = importlib.util.find_spec("jieba").submodule_search_locations[0]
    return from_file(Path(package) / "dict.txt")


@cache
def jieba_itself():
    """The library's Tokenizer, made without messages; its cut: (L) → n words.

    Its own `initialize` would also write a cache file into the temporary folder.
    """
    import warnings

    with warnings.catch_warnings():  # an escape in its patterns that Python warns of
        warnings.simplefilter("ignore")
        import jieba
    theirs = jieba.Tokenizer()
    theirs.FREQ, theirs.total = theirs.gen_pfdict(theirs.get_dict_file())
    theirs.initialized = True
    return theirs


def forward(text: str, words: Dictionary) -> list[str]:
    """Forward maximum matching (正向最大匹配, FMM): the longest word, from the left.

    Where none begins, one character. At most M look-ups for each of the n words.
    """
    found, start = [], 0
    while start < len(text):
        end = min(start + words.longest, len(text))
        while end > start + 1 and text[start:end] not in words:
            end -= 1
        found.append(text[start:end])
        start = end
    return found


def backward(text: str, words: Dictionary) -> list[str]:
    """Backward maximum matching (逆向最大匹配, BMM): the same from the right, (n)."""
    found, end = [], len(text)
    while end:
        start = max(end - words.longest, 0)
        while start < end - 1 and text[start:end] not in words:
            start += 1
        found.append(text[start:end])
        end = start
    return found[::-1]


def bidirectional(text: str, words: Dictionary) -> list[str]:
    """Of the two, the one with fewer words; then with fewer of one character; (L) → n.

    If that does not decide either, the backward one.
    """

    def rank(cut: list[str]) -> tuple[int, int]:
        return len(cut), sum(len(word) == 1 for word in cut)

    return min(backward(text, words), forward(text, words), key=rank)


def best_path(text: str, words: Dictionary) -> list[str]:
    """The cut with the largest product of word probabilities, count ÷ total; (L) → n.

    Along the word graph from right to left, at most L·M steps. A character that is no
    word counts as if seen once. Of equals the longer first word wins, as in jieba.
    """
    log_total, graph = math.log(words.total), words.graph(text)
    best = [(0.0, 0)] * (len(text) + 1)  # of text[start:]: its score, its first end
    for start in range(len(text) - 1, -1, -1):
        best[start] = max(
            (
                math.log(words.known.get(text[start:end]) or 1)
                - log_total
                + best[end][0],
                end,
            )
            for end in graph[start]
        )
    found, start = [], 0
    while start < len(text):
        found.append(text[start : best[start][1]])
        start = best[start][1]
    return found


def log_probability(cut: Iterable[str], words: Dictionary) -> float:
    """The logarithm of the product that `best_path` makes largest, for a cut (n)."""
    return sum(math.log(words.known.get(w) or 1) - math.log(words.total) for w in cut)


Within = Callable[[str, Dictionary], list[str]]


def cut(
    text: str,
    words: Dictionary,
    within: Within = best_path,
    unknown: Callable[[str], list[str]] | None = None,
) -> list[str]:
    """The words of a text as jieba puts them together, (L) → n.

    Its pattern BLOCK finds the blocks that may hold words, Chinese, Latin letters and
    digits, and `within` cuts each. Every other character is a word. A run of single
    characters inside a block goes to `unknown`, if there is one, unless the run is a
    word; if there is none, letters and digits in a row are joined.

    >>> cut("我有3个GPU。", Dictionary({"我": 1, "有": 1, "个": 1}))
    ['我', '有', '3', '个', 'GPU', '。']
    """
    found = []
    for number, block in enumerate(BLOCK.split(text)):
        if number % 2 == 0:
            found += re.findall(r"\r\n|[\s\S]", block)
        elif unknown is None:
            found += _latin_joined(within(block, words))
        else:
            found += _runs_cut(within(block, words), words, unknown)
    return found


def _latin_joined(cut: list[str]) -> list[str]:
    joined, open_run = [], False
    for word in cut:
        latin = len(word) == 1 and bool(LATIN.match(word))
        if latin and open_run:
            joined[-1] += word
        else:
            joined.append(word)
        open_run = latin
    return joined


def _runs_cut(cut: list[str], words: Dictionary, unknown) -> list[str]:
    found, run = [], ""
    for word in [*cut, ""]:  # the empty word ends the last run
        if len(word) == 1:
            run += word
            continue
        found += list(run) if len(run) < 2 or run in words else unknown(run)
        found += [word] if word else []
        run = ""
    return found


def states_of(cut: Iterable[str]) -> str:
    """The states of the L characters of a cut: S alone, else B, M …, E.

    >>> states_of(["我", "喜欢", "图书馆"])
    'SBEBME'
    """
    return "".join("S" if len(w) == 1 else f"B{'M' * (len(w) - 2)}E" for w in cut)


def from_states(text: str, states: str) -> list[str]:
    """The cut of a text (L) that its states (L) say: a word ends after E and after S.

    >>> from_states("我喜欢图书馆", "SBEBME")
    ['我', '喜欢', '图书馆']
    """
    ends = [0, *(t for t, state in enumerate(states, 1) if state in "ES")]
    return [text[a:b] for a, b in pairwise(ends)]


class HMMCutter:
    """Cuts a text (L) by a hidden Markov model whose tables are counted: no word list.

    `sentences` are cuts. Each emission gets `smoothing` on top of its count, and one
    more symbol stands for all characters that the sentences do not have. The states
    are those of `hmm.STATES`.
    Labels for characters: Xue 2003, "Chinese Word Segmentation as Character Tagging".

    Raises ValueError for no sentences, and for a text through which no path of seen
    steps leads, which takes very few sentences.
    """

    def __init__(self, sentences: list[list[str]], smoothing: float = 0.3):
        if not sentences:
            raise ValueError("no sentences to learn from")
        texts = ["".join(sentence) for sentence in sentences]
        self.number = {c: n for n, c in enumerate(sorted(set("".join(texts))))}
        paths = [
            np.array([*map(hmm.STATES.index, states_of(sentence))])
            for sentence in sentences
        ]
        symbols = [self.symbols(text) for text in texts]
        V = len(self.number) + 1
        counted = hmm.count(symbols, paths, len(hmm.STATES), V, smoothing)
        stops = np.array([0.0 if state in "ES" else -np.inf for state in hmm.STATES])
        self.model = counted._replace(end=stops)

    def symbols(self, text: str) -> np.ndarray:
        """The numbers of the characters (L); all unseen ones have the last."""
        return np.array([self.number.get(c, len(self.number)) for c in text])

    def __call__(self, text: str) -> list[str]:
        if not text:
            return []
        path, score = hmm.viterbi(self.model, self.symbols(text))
        if score == -np.inf:
            raise ValueError(f"no path of steps that were seen leads through {text!r}")
        return from_states(text, "".join(hmm.STATES[state] for state in path))


class Score(NamedTuple):
    """How a cut fares against a gold one, spans of words compared; (n) words a text."""

    precision: float  # right ÷ found
    recall: float  # right ÷ there
    f1: float
    new_recall: float  # of the new words: right ÷ there


def spans(cut: Iterable[str]) -> set[tuple[int, int]]:
    """Where the n words of a cut begin and end: a set of pairs of places.

    >>> sorted(spans(["我", "喜欢"]))
    [(0, 1), (1, 3)]
    """
    return set(pairwise([0, *accumulate(map(len, cut))]))


def is_new(word: str, known) -> bool:
    """Of (2 or more) characters, one of them Chinese at least, and not in `known`."""
    return len(word) > 1 and word not in known and bool(re.search("[一-鿕]", word))


def outcomes(
    found: list[list[str]], gold: list[list[str]], known=frozenset()
) -> np.ndarray:
    """(sentences, 5): words right, found, there; new words right, new words there.

    A word is right if it begins and ends where one of the gold cut does. Whether one is
    new, `is_new` says. Raises ValueError where the texts differ, naming the sentence.
    """
    rows = []
    for number, (ours, theirs) in enumerate(zip(found, gold, strict=True)):
        text = "".join(theirs)
        if "".join(ours) != text:
            raise ValueError(f"sentence {number}: {ours} is no cut of {text!r}")
        mine, there = spans(ours), spans(theirs)
        new = {span for span in there if is_new(text[slice(*span)], known)}
        right = mine & there
        rows.append((len(right), len(mine), len(there), len(right & new), len(new)))
    return np.array(rows)


def score(counts: np.ndarray) -> Score:
    """Precision, recall, F1 and recall of new words, of all sentences (n, 5) as one."""
    right, found, there, new_right, new = np.asarray(counts).sum(0)
    return Score(
        right / max(found, 1),
        right / max(there, 1),
        2 * right / max(found + there, 1),
        new_right / max(new, 1),
    )
