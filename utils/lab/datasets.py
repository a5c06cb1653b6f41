"""The course's data: small, original, hash-checked, read with a schema.

`data/manifest.json` maps every file to the sha256 of its bytes.
"""

import csv
import hashlib
import json
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
