"""Checks of chapter 03. Import as `from utils.exercises import crf as check`."""

import itertools
from functools import cache

import numpy as np

from utils.lab.check import exercise, expect, expect_close


@exercise
def word_length(answer):
    """words of two to nine characters, against jieba's transitions."""
    from utils.hmm import jieba_tables

    (b_e, b_m), (m_e, m_m) = np.exp(jieba_tables()[0].transitions[:3:2, 1:3])
    for n in range(2, 10):
        want = b_e if n == 2 else b_m * m_m ** (n - 3) * m_e
        slips = {
            "The right steps, but rounded: take exp of `jieba_hmm.transitions`.": (
                0.6 if n == 2 else 0.4 * 0.28 ** (n - 3) * 0.72
            ),
            "Count the steps from M to M: between n − 2 states M there are n − 3.": b_m
            * m_m ** (n - 2)
            * m_e,
            "The word has to end: which step is missing?": b_m * m_m ** max(n - 3, 0),
            "That is the probability of at least n characters.": 1.0
            if n == 2
            else b_m * m_m ** (n - 3),
            "Given that it began with B: the start is not part of it.": want
            * np.exp(jieba_tables()[0].start[0]),
        }
        hint = (
            "Write the states of such a word down, B M … M E, and multiply the steps."
        )
        expect_close(f"word_length({n})", answer(n), want, slips, hint)


@exercise
def unnoticed(answer):
    """which of the five additions cancel in the quotient."""
    want = {
        "starts": True,
        "one symbol": True,
        "one state": False,
        "all transitions": True,
        "out of one state": False,
    }
    expect(
        isinstance(answer, dict) and set(answer) == set(want),
        f"The answer is {answer!r}",
        f"a dictionary with the keys {', '.join(want)}",
        "Copy the keys, and put True or False behind each.",
    )
    hints = {
        "starts": "Every labelling has exactly one start.",
        "one symbol": "How often does that symbol occur in two labellings of a text?",
        "one state": "Two labellings of a text can visit that state different times.",
        "all transitions": "How many steps do two labellings of one text have?",
        "out of one state": "Count how often two labellings leave that state.",
    }
    for key, right in want.items():
        said = f"{key}: {answer[key]}"
        expect(bool(answer[key]) == right, said, "the other one", hints[key])


@exercise
def as_pairs(answer):
    """shapes, the best path and log p(x), against all paths of a second-order model."""
    from utils import hmm

    K, V, L, rng = 3, 4, 5, np.random.default_rng(0)
    start, steps = rng.normal(size=(K, K)), rng.normal(size=(K, K, K))
    emissions, x = rng.normal(size=(K, V)), rng.integers(0, V, L)
    made = answer(start, steps, emissions)
    shapes = tuple(np.shape(table) for table in made)
    wanted = ((9,), (9, 9), (9, V), (9,))
    expect(
        shapes == wanted,
        f"For K = 3 and V = 4 the tables have shapes {shapes}",
        f"{wanted}",
        "Nine states, one for each pair: reshape (K, K) to K · K, rows first.",
    )
    broken = [
        (i, j, m, k)
        for i, j, m, k in itertools.product(range(K), repeat=4)
        if j != m and made.transitions[i * K + j, m * K + k] > -1e3
    ]
    expect(
        not broken,
        f"There is a step from pair {broken[:1] and broken[0][:2]} to pair "
        f"{broken[:1] and broken[0][2:]}",
        "−inf there",
        "A pair (i, j) can only be followed by a pair (j, k): the middle must agree.",
    )
    score = {
        y: start[y[0], y[1]]
        + sum(steps[y[t - 2 : t + 1]] for t in range(2, L))
        + emissions[list(y), x].sum()
        for y in itertools.product(range(K), repeat=L)
    }
    first = np.repeat(emissions[:, x[0]], K)  # the first symbol, for each pair
    whole = made._replace(start=made.start + first)
    path, best = hmm.viterbi(whole, x[1:])
    total = np.logaddexp.reduce(list(score.values()))
    slips = {
        "The emission of pair (i, j) is that of its second state, j.": hmm.viterbi(
            whole._replace(emissions=np.repeat(emissions, K, axis=0)), x[1:]
        )[1]
    }
    expect_close(
        "the best path's score",
        best,
        max(score.values()),
        slips,
        "steps[i, j, k] is the step from pair (i, j) to pair (j, k).",
    )
    pairs = [path[0] // K] + [pair % K for pair in path]
    found = f"The best path reads {pairs}"
    right = max(score, key=score.get)
    expect(tuple(pairs) == right, found, f"{list(right)}", "Pair (i, j) is i · K + j.")
    got = hmm.log_likelihood(whole, x[1:])
    expect_close("log p(x)", got, total, {}, "Some steps have a wrong score.")


@exercise
def legal_paths(answer):
    """against lists of all paths, with one type of name and with two."""
    import torch

    from utils.crf import bio_constraints

    for labels in (["O", "B", "I"], ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]):
        follows, starts = bio_constraints(labels)
        K = len(labels)
        for L in (2, 1, 3, 5):
            paths = list(itertools.product(range(K), repeat=L))
            steps = [all(follows[p] for p in itertools.pairwise(q)) for q in paths]
            first = [bool(starts[q[0]]) for q in paths]
            want = sum(a and b for a, b in zip(steps, first, strict=True))
            power = torch.linalg.matrix_power(follows.long(), L)
            hints = {
                K**L: "Those are all paths. Where do `follows` and `starts` come in?",
                sum(steps): "A path must not begin with I: `starts` is missing.",
                int((starts.long() @ power).sum()): "L tags have only L − 1 steps.",
                int((starts.long() @ follows.T.long()).sum()): (
                    "`follows` is (from, to): which of its axes is summed?"
                ),
            }
            got = answer(follows, starts, L)
            said = f"For {K} tags and L = {L} you said {got!r}."
            whole = not isinstance(got, bool) and got == int(got)
            expect(whole, said, "a whole number", "Return `int(…)`.")
            hint = "Count by hand for three tags and L = 2: there are five."
            expect(got == want, said, "another number", hints.get(int(got), hint))


