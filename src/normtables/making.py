"""Making a table's missing runs: what they need, whether to go ahead, here or on a cluster, the files that follow."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from normtables.config import MACHINE, Composer
from normtables.data import files
from normtables.errors import UserError
from normtables.places import RESULTS, default_root
from normtables.pool import Event, Job, default_jobs, run_all
from normtables.progress import board, clock, say
from normtables.records import Store
from normtables.report import write
from normtables.report.fresh import kept_fresh
from normtables.report.manifest import announced, wanted
from normtables.slurm import Cluster, cluster, send
from normtables.sweep import grouped
from normtables.tables import collect as tables
from normtables.tables.claims import judge
from normtables.tables.plan import Plan, PlannedRun, missing, running, summary
from normtables.tables.sources import Sources
from normtables.words import grid, parsed, plain

ASK_SECONDS, ASK_BYTES = 3600.0, 1e9  # more than an hour or a gigabyte asks first


def machine_settings(options: Namespace, composer: Composer) -> dict[str, Any]:
    """The settings on a table command: of the machine only, a table's own come from its file."""
    [settings] = grid(options.settings, composer)[:1]
    for key in settings:
        if key == "results":
            raise UserError(f"results={settings[key]}: a table's folder is said with --results {settings[key]}")
        if key.split(".")[0] not in set(MACHINE) - {"seed", "frozen"}:
            raise UserError(f"{key}: a table's settings stand in its file; here, set data.root, runtime.* or tracker")
    return settings | {"results": str(Path(options.results).resolve())}


def needs(frame: pd.DataFrame, size: tuple[int, int], store: Store) -> str:
    """Hours, disk and download size of what is still to be made; `size` is what `space` says."""
    todo = frame[frame["state"].isin(["failed", "interrupted", "missing"])]
    unknown, rough = int(todo["seconds"].isna().sum()), int(todo["rough"].sum())
    text = f"to run: {len(todo)} runs"
    if unknown < len(todo):
        which = f" for {len(todo) - unknown} of them" if unknown else ""
        text += f", {clock(todo['seconds'].sum())} on one worker{which}"
        text += f" ({rough} judged by runs on other data or fits with other settings)" if rough else ""
    text += f", {unknown} of unknown length (`plan --measure` estimates)" if unknown else ""
    loads, kept = size
    text += f"; {len(todo) * run_bytes(store) / 1e6:.1f} MB of records; {loads / 1e6:.0f} MB to download"
    return text + (f"; up to {kept / 1e9:.1f} GB kept in the data root's .cache" if kept else "")


def files_of(runs: Iterable[PlannedRun]) -> list[tuple[str, str]]:
    """The data sets, and weights, with their parts, that runs read."""
    known = [run.facts for run in runs]
    wanted = {need for facts in known for need in files.needs(facts["dataset"])}
    models = [facts["model"] for facts in known]
    return sorted(wanted | {(f"{m['name']}_weights", "") for m in models if m.get("weights") == "imagenet"})


def check_files(runs: Iterable[PlannedRun], root: Path) -> None:
    """UserError where runs need files that are not there, before the first one is made."""
    problems: dict[str, str] = {}
    for name, part in files_of(runs):
        if (found := files.source(name)) and part not in found.embedded:
            try:
                files.locate(name, root, part)
            except files.FilesError as problem:
                problems.setdefault(name, str(problem))
    if problems:
        first, *others = problems
        more = f", and likewise {', '.join(others)}" if others else ""
        raise UserError(f"{problems[first]}{more}; nothing was run (--row and --column choose what has its data)")


def space(found: Plan) -> tuple[int, int]:
    """Bytes that a plan's data sets still load, as far as the default data root tells, and may keep in its .cache."""
    wanted = files_of(found.runs.values())
    loads = {name: size for name, part in wanted if (size := files.download_bytes(name, default_root(), part))}
    kept = sum(map(files.kept_bytes, {name for name, _ in wanted}))
    return sum(loads.values()), kept  # the parts of a family come in one download


