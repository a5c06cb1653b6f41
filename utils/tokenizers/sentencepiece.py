"""SentencePiece: raw text in, ids out, and one file that holds all that it takes.

A `.model` file is a message in the format of protocol buffers: pieces (V), each with
score and kind, the settings of training, and the rules of normalisation as a compiled
table. Between text (L) and ids (n) lie three steps: normalise, cut by Unigram or BPE,
replace what is unknown. `SentencePiece` reads the file and takes the steps, without the
library and with its ids.

Kudo and Richardson 2018; sentencepiece_model.proto, normalizer.cc, unigram_model.cc,
bpe_model.cc and sentencepiece_processor.cc of sentencepiece 0.2.3; darts.h for the
compiled table. Encoding of protocol buffers: protobuf.dev.
"""

import io
import re
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from itertools import dropwhile, groupby
from pathlib import Path
from typing import NamedTuple

from utils.tokenizers.unigram import Unigram

LEAF = 1 << 31  # the bit of a unit that holds the place of a text
SPACE = "\u2581"  # ▁, a blank as the pieces write it
KINDS = "normal", "unknown", "control", "user-defined", "unused", "byte"
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
NOTHING = re.compile("(?!)")
LONG = 256  # characters of a word that is not remembered
KEPT = 100_000  # words, and steps along the rules, that are remembered

# Reading: the wire format of protocol buffers.


class Field(NamedTuple):
    """One field of a message: it fills the bytes start…end, its content begin…end.

    `value` is a number for wire types 0 (varint) and 5 (four bytes, a float), bytes (n)
    for type 2.
    """

    number: int
    value: int | float | bytes
    start: int
    begin: int
    end: int


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends.

    The top bit of a byte says that another follows. `data` has (n) bytes. Raises
    ValueError where they end too early or the number has more than 64 bits.

    >>> varint(bytes([0b10101100, 0b10]), 0)
    (300, 2)
    """
    number = 0
    for place in range(at, at + 10):
        if place >= len(data):
            raise ValueError(f"byte {place}: the file ends within a number")
        number |= (data[place] & 127) << 7 * (place - at)
        if data[place] < 128:
            return number, place + 1
    raise ValueError(f"byte {at}: a number of more than ten bytes")


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in data[start:end], (n) bytes, in their order.

    Raises ValueError, with the place of the byte, for anything that is no message.
    """
    end = len(data) if end is None else end
    while start < end:
        key, begin = varint(data, start)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, stop = varint(data, begin)
        elif wire == 2:
            length, begin = varint(data, begin)
            stop = begin + length
            value = data[begin:stop]
        elif wire in (1, 5):
            stop = begin + (8 if wire == 1 else 4)
            value = data[begin:stop]
        else:
            raise ValueError(f"byte {start}: no field has wire type {wire}")
        if stop > end:
            raise ValueError(
                f"byte {start}: field {number} ends at {stop}, after {end}"
            )
        if wire == 5:
            (value,) = struct.unpack("<f", value)
        yield Field(number, value, start, begin, stop)
        start = stop


def message(data: bytes, start: int, end: int, schema: dict[int, tuple]) -> dict:
    """The fields of data[start:end] that `schema` names: number → (name, default).

    The default's type is the type wanted. What is not there has its default; what the
    schema does not know is passed over, and of several the last counts, as protocol
    buffers have it. `data` has (n) bytes. Raises ValueError with the place of the byte.
    """
    found = dict(schema.values())
    for one in fields(data, start, end):
        if one.number not in schema:
            continue
        name, default = schema[one.number]
        value, kind = one.value, type(default)
        if kind is str and isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                place = one.begin + error.start
                raise ValueError(f"byte {place}: {name} is not UTF-8") from None
        elif kind is bool and isinstance(value, int):
            value = bool(value)
        if not isinstance(value, kind):
            raise ValueError(f"byte {one.start}: {name} is no {kind.__name__}")
        found[name] = value
    return found


