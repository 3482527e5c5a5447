"""The collector on records written by hand: chosen, read, folded, set in relation, and told honestly."""

import csv
import math

import pandas as pd
import pytest
from scipy import stats

from normtables.errors import UserError
from normtables.records import Record, Store
from normtables.tables.claims import judge
from normtables.tables.collect import COLUMNS, collect, readings, samples
from normtables.tables.plan import plan
from normtables.tables.ranking import rankings
from normtables.tables.sources import Sources
from normtables.tables.spec import load
from normtables.tables.trials import chances, ranks

HEAD = """
table: mine
title: Two norms on digits
source: nobody
kind: reproduction
runnable: true
fixed: {model: mlp, dataset: digits, norm: dbn, budget: 3epochs}
tiers: {laptop: {repeat: {seed: [0, 1, 2]}}}
"""
TWO = """
rows: {one: {set: {norm.alpha: 1}}, half: {set: {norm.alpha: 0.5}}, SVM: quoted}
columns:
  error: {score: test/error, read: best, better: lower, unit: "%"}
  epochs: {score: test/error, read: best, better: lower, take: epoch}
published: {one: {error: [2.7, 2.6, verified]}, SVM: {error: [3, null, unknown]}}
"""


def rows(*errors, valid=None):
    """A history with these test errors (and validation errors, the same unless given), one an epoch of ten steps."""
    pairs = enumerate(zip(errors, valid or errors), 1)
    return [{"step": 10 * i, "epoch": i, "test/error": t, "valid/error": v} for i, (t, v) in pairs]


class Table:
    """A planned table and a store that is filled run by run."""

    def __init__(self, folder, text, composer, tier="laptop"):
        path = folder / "mine.yaml"
        path.write_text(HEAD + text)
        self.plan, self.store = plan(load(path), tier, composer), Store(folder / "results")

    @property
    def sources(self):
        """The records as they are now."""
        return Sources(self.plan, self.store)

    def fill(self, make, only=None):
        """Write a record for every run: `make(settings)` gives a history, or a status other than finished."""
        for run in self.plan.runs.values():
            made = make(run.settings)
            if made is not None:
                self.write(run.id, made)
        return self

    def write(self, run, made, better="lower"):
        status = made if isinstance(made, str) else "finished"
        history = rows(90.0) if isinstance(made, str) else made
        score = {"name": "test/error", "better": better, "chance": 90.0}
        self.store.write(Record(run, status, "", {}, score, history[-1], {}))
        with (self.store.folder(run) / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]))
            writer.writeheader()
            writer.writerows(history)

    def line(self, row, column, reading=None):
        frame = collect(self.sources)
        found = frame[(frame["row"] == row) & (frame["column"] == column)]
        return found[found["reading"] == reading].iloc[0] if reading else found.iloc[0]


@pytest.fixture
def table(tmp_path, composer):
    return lambda text, **kw: Table(tmp_path, text, composer, **kw)


def alpha_and_seed(settings):
    return rows(9.0, 2.0 * settings["norm.alpha"] + settings["seed"], 8.0, valid=[3.0, 5.0, 1.0])


def test_a_finished_cell_has_mean_spread_and_interval(table):
    made = table(TWO).fill(alpha_and_seed)
    line = made.line("half", "error")
    assert list(line.index) == list(COLUMNS)
    assert (line["ours"], line["sd"], line["n"], line["n_reached"], line["status"]) == (2.0, 1.0, 3, 3, "finished")
    low, high = stats.t.interval(0.95, 2, 2.0, 1 / math.sqrt(3))
    assert (line["ci_low"], line["ci_high"]) == pytest.approx((low, high))
    assert (line["table"], line["tier"], line["unit"], line["budget"]) == ("mine", "laptop", "%", "3 epochs")
    assert line["run_ids"].split() == [m.run for m in made.plan.cells["half", "error"].members]
    assert made.line("half", "epochs")["ours"] == 2


