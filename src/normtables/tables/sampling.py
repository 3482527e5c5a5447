"""A total over many runs from a few that were measured, drawn row by row in proportion to a guess of their cost."""

import bisect
import itertools
import math
import random
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from normtables.tables import stats

LEAST = 2  # runs of a row that are drawn at least: fewer show no spread


class Total(NamedTuple):
    """An estimated total, its variance and the variance's degrees of freedom."""

    value: float
    variance: float
    freedom: int


def allotted(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """How many of each row's runs to draw, about `count` in all, in proportion to how many there are."""
    share = count / sum(sizes.values()) if sizes else 0.0
    return {row: min(size, max(LEAST, round(share * size))) for row, size in sizes.items()}


def drawn(work: Mapping[str, float], count: int, draw: random.Random) -> list[str]:
    """So many runs in proportion to their guessed cost, evenly spaced over a random order of them.

    All runs where they are no more than that. One that is more than its share of the whole may be drawn again.
    """
    order = draw.sample(list(work), len(work))
    if count >= len(order):
        return order
    ends = list(itertools.accumulate(work[run] for run in order))
    start = draw.random()
    return [order[bisect.bisect(ends, (start + k) * ends[-1] / count, hi=len(order) - 1)] for k in range(count)]


def total(work: Mapping[str, float], chosen: Sequence[str], costs: Mapping[str, float]) -> Total:
    """The total cost of a row's runs by those drawn: the mean of cost over guess times the sum of the guesses.

    Unbiased whatever the guesses are (Hansen and Hurwitz 1943); the sum itself where all runs were drawn.
    """
    if set(chosen) == set(work):
        return Total(sum(costs[run] for run in work), 0.0, 0)
    mean, variance, n = stats.moments([costs[run] / work[run] for run in chosen])
    whole = sum(work.values())
    return Total(whole * mean, whole**2 * variance / n, n - 1)


def interval(parts: Collection[Total]) -> tuple[float, float, float]:
    """The sum of independent totals and its 95 % interval, by Student's t with Satterthwaite's degrees of freedom."""
    value, variance = sum(part.value for part in parts), sum(part.variance for part in parts)
    if variance == 0:
        return value, value, value
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts if part.variance)
    low, high = stats.t_interval(value, math.sqrt(variance), freedom)
    return value, max(0.0, low), high
