"""The long table of a plan, the samples behind its cells, and how close readings of the source come; all by run id."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import scipy  # scipy.stats is loaded by its first use: planning needs none of it

from normtables.tables import stats
from normtables.tables.entries import Column
from normtables.tables.outcomes import CellReader, Outcome, cells_of, has, outcomes
from normtables.tables.plan import Cell, Key, Member, Plan
from normtables.tables.ranking import against_best
from normtables.tables.reading import companion
from normtables.tables.sources import Sources
from normtables.tables.statements import Published

COLUMNS = (
    *(
        "table",
        "tier",
        "row",
        "column",
        "unit",
        "survey",
        "original",
        "original_mark",
        "ours",
        "sd",
        "ci_low",
        "ci_high",
    ),
    *("n", "n_reached", "p_value", "reading", "budget", "status", "run_ids"),
)
COMPANION = "validation-best"  # reading of the extra rows beside a best-on-test reading
ENDED = ("finished", "censored", "diverged")

Sample = tuple[dict[str, Any], float, str]  # axes, value (where censored: at the end of the budget), status


def collect(sources: Sources) -> pd.DataFrame:
    """The long table: one row per row and column of the tier, and the validation-best reading beside best on test.

    Raises UserError where a score is in no record or where a record and the table disagree on which way is better.
    """
    lines = list(itertools.chain.from_iterable(column_lines(sources, column) for column in columns_of(sources.plan)))
    rows, columns = list(sources.plan.spec.rows), list(sources.plan.spec.columns)
    lines.sort(key=lambda line: (rows.index(line["row"]), columns.index(line["column"])))  # stable: companions follow
    return pd.DataFrame(lines, columns=list(COLUMNS))


def samples(sources: Sources) -> dict[Key, list[Sample]]:
    """What the judge needs of each planned cell: (axes, value, status) of every repeat."""
    return {
        (row, column.name): [(dict(o.repeat), o.value, o.status) for o in found]
        for column in columns_of(sources.plan)
        for row, found in outcomes(sources, column).items()
    }


def columns_of(plan: Plan) -> list[Column]:
    """The columns of the plan's tier, quoted ones too."""
    return [column for column in plan.spec.columns.values() if plan.tier in column.tiers]


def column_lines(sources: Sources, column: Column) -> Iterator[dict[str, Any]]:
    """The lines of one column: every row by its own rule, and by the validation-best rule where that is another."""
    spec, found = sources.plan.spec, outcomes(sources, column)
    p_values = against_best(sources, column) if column.ranks else {}
    for row in spec.rows.values():
        if not (row.quoted and column.stand_in):
            reading = "" if column.quoted else str(column.read)
            line = line_of(sources, row.name, column, found.get(row.name, []), reading)
            yield line | {"p_value": p_values.get(row.name, math.nan)}
    rule = companion(column.read, column.score, column.better)
    if rule and any(has(sources, member.run, rule.by) for cell in cells_of(sources, column) for member in cell.members):
        for row_name, beside in outcomes(sources, replace(column, read=rule)).items():
            if any(math.isfinite(o.value) for o in beside):
                line = line_of(sources, row_name, column, beside, COMPANION)
                yield line | dict.fromkeys(("survey", "original"), math.nan) | {"original_mark": ""}


def line_of(sources: Sources, row: str, column: Column, found: Sequence[Outcome], reading: str) -> dict[str, Any]:
    """One line of the long table; the mean only where every repeat that ended gave a number and none crashed."""
    spec = sources.plan.spec
    ended = [o for o in found if o.status in ENDED]
    good = [o.value for o in ended if o.status == "finished"]
    crashed = any(o.status == "failed" for o in found)
    whole = stats.summary(good if len(good) == len(ended) and not crashed else [])
    printed = spec.printed(row, column.name)
    return {
        "table": spec.table,
        "tier": sources.plan.tier,
        "row": row,
        "column": column.name,
        "unit": column.unit,
        "survey": printed.survey,
        "original": printed.original,
        "original_mark": printed.mark,
        "ours": whole.mean,
        "sd": whole.sd,
        "ci_low": whole.low,
        "ci_high": whole.high,
        "n": len(ended),
        "n_reached": len(good),
        "p_value": math.nan,
        "reading": reading,
        "budget": budget(sources, sources.plan.cells.get((row, column.name))),
        "status": "quoted" if spec.rows[row].quoted or column.quoted else status(found, ended),
        "run_ids": " ".join(dict.fromkeys(run for o in found for run in o.runs)),
    }


