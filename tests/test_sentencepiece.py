"""SentencePiece against protobuf, brute force, and, id by id, the library."""

import random
import re
from collections import Counter, defaultdict
from heapq import heappop, heappush
from itertools import pairwise

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as pb

from utils.lab import datasets, strings
from utils.tokenizers import bpe
from utils.tokenizers import sentencepiece as ours
from utils.tokenizers.sentencepiece import SPACE, SentencePiece

SYMBOLS = ["<sep>", "for", "学习", "\u0301", "x "]  # a mark, and a blank inside
MODELS = {
    "unigram": {},
    "bpe": {"model_type": "bpe"},
    "bpe-bytes": {"model_type": "bpe", "byte_fallback": True},
    "unigram-bytes": {"byte_fallback": True},
    "bpe-symbols": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "split_digits": True,
        "user_defined_symbols": SYMBOLS,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
    },
    "unigram-suffix": {
        "normalization_rule_name": "nfkc_cf",
        "user_defined_symbols": SYMBOLS,
        "treat_whitespace_as_suffix": True,
    },
    "bpe-across": {
        "model_type": "bpe",
        "normalization_rule_name": "nmt_nfkc_cf",
        "split_by_whitespace": False,
        "add_dummy_prefix": False,
    },
    "unigram-across": {
        "split_by_whitespace": False,
        "remove_extra_whitespaces": False,
        "unk_surface": "?",
        "control_symbols": ["<a>"],
    },
}
EDGES = ["", " ", "  ", "\u200b", " \u200b", "\u2581", "a\u2581\u2581 b ", "<sep>for"]
EDGES += ["x  y x ", "x \u0301", "<s> <unk> <0x41>", "\0", "a\u0301\u0301", "\u3000\n"]
EDGES += [
    "for\u0301for",
    "ᄀ\u1161\u11a8",
    "ｶ\uff9e",
    "12345 x1",
    "\U0010ffff",
    "a\0\u0301",
]


def corpus():
    english, code = datasets.english()[:200_000], datasets.code()[:50_000]
    return [*english.split("\n"), *code.split("\n"), *datasets.chinese().split("\n")]


def trained(**options) -> bytes:
    options = {"vocab_size": 2300, "character_coverage": 0.999} | options
    return ours.train_by_library(corpus(), **options)


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    data = trained(**MODELS[request.param])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    return SentencePiece.read(data), theirs, data


@pytest.fixture(scope="module")
def small() -> bytes:
    return trained(vocab_size=900, character_coverage=0.98, model_type="bpe")


def test_its_bpe_is_the_textbooks_with_a_rule_for_ties():
    """Of equally frequent pairs the shortest piece, then the first; 16 characters."""
    english = re.findall("[a-z]+", datasets.english().lower())
    words, counts, where = Counter(english), Counter(), defaultdict(set)
    texts = {word: [SPACE, *word] for word in words}

    def count(word, sign):
        for pair in pairwise(texts[word]):
            counts[pair] += sign * words[word]
            where[pair].add(word)
            yield pair

    def entry(pair):
        piece = "".join(pair)
        return -counts[pair], len(piece), piece, pair

    pairs = {pair for word in words for pair in count(word, 1)}
    heap, made = sorted(map(entry, pairs)), []
    lines = (" ".join(english[i : i + 12]) for i in range(0, len(english), 12))
    options = {"character_coverage": 1.0, "normalization_rule_name": "identity"}
    data = ours.train_by_library(lines, model_type="bpe", vocab_size=4030, **options)
    theirs = [piece.text for piece in SentencePiece.read(data).vocabulary[3:4003]]
    while len(made) < len(theirs):
        _, size, piece, pair = popped = heappop(heap)
        if popped != entry(pair):  # out of date: back with what it is now
            heappush(heap, entry(pair))
        elif size <= 16:
            made.append(piece)
            touched = set()
            for word in where.pop(pair):
                touched.update(count(word, -1))
                texts[word] = bpe.merge(texts[word], pair, piece)
                touched.update(count(word, 1))
            for other in touched:
                heappush(heap, entry(other))
    assert made == theirs


