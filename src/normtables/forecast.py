"""What the runs of a plan will cost, by measuring a few of them: `normtables plan N --measure`."""

import random
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from normtables.config import Composer
from normtables.errors import UserError
from normtables.progress import clock
from normtables.tables import sampling
from normtables.tables.plan import PlannedRun
from normtables.training import measured
from normtables.training.measured import Cost, Size

Rows = dict[str, dict[str, Size]]  # row, run
SEED = 0


def forecast(todo: Sequence[PlannedRun], count: int, machine: Mapping[str, Any], composer: Composer) -> Iterator[str]:
    """Measure about `count` of the runs to make and tell the time of all, line by line; no result is kept."""
    rows, skipped = sized(todo, Path(composer.config(machine).data.root))
    draw = random.Random(SEED)
    counts = sampling.allotted({row: len(sizes) for row, sizes in rows.items()}, count)
    chosen = {row: sampling.drawn(works(sizes), counts[row], draw) for row, sizes in rows.items()}
    wanted = {run for runs in chosen.values() for run in runs}
    yield f"measuring {len(wanted)} of {len(todo)} runs; of each row the slowest, the median and the fastest measured"
    costs = measure([run for run in todo if run.id in wanted], machine, composer)
    parts = []
    for row, sizes in rows.items():
        whole = {run: seconds(sizes[run], costs[run]) for run in chosen[row]}
        parts.append(sampling.total(works(sizes), chosen[row], whole))
        yield f"{row}: {len(sizes)} runs, {rates(sizes, chosen[row], costs)}; {clock(parts[-1].value)}"
    for why, runs in skipped.items():
        yield f"not counted, {runs} runs: {why}"
    value, low, high = sampling.interval(parts)
    span = f"95 % interval {clock(low)} to {clock(high)}"
    yield f"{sum(map(len, rows.values()))} runs: about {clock(value)} on one undisturbed worker ({span})"


def sized(todo: Sequence[PlannedRun], root: Path) -> tuple[Rows, Counter[str]]:
    """The sizes of the runs by row and id, and how many cannot be measured for each reason; a run that serves several
    rows counts in the first."""
    sizes, rows, skipped = measured.Sizes(root), Rows(), Counter[str]()
    for run in todo:
        row = run.cells[0][0] if run.cells else run.readings[0][1]
        try:
            rows.setdefault(row, {})[run.id] = sizes.of(run.facts)
        except UserError as error:
            skipped[str(error)] += 1
    return {row: found for row, found in rows.items() if found}, skipped


def works(sizes: Mapping[str, Size]) -> dict[str, float]:
    """The guessed costs of runs."""
    return {run: size.work for run, size in sizes.items()}


def measure(runs: Sequence[PlannedRun], machine: Mapping[str, Any], composer: Composer) -> dict[str, Cost]:
    """What each of these runs costs, those on the same data one after the other."""
    costs = {}
    with TemporaryDirectory() as folder:
        for run in sorted(runs, key=lambda run: str(run.facts["dataset"])):
            cfg = composer.config({**run.settings, **machine, "results": folder})
            costs[run.id] = measured.cost(cfg, Path(folder))
    return costs


def seconds(size: Size, cost: Cost) -> float:
    """The time of a whole run: its updates, or its fit, and its evaluations."""
    return max(1, size.updates) * cost.update + size.evaluations * cost.evaluation


def rates(sizes: Mapping[str, Size], chosen: Sequence[str], costs: Mapping[str, Cost]) -> str:
    """The speed of the measured runs of a row: the least, the median and the most."""
    what = "updates" if any(sizes[run].updates for run in chosen) else "fits"
    found = [1 / costs[run].update for run in chosen]
    shown = [f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in (min(found), statistics.median(found), max(found))]
    return f"{len(set(chosen))} measured at {' / '.join(shown)} {what} a second"
