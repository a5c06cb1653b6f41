"""Measure again what takes many seeds: writes data/records/*.json, minutes in all.

python tools/records.py [name ...]
"""

import sys
import time

import torch

from utils.lab import records
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


RECORDS = {f.__name__: f for f in [norms_warmup]}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or RECORDS:
        start = time.perf_counter()
        RECORDS[name]()
        print(f"{time.perf_counter() - start:6.0f} s  data/records/{name}.json")
