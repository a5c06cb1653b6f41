"""Checks of page 11/03. Import as `from utils.exercises import subwords as check`."""

import itertools
import math

from utils.lab.check import exercise, expect, expect_close


def _cuts(text: str) -> list[list[str]]:
    """All ways to divide a text, whatever the pieces."""
    found = []
    for n in range(len(text)):
        for places in itertools.combinations(range(1, len(text)), n):
            ends = [0, *places, len(text)]
            found.append([text[a:b] for a, b in itertools.pairwise(ends)])
    return found or [[]]


@exercise
def ways(answer):
    """small texts against lists of all cuts, the empty text, and forty letters."""
    pieces = {"h", "u", "g", "hu", "ug", "hug", "gs", "s"}
    for text in ("hug", "hugs", "hughugs", "hat", "s"):
        fitting = [cut for cut in _cuts(text) if pieces.issuperset(cut)]
        used = {piece for cut in fitting for piece in cut}
        hints = {
            len(_cuts(text)): "Those are all cuts; some of their parts are no pieces.",
            len(used): "That is how many pieces can be used, not how many ways.",
            len(fitting) - 1: "The whole text can be one piece, too.",
        }
        got = answer(text, pieces)
        hint = "The ways to reach `end` are the ways to all starts of a last piece."
        hint = hints.get(got, hint) if fitting or got else hint
        said = f"ways({text!r}) is {got!r}"
        expect(got == len(fitting), said, f"{len(fitting)} of them, listed", hint)
    got = answer("", pieces)
    hint = "There is one way to cut nothing: to do nothing."
    expect(got == 1, f"ways('') is {got!r}", "1", hint)
    got = answer("a" * 40, {"a", "aa"})
    hint = "Compare with shorter rows of a: 1, 2, 3, 5, 8, …"
    expect(got == 165_580_141, f"ways('a' * 40) is {got!r}", "another number", hint)


@exercise
def fewest(answer):
    """words that greedy matching cuts too fine or not at all, and one without a cut."""
    pieces = {"un", "una", "##able", "##b", "##l", "##e", "##ab", "able", "a", "##a"}
    pieces |= {"##aa", "aa", "##aab", "no"}
    for word in ("unable", "able", "a", "aaaab", "nono", "una", "unx", "ana"):
        fitting = [
            len(cut)
            for cut in _cuts(word)
            if all(("##" if i else "") + part in pieces for i, part in enumerate(cut))
        ]
        want = min(fitting, default=None)
        bare = {piece.removeprefix("##") for piece in pieces}
        loose = [len(cut) for cut in _cuts(word) if bare.issuperset(cut)]
        longest, start = 0, 0
        while start is not None and start < len(word):
            mark = "##" if start else ""
            ends = [e for e in range(start + 1, len(word) + 1)]
            ends = [e for e in ends if mark + word[start:e] in pieces]
            start = max(ends, default=None)
            longest += 1
        greedy = None if start is None else longest
        hints = {  # of numbers that a mistake would give
            max(fitting, default=-1): "That is the largest number, not the least.",
            min(loose, default=-1): "Only what begins a word stands without ##.",
            greedy: "That is the greedy cut. Try every last piece, and keep the best.",
        }
        got = answer(word, pieces)
        hint = "To reach `end`: one piece more than to reach its start."
        if want is None:
            hint = "Where no cut ends at the last character, return None."
        hint = hints.get(got, hint)
        expect(got == want, f"fewest({word!r}) is {got!r}", "another answer", hint)


@exercise
def entropy(answer):
    """against all segmentations, with unknown characters and in a text of sixty."""
    from utils.tokenizers.unigram import Unigram

    scores = {"a": -1.5, "b": -2.0, "ab": -2.5, "ba": -3.0, "aba": -3.2}
    model = Unigram(scores)
    for text in ("ab", "ababa", "baabab", "abxab"):
        logs = [score for _, score in model.nbest(text, 10_000)]
        z = model.log_likelihood(text)
        shares = [math.exp(score - z) for score in logs]
        want = -sum(p * math.log(p) for p in shares if p)
        edges = model.posterior(text).values()
        slips = {
            "Entropy is not negative: which of the two terms has the minus?": -want,
            "That is in bits: use the natural logarithm.": want / math.log(2),
            "That is the mean score; log p(x) is still missing.": want - z,
            "That is minus the mean score; log p(x) has the other sign.": want - 2 * z,
            "Edges are not segmentations: write log p(s | x) as a sum of scores.": -sum(
                p * math.log(p) for p in edges if p
            ),
        }
        hint = "log p(s | x) = Σ scores − log p(x): take the mean of both sides."
        expect_close(f"entropy of {text!r}", answer(model, text), want, slips, hint)
    long = "ab" * 30
    posterior, z = model.posterior(long), model.log_likelihood(long)
    spent = sum(p * scores[long[a:b]] for (a, b), p in posterior.items())
    hint = "It has to work without a list of all segmentations."
    expect_close("entropy of 60 letters", answer(model, long), z - spent, {}, hint)
