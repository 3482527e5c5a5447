"""Which runs a table needs at a tier, which cells they fill, what state they are in and how long the rest may take."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pandas as pd

from normtables.config import Composer, id_of
from normtables.errors import UserError, nearest
from normtables.records import DONE, Store
from normtables.tables.compose import Facts
from normtables.tables.entries import Axes, Settings
from normtables.tables.estimates import Estimate, estimate, rates
from normtables.tables.spec import TableSpec

TO_RUN = ("failed", "interrupted", "missing")
Point = tuple[tuple[str, Any], ...]  # one value for each key of some axes
Key = tuple[str, str]  # row, column


class Member(NamedTuple):
    """One run of a cell and where it stands on the axes that are folded, tuned and repeated."""

    over: Point
    tune: Point
    repeat: Point
    run: str


@dataclass(frozen=True)
class Cell:
    """The runs behind one printed number."""

    row: str
    column: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class PlannedRun:
    """A run the table needs: its settings, what it computes (the hashed facts) and everything that it serves."""

    id: str
    settings: Settings
    facts: Mapping[str, Any]
    axes: Mapping[str, Any]
    cells: tuple[Key, ...] = ()
    readings: tuple[tuple[str, str], ...] = ()  # option, row


@dataclass(frozen=True)
class Plan:
    """All cells and unique runs of a table at one tier; `readings` is option -> row -> run id."""

    spec: TableSpec
    tier: str
    cells: Mapping[Key, Cell]
    runs: Mapping[str, PlannedRun]
    readings: Mapping[str, Mapping[str, str]]


class Runs:
    """Unique runs by id, composed once for each set of settings."""

    def __init__(self, composer: Composer) -> None:
        self.facts = Facts(composer)
        self.found: dict[str, PlannedRun] = {}
        self._ids: dict[str, str] = {}

    def add(self, settings: Settings, axes: Mapping[str, Any]) -> PlannedRun:
        """The run with these settings; UserError where they do not compose."""
        spelled = json.dumps(settings, sort_keys=True, default=str)
        if spelled not in self._ids:
            known = self.facts.of(settings)
            self._ids[spelled] = id_of(known)
            self.found.setdefault(id_of(known), PlannedRun(id_of(known), settings, known, axes))
        return self.found[self._ids[spelled]]

    def serve(self, run: PlannedRun, cell: Key | None = None, reading: tuple[str, str] | None = None) -> str:
        """Note what a run is for; its id."""
        cells = (*run.cells, cell) if cell and cell not in run.cells else run.cells
        readings = (*run.readings, reading) if reading else run.readings
        self.found[run.id] = replace(run, cells=cells, readings=readings)
        return run.id


def plan(spec: TableSpec, tier: str, composer: Composer) -> Plan:
    """The cells and runs of a table at a tier; UserError for a tier it lacks and for a table not runnable yet."""
    if tier not in spec.tiers:
        raise UserError(
            f"table {spec.table} has no tier {tier!r}{nearest(tier, spec.tiers)}; it has: {', '.join(spec.tiers)}"
        )
    if not spec.runnable:
        raise UserError(f"table {spec.table} is not runnable yet ({spec.path.name} says runnable: false)")
    runs = Runs(composer)
    try:
        cells = {
            (row, column): plan_cell(spec, tier, row, column, runs)
            for column in spec.columns
            for row in spec.planned_rows(column, tier)
        }
        readings = plan_readings(spec, tier, runs)
    except UserError as error:
        raise UserError(f"{spec.path.name}: {error}") from error
    return Plan(spec, tier, cells, runs.found, readings)


def base(spec: TableSpec, tier: str, row: str, column: str) -> dict[str, Any]:
    """Settings of a cell before its axes: tier, fixed, tiers.set, column, column at the tier, row, cell; later wins."""
    col, own = spec.columns[column], spec.rows[row].settings
    merged = {"tier": tier}
    for part in (spec.fixed, spec.tiers[tier].settings, col.settings, col.tiers[tier].settings, own):
        merged |= part
    merged |= col.cells.get(row, {})
    return merged


def plan_cell(spec: TableSpec, tier: str, row: str, column: str, runs: Runs) -> Cell:
    """All runs of a cell: over x tune x repeat."""
    col, fixed = spec.columns[column], base(spec, tier, row, column)
    over = {**col.over, **col.tiers[tier].over}
    tune = {**spec.tune, **spec.rows[row].tune} if col.tuned else {}
    tune |= {key: values for key, values in spec.tiers[tier].tune.items() if key in tune}
    members = []
    for o, t, r in itertools.product(points(over), points(tune), points(spec.tiers[tier].repeat)):
        axes = dict((*o, *t, *r))
        run = runs.add(fixed | axes, axes)
        members.append(Member(o, t, r, runs.serve(run, cell=(row, column))))
    return Cell(row, column, tuple(members))


def points(axes: Axes) -> Iterator[Point]:
    """Every combination of the axes' values; one empty point where there are no axes."""
    for values in itertools.product(*axes.values()):
        yield tuple(zip(axes, values))


