"""Records that exist already, sent to a tracker once."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from normtables.errors import UserError
from normtables.records import Record, Store, write_whole
from normtables.trackers import TRACKERS

Settings = Mapping[str, Any]  # of a tracker: name and options


class Sent:
    """What has been sent where: results/published.json, by tracker's settings and run."""

    def __init__(self, root: Path) -> None:
        self.path = root / "published.json"
        try:
            self.known: dict[str, dict[str, str]] = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            self.known = {}
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path} ({error}); delete it and all runs are sent again") from error

    def knows(self, place: str, record: Record) -> bool:
        """Whether this very record was sent there."""
        return self.known.get(place, {}).get(record.id) == digest(record)

    def add(self, place: str, record: Record) -> None:
        """Note that it was, at once: a second call after an interruption sends the rest only."""
        self.known.setdefault(place, {})[record.id] = digest(record)
        write_whole(self.path, json.dumps(self.known, indent=1, sort_keys=True) + "\n")


def digest(record: Record) -> str:
    """Sixteen digits of what a record says."""
    return hashlib.sha256(json.dumps(vars(record), sort_keys=True).encode()).hexdigest()[:16]


def publish(store: Store, records: Iterable[Record], settings: Settings, groups: Mapping[str, str]) -> tuple[int, int]:
    """Send the records that were not sent before with these settings; how many were sent and how many left out.

    groups: run to the group it is shown in, where the settings name none. A tracker's error is the caller's.
    """
    sent, place = Sent(store.root), json.dumps(settings, sort_keys=True)
    told, known = 0, 0
    for record in records:
        if sent.knows(place, record):
            known += 1
            continue
        more = {"group": groups.get(record.id)} if settings.get("group", "") is None else {}
        tracker = TRACKERS.build({**settings, **more})
        tracker.begin(store.root, record.id, record.config)
        for row in store.history(record.id):
            tracker.row(row)
        tracker.end(record.status, record.final)
        sent.add(place, record)
        told += 1
    return told, known
