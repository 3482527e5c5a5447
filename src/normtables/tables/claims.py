"""The judge: what the runs of a table say about each of its claims, one verdict per claim and column."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from normtables.tables import stats
from normtables.tables.ranking import FEWEST_SETS
from normtables.tables.sources import Sources
from normtables.tables.spec import TableSpec
from normtables.tables.statements import Claim
from normtables.tables.trials import ENOUGH, SLACK, Key, Sample, Trials, chances, ranks, trials_of
from normtables.tables.wording import chance_of, decimals, number

SUPPORTED, CONTRADICTED, UNDECIDED, FEW, MISSING = (
    "supported",
    "contradicted",
    "undecided",
    "too few runs",
    "missing",
)
COLUMNS = ["table", "tier", "claim", "kind", "says", "verdict", "evidence", "n"]
LEVEL = 0.05
REACHING = 2 / 3  # share of a baseline's runs that must reach the goal


@dataclass(frozen=True)
class Part:
    """One test inside a claim: its difference, whether that is as large as asked, whether its interval rules it out."""

    label: str
    found: stats.Difference
    enough: bool
    refuted: bool


@dataclass(frozen=True)
class Finding:
    """What was found on a claim in a column; without a verdict its parts decide, once all p-values are known."""

    claim: Claim
    column: str
    n: int
    parts: tuple[Part, ...] = ()
    verdict: str = ""
    evidence: str = ""

    @property
    def p(self) -> float:
        """The claim holds only where every part does, so its p-value is the largest (intersection-union test)."""
        return max((part.found.p for part in self.parts), default=math.nan)


def judge(sources: Sources, samples: Mapping[Key, Sequence[Sample]]) -> pd.DataFrame:
    """Judge the claims of a planned table on the samples of its cells (`collect.samples`), one row a verdict."""
    return judged(sources.plan.spec, sources.plan.tier, samples, dict(chances(sources)), dict(ranks(sources)))


def judged(
    spec: TableSpec,
    tier: str,
    samples: Mapping[Key, Sequence[Sample]],
    chances: Mapping[Key, float],
    ranks: Mapping[Key, Sequence[float]],
) -> pd.DataFrame:
    """Judge every claim in each of its columns that the tier has, with Holm's correction over the table's verdicts.

    `samples` holds every planned run of a cell, `chances` the score of a guess where the column reads that score,
    `ranks` those on each data set where the column ranks.
    """
    cells = {
        key: trials_of(spec, key, found, chances.get(key, math.nan), ranks.get(key, ()))
        for key, found in samples.items()
    }
    findings = [
        examine(spec, tier, claim, column, cells)
        for claim in spec.claims
        for column in claim.columns
        if tier in spec.columns[column].tiers
    ]
    adjusted = iter(stats.holm([f.p for f in findings if f.parts]))
    lines = [line(spec, tier, f, next(adjusted) if f.parts else math.nan) for f in findings]
    return pd.DataFrame(lines, columns=COLUMNS)


def examine(spec: TableSpec, tier: str, claim: Claim, column: str, cells: Mapping[Key, Trials]) -> Finding:
    """What can be said about a claim in a column before the p-values are corrected."""
    pairs, involved = compared(claim, column, cells)
    n = min((cell.n for cell in involved), default=0)
    blocked = obstacle(claim, pairs, involved) or weak_baseline(spec, tier, column, cells)
    if blocked:
        return Finding(claim, column, n, (), *blocked)
    if claim.kind == "fails":
        return Finding(claim, column, n, (), *failing(spec, claim, involved))
    parts = tuple(compare(claim, *pair) for pair in pairs)
    return Finding(claim, column, n, parts)


def compared(claim: Claim, column: str, cells: Mapping[Key, Trials]) -> tuple[Sequence[Sequence[Trials]], list[Trials]]:
    """The groups of cells that a claim compares, and all cells involved; rows that are not planned are left out."""
    rows = [cells[row, column] for row in claim.rows if (row, column) in cells]
    if claim.kind == "equal" and not claim.than_column:
        return list(itertools.combinations(rows, 2)), rows
    if claim.kind == "order":
        return list(itertools.pairwise(rows)), rows
    if claim.kind in ("constant", "fails"):
        return [(cell,) for cell in rows], rows
    others = [(claim.than or cell.row, claim.than_column.get(column, column)) for cell in rows]
    found = [(cell, cells[key]) for cell, key in zip(rows, others) if key in cells]
    return found, list(dict.fromkeys(itertools.chain.from_iterable(found)))


def obstacle(claim: Claim, pairs: Sequence[object], involved: Sequence[Trials]) -> tuple[str, str] | None:
    """Why a claim cannot be judged: (verdict, evidence) for runs that are missing, too few, diverged or failed."""
    if not pairs:
        return MISSING, "the rows it compares are not planned here"
    absent = [cell for cell in involved if cell.ended < len(cell.statuses)]
    if absent:
        total = sum(len(cell.statuses) for cell in involved)
        left = total - sum(cell.ended for cell in involved)
        return MISSING, f"{left} of {total} runs not done, of {listed(repr(cell.row) for cell in absent)}"
    few = [cell for cell in involved if not cell.enough]
    if few:
        least = f"{FEWEST_SETS} data sets" if few[0].ranks else f"{ENOUGH} runs a cell"
        return FEW, f"{min(cell.n for cell in few)} of at least {least}"
    spoilt = "failed" if claim.kind == "fails" else "diverged"
    bad = [f"{named(cell, claim)}: {broken(cell)}" for cell in involved if cell.count(spoilt, "failed")]
    if bad:
        return UNDECIDED, listed(bad, "; ")
    blank = [cell for cell in involved if any(math.isnan(value) for value in cell.values)]
    return (UNDECIDED, f"no number for every run of {listed(repr(cell.row) for cell in blank)}") if blank else None


def broken(cell: Trials) -> str:
    """`1 of 3 diverged`, for each way in which runs of a cell went wrong."""
    total = len(cell.statuses)
    return ", ".join(f"{cell.count(way)} of {total} {way}" for way in ("diverged", "failed") if cell.count(way))


def weak_baseline(spec: TableSpec, tier: str, column: str, cells: Mapping[Key, Trials]) -> tuple[str, str] | None:
    """`too few runs` where the tier names a baseline that hardly learns in this column (decisions.md, tiers)."""
    cell = cells.get((spec.tiers[tier].baseline, column))
    if cell is None or not cell.ended:
        return None
    if spec.columns[column].read.kind == "first":
        reached = cell.count("finished")
        if reached < REACHING * len(cell.statuses) - SLACK:
            return FEW, f"the baseline '{cell.row}' reached its goal in {reached} of {len(cell.statuses)} runs"
    elif not math.isnan(cell.chance) and not cell.beats_chance():
        return FEW, f"the baseline '{cell.row}' does not clearly beat chance ({against_chance(spec, cell)})"
    return None


def compare(claim: Claim, cell: Trials, other: Trials | None = None) -> Part:
    """The test of one cell, or of one against another, that a kind of claim asks for; ranks come in pairs."""
    contrast = stats.paired if cell.ranks else stats.welch
    where = f"over {len(cell.ranks)} data sets " if cell.ranks else ""
    if claim.kind == "constant" or other is None:
        found = stats.equals(cell.values, claim.equals, claim.within)
        label = f"{named(cell, claim)} less {claim.equals:g} is"
    elif claim.kind == "equal":
        found = stats.within(*contrast(cell.compared, other.compared), claim.within)
        label = f"{where}{named(cell, claim)} less {named(other, claim)} is"
    else:
        found = stats.above(*contrast([claim.times * gain for gain in cell.gains], other.gains))
        times = "" if claim.times == 1 else f"{claim.times:g} times "
        label = f"{where}{times}{named(cell, claim)} beats {named(other, claim)} by"
        return Part(label, found, found.value >= claim.by - SLACK, found.high < claim.by - SLACK)
    return Part(label, found, True, found.low > claim.within + SLACK or found.high < -claim.within - SLACK)


def failing(spec: TableSpec, claim: Claim, cells: Sequence[Trials]) -> tuple[str, str]:
    """Verdict and evidence of a `fails` claim; a diverged run has failed to learn whichever way is asked about."""
    judged = [(cell, diverges(cell) if claim.how == "diverges" else at_chance(cell)) for cell in cells]
    verdicts = {verdict for _, verdict in judged}
    verdict = next(v for v in (CONTRADICTED, UNDECIDED, SUPPORTED) if v in verdicts)
    texts = [failure(spec, claim, cell) for cell, found in judged if found == verdict]
    return verdict, listed(texts, "; ")


def diverges(cell: Trials) -> str:
    """Supported where every run diverged, contradicted where none did."""
    return {len(cell.statuses): SUPPORTED, 0: CONTRADICTED}.get(cell.count("diverged"), UNDECIDED)


def at_chance(cell: Trials) -> str:
    """Supported where what finished is not clearly better than chance, contradicted where it is."""
    if not cell.values:
        return SUPPORTED
    if math.isnan(cell.chance) or len(cell.values) == 1:
        return UNDECIDED
    return CONTRADICTED if cell.beats_chance() else SUPPORTED


def failure(spec: TableSpec, claim: Claim, cell: Trials) -> str:
    """What became of a cell that a `fails` claim is about."""
    total = len(cell.statuses)
    diverged = f"{cell.count('diverged')} of {total} diverged"
    if claim.how == "diverges" or not cell.values:
        return f"'{cell.row}': {diverged}"
    text = f"'{cell.row}': {against_chance(spec, cell)}"
    return f"{text}, {diverged}" if cell.count("diverged") else text


def against_chance(spec: TableSpec, cell: Trials) -> str:
    """`12.31 ± 0.20 against chance 88.65`."""
    found, digits = stats.summary(cell.values), decimals(spec, cell.column)
    spread = "" if math.isnan(found.sd) else f" ± {number(found.sd, digits)}"
    guess = "an unknown chance" if math.isnan(cell.chance) else f"chance {number(cell.chance, digits)}"
    return f"{number(found.mean, digits)}{spread} against {guess}"


def line(spec: TableSpec, tier: str, found: Finding, adjusted: float) -> dict[str, object]:
    """A row of claims.csv."""
    verdict, evidence = found.verdict, found.evidence
    if found.parts:
        verdict = decide(found.parts, adjusted)
        evidence = reasons(found, verdict, adjusted, decimals(spec, found.column))
    claim = found.claim
    planned = [row for row in claim.rows if row in spec.planned_rows(found.column, tier)]
    if verdict != MISSING and len(planned) < len(claim.rows):
        evidence = f"{len(planned)} of its {len(claim.rows)} rows are run here; {evidence}"
    says = f"{claim.says} [{found.column}]"
    return dict(zip(COLUMNS, (spec.table, tier, claim.id, claim.kind, says, verdict, evidence, found.n)))


def decide(parts: Sequence[Part], adjusted: float) -> str:
    """Contradicted where any part is ruled out, supported where all are large enough and significant."""
    if any(part.refuted for part in parts):
        return CONTRADICTED
    return SUPPORTED if adjusted < LEVEL and all(part.enough for part in parts) else UNDECIDED


def reasons(found: Finding, verdict: str, adjusted: float, digits: int) -> str:
    """The part that decides, in numbers: the weakest one, or the one that contradicts most."""
    against = [part for part in found.parts if part.refuted]
    part = max(against or found.parts, key=lambda part: (not part.enough, part.found.p, -part.found.value))
    value, low, high = (number(v, digits) for v in (part.found.value, part.found.low, part.found.high))
    text = f"{part.label} {value} [{low}, {high}]"
    if verdict == CONTRADICTED:
        return f"{len(against)} of {len(found.parts)} against it: {text}" if len(found.parts) > 1 else text
    lead = f"weakest of {len(found.parts)}: " if len(found.parts) > 1 else ""
    return f"{lead}{text}, adjusted p {chance_of(adjusted)}"


def named(cell: Trials, claim: Claim) -> str:
    """A cell's row, its column where columns are compared, and how many runs reached the goal where not all did."""
    name = f"'{cell.row}' ({cell.column})" if claim.than_column else f"'{cell.row}'"
    reached = f" ({cell.count('finished')} of {len(cell.statuses)} reached)" if cell.count("censored") else ""
    return f"{name}{reached}"


def listed(names: Iterable[str], comma: str = ", ") -> str:
    """Up to three names, and how many more."""
    unique = list(dict.fromkeys(names))
    more = f"{comma}{len(unique) - 3} more" if len(unique) > 3 else ""
    return comma.join(unique[:3]) + more


def changed_verdicts(old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """One line for each claim whose verdict differs from the one on file; claims that are new or gone are no change."""
    return list(differing(verdicts(old), verdicts(new)))


def verdicts(frame: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """(table, tier, claim, column) to verdict."""
    columns = [says.rpartition(" [")[2] for says in frame["says"]]
    keys = zip(frame["table"].astype(str), frame["tier"], frame["claim"].astype(str), columns)
    return dict(zip(keys, frame["verdict"]))


def differing(old: Mapping[tuple[str, ...], str], new: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """The lines of `changed_verdicts`."""
    for key, verdict in new.items():
        if old.get(key, verdict) != verdict:
            table, tier, claim, column = key
            yield f"table {table}, {tier}, claim {claim} [{column}: {old[key]} -> {verdict}"
