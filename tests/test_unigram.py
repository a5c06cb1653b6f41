"""Unigram against lists of all segmentations, and against the two libraries."""

import itertools
import math
import random
import re
import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.lab import datasets, strings
from utils.tokenizers import unigram
from utils.tokenizers.sentencepiece import train_by_library
from utils.tokenizers.unigram import Unigram

letters = st.text("abc", min_size=1, max_size=4)
tables = st.dictionaries(letters, st.floats(-9, -0.1), min_size=1, max_size=12)
texts = st.text("abcd", max_size=9)  # d is never a piece


def all_ways(text):
    """Every way to cut a text, by choosing at which of its inner places to cut."""
    places = range(1, len(text))
    for n in range(len(text)):
        for cuts in itertools.combinations(places, n):
            ends = [0, *cuts, len(text)]
            yield [text[a:b] for a, b in itertools.pairwise(ends)]


def oracle(scores, text):
    """All segmentations that the pieces allow with their log probabilities."""
    worst = min(scores.values()) - 10
    price = scores | {c: worst for c in text if c not in scores}
    ways = [way for way in all_ways(text) if all(piece in price for piece in way)]
    return {tuple(way): sum(price[piece] for piece in way) for way in ways or [[]]}


@given(tables, texts)
def test_best_and_sum_against_all_segmentations(scores, text):
    model, ways = Unigram(scores), oracle(scores, text)
    found = model.segment(text)
    assert ways[tuple(found)] == pytest.approx(max(ways.values()), abs=1e-9)
    assert model.score(found) == pytest.approx(max(ways.values()), abs=1e-9)
    total = math.log(sum(map(math.exp, ways.values())))
    assert model.log_likelihood(text) == pytest.approx(total, abs=1e-9)
    assert model.backward(text)[0] == pytest.approx(total, abs=1e-9)


@given(tables, texts, st.integers(1, 300))
def test_nbest_against_all_segmentations(scores, text, n):
    ways = oracle(scores, text)
    found = Unigram(scores).nbest(text, n)
    assert len(found) == len({tuple(way) for way, _ in found}) == min(n, len(ways))
    best = sorted(ways.values(), reverse=True)[:n]
    assert [score for _, score in found] == pytest.approx(best, abs=1e-9)
    assert all(ways[tuple(way)] == pytest.approx(s, abs=1e-9) for way, s in found)


@given(tables, texts)
def test_posterior_against_all_segmentations(scores, text):
    ways, posterior = oracle(scores, text), Unigram(scores).posterior(text)
    total = sum(map(math.exp, ways.values()))
    want = Counter()
    for way, score in ways.items():
        ends = list(itertools.accumulate(map(len, way)))
        for edge in zip([0, *ends], ends, strict=False):
            want[edge] += math.exp(score) / total
    assert posterior.keys() == want.keys()
    assert all(posterior[e] == pytest.approx(p, abs=1e-9) for e, p in want.items())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.5])
def test_samples_have_the_probabilities_they_should(alpha):
    scores = {"a": -1.0, "b": -2.0, "ab": -2.2, "ba": -4.0, "aba": -3.1, "bab": -5.0}
    text, n, rng = "ababad", 20_000, random.Random(3)
    ways, model = oracle(scores, text), Unigram(scores)
    weights = {way: math.exp(alpha * score) for way, score in ways.items()}
    drawn = Counter(tuple(model.sample(text, alpha, rng)) for _ in range(n))
    assert drawn.keys() <= ways.keys()
    for way, weight in weights.items():
        p = weight / sum(weights.values())
        assert abs(drawn[way] - n * p) <= 4 * math.sqrt(n * p * (1 - p)) + 1


@given(tables, texts)
def test_a_sample_is_a_segmentation(scores, text):
    drawn = Unigram(scores).sample(text, 0.5, random.Random(0))
    assert tuple(drawn) in oracle(scores, text)


def random_words(seed, count=40):
    rng = random.Random(seed)
    words = ("".join(rng.choices("abcd", k=rng.randint(1, 9))) for _ in range(count))
    return {word: rng.randint(1, 30) for word in words}


