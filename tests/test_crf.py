"""utils/crf.py: every path listed, pytorch-crf, properties, float32, bytes kept."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torchcrf import CRF as PytorchCRF

from utils import crf
from utils.crf import CRF

REDUCTIONS = ("none", "sum", "mean", "token_mean")


def pair(K: int, batch_first=True, seed: int = 0, scale: float = 1.0):
    """Ours and pytorch-crf's with the same float64 parameters."""
    ours, theirs = (layer(K, batch_first).double() for layer in (CRF, PytorchCRF))
    chooser = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.tensor(chooser.normal(0, scale, parameter.shape)))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def batch(B, L, K, seed: int = 0, scale: float = 1.0, ragged: bool = True):
    """Emissions (B, L, K), tags and mask (B, L); the first sequence is full."""
    chooser = np.random.default_rng(seed)
    emissions = torch.tensor(chooser.normal(0, scale, (B, L, K)))
    tags = torch.tensor(chooser.integers(0, K, (B, L)))
    lengths = torch.tensor(chooser.integers(1 if ragged else L, L + 1, B))
    lengths[0] = L
    return emissions, tags, torch.arange(L) < lengths[:, None]


class Listed:
    """One sequence's paths, all of them, in plain Python; emissions (L, K)."""

    def __init__(self, layer, emissions):
        start, moves, end = (
            p.tolist()
            for p in (
                layer.start_transitions,
                layer.transitions,
                layer.end_transitions,
            )
        )
        rows = emissions.tolist()
        self.scores = {}
        for path in itertools.product(range(len(start)), repeat=len(rows)):
            terms = [start[path[0]], end[path[-1]]]
            terms += [row[tag] for row, tag in zip(rows, path, strict=True)]
            terms += [moves[i][j] for i, j in itertools.pairwise(path)]
            self.scores[path] = math.fsum(terms)
        top = max(self.scores.values())
        total = math.fsum(math.exp(s - top) for s in self.scores.values())
        self.log_z = top + math.log(total)
        self.ranked = sorted(self.scores.items(), key=lambda item: -item[1])

    def probability(self, wanted) -> float:
        chosen = [s for path, s in self.scores.items() if wanted(path)]
        return math.fsum(math.exp(s - self.log_z) for s in chosen)


SIZES = [(1, 1), (1, 3), (2, 1), (2, 5), (3, 4), (4, 3)]


@pytest.mark.parametrize(("K", "L"), SIZES)
def test_against_every_path(K, L):
    ours, _ = pair(K, seed=K + 10 * L)
    emissions, tags, mask = batch(4, L, K, seed=L)
    log_z = ours.log_partition(emissions, mask)
    slow = crf.log_partition_in_logs(
        emissions.transpose(0, 1), mask.T, *ours._scores(emissions)
    )
    gold = ours.path_score(emissions, tags, mask)
    marginals = ours.marginals(emissions, mask)
    decoded = ours.decode(emissions, mask)
    ranked = ours.k_best(emissions, 5, mask)
    for b, n in enumerate(mask.sum(1).tolist()):
        listed = Listed(ours, emissions[b, :n])
        assert log_z[b].item() == pytest.approx(listed.log_z, abs=1e-9)
        assert slow[b].item() == pytest.approx(listed.log_z, abs=1e-9)
        path = tuple(tags[b, :n].tolist())
        assert gold[b].item() == pytest.approx(listed.scores[path], abs=1e-9)
        assert tuple(decoded[b]) == listed.ranked[0][0]
        assert len(ranked[b]) == min(5, K**n)
        for (found, score), (path, exact) in zip(
            ranked[b], listed.ranked, strict=False
        ):
            assert tuple(found) == path
            assert score == pytest.approx(exact, abs=1e-9)
        for t in range(n):
            wanted = [
                listed.probability(lambda p, t=t, j=j: p[t] == j) for j in range(K)
            ]
            assert marginals[b, t].tolist() == pytest.approx(wanted, abs=1e-9)
        assert not marginals[b, n:].any()


