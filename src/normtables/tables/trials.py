"""The runs of a row and column as the judge sees them: their numbers, what became of them, and the score of a guess."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from normtables.tables import stats
from normtables.tables.entries import Column
from normtables.tables.ranking import FEWEST_SETS, set_ranks
from normtables.tables.sources import Sources
from normtables.tables.spec import TableSpec

ENOUGH = 3  # runs of a cell
CLEARLY = 3  # standard errors by which a mean must beat chance
TIMES = ("step", "epoch", "seconds")  # the earlier the better
SLACK = 1e-9  # 2.0 - 1.95 is not quite 0.05

Sample = tuple[Mapping[str, object], float, str]  # axes, value (the budget where censored), status
Key = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Trials:
    """The runs of one row and column: their numbers, what became of them, and the score of a guess."""

    row: str
    column: str
    sign: int  # 1 where higher is better, -1 where lower is
    values: tuple[float, ...]
    statuses: tuple[str, ...]
    chance: float = math.nan
    ranks: tuple[float, ...] = ()  # on each data set, the mean over the runs, where the column ranks

    def count(self, *names: str) -> int:
        """How many runs have one of these statuses."""
        return sum(status in names for status in self.statuses)

    @property
    def ended(self) -> int:
        """Runs that came to an end, good or bad."""
        return self.count("finished", "censored", "diverged", "failed")

    @property
    def gains(self) -> list[float]:
        """The numbers that are compared, turned so that more is better."""
        return [self.sign * value for value in self.compared]

    @property
    def compared(self) -> tuple[float, ...]:
        """The numbers that a comparison with another cell is of: the ranks, or the values."""
        return self.ranks or self.values

    @property
    def n(self) -> int:
        """On how many a comparison rests: the data sets where they are ranked, else the runs that came to an end."""
        return len(self.ranks) or self.ended

    @property
    def enough(self) -> bool:
        """Whether that is enough for a verdict."""
        return self.n >= (FEWEST_SETS if self.ranks else ENOUGH)

    def beats_chance(self) -> bool:
        """Whether the mean of the runs that finished is better than chance by three standard errors."""
        mean, variance, n = stats.moments(self.gains)
        error = math.sqrt(variance / n) if n > 1 else 0.0
        return n > 0 and mean - self.sign * self.chance > CLEARLY * error + SLACK


def trials_of(
    spec: TableSpec, key: Key, found: Sequence[Sample], chance: float = math.nan, ranks: Sequence[float] = ()
) -> Trials:
    """The runs of a cell as the judge sees them."""
    values = tuple(value for _, value, status in found if status in ("finished", "censored"))
    statuses = tuple(status for *_, status in found)
    return Trials(*key, sign_of(spec.columns[key[1]]), values, statuses, chance, tuple(ranks))


def sign_of(column: Column) -> int:
    """1 where a column's numbers are better when higher, -1 when lower; a column's `better` is about its score."""
    taken = column.take or ("step" if column.read.kind == "first" else column.score)
    if column.relative_to or column.combine == "largest":
        return 1  # how many times better; how far it can go
    if column.ranks or taken in TIMES:
        return -1
    return 1 if column.better == "higher" else -1


def chances(sources: Sources) -> Iterator[tuple[Key, float]]:
    """The score of a guess for each cell whose records know it for the score it reads; the mean over folded sets."""
    for key, cell in sources.plan.cells.items():
        column = sources.plan.spec.columns[key[1]]
        records = [sources.records[member.run] for member in cell.members]
        known = [r.score.get("chance", math.nan) for r in records if r and r.score.get("name") == column.score]
        taken = sources.plan.spec.rows[key[0]].take or column.take
        if known and taken in ("", column.score) and column.combine == "mean":
            yield key, stats.moments(known)[0]


def ranks(sources: Sources) -> Iterator[tuple[Key, list[float]]]:
    """The ranks of each row on the data sets of a column of ranks, once all of its runs are there."""
    for column in sources.plan.spec.columns.values():
        if column.ranks and (frame := set_ranks(sources, column)) is not None:
            yield from (((str(row), column.name), frame[row].tolist()) for row in frame)