@pytest.mark.parametrize("seed", range(5))
def test_the_e_step_against_all_segmentations(seed):
    words = random_words(seed)
    model = Unigram(unigram.seed(words, 30))
    want, likelihood = Counter(), 0.0
    for word, times in words.items():
        ways = oracle(model.scores, word)
        total = sum(map(math.exp, ways.values()))
        likelihood += times * math.log(total)
        for way, score in ways.items():
            for piece in way:
                want[piece] += times * math.exp(score) / total
    counts, found = unigram.expected_counts(model, words)
    assert found == pytest.approx(likelihood, abs=1e-6)
    assert counts == pytest.approx({p: want[p] for p in counts}, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_likelihood_never_falls(seed):
    """And each step strictly helps as long as the scores move."""
    words = random_words(seed)
    model, curve = Unigram(unigram.seed(words, 40)), []
    for _ in range(30):
        counts, likelihood = unigram.expected_counts(model, words)
        curve.append(likelihood)
        model = unigram.maximise(counts)
        assert sum(map(math.exp, model.scores.values())) == pytest.approx(1, abs=1e-9)
    slack = 1e-9 * abs(curve[0])
    assert all(b >= a - slack for a, b in itertools.pairwise(curve))
    assert curve[1] > curve[0]


def test_the_gradient_of_the_likelihood_is_the_expected_count():
    words = random_words(7)
    scores = unigram.seed(words, 20)
    counts, at = unigram.expected_counts(Unigram(scores), words)
    for piece in list(scores)[:8]:
        nudged = scores | {piece: scores[piece] + 1e-6}
        then = unigram.expected_counts(Unigram(nudged), words)[1]
        assert (then - at) / 1e-6 == pytest.approx(counts[piece], abs=1e-2)


@given(st.floats(1e-3, 1e6))
def test_digamma(x):
    want = torch.digamma(torch.tensor(x, dtype=torch.float64)).item()
    assert unigram.digamma(x) == pytest.approx(want, rel=1e-11, abs=1e-11)


def test_sparse_counts_add_up_to_less():
    model = unigram.maximise({"a": 100.0, "b": 2.0, "c": 0.4}, least=0.5, sparse=True)
    assert model.scores.keys() == {"a", "b"}
    assert sum(map(math.exp, model.scores.values())) < 1
    assert model.scores["b"] < math.log(2 / 102) - 0.2


def test_seeds_by_hand():
    """`hu` is always followed by g, so `hug` stands for it; bu and bun likewise."""
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    found = unigram.seed(words, 100)
    longer = {"hug", "ug", "un", "pu", "pug", "pun", "hugs", "bun", "gs", "ugs"}
    assert set(found) == {*"hugpnbs"} | longer
    weight = math.exp(found["ug"] - found["u"])
    assert weight == pytest.approx(2 * 20 / 36)
    assert set(unigram.seed(words, 1)) == {*"hugpnbs", "hug"}
    assert all(len(piece) <= 2 for piece in unigram.seed(words, 100, longest=2))


def test_pruning_keeps_characters_and_the_dear():
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    model = Unigram(unigram.seed(words, 100))
    for _ in range(3):
        model = unigram.maximise(unigram.expected_counts(model, words)[0])
    losses = unigram.removal_losses(model, words)
    assert all(losses[c] == math.inf for c in "hugpnbs" if c in losses)
    kept = unigram.prune(model, words, 9)
    dropped = model.scores.keys() - kept.scores.keys()
    assert all(len(piece) > 1 for piece in dropped)
    least = min(losses[p] for p in kept.scores if len(p) > 1)
    assert all(losses[p] <= least for p in dropped)


def test_training_gives_the_size_and_cuts_every_word():
    words = random_words(1, 300)
    model = unigram.train(words, 60)
    assert len(model.scores) == 60
    assert set("abcd") <= model.scores.keys()
    assert all("".join(model.segment(word)) == word for word in words)
    with pytest.raises(ValueError, match="3 pieces for 4 different"):
        unigram.train(words, 3)


def corpus():
    """Every text of the course that its loaders give, line by line."""
    lines = [text for s in datasets.sentences() for text in (s.en, s.zh)]
    for part in ("train", "dev", "test"):
        lines += ["".join(s.characters) for s in datasets.ner(part)]
    for name in ("english", "code", "chinese"):
        if loader := getattr(datasets, name, None):
            lines += [line for line in loader().split("\n") if line.strip()]
    return lines


@pytest.fixture(scope="module")
def theirs():
    """A sentencepiece model of 2,000 pieces, with and without symbols of a user."""
    import sentencepiece

    models = {}
    for symbols in ((), ("<sep>", "for", "学习")):
        data = train_by_library(
            corpus()[:20_000],
            vocab_size=2000,
            character_coverage=0.98,  # so that some characters are unknown
            user_defined_symbols=list(symbols),
        )
        made = sentencepiece.SentencePieceProcessor(model_proto=data)
        pieces = {
            made.id_to_piece(i): made.get_score(i)
            for i in range(made.get_piece_size())
            if not made.is_unknown(i) and not made.is_control(i)
        }
        worst = min(score for p, score in pieces.items() if p not in symbols)
        pieces |= {s: 0.1 * (len(s.encode()) - 1) for s in symbols}  # as the library
        models[symbols] = made, pieces, worst - 10
    return models


@pytest.mark.parametrize("symbols", [(), ("<sep>", "for", "学习")])
def test_the_same_pieces_as_sentencepiece(theirs, symbols):
    made, pieces, unknown = theirs[symbols]
    ours = Unigram(pieces, unknown, single=True)
    texts = [*corpus()[::3], *strings.mixed(20_000), "0" * 50_000, "ab" * 9_999]
    texts += ["forfor<sep>学习学习for" * 5, "", " "]
    rng, different, unknown_seen = random.Random(0), [], 0
    for n in (4_800, 4_900, 5_100, 20_000):  # sums beyond −100,000
        texts.append("\U0001f300" * n + "".join(rng.choices("0123456789", k=2_000)))
    for text in texts:
        found = ours.fused(ours.segment(made.normalize(text)))
        unknown_seen += any(piece not in pieces for piece in found)
        if found != made.encode(text, out_type=str):
            different.append(text[:40])
    assert len(different) == 0, f"{len(different)} of {len(texts)}, {different[0]!r}"
    assert unknown_seen > 1000


def test_the_same_pieces_as_tokenizers(theirs):
    """Which keeps its sums in 64 bits, and so do we by default."""
    from tokenizers.models import Unigram as Theirs

    made, pieces, _ = theirs[()]
    ours = Unigram(pieces)
    model = Theirs([("<unk>", 0.0), *pieces.items()], 0, False)
    texts = [*corpus()[::10], *strings.mixed(20_000), "0" * 20_000]
    different = []
    for text in map(made.normalize, texts):
        found = [token.value for token in model.tokenize(text)]
        if ours.fused(ours.segment(text)) != found:
            different.append(text[:40])
    assert len(different) == 0, f"{len(different)} of {len(texts)}, {different[0]!r}"


def test_jieba_without_its_hmm_is_a_unigram_model(tmp_path):
    """Its dictionary's counts, Viterbi, and the same words on every run of Chinese."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in its patterns
        import jieba
    jieba.setLogLevel("ERROR")
    jieba.dt.tmp_dir = str(tmp_path)
    jieba.initialize()
    text = " ".join(corpus())
    runs = sorted(set(re.findall("[\u4e00-\u9fa5]+", text)))
    total, counts = jieba.dt.total, jieba.dt.FREQ
    inside = {
        run[i:j]
        for run in runs
        for i in range(len(run))
        for j in range(i + 1, min(len(run), i + 16) + 1)
    }
    scores = {w: math.log(counts[w] / total) for w in inside if counts.get(w)}
    model = Unigram(scores, unknown=-math.log(total))
    assert len(runs) > 1000
    for run in runs:
        assert model.segment(run) == jieba.lcut(run, HMM=False)


def test_nbest_agrees_with_sentencepiece(theirs):
    made, pieces, unknown = theirs[()]
    ours = Unigram(pieces, unknown)
    for text in ["the mayor speaks", "internationalisation", "a tokenizer of tokens"]:
        norm = made.normalize(text)
        found = [score for _, score in ours.nbest(norm, 20)]
        ways = made.nbest_encode(text, nbest_size=20, out_type=str)
        assert found == pytest.approx([ours.score(way) for way in ways], abs=1e-4)


def test_the_cost_grows_with_the_length_and_no_more():
    """Counted, not timed: look-ups in the trie for one letter repeated."""

    class Counting(dict):
        asked = 0

        def get(self, key, default=None):
            Counting.asked += 1
            return super().get(key, default)

    def counted(node):
        return Counting({k: counted(v) if k else v for k, v in node.items()})

    model = Unigram({"a" * n: -1.5 - n / 8 for n in range(1, 17)})
    model.trie, asked = counted(model.trie), {}
    for length in (1_000, 2_000, 100_000):
        Counting.asked = 0
        model.segment("a" * length)
        asked[length] = Counting.asked
    assert asked[2_000] < 2 * asked[1_000] + 200
    assert asked[100_000] <= 17 * 100_000


@settings(max_examples=20)
@given(tables, st.text("abcd", min_size=1, max_size=9))
def test_unknown_characters_are_fused(scores, text):
    model = Unigram(scores)
    joined = model.fused(model.segment(text))
    assert "".join(joined) == text
    for left, right in itertools.pairwise(joined):
        assert left in scores or right in scores


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Unigram({}), "without pieces"),
        (lambda: Unigram({"": -1.0}), "piece ''"),
        (lambda: Unigram({"a": -1.0, "b": math.nan}), "piece 'b' has the score nan"),
        (lambda: Unigram({"a": -1.0}).nbest("a", 0), "n is at least 1"),
        (lambda: Unigram({"a": -1.0}).sample("a", -0.5), "alpha is -0.5"),
        (lambda: unigram.maximise({"a": 0.2}, least=0.5), "above 0.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_empty_texts():
    model = Unigram({"a": -1.0})
    assert model.segment("") == [] == model.sample("")
    assert model.nbest("", 3) == [([], 0.0)]
    assert model.forward("") == [0.0] and model.posterior("") == {}
