"""Self-normalizing networks: SELU, LeCun's initial weights and alpha dropout instead of norm layers."""

from typing import Literal

from torch import nn

from normtables.errors import UserError
from normtables.norms import METHODS, Maxout, Method


@METHODS.register("snn", version=1)
def snn(*, dropout: float | None = None, noise: Literal["alpha", "plain"] = "alpha") -> Method:
    """Klambauer et al. 2017 (arXiv 1706.02515): f(x) = lambda x for x > 0, lambda alpha (e^x - 1) elsewhere.

    Activations drift to mean 0 and variance 1 by themselves: lambda = 1.0507..., alpha = 1.6732... (equation 14: the
    fixed point (0, 1)); f stands in the place of the model's nonlinearity, and on top of maxout units, where it is the
    largest of the pieces' SELUs, as SELU grows. Weights of all layers, the last one too, from N(0, 1 / fan_in),
    biases 0 (section 3, "Initialization"). Alpha dropout (section 3, "New dropout technique") in the place of dropout:
    a dropped value becomes -lambda alpha, then a x + b keeps mean and variance; torch's layer.
    No state, and the same computation in training and test but for the dropout; any batch size. Under torch.func.vmap
    alpha dropout wants randomness="different" or "same", as torch's dropout does.

    dropout: rate at every dropout of the model; null: the model's own rates. The paper advises 0.05 or 0.1.
    noise: alpha dropout, or ordinary ("plain") dropout, which leaves the fixed point.
    """
    if dropout is not None and not 0 <= dropout < 1:
        raise UserError(f"norm.dropout={dropout}: a rate in [0, 1), or null for the model's own")
    layer = {"alpha": nn.AlphaDropout, "plain": nn.Dropout}[noise]
    return Method(
        act=lambda make: nn.SELU(),
        maxout=lambda pieces: nn.Sequential(Maxout(pieces), nn.SELU()),
        dropout=lambda rate: layer(rate if dropout is None else dropout),
        init=draw_lecun_normal,
    )


def draw_lecun_normal(model: nn.Module) -> None:
    """Draw every weight layer anew: weights from N(0, 1 / fan_in), biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
