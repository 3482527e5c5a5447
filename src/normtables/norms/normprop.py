"""Normalization propagation: moments that are known beforehand instead of measured."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.norms import METHODS, Make, Maxout, Method, as_it_is, nothing
from normtables.norms.spheres import LearnedSphere, Sphere, on_sphere

Maximum = nn.MaxPool1d | nn.MaxPool2d
Averaged = nn.AvgPool1d | nn.AvgPool2d
Window = Maximum | Averaged
Overall = nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d


def moments(f: nn.Module, count: int = 1) -> tuple[float, float]:
    """Mean and standard deviation of the largest of f(z_1), ..., f(z_count), z independent standard Gaussians.

    Gauss-Legendre with 20 nodes on each half unit of [-12, 12], so that kinks at 0, 1/2, 1, ... cost nothing. For
    count > 1, f must not decrease: then the largest is f(max z), and max z has density count Phi(z)^(count - 1) phi(z).
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    z = torch.from_numpy((np.arange(-12, 12, 0.5)[:, None] + (nodes + 1) / 4).ravel())
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    chance = torch.from_numpy(np.tile(weights / 4, 48)) * density * count * torch.special.ndtr(z) ** (count - 1)
    with torch.no_grad():
        values = f.double().eval()(z.clone())
    mean = (chance * values).sum()
    variance = (chance * (values - mean).square()).sum()
    return mean.item(), variance.sqrt().item()