@exercise
def ways_on(answer):
    """one, two and six characters, against all ways on from each tag."""
    import torch

    rng = np.random.default_rng(0)
    for L, K in ((1, 3), (2, 3), (6, 3)):
        emissions, transitions, end = (
            torch.tensor(rng.normal(size=shape)) for shape in ((L, K), (K, K), (K,))
        )

        def run(T, end, own=False, start=None, emissions=emissions):
            betas = [end]
            for row in emissions[1:].flip(0):
                onward = T + (row + betas[-1])[None]
                betas.append(torch.logsumexp(onward, 1))
            result = torch.stack(betas[::-1])
            return result + emissions if own else result

        want = run(transitions, end)
        slips = {
            "T is (from, to): sum over where the path goes, axis 1.": run(
                transitions.T, end
            ),
            "The end scores are missing: they are β of the last position.": run(
                transitions, torch.zeros_like(end)
            ),
            "The emission at t itself belongs to α, not to β.": run(
                transitions, end, own=True
            ),
            "That is from right to left: turn the list round at the end.": want.flip(0),
        }
        hint = "Compare with paper for L = 2: β₁(i) = log Σⱼ exp(Tᵢⱼ + e₂(j) + bⱼ)."
        got = answer(emissions, transitions, end)
        expect_close(f"ways_on for L = {L}", got, want, slips, hint)