def test_published_numbers_stand_beside_ours_and_quoted_rows_alone(table):
    made = table(TWO).fill(alpha_and_seed)
    line = made.line("one", "error")
    assert (line["survey"], line["original"], line["original_mark"]) == (2.7, 2.6, "verified")
    quoted = made.line("SVM", "error")
    assert (quoted["status"], quoted["survey"], quoted["n"]) == ("quoted", 3, 0)
    assert math.isnan(quoted["ours"])
    assert math.isnan(quoted["original"])


TAKEN = """
rows: {plain: {set: {norm.alpha: 1}}, adapted: {set: {norm.alpha: 1}, take: test/adapted}}
columns: {error: {score: test/error, read: last, better: lower}}
"""


def test_rows_may_be_two_measurements_of_the_same_runs(table):
    made = table(TAKEN).fill(lambda s: [{"step": 1, "test/error": 5.0, "test/adapted": 3.0 + s["seed"]}])
    assert len(made.plan.runs) == 3
    assert (made.line("plain", "error")["ours"], made.line("adapted", "error")["ours"]) == (5, 4)
    known = dict(chances(made.sources))
    assert known == {("plain", "error"): 90}, "the chance of what the row takes is not in the record"
    made.fill(lambda s: [{"step": 1, "test/error": 5.0}])
    with pytest.raises(UserError, match="nothing to read for test/error, test/adapted"):
        made.line("adapted", "error")


def test_best_on_test_has_the_validation_best_epoch_beside_it(table):
    made = table(TWO).fill(alpha_and_seed)
    beside = made.line("one", "error", "validation-best")
    assert (beside["ours"], beside["n"]) == (8.0, 3)
    assert math.isnan(beside["survey"])
    assert made.line("one", "epochs", "validation-best")["ours"] == 3
    frame = collect(made.sources)
    assert frame["reading"].tolist() == ["best", "validation-best"] * 4 + ["best"] * 2


def test_without_validation_scores_there_is_no_companion(table):
    bare = [{"step": 10, "epoch": 1, "test/error": 5.0}]
    frame = collect(table(TWO).fill(lambda s: bare).sources)
    assert set(frame["reading"]) == {"best"}


def test_no_mean_over_survivors_of_divergence(table):
    made = table(TWO).fill(lambda s: "diverged" if s["seed"] == 1 else alpha_and_seed(s))
    line = made.line("one", "error")
    assert (line["status"], line["n"], line["n_reached"]) == ("diverged", 3, 2)
    assert math.isnan(line["ours"])
    assert [s for _, _, s in samples(made.sources)["one", "error"]] == ["finished", "diverged", "finished"]


@pytest.mark.parametrize(
    ("last", "status", "n"), [(None, "partial 2 of 3", 2), ("failed", "failed 1 of 3", 2), ("diverged", "diverged", 3)]
)
def test_a_cell_that_is_partly_run_says_so(table, last, status, n):
    line = table(TWO).fill(lambda s: last if s["seed"] == 2 else alpha_and_seed(s)).line("one", "error")
    assert (line["status"], line["n"]) == (status, n)
    assert line["ours"] == 2.5 if last is None else math.isnan(line["ours"]), "never a mean over survivors"


@pytest.mark.parametrize(("made", "status"), [(None, "missing"), ("failed", "failed 3 of 3")])
def test_a_cell_that_was_not_run_is_empty(table, made, status):
    line = table(TWO).fill(lambda s: made).line("one", "error")
    assert (line["status"], line["n"]) == (status, 0)
    assert math.isnan(line["ours"])


def test_rows_that_a_column_leaves_out_are_not_planned(table):
    line = table(TWO.replace('unit: "%"', "rows: [half]")).line("one", "error")
    assert (line["status"], line["run_ids"], line["budget"]) == ("not planned", "", "")


def test_samples_keep_axes_values_and_states(table):
    made = table(TWO).fill(lambda s: None if s["seed"] == 2 else alpha_and_seed(s))
    found = samples(made.sources)["one", "error"]
    assert found[:2] == [({"seed": 0}, 2.0, "finished"), ({"seed": 1}, 3.0, "finished")]
    assert found[2][0] == {"seed": 2}
    assert found[2][2] == "missing"
    assert ("SVM", "error") not in samples(made.sources)


