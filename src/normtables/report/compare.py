"""Runs side by side in a terminal: where they differ, their scores and cost, over seeds where only these differ."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from normtables.errors import UserError, nearest
from normtables.records import Store
from normtables.report.runs import but_seeds
from normtables.report.site.runs import Runs, Seen
from normtables.tables.stats import moments
from normtables.tables.wording import number

FIRST = ("model.name", "norm.name", "dataset.name", "optim.lr")  # the settings that a reader looks for first
UNITS = ("epoch", "step", "seconds")  # of a moment in a history
COST = ("steps", "epochs", "seconds", "steps a second", "parameters")
NONE = "–"  # no mean: not every run has finished and has the number
LISTED = 5  # ids that an ambiguous beginning is told to fit

Row = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A run and its numbers: `METRIC best`, `METRIC best at UNIT`, `METRIC last`, and those of COST."""

    id: str
    seen: Seen
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but seeds, and the settings that tell them from the others."""

    settings: Mapping[str, Any]
    runs: Sequence[Run]

    @property
    def statuses(self) -> Counter[str]:
        """How many runs have which status."""
        return Counter(run.seen.status for run in self.runs)

    def spread(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of a number over the runs, nan unless all have finished and have it.

        A run that stands alone has its number whatever its status: nothing is averaged away.
        """
        values = [run.numbers.get(name, math.nan) for run in self.runs]
        whole = len(self.runs) == 1 or set(self.statuses) == {"finished"}
        if not whole or not all(map(math.isfinite, values)):
            return math.nan, math.nan
        mean, variance, n = moments(values)
        return mean, math.sqrt(variance) if n > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the settings that all of them share, and the seeds in which they differ."""

    groups: Sequence[Group]
    shared: Mapping[str, Any]
    seeds: Sequence[str]

    @property
    def runs(self) -> list[Run]:
        """All runs, group by group."""
        return [run for group in self.groups for run in group.runs]


def named(store: Store, beginnings: Sequence[str]) -> list[str]:
    """The ids that begin so, each once; raises UserError for a beginning that fits none or several."""
    ids = Runs(store).names()
    found = []
    for text in beginnings:
        fit = [run for run in ids if run.startswith(text)]
        if text in fit:
            fit = [text]
        if not fit:
            raise UserError(f"no run {text!r}{nearest(text, ids)}; `normtables runs` lists those of {store.root}")
        if len(fit) > 1:
            more = f" and {len(fit) - LISTED} more" if len(fit) > LISTED else ""
            raise UserError(f"several runs begin with {text!r}: {', '.join(fit[:LISTED])}{more}; write more of the id")
        found += fit
    return list(dict.fromkeys(found))


def compare(store: Store, ids: Sequence[str], arranged: bool = False) -> Comparison:
    """The comparison of these runs, those that are being made too, in their order or `arranged` by where they differ.

    Raises UserError for a run that cannot be read.
    """
    reader = Runs(store)
    seen = {run: reader.now(run, None) for run in ids}
    if broken := [one.reason for one in seen.values() if one.status == "unreadable"]:
        raise UserError(broken[0])
    better = {last_part(one.score): one.better for one in seen.values() if one.score} | {"loss": "lower"}
    runs = [Run(run, one, numbers(one, store.history(run), better)) for run, one in seen.items()]
    varied = differing(runs)
    if arranged:
        runs.sort(key=lambda run: [place(run.seen.settings.get(name)) for name in varied])
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.seen.settings.get(name) for name in but_seeds(varied)])
        found.setdefault(key, []).append(run)
    groups = [Group({k: part[0].seen.settings.get(k) for k in but_seeds(varied)}, part) for part in found.values()]
    shared = {name: value for name, value in runs[0].seen.settings.items() if name not in varied}
    return Comparison(groups, shared, [name for name in varied if name not in but_seeds(varied)])


def differing(runs: Sequence[Run]) -> list[str]:
    """The settings in which some runs differ, names and rates first, seeds last; 1, 1.0 and true are three values."""
    names = dict.fromkeys(name for run in runs for name in run.seen.settings)
    found = [name for name in names if len({json.dumps(run.seen.settings.get(name)) for run in runs}) > 1]
    seeds = set(found) - set(but_seeds(found))
    return sorted(found, key=lambda name: (name in seeds, FIRST.index(name) if name in FIRST else len(FIRST)))


def place(value: Any) -> tuple[Any, ...]:
    """Where a setting comes among others: nothing, numbers, texts."""
    return () if value is None else (isinstance(value, str), value)


def last_part(metric: str) -> str:
    """`error` of `test/error`: what tells which way a metric is better, on every split."""
    return metric.rsplit("/", 1)[-1]


def numbers(seen: Seen, rows: Sequence[Row], better: Mapping[str, str]) -> dict[str, float]:
    """The numbers of a run; a best one only where it is known which way is `better`, the first of several."""
    found: dict[str, float] = {}
    for name in rows[0] if rows else ():
        if "/" not in name:
            continue
        known = [row for row in rows if math.isfinite(row[name])]
        if known and (way := better.get(last_part(name))):
            at = (min if way == "lower" else max)(known, key=lambda row: row[name])
            found[f"{name} best"] = at[name]
            found |= {f"{name} best at {unit}": at[unit] for unit in UNITS if unit in at}
        found[f"{name} last"] = rows[-1][name]
    if not rows:
        found |= {f"{name} last": value for name, value in seen.scores.items() if isinstance(value, int | float)}
    return found | cost(seen, rows[-1] if rows else {})


def cost(seen: Seen, last: Row) -> dict[str, float]:
    """What a run took: by its facts, as far as it has come by its history's last row; seconds of its own machine."""
    known = {name: seen.facts.get(name) for name in ("steps", "seconds", "parameters")}
    known |= {"epochs": last.get("epoch"), "steps a second": seen.facts.get("steps_per_second")}
    return {name: value for name in COST if isinstance(value := known[name], int | float)}


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison for scripts; null where there is no mean or no number."""
    return {
        "shared": found.shared,
        "groups": [
            {
                "settings": group.settings,
                "n": len(group.runs),
                "statuses": group.statuses,
                "numbers": {name: summary(group, name) for name in names(group.runs)},
                "runs": [described(run, found.seeds) for run in group.runs],
            }
            for group in found.groups
        ],
    }


def summary(group: Group, name: str) -> dict[str, float | None]:
    """Mean and sd of a number."""
    mean, sd = group.spread(name)
    return {"mean": finite(mean), "sd": finite(sd)}


def described(run: Run, seeds: Sequence[str]) -> dict[str, Any]:
    """One run of a group."""
    return {
        "id": run.id,
        "status": run.seen.status,
        "reason": run.seen.reason,
        "seeds": {name: run.seen.settings.get(name) for name in seeds},
        "device": run.seen.facts.get("device"),
        "numbers": {name: finite(value) for name, value in run.numbers.items()},
    }


def finite(value: float) -> float | None:
    """A number that JSON has a word for."""
    return value if math.isfinite(value) else None


def names(runs: Sequence[Run]) -> list[str]:
    """All numbers that any run has: those of the scores first, the cost last."""
    found = dict.fromkeys(name for run in runs for name in run.numbers)
    scores = {run.seen.score for run in runs}
    order = {name: k for k, name in enumerate(COST)}
    return sorted(found, key=lambda name: (order.get(name, -1), name.split(" ")[0] not in scores))


def text(found: Comparison, width: int | None = None) -> str:
    """Tables in lines no longer than `width`: a column a group, then a line a run where groups have several."""
    alone = len(found.groups) == len(found.runs)
    heads = [group.runs[0].id if alone else str(k) for k, group in enumerate(found.groups, 1)]
    table = pd.DataFrame(dict(lines(found)), index=heads).T
    grouped = "" if alone else f" in {len(found.groups)} groups of equal settings but for seeds"
    same = f"{len(found.shared)} settings are the same in all (--json lists them)"
    parts = [f"{len(found.runs)} runs{grouped}; {same}", "", table.to_string(line_width=width)]
    if (table == NONE).any(axis=None):
        parts.append(f"{NONE} no mean: not every run of the group has finished with this number")
    if not alone:
        parts += ["", pd.DataFrame(members(found)).to_string(index=False, line_width=width)]
    if reasons := [f"{run.id} {run.seen.status}: {run.seen.reason}" for run in found.runs if run.seen.reason]:
        parts += ["", *reasons]
    return "\n".join(parts)


def lines(found: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Name and cells of each line: settings, what became of the runs, best and last of the metrics, cost."""
    groups = found.groups
    for name in groups[0].settings:
        yield name, [plainly(group.settings[name]) for group in groups]
    if len(found.runs) > len(groups):
        yield "n", [str(len(group.runs)) for group in groups]
    yield "status", [", ".join(states(group)) for group in groups]
    for name in shown(found.runs):
        yield name, [cell(group, name) for group in groups]
    devices = [dict.fromkeys(plainly(run.seen.facts.get("device")) for run in group.runs) for group in groups]
    if len(set().union(*devices)) > 1:
        yield "device", [", ".join(part) for part in devices]