# The file.


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varint(number, rest):
    """Against the definition: groups of seven bits, from the lowest."""
    groups = [
        number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)
    ]
    data = bytes([group | 128 for group in groups[:-1]] + groups[-1:])
    assert ours.varint(data + rest, 0) == (number, len(data))


kinds = st.sampled_from([1, 2, 3, 4, 5, 6])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
piece_lists = st.lists(
    st.tuples(texts, st.floats(width=32, allow_nan=False), kinds), max_size=6
)


@given(piece_lists, st.booleans(), st.integers(0, 2**31 - 1), texts, st.binary())
def test_messages_are_those_of_protobuf(pieces, flag, size, name, table):
    model = pb.ModelProto()
    for text, score, kind in pieces:
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.byte_fallback = flag
    model.trainer_spec.vocab_size = size
    model.trainer_spec.input.extend([name, "b"])
    model.normalizer_spec.name = name
    model.normalizer_spec.precompiled_charsmap = table
    data = model.SerializeToString()
    found = list(ours.fields(data))
    assert [f.start for f in found[1:]] == [f.end for f in found[:-1]]
    places = [(f.begin, f.end) for f in found if f.number == 1]
    read = [ours.message(data, *place, ours.PIECE) for place in places]
    assert [(p["piece"], p["score"], p["type"]) for p in read] == pieces
    ((spec,),) = [[f for f in found if f.number == 2]]
    settings_read = ours.message(data, spec.begin, spec.end, ours.TRAINER)
    for key, value in settings_read.items():
        assert value == pytest.approx(getattr(model.trainer_spec, key)), key
    ((spec,),) = [[f for f in found if f.number == 3]]
    rules_read = ours.message(data, spec.begin, spec.end, ours.NORMALISER)
    for key, value in rules_read.items():
        assert value == getattr(model.normalizer_spec, key), key


def test_vocabulary_and_settings_are_the_library_s(pair):
    model, theirs, data = pair
    assert len(model.vocabulary) == theirs.get_piece_size()
    for i, (text, score, kind) in enumerate(model.vocabulary):
        assert text == theirs.id_to_piece(i) and score == theirs.get_score(i)
        assert (kind == "byte") == theirs.is_byte(i)
        assert (kind == "control") == theirs.is_control(i)
        assert (kind == "unknown") == theirs.is_unknown(i)
        assert (kind == "unused") == theirs.is_unused(i)
    proto = pb.ModelProto.FromString(data)
    for key, value in model.trainer.items():
        assert value == pytest.approx(getattr(proto.trainer_spec, key)), key
    for key, value in model.normaliser.items():
        assert value == getattr(proto.normalizer_spec, key), key


def test_every_cut_off_file_is_refused_or_shorter(small, tmp_path):
    rng = random.Random(0)
    whole = len(SentencePiece.read(small).vocabulary)
    for end in [*range(400), *(rng.randrange(len(small)) for _ in range(200))]:
        try:
            model = SentencePiece.read(small[:end])
        except ValueError as error:
            message = str(error)
            assert re.match(
                r"byte \d+: |no model|0 pieces for|a Unigram model", message
            )
        else:  # cut between two pieces, which a message cannot tell
            assert len(model.vocabulary) < whole or end > 0.99 * len(small)
    path = tmp_path / "cut.model"
    path.write_bytes(small[:1003])
    with pytest.raises(ValueError, match=r"byte \d+: field 1 ends at"):
        SentencePiece.read(path)


