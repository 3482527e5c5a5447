"""The table file as a whole: rows, columns, published numbers, reading rules, claims; checked when it is loaded."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from normtables.errors import UserError
from normtables.places import EXPERIMENTS
from normtables.tables import entries, statements
from normtables.tables.entries import Axes, Choose, Column, Departure, Part, Row, Settings, Tier
from normtables.tables.node import Node
from normtables.tables.node import read as read_yaml
from normtables.tables.statements import UNPUBLISHED, Claim, Learning, Published, Readings

__all__ = [
    "Axes",
    "Choose",
    "Claim",
    "Column",
    "Departure",
    "Part",
    "Published",
    "Readings",
    "Row",
    "Settings",
    "TableSpec",
    "Tier",
    "find",
    "load",
]
KINDS = ("reproduction", "reconstruction")
OF_RANKS = ("better", "equal", "order")  # claims that compare the rows of a column
COLUMN = "column"  # curves.x: the columns themselves, in order
REQUIRED = ("table", "title", "source", "kind", "runnable", "tiers", "rows", "columns")
OPTIONAL = ("departures", "fixed", "over", "combine", "tune", "choose", "published", "readings", "claims")
FIGURES = ("against", "curves", "learning")


@dataclass(frozen=True)
class TableSpec:
    """A whole table file."""

    path: Path
    table: int | str
    title: str
    source: str
    kind: str
    runnable: bool
    departures: tuple[Departure, ...]
    fixed: Settings
    tiers: Mapping[str, Tier]
    rows: Mapping[str, Row]
    columns: Mapping[str, Column]
    tune: Axes
    choose: Choose | None
    published: Mapping[tuple[str, str], Published]
    readings: Readings | None
    claims: tuple[Claim, ...]
    against: Mapping[str, str]  # row -> the row it is to improve on
    curves: str  # the columns' setting on the x axis of curves; COLUMN: each column a point; empty: no curves
    learning: Learning | None

    @property
    def label(self) -> str:
        """The name of its folder of results: `table_03`, or what a user's file calls itself."""
        return f"table_{self.table:02d}" if isinstance(self.table, int) else self.table

    def printed(self, row: str, column: str) -> Published:
        """What is published for a cell; a column of ratios takes its numbers from those of the column it is `of`."""
        col = self.columns[column]
        own, other = (self.published.get((name, col.of)) for name in (row, col.relative_to.get(row, "")))
        if not (own and other):
            return self.published.get((row, column), UNPUBLISHED)
        over, under = (other, own) if col.divides else (own, other)
        return Published(
            rounded(over.survey / under.survey),
            rounded(over.original / under.original),
            max(own.mark, other.mark, key=statements.MARKS.index),
        )

    def planned_rows(self, column: str, tier: str) -> tuple[str, ...]:
        """The rows that are run in a column at a tier, in the table's order."""
        col = self.columns[column]
        if tier not in col.tiers or col.quoted:
            return ()
        wanted = col.tiers[tier].rows or col.rows or tuple(self.rows)
        names = [n for n, row in self.rows.items() if n in wanted and not row.quoted]
        related = {*col.relative_to, *col.relative_to.values()}
        return tuple(n for n in names if n in related or not related)


