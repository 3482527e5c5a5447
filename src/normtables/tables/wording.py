"""How numbers are printed: to one digit more than the column's published numbers."""

import math
from decimal import Decimal

from normtables.tables.spec import TableSpec

UNPUBLISHED = 2  # decimals of a column that nobody published


def places(value: float) -> int:
    """Decimals that a number needs: 2 for 7.69, 0 for 410."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def decimals(spec: TableSpec, column: str) -> int:
    """Decimals of our numbers in a column: one more than its published ones (of what it stands in for) need."""
    source = spec.columns[column].stand_in or column
    cells = [spec.printed(row, source) for row in spec.rows]
    known = [v for cell in cells for v in (cell.survey, cell.original) if math.isfinite(v)]
    return max(map(places, known)) + 1 if known else UNPUBLISHED


def number(value: float, digits: int) -> str:
    """A number with so many decimals, nothing for nan, never minus zero."""
    if math.isnan(value):
        return ""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def published(value: float, digits: int) -> str:
    """A published number with the decimals of its column, as `digits` (ours) less one, or its own where it has more."""
    return number(value, max(digits - 1, places(value))) if math.isfinite(value) else ""


def chance_of(p: float) -> str:
    """A p-value in a text: two figures, not below 0.0001."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
