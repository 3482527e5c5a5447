"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.registry import Registry

Schedule = Callable[[int], float]  # updates done -> factor on the learning rate

OPTIMIZERS: Registry[Optimizer] = Registry("optim", "normtables.optim")
SCHEDULES: Registry[Schedule] = Registry("schedule", "normtables.optim")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices and kernels, which decay, and vectors (biases, gains, shifts), which do not.

    Raises UserError for a weight_decay that is not a finite number of at least 0.
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise UserError(f"optim.weight_decay={weight_decay}: a number of at least 0")
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
