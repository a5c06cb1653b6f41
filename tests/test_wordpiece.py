"""WordPiece against a slow reading of its rules, and against `tokenizers` id by id."""

import itertools
import math
import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.lab import datasets, pretrained, strings
from utils.tokenizers import wordpiece
from utils.tokenizers.wordpiece import UNKNOWN, WordPiece, normalise, split, train

HUG = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
# Characters of Unicode 3.2 that have moved to another category since then, and on which
# the library's older table disagrees with Python's.
MOVED = {0x166D, 0x1734, 0x1885, 0x1886}


@pytest.fixture(scope="module")
def bert():
    """MiniLM's vocabulary, ours and theirs, without padding and truncation."""
    from tokenizers import Tokenizer

    folder = pretrained.minilm_folder()
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    return WordPiece.from_file(folder / "vocab.txt"), theirs


def different(bert, texts):
    ours, theirs = bert
    found = []
    for text in texts:
        if ours.encode(text) != theirs.encode(text, add_special_tokens=False).ids:
            found.append(text[:40])
    return found


def test_ids_on_the_corpus(bert):
    lines = [text for s in datasets.sentences() for text in (s.en, s.zh)]
    for part in ("train", "dev", "test"):
        lines += ["".join(s.characters) for s in datasets.ner(part)]
    for name in ("english", "code", "chinese"):
        if loader := getattr(datasets, name, None):
            lines += loader().split("\n")
    assert different(bert, lines) == []


def test_ids_on_twenty_thousand_strings(bert):
    assert different(bert, strings.mixed(20_000)) == []


@given(
    st.text(
        st.characters(exclude_categories=["Cs"]).filter(
            lambda c: strings.settled(ord(c))
        )
    )
)
def test_ids_on_any_text_of_settled_characters(bert, text):
    assert different(bert, [text]) == []


@pytest.mark.parametrize(
    "text",
    [
        *("a" * n for n in (99, 100, 101, 102, 103)),
        *("é" * n for n in (99, 100, 101)),
        "ΣΑΣ Σ. İstanbul ﬁ ﬂ ß ẞ ŉ",
        "[MASK] is x[MASK]y [SEP][CLS] [mask] [UNK]",
        "##ing a##b ## #",
        "a\u00adb \u2028x\u2029 \x1c\x1f \x85 \ufeff \ufffd \x00",
        "한글 𠀀𪛟𫝀 ㍿ 々 ー 〇",
        "e\u0301\u0301 ǖ ñ Ångström",
        "1,000.5 don't — “so” $5^2 `x` ~",
        "",
    ],
)
def test_ids_on_corner_cases(bert, text):
    assert different(bert, [text]) == []