def run_bytes(store: Store) -> float:
    """The mean size of the newest runs' folders in bytes, 20 kB where there is none."""
    sizes = [sum(p.stat().st_size for p in store.folder(run).iterdir()) for run in store.ids()[:20]]
    return sum(sizes) / len(sizes) if sizes else 20_000.0


def launcher(options: Namespace) -> Cluster | None:
    """The cluster that --launcher and launcher.* name, None for this machine; takes launcher.* off the settings."""
    ours = [word for word in options.settings if word.startswith("launcher.")]
    options.settings = [word for word in options.settings if word not in ours]
    if options.launcher == "local":
        if ours:
            raise UserError(f"{ours[0]}: only with --launcher slurm")
        return None
    return cluster({o.key_or_group: plain(o.value()) for o in parsed(ours)})


def write_table(found: Plan, store: Store, folder: Path) -> pd.DataFrame:
    """Collect a table, judge it and write its files; the claims."""
    sources = Sources(found, store)
    claims = judge(sources, tables.samples(sources))
    write(sources, tables.collect(sources), claims, tables.readings(sources), folder)
    return claims


def make_missing(
    found: Plan,
    options: Namespace,
    settings: dict[str, Any],
    composer: Composer,
    store: Store,
    rewrite: Callable[[], object],
    asked: Cluster | None,
) -> list[tuple[str, str]]:
    """Make the runs of a plan that are not there, calling `rewrite` now and then, or send them to a cluster.

    What another process is making is waited for here, and left to itself on a cluster.
    Gives (id, reason) of each that failed here.
    """
    todo = missing(found, store) + ([] if asked else running(found, store))
    workers = default_jobs() if options.jobs is None else options.jobs
    if workers < 1:
        raise UserError(f"--jobs {workers} (JOBS={workers}): at least 1 worker process")
    if not todo:
        return []
    frame = summary(found, store)
    count = f"{len(todo)} of {len(found.runs)} runs to make on {'Slurm' if asked else f'{workers} workers'}"
    say(f"Table {found.spec.table}, tier {found.tier}: {count}")
    if not asked:
        check_files(todo, Path(composer.config(settings).data.root))
        store.prepare()
    size = space(found)
    confirm(frame["seconds"].fillna(1.0).sum() / workers, sum(size), needs(frame, size, store), options.yes)
    group = (f"{found.spec.label} {found.tier}", f"table {found.spec.table}", f"tier {found.tier}")
    configs = {run.id: grouped(composer.config({**run.settings, **settings}), *group) for run in todo}
    if asked:
        sent = Path(settings["results"]) / "slurm" / f"{found.spec.label}_{found.tier}"
        send(configs, dict(zip(frame["id"], frame["seconds"])), asked, sent)
        return []
    jobs = [Job(run, OmegaConf.to_yaml(cfg, resolve=True)) for run, cfg in configs.items()]
    words = ["normtables", "table", options.table, "--tier", found.tier, "--run", *options.settings]
    words += [word for key in ("row", "column") for name in vars(options)[key] for word in (f"--{key}", name)]
    words += ["--results", options.results] if options.results != str(RESULTS) else []
    place = Path(options.results) / "sweeps" / f"{found.spec.label}_{found.tier}"
    with (
        announced(place, shlex.join(words), workers, wanted(frame)) as sweep,
        kept_fresh(rewrite),
        board(len(jobs)) as shown,
    ):

        def tell(event: Event) -> None:
            sweep.tell(event)
            shown.tell(event)

        run_all(jobs, workers, tell)
    return shown.failures


def confirm(seconds: float, size: float, text: str, yes: bool) -> None:
    """Ask before more than an hour or a gigabyte; raises UserError where nobody says yes."""
    if yes or (seconds <= ASK_SECONDS and size <= ASK_BYTES):
        return
    if not sys.stdin.isatty():
        raise UserError(f"{text}: that is more than an hour or a gigabyte; say --yes (make: YES=1) to go ahead")
    if input(f"{text}. Go ahead? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was run")
