"""What the benchmarks share: interleaved timing and a markdown table of what came out."""

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Times = list[float]  # seconds, one for each round


@dataclass(frozen=True)
class Row:
    """One line of the printed table; `aim` is empty where nothing is aimed at."""

    what: str
    aim: str
    measured: str
    spread: str
    detail: str = ""


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Times]:
    """Seconds of every variant in every round, after one call each to warm up; every round has an order of its own."""
    times: dict[str, Times] = {name: [] for name in variants}
    draw = random.Random(0)
    for call in variants.values():
        call()
    for _ in range(rounds):
        for name in draw.sample(list(variants), len(variants)):
            began = clock()
            variants[name]()
            times[name].append(clock() - began)
    return times


def ratios(over: Times, under: Times) -> Times:
    """Round by round, the first over the second: what both met in a round (a busy machine) cancels."""
    return [a / b for a, b in zip(over, under)]


def row(what: str, aim: str, values: Times, form: str, unit: str = "", detail: str = "") -> Row:
    """A row with the median of the values and their quartiles, each written by `form` (".2f")."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Row(
        what, aim, f"{statistics.median(values):{form}} {unit}".strip(), f"{low:{form}} to {high:{form}}", detail
    )


def command_times(words: Sequence[str], rounds: int) -> Times:
    """Wall seconds of a Python command line in new processes; raises RuntimeError with what it said when it fails."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        times.append(time.perf_counter() - began)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return times


def options(about: str | None, parts: Sequence[str], *more: str) -> argparse.Namespace:
    """What the command line asks for: `parts` (all by default), `quick`, and a path for each name in `more`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="shows that it works, the numbers mean nothing")
    for name in more:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write the {name} here too, as CSV")
    found = parser.parse_args()
    if unknown := set(found.parts) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(parts)}")
    found.parts = found.parts or list(parts)
    return found


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the table, with what a reader needs to judge it: processor, Python, load."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}"
    print(f"## {title}\n\n{machine}; medians and quartiles over rounds in which the variants take turns\n")
    print("| what | aim | median | quartiles | detail |\n| --- | --- | --- | --- | --- |")
    for line in rows:
        print(f"| {line.what} | {line.aim} | {line.measured} | {line.spread} | {line.detail} |")
    print(flush=True)
