"""How tables, claims and runs are shown: `write` puts a table's files into a folder, byte-equal when re-made."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd

from normtables.errors import UserError
from normtables.report.misprints import errata, errata_markdown
from normtables.report.provenance import origins
from normtables.report.runs import runs_index
from normtables.tables.ranking import rankings
from normtables.tables.sources import Sources

__all__ = ["csv_text", "errata", "errata_markdown", "put", "runs_index", "write"]


def write(
    sources: Sources, table: pd.DataFrame, claims: pd.DataFrame, readings: pd.DataFrame, folder: Path
) -> list[Path]:
    """Write table.{csv,md,tex}, figure.{png,svg}, claims.csv and provenance.json; curves.{png,svg} where columns are
    points on an x axis, against.{png,svg} where rows stand against others, ranks.{png,svg} where data sets are ranked,
    shift.{png,svg} where domains were compared inside a network, learning.{png,svg} where histories are asked for;
    UserError where that fails."""
    from normtables.report import against, curves, learning, ranks, shift
    from normtables.report.figure import draw  # what loads matplotlib and scipy is loaded here, not by every command
    from normtables.report.grid import grid_of
    from normtables.report.latex import tabulars
    from normtables.report.markdown import page

    plan, origin, ranked = sources.plan, origins(sources), rankings(sources)
    grid = grid_of(plan, table)
    shifts, learned = shift.shifts(sources), learning.panels(sources, grid)
    return put(
        folder,
        {
            "table.csv": csv_text(table),
            "table.md": page(plan, grid, claims, readings, origin, ranked, shifts, learned),
            "table.tex": tabulars(grid),
            **draw(grid),
            **curves.draw(plan.spec, grid),
            **against.draw(plan.spec, grid),
            **ranks.draw(ranked),
            **shift.draw(shifts),
            **learning.draw(learned, plan.spec.learning),
            "claims.csv": csv_text(claims),
            "provenance.json": origin.text(),
        },
    )


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV, numbers to ten digits."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def put(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into a folder, each in one move; raises UserError where the folder cannot be written."""
    paths: list[Path] = []
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path, part = folder / name, folder / f"{name}.{os.getpid()}.part"
            part.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(part.replace(path))
    except OSError as error:
        if part:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise UserError(f"cannot write {folder}: {error.strerror}; free space or choose another folder") from error
    return paths