def test_gradient_is_the_expected_number_of_uses():
    """d log Z / d score = how often the paths, weighted by probability, use it."""
    K, L = 3, 4
    ours, _ = pair(K, seed=1)
    emissions, _, mask = batch(1, L, K, seed=2)
    ours.log_partition(emissions, mask).sum().backward()
    listed = Listed(ours, emissions[0])
    for i, j in itertools.product(range(K), repeat=2):
        expected = math.fsum(
            list(itertools.pairwise(path)).count((i, j)) * math.exp(s - listed.log_z)
            for path, s in listed.scores.items()
        )
        assert ours.transitions.grad[i, j].item() == pytest.approx(expected, abs=1e-9)
    for j in range(K):
        first, last = (
            listed.probability(lambda p, j=j, at=at: p[at] == j) for at in (0, -1)
        )
        assert ours.start_transitions.grad[j].item() == pytest.approx(first, abs=1e-9)
        assert ours.end_transitions.grad[j].item() == pytest.approx(last, abs=1e-9)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients_equal_pytorch_crf(reduction, masked, batch_first):
    layers = pair(5, batch_first, seed=3)
    emissions, tags, mask = batch(6, 9, 5, seed=4)
    if not batch_first:
        emissions, tags, mask = (t.transpose(0, 1) for t in (emissions, tags, mask))
    weights = torch.tensor([0.3, -2.0, 0.0, 1.0, 5.0, 0.1]).double()
    results = []
    for layer in layers:
        leaf = emissions.clone().requires_grad_()
        value = layer(leaf, tags, mask if masked else None, reduction=reduction)
        (value * weights if reduction == "none" else value).sum().backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        results.append({"value": value.detach(), "emissions": leaf.grad} | grads)
        results[-1]["decoded"] = layer.decode(emissions, mask if masked else None)
    assert results[0].pop("decoded") == results[1].pop("decoded")
    torch.testing.assert_close(*results, rtol=0, atol=1e-9)


def test_the_plain_and_the_fast_version_agree_with_weights():
    ours, _ = pair(4, seed=5)
    emissions, _, mask = batch(5, 7, 4, seed=6)
    weights = torch.tensor([1.0, -3.0, 0.5, 0.0, 2.0]).double()
    results = []
    for function in (crf.log_partition, crf.log_partition_in_logs):
        inputs = [emissions.transpose(0, 1), *ours._scores(emissions)]
        leaves = [t.detach().clone().requires_grad_() for t in inputs]
        value = function(leaves[0], mask.T, *leaves[1:])
        results.append([value, *torch.autograd.grad(value @ weights, leaves)])
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)


def test_gradcheck_and_a_clear_word_on_second_derivatives():
    ours, _ = pair(3, seed=7)
    emissions, _, mask = batch(3, 4, 3, seed=8)
    inputs = [emissions.transpose(0, 1), *ours._scores(emissions)]
    leaves = [t.detach().clone().requires_grad_() for t in inputs]

    def fast(e, *scores):
        return crf.log_partition(e, mask.T, *scores)

    def plain(e, *scores):
        return crf.log_partition_in_logs(e, mask.T, *scores)

    assert torch.autograd.gradcheck(fast, leaves)
    assert torch.autograd.gradgradcheck(plain, leaves)
    value = fast(*leaves).sum()
    with pytest.raises(RuntimeError, match="use log_partition_in_logs"):
        torch.autograd.grad(value, leaves, create_graph=True)


def constrained(layers, labels):
    follows, starts = crf.bio_constraints(labels)
    layers[0].constrain(follows, starts)
    layers[1].load_state_dict(layers[0].state_dict())


LABELS = ["O", *(f"{k}-{x}" for x in ("PER", "LOC", "ORG", "T") for k in "BI")]


@pytest.mark.parametrize("constraint", [False, True])
@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
def test_float32_keeps_the_value_and_sharpens_the_gradient(scale, constraint):
    """Largest error over sequences and six seeds, beside pytorch-crf's own.

    Its gradients are products of differences of large logarithms; ours are ratios.
    """
    errors = {"ours": [], "theirs": []}
    for seed in range(6):
        exact = pair(9, seed=seed)
        if constraint:
            constrained(exact, LABELS)
        emissions, _, mask = batch(8, 48, 9, seed=seed, scale=scale)
        emissions = emissions.float().double()
        for layer in exact:  # parameters that float32 holds exactly
            layer.float().double()
        paths = exact[1].decode(emissions.flip(2), mask)  # legal, and not the best
        tags = torch.zeros(8, 48, dtype=torch.long)
        for row, path in zip(tags, paths, strict=True):
            row[: len(path)] = torch.tensor(path)

        def run(layer, dtype, emissions=emissions, tags=tags, mask=mask):
            leaf = emissions.to(dtype, copy=True).requires_grad_()
            layer = layer.to(dtype)
            layer.zero_grad()
            value = layer(leaf, tags, mask, reduction="none")
            value.sum().backward()
            found = [value.detach(), leaf.grad, layer.transitions.grad]
            return [t.double() for t in found]

        oracle = run(exact[1], torch.double)
        for name, layer in zip(errors, exact, strict=True):
            found = run(layer, torch.float)
            gaps = [(a - b).abs().max() for a, b in zip(found, oracle, strict=True)]
            errors[name].append([gap.item() for gap in gaps])
    ours, theirs = (np.max(errors[name], axis=0) for name in ("ours", "theirs"))
    assert np.isfinite(ours).all()
    allowed = np.array([2.0, 0.2, 0.2])  # log-likelihood, emissions, transitions
    assert (ours <= allowed * theirs + 1e-6).all(), (ours, theirs)


