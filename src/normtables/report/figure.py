"""The figure beside a table: one panel a column, our means with their intervals against the published numbers."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from normtables.report.grid import Grid, Shown

BLUE, ORANGE, BLACK, GREY = "#0072B2", "#E69F00", "#000000", "#666666"  # Okabe and Ito's colours for every eye
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "normtables", "font.size": 9.0, "axes.axisbelow": True}
SPAN = 3  # values that span more than this factor get a logarithmic axis
WIDE = 3  # panels side by side
TITLE = 40  # characters in a line over a panel


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults and the settings of this project, whatever the user's files say."""
    with matplotlib.style.context(["default", SETTINGS]):
        yield


def draw(grid: Grid) -> dict[str, bytes]:
    """The figure as figure.png and figure.svg, without a date and byte for byte the same when made again."""
    with plain_style():
        return images(panels(grid))


def images(figure: Figure, name: str = "figure") -> dict[str, bytes]:
    """A figure as PNG and SVG, without a date and byte for byte the same when made again; call it in `plain_style`."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "normtables"})
    return {f"{name}.png": png.getvalue(), f"{name}.svg": svg.getvalue()}


def panels(grid: Grid) -> Figure:
    """One panel for each column that has a number, row labels on the left, one legend for all."""
    columns = [c for c in grid.columns if any(c in grid.of(row) for row in grid.rows)]
    down, across = evenly(len(columns))
    figure = Figure(figsize=(2.0 + 2.9 * across, 1.3 + down * (0.8 + 0.24 * len(grid.rows))), layout="constrained")
    figure.suptitle(fill(grid.title, TITLE * across), fontsize=10)
    axes = side_by_side(figure, down, across, len(columns))
    for ax, column in zip(axes, columns):
        panel(ax, grid, column)
    legend_below(figure, dict(sorted(labelled(axes).items())))
    return figure


def evenly(count: int) -> tuple[int, int]:
    """Rows and columns of panels, at least one and at most WIDE side by side, the rows as full as each other."""
    down = max(1, math.ceil(count / WIDE))
    return down, max(1, math.ceil(count / down))


def side_by_side(figure: Figure, down: int, across: int, count: int, sharey: bool = True) -> list[Axes]:
    """The first `count` panels of a figure of down x across; hides the others."""
    axes = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flat)
    for ax in axes[count:]:
        ax.set_visible(False)
    return axes[:count]


def labelled(axes: Sequence[Axes]) -> dict[str, Artist]:
    """What a legend of some panels shows, by label, each label once."""
    return {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels())}


def legend_below(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """One legend for all panels, under them; none where nothing has a label."""
    if handles:
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": len(handles), "frameon": False}
        figure.legend(handles.values(), handles, **place)


def panel(ax: Axes, grid: Grid, column: str) -> None:
    """One column: rows from top to bottom, survey, original and ours a little apart."""
    cells = [grid.of(row).get(column) for row in grid.rows]
    points(ax, [(cell.survey, y + 0.22) for y, cell in enumerate(cells) if cell], "survey", "s", ORANGE)
    points(ax, [(cell.original, y) for y, cell in enumerate(cells) if cell], "source", "x", BLACK)
    intervals(ax, cells)
    for y, cell in enumerate(cells):
        if cell and cell.trouble:
            where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
            ax.annotate(cell.trouble, (0.02, y - 0.22), color=GREY, fontsize=7, **where)
    titled(ax, grid.heads[column])
    ax.set_yticks(range(len(grid.rows)), grid.rows)
    ax.set_ylim(len(grid.rows) - 0.4, -0.6)
    ax.grid(axis="x", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    if spans(cells):
        logarithmic(ax, cells)


def titled(ax: Axes, text: str) -> None:
    """Say what a panel shows, in lines that are no wider than it."""
    ax.set_title(fill(text, TITLE), fontsize=9)


def points(ax: Axes, found: Sequence[tuple[float, float]], label: str, marker: str, color: str) -> None:
    """The published numbers of one kind, those that are known."""
    found = [(x, y) for x, y in found if math.isfinite(x)]
    if found:
        hollow: dict[str, Any] = {"linestyle": "", "markersize": 5, "markerfacecolor": "none"}
        ax.plot(*zip(*found), marker=marker, color=color, label=label, **hollow)


def intervals(ax: Axes, cells: Sequence[Shown | None]) -> None:
    """Our means, with 95 % intervals where there are enough runs for one."""
    found = [(y, cell) for y, cell in enumerate(cells) if cell and math.isfinite(cell.ours)]
    if found:
        spread = [gaps(cell) if math.isfinite(cell.low) else (0.0, 0.0) for _, cell in found]
        ax.errorbar(
            [cell.ours for _, cell in found],
            [y - 0.22 for y, _ in found],
            xerr=list(zip(*spread)),
            fmt="o",
            markersize=4,
            capsize=2,
            color=BLUE,
            label="ours, 95 % interval",
        )


def gaps(cell: Shown) -> tuple[float, float]:
    """How far the interval reaches below and above the mean, which a bootstrap may leave outside; NaN without one."""
    return max(cell.ours - cell.low, 0.0), max(cell.high - cell.ours, 0.0)


def numbers(cells: Sequence[Shown | None]) -> list[float]:
    """Every number of a column but the ends of intervals."""
    return [v for cell in cells if cell for v in (cell.survey, cell.original, cell.ours) if math.isfinite(v)]


def spans(cells: Sequence[Shown | None]) -> bool:
    """Whether a column's positive numbers span more than SPAN."""
    known = numbers(cells)
    return bool(known) and min(known) > 0 and max(known) > SPAN * min(known)


def logarithmic(ax: Axes, cells: Sequence[Shown | None]) -> None:
    """A logarithmic axis around a column's numbers, however far down an interval reaches."""
    known = numbers(cells)
    ends = [cell.high for cell in cells if cell and math.isfinite(cell.high)]
    ax.set_xscale("log")
    ax.set_xlim(min(known) / 1.4, max(known + ends) * 1.2)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
