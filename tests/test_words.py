"""utils/tokenizers/words.py: all cuts written out, jieba itself, counts by hand."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import hmm
from utils.lab import datasets, strings
from utils.tokenizers import words
from utils.tokenizers.words import Dictionary

small = st.dictionaries(
    st.text("abcd", min_size=1, max_size=4), st.integers(1, 50), min_size=1, max_size=12
)
texts = st.text("abcde", max_size=9)  # e is never in a word


def all_cuts(text):
    """Every way to cut a text, by the set of its inner places where it is cut."""
    for n in range(len(text)):
        for places in itertools.combinations(range(1, len(text)), n):
            ends = [0, *places, len(text)]
            yield [text[a:b] for a, b in itertools.pairwise(ends)]


def allowed(counts, text):
    """The cuts into words and single characters that the word graph holds."""
    begun = {t for t in range(len(text)) if any(text[t:].startswith(w) for w in counts)}
    for cut in all_cuts(text):
        starts = itertools.accumulate(map(len, cut), initial=0)
        pairs = list(zip(starts, cut, strict=False))
        if all(w in counts or (len(w) == 1 and t not in begun) for t, w in pairs):
            yield cut


@given(small, texts)
def test_best_path_against_all_cuts(counts, text):
    dictionary, total = Dictionary(counts), sum(counts.values())

    def chance(cut):
        return math.prod(counts.get(word, 1) / total for word in cut)

    found = words.best_path(text, dictionary)
    assert "".join(found) == text
    if text:
        ways = list(allowed(counts, text))
        assert chance(found) == pytest.approx(max(map(chance, ways)), rel=1e-9)
        assert words.log_probability(found, dictionary) == pytest.approx(
            math.log(chance(found)), abs=1e-9
        )


@given(small, texts)
def test_the_graph_holds_the_words_of_each_place(counts, text):
    graph = Dictionary(counts).graph(text)
    for start, ends in enumerate(graph):
        wanted = [
            end
            for end in range(start + 1, len(text) + 1)
            if counts.get(text[start:end])
        ]
        assert ends == (wanted or [start + 1])


@given(small, texts)
def test_forward_matching_takes_the_longest_word_every_time(counts, text):
    """Among all cuts into words and characters, the greatest lengths from the left."""
    found = words.forward(text, Dictionary(counts))
    cuts = [
        cut for cut in all_cuts(text) if all(w in counts or len(w) == 1 for w in cut)
    ]
    lengths = max(([len(w) for w in cut] for cut in cuts), default=[])
    assert [len(w) for w in found] == lengths and "".join(found) == text


@given(small, texts)
def test_backward_matching_is_forward_matching_in_a_mirror(counts, text):
    mirrored = Dictionary({word[::-1]: count for word, count in counts.items()})
    reflected = words.forward(text[::-1], mirrored)
    assert words.backward(text, Dictionary(counts)) == [
        w[::-1] for w in reflected[::-1]
    ]


@given(small, texts)
def test_bidirectional_takes_the_better_of_two(counts, text):
    dictionary = Dictionary(counts)
    both = words.forward(text, dictionary), words.backward(text, dictionary)
    sizes = [(len(cut), sum(map((1).__eq__, map(len, cut)))) for cut in both]
    found = words.bidirectional(text, dictionary)
    assert found == (both[0] if sizes[0] < sizes[1] else both[1])


@pytest.mark.parametrize(
    ("known", "ahead", "back", "chosen"),
    [
        (["abc", "de", "cde"], "abc de", "a b cde", "abc de"),  # fewer words
        (["ab", "cde", "abc"], "abc d e", "ab cde", "ab cde"),
        (["ab", "cd", "bcd"], "ab cd", "a bcd", "ab cd"),  # fewer single characters
        (["abc", "bcd"], "abc d", "a bcd", "a bcd"),  # neither: backward
    ],
)
def test_each_rule_of_the_bidirectional_choice_decides(known, ahead, back, chosen):
    dictionary, text = Dictionary(dict.fromkeys(known, 1)), chosen.replace(" ", "")
    assert words.forward(text, dictionary) == ahead.split()
    assert words.backward(text, dictionary) == back.split()
    assert words.bidirectional(text, dictionary) == chosen.split()


@given(small, texts)
def test_with_equal_counts_the_likeliest_words_are_the_fewest(counts, text):
    equal = Dictionary(dict.fromkeys(counts, 1), total=1000)
    ways = list(allowed(counts, text))
    if ways:
        assert len(words.best_path(text, equal)) == min(map(len, ways))


@given(small, texts)
def test_look_ups_are_bounded(counts, text):
    class Asked(Dictionary):
        times = 0

        def __contains__(self, word):
            Asked.times += 1
            return word in self.counts

    dictionary = Asked(counts)
    for cutter in (words.forward, words.backward):
        Asked.times = 0
        n = len(cutter(text, dictionary))
        assert n <= len(text) and Asked.times <= max(dictionary.longest - 1, 0) * n


def corpora():
    lines = datasets.chinese().split("\n")
    lines += ["".join(sentence) for sentence in datasets.segmented()]
    lines += [text for s in datasets.sentences() for text in (s.zh, s.en)]
    for part in ("train", "dev", "test"):
        lines += ["".join(sentence.characters) for sentence in datasets.ner(part)]
    return lines


def test_the_dictionary_is_jiebas():
    ours, theirs = words.jieba_dictionary(), words.jieba_itself()
    assert ours.total == theirs.total == 60_101_967 and len(ours) == 349_045
    assert ours.known == theirs.FREQ and ours.longest == 16
    graph = theirs.get_DAG("南京市长江大桥")
    for start, ends in enumerate(ours.graph("南京市长江大桥")):
        assert [end - 1 for end in ends] == graph[start]


@pytest.mark.parametrize("hidden", [False, True])
def test_cuts_are_jiebas(hidden):
    ours, theirs = words.jieba_dictionary(), words.jieba_itself()
    unknown = hmm.words if hidden else None
    for text in corpora() + strings.mixed(20_000):
        found = words.cut(text, ours, unknown=unknown)
        assert found == theirs.lcut(text, HMM=hidden), text
        assert "".join(found) == text


pieces = st.sampled_from(
    [*"的一是南京市长江大桥研究生命起源γＡ２ \r\n", "ab", "C++", "3.5%", "\r\n"]
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=15).map("".join), st.booleans())
def test_cuts_of_drawn_texts_are_jiebas(text, hidden):
    ours, theirs = words.jieba_dictionary(), words.jieba_itself()
    found = words.cut(text, ours, unknown=hmm.words if hidden else None)
    assert found == theirs.lcut(text, HMM=hidden)


def test_reading_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words.jieba_dictionary.__wrapped__()
    words.jieba_itself.__wrapped__().lcut("南京市长江大桥")
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("b", "'b' is no word and its count"),
        ("b x", "'b x' is no word"),
        ("b 0 n", "'b 0 n' is no word"),
        ("b -3", "'b -3' is no word"),
        (" 3", "' 3' is no word"),
        ("", "'' is no word"),
    ],
)
def test_a_broken_dictionary_is_named_with_its_line(tmp_path, line, says):
    path = tmp_path / "words.txt"
    path.write_text(f"a 2 n\n{line}\nc 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"words.txt, line 2: {says}"):
        words.from_file(path)


def test_dictionary_files(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("一 2 n\n一个 3\n一 4 n\n", encoding="utf-8")
    read = words.from_file(path)
    assert read.counts == {"一": 4, "一个": 3} and read.total == 9
    path.write_bytes(b"a 1\n\xff 2\n")
    with pytest.raises(ValueError, match="words.txt, byte 4: not UTF-8"):
        words.from_file(path)
    with pytest.raises(ValueError, match="without words"):
        Dictionary({})
    with pytest.raises(ValueError, match="word '' has the count 1"):
        Dictionary({"": 1})
    with pytest.raises(ValueError, match="word 'a' has the count 0"):
        Dictionary({"a": 0})


cuts = st.lists(st.text("天气好", min_size=1, max_size=4), min_size=1, max_size=6)


@given(cuts)
def test_states_and_back(cut):
    states = words.states_of(cut)
    assert words.from_states("".join(cut), states) == cut
    before = itertools.pairwise("S" + states)
    assert all((b in "ME") == (a in "BM") for a, b in before)


@given(cuts, cuts)
def test_outcomes_against_sets_of_boundaries(ours, theirs):
    text = "".join(theirs)
    ours = [text[i : i + 2] for i in range(0, len(text), 2)]
    ends = list(itertools.accumulate(map(len, theirs), initial=0))
    right = sum(
        2 * i in ends
        and min(2 * i + 2, len(text)) in ends
        and ends.index(min(2 * i + 2, len(text))) == ends.index(2 * i) + 1
        for i in range(len(ours))
    )
    new = sum(len(word) > 1 and word not in {"天气"} for word in theirs)
    row = words.outcomes([ours], [theirs], {"天气"})[0]
    assert row[:3].tolist() == [right, len(ours), len(theirs)] and row[4] == new
    whole = words.score(words.outcomes([theirs], [theirs]))
    assert whole[:3] == (1, 1, 1)


def test_scores_by_hand():
    gold = [["研究", "生命", "起源"], ["他", "叫", "叶知秋"]]
    ours = [["研究生", "命", "起源"], ["他", "叫", "叶知秋"]]
    counts = words.outcomes(ours, gold, {"研究", "生命", "起源"})
    assert counts.tolist() == [[1, 3, 3, 0, 0], [3, 3, 3, 1, 1]]
    assert words.score(counts) == pytest.approx((4 / 6, 4 / 6, 4 / 6, 1))
    with pytest.raises(ValueError, match="sentence 1: .* is no cut of '他叫叶知秋'"):
        words.outcomes([ours[0], ["他"]], gold)


def test_hidden_states_against_all_paths():
    """The cutter's choice has the largest product of counted shares, path by path."""
    sentences = [["我", "喜欢", "图书馆"], ["图书", "很", "好"], ["我", "很", "喜欢"]]
    cutter, smoothing = words.HMMCutter(sentences, 0.3), 0.3
    tagged = [(words.states_of(s), "".join(s)) for s in sentences]
    alphabet = sorted({c for s in sentences for c in "".join(s)})

    def share(pairs, given, what):
        there = [b for a, b in pairs if a == given]
        return there.count(what) / len(there) if there else 0.0

    steps = [pair for states, _ in tagged for pair in itertools.pairwise(states)]
    emitted = [
        pair for states, text in tagged for pair in zip(states, text, strict=True)
    ]

    def joint(cut):
        path, text = words.states_of(cut), "".join(cut)
        product = sum(s[0] == path[0] for s, _ in tagged) / len(tagged)
        for pair in itertools.pairwise(path):
            product *= share(steps, *pair)
        for state, character in zip(path, text, strict=True):
            seen = [c for s, c in emitted if s == state]
            spread = smoothing * (len(alphabet) + 1)
            product *= (seen.count(character) + smoothing) / (len(seen) + spread)
        return product

    for text in ("我喜欢书", "很好", "图书馆好", "他很好看", "我"):
        best = max(all_cuts(text), key=joint)
        assert joint(cutter(text)) == pytest.approx(joint(best), rel=1e-9)