def test_where_digits_would_be_lost_it_goes_to_logarithms():
    """Two tags that cannot change into each other; the likelier falls out early."""
    start = torch.tensor([0.0, -200.0])
    transitions = torch.tensor([[0.0, -1e4], [-1e4, 0.0]])
    emissions = torch.zeros(12, 1, 2)
    emissions[1:, 0, 0] = -60.0  # tag 0 ends at −660, tag 1 at −200
    given = emissions, torch.ones(12, 1).bool(), start, transitions, torch.zeros(2)
    assert not crf.forward_backward(*given)[-1]
    assert crf.log_partition(*given).item() == pytest.approx(-200, abs=1e-3)
    assert crf.posterior(*given)[1, 0].tolist() == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize("scale", [30.0, 100.0, 1000.0])
def test_never_nan_nor_wrong_on_wild_scores(scale):
    for seed, constraint in itertools.product(range(3), (False, True)):
        layers = pair(9, seed=seed, scale=scale / 10)
        if constraint:
            constrained(layers, LABELS)
        emissions, tags, mask = batch(4, 12, 9, seed=seed, scale=scale)
        wanted = layers[1](emissions, tags, mask, reduction="none")
        found = layers[0].float()(emissions.float(), tags, mask, reduction="none")
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-2)
        marginals = layers[0].marginals(emissions.float(), mask)
        torch.testing.assert_close(marginals.sum(2), mask.float(), rtol=0, atol=1e-4)


quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10**6)


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 5))
def test_a_constant_at_a_position_changes_no_probability(seed, L, K):
    ours, _ = pair(K, seed=seed)
    emissions, tags, mask = batch(3, L, K, seed=seed)
    moved = emissions + torch.tensor(np.random.default_rng(seed).normal(size=(3, L, 1)))
    for result in (lambda e: ours(e, tags, mask), lambda e: ours.marginals(e, mask)):
        torch.testing.assert_close(result(emissions), result(moved))
    assert ours.decode(emissions, mask) == ours.decode(moved, mask)


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 5))
def test_a_ragged_batch_equals_its_sequences_one_by_one(seed, L, K):
    ours, _ = pair(K, seed=seed)
    emissions, tags, mask = batch(4, L, K, seed=seed)
    likelihood = ours(emissions, tags, mask, reduction="none")
    marginals, ranked = ours.marginals(emissions, mask), ours.k_best(emissions, 3, mask)
    decoded = ours.decode(emissions, mask)
    for b, n in enumerate(mask.sum(1).tolist()):
        alone, gold = emissions[b : b + 1, :n], tags[b : b + 1, :n]
        torch.testing.assert_close(ours(alone, gold), likelihood[b])
        torch.testing.assert_close(ours.marginals(alone)[0], marginals[b, :n])
        assert ours.decode(alone)[0] == decoded[b]
        assert [path for path, _ in ours.k_best(alone, 3)[0]] == [
            path for path, _ in ranked[b]
        ]


@quick
@given(seeds, st.integers(1, 30), st.integers(1, 12), st.sampled_from([1.0, 10.0]))
def test_marginals_sum_to_one_and_the_best_path_leads(seed, L, K, scale):
    ours, _ = pair(K, seed=seed)
    emissions, _, mask = batch(3, L, K, seed=seed, scale=scale)
    marginals = ours.marginals(emissions, mask)
    torch.testing.assert_close(marginals.sum(2), mask.double())
    ranked = ours.k_best(emissions, 4, mask)
    for b, paths in enumerate(ranked):
        scores = [score for _, score in paths]
        assert paths[0][0] == ours.decode(emissions, mask)[b]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(path) for path, _ in paths}) == len(paths)
        row = torch.tensor([path for path, _ in paths])
        many = emissions[b, : row.shape[1]].expand(len(row), -1, -1)
        torch.testing.assert_close(
            ours.path_score(many, row), torch.tensor(scores).double()
        )


