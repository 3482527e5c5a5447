"""The flat index of a store: results/runs.csv, one row a run."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from normtables.records import Record, Store

FIRST = ["id", "status", "reason", "score"]


def runs_index(store: Store) -> pd.DataFrame:
    """One row a record: id, status, reason, name of the score, settings, final scores and facts; nested ones dotted."""
    frame = pd.DataFrame([flat(record) for record in store.records()])
    rest = sorted(set(frame.columns) - set(FIRST), key=lambda name: (rank(name), name))
    return frame.reindex(columns=[*FIRST, *rest])


def flat(record: Record) -> dict[str, Any]:
    """A record as one level of names: settings as they are, scores as split/name, facts as facts.name."""
    head = {"id": record.id, "status": record.status, "reason": record.reason, "score": record.score.get("name", "")}
    return head | dict(leaves(record.config)) | record.final | dict(leaves(record.facts, "facts."))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of a nested mapping; lists as JSON."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | tuple) else value


def but_seeds(names: Iterable[str]) -> list[str]:
    """The settings that are not a repetition by seed."""
    return [name for name in names if name != "seed" and not name.startswith("seeds.")]


def rank(name: str) -> int:
    """Settings before scores before facts."""
    return 2 if name.startswith("facts.") else int("/" in name)
