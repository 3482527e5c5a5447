"""Table files: what they may say, and that every mistake is one line with file, key and nearest name."""

import textwrap

import pytest
import yaml

from normtables.errors import UserError
from normtables.places import EXPERIMENTS
from normtables.tables.spec import load

GOOD = """
table: mine
title: Two norms on digits
source: nobody
kind: reproduction
runnable: true
departures: [short, {tiers: [laptop], says: shorter}]
fixed: {model: mlp, dataset: digits}
tiers:
  smoke: {repeat: {seed: [0]}}
  laptop: {set: {budget: 3epochs}, baseline: none, repeat: {seed: [0, 1]}}
rows:
  none: {set: {norm: none}}
  bn: {set: {norm: bn}, tune: {optim.lr: [0.1, 1]}}
  SVM: quoted
columns:
  error: {score: test/error, read: best, better: lower, unit: "%"}
  steps: {score: valid/error, read: {first: {best_of: none}}, better: lower, tiers: [laptop]}
  speed: {score: valid/error, read: {first: {best_of: none}}, better: lower, relative_to: none}
  small:
    {stand_in: error, score: test/error, read: last, better: lower, tiers: {smoke: {set: {batch_size: 10}, rows: [bn]}}}
choose: {by: valid/error, read: best, better: lower, ties: {optim.lr: lower}}
published:
  bn: {error: [1.5, null, unknown, a note]}
  SVM: {error: [2, 2, verified]}
readings:
  {column: error, tier: laptop, set: {seed: 5}, options: {a: {}, b: {set: {optim.lr: 3}}}, default: a, because: of this}
claims:
  - {id: a, says: bn wins, kind: better, columns: [error], rows: [bn], than: none, by: 0.1}
"""


def changed(tmp_path, *path, to=None, drop=False):
    """Load the good file with one value replaced or dropped."""
    data = yaml.safe_load(GOOD)
    node = data
    for key in path[:-1]:
        node = node[key]
    if drop:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return written(tmp_path, yaml.safe_dump(data, sort_keys=False))


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return load(path)


def test_a_users_file_loads_from_its_path(tmp_path):
    spec = written(tmp_path, GOOD)
    assert (spec.label, spec.kind, list(spec.rows)) == ("mine", "reproduction", ["none", "bn", "SVM"])
    assert spec.rows["SVM"].quoted
    assert not spec.rows["bn"].quoted
    assert spec.rows["bn"].tune == {"optim.lr": (0.1, 1)}
    assert spec.columns["error"].read.kind == "best"
    assert spec.columns["steps"].read.row == "none"
    assert spec.columns["speed"].relative_to == {"none": "none", "bn": "none"}
    assert spec.departures[1].tiers == ("laptop",)
    assert spec.tiers["laptop"].baseline == "none"
    assert spec.claims[0].by == 0.1


@pytest.mark.parametrize(("better", "ratio"), [("lower", 2.33), ("higher", 0.429)])
def test_a_ratio_is_published_where_both_its_numbers_are(tmp_path, better, ratio):
    """Row none prints 31 (source 62), row bn 13.3: less of them is better, or more."""
    data = yaml.safe_load(GOOD)
    data["columns"]["gain"] = data["columns"]["error"] | {"better": better, "relative_to": "none", "of": "error"}
    data["published"] = {"none": {"error": [31, 62, "verified"]}, "bn": {"error": [13.3, 13.3, "memory"]}}
    spec = written(tmp_path, yaml.safe_dump(data, sort_keys=False))
    cell = spec.printed("bn", "gain")
    assert (cell.survey, cell.mark) == (ratio, "memory")
    assert cell.original == pytest.approx(2 * ratio if better == "lower" else ratio / 2, rel=5e-3)
    assert spec.printed("bn", "error").survey == 13.3
    assert spec.printed("SVM", "gain").mark == ""


def test_published_keeps_survey_and_source_apart(tmp_path):
    cell = written(tmp_path, GOOD).published["bn", "error"]
    assert cell.survey == 1.5
    assert cell.original != cell.original  # nan: the source prints nothing
    assert (cell.mark, cell.note) == ("unknown", "a note")


