"""Each row beside the row that it should improve on: against.png of a table that says which, a panel a column."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normtables.report.figure import (
    BLACK,
    BLUE,
    ORANGE,
    WIDE,
    gaps,
    images,
    labelled,
    legend_below,
    plain_style,
    side_by_side,
    titled,
)
from normtables.report.grid import NONE, Grid, Shown
from normtables.report.misprints import best_known, differs
from normtables.report.text import markdown_table
from normtables.tables.spec import TableSpec

OURS, PUBLISHED, SURVEY = "ours, 95 % interval of the method", "published", "survey, where it differs"
STYLES = {OURS: (BLUE, "o", -0.13), PUBLISHED: (BLACK, "s", 0.17)}  # colour, marker, place beside the row


@dataclass(frozen=True)
class Step:
    """From a row's base to the row itself, of one kind of numbers; `reach`: of the row's interval, down and up."""

    place: int
    base: float
    row: float
    reach: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Panel:
    """A column: its head, the rows that have a base, steps of each kind, and the survey's other numbers by place."""

    title: str
    rows: Sequence[str]
    steps: dict[str, list[Step]]
    stars: list[tuple[float, int]]


def draw(spec: TableSpec, grid: Grid) -> dict[str, bytes]:
    """against.png and against.svg; nothing where no row has a base, or none of them a number of ours."""
    found = panels(spec, grid)
    if not found:
        return {}
    with plain_style():
        return images(figure(found), "against")


def panels(spec: TableSpec, grid: Grid) -> list[Panel]:
    """One for each column in which a row and its base have numbers of ours; all show the rows that have them in one."""
    pairs = [(row, base) for row, base in spec.against.items() if any(both(grid, row, base, c) for c in grid.columns)]
    return [part for part in (panel_of(spec, grid, column, pairs) for column in grid.columns) if part.steps[OURS]]


def both(grid: Grid, row: str, base: str, column: str) -> tuple[Shown, Shown] | None:
    """The cells of a row and of its base in a column, where there are numbers of ours in them."""
    here, there = grid.cells.get((row, column)), grid.cells.get((base, column))
    return (here, there) if here and there and math.isfinite(here.ours) and math.isfinite(there.ours) else None


def panel_of(spec: TableSpec, grid: Grid, name: str, pairs: Sequence[tuple[str, str]]) -> Panel:
    """What a column shows; where it stands in for another one, the published numbers are those of that one."""
    known = spec.columns[name].stand_in or name
    steps: dict[str, list[Step]] = {OURS: [], PUBLISHED: []}
    stars = []
    for place, (row, base) in enumerate(pairs):
        if cells := both(grid, row, base, name):
            here, there = cells
            steps[OURS].append(Step(place, there.ours, here.ours, reach(here)))
        printed, under = spec.printed(row, known), spec.printed(base, known)
        if math.isfinite(best_known(printed)) and math.isfinite(best_known(under)):
            steps[PUBLISHED].append(Step(place, best_known(under), best_known(printed)))
            stars += [(cell.survey, place) for cell in (printed, under) if differs(cell)]
    return Panel(grid.heads[name], [f"{row} on {base}" for row, base in pairs], steps, stars)


def reach(cell: Shown) -> tuple[float, float]:
    """How far a cell's interval reaches, nothing where there is none."""
    return gaps(cell) if math.isfinite(cell.low) else (0.0, 0.0)


def figure(found: Sequence[Panel]) -> Figure:
    """All panels and one legend."""
    across = min(WIDE, len(found))
    down = -(-len(found) // across)
    height = 1.2 + down * (0.8 + 0.3 * len(found[0].rows))
    whole = Figure(figsize=(2.2 + 2.9 * across, height), layout="constrained")
    whole.suptitle("From the base (hollow) to the method (filled)", fontsize=10)
    axes = side_by_side(whole, down, across, len(found))
    for ax, part in zip(axes, found):
        draw_panel(ax, part)
    legend_below(whole, labelled(axes))
    return whole


def draw_panel(ax: Axes, panel: Panel) -> None:
    """Rows from top to bottom, ours above the source's."""
    for kind, steps in panel.steps.items():
        color, marker, aside = STYLES[kind]
        for step in steps:
            y = step.place + aside
            look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linestyle": ""}
            ax.plot([step.base, step.row], [y, y], color=color, linewidth=5, alpha=0.25, solid_capstyle="butt")
            ax.errorbar(step.row, y, xerr=[[end] for end in step.reach], capsize=2, elinewidth=1, **look)
            ax.plot(step.base, y, markerfacecolor="white", **look)
        if steps:
            ax.plot([], [], marker=marker, color=color, label=kind)
    if panel.stars:
        ax.plot(*zip(*panel.stars), marker="*", color=ORANGE, markersize=9, linestyle="", label=SURVEY)
    titled(ax, panel.title)
    ax.set_yticks(range(len(panel.rows)), panel.rows)
    ax.set_ylim(len(panel.rows) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)


def lines(spec: TableSpec, grid: Grid) -> Iterator[str]:
    """What table.md says: the figure, and by how much each row differs from its base, ours and as published."""
    found = panels(spec, grid)
    if not found:
        return
    yield "![Each method beside its base, ours and published](against.png)\n"
    yield "The difference from the base, ours / published (of the column that is stood in for); – where not known.\n"
    rows = [
        [row, *(" / ".join(change(part.steps[kind], place) for kind in STYLES) for part in found)]
        for place, row in enumerate(found[0].rows)
    ]
    yield markdown_table(["", *(part.title for part in found)], rows, right=True)


def change(steps: Sequence[Step], place: int) -> str:
    """The difference of a row from its base, with its sign."""
    return next((f"{step.row - step.base:+.3g}" for step in steps if step.place == place), NONE)
