"""What the methods with batch statistics share: their options, the chunks of a batch, the training pass."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from normtables.errors import UserError
from normtables.world import ALONE, World

Statistics = tuple[Tensor, Tensor]  # (mean, scale), [channels] each; what scale is, the method says


@dataclass(frozen=True)
class Options:
    """Over which examples statistics are taken, whether running ones are updated and used, where gradients flow.

    ghost: examples per chunk whose statistics are taken apart, 0 for the whole batch (Hoffer et al. 2017, arXiv
    1705.08741, Algorithm 1). A training pass is the layer called on each chunk in turn, running statistics included.
    A batch of n is cut in order into ceil(n / ghost) chunks whose sizes differ by one at most.
    update: whether a training pass moves the running statistics.
    use: what a training pass normalises with, the "batch" or the "running" statistics, those after the pass's own
    update. use="running" with update=False is a frozen layer.
    flow: whether the gradient flows through the batch's part of the statistics; False takes them as constants.
    """

    ghost: int = 0
    update: bool = True
    use: str = "batch"
    flow: bool = True

    def __post_init__(self) -> None:
        if self.ghost < 0:
            raise UserError(f"norm.ghost={self.ghost}: examples per chunk, or 0 for the whole batch")


def check_epsilon(epsilon: float) -> None:
    """Raise UserError for an epsilon that no layer can have."""
    if not 0 < epsilon < math.inf:
        raise UserError(f"norm.epsilon={epsilon}: a positive number")


def check_numbers(epsilon: float, momentum: float) -> None:
    """Raise UserError for an epsilon or a momentum that no layer can have."""
    check_epsilon(epsilon)
    if not 0 < momentum <= 1:
        raise UserError(f"norm.momentum={momentum}: the weight of the newest batch, above 0 and at most 1")


def axes(x: Tensor) -> list[int]:
    """The dimensions of [n, channels, ...] that statistics are taken over."""
    return [0, *range(2, x.dim())]


def along(x: Tensor, values: Tensor) -> Tensor:
    """Values per channel in a shape that goes with x: [channels] to [1, channels, 1, ...]."""
    return values.view([1, -1] + [1] * (x.dim() - 2))


def affine(x: Tensor, mean: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """gain (x - mean) + bias in the type of x, with the gradient of all four; torch's kernels, one pass each way."""
    if torch.compiler.is_compiling():  # a compiler fuses the formula; the kernel it could not stack by vmap
        return ((x - along(x, mean)) * along(x, gain) + along(x, bias)).to(x.dtype)
    held = mean.detach()  # the kernel takes it for a constant; what is added to the bias is 0 and has its gradient
    shift = bias - gain * (mean - held)
    return functional.batch_norm(x, held, torch.ones_like(held), gain, shift, training=False, eps=0.0)


class Moments(Function):
    """([n, channels, ...], type) to mean and biased variance, [channels] each, by the kernel of torch's own layers."""

    @staticmethod
    def forward(x: Tensor, dtype: torch.dtype) -> Statistics:
        """One kernel; the running statistics that it would also move are made up."""
        running = x.new_zeros(x.shape[1], dtype=dtype)  # its type is that of the results
        return torch.batch_norm_update_stats(x, running, running, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, torch.dtype], output: Statistics) -> None:
        """Keep the input and its mean."""
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_variance: Tensor) -> tuple[Tensor, None]:
        """(dL/dmean + 2 (x - mean) dL/dvariance) / values."""
        x, mean = ctx.saved_tensors
        values = x.numel() // x.shape[1]
        return affine(x, mean, of_variance * (2 / values), of_mean / values), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, dtype: torch.dtype) -> tuple[Statistics, tuple[int, int]]:
        """Stacked members are further channels of one batch."""
        x = x.movedim(in_dims[0], 1)
        mean, variance = Moments.apply(x.flatten(1, 2), dtype)
        return (mean.view(x.shape[1:3]), variance.view(x.shape[1:3])), (0, 0)


def moments(x: Tensor, dtype: torch.dtype, world: World = ALONE) -> Statistics:
    """Mean and biased variance over all but the channels, and over the examples of all processes, in `dtype`; on the
    CPU far faster than torch.var_mean."""
    if torch.compiler.is_compiling():  # a compiler fuses the formula
        variance, mean = torch.var_mean(x.to(dtype), axes(x), correction=0)
    else:  # the kernel itself takes half precision with float32 statistics
        mean, variance = Moments.apply(x if x.dtype.itemsize == 2 else x.to(dtype), dtype)
    return pooled(mean, variance, world)


