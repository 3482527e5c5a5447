"""Batch normalization: torch's own layers, and one for the options that torch lacks."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from normtables.norms import METHODS, Method
from normtables.norms.batches import BatchStatistics, Options, Statistics, check_numbers, moments, require_two


class BatchNorm1d(nn.BatchNorm1d):
    """torch's layer, with a UserError for a training batch of one value per channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels] or [n, channels, length]."""
        if self.training:
            require_two(input)
        return super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's layer, with a UserError for a training batch of one value per channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, height, width]."""
        if self.training:
            require_two(input)
        return super().forward(input)


LAYERS: dict[int, type[_BatchNorm]] = {0: BatchNorm1d, 1: BatchNorm1d, 2: BatchNorm2d}


class OptionBatchNorm(BatchStatistics, _BatchNorm):
    """Batch normalization with `Options`; parameters and buffers are those of torch's layers."""

    weight: nn.Parameter
    bias: nn.Parameter
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    names = ("running_mean", "running_var")

    def __init__(self, channels: int, epsilon: float, momentum: float, options: Options) -> None:
        _BatchNorm.__init__(self, channels, eps=epsilon, momentum=momentum)
        self.options, self.inside = options, epsilon

    def measure(self, x: Tensor) -> Statistics:
        """Mean and biased variance."""
        return moments(x, self.running_mean.dtype, self.world)

    def squared(self, scale: Tensor) -> Tensor:
        """The variance; epsilon is added under the root."""
        return scale

    def averaged(self, scale: Tensor, values: int) -> Tensor:
        """The unbiased variance, as torch's layers average it."""
        return scale * (values / (values - 1))

    def keep(self, new: Statistics) -> None:
        """Also count the batch."""
        super().keep(new)
        self.num_batches_tracked.add_(1)

    def through(self, x: Tensor) -> Tensor:
        """torch's kernel does all of it."""
        mean, variance = self.running() if self.options.update else (None, None)
        if self.options.update:
            self.num_batches_tracked.add_(1)
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum, self.eps)


@METHODS.register("bn", version=1)
def bn(
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    position: Literal["before", "after"] = "before",
    ghost: int = 0,
    update: bool = True,
    use: Literal["batch", "running"] = "batch",
    flow: bool = True,
) -> Method:
    """Ioffe & Szegedy 2015 (arXiv 1502.03167), Algorithm 1: y = gamma (x - mean_B) / sqrt(var_B + epsilon) + beta.

    At test time the running mean and unbiased variance are used; `momentum` is the weight of the newest batch in them.
    epsilon and momentum are torch's defaults. Statistics over the batch and all trailing dimensions; gamma 1 and beta 0
    at the start.
    `position`: before the nonlinearity (the paper, section 3.2) or after it.
    `ghost`, `update`, `use`, `flow`: see `normtables.norms.batches.Options`; by default torch's own layers.
    """
    check_numbers(epsilon, momentum)
    options = Options(ghost, update, use, flow)

    def layer(channels: int, dims: int) -> nn.Module:
        if options == Options():
            return LAYERS[dims](channels, eps=epsilon, momentum=momentum)
        return OptionBatchNorm(channels, epsilon, momentum, options)

    return Method(norm=layer, shifts=True, after=position == "after")