STEPS = """
rows: {one: {set: {norm.alpha: 1}}, half: {set: {norm.alpha: 0.5}}}
columns:
  steps: {score: test/error, read: {first: {best_of: one}}, better: lower, scale: 0.1}
  speed: {score: test/error, read: {first: {best_of: one}}, better: lower, relative_to: one}
"""


def test_a_goal_from_another_row_and_how_many_times_faster(table):
    """The goal is the mean of 4, 5, 6; row one needs 30 steps where it gets there, row half 10."""
    made = table(STEPS).fill(lambda s: rows(9.0, 8.0, 4.0 + s["seed"]) if s["norm.alpha"] == 1 else rows(5.0, 6.0, 7.0))
    slow, fast = made.line("one", "steps"), made.line("half", "steps")
    assert (fast["ours"], fast["n_reached"], fast["status"]) == (1.0, 3, "finished")
    assert (slow["n"], slow["n_reached"], slow["status"]) == (3, 2, "censored")
    assert math.isnan(slow["ours"]), "a run that did not get there is never averaged away"
    assert samples(made.sources)["one", "steps"][2] == ({"seed": 2}, 3.0, "censored")
    assert [v for _, v, _ in samples(made.sources)["half", "speed"]][:2] == [3.0, 3.0]
    assert made.line("half", "speed")["status"] == "censored"


def test_rows_may_be_set_against_different_rows(table):
    text = "speed: {score: test/error, read: {first: {best_of: one}}, better: lower, relative_to: one}"
    made = table(
        STEPS.replace(text, "gain: {score: test/error, read: last, better: lower, relative_to: {half: one}}")
    ).fill(lambda s: rows(6.0 if s["norm.alpha"] == 1 else 4.0))
    assert made.line("half", "gain")["ours"] == 1.5
    assert made.line("one", "gain")["status"] == "not planned"
    assert ("one", "gain") in made.plan.cells, "what the gain is set against is run"


def test_a_ratio_to_an_error_of_zero_has_no_value(table):
    text = "speed: {score: test/error, read: {first: {best_of: one}}, better: lower, relative_to: one}"
    made = table(
        STEPS.replace(text, "gain: {score: test/error, read: last, better: lower, relative_to: {half: one}}")
    ).fill(lambda s: rows(6.0 if s["norm.alpha"] == 1 else 2.0 * s["seed"]))
    line = made.line("half", "gain")
    assert (line["n"], line["n_reached"], line["status"]) == (3, 2, "censored")
    assert math.isnan(line["ours"])


def test_without_the_goals_row_nothing_is_read(table):
    made = table(STEPS).fill(lambda s: None if s["norm.alpha"] == 1 and s["seed"] == 0 else rows(5.0, 6.0))
    assert made.line("half", "steps")["status"] == "missing"


def test_the_step_at_which_the_same_seed_of_another_row_is_best(table):
    made = table("""
rows: {one: {set: {norm.alpha: 1}}, half: {set: {norm.alpha: 0.5}}}
columns:
  at: {score: test/error, read: {at_best_of: {half: one}, by: valid/error, better: lower}, better: lower}
""").fill(
        lambda s: (
            rows(9.0, 9.0, 9.0, valid=[3.0, 3.0 - s["seed"], 2.5]) if s["norm.alpha"] == 1 else rows(1.0, 2.0, 3.0)
        )
    )
    assert [v for _, v, _ in samples(made.sources)["half", "at"]] == [3.0, 2.0, 2.0]


TUNED = """
rows: {one: {set: {norm.alpha: 1}}}
columns: {error: {score: test/error, read: last, better: lower}}
tune: {optim.lr: [0.1, 1, 10]}
choose: {by: valid/error, read: best, better: lower, ties: {optim.lr: higher}}
"""


def test_tuned_settings_are_chosen_on_validation_over_all_repeats(table):
    """0.1 wins seed 0 on validation and everything on test; 1 has the better mean on validation."""
    valid = {(0.1, 0): 1.0, (0.1, 1): 9.0, (0.1, 2): 9.0, (1, 0): 5.0, (1, 1): 5.0, (1, 2): 5.0}
    test = {0.1: 1.0, 1: 4.0, 10: 2.0}
    made = table(TUNED).fill(lambda s: rows(test[s["optim.lr"]], valid=[valid.get((s["optim.lr"], s["seed"]), 50.0)]))
    line = made.line("one", "error")
    assert (line["ours"], line["n"]) == (4.0, 3)
    assert {made.plan.runs[run].settings["optim.lr"] for run in line["run_ids"].split()} == {1}