def test_pads_may_hold_anything():
    ours, _ = pair(4, seed=9)
    emissions, tags, mask = batch(5, 6, 4, seed=10)
    results = []
    for rubbish, label in ((0.0, 0), (torch.nan, -100), (torch.inf, -100)):
        leaf = emissions.masked_fill(~mask[..., None], rubbish).requires_grad_()
        ours.zero_grad()
        value = ours(leaf, tags.masked_fill(~mask, label), mask)
        value.backward()
        results.append([value, leaf.grad, ours.transitions.grad.clone()])
        results[-1].append(ours.marginals(leaf.detach(), mask))
        assert not leaf.grad[~mask].any()
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


def kept_bytes(call) -> int:
    """Bytes of the storages that autograd saves during `call`."""
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = call()
    del result
    return sum(storage.nbytes() for storage in storages.values())


def test_autograd_keeps_one_block_and_not_one_per_transition():
    B, L = 4, 64
    kept = {}
    for K in (16, 32):
        emissions, _, mask = batch(B, L, K, ragged=False)
        scores = [torch.zeros(s).double() for s in ((K,), (K, K), (K,))]
        given = [emissions.transpose(0, 1), mask.T, *scores]
        given[0] = given[0].clone().requires_grad_()
        kept[K] = [
            kept_bytes(lambda f=f, g=given: f(*g))
            for f in (crf.log_partition, crf.log_partition_in_logs)
        ]
        assert kept[K][0] <= 8 * (B * L * K + B * K * K + B)
        assert kept[K][1] >= 8 * (L - 1) * B * K * K
    assert kept[32][0] < 2.5 * kept[16][0]
    assert kept[32][1] > 3.5 * kept[16][1]


def test_state_goes_both_ways_and_the_start_is_the_same():
    ours, theirs = CRF(7), PytorchCRF(7)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs) == "CRF(num_tags=7)"
    for layer in (CRF, PytorchCRF):
        torch.manual_seed(0)
        many = torch.cat([p.detach().flatten() for p in layer(60).parameters()])
        assert many.abs().max() <= 0.1
        assert many.abs().max() > 0.099


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_number_type_is_kept(dtype):
    ours = CRF(3, batch_first=True).to(dtype)
    emissions, tags, mask = batch(2, 4, 3)
    assert ours(emissions.to(dtype), tags, mask).dtype == dtype
    assert ours.marginals(emissions.to(dtype), mask).dtype == dtype
    assert ours(emissions.half(), tags, mask.to(torch.uint8)).dtype == dtype
    with torch.inference_mode():
        assert not ours(emissions.to(dtype), tags, mask).requires_grad


E, T = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)
LATE = torch.tensor([[False, True, True], [True, True, True]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(0), "num_tags = 0"),
        (lambda layer: layer(-2), "num_tags = -2"),
        (lambda layer: layer(4, True)(E[0], T), r"shape \(3, 4\) are not \(B, L, K"),
        (lambda layer: layer(4)(E[0], T), r"shape \(3, 4\) are not \(L, B, K"),
        (lambda layer: layer(5, True)(E, T), r"\(2, 3, 4\) are not \(B, L, K = 5\)"),
        (lambda layer: layer(4, True)(E, T[:, :2]), r"tags of shape \(2, 2\) do not"),
        (lambda layer: layer(4, True)(E, T, T[:1]), r"mask of shape \(1, 3\) do not"),
        (lambda layer: layer(4, True).decode(E, T[:1]), r"mask of shape \(1, 3\)"),
        (lambda layer: layer(4, True)(E, T, LATE), "first step of 1 sequences"),
        (lambda layer: layer(4, True).decode(E, LATE), "first step of 1 sequences"),
        (lambda layer: layer(4, True)(E, T, None, "max"), "unknown reduction 'max'"),
    ],
)
def test_bad_input_raises_what_pytorch_crf_raises(call, message):
    with pytest.raises(ValueError):
        call(PytorchCRF)
    with pytest.raises(ValueError, match=message):
        call(CRF)


