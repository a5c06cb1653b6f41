"""Checks of chapter 11, page 5: `from utils.exercises import speed as check`."""

from utils.lab.check import exercise, expect, expect_close


@exercise
def hit_rate(answer):
    """frequent and rare pieces, and pieces longer than any token."""
    ranks = {b"a": 0, b"b": 1, b"ab": 2, b" a": 3}
    for counts in [
        {b"ab": 8, b"abb": 2},
        {b"a": 1, b"ab": 1, b"ba": 5, b" a": 1},
        {b"bb": 4},
    ]:
        want = sum(n for p, n in counts.items() if p in ranks) / sum(counts.values())
        slips = {
            "Count occurrences: a piece that occurs eight times counts eight times.": (
                sum(p in ranks for p in counts) / len(counts)
            ),
            "That is the share of the pieces that miss.": 1 - want,
            "A share: divide by the number of all occurrences.": want
            * sum(counts.values()),
        }
        hint = "Add the counts of the pieces that are in `ranks`, and divide by all."
        expect_close(f"hit_rate({counts})", answer(counts, ranks), want, slips, hint)


@exercise
def LRU(answer):
    """what is computed again and what is not, for caches of one, two and three."""
    for size, keys, want in [
        (2, "ababa", "ab"),
        (2, "abac" + "a", "abc"),
        (2, "abac" + "b", "abcb"),
        (1, "aab" + "a", "aba"),
        (3, "abcadb", "abcdb"),
    ]:
        asked: list[str] = []

        def compute(key, asked=asked):
            asked.append(key)
            return key.upper()

        cache = answer(size, compute)
        got = [cache.get(key) for key in keys]
        shown = f"LRU({size}) asked for {' '.join(keys)} returned {got}"
        hint = "`get` returns what `compute` returned for this key."
        expect(got == list(keys.upper()), shown, "the keys in capitals", hint)
        if len(asked) > len(want):
            hint = "Something that was asked for lately was thrown away, or never kept."
        elif len(asked) < len(want):
            hint = "It keeps more than `size` results."
        else:
            hint = "The number is right: look at which entry goes when it is full."
        shown = f"LRU({size}) asked for {' '.join(keys)} computed {' '.join(asked)}"
        expect("".join(asked) == want, shown, "other computations", hint)


@exercise
def collisions(answer):
    """64 different strings of 16 bytes, one hash."""
    factor, mask = 0x517CC1B727220A95, 2**64 - 1

    def fx(data: bytes) -> int:
        h = 0
        for start in (0, 8):
            word = int.from_bytes(data[start : start + 8], "little")
            h = (((h << 5 | h >> 59) & mask) ^ word) * factor & mask
        return h

    right = all(isinstance(key, bytes) and len(key) == 16 for key in answer)
    hint = "Each is a `bytes` object: eight bytes, and eight more."
    expect(right, "The strings have other kinds or lengths", "16 bytes each", hint)
    number = len(set(answer))
    hint = "Equal strings collide for free: vary the first eight bytes."
    expect(number == 64, f"{number} different strings", "64", hint)
    hashes = len({fx(key) for key in answer})
    hint = "Compute h after the first word, rotate it: which second word undoes it?"
    expect(hashes == 1, f"Their hashes take {hashes} values", "one", hint)
