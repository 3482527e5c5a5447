"""Layer normalization: torch's own layers."""

from typing import Literal

from torch import nn

from normtables.norms import METHODS, Method
from normtables.norms.batches import check_epsilon


@METHODS.register("ln", version=1)
def ln(*, epsilon: float = 1e-5, position: Literal["before", "after"] = "before") -> Method:
    """Ba, Kiros & Hinton 2016 (arXiv 1607.06450), equation 4: y = g (x - mean) / sqrt(var + epsilon) + b per example.

    [n, channels]: mean and biased variance over the channels, torch's LayerNorm. [n, channels, ...]: over channels and
    trailing dimensions together with a gain and a shift per channel, torch's GroupNorm with one group: the usual
    reading for convolutions, which the paper (section 6.7) leaves open. g 1 and b 0 at the start; epsilon is torch's.
    Training and test compute the same. `position`: before the nonlinearity (the paper) or after it.
    """
    check_epsilon(epsilon)

    def layer(channels: int, dims: int) -> nn.Module:
        return nn.GroupNorm(1, channels, eps=epsilon) if dims else nn.LayerNorm(channels, eps=epsilon)

    return Method(norm=layer, shifts=True, after=position == "after")
