"""Products with a weight as torch's own LSTM takes them: in float32 on the CPU by oneDNN.

torch's other products are MKL's there, on AMD's processors at half of oneDNN's speed. The operation is not public: it
is what torch.compile puts in the place of linear layers. Where torch is built without it, all is as elsewhere.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def fits(x: Tensor) -> bool:
    """Whether oneDNN takes x."""
    return ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32


def product(x: Tensor, weight: Tensor, more: Tensor | None = None) -> Tensor:
    """x weight' + more, without gradients: [n, inputs], [outputs, inputs] and, if given, [n, outputs]."""
    if not fits(x):
        return x @ weight.t() if more is None else torch.addmm(more, x, weight.t())
    y = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return y if more is None else more + y


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """torch's linear layer without bias: [..., inputs] and [outputs, inputs] to [..., outputs]."""
    if fits(x) and not torch.is_autocast_enabled("cpu"):
        return Linear.apply(x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])
    return functional.linear(x, weight)


class Linear(Function):
    """`product` with its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        """[n, inputs] and [outputs, inputs] to [n, outputs]."""
        return product(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep both."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, push: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by x and weight."""
        x, weight = ctx.saved_tensors
        return product(push, weight.t()), product(push.t(), x.t())
