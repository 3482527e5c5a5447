"""What the commands other than `run` do: plan, table, runs, compare, report, publish, errata, data. No torch."""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import OmegaConf

from normtables.config import Composer
from normtables.data import fetching, files
from normtables.errors import UserError, lookup
from normtables.making import launcher, machine_settings, make_missing, needs, space, write_table
from normtables.places import default_root, expanded
from normtables.progress import say
from normtables.records import Record, Store, write_whole
from normtables.report import csv_text, errata, errata_markdown, put, runs_index, written
from normtables.report.book import book
from normtables.report.manifest import label
from normtables.tables.claims import changed_verdicts
from normtables.tables.plan import Plan, missing, narrowed, plan, summary
from normtables.tables.searches import searches
from normtables.tables.spec import load, table_files
from normtables.trackers.publish import publish

if TYPE_CHECKING:
    from normtables.report.site import Site


def planned(options: Namespace, composer: Composer) -> Plan:
    """The plan that --tier and the table's number or file name."""
    return plan(load(options.table), options.tier, composer)


def plan_command(options: Namespace) -> int:
    """List a table's runs by state, with what the missing ones need."""
    composer, store = Composer(options.conf_dir), Store(options.results)
    machine = machine_settings(options, composer)
    if options.stale:
        return list_stale(composer, store)
    if options.table is None:
        raise UserError("plan needs a table, 1 to 11 or a file of your own, or --stale")
    if options.measure is not None and (options.measure < 1 or options.json):
        raise UserError(f"--measure {options.measure}: at least 1 run, and without --json")
    found = narrowed(planned(options, composer), options.row, options.column)
    frame = summary(found, store)
    if options.json:
        say(frame.to_json(orient="records", indent=1))
        return 0
    say(f"Table {found.spec.table}, tier {found.tier}: {len(found.cells)} cells, {len(frame)} runs")
    for state, part in frame.groupby("state", sort=False):
        say(f"  {state}: {len(part)}")
    for run in frame.to_dict("records") if options.measure is None else []:
        say(f"{run['id']}  {run['state']:<11}  {label(run)}")
    for line in searches(found):
        say(line)
    say(needs(frame, space(found), store))
    if options.measure is not None:
        from normtables.forecast import forecast  # it trains, and loads torch for that

        for line in forecast(missing(found, store), options.measure, machine, composer):
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


def table_command(options: Namespace) -> int:
    """Collect a table from its records, judge and draw it; with --run make what is missing first. 1: runs failed."""
    composer, store = Composer(options.conf_dir), Store(options.results)
    if (options.row or options.column) and not options.run:
        raise UserError("--row and --column choose the runs that --run makes; a table is written whole")
    asked = launcher(options)
    settings = machine_settings(options, composer)
    found = planned(options, composer)
    folder = Path(options.results) / found.tier / found.spec.label
    old = folder / "claims.csv"
    before = verdicts_before(old) if old.exists() else None
    wanted, rewrite = narrowed(found, options.row, options.column), partial(write_table, found, store, folder)
    failures = make_missing(wanted, options, settings, composer, store, rewrite, asked) if options.run else []
    claims = write_table(found, store, folder)
    write_whole(Path(options.results) / "runs.csv", csv_text(runs_index(store)))
    for change in changed_verdicts(before, claims) if before is not None else []:
        say(f"verdict changed: {change}")
    for claim in claims.itertuples():
        say(f"{claim.claim} {claim.verdict}: {claim.says} ({claim.evidence})")
    say(f"written: {folder / 'table.md'}")
    for run, reason in failures:
        say(f"failed: {run}: {reason}")
    return 1 if failures else 0


def verdicts_before(path: Path) -> pd.DataFrame | None:
    """The claims on file; none where they cannot be read, which is no reason not to write them anew."""
    try:
        return written.claims(path)
    except UserError as error:
        say(str(error))
        return None


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
        found = {**dict.fromkeys(written.run_ids(path), f"{path.parent.name} {path.parent.parent.name}"), **found}
    return found


def spelled(value: Any) -> str:
    """A value as a user writes it: integral numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def compare_command(options: Namespace) -> int:
    """Show runs side by side: where they differ, their scores and what they took."""
    from normtables.report import compare

    store = Store(options.results)
    ids = compare.named(store, options.runs)
    if options.where:
        fit = [str(run) for run in chosen(runs_index(store), options.where)["id"]]
        ids = [run for run in ids if run in fit] if ids else fit
    if not ids:
        raise UserError("compare needs runs: ids, or --where KEY=VALUE that some run satisfies")
    found = compare.compare(store, ids, arranged=not options.runs)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    say(json.dumps(compare.as_json(found), indent=1) if options.json else compare.text(found, width))
    return 0


def gathered(options: Namespace, *more: Path) -> "Site":
    """What the page shows of the results and the project's tables, and of `more`."""
    from normtables.report.site import Site

    return Site(Path(options.results), [*table_files(), *more])


def report_command(options: Namespace) -> int:
    """Put all collected tables into one document, and the dashboard's page beside it."""
    from normtables.report import site

    folder = Path(options.results) / "report"
    for path in put(folder, book(folder.parent, [load(path) for path in table_files()])):
        say(f"written: {path}")
    say(f"written: {site.export(gathered(options), folder / 'site')}")
    return 0


def dashboard_command(options: Namespace) -> int:
    """Serve the page until Ctrl-C, or write it into a folder."""
    from normtables.report import site

    shown = gathered(options, *map(Path, options.tables))
    if options.export:
        say(f"written: {site.export(shown, Path(options.export))}")
        return 0
    with site.serve(shown, options.port) as server:
        say(f"the dashboard is at {server.url} until Ctrl-C")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    say("dashboard stopped")
    return 0


def errata_command(options: Namespace) -> int:
    """List every cell where the survey and its source differ."""
    specs = [load(path) for path in table_files()]
    say(errata(specs).to_json(orient="records", indent=1) if options.json else errata_markdown(specs))
    return 0


def data_command(options: Namespace) -> int:
    """List the data sets, or fetch one."""
    root = expanded(options.root) if options.root else default_root()
    if (options.action == "fetch") != bool(options.names):
        raise UserError("data fetch NAME ... loads data sets; data alone lists them")
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
