"""Hidden Markov models (隐马尔可夫模型): a chain of hidden states that emit symbols.

States are 0…K−1, symbols 0…V−1. Tables hold logarithms, and −inf says "never". With
observed symbols x and states y of length L, the model's log p(x, y) is

    start[y₁] + Σₜ emissions[yₜ, xₜ] + Σₜ transitions[yₜ, yₜ₊₁] + end[y_L].

Rabiner 1989, "A tutorial on hidden Markov models and selected applications".
"""

import re
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy import ndarray


class HMM(NamedTuple):
    """Log tables of an HMM; zeros in `end` where a text may stop in any state."""

    start: ndarray  # (K,)
    transitions: ndarray  # (K, K), from row to column
    emissions: ndarray  # (K, V)
    end: ndarray  # (K,)


def path_score(hmm: HMM, symbols: ndarray, states: ndarray) -> float:
    """log p(x, y) of symbols (L,) with states (L,), term by term."""
    steps = hmm.transitions[states[:-1], states[1:]].sum()
    emitted = hmm.emissions[states, symbols].sum()
    return hmm.start[states[0]] + emitted + steps + hmm.end[states[-1]]


def forward(hmm: HMM, symbols: ndarray) -> ndarray:
    """α (L, K): log p(x₁…xₜ, yₜ). α[-1] + end, summed in logs, is log p(x)."""
    alpha = [hmm.start + hmm.emissions[:, symbols[0]]]
    for symbol in symbols[1:]:
        arriving = np.logaddexp.reduce(alpha[-1][:, None] + hmm.transitions, axis=0)
        alpha.append(arriving + hmm.emissions[:, symbol])
    return np.array(alpha)


def backward(hmm: HMM, symbols: ndarray) -> ndarray:
    """β (L, K): log p(xₜ₊₁…x_L, stop | yₜ), the same sum from the other end."""
    beta = [hmm.end]
    for symbol in symbols[:0:-1]:
        leaving = hmm.transitions + hmm.emissions[:, symbol] + beta[-1]
        beta.append(np.logaddexp.reduce(leaving, axis=1))
    return np.array(beta[::-1])


def log_likelihood(hmm: HMM, symbols: ndarray) -> float:
    """log p(x) of symbols (L,): the sum over all K^L state sequences."""
    return np.logaddexp.reduce(forward(hmm, symbols)[-1] + hmm.end)


def posterior(hmm: HMM, symbols: ndarray) -> ndarray:
    """p(yₜ | x) for every position and state: (L, K), rows sum to one."""
    joint = forward(hmm, symbols) + backward(hmm, symbols)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])


def viterbi(hmm: HMM, symbols: ndarray) -> tuple[list[int], float]:
    """The likeliest state sequence, L states, and its log p(x, y).

    Where several are equally likely, later states of the table win.
    """

    def last_argmax(scores: ndarray) -> ndarray:
        return len(scores) - 1 - scores[::-1].argmax(0)

    best, came_from = hmm.start + hmm.emissions[:, symbols[0]], []
    for symbol in symbols[1:]:
        arriving = best[:, None] + hmm.transitions + hmm.emissions[:, symbol]  # (K, K)
        came_from.append(last_argmax(arriving))
        best = arriving.max(0)
    path = [int(last_argmax(best + hmm.end))]
    score = float((best + hmm.end)[path[0]])
    for previous in reversed(came_from):
        path.append(int(previous[path[-1]]))
    return path[::-1], score


def count(
    symbols: list[ndarray], states: list[ndarray], K: int, V: int, smoothing=0.0
) -> HMM:
    """The HMM whose tables are relative frequencies in labelled texts.

    Every emission is counted `smoothing` times more than it was seen. A start or a step
    that was never seen is impossible. Raises ValueError for texts and states of unequal
    lengths, naming the text.
    """
    start, steps, emitted = np.zeros(K), np.zeros((K, K)), np.full((K, V), smoothing)
    for number, (x, y) in enumerate(zip(symbols, states, strict=True)):
        if len(x) != len(y) or not len(x):
            raise ValueError(f"text {number}: {len(x)} symbols, {len(y)} states")
        start[y[0]] += 1
        np.add.at(steps, (y[:-1], y[1:]), 1)
        np.add.at(emitted, (y, x), 1)

    def log_shares(counts: ndarray) -> ndarray:
        total = np.maximum(counts.sum(-1, keepdims=True), 1e-300)
        with np.errstate(divide="ignore"):
            return np.log(counts / total)

    return HMM(log_shares(start), log_shares(steps), log_shares(emitted), np.zeros(K))


