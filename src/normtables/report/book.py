"""All tables in one document, markdown and LaTeX: every number with its tier, claims, departures, misprints."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from normtables.errors import UserError
from normtables.places import TIERS
from normtables.report import written
from normtables.report.misprints import MEANING, errata_markdown, found, printed
from normtables.report.text import latex
from normtables.tables.spec import TableSpec

SHOWN = [tier for tier in reversed(TIERS) if tier != "smoke"]  # the numbers of smoke mean nothing
FOLDER = "report"
TITLE = "The tables of a survey of batch normalization, reproduced"
OPENING = (
    "Every table stands here at each tier that was collected: paper, the source's data and protocol; short, real data "
    "and reduced budgets; laptop, embedded data in minutes. What a tier changes stands among its departures."
)
HEAD = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx,longtable,array}
\setlength{\LTleft}{0pt}
\newsavebox{\whole}
\begin{document}
"""
FITTED = {  # no tabular is wider than the page
    r"\begin{table}": r"\begin{table}[!ht]",
    r"\begin{tabular}": r"\begin{lrbox}{\whole}\begin{tabular}",
    r"\end{tabular}": r"\end{tabular}\end{lrbox}"
    r"\ifdim\wd\whole>\linewidth\resizebox{\linewidth}{!}{\usebox{\whole}}\else\usebox{\whole}\fi",
}
WIDTHS = (0.06, 0.34, 0.13, 0.35)  # of the columns of claims, in shares of a line


def book(results: Path, specs: Sequence[TableSpec]) -> dict[str, str | bytes]:
    """report.md and report.tex, which lie in results/report/ and show the figures of the tables beside it.

    Raises UserError where no table was collected yet.
    """
    parts = [(spec, folder) for spec in specs for tier in SHOWN if (folder := collected(results, spec, tier))]
    if not parts:
        raise UserError(
            f"{results} has no table of the project's own at tier {', '.join(SHOWN)} yet: make one first, "
            "for instance make reproduce-table-3"
        )
    return {"report.md": in_markdown(parts, specs), "report.tex": in_latex(parts, specs)}


def collected(results: Path, spec: TableSpec, tier: str) -> Path | None:
    """The folder of a table at a tier, where it was collected."""
    folder = results / tier / spec.label
    return folder if (folder / "table.md").exists() else None


def in_markdown(parts: Sequence[tuple[TableSpec, Path]], specs: Sequence[TableSpec]) -> str:
    """The pages of all tables, their headings one deeper, then where survey and sources differ."""
    pages = [deeper(moved(written.text(folder / "table.md"), folder)) for _, folder in parts]
    return "\n".join([f"# {TITLE}\n\n{OPENING}\n", *pages, deeper(errata_markdown(specs))])


def deeper(page: str) -> str:
    """A page with its headings one deeper."""
    return re.sub(r"^#", "##", page, flags=re.MULTILINE)


def moved(page: str, folder: Path) -> str:
    """A page with its figures as seen from results/report/."""
    return re.sub(r"\]\(([\w.]+)\)", rf"](../{folder.parent.name}/{folder.name}/\1)", page)


def in_latex(parts: Sequence[tuple[TableSpec, Path]], specs: Sequence[TableSpec]) -> str:
    """A document that pdflatex takes: table, figures, claims and departures of each, then where survey and sources
    differ."""
    lines = [HEAD, rf"\title{{{latex(TITLE)}}}\date{{}}\maketitle", latex(OPENING)]
    for spec, folder in parts:
        lines += section(spec, folder)
    lines += differences(specs)
    return "\n".join([*lines, r"\end{document}", ""])


def section(spec: TableSpec, folder: Path) -> Iterator[str]:
    """One table at one tier."""
    tier = folder.parent.name
    yield rf"\clearpage\section*{{Table {spec.table}, tier {tier}: {latex(spec.title)}}}"
    yield rf"Source: {latex(spec.source)}. {latex(f'A {spec.kind}.')}"
    table = written.text(folder / "table.tex")
    for plain, fitted in FITTED.items():
        table = table.replace(plain, fitted)
    yield table
    for path in sorted(folder.glob("*.png")):
        where = f"../{tier}/{folder.name}/{path.name}"
        yield rf"\noindent\includegraphics[width=\linewidth,height=0.9\textheight,keepaspectratio]{{{where}}}\par"
    claims = written.claims(folder / "claims.csv")
    if len(claims):
        yield r"\subsection*{Claims}"
        yield from longtable(["", "says", "verdict", "evidence"], WIDTHS, cells(claims))
    if departures := [d.says for d in spec.departures if not d.tiers or tier in d.tiers]:
        yield r"\subsection*{Departures from the source}"
        yield "\n".join([r"\begin{itemize}", *(rf"\item {latex(says)}" for says in departures), r"\end{itemize}"])


def cells(claims: pd.DataFrame) -> list[list[str]]:
    """What is printed of claims."""
    return claims[["claim", "says", "verdict", "evidence"]].values.tolist()


def differences(specs: Sequence[TableSpec]) -> Iterator[str]:
    """The cells where the survey prints another number than its source, by how surely that is known."""
    yield r"\clearpage\section*{Where the survey and its sources differ}"
    for name, meaning in MEANING.items():
        yield rf"\subsection*{{{latex(f'{name.capitalize()}: {meaning}')}}}"
        rows = [printed(e) for e in found(specs) if e.certainty == name]
        heads = ["table", "row", "column", "survey", "source", "note"]
        yield from longtable(heads, (0.06, 0.18, 0.2, 0.08, 0.08, 0.3), rows) if rows else ["None."]


def longtable(heads: Sequence[str], widths: Sequence[float], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table over several pages, columns of these shares of a line."""
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}\linewidth}}" for width in widths)
    yield rf"{{\footnotesize\setlength{{\tabcolsep}}{{3pt}}\begin{{longtable}}{{{columns}}}"
    yield r"\toprule " + " & ".join(map(latex, heads)) + r" \\ \midrule \endhead"
    yield from (" & ".join(map(latex, row)) + r" \\" for row in rows)
    yield r"\bottomrule \end{longtable}}"
