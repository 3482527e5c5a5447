"""Residual networks of fully connected layers."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from normtables.models import MODELS, Sizes
from normtables.models.fnn import check_sizes
from normtables.norms import Kit

# Units of a block's layers as shares of its width.
BLOCKS: Mapping[str, tuple[float, ...]] = {
    "rectangular_2": (1, 1),
    "rectangular_3": (1, 1, 1),
    "diavolo_25": (0.25, 0.25, 1),
    "diavolo_50": (0.5, 0.5, 1),
}


class Residual(nn.Module):
    """f(x + F(x)): [n, width] to the same; F's layers are linear, norm, nonlinearity, the last without the latter."""

    def __init__(self, kit: Kit, width: int, shares: tuple[float, ...]) -> None:
        super().__init__()
        *inner, last = pairwise([width, *(max(1, round(share * width)) for share in shares)])
        layers = [part for sizes in inner for part in (kit.linear(*sizes), kit.norm_act(sizes[1]))]
        self.residual = nn.Sequential(*layers, kit.linear(*last), kit.norm(width))
        self.act = kit.act()

    def forward(self, x: Tensor) -> Tensor:
        """The nonlinearity of the sum."""
        return self.act(x + self.residual(x))


@MODELS.register("resnet_fnn", version=1)
def resnet_fnn(
    kit: Kit,
    sizes: Sizes,
    *,
    depth: int,
    width: int,
    block: Literal["rectangular_2", "rectangular_3", "diavolo_25", "diavolo_50"],
    dropout: float,
) -> nn.Module:
    """He et al. 2016 (arXiv 1512.03385), section 3.2, with fully connected layers, as in Klambauer et al. 2017, A4.1.

    [n, *inputs] to [n, outputs]; inputs of any shape are flattened. A layer brings the inputs to `width` units, as the
    first convolution does there; `depth` residual blocks with identity shortcuts and the nonlinearity behind the sum
    follow, then a linear layer. depth counts blocks, not layers. dropout: the rate behind each block.
    block: two or three layers of equal width, or three of which two have 25 % or 50 % of it (He et al.'s bottleneck,
    figure 5; the paper on FNNs calls it diavolo). These four are our reading of the paper's "blocks of 2 or 3 layers",
    "rectangular or diavolo" and "bottleneck 25 %, 50 %": with its three widths, five depths and three learning rates
    they make its 180 configurations without one that is counted twice.
    """
    check_sizes(depth, width, dropout)
    layers: list[nn.Module] = [kit.inputs(), nn.Flatten()]
    layers += [kit.linear(math.prod(sizes["inputs"]), width), kit.norm_act(width)]
    for _ in range(depth):
        layers += [Residual(kit, width, BLOCKS[block]), *([kit.dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, kit.head(width, sizes["outputs"]))