def load(source: Path | str | int) -> TableSpec:
    """Load a table file by path, or one of the project's by number; every mistake is a UserError with file and key."""
    path = find(source)
    node = read_yaml(path)
    f, none = node.fields((*REQUIRED, *OPTIONAL, *FIGURES), required=REQUIRED), Node({}, node.where)
    runnable = f["runnable"].flag()
    tiers = {name: entries.tier(n, name) for name, n in f["tiers"].items()}
    rows = {name: entries.row(n, name, runnable) for name, n in f["rows"].items()}
    shared: dict[str, Node] = {key: f[key] for key in ("over", "combine") if key in f}
    columns = {name: entries.column(n, name, tiers, rows, shared) for name, n in f["columns"].items()}
    spec = TableSpec(
        path=path,
        table=table_name(f["table"]),
        title=f["title"].text(),
        source=f["source"].text(),
        kind=f["kind"].one_of(KINDS, "kind"),
        runnable=runnable,
        departures=tuple(entries.departure(n, tiers) for n in (f["departures"].list() if "departures" in f else ())),
        fixed=entries.settings(f.get("fixed", none)),
        tiers=tiers,
        rows=rows,
        columns=columns,
        tune=entries.axes(f.get("tune", none)),
        choose=entries.choose(f["choose"]) if "choose" in f else None,
        published=dict(statements.published(f.get("published", none), rows, columns)),
        readings=statements.readings(f["readings"], tiers, rows, columns) if "readings" in f else None,
        claims=tuple(statements.claim(n, rows, columns) for n in (f["claims"].list() if "claims" in f else ())),
        against=bases(f.get("against", none), rows),
        curves=x_axis(f["curves"], columns) if "curves" in f else "",
        learning=statements.learning(f["learning"], columns) if "learning" in f else None,
    )
    check(spec, node.where)
    return spec


def table_files() -> list[Path]:
    """The project's own table files."""
    return sorted(EXPERIMENTS.glob("table_*.yaml"))


def find(source: Path | str | int) -> Path:
    """The path of a table file, given that path or a number; UserError for a number that has no file."""
    if not str(source).isdecimal():
        return Path(str(source))
    path = EXPERIMENTS / f"table_{int(str(source)):02d}.yaml"
    if not path.exists():
        there = sorted(int(p.stem.removeprefix("table_")) for p in EXPERIMENTS.glob("table_[0-9][0-9].yaml"))
        raise UserError(f"there is no table {source}; there are: {', '.join(map(str, there))}")
    return path


def table_name(node: Node) -> int | str:
    """A number from 0 to 99, or a user's word that can be a folder's name."""
    if isinstance(node.value, int) and not isinstance(node.value, bool) and 0 <= node.value < 100:
        return node.value
    if isinstance(node.value, str) and re.fullmatch(r"[A-Za-z][\w-]*", node.value):
        return node.value
    raise node.error(f"should be a number below 100 or a word of letters, digits, - and _, not {node.value!r}")


def x_axis(node: Node, columns: Mapping[str, Column]) -> str:
    """What stands on the x axis of curves: `column`, or a setting to which columns give numbers."""
    x = node.fields(("x",), required=("x",))["x"]
    settings = dict.fromkeys(key for column in columns.values() for key in column.settings)
    name = x.one_of((COLUMN, *settings), "setting of a column")
    for column in columns.values():
        if not numbers([column.settings.get(name, 0)]):
            raise x.error(f"{column.name!r} sets {name} to {column.settings[name]!r}, which is no number")
    return name


def bases(node: Node, rows: Mapping[str, Row]) -> dict[str, str]:
    """Rows and the rows that they stand against."""
    for name, base in node.items():
        Node(name, node.where).one_of(rows, "row")
        if base.one_of(rows, "row") == name:
            raise base.error("a row does not stand against itself")
    return {name: base.text() for name, base in node.items()}


