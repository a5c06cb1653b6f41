"""Checks of chapter 11, SentencePiece, imported as `check`."""

from functools import cache

from utils.lab.check import exercise, expect


@cache
def _model() -> bytes:
    """A small BPE model with bytes, of the course's sentences, made by the library."""
    from utils.lab.datasets import sentences
    from utils.tokenizers.sentencepiece import train_by_library

    return train_by_library(
        [text for s in sentences() for text in (s.en, s.zh)],
        model_type="bpe",
        vocab_size=1000,
        hard_vocab_limit=False,
        byte_fallback=True,
    )


def _loaded(data: object, what: str):
    """The library's processor of `data`, or NotYet that says why there is none."""
    import sentencepiece

    from utils.tokenizers.sentencepiece import SentencePiece

    kind = type(data).__name__
    expect(isinstance(data, bytes), f"{what} is a {kind}", "bytes", "Join with b''.")
    try:
        SentencePiece.read(data)
        return sentencepiece.SentencePieceProcessor(model_proto=data)
    except (ValueError, RuntimeError) as error:
        hint = "Look at the bytes by `ours.fields`, message by message."
        expect(False, f"{what} cannot be read: {error}", "a model", hint)


@exercise
def to_varint(answer):
    """numbers of one to nine bytes."""
    from utils.tokenizers.sentencepiece import varint

    for number in (1, 127, 0, 128, 300, 16_384, 2**31 - 1, 2**40 + 5, 2**62):
        groups = [
            number >> 7 * i & 127 for i in range(max(1, -(-number.bit_length() // 7)))
        ]
        want = bytes([*(g | 128 for g in groups[:-1]), groups[-1]])
        got = answer(number)
        said = f"to_varint({number}) is {got!r}"
        expect(isinstance(got, bytes), said, "bytes", "Wrap the list: bytes([…]).")
        hint = "Seven bits a byte. Take them with `number & 127` and go on with `>> 7`."
        if number < 128:
            hint = "One byte is enough below 128, and its top bit is 0."
        elif len(got) == len(want) > 1 and {b & 127 for b in got} == {*groups}:
            hint = (
                "The right groups. Which comes first, and which have the top bit set?"
            )
        expect(got == want, said, f"{len(want)} bytes", hint)
        assert varint(got, 0) == (number, len(got))


@exercise
def with_symbol(answer):
    """that the library loads it, the new id, and that no other id has moved."""
    old = _loaded(_model(), "the model")
    texts = ["We ate in the evening.", "今天天气很好。", "a <|user|> b"]
    for symbol in ("<|user|>", "北京大学" * 12):
        new = _loaded(answer(_model(), symbol), "with_symbol(data, text)")
        size, found = old.get_piece_size(), new.get_piece_size()
        said = f"{found} pieces where there were {size}"
        expect(found == size + 1, said, "one more", "A piece is field 1 of the file.")
        hint = "All other ids have moved, and with them all rows: put it at the end."
        said = f"the last piece is {new.id_to_piece(size)!r}"
        expect(new.id_to_piece(size) == symbol, said, repr(symbol), hint)
        ids = new.encode(f"a {symbol} b")
        hint = "It has to be user-defined: type, field 3 of a piece, is 4."
        said = f"{symbol!r} in a text is cut into pieces"
        expect(size in ids, said, "one id", hint)
        for text in texts[:2]:
            hint = "A text without the symbol has to keep its ids."
            said = f"{text!r} has other ids than before"
            expect(new.encode(text) == old.encode(text), said, "the same", hint)


@exercise
def stream(answer):
    """English, Chinese and emoji, as they come, and what is whole as soon as it is."""
    from utils.tokenizers.sentencepiece import SentencePiece

    model = SentencePiece.read(_model())
    for text in ("We ate in the evening.", "今天 天气 很好", "ok 🙂🙂 \u2603 fine"):
        ids = model.encode(text)
        shown = [*answer(model, ids)]
        joined, want = "".join(shown), model.decode(ids)
        said = f"the stream of {text!r} is {joined!r}"
        if "\ufffd" in joined:
            hint = "A character may need several bytes: hold � back until it is whole."
        elif joined == want.replace(" ", ""):
            hint = "Decoded alone, every piece is the first, and the first ▁ goes."
        elif want.startswith(joined):
            hint = "Something at the end is missing."
        else:
            hint = "What `decode` says of the ids so far grows: what has come new?"
        expect(joined == want, said, repr(want), hint)
        said = f"{text!r} came in {sum(map(bool, shown))} steps for {len(ids)} ids"
        whole = sum(not model.piece(i).kind == "byte" for i in ids) // 2
        hint = "Show what is complete at once, not at the end."
        expect(sum(map(bool, shown)) >= whole, said, "a step a piece", hint)
    for ids in (model.encode("ok \u2603")[:-1], model.encode("a \ufffd")):
        joined, want = "".join(answer(model, ids)), model.decode(ids)
        hint = "At the end nothing more can come: show what is left, � and all."
        said = f"ids that end within a character give {joined!r}"
        expect(joined == want, said, repr(want), hint)


@exercise
def as_model(answer):
    """a model of our own training, in the library: pieces, scores and cuts."""
    from collections import Counter

    from utils.lab.datasets import sentences
    from utils.tokenizers.unigram import Unigram, train

    lines = [s.en for s in sentences()][:150]
    words = Counter(f"▁{word}" for line in lines for word in line.split())
    scores = train(words, 200).scores
    theirs, mine = (
        _loaded(answer(scores), "as_model(scores)"),
        Unigram(scores, single=True),
    )
    named = {theirs.id_to_piece(i): i for i in range(theirs.get_piece_size())}
    lost = [piece for piece in scores if piece not in named]
    said = f"{len(lost)} of {len(scores)} pieces are not in the file"
    expect(not lost, said, "all of them", "One field 1 for each entry of `scores`.")
    off = max(abs(theirs.get_score(named[p]) - s) for p, s in scores.items())
    said = f"a score is off by {off:.3g}"
    hint = "Field 2 has wire type 5: four bytes, `struct.pack('<f', score)`."
    expect(off < 1e-4, said, "less than 1e-4", hint)
    for line in lines:
        want = mine.fused(mine.segment("▁" + "▁".join(line.split())))
        got = theirs.encode(line, out_type=str)
        hint = "The file's default settings are enough: what did you set?"
        expect(got == want, f"{line!r} is cut {got}", "as by Unigram.segment", hint)
