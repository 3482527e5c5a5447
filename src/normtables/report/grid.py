"""The long table as a grid of printed cells: what markdown, LaTeX and the figure show of it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from normtables.tables.collect import COMPANION
from normtables.tables.plan import Plan
from normtables.tables.spec import Column, TableSpec
from normtables.tables.wording import chance_of, decimals, number, published

WAITING = ("missing", "failed", "partial")  # status of cells whose runs are still to be made
NONE = "–"  # nothing published


@dataclass(frozen=True)
class Shown:
    """One cell: published numbers, ours with its interval, and `trouble`, what there is to say of its runs."""

    survey: float
    original: float
    ours: float
    sd: float
    low: float
    high: float
    n: int
    trouble: str
    waits: bool
    p: float
    digits: int

    @property
    def known(self) -> str:
        """Survey and source, as in `7.32 / 7.24`; nothing where neither prints a number."""
        pair = [published(v, self.digits) or NONE for v in (self.survey, self.original)]
        return "" if pair == [NONE, NONE] else " / ".join(pair)

    @property
    def measured(self) -> str:
        """Ours, as in `2.643 ± 0.031 (3)`, or what went wrong."""
        if math.isnan(self.ours):
            return f"{self.trouble} run" if self.waits and self.trouble[-1:].isdigit() else self.trouble
        spread = "" if math.isnan(self.sd) else f" ± {number(self.sd, self.digits)}"
        p = "" if math.isnan(self.p) else f", p {chance_of(self.p)}"
        return f"{number(self.ours, self.digits)}{spread} ({self.trouble or self.n}){p}"

    @property
    def text(self) -> str:
        """The whole cell."""
        return " / ".join(filter(None, (self.known, self.measured)))


@dataclass(frozen=True)
class Grid:
    """A table at a tier: the cells of the published reading, and those at the validation-best epoch."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    heads: Mapping[str, str]
    budgets: Mapping[str, tuple[str, ...]]
    cells: Mapping[tuple[str, str], Shown]
    beside: Mapping[tuple[str, str], Shown]

    def of(self, row: str) -> dict[str, Shown]:
        """The cells of a row, by column, that show anything."""
        return {c: cell for c in self.columns if (cell := self.cells.get((row, c))) and cell.text}

    def lines(self) -> Iterator[tuple[str, dict[str, Shown]]]:
        """Label and cells of every printed line: the rows, then those with numbers at the validation-best epoch."""
        for row in self.rows:
            yield row, self.of(row)
        for row in self.rows:
            beside = {c: cell for c in self.columns if (cell := self.beside.get((row, c))) and math.isfinite(cell.ours)}
            if beside:
                yield f"{row}, at the best validation epoch", beside

    def waiting(self) -> list[tuple[str, str]]:
        """The cells that wait for runs."""
        return [key for key, cell in self.cells.items() if cell.waits]


def grid_of(plan: Plan, table: pd.DataFrame) -> Grid:
    """The printed cells of a collected table."""
    spec = plan.spec
    columns = tuple(name for name, column in spec.columns.items() if plan.tier in column.tiers)
    lines: list[dict[str, Any]] = [dict(zip(table.columns, line)) for line in table.itertuples(index=False, name=None)]
    first = [line for line in lines if line["reading"] != COMPANION]
    beside = [line for line in lines if line["reading"] == COMPANION]
    return Grid(
        title=f"{name_of(spec)}: {spec.title} (tier {plan.tier})",
        rows=tuple(name for name in spec.rows if any(line["row"] == name for line in first)),
        columns=columns,
        heads={name: head(spec, name) for name in columns},
        budgets={name: budgets(first, name) for name in columns},
        cells=dict(shown(spec, line) for line in first),
        beside=dict(shown(spec, line) for line in beside),
    )


def name_of(spec: TableSpec) -> str:
    """`Table 3`, or what a user's file calls itself."""
    return f"Table {spec.table}"


def head(spec: TableSpec, name: str) -> str:
    """A column's head; a stand-in says for what."""
    column = spec.columns[name]
    return f"{name} (stand-in for {column.stand_in})" if column.stand_in else name


def budgets(lines: Iterable[Mapping[str, Any]], column: str) -> tuple[str, ...]:
    """The budgets of a column's cells; compared rows should have one."""
    found = dict.fromkeys(line["budget"] for line in lines if line["column"] == column)
    return tuple(filter(None, found))


def shown(spec: TableSpec, line: Mapping[str, Any]) -> tuple[tuple[str, str], Shown]:
    """The cell that a line of the long table holds."""
    cell = Shown(
        survey=line["survey"],
        original=line["original"],
        ours=line["ours"],
        sd=line["sd"],
        low=line["ci_low"],
        high=line["ci_high"],
        n=line["n"],
        trouble=trouble(line, spec.columns[line["column"]]),
        waits=line["status"].startswith(WAITING),
        p=line["p_value"],
        digits=decimals(spec, line["column"]),
    )
    return (line["row"], line["column"]), cell


def trouble(line: Mapping[str, Any], column: Column) -> str:
    """What there is to say about a cell that is not simply finished."""
    goal = column.read.kind == "first" or not column.relative_to  # else a ratio to an error of zero
    n, reached, status = line["n"], line["n_reached"], line["status"]
    published_ = math.isfinite(line["survey"]) or math.isfinite(line["original"])
    if status == "diverged" and line["reading"].startswith("first"):
        return f"diverged, {reached} of {n} reached"
    words = {
        "finished": "",
        "quoted": "quoted" if published_ else "",
        "missing": "not run",
        "not planned": "not at this tier" if published_ else "",
        "censored": f"{reached} of {n} {'reached' if goal else 'defined'}",
        "diverged": f"{n - reached} of {n} diverged",
    }
    if status.startswith("failed "):
        return f"{status.removeprefix('failed ')} failed"
    return words.get(status, status.removeprefix("partial "))
