"""Checks of page 11/01. Import as `from utils.exercises import words as check`."""

import numpy as np

from utils.lab.check import exercise, expect

ON_THE_PAGE = "你说的确实有道理"


@exercise
def from_the_end(answer):
    """three hundred texts over small dictionaries, the empty text among them."""
    rng = np.random.default_rng(0)
    texts = [""] + ["".join(rng.choice([*"abcde"], n)) for n in rng.integers(1, 9, 300)]
    for text in texts:
        known = {"".join(rng.choice([*"abcd"], n)) for n in rng.integers(1, 5, 9)}
        longest = max(map(len, known))

        def match(start, end, reach, known=known, text=text):
            """The sizes from `reach` on down of words text[end - size : end]."""
            fitting = [n for n in range(1, end - start + 1) if n <= reach]
            return [n for n in fitting if text[end - n : end] in known] or [1]

        def run(choose, reach=longest, text=text, match=match):
            cut, end = [], len(text)
            while end:
                size = choose(match(0, end, reach))
                cut, end = [text[end - size : end], *cut], end - size
            return cut

        ahead, start = [], 0
        while start < len(text):
            sizes = [
                n for n in range(longest, 0, -1) if text[start : start + n] in known
            ]
            size = min(sizes[0] if sizes else 1, len(text) - start)
            ahead, start = [*ahead, text[start : start + size]], start + size
        want = run(max)
        hints = {
            tuple(want[::-1]): "The words are right. In which order were they found?",
            tuple(ahead): "That is forward matching: here the last word comes first.",
            tuple(
                run(min)
            ): "The longest word is wanted, and you stop at the shortest.",
            tuple(run(max, longest - 1)): "A word may have `longest` characters.",
        }
        got = list(answer(text, known, longest))
        said = f"{text!r} with {sorted(known)} gives {got}"
        hint = "A character that ends no word is a word by itself."
        hint = hints.get(tuple(got), hint)
        expect(got == want, said, "another cut", hint)


@exercise
def both_wrong(answer):
    """both directions, the likeliest words, and a word across a boundary of yours."""
    from utils.tokenizers import words

    whole = isinstance(answer, list) and all(isinstance(word, str) for word in answer)
    said, hint = f"The answer is {answer!r}", 'Like ["你", "说", "的", "确实"].'
    expect(whole and len(answer) > 1, said, "the right cut, a list of words", hint)
    known, text = words.jieba_dictionary(), "".join(answer)
    said, hint = f"The text is {text!r}", "Find one of your own: the page has this one."
    expect(text != ON_THE_PAGE, said, "another text", hint)
    unknown = [word for word in answer if word not in known]
    said, hint = f"jieba's dictionary lacks {unknown}", "Then no rule could find it."
    expect(not unknown, said, "words of the dictionary", hint)
    ahead, back = words.forward(text, known), words.backward(text, known)
    said = f"Forward gives {' | '.join(ahead)}, backward {' | '.join(back)}"
    hint = "Take a shorter stretch: what stands around it made the two disagree."
    expect(ahead == back, said, "one cut from both", hint)
    hint = "Look for three characters ABC in which both AB and BC are words."
    expect(ahead != answer, f"{said}: right", "a wrong one", hint)
    likely = words.best_path(text, known)
    said = f"The likeliest words are {' | '.join(likely)}"
    hint = "The counts are the judge here. Is your cut the one that people would read?"
    expect(likely == answer, said, "your cut", hint)
    yours, theirs = words.spans(answer), words.spans(ahead)
    crossing = [
        (a, b) for a, b in theirs for c, d in yours if a < c < b < d or c < a < d < b
    ]
    said = f"Of {' | '.join(ahead)} no word crosses a boundary of yours"
    hint = (
        "It only joins what you keep apart. Look for AB and BC, where A | BC is right."
    )
    expect(bool(crossing), said, "one that takes half of a word of yours", hint)


@exercise
def house_style(answer):
    """F1 on the 300 sentences held out, and that the texts stay as they are."""
    from utils.lab.datasets import segmented
    from utils.tokenizers import words

    gold, known = segmented(), words.jieba_dictionary()
    cuts = [words.cut("".join(sentence), known) for sentence in gold]
    restyle = answer(list(zip(cuts[:200], gold[:200], strict=True)))
    said = f"house_style(pairs) is a {type(restyle).__name__}"
    hint = "Learn from the pairs, define a function inside, and return that function."
    expect(callable(restyle), said, "a function from cut to cut", hint)
    found = [list(restyle(list(cut))) for cut in cuts[200:]]
    for ours, theirs in zip(found, gold[200:], strict=True):
        said, hint = (
            f"{ours} is no cut of {''.join(theirs)!r}",
            "Only cut, drop nothing.",
        )
        expect("".join(ours) == "".join(theirs), said, "the same text", hint)
    before = words.score(words.outcomes(cuts[200:], gold[200:])).f1
    after = words.score(words.outcomes(found, gold[200:])).f1
    said = f"F1 goes from {before:.3f} to {after:.3f}"
    hint = "For each word of jieba's: how do the gold sentences cut it, and how often?"
    if after < before:
        hint = "It got worse. Change a word only where most of its places agree."
    expect(after >= before + 0.03, said, "0.03 more at least", hint)