def test_ties_go_the_way_the_table_says(table):
    made = table(TUNED).fill(lambda s: rows(s["optim.lr"], valid=[3.0]))
    assert made.line("one", "error")["ours"] == 10
    other = table(TUNED.replace("optim.lr: higher", "optim.lr: lower"))
    assert other.line("one", "error")["ours"] == pytest.approx(0.1)


def test_equal_means_are_ties_in_any_order_of_the_repeats(table):
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1."""
    valid = {0.1: [0.1, 0.2, 0.3], 1: [0.3, 0.2, 0.1], 10: [9.0] * 3}
    for text, chosen in ((TUNED, 1), (TUNED.replace("optim.lr: higher", "optim.lr: lower"), 0.1)):
        made = table(text).fill(lambda s: rows(s["optim.lr"], valid=[valid[s["optim.lr"]][s["seed"]]]))
        assert made.line("one", "error")["ours"] == pytest.approx(chosen)


def test_a_failed_run_of_the_search_is_told(table):
    line = table(TUNED).fill(lambda s: "failed" if s["seed"] == 0 else rows(1.0)).line("one", "error")
    assert (line["status"], line["n"]) == ("failed 3 of 3", 0)


def test_a_search_by_a_score_that_no_run_recorded_is_an_error(table):
    made = table(TUNED.replace("by: valid/error", "by: valid/eror")).fill(lambda s: rows(1.0))
    with pytest.raises(UserError, match=r"mine\.yaml: choose: nothing to read for valid/eror in the history of run"):
        collect(made.sources)


def test_table_samples_and_ranks_are_of_one_moment(table, monkeypatch):
    """A run that ends while they are written is in none of them; and each file is read once."""
    made = table(TUNED).fill(lambda s: None if s["seed"] == 2 else rows(1.0))
    read: list[str] = []
    history = Store.history
    monkeypatch.setattr(Store, "history", lambda store, run: read.append(run) or history(store, run))
    sources = made.sources
    before = collect(sources)
    made.fill(lambda s: rows(1.0))
    pd.testing.assert_frame_equal(collect(sources), before)
    assert [state for _, _, state in samples(sources)["one", "error"]].count("finished") == 0
    assert [state for _, _, state in samples(made.sources)["one", "error"]].count("finished") == 3
    assert len(read) == len(made.plan.runs)


@pytest.mark.parametrize(("better", "chosen"), [("lower", 0.1), ("higher", 10)])
def test_the_best_is_chosen_either_way(table, better, chosen):
    made = table(TUNED.replace("better: lower, ties", f"better: {better}, ties"))
    assert made.fill(lambda s: rows(s["optim.lr"], valid=[s["optim.lr"]])).line("one", "error")["ours"] == (
        pytest.approx(chosen)
    )


def test_what_is_chosen_has_a_reading_of_its_own(table):
    """At the best row 0.1 is chosen, at the last, which the column reads, 1, where the mean of two rows is best 10."""
    valid = {0.1: [1.0, 9, 8], 1: [9.0, 9, 2], 10: [5.0, 1.5, 9]}
    for rule, chosen in (("best", 0.1), ("last", 1), ("{best: valid/error, better: lower, smooth: 2}", 10)):
        made = table(TUNED.replace("read: best", f"read: {rule}"))
        made.fill(lambda s: rows(7.0, 7.0, s["optim.lr"], valid=valid[s["optim.lr"]]))
        assert made.line("one", "error")["ours"] == pytest.approx(chosen)


def test_a_setting_that_diverged_once_is_never_chosen(table):
    """Even where its history, of an error of 90 here, was the best until then."""

    def make(s):
        return "diverged" if (s["optim.lr"], s["seed"]) == (0.1, 2) else rows(s["optim.lr"], valid=[95 + s["optim.lr"]])

    assert table(TUNED).fill(make).line("one", "error")["ours"] == 1


def test_when_every_setting_diverged_so_did_the_cell(table):
    line = table(TUNED).fill(lambda s: "diverged" if s["seed"] == 0 else rows(1.0)).line("one", "error")
    assert line["status"] == "diverged"


def test_nothing_is_chosen_before_the_search_is_over(table):
    line = (
        table(TUNED).fill(lambda s: None if (s["optim.lr"], s["seed"]) == (10, 2) else rows(1.0)).line("one", "error")
    )
    assert (line["status"], line["n"]) == ("missing", 0)


MANY = """
rows: {one: {set: {norm.alpha: 1}}, half: {set: {norm.alpha: 0.5}}, none: {set: {norm.alpha: 0}}}
over: {dataset.valid: [101, 102, 103, 104, 105, 106]}
columns:
  mean: {score: test/error, read: last, better: lower}
  rank: {score: test/error, read: last, better: lower, combine: rank_difference}
  relative: {score: test/error, read: last, better: lower, combine: relative_rank_difference}
