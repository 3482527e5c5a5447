"""Fully connected networks of equal or shrinking layers: the networks of the self-normalizing networks paper."""

import math
from typing import Literal

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.models.checks import check_dropout
from normtables.norms import Kit


@MODELS.register("fnn", version=1)
def fnn(
    kit: Kit, sizes: Sizes, *, depth: int, width: int, form: Literal["rectangular", "conic"], dropout: float
) -> nn.Module:
    """Klambauer et al. 2017 (arXiv 1706.02515), appendix A4.1: `depth` hidden layers and a linear layer on top.

    [n, *inputs] to [n, outputs]; inputs of any shape are flattened. Each hidden layer is linear, norm, nonlinearity,
    dropout. depth: hidden layers, 2 to 32 in the paper; the layer on top is not counted.
    form: "rectangular", all layers have `width` units; "conic", from `width` in the first down to the number of outputs
    by a constant factor, layer i (from 0) has width (outputs / width)^(i / depth) of them, rounded.
    dropout: the rate behind each hidden layer; the inputs are left whole.
    """
    check_sizes(depth, width, dropout)
    inputs, outputs = math.prod(sizes["inputs"]), sizes["outputs"]
    widths = [width] * depth if form == "rectangular" else cone(width, outputs, depth)
    layers: list[nn.Module] = [kit.inputs(), nn.Flatten()]
    for before, after in zip([inputs, *widths], widths):
        layers += [kit.linear(before, after), kit.norm_act(after), *([kit.dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, kit.head(widths[-1], outputs))


def cone(width: int, outputs: int, depth: int) -> list[int]:
    """Units of `depth` hidden layers that go from `width` to `outputs`, those of the layer behind them, by a factor."""
    return [max(1, round(width * (outputs / width) ** (layer / depth))) for layer in range(depth)]


def check_sizes(depth: int, width: int, dropout: float) -> None:
    """Raise UserError for a depth or width below 1 and for a rate outside [0, 1)."""
    if depth < 1 or width < 1:
        raise UserError(f"model.depth={depth}, model.width={width}: at least 1 each")
    check_dropout(dropout)
