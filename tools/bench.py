"""Time ours beside the library's, in one process: prints, and writes the records.

A ratio of 1 is a tie, 2 means that the first takes twice as long. Forward and backward,
one thread, float32.

python tools/bench.py [name ...]
"""

import sys

import torch
from bench_bert import bert_int8
from bench_onnx import onnx_scoreboard
from bench_quantization import quantization_speed
from bench_tokenizers import tokenizers_speed
from torch.nn import functional as F

from utils import crf, norms
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


CRF_SIZES = {"sentences": (32, 64, 9), "more tags": (32, 128, 25), "one": (1, 64, 9)}


def plain_crf(layer: crf.CRF):
    """The log-likelihood of `layer` (batch first) with log Z in logarithms."""

    def likelihood(emissions, tags, mask):
        emissions, mask, tags = layer._time_first(emissions, mask, tags)
        scores = layer._scores(emissions)
        gold = crf.path_scores(emissions, tags, mask, *scores)
        return (gold - crf.log_partition_in_logs(emissions, mask, *scores)).sum()

    return likelihood


def kept_bytes(call) -> int:
    """Bytes of the storages that autograd saves during `call`, each counted once."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = call()
    del result
    return sum(storage.nbytes() for storage in kept.values())


def crf_speed() -> None:
    """Loss with its gradient, and decoding: ours, ours in logarithms, pytorch-crf's."""
    from torchcrf import CRF as Library

    samples: dict = {}
    print("crf: theirs ÷ ours, median [95% interval], ragged masks, one thread")
    for size, (B, L, K) in CRF_SIZES.items():
        torch.manual_seed(0)
        ours, theirs = crf.CRF(K, batch_first=True), Library(K, batch_first=True)
        theirs.load_state_dict(ours.state_dict())
        emissions, tags = torch.randn(B, L, K), torch.randint(K, (B, L))
        lengths = torch.randint(L // 4, L + 1, (B,))
        lengths[0] = L
        mask = torch.arange(L) < lengths[:, None]
        losses = {"ours": ours, "plain": plain_crf(ours), "pytorch-crf": theirs}

        def loss(name, losses=losses, given=(emissions, tags, mask)):
            return losses[name](given[0].clone().requires_grad_(), *given[1:])

        def step(name, loss=loss):
            def run():
                with torch.inference_mode(False), torch.enable_grad():
                    loss(name).backward()

            return run

        decoders = {
            n: lambda d=d, e=emissions, m=mask: d.decode(e, m)
            for n, d in [("ours", ours), ("pytorch-crf", theirs)]
        }
        training = measure({n: step(n) for n in losses}, rounds=60, warmup=10)
        decoding = measure(decoders, rounds=60, warmup=10)
        memory = {
            n: {
                "kept": kept_bytes(lambda n=n: loss(n)),
                "peak": peak_bytes(step(n)),
            }
            for n in losses
        }
        for what, timings in {"loss": training, "decode": decoding}.items():
            for slow in list(timings.seconds)[1:]:
                middle, low, high = timings.ratio(slow, "ours")
                ratio = f"{middle:5.2f} [{low:.2f}, {high:.2f}]"
                print(f"{size:10} {what:7} {slow:12} {ratio}")
        for n, held in memory.items():
            kept, peak = (held[what] / emissions.nbytes for what in ("kept", "peak"))
            print(
                f"{size:10} memory  {n:12} {kept:5.1f} blocks kept, {peak:.1f} at most"
            )
        samples[size] = {
            "shape": [B, L, K],
            "loss": {n: s.tolist() for n, s in training.seconds.items()},
            "decode": {n: s.tolist() for n, s in decoding.seconds.items()},
            "bytes": memory,
        }
    records.write("crf_speed", samples, ["utils/crf.py"], threads=1)


BENCHES = {
    f.__name__: f
    for f in [
        norms_speed,
        crf_speed,
        tokenizers_speed,
        quantization_speed,
        bert_int8,
        onnx_scoreboard,
    ]
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
