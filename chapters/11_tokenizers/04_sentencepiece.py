# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SentencePiece
#
# Give a text to a tokenizer, and take the ids back to text. Is it the same text? With
# BERT's it is not: it cut the text into words before it cut words into pieces, and what
# had stood between the words is gone. And for Chinese "first the words" is a task of
# its own, as [the first page](01_words) of this chapter shows. {term}`SentencePiece`
# {cite}`kudo2018sentencepiece` does not ask for words. A text is a row of characters,
# the blank is one of them, and everything that it takes to go from text to ids and back
# stands in one file. T5, XLNet, ALBERT and the first two LLaMAs read through it. At the
# end of this page you can
#
# - write a tokenizer's file by hand, byte by byte, and have Google's library load it;
# - open any `.model` file, and encode with it to the library's ids, by your own code;
# - say which rules hide in a tokenizer that "needs no rules", and switch each of them
#   off;
# - say what training returns, what it is good for, and what it does not know about
#   words;
# - avoid four mistakes that have cost people days.
#
# You need [BPE](02_bpe) and [Unigram](03_wordpiece_and_unigram): the two ways to cut
# are taken from there.

# %% tags=["hide-input"]
import json
import logging
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
import warnings
from collections import Counter
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import sentencepiece
import tiktoken

# %% tags=["hide-input"]
from utils.exercises import sentencepiece as check
from utils.lab import (
    above,
    approx,
    below,
    datasets,
    figures,
    notes_say,
    pretrained,
    same,
    settle,
    settle_all,
    show,
    strings,
)
from utils.lab.figures import COLOURS, plt
from utils.tokenizers import bpe
from utils.tokenizers import sentencepiece as ours
from utils.tokenizers.sentencepiece import SPACE, SentencePiece
from utils.tokenizers.wordpiece import WordPiece
from utils.tokenizers.words import Dictionary, best_path

# %% [markdown]
# ## What the notes say


# %% tags=["remove-input"]
notes_say(
    "tokenizers-sp-role",
    "tokenizers-sp-bytes-encoding",
    "tokenizers-sp-boundaries",
    "tokenizers-sp-users",
    "tokenizers-sp-steps",
    "tokenizers-sp-no-rules",
    "tokenizers-tt-algorithm-contrast",
)

# %% [markdown]
# ## What gets lost
#
# MiniLM's tokenizer is BERT's, by our code of the page before. There, and back:

# %%
bert = WordPiece.from_file(pretrained.minilm_folder() / "vocab.txt")
text = "The tokenizer  isn't naïve."
tokens = bert.tokens(text)
print(*tokens)
print("".join(f" {token}" for token in tokens).replace(" ##", "").strip())

# %% [markdown]
# A capital, an accent and the doubled blank are gone. A reader can guess where blanks
# belong in English; a program cannot know whether there was one before the full stop.
# Whatever glues the words together again is a rule for one language, and the original
# is lost.
#
# ## By hand: a tokenizer in 57 bytes
#
# The file is a *protocol buffer* (协议缓冲区), Google's format for structured data
# {cite}`protobuf`. It is a row of fields. Each begins with a key: the field's number
# times 8, plus its *wire type*, 0 for a whole number, 2 for a stretch of bytes whose
# length comes next, 5 for four bytes (1, for eight, no model uses). So `0a` is field 1,
# type 2; `15` is field 2, type 5; `18` is field 3, type 0.
#
# A model is a message in which every field 1 is a piece, and a piece is a message of
# its own: field 1 its text in UTF-8, field 2 its score, a float, field 3 its kind. That
# is enough to write one. The piece ▁ab, with ▁ (U+2581, `e2 96 81`) for a blank:
# `0a 05` and its five bytes, then `15` and −3.0 as four bytes, the lowest first,
# `00 00 40 c0`. Together twelve bytes, hence `0a 0c` in front. Every model needs an
# entry for the unknown, kind 2.

# %%
by_hand = bytes.fromhex(
    "0a 09  0a 05 3c 75 6e 6b 3e  18 02"  # <unk>, kind 2
    "0a 0a  0a 03 e2 96 81        15 00 00 00 c0"  # ▁, −2.0
    "0a 08  0a 01 61              15 00 00 00 c0"  # a, −2.0
    "0a 08  0a 01 62              15 00 00 00 c0"  # b, −2.0
    "0a 0c  0a 05 e2 96 81 61 62  15 00 00 40 c0"  # ▁ab, −3.0
)
library = sentencepiece.SentencePieceProcessor(model_proto=by_hand)
for text in ["ab ba", "  ab   cab"]:
    pieces = library.encode(text, out_type=str)
    print(f"{text!r:12} {' | '.join(pieces):14} {library.encode(text)}")
print(len(by_hand), "bytes")
assert library.encode("ab ba") == [4, 1, 3, 2]

# %% [markdown]
# The library loads it and cuts with it. What we left out has defaults: the kind is 1, a
# normal piece, and the algorithm Unigram, so that ▁ab, −3, wins against ▁, a, b, −6.
# The second text shows more defaults at work. Blanks in front have gone, three in the
# middle have become one, and a ▁ was put in front, the *dummy prefix* (虚拟前缀), so that a
# word is the same piece at the beginning and in the middle. *c* is unknown, `<unk>`, id 0.

# %% mystnb={"figure": {"caption": "The 57 bytes, a row for each piece. The key says the number of the field and its wire type; lengths are counted in bytes.", "name": "fig-model-bytes"}, "image": {"alt": "Five rows of small boxes with two hexadecimal digits each, one row a piece. In each row come a key and a length, a key and a length, the bytes of the text, a key, and four bytes of a score; in the first row a key and a kind in place of the score. The boxes are coloured and labelled by their role."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7.6, 2.9))
figures.canvas(ax, 17.6, 5.9)
names = ["key", "length", "text", "score", "kind"]
roles_hues = dict(zip(names, ["grey", "sky", "green", "orange", "purple"], strict=True))
for row, piece in enumerate(ours.fields(by_hand)):
    roles = ["key", "length"]
    for part in ours.fields(by_hand, piece.begin, piece.end):
        head = ["key"] if part.number > 1 else ["key", "length"]
        body = {1: "text", 2: "score", 3: "kind"}[part.number]
        roles += head + [body] * (part.end - part.start - len(head))
    for place, role in enumerate(roles):
        x, y = 0.7 + place, 4.6 - row
        hue = COLOURS[roles_hues[role]]
        corner = x - 0.45, y - 0.4
        ax.add_patch(plt.Rectangle(corner, 0.9, 0.8, fc=hue + "40", ec=hue))
        shown = f"{by_hand[piece.start + place]:02x}"
        ax.text(x, y, shown, ha="center", va="center", size=8.5, family="monospace")
    found = ours.message(by_hand, piece.begin, piece.end, ours.PIECE)
    ax.text(15.4, 4.6 - row, found["piece"], va="center", size=10)
