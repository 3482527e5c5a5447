"""Hendrycks & Gimpel's corrections for the variance that dropout adds: initial weights, and BN's test variance."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from normtables.errors import UserError
from normtables.norms import METHODS, Make, Maxout, Method
from normtables.norms.bn import bn
from normtables.norms.modes import modes_kept

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d
Dropped = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout | nn.FeatureAlphaDropout


class Moments(NamedTuple):
    """E[f(z)^2] and E[f'(z)^2] of a nonlinearity f for z from N(0, 1)."""

    energy: float
    slope: float


# As the paper and its code print them.
PRINTED = {
    "ReLU": Moments(0.5, 0.5),
    "GELU": Moments(0.425, 0.444),
    "Tanh": Moments(0.394, 0.216),
    "ELU": Moments(0.645, 0.671),
    "Identity": Moments(1.0, 1.0),
}
# Erratum: three of the printed E[f'(z)^2] are off. Printed, and by quadrature; 0.216 is the square of tanh's 0.464.
ERRATA = {"GELU": (0.444, 0.456), "Tanh": (0.216, 0.464), "ELU": (0.671, 0.668)}


@METHODS.register("hg", version=1)
def hg(
    *,
    weights: Literal["sphere", "orthonormal"] = "sphere",
    backward: bool = True,
    constants: Literal["computed", "printed"] = "computed",
    norm: Literal["bn", "none"] = "bn",
    epsilon: float = 1e-5,
    momentum: float = 0.1,
) -> Method:
    """Hendrycks & Gimpel 2016 (arXiv 1607.02488): at the start w = u / sqrt(E[f(z)^2] / p + q E[g'(z)^2]), ||u|| = 1;
    at the end BN's variance without dropout.

    Adjusting for Dropout Variance in Batch Normalization and Weight Initialization. Each unit's or filter's initial
    weights are a random point of the unit sphere divided by sqrt(E[f(z)^2] / p + q E[g'(z)^2]), z from N(0, 1); f is
    the nonlinearity and p the keep probability of the dropout in front of the layer, g and q are those behind it, as in
    the authors' code (the text has one nonlinearity and one rate); none: 1. Biases 0. The network's inputs are taken as
    standardised. The first term alone keeps the variance of pre-activations; with both each layer multiplies it by the
    first's share of the sum (1/2 for ReLU).
    Layers are taken in the order in which the model registers them; between two of them the last nonlinearity counts.
    After training, dropout off and without gradient, one epoch of training batches moves the running variance of the
    BN layers, with BN's momentum as in the authors' code; the running mean and everything else stay.

    weights: on the unit sphere, or orthonormal among each other (in groups of fan_in units where there are more units).
    backward: with the second term; the paper says that convolutional networks may leave it out.
    constants: E[f^2] and E[f'^2] by quadrature for the model's own nonlinearity, or as printed (see ERRATA).
    norm: BN layers in front of the nonlinearities, or none: the paper's networks for the initial weights have none.
    epsilon, momentum: of the BN layers, torch's defaults.
    """
    moments = moments_of if constants == "computed" else printed_moments
    whole = Method(
        act=lambda make: marked(make, moments),
        maxout=lambda pieces: marked(lambda: Maxout(pieces), moments),
        init=lambda model: draw(model, weights, backward),
    )
    if norm == "none":
        return whole
    layer = bn(epsilon=epsilon, momentum=momentum).norm
    return replace(whole, norm=layer, shifts=True, prepare=require_epochs, settle=settle_variance)


def require_epochs(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Raise UserError, before training, for a task without epochs."""
    if "epoch" not in clock:
        raise UserError("norm=hg takes one epoch of batches after training and this task has none; set norm.norm=none")


def marked(make: Make, moments: Callable[[nn.Module], Moments]) -> nn.Module:
    """A nonlinearity that carries its moments, where `draw` finds them."""
    layer = make()
    setattr(layer, "moments", moments(layer))  # noqa: B010 (nn.Module declares no such attribute)
    return layer


def printed_moments(layer: nn.Module) -> Moments:
    """The paper's constants; raises UserError for a nonlinearity that it does not list."""
    name = type(layer).__name__
    if name not in PRINTED:
        raise UserError(f"norm.constants=printed: the paper prints none for {name}, only for {', '.join(PRINTED)}")
    return PRINTED[name]


def moments_of(layer: nn.Module) -> Moments:
    """The moments of an elementwise nonlinearity, or of maxout units for each piece, by quadrature in float64.

    The largest of k z has density k Phi(z)^(k - 1) phi(z); a piece's slope is 1 where it is the largest, else 0.
    """
    z, mass = gaussian_nodes()
    if isinstance(layer, Maxout):
        largest = mass * layer.pieces * torch.special.ndtr(z) ** (layer.pieces - 1)
        return Moments((largest @ z.square()).item(), 1 / layer.pieces)
    with torch.enable_grad():
        z.requires_grad_()
        f = copy.deepcopy(layer).double().eval()(z.clone())
        (slope,) = torch.autograd.grad(f.sum(), z)
    return Moments((mass @ f.detach().square()).item(), (mass @ slope.square()).item())


def gaussian_nodes(reach: int = 12, panels: int = 2, order: int = 10) -> tuple[Tensor, Tensor]:
    """Nodes and weights that integrate against N(0, 1) over [-reach, reach], `panels` Gauss-Legendre rules a unit.

    Kinks lie between panels (at 0 for ReLU, 6 for ReLU6, 1/2 for Softshrink), so that they cost no accuracy.
    """
    # Golub & Welsch 1969: nodes are the eigenvalues of the recurrence's matrix.
    k = torch.arange(1, order, dtype=torch.float64)
    off = k / (4 * k * k - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    half = 0.5 / panels
    middles = torch.arange(-reach, reach, 2 * half, dtype=torch.float64) + half
    z = (middles[:, None] + half * nodes).flatten()
    mass = (2 * half * vectors[0].square()).repeat(len(middles))
    return z, mass * (-z * z / 2).exp() / math.sqrt(2 * math.pi)


@dataclass
class Between:
    """What lies between two weight layers: E[f^2] and E[f'^2] of the nonlinearity, keep probability of the dropout."""

    energy: float = 1.0
    slope: float = 1.0
    keep: float = 1.0


def draw(model: nn.Module, weights: str, backward: bool) -> None:
    """Draw the weights of all layers for what lies in front of and behind each; biases 0."""
    layers: list[Weighted] = []
    between = [Between()]
    for layer in model.modules():
        if isinstance(layer, Weighted):
            layers.append(layer)
            between.append(Between())
        elif isinstance(moments := getattr(layer, "moments", None), Moments):
            between[-1].energy, between[-1].slope = moments
        elif isinstance(layer, Dropped):
            between[-1].keep *= 1 - layer.p
    for layer, front, behind in zip(layers, between, between[1:]):
        variance = front.energy / front.keep + backward * behind.keep * behind.slope
        draw_directions(layer.weight, weights)
        with torch.no_grad():
            layer.weight.div_(math.sqrt(variance))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def draw_directions(weight: Tensor, weights: str) -> None:
    """Fill [outputs, ...] with rows of length 1: random directions, or orthonormal in groups of at most fan_in rows."""
    with torch.no_grad():
        rows = torch.empty_like(weight).flatten(1)
        if weights == "orthonormal":
            for group in rows.split(rows.shape[1]):
                nn.init.orthogonal_(group)
        else:
            rows.normal_()
            rows /= rows.norm(dim=1, keepdim=True)
        weight.copy_(rows.view(weight.shape))


def settle_variance(model: nn.Module, forward: Callable[[], Tensor], clock: Mapping[str, int]) -> None:
    """Re-estimate the running variance of the BN layers over one epoch with dropout off; nothing else moves."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    moved = ("running_mean", "num_batches_tracked")
    kept = [{name: getattr(layer, name).clone() for name in moved} for layer in layers]
    with modes_kept(model):
        model.eval()
        for layer in layers:
            layer.train()
        for _ in range(clock["epoch"]):
            forward()
    for layer, before in zip(layers, kept):
        layer.load_state_dict(before, strict=False)
