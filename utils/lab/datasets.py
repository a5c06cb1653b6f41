"""The course's data: small, original, hash-checked, read with a schema.

`data/manifest.json` maps every file to the sha256 of its bytes. Longer English and code
come from packages of the lock, read as text and hash-checked too.
"""

import ast
import csv
import hashlib
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parents[2] / "data"


class Sentence(NamedTuple):
    """One thought in two languages: a number, English, Chinese (中文)."""

    number: int
    en: str
    zh: str


def checked(name: str, folder: Path = DATA) -> Path:
    """The path of a data file whose bytes are those of the manifest.

    Raises FileNotFoundError if it is gone, ValueError if it changed.
    """
    path = folder / name
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if not path.is_file():
        raise FileNotFoundError(
            f"data/{name} is missing; `git checkout` brings it back"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest.get(name):
        raise ValueError(f"data/{name} is not the file that data/manifest.json names")
    return path


def _rows(name: str, folder: Path, header: tuple[str, ...]) -> Iterator[tuple]:
    """Place and row of each row of a table with tabs; ValueError names the place."""
    path = checked(name, folder)
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            if line == 1 and row == list(header):
                continue
            place = f"data/{name}, line {line}"
            if len(row) != len(header) or not all(cell.strip() for cell in row):
                raise ValueError(f"{place}: {row!r} is not {', '.join(header)}")
            yield place, row


def sentences(name: str = "sentences.tsv", folder: Path = DATA) -> list[Sentence]:
    """Short everyday sentences of many lengths, English beside Chinese.

    Raises ValueError naming file and line where a row does not have three columns, a
    running number, and two texts.
    """
    found: list[Sentence] = []
    for place, (number, en, zh) in _rows(name, folder, Sentence._fields):
        if number != str(len(found) + 1):
            raise ValueError(f"{place}: number {number!r} is not {len(found) + 1}")
        found.append(Sentence(int(number), en, zh))
    return found


class Pair(NamedTuple):
    """Two English sentences and how alike they are, 0 (not at all) to 5 (the same)."""

    grade: int
    first: str
    second: str


def pairs(name: str = "pairs_en/pairs.tsv", folder: Path = DATA) -> list[Pair]:
    """216 pairs of English sentences with a grade of similarity (语义相似度).

    Raises ValueError naming file and line for a row of another form, and for a grade
    that is none of 0 to 5.
    """
    found = []
    for place, (grade, first, second) in _rows(name, folder, Pair._fields):
        if grade not in ("0", "1", "2", "3", "4", "5"):
            raise ValueError(f"{place}: grade {grade!r} is none of 0 to 5")
        found.append(Pair(int(grade), first, second))
    return found


class Question(NamedTuple):
    """A question, and the passage that answers it."""

    question: str
    passage: str


def questions(
    name: str = "pairs_en/retrieval.tsv", folder: Path = DATA
) -> list[Question]:
    """60 questions, each with the one passage among the 60 that answers it (检索).

    Raises ValueError naming file and line for a row of another form.
    """
    return [Question(*row) for _, row in _rows(name, folder, Question._fields)]


class Tagged(NamedTuple):
    """A sentence for named-entity recognition: characters, and a BIO tag for each."""

    characters: list[str]
    tags: list[str]


def ner(part: str) -> list[Tagged]:
    """The Chinese sentences of `part`, "train", "dev" or "test", tagged with names.

    NOTES_NER=<folder> reads another corpus of the same form, such as MSRA's or Weibo's:
    the one file in it whose name has `part` in it. Raises FileNotFoundError where that
    is no single file, and what `tagged` raises.
    """
    folder = os.environ.get("NOTES_NER")
    if not folder:
        return tagged(checked(f"ner_zh/{part}.conll"))
    found = sorted(path for path in Path(folder).glob("*") if part in path.name)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"NOTES_NER={folder} needs one file with {part!r} in its name; "
            f"found: {names}"
        )
    return tagged(found[0])


