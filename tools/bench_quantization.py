"""Linears of BERT's sizes in int8: ours beside torch.ao's, and in float32."""

import warnings

import torch
from torch import nn

from utils import quantization
from utils.lab import measure, peak_bytes, records

SHAPES = {"attention": (768, 768), "up": (768, 3072), "down": (3072, 768)}  # K, N
ROWS = (1, 16, 128, 512)


def theirs(linear: nn.Linear) -> nn.Module:
    """torch.ao's dynamic Linear."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it will go, says torch
        return torch.ao.quantization.quantize_dynamic(
            nn.Sequential(linear), {nn.Linear}
        )[0]


def quantization_speed() -> None:
    """A dynamic Linear: ours, torch's, and what both replace; time, and peak memory."""
    exact = quantization.int8_unit_is_exact()
    samples: dict = {"unit for bytes is exact": exact}
    print("int8 Linear, one thread: ours ÷ torch.ao's, and float32 ÷ ours")
    print(f"the processor's product of bytes is exact: {exact}")
    for name, (K, N) in SHAPES.items():
        torch.manual_seed(0)
        linear = nn.Linear(K, N)
        layers = {
            "ours": quantization.DynamicLinear(linear, bits=7),
            "torch.ao": theirs(linear),
            "float32": linear,
        }
        for n in ROWS:
            x = torch.randn(n, K)
            calls = {
                k: lambda layer=layer, x=x: layer(x) for k, layer in layers.items()
            }
            timings = measure(calls, rounds=60, warmup=10)
            middle, low, high = timings.ratio("ours", "torch.ao")
            gain, *_ = timings.ratio("float32", "ours")
            with torch.inference_mode():
                held = {k: peak_bytes(call) / (4 * n * N) for k, call in calls.items()}
            print(
                f"{name:9} {n:4} rows  {middle:5.2f} [{low:.2f}, {high:.2f}]   "
                f"{gain:5.2f} ×   memory {held['ours']:.1f} outputs "
                f"against {held['torch.ao']:.1f}"
            )
            samples[f"{name} {n}"] = {
                "shape": [n, K, N],
                "seconds": {k: s.tolist() for k, s in timings.seconds.items()},
                "peak outputs": held,
            }
    records.write("quantization_speed", samples, ["utils/quantization.py"], threads=1)