# sentencepiece_model.proto: number → name and default.
PIECE = {1: ("piece", ""), 2: ("score", 0.0), 3: ("type", 1)}
TRAINER = {
    3: ("model_type", 1),
    4: ("vocab_size", 8000),
    10: ("character_coverage", 0.9995),
    20: ("max_sentencepiece_length", 16),
    21: ("split_by_unicode_script", True),
    22: ("split_by_whitespace", True),
    23: ("split_by_number", True),
    24: ("treat_whitespace_as_suffix", False),
    25: ("split_digits", False),
    35: ("byte_fallback", False),
    44: ("unk_surface", " \u2047 "),
}
NORMALISER = {
    1: ("name", ""),
    2: ("precompiled_charsmap", b""),
    3: ("add_dummy_prefix", True),
    4: ("remove_extra_whitespaces", True),
    5: ("escape_whitespaces", True),
}


class Piece(NamedTuple):
    """One entry of the vocabulary (V); its place there is its id."""

    text: str
    score: float
    kind: str


# Normalisation.


class Rules:
    """A compiled table of rewriting rules: a length, a trie, the texts to put in.

    The trie is a double array (双数组字典树) over bytes, of U units of 32 bits. The
    unit at i points to a base, i XOR its offset; its child by byte b is the unit at
    base XOR b, if that has the label b. Where bit 8 is set a rule ends, and the unit at
    the base itself holds the place of its text. Equal ends are shared, so a table (U)
    has many more rules than units. No bytes are no rules.

    Raises ValueError where the lengths do not fit, and on meeting a broken unit.
    """

    def __init__(self, table: bytes):
        size = int.from_bytes(table[:4], "little") if table else 0
        if size % 4 or size > max(len(table) - 4, 0):
            raise ValueError(f"rules of {len(table)} bytes with a trie of {size}")
        self.units = struct.unpack_from(f"<{size // 4}I", table, 4) if size else ()
        self.texts = table[4 + size :]
        self.step = lru_cache(KEPT)(self._step)

    def _base(self, at: int) -> int:
        unit = self.units[at]
        base = at ^ (unit >> 10 << (8 if unit & 1 << 9 else 0))
        if base | 255 >= len(self.units):
            raise ValueError(f"unit {at} of the rules points to {base}, outside")
        return base

    def _step(self, at: int, character: str) -> int:
        """From the unit `at` along the bytes of a character; −1 where no path goes."""
        for byte in character.encode():
            child = self._base(at) ^ byte
            if self.units[child] & (LEAF | 255) != byte:
                return -1
            at = child
        return at

    def ends(self, at: int) -> bool:
        """Whether a rule ends at the unit `at`."""
        return bool(self.units[at] & 1 << 8)

    def longest(self, text: str, start: int) -> tuple[str, int]:
        """What to put for the longest rule from `start` on in a text (L), and its end.

        Without a rule, the character itself.
        """
        found, at, end = None, 0, start
        while self.units and end < len(text) and (at := self.step(at, text[end])) >= 0:
            end += 1
            if self.ends(at):
                found = at, end
        if found is None:
            return text[start], start + 1
        place = self.units[self._base(found[0])] & (LEAF - 1)
        stop = self.texts.find(0, place)
        if stop < 0:
            raise ValueError(f"unit {found[0]} of the rules has its text at {place}")
        return self.texts[place:stop].decode(), found[1]

    def quiet(self) -> str:
        """The ASCII characters that no rule changes, alone or with another of them."""
        every = [chr(code) for code in range(128)]
        if not self.units:
            return "".join(every)
        after = {c: self.step(0, c) for c in every}
        return "".join(
            c
            for c, at in after.items()
            if at < 0
            or not self.ends(at)
            and not any(self.step(at, d) >= 0 for d in every)
        )


