"""A sweep file, conf/sweep/NAME.yaml: the bundles and axes of a table file, without scores, numbers and claims."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from normtables.errors import UserError
from normtables.tables.entries import Axes, Part, Settings, axes, part, settings
from normtables.tables.node import Node, read
from normtables.tables.plan import points

KEYS = ("fixed", "rows", "columns", "over", "repeat")


@dataclass(frozen=True)
class GridSpec:
    """A whole sweep file; without rows, or without columns, it has one of no name and no settings."""

    where: str
    fixed: Settings
    rows: Mapping[str, Part]
    columns: Mapping[str, Part]
    over: Axes
    repeat: Axes

    def runs(self) -> Iterator[tuple[str, Settings, Settings]]:
        """Name, bundle of settings and values on the axes of every run; of rows, columns and fixed the first wins.

        Raises UserError where what a row or a column sets is swept too.
        """
        for (column, at), (row, own) in itertools.product(self.columns.items(), self.rows.items()):
            if at.rows and row not in at.rows:
                continue
            name, bundle = ", ".join(filter(None, (row, column))), {**at.settings, **own.settings}
            swept = {**self.over, **at.over, **own.over, **self.repeat}
            for key in bundle.keys() & swept.keys():
                raise UserError(
                    f"{self.where}: {name}: {key} is set here and swept too; write over: {{{key}: [...]}} here"
                )
            for point in points(swept):
                yield name, {**self.fixed, **bundle}, dict(point)


def load(path: Path) -> GridSpec:
    """Load a sweep file; every mistake is a UserError with file and key."""
    node = read(path)
    f, none = node.fields(KEYS), Node({}, node.where)
    if not f:
        raise node.error(f"there is nothing to run; it may have the keys {', '.join(KEYS)}")
    rows = {name: row(n) for name, n in bundles(f, "rows")}
    return GridSpec(
        where=node.where,
        fixed=settings(f.get("fixed", none)),
        rows=rows or {"": Part({})},
        columns={name: part(n, rows) for name, n in bundles(f, "columns")} or {"": Part({})},
        over=axes(f.get("over", none)),
        repeat=axes(f.get("repeat", none)),
    )


def bundles(f: Mapping[str, Node], key: str) -> list[tuple[str, Node]]:
    """The entries of rows or columns; UserError where the key is there and has none."""
    found = list(f[key].items()) if key in f else []
    if key in f and not found:
        raise f[key].error("should not be empty")
    return found


def row(node: Node) -> Part:
    """One entry of `rows`: {set, over}."""
    f, none = node.fields(("set", "over")), Node({}, node.where)
    return Part(settings(f.get("set", none)), over=axes(f.get("over", none)))
