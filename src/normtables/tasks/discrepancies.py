"""How far the features of two domains are apart, as losses: DDC, DAN, Deep CORAL."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["linear", "quadratic"]
Discrepancy = Callable[[Tensor, Tensor], Tensor]  # features [n, d] of the source and of the target -> one number

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)  # widths of DAN's Gaussian kernels, as multiples of the mean squared distance


def means(source: Tensor, target: Tensor) -> Tensor:
    """Tzeng et al. 2014 (DDC, arXiv 1412.3474), equation 1 squared: |mean of source - mean of target|^2."""
    return (source.mean(0) - target.mean(0)).square().sum()


def covariances(source: Tensor, target: Tensor) -> Tensor:
    """Sun & Saenko 2016 (Deep CORAL, arXiv 1607.01719), equation 1: |C_S - C_T|_F^2 / (4 d^2)."""
    return (source.T.cov() - target.T.cov()).square().sum() / (4 * source.shape[1] ** 2)


def kernels(estimator: Estimator) -> Discrepancy:
    """Long et al. 2015 (DAN, arXiv 1502.02791), equation 2: squared MMD under the sum of five Gaussian kernels.

    Kernels exp(-|x - y|^2 / (m b)) for m in MULTIPLES; b is the mean squared distance of two different examples of
    the batch, both domains together, and no gradient flows through it (the authors' code; the paper learns weights
    of the kernels by a quadratic programme).
    estimator="linear": over neighbours in the batch, in a circle, which costs O(n); the two batches have one size.
    "quadratic": over all pairs.
    """
    return neighbours if estimator == "linear" else pairs


def neighbours(source: Tensor, target: Tensor) -> Tensor:
    """The mean of k(s, s') + k(t, t') - k(s, t') - k(s', t) over examples and their next ones."""
    width = mean_distance(torch.cat([source, target]))
    ahead, beyond = source.roll(-1, 0), target.roll(-1, 0)

    def mean(x: Tensor, y: Tensor) -> Tensor:
        return kernel((x - y).square().sum(1), width).mean()

    return mean(source, ahead) + mean(target, beyond) - mean(source, beyond) - mean(ahead, target)


def pairs(source: Tensor, target: Tensor) -> Tensor:
    """The mean of k over different examples of the source, that of the target, less twice that over both domains."""
    width = mean_distance(torch.cat([source, target]))

    def mean(x: Tensor) -> Tensor:
        """Without the examples themselves, where the kernels are 1."""
        n = len(x)
        return (kernel(distances(x, x), width).sum() - len(MULTIPLES) * n) / (n * (n - 1))

    return mean(source) + mean(target) - 2 * kernel(distances(source, target), width).mean()


def kernel(squares: Tensor, width: Tensor) -> Tensor:
    """The sum of the Gaussian kernels at squared distances."""
    return torch.stack([torch.exp(-squares / (multiple * width)) for multiple in MULTIPLES]).sum(0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [n, m] of each x from each y; exactly 0 of an x from itself."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def mean_distance(x: Tensor) -> Tensor:
    """The mean squared distance of two different rows, in O(n): 2 / (n - 1) times the squares about the mean."""
    x = x.detach()
    spread = (x - x.mean(0)).square().sum() * 2 / (len(x) - 1)
    return spread.clamp_min(torch.finfo(x.dtype).eps)  # features may be all alike