def check(spec: TableSpec, where: str) -> None:
    """What only the whole file can tell; raises UserError."""
    for name, col in spec.columns.items():
        check_column(spec, col, f"{where}: columns.{name}")
    for tier in spec.tiers.values():
        if tier.baseline:
            Node(tier.baseline, f"{where}: tiers.{tier.name}.baseline").one_of(
                entries.running(spec.rows), "row that is run"
            )
    check_tune(spec, where)
    check_curves(spec, where)
    if spec.readings and spec.columns[spec.readings.column].read.others:
        raise UserError(f"{where}: readings.column: {spec.readings.column!r} is read with the help of another row")
    ids = [claim.id for claim in spec.claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{where}: claims: the id {name!r} is used twice")
    for claim in spec.claims:
        for name in claim.columns:
            if spec.columns[name].quoted:
                raise UserError(f"{where}: claims: {claim.id}: {name!r} is quoted and never run")
            if spec.columns[name].relative_to:
                raise UserError(f"{where}: claims: {claim.id}: {name!r} is made from another column; judge that one")
            if spec.columns[name].ranks and (claim.than_column or claim.kind not in OF_RANKS):
                raise UserError(f"{where}: claims: {claim.id}: of ranks in a column: {', '.join(OF_RANKS)}")
            if claim.kind == "first" and spec.columns[name].read.kind != "first":
                raise UserError(f"{where}: claims: {claim.id}: {name!r} does not read the first step at a goal")


def check_tune(spec: TableSpec, where: str) -> None:
    """UserError unless grids of settings and the rule that chooses come together, and ties are broken by numbers."""
    grids = [spec.tune, *(row.tune for row in spec.rows.values()), *(tier.tune for tier in spec.tiers.values())]
    if any(grids) != bool(spec.choose):
        raise UserError(f"{where}: tune and choose come together, and one of them is missing")
    tuned = dict.fromkeys(key for part in (spec.tune, *(row.tune for row in spec.rows.values())) for key in part)
    for at, key in [(name, key) for name, tier in spec.tiers.items() for key in tier.tune]:
        Node(key, f"{where}: tiers.{at}.tune").one_of(tuned, "setting that is tuned")
    for key in spec.choose.ties if spec.choose else ():
        Node(key, f"{where}: choose.ties").one_of(tuned, "setting that is tuned")
    for key, grid in itertools.product(spec.choose.ties if spec.choose else (), grids):
        if not numbers(grid.get(key, ())):
            raise UserError(f"{where}: choose.ties.{key}: ties are broken by numbers, and {list(grid[key])} are not")


def check_curves(spec: TableSpec, where: str) -> None:
    """UserError where what a column gives to the setting on the x axis is not what its runs have."""
    rows, columns, tiers = spec.rows.values(), spec.columns.values(), spec.tiers.values()
    later = [part for row in rows for part in (row.settings, row.tune)]
    later += [part for tier in tiers for part in (tier.tune, tier.repeat)]
    later += [part for column in columns for part in (*column.cells.values(), column.over, spec.tune)]
    later += [part for column in columns for at in column.tiers.values() for part in (at.settings, at.over)]
    if any(spec.curves in part for part in later):
        raise UserError(f"{where}: curves.x: {spec.curves} is set again by a row, a cell, a tier or an axis")


def rounded(ratio: float) -> float:
    """A ratio of published numbers to three figures."""
    return float(f"{ratio:.3g}")


def numbers(values: Iterable[object]) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def check_column(spec: TableSpec, col: Column, where: str) -> None:
    """Stand-ins and other rows that a column names; UserError where they are not there."""
    if col.stand_in:
        Node(col.stand_in, f"{where}.stand_in").one_of(spec.columns, "column")
    if col.of:
        Node(col.of, f"{where}.of").one_of(spec.columns, "column")
    if col.read.kind == "mean_of_last" and col.take:
        raise UserError(f"{where}.take: a mean of several rows has no single row to take {col.take!r} from")
    needed = col.read.others | set(col.relative_to.values())
    for tier, part in col.tiers.items():
        for row in spec.planned_rows(col.name, tier):
            if spec.rows[row].take and (col.read.kind not in ("last", "best") or col.take):
                raise UserError(
                    f"{where}: the row {row!r} has a take of its own: read last or best, without a take here"
                )
        folded = [*{**col.over, **part.over}.values()]
        if col.combine == "largest" and not (col.read.kind == "first" and len(folded) == 1 and numbers(folded[0])):
            raise UserError(f"{where}.combine: largest needs read: first, and over: one setting with numbers")
        for name in sorted(needed - set(spec.planned_rows(col.name, tier))):
            raise UserError(f"{where}: needs the row {name!r}, which this column does not have at the tier {tier}")