"""


def by_set(s):
    """One is always best; half and none tie on the first set, half is better on the others."""
    place, number = s["dataset.valid"], {1: 0, 0.5: 1, 0: 2}[s["norm.alpha"]]
    return rows(10.0 + (1 if place == 101 and number else number) + place)


def test_many_data_sets_fold_into_a_mean(table):
    line = table(MANY).fill(by_set).line("none", "mean")
    assert line["ours"] == pytest.approx(12 + 103.5 - 1 / 6)
    assert (line["n"], len(line["run_ids"].split())) == (3, 18)


def test_many_data_sets_fold_into_rank_differences(table):
    made = table(MANY).fill(by_set)
    assert [made.line(row, "rank")["ours"] for row in ("one", "half", "none")] == pytest.approx(
        [-1, 0.5 / 6, 1 - 0.5 / 6]
    )
    assert made.line("none", "relative")["ours"] == pytest.approx(made.line("none", "rank")["ours"])
    expected = stats.wilcoxon([1, 2, 2, 2, 2, 2]).pvalue
    assert made.line("none", "rank")["p_value"] == pytest.approx(expected)
    assert math.isnan(made.line("one", "rank")["p_value"])
    assert math.isnan(made.line("none", "mean")["p_value"])


def test_no_p_value_below_six_data_sets(table):
    made = table(MANY.replace(", 106", "")).fill(by_set)
    assert math.isnan(made.line("none", "rank")["p_value"])


def test_a_diverged_run_ranks_last_and_a_missing_one_empties_the_ranks(table):
    bad = (1, 103)
    made = table(MANY).fill(lambda s: "diverged" if (s["norm.alpha"], s["dataset.valid"]) == bad else by_set(s))
    assert made.line("one", "rank")["ours"] == pytest.approx((5 * 1 + 3) / 6 - 2)
    assert made.line("one", "mean")["status"] == "diverged"


def test_a_diverged_run_is_the_largest_difference_of_the_signed_ranks(table):
    """`none` is 1, 2, ..., 2 and infinitely worse than `one`; the p-value of `half` rests on all six sets still."""
    made = table(MANY).fill(lambda s: "diverged" if (s["norm.alpha"], s["dataset.valid"]) == (0, 106) else by_set(s))
    assert made.line("none", "rank")["p_value"] == pytest.approx(stats.wilcoxon([1, 2, 2, 2, 2, 9]).pvalue)
    assert made.line("half", "rank")["p_value"] == pytest.approx(stats.wilcoxon([1] * 6).pvalue)


def test_a_diverged_run_ranks_last_where_higher_is_better_too(table):
    higher = MANY.replace("score: test/error", "score: valid/error").replace("better: lower", "better: higher")
    made = table(higher).fill(lambda s: "diverged" if s["norm.alpha"] == 0 else by_set(s))
    assert [made.line(row, "rank")["ours"] for row in ("one", "half", "none")] == [0, -1, 1]
    [found] = rankings(made.sources)
    assert found.ranks == {"half": 1, "one": 2, "none": 3}


def test_a_ranking_is_of_the_means_over_the_repeats_and_equal_ones_share_their_rank(table):
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1. By seed `one` wins once, ties once and loses once."""
    values = {1: [0.1, 0.2, 0.3], 0.5: [0.3, 0.2, 0.1], 0: [0.3, 0.3, 0.3]}
    made = table(MANY).fill(lambda s: rows(values[s["norm.alpha"]][s["seed"]]))
    [found] = rankings(made.sources)
    assert (found.column, found.sets) == ("rank", 6)
    assert found.ranks == {"one": 1.5, "half": 1.5, "none": 3}
    assert made.line("one", "rank")["ours"] == pytest.approx((1 + 1.5 + 2.5) / 3 - 2)
    assert made.line("half", "rank")["p_value"] == 1