def test_an_empty_batch_is_an_empty_sum():
    ours, theirs = pair(3)
    nothing = torch.empty(0, 4, 3, dtype=torch.double), torch.empty(0, 4).long()
    for layer in (ours, theirs):
        assert layer(*nothing).item() == 0
        assert layer(*nothing, reduction="none").shape == (0,)


def test_autocast_does_not_touch_the_gradient():
    ours, _ = pair(9)
    ours.float()
    emissions, tags, mask = batch(8, 20, 9)
    found = []
    for on in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            ours(emissions.float(), tags, mask, reduction="mean").backward()
        found.append(ours.transitions.grad.clone())
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_two_thousand_steps_keep_their_digits():
    ours, _ = pair(5)
    emissions, tags, mask = batch(2, 2000, 5)
    exact = ours(emissions, tags, mask, reduction="none")
    short = ours.float()(emissions.float(), tags, mask, reduction="none")
    assert ((short.double() - exact) / exact).abs().max() < 1e-5


def test_pads_do_not_decide_whether_digits_are_trusted():
    transitions = torch.tensor([[0.0, crf.FORBIDDEN], [crf.FORBIDDEN, -1.0]])
    blank = torch.zeros(2)
    for L in (5, 200):
        mask = torch.arange(L)[:, None] < 5
        given = torch.zeros(L, 1, 2), mask, blank, transitions, blank
        assert crf.forward_backward(*given)[3]


def test_the_gradient_of_one_input_alone():
    ours, theirs = pair(4)
    emissions, tags, mask = batch(3, 6, 4)
    for layer in (ours, theirs):
        layer.requires_grad_(False).transitions.requires_grad_()
        layer(emissions, tags, mask).backward()
    torch.testing.assert_close(ours.transitions.grad, theirs.transitions.grad)
    assert ours.start_transitions.grad is None


def test_no_best_paths_at_all_is_an_error():
    ours, _ = pair(3)
    with pytest.raises(ValueError, match="the 0 best paths: k must be at least 1"):
        ours.k_best(batch(1, 2, 3)[0], 0)


@pytest.mark.parametrize("tag", [3, -1])
def test_a_tag_that_is_none_is_refused_with_its_number(tag):
    ours, _ = pair(3)
    emissions, tags, mask = batch(2, 4, 3)
    tags[0, 0] = tag
    with pytest.raises(IndexError, match=f"tag {tag} is not one of 0…2"):
        ours(emissions, tags, mask)


def test_a_hole_in_the_mask_is_refused_where_pytorch_crf_is_wrong():
    ours, theirs = pair(3)
    emissions, tags, _ = batch(1, 3, 3)
    mask = torch.tensor([[True, False, True]])
    gathered = theirs(emissions[:, ::2], tags[:, ::2])
    assert (theirs(emissions, tags, mask) - gathered).abs() > 0.1
    with pytest.raises(ValueError, match="hole"):
        ours(emissions, tags, mask)


def test_constraints_are_legal_and_forbid_what_they_should():
    follows, starts = crf.bio_constraints(["O", "B-X", "I-X", "B-Y", "I-Y"])
    wanted = [[1, 1, 0, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    wanted += [[1, 1, 0, 1, 1], [1, 1, 0, 1, 1]]
    assert follows.int().tolist() == wanted
    assert starts.int().tolist() == [1, 1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"begin with \['S'\], not with"):
        crf.bio_constraints(["O", "S-X"])
    labels = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    ours, _ = pair(5, seed=11)
    ours.constrain(follows, starts)
    emissions, _, mask = batch(40, 12, 5, seed=12, scale=3.0)
    for path in ours.decode(emissions, mask):
        before = "O"
        for label in (labels[tag] for tag in path):
            if label.startswith("I"):
                assert before in (label, "B" + label[1:])
            before = label


def test_forbidden_scores_stay_where_training_leaves_them():
    ours, _ = pair(5, seed=13)
    ours.constrain(*crf.bio_constraints(["O", "B-X", "I-X", "B-Y", "I-Y"]))
    emissions, _, mask = batch(6, 8, 5, seed=14)
    legal = torch.zeros(6, 8, dtype=torch.long)
    ours(emissions, legal, mask).backward()
    forbidden = ours.transitions == crf.FORBIDDEN
    assert forbidden.any()
    assert not ours.transitions.grad[forbidden].any()
    assert ours.transitions.grad[~forbidden].all()
