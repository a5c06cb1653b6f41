"""Measure again what takes many seeds: writes data/records/*.json, minutes in all.

python tools/records.py [name ...]
"""

import itertools
import sys
import time

import numpy as np
import torch

from utils import lengths, tagging
from utils.lab import datasets, records
from utils.toys import learn_to_copy


def norms_warmup() -> None:
    """Post-norm, with warm-up, at a small rate, pre-norm: last losses, eight seeds."""
    recipes = {
        "post-norm": (False, 0),
        "post-norm, warm-up": (False, 60),
        "pre-norm": (True, 0),
    }
    slow = {"steps": 300, "rate": 5e-4}
    samples = {
        name: [sum(learn_to_copy(*recipe, seed)[-10:]) / 10 for seed in range(8)]
        for name, recipe in recipes.items()
    }
    samples["post-norm, a quarter of the rate, 300 steps"] = [
        sum(learn_to_copy(False, 0, seed, **slow)[-10:]) / 10 for seed in range(8)
    ]
    records.write("norms_warmup", samples, ["utils/toys.py"], threads=1)


def tagging_f1() -> None:
    """Taggers from 80 sentences and from all, eight seeds: F1 and illegal steps.

    Where all sentences are used, what has one optimum is trained once.
    """
    train, test = datasets.ner("train"), datasets.ner("test")
    gold, texts = [s.tags for s in test], [s.characters for s in test]
    runs: dict = {}
    counts: dict = {}

    def note(name: str, tagger) -> None:
        found = tagger.tag(texts)
        counts.setdefault(name, []).append(tagging.span_counts(gold, found))
        run = {"f1": tagging.f1(counts[name][-1])}
        run["illegal"] = sum(map(tagging.illegal, found))
        if name.startswith("network, CRF"):
            run["largest transition"] = tagger.crf.transitions.abs().max().item()
        runs.setdefault(name, []).append(run)

    for size, name in itertools.product(("few", "all"), tagging.TAGGERS):
        once = size == "all" and not name.startswith("network")
        for seed in range(1 if once else 8):
            torch.manual_seed(seed)
            order = torch.randperm(len(train))[: 80 if size == "few" else None]
            tagger = tagging.TAGGERS[name]([train[i] for i in order])
            note(f"{name}, {size}", tagger)
            if name == "network, softmax":
                note(f"{name}, legal paths, {size}", tagger.legal())

    draws = np.random.default_rng(0).integers(0, len(test), (1000, len(test)))

    def over_draws(name: str) -> np.ndarray:
        """F1, mean over the seeds, on 1,000 bootstrap samples of the test sentences."""
        all_seeds = [[tagging.f1(c[rows]) for rows in draws] for c in counts[name]]
        return np.mean(all_seeds, axis=0)

    def middle(values: np.ndarray) -> list[float]:
        return np.quantile(values, [0.025, 0.975]).tolist()

    spread = {name: over_draws(name) for name in runs}
    gains = {}
    for size, (better, worse) in itertools.product(("few", "all"), tagging.COMPARED):
        difference = spread[f"{better}, {size}"] - spread[f"{worse}, {size}"]
        gains[f"{better} − {worse}, {size}"] = middle(difference)
    samples = {"runs": runs, "differences": gains}
    samples["intervals"] = {name: middle(values) for name, values in spread.items()}
    files = ["utils/tagging.py", "utils/crf.py", "utils/hmm.py"]
    records.write("tagging_f1", samples, files, threads=1)


def positions_extrapolation() -> None:
    """Seven methods trained on 32 tokens, read at 256; stretched, and trained on."""
    reread = {
        "RoPE": ["PI", "NTK", "YaRN", "YaRN frequencies", "gain"],
        "learned": ["tiled"],
        **dict.fromkeys(
            ["ALiBi", "ALiBi, 1,600 steps"], ["gain", "clip", "clip, gain"]
        ),
        **dict.fromkeys(
            ["NoPE", "NoPE, 1,600 steps", "Shaw", "T5, one rate"], ["gain"]
        ),
    }
    variants = ["Shaw, clip 255", "T5, 32 buckets", "RoPE, base 10"]
    kinds = {name: (name, {}) for name in [*lengths.METHODS, *variants]}
    kinds["T5, one rate"] = "T5", {"haste": 1}
    for name in ("NoPE", "ALiBi"):
        kinds[f"{name}, 1,600 steps"] = name, {"steps": 1600}
    further = {"steps": 60, "L": 256, "batch": 8, "rate": 1e-3}
    samples: dict = {}

    def note(name: str, reader: lengths.LookBack) -> None:
        for kind, values in lengths.excess_loss(reader).items():
            samples.setdefault(name, {}).setdefault(kind, []).append(values)

    for name, seed in itertools.product(kinds, range(8)):
        method, how = kinds[name]
        reader = lengths.trained_reader(method, seed, **how)
        note(name, reader)
        for way in reread.get(name, []):
            note(f"{name}, {way}", lengths.stretched_reader(reader, way))
        if method == "T5":
            table = reader.method.table.weight.tolist()
            samples[name].setdefault("table", []).append(table)
        if name == "RoPE":
            for way in ("plain", "PI", "NTK", "YaRN"):
                other = lengths.stretched_reader(reader, way)
                lengths.train_reader(other, 1000 + seed, **further)
                note(f"RoPE, {way}, 60 steps", other)
    files = ["utils/lengths.py", "utils/positions.py"]
    records.write("positions_extrapolation", samples, files, threads=1)


RECORDS = {f.__name__: f for f in [norms_warmup, tagging_f1, positions_extrapolation]}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or RECORDS:
        start = time.perf_counter()
        RECORDS[name]()
        print(f"{time.perf_counter() - start:6.0f} s  data/records/{name}.json")
