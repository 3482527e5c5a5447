"""table.md: the table as people read it, with its claims, findings, departures and where its numbers come from."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from normtables.report.against import lines as against_lines
from normtables.report.curves import lines as curve_lines
from normtables.report.grid import Grid
from normtables.report.learning import Panel
from normtables.report.learning import lines as learning_lines
from normtables.report.misprints import CLASSES, differs
from normtables.report.provenance import Origins
from normtables.report.ranks import lines as rank_lines
from normtables.report.shift import Shift
from normtables.report.shift import lines as shift_lines
from normtables.report.text import markdown, markdown_table
from normtables.tables.plan import Plan
from normtables.tables.ranking import Ranking
from normtables.tables.spec import TableSpec
from normtables.tables.wording import decimals, number, published

MEANS = {
    "reproduction": "A reproduction: its values are set against the published ones.",
    "reconstruction": "A reconstruction: signs, orders and ratios count, not values.",
}
SMOKE = "**Tier smoke: this shows only that everything runs. The numbers mean nothing.**"
CELL = "A cell is survey / source / ours ± standard deviation (runs); – where one of the first two is not known."


def page(
    plan: Plan,
    grid: Grid,
    claims: pd.DataFrame,
    readings: pd.DataFrame,
    origins: Origins,
    rankings: Sequence[Ranking] = (),
    shifts: Sequence[Shift] = (),
    learned: Sequence[Panel] = (),
) -> str:
    """The whole of table.md."""
    sections = {
        "": opening(plan),
        "Table": table_lines(plan, grid),
        "Rows beside their bases": against_lines(plan.spec, grid),
        "Ranks over data sets": rank_lines(rankings),
        "Domains inside the network": shift_lines(shifts),
        "Learning curves": learning_lines(learned, plan.spec.learning),
        "Claims": claim_lines(claims),
        "Readings of the source": reading_lines(plan.spec, readings),
        "Departures from the source": departures(plan.spec, plan.tier),
        "Where survey and source differ": differences(plan.spec, grid.columns),
        "Runs": origins.lines(),
    }
    text = f"# {markdown(grid.title)}\n"
    for title, lines in sections.items():
        body = "\n".join(lines)
        if body:
            text += (f"\n## {title}\n" if title else "") + f"\n{body.rstrip()}\n"
    return text


def opening(plan: Plan) -> Iterator[str]:
    """Source, kind, and a warning where the numbers mean nothing."""
    yield f"Source: {markdown(plan.spec.source)}. {MEANS[plan.spec.kind]}"
    if plan.tier == "smoke":
        yield f"\n{SMOKE}"


def table_lines(plan: Plan, grid: Grid) -> Iterator[str]:
    """The table and the notes under it: how columns are read, what is not run, what other tiers have."""
    spec = plan.spec
    yield f"{CELL}\n"
    yield wide(grid)
    yield "![The numbers of the table with their intervals](figure.png)\n"
    yield from curve_lines(spec, grid)
    for name in grid.columns:
        column = spec.columns[name]
        if column.quoted:
            yield f"- {markdown(name)}: quoted, never run."
            continue
        taken = f", its {column.take}" if column.take not in ("", column.score) else ""
        budget = f"; budget {', '.join(grid.budgets[name])}" if grid.budgets[name] else ""
        yield f"- {markdown(name)}: {column.score} ({column.better} is better), {column.read}{taken}{budget}."
    for name in grid.rows:
        if spec.rows[name].take:
            yield f"- {markdown(name)}: its number is {spec.rows[name].take} of the same runs."
    if grid.waiting():
        yield f"\nCells that wait for runs: {len(grid.waiting())}. `{command(plan)}` makes them."
    others = [f"{markdown(n)} ({', '.join(c.tiers)})" for n, c in spec.columns.items() if n not in grid.columns]
    if others:
        yield f"\nAt other tiers: {', '.join(others)}."


def command(plan: Plan) -> str:
    """What makes the missing runs of a table."""
    if isinstance(plan.spec.table, int):
        return f"make reproduce-table-{plan.spec.table} TIER={plan.tier}"
    return f"normtables table {plan.spec.path.name} --tier {plan.tier} --run"


def wide(grid: Grid) -> str:
    """All lines of the grid as one table."""
    rows = [[label, *(cells[c].text if c in cells else "" for c in grid.columns)] for label, cells in grid.lines()]
    return markdown_table(["", *(grid.heads[c] for c in grid.columns)], rows, right=True)


def claim_lines(claims: pd.DataFrame) -> Iterator[str]:
    """The claims with their verdicts."""
    if len(claims):
        heads = ["claim", "says", "verdict", "evidence", "n"]
        lines = claims[heads].itertuples(index=False, name=None)
        yield markdown_table(heads, [[str(value) for value in line] for line in lines])


def reading_lines(spec: TableSpec, readings: pd.DataFrame) -> Iterator[str]:
    """How close each reading comes to the published rows, by value and by rank, and which one is used and why."""
    tried = spec.readings
    if tried is None or readings.empty:
        return
    digits = decimals(spec, tried.column)
    measures = {
        "mean_abs": ("mean distance", digits),
        "mean_abs_but_worst": ("without the worst row", digits),
        "spearman": ("Spearman", 2),
        "kendall": ("Kendall", 2),
    }
    rows = []
    for _, line in readings.iterrows():
        found = [number(float(line[key]), places) for key, (_, places) in measures.items()]
        label = f"{line['reading']} (the table's)" if line["default"] else str(line["reading"])
        rows.append([label, *found, str(line["status"]), str(line["closest"])])
    heads = ["reading", *(head for head, _ in measures.values()), "runs", "closest by"]
    yield f"Each changes one detail; distances are to the published {markdown(tried.column)}.\n"
    yield markdown_table(heads, rows)
    yield f"The table uses {markdown(tried.default)}: {markdown(tried.because)}.\n"
    names = [name for name in readings.columns if name in spec.rows]
    goal = [spec.published[name, tried.column] for name in names]
    known = ["published", *(published(p.original if p.original == p.original else p.survey, digits) for p in goal)]
    values = [[str(r["reading"]), *(number(float(r[name]), digits) for name in names)] for _, r in readings.iterrows()]
    yield markdown_table(["reading", *names], [known, *values], right=True)


def departures(spec: TableSpec, tier: str) -> Iterator[str]:
    """The departures of a tier, one line each."""
    return (f"- {markdown(d.says)}" for d in spec.departures if not d.tiers or tier in d.tiers)


def differences(spec: TableSpec, columns: Iterable[str]) -> Iterator[str]:
    """Cells of the printed columns in which the survey prints another number than its source."""
    for (row, column), cell in spec.published.items():
        if column in columns and differs(cell):
            digits = decimals(spec, column)
            pair = [published(v, digits) or "none" for v in (cell.survey, cell.original)]
            note = f"; {markdown(cell.note)}" if cell.note else ""
            sure = CLASSES[cell.mark]
            yield f"- {markdown(row)}, {markdown(column)}: survey {pair[0]}, source {pair[1]} ({sure}{note})"
