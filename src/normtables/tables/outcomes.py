"""What became of every repeat of a cell: histories read, data sets folded, cells set in relation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from normtables.errors import UserError
from normtables.tables import stats
from normtables.tables.entries import Column
from normtables.tables.plan import Cell, Member, Point
from normtables.tables.reading import Rule, best_row, read
from normtables.tables.sources import Sources, grouped

Piece = tuple[Member, float, str]  # a chosen run, its value and status


class Outcome(NamedTuple):
    """One repeat of a cell: its value and status, and the runs behind it."""

    repeat: Point
    value: float
    status: str
    runs: tuple[str, ...]


def outcomes(sources: Sources, column: Column) -> dict[str, list[Outcome]]:
    """Row -> one outcome for each repeat, of every planned cell of a column: chosen, read, folded, put in relation."""
    read_cells = {cell.row: CellReader(sources, column, cell).all() for cell in cells_of(sources, column)}
    folded = {row: fold(found) for row, found in read_cells.items()}
    if column.ranks:
        folded = ranked(read_cells, folded, column)
    elif column.combine == "largest":
        folded = {row: largest(found) for row, found in read_cells.items()}
    return relative(folded, column) if column.relative_to else folded


def cells_of(sources: Sources, column: Column) -> list[Cell]:
    """The planned cells of a column, in the order of the rows."""
    return [cell for (_, name), cell in sources.plan.cells.items() if name == column.name]


@dataclass(frozen=True)
class CellReader:
    """The numbers of one cell's runs under its column's rule."""

    sources: Sources
    column: Column
    cell: Cell

    @property
    def take(self) -> str:
        """The metric that is printed: the row's own, the column's, or (empty) the score."""
        row = self.sources.plan.spec.rows.get(self.cell.row)
        return (row.take if row else "") or self.column.take

    def all(self) -> list[Piece]:
        """Every chosen run (one for each point of over and repeat) with its value and status."""
        chosen = self.sources.chosen(self.cell)
        found = []
        for (over, _), group in grouped(self.cell.members, lambda m: (m.over, m.repeat)):
            tune, why = chosen[repr(over)]
            member = next((m for m in group if m.tune == tune), group[0])
            found.append((member, *self.read(member)) if not why else (member, math.nan, why))
        return found

    def read(self, member: Member) -> tuple[float, str]:
        """The value of one run and its status; a goal that was not reached is censored at the end of the run."""
        state = self.sources.states[member.run]
        if state != "finished":
            return math.nan, state
        column, rows = self.column, self.sources.history(member.run)
        self.agree(member.run)
        at = self.elsewhere(member) if column.read.others else math.nan
        if column.read.others and math.isnan(at):
            return math.nan, "missing"  # the row that gives the goal or the step is not there yet
        found = read(column.read, rows, column.score, column.better, self.take, at)
        if found.reached:
            return found.value * column.scale, "finished"
        if column.read.kind != "first" or not has(self.sources, member.run, column.score):
            wanted = (column.score, column.read.by, self.take)
            raise self.sources.absent(f"columns.{column.name}", member.run, wanted)
        return rows[-1][column.take or "step"] * column.scale, "censored"

    def elsewhere(self, member: Member) -> float:
        """What another row gives to the rule: its best mean over the repeats (a goal), or the step where it is best."""
        rule, name = self.column.read, self.column.name
        own = replace(self.column, read=Rule("best", rule.by, rule.better), take="", scale=1.0)
        other = CellReader(self.sources, own, self.sources.plan.cells[rule.other(self.cell.row), name])
        here = [piece for piece in other.all() if piece[0].over == member.over]
        if rule.kind == "first":
            finished = all(state == "finished" for _, _, state in here)
            return stats.moments([value for _, value, _ in here])[0] if finished else math.nan
        twin, _, state = next(piece for piece in here if piece[0].repeat == member.repeat)
        row = best_row(self.sources.history(twin.run), rule.by, rule.better) if state == "finished" else None
        return row["step"] if row else math.nan

    def agree(self, run: str) -> None:
        """Raise UserError where the record says that the score is better the other way."""
        record = self.sources.records[run]
        score, own = record.score if record else {}, self.column
        if score.get("name") == own.score and score.get("better") != own.better:
            said = f"{own.score} is better {own.better}, the record of run {run} says {score['better']}"
            raise UserError(f"{self.sources.plan.spec.path.name}: columns.{own.name}.better: {said}")


def has(sources: Sources, run: str, score: str) -> bool:
    """Whether a finished run recorded a score."""
    done = sources.states[run] == "finished"
    return done and any(math.isfinite(row.get(score, math.nan)) for row in sources.history(run))


def fold(found: Sequence[Piece]) -> list[Outcome]:
    """One outcome for each repeat: the mean over the data sets, if all of them are there."""
    folded = []
    for pieces in by_repeat(found):
        states = [state for _, _, state in pieces]
        order = ("diverged", "failed", "missing", "interrupted", "running", "censored", "finished")
        worst = min(states, key=order.index)
        whole = worst in ("finished", "censored")
        value = stats.moments([value for _, value, _ in pieces])[0] if whole else math.nan
        folded.append(Outcome(pieces[0][0].repeat, value, worst, tuple(m.run for m, _, _ in pieces)))
    return folded


def by_repeat(found: Sequence[Piece]) -> list[list[Piece]]:
    """The pieces of each repeat, in order of first appearance."""
    groups: dict[str, list[Piece]] = {}
    for piece in found:
        groups.setdefault(repr(piece[0].repeat), []).append(piece)
    return list(groups.values())


def largest(found: Sequence[Piece]) -> list[Outcome]:
    """For each repeat the largest value of the folded setting whose run reached its goal, once all runs have ended.

    Where none did, the outcome is censored and has no value: the limit lies below the smallest value tried.
    """
    folded = []
    for pieces in by_repeat(found):
        waiting = [state for _, _, state in pieces if state not in ("finished", "censored", "diverged")]
        reached = [member.over[0][1] for member, _, state in pieces if state == "finished"]
        state = waiting[0] if waiting else "finished" if reached else "censored"
        value = float(max(reached)) if state == "finished" else math.nan
        folded.append(Outcome(pieces[0][0].repeat, value, state, tuple(m.run for m, _, _ in pieces)))
    return folded


def ranked(
    read_cells: Mapping[str, Sequence[Piece]], folded: Mapping[str, Sequence[Outcome]], column: Column
) -> dict[str, list[Outcome]]:
    """Average rank over the data sets less the rank by chance, for each repeat; a diverged run ranks last.

    Empty until every method has run on every data set of that repeat, since ranks over other sets are not comparable.
    """
    frames = scores(read_cells, column)
    found: dict[str, list[Outcome]] = {row: [] for row in folded}
    for row, old in folded.items():
        for outcome in old:
            frame = frames[repr(outcome.repeat)]
            if frame.isna().to_numpy().any():
                waits = "failed" if outcome.status == "failed" else "missing"  # others wait for that row
                found[row].append(outcome._replace(value=math.nan, status=waits))
                continue
            value = float(stats.rank_differences(frame, column.better)[row]) / unit(column, frame.shape[1])
            found[row].append(outcome._replace(value=value, status="finished"))
    return found


def unit(column: Column, rows: int) -> float:
    """What a column divides rank differences by: the largest possible one, or 1."""
    return max(1, rows - 1) / 2 if column.combine == "relative_rank_difference" else 1.0


def scores(read_cells: Mapping[str, Sequence[Piece]], column: Column) -> dict[str, pd.DataFrame]:
    """Repeat -> scores by data set and row; NaN where a run is not done, the worst possible where it diverged."""
    worst = math.inf if column.better == "lower" else -math.inf
    values: dict[str, dict[str, dict[str, float]]] = {}
    for row, pieces in read_cells.items():
        for member, value, state in pieces:
            cell = values.setdefault(repr(member.repeat), {}).setdefault(row, {})
            cell[repr(member.over)] = worst if state == "diverged" else value
    return {repeat: pd.DataFrame(cells) for repeat, cells in values.items()}


def relative(folded: Mapping[str, Sequence[Outcome]], column: Column) -> dict[str, list[Outcome]]:
    """How many times better a row is than the row it is set against, repeat by repeat (above 1: better).

    Where the divisor is zero, as an error of none is, the ratio has no value: censored, as a goal not reached.
    """
    found: dict[str, list[Outcome]] = {}
    for row, base in column.relative_to.items():
        if row not in folded:
            continue  # "relative_to: ROW" names every row of the table, and this column has not all of them
        twins = {repr(o.repeat): o for o in folded[base]}
        for own in folded[row]:
            twin = twins[repr(own.repeat)]
            states = (own.status, twin.status)
            worst = next((s for s in states if s not in ("finished", "censored")), "")
            over, under = (twin.value, own.value) if column.divides else (own.value, twin.value)
            known = states == ("finished", "finished") and under != 0
            value = over / under if known else math.nan
            state = worst or ("finished" if known else "censored")
            found.setdefault(row, []).append(own._replace(value=value, status=state, runs=(*own.runs, *twin.runs)))
    return found
