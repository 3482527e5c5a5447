"""What a sweep is making, for the dashboard: results/sweeps/NAME/ sweep.json, events.jsonl as it goes on, its claim."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from normtables.records import alive, held_by_me, signature, write_whole

MANIFEST, EVENTS, CLAIM = "sweep.json", "events.jsonl", "claim"


@dataclass(frozen=True)
class Wanted:
    """One run of a sweep: what it is called there, and the seconds it may take (None: nobody knows)."""

    label: str
    seconds: float | None = None


def label(run: Mapping[Any, Any]) -> str:
    """What a planned run is for: rows, columns, readings, axes."""
    axes = ", ".join(f"{key}={value}" for key, value in run["axes"].items())
    place = [" ".join(run["rows"]), "/".join(run["columns"]), " | ".join(run["readings"]), axes]
    return "; ".join(filter(None, place))


def wanted(frame: pd.DataFrame) -> dict[str, Wanted]:
    """The runs of a plan (`tables.plan.summary`)."""
    return {
        run["id"]: Wanted(label(run), None if math.isnan(run["seconds"]) else run["seconds"])
        for run in frame.to_dict("records")
    }


@dataclass(frozen=True)
class Manifest:
    """A sweep as its files tell it: `failed` is run -> reason, also of runs that left no record; times in seconds."""

    name: str
    command: str
    begun: float
    workers: int
    runs: Mapping[str, Wanted]
    failed: Mapping[str, str] = field(default_factory=dict)
    ended: float | None = None
    running: bool = False


class Announced:
    """The sweep that this process is making."""

    def __init__(self, folder: Path, command: str, workers: int, runs: Mapping[str, Wanted]) -> None:
        self.events, self.claim = folder / EVENTS, folder / CLAIM
        with contextlib.suppress(OSError):
            self.events.unlink(missing_ok=True)
        listed = {run: [wanted.label, wanted.seconds] for run, wanted in runs.items()}
        known = {"command": command, "begun": round(time.time(), 3), "workers": workers, "runs": listed}
        write_whole(self.claim, signature())
        write_whole(folder / MANIFEST, json.dumps(known) + "\n")

    def tell(self, event: tuple[Any, ...]) -> None:
        """Take one event of `pool.run_all`."""
        if event[:1] == ("ended",) and event[2] == "failed":
            self.fail(event[1], event[3])

    def fail(self, run: str, reason: str) -> None:
        """A run of the sweep has failed."""
        self.add({"run": run, "reason": reason})

    def end(self) -> None:
        """The sweep has ended, whatever became of its runs."""
        self.add({"ended": round(time.time(), 3)})
        if held_by_me(self.claim):
            self.claim.unlink(missing_ok=True)

    def add(self, event: Mapping[str, Any]) -> None:
        """Append an event in one write; a sweep goes on where that fails."""
        with contextlib.suppress(OSError), self.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


@contextlib.contextmanager
def announced(folder: Path, command: str, workers: int, runs: Mapping[str, Wanted]) -> Iterator[Announced]:
    """A sweep that is announced while the scope lasts."""
    sweep = Announced(folder, command, workers, runs)
    try:
        yield sweep
    finally:
        sweep.end()


def read(folder: Path) -> Manifest:
    """The sweep of a folder; raises ValueError, LookupError, TypeError or OSError where there is none to be read."""
    known = json.loads((folder / MANIFEST).read_bytes())
    events = list(read_events(folder / EVENTS))
    return Manifest(
        name=folder.name,
        command=str(known["command"]),
        begun=float(known["begun"]),
        workers=int(known["workers"]),
        runs={run: Wanted(str(label), seconds) for run, (label, seconds) in known["runs"].items()},
        failed={event["run"]: str(event["reason"]) for event in events if "run" in event},
        ended=next((float(event["ended"]) for event in events if "ended" in event), None),
        running=alive(folder / CLAIM),
    )


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events so far; a line that was cut off while being written is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
