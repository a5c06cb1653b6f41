"""BPE against brute force, against tokenizers and against tiktoken: identity."""

import json
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from utils.lab import datasets, strings
from utils.tokenizers import bpe
from utils.tokenizers.patterns import GPT2, GPT4, split

BYTES_ONLY = bpe.ranks_of([])
SMALL = st.dictionaries(st.text("ab\u00e9", min_size=1, max_size=7), st.integers(1, 5))


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [datasets.english()[:300_000], datasets.code()[:200_000]] + [
        sentence.zh for sentence in datasets.sentences()
    ]


@pytest.fixture(scope="module", params=[GPT2, GPT4], ids=["GPT-2", "GPT-4"])
def trained(request, corpus) -> bpe.BPE:
    return bpe.BPE.train(corpus, 2000, request.param)


def test_bytes_stand_in_the_order_of_gpt2():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert [bpe.glyphs(token) for token in bpe.BYTES] == alphabet
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ["é", " ", "\n", "你", "\u00ad"]:
        ((shown, _),) = level.pre_tokenize_str(text)
        assert bpe.glyphs(text.encode()) == shown


def test_five_words_by_hand():
    words = {b"sun": 3, b"sunny": 2, b"fun": 4, b"run": 1, b"runny": 2}
    merges = bpe.train(words, 256 + 4)
    tokens = [*bpe.ranks_of(merges)][256:]
    # un stands 12 times, s+un 5, f+un 4; then n+y and un+n both 4: n is the lower id
    assert tokens == [b"un", b"sun", b"fun", b"ny"]


@given(SMALL)
def test_counts_kept_up_to_date_are_the_counts(words):
    words = {word.encode(): count for word, count in words.items()}
    merges = bpe.train(words, 256 + 12)
    assert merges == bpe.train_words(words, len(merges))
    if len(merges) < 12:
        texts = [bpe.encode_piece(w, bpe.ranks_of(merges)) for w in words]
        assert all(len(ids) == 1 for ids in texts)


@given(st.text("aab", min_size=2, max_size=40))
def test_one_word_is_the_flat_loop(text):
    merges = bpe.train({text.encode(): 1}, 256 + 8)
    assert merges == bpe.train_flat(bpe.byte_ids(text.encode()), len(merges))


