"""How the rows of a ranked column stand to each other: average ranks, Friedman's test, who cannot be told apart."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from normtables.tables import stats
from normtables.tables.entries import Column
from normtables.tables.outcomes import CellReader, cells_of, scores, unit
from normtables.tables.sources import Sources

FEWEST_SETS, FEWEST_ROWS = 6, 3  # data sets below which no p-value is printed, and rows that Friedman's test needs


@dataclass(frozen=True)
class Ranking:
    """The rows of a column by average rank over its data sets (scores are means over the repeats), the best first.

    Friedman's statistic and p-value, Nemenyi's critical difference of two average ranks (5 %), and the largest groups
    of neighbours that differ by no more than it; NaN and none where there are too few data sets or rows.
    """

    column: str
    ranks: Mapping[str, float]
    sets: int
    statistic: float = math.nan
    p: float = math.nan
    critical: float = math.nan
    cliques: tuple[tuple[str, ...], ...] = ()


def rankings(sources: Sources) -> list[Ranking]:
    """The rankings of the columns of rank differences at the plan's tier, those whose runs are all there."""
    plan = sources.plan
    columns = [c for c in plan.spec.columns.values() if c.combine == "rank_difference" and plan.tier in c.tiers]
    frames = ((column, mean_scores(sources, column)) for column in columns)
    return [ranking(column.name, frame, column.better) for column, frame in frames if frame is not None]


def ranking(column: str, frame: pd.DataFrame, better: str) -> Ranking:
    """The ranking of the columns (rows of the table) of scores by data set."""
    ranks = stats.average_ranks(frame, better).sort_values(kind="stable")
    known = {str(row): float(rank) for row, rank in ranks.items()}
    sets, rows = frame.shape
    if sets < FEWEST_SETS or rows < FEWEST_ROWS:
        return Ranking(column, known, sets)
    critical = stats.nemenyi_cd(rows, sets)
    return Ranking(column, known, sets, *stats.friedman(frame.rank(axis=1)), critical, tuple(cliques(known, critical)))


def cliques(ranks: Mapping[str, float], critical: float) -> Iterator[tuple[str, ...]]:
    """The largest groups of two or more neighbours whose ranks (sorted) differ by at most the critical difference."""
    rows, covered = list(ranks), 0
    for start, row in enumerate(rows):
        end = sum(ranks[other] - ranks[row] <= critical for other in rows)  # all before `row` are closer still
        if end > max(covered, start + 1):
            yield tuple(rows[start:end])
        covered = max(covered, end)


def set_ranks(sources: Sources, column: Column) -> pd.DataFrame | None:
    """Ranks by data set and row, means over the repeats, in the column's unit; None where a score is missing.

    Their means over the data sets differ between rows as the printed rank differences do.
    """
    frames = list(by_repeat(sources, column).values())
    if not frames or any(frame.isna().to_numpy().any() for frame in frames):
        return None
    ranked = [frame.rank(axis=1, ascending=column.better == "lower") for frame in frames]
    return sum(ranked[1:], start=ranked[0]) / len(ranked) / unit(column, ranked[0].shape[1])


def by_repeat(sources: Sources, column: Column) -> dict[str, pd.DataFrame]:
    """Repeat -> scores by data set and row."""
    return scores({cell.row: CellReader(sources, column, cell).all() for cell in cells_of(sources, column)}, column)


def mean_scores(sources: Sources, column: Column) -> pd.DataFrame | None:
    """Scores by data set and row, means over the repeats, the worst possible where a run diverged; None where one is
    missing."""
    frames = list(by_repeat(sources, column).values())
    if not frames or any(frame.isna().to_numpy().any() for frame in frames):
        return None
    return (sum(frames[1:], start=frames[0]) / len(frames)).map(stats.firm)


def against_best(sources: Sources, column: Column) -> dict[str, float]:
    """Row -> p-value of Wilcoxon's test over the data sets (means over repeats) against the row with the best rank.

    Where a run diverged the difference is the largest of all.
    """
    mean = mean_scores(sources, column)
    if mean is None or len(mean) < FEWEST_SETS:
        return {}
    best = stats.average_ranks(mean, column.better).idxmin()
    return {str(row): stats.wilcoxon(list(mean[row]), list(mean[best])) for row in mean if row != best}
