"""Checks what becomes of a sweep when things go wrong: its processes are killed, another sweep makes the same runs, the
disk is full, whoever held a run is dead.

Every disturbed sweep must end with the records of an undisturbed one, byte for byte but for times. Prints a markdown
table; the exit status is 1 where something is not as it should be. The runs are short, on embedded data, in a temporary
folder. `scripts/bench_store.py` times 10,000 records.
"""

import contextlib
import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import options
from normtables.records import DONE, STALE, Store, alive

TABLE = """table: reliability
title: short runs
source: none
kind: reconstruction
runnable: true
fixed: {{dataset: digits, model: mlp, model.widths: [16], model.dropout: 0.2, optim: adam, optim.lr: 0.01,
  batch_size: 20, budget: {steps}steps, evaluate: 50steps}}
tiers: {{smoke: {{repeat: {{seed: {seeds}}}}}}}
rows: {{BN: {{set: {{norm: bn}}}}, LN: {{set: {{norm: ln}}}}}}
columns: {{error: {{tiers: [smoke], set: {{}}, score: test/error, read: last, better: lower}}}}
"""
JOBS = 4  # worker processes of a sweep
CALLER = 0.1  # share of the kills that hit the command itself, not the process that makes a run
POLL = 0.02  # seconds between two looks at what a sweep has written
TIMES = re.compile(r'("(?:seconds|steps_per_second)": )[-+.e0-9]+')
KEPT = {"config.yaml", "history.csv", "record.json"}  # files of a run that are compared
SPARE = {"checkpoint.pt", "claim"}  # may stay where a process was killed behind its record: nobody reads them again
FULL = "No space left on device"
DISK = "3m"  # size of the small disk


@dataclass(frozen=True)
class Finding:
    """A line of the printed table."""

    what: str
    found: str
    good: bool


class Sweep:
    """One sweep of the table's runs, as often as it is called, in a folder of results of its own."""

    def __init__(self, table: Path, results: Path) -> None:
        self.table, self.results, self.log = table, results, table.with_name(f"{results.name}.log")
        self.store = Store(results)

    def start(self) -> "subprocess.Popen[bytes]":
        """Call it; what it says goes to the log."""
        words = ["table", str(self.table), "--run", "--tier", "smoke", "--jobs", str(JOBS), "--yes"]
        words += ["--results", str(self.results), "runtime.checkpoint=0"]
        with self.log.open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "normtables", *words], stdout=log, stderr=log)

    def finish(self) -> int:
        """Call it and wait; its exit status."""
        return self.start().wait()

    def trainers(self) -> list[int]:
        """The processes that have written a row or a checkpoint of the run that they hold at this moment."""
        found = []
        for path in self.results.glob("runs/*/claim"):
            with contextlib.suppress(OSError, ValueError):
                if alive(path) and path.with_name("history.csv").stat().st_mtime_ns > path.stat().st_mtime_ns:
                    found.append(int(json.loads(path.read_text())["pid"]))
        return found

    def done(self, runs: int) -> bool:
        """Whether so many runs have ended with a result."""
        return sum(self.store.state(run) in DONE for run in self.store.ids()) == runs

    def said(self) -> str:
        """Everything it has said so far."""
        return self.log.read_text(errors="replace")


def content(folder: Path) -> dict[str, str]:
    """The files of a run without its times; what is there beside them has an empty text."""
    found = {path.name: "" for path in folder.iterdir() if path.name not in SPARE}
    for name in KEPT & set(found):
        text = (folder / name).read_bytes().decode()
        if name == "history.csv":
            rows = list(csv.reader(text.splitlines()))
            text = "\n".join(",".join(v for v, head in zip(row, rows[0]) if head != "seconds") for row in rows)
        found[name] = TIMES.sub(r"\1?", text)
    return found


def differences(one: Store, other: Store) -> list[str]:
    """RUN/FILE of everything in which the runs of two stores differ."""
    found = []
    for run in sorted({path.name for store in (one, other) for path in (store.root / "runs").glob("*")}):
        pair = [content(store.folder(run)) if store.folder(run).is_dir() else {} for store in (one, other)]
        found += [f"{run}/{name}" for name in sorted({*pair[0], *pair[1]}) if pair[0].get(name) != pair[1].get(name)]
    return found


def compared(whole: Sweep, sweep: Sweep) -> tuple[str, bool]:
    """What there is to say about a sweep beside the undisturbed one, and whether that is well."""
    found, crashes = differences(whole.store, sweep.store), sweep.said().count("Traceback")
    runs = len(sweep.store.ids())
    text = f"{runs} records, {len(found)} differences{': ' + ', '.join(found[:3]) if found else ''}"
    return text + (f", {crashes} tracebacks" if crashes else ""), not found and not crashes