def sample(hmm: HMM, L: int, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """One text of L symbols and its states, drawn from the model; `end` is ignored."""

    def draws(table: ndarray) -> ndarray:
        """Cumulated rows: a uniform number's place in one is a draw."""
        return np.exp(table).cumsum(-1)

    start, steps, emitted = map(draws, (hmm.start, hmm.transitions, hmm.emissions))
    uniform, states = rng.random((L, 2)), np.empty(L, dtype=int)
    for t, (u, _) in enumerate(uniform):
        row = steps[states[t - 1]] if t else start
        states[t] = min(np.searchsorted(row, u * row[-1], side="right"), len(row) - 1)
    rows = emitted[states]
    symbols = (rows <= uniform[:, 1:] * rows[:, -1:]).sum(1)
    return symbols, states


def made_of_probabilities(scores: HMM) -> HMM:
    """The HMM with a stopping state whose posteriors are those of arbitrary scores.

    `scores` are those of a CRF that looks at one symbol a position, below 700. Rows
    of the result are probabilities: emissions sum to one, and so do, in each state,
    the transitions together with the end. Smith and Johnson 2007, section 4.
    """
    start, transitions, emissions, end = map(np.exp, scores)
    entering = transitions * emissions.sum(1)  # weight of a step, over all symbols
    entering *= 0.5 / np.abs(np.linalg.eigvals(entering)).max()  # so that sums converge
    after = np.linalg.solve(np.eye(len(end)) - entering, end)  # all continuations
    start = start * emissions.sum(1) * after
    tables = (
        start / start.sum(),
        entering * after / after[:, None],
        emissions / emissions.sum(1, keepdims=True),
        end / after,
    )
    return HMM(*map(np.log, tables))


STATES = "BEMS"  # begin, end, middle of a word, a word by itself


@cache
def jieba_tables() -> tuple[HMM, dict[str, int]]:
    """jieba's HMM of Chinese words: states BEMS, and the number of each character.

    The last column of the emissions is for every character not in the dictionary.
    jieba writes log 0 as −3.14e100; that is kept, except for steps that cannot be.
    """
    from jieba import finalseg as jieba

    numbers = {c: n for n, c in enumerate(sorted(set().union(*jieba.emit_P.values())))}
    emissions = np.full((4, len(numbers) + 1), jieba.MIN_FLOAT)
    transitions = np.full((4, 4), -np.inf)
    for i, state in enumerate(STATES):
        for character, score in jieba.emit_P[state].items():
            emissions[i, numbers[character]] = score
        for following, score in jieba.trans_P[state].items():
            transitions[i, STATES.index(following)] = score
    start = np.array([jieba.start_P[state] for state in STATES])
    end = np.array([0.0 if state in "ES" else -np.inf for state in STATES])
    return HMM(start, transitions, emissions, end), numbers


def characters(text: str) -> ndarray:
    """The numbers of a text's characters in jieba's tables, (L,)."""
    numbers = jieba_tables()[1]
    return np.array([numbers.get(c, len(numbers)) for c in text])


def words(text: str) -> list[str]:
    """Words of a text, by jieba's HMM alone: Viterbi on each run of Chinese.

    >>> words("我们喜欢春天。")
    ['我们', '喜欢', '春天', '。']
    """
    found = []
    for run in re.split("([\u4e00-\u9fd5]+)", text):
        if re.match("[\u4e00-\u9fd5]", run):
            path, _ = viterbi(jieba_tables()[0], characters(run))
            ends = [t + 1 for t, state in enumerate(path) if STATES[state] in "ES"]
            found += [run[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        else:
            found += filter(None, re.split(r"([a-zA-Z0-9]+(?:\.\d+)?%?)", run))
    return found
