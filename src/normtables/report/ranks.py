"""Average ranks with their critical difference, in words and drawn as Demsar 2006 (JMLR 7), figure 1, does."""

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normtables.report.figure import BLACK, BLUE, images, plain_style
from normtables.report.text import markdown
from normtables.tables.ranking import FEWEST_SETS, Ranking
from normtables.tables.wording import chance_of, number

STEP = 0.35  # inches between two labels, or two lines that join rows
DIGITS = 2


def draw(rankings: Sequence[Ranking]) -> dict[str, bytes]:
    """ranks.png and ranks.svg, one panel for each ranking with a critical difference; nothing where none has."""
    tested = [ranking for ranking in rankings if math.isfinite(ranking.critical)]
    if not tested:
        return {}
    with plain_style():
        heights = [depth(ranking) + 3 for ranking in tested]
        figure = Figure(figsize=(8.0, STEP * sum(heights)), layout="constrained")
        axes = figure.subplots(len(tested), 1, squeeze=False, height_ratios=heights)
        for ax, ranking in zip(axes.flat, tested):
            panel(ax, ranking)
        return images(figure, "ranks")


def depth(ranking: Ranking) -> int:
    """Steps below the axis: one for each line that joins rows, then one for each label of the longer side."""
    return len(ranking.cliques) + 1 + (len(ranking.ranks) + 1) // 2


def panel(ax: Axes, ranking: Ranking) -> None:
    """The axis of ranks, the best to the left, the critical difference over it, joined rows and labels under it."""
    last = len(ranking.ranks)
    ax.plot([1, last], [0, 0], color=BLACK)
    for place in range(1, last + 1):
        ax.plot([place, place], [0, 0.2], color=BLACK)
        ax.annotate(f"{place}", (place, 0.3), ha="center", va="bottom")
    ax.plot([1, 1 + ranking.critical], [1.5, 1.5], color=BLACK, marker="|", label="critical difference")
    ax.annotate(f"critical difference {number(ranking.critical, DIGITS)}", (1, 1.65), va="bottom")
    for line, rows in enumerate(ranking.cliques, 1):
        ends = [ranking.ranks[rows[0]] - 0.04, ranking.ranks[rows[-1]] + 0.04]
        ax.plot(ends, [-0.6 * line] * 2, color=BLUE, linewidth=3, solid_capstyle="butt", label="joined")
    labels(ax, ranking)
    ax.set_title(ranking.column, fontsize=9)
    ax.set_xlim(1 - 0.42 * last, last + 0.42 * last)
    ax.set_ylim(-depth(ranking), 2.4)
    ax.set_axis_off()


def labels(ax: Axes, ranking: Ranking) -> None:
    """Each row's name beside the axis, the better half to the left, with a line from its average rank."""
    rows, last = list(ranking.ranks.items()), len(ranking.ranks)
    half = (last + 1) // 2
    for place, (row, rank) in enumerate(rows):
        left = place < half
        y = -(len(ranking.cliques) + 1 + (place if left else last - 1 - place))
        end = 0.9 if left else last + 0.1
        ax.plot([rank, rank, end], [0, y, y], color=BLACK, linewidth=0.8, label=row)
        text = f"{row}  {number(rank, DIGITS)}" if left else f"{number(rank, DIGITS)}  {row}"
        ax.annotate(text, (end - 0.05 if left else end + 0.05, y), ha="right" if left else "left", va="center")


def lines(rankings: Sequence[Ranking]) -> Iterator[str]:
    """What table.md says of the rankings."""
    for ranking in rankings:
        name, count = markdown(ranking.column), f"{len(ranking.ranks)} rows on {ranking.sets} data sets"
        means = f"Average ranks, of the means over the repeats: {ranked(ranking)}."
        if not math.isfinite(ranking.critical):
            yield f"- {name}: {count}; no test with fewer than {FEWEST_SETS} data sets or three rows. {means}"
            continue
        found = f"Friedman's statistic {number(ranking.statistic, DIGITS)}, p {chance_of(ranking.p)}"
        critical = f"average ranks differ at 5 % (Nemenyi) when more than {number(ranking.critical, DIGITS)} apart"
        yield f"- {name}: {count}; {found}; {critical}. Not told apart: {joined(ranking)}. {means}"
    if draw_any(rankings):
        yield "\n![Average ranks; lines join rows that differ by less than the critical difference](ranks.png)"


def ranked(ranking: Ranking) -> str:
    """The rows with their average ranks, the best first."""
    return ", ".join(f"{markdown(row)} {number(rank, DIGITS)}" for row, rank in ranking.ranks.items())


def joined(ranking: Ranking) -> str:
    """The groups that are not told apart."""
    return "; ".join(markdown(", ".join(rows)) for rows in ranking.cliques) or "none"


def draw_any(rankings: Sequence[Ranking]) -> bool:
    """Whether there is something to draw."""
    return any(math.isfinite(ranking.critical) for ranking in rankings)