def test_a_table_of_one_method_has_no_differences(table):
    made = table(
        "\n".join(line for line in MANY.splitlines() if "rows" not in line) + "\nrows: {one: {set: {norm.alpha: 1}}}"
    )
    made.fill(lambda s: rows(1.0))
    assert (made.line("one", "rank")["ours"], made.line("one", "relative")["ours"]) == (0, 0)


def test_a_failed_run_empties_the_ranks_and_its_row_says_why(table):
    bad = (0.5, 103, 1)
    made = table(MANY).fill(
        lambda s: "failed" if (s["norm.alpha"], s["dataset.valid"], s["seed"]) == bad else by_set(s)
    )
    assert made.line("half", "rank")["status"] == "failed 1 of 3"
    assert made.line("one", "rank")["status"] == "partial 2 of 3"


def test_claims_on_ranks_are_judged_over_data_sets(table):
    """Half beats none on five sets and ties on one (a gap of 5/6 ranks, halved in the relative column), in any seed."""
    claims = "\nclaims: [{id: R, says: so, kind: better, columns: [rank, relative], rows: [half], than: none, by: 0}]"
    made = table(MANY + claims).fill(by_set)
    known = dict(ranks(made.sources))
    assert known["one", "rank"] == [1] * 6
    assert known["half", "rank"] == [2.5, 2, 2, 2, 2, 2]
    assert known["none", "relative"] == [2.5, 3, 3, 3, 3, 3]
    found = judge(made.sources, samples(made.sources))
    assert found["verdict"].tolist() == ["supported"] * 2
    assert found["n"].tolist() == [6, 6]
    gap = made.line("none", "rank")["ours"] - made.line("half", "rank")["ours"]
    assert found["evidence"][0].startswith(
        f"over 6 data sets 'half' beats 'none' by {gap:.2f} [0.40, 1.26], adjusted p"
    )
    swapped = table(MANY + claims).fill(lambda s: by_set({**s, "norm.alpha": 1 if s["seed"] else s["norm.alpha"]}))
    assert dict(ranks(swapped.sources))["half", "rank"] == pytest.approx([(2.5 + 2 + 2) / 3] + [2] * 5)


def test_ranks_wait_for_every_method_on_every_set(table):
    def make(s):
        return None if (s["norm.alpha"], s["dataset.valid"], s["seed"]) == (0.5, 103, 1) else by_set(s)

    line = table(MANY).fill(make).line("one", "rank")
    assert (line["status"], line["n"]) == ("partial 2 of 3", 2)


def test_a_score_that_no_run_recorded_is_an_error(table):
    made = table(TWO.replace("test/error, read: best", "test/eror, read: best")).fill(alpha_and_seed)
    with pytest.raises(UserError, match=r"columns\.error: nothing to read for test/eror .* has step, epoch, test"):
        collect(made.sources)


def test_a_record_that_is_better_the_other_way_is_an_error(table):
    made = table(TWO)
    for run in made.plan.runs:
        made.write(run, rows(1.0), better="higher")
    with pytest.raises(UserError, match=r"columns\.error\.better: test/error is better lower, the record of run"):
        collect(made.sources)


def test_a_quoted_column_is_printed_and_never_run(table):
    made = table(TWO.replace("published: {one: {", "  Mnih: quoted\npublished: {one: {Mnih: [7, 7, verified], "))
    line = made.line("one", "Mnih")
    assert (line["status"], line["survey"], line["reading"]) == ("quoted", 7, "")
    assert not any(column == "Mnih" for _, column in made.plan.cells)