def status(found: Sequence[Outcome], ended: Sequence[Outcome]) -> str:
    """A cell's status: not planned, missing, failed k of n, partial k of n, diverged, censored or finished."""
    if not found:
        return "not planned"
    states = {o.status for o in found}
    if "diverged" in states:
        return "diverged"
    if "failed" in states:
        return f"failed {sum(o.status == 'failed' for o in found)} of {len(found)}"
    if not ended:
        return "missing"
    if len(ended) < len(found):
        return f"partial {len(ended)} of {len(found)}"
    return "censored" if "censored" in states else "finished"


def budget(sources: Sources, cell: Cell | None) -> str:
    """The budget of a cell's runs, as in `100 epochs`."""
    found: dict[str, None] = {}
    for member in cell.members if cell else ():
        [(unit, amount)] = sources.plan.runs[member.run].facts["budget"].items()
        found[f"{amount:,g} {unit}{'' if amount == 1 else 's'}" if amount < 1e6 else f"{amount:,.0f} {unit}s"] = None
    return "; ".join(found)


def readings(sources: Sources) -> pd.DataFrame:
    """How close each reading of the source comes to the published rows: one line an option, in points and in ranks.

    Columns: reading, n, planned, status, mean_abs, mean_abs_but_worst (without the row that is worst as published),
    spearman, kendall, closest (value, rank or both), default, and one column for each row.
    """
    plan, tried = sources.plan, sources.plan.spec.readings
    if tried is None or not plan.readings:
        return pd.DataFrame()
    column = plan.spec.columns[tried.column]
    target = {row: original(plan.spec.published[row, column.name]) for row in next(iter(plan.readings.values()))}
    worst = (max if column.better == "lower" else min)(target, key=lambda row: target[row])
    lines = []
    for option, runs in plan.readings.items():
        found = {row: reading_of(sources, column, run) for row, run in runs.items()}
        values = {row: value for row, (value, _) in found.items()}
        lines.append(
            {"reading": option, **closeness(found, target, worst), "default": option == tried.default, **values}
        )
    frame = pd.DataFrame(lines)
    frame.insert(list(frame).index("default"), "closest", closest(frame))
    return frame


def original(published: Published) -> float:
    """What the source prints, or the survey where the source's number is not known."""
    return published.original if math.isfinite(published.original) else published.survey


def reading_of(sources: Sources, column: Column, run: str) -> tuple[float, str]:
    """The value and state of one run that tries a reading."""
    cell = Cell("", column.name, (Member((), (), (), run),))
    return CellReader(sources, column, cell).read(cell.members[0])


def closeness(found: Mapping[str, tuple[float, str]], target: Mapping[str, float], worst: str) -> dict[str, Any]:
    """Distance and rank correlation between the rows that finished and the published ones."""
    done = [row for row, (_, state) in found.items() if state == "finished"]
    diverged = sum(state == "diverged" for _, state in found.values())
    gaps = {row: abs(found[row][0] - target[row]) for row in done}
    pairs = [found[row][0] for row in done], [target[row] for row in done]
    enough = len(done) > 2 and all(len(set(values)) > 1 for values in pairs)
    state = "finished" if len(done) == len(found) else f"partial {len(done)} of {len(found)}"
    return {
        "n": len(done),
        "planned": len(found),
        "status": f"diverged {diverged} of {len(found)}" if diverged else state,
        "mean_abs": stats.moments(list(gaps.values()))[0],
        "mean_abs_but_worst": stats.moments([gap for row, gap in gaps.items() if row != worst])[0],
        "spearman": float(scipy.stats.spearmanr(*pairs).statistic) if enough else math.nan,
        "kendall": float(scipy.stats.kendalltau(*pairs).statistic) if enough else math.nan,
    }


def closest(frame: pd.DataFrame) -> list[str]:
    """Which complete option is closest by value and which by rank (Spearman); nothing for the others."""
    whole = frame[frame["status"] == "finished"]
    marks = {
        "value": whole["mean_abs"] == whole["mean_abs"].min(),
        "rank": whole["spearman"] == whole["spearman"].max(),
    }
    return [" and ".join(way for way, mark in marks.items() if mark.get(line, False)) for line in frame.index]