for number, (role, hue) in enumerate(roles_hues.items()):
    ax.text(1.2 + 2.9 * number, 5.5, f"■ {role}", color=COLOURS[hue], size=9)
plt.show()

# %% [markdown]
# ## In general: reading the file
#
# Whole numbers are *varints* (变长整数): seven bits a byte, the lowest seven first, and the
# top bit says that more follow. 300 is 10 0101100 in binary, so the bytes are 1 0101100
# and 0 0000010, `ac 02`. A field whose number the reader does not know can be passed
# over, because its length is known; that is how old programs read new files. This is
# all of the format that a model uses:

# %%
show(ours.varint, ours.fields)
assert ours.varint(bytes.fromhex("ac 02"), 0) == (300, 2)

# %% [markdown]
# Now real models. The library trains one in a moment on our English, Chinese and code:
# it takes an iterator of lines and writes into whatever has a `write`. Five of them
# will serve on this page: one with every default, one by BPE, one with byte fallback,
# one with settings like LLaMA's, and one with symbols of our own.

# %%
show(ours.train_by_library)
train = partial(ours.train_by_library, vocab_size=3000)

# %%
english, code, chinese = (
    text.split("\n")
    for text in (datasets.english(), datasets.code(), datasets.chinese())
)
mixed = english[:1100] + code[::20] + chinese
like_llama = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
    "split_digits": True,
}
files = {
    "default": train(mixed),
    "BPE": train(mixed, model_type="bpe"),
    "Unigram, bytes": train(mixed, byte_fallback=True),
    "like LLaMA": train(mixed, **like_llama),
    "symbols": train(mixed, user_defined_symbols=["<sep>", "学习", "for"]),
}
assert files["BPE"] == train(mixed, model_type="bpe")  # the same bytes every time

# %%
data = files["BPE"]
size = {1: 0, 2: 0, 3: 0}
for field in ours.fields(data):
    size[field.number] += field.end - field.start
(place,) = (f for f in ours.fields(data) if f.number == 3)
spec = ours.message(data, place.begin, place.end, ours.NORMALISER)
print(
    f"{len(data):,} bytes: pieces {size[1]:,}, settings of training {size[2]},", end=" "
)
print(f"normalisation {size[3]:,}")
print(f"rules called {spec['name']}: {len(spec['precompiled_charsmap']):,} bytes")
assert size[3] > 0.8 * len(data)

# %% [markdown]
# More than four fifths of this file of a tokenizer that "needs no rules" are rules.
# (The table does not grow with the vocabulary, so a larger one makes its share
# smaller.) We come to them in a moment. The same training twice gave the same bytes.
# BPE only counts, and is exact anywhere; the scores of Unigram are sums of logarithms,
# whose last digits belong to a processor.
#
# Here is our reader, and what it does with a text: normalise, cut, replace what is
# unknown. Pieces, scores and kinds are the library's, from every file:

# %%
show(SentencePiece.read, SentencePiece.tokens)

# %%
models = {name: SentencePiece.read(data) for name, data in files.items()}
theirs = {
    name: sentencepiece.SentencePieceProcessor(model_proto=data)
    for name, data in files.items()
}
for name, model in models.items():
    other = theirs[name]
    assert len(model.vocabulary) == other.get_piece_size()
    for number, piece in enumerate(model.vocabulary):
        assert piece.text == other.id_to_piece(number)
        assert piece.score == other.get_score(number)
    kinds = Counter(piece.kind for piece in model.vocabulary)
    print(f"{name:15} {model.algorithm:8}", *(f"{k} {n}" for k, n in kinds.items()))

# %% mystnb={"figure": {"caption": "A text on its way through a model with settings like LLaMA\u2019s, and through one with the default settings. The snowman is in neither vocabulary: bytes (orange) above, unknown (red) below.", "name": "fig-sp-pipeline"}, "image": {"alt": "Two blocks of four lines each: raw text, normalised text, pieces as boxes, ids. Above, the full-width A and the snowman each become three byte pieces, and two blanks stay two. Below, the full-width A became plain, two blanks one, and the snowman is a single unknown piece with id 0."}} tags=["hide-input"]
text = "Ａ path:  学习☃"
figure, axes = plt.subplots(2, 1, figsize=(7.4, 4.4))
hues = {"byte": "orange", "unknown": "vermilion", "normal": "sky"}
for ax, name in zip(axes, ["like LLaMA", "default"], strict=True):
    model = models[name]
    ax.set(xlim=(0, 12.3), ylim=(0.2, 4.2), title=name)
    ax.axis("off")
    rows = zip(
        [3.7, 2.8, 1.7, 0.7], ["text", "normalised", "pieces", "ids"], strict=True
    )
    for y, label in rows:
        ax.text(0, y, label, size=9, color="#555555", va="center")
    ax.text(1.7, 3.7, text.replace(" ", "\u00b7"), size=13, va="center")
    ax.text(1.7, 2.8, model.normalise(text), size=13, va="center")
    x = 1.7
    for piece, number in model.tokens(text):
        width = max(0.5, 0.16 * len(piece) + 0.1)
        colour = COLOURS[hues[model.piece(number).kind]]
        style = {"facecolor": colour + "40", "edgecolor": colour}
        ax.add_patch(plt.Rectangle((x, 1.3), width, 0.8, **style))
        ax.text(x + width / 2, 1.68, piece, ha="center", va="center", size=9)
        ax.text(x + width / 2, 0.7, number, ha="center", va="center", size=8)
        x += width + 0.06
plt.show()

