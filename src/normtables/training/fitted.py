"""Models that are fitted at once, or need not even that: runs of no updates, with the same records as all others."""

from collections.abc import Iterator

from torch import nn

from normtables.errors import UserError
from normtables.models.classical import Classical
from normtables.tasks import Task, Whole
from normtables.training.loop import Position


def check(model: nn.Module, task: Task, steps: int) -> None:
    """Raise UserError unless a model without parameters has no updates, any other has some, and the task can fit one
    that is fitted."""
    if any(True for _ in model.parameters()):
        if not steps:
            raise UserError("budget=0steps: this model is trained; only classical ones, such as model=svm, are fitted")
        return
    if steps:
        raise UserError("this model is fitted at once, without updates: set budget=0steps")
    if isinstance(model, Classical):
        if not isinstance(task, Whole):
            raise UserError(
                "this model classifies examples one by one, and the data set's task is another; see its file"
            )
        task.examples()


def fitted(model: nn.Module, task: Task, seed: int, position: Position) -> Iterator[Position]:
    """Fit a classical model to all training examples, and pause once, as the loop does at the end of a training."""
    if isinstance(model, Classical):
        assert isinstance(task, Whole)  # checked before
        model.fit(*task.examples(), seed)
    yield position
