"""What the dashboard's tests make, serve and read back."""

import csv
import json
import threading
from contextlib import contextmanager
from types import SimpleNamespace

from normtables.places import EXPERIMENTS
from normtables.report.site import serve

PARTS = ("laptop/table_03", "laptop/table_07", "paper/table_03", "short/table_02")
TABLES = [EXPERIMENTS / f"table_{number:02}.yaml" for number in (2, 3, 4, 7)]


def lines_of(path):
    """The lines of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number_of(run):
    """The id of a made-up run."""
    return f"{run:012x}"


def write_history(store, run, rows):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    store.folder(run).mkdir(parents=True, exist_ok=True)
    (store.folder(run) / "history.csv").write_text("\n".join(lines) + "\n")


@contextmanager
def served(gathered):
    """The page of a site, served while the scope lasts; its address."""
    with serve(gathered, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()


def decoded(gathered):
    """What data.js hands to the page, the columns of runs as a value for each id."""
    head, text = gathered.data_js().split(", ", 1)
    data = json.loads(json.loads(text.rstrip(";\n)")))
    runs = data["runs"]
    columns = {
        (column["kind"], column["name"]): dict(zip(runs["ids"], values(column, len(runs["ids"]))))
        for column in runs["columns"]
    }
    return SimpleNamespace(version=json.loads(head.removeprefix("normtables.data(")), **data | {"columns": columns})


def values(column, count):
    if "all" in column:
        return [column["all"]] * count
    return column["every"] if "every" in column else [column["values"][code] for code in column["codes"]]
