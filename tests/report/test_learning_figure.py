"""The figure of learning curves: which runs it takes, their mean, the levels, and nothing where none is asked for."""

import dataclasses
from types import SimpleNamespace

import pytest

from normtables.errors import UserError
from normtables.records import Record, Store
from normtables.report import grid, learning, markdown, provenance
from normtables.tables import spec
from normtables.tables.sources import Sources
from normtables.tables.statements import Learning


def write(store, run, rows, status="finished"):
    store.write(Record(run, status, "", {}, {}, {}))
    lines = ["step,test/error", *(f"{step},{error}" for step, error in rows)]
    (store.folder(run) / "history.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def stored(laptop, tmp_path):
    """The golden plan, asked for its first column's curves, with two histories of the first cell and none of others."""
    shown = grid.grid_of(laptop.plan, laptop.table)
    (row, column), cell = next(iter(laptop.plan.cells.items()))
    asked = Learning("step", "test/error", (column,), (column,))
    plan = dataclasses.replace(laptop.plan, spec=dataclasses.replace(laptop.plan.spec, learning=asked))
    runs = list(dict.fromkeys(member.run for member in cell.members))
    store = Store(tmp_path)
    write(store, runs[0], [(1, 8.0), (2, 4.0)])
    for run in runs[1:]:
        write(store, run, [(1, 6.0), (2, 3.0), (3, "nan")])
    return SimpleNamespace(plan=plan, store=store, grid=shown, row=row, column=column, runs=runs, asked=asked)


def test_runs_and_their_mean(stored):
    [panel] = learning.panels(Sources(stored.plan, stored.store), stored.grid)
    assert panel.row == stored.row
    [course] = panel.courses
    assert course.runs[0] == [(1, 8), (2, 4)]
    assert course.runs[1] == [(1, 6), (2, 3)]  # the row without a number is left out
    n = len(stored.runs)
    assert course.mean == [(1, pytest.approx((8 + 6 * (n - 1)) / n)), (2, pytest.approx((4 + 3 * (n - 1)) / n))]
    level = stored.grid.cells[stored.row, stored.column].ours
    assert panel.levels == {stored.grid.heads[stored.column]: level}


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_no_mean_over_survivors(stored, status):
    write(stored.store, stored.runs[0], [(1, 8.0), (2, 4.0)], status)
    [panel] = learning.panels(Sources(stored.plan, stored.store), stored.grid)
    assert panel.courses[0].mean == []
    assert len(panel.courses[0].runs) == len(stored.runs) - (status == "failed")


def test_no_mean_over_runs_of_different_length(stored):
    write(stored.store, stored.runs[0], [(1, 8.0)])
    [panel] = learning.panels(Sources(stored.plan, stored.store), stored.grid)
    assert panel.courses[0].mean == []


def test_it_is_drawn_and_told(stored, laptop):
    found = learning.panels(Sources(stored.plan, stored.store), stored.grid)
    files = learning.draw(found, stored.asked)
    assert sorted(files) == ["learning.png", "learning.svg"]
    assert files == learning.draw(found, stored.asked)
    assert stored.column in files["learning.svg"].decode()
    sources = provenance.origins(laptop.sources)
    text = markdown.page(stored.plan, stored.grid, laptop.claims, laptop.readings, sources, learned=found)
    assert "## Learning curves\n\n![test/error over step](learning.png)" in text
    assert f"Thin: each run ({len(stored.runs)} a line)." in text


def test_nothing_where_none_is_asked_for(laptop, stored, tmp_path):
    assert learning.panels(Sources(laptop.plan, stored.store), stored.grid) == []
    assert learning.panels(Sources(stored.plan, Store(tmp_path / "empty")), stored.grid) == []
    assert learning.draw([], stored.asked) == {}
    assert list(learning.lines([], None)) == []


def test_table_4_asks_for_columns_that_it_has(tmp_path):
    whole = spec.load(4)
    assert whole.learning.levels == ("random play",)
    text = whole.path.read_text().replace("levels: [random play]", "levels: [random plays]")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"learning.levels.*no column 'random plays'; did you mean 'random play'"):
        spec.load(tmp_path / "mine.yaml")