def test_the_cutter_knows_characters_by_their_number_only():
    """With the characters renamed in training and test, it cuts at the same places."""
    gold = datasets.segmented()
    alphabet = sorted({c for sentence in gold for word in sentence for c in word})
    shuffled = random.Random(0).sample(alphabet, len(alphabet))
    rename = str.maketrans(dict(zip(alphabet, shuffled, strict=True)))
    renamed = [[word.translate(rename) for word in sentence] for sentence in gold[:100]]
    ours, theirs = words.HMMCutter(gold[:100]), words.HMMCutter(renamed)
    for text in map("".join, gold[100:150]):
        places = words.spans(theirs(text.translate(rename)))
        assert words.spans(ours(text)) == places


def test_the_cutter_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="no sentences"):
        words.HMMCutter([])
    one = words.HMMCutter([["天气"]])
    assert one("") == [] and one("天气") == ["天气"]
    with pytest.raises(ValueError, match="no path of steps .* through '天'"):
        one("天")


def test_new_words_need_a_chinese_character():
    known = {"图书"}
    assert [
        w
        for w in ["书", "图书", "图书馆", "GPU", "A级", "3.2%"]
        if words.is_new(w, known)
    ] == [
        "图书馆",
        "A级",
    ]
    assert not np.isnan(words.score(np.zeros((1, 5)))).any()
