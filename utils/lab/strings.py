"""Strings that find a tokenizer's mistakes: scripts mixed, marks, emoji, long words."""

import unicodedata
from functools import cache

import numpy as np

LONG = 2_000  # characters of the longest word
SCRIPTS = [  # first and last code point of what a string is drawn from, part by part
    [(0x61, 0x7A), (0x41, 0x5A)],  # Latin
    [(0x30, 0x39)],  # digits
    [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],  # ASCII punctuation
    [(0xC0, 0x24F)],  # Latin with accents
    [(0x370, 0x3FF), (0x400, 0x4FF)],  # Greek, Cyrillic
    [(0x5D0, 0x5EA), (0x621, 0x64A)],  # Hebrew, Arabic
    [(0x900, 0x97F), (0xE00, 0xE7F)],  # Devanagari, Thai
    [(0x3040, 0x30FF), (0xAC00, 0xD7A3)],  # kana, Hangul
    [(0x4E00, 0x9FA5)],  # 汉字
    [(0x3000, 0x303F), (0xFF01, 0xFF5E)],  # Chinese punctuation, full width
    [(0x300, 0x36F)],  # combining marks
    [(0x9, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x2000, 0x200A)],  # blanks
    [(0x0, 0x8), (0xE, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0xFEFF, 0xFEFF)],
    [(0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x200D, 0x200D), (0xFE0F, 0xFE0F)],
    [(0xA0, 0x2FFF), (0xFB00, 0xFFFD), (0x10300, 0x1034A), (0x20000, 0x2A6D6)],
]


def settled(point: int) -> bool:
    """Whether Unicode 3.2 and this Python's Unicode put a code point in one category.

    Tables of different age agree on these; emoji, younger, have not moved since 6.1.
    """
    if 0x1F300 <= point <= 0x1F64F:
        return True
    old, new = unicodedata.ucd_3_2_0, unicodedata
    return new.category(chr(point)) == old.category(chr(point)) not in ("Cn", "Cs")


@cache
def alphabets() -> list[str]:
    """The settled characters of each entry of SCRIPTS."""
    return [
        "".join(
            chr(p) for low, high in ranges for p in range(low, high + 1) if settled(p)
        )
        for ranges in SCRIPTS
    ]


def mixed(count: int, seed: int = 0) -> list[str]:
    """`count` strings of one to twelve parts, each from one script, often with blanks.

    One string in 200 holds a word of up to LONG characters; some repeat one letter.
    The same count and seed give the same strings on every computer.
    """
    rng, strings = np.random.default_rng(seed), []
    for number in range(count):
        parts = []
        for _ in range(rng.integers(1, 13)):
            alphabet = alphabets()[rng.integers(len(SCRIPTS))]
            length = rng.integers(1, LONG if number % 200 == 199 else 9)
            drawn = rng.integers(
                len(alphabet) if rng.random() < 0.9 else 1, size=length
            )
            parts.append("".join(alphabet[i] for i in drawn))
            parts.append(" " * rng.integers(0, 3))
        strings.append("".join(parts))
    return strings
