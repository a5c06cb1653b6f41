"""Sentence vectors do not depend on their neighbours; ranks and tasks are sound."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils import encoders
from utils.lab import datasets, pretrained


@pytest.fixture(scope="module")
def call():
    module = encoders.Encoder(pretrained.encoder().model).eval()

    def run(batch):
        with torch.inference_mode():
            return module(**batch)

    return run


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
def test_ranks_share_the_mean_of_ties(values):
    wanted = [
        sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2
        for x in values
    ]
    assert encoders.ranks(values).tolist() == wanted


def test_spearman_is_its_formula_without_ties():
    rng = np.random.default_rng(0)
    for n in (3, 10, 41):
        a, b = rng.normal(size=(2, n))
        places = [[sorted(x).index(v) for v in x] for x in (a.tolist(), b.tolist())]
        gaps = sum((i - j) ** 2 for i, j in zip(*places, strict=True))
        wanted = 1 - 6 * gaps / (n * (n**2 - 1))
        assert encoders.spearman(a, b) == pytest.approx(wanted)


def test_pads_do_not_count(call):
    short, long = "A cat.", "Two dogs and a cat went down to the river last night."
    alone = encoders.embed(call, [short])
    beside = encoders.embed(call, [short, long])
    np.testing.assert_allclose(beside[:1], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(beside, axis=1), 1, atol=1e-6)


def test_the_batches_do_not_matter(call):
    lines = [s.en for s in datasets.sentences()][:10]
    a, b = (encoders.embed(call, lines, size) for size in (3, 10))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_both_tasks_are_neither_trivial_nor_hopeless(call):
    found = encoders.quality(call)
    rho = encoders.spearman(found["cosine"], [p.grade for p in datasets.pairs()])
    first = np.mean(np.array(found["place"]) == 1)
    assert 0.8 < rho < 0.95 and 0.5 < first < 0.9
    assert min(found["place"]) == 1 and max(found["place"]) <= 60
