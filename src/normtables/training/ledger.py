"""What the store is told around a run: that it is claimed, and how it ended where it left no result."""

import traceback
from contextlib import ExitStack
from typing import Any

from normtables import processes
from normtables.config import id_of
from normtables.records import CHECKPOINT, CONFIG, DONE, HISTORY, RECORD, Held, Record, Store, write_whole


class Failed(Exception):
    """A run that stopped on an unexpected error; its record says so."""


def begun(store: Store, run: str, held: ExitStack) -> Record | None:
    """The record of a run that is done; else none, and the run is claimed for as long as `held` lasts."""
    record = store.read(run)
    if record and record.status in DONE:
        return record
    if not held.enter_context(store.claim(run)):
        raise Held(f"run {run} is being computed by another process; the same command reads its record later")
    record = store.read(run)
    if record and record.status in DONE:  # another process made it between the look and the claim
        return record
    for part in store.folder(run).glob("*.part"):
        part.unlink()  # half-written by a process that was killed; a claim has one holder
    return None


def failed(store: Store, known: dict[str, Any], error: Exception) -> Failed:
    """Record an unexpected error; what to raise for it. Of several processes the first to fail does this."""
    run, log = id_of(known), store.folder(id_of(known)) / "log.txt"
    write_whole(log, "".join(traceback.format_exception(error)))
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if processes.rank():
        reason = f"process {processes.rank()}: {reason}"
    store.write(Record(run, "failed", reason, known))
    return Failed(f"run {run} failed: {reason}; see {log}")


def forget(store: Store, run: str) -> None:
    """Remove what a run that ended before its first checkpoint has written, unless an older failure left a record."""
    folder = store.folder(run)
    if not any((folder / name).exists() for name in (CHECKPOINT, RECORD)):
        for name in (CONFIG, HISTORY):
            (folder / name).unlink(missing_ok=True)
