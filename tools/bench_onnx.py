"""One encoder in eight ways: seconds by batch and length, bytes, errors, quality.

MiniLM on one thread; candidates in turn, so that none has the quiet hour. PyTorch gets
its own fused attention; exported is the same model with attention in single steps.
"""

import copy
import importlib.metadata
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils import onnx
from utils.encoders import NAMES, Encoder, quality, spearman, tokenised
from utils.lab import datasets, measure, pretrained, records

SHAPES = [(1, 8), (1, 16), (1, 32), (1, 64), (1, 128), (4, 32), (8, 64), (16, 32)]
LIBRARIES = "onnx", "onnxruntime", "transformers"
CURVE = [(64, 8), (128, 16), (128, 128), (384, 16), (384, 128), (768, 16), (768, 128)]
DYNAMIC = {name: {0: "batch", 1: "length"} for name in NAMES}


def ids(size: int, length: int, vocabulary: int = 30_000) -> dict:
    """Random ids and a mask of ones (B, L)."""
    drawn = np.random.default_rng(0).integers(1000, vocabulary, size=(size, length))
    found = torch.tensor(drawn)
    return {"input_ids": found, "attention_mask": torch.ones_like(found)}


def timed(call) -> tuple:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def in_torch(module, gradients: bool = False):
    """A function of a batch to vectors (B, L, D)."""

    def call(batch):
        with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
            return module(**batch)

    return call


def in_runtime(path: Path):
    session = onnx.session(path)
    return lambda batch: onnx.run(session, batch)["h"]


def candidates(folder: Path) -> tuple[dict, dict, dict]:
    """Name → function, bytes of its file, seconds to make it."""
    stepwise = copy.deepcopy(pretrained.encoder().model)
    stepwise.pooler = None  # nobody asks for what it makes
    fused = copy.deepcopy(stepwise)
    fused.set_attn_implementation("sdpa")
    encoder = Encoder(fused).eval()
    lines = [s.en for s in datasets.sentences()]
    calibration = [tokenised(lines[i : i + 4]) for i in range(0, len(lines), 4)]
    made, size, seconds = {}, {}, {}

    def keep(name, call, path=None, taken=0.0):
        made[name], seconds[name] = call, taken
        if path is not None:
            size[name] = path.stat().st_size

    torch.save(encoder.state_dict(), folder / "eager.pt")
    with_gradients = in_torch(encoder, gradients=True)
    keep("eager, gradients on", with_gradients, folder / "eager.pt")
    keep("eager", in_torch(encoder), folder / "eager.pt")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise = torch.ao.quantization.quantize_dynamic
        small, taken = timed(lambda: quantise(encoder, {nn.Linear}, torch.qint8))
    torch.save(small.state_dict(), folder / "small.pt")
    keep("torch int8, dynamic", in_torch(small), folder / "small.pt", taken)

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")  # an empty one
    compiled = torch.compile(encoder, dynamic=True)
    call = in_torch(compiled)
    taken = sum(timed(lambda shape=shape: call(ids(*shape)))[1] for shape in SHAPES)
    keep("torch.compile", call, folder / "eager.pt", taken)

    path = folder / "encoder.onnx"
    example = tokenised(lines[:2])
    for _ in range(2):  # the first call imports the exporter
        given = Encoder(stepwise), example, path, DYNAMIC, ["h"]
        _, exported = timed(lambda given=given: onnx.export(*given))

    def keep_file(name, path, taken):
        call, opened = timed(lambda: in_runtime(path))
        keep(name, call, path, taken + opened)

    keep_file("ORT float32", path, exported)
    for name, options in {
        "ORT int8, dynamic": {"per_channel": False},
        "ORT int8, dynamic, by channel": {"per_channel": True},
    }.items():
        out = folder / f"{len(made)}.onnx"
        start = time.perf_counter()
        onnx.quantise_dynamic(path, out, embeddings=True, **options)
        keep_file(name, out, exported + time.perf_counter() - start)
    out = folder / "static.onnx"
    fixed = onnx.quantise_static
    _, more = timed(lambda: fixed(path, out, calibration, True, True))
    keep_file("ORT int8, static, by channel", out, exported + more)
    return made, size, seconds


