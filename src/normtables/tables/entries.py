"""The entries of a table file that make its runs, and departures: each with the function that checks and reads it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from normtables.config import duration
from normtables.errors import UserError
from normtables.tables.node import Node
from normtables.tables.reading import BETTER, Rule, metric, rule

Settings = Mapping[str, Any]
Axes = Mapping[str, tuple[Any, ...]]

COMBINE = ("mean", "rank_difference", "relative_rank_difference", "largest")
COLUMN = (
    "tiers",
    "set",
    "score",
    "read",
    "take",
    "better",
    "unit",
    "scale",
    "stand_in",
    "rows",
    "cells",
    "over",
    "combine",
    "relative_to",
    "of",
    "tuned",
)


def settings(node: Node) -> dict[str, Any]:
    """Plain settings, dotted keys to values; budget and evaluate are an amount of one unit (`100epochs`)."""
    found = {}
    for key, value in node.items():
        if key in ("budget", "evaluate"):
            try:
                duration(value.text(), key)
            except UserError as error:
                raise value.error(str(error)) from None
        elif isinstance(value.value, dict) and "." not in key:
            raise value.error(f"settings are flat: write {key}.{next(iter(value.value), 'name')}: ... instead")
        found[key] = value.value
    return found


def axes(node: Node) -> dict[str, tuple[Any, ...]]:
    """Settings to the lists of values they take."""
    return {key: tuple(n.value for n in value.list()) for key, value in node.items()}


def running(rows: Mapping[str, "Row"]) -> list[str]:
    """Names of the rows that are run."""
    return [name for name, r in rows.items() if not r.quoted]


@dataclass(frozen=True)
class Departure:
    """One way in which a tier (all, when none is named) differs from the source's protocol."""

    says: str
    tiers: tuple[str, ...] = ()


def departure(node: Node, tiers: Mapping[str, "Tier"]) -> Departure:
    """One entry of `departures`: text, or {says, tiers}."""
    if isinstance(node.value, str):
        return Departure(node.value)
    f = node.fields(("says", "tiers"), required=("says", "tiers"))
    return Departure(f["says"].text(), f["tiers"].many_of(tiers, "tier"))


@dataclass(frozen=True)
class Tier:
    """A size of the table: settings, the axes that repeat a run, grids that replace those of the same key in `tune`.

    Where the `baseline` row does not clearly beat chance (or rarely reaches its goal), claims say "too few runs".
    """

    name: str
    settings: Settings
    repeat: Axes
    tune: Axes = field(default_factory=dict)
    baseline: str = ""


def tier(node: Node, name: str) -> Tier:
    """One entry of `tiers`."""
    f, none = node.fields(("set", "repeat", "tune", "baseline"), required=("repeat",)), Node({}, node.where)
    baseline = f["baseline"].text() if "baseline" in f else ""
    return Tier(name, settings(f.get("set", none)), axes(f["repeat"]), axes(f.get("tune", none)), baseline)


@dataclass(frozen=True)
class Row:
    """A labelled bundle of settings; a quoted row is printed from the source and never run.

    `take` is the metric that is its number in place of a column's score: rows may share runs and differ in it alone.
    """

    name: str
    settings: Settings
    quoted: bool = False
    tune: Axes = field(default_factory=dict)
    take: str = ""


def row(node: Node, name: str, runnable: bool) -> Row:
    """One entry of `rows`: `quoted` or {set, tune, take}."""
    if node.value == "quoted":
        return Row(name, {}, quoted=True)
    f = node.fields(("set", "tune", "take"))
    if runnable and not (f.get("set") and f["set"].value):
        raise node.error("this row has no settings; write {set: {...}} or quoted")
    none = Node({}, node.where)
    take = metric(f["take"]) if "take" in f else ""
    return Row(name, settings(f.get("set", none)), tune=axes(f.get("tune", none)), take=take)


