"""The summary of a sweep: sweep.csv, sweep.md and a figure of the varied settings against the score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from normtables.records import Store
from normtables.report import csv_text, put
from normtables.report.figure import images, plain_style
from normtables.report.runs import but_seeds, leaves

RATE = "optim.lr"


def summarise(runs: Sequence[str], store: Store, folder: Path) -> Path:
    """Write the summary of these runs into `folder`; the path of its sweep.md."""
    frame = frame_of(runs, store)
    varied = [str(key) for key in frame if not is_outcome(str(key)) and frame[key].dropna().map(str).nunique() > 1]
    frame = frame[["id", "status", *varied, "score", "best", "last", "seconds"]]
    files: dict[str, str | bytes] = {"sweep.csv": csv_text(frame), "sweep.md": page(frame, varied)}
    if frame["best"].notna().any():
        with plain_style():
            files |= images(figure(frame, varied))
    put(folder, files)
    return folder / "sweep.md"


def is_outcome(key: str) -> bool:
    """Whether a column of `frame_of` is something other than a setting."""
    return key in ("id", "status", "reason", "score", "best", "last", "seconds") or key == "seeds.data"


def frame_of(runs: Sequence[str], store: Store) -> pd.DataFrame:
    """One row a run: id, status, settings, name of the score, its best and its last value, seconds."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        record = store.read(run)
        if record is None or not record.score:
            rows.append({"id": run, "status": store.state(run)})
            continue
        name, better = record.score["name"], record.score["better"]
        values = [row[name] for row in store.history(run)] if record.status == "finished" else []
        rows.append(
            {
                "id": run,
                "status": record.status,
                **dict(leaves(record.config)),
                "score": name,
                "best": (min if better == "lower" else max)(values, default=None),
                "last": values[-1] if values else None,
                "seconds": record.facts.get("seconds"),
            }
        )
    return pd.DataFrame(rows).reindex(columns=columns_of(rows))


def columns_of(rows: Sequence[dict]) -> list[str]:
    """All keys in order of appearance, with those that every sweep has."""
    return list(dict.fromkeys([*(key for row in rows for key in row), "score", "best", "last", "seconds"]))


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