@exercise
def log_probability(answer):
    """single paths, all paths, a span, and none, against lists."""
    import torch

    rng = np.random.default_rng(1)
    L, K = 4, 3
    shapes = (L, K), (K,), (K, K), (K,)
    e, a, T, b = (torch.tensor(rng.normal(size=shape)) for shape in shapes)
    paths = torch.tensor(list(itertools.product(range(K), repeat=L)))
    scores = a[paths[:, 0]] + b[paths[:, -1]] + e[torch.arange(L), paths].sum(1)
    scores = scores + T[paths[:, :-1], paths[:, 1:]].sum(1)
    one_path = torch.eye(K).bool()[[0, 2, 1, 1]]
    span = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()
    everything = torch.ones(L, K).bool()
    none = torch.cat([everything[:3], torch.zeros(1, K).bool()])
    cases = {"one path": one_path, "a span": span, "everything": everything}
    for name, allowed in cases.items():
        inside = allowed[torch.arange(L), paths].all(1)
        some, whole = scores[inside].logsumexp(0), scores.logsumexp(0)
        zeroed = torch.where(allowed, e, 0.0)[torch.arange(L), paths].sum(1)
        zeroed = zeroed - e[torch.arange(L), paths].sum(1) + scores
        slips = {
            "Nearly: divide by Z, which is a difference of logarithms.": some,
            "What is forbidden needs the score −∞; 0 is quite a good score.": (
                zeroed.logsumexp(0) - whole
            ),
            "The other way round: allowed paths above, all paths below.": whole - some,
            "That is the probability; its logarithm is wanted.": (some - whole).exp(),
            "A product of marginals: but the tags of a path depend on each other.": (
                torch.stack(
                    [
                        scores[allowed[t, paths[:, t]]].logsumexp(0) - whole
                        for t in range(L)
                    ]
                ).sum()
            ),
        }
        hint = "Run the forward algorithm twice: over all paths, and over the allowed."
        got = answer(e, a, T, b, allowed)
        expect_close(f"log_probability of {name}", got, some - whole, slips, hint)
    got = float(answer(e, a, T, b, none))
    said = f"If nothing is allowed you said {got:g}."
    expect(got < -1e3, said, "−∞, or nearly", "No path is left, the sum is zero.")


@exercise
def entities(answer):
    """the entities of eight tags, by B- alone."""
    want = {("PER", 0, 1), ("PER", 1, 3), ("ORG", 5, 6)}
    said = f"The answer is {answer!r}"
    expect(isinstance(answer, set), said, "a set of triples", "Use {…}, not […].")
    hint = "Every B- begins exactly one."
    if ("LOC", 4, 5) in answer:
        hint = "I-LOC after O continues nothing; strictly it is no entity."
    elif ("PER", 0, 3) in answer:
        hint = "B begins a new entity, even where the one before is of its type."
    elif ("ORG", 5, 8) in answer:
        hint = "I-LOC ends the ORG, and I-ORG after I-LOC continues nothing."
    elif any(first == end for _, first, end in answer):
        hint = "The third number is one past the last character."
    expect(answer == want, said, f"{len(want)} entities", hint)


@exercise
def steps_needed(answer):
    """moves with and without a warm-up, and one that ends inside it."""
    cases = [(0.95, 0.1, 0), (0.93, 0.1, 10), (0.09, 0.1, 10), (5.001, 2e-3, 50)]
    for move, rate, warmup in cases:
        gone, want = 0.0, 0
        while gone < move:
            want += 1
            gone += rate * min(1, want / max(warmup, 1))
        slips = {
            "The first steps are shorter: rate · step / warmup while it warms up.": (
                np.ceil(move / rate)
            ),
            "Inside the warm-up the lengths grow step by step: add them in a loop.": (
                np.ceil(move / rate + warmup / 2)
            ),
            "Steps count from 1: the first has length rate / warmup, not zero.": want
            + 1,
        }
        what = f"steps_needed({move}, {rate}, {warmup})"
        hint = "Add the lengths of the steps in a loop until the move is reached."
        expect_close(what, answer(move, rate, warmup), want, slips, hint)


@cache
def _dev_f1(look) -> float:
    """F1 on the dev sentences of a feature CRF trained on 200."""
    from utils import tagging
    from utils.lab.datasets import ner

    tagger, dev = tagging.by_features(ner("train")[:200], look=look), ner("dev")
    found = tagger.tag([s.characters for s in dev])
    return tagging.f1(tagging.span_counts([s.tags for s in dev], found))


@exercise
def look(answer):
    """the gain in F1 on the dev sentences, trained on 200."""
    from utils import tagging
    from utils.lab.datasets import ner

    names = answer(list("去北京"))
    said = f"look(['去', '北', '京']) has {len(names)} rows"
    expect(len(names) == 3, said, "3, one for each character", "One list a character.")
    widths = {len(row) for s in ner("dev") for row in answer(s.characters)}
    said = f"Rows of {min(widths)} to {max(widths)} names"
    hint = "Give every character the same number; write a name like `none` for nothing."
    expect(len(widths) == 1, said, "one length for all", hint)
    base, found = _dev_f1(tagging.features), _dev_f1(answer)
    said = f"F1 is {found:.3f}, that of the window {base:.3f}"
    hint = "Keep the window's names, and add sets: surnames, digits, ends of places."
    expect(found >= base + 0.03, said, "0.03 more at least", hint)
