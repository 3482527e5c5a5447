"""Where the survey and its sources print different numbers, and how surely that is known."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from normtables.report.text import markdown_table
from normtables.tables.spec import TableSpec
from normtables.tables.statements import Published
from normtables.tables.wording import decimals, published

COLUMNS = ["table", "row", "column", "survey", "original", "original_mark", "class", "note"]
HEADS = ["table", "row", "column", "survey", "source", "note"]
CLASSES = {"verified": "established", "secondary": "probable", "memory": "unverified"}
MEANING = {
    "established": "misprints of the survey, read in the source itself",
    "probable": "read in a secondary source",
    "unverified": "from memory, not confirmed by any source read",
}


@dataclass(frozen=True)
class Erratum:
    """One cell in which survey and source differ."""

    spec: TableSpec
    row: str
    column: str
    cell: Published

    @property
    def certainty(self) -> str:
        """established, probable or unverified."""
        return CLASSES[self.cell.mark]


def differs(cell: Published) -> bool:
    """Whether the survey prints a number that its source does not; an empty original counts where it was read there."""
    if math.isnan(cell.survey) or cell.mark not in CLASSES:
        return False
    return cell.mark == "verified" if math.isnan(cell.original) else cell.survey != cell.original


def best_known(cell: Published) -> float:
    """The source's number; the survey's where nobody read the source. NaN: none."""
    return cell.survey if math.isnan(cell.original) and not differs(cell) else cell.original


def found(specs: Iterable[TableSpec]) -> list[Erratum]:
    """All such cells, surest first."""
    cells = [Erratum(s, *key, cell) for s in specs for key, cell in s.published.items() if differs(cell)]
    return sorted(cells, key=lambda e: list(MEANING).index(e.certainty))


def errata(specs: Iterable[TableSpec]) -> pd.DataFrame:
    """All cells of the tables where survey and source differ, surest first."""
    lines = [
        (e.spec.table, e.row, e.column, e.cell.survey, e.cell.original, e.cell.mark, e.certainty, e.cell.note)
        for e in found(specs)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def errata_markdown(specs: Iterable[TableSpec]) -> str:
    """A page of `errata`, one section a class; only the established ones are called misprints."""
    cells = found(specs)
    parts = ["# Where the survey and its sources differ\n"]
    for name, meaning in MEANING.items():
        rows = [printed(e) for e in cells if e.certainty == name]
        parts.append(f"## {name.capitalize()}: {meaning}\n")
        parts.append(markdown_table(HEADS, rows) if rows else "None.\n")
    return "\n".join(parts)


def printed(e: Erratum) -> list[str]:
    """A line of the page."""
    digits = decimals(e.spec, e.column)
    survey, original = (published(v, digits) or "none" for v in (e.cell.survey, e.cell.original))
    return [str(e.spec.table), e.row, e.column, survey, original, e.cell.note]
