"""How a run is kept and read back: one folder a run, the record written last and in one move. Standard library only."""

import contextlib
import csv
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from normtables.errors import UserError

DONE = ("finished", "diverged")
RECORD, CHECKPOINT, CONFIG, HISTORY = "record.json", "checkpoint.pt", "config.yaml", "history.csv"
HEARTBEAT = 20.0  # seconds between two signs of life of a claim
STALE = 300.0  # seconds without a sign of life after which another host's claim counts as dead


class Held(UserError):
    """Another process is at this run."""


@dataclass(frozen=True)
class Record:
    """What a finished, diverged or failed run leaves behind."""

    id: str
    status: str
    reason: str
    config: dict[str, Any]
    score: dict[str, Any] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see all of it or nothing; raises UserError where the folder cannot be written."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """What is said of a place that cannot be written."""
    return UserError(f"cannot write {path}: {error.strerror}; free space or choose another folder with results=DIR")


def started(pid: int) -> str:
    """The kernel's start time of a process on this host, or nothing when there is none or it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def alive(claim: Path) -> bool:
    """Whether the process that holds a claim file still runs, as far as this host can tell."""
    try:
        text = claim.read_bytes()
        age = time.time() - claim.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # this user may not look
    try:
        held = json.loads(text)
        host, pid, start = held["host"], held["pid"], held["started"]
    except (ValueError, LookupError, TypeError):
        return age < HEARTBEAT  # being written at this moment, or its writer was killed in the middle
    if host == socket.gethostname() and Path("/proc").exists():
        return started(pid) == start != ""
    return age < STALE


class Store:
    """The folder of runs: `root/runs/<id>/` with config.yaml, history.csv, record.json and log.txt."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Make the folder of runs; UserError where that fails."""
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root / "runs", error) from error

    def folder(self, run: str) -> Path:
        """The folder of a run, which need not exist."""
        return self.root / "runs" / run

    def ids(self) -> list[str]:
        """The ids of all runs that left a record."""
        return sorted(p.parent.name for p in (self.root / "runs").glob(f"*/{RECORD}"))

    def read(self, run: str) -> Record | None:
        """The record of a run, None where there is none; raises UserError where it cannot be read."""
        path = self.folder(run) / RECORD
        try:
            return Record(**json.loads(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it and the same command makes the run again"
            ) from error

    def records(self) -> Iterator[Record]:
        """All records, by id."""
        for run in self.ids():
            record = self.read(run)
            if record:
                yield record

    def state(self, run: str) -> str:
        """One of finished, diverged, failed, running, interrupted, missing."""
        record = self.read(run)
        if record and record.status in DONE:
            return record.status
        folder = self.folder(run)
        if alive(folder / "claim"):
            return "running"
        if record:
            return record.status
        return "interrupted" if (folder / CHECKPOINT).exists() else "missing"

    def write(self, record: Record) -> None:
        """Keep a record; its presence means that the run ended."""
        write_whole(self.folder(record.id) / RECORD, json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")

    def history(self, run: str) -> list[dict[str, float]]:
        """The rows of history.csv in order; a last line that was cut off while being written is dropped."""
        path = self.folder(run) / HISTORY
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]
        try:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(whole.splitlines())]
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete the folder {path.parent} to make the run again"
            ) from error

    @contextlib.contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Hold a run against double work; yields False where a living process holds it already."""
        path = self.folder(run) / "claim"
        if not take(path):
            yield False
            return
        stop = threading.Event()
        beat = threading.Thread(target=keep_alive, args=(path, stop), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            stop.set()
            if held_by_me(path):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a run that could not even begin leaves nothing


def held_by_me(path: Path) -> bool:
    """Whether a claim file still names this process; another host may have taken it over from a holder that slept."""
    try:
        return path.read_text() == signature()
    except OSError:
        return False


def signature() -> str:
    """What a claim of this process says."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid())})


def take(path: Path) -> bool:
    """Create a claim file, after clearing one whose holder is dead; False where a living process holds it."""
    try:
        for _ in range(3):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileNotFoundError:
                continue  # a holder that left nothing has just removed the folder
            except FileExistsError:
                if alive(path):
                    return False
                grave = path.with_name(f"claim.{os.getpid()}.dead")
                with contextlib.suppress(FileNotFoundError):
                    path.rename(grave)  # one of several rescuers wins the rename
                    if alive(grave):  # the winner's own claim, made since the look
                        grave.rename(path)
                        return False
                    grave.unlink()
            else:
                try:
                    with os.fdopen(handle, "w") as file:
                        file.write(signature())
                except OSError:
                    path.unlink(missing_ok=True)  # without a word in it, it would hold the run for a while
                    raise
                return True
    except OSError as error:
        raise unwritable(path.parent, error) from error
    return False


def keep_alive(path: Path, stop: threading.Event) -> None:
    """Touch a claim file until told to stop."""
    while not stop.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
