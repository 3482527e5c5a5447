"""The centred RMSProp of Mnih et al. 2015, with epsilon inside the root: torch's has it outside."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.optim import OPTIMIZERS, parameter_groups
from normtables.optim.optimizers import require_positive


class CentredRMSProp(Optimizer):
    """m <- decay m + (1 - decay) g, s <- decay s + (1 - decay) g^2, w <- w - lr g / sqrt(s - m^2 + epsilon).

    g is the gradient plus weight_decay w; m and s begin at zero.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, decay: float, epsilon: float) -> None:
        super().__init__(groups, {"lr": lr, "decay": decay, "epsilon": epsilon, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self.move(group, parameters)
        return None

    def move(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        """The update of a group."""
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {name: torch.zeros_like(p) for name in ("mean", "square")}
        means, squares = ([self.state[p][name] for p in parameters] for name in ("mean", "square"))
        gradients: list[torch.Tensor] = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_lerp_(means, gradients, 1 - group["decay"])
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_addcmul(squares, means, means, -1)
        torch._foreach_add_(roots, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(parameters, gradients, roots, -group["lr"])


@OPTIMIZERS.register("rmsprop")
def rmsprop(model: nn.Module, *, lr: float, decay: float, epsilon: float, weight_decay: float) -> Optimizer:
    """Centred RMSProp with epsilon inside the root, as in the code of Mnih et al. 2015; see `CentredRMSProp`.

    Raises UserError for numbers that it cannot have.
    """
    require_positive(lr=lr, epsilon=epsilon)
    if not 0 <= decay < 1:
        raise UserError(f"optim.decay={decay}: a number in [0, 1)")
    return CentredRMSProp(parameter_groups(model, weight_decay), lr, decay, epsilon)
