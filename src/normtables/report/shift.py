"""How far two domains are apart at each norm layer of a network, before and after AdaBN: shift.png of a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normtables.report.figure import BLUE, ORANGE, WIDE, images, labelled, legend_below, plain_style, side_by_side
from normtables.report.text import markdown
from normtables.tables.sources import Sources

BEFORE, AFTER = "shift", "shift_adabn"  # metrics BEFORE/layer and AFTER/layer of the last evaluation
LABELS = {BEFORE: ("source's statistics", "o", ORANGE), AFTER: ("target's statistics (AdaBN)", "s", BLUE)}


@dataclass(frozen=True)
class Shift:
    """A column's runs that measured it: how many, and each layer's mean divergence before and after, in nats."""

    column: str
    runs: int
    layers: Sequence[str]
    means: Mapping[str, Sequence[float]]


def shifts(sources: Sources) -> list[Shift]:
    """One for each column whose finished runs measured divergences at the same layers."""
    plan, found = sources.plan, []
    for column in plan.spec.columns:
        members = (m.run for (_, name), cell in plan.cells.items() if name == column for m in cell.members)
        runs = {run for run in members if plan.runs[run].facts["dataset"].get("task", {}).get("shift")}
        done = (sources.history(run) for run in sorted(runs) if sources.states[run] == "finished")
        rows = [rows[-1] for rows in done if rows]
        # A history keeps the order of the layers, a record does not.
        layers = [name.removeprefix(f"{BEFORE}/") for name in (rows or [{}])[0] if name.startswith(f"{BEFORE}/")]
        if layers and all(f"{kind}/{layer}" in row for kind in LABELS for row in rows for layer in layers):
            means = {kind: [fmean(row[f"{kind}/{layer}"] for row in rows) for layer in layers] for kind in LABELS}
            found.append(Shift(column, len(rows), layers, means))
    return found


def draw(found: Sequence[Shift]) -> dict[str, bytes]:
    """shift.png and shift.svg, a panel a column; nothing where nothing was measured."""
    if not found:
        return {}
    with plain_style():
        across = min(WIDE, len(found))
        down = -(-len(found) // across)
        figure = Figure(figsize=(1.0 + 3.6 * across, 0.6 + 2.7 * down), layout="constrained")
        figure.suptitle("Divergence between the domains of what each norm layer is given", fontsize=10)
        axes = side_by_side(figure, down, across, len(found))
        for ax, shift in zip(axes, found):
            panel(ax, shift)
        legend_below(figure, labelled(axes))
        return images(figure, "shift")


def panel(ax: Axes, shift: Shift) -> None:
    """Divergence by layer, the first one to the left; logarithmic, layers by number where there are many."""
    places = range(1, len(shift.layers) + 1)
    for kind, (label, marker, color) in LABELS.items():
        ax.plot(places, shift.means[kind], marker=marker, color=color, markersize=4, label=label)
    if all(value > 0 for values in shift.means.values() for value in values):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(shift.column, fontsize=9)
    ax.set_xlabel("norm layer")
    ax.set_ylabel("nats")
    ax.grid(axis="y", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)


def lines(found: Sequence[Shift]) -> Iterator[str]:
    """What table.md says of the divergences: their means over all layers, and the figure."""
    if not found:
        return
    yield "![Divergence between the domains at each norm layer, before and after AdaBN](shift.png)\n"
    for shift in found:
        before, after = (fmean(shift.means[kind]) for kind in LABELS)
        yield (
            f"- {markdown(shift.column)}: {before:.3g} nats with the source's statistics, {after:.3g} with the target's"
            f" (mean over layers: {len(shift.layers)}, runs: {shift.runs})."
        )
