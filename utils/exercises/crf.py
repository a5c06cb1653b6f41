"""Checks of chapter 03. Import as `from utils.exercises import crf as check`."""

import itertools

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
        expect(answer[key] is right, said, "the other one", hints[key])


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
        if j != m and np.isfinite(made.transitions[i * K + j, m * K + k])
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