# %% [markdown]
# ## Normalisation: the rules
#
# {term}`Normalisation 文本归一化 <normalisation (NFKC)>` comes first. Unicode has full-width
# letters for Chinese typesetting (Ａ), letters tied together (ﬁ), circled numbers (①),
# whole units in one sign (㎏), and accents as signs of their own. *NFKC* (兼容分解后再合成), a
# table of the Unicode standard {cite}`unicodenormalization`, brings all of these to one
# form. The default of SentencePiece, `nmt_nfkc`, is that table with changes. The file
# holds it as a *double array* (双数组字典树): a trie over bytes in one long row of 32-bit
# units. The child of a unit by the byte $b$ stands at its base XOR $b$, so that one
# step costs one look. At each place of the text the longest rule counts:

# %%
show(ours.Rules._base, ours.Rules._step, ours.Rules.longest)

# %%
model = models["default"]
for text in [
    "Ｈｅｌｌｏ　ｗｏｒｌｄ！",
    "①② ㎏ ﬁ ℃ ㍿",
    "e\u0301 ｶ\uff9e",
    "  a \n\t b ",
    "～ …",
]:
    print(f"{text!r:20} → {model.normalise(text)}")
rules = model.normalise.rules
print(f"units: {len(rules.units):,}; what they put in: {len(rules.texts):,} bytes")

# %% [markdown]
# How many rules is that? A trie shares equal beginnings; this one shares equal
# *endings* as well, so it has more paths than units. We count them without listing: at
# a unit there is one rule, if one ends there, and those of its children.

# %%
children = {}
for at, unit in enumerate(rules.units[1:], 1):
    if unit < ours.LEAF:  # the rest hold the places of texts
        children.setdefault(at ^ (unit & 255), []).append(at)
paths = {}


def count_rules(at):
    if at not in paths:
        below_it = children.get(rules._base(at), [])
        paths[at] = rules.ends(at) + sum(map(count_rules, below_it))
    return paths[at]


points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
changed = [p for p in points if rules.longest(chr(p), 0)[0] != chr(p)]
print(
    f"{count_rules(0):,} rules; {len(changed):,} of {len(points):,} code points change"
)
assert count_rules(0) > 5 * len(rules.units)

# %% [markdown]
# More than two hundred thousand, for sequences of signs that have a shorter form:
# letters with accents, the syllables of Korean, which can be typed part by part. Is the
# default NFKC? On all characters that Unicode had in 2002 (their NFKC is frozen),
# compare it with Python's:

# %%
old = [c for c in map(chr, points) if unicodedata.ucd_3_2_0.category(c) != "Cn"]
differ = Counter()
for c in old:
    new, nfkc = rules.longest(c, 0)[0], unicodedata.normalize("NFKC", c)
    if new != nfkc:
        kind = "a blank" if new == " " else "nothing" if new == "" else new
        differ[kind] += 1
        if unicodedata.category(c) not in ("Cc",):
            print(f"U+{ord(c):04X} {unicodedata.name(c, '?'):28} → {kind}")
print(dict(differ))
assert differ["nothing"] > 20 and differ["～"] == 1

# %% [markdown]
# Control characters vanish; a line break, a tab, a zero-width blank, even a ▁ that a
# user typed, become blanks; and the wide tilde ～ of Chinese and Japanese is left alone,
# although NFKC would narrow it. These are decisions, and people made them. After the
# rules come the blanks. Our normaliser against the library's, on every character of the
# first plane, one by one:

# %%
show(ours.Normaliser.__call__)
plane = [chr(p) for p in points if p < 0x10000]
different = sum(model.normalise(c) != theirs["default"].normalize(c) for c in plane)
print(f"{len(plane):,} characters, normalised differently: {different}")
assert different == 0

# %% [markdown]
# (A test goes through all 1.1 million code points, and through sequences of marks.)
# Half of a surrogate pair, as a cut-off string from JavaScript may hold it, is no
# character. The library refuses it with an error about types, ours names the place.
#
# ## Cutting, by merges that have scores
#
# Unigram is the page before, with 32-bit sums. BPE is what you know from
# [its page](02_bpe), with one difference: it starts from *characters*, not bytes. The
# rank is written as a *score*, 0, −1, −2, …, so that the highest goes first. Of equal
# ones the leftmost.

# %%
show(ours.cut_by_merges)
scored = [p for p in models["BPE"].vocabulary if p.kind == "normal"][:5]
print(*(f"{p.text} {p.score + 0:.0f}" for p in scored), "…")

# %% [markdown]
# Now all of it together: five files; all lines of English, Chinese and code for one of
# them, a twentieth for the others; and the 20,000 strings that have served on the last
# pages. The ids and the text that comes back:

# %%
odd = strings.mixed(20_000)
every = english + code + chinese
differences = 0
for name, model in models.items():
    lines = every if name == "BPE" else every[::20]
    texts = odd if name == "default" else odd[::10]
    for line in [*lines, *texts]:
        ids = theirs[name].encode(line)
        differences += model.encode(line) != ids
        differences += model.decode(ids) != theirs[name].decode(ids)
    print(f"{name:15} {len(lines):6} lines, {len(texts):6} strings,", end=" ")
    print("differences:", differences)
assert differences == 0

# %% [markdown]
# The test beside this page does it with more options (blanks as suffixes, pieces across
# blanks, pieces declared unused, rules for the way back), and lets more of the models
# see all the strings.
#
# ## Into bytes?
#
# The notes say that encoding turns each word or symbol "into one or more bytes", by
# "byte-pair encoding". Here is what an encoder returns.

# %%
text = "学习最短路径☃"
for name in ["default", "Unigram, bytes", "BPE", "like LLaMA"]:
    print(f"{name:15}", *models[name].pieces(text))
print("ids by BPE:    ", models["BPE"].encode(text))
fallback, whole = models["like LLaMA"], "\n".join(chinese[:200])
ids = fallback.encode(whole)
in_bytes = sum(fallback.piece(i).kind == "byte" for i in ids)
print(f"{len(whole.encode())} bytes of text, {len(ids)} ids, {in_bytes} of them bytes")
as_unigram = SentencePiece.read(train(mixed, model_type="unigram"))

# %%
default = models["default"]
snowman = [f"<0x{byte:02X}>" for byte in "☃".encode()]
settle(
    "tokenizers-sp-bytes-encoding",
    same({type(i) for i in ids}, {int}),
    below(max(ids), len(fallback.vocabulary)),
    same(default.vocabulary == as_unigram.vocabulary, True),
    below(len(ids) / len(whole.encode()), 0.5),
    same(fallback.pieces("学"), [SPACE, "学"]),
    same(fallback.pieces("☃"), [SPACE, *snowman]),
    same(default.encode("☃")[-1], default.unknown),
    below(in_bytes / len(ids), 0.1),
)

