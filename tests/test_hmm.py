"""utils/hmm.py: all paths written out, jieba itself, and the CRF in disguise."""

import itertools
import math
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import hmm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # jieba's patterns hold an escape Python dislikes
    import jieba.finalseg

K, V = 3, 4
models = st.builds(
    lambda seed, L: (np.random.default_rng(seed), L),
    st.integers(0, 10**6),
    st.integers(1, 5),
)


def some(rng, scores=False):
    """An HMM of random probabilities, or of arbitrary scores."""

    def rows(*shape):
        table = rng.normal(size=shape) * 2
        return table if scores else table - np.logaddexp.reduce(table, -1)[..., None]

    end = rng.normal(size=K) if scores else np.zeros(K)
    return hmm.HMM(rows(K), rows(K, K), rows(K, V), end)


def written_out(model, symbols):
    """{path: log p(x, path)} by a loop in plain Python over all K^L paths."""
    found = {}
    for path in itertools.product(range(K), repeat=len(symbols)):
        score = float(model.start[path[0]]) + float(model.end[path[-1]])
        for t, state in enumerate(path):
            score += float(model.emissions[state][symbols[t]])
            if t:
                score += float(model.transitions[path[t - 1]][state])
        found[path] = score
    return found


def log_sum(scores):
    return math.log(math.fsum(map(math.exp, scores)))


@settings(max_examples=30, deadline=None)
@given(models, st.booleans())
def test_against_all_paths(drawn, scores):
    rng, L = drawn
    model, x = some(rng, scores), rng.integers(0, V, L)
    paths = written_out(model, x)
    total = log_sum(paths.values())
    assert hmm.log_likelihood(model, x) == pytest.approx(total, abs=1e-9)
    path, score = hmm.viterbi(model, x)
    assert score == pytest.approx(max(paths.values()), abs=1e-9)
    assert paths[tuple(path)] == pytest.approx(score, abs=1e-9)
    assert hmm.path_score(model, x, np.array(path)) == pytest.approx(score, abs=1e-9)
    for t, k in itertools.product(range(L), range(K)):
        through = [s for p, s in paths.items() if p[t] == k]
        share = math.exp(log_sum(through) - total)
        assert hmm.posterior(model, x)[t, k] == pytest.approx(share, abs=1e-9)


def test_a_model_that_never_takes_a_step_keeps_to_it():
    model = some(np.random.default_rng(0))
    model.transitions[0, 1] = -np.inf
    for seed in range(20):
        x = np.random.default_rng(seed).integers(0, V, 6)
        path, score = hmm.viterbi(model, x)
        assert (0, 1) not in set(itertools.pairwise(path)) and np.isfinite(score)
        assert np.isfinite(hmm.log_likelihood(model, x))


def test_counting_gives_the_tables_back():
    rng = np.random.default_rng(1)
    model = some(rng)
    x, y = hmm.sample(model, 50_000, rng)
    again = hmm.count([x], [y], K, V)
    assert np.abs(np.exp(again.transitions) - np.exp(model.transitions)).max() < 0.02
    assert np.abs(np.exp(again.emissions) - np.exp(model.emissions)).max() < 0.02


def test_counts_by_hand():
    model = hmm.count([np.array([0, 1, 1])], [np.array([0, 0, 1])], 2, 3, smoothing=1)
    assert np.exp(model.start).tolist() == [1, 0]
    assert np.exp(model.transitions[0]).tolist() == [0.5, 0.5]
    assert model.transitions[1].tolist() == [-np.inf, -np.inf]  # never left
    np.testing.assert_allclose(np.exp(model.emissions[0]), [2 / 5, 2 / 5, 1 / 5])
    with pytest.raises(ValueError, match="text 1: 2 symbols, 3 states"):
        hmm.count([np.array([0])] * 1 + [np.array([0, 1])], [[0], [0, 0, 1]], 2, 2)


@settings(max_examples=30, deadline=None)
@given(models)
def test_scores_and_probabilities_have_the_same_posteriors(drawn):
    rng, L = drawn
    scores, x = some(rng, scores=True), rng.integers(0, V, L)
    model = hmm.made_of_probabilities(scores)
    leaving = np.exp(model.transitions).sum(1) + np.exp(model.end)
    np.testing.assert_allclose(leaving, 1, atol=1e-9)
    np.testing.assert_allclose(np.exp(model.emissions).sum(1), 1, atol=1e-9)
    assert np.exp(model.start).sum() == pytest.approx(1, abs=1e-9)
    ours, theirs = written_out(model, x), written_out(scores, x)
    logs = np.array([ours[p] - theirs[p] for p in ours])
    assert np.ptp(logs) < 1e-9  # one constant for all paths: the same posteriors


def test_a_crf_with_these_tables_is_the_same_model():
    from torchcrf import CRF

    rng = np.random.default_rng(3)
    model, x = some(rng), rng.integers(0, V, 7)
    crf = CRF(K, batch_first=True).double()
    crf.start_transitions.data = torch.tensor(model.start)
    crf.end_transitions.data = torch.tensor(model.end)
    crf.transitions.data = torch.tensor(model.transitions)
    emissions = torch.tensor(model.emissions[:, x].T)[None]
    path, score = hmm.viterbi(model, x)
    assert crf.decode(emissions) == [path]
    given_x = crf(emissions, torch.tensor([path])).item()
    assert given_x == pytest.approx(score - hmm.log_likelihood(model, x), abs=1e-9)


common = (
    "的一是在了不和有大这主中人上为们地个用工时要动国产以我到他会作来分生对于学下级"
)
chinese = st.text(st.sampled_from(common), max_size=40)
any_text = st.text(st.characters(codec="utf-8"), max_size=20)
rare = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.one_of(chinese, any_text, rare, st.builds(str.__add__, rare, any_text)))
def test_words_are_jiebas(text):
    assert hmm.words(text) == list(jieba.finalseg.cut(text))
    assert "".join(hmm.words(text)) == text
