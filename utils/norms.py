"""Normalisation layers, each a few lines: mean and variance over a set of axes.

Texts come as x of shape (B, L, D): batch, length, features. Every function returns a
tensor of x's shape. Scales (`weight`) and shifts (`bias`) are optional.
"""

import torch
from torch import Tensor, nn


def widened(x: Tensor) -> Tensor:
    """x in float32 at least: sums and squares of 16-bit numbers lose digits, or all."""
    return x.float() if x.element_size() < 4 else x


def standardise(x: Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Subtract the mean over `axes`, divide by the standard deviation over them.

    The variance is the mean squared deviation (divisor n, not n − 1) and eps stands
    inside the root. Subtracting first keeps the digits where the mean is large.

    >>> standardise(torch.tensor([1.0, 3.0]), (0,), eps=0.0)
    tensor([-1.,  1.])
    """
    wide = widened(x)
    centred = wide - wide.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return (centred / torch.sqrt(variance + eps)).to(x.dtype)


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x · weight + bias over the last axis; None leaves that part out."""
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def layer_norm(x, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """Each token vector by itself: statistics over D. weight, bias: (D,).

    Ba, Kiros and Hinton 2016, arXiv 1607.06450, section 3.
    """
    return affine(standardise(x, (-1,), eps), weight, bias)


def rms_norm(x, weight=None, eps: float = 1e-6) -> Tensor:
    """Each token vector divided by its root mean square; no mean, no bias.

    Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
    """
    wide = widened(x)
    rms = torch.sqrt(wide.square().mean(-1, keepdim=True) + eps)
    return affine((wide / rms).to(x.dtype), weight, None)


def instance_norm(x, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """Each text and feature by itself: statistics over L. weight, bias: (D,).

    Ulyanov, Vedaldi and Lempitsky 2016, arXiv 1607.08022.
    """
    return affine(standardise(x, (1,), eps), weight, bias)


def group_norm(x, groups: int, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """Each text and group of D/groups neighbouring features: statistics over both.

    Wu and He 2018, arXiv 1803.08494. Raises ValueError if groups does not divide D.
    """
    B, L, D = x.shape
    if D % groups:
        raise ValueError(f"{groups} groups do not divide D = {D} features")
    grouped = x.reshape(B, L, groups, D // groups)
    return affine(standardise(grouped, (1, 3), eps).reshape(x.shape), weight, bias)


def batch_statistics(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance (divisor n) of each feature over batch and length: two (D,).

    `mask` (B, L) is true on real tokens; the others do not count. Raises ValueError
    where fewer than two tokens are left, for then there is nothing to standardise.
    """
    rows = x.reshape(-1, x.shape[-1]) if mask is None else x[mask.bool()]  # (n, D)
    if len(rows) < 2:
        raise ValueError(f"batch statistics of {len(rows)} token(s): need two or more")
    return rows.mean(0), rows.var(0, correction=0)


def batch_norm(x, weight=None, bias=None, eps: float = 1e-5, mask=None) -> Tensor:
    """Each feature over all tokens of the batch: statistics over (B, L).

    Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1. weight, bias: (D,).
    """
    mean, variance = batch_statistics(x, mask)
    return affine((x - mean) / torch.sqrt(variance + eps), weight, bias)


class BatchNorm(nn.Module):
    """Batch normalisation with memory: batch statistics first, running ones later.

    Takes x (B, L, D) or (B, D), features last. The running variance is kept unbiased
    (divisor n − 1) as torch keeps it; parameters and buffers carry torch's names, so
    that state_dict goes both ways with `torch.nn.BatchNorm1d`.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not self.training:
            centred = x - self.running_mean
            scaled = centred / torch.sqrt(self.running_var + self.eps)
            return affine(scaled, self.weight, self.bias)
        with torch.no_grad():
            mean, variance = batch_statistics(x, mask)
            count = x[..., 0].numel() if mask is None else int(mask.sum())
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        return batch_norm(x, self.weight, self.bias, self.eps, mask)


def whiten(x: Tensor, method: str = "zca", eps: float = 0.0) -> Tensor:
    """Features of x (n, D) made uncorrelated with variance one: cov(result) = I.

    "pca" turns to the principal axes and scales them; "zca" then turns back, which
    stays closest to x. eps is added to the eigenvalues. O(nD² + D³). Raises ValueError
    for another method, or where n ≤ D leaves the covariance without an inverse.
    """
    n, D = x.shape
    if method not in ("pca", "zca"):
        raise ValueError(f"method {method!r} is neither 'pca' nor 'zca'")
    if n <= D and not eps:
        raise ValueError(f"{n} rows cannot whiten {D} features: the rank is too low")
    centred = x - x.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / n)  # (D,), (D, D)
    turned = centred @ axes / torch.sqrt(values + eps)
    return turned if method == "pca" else turned @ axes.T
