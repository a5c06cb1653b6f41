"""What every training run is made of: softmax, cross-entropy, gradients, a loop.

Scores (logits) come as z of shape (B, K): batch, classes.
"""

import math
from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn


def softmax(z: Tensor) -> Tensor:
    """Probabilities (..., K) from scores z (..., K): e^z, divided by their sum.

    The largest score is subtracted first. That changes nothing, for it cancels, except
    that no exponential can overflow.

    >>> softmax(torch.tensor([1000.0, 1000.0]))
    tensor([0.5000, 0.5000])
    """
    weights = (z - z.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Mean surprise −log p(right class), in nats: z (B, K), right classes y (B,).

    Worked out as logsumexp(z) − z_y, so that a probability too small for a float still
    has a logarithm. Raises ValueError where a class lies outside 0 … K − 1.
    """
    if not (0 <= int(y.min()) and int(y.max()) < z.shape[-1]):
        lowest, highest = int(y.min()), int(y.max())
        raise ValueError(f"classes {lowest} … {highest} among {z.shape[-1]} scores")
    right = z.gather(-1, y[:, None])[:, 0]  # (B,)
    top = z.amax(-1)
    return ((z - top[:, None]).exp().sum(-1).log() + top - right).mean()


class Number:
    """A number that remembers how it was made, so that gradients can flow back.

    `value` is the number, `grad` the derivative of the last result by it, known after
    that result's `backward()`. This is reverse-mode automatic differentiation, on
    single numbers; torch does the same on whole tensors.

    >>> x = Number(3.0)
    >>> (x * x + x).backward()
    >>> x.grad
    7.0
    """

    def __init__(self, value: float, made_from: tuple = (), slopes: tuple = ()):
        self.value, self.grad = value, 0.0
        self.made_from, self.slopes = made_from, slopes

    def __add__(self, other: Self) -> Self:
        return Number(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other: Self) -> Self:
        slopes = (other.value, self.value)
        return Number(self.value * other.value, (self, other), slopes)

    def exp(self) -> Self:
        value = math.exp(self.value)
        return Number(value, (self,), (value,))

    def log(self) -> Self:
        return Number(math.log(self.value), (self,), (1 / self.value,))

    def backward(self) -> None:
        """Set the grad of every number that this one was made from."""
        order, seen = [], set()

        def visit(number: Number) -> None:
            if id(number) not in seen:
                seen.add(id(number))
                for source in number.made_from:
                    visit(source)
                order.append(number)  # after all that it was made from

        visit(self)
        for number in order:
            number.grad = 0.0
        self.grad = 1.0
        for number in reversed(order):
            for source, slope in zip(number.made_from, number.slopes, strict=True):
                source.grad += slope * number.grad


def batches(count: int, size: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """The indices 0 … count − 1, shuffled, in pieces (size,); the last is shorter."""
    yield from torch.tensor(generator.permutation(count)).split(size)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of x (n, …) whose largest score, of (n, K), is that of its class y (n,)."""
    with torch.no_grad():
        return (model(x).argmax(-1) == y).double().mean().item()