def test_rows_of_a_tier_leave_out_quoted_and_unlisted_ones(tmp_path):
    spec = written(tmp_path, GOOD)
    assert spec.planned_rows("error", "smoke") == ("none", "bn")
    assert spec.planned_rows("small", "smoke") == ("bn",)
    assert spec.planned_rows("small", "laptop") == ()
    assert spec.columns["small"].tiers["smoke"].settings == {"batch_size": 10}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("rowz",), {}, "unknown key 'rowz'; did you mean 'rows'?"),
        (("tiers", "smoke", "repeats"), {}, "tiers.smoke: unknown key 'repeats'; did you mean 'repeat'?"),
        (("columns", "error", "beter"), "lower", "columns.error: unknown key 'beter'; did you mean 'better'?"),
        (("columns", "error", "better"), "less", "columns.error.better: there is no direction 'less'"),
        (("columns", "error", "better"), True, "columns.error.better: should be text, not True"),
        (("columns", "error", "score"), "error", "columns.error.score: 'error' should be train/, valid/ or test/"),
        (("columns", "error", "read"), "bst", "there is no reading rule 'bst'; did you mean 'best'?"),
        (("columns", "error", "read"), {"first": {"best_of": "SVM"}}, "there is no row that is run 'SVM'"),
        (("columns", "error", "read"), {"first": {}}, "needs either reaches: a number, or best_of: a row"),
        (("columns", "error", "read"), {"best": "valid/error"}, "needs better: lower or higher"),
        (("columns", "error", "read"), {"mean_of_last": 2}, "should be a fraction above 0"),
        (("columns", "error", "read"), {"last": 1}, "unknown key 'last'"),
        (("columns", "error", "read"), {"first": {"reaches": 1}, "better": "lower"}, "cannot tell which row"),
        (("columns", "error", "tiers"), ["laptp"], "columns.error.tiers[1]: there is no tier 'laptp'; did you mean"),
        (("columns", "error", "rows"), ["bm"], "there is no row 'bm'; did you mean 'bn'?"),
        (
            ("columns", "error", "cells"),
            {"SVM": {"seed": 1}},
            "columns.error.cells.SVM: there is no row that is run 'SVM'",
        ),
        (("columns", "error", "cells"), {"bn": {"norm": {"a": 1}}}, "columns.error.cells.bn.norm: settings are flat"),
        (("columns", "small", "stand_in"), "eror", "columns.small.stand_in: there is no column 'eror'; did you mean"),
        (("columns", "steps", "rows"), ["bn"], "columns.steps: needs the row 'none'"),
        (("rows", "bn"), {}, "rows.bn: this row has no settings"),
        (("rows", "bn"), "quote", "rows.bn: should be a mapping, not 'quote'"),
        (("rows", "bn", "set"), {"norm": {"alpha": 1}}, "settings are flat: write norm.alpha: ... instead"),
        (("rows", 1), {"set": {"norm": "bn"}}, "rows: the name 1 must be quoted"),
        (
            ("fixed", "budget"),
            "1epoch 2steps",
            "fixed.budget: budget=1epoch 2steps: write a positive number and a unit",
        ),
        (("fixed", "budget"), {"epoch": 1, "step": 2}, "fixed.budget: should be text"),
        (("tiers", "laptop", "baseline"), "bm", "tiers.laptop.baseline: there is no row that is run 'bm'"),
        (("tiers", "laptop", "repeat", "seed"), 3, "tiers.laptop.repeat.seed: should be a list, not 3"),
        (("kind",), "copy", "kind: there is no kind 'copy'"),
        (("runnable",), "yes", "runnable: should be true or false"),
        (("table",), "../up", "table: should be a number below 100 or a word"),
        (("departures", 1, "tiers"), ["paper"], "departures[2].tiers[1]: there is no tier 'paper'"),
        (("choose", "by"), "test/error", "choose.by: 'test/error' is not a validation score"),
        (
            ("choose", "read"),
            {"best": "test/error", "better": "lower"},
            "choose.read: 'test/error' is not a validation",
        ),
        (("choose", "ties"), {"optim.rl": "lower"}, "choose.ties: there is no setting that is tuned 'optim.rl'"),
        (
            ("tiers", "laptop", "tune"),
            {"optim.rl": [1]},
            "tiers.laptop.tune: there is no setting that is tuned 'optim.rl'",
        ),
        (("choose", "ties"), {"optim.lr": "low"}, "choose.ties.optim.lr: there is no direction 'low'"),
        (("rows", "bn", "tune"), {"optim.lr": ["a", "b"]}, "choose.ties.optim.lr: ties are broken by numbers"),
        (("published", "bm"), {}, "published: there is no row 'bm'; did you mean 'bn'?"),
        (
            ("published", "bn", "eror"),
            [1, 1, "verified"],
            "published.bn: there is no column 'eror'; did you mean 'error'?",
        ),
        (("published", "bn", "small"), [1, 1, "verified"], "'small' is a stand-in and has no published numbers"),
        (("published", "bn", "error"), [1], "should be [survey, original, mark]"),
        (("published", "bn", "error"), [1, "x", "verified"], "published.bn.error[2]: should be a number, not 'x'"),
        (("published", "bn", "error"), [1, 1, "sure"], "there is no mark 'sure'"),
        (("readings", "column"), "eror", "readings.column: there is no column 'eror'"),
        (("readings", "column"), "small", "readings.tier: the column 'small' does not exist at the tier 'laptop'"),
        (("readings", "column"), "steps", "readings.column: 'steps' is read with the help of another row"),
        (("readings", "default"), "c", "readings.default: there is no option 'c'"),
        (
            ("claims", 0, "columns"),
            ["eror"],
            "claims.a.columns[1]: there is no column 'eror'; did you mean 'error'?",
        ),
        (("claims", 0, "rows"), ["SVM"], "claims.a.rows[1]: there is no row that is run 'SVM'"),
        (("claims", 0, "than"), "bm", "claims.a.than: there is no row that is run 'bm'; did you mean 'bn'?"),
        (("claims", 0, "by"), "much", "claims.a.by: should be a number, not 'much'"),
        (("claims", 0, "within"), 1, "the keys id, says, kind, columns, rows, and by, than or by, than_column"),
        (("claims", 0, "kind"), "bettr", "there is no kind of claim 'bettr'; did you mean 'better'?"),
        (("claims", 0, "columns"), ["speed"], "'speed' is made from another column"),
        (("curves",), {"y": "column"}, "curves: unknown key 'y'; valid keys: x"),
        (("curves",), {}, "curves: the key 'x' is missing"),
    ],
)
def test_a_mistake_names_file_key_and_nearest(tmp_path, path, value, says):
    with pytest.raises(UserError) as caught:
        changed(tmp_path, *path, to=value)
    assert str(caught.value).startswith("mine.yaml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_claim_about_reaching_a_goal_needs_such_a_column(tmp_path):
    claim = {"id": "b", "says": "", "kind": "first", "columns": ["error"], "rows": ["bn"], "than": "none"}
    with pytest.raises(UserError, match="'error' does not read the first step at a goal"):
        changed(tmp_path, "claims", to=[claim])
    assert changed(tmp_path, "claims", to=[{**claim, "columns": ["steps"]}]).claims[0].kind == "first"


def depths(tmp_path, x="model.depth", value=8, **rows):
    """Load a file with two columns by depth, the second at `value`, and curves over `x`."""
    data = yaml.safe_load(GOOD)
    column = {"score": "test/error", "read": "last", "better": "lower"}
    data["columns"] |= {"d2": column | {"set": {"model.depth": 2}}, "d8": column | {"set": {"model.depth": value}}}
    data["curves"] = {"x": x}
    for key, value in rows.items():
        data["columns"]["d8"] |= value if key == "column" else {}
        data["rows"]["bn"] |= value if key == "row" else {}
        data["tiers"]["laptop"]["repeat"] |= value if key == "repeat" else {}
    return written(tmp_path, yaml.safe_dump(data, sort_keys=False))


def test_curves_stand_over_columns_or_a_setting_of_theirs(tmp_path):
    assert depths(tmp_path).curves == "model.depth"
    assert depths(tmp_path, x="column", value="deep").curves == "column"
    assert written(tmp_path, GOOD).curves == ""


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"x": "model.dpth"}, "curves.x: there is no setting of a column 'model.dpth'; did you mean 'model.depth'?"),
        ({"x": "norm"}, "curves.x: there is no setting of a column 'norm'"),  # rows set it
        ({"x": 3}, "curves.x: should be text, not 3"),
        ({"value": "deep"}, "curves.x: 'd8' sets model.depth to 'deep', which is no number"),
        ({"value": True}, "curves.x: 'd8' sets model.depth to True, which is no number"),
        ({"row": {"set": {"norm": "bn", "model.depth": 4}}}, "curves.x: model.depth is set again by a row, a cell,"),
        ({"row": {"tune": {"model.depth": [4], "optim.lr": [1]}}}, "curves.x: model.depth is set again"),
        ({"repeat": {"model.depth": [4]}}, "curves.x: model.depth is set again"),
        ({"column": {"cells": {"bn": {"model.depth": 4}}}}, "curves.x: model.depth is set again"),
        ({"column": {"over": {"model.depth": [4]}}}, "curves.x: model.depth is set again"),
        ({"column": {"tiers": {"smoke": {"set": {"model.depth": 4}}}}}, "curves.x: model.depth is set again"),
    ],
)
def test_curves_are_not_drawn_at_a_place_that_is_not_that_of_the_runs(tmp_path, asked, says):
    with pytest.raises(UserError) as caught:
        depths(tmp_path, **asked)
    assert str(caught.value).startswith(f"mine.yaml: {says}")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"bm": "none"}, "against: there is no row 'bm'"),
        ({"bn": "nune"}, "against.bn: there is no row 'nune'; did you mean 'none'?"),
        ({"bn": "bn"}, "against.bn: a row does not stand against itself"),
        (["bn"], "against: should be a mapping"),
    ],
)
def test_rows_stand_against_other_rows(tmp_path, asked, says):
    assert changed(tmp_path, "against", to={"bn": "none"}).against == {"bn": "none"}
    assert written(tmp_path, GOOD).against == {}
    with pytest.raises(UserError) as caught:
        changed(tmp_path, "against", to=asked)
    assert str(caught.value).startswith(f"mine.yaml: {says}")


