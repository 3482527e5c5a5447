"""The sweeps as the page gets them: what is done, running, failed and waiting, and how long the rest may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from normtables.records import alive
from normtables.report import manifest
from normtables.report.manifest import CLAIM, EVENTS, MANIFEST, Manifest
from normtables.report.site.runs import Seen, stat

NEWEST, LISTED = 20, 100  # sweeps that are shown; runs that are listed of each kind
UNSEEN = Seen((), "missing")


class Sweeps:
    """The newest sweeps of a folder of results."""

    def __init__(self, results: Path) -> None:
        self.folder = results / "sweeps"
        self.stamps: dict[Path, object] = {}
        self.found: dict[Path, Manifest] = {}

    def look(self) -> bool:
        """Read what changed since the last look; whether anything did."""
        paths = sorted(self.folder.glob(f"*/{MANIFEST}"), key=stat, reverse=True)[:NEWEST]
        stamps: dict[Path, object] = {
            path.parent: (stat(path), stat(path.parent / EVENTS), alive(path.with_name(CLAIM))) for path in paths
        }
        if stamps == self.stamps:
            return False
        for folder in stamps.keys() - {known for known, old in self.stamps.items() if stamps.get(known) == old}:
            try:
                self.found[folder] = manifest.read(folder)
            except (ValueError, LookupError, TypeError, AttributeError, OSError):
                self.found.pop(folder, None)
        self.stamps = stamps
        return True

    def all(self, runs: Mapping[str, Seen]) -> list[dict[str, Any]]:
        """The sweeps, those that are being made first, then the newest."""
        found = [self.found[folder] for folder in self.stamps if folder in self.found]
        shown = [described(sweep, runs) for sweep in found]
        return sorted(shown, key=lambda sweep: (sweep["state"] != "running", -sweep["begun"]))


@dataclass
class Parts:
    """The runs of a sweep by what became of them."""

    done: list[str]
    running: list[str]
    failed: dict[str, str]
    waiting: list[str]


def parts(sweep: Manifest, runs: Mapping[str, Seen]) -> Parts:
    """What became of every run; a run that failed and is made again counts as running."""
    found = Parts([], [], {}, [])
    for run in sweep.runs:
        seen = runs.get(run, UNSEEN)
        if seen.done:
            found.done.append(run)
        elif seen.status == "running":
            found.running.append(run)
        elif run in sweep.failed or seen.status in ("failed", "unreadable"):
            found.failed[run] = sweep.failed.get(run, seen.reason)
        else:
            found.waiting.append(run)
    return found


def described(sweep: Manifest, runs: Mapping[str, Seen]) -> dict[str, Any]:
    """Everything that is shown of a sweep."""
    found = parts(sweep, runs)
    complete = not (found.running or found.failed or found.waiting)
    diverged = [run for run in found.done if runs[run].status == "diverged"]
    return {
        "name": sweep.name,
        "command": sweep.command,
        "begun": sweep.begun,
        "ended": sweep.ended,
        "workers": sweep.workers,
        "state": "complete" if complete else "running" if sweep.running or found.running else "stopped",
        "counts": {
            "done": len(found.done),
            "diverged": len(diverged),
            "running": len(found.running),
            "failed": len(found.failed),
            "waiting": len(found.waiting),
        },
        "left": left(sweep, found, runs),
        "running": [named(sweep, run) | running(runs[run]) for run in found.running[:LISTED]],
        "failed": [named(sweep, run) | {"reason": found.failed[run]} for run in list(found.failed)[:LISTED]],
        "waiting": [named(sweep, run) for run in found.waiting[:LISTED]],
    }


def named(sweep: Manifest, run: str) -> dict[str, Any]:
    """A run and what it is called in the sweep."""
    return {"id": run, "label": sweep.runs[run].label}


def left(sweep: Manifest, found: Parts, runs: Mapping[str, Seen]) -> float | None:
    """Seconds until all runs have ended: each as long as was expected, else as those that ended took; None: unknown."""
    spent = [seconds for run in found.done if isinstance(seconds := runs[run].facts.get("seconds"), int | float)]
    usual = fmean(spent) if spent else None
    expected = {run: usual if sweep.runs[run].seconds is None else sweep.runs[run].seconds for run in sweep.runs}
    todo = [(expected[run], 1.0) for run in found.waiting]
    todo += [(expected[run], 1 - progress(runs[run])) for run in found.running]
    total = 0.0
    for seconds, share in todo:
        if seconds is None:
            return None
        total += seconds * share
    return round(total / (sweep.workers or len(found.running) or 1), 3)


def progress(seen: Seen) -> float:
    """The share of its budget that a run has used, by its history."""
    for name, amount in seen.settings.items():
        group, _, unit = name.partition(".")
        if group == "budget" and isinstance(amount, int | float) and amount:
            return min(1.0, seen.last.get(unit, 0.0) / amount)
    return 0.0


def running(seen: Seen) -> dict[str, Any]:
    """How far a run is."""
    return {
        "progress": round(progress(seen), 4),
        "scores": list(seen.scores.items()),
        "seconds": seen.last.get("seconds"),
    }
