"""What the commands other than `run` do: plan, table, runs, compare, report, publish, errata, data. No torch."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from normtables.config import MACHINE, Composer
from normtables.data import fetching, files
from normtables.errors import UserError, lookup
from normtables.places import EXPERIMENTS, default_root
from normtables.pool import Job, default_jobs, run_all
from normtables.progress import board, clock, say
from normtables.records import Record, Store, write_whole
from normtables.report import csv_text, errata, errata_markdown, put, runs_index, write
from normtables.report.book import book
from normtables.slurm import Cluster, cluster, send
from normtables.sweep import grid, grouped, parsed, plain
from normtables.tables import collect as tables
from normtables.tables.claims import changed_verdicts, judge
from normtables.tables.plan import Plan, missing, plan, summary
from normtables.tables.searches import searches
from normtables.tables.spec import TableSpec, load
from normtables.trackers.publish import publish

ASK_SECONDS, ASK_BYTES = 3600.0, 1e9  # more than an hour or a gigabyte asks first


def planned(options: Namespace, composer: Composer) -> Plan:
    """The plan that --tier and the table's number or file name."""
    return plan(load(options.table), options.tier, composer)


def machine_settings(options: Namespace, composer: Composer) -> dict[str, Any]:
    """The settings on a table command: of the machine only, a table's own come from its file."""
    [settings] = grid(options.settings, composer)[:1]
    for key in settings:
        if key.split(".")[0] not in (set(MACHINE) | {"tracker"}) - {"seed", "frozen"}:
            raise UserError(f"{key}: a table's settings stand in its file; here, set data.root, runtime.* or tracker")
    return settings | {"results": str(Path(options.results).resolve())}


def plan_command(options: Namespace) -> int:
    """List a table's runs by state, with what the missing ones need."""
    composer, store = Composer(options.conf_dir), Store(options.results)
    if options.stale:
        return list_stale(composer, store)
    if options.table is None:
        raise UserError("plan needs a table, 1 to 11 or a file of your own, or --stale")
    if options.measure is not None and (options.measure < 1 or options.json):
        raise UserError(f"--measure {options.measure}: at least 1 run, and without --json")
    found = planned(options, composer)
    frame = summary(found, store)
    if options.json:
        say(frame.to_json(orient="records", indent=1))
        return 0
    say(f"Table {found.spec.table}, tier {found.tier}: {len(found.cells)} cells, {len(frame)} runs")
    for state, part in frame.groupby("state", sort=False):
        say(f"  {state}: {len(part)}")
    for run in frame.to_dict("records") if options.measure is None else []:
        axes = ", ".join(f"{key}={value}" for key, value in run["axes"].items())
        place = [" ".join(run["rows"]), "/".join(run["columns"]), " | ".join(run["readings"]), axes]
        say(f"{run['id']}  {run['state']:<11}  {'; '.join(filter(None, place))}")
    for line in searches(found):
        say(line)
    say(needs(frame, space(found), store))
    if options.measure is not None:
        from normtables.forecast import forecast  # it trains, and loads torch for that

        for line in forecast(missing(found, store), options.measure, machine_settings(options, composer), composer):
            say(line)
    return 0


def list_stale(composer: Composer, store: Store) -> int:
    """List the runs whose method, model, data set or task has another version by now."""
    outdated = [(record.id, why) for record in store.records() for why in stale(record, composer)]
    for name, why in outdated:
        say(f"{name}  {why}")
    say(f"{len(dict(outdated))} runs of an older version; a table makes them anew under a new id")
    return 0


def stale(record: Record, composer: Composer) -> Iterator[str]:
    """Which named parts of a record are of another version than the configuration has now."""
    parts: dict[str, Any] = {group: record.config[group] for group in ("model", "norm", "dataset")}
    parts["task"] = parts["dataset"]["task"]
    for group, part in parts.items():
        now = composer.version(group, part["name"])
        if now != part["version"]:
            yield f"{group} {part['name']} is of version {part['version']}, now {now or 'gone'}"


def needs(frame: pd.DataFrame, size: tuple[int, int], store: Store) -> str:
    """Hours, disk and download size of what is still to be made; `size` is what `space` says."""
    todo = frame[frame["state"].isin(["failed", "interrupted", "missing"])]
    unknown, rough = int(todo["seconds"].isna().sum()), int(todo["rough"].sum())
    text = f"to run: {len(todo)} runs"
    if unknown < len(todo):
        text += f", {clock(todo['seconds'].sum())} on one worker"
        text += f" ({rough} of them estimated from runs of another size)" if rough else ""
    text += f", {unknown} of them of unknown length (`plan --measure` estimates)" if unknown else ""
    loads, kept = size
    text += f"; {len(todo) * run_bytes(store) / 1e6:.1f} MB of records; {loads / 1e6:.0f} MB to download"
    return text + (f"; up to {kept / 1e9:.1f} GB kept in the data root's .cache" if kept else "")


