"""Measures store, planner and dashboard at scale: 10,000 records into pandas, their states, a plan of 1,000 runs, the
dashboard's data of them, and its page in a Chromium where there is one.

Prints a markdown table; asserts nothing. The records are synthetic, in a temporary folder.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import Row, command_times, interleaved, row, show
from normtables.config import Composer, facts, id_of, plain
from normtables.records import Record, Store
from normtables.report.runs import runs_index
from normtables.report.site import Site, serve
from normtables.tables.plan import plan, summary
from normtables.tables.spec import load, table_files

SETTINGS = {"norm": "dbn", "optim": "adagrad", "optim.lr": 0.01, "budget": "30epochs"}
TABLE = """table: bench
title: ten alphas, many seeds
source: none
kind: reconstruction
runnable: true
fixed: {{norm: dbn, optim: adagrad, optim.lr: 0.01, budget: 30epochs}}
tiers:
  laptop: {{repeat: {{seed: {seeds}}}}}
rows: {rows}
columns:
  digits: {{set: {{dataset: digits, model: mlp}}, score: test/error, read: last, better: lower}}
"""


def known_settings(runs: int) -> Iterator[dict[str, Any]]:
    """What `runs` runs compute: ten alphas by many seeds, as in the table above."""
    base = facts(Composer().config(SETTINGS))
    for number in range(runs):
        known: dict[str, Any] = json.loads(json.dumps(base))
        known["norm"]["alpha"] = plain((number % 10) / 10)
        known["seeds"] |= {"weights": number // 10, "order": number // 10}
        yield known


def write_records(root: Path, runs: int) -> None:
    """Records as `Store.write` leaves them, without waiting for the disk each time."""
    store = Store(root)
    score = {"name": "test/error", "better": "lower", "chance": 90.0}
    final = {"train/loss": 0.1, "valid/loss": 0.2, "valid/error": 3.0, "test/loss": 0.2, "test/error": 3.1}
    made = {"parameters": 12345, "steps": 330, "seconds": 1.5, "steps_per_second": 220.0, "device": "cpu", "threads": 1}
    made |= {"commit": "0" * 40, "dirty": False, "compile": False, "versions": {"python": "3.11", "torch": "2.15"}}
    for known in known_settings(runs):
        record = Record(id_of(known), "finished", "", known, score, final, made)
        folder = store.folder(record.id)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")


def seen(site: Site) -> str:
    """data.js as it is now, though it was asked for a moment ago."""
    site.due = 0.0
    return site.data_js()


@contextmanager
def browser() -> Iterator[Any]:
    """A page of a Chromium without a window, None where there is none or no playwright."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium.new_page(viewport={"width": 1280, "height": 800})
        chromium.close()


DRAWN = "() => new Promise(done => requestAnimationFrame(() => done(performance.now() / 1000)))"
FILTERED = """words => {
    const [field, began] = [document.getElementById("where"), performance.now()];
    field.value = words;
    field.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();  // what is to be drawn is laid out by now
    return performance.now() - began;
}"""


def page_rows(site: Site, records: int, rounds: int) -> Iterator[Row]:
    """The page in a browser, its seconds and milliseconds by the browser's own clock; nothing without one."""
    with serve(site, 0) as server, browser() as page:
        if page is None:
            return
        threading.Thread(target=server.serve_forever, daemon=True).start()
        drawn, filtered = [], []
        for number in range(rounds + 1):  # the first warms up
            page.goto("about:blank")
            page.goto(server.url)
            page.wait_for_selector("#tables tbody tr")
            drawn.append(page.evaluate(DRAWN))
            loaded = page.evaluate("typeof Plotly") != "undefined"
            page.goto(f"{server.url}#/compare")
            page.wait_for_selector("#where")
            filtered.append(page.evaluate(FILTERED, f"norm.alpha=0.{number % 10} seeds.weights>=0"))
        server.shutdown()
    detail = "from an empty page; plotly.js loaded" if loaded else "from an empty page; plotly.js not loaded"
    yield row(f"Overview of {records:,} runs drawn in Chromium", "under 2 s", drawn[1:], ".2f", "s", detail)
    yield row(f"a filter over {records:,} runs in Chromium", "under 200 ms", filtered[1:], ".0f", "ms")


def dashboard_rows(full: Path, records: int, rounds: int) -> Iterator[Row]:
    """The data of the dashboard and its page."""
    tables = table_files()
    site, newest = Site(full, tables), Store(full).folder(Store(full).ids()[0]) / "record.json"

    def after_a_record() -> None:
        os.utime(newest)
        seen(site)

    calls = {
        "first": lambda: seen(Site(full, tables)),
        "again": after_a_record,
        "same": lambda: seen(site),
    }
    times = interleaved(calls, rounds)
    size = f"{len(site.data_js()) / 1e6:.1f} MB"
    yield row(f"dashboard's data of {records:,} runs, read anew", "", times["first"], ".2f", "s", size)
    yield row("the same after one record changed", "", times["again"], ".2f", "s")
    yield row("the same where nothing changed", "", times["same"], ".3f", "s")
    yield from page_rows(site, records, rounds)


def write_table(path: Path, runs: int) -> None:
    """A table file of ten rows whose plan has `runs` runs, the first of the records among them."""
    rows = {str(alpha): {"set": {"norm.alpha": alpha / 10}} for alpha in range(10)}
    path.write_text(TABLE.format(seeds=list(range(runs // 10)), rows=json.dumps(rows)))


def measured(folder: Path, records: int, runs: int, rounds: int) -> Iterator[Row]:
    """The rows of the table."""
    full, empty, table = folder / "full", folder / "empty", folder / "bench.yaml"
    write_records(full, records)
    write_table(table, runs)
    store = Store(full)
    ids = store.ids()

    def planned(root: Path) -> None:
        summary(plan(load(table), "laptop", Composer()), Store(root))

    calls = {
        "records": lambda: runs_index(store),
        "states": lambda: [store.state(run) for run in ids],
        "plan": lambda: planned(empty),
        "plan, full": lambda: planned(full),
    }
    times = interleaved(calls, rounds)
    yield row(f"{records:,} records into pandas", "at most 2 s", times["records"], ".2f", "s")
    yield row(f"states of {records:,} runs", "", times["states"], ".2f", "s")
    yield row(f"planning {runs:,} runs", "at most 2 s", times["plan"], ".2f", "s")
    yield row(
        f"planning {runs:,} runs, {records:,} records there",
        "",
        times["plan, full"],
        ".2f",
        "s",
        "reads them to estimate hours",
    )
    command = ["-m", "normtables", "plan", str(table), "--results", str(empty), "--json"]
    yield row(
        f"`normtables plan FILE --json`, {runs:,} runs",
        "at most 2 s",
        command_times(command, rounds),
        ".2f",
        "s",
        "start included",
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few records: shows that it works, the numbers mean nothing"
    )
    records, runs, rounds = (50, 20, 1) if parser.parse_args().quick else (10_000, 1_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measured(Path(folder), records, runs, rounds))
        rows += dashboard_rows(Path(folder) / "full", records, rounds)
    show("Store, planner and dashboard", rows)


if __name__ == "__main__":
    main()