class Affine(nn.Module):
    """gamma u + beta for every channel of [n, channels] or [n, channels, ...]."""

    zero: Tensor
    one: Tensor

    def __init__(self, channels: int, gamma: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full([channels], gamma))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("zero", torch.zeros(channels), persistent=False)
        self.register_buffer("one", torch.ones(channels), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """Scale and shift: batch_norm with given moments 0 and 1 is the kernel that does both in one pass."""
        return functional.batch_norm(u, self.zero, self.one, self.weight, self.bias, training=False, eps=0.0)


class Standardised(nn.Module):
    """(f(x) - mean) / deviation for a layer f of known moments."""

    def __init__(self, layer: nn.Module, mean: float, deviation: float) -> None:
        super().__init__()
        self.layer, self.mean, self.deviation = layer, mean, deviation

    def forward(self, x: Tensor) -> Tensor:
        """Subtract and divide, the latter in place: no further tensor of the activations' size."""
        return (self.layer(x) - self.mean).div_(self.deviation)


class Average(nn.Module):
    """Average pooling times the root of how many it averages."""

    def __init__(self, layer: Averaged | Overall) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, ...] to [n, channels, ...]."""
        y = self.layer(x)
        count = x[0, 0].numel() / y[0, 0].numel() if isinstance(self.layer, Overall) else area(self.layer)
        return y * math.sqrt(count)


class GlobalNorm(nn.Module):
    """(x - mean) / deviation with the training set's moments, [1], or [channels] of axis 1, for inputs of any shape."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("deviation", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise; nothing until the moments are known."""
        shape = [-1] + [1] * (x.dim() - 2)
        return (x - self.mean.view(shape)) / self.deviation.view(shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("mean", "deviation"):  # as many as were measured
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Seen(Exception):
    """The inputs of a batch are seen; the rest of the network need not be."""


class Moments:
    """A forward pre-hook that adds up the moments of a layer's inputs."""

    def __init__(self, by_channel: bool) -> None:
        self.by_channel = by_channel
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Take the inputs [n, channels, ...] in and stop the pass, unless it is in evaluation mode."""
        if not layer.training:
            return
        x = inputs[0].detach().double()
        axes = [axis for axis in range(x.dim()) if axis != 1 or not self.by_channel]
        sums = x.sum(axes).view(-1), x.square().sum(axes).view(-1)
        self.count += x.numel() // sums[0].numel()
        self.sum, self.squares = self.sum.to(x) + sums[0], self.squares.to(x) + sums[1]
        raise Seen

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; a constant has deviation 1."""
        mean = self.sum / self.count
        deviation = (self.squares / self.count - mean.square()).clamp_min(0).sqrt()
        return mean, torch.where(deviation > 1e-7 * mean.abs(), deviation, 1.0)


def measure(by_channel: bool, model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Set each input layer's moments by one epoch of training batches; no further layer is computed."""
    for layer in [part for part in model.modules() if isinstance(part, GlobalNorm)]:
        if "epoch" not in clock:
            raise UserError("norm.inputs takes one pass over the training data and this task has none; set it to none")
        seen = Moments(by_channel)
        hook = layer.register_forward_pre_hook(seen)
        try:
            for _ in range(clock["epoch"]):
                with suppress(Seen):
                    forward()
        finally:
            hook.remove()
        mean, deviation = seen.result()
        layer.mean, layer.deviation = mean.to(layer.mean), deviation.to(layer.deviation)


def area(layer: Window) -> int:
    """How many values a pooling layer takes into one."""
    dims = 1 if isinstance(layer, nn.MaxPool1d | nn.AvgPool1d) else 2
    return math.prod(layer.kernel_size) if isinstance(layer.kernel_size, tuple) else layer.kernel_size**dims


def standardised(make: Make) -> nn.Module:
    """A nonlinearity with mean 0 and variance 1 for Gaussian inputs."""
    mean, deviation = moments(make())
    if not 0 < deviation < math.inf:
        raise UserError(f"norm=normprop: {make()} of a Gaussian has no finite variance above 0")
    return Standardised(make(), mean, deviation)


def standardised_maxout(pieces: int) -> nn.Module:
    """Maxout units with mean 0 and variance 1 for independent Gaussian pieces."""
    return Standardised(Maxout(pieces), *moments(nn.Identity(), pieces))


def pooled(layer: nn.Module) -> nn.Module:
    """A pooling layer whose output keeps variance 1 (and, of a maximum, gets mean 0) for independent inputs."""
    if isinstance(layer, Maximum):
        return Standardised(layer, *moments(standardised(nn.ReLU), area(layer)))
    if isinstance(layer, Averaged | Overall):
        return Average(layer)
    raise UserError(f"norm.pool=independent knows maximum and average pooling, not {type(layer).__name__}; use none")


def refuse_other_maxima(model: nn.Module) -> None:
    """The moments of a maximum are those of ReLU: raise UserError for another nonlinearity before it."""
    layers = [part.layer for part in model.modules() if isinstance(part, Standardised)]
    if any(isinstance(layer, Maximum) for layer in layers):
        for layer in layers:
            if not isinstance(layer, Maximum | nn.ReLU):
                raise UserError(
                    f"norm.pool=independent takes a maximum behind ReLU, not {type(layer).__name__}; use none"
                )


@METHODS.register("normprop", version=1)
def normprop(
    *,
    gamma: float = 0.8264462809917356,
    head: Literal["gain", "plain"] = "gain",
    inputs: Literal["all", "channel", "none"] = "all",
    pool: Literal["none", "independent"] = "none",
) -> Method:
    """Arpit et al. 2016 (arXiv 1603.01431): o = (f(gamma w x / ||w|| + beta) - c2) / c1 for every unit or filter, c2
    and c1 being mean and deviation of f(z), z from N(0, 1).

    c2 and c1 are integrated numerically for the model's own nonlinearity f; for ReLU they are sqrt(1 / 2 pi) and
    sqrt((1 - 1 / pi) / 2). With inputs of mean 0, variance 1 and little correlation, unit vectors w and gamma = 1 every
    pre-activation is nearly a standard Gaussian, and o has mean 0 and variance 1 again. Nothing depends on the batch:
    training and test are alike, and a batch of one will do. The gradient goes through the norm of w, over the whole
    fan-in. gamma and beta are [channels] and learned, beta from 0; a drawn w gives its direction alone.
    A maxout unit is the largest of k pre-activations: c2 and c1 are the moments of the largest of k independent z.
    gamma: at the start; 1 / 1.21 brings the singular values of a layer's Jacobian to about 1, since with gamma = 1 they
    are about sqrt(E f'^2) / c1 = 1 / sqrt(1 - 1 / pi) = 1.21. The output then has mean -0.119 and deviation 0.826.
    head: the last layer. "gain": g w x / ||w|| + b, g from `gamma` and learned, which is the layer above without f and
    constants, as the second author's published layers do it; "plain": an ordinary linear layer.
    inputs: the global normalization of the data by mean and deviation of the training set, one number each ("all"),
    one for each of axis 1 ("channel"), or none where the data come normalised.
    pool: the paper's own treatment is unknown, and the second author's published layers have none. "independent" takes
    the k values under a window for independent with mean 0 and variance 1. Their average has variance 1 / k and is
    multiplied by sqrt(k). Their maximum is o(max z) as o does not decrease in z, and max z of k standard Gaussians has
    the distribution Phi^k, density k Phi^(k - 1) phi; mean and deviation of o under it (ReLU, gamma = 1, beta = 0;
    2 x 2: 1.108 and 1.150; 3 x 3: 1.861 and 1.023) standardise it. In truth neighbours are correlated, so that both
    correct too much; a window over padding or an edge is taken for a full one.
    """
    if not gamma > 0:
        raise UserError(f"norm.gamma={gamma}: a positive number")

    def wrap(layer: nn.Module) -> nn.Module:
        if layer.bias is None:  # in front of a norm layer
            return on_sphere(layer, Sphere())
        return on_sphere(layer, LearnedSphere(gamma)) if head == "gain" else layer

    return Method(
        norm=lambda channels, dims: Affine(channels, gamma),
        wrap=wrap,
        act=standardised,
        maxout=standardised_maxout,
        pool=pooled if pool == "independent" else as_it_is,
        inputs=nn.Identity if inputs == "none" else GlobalNorm,
        shifts=True,
        init=refuse_other_maxima,
        prepare=nothing if inputs == "none" else partial(measure, inputs == "channel"),
    )