def tagged(path: Path) -> list[Tagged]:
    """Sentences of a file with a token, here a character, and its BIO tag on each line.

    UTF-8, a tab or a blank between the two, an empty line after each sentence. Raises
    ValueError with file and line for anything else, an I- that follows no tag of its
    type and a byte order mark included; nothing is repaired.
    """
    found, before = [Tagged([], [])], "O"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}, byte {error.start}: not UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line:
            found, before = found + [Tagged([], [])] * bool(found[-1].tags), "O"
            continue
        place = f"{path.name}, line {number}"
        columns = re.split(r"[\t ]", line)
        if len(columns) != 2 or not columns[0] or line[0] == "\ufeff":
            raise ValueError(f"{place}: {line!r} is not a character and a tag")
        character, tag = columns
        if not re.fullmatch(r"O|[BI]-\S+", tag):
            raise ValueError(f"{place}: {tag!r} is no BIO tag (O, B-… or I-…)")
        if tag[0] == "I" and before[1:] != tag[1:]:
            raise ValueError(f"{place}: {tag} cannot follow {before}")
        found[-1].characters.append(character)
        found[-1].tags.append(tag)
        before = tag
    if not found[-1].tags:
        found.pop()
    if not found:
        raise ValueError(f"{path.name}: no sentence in it")
    return found


ENGLISH = "1ba03cae8e336b3b"  # how the sha256 of these texts begins
CODE = "ad96818581d6fdb6"


@cache
def english() -> str:
    """1.3 MB of English: the paragraphs of NetworkX's docstrings, each once.

    Paragraphs with examples in Python are left out. Raises what `packaged` raises.
    """
    paragraphs: dict[str, None] = {}
    for text in _sources("networkx", ""):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their invalid escapes
            tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                text = re.sub(r"\n *[-=*~^]{3,} *(?=\n)", "", text)  # underlines
                for paragraph in map(str.split, text.split("\n\n")):
                    if len(paragraph) > 3 and ">>>" not in paragraph:
                        paragraphs[" ".join(paragraph)] = None
    return packaged("networkx", "\n\n".join(paragraphs), ENGLISH)


@cache
def code() -> str:
    """2.8 MB of Python: the sources of sympy.polys. Raises what `packaged` raises."""
    return packaged("sympy", "\n".join(_sources("sympy", "polys")), CODE)


def _sources(package: str, folder: str) -> list[str]:
    root = (
        Path(importlib.util.find_spec(package).submodule_search_locations[0]) / folder
    )
    files = {f.relative_to(root).as_posix(): f for f in root.rglob("*.py")}
    names = sorted(name for name in files if "tests" not in name.split("/"))
    return [files[name].read_text(encoding="utf-8") for name in names]


def packaged(package: str, text: str, sha256: str) -> str:
    """`text`, if its sha256 begins so; ValueError names the package otherwise."""
    found = hashlib.sha256(text.encode()).hexdigest()
    if not found.startswith(sha256):
        lock = f"the text of {package} is not that of the version in constraints.txt"
        raise ValueError(f"{lock}: sha256 {found[:16]}, not {sha256}")
    return text


PROSE = "lessons", "stories", "dialogue", "notes"


def chinese(folder: Path = DATA) -> str:
    """The course's Chinese prose: lessons, stories, dialogue and notes, in that order.

    One paragraph or title a line, an empty line between pieces and between the files.
    Raises what `checked` raises.
    """
    files = [checked(f"zh_text/{name}.txt", folder) for name in PROSE]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def segmented() -> list[list[str]]:
    """500 sentences of `chinese`, cut into words (分词): the gold segmentation.

    The rules of the cut are in data/zh_text/datasheet.md. The kinds of prose are mixed:
    the first 200 may train, and the rest be held out. Raises what `checked` and `words`
    raise.
    """
    return words(checked("zh_text/segmented.txt"))


def words(path: Path) -> list[list[str]]:
    """Sentences of a file that has one on each line, its words divided by one blank.

    UTF-8. Raises ValueError with file and line for anything else: an empty line, an
    empty word (two blanks, or one at either end), another white space, a byte order
    mark. Nothing is repaired.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}, byte {error.start}: not UTF-8") from None
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path.name}: no sentence in it")
    found = []
    for number, line in enumerate(lines, 1):
        place = f"{path.name}, line {number}"
        if not line:
            raise ValueError(f"{place}: an empty line")
        cut = line.split(" ")
        if "" in cut:
            raise ValueError(f"{place}: an empty word in {line!r}")
        if re.search(r"[^\S ]|\ufeff", line):
            raise ValueError(f"{place}: {line!r} is not words between single blanks")
        found.append(cut)
    return found


@cache
def digits():
    """scikit-learn's handwritten digits: x (1797, 64) in [0, 1], y (1797,) in 0…9.

    Float32 and int64 tensors, in an order shuffled once and for all.
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.tensor(pixels[order] / 16, dtype=torch.float32)
    return x, torch.tensor(labels[order], dtype=torch.int64)