def test_a_rows_own_metric_needs_a_column_that_reads_one_row_by_its_score(tmp_path):
    """The column `steps` of the file above reads the first step at a goal."""
    with pytest.raises(UserError, match=r"columns.steps: the row 'bn' has a take of its own"):
        changed(tmp_path, "rows", "bn", "take", to="test/loss")
    with pytest.raises(UserError, match=r"rows.bn.take: 'loss' should be train/, valid/ or test/"):
        changed(tmp_path, "rows", "bn", "take", to="loss")
    data = yaml.safe_load(GOOD)
    data["columns"] = {name: data["columns"][name] for name in ("error", "small")}
    data["rows"]["bn"]["take"] = "test/loss"
    assert written(tmp_path, yaml.safe_dump(data, sort_keys=False)).rows["bn"].take == "test/loss"
    data["columns"]["error"]["take"] = "epoch"
    with pytest.raises(UserError, match=r"columns.error: the row 'bn' has a take of its own"):
        written(tmp_path, yaml.safe_dump(data, sort_keys=False))


def test_the_largest_needs_a_goal_and_one_setting_with_numbers(tmp_path):
    steps = {"score": "test/error", "read": {"first": {"reaches": 9}}, "better": "lower", "combine": "largest"}
    good = {**steps, "over": {"optim.lr": [0.1, 1]}}
    assert changed(tmp_path, "columns", "rate", to=good).columns["rate"].combine == "largest"
    for bad in ({"read": "last"}, {"over": {}}, {"over": {"norm": ["bn"]}}, {"over": {"x": [1], "y": [2]}}):
        with pytest.raises(UserError, match=r"columns.rate.combine: largest needs read: first, and over"):
            changed(tmp_path, "columns", "rate", to=good | bad)


