"""Time ours beside the library's, in one process: prints, and writes the records.

A ratio of 1 is a tie, 2 means that ours takes twice as long. Forward and backward, one
thread, float32.
"""

import torch
from torch.nn import functional as F

from utils import norms
from utils.lab import measure, peak_bytes, records

SIZES = {"small": (4, 16, 64), "BERT": (8, 128, 768), "long": (2, 1024, 1024)}


def norm_pairs(D: int) -> dict:
    """Name → (ours, torch's) on x (B, L, D), features last for both."""

    def turned(function):
        return lambda x: function(x.transpose(1, 2)).transpose(1, 2)

    return {
        "layer_norm": (norms.layer_norm, lambda x: F.layer_norm(x, (D,))),
        "rms_norm": (norms.rms_norm, lambda x: F.rms_norm(x, (D,), eps=1e-6)),
        "instance_norm": (norms.instance_norm, turned(F.instance_norm)),
        "group_norm": (
            lambda x: norms.group_norm(x, 8),
            turned(lambda x: F.group_norm(x, 8)),
        ),
        "batch_norm": (
            norms.batch_norm,
            turned(lambda x: F.batch_norm(x, None, None, training=True)),
        ),
    }


def norms_speed() -> None:
    samples: dict = {}
    print("norms: ours ÷ torch's, median [95% interval], and peak memory ÷ block")
    for size, shape in SIZES.items():
        x = torch.randn(shape)
        for name, (ours, theirs) in norm_pairs(shape[-1]).items():

            def step(function, x=x):
                def run():
                    with torch.inference_mode(False), torch.enable_grad():
                        leaf = x.clone().requires_grad_()
                        function(leaf).sum().backward()

                return run

            timings = measure(
                {"ours": step(ours), "torch": step(theirs)}, rounds=40, warmup=5
            )
            middle, low, high = timings.ratio("ours", "torch")
            held = [peak_bytes(f, x) / x.nbytes for f in (ours, theirs)]
            print(
                f"{size:6} {name:14} {middle:5.2f} [{low:.2f}, {high:.2f}]   "
                f"memory {held[0]:.1f} against {held[1]:.1f}"
            )
            samples[f"{size} {name}"] = {
                "shape": shape,
                "seconds": {n: s.tolist() for n, s in timings.seconds.items()},
                "peak blocks": {"ours": held[0], "torch": held[1]},
            }
    records.write("norms_speed", samples, ["utils/norms.py"], threads=1)


if __name__ == "__main__":
    norms_speed()
