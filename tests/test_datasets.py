"""The tagged corpus, and how the reader of such files refuses a broken one."""

import re
from collections import Counter

import pytest

from utils.lab import datasets

PARTS = "train", "dev", "test"
TYPES = "PER", "LOC", "ORG", "TIME"


def spans(sentence):
    """(type, text) of each entity, by a regular expression on the tags."""
    line = " ".join(sentence.tags) + " "
    for match in re.finditer(r"B-(\w+) (?:I-\1 )*", line):
        first = line[: match.start()].count(" ")
        length = match.group().count(" ")
        yield match[1], "".join(sentence.characters[first : first + length])


def skeleton(sentence):
    """The sentence with each entity replaced by its type."""
    pieces = [
        tag[2:] if tag[0] == "B" else character
        for character, tag in zip(*sentence, strict=True)
        if tag[0] != "I"
    ]
    return " ".join(pieces)


@pytest.fixture(scope="module")
def corpus():
    return {part: datasets.ner(part) for part in PARTS}


def test_the_corpus_is_large_and_of_four_types(corpus):
    everything = sum(corpus.values(), [])
    assert len(everything) >= 800
    kinds = Counter(kind for s in everything for kind, _ in spans(s))
    assert set(kinds) == set(TYPES) and min(kinds.values()) >= 250
    assert all(len(s.characters) == len(s.tags) for s in everything)


def test_no_template_fills_it(corpus):
    skeletons = {part: [skeleton(s) for s in corpus[part]] for part in PARTS}
    everything = sum(skeletons.values(), [])
    assert len(set(everything)) >= 0.9 * len(everything)
    for a, b in [("train", "dev"), ("train", "test"), ("dev", "test")]:
        assert not set(skeletons[a]) & set(skeletons[b])


def test_half_of_the_test_entities_are_new(corpus):
    known = {span for s in corpus["train"] for span in spans(s)}
    asked = {span for s in corpus["test"] for span in spans(s)}
    assert len(asked - known) >= 0.5 * len(asked)


def write(folder, text, name="train.conll"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_reading_keeps_every_character(tmp_path):
    path = write(
        tmp_path, "王\tB-PER\n芳\tI-PER\n\n\n去 O\n沪 B-LOC\n", "any_train.txt"
    )
    whole = [
        datasets.Tagged(["王", "芳"], ["B-PER", "I-PER"]),
        datasets.Tagged(["去", "沪"], ["O", "B-LOC"]),
    ]
    assert datasets.tagged(path) == whole


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("王 B-PER\n芳 PER\n", "train.conll, line 2: 'PER' is no BIO tag"),
        ("王 S-PER\n", "train.conll, line 1: 'S-PER' is no BIO tag"),
        ("王 B-PER\n芳\n", "train.conll, line 2: '芳' is not a character and a tag"),
        ("王 n B-PER\n", "train.conll, line 1: '王 n B-PER' is not a character"),
        ("\ufeff王 O\n", "train.conll, line 1: '\\ufeff王 O' is not a character"),
        ("\tO\n", "train.conll, line 1: '\\tO' is not a character and a tag"),
        ("王 B-PER\n在 I-LOC\n", "train.conll, line 2: I-LOC cannot follow B-PER"),
        ("王 B-PER\n\n芳 I-PER\n", "train.conll, line 3: I-PER cannot follow O"),
        ("", "train.conll: no sentence in it"),
        ("\n\n", "train.conll: no sentence in it"),
        ("王".encode("gb18030"), "train.conll, byte 0: not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        datasets.tagged(write(tmp_path, text))


def test_any_folder_of_this_form(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTES_NER", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="'dev' in its name; found: none"):
        datasets.ner("dev")
    write(tmp_path, "我 O\n", "weibo.conll.dev")
    assert datasets.ner("dev") == [datasets.Tagged(["我"], ["O"])]
    write(tmp_path, "我 O\n", "weibo.conll.dev.old")
    with pytest.raises(FileNotFoundError, match="weibo.conll.dev.old"):
        datasets.ner("dev")
