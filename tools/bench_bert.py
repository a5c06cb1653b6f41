"""int8 in PyTorch, timed: single layers, MiniLM, and the architecture of BERT-base.

bert-base-chinese's shape with seeded random weights: sizes and speeds do not depend on
what the weights are. One thread, candidates in turn.
"""

import copy
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn

from utils import quantization
from utils.encoders import Encoder
from utils.lab import measure, pretrained, records

LAYERS = {
    f"{width} × {width}, {rows}": (width, rows)
    for width in (64, 768)
    for rows in (1, 16, 1024)
}
LENGTHS = {"MiniLM": [16, 128], "BERT-base": [18, 128]}


def bert_base(layers: int = 12) -> nn.Module:
    """The architecture of bert-base-chinese (vocabulary 21,128), random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=21_128, num_hidden_layers=layers, attn_implementation="sdpa"
    )
    return BertModel(config).eval()


def dynamic(model: nn.Module) -> nn.Module:
    """The notes' call: deprecated, and still there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise = torch.ao.quantization.quantize_dynamic
        return quantise(model, {nn.Linear}, torch.qint8)


def with_torchao(model: nn.Module) -> nn.Module:
    """Today's call: int8 weights and activations by torchao."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = copy.deepcopy(model)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model


def ours(model: nn.Module) -> nn.Module:
    """The course's dynamic Linear in every place."""
    return quantization.quantise_model(
        model, lambda name, linear: quantization.DynamicLinear(linear)
    )


def seconds(calls: dict, rounds: int) -> dict[str, list[float]]:
    found = measure(calls, rounds=rounds, warmup=3).seconds
    return {name: runs.tolist() for name, runs in found.items()}


def file_bytes(model: nn.Module) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        torch.save(model.state_dict(), path)
        return path.stat().st_size


def single_layers() -> dict:
    """Four equal Linears in a row, float32 and int8."""
    found = {}
    for name, (width, rows) in LAYERS.items():
        torch.manual_seed(0)
        plain = nn.Sequential(*(nn.Linear(width, width) for _ in range(4))).eval()
        small, x = dynamic(plain), torch.randn(rows, width)
        calls = {
            "float32": lambda p=plain, x=x: p(x),
            "int8": lambda s=small, x=x: s(x),
        }
        found[name] = seconds(calls, 300)
        ratio = min(found[name]["float32"]) / min(found[name]["int8"])
        print(f"four Linears {name}: float32 ÷ int8 {ratio:.2f}")
    return found


MODELS = {"MiniLM": lambda: pretrained.encoder().model, "BERT-base": bert_base}


def whole_models(names=("MiniLM", "BERT-base")) -> tuple[dict, dict]:
    """Seconds by length, and bytes of files, of five versions of the named encoders."""
    times, sizes = {}, {}
    for name in names:
        make = MODELS[name]
        plain = Encoder(make()).eval()
        versions = {"float32": plain, "torch int8": dynamic(plain), "ours": ours(plain)}
        sizes[name] = {n: file_bytes(versions[n]) for n in ("float32", "torch int8")}
        versions["torchao int8"] = with_torchao(plain)
        versions["torchao, compiled"] = torch.compile(versions["torchao int8"])
        for length in LENGTHS[name]:
            ids = torch.arange(1000, 1000 + length)[None]
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            calls = {n: lambda m=m, b=batch: m(**b) for n, m in versions.items()}
            key = f"{name}, {length}"
            times[key] = seconds(calls, 12)
            base = min(times[key]["float32"])
            told = {n: f"{base / min(s):.2f}" for n, s in times[key].items()}
            print(f"{key} tokens, {1e3 * base:.1f} ms; times faster:", told)
    return times, sizes


def first_calls() -> dict[str, list[float]]:
    """The first call of a new copy of MiniLM and thirty more, five times over."""
    found, ids = {}, torch.arange(1000, 1018)[None]
    for trial in range(5):
        model = copy.deepcopy(pretrained.encoder().model)
        runs = []
        for _ in range(31):
            start = time.perf_counter()
            model(input_ids=ids)  # as the notes call it: with gradients
            runs.append(time.perf_counter() - start)
        found[str(trial)] = runs
    return found


def without_int8_instructions() -> dict:
    """MiniLM once more, in a process that may use AVX2 and nothing newer."""
    lesser = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    lesser["FBGEMM_ENABLE_INSTRUCTIONS"] = "AVX2"
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | lesser,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    *told, last = done.stdout.splitlines()
    print("without int8 instructions:", *told, sep="\n  ")
    return json.loads(last)


def bert_int8() -> None:
    """int8 in PyTorch: layers, models, files, first calls."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    samples: dict = {"layers": single_layers(), "first": first_calls()}
    samples["models"], samples["bytes"] = whole_models()
    samples["without int8 instructions"] = without_int8_instructions()
    records.write("bert_int8", samples, ["utils/quantization.py"], threads=1)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(json.dumps(whole_models(["MiniLM"])[0]))
