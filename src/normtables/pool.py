"""A pool of worker processes on one machine: each run in one worker, a dead worker costs its run only."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from normtables.errors import UserError
from normtables.records import Held

Event = tuple[Any, ...]
# row: run, step, steps, newest history row · ended: run, status, reason, final scores, seconds
# held: run, which another sweep is making at this moment; it comes again behind all others
PAUSE = 1.0  # seconds before a worker that met a held run takes the next


@dataclass(frozen=True)
class Job:
    """A run to make: its id and its whole configuration as YAML, frozen when it was planned."""

    run: str
    yaml: str


def gpus() -> list[str]:
    """The CUDA devices that this process may use, by the names CUDA_VISIBLE_DEVICES takes; asks no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]


def default_jobs() -> int:
    """One worker a GPU, or one a core where there is none."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(gpus()) or (len(affinity(0)) if affinity else os.cpu_count() or 1)


def work(connection: Connection) -> None:
    """A worker: make runs as their configurations arrive, send what happens, end at None or when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    from omegaconf import OmegaConf

    from normtables.training.ledger import Failed
    from normtables.training.run import execute

    def heard(act: Callable[..., Any], *event: Any) -> Any:
        try:
            return act(*event)
        except (EOFError, OSError):  # the parent was killed: the next call continues the run, which did not fail
            sys.exit(1)

    def tell(*event: Any) -> None:
        heard(connection.send, event)

    for job in iter(partial(heard, connection.recv), None):
        try:
            record = execute(OmegaConf.create(job.yaml), partial(tell, "row"))
            ended = (record.status, record.reason, record.final, record.facts.get("seconds", 0.0))
        except Held:
            time.sleep(PAUSE)
            tell("held", job.run)
            continue
        except (Failed, UserError) as error:
            ended = ("failed", str(error), {}, 0.0)
        tell("ended", job.run, *ended)


class Worker:
    """A worker process, the pipe to it and the job it is at."""

    def __init__(self, gpu: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.job: Job | None = None
        self.process: BaseProcess = context.Process(target=work, args=(theirs,), daemon=True)
        with environment(OMP_NUM_THREADS="1", **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})):
            self.process.start()
        theirs.close()

    def give(self, jobs: deque[Job]) -> bool:
        """Send the next job; False where none is left."""
        self.job = jobs.popleft() if jobs else None
        with suppress(OSError):  # a worker that died idle: its pipe tells at the next look
            self.connection.send(self.job)
        return self.job is not None

    def events(self) -> Iterator[Event]:
        """What the worker has to say; the death of its process ends its job as failed."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            if self.job:
                yield ("ended", self.job.run, "failed", f"its process died ({died(self.process.exitcode)})", {}, 0.0)
            yield ("dead",)


def died(code: int | None) -> str:
    """An exit code in words."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for what is started in this scope."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def run_all(jobs: Iterable[Job], workers: int, tell: Callable[[Event], None]) -> None:
    """Make all runs with so many workers at once and `tell` every event as it comes.

    A run that another process is at waits for that process: its record is read then, or the run goes on here.
    Raises UserError for fewer than one worker; KeyboardInterrupt ends the workers, whose runs go on from their
    checkpoints at the next call.
    """
    if workers < 1:
        raise UserError(f"--jobs {workers} (JOBS={workers}): at least 1 worker process")
    left = deque(jobs)
    names = gpus()
    pool = {i: Worker(names[i % len(names)] if names else "") for i in range(min(workers, len(left)))}
    try:
        for worker in pool.values():
            worker.give(left)
        while pool:
            wait([worker.connection for worker in pool.values()])
            for i, worker in list(pool.items()):
                serve(pool, i, worker, left, names, tell)
    finally:
        for worker in pool.values():
            worker.process.terminate()
        for worker in pool.values():
            worker.process.join()


def serve(
    pool: dict[int, Worker], i: int, worker: Worker, left: deque[Job], names: list[str], tell: Callable[[Event], None]
) -> None:
    """Pass on a worker's events; give it its next job, dismiss it, or put another in a dead one's place."""
    for event in worker.events():
        if event[0] == "dead":
            del pool[i]
            if left:
                pool[i] = Worker(names[i % len(names)] if names else "")
                pool[i].give(left)
            return
        tell(event)
        if event[0] == "row":
            continue
        if event[0] == "held" and worker.job:
            left.append(worker.job)
        worker.job = None  # should the process die now, that run is not the worse for it
        if worker.process.is_alive() and not worker.give(left):
            worker.process.join()
            del pool[i]
            return
