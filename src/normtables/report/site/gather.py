"""What the page is given, from the files of results: the data of every view, a version of it, histories by id."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from normtables.places import ROOT
from normtables.records import Store
from normtables.report.site.runs import Runs
from normtables.report.site.sweeps import Sweeps
from normtables.report.site.tables import VERDICTS, Tables

PAUSE, SHARE = 1.0, 4  # a look at the files is at least a second, and four times as long as it took, after the last
DIGITS = 2  # of an id: runs whose ids begin alike have their histories in one file


class Site:
    """The files of results and what the page shows of them; may be asked by several threads."""

    def __init__(self, results: Path, tables: Sequence[Path]) -> None:
        self.results = results
        self.runs, self.sweeps = Runs(Store(results)), Sweeps(results)
        self.tables = Tables(results, tables)
        self.lock = Lock()
        self.text, self.version = "", ""
        self.due = 0.0

    def look(self) -> tuple[str, str]:
        """Bring everything up to date unless that was done a moment ago; the version and the text of the data."""
        with self.lock:
            began = time.monotonic()
            if began < self.due:
                return self.version, self.text
            changed = [part.look() for part in (self.runs, self.sweeps, self.tables)]
            if any(changed) or not self.text:
                self.text = json.dumps(self.data(), allow_nan=False, separators=(",", ":"))
                self.version = hashlib.sha256(self.text.encode()).hexdigest()[:16]
            ended = time.monotonic()
            self.due = ended + max(PAUSE, SHARE * (ended - began))
            return self.version, self.text

    def data(self) -> dict[str, Any]:
        """All that the page knows but the histories."""
        return {
            "results": str(self.results.relative_to(ROOT) if self.results.is_relative_to(ROOT) else self.results),
            "verdicts": VERDICTS,
            "tables": self.tables.found,
            "runs": self.runs.columns(),
            "sweeps": self.sweeps.all(self.runs.seen),
        }

    def data_js(self) -> str:
        """data.js: text that the page parses, so that no name in it can be anything but text."""
        return call("data", *self.look())

    def version_js(self) -> str:
        """version.js, which the page asks for again and again."""
        version, _ = self.look()
        return call("version", version)

    def histories_js(self, prefix: str) -> str:
        """histories/PREFIX.js: the histories of the runs whose ids begin so."""
        found = json.dumps(self.runs.histories(prefix), allow_nan=False, separators=(",", ":"))
        return call("histories", prefix, found)

    def prefixes(self) -> list[str]:
        """The beginnings of ids that there are histories for."""
        return sorted({run[:DIGITS] for run in self.runs.seen})


def call(name: str, *words: str) -> str:
    """A script that hands texts to the page: what works from disk, where a page may not read files."""
    return f"normtables.{name}({', '.join(map(json.dumps, words))});\n"