def plan_readings(spec: TableSpec, tier: str, runs: Runs) -> dict[str, dict[str, str]]:
    """The runs that try readings of the source, where this is their tier: option -> row -> run id."""
    tried = spec.readings
    if tried is None or tried.tier != tier:
        return {}
    rows = [r for r in spec.planned_rows(tried.column, tier) if (r, tried.column) in spec.published]
    found: dict[str, dict[str, str]] = {option: {} for option in tried.options}
    for option, row in itertools.product(tried.options, rows):
        settings = base(spec, tier, row, tried.column) | dict(tried.settings) | tried.options[option].of(row)
        run = runs.add(settings, {"seed": settings.get("seed", 0)})
        found[option][row] = runs.serve(run, reading=(option, row))
    return found


def narrowed(plan: Plan, rows: Sequence[str], columns: Sequence[str]) -> Plan:
    """The cells in the rows and columns that these names or globs name, and their runs; all where none is given.

    Raises UserError for one that fits nothing.
    """
    down, across = unique(row for row, _ in plan.cells), unique(column for _, column in plan.cells)
    kept = set(itertools.product(fitting(down, rows, "row"), fitting(across, columns, "column")))
    cells = {key: cell for key, cell in plan.cells.items() if key in kept}
    tried = plan.spec.readings.column if plan.spec.readings else ""
    readings = {
        option: {row: run for row, run in found.items() if (row, tried) in kept}
        for option, found in plan.readings.items()
    }
    wanted = {m.run for cell in cells.values() for m in cell.members}
    wanted |= {run for found in readings.values() for run in found.values()}
    runs = {name: run for name, run in plan.runs.items() if name in wanted}
    return replace(plan, cells=cells, runs=runs, readings=readings)


def fitting(names: Sequence[str], globs: Sequence[str], what: str) -> Sequence[str]:
    """The names that some glob is or fits, all without globs; UserError for a glob that fits none."""
    for glob in globs:
        if not any(fits(name, glob) for name in names):
            raise UserError(f"this tier has no {what} {glob!r}{nearest(glob, names)}; it has: {', '.join(names)}")
    return [name for name in names if not globs or any(fits(name, glob) for glob in globs)]


def fits(name: str, glob: str) -> bool:
    """Whether a glob is this very name, brackets and all, or a pattern that fits it."""
    return name == glob or fnmatchcase(name, glob)


def states(plan: Plan, store: Store) -> dict[str, str]:
    """Run id -> finished, diverged, failed, running, interrupted or missing."""
    return {run: store.state(run) for run in plan.runs}


def missing(plan: Plan, store: Store) -> list[PlannedRun]:
    """The runs still to be made: failed, interrupted and missing ones; a diverged run is done."""
    found = states(plan, store)
    return [run for name, run in plan.runs.items() if found[name] in TO_RUN]


def running(plan: Plan, store: Store) -> list[PlannedRun]:
    """The runs that some process is making at this moment."""
    found = states(plan, store)
    return [run for name, run in plan.runs.items() if found[name] == "running"]


def summary(plan: Plan, store: Store) -> pd.DataFrame:
    """One row a run: id, state, rows, columns, axes, readings, settings, seconds (0 when done, NaN when unknown), rough
    (whether runs on other data, or fits with other settings, are behind the seconds)."""
    found, known = states(plan, store), rates(store)
    guesses = {
        name: Estimate(0.0, False) if found[name] in DONE else estimate(run.facts, known)
        for name, run in plan.runs.items()
    }
    return pd.DataFrame(
        [
            {
                "id": run.id,
                "state": found[run.id],
                **purpose(run),
                "settings": dict(run.settings),
                "seconds": guesses[run.id].seconds,
                "rough": guesses[run.id].rough,
            }
            for run in plan.runs.values()
        ],
        columns=["id", "state", "rows", "columns", "axes", "readings", "settings", "seconds", "rough"],
    ).astype({"seconds": float})


def purpose(run: PlannedRun) -> dict[str, Any]:
    """What a run is for: rows, columns, axes, readings."""
    return {
        "rows": unique(row for row, _ in (*run.cells, *((r, o) for o, r in run.readings))),
        "columns": unique(column for _, column in run.cells),
        "axes": dict(run.axes),
        "readings": unique(option for option, _ in run.readings),
    }


def unique(names: Iterator[str]) -> Sequence[str]:
    """Names without repeats, in order."""
    return list(dict.fromkeys(names))
