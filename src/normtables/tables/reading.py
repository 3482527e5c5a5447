"""Reading rules: which number of a run's history counts, and pure functions that read it from rows of metrics."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from normtables.tables import stats
from normtables.tables.node import Node

History = Sequence[Mapping[str, float]]
BETTER = ("lower", "higher")


@dataclass(frozen=True)
class Rule:
    """One reading rule of a column (`read:` of a table file).

    kind: last, best (the row where `by`, smoothed over `smooth` rows, is best), first (row that reaches a goal),
    at_best_of (the row nearest to the step at which `row`'s run is best by `by`), mean_of_last (`fraction` of rows).
    `rows` gives some rows of the table another `row` each, the others read at their own best.
    """

    kind: str
    by: str = ""
    better: str = ""
    smooth: int = 1
    goal: float = math.nan
    row: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    fraction: float = 0.0

    def __str__(self) -> str:
        smooth = f" smoothed over {self.smooth}" if self.smooth > 1 else ""
        goal = f"best of {self.row}" if self.row else f"{self.goal:g}"
        words = {
            "last": "last",
            "best": f"best by {self.by}{smooth}" if self.by else "best",
            "first": f"first to reach {goal}",
            "at_best_of": f"at the best {self.by} of {self.row or 'the row it is compared with'}",
            "mean_of_last": f"mean of the last {self.fraction:g}",
        }
        return words[self.kind]

    def other(self, row: str) -> str:
        """The row that gives a goal or a step to this row; empty where the rule needs none."""
        return dict(self.rows).get(row, row) if self.rows else self.row

    @property
    def others(self) -> set[str]:
        """All rows that give a goal or a step."""
        return {self.row, *(other for _, other in self.rows)} - {""}


def metric(node: Node) -> str:
    """The name of a score, split/name."""
    if not re.fullmatch(r"(train|valid|test)/\w+", node.text()):
        raise node.error(f"{node.value!r} should be train/, valid/ or test/ and a name, as in test/error")
    return node.text()


def rule(node: Node, rows: Sequence[str]) -> Rule:
    """A reading rule: last, best, {best, better, smooth}, {first: goal}, {at_best_of, by, better} or {mean_of_last}."""
    if isinstance(node.value, str):
        return Rule(node.one_of(("last", "best"), "reading rule"))
    f = node.fields(("best", "better", "smooth", "first", "at_best_of", "by", "mean_of_last"))
    shapes = {
        "best": {"better", "smooth"},
        "first": set(),
        "at_best_of": {"by", "better"},
        "mean_of_last": set(),
    }
    kinds = [kind for kind in shapes if kind in f]
    if len(kinds) != 1 or not f.keys() - {kinds[0]} <= shapes[kinds[0]]:
        raise node.error(f"cannot tell which row of the history to read from {node.value!r}")
    kind = kinds[0]
    if kind == "mean_of_last":
        if not 0 < f[kind].number() <= 1:
            raise f[kind].error("should be a fraction above 0 and at most 1")
        return Rule(kind, fraction=f[kind].number())
    if kind == "first":
        goal = f[kind].fields(("reaches", "best_of"))
        if len(goal) != 1:
            raise f[kind].error("needs either reaches: a number, or best_of: a row")
        if "reaches" in goal:
            return Rule(kind, goal=goal["reaches"].number())
        return Rule(kind, row=goal["best_of"].one_of(rows, "row that is run"))
    if "better" not in f or (kind == "at_best_of" and "by" not in f):
        raise node.error(f"needs better: lower or higher{'' if kind == 'best' else ', and by: a score'}")
    better = f["better"].one_of(BETTER, "direction")
    if kind == "at_best_of":
        name, pairs = at_best_of(f[kind], rows)
        return Rule(kind, by=metric(f["by"]), better=better, row=name, rows=pairs)
    smooth = f["smooth"].number() if "smooth" in f else 1
    if smooth != int(smooth) or smooth < 1:
        raise f["smooth"].error("should be a whole number of rows, 1 or more")
    return Rule(kind, by=metric(f[kind]), better=better, smooth=int(smooth))


def at_best_of(node: Node, rows: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """One row for all, or for some rows one each."""
    if isinstance(node.value, str):
        return node.one_of(rows, "row that is run"), ()
    what = "row that is run"
    return "", tuple((Node(own, n.where).one_of(rows, what), n.one_of(rows, what)) for own, n in node.items())


class Reading(NamedTuple):
    """What a rule reads: the value, the step it was read at, and whether there was anything to read."""

    value: float
    step: float
    reached: bool


NOTHING = Reading(math.nan, math.nan, False)


def read(rule: Rule, history: History, score: str, better: str, take: str = "", at: float = math.nan) -> Reading:
    """Read `take` (default: the score; the step for `first`) of one run's history by a rule.

    `at` is what another row gives: the goal for `first: best_of`, the step for `at_best_of`.
    Rows without the score that decides (not evaluated at that step, or not finite) do not count.
    """
    if rule.kind == "best":
        row = best_row(history, rule.by or score, rule.better or better, rule.smooth)
    elif rule.kind == "last":
        row = next(iter(reversed(scored(history, score))), None)
    elif rule.kind == "first":
        row = first_row(history, score, better, rule.goal if math.isfinite(rule.goal) else at)
    elif rule.kind == "at_best_of":
        rows = scored(history, score)
        row = min(rows, key=lambda r: abs(r["step"] - at)) if rows and math.isfinite(at) else None
    else:
        return mean_of_last(history, score, rule.fraction)
    if row is None:
        return NOTHING
    value = row.get(take or ("step" if rule.kind == "first" else score), math.nan)
    return Reading(value, row.get("step", math.nan), math.isfinite(value))


def scored(history: History, score: str) -> list[Mapping[str, float]]:
    """The rows that hold a finite value of `score`."""
    return [row for row in history if math.isfinite(row.get(score, math.nan))]


def best_row(history: History, by: str, better: str, smooth: int = 1) -> Mapping[str, float] | None:
    """The earliest row with the best `by`, taken as the mean over that row and the `smooth - 1` before it.

    Only rows with so many before them count; of a history with fewer rows than `smooth`, the last.
    """
    rows = scored(history, by)
    if not rows:
        return None
    values = [row[by] for row in rows]
    width = min(smooth, len(rows))
    windows = [values[end - width : end] for end in range(width, len(rows) + 1)]
    means = [stats.firm(sum(window) / width) if width > 1 else window[0] for window in windows]
    pick = min if better == "lower" else max
    return rows[width - 1 + pick(range(len(means)), key=means.__getitem__)]


def first_row(history: History, score: str, better: str, goal: float) -> Mapping[str, float] | None:
    """The first row whose score is at least as good as the goal."""
    sign = 1 if better == "higher" else -1
    return next((row for row in scored(history, score) if sign * row[score] >= sign * goal), None)


def mean_of_last(history: History, score: str, fraction: float) -> Reading:
    """Mean score over the last `fraction` of the rows (at least one), at the last row's step."""
    rows = scored(history, score)
    rows = rows[len(rows) - max(1, math.ceil(fraction * len(rows) - 1e-9)) :] if rows else []
    return Reading(sum(r[score] for r in rows) / len(rows), rows[-1].get("step", math.nan), True) if rows else NOTHING


def at_validation_best(score: str) -> str:
    """The validation score beside a test score: `valid/error` for `test/error`."""
    return "valid/" + score.removeprefix("test/")


def companion(rule: Rule, score: str, better: str) -> Rule | None:
    """The rule that picks the row on validation data, for a rule that picks the best row on test data; else None."""
    by = rule.by or score
    if rule.kind != "best" or not by.startswith("test/"):
        return None
    return replace(rule, by=at_validation_best(by), better=rule.better or better)
