"""The second figure of a table whose columns are points on an axis: a line a row, ours beside the published curve."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from normtables.report.figure import BLACK, BLUE, GREY, ORANGE, SPAN, gaps, images, plain_style
from normtables.report.grid import Grid
from normtables.report.misprints import best_known, differs
from normtables.report.text import markdown
from normtables.tables.spec import COLUMN, Column, TableSpec

COLORS = (BLUE, "#D55E00", "#009E73", "#CC79A7", ORANGE, "#56B4E9", BLACK, "#F0E442")  # Okabe and Ito's, yellow last
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # one more than colours: 72 rows before a pair comes again
OURS, PUBLISHED, SURVEY = "ours, 95 % interval", "published", "survey, where it differs"
STYLES: dict[str, dict[str, Any]] = {
    OURS: {"linestyle": "-", "markersize": 5, "zorder": 3},
    PUBLISHED: {"linestyle": "--", "linewidth": 1, "markersize": 4, "markerfacecolor": "none"},
    SURVEY: {"linestyle": "", "marker": "*", "markersize": 10, "markerfacecolor": "none"},
}
APART = 3.0  # points by which the rows stand beside each other at the same x


@dataclass(frozen=True)
class Curve:
    """One kind of numbers of a row: x, y (NaN breaks the line), and how far intervals reach down and up (NaN: none)."""

    row: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    reach: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Panel:
    """Columns that differ in nothing but where they stand on the x axis, what is said there, and their curves."""

    title: str
    unit: str
    ticks: Mapping[float, str]
    curves: Sequence[Curve]


def draw(spec: TableSpec, grid: Grid) -> dict[str, bytes]:
    """curves.png and curves.svg, byte for byte the same when made again; nothing where there is nothing to draw."""
    found = panels(spec, grid)
    if not found:
        return {}
    with plain_style():
        return images(figure(spec, grid.title, found), "curves")


def panels(spec: TableSpec, grid: Grid) -> list[Panel]:
    """One for each group of like columns that the tier has, or has stand-ins for; published curves are drawn whole."""
    groups: dict[str, list[Column]] = {}
    for column in spec.columns.values():
        if has_place(spec, column):
            groups.setdefault(repr(likeness(spec, column)), []).append(column)
    wanted = {*grid.columns, *(spec.columns[name].stand_in for name in grid.columns)}
    kept = [group for group in groups.values() if wanted & {column.name for column in group}]
    likes = [likeness(spec, group[0]) for group in kept]
    found = [panel(spec, grid, group, like, likes) for group, like in zip(kept, likes)]
    return [part for part in found if part.curves]


def has_place(spec: TableSpec, column: Column) -> bool:
    """Whether a column is a point on the x axis."""
    return spec.curves == COLUMN or spec.curves in column.settings


def likeness(spec: TableSpec, column: Column) -> Column:
    """A column without what may differ between the points of one curve."""
    rest = {} if spec.curves == COLUMN else {k: v for k, v in sorted(column.settings.items()) if k != spec.curves}
    stands = "yes" if column.stand_in else ""
    return replace(column, name="", tiers={}, settings=rest, rows=(), cells={}, of="", stand_in=stands)


def panel(spec: TableSpec, grid: Grid, group: Sequence[Column], like: Column, likes: Sequence[Column]) -> Panel:
    """The panel of a group; its title is what the others do not have alike."""
    known = {column for _, column in spec.published}
    names = [column.name for column in group if column.name in grid.columns or column.name in known]
    at = {name: spec.columns[name].settings.get(spec.curves, i) for i, name in enumerate(names)}
    places = sorted(at.items(), key=lambda place: place[1])
    curves = [curve for row in spec.rows for curve in curves_of(spec, grid, row, places)]
    said = [str(value) for key, value in facts(like).items() if any(facts(o).get(key) != value for o in likes)]
    notes = ["stand-in"] * bool(like.stand_in) + ["published only"] * all(curve.kind != OURS for curve in curves)
    title = " ".join([", ".join(said), f"({', '.join(notes)})" if notes else ""]).strip()
    ticks = {x: name if spec.curves == COLUMN else f"{x:g}" for name, x in places}
    return Panel(title, like.unit or like.score, ticks, curves)


def facts(column: Column) -> dict[str, Any]:
    """What one panel may be told from another by."""
    return {**column.settings, "score": column.score, "take": column.take, "read": column.read}


def curves_of(spec: TableSpec, grid: Grid, row: str, places: Sequence[tuple[str, float]]) -> Iterator[Curve]:
    """What there is of a row: our means in the tier's columns, the published curve, the survey's other numbers."""
    xs, printed = [x for _, x in places], [spec.printed(row, name) for name, _ in places]
    source = [best_known(p) for p in printed]
    own = [(x, cell) for name, x in places if (cell := grid.cells.get((row, name)))]
    found = (
        Curve(row, PUBLISHED, xs, source),
        Curve(row, SURVEY, xs, [p.survey if differs(p) else math.nan for p in printed]),
        Curve(row, OURS, [x for x, _ in own], [cell.ours for _, cell in own], [gaps(cell) for _, cell in own]),
    )
    return (curve for curve in found if any(map(math.isfinite, curve.y)))


def figure(spec: TableSpec, title: str, found: Sequence[Panel]) -> Figure:
    """The panels side by side and one legend for all: rows by colour and marker, kinds by line."""
    drawn = Figure(figsize=(2.4 + 5.2 * len(found), 5.2), layout="constrained")
    drawn.suptitle(title, fontsize=10)
    rows = [row for row in spec.rows if any(curve.row == row for part in found for curve in part.curves)]
    looks: dict[str, dict[str, Any]] = {
        row: {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]} for i, row in enumerate(rows)
    }
    for ax, part in zip(drawn.subplots(1, len(found), squeeze=False).flat, found):
        draw_panel(ax, part, looks)
        ax.set_xlabel("" if spec.curves == COLUMN else spec.curves)
    kinds = [kind for kind in STYLES if any(curve.kind == kind for part in found for curve in part.curves)]
    handles = [Line2D([], [], label=row, **look) for row, look in looks.items()]
    handles += [Line2D([], [], label=kind, color=GREY, **STYLES[kind]) for kind in kinds]
    drawn.legend(handles=handles, loc="outside right center", frameon=False)
    return drawn


def draw_panel(ax: Axes, panel: Panel, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The curves of a panel, the rows a little apart from each other, over an axis with a tick at each column."""
    for curve in panel.curves:
        style = {**looks[curve.row], **STYLES[curve.kind], "label": f"{curve.row}, {curve.kind}"}
        made = ax.errorbar(curve.x, curve.y, yerr=list(zip(*curve.reach)) or None, elinewidth=1, capsize=2, **style)
        shift = APART / 72 * ([*looks].index(curve.row) - (len(looks) - 1) / 2)
        for artist in made.get_children():  # set afterwards: the limits of an axis know nothing of shifted artists
            artist.set_transform(ax.transData + ScaledTranslation(shift, 0, ax.figure.dpi_scale_trans))
    if 0 < min(panel.ticks) * SPAN < max(panel.ticks):
        ax.set_xscale("log", base=2)
    ax.set_xticks([*panel.ticks], [*panel.ticks.values()])
    ax.set_title(panel.title, fontsize=9)
    ax.set_ylabel(panel.unit)
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)


def lines(spec: TableSpec, grid: Grid) -> Iterator[str]:
    """What table.md says of the curves: the figure, and which of our cells have no point or no bar in it."""
    if not panels(spec, grid):
        return
    yield f"![The numbers of the table by {markdown(spec.curves)}, with the published curves](curves.png)\n"
    cells = [cell for (_, name), cell in grid.cells.items() if has_place(spec, spec.columns[name])]
    absent = Counter(cell.trouble for cell in cells if math.isnan(cell.ours) and cell.trouble not in ("", "quoted"))
    if absent:
        yield f"- No point in the curves: {', '.join(f'{name} ({n})' for name, n in absent.items())}."
    bare = sum(math.isfinite(cell.ours) and math.isnan(cell.low) for cell in cells)
    if bare:
        yield f"- A point without a bar, from too few runs for an interval: {bare}."
