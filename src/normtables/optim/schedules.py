"""Learning-rate schedules: updates done to a factor on the learning rate."""

from collections.abc import Mapping

from normtables.config import steps_of
from normtables.errors import UserError
from normtables.optim import SCHEDULES, Schedule


@SCHEDULES.register("constant")
def constant(clock: Mapping[str, int], steps: int) -> Schedule:
    """The learning rate stays as it is."""
    return lambda step: 1.0


@SCHEDULES.register("step")
def step(clock: Mapping[str, int], steps: int, *, every: str, factor: float) -> Schedule:
    """Multiply the learning rate by `factor` after every `every`, a duration such as "10epochs"."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    period = steps_of(every, "schedule.every", clock)
    return lambda done: factor ** (done // period)
