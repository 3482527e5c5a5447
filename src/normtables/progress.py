"""A progress line for a sweep and for each run: live in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET = 10.0  # seconds between two plain lines about one run


class Board:
    """Shows the events of a pool or of one run; `ended` counts the runs by status."""

    def __init__(self, total: int, bars: Progress | None) -> None:
        self.total, self.bars = total, bars
        self.ended: dict[str, int] = {}
        self.failures: list[tuple[str, str]] = []
        self.began = time.monotonic()
        self.spoken: dict[str, float] = {}
        self.held: set[str] = set()
        self.tasks: dict[str, TaskID] = {}
        self.sweep = bars.add_task(f"{total} runs", total=total) if bars and total > 1 else None

    def tell(self, event: tuple[Any, ...]) -> None:
        """Take one event of `pool.run_all`."""
        if event[0] == "row":
            self.row(*event[1:])
        elif event[0] == "held":
            self.hold(*event[1:])
        else:
            self.end(*event[1:])

    def row(self, run: str, step: int, steps: int, row: dict[str, float]) -> None:
        """A run has a new history row."""
        text = f"{run} {100 * step / steps if steps else 100:3.0f}%  {scores(row)}"
        if self.bars:
            if run not in self.tasks:
                self.tasks[run] = self.bars.add_task(text, total=steps)
            self.bars.update(self.tasks[run], completed=step, description=text)
        elif time.monotonic() - self.spoken.get(run, self.began) >= QUIET:
            self.spoken[run] = time.monotonic()
            say(f"  {text}")

    def hold(self, run: str) -> None:
        """Another process is at a run; that is said once."""
        if run not in self.held and not self.bars:
            say(f"  {run} is being computed by another process, whose record will do")
        self.held.add(run)

    def end(self, run: str, status: str, reason: str, final: dict[str, float], seconds: float) -> None:
        """A run has ended."""
        self.ended[status] = self.ended.get(status, 0) + 1
        done = sum(self.ended.values())
        if status == "failed":
            self.failures.append((run, reason))
        if self.bars:
            if run in self.tasks:
                self.bars.remove_task(self.tasks.pop(run))
            if self.sweep is not None:
                self.bars.update(self.sweep, completed=done)
        else:
            spent = time.monotonic() - self.began
            left = (
                f"about {clock(spent / done * (self.total - done))} left"
                if done < self.total
                else f"{clock(spent)} in all"
            )
            say(f"[{done}/{self.total}] {run} {status} {reason or scores(final)} ({seconds:.1f} s); {left}")


def scores(row: dict[str, float]) -> str:
    """The metrics of a row in one line."""
    return "  ".join(f"{key} {value:.4g}" for key, value in row.items() if "/" in key)


def clock(seconds: float) -> str:
    """A span of time for a reader."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
        if seconds < 864_000
        else f"{seconds / 86_400:.0f} days"
    )


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


@contextmanager
def board(total: int) -> Iterator[Board]:
    """A board for so many runs: bars where the output is a terminal, lines where it is not."""
    if not sys.stdout.isatty():
        yield Board(total, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console()) as bars:
        yield Board(total, bars)
