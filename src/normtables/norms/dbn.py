"""Diminishing batch normalization: statistics averaged with a weight alpha(m) that may diminish."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import affine, along, moments, require_two
from normtables.world import ALONE

Averaged = Literal["sigma", "variance", "inverse_sigma"]
ALPHAS = {"1/m": 1, "1/m^2": 2}


class DiminishingBatchNorm(nn.Module):
    """Ma & Klabjan (arXiv 1705.08011), Algorithm 1, for inputs [n, channels] or [n, channels, ...].

    Every training pass m takes the batch's mean mu and biased standard deviation sigma per channel and averages
    lambda <- alpha(m) (mu, sigma) + (1 - alpha(m)) lambda; then
    y = gamma (x - lambda_mu) / (lambda_sigma + epsilon) + beta.
    The options are the readings of what the text leaves open; `dbn` lists them.
    """

    mu: Tensor
    scale: Tensor
    passes: Tensor
    period: Tensor
    world = ALONE  # the processes over whose examples statistics are taken

    def __init__(
        self,
        channels: int,
        alpha: float | str,
        forward_through: str,
        gradient: str,
        count: str,
        initial: str,
        averaged: str,
        epsilon: float,
        epsilon_in: str,
    ) -> None:
        super().__init__()
        self.alpha, self.forward_through, self.gradient, self.count = alpha, forward_through, gradient, count
        self.initial, self.averaged, self.epsilon, self.epsilon_in = initial, averaged, epsilon, epsilon_in
        # torch's kernel computes this reading, and hands out what is averaged.
        self.fused = (forward_through, gradient, averaged, epsilon_in) == (
            "batch",
            "batch",
            "inverse_sigma",
            "variance",
        )
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mu", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("period", torch.ones((), dtype=torch.int64))
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Set lambda^(0) as `initial` says and forget the passes."""
        self.passes.zero_()
        if self.initial == "random":
            self.mu.uniform_(0, 1)
            self.scale.uniform_(0, 1)
        else:
            self.mu.zero_()
            self.scale.fill_(0.0 if self.initial == "zero" else 1.0)

    def newest_weight(self) -> Tensor | float:
        """alpha(m) of this pass; m counts updates, or epochs of `period` updates, from 1."""
        if isinstance(self.alpha, str):
            m = torch.div(self.passes - 1, self.period, rounding_mode="floor") + 1
            return m.to(self.mu.dtype).pow(-ALPHAS[self.alpha])
        return float(self.alpha)

    def inverse_root(self, variance: Tensor) -> Tensor:
        """1 / (sigma + epsilon), or 1 / sqrt(variance + epsilon)."""
        if self.epsilon_in == "variance":
            return torch.rsqrt(variance + self.epsilon)
        # The derivative of sigma at variance 0 is infinite; the floor lies far below any epsilon in use.
        return 1 / (variance.clamp_min(1e-24).sqrt() + self.epsilon)

    def measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's mean and the statistic that is averaged, [channels] each."""
        mu, variance = moments(x, self.mu.dtype, self.world)
        return mu, self.statistic(variance)

    def statistic(self, variance: Tensor) -> Tensor:
        """What is averaged, from the biased variance."""
        if self.averaged == "variance":
            return variance
        return self.inverse_root(variance) if self.averaged == "inverse_sigma" else variance.clamp_min(1e-24).sqrt()

    def inverse(self, scale: Tensor) -> Tensor:
        """1 / denominator from the averaged statistic."""
        if self.averaged == "inverse_sigma":
            return scale
        return self.inverse_root(scale if self.averaged == "variance" else scale.square())

    def average(self, mu: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """lambda <- alpha(m) (mu, scale) + (1 - alpha(m)) lambda; with the gradient of its arguments."""
        self.passes = self.passes + 1  # a new tensor: a compiled backward pass may compute alpha(m) again from the old
        alpha = self.newest_weight()
        new = torch.lerp(self.mu, mu, alpha), torch.lerp(self.scale, scale, alpha)
        self.mu, self.scale = new[0].detach(), new[1].detach()
        return new

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Average the batch into lambda and return what this pass normalises with, [channels] each."""
        with torch.set_grad_enabled(self.gradient == "batch" and torch.is_grad_enabled()):
            batch = self.measured(x)
            new = self.average(*batch)
        return batch if self.forward_through == "batch" else new

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [n, channels, ...]; in evaluation mode with lambda as it stands."""
        if self.training and (self.alpha != 0 or self.forward_through == "batch"):
            require_two(x, self.world)
        if self.training and self.fused and self.world.size == 1:
            y, mu, inverse = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.epsilon)
            self.average(mu.detach(), inverse.detach())
            return y
        if self.training:
            mu, scale = self.statistics(x)
            return affine(x, mu, self.weight * self.inverse(scale), self.bias)
        gain = self.weight * self.inverse(self.scale)  # rounded as in the committed records of Table 3
        return (x * along(x, gain) + along(x, self.bias - self.mu * gain)).to(x.dtype)


@METHODS.register("dbn", version=1)
def dbn(
    *,
    alpha: float | str = 1.0,
    forward: Literal["average", "batch"] = "average",
    gradient: Literal["none", "batch"] = "none",
    count: Literal["update", "epoch"] = "update",
    initial: Literal["unit", "zero", "random"] = "unit",
    averaged: Averaged = "sigma",
    position: Literal["before", "after"] = "before",
    epsilon: float = 1e-4,
    epsilon_in: Literal["sigma", "variance"] = "sigma",
) -> Method:
    """Ma & Klabjan 2017 (arXiv 1705.08011), Algorithm 1: y = gamma (x - lambda_mu) / (lambda_sigma + epsilon) + beta,
    lambda <- alpha(m) (mu_B, sigma_B) + (1 - alpha(m)) lambda.

    Diminishing Batch Normalization, with the readings of its text as options.
    alpha: weight of the newest batch, a number in [0, 1], "1/m" or "1/m^2".
    forward: what a training pass normalises with, the averaged statistics (Algorithm 1) or the batch's (the average
    then serves the test alone).
    gradient: whether it flows through the batch's part of the statistics (Algorithm 1: it does not).
    count: what m counts.
    initial: lambda^(0) is mean 0 and statistic 1 (unit), both 0 (zero) or both drawn from U(0, 1) (random).
    averaged: the statistic that is averaged.
    position: before the nonlinearity or after it.
    epsilon: added to sigma, or to the variance under the root (epsilon_in); Lasagne's, as the text gives none.
    `forward`, `gradient` and alpha = 0 are here what `use`, `flow` and `update` are elsewhere; there are no ghost
    batches, as it would be open whether m counts chunks.
    """
    if alpha not in ALPHAS and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
        raise UserError(f"norm.alpha={alpha}: a number from 0 to 1, '1/m' or '1/m^2'")
    if epsilon <= 0:
        raise UserError(f"norm.epsilon={epsilon}: a positive number")

    def layer(channels: int, dims: int) -> nn.Module:
        return DiminishingBatchNorm(channels, alpha, forward, gradient, count, initial, averaged, epsilon, epsilon_in)

    return Method(
        norm=layer, shifts=True, after=position == "after", prepare=count_epochs if count == "epoch" else count_updates
    )


def count_updates(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Let m count updates: nothing to prepare, the period is 1."""


def count_epochs(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Let m count epochs: tell each layer how many updates an epoch has; raises UserError where there are none."""
    if "epoch" not in clock:
        raise UserError("norm.count=epoch lets m count epochs and this task has none; set it to update")
    for layer in model.modules():
        if isinstance(layer, DiminishingBatchNorm):
            layer.period.fill_(clock["epoch"])