def test_a_quoted_column_has_no_claims_and_no_runs(tmp_path):
    assert changed(tmp_path, "columns", "theirs", to="quoted").planned_rows("theirs", "laptop") == ()
    data = yaml.safe_load(GOOD)
    data["columns"]["theirs"], data["claims"][0]["columns"] = "quoted", ["theirs"]
    with pytest.raises(UserError, match="'theirs' is quoted and never run"):
        written(tmp_path, yaml.safe_dump(data, sort_keys=False))


def test_claims_of_one_id_are_refused(tmp_path):
    with pytest.raises(UserError, match="the id 'a' is used twice"):
        changed(tmp_path, "claims", to=yaml.safe_load(GOOD)["claims"] * 2)


def test_a_claim_may_compare_columns_instead_of_rows(tmp_path):
    claim = {
        "id": "b",
        "says": "",
        "kind": "better",
        "columns": ["error"],
        "rows": ["bn"],
        "than_column": "small",
        "by": 0,
    }
    assert changed(tmp_path, "claims", to=[claim]).claims[0].than_column == {"error": "small"}
    claim |= {"columns": ["error", "small"], "than_column": ["small", "error"]}
    assert changed(tmp_path, "claims", to=[claim]).claims[0].than_column == {"error": "small", "small": "error"}
    claim |= {"columns": ["error", "small"], "than_column": ["small", "error", "small"]}
    with pytest.raises(UserError, match="or 2 in the same order; these are 3"):
        changed(tmp_path, "claims", to=[claim])


