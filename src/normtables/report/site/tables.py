"""The tables as the page gets them: from the table files and from what `normtables table` wrote of each tier."""

import csv
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normtables.places import RESULTS, TIERS
from normtables.report import misprints, written
from normtables.report.grid import WAITING, shown
from normtables.report.site.runs import stat
from normtables.tables.collect import COMPANION
from normtables.tables.spec import TableSpec, load
from normtables.tables.wording import chance_of, number, published

NUMBERS = ("survey", "original", "ours", "sd", "ci_low", "ci_high", "p_value")
CLAIM = ("claim", "says", "verdict", "evidence", "n")
VERDICTS = ("supported", "contradicted", "undecided", "too few runs", "missing")
UNRUN = ("quoted", "not planned")  # status of cells that nobody has to run

Line = dict[str, Any]


class Tables:
    """The tables of some table files, with the files of results that belong to them."""

    def __init__(self, results: Path, paths: Sequence[Path]) -> None:
        self.results, self.paths = results, paths
        self.stamps: dict[Path, object] = {}
        self.specs: dict[Path, TableSpec] = {}
        self.found: list[dict[str, Any]] = []

    def look(self) -> bool:
        """Read what changed since the last look; whether anything did."""
        stamps: dict[Path, object] = {path: stat(path) for path in self.paths}
        for path in self.paths:
            if path not in self.specs or stamps[path] != self.stamps.get(path):
                self.specs[path] = load(path)
        for spec in self.specs.values():
            for tier in spec.tiers:
                folder = self.results / tier / spec.label
                stamps[folder] = [stat(folder / name) for name in ("table.csv", "claims.csv")]
        if stamps == self.stamps:
            return False
        self.stamps = stamps
        self.found = [described(spec, self.results) for spec in self.specs.values()]
        return True


def described(spec: TableSpec, results: Path) -> dict[str, Any]:
    """Everything that is shown of a table."""
    return {
        "name": str(spec.table),
        "title": spec.title,
        "source": spec.source,
        "kind": spec.kind,
        "runnable": spec.runnable,
        "errata": [erratum(e) for e in misprints.found([spec])],
        "tiers": [at_tier(spec, tier, results / tier / spec.label) for tier in in_order(spec.tiers)],
    }


def in_order(tiers: Mapping[str, object]) -> list[str]:
    """Tiers from the smallest to the largest, those of a user's own at the end."""
    return sorted(tiers, key=lambda name: TIERS.index(name) if name in TIERS else len(TIERS))


def erratum(e: misprints.Erratum) -> dict[str, str]:
    """A cell in which survey and source differ."""
    _, row, column, survey, original, note = misprints.printed(e)
    known = {"row": row, "column": column, "survey": survey, "original": original, "note": note}
    return known | {"certainty": e.certainty}


def at_tier(spec: TableSpec, tier: str, folder: Path) -> dict[str, Any]:
    """A table at one tier."""
    there = (folder / "table.csv").exists()
    lines = list(read_lines(folder / "table.csv", spec) if there else unwritten(spec, tier))
    lines = [line for line in lines if tier in spec.columns[line["column"]].tiers]
    planned = [line for line in lines if line["reading"] != COMPANION and line["status"] not in UNRUN]
    claims = claims_of(folder / "claims.csv") if there else []
    verdicts = Counter(claim["verdict"] for claim in claims)
    return {
        "tier": tier,
        "planned": len(planned),
        "run": sum(not line["status"].startswith(WAITING) for line in planned),
        "verdicts": [verdicts[name] for name in VERDICTS],
        "columns": [column_at(spec, name, tier, lines) for name in spec.columns if tier in spec.columns[name].tiers],
        "claims": claims,
        "departures": [d.says for d in spec.departures if not d.tiers or tier in d.tiers],
        "command": command(spec, tier, folder.parents[1]),
    }