class Normaliser:
    """What happens to a text (L) before it is cut: rules, then blanks.

    At each place the longest rule is taken, and what no rule begins with is copied;
    `symbols` are copied before any rule is asked. Then extra blanks go, one is put in
    front (or behind, with `suffix`), and each is written as ▁. All as `spec` has it.
    """

    def __init__(self, spec: dict, symbols: Collection[str] = (), suffix: bool = False):
        self.rules = Rules(spec["precompiled_charsmap"])
        self.squeeze = spec["remove_extra_whitespaces"]
        self.blank = SPACE if spec["escape_whitespaces"] else " "
        self.dummy = self.blank if spec["add_dummy_prefix"] else ""
        self.suffix = suffix
        # What is copied: a symbol; a run of ASCII that no rule looks into.
        firsts = {" ", *(symbol[0] for symbol in symbols)}
        quiet = "".join(re.escape(c) for c in self.rules.quiet() if c not in firsts)
        run = f"[{quiet}]+(?![^\\0-\\x7f])" if quiet else NOTHING.pattern
        self.copied = re.compile(f"{any_of(symbols).pattern}|{run}")

    def __call__(self, text: str) -> str:
        """The normalised text, ▁ for blanks. Raises ValueError at half of a pair."""
        if half := re.search("[\ud800-\udfff]", text):
            place = f"character {half.start()}"
            raise ValueError(f"{place}: {half[0]!a} is half of a surrogate pair")
        parts = self.parts(text)
        if self.squeeze:
            parts = dropwhile(" ".__eq__, parts)
        parts = [*parts]
        if not parts:
            return ""
        made, after_blank = ["" if self.suffix else self.dummy], self.squeeze
        for part in parts:
            if after_blank:
                part = part.lstrip(" ")
            if part:
                made.append(part)
                after_blank = self.squeeze and part[-1] == " "
        whole = "".join(made).replace(" ", self.blank)
        if self.squeeze:
            whole = whole.rstrip(self.blank)
        return whole + self.dummy if self.suffix else whole

    def parts(self, text: str) -> Iterator[str]:
        """What comes in place of each stretch of a text (L)."""
        at = 0
        while at < len(text):
            if copied := self.copied.match(text, at):
                part, at = copied[0], copied.end()
            else:
                part, at = self.rules.longest(text, at)
            yield part


