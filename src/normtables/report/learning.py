"""How a score changes in training: learning.png of a table that asks for it, a panel a row, a line a column."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normtables.records import DONE
from normtables.report.curves import COLORS
from normtables.report.figure import GREY, evenly, images, labelled, legend_below, plain_style, side_by_side, titled
from normtables.report.grid import Grid
from normtables.tables.sources import Sources
from normtables.tables.statements import Learning

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Course:
    """A cell's runs that are done, each as points of its history, and their mean where all have finished alike."""

    column: str
    runs: Sequence[Points]
    mean: Points


@dataclass(frozen=True)
class Panel:
    """A row: its courses, and the means of the columns that are a level, by their heads."""

    row: str
    courses: Sequence[Course]
    levels: Mapping[str, float]


def panels(sources: Sources, grid: Grid) -> list[Panel]:
    """One for each row with a run that is done in one of the columns; none where the table asks for none."""
    plan, found = sources.plan, []
    if not (asked := plan.spec.learning):
        return []
    for row in plan.spec.rows:
        courses = [course(sources, asked, (row, column)) for column in asked.columns if (row, column) in plan.cells]
        cells = {grid.heads[name]: cell for name in asked.levels if (cell := grid.cells.get((row, name)))}
        levels = {head: cell.ours for head, cell in cells.items() if math.isfinite(cell.ours)}
        if any(part.runs for part in courses):
            found.append(Panel(row, [part for part in courses if part.runs], levels))
    return found


def course(sources: Sources, asked: Learning, cell: tuple[str, str]) -> Course:
    """What the histories of a cell's runs say."""
    names = dict.fromkeys(member.run for member in sources.plan.cells[cell].members)
    states = {name: sources.states[name] for name in names}
    runs = [points(sources.history(name), asked) for name in names if states[name] in DONE]
    alike = len({tuple(x for x, _ in run) for run in runs}) == 1
    whole = alike and set(states.values()) == {"finished"}
    mean = [(at[0][0], fmean(y for _, y in at)) for at in zip(*runs)] if whole else []
    return Course(cell[1], runs, mean)


def points(rows: Sequence[Mapping[str, float]], asked: Learning) -> Points:
    """The points of a history where both of its columns have a number."""
    pairs = [(row.get(asked.x, math.nan), row.get(asked.y, math.nan)) for row in rows]
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def draw(found: Sequence[Panel], asked: Learning | None) -> dict[str, bytes]:
    """learning.png and learning.svg; nothing where there is nothing to draw."""
    if not (found and asked):
        return {}
    with plain_style():
        down, across = evenly(len(found))
        figure = Figure(figsize=(1.0 + 3.2 * across, 0.8 + 2.4 * down), layout="constrained")
        axes = side_by_side(figure, down, across, len(found), sharey=False)
        for ax, part in zip(axes, found):
            draw_panel(ax, part, asked)
        legend_below(figure, labelled(axes))
        return images(figure, "learning")


def draw_panel(ax: Axes, part: Panel, asked: Learning) -> None:
    """Runs thin, their mean thick, levels dashed."""
    for one in part.courses:
        color = COLORS[asked.columns.index(one.column) % len(COLORS)]
        for run in one.runs:
            ax.plot(*zip(*run), color=color, linewidth=0.8, alpha=0.4)
        ax.plot(*zip(*one.mean or [(math.nan, math.nan)]), color=color, marker="o", markersize=3, label=one.column)
    for head, level in part.levels.items():
        ax.axhline(level, color=GREY, linestyle="--", linewidth=1, label=head)
    titled(ax, part.row)
    ax.set_xlabel(asked.x)
    ax.set_ylabel(asked.y)
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)


def lines(found: Sequence[Panel], asked: Learning | None) -> Iterator[str]:
    """What table.md says: the figure, and how many runs are behind each line."""
    if not (found and asked):
        return
    yield f"![{asked.y} over {asked.x}](learning.png)\n"
    counts = sorted({len(part.runs) for panel in found for part in panel.courses})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    yield f"Thin: each run ({runs} a line). Thick: their mean, where all have finished. Dashed: a column's mean."
