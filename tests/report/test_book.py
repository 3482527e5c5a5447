"""All committed tables in one document."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from normtables.errors import UserError
from normtables.places import EXPERIMENTS, RESULTS
from normtables.report.book import SHOWN, book
from normtables.tables.spec import load

SPECS = [load(path) for path in sorted(EXPERIMENTS.glob("table_*.yaml"))]
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/table_*/table.md") if path.parent.parent.name in SHOWN)


@pytest.fixture(scope="module")
def whole():
    return book(RESULTS, SPECS)


def test_every_table_stands_there_with_its_tier(whole):
    heads = re.findall(r"^## Table ([0-9]+): .* \(tier (\w+)\)$", whole["report.md"], re.MULTILINE)
    assert sorted((tier, f"table_{int(number):02}") for number, tier in heads) == [
        (folder.parent.name, folder.name) for folder in FOLDERS
    ]
    assert [int(number) for number, _ in heads] == sorted(int(number) for number, _ in heads)
    sections = re.findall(r"section\*\{Table ([0-9]+), tier (\w+):", whole["report.tex"])
    assert sections == heads


def test_no_line_of_a_page_is_lost(whole):
    lines = set(whole["report.md"].splitlines())
    for folder in FOLDERS:
        page = (folder / "table.md").read_text().splitlines()
        plain = {line for line in page if not line.startswith("#") and "](" not in line}
        assert plain <= lines, folder


def test_claims_of_every_table_are_in_both(whole):
    for folder in FOLDERS:
        for claim in pd.read_csv(folder / "claims.csv", dtype=str, keep_default_na=False)["claim"].unique():
            assert f"| {claim} |" in whole["report.md"]
            assert f"\n{claim} & " in whole["report.tex"]


def test_figures_are_found_from_the_report(whole):
    shown = re.findall(r"\]\((\S+)\)", whole["report.md"])
    assert len(shown) >= len(FOLDERS)
    drawn = re.findall(r"includegraphics\[[^]]*\]\{(\S+)\}", whole["report.tex"])
    for path in [*shown, *drawn]:
        assert (RESULTS / "report" / path).resolve().is_file(), path


def test_misprints_stand_at_the_end(whole):
    assert "\n### Established: misprints of the survey" in whole["report.md"]
    assert r"\subsection*{Established: misprints of the survey" in whole["report.tex"]


def test_latex_takes_it(whole, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("needs pdflatex")
    for tier in SHOWN:
        (tmp_path / tier).symlink_to(RESULTS / tier)
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.tex").write_text(whole["report.tex"])
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_without_a_table_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"has no table of .* at tier paper, short, laptop yet: make one first"):
        book(tmp_path, SPECS)
