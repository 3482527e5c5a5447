"""What the records say of a plan's runs, each file read once: a table and all that stands under it agree."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normtables.errors import UserError
from normtables.records import DONE, Record, Store
from normtables.tables import stats
from normtables.tables.plan import Cell, Key, Member, Plan, Point
from normtables.tables.reading import History, read


@dataclass(frozen=True)
class Sources:
    """A plan and the records of its runs as they are when first asked for; the settings chosen on them."""

    plan: Plan
    store: Store

    @functools.cached_property
    def records(self) -> dict[str, Record | None]:
        """Run id -> record, None where there is none."""
        return {run: self.store.read(run) for run in self.plan.runs}

    @functools.cached_property
    def states(self) -> dict[str, str]:
        """Run id -> finished, diverged, failed, running, interrupted or missing."""
        return {run: record.status if record else self.store.state(run) for run, record in self.records.items()}

    @functools.cached_property
    def _histories(self) -> dict[str, list[dict[str, float]]]:
        return {}

    @functools.cached_property
    def _chosen(self) -> dict[Key, dict[str, tuple[Point, str]]]:
        return {}

    def history(self, run: str) -> History:
        """The history of a run, read once."""
        if run not in self._histories:
            self._histories[run] = self.store.history(run)
        return self._histories[run]

    def chosen(self, cell: Cell) -> dict[str, tuple[Point, str]]:
        """For each point of `over` (its repr) the tuned setting of a planned cell, or why there is none yet."""
        key = (cell.row, cell.column)
        if key not in self._chosen:
            self._chosen[key] = dict(choices(self, cell))
        return self._chosen[key]

    def absent(self, where: str, run: str, wanted: Iterable[str]) -> UserError:
        """The error for a score that a finished run did not record; `where` names the part of the table file."""
        names = ", ".join(rows[-1]) if (rows := self.history(run)) else "nothing"
        file, sought = self.plan.spec.path.name, ", ".join(filter(None, wanted))
        return UserError(
            f"{file}: {where}: nothing to read for {sought} in the history of run {run}, which has {names}"
        )


def choices(sources: Sources, cell: Cell) -> Iterator[tuple[str, tuple[Point, str]]]:
    """For each point of `over` the tuned setting, the same for all repeats, or why there is none yet.

    The best mean over the repeats of the table's `choose` reading; a setting that diverged once is never chosen.
    """
    for over, group in grouped(cell.members, lambda m: m.over):
        settings = grouped(group, lambda m: m.tune)
        states = {name: {sources.states[m.run] for m in members} for name, members in settings}
        left = [(name, members) for name, members in settings if "diverged" not in states[name]]
        if len(settings) == 1:
            yield repr(over), (settings[0][0], "")
        elif not set().union(*states.values()) <= set(DONE):
            yield repr(over), ((), "failed" if "failed" in set().union(*states.values()) else "missing")
        elif not left:
            yield repr(over), ((), "diverged")
        else:
            yield repr(over), (best(sources, left), "")


def best(sources: Sources, settings: Sequence[tuple[Point, Sequence[Member]]]) -> Point:
    """The tuned setting with the best mean choosing score, ties broken as the table says."""
    choose = sources.plan.spec.choose
    assert choose is not None  # checked when the table was loaded
    sign = 1 if choose.better == "lower" else -1

    def order(setting: tuple[Point, Sequence[Member]]) -> tuple[float, ...]:
        """Smaller is chosen first."""
        point, members = setting
        found = [read(choose.read, sources.history(m.run), choose.by, choose.better) for m in members]
        if choose.read.kind != "first" and not all(f.reached for f in found):
            raise sources.absent("choose", members[0].run, [choose.by])
        mean = stats.firm(stats.moments([f.value for f in found])[0])
        where = dict(point)
        ties = (where[k] * (1 if way == "lower" else -1) for k, way in choose.ties.items() if k in where)
        return (math.inf if math.isnan(mean) else sign * mean, *ties)

    return min(settings, key=order)[0]


def grouped(members: Iterable[Member], key: Any) -> list[tuple[Any, list[Member]]]:
    """Members by a key (which may hold lists), in order of first appearance."""
    found: dict[str, tuple[Any, list[Member]]] = {}
    for member in members:
        found.setdefault(repr(key(member)), (key(member), []))[1].append(member)
    return list(found.values())