def pooled(mean: Tensor, variance: Tensor, world: World) -> Statistics:
    """Mean and biased variance over the values of all processes, which have equally many, from those of each."""
    if world.size == 1:
        return mean, variance
    means, variances = world.gather(torch.stack([mean, variance])).unbind(1)
    whole = means.mean(0)
    return whole, (variances + (means - whole).square()).mean(0)


def chunks(x: Tensor, ghost: int) -> tuple[Tensor, ...]:
    """The batch cut along its first dimension as `Options` says."""
    n = x.shape[0]
    if ghost == 0 or n <= ghost:
        return (x,)
    count = -(-n // ghost)
    return x.split([n // count + (i < n % count) for i in range(count)])


def require_two(x: Tensor, world: World = ALONE) -> None:
    """Raise UserError where each channel has a single value in all processes together, which has no spread."""
    if x.numel() * world.size == x.shape[1]:
        raise UserError(
            f"a training batch of shape {list(x.shape)} has one value per channel and batch statistics need two: "
            "raise batch_size (or norm.ghost), or take norm=ln, gn or wn"
        )


class BatchStatistics(nn.Module):
    """y = weight (x - mean) / root(scale) + bias over [n, channels] or [n, channels, ...].

    A method says what the scale is (`measure`), how it becomes a denominator (`squared`, `inside`) and how a whole
    training pass is computed (`through`); modes and options are handled here.
    """

    weight: Tensor
    bias: Tensor
    momentum: float
    options: Options
    names: tuple[str, str]  # of the buffers with the running mean and scale
    world = ALONE  # the processes over whose examples statistics are taken
    inside = 0.0  # added under the root of `squared`

    def running(self) -> Statistics:
        """The running statistics themselves, not copies."""
        mean, scale = (getattr(self, name) for name in self.names)
        return mean, scale

    def measure(self, x: Tensor) -> Statistics:
        """The batch's mean and scale in the type of the running ones, by differentiable operations."""
        raise NotImplementedError

    def squared(self, scale: Tensor) -> Tensor:
        """The square of the denominator, but for `inside`."""
        raise NotImplementedError

    def through(self, x: Tensor) -> Tensor:
        """A training pass with the whole gradient that updates the running statistics if it is to."""
        raise NotImplementedError

    def averaged(self, scale: Tensor, values: int) -> Tensor:
        """What of a batch's scale, taken over `values` values, enters the running average."""
        return scale

    def blend(self, mean: Tensor, scale: Tensor, values: int) -> Statistics:
        """The running statistics with the batch's in them; with the gradient of its arguments."""
        before = self.running()
        newest = self.averaged(scale, values)
        return torch.lerp(before[0], mean, self.momentum), torch.lerp(before[1], newest, self.momentum)

    def keep(self, new: Statistics) -> None:
        """Make these the running statistics: new tensors, as a compiled backward pass may still read the old ones."""
        for name, value in zip(self.names, new):
            setattr(self, name, value.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [n, channels, ...]; in evaluation mode with the running statistics as they stand."""
        if not self.training:
            return self.constant(x, *self.running())
        parts = [self.train_on(part) for part in chunks(x, self.options.ghost)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def train_on(self, x: Tensor) -> Tensor:
        """A training pass over one chunk."""
        options = self.options
        if options.use == "running" and not options.update:
            return self.constant(x, *self.running())
        require_two(x, self.world)
        if options.use == "batch" and options.flow and self.world.size == 1:
            return self.through(x)
        with torch.set_grad_enabled(options.flow and torch.is_grad_enabled()):
            batch = self.measure(x)
            new = self.blend(*batch, self.world.size * x.numel() // x.shape[1])
        if options.update:
            self.keep(new)
        used = batch if options.use == "batch" else new
        return self.formula(x, *used) if options.flow else self.constant(x, *used)

    def constant(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Normalise with statistics that no gradient flows through: torch's kernel."""
        return functional.batch_norm(x, mean, self.squared(scale), self.weight, self.bias, False, 0.0, self.inside)

    def formula(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Normalise with statistics that a gradient flows through."""
        return affine(x, mean, self.weight * torch.rsqrt(self.squared(scale) + self.inside), self.bias)
