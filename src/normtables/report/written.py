"""What a table's folder holds, read again: files of an earlier command that a merge or an editor may have damaged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from normtables.errors import UserError
from normtables.tables.claims import COLUMNS

AGAIN = "the table, made again, writes it anew"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises UserError where what is read of a file in this scope is not there or not what was written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {AGAIN}") from error
    except (ValueError, TypeError, LookupError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged ({first}); {AGAIN}") from error


def claims(path: Path) -> pd.DataFrame:
    """claims.csv, all of it as text; UserError where it cannot be read."""
    with reading(path):
        return pd.read_csv(path, dtype=str, keep_default_na=False)[COLUMNS]


def text(path: Path) -> str:
    """A page or a LaTeX table; UserError where it cannot be read."""
    with reading(path):
        return path.read_text(encoding="utf-8")


def run_ids(path: Path) -> list[str]:
    """The runs that provenance.json names; UserError where it cannot be read."""
    with reading(path):
        return [str(run) for part in json.loads(path.read_bytes())["runs"] for run in part["ids"]]
