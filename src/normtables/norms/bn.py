"""Batch normalization: torch's own layers."""

from typing import Literal

from torch import nn

from normtables.norms import METHODS, Method

LAYERS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


@METHODS.register("bn", version=1)
def bn(*, epsilon: float = 1e-5, momentum: float = 0.1, position: Literal["before", "after"] = "before") -> Method:
    """Ioffe & Szegedy 2015 (arXiv 1502.03167), Algorithm 1: y = gamma (x - mean_B) / sqrt(var_B + epsilon) + beta.

    At test time the running mean and unbiased variance are used; `momentum` is the weight of the newest batch in them
    (torch's default, 0.1). Statistics over the batch and all trailing dimensions; gamma 1 and beta 0 at the start.
    `position`: before the nonlinearity (the paper, section 3.2) or after it.
    """
    return Method(
        norm=lambda channels, dims: LAYERS[dims](channels, eps=epsilon, momentum=momentum),
        shifts=True,
        after=position == "after",
    )
