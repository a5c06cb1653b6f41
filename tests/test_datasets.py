"""The tagged corpus, the prose and its words, and how a broken file is refused."""

import hashlib
import json
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


@pytest.fixture(scope="module")
def prose():
    return datasets.chinese()


@pytest.fixture(scope="module")
def gold():
    return datasets.segmented()


def test_the_prose_is_large_and_rich(prose):
    assert len(prose.encode()) >= 60_000
    characters = re.findall("[\u4e00-\u9fff]", prose)
    assert len(characters) >= 20_000 and len(set(characters)) >= 1_500


def test_no_two_paragraphs_of_the_prose_are_equal(prose):
    paragraphs = [line for line in prose.split("\n") if line]
    assert len(paragraphs) >= 400 and len(set(paragraphs)) == len(paragraphs)
    assert all(line == line.strip() for line in paragraphs)
    assert "\n\n\n" not in prose


def test_no_stock_sentence_fills_the_prose(prose):
    found = [s.strip("”") for s in re.split("[。！？\n]+", prose) if s.strip("”")]
    assert len(found) >= 900 and len(set(found)) >= 0.99 * len(found)


def test_the_prose_is_in_four_files_in_a_fixed_order(prose):
    titles = "把尺子摆正", "修表匠的赌", "菜市场里的加减法", "梅雨提前，"
    places = [prose.index(title) for title in titles]
    assert places[0] == 0 and places == sorted(places)
    assert all(prose[place - 2 : place] == "\n\n" for place in places[1:])


def test_changed_prose_is_refused(tmp_path):
    (tmp_path / "zh_text").mkdir()
    write(tmp_path, "{}", "manifest.json")
    with pytest.raises(FileNotFoundError, match="data/zh_text/lessons.txt is missing"):
        datasets.chinese(tmp_path)
    write(tmp_path, "别的字\n", "zh_text/lessons.txt")
    with pytest.raises(ValueError, match="data/zh_text/lessons.txt is not the file"):
        datasets.chinese(tmp_path)


def test_the_segmented_sentences_stand_in_the_prose(prose, gold):
    assert len(gold) == 500
    sentences = ["".join(words) for words in gold]
    assert len(set(sentences)) == 500
    solid = prose.replace(" ", "")
    assert [s for s in sentences if s not in solid] == []


def test_the_kinds_of_prose_are_mixed(gold):
    """Each 100 sentences in a row have 25 of each file."""
    for start in range(0, 500, 100):
        part, kinds = gold[start : start + 100], Counter()
        for name in datasets.PROSE:
            path = datasets.checked(f"zh_text/{name}.txt")
            text = path.read_text(encoding="utf-8").replace(" ", "")
            kinds[name] = sum("".join(words) in text for words in part)
        assert set(kinds.values()) == {25}


def test_the_cut_follows_its_guideline(gold):
    words = Counter(word for sentence in gold for word in sentence)
    marks = "，。！？：；、“”《》（）"
    assert all(len(word) == 1 for word in words if set(word) & set(marks))
    for word in "一个", "这个", "不是", "就是", "每个":
        assert word not in words
    for word in "程望山", "二〇一六年", "三十多亿", "百分之十", "3.2%", "天壤之别":
        assert word in words


def test_words_are_read_as_they_are_divided(tmp_path):
    path = write(tmp_path, "我 爱 北京 。\n好 ！", "any.txt")
    assert datasets.words(path) == [["我", "爱", "北京", "。"], ["好", "！"]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("我 爱\n我  爱\n", "s.txt, line 2: an empty word in '我  爱'"),
        (" 我 爱\n", "s.txt, line 1: an empty word in ' 我 爱'"),
        ("我 爱 \n", "s.txt, line 1: an empty word in '我 爱 '"),
        ("我 爱\n\n好\n", "s.txt, line 2: an empty line"),
        ("我 爱\n\n", "s.txt, line 2: an empty line"),
        ("我\t爱\n", "s.txt, line 1: '我\\t爱' is not words between single blanks"),
        ("我\u3000爱\n", "s.txt, line 1: '我\\u3000爱' is not words"),
        ("我 爱\r\n", "s.txt, line 1: '我 爱\\r' is not words"),
        ("\ufeff我 爱\n", "s.txt, line 1: '\\ufeff我 爱' is not words"),
        ("", "s.txt: no sentence in it"),
        ("\n", "s.txt, line 1: an empty line"),
        ("我 爱".encode("gb18030"), "s.txt, byte 0: not UTF-8"),
    ],
)
def test_a_badly_divided_file_is_refused_with_its_place(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        datasets.words(write(tmp_path, text, "s.txt"))


def test_english_and_code_come_from_packages_of_the_lock():
    assert 1_200_000 < len(datasets.english()) and ">>>" not in datasets.english()
    paragraphs = datasets.english().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert 2_500_000 < len(datasets.code()) and "def " in datasets.code()


def test_text_of_another_version_is_named():
    with pytest.raises(ValueError, match="the text of sympy is not that of"):
        datasets.packaged("sympy", datasets.code() + " ", datasets.CODE)


def test_pairs_have_all_grades_and_differ():
    pairs = datasets.pairs()
    assert len(pairs) >= 200 and len(set(pairs)) == len(pairs)
    assert min(Counter(pair.grade for pair in pairs).values()) >= 30
    assert all(pair.first != pair.second for pair in pairs)
    assert len({pair.second for pair in pairs}) >= 150


def test_each_question_has_a_passage_of_its_own():
    rows = datasets.questions()
    assert len(rows) >= 50 and all(row.question.endswith("?") for row in rows)
    assert len({row.passage for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [("6\ta\tb", "grade '6'"), ("3\ta", "is not grade, first"), ("3\t \tb", "is not")],
)
def test_a_bad_pair_is_named_with_its_line(row, complaint, tmp_path):
    text = f"grade\tfirst\tsecond\n5\tx\ty\n{row}\n"
    path = write(tmp_path, text, "bad.tsv")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write(tmp_path, json.dumps({"bad.tsv": digest}), "manifest.json")
    with pytest.raises(ValueError, match=f"bad.tsv, line 3: .*{complaint}"):
        datasets.pairs("bad.tsv", tmp_path)
