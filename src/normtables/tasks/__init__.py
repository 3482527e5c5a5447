"""What is learned and how it is scored."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from normtables.registry import Registry
from normtables.world import ALONE, World


class Task(Protocol):
    """A kind of problem as the one training loop sees it.

    score, better: the number that ranks a run, and "lower" or "higher". chance: that of a model that learned nothing.
    sizes: what a model must fit. clock: updates per unit of a duration.
    """

    score: str
    better: str
    chance: float
    sizes: Mapping[str, Any]
    clock: Mapping[str, int]

    def batches(self, model: nn.Module, step: int) -> Iterator[Any]:
        """Endless training batches from update `step` on; nobody else looks inside them."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """One scalar to minimise, a pure function of its arguments."""

    def tally(self, loss: Tensor) -> Tensor:
        """What of an update's loss is averaged until the next row: the loss itself, or [k] numbers."""

    def trained(self, means: list[float]) -> dict[str, float]:
        """Metrics named `train/name` from these averages."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics named `split/name`; the caller has entered evaluation mode."""


@runtime_checkable
class Whole(Protocol):
    """A task that can give all its training examples at once, to a model that is fitted instead of trained."""

    def examples(self) -> tuple[Tensor, Tensor]:
        """Inputs [n, ...] and classes [n]; raises UserError where they are not in memory."""


@runtime_checkable
class Extending(Protocol):
    """A task that trains more than the network: a classifier of domains, for instance."""

    def extend(self, model: nn.Module) -> nn.Module:
        """The initialised model with such parts around it, called as it is; their weights come from torch's source."""


@runtime_checkable
class Paced(Protocol):
    """A task whose training changes with the share of the run that is done."""

    def pace(self, steps: int) -> None:
        """The updates of the run in all, told before the model is built."""


@runtime_checkable
class Lasting(Protocol):
    """A task with a state of its own that a run must keep: a replay memory, a game half played."""

    def open(self, folder: Path, saved: Mapping[str, Any] | None) -> None:
        """Begin, or go on from what `state` gave; large data may lie in files of the run's folder."""

    def due(self) -> bool:
        """Whether the run should be saved soon, whatever the time; asked every few updates."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors, numbers, strings, and lists and dicts of them."""

    def close(self) -> None:
        """Remove the files; the run is over."""


class Divided:
    """A task whose batches several processes divide: `batches` gives this one's part of each, with a mean as the loss.

    world: the processes. dim: the dimension of a model's inputs along which examples lie.
    """

    world = ALONE
    dim = 0

    def divide(self, world: World, apart: bool) -> None:
        """Let these processes divide the batches; apart: each takes the batch statistics of its own part. Raises
        UserError for options that have no meaning then."""
        self.world = world

    def mine(self, chosen: Tensor) -> Tensor:
        """This process's part of a batch's examples [n, ...]."""
        return chosen[self.world.part(len(chosen))]


class MeanLoss:
    """Of training a task keeps its mean loss and nothing else."""

    def tally(self, loss: Tensor) -> Tensor:
        """The loss itself."""
        return loss

    def trained(self, means: list[float]) -> dict[str, float]:
        """The mean loss."""
        return {"train/loss": means[0]}


TASKS: Registry[Task] = Registry("task", "normtables.tasks")
