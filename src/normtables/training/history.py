"""The rows that a run's evaluations leave: history.csv."""

import csv
import io
from pathlib import Path
from typing import Any

from normtables.errors import UserError
from normtables.records import HISTORY, write_whole

Row = dict[str, float]


def line(values: list[Any]) -> str:
    """One line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def write(folder: Path, rows: list[Row]) -> None:
    """Write the history as far as a checkpoint knows it, dropping what came after."""
    header = [line(list(rows[0]))] if rows else []
    write_whole(folder / HISTORY, "".join([*header, *(line(list(row.values())) for row in rows)]))


def append(folder: Path, row: Row, first: bool) -> None:
    """Add a row in a single write."""
    text = (line(list(row)) if first else "") + line(list(row.values()))
    try:
        with (folder / HISTORY).open("a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; free space, and the same command goes on") from error
