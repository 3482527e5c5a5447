"""`normtables run`: command-line words to runs; a grid or a table's runs, frozen, to any Hydra launcher."""

import contextlib
import io
import itertools
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from normtables.config import MACHINE, Composer, facts, id_of, spelled
from normtables.errors import UserError, lookup
from normtables.progress import say
from normtables.records import DONE, Held, Store, write_whole
from normtables.registry import Registry
from normtables.schema import Settings
from normtables.words import Asked, grid, read

NAME = "name"  # of a run in a sweep file or a table, beside its settings
HELD = "is being computed by another process"
PAUSE = 1.0  # seconds between looks at a run that another process is at


class Unfinished(Exception):
    """Some runs failed; the text names each with its reason and the command that makes it again. Exit status 1."""


@dataclass(frozen=True)
class Point:
    """One run that is asked for: its name in a sweep or table, its values on the axes, and all that it sets."""

    name: str
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """A run that is asked for, the facts that name it, and its name and values where the runs differ."""

    config: DictConfig
    known: Mapping[str, Any]
    place: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What to call it: its name, and the settings in which it differs from another, as in `norm=bn, seed=0`."""
        return ", ".join(value if key == NAME else f"{key}={value}" for key, value in self.place.items())


def points(asked: Asked, composer: Composer) -> list[Point]:
    """The runs that are asked for: those of the sweep, each with each point of the grid on top."""
    own = grid(asked.settings, composer)
    if not asked.sweep:
        return [Point("", on, on) for on in own]
    from normtables.tables.spec import table_files

    files = {p.stem: p for folder in reversed(composer.folders) for p in (folder / "sweep").glob("*.yaml")}
    tables = {p.stem: p for p in table_files()}
    path = lookup(tables | files, asked.sweep, "sweep")
    if asked.sweep not in files:
        return with_table(path, own, composer)
    from normtables.tables.grids import load

    found = list(load(path).runs())
    return [Point(name, {**axes, **on}, {**bundle, **axes, **on}) for on in own for name, bundle, axes in found]


def with_table(path: Path, own: Sequence[Mapping[str, Any]], composer: Composer) -> list[Point]:
    """The runs of a table, each with each point of the grid on top; `tier` comes from there, laptop by default."""
    from normtables.report.manifest import label
    from normtables.tables.plan import plan, purpose
    from normtables.tables.spec import load

    spec = load(path)
    tiers = dict.fromkeys(str(on.get("tier", "laptop")) for on in own)
    runs = {tier: plan(spec, tier, composer).runs.values() for tier in tiers}
    return [
        Point(label(purpose(run) | {"axes": {}}), {**run.axes, **on}, {**run.settings, **on})
        for on in own
        for run in runs[str(on.get("tier", "laptop"))]
    ]


def planned(asked: Asked, composer: Composer) -> dict[str, Chosen]:
    """The runs that are asked for by their ids, whole and checked; raises UserError for the first that cannot be."""
    found: dict[str, tuple[DictConfig, Mapping[str, Any], Point]] = {}
    for point in points(asked, composer):
        try:
            cfg = composer.config(point.settings)
        except UserError as error:
            raise UserError(": ".join(filter(None, (asked.sweep, point.name, str(error))))) from error
        cfg = thaw(cfg) if cfg.frozen else cfg
        known = facts(cfg)
        found.setdefault(id_of(known), (cfg, known, point))
    where = places({run: point for run, (_, _, point) in found.items()})
    return {run: Chosen(cfg, known, where[run]) for run, (cfg, known, _) in found.items()}


def places(runs: Mapping[str, Point]) -> dict[str, dict[str, Any]]:
    """Each run's name, where it has one, and its values on the axes on which some differ."""
    values: dict[str, set[str]] = {}
    for key, value in itertools.chain.from_iterable(point.axes.items() for point in runs.values()):
        values.setdefault(key, set()).add(repr(value))
    differ = {key for key, found in values.items() if len(found) > 1}
    return {
        run: ({NAME: point.name} if point.name else {}) | {k: v for k, v in point.axes.items() if k in differ}
        for run, point in runs.items()
    }


def check_types(runs: Iterable[Chosen]) -> None:
    """Raise UserError for the first part of a run that is not there or has an option of a wrong type; loads torch."""
    from normtables.data import DATASETS
    from normtables.models import MODELS
    from normtables.norms import METHODS
    from normtables.optim import OPTIMIZERS, SCHEDULES
    from normtables.tasks import TASKS

    rooms: dict[str, Registry[Any]]
    rooms = {"model": MODELS, "norm": METHODS, "optim": OPTIMIZERS, "schedule": SCHEDULES, "dataset": DATASETS}
    seen: set[str] = set()
    for run in runs:
        parts = [(room, dict(run.known[group])) for group, room in rooms.items()]
        parts.append((TASKS, parts[-1][1].pop("task")))
        for room, settings in parts:
            spelled = json.dumps([room.what, settings], sort_keys=True)
            if spelled not in seen:
                room.checked(settings)
                seen.add(spelled)


def show(runs: Mapping[str, Chosen]) -> None:
    """List the runs with their state and label; nothing is computed or written."""
    store = Store(next(iter(runs.values())).config.results)
    states = {run: store.state(run) for run in runs}
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states.values()).items())
    say(f"{len(runs)} runs: {counts}")
    for run, chosen in runs.items():
        say(f"{run}  {states[run]:<11}  {chosen.label}".rstrip())


