"""What a run that several processes make needs besides its parts; nothing of it happens in one process."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from normtables.errors import UserError
from normtables.norms import together
from normtables.processes import PER_DEVICE
from normtables.tasks import Divided, Task
from normtables.world import World


def check(cfg: DictConfig, world: World) -> None:
    """Raise UserError where the processes are not those that the settings name, or cannot share a batch equally."""
    if cfg.processes != world.size:
        how = f"torchrun --nproc-per-node={cfg.processes} -m normtables run" if cfg.processes > 1 else "no torchrun"
        raise UserError(f"processes={cfg.processes}, but {world.size} make this run: start it with {how}")
    if cfg.batch_size % world.size:
        raise UserError(f"batch_size={cfg.batch_size}: {world.size} processes share a batch, take a multiple of that")


def divide(task: Task, cfg: DictConfig, steps: int, world: World) -> None:
    """Give the task's batches to the processes in parts; raises UserError for a task that has no such batches."""
    if world.size == 1:
        return
    name = cfg.dataset.task.name
    if not isinstance(task, Divided):
        raise UserError(f"dataset.task={name} is made by one process: start this run without torchrun")
    if not steps:
        raise UserError("a model that is fitted at once is made by one process: start this run without torchrun")
    task.divide(world, cfg.batch_statistics == PER_DEVICE)


def join_layers(model: nn.Module, task: Task, cfg: DictConfig, world: World, device: torch.device) -> None:
    """Let dropout, batch statistics and what a model keeps of its examples be those of several processes."""
    if world.size == 1:
        return
    assert isinstance(task, Divided)  # checked before
    if cfg.batch_statistics != PER_DEVICE:
        together.synchronise(model, world, device)
    together.draw_together(model, world, task.dim)
    own(model, world)


def by_example(model: nn.Module) -> Mapping[str, int]:
    """The model's buffers with something for each example of a batch, and the dimension in which."""
    return getattr(model, "by_example", {})


def own(model: nn.Module, world: World) -> None:
    """Cut the buffers with something for each example of a whole batch to this process's part."""
    for name, dim in by_example(model).items():
        setattr(model, name, cut(getattr(model, name), dim, world).clone())


def cut(x: Tensor, dim: int, world: World) -> Tensor:
    """This process's part of what holds something for each example along a dimension."""
    part = world.part(x.shape[dim])
    return x.narrow(dim, part.start, part.stop - part.start)


def parallel(model: nn.Module, optimizer: Optimizer, cfg: DictConfig, world: World) -> nn.Module:
    """The model as it is trained: the gradients that it leaves are means over the processes."""
    if world.size == 1:
        return model
    if cfg.batch_statistics == PER_DEVICE:
        optimizer.register_step_post_hook(lambda *_: together.average(model, world))
    warnings.filterwarnings("ignore", "Grad strides do not match")  # filters of one channel have several layouts
    with warnings.catch_warnings():  # torch 2.15 renames the setting; its successor is not in 2.11
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False)


def state_of(model: nn.Module, world: World) -> dict[str, Any]:
    """The model's state with buffers for all examples, as one process has it."""
    state = model.state_dict()
    for name, dim in by_example(model).items():
        state[name] = world.whole(state[name], dim)
    return state


def load(model: nn.Module, state: dict[str, Any], world: World) -> None:
    """Take up what `state_of` gave."""
    for name, dim in by_example(model).items():
        state[name] = cut(state[name], dim, world)
    model.load_state_dict(state)


def facts(cfg: DictConfig, world: World) -> dict[str, Any]:
    """What the record says of the processes; nothing of one."""
    return {} if world.size == 1 else {"processes": world.size, "batch_statistics": str(cfg.batch_statistics)}


def random_state(device: torch.device) -> list[Tensor]:
    """The state of this process's device's random numbers; empty for the CPU."""
    return [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