def space(found: Plan) -> tuple[int, int]:
    """Bytes that a plan's data sets still load, as far as the default data root tells, and may keep in its .cache."""
    used = [run.facts["dataset"] for run in found.runs.values()]
    wanted = {need for settings in used for need in files.needs(settings)}
    models = [run.facts["model"] for run in found.runs.values()]
    wanted |= {(f"{model['name']}_weights", "") for model in models if model.get("weights") == "imagenet"}
    loads = {name: size for name, part in sorted(wanted) if (size := files.download_bytes(name, default_root(), part))}
    kept = sum(map(files.kept_bytes, {name for name, _ in wanted}))
    return sum(loads.values()), kept  # the parts of a family come in one download


def run_bytes(store: Store) -> float:
    """The mean size of the newest runs' folders in bytes, 20 kB where there is none."""
    sizes = [sum(p.stat().st_size for p in store.folder(run).iterdir()) for run in store.ids()[:20]]
    return sum(sizes) / len(sizes) if sizes else 20_000.0


def table_command(options: Namespace) -> int:
    """Collect a table from its records, judge and draw it; with --run make what is missing first. 1: runs failed."""
    composer, store = Composer(options.conf_dir), Store(options.results)
    asked = launcher(options)
    settings = machine_settings(options, composer)
    found = planned(options, composer)
    failures = make_missing(found, options, settings, composer, store, asked) if options.run else []
    folder = Path(options.results) / found.tier / file_name(found)
    old = folder / "claims.csv"
    before = pd.read_csv(old, dtype=str, keep_default_na=False) if old.exists() else None
    claims = judge(found, tables.samples(found, store), store)
    write(found, tables.collect(found, store), claims, tables.readings(found, store), store, folder)
    write_whole(Path(options.results) / "runs.csv", csv_text(runs_index(store)))
    for change in changed_verdicts(before, claims) if before is not None else []:
        say(f"verdict changed: {change}")
    for claim in claims.itertuples():
        say(f"{claim.claim} {claim.verdict}: {claim.says} ({claim.evidence})")
    say(f"written: {folder / 'table.md'}")
    for run, reason in failures:
        say(f"failed: {run}: {reason}")
    return 1 if failures else 0


def launcher(options: Namespace) -> Cluster | None:
    """The cluster that --launcher and launcher.* name, None for this machine; takes launcher.* off the settings."""
    ours = [word for word in options.settings if word.startswith("launcher.")]
    options.settings = [word for word in options.settings if word not in ours]
    if options.launcher == "local":
        if ours:
            raise UserError(f"{ours[0]}: only with --launcher slurm")
        return None
    return cluster({o.key_or_group: plain(o.value()) for o in parsed(ours)})


def file_name(found: Plan) -> str:
    """table_03, or the name in a user's own file."""
    number = found.spec.table
    return f"table_{number:02}" if isinstance(number, int) else str(number)


def make_missing(
    found: Plan, options: Namespace, settings: dict[str, Any], composer: Composer, store: Store, asked: Cluster | None
) -> list[tuple[str, str]]:
    """Make the runs of a plan that are not there, or send them to a cluster; (id, reason) of each that failed here."""
    todo = missing(found, store)
    workers = default_jobs() if options.jobs is None else options.jobs
    if workers < 1:
        raise UserError(f"--jobs {workers} (JOBS={workers}): at least 1 worker process")
    if not todo:
        return []
    frame = summary(found, store)
    place = "Slurm" if asked else f"{workers} workers"
    count = f"{len(todo)} of {len(found.runs)} runs to make on {place}"
    say(f"Table {found.spec.table}, tier {found.tier}: {count}")
    size = space(found)
    confirm(frame["seconds"].fillna(1.0).sum() / workers, sum(size), needs(frame, size, store), options.yes)
    group = (f"{file_name(found)} {found.tier}", f"table {found.spec.table}", f"tier {found.tier}")
    configs = {run.id: grouped(composer.config({**run.settings, **settings}), *group) for run in todo}
    if asked:
        folder = Path(settings["results"]) / "slurm" / f"{file_name(found)}_{found.tier}"
        send(configs, dict(zip(frame["id"], frame["seconds"])), asked, folder)
        return []
    jobs = [Job(run, OmegaConf.to_yaml(cfg, resolve=True)) for run, cfg in configs.items()]
    with board(len(jobs)) as shown:
        run_all(jobs, workers, shown.tell)
    return shown.failures