# %% [markdown]
# Numbers come out, not bytes, and they index a table. The default is Unigram; BPE is
# asked for by name. Bytes appear where a character is not in the vocabulary, and only
# if `byte_fallback` ({term}`字节回退 <byte fallback>`) was on when the model was trained.
# Without it the snowman is id 0, and what comes back is ⁇.
#
# ## Does every text come back?
#
# Pieces add up to the normalised text, for the blank is in them. So decoding loses what
# normalisation lost, and what was unknown, and one thing more: a ▁ of the text's own
# becomes a blank.

# %%
pairs = [("default", "the shortest path"), ("default", "a  b"), ("default", "a\tb"),
         ("default", "☃"), ("default", "Ａ①"), ("Unigram, bytes", "☃"),
         ("like LLaMA", "if x:\n    return  ①"), ("like LLaMA", "a▁b")]  # fmt: skip
for name, text in pairs:
    back = models[name].decode(models[name].encode(text))
    print(f"{name:15} {text!r:24} {back!r:24} {'✓' if back == text else '✗'}")
kept = models["like LLaMA"]
back = sum(kept.decode(kept.encode(text)) == text for text in every[::10] + odd[::10])
plain = [text for text in english if text.isascii() and " ".join(text.split()) == text]
alphabet = {piece.text for piece in default.vocabulary if len(piece.text) == 1}
plain = [text for text in plain if {*text} - {" "} <= alphabet]
survived = sum(default.decode(default.encode(text)) == text for text in plain)
print(f"like LLaMA, every tenth text: {back} of {len(every[::10] + odd[::10])}")
print(f"default, clean English of known characters: {survived} of {len(plain)}")

# %% [markdown]
# ## What training returns
#
# "Input: corpus. Output: the segmented text. Evaluation: accuracy, recall." So the
# notes. Train in a process of its own, and read what it has to say.

# %%
by_itself = """
import io, sys, sentencepiece
sys.stdin.reconfigure(encoding="utf-8")
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=(line.rstrip("\\n") for line in sys.stdin),
    model_writer=io.BytesIO(), vocab_size=3000, num_threads=1)
"""
ran = subprocess.run(
    [sys.executable, "-c", by_itself],
    input="\n".join(mixed).encode(),
    capture_output=True,
    check=True,
)
log = ran.stderr.decode()
print(
    re.search(r"Found too long line .*", log)[0], "→", re.search("Skipped .*", log)[0]
)
rounds = [
    approx(float(obj), 5, 40) for obj in re.findall(r"EM sub.* obj=([\d.]+)", log)
]
print(f"{len(rounds)} EM steps; objective:", *rounds[:3], "…", rounds[-1])

# %%
held_out, seen = english[1100:2100], english[:1100]
for name, lines in [("seen", seen), ("held out", held_out)]:
    ids = [i for line in lines for i in default.encode(line)]
    per_character = len(ids) / sum(map(len, lines))
    unknown = ids.count(default.unknown) / len(ids)
    print(
        f"{name:8} English:",
        approx(per_character, 0.15, 0.6, "pieces a character,"),
        end=" ",
    )
    print(approx(unknown * 1e4, 0, 50, "unknown in 10,000"))

# %% [markdown]
# A line of more than 4,192 bytes is skipped, and the log is the only one to know: our
# corpus has one. The log also speaks of an objective, minus the mean log likelihood of
# a word, and of the number of tokens. Nobody has told the program where a word ends, so
# there is nothing to be accurate about. (For Chinese words we shall bring labels of our
# own.) What one does look at: pieces a character ({term}`fertility 分词膨胀率 <fertility>`)
# and the share of the unknown on text that was *not* in the training, and in the end
# the loss of the model that is trained on the ids.

# %%
copied = [
    line for line in mixed if len(line) > 20 and line.encode() in files["default"]
]
metrics = [m for m in ("accuracy", "recall", "precision", "f1") if m in log.lower()]
settle_all(
    {
        "tokenizers-sp-role": [
            same(survived, len(plain)),
            same(default.decode(default.encode("a  b\t☃")), "a b  \u2047 "),
            same(back, len(every[::10] + odd[::10])),
        ],
        "tokenizers-sp-steps": [
            same(
                sorted({field.number for field in ours.fields(files["default"])}),
                [1, 2, 3],
            ),
            same(copied, []),
            same(metrics, []),
            same("obj=" in log, True),
        ],
    }
)

# %% [markdown]
# ## No rules?
#
# No dictionary and no grammar: that part is true, and of any language it knows next to
# nothing. (The two syllabaries of Japanese count as Chinese characters to the trainer.)
# But the trainer cuts before it counts, and each cut is a rule that somebody chose. BPE
# of 8,000 pieces on our mixed text, with one rule switched at a time, and what the
# pieces then look like:


# %%
def pieces(**options):
    """The normal pieces that BPE learns under some options."""
    options = {"model_type": "bpe", "vocab_size": 8000} | options
    model = SentencePiece.read(train(mixed, **options))
    return [piece.text for piece in model.vocabulary if piece.kind == "normal"]


def mixes(piece):
    letters = any(c.isalpha() for c in piece)
    return letters and any(c in "()[]{}=.,:_" for c in piece)


rules_of_training = {
    "split_by_whitespace": (False, "a ▁ inside", lambda p: SPACE in p[1:]),
    "split_by_unicode_script": (False, "letters and signs", mixes),
    "split_digits": (True, "two digits", lambda p: bool(re.search("[0-9][0-9]", p))),
    "max_sentencepiece_length": (30, "more than 16 characters", lambda p: len(p) > 16),
    "character_coverage": (1.0, "one character", lambda p: len(p) == 1),
}

# %%
by_default, found = pieces(), {}
coverage = dict(ours.TRAINER.values())["character_coverage"]
print("character_coverage by default:", coverage)
for rule, (setting, what, matches) in rules_of_training.items():
    switched = pieces(**{rule: setting})
    found[rule] = sum(map(matches, by_default)), sum(map(matches, switched))
    longest = sorted((p for p in switched if matches(p)), key=len)[-2:]
    print(
        f"{rule:25} {setting!s:5} {what:24} {found[rule][0]:4} → {found[rule][1]:4}",
        *longest,
    )
