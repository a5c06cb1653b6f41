"""Checks of chapter 08, page 3: `from utils.exercises import bert_int8 as check`."""

from utils.lab.check import exercise, expect_close


@exercise
def shrunk(answer):
    """shares of a file at 8, 4 and 16 bits."""
    for N, M, bits in [(100, 80, 8), (100, 0, 8), (64, 64, 4), (1000, 500, 16)]:
        want = (bits * M + 32 * (N - M)) / (32 * N)
        slips = {
            "That is what is saved; how much is left?": 1 - want,
            "The numbers that stay float count, too.": bits * M / (32 * N),
            "Count bits, or bytes, on both sides: a float has 32 bits.": (
                (bits * M + 4 * (N - M)) / (4 * N)
            ),
            "It holds for other widths than eight bits, too.": 1 - 0.75 * M / N,
        }
        hint = "Bits of what shrinks plus bits of what stays, over 32 bits for each."
        what = f"shrunk({N}, {M}, {bits})"
        expect_close(what, answer(N, M, bits), want, slips, hint)


@exercise
def tables(answer):
    """BERT-base, a model of four layers, and one with a large vocabulary."""
    for V, D, layers in [(21_128, 768, 12), (21_128, 768, 4), (250_000, 384, 6)]:
        linear = layers * 12 * D**2 + D**2
        table, rest = (V + 512 + 2) * D, layers * 13 * D + D + 2 * D
        want = (linear + table + 4 * rest) / (4 * (linear + table + rest))
        slips = {
            "The tables are still counted with four bytes.": (
                (linear + 4 * (table + rest)) / (4 * (linear + table + rest))
            ),
            "A quarter would be if everything shrank: biases and norms stay.": 0.25,
            "The pooler is a Linear layer, too, with D² weights.": (
                (linear - D**2 + table + 4 * rest)
                / (4 * (linear - D**2 + table + rest))
            ),
            "There are tables for 512 places and 2 segments as well.": (
                (linear + V * D + 4 * rest) / (4 * (linear + V * D + rest))
            ),
        }
        hint = "Compare your N with the one that the first cell of this page prints."
        what = f"tables({V}, {D}, {layers})"
        expect_close(what, answer(V, D, layers), want, slips, hint, tol=1e-7)
