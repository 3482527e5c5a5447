"""No tracker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normtables.trackers import TRACKERS, Row, Tracker


class Nobody:
    """A tracker that tells nobody."""

    def begin(self, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        """Nothing."""

    def row(self, row: Row) -> None:
        """Nothing."""

    def end(self, status: str, final: Row) -> None:
        """Nothing."""


@TRACKERS.register("none")
def none() -> Tracker:
    """The records under results/ are enough."""
    return Nobody()
