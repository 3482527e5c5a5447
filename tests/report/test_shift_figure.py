"""The figure of divergences between domains: which runs it takes, their means, and nothing where there are none."""

import dataclasses
from types import SimpleNamespace

import pytest

from normtables.records import Record, Store
from normtables.report import grid, markdown, provenance, shift
from normtables.tables.sources import Sources

LAYERS = ["9.0", "10.0"]


def write(store, run, row, status="finished"):
    store.write(Record(run, status, "", {}, {}, row))
    text = "\n".join(",".join(map(str, line)) for line in (row, [1.0] * len(row), row.values()))
    (store.folder(run) / "history.csv").write_text(text + "\n")


def measured(before, after):
    """Layers in the order of the network, which is not that of the alphabet."""
    row = {"step": 5.0, "test/accuracy": 50.0}
    row |= {f"shift/{name}": value for name, value in zip(LAYERS, before)}
    return row | {f"shift_adabn/{name}": value for name, value in zip(LAYERS, after)}


@pytest.fixture
def stored(laptop, tmp_path):
    """The golden plan with a store in which the first two runs of its first column measured divergences.

    The third diverged, and the fourth was not asked to measure them: its history is not looked at.
    """
    store, column = Store(tmp_path), next(iter(laptop.plan.spec.columns))
    runs = [m.run for (_, name), cell in laptop.plan.cells.items() if name == column for m in cell.members]
    runs = sorted(dict.fromkeys(runs))
    write(store, runs[0], measured([4.0, 8.0], [4.0, 1.0]))
    write(store, runs[1], measured([2.0, 4.0], [2.0, 3.0]))
    write(store, runs[2], measured([900.0, 900.0], [900.0, 900.0]), "diverged")
    write(store, runs[3], {"step": 5.0, "test/accuracy": 9.0})
    (store.folder(runs[3]) / "history.csv").write_text("step\nno number\n")
    planned = dict(laptop.plan.runs)
    for run in runs[:3]:
        planned[run] = dataclasses.replace(planned[run], facts={"dataset": {"task": {"shift": True}}})
    plan = dataclasses.replace(laptop.plan, runs=planned)
    return SimpleNamespace(plan=plan, store=store, column=column, runs=runs)


def test_means_over_the_finished_runs_that_measured_it(stored):
    found = {part.column: part for part in shift.shifts(Sources(stored.plan, stored.store))}[stored.column]
    assert (found.runs, list(found.layers)) == (2, LAYERS)
    assert found.means == {"shift": [3, 6], "shift_adabn": [3, 2]}


def test_runs_of_other_layers_do_not_mix(stored):
    write(stored.store, stored.runs[1], measured([1.0], [1.0]))
    assert stored.column not in {part.column for part in shift.shifts(Sources(stored.plan, stored.store))}


def test_it_is_drawn_and_told(stored, laptop):
    found = shift.shifts(Sources(stored.plan, stored.store))
    files = shift.draw(found)
    assert sorted(files) == ["shift.png", "shift.svg"]
    assert files == shift.draw(found)
    svg = files["shift.svg"].decode()
    assert "target's statistics (AdaBN)" in svg.replace("&#x27;", "'")
    text = markdown.page(
        laptop.plan,
        grid.grid_of(laptop.plan, laptop.table),
        laptop.claims,
        laptop.readings,
        provenance.origins(laptop.sources),
        shifts=found,
    )
    assert "## Domains inside the network" in text
    assert "4.5 nats with the source's statistics, 2.5 with the target's (mean over layers: 2, runs: 2)" in text
    assert "](shift.png)" in text


def test_nothing_where_nothing_was_measured(laptop):
    assert shift.shifts(laptop.sources) == []
    assert shift.draw([]) == {}
    assert list(shift.lines([])) == []


def test_a_divergence_of_nothing_has_no_logarithm(stored):
    found = shift.shifts(Sources(stored.plan, stored.store))[0]
    assert shift.draw([dataclasses.replace(found, means={"shift": [0.0, 1.0], "shift_adabn": [0.0, 0.0]})])
