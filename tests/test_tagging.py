"""utils/tagging.py: seqeval, CRFsuite, and what each tagger must never do."""

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import tagging
from utils.lab import datasets

tags = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
rows = st.lists(st.tuples(tags, tags), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def sentences():
    return datasets.ner("train")[:60]


@settings(max_examples=200, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_f1_is_seqevals(drawn):
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    gold, found = ([[pair[i] for pair in row] for row in drawn] for i in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval, where nothing is found
        theirs = f1_score(gold, found, mode="strict", scheme=IOB2, zero_division=0)
    assert tagging.f1(tagging.span_counts(gold, found)) == pytest.approx(theirs)


def test_illegal_steps_by_hand():
    assert tagging.illegal(["I-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-PER"]) == 2
    assert tagging.illegal(["B-PER", "I-PER", "B-PER", "O"]) == 0
    assert tagging.spans(["I-PER", "B-LOC", "I-LOC"]) == {("LOC", 1, 3)}
    assert tagging.spans(["B-LOC", "B-LOC"]) == {("LOC", 0, 1), ("LOC", 1, 2)}


def test_looking_up_keeps_every_character():
    assert tagging.looked_up(list("去北京")) == ["v:S", "ns:B", "ns:E"]
    assert tagging.looked_up(list("龘☂北京市")) == [
        "?:S",
        "?:S",
        "ns:B",
        "ns:M",
        "ns:E",
    ]
    for look in (tagging.features, tagging.features_and_dictionary):
        found = look(list("我爱北京"))
        assert len(found) == 4 and len({len(names) for names in found}) == 1
        assert all(len(set(names)) == len(names) for names in found)


def test_numbering_keeps_zero_for_the_unknown():
    numbers = tagging.Numbering([["b", "a", "b"]], least=2)
    assert numbers(["a", "b", "c"]) == [0, 1, 0] and len(numbers) == 2


@pytest.mark.parametrize("kind", [tagging.NeuralTagger, tagging.FeatureTagger])
@pytest.mark.parametrize("chained", [True, False])
def test_padding_changes_nothing(sentences, kind, chained):
    torch.manual_seed(0)
    tagger = kind(sentences, chained).double().eval()
    for parameter in tagger.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    some = sorted(sentences, key=lambda s: len(s.tags))[::12]
    apart = sum(tagger.loss(*tagger.batch([s])) for s in some)
    torch.testing.assert_close(tagger.loss(*tagger.batch(some)), apart)
    texts = [s.characters for s in some]
    assert tagger.tag(texts) == [tagger.tag([text])[0] for text in texts]


def test_the_hmm_takes_no_step_that_it_never_saw(sentences):
    tagger = tagging.HMMTagger(sentences)
    found = tagger.tag([s.characters for s in datasets.ner("test")[:40]])
    assert not sum(map(tagging.illegal, found))
    assert any(tagging.spans(row) for row in found)


def test_the_optimum_is_crfsuites(sentences):
    from sklearn_crfsuite import CRF

    ours = tagging.FeatureTagger(sentences)
    least = tagging.minimise(ours, sentences, c2=0.1)[-1]
    options = {"all_possible_states": True, "all_possible_transitions": True}
    theirs = CRF(algorithm="lbfgs", c1=0, c2=0.1, max_iterations=1000, **options)
    x = [tagging.features(s.characters) for s in sentences]
    theirs.fit(x, [s.tags for s in sentences])

    loaded = tagging.FeatureTagger(sentences)
    row, column = loaded.numbers.number, loaded.tags.index
    with torch.no_grad():
        for (name, tag), weight in theirs.state_features_.items():
            loaded.weights.weight[row[name], column(tag)] = weight
        for (one, two), weight in theirs.transition_features_.items():
            loaded.crf.transitions[column(one), column(two)] = weight
        weights = loaded.weights.weight, loaded.crf.transitions
        found = loaded.loss(*loaded.batch(sentences))
        found += 0.1 * sum(w.square().sum() for w in weights)
    assert least == pytest.approx(found.item(), rel=1e-3)
    assert loaded.tag(x := [s.characters for s in sentences]) == ours.tag(x)


def test_training_lowers_the_loss(sentences):
    torch.manual_seed(0)
    tagger = tagging.NeuralTagger(sentences)
    losses = tagging.learn(tagger, sentences, steps=12)
    assert np.mean(losses[-2:]) < 0.5 * np.mean(losses[:2])