def sweep(words: Sequence[str], name: str | None, launcher: Launcher) -> list[str]:
    """Make the runs that the words ask for and are not there yet; write the summary; the ids of all of them.

    Raises Unfinished at the end when runs failed.
    """
    from normtables.report.manifest import Wanted, announced
    from normtables.report.sweep import summarise

    asked = read(words)
    if name and Path(name).name != name:
        raise UserError(f"hydra.sweeper.name={name}: the name of a folder in results/sweeps, without /")
    runs, title = planned(asked, Composer(asked.folders)), name or asked.title
    results = Path(next(iter(runs.values())).config.results)
    store, folder = Store(results), results / "sweeps" / title
    todo = [run for run in runs if store.state(run) not in DONE]
    check_types(runs[run] for run in todo)
    say(f"{len(runs)} runs, {len(runs) - len(todo)} of them done already")
    paths = [freeze(grouped(runs[run].config, title), folder / "configs" / f"{run}.yaml") for run in todo]
    wanted = {run: Wanted(chosen.label) for run, chosen in runs.items()}
    with announced(folder, shlex.join(["normtables", "run", *words]), 0, wanted) as told:
        reasons = made(launcher, dict(zip(todo, paths)), store)
        failed = {run: why for run, why in reasons.items() if store.state(run) not in DONE}
        for run, why in failed.items():
            told.fail(run, why)
    say(f"summary: {summarise({run: chosen.place for run, chosen in runs.items()}, store, folder)}")
    report_failures(failed, folder)
    return list(runs)


def made(launcher: Launcher, paths: Mapping[str, Path], store: Store) -> dict[str, str]:
    """Make the runs of these frozen configurations, and those that another process is at once it has left them.

    Gives how the job of each ended, in a line.
    """
    reasons: dict[str, str] = {}
    while paths:
        reasons |= launched(launcher, paths, store)
        paths = {run: path for run, path in paths.items() if reasons.get(run) == HELD}
        if paths:
            say(f"waiting for another process, which is at {', '.join(paths)}")
        while any(store.state(run) == "running" for run in paths):
            time.sleep(PAUSE)
        paths = {run: path for run, path in paths.items() if store.state(run) not in DONE}
    return reasons


def launched(launcher: Launcher, paths: Mapping[str, Path], store: Store) -> dict[str, str]:
    """Make the runs of these frozen configurations; how the job of each ended, in a line."""
    try:
        outcomes = launcher.launch([[f"frozen={path}"] for path in paths.values()], 0) if paths else []
        return {run: one_line(outcome) for run, outcome in zip(paths, outcomes)}
    except Exception as error:  # a job's process was killed, or the launcher found no place for its jobs
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {run: left(run, store, why) for run in paths}


def left(run: str, store: Store, why: str) -> str:
    """What is known of a run whose launcher gave up."""
    if store.state(run) == "running":
        return "it is still running; the same command collects it later"
    record = store.read(run)
    return record.reason if record else why


def grouped(cfg: DictConfig, group: str, *tags: str) -> DictConfig:
    """A configuration whose tracker, where it knows groups and has none, shows its runs under this one."""
    if cfg.tracker.get("group", "") is None:
        cfg.tracker.group, cfg.tracker.tags = group, [*cfg.tracker.tags, *tags]
    return cfg


def freeze(cfg: DictConfig, path: Path) -> Path:
    """Keep a whole configuration in a file, so that later edits of conf/ do not reach its run."""
    write_whole(path, OmegaConf.to_yaml(cfg, resolve=True))
    return path.resolve()


def thaw(cfg: DictConfig) -> DictConfig:
    """The configuration kept in the file that `frozen` names; raises UserError where it cannot be read.

    The config.yaml in a run's folder says nothing of the machine: paths, device and tracker are those given beside it.
    """
    here = {key: cfg[key] for key in MACHINE if key != "frozen" and not OmegaConf.is_missing(cfg, key)}
    try:
        kept: Any = OmegaConf.load(cfg.frozen)
        for key in ("budget", "evaluate"):
            if isinstance(kept[key], DictConfig):
                kept[key] = spelled(kept[key])
        return OmegaConf.merge(OmegaConf.structured(Settings), here, kept)  # type: ignore[return-value]
    except Exception as error:
        raise UserError(f"frozen={cfg.frozen}: {(str(error).splitlines() or ['cannot be read'])[0]}") from error


def one_line(outcome: Any) -> str:
    """Why a job returned nothing, in a line; Hydra would print another when it is asked."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return f"ended as {outcome.return_value}"
    except Held:
        return HELD
    except BaseException as error:
        return (str(error).splitlines() or [type(error).__name__])[0]


def report_failures(reasons: dict[str, str], folder: Path) -> None:
    """Raise Unfinished when there is any."""
    if reasons:
        words = {run: ["normtables", "run", f"frozen={folder / 'configs' / f'{run}.yaml'}"] for run in reasons}
        lines = [f"{run}: {why}\n  again: {shlex.join(words[run])}" for run, why in reasons.items()]
        raise Unfinished("\n".join([f"{len(reasons)} runs failed:", *lines]))
