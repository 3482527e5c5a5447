"""`plan --measure` on a table of embedded data: what is drawn, counted, printed and left behind; asserts no clock."""

import re

import pytest

from normtables import forecast as module
from normtables.__main__ import dispatch
from normtables.errors import UserError
from normtables.forecast import forecast
from normtables.progress import clock
from normtables.records import Record, Store
from normtables.tables.plan import plan
from normtables.tables.spec import load
from normtables.training.measured import Cost

TABLE = """
table: mine
title: Networks and fits on small data
source: nobody
kind: reproduction
runnable: true
fixed: {dataset: uci, batch_size: 20}
tiers: {smoke: {set: {budget: 30steps, evaluate: 10steps}, repeat: {seed: [0, 1]}}}
rows:
  bn: {set: {model: fnn, norm: bn, model.width: 4}, tune: {model.depth: [1, 2, 3]}}
  bayes: {set: {model: naive_bayes, norm: none, budget: 0steps}}
columns:
  accuracy:
    score: test/accuracy
    read: last
    better: higher
    combine: mean
    over: {dataset.set: [iris, wine, abalone]}
choose: {by: valid/accuracy, read: last, better: higher}
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TABLE)
    return path


@pytest.fixture
def words(table, tmp_path):
    return ["plan", str(table), "--tier", "smoke", "--results", str(tmp_path / "results"), f"data.root={tmp_path}/none"]


def test_a_plan_is_measured_and_leaves_nothing(words, tmp_path, capsys):
    assert dispatch([*words, "--measure", "6"]) == 0
    out = capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    assert "bn: 3 configurations x 3 data sets x 2 seeds" in out
    assert "measuring 6 of 24 runs" in out
    assert re.search(r"^bn: 12 runs, 4 measured at [0-9.]+ / [0-9.]+ / [0-9.]+ updates a second; ", out, re.M)
    assert re.search(r"^bayes: 4 runs, 2 measured at [0-9.]+ / [0-9.]+ / [0-9.]+ fits a second; ", out, re.M)
    assert re.search(
        r"^not counted, 8 runs: .*data root .*none does not exist; run `normtables data fetch uci`", out, re.M
    )
    assert re.search(
        r"^16 runs: about [0-9]+ s on one undisturbed worker \(95 % interval [0-9]+ s to [0-9]+ s\)$", out, re.M
    )
    assert "model.depth=1" not in out, "the runs are not listed"


def test_thirty_are_measured_where_no_number_is_given(words, capsys, monkeypatch):
    costs = []
    monkeypatch.setattr(module.measured, "cost", lambda *given: costs.append(given) or Cost(1.0, 1.0))
    dispatch([*words, "--measure"])
    assert len(costs) == 16, "all that are here"
    assert "16 runs: about 7 min on one" in capsys.readouterr().out


def test_all_costs_add_up(table, composer, monkeypatch, tmp_path):
    """Every run measured: 12 networks of 30 updates of 2 s and 3 evaluations of 5 s, 4 fits of 2 s and 5 s."""
    monkeypatch.setattr(module.measured, "cost", lambda *given: Cost(2.0, 5.0))
    made = plan(load(table), "smoke", composer)
    lines = list(forecast(list(made.runs.values()), 99, {"data.root": str(tmp_path / "none")}, composer))
    assert lines[1:3] == [
        "bn: 12 runs, 12 measured at 0.5 / 0.5 / 0.5 updates a second; 15 min",
        "bayes: 4 runs, 4 measured at 0.5 / 0.5 / 0.5 fits a second; 28 s",
    ]
    seconds = 12 * (30 * 2 + 3 * 5) + 4 * (2 + 5)
    assert lines[-1].startswith(f"16 runs: about {seconds / 60:.0f} min")
    assert lines[-1].count(f"{seconds / 60:.0f} min") == 3, "nothing is drawn, so the interval is a point"


def test_the_same_runs_are_drawn_each_time(table, composer, monkeypatch, tmp_path):
    made, drawn = plan(load(table), "smoke", composer), []
    monkeypatch.setattr(module.measured, "cost", lambda cfg, folder: drawn[-1].append(cfg) or Cost(1.0, 1.0))
    for _ in range(2):
        drawn.append([])
        list(forecast(list(made.runs.values()), 6, {"data.root": str(tmp_path / "none")}, composer))
    assert len(drawn[0]) == 6
    first, second = ([(cfg.model, cfg.dataset, cfg.seeds) for cfg in configs] for configs in drawn)
    assert first == second


def test_runs_that_are_done_are_not_counted(words, table, composer, tmp_path, capsys):
    store = Store(tmp_path / "results")
    for run in plan(load(table), "smoke", composer).runs.values():
        store.write(Record(run.id, "finished", "", dict(run.facts)))
    dispatch([*words, "--measure"])
    out = capsys.readouterr().out
    assert "measuring 0 of 0 runs" in out
    assert "not counted" not in out


@pytest.mark.parametrize("more", [["--measure", "0"], ["--measure", "-3"], ["--measure", "2", "--json"]])
def test_a_number_that_cannot_be(words, more):
    with pytest.raises(UserError, match=f"--measure {more[1]}: at least 1 run, and without --json"):
        dispatch([*words, *more])


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(89, "89 s"), (90, "2 min"), (5400, "1.5 h"), (863_999, "240.0 h"), (864_000, "10 days"), (1e7, "116 days")],
)
def test_a_span_of_time_for_a_reader(seconds, says):
    assert clock(seconds) == says
