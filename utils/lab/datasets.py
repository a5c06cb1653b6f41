"""The course's data: small, original, hash-checked, read with a schema.

`data/manifest.json` maps every file to the sha256 of its bytes.
"""

import csv
import hashlib
import json
import os
import re
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


def sentences(name: str = "sentences.tsv", folder: Path = DATA) -> list[Sentence]:
    """Short everyday sentences of many lengths, English beside Chinese.

    Raises ValueError naming file and line where a row does not have three columns, a
    running number, and two texts.
    """
    path, found = checked(name, folder), []
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            if line == 1 and row == list(Sentence._fields):
                continue
            whole = len(row) == 3 and row[0] == str(len(found) + 1)
            if not whole or not all(cell.strip() for cell in row):
                raise ValueError(
                    f"data/{name}, line {line}: {row!r} is no sentence row"
                )
            found.append(Sentence(int(row[0]), row[1], row[2]))
    return found


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
