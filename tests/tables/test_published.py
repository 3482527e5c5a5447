"""The published numbers in the ten table files are those of the survey's list, cell by cell."""

import csv
import math

import pytest

from normtables.tables.spec import load

NUMBERS = range(1, 11)


def listed(shared, number):
    """(row, column) -> survey, original, mark, note, as text."""
    with (shared / "survey" / "published.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == str(number)]
    assert rows
    return {(r["row"], r["column"]): (r["survey"], r["original"], r["original_mark"], r["note"]) for r in rows}


def same(value, text):
    return math.isnan(value) if text == "" else value == float(text)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_listed_cells_are_in_the_file_and_no_others_of_the_survey(shared, number):
    """What is quoted for scale beside them, the survey does not print."""
    cells, expected = load(number).published, set(listed(shared, number))
    assert expected <= set(cells)
    assert all(math.isnan(cells[key].survey) for key in set(cells) - expected)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_cell_is_as_listed(shared, number):
    cells = load(number).published
    for key, (survey, original, mark, note) in listed(shared, number).items():
        cell = cells[key]
        assert same(cell.survey, survey), key
        assert same(cell.original, original), key
        assert (cell.mark, cell.note) == (mark, note), key


@pytest.mark.parametrize("number", NUMBERS)
def test_every_claim_can_be_judged_somewhere(number):
    spec = load(number)
    assert spec.claims
    for claim in spec.claims:
        for column in claim.columns:
            col = spec.columns[column]
            assert any(set(claim.rows) & set(spec.planned_rows(column, tier)) for tier in col.tiers), (claim.id, column)