def test_every_code_point():
    """Ours and the library's steps before the cutting, on each code point by itself.

    They may differ only where Python's table of Unicode is younger: at characters that
    came after Unicode 3.2 and are marks, punctuation, format characters or capitals, or
    are not known to Python at all; and at the four that moved.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    theirs, theirs_split = BertNormalizer(lowercase=True), BertPreTokenizer()

    def agree(text):
        normal = theirs.normalize_str(text)
        words = [word for word, _ in theirs_split.pre_tokenize_str(normal)]
        return normalise(text) == normal and split(normal) == words

    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    differing = set()
    for block in range(0, len(points), 64):
        some = points[block : block + 64]
        if not agree("a" + "a".join(map(chr, some)) + "a"):
            differing |= {p for p in some if not agree(f"a{chr(p)}b")}
    assert MOVED <= differing
    assert len(differing) < 1200
    for p in differing - MOVED:
        c = chr(p)
        assert not strings.settled(p)
        assert unicodedata.ucd_3_2_0.category(c) == "Cn", hex(p)
        young = unicodedata.category(c)
        late = young in ("Mn", "Mc", "Cf", "Cn", "Lu") or young[0] == "P"
        assert late, (hex(p), young)


def slow_cut(vocabulary, word):
    """Greedy longest match as one reads it: try every end from the right."""
    pieces, rest, first = [], word, True
    while rest:
        ends = [n for n in range(1, len(rest) + 1)]
        fits = [n for n in ends if ("" if first else "##") + rest[:n] in vocabulary]
        if not fits:
            return [UNKNOWN]
        pieces.append(("" if first else "##") + rest[: max(fits)])
        rest, first = rest[max(fits) :], False
    return pieces


@given(
    st.sets(st.text("abc", min_size=1, max_size=3), max_size=8),
    st.sets(st.text("abc", min_size=1, max_size=3), max_size=8),
    st.text("abcd", min_size=1, max_size=9),
)
def test_the_cut_against_a_slow_one(first, later, word):
    vocabulary = [UNKNOWN, *sorted(first), *("##" + piece for piece in sorted(later))]
    found = WordPiece(vocabulary, special=()).cut(word)
    assert list(found) == slow_cut(set(vocabulary), word)


def test_decoding_as_tokenizers_does(bert):
    from tokenizers.decoders import WordPiece as Decoder

    ours, _ = bert
    text = "Tokenization, unbelievably, is joyful."
    want = Decoder(cleanup=False).decode(ours.tokens(text))
    assert (
        ours.decode(ours.encode(text))
        == want
        == "tokenization , unbelievably , is joyful ."
    )


def assert_each_merge_is_a_best_one(words, merges, criterion):
    """Replay a training, all counts anew before each merge; ties may go either way."""
    texts = {" ".join([w[0], *("##" + c for c in w[1:])]): n for w, n in words.items()}
    alphabet = {piece for text in texts for piece in text.split()}
    vocabulary = train(words, merges, criterion)
    assert set(vocabulary[: len(alphabet)]) == alphabet
    for made in [*vocabulary[len(alphabet) :], None]:
        singles, pairs = Counter(), Counter()
        for text, n in texts.items():
            for piece in text.split():
                singles[piece] += n
            for pair in itertools.pairwise(text.split()):
                pairs[pair] += n
        score = {
            (a, b): criterion(n, singles[a], singles[b], singles.total())
            for (a, b), n in pairs.items()
        }
        if made is None:
            assert not pairs or len(vocabulary) - len(alphabet) == merges
            return
        a, b = max((p for p in score if p[0] + p[1][2:] == made), key=score.get)
        assert score[a, b] == pytest.approx(max(score.values()), rel=1e-12)
        places = rf"(?<!\S){re.escape(a)} {re.escape(b)}(?!\S)"
        texts = {re.sub(places, made, text): n for text, n in texts.items()}


CRITERIA = [wordpiece.by_count, wordpiece.by_ratio, wordpiece.by_gain]
texts_of_two_letters = st.text("ab", min_size=1, max_size=7)


@pytest.mark.parametrize("criterion", CRITERIA)
@given(st.dictionaries(texts_of_two_letters, st.integers(1, 9), min_size=1, max_size=6))
def test_each_merge_is_a_best_one(criterion, words):
    assert_each_merge_is_a_best_one(words, 6, criterion)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_counts_that_follow_are_counts_anew(criterion):
    words = {"banana": 97, "bandana": 53, "ananas": 31, "cabana": 17, "anna": 7}
    words |= {"mississippi": 23, "miss": 41, "sip": 5, "aaaaaaa": 11}
    assert_each_merge_is_a_best_one(words, 25, criterion)


def test_the_course_example():
    """Merges by the ratio on hug, pug, pun, bun, hugs: ##gs, hu, hugs, then hug."""
    assert train(HUG, 4)[-4:] == ["##gs", "hu", "hugs", "hug"]
    assert train(HUG, 3, wordpiece.by_count)[-3:] == ["##ug", "##un", "hug"]


def test_the_library_trains_by_counts():
    """Its WordPieceTrainer makes BPE's merges: as long as no two pairs tie, ours."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    lines = [word for word, n in HUG.items() for _ in range(n)]
    for merges in range(4):
        theirs = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        theirs.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(
            vocab_size=0 if not merges else 12 + merges, show_progress=False
        )
        theirs.train_from_iterator(lines, trainer)
        got = set(theirs.get_vocab())
        ours = set(train(HUG, merges, wordpiece.by_count))
        assert ours <= got, merges
        if merges:
            assert not set(train(HUG, merges, wordpiece.by_ratio)) <= got


def test_the_gain_is_the_gain_to_first_order():
    """Against the likelihood before and after, for a pair that is rare among many."""

    def likelihood(counts):
        total = sum(counts.values())
        return sum(n * math.log(n / total) for n in counts.values())

    a, b, other, both = 40_000, 50_000, 900_000, 400
    before = likelihood({"a": a, "b": b, "x": other})
    after = likelihood({"a": a - both, "b": b - both, "x": other, "ab": both})
    gain = wordpiece.by_gain(both, a, b, a + b + other)
    assert after - before == pytest.approx(gain - both, rel=0.05)
    assert wordpiece.by_ratio(both, a, b, 0) == both / (a * b)


def test_training_stops_when_nothing_is_left():
    assert train({"ab": 3, "c": 1}, 10) == ["##b", "a", "c", "ab"]
    assert train({"ab": 3, "cd": 1}, 10, least=2) == ["##b", "##d", "a", "c", "ab"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[UNK]\na\n\nb\n", "vocab.txt, line 3: an empty piece"),
        ("a\nb\n", r"needs \[UNK\]"),
        ("[UNK]\na\na\n", "'a' stands twice"),
    ],
)
def test_bad_vocabularies_are_named(tmp_path, text, message):
    path = tmp_path / "vocab.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        WordPiece.from_file(path)
