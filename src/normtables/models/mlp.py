"""Fully connected networks of any depth and width."""

import math

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.models.checks import check_dropout
from normtables.norms import Kit


@MODELS.register("mlp", version=1)
def mlp(kit: Kit, sizes: Sizes, *, widths: list[int], dropout: float = 0.0) -> nn.Module:
    """Hidden layers of the given `widths`, each linear, norm, nonlinearity, dropout; a linear layer on top.

    [n, *inputs] to [n, outputs]; inputs of any shape are flattened. `dropout`: the rate after each hidden layer.
    """
    check_dropout(dropout)
    if not all(width >= 1 for width in widths):
        raise UserError(f"model.widths={widths}: every width is at least 1")
    inputs = math.prod(sizes["inputs"])
    layers: list[nn.Module] = [kit.inputs(), nn.Flatten()]
    for before, width in zip([inputs, *widths], widths):
        layers += [kit.linear(before, width), kit.norm_act(width), *([kit.dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, kit.head(widths[-1] if widths else inputs, sizes["outputs"]))
