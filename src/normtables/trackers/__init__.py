"""Where else the course of a run is told while it lasts; the records stay the source of truth."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from normtables.registry import Registry

Row = Mapping[str, float]


class Tracker(Protocol):
    """What is told of one run: where it begins, each row of its history, its end."""

    def begin(self, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        """The run `run` with this configuration begins or goes on; files of the tracker's own lie under `folder`."""

    def row(self, row: Row) -> None:
        """A new row of the history."""

    def end(self, status: str, final: Row) -> None:
        """The run ended with a status and final scores, or stopped to go on later (interrupted)."""


class Told:
    """A tracker whose failures cost nothing but itself: the first one is told in a line, and no call follows it."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker: Tracker | None = tracker

    def tell(self, what: str, *arguments: Any) -> None:
        """Call `begin`, `row` or `end`."""
        if self.tracker is None:
            return
        try:
            getattr(self.tracker, what)(*arguments)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            say(f"the tracker failed ({first}); the run goes on without it")
            self.tracker = None


def say(text: str) -> None:
    """A line for the user, apart from what the command prints."""
    print(f"normtables: {text}", file=sys.stderr, flush=True)


TRACKERS: Registry[Tracker] = Registry("tracker", "normtables.trackers")
