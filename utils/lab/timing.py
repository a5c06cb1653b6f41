"""Comparing speed and memory honestly: interleaved, warmed, threads fixed."""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from utils.lab.numbers import spell


def ratio(seconds, slow: str, fast: str, level: float = 0.95) -> tuple[float, ...]:
    """How many times longer `slow` takes: median ratio within rounds, low, high.

    `seconds[name]` has one entry a round. The interval is a bootstrap over rounds;
    ratios within a round are steadier than ratios of totals, because a round's runs
    share the machine's mood.
    """
    ratios = np.array(seconds[slow]) / np.array(seconds[fast])
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    medians = np.median(draws, axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(np.median(ratios)), float(low), float(high)


@dataclass(frozen=True)
class Timings:
    """Seconds of every run: `seconds[name]` has one entry a round."""

    seconds: dict[str, np.ndarray]
    threads: int

    def best(self, name: str) -> float:
        """The minimum in seconds: what the code costs when nothing disturbs it."""
        return float(self.seconds[name].min())

    def ratio(self, slow: str, fast: str, level: float = 0.95) -> tuple[float, ...]:
        """How many times longer `slow` takes: `ratio` of these timings."""
        return ratio(self.seconds, slow, fast, level)

    def __str__(self) -> str:
        first = next(iter(self.seconds))
        lines = [f"{'':16}  min ms  middle half      × {first}"]
        for name, runs in self.seconds.items():
            low, high = (spell(q * 1e3) for q in np.quantile(runs, [0.25, 0.75]))
            middle, least, most = (spell(r) for r in self.ratio(name, first))
            best = spell(runs.min() * 1e3)
            lines.append(
                f"{name:16}  {best} {low} … {high}  {middle} [{least}, {most}]"
            )
        return "\n".join(lines)

    def strip(self, ax) -> None:
        """Every run as a dot on a logarithmic axis of milliseconds, one row a name."""
        for row, (name, runs) in enumerate(self.seconds.items()):
            jitter = np.linspace(-0.25, 0.25, len(runs))
            ax.plot(runs * 1e3, row + jitter, ".", alpha=0.5, label=name)
            ax.plot(runs.min() * 1e3, row, "k|", markersize=18)
        ax.set(xscale="log", xlabel="milliseconds", yticks=range(len(self.seconds)))
        ax.set_yticklabels(self.seconds)


def measure(
    candidates: dict[str, Callable[[], object]],
    rounds: int = 30,
    warmup: int = 3,
    threads: int = 1,
) -> Timings:
    """Time the callables in turn, round after round, so that none has the quiet hour.

    Runs under `torch.inference_mode` on `threads` threads; the first `warmup` rounds
    are thrown away. Raises ValueError without a candidate or a round.
    """
    if not candidates or rounds < 1:
        raise ValueError(f"{len(candidates)} candidates in {rounds} rounds: no timing")
    import torch

    before = torch.get_num_threads()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for _ in range(warmup + rounds):
                for name, call in candidates.items():
                    start = time.perf_counter()
                    call()
                    seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return Timings({n: np.array(s[warmup:]) for n, s in seconds.items()}, threads)


@contextmanager
def _quiet_stderr():
    """torch's profiler greets on the file descriptor itself, below Python's stderr."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def peak_bytes(call: Callable, *arguments) -> int:
    """The most bytes of tensors that `call(*arguments)` held at once, beyond before.

    Every allocation and release of torch's CPU allocator is counted, so the number is
    exact; memory that Python or NumPy takes is not in it.
    """
    from torch.profiler import ProfilerActivity, profile

    with _quiet_stderr():
        recorded = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        with recorded:
            kept = call(*arguments)
        del kept
    events = [
        event
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    events.sort(key=lambda event: event.start_ns())
    return max([0, *np.cumsum([event.nbytes() for event in events]).tolist()])
