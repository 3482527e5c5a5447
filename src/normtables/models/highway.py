"""Highway networks: layers that carry part of their input on, as much as a learned gate says."""

import math
from itertools import chain

import torch
from torch import Tensor, nn

from normtables.models import MODELS, Sizes
from normtables.models.fnn import check_sizes
from normtables.norms import Kit


class Highway(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), T(x) = sigmoid(W x + b + shift): [n, width] to the same (equations 2 and 3).

    b begins at 0, so `shift` is the paper's initial bias of the gate, and no way to draw weights takes it away.
    """

    def __init__(self, kit: Kit, width: int, shift: float) -> None:
        super().__init__()
        self.plain = nn.Sequential(kit.linear(width, width), kit.norm_act(width))
        self.gate = kit.head(width, width)
        self.shift = shift
        if isinstance(self.gate.bias, Tensor):
            nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Carry and transform."""
        return torch.lerp(x, self.plain(x), torch.sigmoid(self.gate(x) + self.shift))

    def extra_repr(self) -> str:
        """The gate's shift."""
        return f"shift={self.shift}"


@MODELS.register("highway", version=1)
def highway(kit: Kit, sizes: Sizes, *, depth: int, dropout: float, gate_bias: float) -> nn.Module:
    """Srivastava, Greff & Schmidhuber 2015 (arXiv 1505.00387), section 2: `depth` highway layers, a linear one on top.

    [n, *inputs] to [n, outputs]; inputs of any shape are flattened. All layers are as wide as the inputs, which a
    highway layer carries on as they are: the networks paper that compares them lists no width. H is linear, norm,
    nonlinearity; the gate is a weight layer without norm. dropout: the rate behind each highway layer.
    gate_bias: initial bias of the transform gates; negative, so that layers carry at first (the paper, section 2.2: for
    instance -1 or -3).
    """
    width = math.prod(sizes["inputs"])
    check_sizes(depth, width, dropout)
    layers = ([Highway(kit, width, gate_bias), *([kit.dropout(dropout)] if dropout else [])] for _ in range(depth))
    return nn.Sequential(kit.inputs(), nn.Flatten(), *chain(*layers), kit.head(width, sizes["outputs"]))