def test_a_broken_byte_is_refused_or_harmless(small):
    rng = random.Random(1)
    for _ in range(400):
        data = bytearray(small)
        data[rng.randrange(20_000 if rng.random() < 0.7 else len(data))] = (
            rng.randrange(256)
        )
        try:
            model = SentencePiece.read(bytes(data))
            for text in ("Hello ﬁ ①\u0301 学习", "가각 Ａ"):
                assert isinstance(model.decode(model.encode(text)), str)
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no model: not one piece"),
        (b"\x0a", "byte 1: the file ends within a number"),
        (b"\x0a\x05abc", "byte 0: field 1 ends at 7, after 5"),
        (b"\x0b", "byte 0: no field has wire type 3"),
        (b"\x0a" + b"\xff" * 11, "byte 1: a number of more than ten bytes"),
        (b"\x08\x01", "byte 0: field 1 is no message"),
        (b"\x0a\x03\x0a\x01\xff", "byte 4: piece is not UTF-8"),
        (b"\x0a\x02\x10\x01", "byte 2: score is no float"),
        (b"\x0a\x03\x0a\x05abcdefgh", "byte 2: field 1 ends at 9, after 5"),
        (b"\x0a\x02\x18\x09", "byte 0: a piece of type 9"),
        (b"\x0a\x03\x0a\x01a", "0 pieces for the unknown"),
        (
            b"\x0a\x05\x0a\x01u\x18\x02\x0a\x05\x0a\x01u\x18\x01",
            "'u' is empty or stands",
        ),
        (b"\x0a\x05\x0a\x01u\x18\x02\x12\x02\x18\x03", "model_type 3 is not read"),
        (b"\x0a\x05\x0a\x01u\x18\x02\x12\x03\x98\x02\x01", "0 byte pieces"),
        (b"\x0a\x05\x0a\x01u\x18\x02\x1a\x05\x12\x03\x07\0\0", "rules of 3 bytes"),
    ],
)
def test_a_bad_file_is_named(data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SentencePiece.read(data)


# Normalisation.


@pytest.mark.parametrize(
    "rule", ["nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity"]
)
def test_every_code_point_is_normalised_as_the_library_does(rule, small):
    theirs = sentencepiece.SentencePieceNormalizer(rule_name=rule)
    spec = pb.NormalizerSpec.FromString(theirs.serialized_normalizer_spec())
    names = ours.NORMALISER.values()
    mine = ours.Normaliser({name: getattr(spec, name) for name, _ in names})
    step = 1 if rule == "nmt_nfkc" else 7
    points = [p for p in range(0, 0x110000, step) if not 0xD800 <= p < 0xE000]
    different = [p for p in points if mine(chr(p)) != theirs.normalize(chr(p))]
    assert not different


def test_sequences_are_normalised_as_the_library_does(pair):
    model, theirs, _ = pair
    rng = random.Random(2)
    marks = [*"\u0301\u0308\u3099\uff9e\u11a8\u1161 \u200d\u3000"]
    letters = [*"aAeかｶ가ᄀᆯi\u0345ω각x", "x ", "fo", "学习"]
    lengths = (rng.randint(1, 9) for _ in range(10_000))
    made = ["".join(rng.choices(letters + marks, k=length)) for length in lengths]
    for text in [*EDGES, *made]:
        assert model.normalise(text) == theirs.normalize(text), text


def test_half_of_a_pair_is_named(small):
    with pytest.raises(ValueError, match=r"character 2: '\\ud800' is half"):
        SentencePiece.read(small).encode("ab\ud800")


# Ids.


def test_ids_pieces_and_text_are_the_library_s(pair, request):
    """The odd strings, whole texts, and lines of everything the course has."""
    model, theirs, _ = pair
    odd = strings.mixed(20_000)
    if re.search("suffix|across", request.node.name):
        odd = odd[::10]
    whole = [datasets.english()[:50_000], datasets.code()[:50_000], datasets.chinese()]
    lines = "\n".join([datasets.english(), datasets.code(), datasets.chinese()])
    for text in [*EDGES, *odd, *whole, *lines.split("\n")[::29]]:
        ids = theirs.encode(text)
        assert model.encode(text) == ids, text[:200]
        assert model.decode(ids) == theirs.decode(ids), text[:200]
    for text in [*EDGES, *odd[:500]]:
        assert model.pieces(text) == theirs.encode(text, out_type=str), text


def test_any_ids_are_decoded_as_the_library_does(pair):
    model, theirs, _ = pair
    rng, most = random.Random(3), len(model.vocabulary)
    entries = [*enumerate(model.vocabulary)]
    blanks = [i for i, p in entries if not p.text.strip("\u2581")]
    others = [i for i, p in entries if p.kind not in ("normal", "byte")]
    raw = [i for i, p in entries if p.kind == "byte"] or others
    for _ in range(4000):
        group = rng.choices([range(most), blanks, others, raw], k=rng.randint(0, 8))
        ids = [rng.choice(choices) for choices in group]
        assert model.decode(ids) == theirs.decode(ids), ids
    with pytest.raises(KeyError, match=f"no piece has id {most}"):
        model.decode([most])
    with pytest.raises(KeyError, match="no piece has id -1"):
        model.decode([-1])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_unused_pieces_are_cut_again(kind):
    proto = pb.ModelProto.FromString(trained(model_type=kind))
    rng = random.Random(4)
    for piece in proto.pieces:
        if piece.type == 1 and rng.random() < 0.4:
            piece.type = 5
    data = proto.SerializeToString()
    model, theirs = (
        SentencePiece.read(data),
        sentencepiece.SentencePieceProcessor(model_proto=data),
    )
    lines = [*corpus()[::3], *strings.mixed(2000, seed=5)]
    assert all(model.encode(line) == theirs.encode(line) for line in lines)
    used = {i for line in lines for i in model.encode(line)}
    assert not any(model.vocabulary[i].kind == "unused" for i in used)


def test_rules_for_the_way_back():
    proto = pb.ModelProto.FromString(trained(model_type="bpe"))
    folding = sentencepiece.SentencePieceNormalizer(rule_name="nfkc_cf")
    spec = proto.denormalizer_spec
    spec.ParseFromString(folding.serialized_normalizer_spec())
    spec.add_dummy_prefix = spec.escape_whitespaces = False
    spec.remove_extra_whitespaces = False
    data = proto.SerializeToString()
    model = SentencePiece.read(data)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    for line in ["A Graph  HAS Nodes", *corpus()[:300]]:
        ids = theirs.encode(line)
        assert model.decode(ids) == theirs.decode(ids)
    assert model.decode(model.encode("HAS")) == "has"


letters = st.text("abc", min_size=2, max_size=4)
tables = st.dictionaries(letters, st.integers(-9, -1).map(float), max_size=10)


@given(tables, st.text("abcd", max_size=12))
@example({"bc": -1.0, "abc": -2.0}, "abc")
@settings(max_examples=300)
def test_merging_against_the_plain_loop(scores, text):
    """All pairs looked at every time: the highest score, then the leftmost."""
    parts = list(text)
    while True:
        places = [i for i, (a, b) in enumerate(pairwise(parts)) if a + b in scores]
        if not places:
            break
        i = max(places, key=lambda i: (scores[parts[i] + parts[i + 1]], -i))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    assert ours.cut_by_merges(text, scores) == parts


def test_word_by_word_is_the_whole(small):
    model = SentencePiece.read(small)
    assert model._words
    for line in corpus()[::40]:
        whole = ours.cut_by_merges(model.normalise(line), model._scores)
        assert model._cut(line) == whole


def test_a_megabyte_of_one_letter_costs_n_log_n(monkeypatch, small):
    """Counted, not timed: two candidates a merge, and one for each letter."""
    pushes = [0]

    def counted(heap, item, push=ours.heappush):
        pushes[0] += 1
        push(heap, item)

    monkeypatch.setattr(ours, "heappush", counted)
    scores = {"a" * 2**n: -float(n) for n in range(1, 8)}
    parts = ours.cut_by_merges("a" * 1_000_000, scores)
    assert {*map(len, parts[:-1])} == {128} and pushes[0] < 3_000_000
    text = "e" * 300_000
    model = SentencePiece.read(small)
    assert model.decode(model.encode(text)) == text
    assert not any(len(word) >= ours.LONG for word in model._memory)
