"""The entries of a table file that state something of its cells: what is published, readings of the source, claims."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from normtables.tables.entries import Column, Row, Settings, Tier, running, settings
from normtables.tables.node import Node

MARKS = ("verified", "secondary", "memory", "unknown")
CLAIM = ("id", "says", "kind", "columns", "rows")
# kind of claim -> the sets of keys it may have beside id, says, kind, columns and rows
CLAIMS = {
    "better": ({"than", "by"}, {"than_column", "by"}),
    "equal": ({"within"}, {"than_column", "within"}),
    "constant": ({"equals", "within"},),
    "order": ({"by"},),
    "fails": ({"how"},),
    "first": ({"than"}, {"than", "times"}, {"than_column"}, {"than_column", "times"}),
}


@dataclass(frozen=True)
class Published:
    """One published number: what the survey and its source print (NaN: nothing), how well the latter is known."""

    survey: float
    original: float
    mark: str
    note: str = ""


UNPUBLISHED = Published(math.nan, math.nan, "")


def published(
    node: Node, rows: Mapping[str, Row], columns: Mapping[str, Column]
) -> Iterator[tuple[tuple[str, str], Published]]:
    """Published numbers, row -> column -> [survey, original, mark] or [survey, original, mark, note]."""
    for name, cells in node.items():
        Node(name, node.where).one_of(rows, "row")
        for col, cell in cells.items():
            Node(col, cells.where).one_of(columns, "column")
            if columns[col].stand_in:
                raise cell.error(f"the column {col!r} is a stand-in and has no published numbers")
            values = cell.list()
            if len(values) not in (3, 4):
                raise cell.error(f"should be [survey, original, mark] or with a note, not {cell.value!r}")
            survey, original = (math.nan if n.value is None else n.number() for n in values[:2])
            note = values[3].text() if len(values) == 4 else ""
            yield (name, col), Published(survey, original, values[2].one_of(MARKS, "mark"), note)


@dataclass(frozen=True)
class Option:
    """One reading of the source: settings for all rows, and further ones for the rows that are named.

    A detail that acts on some rows alone is set for these; the other rows are the same runs as without it.
    """

    settings: Settings
    rows: Mapping[str, Settings]

    def of(self, row: str) -> dict[str, Any]:
        """The settings of a row."""
        return {**self.settings, **self.rows.get(row, {})}


def option(node: Node, rows: Mapping[str, Row]) -> Option:
    """One entry of `options`: {set: settings, rows: {row: settings}}, both optional."""
    f, none = node.fields(("set", "rows")), Node({}, node.where)
    names = [(Node(name, n.where).one_of(rows, "row"), settings(n)) for name, n in f.get("rows", none).items()]
    return Option(settings(f.get("set", none)), dict(names))


@dataclass(frozen=True)
class Readings:
    """Unknown details of the source, tried one option at a time against the published numbers of one column."""

    column: str
    tier: str
    settings: Settings
    options: Mapping[str, Option]
    default: str
    because: str


def readings(node: Node, tiers: Mapping[str, Tier], rows: Mapping[str, Row], columns: Mapping[str, Column]) -> Readings:
    """The `readings` section."""
    keys = ("column", "tier", "set", "options", "default", "because")
    f = node.fields(keys, required=keys)
    options = {name: option(n, rows) for name, n in f["options"].items()}
    name, at = f["column"].one_of(columns, "column"), f["tier"].one_of(tiers, "tier")
    if at not in columns[name].tiers:
        raise f["tier"].error(f"the column {name!r} does not exist at the tier {at!r}")
    default = f["default"].one_of(options, "option")
    return Readings(name, at, settings(f["set"]), options, default, f["because"].text())


@dataclass(frozen=True)
class Learning:
    """A figure of histories: the column `y` over the column `x`, for the runs of some columns of the table; the mean of
    each of `levels`, other columns, is a level line."""

    x: str
    y: str
    columns: tuple[str, ...]
    levels: tuple[str, ...]


def learning(node: Node, columns: Mapping[str, Column]) -> Learning:
    """The entry `learning`."""
    f = node.fields(("x", "y", "columns", "levels"), required=("x", "y", "columns"))
    levels = f["levels"].many_of(columns, "column") if "levels" in f else ()
    return Learning(f["x"].text(), f["y"].text(), f["columns"].many_of(columns, "column"), levels)


@dataclass(frozen=True)
class Claim:
    """A sentence about rows in some columns, to be judged in each against the row `than` or, by column, another column.

    `times`: how many times earlier than the other a row reaches its goal.
    """

    id: str
    says: str
    kind: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    than: str = ""
    than_column: Mapping[str, str] = field(default_factory=dict)
    by: float = 0.0
    within: float = 0.0
    equals: float = math.nan
    how: str = ""
    times: float = 1.0


def claim(node: Node, rows: Mapping[str, Row], columns: Mapping[str, Column]) -> Claim:
    """One entry of `claims`; its kind says which keys it needs."""
    if isinstance(node.value, dict) and isinstance(node.value.get("id"), str):
        node = Node(node.value, f"{node.where.rpartition('[')[0]}.{node.value['id']}")
    f = node.fields((*CLAIM, *sorted(set().union(*itertools.chain(*CLAIMS.values())))), required=CLAIM)
    kind = f["kind"].one_of(CLAIMS, "kind of claim")
    keys = f.keys() - set(CLAIM)
    if keys not in CLAIMS[kind]:
        ways = " or ".join(", ".join(sorted(way)) for way in CLAIMS[kind])
        raise node.error(f"a claim of the kind {kind} has the keys {', '.join(CLAIM)}, and {ways}")
    names = running(rows)
    found = Claim(
        f["id"].text(),
        f["says"].text(),
        kind,
        f["columns"].many_of(columns, "column"),
        f["rows"].many_of(names, "row that is run"),
    )
    readers = {
        "than": lambda n: n.one_of(names, "row that is run"),
        "than_column": lambda n: counterparts(n, found.columns, columns),
        "how": lambda n: n.one_of(("diverges", "chance"), "way to fail"),
    }
    return replace(found, **{key: readers.get(key, Node.number)(f[key]) for key in sorted(keys)})


def counterparts(node: Node, names: Sequence[str], columns: Mapping[str, Column]) -> dict[str, str]:
    """Which column each of these is set against: one for all, or as many in the same order."""
    listed = isinstance(node.value, list)
    others = node.many_of(columns, "column") if listed else (node.one_of(columns, "column"),)
    if len(others) not in (1, len(names)):
        raise node.error(f"one column for all of columns, or {len(names)} in the same order; these are {len(others)}")
    return dict(zip(names, others * (len(names) // len(others))))
