"""The one training loop; it knows no task, no file and no clock on the wall."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from normtables.tasks import Task
from normtables.world import ALONE, World

STOP = 50  # updates between two looks at whether the loss is still finite


class Diverged(Exception):
    """The training loss is no longer a finite number."""


@dataclass
class Position:
    """Where a training stands: updates done, whether that is all, and sums over those since the last row."""

    step: int = 0
    stopped: bool = False
    losses: Tensor = field(default_factory=lambda: torch.zeros(()))
    counted: int = 0

    def means(self) -> list[float]:
        """The means over the updates since the last call (NaN where there was no update), and start anew."""
        sums = self.losses.flatten().tolist()
        found = [value / self.counted if self.counted else float("nan") for value in sums]
        self.losses, self.counted = torch.zeros_like(self.losses), 0
        return found


def train(
    task: Task,
    stream: Iterator[Any],
    model: nn.Module,
    optimizer: Optimizer,
    rate: Callable[[int], float],
    steps: int,
    every: int,
    position: Position,
    world: World = ALONE,
) -> Iterator[Position]:
    """Update the model until `steps` or until stopped, pausing at every `every` updates and at STOPs; raises Diverged.

    `rate` maps updates done to the factor on the learning rate. The caller may evaluate, write, save or stop while the
    loop pauses; `position` is moved in place. The loss that counts is the mean over the processes of `world`, so all of
    them diverge together.
    """
    for group in optimizer.param_groups:
        # Kept in the optimizer's state, so a resumed run has it too.
        group.setdefault("initial_lr", group["lr"] * group.get("rate", 1.0))
    while position.step < steps and not position.stopped:
        factor = rate(position.step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        loss = task.loss(model, next(stream))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        position.losses = position.losses + task.tally(world.mean(loss.detach()))
        position.counted += 1
        position.step += 1
        if position.step % STOP == 0 or position.step % every == 0 or position.step == steps:
            if not torch.isfinite(position.losses).all():
                raise Diverged(f"the training loss was not finite by update {position.step}")
            yield position
