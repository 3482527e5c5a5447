"""Learning-rate schedules: updates done and the history so far to a factor on the learning rate."""

from collections.abc import Mapping
from itertools import accumulate, pairwise

from normtables.config import steps_of
from normtables.errors import UserError, lookup
from normtables.optim import SCHEDULES, Rows, Schedule


def period(text: str, what: str, clock: Mapping[str, int], steps: int) -> int:
    """A duration in updates, at least 1; beside the task's units it may be a share of the run: "0.5budget"."""
    return steps_of(text, what, {**clock, "budget": steps})


@SCHEDULES.register("constant")
def constant(clock: Mapping[str, int], steps: int) -> Schedule:
    """The learning rate stays as it is."""
    return lambda done, rows: 1.0


@SCHEDULES.register("step")
def step(clock: Mapping[str, int], steps: int, *, every: str, factor: float, start: str | None = None) -> Schedule:
    """Multiply the learning rate by `factor` after `start` and after every further `every`, durations as "10epochs".

    start: null is the same as `every`.
    """
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    length = period(every, "schedule.every", clock, steps)
    first = period(start, "schedule.start", clock, steps) if start else length
    return lambda done, rows: factor ** max(0, (done - first) // length + 1)


@SCHEDULES.register("exponential")
def exponential(clock: Mapping[str, int], steps: int, *, every: str, factor: float) -> Schedule:
    """The learning rate falls smoothly, by `factor` in each `every`, a duration such as "8epochs"."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    length = period(every, "schedule.every", clock, steps)
    return lambda done, rows: factor ** (done / length)


@SCHEDULES.register("milestones")
def milestones(clock: Mapping[str, int], steps: int, *, at: list[str], factor: float) -> Schedule:
    """Multiply the learning rate by `factor` after each of the durations `at`, such as ["200epochs", "230epochs"]."""
    if not factor > 0:
        raise UserError(f"schedule.factor={factor}: a number above 0")
    points = [period(point, "schedule.at", clock, steps) for point in at]
    return lambda done, rows: factor ** sum(done >= point for point in points)


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

    def rate(done: int, rows: Rows) -> float:
        for (start, high), (end, low) in pairwise(knots):
            if done < end:
                return high + (low - high) * (done - start) / (end - start)
        return knots[-1][1]

    return rate


@SCHEDULES.register("newbob")
def newbob(clock: Mapping[str, int], steps: int, *, score: str, start: float, stop: float, factor: float) -> Schedule:
    """Lower the learning rate once a validation score hardly falls any more, end the run when it has stopped falling.

    From the first row on whose gain over the best row before it, relative to that, is below `start`, every row
    multiplies the rate by `factor`; a later row with a gain below `stop` ends the run (Kaldi, nnet1's
    train_scheduler.sh).
    `score` names a metric that is better when lower; raises UserError for one that the task does not report.
    """
    if not (0 < factor < 1 and start >= stop >= 0):
        raise UserError(
            f"schedule.factor={factor}: between 0 and 1; schedule.start={start} at least stop={stop} at least 0"
        )

    def rate(done: int, rows: Rows) -> float:
        scores = [lookup(row, score, "metric") for row in rows]
        found, falling = 1.0, False
        for best, value in zip(accumulate(scores, min), scores[1:]):
            gain = (best - value) / best
            if falling and not gain >= stop:
                return 0.0
            falling = falling or not gain >= start
            found *= factor if falling else 1.0
        return found

    return rate
