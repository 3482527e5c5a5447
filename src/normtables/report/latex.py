"""table.tex: the table for a paper; needs the package booktabs."""

import itertools
from collections.abc import Iterator, Sequence

from normtables.report.grid import NONE, Grid, Shown
from normtables.report.text import latex

ACROSS = 3  # columns side by side; more go below
OURS, PUBLISHED = ["ours"], ["survey", "source", "ours"]


def tabulars(grid: Grid) -> str:
    r"""A float with one booktabs tabular for every three columns; `\input` it after `\usepackage{booktabs}`."""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{latex(grid.title)}. Survey, source, ours $\pm$ standard deviation (runs).}}",
    ]
    for start in range(0, len(grid.columns), ACROSS):
        lines += [*block(grid, grid.columns[start : start + ACROSS]), r"\par\medskip"]
    return "\n".join([*lines[:-1], r"\end{table}"]) + "\n"


def block(grid: Grid, columns: Sequence[str]) -> Iterator[str]:
    """One tabular: survey, source and ours for each column, only ours where nothing is published."""
    heads = [PUBLISHED if any(cells[c].known for _, cells in grid.lines() if c in cells) else OURS for c in columns]
    ends = list(itertools.accumulate(len(names) for names in heads))
    yield rf"\begin{{tabular}}{{l{'r' * ends[-1]}}}"
    yield r"\toprule"
    over = zip(columns, heads)
    yield "".join(rf" & \multicolumn{{{len(h)}}}{{c}}{{{latex(grid.heads[c])}}}" for c, h in over) + r" \\"
    yield "".join(rf"\cmidrule(lr){{{end - len(h) + 2}-{end + 1}}}" for end, h in zip(ends, heads))
    yield "".join(f" & {name}" for names in heads for name in names) + r" \\"
    yield r"\midrule"
    for label, cells in grid.lines():
        entries = [text for c, h in zip(columns, heads) for text in split(cells.get(c), len(h))]
        if not any(entries):
            continue
        yield latex(label) + "".join(f" & {latex(text)}" for text in entries) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def split(cell: Shown | None, entries: int) -> list[str]:
    """Survey, source and ours of a cell, or ours alone."""
    if cell is None:
        return [""] * entries
    known = [("" if text == NONE else text) for text in cell.known.split(" / ")] if cell.known else ["", ""]
    return [*known, cell.measured][-entries:]