@pytest.mark.parametrize("key", ["table", "tiers", "rows", "columns", "runnable"])
def test_a_missing_section_is_named(tmp_path, key):
    with pytest.raises(UserError, match=f"the key '{key}' is missing"):
        changed(tmp_path, key, drop=True)


def test_tune_and_choose_come_together(tmp_path):
    with pytest.raises(UserError, match="tune and choose come together"):
        changed(tmp_path, "choose", drop=True)


def test_choosing_on_test_data_has_to_be_owned_up_to(tmp_path):
    data = yaml.safe_load(GOOD)["choose"] | {"by": "test/error", "as_published": True}
    assert changed(tmp_path, "choose", to=data).choose.by == "test/error"


def test_rows_without_settings_are_fine_until_the_table_is_runnable(tmp_path):
    text = GOOD.replace("runnable: true", "runnable: false").replace("none: {set: {norm: none}}", "none: {}")
    assert written(tmp_path, text).rows["none"].settings == {}


def test_another_row_per_row_gives_the_step(tmp_path):
    rule = {"at_best_of": {"bn": "none"}, "by": "valid/error", "better": "lower"}
    read = changed(tmp_path, "columns", "steps", "read", to=rule).columns["steps"].read
    assert (read.other("bn"), read.other("none")) == ("none", "none")
    with pytest.raises(UserError, match="there is no row that is run 'bm'"):
        changed(tmp_path, "columns", "steps", "read", to={**rule, "at_best_of": {"bm": "none"}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("table: 1\nrows: {a: 1\n", "mine.yaml, line 3: not valid YAML"),
        ("table: 1\ntable: 2\n", "mine.yaml, line 2: not valid YAML: key 'table' appears twice"),
        ("- a\n", "mine.yaml: should be a mapping"),
        ("", "mine.yaml: should be a mapping"),
        ("a: !!python/object:os.system x\n", "mine.yaml, line 1: not valid YAML"),
        ("a: \x01\n", "mine.yaml: not valid YAML"),
    ],
)
def test_what_is_no_table_file_says_where(tmp_path, text, says):
    with pytest.raises(UserError) as caught:
        written(tmp_path, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the table file .*nothing\.yaml"):
        load(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.yaml: not UTF-8 text"):
        load(tmp_path / "binary.yaml")


def test_a_number_without_a_table_lists_the_tables():
    with pytest.raises(UserError, match="there is no table 77; there are: 1, 2, 3"):
        load("77")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("table_*.yaml")), ids=lambda p: p.stem)
def test_the_projects_own_files_load(path):
    spec = load(path)
    assert spec.label == path.stem
    assert spec.published or spec.table == 11, "the survey compares in words there"
    assert spec.departures