def products_alone(made: dict) -> dict:
    """Seconds of MiniLM's 36 Linears by themselves, beside the whole encoder."""
    layers = pretrained.encoder().model.encoder
    linears = [m for m in layers.modules() if type(m) is nn.Linear]
    found = {}
    for length in (16, 128):
        fed = [(m, torch.randn(length, m.in_features)) for m in linears]
        batch = ids(1, length)
        calls = {"Linears": lambda fed=fed: [m(x) for m, x in fed]}
        for name in ("eager", "ORT float32"):
            calls[name] = lambda call=made[name], b=batch: call(b)
        runs = measure(calls, rounds=25, warmup=3).seconds
        found[str(length)] = {name: s.tolist() for name, s in runs.items()}
        told = ", ".join(f"{n} {1e3 * s.min():.1f}" for n, s in runs.items())
        print(f"{length} tokens, ms: {told}")
    return found


def three_times() -> dict:
    """Seconds of eager PyTorch and of ORT for encoders with random weights."""
    from transformers import BertConfig, BertModel

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for width in dict.fromkeys(width for width, _ in CURVE):
            torch.manual_seed(0)
            shape = {"num_hidden_layers": 2, "num_attention_heads": width // 64}
            config = BertConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                attn_implementation="sdpa",
                **shape,
            )
            encoder = Encoder(BertModel(config, add_pooling_layer=False)).eval()
            path = Path(folder, f"{width}.onnx")
            onnx.export(encoder, ids(2, 16), path, DYNAMIC, ["h"])
            for length in [length for w, length in CURVE if w == width]:
                batch, call = ids(1, length), in_runtime(path)
                theirs = in_torch(encoder)
                calls = {"eager": lambda b=batch, t=theirs: t(b)}
                calls["ORT"] = lambda b=batch, c=call: c(b)
                runs = measure(calls, rounds=40, warmup=5).seconds
                found[f"{width}, {length}"] = {n: s.tolist() for n, s in runs.items()}
                ratio = runs["eager"].min() / runs["ORT"].min()
                error = onnx.compare(onnx.session(path), encoder, [batch])[0]
                assert error < 1e-4, error
                print(f"width {width}, length {length}: eager ÷ ORT {ratio:.2f}")
    return found


def onnx_scoreboard() -> None:
    """MiniLM in eight ways, and the curve of eager PyTorch over ONNX Runtime."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made, size, seconds = candidates(Path(folder))
        samples: dict = {"bytes": size, "made in": seconds, "latency": {}}
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        samples["versions"] = versions
        samples["int8 instructions"] = torch.cpu._is_vnni_supported()
        for shape in SHAPES:
            batch = ids(*shape)
            calls = {n: lambda c=c, b=batch: c(b) for n, c in made.items()}
            runs = measure(calls, rounds=25, warmup=3).seconds
            samples["latency"]["{}×{}".format(*shape)] = {
                n: s.tolist() for n, s in runs.items()
            }
            told = ", ".join(f"{n} {1e3 * s.min():.1f}" for n, s in runs.items())
            print(f"{shape[0]} × {shape[1]} tokens, ms: {told}")
        samples["products alone"] = products_alone(made)
        samples["quality"] = {name: quality(call) for name, call in made.items()}
        grades = [pair.grade for pair in datasets.pairs()]
        for name, found in samples["quality"].items():
            rho = spearman(found["cosine"], grades)
            first = np.mean(np.array(found["place"]) == 1)
            print(f"{name:30} pairs {rho:.3f}, questions {first:.3f}")
    samples["three times"] = three_times()
    files = ["utils/onnx.py", "utils/encoders.py"]
    records.write("onnx_scoreboard", samples, files, threads=1)
