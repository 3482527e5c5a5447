"""Weight normalization: torch's parametrization, and the data-dependent initialisation of its paper."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from normtables.errors import UserError
from normtables.norms import METHODS, Method, nothing


@METHODS.register("wn", version=1)
def wn(*, data_init: bool = False) -> Method:
    """Salimans & Kingma 2016 (arXiv 1602.07868), equation 2: w = g v / ||v|| for every output unit or filter.

    Every weight layer, the last one included, keeps its bias; v has the layer's weight shape [out, ...] and g is
    [out, 1, ...]. A drawn weight w becomes v = w, g = ||w||, so at the start the network is the plain one. LSTM layers
    are torch's with both matrices normalised, every unit of every gate by itself.
    data_init: section 3's initialisation instead: one pass of the first training batch sets g and the bias of each
    layer so that its pre-activations there have mean 0 and variance 1. The paper uses it for all but recurrent
    networks; torch has none, which is the default here.
    """
    prepare = initialise_by_data if data_init else nothing
    return Method(wrap=parametrizations.weight_norm, recurrent=lstm, prepare=prepare)


def lstm(inputs: int, hidden: int) -> nn.Module:
    """torch's LSTM layer with weight-normalised matrices."""
    layer = nn.LSTM(inputs, hidden)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parametrizations.weight_norm(layer, name)
    return layer


def initialise_by_data(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Standardise the pre-activations of the first training batch, layer by layer in one pass (section 3).

    A layer sees what the layers before it give after their own initialisation. A layer without a bias is scaled only.
    """
    layers = [layer for layer in model.modules() if is_parametrized(layer, "weight")]
    hooks = [layer.register_forward_hook(Standardise()) for layer in layers]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()


class Standardise:
    """A forward hook that sets g <- g / s and b <- (b - m) / s by mean m and deviation s of the first output in
    training mode: what is computed for a batch before (targets of Q-learning) does not count."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, layer: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        """The outputs, [n, out, ...] of a convolution or [..., out] of a linear layer, as the layer now gives them."""
        if self.done or not layer.training:  # a layer that the network uses again is done
            return outputs
        self.done = True
        g, bias = layer.get_parameter("parametrizations.weight.original0"), layer.bias
        channel = outputs.dim() - 1 if isinstance(layer, nn.Linear) else 1
        if outputs.numel() == outputs.shape[channel]:
            raise UserError("norm.data_init=true takes a variance over the first batch: batch_size is at least 2")
        axes = [axis for axis in range(outputs.dim()) if axis != channel]
        variance, mean = torch.var_mean(outputs.to(g.dtype), axes, correction=0)
        # A unit that is constant but for rounding keeps its scale.
        inverse = torch.where(variance > 1e-12 * mean.square(), variance.rsqrt(), 1.0)
        g.mul_(inverse.view_as(g))
        if isinstance(bias, Tensor):
            bias.copy_((bias - mean) * inverse)
        else:
            mean = torch.zeros_like(mean)
        shape = [-1 if axis == channel else 1 for axis in range(outputs.dim())]
        return ((outputs - mean.view(shape)) * inverse.view(shape)).to(outputs.dtype)
