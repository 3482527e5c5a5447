"""Where the numbers of a table come from: runs, commits, versions, machines."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from normtables import __version__
from normtables.records import Record
from normtables.report.text import markdown
from normtables.tables.plan import Plan
from normtables.tables.sources import Sources

UNKNOWN = "unknown commit"


@dataclass(frozen=True)
class Origins:
    """The records behind a planned table, by run id, and the ids that have none yet."""

    plan: Plan
    records: dict[str, Record]
    missing: tuple[str, ...]

    def commits(self) -> dict[str, int]:
        """How many runs come from each commit, the commonest first."""
        found = Counter(r.facts.get("commit") or UNKNOWN for r in self.records.values())
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def dirty(self) -> int:
        """How many runs were made with uncommitted changes in the tree."""
        return sum(bool(r.facts.get("dirty")) for r in self.records.values())

    def lines(self) -> Iterator[str]:
        """What is said of it under a table."""
        total = len(self.records) + len(self.missing)
        commits = ", ".join(f"{name[:12] if name != UNKNOWN else name} ({n})" for name, n in self.commits().items())
        failed = sum(r.status == "failed" for r in self.records.values())
        done = f"{len(self.records) - failed} of {total} runs done{f', {failed} failed' if failed else ''}"
        yield f"{done}{f', from {commits}' if commits else ''}."
        if self.dirty():
            yield f"{self.dirty()} of them ran with uncommitted changes in the tree."
        if len(self.commits()) > 1:
            yield "The runs come from several commits; `normtables plan --stale` lists those that a fix has outdated."
        if (choose := self.plan.spec.choose) and (searched := list(self.searched())):
            yield f"Settings are chosen by {markdown(choose.by)}, the best of so many: {'; '.join(searched)}."

    def searched(self) -> Iterator[str]:
        """How many settings each row that is tuned was chosen from, and how many runs of this search diverged."""
        for row in self.plan.spec.rows:
            cells = [cell.members for (name, _), cell in self.plan.cells.items() if name == row]
            tuned = [members for members in cells if len({repr(m.tune) for m in members}) > 1]
            runs = {member.run for members in tuned for member in members}
            lost = sum(run in self.records and self.records[run].status == "diverged" for run in runs)
            if tuned:
                most = max(len({repr(m.tune) for m in members}) for members in tuned)
                yield f"{markdown(row)} {most}{f' ({lost} of {len(runs)} runs diverged)' if lost else ''}"

    def groups(self) -> list[dict[str, Any]]:
        """The ids of the runs, by commit, cleanness of the tree and status."""
        found: dict[tuple[str, bool, str], list[str]] = {}
        for name, record in sorted(self.records.items()):
            key = (record.facts.get("commit", ""), bool(record.facts.get("dirty", True)), record.status)
            found.setdefault(key, []).append(name)
        names = ("commit", "dirty", "status")
        return [{**dict(zip(names, key)), "ids": ids} for key, ids in sorted(found.items())]

    def text(self) -> str:
        """provenance.json."""
        spec = self.plan.spec
        versions = sorted({json.dumps(r.facts.get("versions", {}), sort_keys=True) for r in self.records.values()})
        known = {
            "table": spec.table,
            "title": spec.title,
            "tier": self.plan.tier,
            "normtables": __version__,
            "commits": self.commits(),
            "dirty": self.dirty(),
            "versions": [json.loads(v) for v in versions],
            "devices": sorted({str(r.facts.get("device", "")) for r in self.records.values()}),
            "runs": self.groups(),
            "missing": sorted(self.missing),
        }
        return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def origins(sources: Sources) -> Origins:
    """The records behind a plan, readings of the source included."""
    found = sources.records
    return Origins(sources.plan, {k: r for k, r in found.items() if r}, tuple(k for k, r in found.items() if not r))
