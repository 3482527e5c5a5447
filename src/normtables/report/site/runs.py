"""The runs of a store as the page gets them: columns of settings, scores and facts; only what changed is read again."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from normtables.errors import UserError
from normtables.records import CONFIG, DONE, Store, alive
from normtables.report.runs import leaves

RUN = re.compile(r"[0-9a-f]{12}")
FACTS = ("parameters", "steps", "seconds", "steps_per_second", "device", "commit", "dirty", "stopped")
LAST = {"steps": "step", "seconds": "seconds"}  # facts of a run that is being made, from its history
OWN = ("status", "reason", "score")
FIGURES = 8  # significant digits of scores; settings are kept as they are

Stamp = tuple[object, ...]


@dataclass(frozen=True)
class Seen:
    """What is known of one run, the stamp of the files it was read from, the newest row of its history (`last`)."""

    stamp: Stamp
    status: str
    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    score: str = ""
    better: str = ""
    last: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the run has ended with a result."""
        return self.status in DONE


def stat(path: Path | str) -> tuple[int, int]:
    """Time and size of a file, zeros where there is none: what changes when it is written."""
    try:
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size
    except OSError:
        return 0, 0


class Runs:
    """All runs of a store, those that are being made too."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: dict[str, Seen] = {}

    def look(self) -> bool:
        """Read what changed since the last look; whether anything did."""
        found = {run: self.now(run, self.seen.get(run)) for run in self.names()}
        changed = len(found) != len(self.seen) or any(seen is not self.seen.get(run) for run, seen in found.items())
        self.seen = found
        return changed

    def names(self) -> list[str]:
        """The ids that have a folder, by id."""
        try:
            return sorted(filter(RUN.fullmatch, os.listdir(self.store.root / "runs")))
        except OSError:
            return []

    def now(self, run: str, before: Seen | None) -> Seen:
        """A run as it is: what was read `before` unless one of its files changed."""
        folder = f"{self.store.root}/runs/{run}"
        recorded = stat(f"{folder}/record.json")
        if before and before.done and before.stamp == (recorded,):
            return before
        stamp: Stamp = (recorded,)
        try:
            if before is None or before.stamp[0] != recorded:
                seen = self.ended(run, stamp)
                if seen and seen.done:
                    return seen
            held = alive(Path(folder, "claim"))
            stamp = (recorded, held, stat(f"{folder}/history.csv"), stat(f"{folder}/config.yaml"))
            if before and before.stamp == stamp:
                return before
            return (None if held else self.ended(run, stamp)) or self.unfinished(run, stamp, held)
        except (UserError, TypeError, ValueError, LookupError, AttributeError, OSError, yaml.YAMLError) as error:
            return Seen(stamp, "unreadable", str(error))

    def ended(self, run: str, stamp: Stamp) -> Seen | None:
        """A run from its record, None where it has none."""
        record = self.store.read(run)
        if record is None:
            return None
        return Seen(
            stamp=stamp,
            status=str(record.status),
            reason=str(record.reason),
            settings=settled(record.config),
            scores={name: rounded(value) for name, value in record.final.items()},
            facts={name: plain(record.facts[name]) for name in FACTS if name in record.facts},
            score=str(record.score.get("name", "")),
            better=str(record.score.get("better", "")),
        )

    def unfinished(self, run: str, stamp: Stamp, held: bool) -> Seen:
        """A run from its configuration and the history so far."""
        path, rows = self.store.folder(run) / CONFIG, self.store.history(run)
        last = rows[-1] if rows else {}
        return Seen(
            stamp=stamp,
            status="running" if held else "interrupted",
            settings=settled(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.exists() else {},
            scores={name: rounded(value) for name, value in last.items() if "/" in name},
            facts={fact: rounded(last[name]) for fact, name in LAST.items() if name in last},
            last=last,
        )

    def columns(self) -> dict[str, Any]:
        """Ids and columns: what differs by run as codes into a list of values, the rest once."""
        seen, table = list(self.seen.values()), []
        for kind in ("settings", "scores", "facts"):
            parts: list[Mapping[str, Any]] = [getattr(run, kind) for run in seen]
            table += [encoded(name, kind, [part.get(name) for part in parts]) for name in names(parts)]
        table += [encoded(name, "runs", [getattr(run, name) for run in seen]) for name in OWN]
        return {"ids": list(self.seen), "columns": table}

    def histories(self, prefix: str) -> dict[str, Any]:
        """Run id -> its history as columns, of all runs whose id begins so."""
        return {run: dict(self.history(run)) for run in self.seen if run.startswith(prefix)}

    def history(self, run: str) -> Iterator[tuple[str, Any]]:
        """Names and columns of a history; nothing where it cannot be read."""
        try:
            rows = self.store.history(run)
        except UserError:
            rows = []
        yield "names", list(rows[0]) if rows else []
        yield "columns", [[rounded(row.get(name)) for row in rows] for name in rows[0]] if rows else []


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names and plain values of a configuration."""
    return {name: plain(value) for name, value in leaves(config)}


def rounded(value: Any) -> Any:
    """A number to FIGURES digits, None where it is not finite, anything else as plain text."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return plain(value)
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{FIGURES}g}")


def names(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """All keys of some mappings, sorted."""
    return sorted(set().union(*parts))


def encoded(name: str, kind: str, values: list[Any]) -> dict[str, Any]:
    """A column: one value for all, every value where most differ, or codes into the values (None: the run has none)."""
    places: dict[tuple[type, Any], int] = {}  # 1, 1.0 and true are three values
    codes = [places.setdefault((value.__class__, value), len(places)) for value in values]
    kept, head = [value for _, value in places], {"name": name, "kind": kind}
    if len(kept) == 1:
        return head | {"all": kept[0]}
    return head | ({"every": values} if len(kept) > len(values) / 2 else {"values": kept, "codes": codes})


def plain(value: Any) -> Any:
    """A value for JSON: what it has no word for as text."""
    if value is None or isinstance(value, str | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
