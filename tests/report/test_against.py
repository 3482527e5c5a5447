"""Rows beside their bases: what is drawn and told of a made-up grid whose differences are known."""

import math
from types import SimpleNamespace

import pytest

from normtables.report import against
from normtables.report.grid import Grid, Shown
from normtables.tables.statements import UNPUBLISHED, Published

NAN = math.nan
OURS = {  # row, column -> mean and 95 % interval
    ("plain", "A"): (60.0, 58.0, 62.0),
    ("BN", "A"): (75.5, 71.5, 80.5),
    ("LN", "A"): (59.0, NAN, NAN),
    ("plain", "B"): (40.0, 39.0, 41.0),
    ("BN", "B"): (NAN, NAN, NAN),
    ("LN", "B"): (44.0, 43.0, 45.0),
    ("BN", "C"): (1.0, 1.0, 1.0),
    ("GN", "A"): (NAN, NAN, NAN),
}
PUBLISHED = {
    ("plain", "A"): Published(61, 61, "verified"),
    ("BN", "A"): Published(68.5, 96, "secondary"),
    ("plain", "Z"): Published(10, NAN, "unknown"),  # nobody read the source
    ("LN", "Z"): Published(12.5, NAN, "unknown"),
    ("GN", "A"): Published(70, 71, "verified"),
}


@pytest.fixture
def spec():
    stands = {"A": "", "B": "Z", "C": ""}
    return SimpleNamespace(
        against={"BN": "plain", "LN": "plain", "GN": "plain"},
        columns={name: SimpleNamespace(stand_in=other) for name, other in stands.items()},
        printed=lambda row, column: PUBLISHED.get((row, column), UNPUBLISHED),
    )


@pytest.fixture
def grid():
    cells = {key: Shown(NAN, NAN, m, 1.0, low, high, 3, "", False, NAN, 1) for key, (m, low, high) in OURS.items()}
    heads = {"A": "A", "B": "B (stand-in for Z)", "C": "C"}
    return Grid("a title", ("plain", "BN", "LN", "GN"), ("A", "B", "C"), heads, {}, cells, {})


def test_columns_and_rows_with_two_numbers_of_ours(spec, grid):
    """C lacks the base, GN has no number anywhere."""
    first, second = against.panels(spec, grid)
    assert (first.title, second.title) == ("A", "B (stand-in for Z)")
    assert first.rows == second.rows == ["BN on plain", "LN on plain"]
    assert first.steps[against.OURS] == [
        against.Step(0, 60.0, 75.5, (4.0, 5.0)),
        against.Step(1, 60.0, 59.0, (0.0, 0.0)),  # too few runs for an interval
    ]
    assert second.steps[against.OURS] == [against.Step(1, 40.0, 44.0, (1.0, 1.0))]


def test_published_numbers_are_the_sources_or_else_the_surveys(spec, grid):
    first, second = against.panels(spec, grid)
    assert first.steps[against.PUBLISHED] == [against.Step(0, 61, 96)]
    assert first.stars == [(68.5, 0)]
    assert second.steps[against.PUBLISHED] == [against.Step(1, 10, 12.5)]
    assert second.stars == []


def test_differences_are_told(spec, grid):
    text = "\n".join(against.lines(spec, grid))
    assert "](against.png)" in text
    assert "| BN on plain | +15.5 / +35 | – / – |" in text
    assert "| LN on plain | -1 / – | +4 / +2.5 |" in text


def test_what_is_drawn(spec, grid):
    figure = against.figure(against.panels(spec, grid))
    first = figure.axes[0]
    filled = [line for line in first.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert sorted(line.get_xdata()[0] for line in filled) == [59.0, 60.0, 60.0, 75.5]
    hollow = [line.get_xdata()[0] for line in filled if line.get_markerfacecolor() == "white"]
    assert hollow == [60.0, 60.0]
    [star] = [line for line in first.lines if line.get_marker() == "*"]
    assert list(star.get_xdata()) == [68.5]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [against.OURS, against.PUBLISHED, against.SURVEY]


def test_files_are_the_same_when_made_again(spec, grid):
    files = against.draw(spec, grid)
    assert sorted(files) == ["against.png", "against.svg"]
    assert files == against.draw(spec, grid)


def test_nothing_where_no_row_has_a_base(spec, grid):
    spec.against = {}
    assert against.draw(spec, grid) == {}
    assert list(against.lines(spec, grid)) == []
