"""Checks of chapter 11, BPE. Import as `from utils.exercises import bpe as check`."""

import numpy as np

from utils.lab.check import exercise, expect


@exercise
def next_pair(answer):
    """counts of words, pairs that occur twice in one word, and a tie."""
    cases = [
        ({("a", "b"): 1, ("c", "d"): 3}, ("c", "d"), "Add the word's count, not 1."),
        (
            {("a", "b", "a", "b"): 2, ("c", "d"): 3},
            ("a", "b"),
            "A pair can stand twice in one word, and counts twice.",
        ),
        (
            {("x", "y"): 2, ("a", "z"): 2},
            ("a", "z"),
            "Equally frequent pairs: which comes first in the alphabet?",
        ),
    ]
    for words, want, hint in cases:
        got = answer(words)
        expect(got == want, f"next_pair({words}) is {got!r}", "another pair", hint)


@exercise
def ready(answer):
    """every cut of a text with characters of one to four bytes."""
    text = "a你é🙂好z🙂"
    data = text.encode()
    for end in range(len(data) + 1):
        whole = len(data[:end].decode("utf-8", "ignore").encode())
        got = answer(data[:end])
        if end == whole:
            hint = "Here the last character is complete, and all may be shown."
        elif isinstance(got, int) and got > whole:
            hint = "The last character is not complete: find where it begins, go left."
        else:
            hint = "Only the last character is held back, not those before it."
        shown = f"ready({data[:end]!r}) is {got!r}"
        expect(got == whole, shown, "how many bytes are whole characters", hint)


@exercise
def from_the_right(answer):
    """runs of one to seven digits, in text."""
    from utils.tokenizers.patterns import split, splitter

    groups = splitter(answer).groups
    hint = "Parentheses that capture change what findall returns: write (?:…)."
    expect(groups == 0, f"the pattern captures {groups} groups", "none", hint)
    cases = {
        "1234567": ["1", "234", "567"],
        "12": ["12"],
        "123456": ["123", "456"],
        "pay 12345 or 1000!": ["pay ", "12", "345", " or ", "1", "000", "!"],
        "7.25": ["7", ".", "25"],
    }
    for text, want in cases.items():
        got = split(text, answer)
        digits = [piece for piece in got if piece.isdigit()]
        if "".join(got) != text:
            hint = "Some characters match no alternative of the pattern, and are lost."
        elif max(map(len, digits)) > 3:
            hint = "A piece has at most three digits."
        elif digits != [p for p in want if p.isdigit()]:
            hint = (
                "After a cut, the digits left must be a multiple of three: look ahead."
            )
        else:
            hint = "What is no digit stays together: an alternative for a whole run."
        expect(got == want, f"{text!r} becomes {got}", "threes from the right", hint)


@exercise
def dropout(answer):
    """p of 0, ½ and 1, what remains of the bytes, and the chance of one merge."""
    from utils.tokenizers.bpe import encode_piece, ranks_of, train

    words = {b"short": 5, b"shorter": 3, b"shortest": 3, b"test": 2}
    ranks = ranks_of(train(words, 256 + 9))
    rng = np.random.default_rng(0)
    piece = b"shortest"
    got = answer(piece, ranks, 0.0, rng)
    tokens = {rank: token for token, rank in ranks.items()}
    want = [tokens[i] for i in encode_piece(piece, ranks)]
    hint = "Without dropout, take the possible merge of lowest rank until none is left."
    expect(got == want, f"at p = 0 the parts are {got}", "those of BPE", hint)
    got = answer(piece, ranks, 1.0, rng)
    single = [bytes([b]) for b in piece]
    hint = "At p = 1 every merge is left out: the parts are single bytes."
    expect(got == single, f"at p = 1 the parts are {got}", "bytes", hint)
    draws = [answer(piece, ranks, 0.5, rng) for _ in range(300)]
    for parts in draws:
        hint = "Whatever is left out, the parts must add up to the piece."
        expect(b"".join(parts) == piece, f"the parts are {parts}", "the piece", hint)
    kinds = len({tuple(parts) for parts in draws})
    hint = "Draw for every possible merge, at every step, not once for all."
    expect(kinds > 8, f"300 draws gave {kinds} ways to cut", "many more", hint)
    pair = {b"a": 0, b"b": 1, b"ab": 2}
    whole = sum(answer(b"ab", pair, 0.25, rng) == [b"ab"] for _ in range(2000)) / 2000
    hint = "p is the probability that a merge is left out, not that it stays."
    shown = f"at p = ¼ two bytes merged in {whole:.0%} of the draws"
    expect(abs(whole - 0.75) < 0.05, shown, "three quarters", hint)
