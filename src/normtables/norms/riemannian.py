"""Cho & Lee's optimization on the Grassmann manifold: BN networks whose filters move along great circles."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.norms import METHODS, Method
from normtables.norms.batches import check_numbers
from normtables.norms.bn import bn

Move = Callable[[Tensor, Tensor, dict[str, Any], dict[str, Any]], Tensor]  # (y, h, state, group) -> new y
RATES = {"sgd_g": 0.2, "adam_g": 0.05}
EPSILON = 1e-8  # under Adam-G's root, from the authors' code


@METHODS.register("riemannian", version=1)
def riemannian(
    *,
    rule: Literal["sgd_g", "adam_g"] = "sgd_g",
    lr: float | None = None,
    beta1: float = 0.9,
    beta2: float = 0.99,
    clip: float = 0.1,
    orthogonality: float = 0.1,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
) -> Method:
    """Cho & Lee 2017 (arXiv 1709.09603), equation 7: y_new = y cos|d| + d/|d| sin|d| for every filter y in front of BN.

    What BN leaves of a filter is its direction, a point of G(1, n). Layers: BN. Each filter y of a layer in front of BN
    with fewer outputs than fan_in starts on the unit sphere, where the configuration's scheme drew it, and stays there;
    the configuration's optimizer updates everything else, the last layer included. One update of a filter with gradient
    g, rows of Y being the filters of its layer:

        g <- g + 2 orthogonality (Y Y' - I) Y        gradient of orthogonality / 2 ||Y Y' - I||^2
        h = g - (y'g) y, shortened to length `clip`  (equation 6)
        SGD-G:  d = m = beta1 m - lr h
        Adam-G: m = beta1 m + (1 - beta1) h, v = beta2 v + (1 - beta2) h'h, one number per filter;
                d = - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / sqrt(v + 1e-8)
        y <- y cos|d| + d/|d| sin|d|                 (equation 7: along the geodesic)
        m <- m transported along it                  (equations 8 and 9)

    No weight decay on filters. The regulariser is part of the gradient, not of the reported loss.
    lr: null is the paper's, 0.2 for SGD-G and 0.05 for Adam-G; scheduled as the configuration's. beta1: also SGD-G's
    momentum. Defaults are the paper's and its code's. epsilon, momentum: of the BN layers, torch's defaults.
    The optimizer takes plain parameters [outputs, ...], not ones stacked for torch.func.vmap; the layers are bn's.
    """
    check_numbers(epsilon, momentum)
    rate = RATES[rule] if lr is None else lr
    for name, value in (("lr", rate), ("clip", clip)):
        if not 0 < value < math.inf:
            raise UserError(f"norm.{name}={value}: a number above 0")
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise UserError(f"norm.{name}={value}: a number in [0, 1)")
    if not 0 <= orthogonality < math.inf:
        raise UserError(f"norm.orthogonality={orthogonality}: a number of at least 0")
    options = {"lr": rate, "beta1": beta1, "beta2": beta2, "clip": clip, "orthogonality": orthogonality}

    def split(model: nn.Module, optimizer: Optimizer) -> Optimizer:
        return Grassmann(optimizer, filters_of(model), MOVES[rule], options)

    return replace(bn(epsilon=epsilon, momentum=momentum), init=to_sphere, optimizer=split)


def filters_of(model: nn.Module) -> list[Tensor]:
    """The weights that live on spheres: of layers without a bias, as stand in front of BN, and outputs < fan_in."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    weights = [layer.weight for layer in layers if layer.bias is None]
    return [weight for weight in weights if len(weight) < weight[0].numel()]


def to_sphere(model: nn.Module) -> None:
    """Scale each filter to length 1."""
    with torch.no_grad():
        for weight in filters_of(model):
            weight.copy_(unit(weight.flatten(1)).view(weight.shape))


def unit(rows: Tensor) -> Tensor:
    """Rows scaled to length 1."""
    return rows / rows.norm(dim=1, keepdim=True)


class Grassmann(Optimizer):
    """`others` for all of its parameters but `filters`, which take steps on their spheres.

    The groups of `others` come first and are shared with it, as is the state; the filters are the last group.
    """

    def __init__(self, others: Optimizer, filters: list[Tensor], move: Move, options: dict[str, float]) -> None:
        chosen = set(filters)
        for group in others.param_groups:
            group["params"] = [p for p in group["params"] if p not in chosen]
        for weight in filters:
            others.state.pop(weight, None)  # Adagrad's is there from the beginning
        super().__init__([*others.param_groups, {"params": filters, **options}], {})
        self.others, self.move = others, move
        self.state = others.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and state, also for `others`."""
        super().load_state_dict(state_dict)
        self.others.state, self.others.param_groups = self.state, self.param_groups[:-1]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.others.step()
        group = self.param_groups[-1]
        for weight in group["params"]:
            if weight.grad is not None:
                y = unit(weight.flatten(1))
                new = self.move(y, tangent(y, weight.grad.flatten(1), group), self.state[weight], group)
                weight.copy_(new.view(weight.shape))
        return loss


def tangent(y: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    """The regularised gradient's part along the spheres, clipped; all [outputs, fan_in]."""
    g = g + 2 * group["orthogonality"] * (y @ y.T @ y - y)
    h = g - (y * g).sum(1, keepdim=True) * y
    return h * (group["clip"] / h.norm(dim=1, keepdim=True)).clamp(max=1)


def move_sgd(y: Tensor, h: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """SGD-G: the filters after a step, and the transported momentum in the state."""
    d = group["beta1"] * state.get("m", torch.zeros_like(y)) - group["lr"] * h
    new, (state["m"],) = along_geodesic(y, d, d)
    return new


def move_adam(y: Tensor, h: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Adam-G: the filters after a step, and both averages and the count in the state."""
    beta1, beta2 = group["beta1"], group["beta2"]
    state["t"] = state.get("t", 0) + 1
    m = beta1 * state.get("m", torch.zeros_like(y)) + (1 - beta1) * h
    square = (1 - beta2) * h.square().sum(1, keepdim=True)
    state["v"] = beta2 * state["v"] + square if "v" in state else square
    rate = group["lr"] * math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
    new, (state["m"],) = along_geodesic(y, -rate * m / (state["v"] + EPSILON).sqrt(), m)
    return new


def along_geodesic(y: Tensor, d: Tensor, *others: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The ends of great circles from y in direction and by length of d, and tangents `others`, parallel to d, there."""
    angle = d.norm(dim=1, keepdim=True)
    towards = torch.sinc(angle / math.pi)  # sin(angle) / angle, without a division where a filter rests
    end = y * angle.cos() + d * towards
    return end, [other * angle.cos() - y * (other * d).sum(1, keepdim=True) * towards for other in others]


MOVES: dict[str, Move] = {"sgd_g": move_sgd, "adam_g": move_adam}
