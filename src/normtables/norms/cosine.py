"""Cosine normalization: the cosine of weights and inputs instead of their product."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.spheres import Sphere, on_sphere

Product = nn.Linear | nn.Conv1d | nn.Conv2d


class Cosine(nn.Module):
    """y = gain cos(w, x) + bias around a weight layer; of a convolution with every patch x, padded zeros included.

    `layer` holds the unit vectors w / ||w|| (centred: (w - mean w) / ||w - mean w||) as its weight, and the bias where
    it has one. Inputs and outputs as those of the layer.
    """

    def __init__(self, layer: Product, centred: bool, epsilon: float, gain: float | None) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups != 1:
            raise UserError("norm=cosine: no convolution in groups")
        self.layer, self.centred, self.epsilon = layer, centred, epsilon
        self.fan_in, self.window = layer.weight[0].numel(), layer.weight.shape[2:]
        on_sphere(layer, Sphere(centred=centred, epsilon=epsilon))
        self.gain = None if gain is None else nn.Parameter(torch.tensor(gain))

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """w x at every place, without bias."""
        if isinstance(self.layer, nn.Linear):
            return functional.linear(x, weight)
        return self.layer._conv_forward(x, weight, None)

    def sums(self, x: Tensor) -> Tensor:
        """The sum over every patch, [n, 1, ...], through the channels' sum: a convolution with ones."""
        x = x.sum(1, keepdim=True)
        return self.product(x, x.new_ones(1, 1, *self.window))

    def squares(self, x: Tensor) -> Tensor:
        """||x||^2, or ||x - mean x||^2, of every input vector [..., 1] or patch [n, 1, ...]."""
        linear = isinstance(self.layer, nn.Linear)
        squares = x.square().sum(-1, keepdim=True) if linear else self.sums(x.square())
        if not self.centred:
            return squares
        if linear:
            rest = (x - x.mean(-1, keepdim=True)).square().sum(-1, keepdim=True)
        else:
            rest = squares - self.sums(x).square() / self.fan_in
        # Of constant inputs rounding alone is left; so little is taken for nothing.
        return torch.maximum(rest, 8 * torch.finfo(x.dtype).eps * squares)

    def forward(self, x: Tensor) -> Tensor:
        """The cosines; 0 for a vector or patch without length."""
        with torch.autocast(x.device.type, enabled=False):
            full = x.to(torch.promote_types(x.dtype, torch.float32))
            inverse = self.squares(full).clamp_min(self.epsilon**2).rsqrt()
        if self.centred and isinstance(self.layer, nn.Linear):
            x = x - x.mean(-1, keepdim=True)
        y = self.product(x, self.layer.weight)
        y = y * inverse.to(y.dtype)
        if self.gain is not None:
            y = y * self.gain
        bias = self.layer.bias
        return y if bias is None else y + bias.view([-1] + [1] * len(self.window))


@METHODS.register("cosine", version=1)
def cosine(
    *, centred: bool = False, head: Literal["linear", "scaled", "cosine"] = "linear", epsilon: float = 1e-6
) -> Method:
    """Luo et al. 2017 (arXiv 1702.05870): cos(w, x) = w x / (||w|| ||x||) in the place of w x, in [-1, 1].

    In linear layers and, for every patch, in convolutions; the weights keep the layer's shape. As in the paper there is
    neither gain nor bias (which it does not mention) in front of a nonlinearity, and training and test are alike.
    centred: Pearson's correlation, of w - mean w and x - mean x (the paper's second variant); means over the fan-in.
    head: the last layer, which the sources at hand leave open. "linear" is an ordinary one, since bounded logits keep
    cross-entropy away from 0; "cosine" gives cos(w, x) + b; "scaled" gives s cos(w, x) + b with one learned s, at the
    start sqrt(fan-in), by which the logits of random directions have variance 1.
    epsilon: least ||x||, and added to ||w||: a vector without length has cosine 0. Its value is our choice.
    """
    if not epsilon > 0:
        raise UserError(f"norm.epsilon={epsilon}: a positive number")

    def wrap(layer: nn.Module) -> nn.Module:
        assert isinstance(layer, Product)
        last = layer.bias is not None  # in front of a nonlinearity there is none
        if last and head == "linear":
            return layer
        gain = layer.weight[0].numel() ** 0.5 if last and head == "scaled" else None
        return Cosine(layer, centred, epsilon, gain)

    return Method(wrap=wrap, shifts=True)
