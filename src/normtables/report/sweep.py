"""The summary of a sweep: sweep.csv, sweep.md and a figure of the varied settings against the score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from normtables.records import Store
from normtables.report import csv_text, put
from normtables.report.figure import images, plain_style
from normtables.report.runs import but_seeds, leaves

RATE = "optim.lr"
OUTCOME = ("score", "best", "last", "seconds")


def summarise(runs: Mapping[str, Mapping[str, Any]], store: Store, folder: Path) -> Path:
    """Write the summary of these runs, each with its values where they differ, into `folder`; the path of sweep.md."""
    varied = list(dict.fromkeys(key for place in runs.values() for key in place))
    frame = frame_of(runs, store).reindex(columns=["id", "status", *varied, *OUTCOME])
    files: dict[str, str | bytes] = {"sweep.csv": csv_text(frame), "sweep.md": page(frame, varied)}
    if frame["best"].notna().any():
        with plain_style():
            files |= images(figure(frame, varied))
    put(folder, files)
    return folder / "sweep.md"


def frame_of(runs: Mapping[str, Mapping[str, Any]], store: Store) -> pd.DataFrame:
    """One row a run: id, status, its values, name of the score, its best and its last value, seconds."""
    rows: list[dict[str, Any]] = []
    for run, place in runs.items():
        record = store.read(run)
        known = dict(leaves(record.config)) if record else {}  # what interpolates has its value there
        values = {key: known.get(key, value) for key, value in place.items()}
        status = record.status if record and record.score else store.state(run)
        rows.append({"id": run, "status": status, **{key: hashable(value) for key, value in values.items()}})
        if record is None or not record.score:
            continue
        name, better = record.score["name"], record.score["better"]
        scores = [row[name] for row in store.history(run)] if record.status == "finished" else []
        best = (min if better == "lower" else max)(scores, default=None)
        last = scores[-1] if scores else None
        rows[-1] |= dict(zip(OUTCOME, (name, best, last, record.facts.get("seconds"))))
    return pd.DataFrame(rows)


def hashable(value: Any) -> Any:
    """A value as it is grouped by: lists and mappings as text."""
    return str(value) if isinstance(value, (list, dict)) else value


def page(frame: pd.DataFrame, varied: Sequence[str]) -> str:
    """Mean, sd and n of the best and the last score by the varied settings; no mean over survivors."""
    keys = but_seeds(varied)
    lines = [f"# Sweep of {len(frame)} runs", "", f"Score: {', '.join(sorted(set(frame['score'].dropna())))}", ""]
    table = []
    for point, part in frame.groupby(keys, dropna=False, sort=False) if keys else [((), frame)]:
        whole = (part["status"] == "finished").all()
        row = dict(zip(keys, point if isinstance(point, tuple) else (point,)))
        for name in ("best", "last"):
            row[f"{name} mean"] = part[name].mean() if whole else float("nan")
            row[f"{name} sd"] = part[name].std() if whole else float("nan")
        states = part["status"].value_counts()
        row["n"] = f"{len(part)}" if whole else ", ".join(f"{n} {state}" for state, n in states.items())
        table.append(row)
    text = pd.DataFrame(table).to_markdown(index=False, floatfmt=".4g", missingval="")
    return "\n".join([*lines, str(text), ""])


def figure(frame: pd.DataFrame, varied: Sequence[str]) -> Figure:
    """The best score over the learning rate where it varies, over the groups of settings otherwise; a line a method."""
    keys = but_seeds(varied)
    x = RATE if RATE in keys else (keys[-1] if keys else "id")
    rest = [key for key in keys if key != x]
    drawn = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawn.subplots()
    parts = frame.groupby(rest, dropna=False, sort=False) if rest else [((), frame)]
    for point, part in parts:
        label = ", ".join(str(value) for value in (point if isinstance(point, tuple) else (point,)))
        spread = part.groupby(x, sort=x == RATE)["best"].agg(["mean", "std"])
        places = spread.index if x == RATE else spread.index.map(str)
        axes.errorbar(places, spread["mean"], spread["std"].fillna(0), marker="o", capsize=3, label=label or None)
    if x == RATE:
        axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(f"best {' '.join(sorted(set(frame['score'].dropna())))} (mean and sd)")
    if rest:
        axes.legend(title=", ".join(rest), fontsize="small")
    return drawn