letters = Counter("".join(mixed))
once = {c for c, n in letters.items() if n == 1 and "一" <= c <= "鿿"}
dropped = len(once - {*by_default})
print(f"{dropped} of {len(once)} Chinese characters that occur once are dropped")

# %% [markdown]
# Read the rows. By default no piece goes on after a blank; none mixes letters with
# signs, because they are different *scripts* to Unicode; none has more than 16
# characters; and characters that together make up the last 0.05 per cent of the text
# are dropped, which here hits rare Chinese characters first. Digits, on the other hand,
# may stick together by default. LLaMA {cite}`touvron2023llama` switched that, as we did
# above. And before all this comes normalisation.

# %%
bare = SentencePiece.read(
    train(
        mixed,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        split_by_number=False,
        character_coverage=1.0,
        vocab_size=3500,
    )
)
came_back = sum(bare.decode(bare.encode(line)) == line for line in mixed)
example = "学习ＡＢＣ１２３（　）"
for name in ("default", "like LLaMA"):
    ids = models[name].encode(example)
    print(f"{name:10} {len(ids):2} ids, back: {models[name].decode(ids)}")

# %%
settle(
    "tokenizers-sp-no-rules",
    same(came_back, len(mixed)),
    same(default.normalise("ＡＢＣ１２３"), SPACE + "ABC123"),
    same(kept.decode(kept.encode(example)), example),
    same(found["split_by_whitespace"][0], 0),
    above(found["split_by_whitespace"][1], 50),
    same(found["split_by_unicode_script"][0], 0),
    above(found["split_by_unicode_script"][1], 50),
    same(found["max_sentencepiece_length"][0], 0),
    above(found["character_coverage"][1] - found["character_coverage"][0], 50),
    note="bare: every rule off; found: such pieces by default, and switched",
)

# %% [markdown]
# ## Where words end
#
# "Recognises the boundaries of words accurately." We can measure it: 500 Chinese
# sentences of our corpus have been cut into words by a written guideline, by the
# language model that wrote them (分词标准答案, the *gold*). Of the boundaries inside a
# sentence that the pieces have, the share that is in the gold is the *precision* (精确率);
# of those in the gold, the share that the pieces have is the *recall* (召回率). Training
# sees the whole Chinese corpus, the 500 sentences included, without the cuts. The
# yardsticks are jieba {cite}`jieba`, with and without its hidden Markov model; a
# dictionary of the words that jieba finds in *this* corpus, with the counts that they
# have here; and a cut between all characters.

# %%
with warnings.catch_warnings():  # an escape in jieba's patterns that Python warns of
    warnings.simplefilter("ignore")
    import jieba
jieba.setLogLevel(logging.WARNING)
gold = datasets.segmented()
print(f"{len(gold)} sentences; the corpus: {sum(map(len, chinese)):,} characters")


# %%


def ends(parts):
    """Where a row of parts is cut, its end apart."""
    return {*accumulate(map(len, parts[:-1]))}


def scored_on_gold(cut):
    """Precision and recall of the boundaries."""
    both = right = wanted = 0
    for words in gold:
        mine, truth = ends(cut("".join(words))), ends(words)
        both, right, wanted = (
            both + len(mine),
            right + len(mine & truth),
            wanted + len(truth),
        )
    return right / both, right / wanted


def without_hmm(text):
    return jieba.lcut(text, HMM=False)


here = Counter(word for line in chinese for word in without_hmm(line))
by_count = partial(best_path, words=Dictionary(here))
yardsticks = {
    "jieba": scored_on_gold(jieba.lcut),
    "jieba's dictionary": scored_on_gold(without_hmm),
    "its words, counted here": scored_on_gold(by_count),
    "characters": scored_on_gold(list),
}

# %%
zh_options = {
    "character_coverage": 1.0,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
}
sizes = [2000, 2250, 2500, 3000, 3500, 4000]
curves, zh_models = {}, {}
for kind in ("unigram", "bpe"):
    for V in sizes:
        data = train(chinese, model_type=kind, vocab_size=V, **zh_options)
        zh_models[kind, V] = SentencePiece.read(data)
    curves[kind] = [scored_on_gold(zh_models[kind, V].pieces) for V in sizes]
for name, (precision, recall) in yardsticks.items():
    print(f"{name:23} precision {precision:.3f}, recall {recall:.3f}")
for kind, curve in curves.items():
    shown = (f"{approx(p, 0.6, 1)}/{approx(r, 0.7, 1)}" for p, r in curve)
    print(f"{kind:7} precision/recall at {sizes[0]} … {sizes[-1]}:", *shown)

# %% mystnb={"figure": {"caption": "Boundaries of words in 500 Chinese sentences. Numbers at four points of Unigram's curve: size of the vocabulary. More pieces cut less: recall is paid for precision.", "name": "fig-sp-boundaries"}, "image": {"alt": "Precision against recall. The curves of Unigram and BPE nearly coincide and run from precision 0.70, recall 0.98 to 0.81 and 0.82. Far above them lie two points, jieba at 0.97 and 0.88 and its dictionary at 0.95 and 0.91. Characters lie at 0.70 and 1."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 3.4))
for (kind, curve), hue, style in zip(
    curves.items(), ["blue", "orange"], ["o-", "s--"], strict=True
):
    precision, recall = np.array(curve).T
    ax.plot(recall, precision, style, color=COLOURS[hue], label=kind, ms=4)
for V, (precision, recall) in zip(sizes, curves["unigram"], strict=True):
    if V in (2000, 2500, 3000, 4000):
        ax.text(
            recall + 0.004, precision + 0.012, f"{V:,}", size=8, color=COLOURS["blue"]
        )
drawn = {n: point for n, point in yardsticks.items() if n != "its words, counted here"}
for (name, (precision, recall)), mark in zip(drawn.items(), "^vD", strict=True):
    ax.plot(recall, precision, mark, color=COLOURS["grey"], ms=7)
    down = -0.027 if name == "characters" else 0.012
    ax.text(recall, precision + down, name, ha="center", size=9)
ax.set(xlabel="recall", ylabel="precision", xlim=(0.8, 1.01), ylim=(0.65, 1))
ax.legend(loc="center right")
plt.show()

