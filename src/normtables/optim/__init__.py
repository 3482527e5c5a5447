"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.registry import Registry

Rows = Sequence[Mapping[str, float]]  # the history so far
Schedule = Callable[[int, Rows], float]  # updates done, rows -> factor on the learning rate; 0 after a row ends the run

OPTIMIZERS: Registry[Optimizer] = Registry("optim", "normtables.optim")
SCHEDULES: Registry[Schedule] = Registry("schedule", "normtables.optim")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices and kernels, which decay, and vectors (biases, gains, shifts), which do not.

    Further groups hold those of layers that carry `rates`, factors on the learning rate of matrices and of vectors
    other than 1; a group's factor is its "rate". Raises UserError for a weight_decay that is not a finite number of at
    least 0.
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise UserError(f"optim.weight_decay={weight_decay}: a number of at least 0")
    marked: list[tuple[nn.Module, Any]] = [(layer, getattr(layer, "rates", None)) for layer in model.modules()]
    rates: dict[Tensor, float] = {p: pair[p.dim() <= 1] for layer, pair in marked if pair for p in layer.parameters()}
    groups: dict[tuple[float, bool], list[Parameter]] = {(1.0, False): [], (1.0, True): []}
    for p in model.parameters():
        if p.requires_grad:
            groups.setdefault((rates.get(p, 1.0), p.dim() <= 1), []).append(p)
    return [
        {"params": chosen, "weight_decay": 0.0 if vectors else weight_decay} | ({"rate": rate} if rate != 1 else {})
        for (rate, vectors), chosen in groups.items()
    ]
