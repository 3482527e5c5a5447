"""What a network says of its layers to whoever trains it: factors on the learning rate, greatest lengths of filters."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def mark(layer: nn.Module, *, rates: tuple[float, float] = (1.0, 1.0), longest: float = math.inf) -> nn.Module:
    """The layer with its marks: for training alone, no part of its state.

    rates: factors on the learning rate of matrices and kernels and of vectors; `normtables.optim` reads them.
    longest: greatest length of a unit's weights or of a filter, over the whole fan-in, after an update.
    """
    setattr(layer, "rates", rates)  # noqa: B010 (nn.Module declares no such attribute)
    for part in layer.modules():
        if isinstance(part, WEIGHTED):
            setattr(part, "longest", longest)  # noqa: B010
    return layer


def hold_lengths(model: nn.Module, optimizer: Optimizer) -> None:
    """Have marked layers' weights shortened to their greatest length after each of the optimizer's updates.

    A weight that the method parametrises is left alone: there its length is the method's.
    """
    layers: list[Any] = [part for part in model.modules() if math.isfinite(getattr(part, "longest", math.inf))]
    held = [(part.weight, part.longest) for part in layers if not is_parametrized(part, "weight")]
    if held:
        optimizer.register_step_post_hook(lambda *_: shorten(held))


@torch.no_grad()
def shorten(held: list[tuple[Tensor, float]]) -> None:
    """Scale down, in place, each row of a weight [outputs, ...] that is longer than its limit."""
    for weight, longest in held:
        lengths = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)
        weight.mul_(longest / lengths.clamp_min(longest))  # 1 for the others, exactly