# %% [markdown]
# As accurate as a segmenter it is not, at none of these sizes. Look at what it does (by
# BPE, whose cuts nearly have Unigram's numbers):

# %% mystnb={"figure": {"caption": "Four sentences, cut by the guideline (below) and by BPE with 3,000 pieces (above).", "name": "fig-sp-sentences"}, "image": {"alt": "Four rows of Chinese characters. Bars above the characters are boundaries of pieces, bars below those of words. Most agree; some frequent neighbours are glued, and some words that are rare in the corpus fall into characters."}} tags=["hide-input"]
zh = zh_models["bpe", 3000]
examples = [words for words in gold if 16 <= len("".join(words)) <= 20][:4]
figure, axes = plt.subplots(4, 1, figsize=(6.6, 3.4))
for ax, words in zip(axes, examples, strict=True):
    text = "".join(words)
    truth, mine = ends(words), ends(zh.pieces(text))
    ax.set(xlim=(-0.7, 20.2), ylim=(-1.1, 1.1))
    ax.axis("off")
    for t, character in enumerate(text):
        ax.text(t, 0, character, ha="center", va="center", size=12)
    hues = {place: "vermilion" for place in mine} | {place: "blue" for place in truth}
    hues |= {place: "green" for place in truth & mine}
    for place, hue in hues.items():
        for side in [1] * (place in mine) + [-1] * (place in truth):
            ends_at = [side * 0.35, side * 1.0]
            ax.plot([place - 0.5] * 2, ends_at, color=COLOURS[hue], lw=2.4)
labels = [("both", "green"), ("pieces only", "vermilion"), ("words only", "blue")]
for number, (label, hue) in enumerate(labels):
    figure.text(0.12 + 0.25 * number, 1.0, f"▌ {label}", color=COLOURS[hue], size=9)
plt.show()

# %%
glued, split = Counter(), Counter()
for words in gold:
    parts, truth = zh.pieces("".join(words)), ends(words)
    stops = [*accumulate(map(len, parts))]
    for part, stop in zip(parts, stops, strict=True):
        inside = {*range(stop - len(part) + 1, stop)}
        glued[part] += bool(inside & truth)
    starts = [0, *accumulate(map(len, words))]
    for word, start in zip(words, starts, strict=False):
        split[word] += bool({*range(start + 1, start + len(word))} & {*stops})
print("glued:", *(part for part, _ in glued.most_common(14)))
print("cut up:", *(word for word, _ in split.most_common(14)))
counts = (sum(n > 0 for n in table.values()) for table in (glued, split))
print("different pieces glued: {}, different words cut up: {}".format(*counts))


# %%
def f_score(point):
    """The harmonic mean of precision and recall."""
    return 2 * point[0] * point[1] / sum(point)


best = max(map(f_score, curves["unigram"] + curves["bpe"]))
crossing = sum(SPACE in piece.text[1:] for piece in default.vocabulary)
starts = sum(p[0] == SPACE for line in held_out for p in default.pieces(line))
settle(
    "tokenizers-sp-boundaries",
    below(max(precision for precision, _ in curves["unigram"] + curves["bpe"]), 0.95),
    below(best, 0.9),
    above(f_score(yardsticks["jieba's dictionary"]), best + 0.05),
    same(crossing, 0),
    same(starts, sum(len(line.split()) for line in held_out)),
    note="Chinese, F1 at the best size; then English, where every word starts a piece",
)

# %% [markdown]
# What is frequent is glued, word or not; what is rare is cut up, word or not. The
# pieces make the text likely, and nobody told them more. It is not the algorithm:
# jieba's dictionary *is* a Unigram model and its cut is this Viterbi, as the page
# before showed. Nor is it the size of the corpus: with the *words* that jieba finds in
# these same 26,444 characters, and the counts that they have there, that Viterbi is as
# good as jieba. It is *what* was counted. On English, recall is perfect for a dull
# reason: the rule that no piece goes on after a blank.
#
# ## BPE here, BPE there
#
# "tiktoken uses BPE, SentencePiece unsupervised learning." BPE *is* unsupervised, and
# SentencePiece has it. Is it the same? The lower-case words of our English, cut by our
# byte-level BPE of two pages ago and by SentencePiece's BPE, with the same number of
# merges; and SentencePiece's own Unigram of the same size.

