"""No network: the inputs are features already, passed on for a classifier that the task fits."""

from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes
from normtables.norms import Kit, Method


@MODELS.register("features", version=1)
def features(kit: Kit, sizes: Sizes) -> nn.Module:
    """[n, *inputs] to [n, d], flattened; there is nothing to train, so the budget is 0 steps."""
    if kit.method != Method():
        raise UserError("model=features has no layers that a method could normalise; set norm=none")
    return nn.Flatten()