@dataclass(frozen=True)
class Part:
    """What a column is at one tier: further settings, the rows it has (all, when none is named), data sets to fold."""

    settings: Settings
    rows: tuple[str, ...] = ()
    over: Axes = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One printed column: settings, the score and the rule that reads it, which way is better, how cells are folded.

    What was read is multiplied by `scale` (1e-6 for millions of steps); a quoted column is printed and never run;
    one that is not `tuned` has no use for the table's grids. `cells` holds settings of single rows. `of` is the column
    whose published numbers give the published ratios of one with `relative_to`.
    """

    name: str
    tiers: Mapping[str, Part]
    settings: Settings
    score: str
    read: Rule
    better: str
    take: str = ""
    unit: str = ""
    scale: float = 1.0
    stand_in: str = ""
    rows: tuple[str, ...] = ()
    cells: Mapping[str, Settings] = field(default_factory=dict)
    over: Axes = field(default_factory=dict)
    combine: str = "mean"
    relative_to: Mapping[str, str] = field(default_factory=dict)
    of: str = ""
    quoted: bool = False
    tuned: bool = True

    @property
    def ranks(self) -> bool:
        """Whether its numbers are rank differences over data sets."""
        return self.combine in ("rank_difference", "relative_rank_difference")

    @property
    def divides(self) -> bool:
        """Whether a ratio is the other row's number over a row's own: less is better, as with steps to a goal."""
        return self.better == "lower" or self.read.kind == "first"


def column(
    node: Node, name: str, tiers: Mapping[str, Tier], rows: Mapping[str, Row], shared: Mapping[str, Node]
) -> Column:
    """One entry of `columns`; `shared` is what the table says for all of them (over, combine)."""
    if node.value == "quoted":
        return Column(name, {t: Part({}) for t in tiers}, {}, "", Rule("last"), "", quoted=True)
    f = {**shared, **node.fields(COLUMN, required=("score", "read", "better"))}
    none = Node({}, node.where)
    relative = f.get("relative_to", none)
    if isinstance(relative.value, str):
        relative = Node(dict.fromkeys((n for n, r in rows.items() if not r.quoted), relative.value), relative.where)
    score, better = metric(f["score"]), f["better"].one_of(BETTER, "direction")
    cells = f.get("cells", none)
    return Column(
        name,
        tiers={t: part(n, rows) for t, n in column_tiers(f.get("tiers"), tiers)},
        settings=settings(f.get("set", none)),
        score=score,
        read=rule(f["read"], running(rows)),
        better=better,
        take=f["take"].text() if "take" in f else "",
        unit=f["unit"].text() if "unit" in f else "",
        scale=f["scale"].number() if "scale" in f else 1.0,
        stand_in=f["stand_in"].text() if "stand_in" in f else "",
        rows=f["rows"].many_of(rows, "row") if "rows" in f else (),
        cells={Node(own, n.where).one_of(running(rows), "row that is run"): settings(n) for own, n in cells.items()},
        over=axes(f.get("over", none)),
        combine=f["combine"].one_of(COMBINE, "way to combine") if "combine" in f else "mean",
        relative_to={own: n.one_of(running(rows), "row that is run") for own, n in relative.items()},
        of=f["of"].text() if "of" in f else "",
        tuned=f["tuned"].flag() if "tuned" in f else True,
    )


def column_tiers(node: Node | None, tiers: Mapping[str, Tier]) -> Iterator[tuple[str, Node]]:
    """The tiers of a column: all, a list of names, or names with what is particular there."""
    if node is None:
        yield from ((name, Node({}, "")) for name in tiers)
    elif isinstance(node.value, dict):
        yield from ((Node(name, n.where).one_of(tiers, "tier"), n) for name, n in node.items())
    else:
        yield from ((name, Node({}, node.where)) for name in node.many_of(tiers, "tier"))


def part(node: Node, rows: Iterable[str]) -> Part:
    """A column at one tier."""
    f, none = node.fields(("set", "rows", "over")), Node({}, node.where)
    names = f["rows"].many_of(rows, "row") if "rows" in f else ()
    return Part(settings(f.get("set", none)), names, axes(f.get("over", none)))


@dataclass(frozen=True)
class Choose:
    """How `tune` is removed: the setting with the best mean of this reading over the repeats of a cell."""

    by: str
    read: Rule
    better: str
    ties: Mapping[str, str] = field(default_factory=dict)


def choose(node: Node) -> Choose:
    """How tuned settings are chosen; a score that is not of the validation split needs as_published: true."""
    f = node.fields(("by", "read", "better", "ties", "as_published"), required=("by", "read", "better"))
    by, read = metric(f["by"]), rule(f["read"], ())
    for key, score in (("by", by), ("read", read.by)):
        if score and not score.startswith("valid/") and not ("as_published" in f and f["as_published"].flag()):
            why = "is not a validation score (valid/...); a source that chose so: as_published: true"
            raise f[key].error(f"{score!r} {why}")
    ties = {key: n.one_of(BETTER, "direction") for key, n in f["ties"].items()} if "ties" in f else {}
    return Choose(by, read, f["better"].one_of(BETTER, "direction"), ties)