def any_of(symbols: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of (n) symbols, the longest that fits; for none, no match."""
    longest_first = sorted(symbols, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or NOTHING.pattern)


# Encoding.


def cut_by_merges(
    text: str,
    scores: dict[str, float],
    symbols: re.Pattern[str] = NOTHING,
    unused: Collection[str] = (),
) -> list[str]:
    """The parts (n) of a text (L): merge the two neighbours whose sum scores highest.

    Of equal scores the leftmost, until no two neighbours make a piece. What `symbols`
    matches is a part from the beginning and never merges. A part that is `unused`
    serves as a step, and is taken apart again at the end. Candidates lie in a heap,
    parts in a linked list: O(L log L).

    >>> cut_by_merges("abcb", {"ab": -1.0, "cb": -2.0, "bc": -0.5})
    ['a', 'bc', 'b']
    """
    ends = [*range(1, len(text) + 1)]  # the part from i on ends before ends[i]
    befores = [*range(-1, len(text) - 1)]  # where the part before it starts
    frozen, made, heap = set(), {}, []
    for found in symbols.finditer(text):
        start, end = found.span()
        frozen.add(start)
        ends[start] = end
        if end < len(text):
            befores[end] = start

    def offer(start: int) -> None:
        middle = ends[start]
        if middle < len(text) and start not in frozen and middle not in frozen:
            whole = text[start : ends[middle]]
            if whole in scores:
                heappush(heap, (-scores[whole], start, ends[middle]))
                if whole in unused:
                    made[whole] = text[start:middle], text[middle : ends[middle]]

    start = 0
    while start < len(text):
        offer(start)
        start = ends[start]
    while heap:
        _, start, end = heappop(heap)
        middle = ends[start]
        if not start < middle < end or ends[middle] != end:
            continue  # one of the two is gone, or has grown
        ends[start], ends[middle] = end, -1
        if end < len(text):
            befores[end] = start
        if befores[start] >= 0:
            offer(befores[start])
        offer(start)
    parts, start = [], 0
    while start < len(text):
        parts += _apart(text[start : ends[start]], made)
        start = ends[start]
    return parts


def _apart(part: str, made: dict[str, tuple[str, str]]) -> list[str]:
    if part not in made:
        return [part]
    left, right = made[part]
    return _apart(left, made) + _apart(right, made)


@dataclass
class SentencePiece:
    """A tokenizer from a `.model` file: the vocabulary (V) and the file's settings.

    `ids` has the pieces that a text can be cut into. Raises ValueError for a vocabulary
    with a piece twice, without one for the unknown, or with some bytes but not all.
    """

    vocabulary: list[Piece]
    trainer: dict
    normaliser: dict
    denormaliser: dict | None = None
    ids: dict[str, int] = field(init=False)

    def __post_init__(self):
        of = {kind: [p for p in self.vocabulary if p.kind == kind] for kind in KINDS}
        texts = [piece.text for piece in self.vocabulary]
        if len(of["unknown"]) != 1:
            raise ValueError(f"{len(of['unknown'])} pieces for the unknown, not one")
        if "" in texts or len(set(texts)) < len(texts):
            twice = next(text for text in texts if not text or texts.count(text) > 1)
            raise ValueError(f"piece {twice!r} is empty or stands there twice")
        self.algorithm = ALGORITHMS.get(self.trainer["model_type"], "none")
        if self.algorithm not in ("unigram", "bpe"):
            raise ValueError(
                f"model_type {self.trainer['model_type']} is not read here"
            )
        number = {text: i for i, text in enumerate(texts)}
        names = [f"<0x{byte:02X}>" for byte in range(256)]
        bytes_there = {piece.text for piece in of["byte"]}
        if bytes_there != ({*names} if self.trainer["byte_fallback"] else set()):
            raise ValueError(
                f"{len(bytes_there)} byte pieces, with byte_fallback or not"
            )
        self.byte_ids = [number[name] for name in names if bytes_there]
        self.unknown = number[of["unknown"][0].text]
        symbols = [piece.text for piece in of["user-defined"]]
        self.ids = {p.text: number[p.text] for p in of["normal"] + of["user-defined"]}
        suffix = self.trainer["treat_whitespace_as_suffix"]
        self.normalise = Normaliser(self.normaliser, symbols, suffix)
        self._back = Normaliser(self.denormaliser) if self.denormaliser else None
        if self.algorithm == "unigram":
            scores = {piece.text: piece.score for piece in of["normal"]}
            worst = min(scores.values(), default=0.0)
            scores |= {s: 0.1 * (len(s.encode()) - 1) for s in symbols}  # taken always
            self._model = Unigram(scores, worst - 10, single=True)
        else:
            mergeable = of["normal"] + of["user-defined"] + of["unused"]
            self._scores = {piece.text: piece.score for piece in mergeable}
            self._unused = {piece.text for piece in of["unused"]}
            self._symbols = any_of(symbols)
            # Words can be cut one by one if no piece goes on beyond the end of one.
            beyond = re.compile(f"[^{SPACE}]{SPACE}")
            apart = not self._unused and not any(map(beyond.search, self._scores))
            word = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
            self._words = word if apart else None
            self._memory: dict[str, list[str]] = {}

    @classmethod
    def read(cls, source: bytes | str | Path) -> "SentencePiece":
        """The tokenizer in a file, given by path or as its bytes (n).

        Raises ValueError with the place of the byte where it is no model.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        pieces, specs = [], {2: {}, 3: {}, 5: {}}
        for one in fields(data):
            if one.number in (1, 2, 3, 5) and not isinstance(one.value, bytes):
                raise ValueError(f"byte {one.start}: field {one.number} is no message")
            if one.number == 1:
                found = message(data, one.begin, one.end, PIECE)
                kind = found["type"]
                if not 1 <= kind <= len(KINDS):
                    raise ValueError(f"byte {one.start}: a piece of type {kind}")
                pieces.append(Piece(found["piece"], found["score"], KINDS[kind - 1]))
            elif one.number in specs:
                schema = TRAINER if one.number == 2 else NORMALISER
                specs[one.number] = message(data, one.begin, one.end, schema)
        if not pieces:
            raise ValueError("no model: not one piece in it")
        trainer = specs[2] or dict(TRAINER.values())
        normaliser = specs[3] or dict(NORMALISER.values())
        back = specs[5] if specs[5].get("precompiled_charsmap") else None
        return cls(pieces, trainer, normaliser, back)

    def _cut(self, text: str) -> list[str]:
        """The normalised text in parts (n), unknown characters one by one."""
        whole = self.normalise(text)
        if self.algorithm == "unigram":
            return self._model.segment(whole)
        if not self._words:
            return cut_by_merges(whole, self._scores, self._symbols, self._unused)
        parts = []
        for word in self._words.findall(whole):
            found = self._memory.get(word)
            if found is None:
                found = cut_by_merges(word, self._scores, self._symbols)
                if len(self._memory) < KEPT and len(word) < LONG:
                    self._memory[word] = found
            parts += found
        return parts

    def tokens(self, text: str) -> list[tuple[str, int]]:
        """Pieces and ids (n) of a text (L).

        A part that is no piece becomes its bytes, with byte_fallback; without, it is
        unknown, and unknown neighbours become one.
        """
        found: list[tuple[str, int]] = []
        for part in self._cut(text):
            number = self.ids.get(part, self.unknown)
            if number != self.unknown:
                found.append((part, number))
            elif self.trainer["byte_fallback"]:
                found += [(f"<0x{b:02X}>", self.byte_ids[b]) for b in part.encode()]
            elif found and found[-1][1] == self.unknown:
                found[-1] = found[-1][0] + part, number
            else:
                found.append((part, number))
        return found

    def encode(self, text: str) -> list[int]:
        """The ids (n) of a text (L)."""
        return [number for _, number in self.tokens(text)]

    def pieces(self, text: str) -> list[str]:
        """The pieces (n) of a text (L), an unknown run as it stands."""
        return [piece for piece, _ in self.tokens(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids (n). Raises KeyError that names an id that is none.

        ▁ becomes a blank, but for the first; control pieces vanish; bytes that are no
        UTF-8 become U+FFFD, one each.
        """
        strips = self.normaliser["add_dummy_prefix"] or self.normalise.squeeze
        made, begun = [], False
        for raw, run in groupby(map(self.piece, ids), lambda p: p.kind == "byte"):
            if raw:
                data = bytes(int(piece.text[3:5], 16) for piece in run)
                loose = data.decode("utf-8", "surrogateescape")
                made.append(re.sub("[\udc80-\udcff]", "\ufffd", loose))
                begun = True
                continue
            for text, _, kind in run:
                if kind == "control":
                    continue
                if kind == "unknown":
                    text = self.trainer["unk_surface"]
                elif strips and not begun and text[0] == SPACE:
                    text, begun = text[1:], not self.normalise.squeeze
                made.append(text if kind == "unknown" else text.replace(SPACE, " "))
                begun = begun or made[-1] != ""
        text = "".join(made)
        return self._back(text) if self._back else text

    def piece(self, number: int) -> Piece:
        """The entry of an id below (V). Raises KeyError that names another."""
        if not 0 <= number < len(self.vocabulary):
            raise KeyError(f"no piece has id {number}")
        return self.vocabulary[number]


def train_by_library(lines: Iterable[str], **options) -> bytes:
    """The bytes of a `.model` that the library trains on lines, silent, on one thread.

    `options` are the library's own: vocab_size, model_type, character_coverage, …
    """
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        **{"num_threads": 1, "minloglevel": 2} | options,
    )
    return written.getvalue()