def command(spec: TableSpec, tier: str, results: Path) -> str:
    """What makes the runs of a table that are missing."""
    words = [
        "normtables",
        "table",
        str(spec.table if isinstance(spec.table, int) else spec.path),
        "--tier",
        tier,
        "--run",
    ]
    return shlex.join([*words, *(["--results", str(results)] if results != RESULTS else [])])


def claims_of(path: Path) -> list[dict[str, str]]:
    """The claims as text, none where there is no file; UserError where it cannot be read."""
    if not path.exists():
        return []
    return [{name: str(claim[name]) for name in CLAIM} for claim in written.claims(path).to_dict("records")]


def read_lines(path: Path, spec: TableSpec) -> Iterator[Line]:
    """The lines of table.csv whose row and column the table file still has; UserError where it cannot be read."""
    with written.reading(path), path.open(encoding="utf-8", newline="") as file:
        for text in csv.DictReader(file):
            if text["row"] in spec.rows and text["column"] in spec.columns:
                numbers = {key: float(text[key] or "nan") for key in NUMBERS}
                yield text | numbers | {key: int(text[key]) for key in ("n", "n_reached")}


def unwritten(spec: TableSpec, tier: str) -> Iterator[Line]:
    """The lines of a table of which nothing was written yet: what is published, and what would be run."""
    nothing = dict.fromkeys(NUMBERS, math.nan) | {"n": 0, "n_reached": 0, "reading": "", "budget": "", "run_ids": ""}
    for name, column in spec.columns.items():
        planned = spec.planned_rows(name, tier)
        for row in spec.rows.values():
            if not (row.quoted and column.stand_in):
                printed = spec.printed(row.name, name)
                status = "missing" if row.name in planned else "not planned"
                status = "quoted" if row.quoted or column.quoted else status
                values = {"survey": printed.survey, "original": printed.original, "original_mark": printed.mark}
                yield nothing | values | {"row": row.name, "column": name, "unit": column.unit, "status": status}


def column_at(spec: TableSpec, name: str, tier: str, lines: Sequence[Line]) -> dict[str, Any]:
    """A printed column: what it is, and its lines."""
    column = spec.columns[name]
    own = [line for line in lines if line["column"] == name]
    budgets = dict.fromkeys(line["budget"] for line in own if line["budget"])
    taken = f", its {column.take}" if column.take not in ("", column.score) else ""
    read = "quoted, never run" if column.quoted else f"{column.score} ({column.better} is better), {column.read}{taken}"
    cells = [cell(spec, line) for line in own]
    return {
        "name": name,
        "unit": column.unit,
        "stand_in": column.stand_in,
        "score": column.score,
        "says": "; ".join([read, *(["budget " + ", ".join(budgets)] if budgets else [])]),
        "published": any(found["survey"] or found["original"] for found in cells),
        "lines": [found for found in cells if any(found[key] for key in ("survey", "original", "ours", "trouble"))],
    }


def cell(spec: TableSpec, line: Line) -> dict[str, Any]:
    """One cell as it is printed, with the ids of its runs."""
    _, found = shown(spec, line)
    digits = found.digits
    known = line["original"] if math.isfinite(line["original"]) else line["survey"]
    beside, cited = line["reading"] == COMPANION, spec.published.get((line["row"], line["column"]))
    return {
        "row": line["row"],
        "beside": beside,
        "erratum": misprints.CLASSES[cited.mark] if cited and not beside and misprints.differs(cited) else "",
        "survey": published(found.survey, digits),
        "original": published(found.original, digits),
        "mark": line["original_mark"],
        "ours": number(found.ours, digits),
        "sd": number(found.sd, digits),
        "low": number(found.low, digits),
        "high": number(found.high, digits),
        "difference": signed(found.ours - known, digits),
        "p": "" if math.isnan(found.p) else chance_of(found.p),
        "n": line["n"],
        "status": line["status"],
        "trouble": found.trouble,
        "runs": line["run_ids"].split(),
    }


def signed(value: float, digits: int) -> str:
    """A difference with its sign, nothing for nan."""
    text = number(value, digits)
    return text if text.startswith("-") or not text or float(text) == 0 else f"+{text}"