# %%
words = re.findall("[a-z]+", datasets.english().lower())
lines = [" ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
distinct = sorted({*words})
plain_options = {"character_coverage": 1.0, "normalization_rule_name": "identity"}


def by_sentencepiece(kind, merges):
    """Each word's pieces, and the model; <unk>, <s>, </s>, ▁ and the letters are 30."""
    data = train(lines, model_type=kind, vocab_size=30 + merges, **plain_options)
    model = SentencePiece.read(data)
    return {word: model.pieces(word) for word in distinct}, model


agree, unequal = {}, {}
for merges in (1000, 2000, 4000):
    byte_level = bpe.BPE.train([f" {line}" for line in lines], 256 + merges)
    cuts, by_merges = by_sentencepiece("bpe", merges)
    for word in distinct:
        ids = byte_level.encode_ordinary(f" {word}")
        mine = [byte_level.decode([i]).replace(" ", SPACE) for i in ids]
        unequal.setdefault(merges, []).extend([word] * (mine != cuts[word]))
    em = by_sentencepiece("unigram", merges)[0]
    shares = len(unequal[merges]), sum(cuts[word] != em[word] for word in distinct)
    agree[merges] = [1 - share / len(distinct) for share in shares]
    print(f"{merges} merges: the two BPEs agree on {agree[merges][0]:.1%}, ", end="")
    print("BPE and Unigram on", approx(100 * agree[merges][1], 20, 95, "%"))

# %% [markdown]
# Up to a thousand merges every word is cut alike. What are the rest?

# %%
print(f"{len(unequal[2000])} of {len(distinct)} at 2,000:", *unequal[2000][:8])
made = [bpe.glyphs(token).replace("Ġ", SPACE) for token in byte_level.ranks][256:]
theirs_made = [piece.text for piece in by_merges.vocabulary if len(piece.text) > 1]
theirs_made = [piece for piece in theirs_made if piece[0] != "<"]
first = next(
    i for i, (a, b) in enumerate(zip(made, theirs_made, strict=False)) if a != b
)
print(f"merge {first}: {made[first]} here, {theirs_made[first]} there, then", end=" ")
print(f"{made[first + 1]} here, {theirs_made[first + 1]} there")
only = [piece for piece in made if piece not in set(theirs_made)]
print(f"{len(only)} of {len(made)} pieces are ours alone; longer than 16:", end=" ")
print(*(piece for piece in only if len(piece) > 16))
assert {made[first], made[first + 1]} == {theirs_made[first], theirs_made[first + 1]}

# %% [markdown]
# Ties, it seems, and a few words that are longer than SentencePiece allows. Where two
# pairs are equally frequent, SentencePiece takes the shorter piece, and of equally long
# ones the first in the alphabet. The textbook's BPE of two pages ago takes any rule for
# its ties. With this one, on the first 30,000 words (a test does it on all of them,
# with SentencePiece's limit of 16 characters: 4,000 merges):

# %%
tokens = [*bpe.BYTES]


def as_sentencepiece(counts):
    """The most frequent pair; of several the shortest; of these the first."""
    top = max(counts.values())
    best = {}
    for pair in (pair for pair, n in counts.items() if n == top):
        token = b"".join(tokens[i] for i in pair)
        piece = token.decode().replace(" ", SPACE)
        best[len(piece), piece] = pair, token
    pair, token = best[min(best)]
    tokens.append(token)
    return pair


some = words[:30_000]
table = {f" {word}".encode(): n for word, n in Counter(some).items()}
bpe.train_words(table, 250, as_sentencepiece)
by_textbook = [token.decode().replace(" ", SPACE) for token in tokens[256:]]
options = plain_options | {"model_type": "bpe", "vocab_size": 280}
data = train(some, **options)
by_library = [p.text for p in SentencePiece.read(data).vocabulary if len(p.text) > 1][
    3:
]
print(
    f"{len(by_library)} merges, the same in the same order: {by_textbook == by_library}"
)

# %%
settle(
    "tokenizers-tt-algorithm-contrast",
    same(models["BPE"].algorithm, "bpe"),
    same(by_textbook, by_library),
    same(agree[1000][0], 1.0),
    above(agree[4000][0], 0.95),
    below(agree[4000][1], agree[4000][0] - 0.1),
    note="agree: words cut alike by the two BPEs, and by one library's BPE and Unigram",
)

# %% [markdown]
# One algorithm, two rules for ties, and one limit of length. And the choice *inside*
# SentencePiece, BPE or Unigram, makes more difference than the choice between the two
# programs. The real differences are elsewhere: bytes behind a pattern there, characters
# behind ▁ here; no trainer there but a small one for teaching, a trainer here.
#
# ## Who reads through it
#
# "BERT, GPT-3, and M6 of Alibaba." We ask the libraries. MiniLM's tokenizer is BERT's;
# tiktoken names GPT-3's vocabulary, *davinci* being GPT-3; and `transformers` has a
# class for each model, which says what file it expects and what it does with it. The
# hardest test is to hand our files to these classes.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a widget that no page shows
    from transformers.models.albert.tokenization_albert import AlbertTokenizer
    from transformers.models.bert.tokenization_bert import BertTokenizer
    from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer
    from transformers.models.llama.tokenization_llama import LlamaTokenizer
    from transformers.models.t5.tokenization_t5 import T5Tokenizer
    from transformers.models.xlnet.tokenization_xlnet import XLNetTokenizer

classes = [
    BertTokenizer,
    GPT2Tokenizer,
    T5Tokenizer,
    AlbertTokenizer,
    XLNetTokenizer,
    LlamaTokenizer,
]
for kind in classes:
    names = [n for key, n in kind.vocab_files_names.items() if key != "tokenizer_file"]
    print(f"{kind.__name__:16} {kind.model.__name__:10}", *names)
print("GPT-3 in tiktoken:", tiktoken.encoding_name_for_model("davinci"), end="; ")
print("GPT-2:", tiktoken.encoding_name_for_model("gpt2"))
minilm = json.loads((pretrained.minilm_folder() / "tokenizer.json").read_text("utf-8"))
print("MiniLM's own file:", minilm["model"]["type"])


# %%
def handed_to(kind, name, data, **options):
    """The tokenizer that a class of transformers makes of a SentencePiece file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        return kind.from_pretrained(folder, **options)


t5_file = train(mixed, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
as_t5 = handed_to(T5Tokenizer, "spiece.model", t5_file)
as_llama = handed_to(LlamaTokenizer, "tokenizer.model", files["like LLaMA"])
sample = [line for line in mixed[::6] if line.strip() and "<" not in line]
agreeing = Counter()
for kind, data in [(as_t5, t5_file), (as_llama, files["like LLaMA"])]:
    own = SentencePiece.read(data)
    for line in sample:
        equal = kind(line, add_special_tokens=False)["input_ids"] == own.encode(line)
        agreeing[type(kind).__name__, line[0] == " "] += equal
indented = sum(line[0] == " " for line in sample)
for (name, inside), n in agreeing.items():
    which = f"{indented} indented" if inside else f"{len(sample) - indented} other"
    print(f"{name:14} the same ids on {n} of {which} lines")
assert indented and not agreeing["LlamaTokenizer", True]

# %% [markdown]
# BERT: WordPiece, from a list of words. GPT-2 and GPT-3: byte-level BPE, from a list
# and its merges; the paper of GPT-3 says that it kept GPT-2's {cite}`brown2020gpt3`. T5
# {cite}`raffel2020t5`, ALBERT {cite}`lan2020albert`, XLNet {cite}`yang2019xlnet`:
# Unigram from a SentencePiece file. LLaMA {cite}`touvron2023llama`: BPE from such a
# file. (ALBERT is "a lite BERT", and its tokenizer is not BERT's: perhaps this is how
# the list came about.) LLaMA 3 has left, for tiktoken {cite}`grattafiori2024llama3`.
# What M6 {cite}`lin2021m6` used we could not find out.
#
# The last lines of the output are a find. On texts that begin with a blank, LLaMA's
# class in `transformers` 5 gives other ids than the file does: it leaves out the dummy
# prefix where the text has a blank of its own, SentencePiece puts it in all the same.
# Who feeds code line by line meets it in every indented line; in a whole file it is at
# most the first.

# %%
users = {kind.__name__: kind.vocab_files_names["vocab_file"] for kind in classes}
settle(
    "tokenizers-sp-users",
    same(
        (BertTokenizer.model.__name__, minilm["model"]["type"]),
        ("WordPiece", "WordPiece"),
    ),
    same((users["BertTokenizer"], users["GPT2Tokenizer"]), ("vocab.txt", "vocab.json")),
    same(tiktoken.encoding_name_for_model("davinci"), "r50k_base"),
    same(
        {users[f"{name}Tokenizer"] for name in ("T5", "Albert", "XLNet")},
        {"spiece.model"},
    ),
    above(agreeing["T5Tokenizer", False], 0.99 * (len(sample) - indented)),
    same(agreeing["LlamaTokenizer", False], len(sample) - indented),
    note="agreeing: lines with our ids when the class is given the SentencePiece file",
)

# %% [markdown]
# ## Where people go wrong
#
# **Encoding in parts.** Each call puts a ▁ in front. So a prompt and its continuation,
# encoded apart, are not the encoding of the two. And `decode` takes the first ▁ away,
# from every call: who decodes ids one by one, to show text as it is generated, shows it
# without blanks.

# %%
kept = models["like LLaMA"]
parts = kept.pieces("the shortest ") + kept.pieces("path")
print(" ".join(parts), " ≠ ", " ".join(kept.pieces("the shortest path")))
one_by_one = [kept.decode([i]) for i in kept.encode("the shortest path")]
print("".join(one_by_one))
assert "".join(one_by_one) == "theshortestpath"

# %% [markdown]
# **A blank after a special token.** A chat is put together from special tokens and
# text. If a tokenizer cuts at the special tokens and hands each stretch between to
# SentencePiece, then each stretch gets a dummy prefix, and the word after `</s>` is
# another piece than it should be. Until 2023 that was the behaviour of `transformers`
# for T5 and LLaMA. It is still there in LLaMA's class, by the name of `legacy`, and off
# by default, so that models that were trained with it go on working
# {cite}`transformers24565`. Both are right; what counts is which your model has seen.

# %%
for legacy in (True, False):
    chat = handed_to(
        LlamaTokenizer, "tokenizer.model", files["like LLaMA"], legacy=legacy
    )
    print(f"legacy={legacy!s:5}", *chat.tokenize("<s>graph</s>graph"))

# %% [markdown]
# **Code through a tokenizer for prose.** With the default rules a line break is a blank
# and an indentation is one blank: Python does not survive it. T5's vocabulary, trained
# on pages from which those with braces had been removed, has no `{` either, and was
# made before there was byte fallback. Both were reported as bugs; the first is a
# setting, the second the training text {cite}`t5issue390`.

# %%
snippet = "for x in y:\n    if x:\n        return {x}"
for name in ("default", "like LLaMA"):
    print(f"{name:10}", repr(models[name].decode(models[name].encode(snippet))))

# %% [markdown]
# **Ids that are off by one.** A model's ids need not be those of its file. XLM-R was
# trained in fairseq, which puts special tokens of its own in front: the file's id 35377
# for ▁Hello is the model's 35378 {cite}`fairseq2094`. Who loads the file and skips the
# class reads, for every token, the neighbour's row; nothing complains.
#
# ## Exercises
#
# **1. Warm-up.** Write `to_varint(number)`: the bytes of a whole number, at least 0.

# %%
to_varint = ...  # def to_varint(number): …
check.to_varint(to_varint)


# %% tags=["hide-cell"]
def to_varint(number):
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


check.to_varint(to_varint)

# %% [markdown]
# **2. A token of your own.** A chat model needs `<|user|>` as one token, and the ids of
# all other pieces must stay. Write `with_symbol(data, text)`: the bytes of a model that
# has one more piece, user-defined (kind 4), which the library loads. No part of the old
# file has to change.

# %%
with_symbol = ...  # def with_symbol(data, text): …
check.with_symbol(with_symbol)


# %% tags=["hide-cell"]
def field(number, content):
    return to_varint(number << 3 | 2) + to_varint(len(content)) + content


def with_symbol(data, text):
    return data + field(1, field(1, text.encode()) + to_varint(3 << 3) + to_varint(4))


check.with_symbol(with_symbol)
new = SentencePiece.read(with_symbol(files["default"], "<|user|>"))
print(*new.pieces("<|user|> the shortest path"))

# %% [markdown]
# **3. As it comes.** Write a generator `stream(model, ids)` that yields the text of ids
# one by one, blanks in their places and no half characters while the rest may still
# come, so that all of it together is `model.decode(ids)`.

# %%
stream = ...  # def stream(model, ids): …
check.stream(stream)


# %% tags=["hide-cell"]
def stream(model, ids):
    shown = ""
    for end in range(1, len(ids) + 1):
        text = model.decode(ids[:end])
        if end == len(ids) or not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text


check.stream(stream)

# %% [markdown]
# **4. For an evening: your own training in Google's library.** On
# [the page before](03_wordpiece_and_unigram) `unigram.train` made a dictionary of
# pieces and scores. Write `as_model(scores)`: the bytes of a model with `<unk>` at 0
# and these pieces, which the library loads, and with which it cuts as our `segment`
# does. (To go on: compare its pieces with those that the library's own trainer finds on
# the same text.)

# %%
as_model = ...  # def as_model(scores): …
check.as_model(as_model)


# %% tags=["hide-cell"]
def as_model(scores):
    entries = [field(1, b"<unk>") + to_varint(3 << 3) + to_varint(2)]
    for piece, score in scores.items():
        as_float = bytes([2 << 3 | 5]) + struct.pack("<f", score)
        entries.append(field(1, piece.encode()) + as_float)
    return b"".join(field(1, entry) for entry in entries)


check.as_model(as_model)

# %% [markdown]
# ## In short
#
# SentencePiece takes a raw text, makes of the blank a character like others, and keeps
# all that it needs in a file: pieces with scores, and a table of Unicode, in our small
# files larger than the pieces. The ids of our reader are the library's, on everything
# we could think of. It cuts by BPE or, by default, by Unigram. It knows of no masks, no
# metrics and no words: where its pieces end where words end, that is because words
# repeat. Rules it has plenty, in normalisation and before the counting, and each can be
# switched off. What you train with, you have to serve with.
#
# How fast all of this can be, and why the notes' account of it went wrong:
# [tiktoken and speed](05_tiktoken_and_speed).