@given(st.text("ab", min_size=1, max_size=60), SMALL)
def test_list_and_heap_encode_alike(text, words):
    words = {word.encode(): count for word, count in words.items()}
    ranks = bpe.ranks_of(bpe.train(words, 256 + 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "LONG", 1000)
        with_list = bpe.encode_piece(text.encode(), ranks)
    assert bpe._encode_long(text.encode(), ranks) == with_list


@given(SMALL, st.text("ab\u00e9", min_size=1, max_size=30))
def test_encoding_is_the_merges_one_after_the_other(words, text):
    words = {word.encode(): count for word, count in words.items()}
    merges, ids = bpe.train(words, 256 + 12), bpe.byte_ids(text.encode())
    for new, pair in enumerate(merges, 256):
        ids = bpe.merge(ids, pair, new)
    assert ids == bpe.encode_piece(text.encode(), bpe.ranks_of(merges))


def test_the_same_merges_as_tokenizers(trained, corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(trained.pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(trained.ranks, key=trained.ranks.get)
    pairs = [trained.pair(token) for token in tokens[256:]]
    assert model["merges"] == [[bpe.glyphs(a), bpe.glyphs(b)] for a, b in pairs]
    assert model["vocab"] == {bpe.glyphs(t): r for t, r in trained.ranks.items()}


def test_the_same_ids_as_tokenizers_and_tiktoken(trained, corpus):
    other, rust = trained.to_tokenizers(), trained.to_tiktoken()
    for text in corpus + strings.mixed(20_000):
        ids = trained.encode_ordinary(text)
        assert ids == rust.encode_ordinary(text), text[:80]
        assert ids == other.encode(text).ids, text[:80]
        assert trained.decode(ids) == text


@given(st.binary(max_size=40), st.sampled_from([b"\xe4\xbd\xa0", b"the ", b"\xff"]))
def test_invalid_utf8_like_tiktoken(noise, known):
    ranks = bpe.ranks_of(bpe.train({known * 3: 5, b"other": 1}, 264))
    model = bpe.BPE(ranks)
    piece = noise + known + noise
    if ids := bpe.encode_piece(piece, ranks) if piece not in ranks else [ranks[piece]]:
        assert ids == model.to_tiktoken()._encode_single_piece(piece)
    assert model.decode_bytes(ids) == piece


def test_half_a_surrogate_pair_is_replaced_as_in_tiktoken():
    model = bpe.BPE(BYTES_ONLY)
    for text in ["a\ud800b", "\udc00", "\ud83d\ude00!"]:
        ids = model.encode_ordinary(text)
        assert ids == model.to_tiktoken().encode_ordinary(text)
    assert model.decode(model.encode_ordinary("a\ud800b")) == "a\ufffdb"


def test_the_engines_know_the_same_characters_as_far_as_python_knows_them():
    """\\s, \\p{L}, \\p{N} of regex, tiktoken and tokenizers, over all of Unicode.

    regex has the newest tables; what differs must be unassigned in Python's.
    """
    everything = "".join(chr(p) for p in range(0x110000) if not 0xD800 <= p <= 0xDFFF)
    for pattern in (r"\s", r"\p{L}", r"\p{N}"):
        ours = set(split(everything, pattern))
        rust = tiktoken.Encoding(
            "one", pat_str=pattern, mergeable_ranks=BYTES_ONLY, special_tokens={}
        )
        theirs = set(rust.decode(rust.encode_ordinary(everything)))
        cut = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
        hugging = {c for part, _ in cut.pre_tokenize_str(everything) for c in part}
        assert len(ours) > 20
        for other in (theirs, hugging):
            different = ours ^ other
            assert {unicodedata.category(c) for c in different} <= {"Cn"}, pattern


def test_patterns_cut_as_tiktokens_own():
    from tiktoken_ext import openai_public

    source = open(openai_public.__file__, encoding="utf-8").read()
    (gpt4,) = [p for p in source.split('r"""') if p.startswith("'(?i:")]
    theirs = {GPT2: openai_public.r50k_pat_str, GPT4: gpt4.partition('"""')[0]}
    for ours, shipped in theirs.items():
        rust = tiktoken.Encoding(
            "cuts", pat_str=shipped, mergeable_ranks=BYTES_ONLY, special_tokens={}
        )
        for text in strings.mixed(2000, seed=1) + [
            "a  \n \n  ",
            "x\r\n\r\n y",
            "12345",
        ]:
            pieces = rust._core_bpe.encode_ordinary(text)
            assert rust.decode(pieces) == text
            cuts = split(text, ours)
            assert "".join(cuts) == text
            assert cuts == split(text, shipped.replace("$", r"\Z")), text


def test_encoding_a_long_piece_costs_n_log_n(monkeypatch):
    """Counted, not timed: at most three candidates are offered a byte."""
    model = bpe.BPE(bpe.ranks_of(bpe.train({b"a" * 64: 1}, 262)))
    pushes = Counter()

    def counted(heap, item, push=bpe.heappush):
        pushes["all"] += 1
        push(heap, item)

    monkeypatch.setattr(bpe, "heappush", counted)
    text = "a" * 200_000
    ids = model.encode_ordinary(text)
    assert model.decode(ids) == text and len(ids) == 200_000 // 64
    assert pushes["all"] < 3 * len(text)


def test_memory_of_pieces_stays_bounded(monkeypatch):
    monkeypatch.setattr(bpe, "KEPT", 10)
    model = bpe.BPE(BYTES_ONLY)
    for number in range(35):
        assert model.decode(model.encode_ordinary(f"x{number}")) == f"x{number}"
        assert len(model._memory) <= 10


def test_special_tokens_must_be_allowed():
    model = bpe.BPE(BYTES_ONLY, special={"<|end|>": 300, "<|end|>!": 258})
    text = "a<|end|>!b"
    for wrong in (model, model.to_tiktoken()):
        with pytest.raises(ValueError, match="(?i)special token"):
            wrong.encode(text)
    allowed = {"<|end|>", "<|end|>!"}
    ids = model.encode(text, allowed_special=allowed)
    assert ids == [model.ranks[b"a"], 258, model.ranks[b"b"]]
    assert model.decode(ids) == text
    assert 300 not in model.encode_ordinary(text)
    plain = text.replace("!", "")
    assert model.encode(plain, allowed) == model.to_tiktoken().encode(
        plain, allowed_special=allowed
    )
    assert model.encode(plain, allowed) == model.to_tokenizers().encode(plain).ids


def test_a_stream_shows_whole_characters():
    model = bpe.BPE(BYTES_ONLY)
    ids = model.encode_ordinary("你好🙂a")
    assert [*model.stream(ids)] == ["你", "好", "🙂", "a"]
    assert [*model.stream(ids[:4])] == ["你", "�"]


def test_every_token_is_made_in_one_way(trained):
    """`pair` finds two earlier tokens for each, from the ranks alone."""
    tokens = sorted(trained.ranks, key=trained.ranks.get)
    for token in tokens[256:]:
        left, right = trained.pair(token)
        assert left + right == token
        assert max(trained.ranks[left], trained.ranks[right]) < trained.ranks[token]


def test_files_go_both_ways(trained, tmp_path):
    from tiktoken.load import load_tiktoken_bpe

    trained.save(tmp_path / "ours.tiktoken")
    assert load_tiktoken_bpe(str(tmp_path / "ours.tiktoken")) == trained.ranks
    again = bpe.BPE.load(tmp_path / "ours.tiktoken", trained.pattern)
    assert again.ranks == trained.ranks


@pytest.mark.parametrize("line", ["IQ== 0 0", "IQ==", "!!!! 3", "IQ== x"])
def test_a_bad_line_is_named(line, tmp_path):
    (tmp_path / "bad.tiktoken").write_text(f"IQ== 0\n{line}\n")
    with pytest.raises(ValueError, match=r"bad.tiktoken, line 2: "):
        bpe.BPE.load(tmp_path / "bad.tiktoken")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bpe.train({b"ab": 1}, 255), "vocab_size 255"),
        (lambda: bpe.BPE({b"a": 0}), "255 of 256 bytes have no rank"),
        (lambda: bpe.BPE(BYTES_ONLY, special={"<e>": 7}), "id 7 stands for two"),
        (lambda: bpe.BPE(BYTES_ONLY, pattern="("), "pattern '\\('"),
        (lambda: bpe.BPE(BYTES_ONLY).pair(b"a"), "not made of two"),
        (lambda: bpe.BPE(BYTES_ONLY).decode([300]), "no token has id 300"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, KeyError), match=message):
        call()


def test_counts_of_pairs_are_those_of_the_texts():
    words = bpe.count_words(["a a ab", "ab ab"], GPT2)
    assert words == {b"a": 1, b" a": 1, b" ab": 2, b"ab": 1}
    assert bpe.best_pair(Counter(pairwise(b"abab"))) == (97, 98)