def confirm(seconds: float, size: float, text: str, yes: bool) -> None:
    """Ask before more than an hour or a gigabyte; raises UserError where nobody says yes."""
    if yes or (seconds <= ASK_SECONDS and size <= ASK_BYTES):
        return
    if not sys.stdin.isatty():
        raise UserError(f"{text}: that is more than an hour or a gigabyte; say --yes (make: YES=1) to go ahead")
    if input(f"{text}. Go ahead? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was run")


def runs_command(options: Namespace) -> int:
    """List the runs of a store, those that satisfy every --where."""
    frame = chosen(runs_index(Store(options.results)), options.where)
    if options.json:
        say(frame.to_json(orient="records", indent=1))
    else:
        shown = ["id", "status", "model.name", "norm.name", "dataset.name", "optim.lr", "seeds.weights", "score"]
        say(frame.reindex(columns=shown).to_string(index=False, na_rep="") if len(frame) else "no runs")
    return 0


def chosen(frame: pd.DataFrame, conditions: list[str]) -> pd.DataFrame:
    """The rows of the index that satisfy every KEY=VALUE."""
    for condition in conditions:
        key, _, value = condition.partition("=")
        if key not in frame:
            lookup({name: name for name in frame.columns}, key, "column of runs.csv")
        frame = frame[frame[key].map(spelled) == value]
    return frame


def publish_command(options: Namespace) -> int:
    """Send records to a tracker, those that satisfy every --where and were not sent before."""
    store, composer = Store(options.results), Composer()
    settings = machine_settings(options, composer)
    tracker: Any = OmegaConf.to_container(composer.config({"tracker": "wandb", **settings}).tracker)
    ids = [str(run) for run in chosen(runs_index(store), options.where)["id"]]
    records = (record for run in ids if (record := store.read(run)))
    sent, known = publish(store, records, tracker, groups(Path(options.results)))
    say(f"{sent} runs sent, {known} were sent before; see {store.root / 'wandb'} for those that wait for `wandb sync`")
    return 0


def groups(results: Path) -> dict[str, str]:
    """Run to the first table and tier whose provenance names it, as in `table_03 laptop`."""
    found: dict[str, str] = {}
    for path in sorted(results.glob("*/table_*/provenance.json")):
        ids = [run for part in json.loads(path.read_text())["runs"] for run in part["ids"]]
        found = {**dict.fromkeys(ids, f"{path.parent.name} {path.parent.parent.name}"), **found}
    return found


def spelled(value: Any) -> str:
    """A value as a user writes it: integral numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def compare_command(options: Namespace) -> int:
    """Show the settings in which runs differ and their final scores, side by side."""
    store = Store(options.results)
    frame = runs_index(store).set_index("id")
    for run in options.runs:
        lookup({name: name for name in frame.index}, run, "run")
    part = frame.loc[options.runs].dropna(axis=1, how="all").T
    differs = part.map(str).nunique(axis=1) > 1
    say(part[differs].to_string(na_rep=""))
    return 0


def tables_here() -> list[TableSpec]:
    """The project's own tables."""
    return [load(path) for path in sorted(EXPERIMENTS.glob("table_*.yaml"))]


def report_command(options: Namespace) -> int:
    """Put all collected tables into one document."""
    results = Path(options.results)
    for path in put(results / "report", book(results, tables_here())):
        say(f"written: {path}")
    return 0


def errata_command(options: Namespace) -> int:
    """List every cell where the survey and its source differ."""
    specs = tables_here()
    say(errata(specs).to_json(orient="records", indent=1) if options.json else errata_markdown(specs))
    return 0


def data_command(options: Namespace) -> int:
    """List the data sets, or fetch one."""
    root = Path(options.root).expanduser() if options.root else default_root()
    if options.action == "fetch":
        for name in options.names:
            fetching.fetch(name, root)
            say(f"{name}: {files.state(name, root)}")
        return 0
    listing = files.listing(root)
    if options.json:
        say(json.dumps(listing, indent=1))
        return 0
    say(f"data root: {root}")
    wide = max(len(found["name"]) for found in listing)
    for found in listing:
        place = found["where"] if found["state"] in ("present", "embedded") else found["how"]
        say(f"{found['name']:<{wide}}  {found['state']:<8} {found['bytes'] / 1e6:9.1f} MB  {place}")
    return 0
