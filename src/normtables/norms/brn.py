"""Batch renormalization: the batch's statistics in the gradient, the moving ones in the values."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import BatchStatistics, Options, Statistics, affine, check_numbers, moments, require_two


def corrections(batch: Statistics, moving: Statistics, r_max: Tensor, d_max: Tensor) -> tuple[Tensor, Tensor]:
    """(r, d), [channels] each, from the (mean, std) of the batch and the moving ones."""
    r = (batch[1] / moving[1]).clamp(1 / r_max, r_max)
    return r, ((batch[0] - moving[0]) / moving[1]).clamp(-d_max, d_max)


class Renormalise(Function):
    """(x, weight, bias, moving mean and std, r_max, d_max, epsilon) to (y, mean_B, 1/std_B, r, d); differentiable once.

    y = weight ((x - mean_B) / std_B r + d) + bias. No gradient flows through r and d, so it is that of batch
    normalization with the gain weight r: torch's kernels compute both ways.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor, r_max: Tensor, d_max: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """y in the type of x, the rest in that of the weight."""
        batch_mean, variance = moments(x, weight.dtype)
        inverse = (variance.double() + epsilon).rsqrt().to(weight.dtype)  # rounded as in torch's kernel
        r, d = corrections((batch_mean, 1 / inverse), (mean, std), r_max, d_max)
        return affine(x, batch_mean, weight * inverse * r, bias + weight * d), batch_mean, inverse, r, d

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the input, the statistics and the corrections, which carry no gradient of their own."""
        x, weight, *_, ctx.epsilon = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, weight, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Batch normalization's gradient with the gain weight r; that of the weight by y's formula."""
        x, weight, mean, inverse, r, d = ctx.saved_tensors
        into, products, total = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight * r, None, None, mean, inverse, True, ctx.epsilon, [True, True, True]
        )
        return into, products * r + total * d, total, None, None, None, None, None


class BatchRenorm(BatchStatistics):
    """Batch renormalization for inputs [n, channels] or [n, channels, ...]."""

    running_mean: Tensor
    running_std: Tensor
    steps: Tensor
    names = ("running_mean", "running_std")

    def __init__(
        self,
        channels: int,
        limits: tuple[float, float],
        until: tuple[int, int, int],
        epsilon: float,
        momentum: float,
        options: Options,
    ) -> None:
        super().__init__()
        self.r_max, self.d_max = limits
        self.warmup, self.r_until, self.d_until = until
        self.epsilon, self.momentum, self.options = epsilon, momentum, options
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_std", torch.ones(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def limits(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max of this training pass, by the number of passes up to and with it."""
        beyond = (self.steps - self.warmup).to(self.running_std.dtype)
        r = (beyond / max(1, self.r_until - self.warmup)).clamp(0, 1)
        d = (beyond / max(1, self.d_until - self.warmup)).clamp(0, 1)
        return 1 + (self.r_max - 1) * r, self.d_max * d

    def measure(self, x: Tensor) -> Statistics:
        """Mean and sqrt(biased variance + epsilon)."""
        mean, variance = moments(x, self.running_mean.dtype, self.world)
        return mean, (variance + self.epsilon).sqrt()

    def squared(self, scale: Tensor) -> Tensor:
        """The variance and epsilon."""
        return scale.square()

    def forward(self, x: Tensor) -> Tensor:
        """Count the training pass, whatever its chunks, and normalise."""
        if self.training:
            self.steps = self.steps + 1  # a new tensor, see `keep`
        return super().forward(x)

    def through(self, x: Tensor) -> Tensor:
        """One function with the closed-form gradient."""
        arguments = x, self.weight, self.bias, *self.running(), *self.limits(), self.epsilon
        y, mean, inverse, _, _ = Renormalise.apply(*arguments)
        if self.options.update:
            self.keep(self.blend(mean, 1 / inverse, x.numel() // x.shape[1]))
        return y

    def train_on(self, x: Tensor) -> Tensor:
        """A training pass over one chunk: by `through`, by differentiable statistics of several processes, or with the
        statistics as constants."""
        flow = self.options.flow
        if flow and self.world.size == 1:
            return super().train_on(x)
        require_two(x, self.world)
        with torch.set_grad_enabled(flow and torch.is_grad_enabled()):
            mean, std = self.measure(x)
        with torch.no_grad():
            r, d = corrections((mean, std), self.running(), *self.limits())
            if self.options.update:
                self.keep(self.blend(mean, std, x.numel() // x.shape[1]))
        if flow:
            return affine(x, mean, self.weight * r / std, self.bias + self.weight * d)
        # r (x - mean) / std + d = (x - (mean - d std / r)) / (std / r)
        return self.constant(x, mean - d * std / r, std / r)


@METHODS.register("brn", version=1)
def brn(
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    warmup: int = 5_000,
    r_until: int = 40_000,
    d_until: int = 25_000,
    epsilon: float = 1e-5,
    momentum: float = 0.01,
    position: Literal["before", "after"] = "before",
    ghost: int = 0,
    update: bool = True,
    flow: bool = True,
) -> Method:
    """Ioffe 2017, Batch Renormalization (arXiv 1702.03275), Algorithm 1: y = gamma ((x - mu_B) / sigma_B r + d) + beta,
    r = clip(sigma_B / sigma), d = clip((mu_B - mu) / sigma).

    sigma_B = sqrt(var_B + epsilon), r = clip(sigma_B / sigma, 1/r_max, r_max), d = clip((mu_B - mu) / sigma, +-d_max),
    both without gradient, with the moving mean mu and moving standard deviation sigma as they were before this batch;
    then mu += momentum (mu_B - mu), sigma += momentum (sigma_B - sigma). At test time (x - mu) / sigma. Statistics over
    the batch and all trailing dimensions; mu 0, sigma 1, gamma 1 and beta 0 at the start.

    r_max, d_max: the limits in the end. warmup: training passes with the limits 1 and 0, that is batch normalization;
    from there both grow linearly up to pass r_until and d_until. The published schedule and momentum (section 4) are
    the defaults; it is made for 130,000 updates, so shorter trainings need a shorter one. Each layer counts its passes
    in a buffer. epsilon is that of `bn`; the paper gives none. `position`: before the nonlinearity or after it.
    `ghost` (the microbatches of section 4.2), `update`, `flow`: see `normtables.norms.batches.Options`.
    """
    check_numbers(epsilon, momentum)
    check_limits(r_max, d_max, warmup, {"r_until": r_until, "d_until": d_until})
    options = Options(ghost, update, flow=flow)

    def layer(channels: int, dims: int) -> nn.Module:
        return BatchRenorm(channels, (r_max, d_max), (warmup, r_until, d_until), epsilon, momentum, options)

    return Method(norm=layer, shifts=True, after=position == "after")


def check_limits(r_max: float, d_max: float, warmup: int, until: dict[str, int]) -> None:
    """Raise UserError for limits or a schedule that cannot be."""
    if not 1 <= r_max < math.inf:
        raise UserError(f"norm.r_max={r_max}: a number of at least 1")
    if not 0 <= d_max < math.inf:
        raise UserError(f"norm.d_max={d_max}: a number of at least 0")
    if warmup < 0:
        raise UserError(f"norm.warmup={warmup}: a number of training passes")
    for name, passes in until.items():
        if passes < warmup:
            raise UserError(f"norm.{name}={passes}: the limit grows from pass warmup={warmup} on, so not before it")
