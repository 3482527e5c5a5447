"""Weights on spheres: the parametrization that several methods share."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Sphere(nn.Module):
    """w = gain d / (||d|| + epsilon) for every output unit or filter; d is v, or v - mean v where it is `centred`.

    Norm and mean go over all axes of v but the first. What is drawn for w becomes v: only its direction counts.
    """

    def __init__(self, gain: float = 1.0, centred: bool = False, epsilon: float = 0.0) -> None:
        super().__init__()
        self.gain, self.centred, self.epsilon = gain, centred, epsilon

    def scaled(self, v: Tensor, gain: Tensor | float) -> Tensor:
        """The unit vectors times the gain, in the shape of v."""
        axes = tuple(range(1, v.dim()))
        d = v - v.mean(axes, keepdim=True) if self.centred else v
        return d * (gain / (torch.linalg.vector_norm(d, dim=axes, keepdim=True) + self.epsilon))

    def forward(self, v: Tensor) -> Tensor:
        """The weight [out, ...] from v of the same shape."""
        return self.scaled(v, self.gain)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A v that gives the direction of a weight."""
        return weight


class LearnedSphere(Sphere):
    """The same with a learned gain for every output unit or filter, [out, 1, ...], at `gain` when weights are drawn."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """The weight [out, ...] from gains and v."""
        return self.scaled(v, g)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The gains at their beginning, and a v that gives the direction of a weight."""
        return torch.full_like(weight[(slice(None), *[slice(1)] * (weight.dim() - 1))], self.gain), weight


def on_sphere(layer: nn.Module, sphere: Sphere) -> nn.Module:
    """The layer with its weight on a sphere: `layer.weight` is what it computes with."""
    parametrize.register_parametrization(layer, "weight", sphere)
    return layer
