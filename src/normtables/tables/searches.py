"""How large a table's searches are: how many configurations a row tries before one is chosen."""

from collections import Counter
from collections.abc import Iterator

from normtables.tables.plan import Cell, Plan, Point


def searches(plan: Plan) -> Iterator[str]:
    """A line for each row of a table that tunes: configurations x data sets x seeds x columns.

    Columns that share their runs count once; a row whose columns differ in size gets a line for each size.
    """
    if not any(member.tune for cell in plan.cells.values() for member in cell.members):
        return
    for row in plan.spec.rows:
        own = {frozenset(m.run for m in cell.members): cell for (name, _), cell in plan.cells.items() if name == row}
        for size, columns in Counter(map(size_of, own.values())).items():
            yield f"{row}: {' x '.join([*size, *([f'{columns} columns'] if columns > 1 else [])])}"


def size_of(cell: Cell) -> tuple[str, ...]:
    """What a cell's runs are a product of, in words."""
    tuned, over, repeated = (list(axis) for axis in zip(*((m.tune, m.over, m.repeat) for m in cell.members)))
    folded = "data set" if all(key.startswith("dataset") for key, _ in over[0]) else "point"
    parts = [(tuned, "configuration"), (over, folded), (repeated, "seed")]
    return tuple(counted(axis, noun) for axis, noun in parts if axis is not over or over[0])


def counted(points: list[Point], noun: str) -> str:
    """How many different points there are of a thing."""
    number = len({str(point) for point in points})
    return f"{number} {noun}{'s' * (number != 1)}"