def killed(whole: Sweep, sweep: Sweep, kills: int) -> Iterator[Finding]:
    """Kill processes at random moments of their runs, and call the sweep again, until all runs are done.

    A process that has only begun is spared: nothing would ever be done, and it has nothing to lose.
    """
    ids, draw, calls = whole.store.ids(), random.Random(0), 0
    struck: dict[int, bool] = {}  # process -> whether it was a caller; a busy machine lets a killed one linger
    spent = sum(record.facts["seconds"] for record in whole.store.records())
    pause = 2 * 0.6 * spent / (kills * JOBS)  # twice the mean, which leaves something to do behind the last kill
    while not sweep.done(len(ids)) and calls < kills + len(ids):
        process = sweep.start()
        calls += 1
        while process.poll() is None:
            if len(struck) < kills and sweep.trainers():
                time.sleep(draw.uniform(0, pause))
                victims = [process.pid] if draw.random() < CALLER else sweep.trainers()
                if (left := [pid for pid in victims if pid not in struck]) and process.poll() is None:
                    strike(draw.choice(left), process.pid, struck)
            time.sleep(POLL)
    spare = Counter(path.name for path in sweep.results.glob("runs/*/*") if path.name in SPARE)
    text, good = compared(whole, sweep)
    what = f"{len(struck)} random SIGKILLs ({sum(struck.values())} of the caller) over {len(ids)} runs, {calls} calls"
    yield Finding(what, text, good and len(struck) == kills)
    yield Finding("left by those killed behind a record", f"{dict(spare) or 'nothing'}".strip("{}"), True)


def strike(pid: int, caller: int, struck: dict[int, bool]) -> None:
    """Kill a process unless it has just ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        struck[pid] = pid == caller


def twice(whole: Sweep, sweep: Sweep) -> Iterator[Finding]:
    """Two calls at once; a computation writes config.yaml anew, which is seen while it lasts."""
    pair, seen = [sweep.start(), sweep.start()], set()
    while any(process.poll() is None for process in pair):
        for path in sweep.results.glob("runs/*/config.yaml"):
            with contextlib.suppress(FileNotFoundError):
                known = path.stat()
                seen.add((path.parent.name, known.st_ino, known.st_mtime_ns))
        time.sleep(POLL)
    often = Counter(run for run, *_ in seen)
    statuses = [process.returncode for process in pair]
    once = sum(count == 1 for count in often.values())
    text, good = compared(whole, sweep)
    found = f"{once} ids computed once, {len(often) - once} more often; exit statuses {statuses}; {text}"
    yield Finding("two sweeps over the same grid at once", found, good and once == len(often) and statuses == [0, 0])


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk in memory of size DISK while the scope lasts."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full(whole: Sweep, sweep: Sweep) -> Iterator[Finding]:
    """Fill the disk while runs are made; make space and call the sweep again."""
    if os.geteuid() != 0:
        yield Finding("a full disk", "skipped: mounting a small disk needs root", True)
        return
    ids = whole.store.ids()
    with small_disk(sweep.results):
        process = sweep.start()
        while process.poll() is None and len(sweep.store.ids()) < len(ids) / 5:
            time.sleep(POLL)
        ballast = sweep.results / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        status, kept = process.wait(), len(sweep.store.ids())
        last = (sweep.said().strip().splitlines() or [""])[-1]
        clear = status in (1, 2) and FULL in last and "Traceback" not in sweep.said()
        yield Finding("a full disk", f"exit status {status} with {kept} records: `{shortened(last, sweep)}`", clear)
        ballast.unlink()
        status = sweep.finish()
        text, good = compared(whole, sweep)
        yield Finding("the same call after space was made", f"exit status {status}; {text}", good and status == 0)


def shortened(line: str, sweep: Sweep) -> str:
    """A line without the temporary folder's name."""
    return line.replace(str(sweep.results.parent), "...")


def dead(whole: Sweep, sweep: Sweep) -> Iterator[Finding]:
    """Claims of a dead process of this host, of a host that is silent too long, and of one that falls silent."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ids, quiet = whole.store.ids(), 10.0
    claims = {
        ids[0]: (socket.gethostname(), ended.pid, 0.0),
        ids[1]: ("elsewhere", 1, STALE + 60),
        ids[2]: ("elsewhere", 1, STALE - quiet),
    }
    now = time.time()
    for run, (host, pid, silent) in claims.items():
        path = sweep.store.folder(run) / "claim"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"host": host, "pid": pid, "started": "1"}))
        os.utime(path, (now - silent, now - silent))
    status = sweep.finish()
    text, good = compared(whole, sweep)
    last = sweep.store.folder(ids[2]) / "record.json"
    waited = last.stat().st_mtime - now if last.exists() else 0.0
    what = f"claims of a dead process, a dead host, and a host that falls silent {quiet:.0f} s before it counts as dead"
    found = f"the last was taken over after {waited:.0f} s; exit status {status}; {text}"
    yield Finding(what, found, good and status == 0 and waited >= quiet)


def main() -> None:
    """Check, and print the table."""
    parts: dict[str, Callable[[Sweep, Sweep], Iterator[Finding]]]
    parts = {"kills": lambda *pair: killed(*pair, kills), "twice": twice, "full": full, "dead": dead}
    asked = options(__doc__, list(parts))
    runs, kills, steps = (4, 3, 400) if asked.quick else (50, 100, 600)
    began, good = time.monotonic(), True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "reliability.yaml"
        table.write_text(TABLE.format(seeds=list(range(runs // 2)), steps=steps))
        whole = Sweep(table, folder / "undisturbed")
        if whole.finish() != 0:
            sys.exit(whole.said())
        print(
            f"{runs} runs of {steps} updates on {JOBS} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        )
        print("| what | came out | as it should be |\n| --- | --- | --- |")
        for part in asked.parts:
            for line in parts[part](whole, Sweep(table, folder / part)):
                print(f"| {line.what} | {line.found} | {'yes' if line.good else '**no**'} |", flush=True)
                good &= line.good
    print(f"\n{time.monotonic() - began:.0f} s in all")
    sys.exit(not good)


if __name__ == "__main__":
    main()
