"""torch's optimizers with the defaults of the sources."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.optim import OPTIMIZERS, parameter_groups


def require_positive(**values: float) -> None:
    """Raise UserError for the first value that is not a finite number above 0."""
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"optim.{key}={value}: a number above 0")


def check_betas(betas: list[float]) -> None:
    """Raise UserError unless these are two numbers in [0, 1)."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"optim.betas={betas}: two numbers in [0, 1)")


def clipped(model: nn.Module, optimizer: Optimizer, clip: float | None) -> Optimizer:
    """The optimizer, which scales the gradient of all parameters together down to the norm `clip` before it updates.

    Pascanu et al. 2013 (arXiv 1211.5063), Algorithm 1. Raises UserError for a norm that is not a finite number above 0.
    """
    if clip is not None:
        require_positive(clip=clip)

        def shorten(*_: Any) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)

        optimizer.register_step_pre_hook(shorten)
    return optimizer


@OPTIMIZERS.register("sgd")
def sgd(
    model: nn.Module, *, lr: float, momentum: float, nesterov: bool, weight_decay: float, clip: float | None = None
) -> Optimizer:
    """Stochastic gradient descent: v <- momentum v + g, w <- w - lr v, with g the gradient plus weight_decay w.

    clip: greatest norm of the gradient, see `clipped`.
    """
    require_positive(lr=lr)
    if not 0 <= momentum < 1 or (nesterov and not momentum):
        raise UserError(f"optim.momentum={momentum}: a number in [0, 1), above 0 with optim.nesterov={nesterov}")
    groups = parameter_groups(model, weight_decay)
    return clipped(model, torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True), clip)


@OPTIMIZERS.register("adagrad")
def adagrad(model: nn.Module, *, lr: float, epsilon: float, weight_decay: float) -> Optimizer:
    """Duchi et al. 2011: s <- s + g^2, w <- w - lr g / (sqrt(s) + epsilon)."""
    require_positive(lr=lr, epsilon=epsilon)
    fused = all(p.device.type == "cpu" for p in model.parameters())  # torch has no fused AdaGrad for CUDA
    return torch.optim.Adagrad(
        parameter_groups(model, weight_decay), lr=lr, eps=epsilon, fused=fused, foreach=False if fused else None
    )


@OPTIMIZERS.register("adam")
def adam(
    model: nn.Module, *, lr: float, betas: list[float], epsilon: float, weight_decay: float, clip: float | None = None
) -> Optimizer:
    """Kingma & Ba 2015, Algorithm 1, with L2 in the gradient; clip: greatest norm of the gradient, see `clipped`."""
    require_positive(lr=lr, epsilon=epsilon)
    check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    optimizer = torch.optim.Adam(groups, lr=lr, betas=(betas[0], betas[1]), eps=epsilon, fused=True)
    return clipped(model, optimizer, clip)


@OPTIMIZERS.register("adamax")
def adamax(model: nn.Module, *, lr: float, betas: list[float], epsilon: float, weight_decay: float) -> Optimizer:
    """Kingma & Ba 2015, Algorithm 2, with L2 in the gradient."""
    require_positive(lr=lr, epsilon=epsilon)
    check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return torch.optim.Adamax(groups, lr=lr, betas=(betas[0], betas[1]), eps=epsilon)
