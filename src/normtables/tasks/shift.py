"""How far two domains are apart inside a network: the divergence of what each norm layer is given of either."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from normtables.norms.statistics import deviation, rows_of, watched

Moments = tuple[Tensor, Tensor]  # mean and variance of each channel, float64
VARIANCE = 1e-5  # added to variances, as norm layers do: a channel that is dead in one domain is not infinitely far


def moments(model: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Tensor]) -> dict[str, Moments]:
    """Mean and biased variance of what each layer is given over all batches (Chan, Golub & LeVeque 1983)."""
    names = {layer: name for name, layer in layers.items()}
    found: dict[str, tuple[Tensor, Tensor, int]] = {}

    def take(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = rows_of(inputs[0])
        newest, name = rows.mean(1), names[layer]
        mean, variance, count = found.get(name, (newest, torch.zeros_like(newest), 0))
        share, step = rows.shape[1] / (count + rows.shape[1]), newest - mean
        variance = (1 - share) * variance + share * deviation(rows, newest, 2) + share * (1 - share) * step.square()
        found[name] = mean + share * step, variance, count + rows.shape[1]

    with watched(list(layers.values()), take):
        for batch in batches:
            model(batch)
    return {name: (mean, variance) for name, (mean, variance, _) in found.items()}


def divergence(one: Moments, other: Moments) -> float:
    """The mean over channels of KL(one | other) + KL(other | one) of Gaussians with these moments, in nats.

    As Pan et al. 2018 (IBN-Net, arXiv 1807.09441), section 3.3, compare the features of two domains.
    """
    (mean, variance), (beyond, spread) = ((m, v + VARIANCE) for m, v in (one, other))
    square = (mean - beyond).square()
    return ((variance + square) / spread + (spread + square) / variance - 2).mean().item() / 2
