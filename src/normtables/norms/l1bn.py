"""L1 batch normalization: the mean absolute deviation in the place of the standard deviation."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from normtables.norms import METHODS, Method
from normtables.norms.batches import BatchStatistics, Options, Statistics, along, axes, check_numbers
from normtables.world import ALONE, World

# sigma = sqrt(pi / 2) E|x - mu| for Gaussian x.
GAUSSIAN = math.sqrt(math.pi / 2)


def l1_statistics(x: Tensor, dtype: torch.dtype, world: World = ALONE) -> Statistics:
    """Mean and s = sqrt(pi / 2) mean|x - mean| over all but the channels and over all processes, [channels] each, in
    `dtype`."""
    mean = world.mean(x.mean(axes(x), dtype=dtype))
    return mean, GAUSSIAN * world.mean((x - along(x, mean)).abs_().mean(axes(x)))


class L1Normalise(Function):
    """(x, weight, bias, epsilon) to (y, mean, s), y = weight (x - mean) / (s + epsilon) + bias; differentiable once.

    With xh = (x - mean) / (s + epsilon), g = dL/dy and means over the m values of a channel:
    dL/dx = weight / (s + epsilon) (g - mean(g) - sqrt(pi / 2) mean(g xh) (sign(x - mean) - mean(sign(x - mean)))).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """y in the type of x and the statistics in that of the weight."""
        mean, scale = l1_statistics(x, weight.dtype)
        return functional.batch_norm(x, mean, (scale + epsilon).square(), weight, bias, False, 0.0, 0.0), mean, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the input and the statistics, which carry no gradient of their own."""
        x, weight, _, ctx.epsilon = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, weight, mean, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The formula above; torch's kernel sums g and g xh."""
        x, weight, mean, scale = ctx.saved_tensors
        denominator, values = scale + ctx.epsilon, x.numel() // x.shape[1]
        _, products, total = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, 1 / denominator, True, 0.0, [False, True, True]
        )
        pull = GAUSSIAN / values * products
        into = (x - along(x, mean)).sign_()
        shift = pull * into.mean(axes(x)) - total / values
        into.mul_(along(x, -pull)).add_(along(x, shift)).add_(grad).mul_(along(x, weight / denominator))
        return into.to(x.dtype), products, total, None


class L1BatchNorm(BatchStatistics):
    """Batch normalization by the L1 deviation, for inputs [n, channels] or [n, channels, ...]."""

    running_mean: Tensor
    running_scale: Tensor
    names = ("running_mean", "running_scale")

    def __init__(self, channels: int, epsilon: float, momentum: float, options: Options) -> None:
        super().__init__()
        self.epsilon, self.momentum, self.options = epsilon, momentum, options
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_scale", torch.ones(channels))

    def measure(self, x: Tensor) -> Statistics:
        """Mean and s."""
        return l1_statistics(x, self.running_mean.dtype, self.world)

    def squared(self, scale: Tensor) -> Tensor:
        """(s + epsilon)^2."""
        return (scale + self.epsilon).square()

    def through(self, x: Tensor) -> Tensor:
        """One function with the closed-form gradient."""
        y, mean, scale = L1Normalise.apply(x, self.weight, self.bias, self.epsilon)
        if self.options.update:
            self.keep(self.blend(mean, scale, x.numel() // x.shape[1]))
        return y


@METHODS.register("l1bn", version=1)
def l1bn(
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    position: Literal["before", "after"] = "before",
    ghost: int = 0,
    update: bool = True,
    use: Literal["batch", "running"] = "batch",
    flow: bool = True,
) -> Method:
    """Hoffer et al. 2018, Norm matters (arXiv 1803.01814), section 4: y = gamma (x - mean_B) / (s_B + epsilon) + beta,
    s_B = sqrt(pi / 2) mean|x - mean_B|.

    For Gaussian x s_B estimates the standard deviation; the means are over the batch and all trailing dimensions.
    Epsilon is added after the scaling, as the authors' code does. At test time the running mean and the running s are
    used. epsilon and momentum (weight of the newest batch) are those of `bn`; gamma 1 and beta 0 at the start.
    `position`: before the nonlinearity or after it.
    `ghost`, `update`, `use`, `flow`: see `normtables.norms.batches.Options`.
    """
    check_numbers(epsilon, momentum)
    options = Options(ghost, update, use, flow)
    return Method(
        norm=lambda channels, dims: L1BatchNorm(channels, epsilon, momentum, options),
        shifts=True,
        after=position == "after",
    )
