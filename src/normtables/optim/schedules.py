"""Learning-rate schedules: updates done to a factor on the learning rate."""

from collections.abc import Mapping
from itertools import pairwise

from normtables.config import steps_of
from normtables.errors import UserError
from normtables.optim import SCHEDULES, Schedule


def period(text: str, what: str, clock: Mapping[str, int], steps: int) -> int:
    """A duration in updates, at least 1; beside the task's units it may be a share of the run: "0.5budget"."""
    return steps_of(text, what, {**clock, "budget": steps})


@SCHEDULES.register("constant")
def constant(clock: Mapping[str, int], steps: int) -> Schedule:
    """The learning rate stays as it is."""
    return lambda step: 1.0


@SCHEDULES.register("step")
def step(clock: Mapping[str, int], steps: int, *, every: str, factor: float) -> Schedule:
    """Multiply the learning rate by `factor` after every `every`, a duration such as "10epochs"."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    length = period(every, "schedule.every", clock, steps)
    return lambda done: factor ** (done // length)


@SCHEDULES.register("exponential")
def exponential(clock: Mapping[str, int], steps: int, *, every: str, factor: float) -> Schedule:
    """The learning rate falls smoothly, by `factor` in each `every`, a duration such as "8epochs"."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    length = period(every, "schedule.every", clock, steps)
    return lambda done: factor ** (done / length)


@SCHEDULES.register("milestones")
def milestones(clock: Mapping[str, int], steps: int, *, at: list[str], factor: float) -> Schedule:
    """Multiply the learning rate by `factor` after each of the durations `at`, such as ["200epochs", "230epochs"]."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    points = [period(point, "schedule.at", clock, steps) for point in at]
    return lambda done: factor ** sum(done >= point for point in points)


@SCHEDULES.register("linear")
def linear(clock: Mapping[str, int], steps: int, *, at: list[str], factors: list[float]) -> Schedule:
    """Straight lines from factor 1 at the start to `factors` at the durations `at`, level behind the last.

    Each duration is longer than the one before.
    """
    points = [period(point, "schedule.at", clock, steps) for point in at]
    if len(at) != len(factors) or any(b <= a for a, b in pairwise([0, *points])):
        raise UserError(f"schedule.at={at}: growing durations, as many as schedule.factors={factors}")
    if not all(factor >= 0 for factor in factors):
        raise UserError(f"schedule.factors={factors}: numbers of at least 0")
    knots = [(0, 1.0), *zip(points, factors)]

    def rate(done: int) -> float:
        for (start, high), (end, low) in pairwise(knots):
            if done < end:
                return high + (low - high) * (done - start) / (end - start)
        return knots[-1][1]

    return rate