def states(group: Group) -> Iterator[str]:
    """`finished`, or how many runs have which status."""
    for status, n in group.statuses.items():
        yield f"{n} {status}" if len(group.statuses) > 1 else status


def shown(runs: Sequence[Run]) -> list[str]:
    """The numbers that are printed: the moment of a best one in epochs, or in updates where a run knows no epochs."""
    found = names(runs)
    unit = "epoch" if any(name.endswith(" best at epoch") for name in found) else "step"
    return [name for name in found if " best at " not in name or name.endswith(f" best at {unit}")]


def members(found: Comparison) -> Iterator[dict[str, str]]:
    """A line for each run: its group, seeds, status, score and cost."""
    scores = {run.seen.score for run in found.runs}
    wanted = [name for name in shown(found.runs) if name.split(" ")[0] in scores or name in ("steps", "seconds")]
    for k, group in enumerate(found.groups, 1):
        for run in group.runs:
            seeds = {name: plainly(run.seen.settings.get(name)) for name in found.seeds}
            values = {name: figure(run.numbers[name]) if name in run.numbers else "" for name in wanted}
            yield {"run": run.id, "group": str(k), **seeds, "status": run.seen.status, **values}


def cell(group: Group, name: str) -> str:
    """A number of a group, as in `2.643 ± 0.031`."""
    have = [run.numbers[name] for run in group.runs if name in run.numbers]
    if not have or len(group.runs) == 1:
        return figure(have[0]) if have else ""
    mean, sd = group.spread(name)
    if math.isnan(mean):
        return NONE
    if not sd > 0:
        return figure(mean)
    digits = max(0, 1 - math.floor(math.log10(sd)))
    return f"{number(mean, digits)} ± {number(sd, digits)}"


def figure(value: float) -> str:
    """A number to five figures, whole ones up to a billion whole."""
    if abs(value) < 1e9 and (value == int(value) or abs(value) >= 1e5):
        return f"{value:.0f}"
    return f"{value:.5g}"


def plainly(value: Any) -> str:
    """A setting as a reader wants it."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
