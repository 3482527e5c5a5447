"""Instance normalization: torch's own layers."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import check_epsilon


def check_space(x: Tensor) -> None:
    """Raise UserError where a channel of [n, channels, ...] is a single value, which has no spread."""
    if x.shape[2:].numel() == 1:
        raise UserError(
            f"norm=inorm at shape {list(x.shape)}: a channel of one value has no spread; take larger inputs or norm=gn"
        )


class InstanceNorm1d(nn.InstanceNorm1d):
    """torch's layer, with a UserError for channels of one value."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, length]."""
        check_space(input)
        return super().forward(input)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's layer, with a UserError for channels of one value; channels_last stays."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, height, width]."""
        check_space(input)
        if input.is_contiguous():
            return super().forward(input)
        # The same by a kernel that takes channels_last, which the layer's own copies away.
        return functional.group_norm(input, self.num_features, self.weight, self.bias, self.eps)


LAYERS = {1: InstanceNorm1d, 2: InstanceNorm2d}


class Affine(nn.Module):
    """y = weight x + bias for [n, channels]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel, in the type of x."""
        return torch.addcmul(self.bias, x, self.weight).to(x.dtype)


@METHODS.register("inorm", version=1)
def inorm(*, epsilon: float = 1e-5, position: Literal["before", "after"] = "before") -> Method:
    """Ulyanov, Vedaldi & Lempitsky 2016 (arXiv 1607.08022), section 2: per example and channel, y = gamma (x - mean) /
    sqrt(var + epsilon) + beta.

    Mean and biased variance over the trailing dimensions of [n, channels, ...], which must hold two values or more;
    gamma and beta per channel, 1 and 0 at the start; epsilon is torch's. Training and test compute the same.
    A channel of flat inputs [n, channels] is a single value that nothing can be normalised by: there the layer is the
    gain and the shift alone, so that a network with fully connected layers on top of its convolutions keeps them plain.
    `position`: before the nonlinearity (the paper) or after it.
    """
    check_epsilon(epsilon)

    def layer(channels: int, dims: int) -> nn.Module:
        return LAYERS[dims](channels, eps=epsilon, affine=True) if dims else Affine(channels)

    return Method(norm=layer, shifts=True, after=position == "after")
