"""A sweep file: which runs it stands for, and what is wrong with it in one line."""

import pytest

from normtables.errors import UserError
from normtables.tables.grids import load


@pytest.fixture
def runs(tmp_path):
    """What a sweep file of this text yields: (name, bundle, axes) of each run."""

    def found(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return list(load(path).runs())

    return found


def test_rows_are_set_together_and_axes_are_combined(runs):
    text = """
fixed: {budget: 2epochs, batch_size: 10}
rows: {bn: {set: {norm: bn, optim.lr: 0.08}}, plain: {set: {norm: none, optim.lr: 0.008, batch_size: 20}}}
over: {model.depth: [1, 2]}
repeat: {seed: [0, 1]}
"""
    bn = {"budget": "2epochs", "batch_size": 10, "norm": "bn", "optim.lr": 0.08}
    plain = {"budget": "2epochs", "batch_size": 20, "norm": "none", "optim.lr": 0.008}
    axes = [{"model.depth": depth, "seed": seed} for depth in (1, 2) for seed in (0, 1)]
    assert runs(text) == [(name, b, a) for name, b in (("bn", bn), ("plain", plain)) for a in axes]


def test_an_axis_of_a_row_is_that_rows_alone_and_replaces_the_common_one(runs):
    text = """
rows: {bn: {set: {norm: bn}}, dbn: {set: {norm: dbn}, over: {norm.alpha: [0.1, 1], optim.lr: [0.5]}}}
over: {optim.lr: [0.1, 0.2]}
"""
    assert [(name, axes) for name, _, axes in runs(text)] == [
        ("bn", {"optim.lr": 0.1}),
        ("bn", {"optim.lr": 0.2}),
        ("dbn", {"optim.lr": 0.5, "norm.alpha": 0.1}),
        ("dbn", {"optim.lr": 0.5, "norm.alpha": 1}),
    ]


def test_columns_meet_all_rows_or_those_they_name_and_rows_win(runs):
    text = """
rows: {bn: {set: {norm: bn}}, plain: {set: {norm: none, optim.lr: 0.01}}}
columns:
  small: {set: {batch_size: 4, optim.lr: 0.1}}
  large: {set: {batch_size: 64}, rows: [bn], over: {optim.lr: [1, 2]}}
"""
    assert runs(text) == [
        ("bn, small", {"batch_size": 4, "optim.lr": 0.1, "norm": "bn"}, {}),
        ("plain, small", {"batch_size": 4, "optim.lr": 0.01, "norm": "none"}, {}),
        ("bn, large", {"batch_size": 64, "norm": "bn"}, {"optim.lr": 1}),
        ("bn, large", {"batch_size": 64, "norm": "bn"}, {"optim.lr": 2}),
    ]


def test_axes_alone_are_a_product(runs):
    assert runs("over: {norm: [bn, none], seed: [0]}") == [
        ("", {}, {"norm": "bn", "seed": 0}),
        ("", {}, {"norm": "none", "seed": 0}),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mine.yaml: should be a mapping, not None"),
        ("{}", "mine.yaml: there is nothing to run; it may have the keys fixed, rows, columns, over, repeat"),
        ("row: {}", "mine.yaml: unknown key 'row'; did you mean 'rows'?"),
        ("rows: {}", "mine.yaml: rows: should not be empty"),
        ("columns: {}", "mine.yaml: columns: should not be empty"),
        ("rows: {bn: {sets: {norm: bn}}}", "mine.yaml: rows.bn: unknown key 'sets'; did you mean 'set'?"),
        ("rows: {bn: {tune: {optim.lr: [1]}}}", "rows.bn: unknown key 'tune'"),
        ("rows: {bn: quoted}", "rows.bn: should be a mapping, not 'quoted'"),
        ("rows: {1: {set: {norm: bn}}}", "rows: the name 1 must be quoted"),
        ("over: {optim.lr: []}", "mine.yaml: over.optim.lr: should be a list, not []"),
        ("over: {optim.lr: 0.1}", "mine.yaml: over.optim.lr: should be a list, not 0.1"),
        ("repeat: {seed: 3}", "mine.yaml: repeat.seed: should be a list, not 3"),
        ("fixed: {optim: {lr: 0.1}}", "mine.yaml: fixed.optim: settings are flat: write optim.lr: ... instead"),
        ("fixed: {budget: soon}", "budget=soon: write a positive number and a unit"),
        ("rows: {a: {}}\ncolumns: {x: {rows: [b]}}", "columns.x.rows[1]: there is no row 'b'"),
        ("rows: {a: {set: {seed: 1}}}\nrepeat: {seed: [1]}", "mine.yaml: a: seed is set here and swept too"),
        ("rows: {a: {}}\nrows: {b: {}}", "line 2: not valid YAML: key 'rows' appears twice"),
        ("rows: [", "mine.yaml, line 1: not valid YAML"),
    ],
)
def test_mistakes_are_told_in_one_line(runs, text, says):
    with pytest.raises(UserError) as error:
        runs(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