TRIED = (
    TWO.replace("rows: {", "rows: {none: {set: {norm.alpha: 0}}, ").replace(
        "published: {", "published: {none: {error: [9, 9, verified]}, half: {error: [1, null, unknown]}, "
    )
    + """
readings:
  column: error
  tier: laptop
  set: {seed: 9}
  options:
    near: {set: {norm.forward: average}}
    ordered: {set: {norm.forward: batch}}
    bad: {set: {norm.count: epoch}}
    late: {set: {norm.epsilon: 1}}
  default: near
  because: of this
"""
)
NEAR, ORDERED = {0: 8.0, 1: 0.5, 0.5: 1.5}, {0: 19.0, 1: 12.6, 0.5: 11.0}


def tried(s):
    if s["seed"] != 9:
        return None
    if s.get("norm.count"):
        return "diverged" if s["norm.alpha"] == 0 else rows(1.0)
    if s.get("norm.epsilon"):
        return rows(1.0) if s["norm.alpha"] == 0 else None
    return rows((ORDERED if s["norm.forward"] == "batch" else NEAR)[s["norm.alpha"]])


def test_readings_are_compared_by_value_and_by_rank(table):
    made = table(TRIED).fill(tried)
    frame = readings(made.sources).set_index("reading")
    assert frame.loc["near", "mean_abs"] == pytest.approx((1 + 2.1 + 0.5) / 3)
    assert frame.loc["near", "mean_abs_but_worst"] == pytest.approx((2.1 + 0.5) / 2)
    assert frame.loc["ordered", "mean_abs"] == pytest.approx(10)
    assert (frame.loc["near", "spearman"], frame.loc["ordered", "spearman"]) == pytest.approx((0.5, 1))
    assert (frame.loc["near", "kendall"], frame.loc["ordered", "kendall"]) == pytest.approx((1 / 3, 1))
    assert frame["closest"].to_dict() == {"near": "value", "ordered": "rank", "bad": "", "late": ""}
    assert frame["status"].to_dict() == {
        "near": "finished",
        "ordered": "finished",
        "bad": "diverged 1 of 3",
        "late": "partial 1 of 3",
    }
    assert frame["default"].tolist() == [True, False, False, False]
    assert frame.loc["near", ["none", "one", "half"]].tolist() == [8.0, 0.5, 1.5]
    assert frame["n"].tolist() == [3, 3, 2, 1]


def test_a_table_without_readings_has_none(table):
    made = table(TWO)
    pd.testing.assert_frame_equal(readings(made.sources), pd.DataFrame())


FURTHEST = """
rows: {one: {set: {norm.alpha: 1}}, half: {set: {norm.alpha: 0.5}}}
columns:
  highest rate:
    score: test/error
    read: {first: {reaches: 20}}
    better: lower
    over: {optim.lr: [0.1, 1, 10]}
    combine: largest
"""


def test_the_largest_setting_at_which_the_goal_is_reached(table):
    """One learns up to 1 (seed 2: up to 0.1) and diverges at 10; half never reaches the goal with seed 0."""

    def make(s):
        limit = {(1, 2): 0.1, (0.5, 0): 0}.get((s["norm.alpha"], s["seed"]), 1)
        return rows(10.0 if s["optim.lr"] <= limit else 50.0) if s["optim.lr"] < 10 else "diverged"

    made = table(FURTHEST).fill(make)
    line = made.line("one", "highest rate")
    assert (line["ours"], line["n"], line["status"]) == (pytest.approx((1 + 1 + 0.1) / 3), 3, "finished")
    line = made.line("half", "highest rate")
    assert (line["n"], line["n_reached"], line["status"]) == (3, 2, "censored")
    assert math.isnan(line["ours"])


def test_the_largest_setting_waits_for_all(table):
    made = table(FURTHEST).fill(lambda s: None if (s["optim.lr"], s["seed"]) == (0.1, 1) else rows(10.0))
    line = made.line("one", "highest rate")
    assert (line["status"], line["n"]) == ("partial 2 of 3", 2)
