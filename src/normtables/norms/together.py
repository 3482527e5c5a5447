"""Layers in a run of several processes: statistics and dropout of the whole batch, or running statistics in common."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from normtables.errors import UserError
from normtables.norms.batches import BatchStatistics, Options
from normtables.norms.bn import BatchNorm1d, BatchNorm2d, OptionBatchNorm
from normtables.norms.bn_recurrent import NormLSTM, StepNorm
from normtables.norms.dbn import DiminishingBatchNorm
from normtables.norms.statistics import form_of, has_statistics
from normtables.norms.wn_mean import MeanOnlyBatchNorm
from normtables.processes import PER_DEVICE
from normtables.world import World

APART = f"take batch_statistics={PER_DEVICE}"
SHARING = (BatchStatistics, DiminishingBatchNorm, MeanOnlyBatchNorm, StepNorm, NormLSTM)  # layers with a `world`


def synchronise(model: nn.Module, world: World, device: torch.device) -> None:
    """Let every layer take its batch statistics over the examples of all processes; torch's layers are replaced, by its
    own SyncBatchNorm on CUDA and by layers with options elsewhere, which torch's refuses.

    Raises UserError for ghost batches, whose order over several processes is open, and for other layers of torch.
    """
    replace(model, nn.SyncBatchNorm.convert_sync_batchnorm if device.type == "cuda" else optional)
    for layer in model.modules():
        if isinstance(layer, SHARING):
            options = getattr(layer, "options", Options())
            if options.ghost:
                raise UserError(f"norm.ghost={options.ghost}: parts of a batch are not synchronised, {APART}")
            layer.world = world
        elif isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
            raise UserError(f"the statistics of {type(layer).__name__} cannot be synchronised: {APART}")


def replace(model: nn.Module, counterpart: Callable[[_BatchNorm], nn.Module]) -> None:
    """Put counterparts in the place of torch's own layers, whose kernels see one process's examples."""
    made: dict[nn.Module, nn.Module] = {}  # a layer may have several parents
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, BatchNorm1d | BatchNorm2d):
                made[layer] = made.get(layer) or counterpart(layer)
                setattr(parent, name, made[layer])


def optional(layer: _BatchNorm) -> OptionBatchNorm:
    """A layer with options that has the parameters and buffers of one of torch's."""
    assert layer.momentum is not None
    made = OptionBatchNorm(layer.num_features, layer.eps, layer.momentum, Options())
    for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
        setattr(made, name, value)
    return made


def average(model: nn.Module, world: World) -> None:
    """Replace every running statistic that training moves by its mean over the processes, in one exchange."""
    kept = [getattr(layer, name) for layer in model.modules() for name in moved(layer)]
    if kept:
        means = world.mean(torch.cat([value.flatten() for value in kept])).split([value.numel() for value in kept])
        for value, mean in zip(kept, means):
            value.copy_(mean.view_as(value))


def moved(layer: nn.Module) -> tuple[str, ...]:
    """The buffers of a layer that training moves by the statistics of a batch."""
    if isinstance(layer, StepNorm):
        return ("mean", "spread") if layer.averages.evaluation == "population" else ()
    return form_of(layer).buffers if has_statistics(layer) else ()


def draw_together(model: nn.Module, world: World, dim: int) -> None:
    """Let dropout draw for the whole batch, of which each process takes its part: an example's draws are those that it
    has in one process. Examples lie along `dim` of what the layers are given."""

    def widen(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        x = inputs[0]
        parts = [x if rank == world.rank else torch.zeros_like(x) for rank in range(world.size)]
        return (torch.cat(parts, dim),) if layer.training and world.size > 1 else inputs

    def narrow(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output.chunk(world.size, dim)[world.rank] if layer.training and world.size > 1 else output

    for layer in model.modules():
        if isinstance(layer, _DropoutNd) and layer.p:
            hooks: Any = layer
            hooks.register_forward_pre_hook(widen)
            hooks.register_forward_hook(narrow)
